"""Fault 17: the network between workers and Kafka, or Redis, does what networks do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.faults.conftest import Rows
from tests.faults.proxy import Proxy, Way
from tests.faults.world import World, traffic

FAULTS: dict[str, Callable[[Proxy], None]] = {
    "cut": lambda proxy: proxy.cut(),
    "both ways lost": lambda proxy: proxy.set(up=Way.DROP, down=Way.DROP),
    "requests lost": lambda proxy: proxy.set(up=Way.DROP),
    "replies lost": lambda proxy: proxy.set(down=Way.DROP),
    "replies late": lambda proxy: proxy.set(down=Way.HOLD),
    "500 ms more": lambda proxy: proxy.set(delay_s=0.5),
    "reset in mid-reply": lambda proxy: proxy.reset_in_reply(100),
}


@pytest.mark.parametrize("number", [17])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("before", ["Kafka", "Redis"])
async def test_the_network(
    world: World, rows: Rows, outage_s: float, number: int, before: str, fault: str
) -> None:
    proxies = world.cluster.proxies if before == "Kafka" else [world.redis.proxy]
    world.worker()
    world.worker()
    await world.ready()
    async with traffic(world, seed=17):
        await world.more(200)
        for proxy in proxies:
            FAULTS[fault](proxy)
        await asyncio.sleep(outage_s / 2)
        for proxy in proxies:
            proxy.heal()
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, f"{before}: {fault}", report))
    assert not report.broken, str(report)
