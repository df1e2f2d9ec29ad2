"""The rights that docs/operations.md grants are enough for what each does, and for nothing else."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ClusterAuthorizationFailedError, TopicAuthorizationFailedError
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import ResponseError

from streams import topics
from streams.commands import SHIPPED
from streams.connecting import kafka_options
from streams.producer import Producer
from streams.settings import Settings
from streams.store.base import Outbound
from streams.store.redis import connect
from tests.live.conftest import Changes, Worker, done, isotherm, working
from tests.live.test_end_to_end import page
from tests.security.conftest import Guarded, Installation


@pytest.fixture
async def worker(installation: Installation, tmp_path: Path) -> AsyncIterator[Worker]:
    with working(installation.worker, tmp_path / "worker.log") as made:
        yield made


async def test_each_has_what_it_needs(installation: Installation, worker: Worker) -> None:
    operator, reader = installation.operator, installation.reader
    assert "all topics are there" in await done(operator, "topics")
    await done(operator, "deploy")
    collector = Producer(installation.collector)
    await collector.start()
    now = int(time.time() * 1000)
    for n in range(3):
        await collector.send([Outbound(topics.WEB_ACTIVITY, "u-1001", page(n, now + n))], now)
    facts = {"kind": "facts", "group": "acme", "at": now, "source": "erp"}
    await collector.send(
        [
            Outbound(topics.CRM_UPDATES, "acme", json.dumps(facts | {"set": {"name": "Acme"}}).encode()),
            Outbound(topics.WEB_ACTIVITY, "u", b"{broken"),
        ],
        now,
    )
    await collector.stop()

    await Changes(reader).until(is_hot)
    told = json.loads(await done(reader, "explain", "group:acme", "--json"))
    assert told["dimensions"]["engagement"]["segment"] == "hot"
    assert json.loads(await done(reader, "report", "--json"))["dimensions"]["engagement"]["size"] >= 1
    assert await letters(operator) >= 1
    await done(operator, "dead-letters", "replay", "--all")
    assert "known as" in await done(operator, "erase", "--user", "u-1001")
    (line,) = (await done(reader, "tail", "--since", "beginning", "--json", "--limit", "1")).splitlines()
    assert json.loads(line)["specversion"] == "1.0"
    assert isotherm(operator, "unmerge", "group:acme").returncode == 1  # it was never merged: read, and refused
    assert "accounts written" in await done(operator, "snapshot")
    assert "Redis holds what the log says" in await done(operator, "verify", "--all")
    assert "rebuilt in" in await done(operator, "rebuild")
    await done(operator, "shadow", "run", SHIPPED, "--once")
    compared = json.loads(await done(operator, "shadow", "status", "--json"))["segments"]["engagement/hot"]
    assert compared["shadow"] == compared["in_force"] >= 1
    await done(operator, "shadow", "drop")
    said = worker.said()
    assert not [line for line in said if "uthoriz" in json.dumps(line) or "NOPERM" in json.dumps(line)]
    assert worker.stop() == 0


def is_hot(event: dict[str, Any]) -> bool:
    data = event["data"]
    first = data.get("memberships", {}).get("engagement", {}).get("answer")
    return event["subject"] == "group:acme" and "hot" in (first, data.get("to"))


async def letters(operator: Settings) -> int:
    """How many there are, once there are any: the fold and the router write theirs when they come to it."""
    while not (count := json.loads(await done(operator, "dead-letters", "list", "--json"))["open"]):
        await asyncio.sleep(0.1)
    return int(count)


REFUSED: list[tuple[str, tuple[Any, ...]]] = [
    ("worker", ("FLUSHALL",)),
    ("worker", ("CONFIG", "GET", "*")),
    ("worker", ("KEYS", "*")),
    ("worker", ("SCAN", 0)),
    ("worker", ("GET", "another:partitions")),
    ("worker", ("EVAL", "return redis.call('GET', 'another:partitions')", 0)),
    ("worker", ("EVAL", "return redis.call('FLUSHALL')", 0)),
    ("worker", ("SCRIPT", "FLUSH")),
    ("worker", ("ACL", "LIST")),
    ("worker", ("CLIENT", "LIST")),
    ("worker", ("SHUTDOWN", "ABORT")),
    ("operator", ("FLUSHDB",)),
    ("operator", ("CONFIG", "SET", "appendonly", "no")),
    ("serve", ("HSET", "isotherm:{0}:meta", "token", "mine")),
    ("serve", ("SADD", "isotherm:{0}:in:engagement/hot", "acme")),
    ("serve", ("EVAL", "return redis.call('SET', 'isotherm:partitions', 3)", 0)),
    ("serve", ("ZADD", "isotherm:{shadow}:day", 1, "x")),
    ("serve", ("DEL", "isotherm:{sizes}:day")),
    ("serve", ("SCAN", 0)),
    ("reader", ("SET", "isotherm:partitions", 3)),
    ("reader", ("HSET", "isotherm:{0}:meta", "token", "mine")),
    ("reader", ("EVAL", "return redis.call('SET', 'isotherm:partitions', 3)", 0)),
    ("reader", ("DEL", "isotherm:partitions")),
    ("reader", ("GET", "another:partitions")),
]


@pytest.mark.parametrize(("role", "command"), REFUSED, ids=lambda each: each if isinstance(each, str) else each[0])
async def test_redis_refuses_the_rest(installation: Installation, role: str, command: tuple[Any, ...]) -> None:
    async with connect(getattr(installation, role)) as redis:
        assert await redis.get("isotherm:partitions") in (None, b"2")  # it lets us in
        with pytest.raises(ResponseError, match=r"(?i)permissions|can't (run|access)"):
            await redis.execute_command(*command)


@pytest.mark.redis
async def test_redis_refuses_whoever_does_not_say_who_they_are(guarded: Guarded) -> None:
    told = guarded.given("isotherm-worker")
    nobody = told | {"redis": told["redis"].replace("isotherm-worker@", ""), "redis_password": ""}
    async with connect(Settings(**nobody)) as redis:
        with pytest.raises(NotConnected, match=r"(?i)auth"):
            await redis.get("isotherm:partitions")


# -- Kafka: Apache's alone -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "topic"),
    [
        ("collector", topics.ACCOUNT_LOG),
        ("reader", topics.CHANGES),
        ("serve", topics.CHANGES),
        ("serve", topics.ACCOUNT_LOG),
        ("worker", topics.CRM_UPDATES),
        ("operator", topics.CHANGES),
    ],
)
async def test_kafka_refuses_what_is_not_theirs_to_write(
    secured_kafka: object, installation: Installation, role: str, topic: str
) -> None:
    producer = Producer(getattr(installation, role))
    sending = started_and_sent(producer, topic)
    with pytest.raises((TopicAuthorizationFailedError, ClusterAuthorizationFailedError)):
        await sending
    await producer.stop()


async def started_and_sent(producer: Producer, topic: str) -> None:
    await producer.start()
    await producer.send([Outbound(topic, "k", b"{}")], 1)


async def test_kafka_refuses_a_log_to_whom_it_does_not_concern(
    secured_kafka: object, installation: Installation
) -> None:
    reading = AIOKafkaConsumer(**kafka_options(installation.collector), auto_offset_reset="earliest")
    await reading.start()
    reading.assign([TopicPartition(topics.CRM_UPDATES, 0)])
    with pytest.raises(TopicAuthorizationFailedError):
        await asyncio.wait_for(reading.getone(), 30)
    await reading.stop()
