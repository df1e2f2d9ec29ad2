"""How much the collector takes, all in one place."""

from __future__ import annotations

from dataclasses import dataclass

KB = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, after decompression; times in seconds."""

    call: int = 32 * KB  # Segment's own limits: of one call,
    batch: int = 500 * KB  # and of a batch
    notifications: int = 500 * KB  # a HubSpot request holds at most a hundred notifications
    records: int = 1024 * KB  # canonical records in one request
    record: int = 256 * KB  # one of them: below what a topic of any broker takes (1 MB)
    messages: int = 5_000  # made of one request
    held: int = 64 * 1024 * KB  # of all requests that are not yet answered
    read_s: float = 30.0  # for a request's body to come
    # For Kafka to acknowledge. HubSpot waits five seconds for an answer.
    deliver_s: float = 4.0
