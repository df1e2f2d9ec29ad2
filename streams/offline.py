"""Canonical records from a file, for `isotherm replay`: no Kafka, no Redis, the same fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from rules.changes import cloud_event
from rules.records import Erase, Record
from rules.replay import Replay
from rules.ruleset import Ruleset
from streams.adapters import canonical
from streams.adapters.base import Rejected
from streams.adapters.times import instant_or_none
from streams.identity import Resolver, Unattributed
from streams.routing import joined
from streams.routing import records as records_of

SOURCE = "replay"
KEY = b"replay"


@dataclass(frozen=True, slots=True)
class Line:
    """A line that cannot be used, with its number from 1."""

    number: int
    rejected: Rejected


def read(lines: Iterable[bytes]) -> Iterator[Record | Line]:
    """The records of canonical JSON lines. log_time is `received` where given, else the highest `at` so far."""
    resolver, log_time = Resolver(KEY), 0
    links: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        for part in canonical.decode(line, log_time):
            if isinstance(part, Rejected):
                yield Line(number, part)
                continue
            log_time = max(log_time, _received(line) or part.at)
            if part.kind == "erase":
                yield Erase(received=log_time, persons=resolver.persons(part.claims, links))
                continue
            found = resolver.resolve(part, links)
            if isinstance(found, Unattributed):
                yield Line(number, Rejected(found.reason, "the record names no account"))
                continue
            links.update(found.learned)
            source = part.source or SOURCE
            yield from joined(part, found, source, log_time)
            yield from records_of(part, found, source, log_time)


class _Stamp(msgspec.Struct, gc=False):
    received: int | str | None = None


_stamp = msgspec.json.Decoder(_Stamp).decode


def _received(line: bytes) -> int | None:
    return instant_or_none(_stamp(line).received)


def replay(records: Iterable[Record], ruleset: Ruleset, until: int) -> Iterator[bytes]:
    """The changes as they would be published, in order; the same bytes each time."""
    for out in Replay(ruleset).run(records, until):
        yield cloud_event(0, ruleset, out)
