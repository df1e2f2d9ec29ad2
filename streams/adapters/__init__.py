"""The wire formats we read. A topic's setting names its format; a header may name another.

On any topic a message may also be in our own format, which a top-level `kind` tells.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streams.adapters import (
    canonical,
    cloudevents,
    debezium,
    ga4,
    hubspot,
    posthog,
    salesforce,
    segment,
    snowplow,
)
from streams.adapters.base import Decode, Decoded, Reason, Rejected
from streams.adapters.wire import MAX_BYTES

ADAPTERS: dict[str, Decode] = {
    "canonical": canonical.decode,
    "segment": segment.decode,
    "salesforce": salesforce.decode,
    "hubspot": hubspot.decode,
    "debezium": debezium.decode,
    "cloudevents": cloudevents.decode,
    "snowplow": snowplow.decode,
    "ga4": ga4.decode,
    "posthog": posthog.decode,
}
SYSTEMS = tuple(ADAPTERS)  # what records may name as their source


class _Peek(msgspec.Struct, gc=False):
    kind: Any = None


_peek = msgspec.json.Decoder(_Peek).decode


def decode_any(format: str, value: bytes | None, received: int) -> Decoded:
    """Reads a message of a topic whose format is `format`, or in our own format.

    A format that does not exist is a rejection: it may stem from a message's header.
    """
    if (decode := ADAPTERS.get(format)) is None:
        return [Rejected(Reason.UNKNOWN_FORMAT, f"{format[:40]!r}; known: {', '.join(ADAPTERS)}")]
    return canonical.decode(value, received) if _is_canonical(value) else decode(value, received)


def _is_canonical(value: bytes | None) -> bool:
    """Searching for the word costs 50 ns and settles it for nearly all messages of other formats."""
    if value is None or len(value) > MAX_BYTES or b'"kind"' not in value:
        return False
    try:
        return isinstance(_peek(value).kind, str)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False  # the format's own decoder says what is wrong with it
