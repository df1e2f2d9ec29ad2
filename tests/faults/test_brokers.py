"""Faults 10 to 12: partitions change hands fifty times, a broker dies, all brokers are away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from streams.publisher import WAITING_AT_MOST
from streams.topics import ACCOUNT_LOG, CHANGES, MEMBERSHIPS
from tests.faults.conftest import SESSION_MS, Rows
from tests.faults.test_log import made_anew
from tests.faults.world import WITHIN_S, World, traffic

STUCK_S = 60.0
MUCH_CPU = 0.3  # of a core, while there is nothing to be done


async def workers(world: World, count: int) -> None:
    for _ in range(count):
        world.worker()
    await world.ready()


@contextlib.asynccontextmanager
async def guest(world: World, name: str | None) -> AsyncIterator[None]:
    """Somebody who joins the fold's group, is given partitions, and does nothing with them."""
    settings = world.direct
    consumer = AIOKafkaConsumer(
        settings.topics(ACCOUNT_LOG),
        bootstrap_servers=settings.kafka,
        group_id=settings.group("fold"),
        group_instance_id=name,
        enable_auto_commit=False,
        auto_offset_reset="latest",
        partition_assignment_strategy=[RangePartitionAssignor],
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=SESSION_MS // 8,
    )
    async with consumer:

        async def has_joined() -> bool:
            return bool(consumer.assignment())

        await world.until("the guest's share", has_joined)
        yield


@pytest.mark.parametrize("number", [10])
async def test_fifty_rebalances(world: World, rows: Rows, number: int) -> None:
    """Every join is one and every leave another; each fifth guest is a static member."""
    await workers(world, 2)
    async with traffic(world, seed=10, rate=60):
        for n in range(25):
            async with guest(world, f"static-{n}" if n % 5 == 0 else None):
                pass
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, "50 rebalances", report))
    assert not report.broken, str(report)
    assert world.recovery_s <= STUCK_S


@pytest.mark.parametrize("number", [11])
async def test_a_broker_is_killed(world: World, rows: Rows, outage_s: float, number: int) -> None:
    await workers(world, 2)
    async with traffic(world, seed=11):
        await world.more(200)
        broker = world.cluster.nodes[0]
        broker.kill()
        await asyncio.sleep(outage_s)
        await world.more(200)  # two of three are enough
        await world.healed()
        await asyncio.to_thread(world.cluster.revive)
        report = await world.finish()
    rows.add(**world.row(number, "a broker killed", report))
    assert not report.broken, str(report)


@pytest.mark.parametrize("number", [11])
async def test_brokers_are_restarted_one_after_the_other(world: World, rows: Rows, number: int) -> None:
    """Each partition's leader moves, more than once."""
    await workers(world, 2)
    async with traffic(world, seed=111):
        for broker in world.cluster.nodes:
            await world.more(100)
            await asyncio.to_thread(broker.stop)
            await asyncio.to_thread(world.cluster.revive)
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, "rolling restart", report))
    assert not report.broken, str(report)


@pytest.mark.parametrize("number", [12])
async def test_all_brokers_are_away(world: World, rows: Rows, outage_s: float, number: int) -> None:
    await workers(world, 2)
    async with traffic(world, seed=12):
        await world.more(200)
        world.cluster.kill()
        used = {each.pid: each.cpu_s for each in world.workers}
        await asyncio.sleep(outage_s)
        busy = max(each.cpu_s - used[each.pid] for each in world.workers) / outage_s
        await asyncio.to_thread(world.cluster.revive)
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, "all brokers killed", report), cpu=round(busy, 2))
    assert not report.broken, str(report)
    assert busy < MUCH_CPU


@pytest.mark.parametrize("number", [12])
async def test_what_is_told_cannot_be_told(world: World, rows: Rows, outage_s: float, number: int) -> None:
    """The broker that has the outgoing topics is away, the log is not: what waits is bounded, and all of it told.

    A partition that changes hands meanwhile stands still: how far it was told stands in those topics.
    Ten minutes of it: `make test-faults ARGS="--only 12 --seconds-of-outage 600"`.
    """
    for role in (CHANGES, MEMBERSHIPS):
        await made_anew(world, role, [3], min_insync_replicas="1")
    await workers(world, 2)
    async with traffic(world, seed=122):
        await world.more(200)
        world.cluster.nodes[2].kill()
        began, waiting = asyncio.get_running_loop().time(), 0
        while asyncio.get_running_loop().time() - began < outage_s:
            waiting = max(waiting, await world.outboxes())
            await asyncio.sleep(1)
        await asyncio.to_thread(world.cluster.revive)
        drained_s = await world.drained(WITHIN_S + outage_s)
        report = await world.finish()
    world.recovery_s = drained_s  # of a long outage more than what I6 allows
    rows.add(**world.row(number, f"no outgoing topics for {outage_s:g} s", report), waiting=waiting)
    assert not report.broken, str(report)
    assert waiting <= 2 * WAITING_AT_MOST * 1.1  # each worker stops reading for itself
