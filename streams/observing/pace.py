"""How fast a worker folds: what its fold counts anyway, now against about a minute ago."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
from prometheus_client import Histogram

from streams.fold import Fold
from streams.observing.worker import folded_records

OVER_S = 60.0
Buckets = tuple[tuple[float, float], ...]  # (at most so many seconds, how many commits so far), the shortest first


class Pace(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker folded within the last `seconds`; p50 and p99 are of the commits of its batches."""

    seconds: int
    records: int = 0
    batches: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What had been counted at `at`, seconds of a clock that never goes back."""

    at: float
    records: int
    commits: Buckets

    @classmethod
    def of(cls, fold: Fold, at: float) -> Reading:
        return cls(at, folded_records(fold), commits(fold.seconds))

    def since(self, before: Reading) -> Pace:
        found = tuple((up, n - m) for (up, n), (_, m) in zip(self.commits, before.commits, strict=True))
        batches = int(found[-1][1])
        p50, p99 = (round(quantile(found, share) * 1000, 1) if batches else None for share in (0.5, 0.99))
        return Pace(round(self.at - before.at), self.records - before.records, batches, p50, p99)


@dataclass(slots=True)
class Pacing:
    """Readings of the last minute, and the newest before it."""

    readings: deque[Reading] = field(default_factory=deque)

    def look(self, reading: Reading) -> Pace | None:
        """None the first time: nothing is known of before."""
        self.readings.append(reading)
        while len(self.readings) > 2 and reading.at - self.readings[1].at >= OVER_S:
            self.readings.popleft()
        return reading.since(self.readings[0]) if len(self.readings) > 1 else None


def commits(seconds: Histogram) -> Buckets:
    seconds.labels("commit")  # it is there from now on, before the first commit too
    samples = (each for metric in seconds.collect() for each in metric.samples if each.name.endswith("_bucket"))
    return tuple((float(each.labels["le"]), each.value) for each in samples if each.labels["stage"] == "commit")


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float:
    """Seconds, as Prometheus has it: evenly spread within a bucket; beyond the last bound, that bound."""
    wanted = share * buckets[-1][1]
    for (low, below), (high, upto) in pairwise([(0.0, 0.0), *buckets]):
        if upto >= wanted and upto > below:
            return low if high == float("inf") else low + (high - low) * (wanted - below) / (upto - below)
    return buckets[-1][0]
