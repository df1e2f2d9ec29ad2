"""Faults 24 and 26: other rules every five seconds, and rules that get their past, while workers are killed."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial

import pytest

from rules.records import Fill, decode_record
from streams.playback import up_to_its_end
from streams.topics import ACCOUNT_LOG
from tests.faults.conftest import Rows
from tests.faults.test_kills import two_workers
from tests.faults.world import RULES, World, traffic
from tests.live.conftest import environment

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


# Windows that reach back to before the switch for as long as the test lasts.
OF_THE_PAST = """
---
dimension: interest
on_unknown: skip
segments:
  - {segment: high, when: {count: asked, at_least: 4, within: 1h}}
  - {segment: some, when: {people: asked, at_least: 2, within: 1h}}
  - {segment: none, otherwise: true}
---
dimension: spending
kind: set
segments:
  - {segment: much, when: {sum: bought, of: amount, at_least: 150, within: 1h}}
  - {segment: back, when: {sequence: [asked, bought], span: 1h, within: 1h}}
"""
KILLED_AFTER = (1, 200, 400)  # fills in the log


@pytest.mark.parametrize(("number", "step"), [(26, "load"), (26, "written"), (26, "sent"), (26, "commit")])
async def test_rules_get_their_past_while_a_worker_and_who_fills_are_killed(
    world: World, rows: Rows, number: int, step: str
) -> None:
    doomed = await two_workers(world, f"{step}:400:KILL")
    async with traffic(world, seed=26, rate=300.0):
        await world.more(3_000)
        await world.deploy((RULES / "rules.yaml").read_text() + OF_THE_PAST, backfill=0)
        await world.until("the switch", partial(has_switched, world))
        for many in KILLED_AFTER:
            filling = backfilling(world)
            await world.until(f"{many} fills", partial(has_filled, world, filling, many))
            filling.kill()
            filling.wait()
        assert await asyncio.to_thread(backfilling(world).wait, 60) == 0

        async def is_gone() -> bool:
            return not doomed.runs

        await world.until(f"the worker dies at {step}", is_gone)
        await world.healed()
    report = await world.finish()
    filled = await fills(world)
    accounts = len({(each.account, each.of) for each in filled})
    where = (
        f"kill -9 of the backfill three times, of a worker after {step}; {len(filled)} fills, {accounts} accounts"
    )
    rows.add(**world.row(number, where, report))
    assert not report.broken, str(report)


def backfilling(world: World) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "streams.cli", "backfill", "--json"]
    with (world.directory / "backfill.log").open("ab") as log:
        return subprocess.Popen(command, env=environment(world.direct_now), stdout=log, stderr=log)


async def fills(world: World) -> list[Fill]:
    records = [decode_record(each.value) async for each in up_to_its_end(world.direct_now, ACCOUNT_LOG)]
    return [each for each in records if isinstance(each, Fill)]


async def has_switched(world: World) -> bool:
    return all(each.fillings for each in await world.partitions())


async def has_filled(world: World, filling: subprocess.Popen[bytes], many: int) -> bool:
    return filling.poll() is not None or len(await fills(world)) >= many
