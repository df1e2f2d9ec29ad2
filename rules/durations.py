"""Lengths of time as people write them: `90s`, `15m`, `36h`, `7d`, `2w`. Inside: milliseconds."""

from __future__ import annotations

import re

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
LONGEST = 20 * 366 * DAY
_WORDS = ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (SECOND, "second"))


def parse(text: object) -> int:
    """Milliseconds of `7d` and the like. Raises ValueError with what is allowed."""
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError("write a duration such as 90s, 15m, 36h, 7d or 2w")
    length = int(match[1]) * UNITS[match[2]]
    if not 0 < length <= LONGEST:
        raise ValueError("a duration is longer than nothing and at most 20 years")
    return length


def in_words(length: int) -> str:
    """`7 days`, `36 hours`: the largest unit that divides it."""
    for unit, name in _WORDS:
        if length % unit == 0:
            count = length // unit
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{length} ms"
