"""Fault 25: two builds at once, of which the older does not read what the newer has written; and going back."""

from __future__ import annotations

import asyncio

import pytest

from rules import state
from tests.faults.conftest import Rows
from tests.faults.world import World, traffic


@pytest.mark.parametrize("number", [25])
async def test_a_newer_build_comes_goes_and_comes_back(
    world: World, rows: Rows, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """While it is gone its partitions stand still, and say why; the older build writes nothing there."""
    monkeypatch.setattr(state, "READS", {state.VERSION, bytes([state.VERSION[0] + 1])})  # the oracle's
    world.worker()
    await world.ready()
    async with traffic(world, seed=25):
        await world.more(200)
        newer = world.worker(next_build=True)
        await world.ready()
        await world.more(400)
        newer.terminate()
        assert await asyncio.to_thread(newer.ends, 45)

        async def refused() -> bool:
            return bool(world.said("partition stopped"))

        await world.until("the older build refuses", refused)
        stopped = {line["partition"]: line["why"] for line in world.said("partition stopped")}
        assert all("another build wrote it" in why for why in stopped.values()), stopped
        for each in world.workers:
            each.kill()
        world.worker(next_build=True)
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, "a newer build, back to the older, and on again", report))
    assert not report.broken, str(report)
