"""Faults 1 to 9: a worker is killed, or stands still for longer than its session, at every step of a batch."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.conftest import SESSION_MS, Rows
from tests.faults.servers import Worker
from tests.faults.world import World, traffic

TAKEOVER_S = SESSION_MS / 1000 + 5
TIMES = 25  # that the step is passed before
KILLS = [
    (1, "fetch"),
    (2, "load"),
    (3, "step"),
    (4, "written"),
    (5, "commit"),
    (6, "sent"),
    (7, "produced"),
    (8, "trim"),
]
FROZEN = [(9, "step"), (9, "outbox"), (9, "produced"), (9, "router-save")]


async def two_workers(world: World, stop_at: str) -> Worker:
    """The first is the one to which it happens."""
    doomed = world.worker(stop_at)
    world.worker()
    await world.ready()
    return doomed


@pytest.mark.parametrize(("number", "step"), KILLS)
async def test_a_worker_is_killed(world: World, rows: Rows, number: int, step: str) -> None:
    doomed = await two_workers(world, f"{step}:{TIMES}:KILL")
    async with traffic(world, seed=number):

        async def is_gone() -> bool:
            return not doomed.runs

        await world.until(f"the worker dies at {step}", is_gone)
        before = await world.owners()

        async def taken_over() -> bool:
            return all(token != before[key] for key, token in (await world.owners()).items())

        takeover_s = await world.until("a takeover", taken_over)
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, f"kill -9 after {step}", report), takeover_s=round(takeover_s, 1))
    assert not report.broken, str(report)
    assert takeover_s <= TAKEOVER_S


@pytest.mark.parametrize(("number", "step"), FROZEN)
async def test_a_worker_stands_still(world: World, rows: Rows, number: int, step: str) -> None:
    zombie = await two_workers(world, f"{step}:{TIMES}:STOP")
    async with traffic(world, seed=10 * number):

        async def stands_still() -> bool:
            return zombie.is_stopped

        await world.until(f"the worker stops at {step}", stands_still)
        await asyncio.sleep(2 * SESSION_MS / 1000)
        zombie.thaw()
        await world.healed()
        assert zombie.runs
        report = await world.finish()
    rows.add(**world.row(number, f"SIGSTOP after {step}", report))
    assert not report.broken, str(report)
