"""The one clock: Redis', counted on with a clock of our own that may be wrong."""

from __future__ import annotations

import pytest

from streams.clock import EVERY_S, FIRST_S, STEP_MS, Answer, ClockSteppedError, RedisClock, rate_of

NOON = 1_780_000_000_000


class Machines:
    """Redis' time, and a worker's that goes `faster` times as fast; each question takes `round_trip_s`."""

    def __init__(self, faster: float = 1.0, round_trip_s: float = 0.0) -> None:
        self.ms, self.faster, self.round_trip_s = 0.0, faster, round_trip_s
        self.stepped_ms = 0
        self.reply_late_s = 0.0

    def monotonic(self) -> float:
        return self.ms / 1000 * self.faster

    async def time(self) -> tuple[int, int]:
        self.ms += self.round_trip_s * 500
        micros = round((NOON + self.ms + self.stepped_ms) * 1000)
        self.ms += self.round_trip_s * 500 + self.reply_late_s * 1000
        return divmod(micros, 1_000_000)

    @property
    def now(self) -> int:
        return int(NOON + self.ms)


async def kept(clock: RedisClock, machines: Machines, seconds: float) -> list[int]:
    """How far the clock is ahead, ms, asked each 10 ms for so long."""
    ahead = []
    for _ in range(int(seconds * 100)):
        machines.ms += 10
        await clock.keep()
        ahead.append(clock.now() - machines.now)
    return ahead


@pytest.mark.parametrize("faster", [1.05, 0.95, 1.0])
async def test_a_clock_of_ours_that_goes_wrong_is_known_for_it(faster: float) -> None:
    machines = Machines(faster)
    clock = RedisClock(machines, machines.monotonic)
    await clock.sync()
    ahead = await kept(clock, machines, 60)
    began = int(FIRST_S * 100) + 3
    assert all(abs(each) <= FIRST_S * 1000 * 0.06 for each in ahead[:began])  # 5 % of what is not measured yet
    assert all(abs(each) <= 1 for each in ahead[began * 3 :])


@pytest.mark.parametrize("faster", [1.05, 0.95, 1.0])
async def test_a_late_reply_does_not_move_a_clock_that_knows_better(faster: float) -> None:
    """One that is late by two seconds says what time it is give or take one: that was known to the millisecond."""
    machines = Machines(faster, round_trip_s=0.002)
    clock = RedisClock(machines, machines.monotonic)
    await clock.sync()
    await kept(clock, machines, 60)
    machines.reply_late_s = 2.0
    assert all(abs(each) <= 10 for each in await kept(clock, machines, 60))
    machines.reply_late_s = 0.0
    assert all(abs(each) <= 10 for each in await kept(clock, machines, 60))


async def test_the_first_answer_is_asked_for_again_if_it_was_late() -> None:
    machines = Machines(round_trip_s=0.002)
    clock = RedisClock(machines, machines.monotonic)
    machines.reply_late_s, once = 4.0, machines.time

    async def late_once() -> tuple[int, int]:
        said = await once()
        machines.reply_late_s = 0.0
        return said

    machines.time = late_once  # type: ignore[method-assign]
    await clock.sync()
    assert abs(clock.now() - machines.now) <= 2


async def test_what_contradicts_what_was_known_is_taken() -> None:
    """The primary's own time was set by half a second, or another server is the primary now."""
    machines = Machines(round_trip_s=0.002)
    clock = RedisClock(machines, machines.monotonic)
    await clock.sync()
    await kept(clock, machines, 60)
    machines.stepped_ms = 500
    assert (await kept(clock, machines, 2 * EVERY_S))[-1] in range(498, 503)


async def test_round_trips_do_not_look_like_a_wrong_clock() -> None:
    first = Answer(at=0, said=NOON, error=40)
    second = Answer(at=10_000, said=NOON + 10_060, error=40)
    assert rate_of(first, second) == 1.0
    assert rate_of(first, Answer(at=10_000, said=NOON + 10_500, error=40)) == pytest.approx(1.042)
    assert rate_of(first, Answer(at=10_000, said=NOON + 9_500, error=40)) == pytest.approx(0.958)


async def test_that_redis_counts_in_microseconds_does_not_look_like_a_wrong_clock() -> None:
    """Within an hour without another answer it would come to milliseconds."""
    first = Answer(at=0, said=NOON, error=0)
    for off in (-0.001, 0.001):
        assert rate_of(first, Answer(at=FIRST_S * 1000, said=NOON + FIRST_S * 1000 + off, error=0)) == 1.0


async def test_it_never_goes_back() -> None:
    machines = Machines()
    clock = RedisClock(machines, machines.monotonic)
    await clock.sync()
    before = clock.now()
    machines.stepped_ms = -5_000
    await clock.sync()
    assert clock.now() == before


@pytest.mark.parametrize("step", [STEP_MS + 1_000, -STEP_MS - 1_000])
async def test_a_step_stops_it(step: int) -> None:
    machines = Machines()
    clock = RedisClock(machines, machines.monotonic)
    await clock.sync()
    machines.stepped_ms = step
    machines.ms += EVERY_S * 1000 + 10_000
    await clock.keep()
    with pytest.raises(ClockSteppedError, match="stepped by"):
        clock.now()
