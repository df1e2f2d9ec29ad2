"""Fault 22: the log is not what it was: shortened under a worker, made anew, or given more partitions.

Nothing is skipped in silence: the partition stops, what is missing is named, and the others go on.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from streams import topics
from streams.topics import ACCOUNT_LOG, CONFIGS
from tests.faults.conftest import Rows
from tests.faults.servers import ROOT, Worker
from tests.faults.world import PARTITIONS, World, traffic
from tests.live.conftest import environment


async def tell(world: World, does: Callable[[AdminClient], dict[Any, Future[Any]]]) -> None:
    """Has the brokers do something, and returns when it is done."""
    client = AdminClient({"bootstrap.servers": world.direct.kafka})
    for done in does(client).values():
        await asyncio.to_thread(done.result, 60)


async def folded_and_gone(world: World) -> None:
    """All that was sent has been folded, and no worker runs."""
    worker = world.worker()
    await world.ready()
    async with traffic(world, seed=22) as sends:
        await world.more(400)
        await sends.stop()
        await world.drained()
    worker.terminate()
    assert await asyncio.to_thread(worker.ends, 45)


async def stopped(world: World, worker: Worker, partition: int) -> str:
    """Why the worker stopped a partition, once it has."""

    async def has() -> bool:
        return any(line["partition"] == partition for line in worker.said("partition stopped"))

    await world.until(f"partition {partition} stopped", has)
    return str(next(line["why"] for line in worker.said("partition stopped") if line["partition"] == partition))


async def goes_on(world: World, partitions: set[int]) -> None:
    """These partitions fold what comes."""
    before = await world.offsets()
    async with traffic(world, seed=23) as sends:

        async def further() -> bool:
            now = await world.offsets()
            return all(now[p] > before[p] for p in partitions)

        await world.until(f"partitions {sorted(partitions)} go on", further)
        await sends.stop()


@pytest.mark.parametrize("number", [22])
async def test_retention_overtakes_the_worker(world: World, rows: Rows, number: int) -> None:
    await folded_and_gone(world)
    at = (await world.offsets())[0]
    router = world.worker(role="router")
    async with traffic(world, seed=22) as sends:
        await world.more(400)
        await sends.stop()
    await world.routed()
    router.kill()
    topic = world.direct.topics(ACCOUNT_LOG)
    await tell(world, lambda client: client.delete_records([TopicPartition(topic, 0, at + 5)]))
    worker = world.worker()
    why = await stopped(world, worker, 0)
    assert f"GAP: offsets {at} to {at + 4} of {topic}/0" in why
    await goes_on(world, {1, 2, 3})
    assert (await world.offsets())[0] == at
    accepted = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "streams.cli", "resume", f"{ACCOUNT_LOG}/0", "--accept-gap"],
        cwd=ROOT, env=environment(world.direct), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert accepted.returncode == 0, accepted.stderr
    await goes_on(world, {0})
    rows.add(**world.told(number, "retention overtakes the worker", "stopped, range named, resumed when told to"))


@pytest.mark.parametrize("number", [22])
async def test_the_log_is_made_anew(world: World, rows: Rows, number: int) -> None:
    await folded_and_gone(world)
    before, topic = await world.offsets(), world.direct.topics(ACCOUNT_LOG)
    await tell(world, lambda client: client.delete_topics([topic]))

    async def is_gone() -> bool:
        return not any([topic in await node.shows() for node in world.cluster.nodes])

    await world.until("the topic's end", is_gone)
    await topics.create(world.direct)
    await world.shown()
    worker = world.worker()
    for partition in range(PARTITIONS):
        why = await stopped(world, worker, partition)
        assert f"ends at 0, and {before[partition]} records of it were folded" in why
    assert await world.offsets() == before
    rows.add(**world.told(number, "account.log made anew", "stopped, said so"))


async def made_anew(world: World, role: str, replicas: list[int], **configs: str) -> None:
    """A topic, emptied, on these brokers only: before any worker runs."""
    topic = world.direct.topics(role)
    await tell(world, lambda client: client.delete_topics([topic]))

    async def is_gone() -> bool:
        return not any([topic in await node.shows() for node in world.cluster.nodes])

    await world.until("the topic's end", is_gone)
    config = CONFIGS[role] | {name.replace("_", "."): value for name, value in configs.items()}
    new = NewTopic(topic, PARTITIONS, replica_assignment=[replicas] * PARTITIONS, config=config)
    await tell(world, lambda client: client.create_topics([new]))
    await world.shown()


@pytest.mark.parametrize("number", [22])
async def test_a_broker_that_lacks_the_end_becomes_leader(world: World, rows: Rows, number: int) -> None:
    """Two replicas, one enough to write, and unclean elections: what nobody should allow."""
    await made_anew(world, ACCOUNT_LOG, [1, 2], min_insync_replicas="1", unclean_leader_election_enable="true")
    await world.deploy()
    first, second, _ = world.cluster.nodes
    worker = world.worker()
    await world.ready()
    async with traffic(world, seed=22) as sends:
        await world.more(200)
        await world.drained()
        second.kill()
        await world.more(400)
        await sends.stop()
    await world.drained()
    folded = await world.offsets()
    first.kill()
    second.start()
    topic = world.direct.topics(ACCOUNT_LOG)
    for partition in range(PARTITIONS):
        why = await stopped(world, worker, partition)
        assert f"{topic}/{partition} ends at" in why
        assert f"and {folded[partition]} records of it were folded" in why
    assert await world.offsets() == folded
    rows.add(**world.told(number, "an unclean election cut off account.log", "stopped, said so"))


@pytest.mark.parametrize("number", [22])
async def test_partitions_are_added_while_workers_run(world: World, rows: Rows, number: int) -> None:
    worker = world.worker()
    await world.ready()
    async with traffic(world, seed=22):
        await world.more(200)
        topic = world.direct.topics(ACCOUNT_LOG)
        await tell(world, lambda client: client.create_partitions([NewPartitions(topic, PARTITIONS + 1)]))
        assert "has more than" in await stopped(world, worker, PARTITIONS)
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, "partitions added to account.log", report))
    assert not report.broken, str(report)


@pytest.mark.parametrize("number", [22])
async def test_a_worker_does_not_start_on_a_log_with_more_partitions(
    world: World, rows: Rows, number: int
) -> None:
    topic = world.direct.topics(ACCOUNT_LOG)
    await tell(world, lambda client: client.create_partitions([NewPartitions(topic, PARTITIONS + 1)]))
    await world.shown()
    worker = world.worker()
    assert await asyncio.to_thread(worker.ends, 60)
    assert f"has {PARTITIONS + 1} partitions, ISOTHERM_PARTITIONS says {PARTITIONS}" in worker.log.read_text()
    rows.add(**world.told(number, "started on a log with more partitions", "refused to run, said so"))
