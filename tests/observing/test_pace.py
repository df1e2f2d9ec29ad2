"""What a worker folded within the last minute, from what was counted anyway."""

from __future__ import annotations

import msgspec
import pytest

from streams.metrics import BUCKETS, histogram
from streams.observing.pace import OVER_S, Pace, Pacing, Reading, commits, quantile
from streams.observing.signing import EVERY_S, Signature


def reading(at: float, records: int, *took: float) -> Reading:
    """After commits that took so many seconds, all since the beginning."""
    counted = tuple((up, float(sum(each <= up for each in took))) for up in (*BUCKETS, float("inf")))
    return Reading(at, records, counted)


def test_of_the_first_reading_nothing_is_known() -> None:
    assert Pacing().look(reading(7.0, 1_000, 0.002)) is None


def test_what_came_since_counts() -> None:
    pacing = Pacing()
    pacing.look(reading(0.0, 100, 0.3))
    pace = pacing.look(reading(5.0, 150, 0.3, 0.002, 0.002, 0.002, 0.2))
    assert pace is not None
    assert (pace.seconds, pace.records, pace.batches) == (5, 50, 4)
    assert pace.p50_ms is not None
    assert pace.p99_ms is not None
    assert 1 < pace.p50_ms <= 2.5
    assert 100 < pace.p99_ms <= 250


def test_who_folded_nothing_has_no_commit_times() -> None:
    pacing = Pacing()
    pacing.look(reading(0.0, 100, 0.3))
    assert pacing.look(reading(60.0, 100, 0.3)) == Pace(60)


def test_what_is_older_than_a_minute_does_not_count() -> None:
    pacing, found = Pacing(), None
    for n in range(100):
        found = pacing.look(reading(n * EVERY_S, 10 * n))
    assert found == Pace(int(OVER_S), records=int(10 * OVER_S / EVERY_S))
    assert len(pacing.readings) == OVER_S / EVERY_S + 1


def test_after_a_pause_it_says_over_how_long() -> None:
    pacing = Pacing()
    for at in (0.0, 5.0, 305.0):
        found = pacing.look(reading(at, 0))
    assert found == Pace(300)


@pytest.mark.parametrize(
    ("took", "share", "low", "high"),
    [
        ([0.002] * 99 + [2.0], 0.5, 0.001, 0.0025),
        ([0.002] * 98 + [2.0] * 2, 0.99, 1.0, 2.5),
        ([99.0], 0.5, 30, 30),
    ],
)
def test_a_quantile_lies_in_its_bucket(took: list[float], share: float, low: float, high: float) -> None:
    assert low <= quantile(reading(0.0, 0, *took).commits, share) <= high


def test_a_histogram_is_read_before_its_first_commit_too() -> None:
    seconds = histogram("isotherm_fold_seconds")
    assert commits(seconds) == reading(0.0, 0).commits
    seconds.labels("step").observe(7.0)
    seconds.labels("commit").observe(0.002)
    assert commits(seconds) == reading(0.0, 0, 0.002).commits


def test_who_signed_before_there_was_a_pace_is_read() -> None:
    old = b'{"owner":"here:1","at":5,"by":"gap","why":"GAP: offsets"}'
    assert msgspec.json.decode(old, type=Signature) == Signature("here:1", 5, "gap", "GAP: offsets")
    new = Signature("here:1", 5, pace=Pace(60, 10, 2, 1.5, 9.0))
    assert msgspec.json.decode(msgspec.json.encode(new), type=Signature) == new
