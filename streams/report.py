"""How good the data is, how much the segments move, and how it went with the accounts in them.

Sizes, members and tallies are what the folds keep; the survey of facts reads every account as it stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from rules import tally
from rules.changes import iso
from rules.durations import DAY
from rules.quality import Quality
from rules.tally import ENTERED, FROM, LEFT, REVENUE
from streams.clock import RedisClock
from streams.reading import Reader
from streams.settings import Settings
from streams.store.redis import connect
from streams.store.sources import SourceStore

Tallied = Counter[tuple[str, str, str]]  # (dimension, segment, what), over all days asked for


async def report(
    settings: Settings, days: int, progress: Callable[[int, int], None] = lambda done, of: None
) -> Any:
    """The report over the last `days` UTC days, today included. `progress` is told of each partition surveyed."""
    redis = connect(settings)
    try:
        clock = RedisClock(redis)
        await clock.sync()
        now, reader = clock.now(), Reader(redis, settings)
        today = tally.day_of(now)
        by_day = {
            day: Counter({place: n for place, n in counts.items() if not place[2].startswith(FROM)})
            for day, counts in (await reader.tallies(range(today - days + 1, today + 1))).items()
        }
        sizes = await reader.counts()
        quality = Quality()
        for partition in range(settings.partitions):
            ruleset = await reader.ruleset(partition)
            async for _, state in reader.states(partition):
                quality.survey(state, ruleset, now)
            progress(partition + 1, settings.partitions)
        conflicts = await SourceStore(redis, settings.namespace).conflicts()
    finally:
        await redis.aclose()
    return {
        "as_of": iso(now),
        "days": days,
        "quality": quality.plain(),
        "claimed_twice": conflicts,
        "dimensions": _dimensions(sizes, by_day),
        "by_day": _by_day(by_day),
    }


def _dimensions(sizes: dict[str, dict[str, int]], by_day: dict[int, Tallied]) -> dict[str, Any]:
    total = sum(by_day.values(), Counter[tuple[str, str, str]]())
    return {name: _dimension(name, segments, total) for name, segments in sizes.items()}


def _dimension(name: str, sizes: dict[str, int], total: Tallied) -> dict[str, Any]:
    entered = sum(n for (dimension, _, what), n in total.items() if (dimension, what) == (name, ENTERED))
    left = sum(n for (dimension, _, what), n in total.items() if (dimension, what) == (name, LEFT))
    size = sum(sizes.values())
    known = [*sizes, *(segment for dimension, segment, _ in total if dimension == name and segment not in sizes)]
    return {
        "size": size,
        "entered": entered,
        "left": left,
        "volatility": round((entered + left) / size, 4) if size else None,
        "segments": {
            segment: {"size": sizes.get(segment, 0), **_outcomes(name, segment, total)}
            for segment in dict.fromkeys(known)
        },
    }


def _outcomes(dimension: str, segment: str, total: Tallied) -> dict[str, Any]:
    counts = {what: n for (d, s, what), n in total.items() if (d, s) == (dimension, segment)}
    return {what: n / 100 if what == REVENUE else n for what, n in sorted(counts.items())}


def _by_day(by_day: dict[int, Tallied]) -> list[dict[str, Any]]:
    return [
        {"day": iso(day * DAY)[:10], "dimension": dimension, "segment": segment}
        | _outcomes(dimension, segment, counts)
        for day, counts in sorted(by_day.items())
        for dimension, segment in dict.fromkeys((d, s) for d, s, _ in sorted(counts))
    ]
