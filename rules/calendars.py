"""Time as calendars cut it: dates, and windows of whole days, weeks, months, quarters or years in a time zone.

A calendar window of n units is the current unit and the n - 1 before it, so an activity is inside from when it
happens until the start of the unit that begins n units after its own. Unlike a rolling window its lower edge
is closed: midnight belongs to the day it begins. Local midnights follow the zone's own rules, so a day may
have 23 or 25 hours; one that a clock change leaves out is the first instant after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, available_timezones

from rules.durations import DAY
from rules.operators import Interval

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"d": "day", "w": "week", "mo": "month", "q": "quarter", "y": "year"}
_LONGEST_UNIT = {"d": 2, "w": 8, "mo": 32, "q": 93, "y": 367}  # days, a clock change included
_MOST = {"d": 7320, "w": 1040, "mo": 240, "q": 80, "y": 20}  # 20 years
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}$")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?$")


@lru_cache(1024)
def zone(name: str) -> tzinfo:
    """The IANA time zone of that name. Raises ValueError when there is none."""
    if name == "UTC":
        return UTC
    if name not in _zones():
        raise ValueError(f"'{name}' is no time zone; write one such as Europe/Berlin")
    return ZoneInfo(name)


@cache
def _zones() -> set[str]:
    """All there are, listed once: looking for each wrong name on its own costs a thousand wrong ones dearly."""
    return available_timezones()


# -- dates --------------------------------------------------------------------------------------------------


@lru_cache(65536)
def interval(text: str, zone_name: str = "UTC") -> Interval:
    """The day `2026-03-05`, in that zone, or the instant `2026-03-05T10:00:00Z` and its one millisecond.

    An instant without an offset is in the zone too. Raises ValueError for any other text.
    """
    where = zone(zone_name)
    try:
        if _DAY.match(text):
            day = date.fromisoformat(text)
            return Interval(_midnight(day, where), _midnight(day + timedelta(days=1), where))
        if _INSTANT.match(text):
            instant = datetime.fromisoformat(text)
            start = _milliseconds(instant if instant.tzinfo else instant.replace(tzinfo=where))
            return Interval(start, start + 1)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{text!r} is no date; write 2026-03-05 or 2026-03-05T10:00:00Z")


def _midnight(day: date, where: tzinfo) -> int:
    return _milliseconds(datetime(day.year, day.month, day.day, tzinfo=where))


def _milliseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(milliseconds=1)


# -- windows ------------------------------------------------------------------------------------------------


def parse(text: object) -> tuple[int, str]:
    """(3, "mo") of `3mo`. Raises ValueError with what is allowed."""
    match = re.fullmatch(r"(\d{1,4})(d|w|mo|q|y)", text.strip()) if isinstance(text, str) else None
    if match is None or not 0 < int(match[1]) <= _MOST[match[2]]:
        raise ValueError("write calendar units such as 7d, 4w, 1mo, 2q or 1y; at most 20 years")
    return int(match[1]), match[2]


def leaves(count: int, unit: str, zone_name: str) -> Callable[[int], int]:
    """When an activity that happened at an instant leaves a window of `count` units."""
    where = zone(zone_name)
    of_day = lru_cache(4096)(lambda day: _midnight(_begin(day, unit, count), where))

    def leaves_at(at: int) -> int:
        return of_day((_EPOCH + timedelta(milliseconds=at)).astimezone(where).date())

    return leaves_at


def _begin(day: date, unit: str, later: int) -> date:
    """The first day of the unit that begins `later` units after the one of `day`."""
    match unit:
        case "d":
            return day + timedelta(days=later)
        case "w":
            return day + timedelta(days=7 * later - day.weekday())
        case "y":
            return date(day.year + later, 1, 1)
        case _:
            size = 3 if unit == "q" else 1
            months = day.year * 12 + (day.month - 1) // size * size + later * size
            return date(months // 12, months % 12 + 1, 1)


def longest(count: int, unit: str) -> int:
    """Milliseconds that no window of `count` units exceeds."""
    return count * _LONGEST_UNIT[unit] * DAY


def in_words(count: int, unit: str, zone_name: str) -> str:
    """`the current month`, `3 calendar months (Europe/Berlin)`."""
    name = _UNITS[unit]
    span = f"the current {name}" if count == 1 else f"{count} calendar {name}s"
    return span if zone_name == "UTC" else f"{span} ({zone_name})"
