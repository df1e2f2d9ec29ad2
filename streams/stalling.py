"""Whether a fold stands still while its log goes on, for no reason that anybody knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

STALLED_S = 60.0


class StalledError(Exception):
    """The log goes on, and the fold does not."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Since when a partition's fold stands where it does, and where the log ended then."""

    offset: int
    end: int
    since: float


class Stalling:
    """Looks now and then, and remembers since when nothing has moved, by partition."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self.standing: dict[int, Standing] = {}

    def look(self, now: float, offsets: Mapping[int, int], ends: Mapping[int, int], excused: bool) -> None:
        """`now` in seconds; `excused`: an outage is being waited out. Raises StalledError."""
        standing: dict[int, Standing] = {}
        for number, offset in offsets.items():
            end, before = ends[number], self.standing.get(number)
            if before is None or before.offset != offset or excused or end <= offset:
                standing[number] = Standing(offset, end, now)
                continue
            standing[number] = before
            if end > before.end and now - before.since > STALLED_S:
                raise StalledError(
                    f"{self._topic}/{number} goes on to {end}; its fold stands at {offset} for "
                    f"{now - before.since:.0f} s"
                )
        self.standing = standing
