"""Fault 24: other rules every five seconds, while workers are killed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.faults.conftest import Rows
from tests.faults.test_kills import two_workers
from tests.faults.world import RULES, World, traffic

EVERY_S = 5.0
EDITS = [
    ("at_least: 3, within: 9s", "at_least: 2, within: 9s"),
    ("seen: asked, within: 5s", "seen: asked, within: 7s"),
    ("fact: employees, at_least: 500", "fact: employees, at_least: 100"),
]


@contextlib.asynccontextmanager
async def switching(world: World) -> AsyncIterator[list[str]]:
    """Each version differs from the one before in one edit; those that were deployed are given."""
    deployed: list[str] = []

    async def run() -> None:
        text = (RULES / "rules.yaml").read_text()
        for n in range(1_000):
            await asyncio.sleep(EVERY_S)
            old, new = EDITS[n % len(EDITS)]
            text = text.replace(old, new) if old in text else text.replace(new, old)
            await world.deploy(text)
            deployed.append(text)

    task = asyncio.create_task(run())
    try:
        yield deployed
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("number", "step"), [(24, "load"), (24, "written"), (24, "sent"), (24, "trim"), (24, "router-save")]
)
async def test_rules_are_switched_while_a_worker_is_killed(
    world: World, rows: Rows, number: int, step: str
) -> None:
    doomed = await two_workers(world, f"{step}:60:KILL")
    async with traffic(world, seed=24), switching(world) as deployed:

        async def is_over() -> bool:
            return not doomed.runs and len(deployed) >= 3

        await world.until("a death and three switches", is_over)
        await world.healed()
    report = await world.finish()
    rows.add(**world.row(number, f"{len(deployed)} rulesets, kill -9 after {step}", report))
    assert not report.broken, str(report)
