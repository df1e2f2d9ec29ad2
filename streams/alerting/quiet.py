"""Quiet hours: when somebody is not disturbed, by their own clock, whatever daylight saving does to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from rules.calendars import zone

LONGEST_DAYS = 9  # a week off and a day at each end


@dataclass(frozen=True, slots=True)
class Quiet:
    """Quiet from `begins` until `ends` (across midnight if earlier), and all day on `days_off` (0: Monday)."""

    begins: time
    ends: time
    days_off: frozenset[int] = frozenset()

    def over(self, now: int, timezone: str) -> int:
        """The first instant from `now` on (UTC ms) at which it is not quiet there."""
        where = zone(timezone)
        here = _there(now, where)
        if not self._is_quiet(here):
            return now
        for days in range(LONGEST_DAYS):
            day = here.date() + timedelta(days=days)
            for at in sorted({time(), self.ends}):
                instant = _instant(day, at, where)
                if instant > now and not self._is_quiet(_there(instant, where)):
                    return instant
        return now  # cannot be: a week has a day that is not off, and that has an hour

    def _is_quiet(self, here: datetime) -> bool:
        if here.weekday() in self.days_off:
            return True
        at = here.time()
        if self.begins < self.ends:
            return self.begins <= at < self.ends
        return at >= self.begins or at < self.ends


def _there(instant: int, where: tzinfo) -> datetime:
    return datetime.fromtimestamp(instant / 1000, UTC).astimezone(where)


def _instant(day: date, at: time, where: tzinfo) -> int:
    """A time of day that a clock change leaves out is as long after it as it would have been after midnight."""
    return round(datetime.combine(day, at, where).timestamp() * 1000)
