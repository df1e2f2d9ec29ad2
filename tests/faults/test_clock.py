"""Fault 19: clocks are wrong: the worker's, the producer's, and that of Redis, by which records are stamped."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import pytest

from rules.changes import iso
from streams.topics import ACCOUNT_LOG, CHANGES
from tests.faults.conftest import Rows
from tests.faults.oracle import _received
from tests.faults.world import World, traffic

HOUR_S, DAY_S = 3600, 86_400
STEP_S = 30  # that is not taken for a correction


@pytest.mark.parametrize(
    ("number", "clock"),
    [(19, "3600,1"), (19, "-86400,1"), (19, "0,1.05"), (19, "0,0.95")],
)
async def test_a_worker_s_own_clock(world: World, rows: Rows, number: int, clock: str) -> None:
    """It is ahead or behind by so many seconds, and runs so much faster; the other worker's is right."""
    world.worker(clock=clock)
    world.worker()
    await world.ready()
    async with traffic(world, seed=19):
        await world.more(1_000)
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, f"a worker's clock: {clock} (s, times)", report))
    assert not report.broken, str(report)
    await no_premature_exit(world)


@pytest.mark.parametrize(("number", "ahead_s"), [(19, HOUR_S), (19, -DAY_S)])
async def test_the_producer_s_clock(world: World, rows: Rows, number: int, ahead_s: int) -> None:
    """What is said to happen in the future happens when it arrives."""
    world.worker()
    await world.ready()
    async with traffic(world, seed=19, skew_ms=ahead_s * 1000):
        await world.more(1_000)
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, f"the producer's clock: {ahead_s} s ahead", report))
    assert not report.broken, str(report)
    await no_premature_exit(world)


@pytest.mark.parametrize(("number", "step_s"), [(19, HOUR_S), (19, -HOUR_S), (19, DAY_S)])
async def test_the_time_of_redis_steps(world: World, rows: Rows, number: int, step_s: int) -> None:
    """Nothing is appended any more, and that is said; once it is mended a new worker goes on."""
    worker = world.worker()
    await world.ready()
    async with traffic(world, seed=19):
        await world.more(300)
        world.redis.proxy.rewrite(stepped(step_s))

        async def has_said() -> bool:
            return "the time of Redis stepped" in worker.log.read_text()

        await world.until("an alarm", has_said)
        await world.more(100)  # what was on its way has arrived
        ends = await world._ends(ACCOUNT_LOG)
        await world.more(300)
        assert await world._ends(ACCOUNT_LOG) == ends, "it went on appending"
        world.redis.proxy.rewrite(None)
        worker.kill()
        world.worker()
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, f"the time of Redis steps by {step_s} s", report))
    assert not report.broken, str(report)
    await no_premature_exit(world)
    latest = max(_received(each) for each in (await world.found()).topics[ACCOUNT_LOG])
    assert latest < time.time() * 1000 + STEP_S * 1000, "a record is stamped with a time that has not come"


def stepped(seconds: int) -> Callable[[bytes], bytes]:
    """Rewrites the replies to TIME: two texts, the seconds and the microseconds."""
    pattern = re.compile(rb"^\*2\r\n\$10\r\n(\d{10})\r\n")
    return lambda reply: pattern.sub(lambda found: b"*2\r\n$10\r\n%d\r\n" % (int(found[1]) + seconds), reply)


async def no_premature_exit(world: World) -> None:
    """By this machine's clock, which is that of the brokers and of Redis, nothing took effect before its time."""
    now = iso(int(time.time() * 1000))
    for each in (await world.found()).topics[CHANGES]:
        data = json.loads(each.value or b"{}")["data"]
        assert data["effective"] <= data["decided"] <= now
