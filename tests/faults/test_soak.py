"""Fault 30: faults at random for as long as `make soak MINUTES=60` says, on one installation under traffic.

One worker is never touched: what it needs of memory is sampled, and must not grow. ISOTHERM_SOAK_SEED draws the
same faults again. The longest outages are as long as they are in earnest: brokers away for five minutes.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from streams.topics import WEB_ACTIVITY
from tests.faults.conftest import SESSION_MS, Rows
from tests.faults.servers import Worker
from tests.faults.test_brokers import guest
from tests.faults.test_input import poison
from tests.faults.test_network import FAULTS
from tests.faults.test_redis import fill, occupy, revoke
from tests.faults.test_rules import EDITS
from tests.faults.traffic import FORMAT
from tests.faults.world import RULES, World, traffic

MINUTES = float(os.environ.get("ISOTHERM_SOAK_MINUTES", "20"))
SEED = int(os.environ.get("ISOTHERM_SOAK_SEED") or time.time())
LONG_S = 300.0  # the longest outage; a tenth of the soak when that is shorter
PATIENCE_MS = 2 * int(LONG_S * 1000)
WITHIN_S = 900.0  # until all that waited in a long outage is done
SAMPLED_S = 2.0
GROWTH = 1.25  # of the median from the second third to the last

Harm = Callable[["Soak"], Awaitable[None]]


class Soak:
    """The installation, what is drawn, and what the witness needed."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random = world, random.Random(seed)
        self.witness = world.worker(poison_limit=False)
        self.other = world.worker(poison_limit=False)
        self.edits = 0
        self.rules = (RULES / "rules.yaml").read_text()
        self.resident_mb: list[float] = []
        self.outage_s = min(LONG_S, MINUTES * 6)

    async def outage(self, share: float = 0.1) -> None:
        await asyncio.sleep(max(5.0, self.outage_s * share))

    async def sample(self) -> None:
        while True:
            self.resident_mb.append(resident_mb(self.witness))
            await asyncio.sleep(SAMPLED_S)

    def growth(self) -> float:
        third = len(self.resident_mb) // 3
        return statistics.median(self.resident_mb[-third:]) / statistics.median(
            self.resident_mb[third : 2 * third]
        )


def resident_mb(worker: Worker) -> float:
    with open(f"/proc/{worker.pid}/status") as status:
        return int(next(line.split()[1] for line in status if line.startswith("VmRSS"))) / 1024


async def kill(soak: Soak) -> None:
    soak.other.kill()
    soak.other = soak.world.worker(poison_limit=False)


async def stand_still(soak: Soak) -> None:
    soak.other.freeze()
    await asyncio.sleep(2 * SESSION_MS / 1000)
    soak.other.thaw()


async def rebalance(soak: Soak) -> None:
    for n in range(5):
        async with guest(soak.world, f"static-{n}" if n == 0 else None):
            pass


async def lose_a_broker(soak: Soak) -> None:
    soak.random.choice(soak.world.cluster.nodes).kill()
    await soak.outage()
    await asyncio.to_thread(soak.world.cluster.revive)


async def lose_all_brokers(soak: Soak) -> None:
    soak.world.cluster.kill()
    await soak.outage(1.0)
    await asyncio.to_thread(soak.world.cluster.revive)


async def restart_redis(soak: Soak) -> None:
    soak.world.redis.primary.kill()
    await soak.outage()
    soak.world.redis.primary.start()


async def fail_over(soak: Soak) -> None:
    soak.world.redis.detach()
    await asyncio.sleep(soak.random.uniform(0.5, 10))
    soak.world.redis.promote()
    await asyncio.to_thread(soak.world.redis.follow)


async def empty_redis(soak: Soak) -> None:
    soak.world.redis.primary.ask("FLUSHALL")


async def redis_refuses(soak: Soak) -> None:
    over = soak.random.choice([fill, occupy, revoke])(soak.world.redis)
    await soak.outage()
    over()


async def break_the_network(soak: Soak) -> None:
    proxies = soak.random.choice([soak.world.cluster.proxies, [soak.world.redis.proxy]])
    fault = FAULTS[soak.random.choice(list(FAULTS))]
    for proxy in proxies:
        fault(proxy)
    await soak.outage()
    for proxy in proxies:
        proxy.heal()


async def switch_rules(soak: Soak) -> None:
    old, new = EDITS[soak.edits % len(EDITS)]
    soak.rules = soak.rules.replace(old, new) if old in soak.rules else soak.rules.replace(new, old)
    soak.edits += 1
    await soak.world.deploy(soak.rules)


async def send_poison(soak: Soak) -> None:
    assert soak.world.traffic is not None
    for value in poison():
        if value is None or len(value) < 1_000_000:
            await soak.world.traffic.send(WEB_ACTIVITY, "poison", value, FORMAT)
            soak.world.letters += 1


HARMS: list[tuple[Harm, int]] = [
    (kill, 6), (stand_still, 3), (rebalance, 2), (lose_a_broker, 3), (lose_all_brokers, 1), (restart_redis, 2),
    (fail_over, 3), (empty_redis, 1), (redis_refuses, 3), (break_the_network, 6), (switch_rules, 4),
    (send_poison, 2),
]  # fmt: skip


@pytest.mark.soak
async def test_soak(world: World, rows: Rows) -> None:
    print(f"\nSoaking for {MINUTES:g} minutes, ISOTHERM_SOAK_SEED={SEED}", flush=True)
    soak, done = Soak(world, SEED), Counter[str]()
    await world.ready()
    until = time.monotonic() + MINUTES * 60
    longest = 0.0
    async with traffic(world, seed=SEED, rate=30, duplicates=0.1, late=0.1, patience_ms=PATIENCE_MS):
        sampling = asyncio.create_task(soak.sample())
        while time.monotonic() < until:
            (harm,) = soak.random.choices([each for each, _ in HARMS], [often for _, often in HARMS])
            print(f"  {harm.__name__}", end="", flush=True)
            await harm(soak)
            longest = max(longest, await world.drained(WITHIN_S))
            print(f": drained {longest:.0f} s at most", flush=True)
            done[harm.__name__] += 1
            await world.more(100)
        sampling.cancel()
        assert soak.witness.runs, world.words()
        report = await world.finish()
    world.recovery_s = longest
    mb = f"{statistics.median(soak.resident_mb):.0f} MB, x{soak.growth():.2f} from the second third to the last"
    row = world.row(30, f"{MINUTES:g} minutes, {done.total()} faults drawn, seed {SEED}", report)
    rows.add(**row, memory=mb, drawn=dict(done))
    assert not report.broken, str(report)
    assert soak.growth() < GROWTH, soak.resident_mb
