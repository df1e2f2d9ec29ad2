"""The router as a service on a real broker: doubled in mid-step, and with topics that are made anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pydantic import SecretStr
from redis.asyncio import Redis
from router_world import PARTITIONS, STEPS, Listed, World

from streams import topics
from streams.clock import RedisClock
from streams.producer import Producer
from streams.router import Router
from streams.settings import Settings
from streams.store.redis import connect
from streams.store.sources import SourceStore

WITHIN_S = 60


@pytest.fixture
async def settings(settings_of: Callable[..., Settings], redis: Any) -> Settings:
    made: Settings = settings_of(partitions=PARTITIONS, person_key=SecretStr("of the tests"), batch=3)
    await topics.create(made)
    return made


class Routers:
    """Starts routers of one installation, and knows when all that was sent has been routed."""

    def __init__(self, settings: Settings, kafka: AIOKafkaProducer) -> None:
        self.settings, self.kafka = settings, kafka
        self.routers: list[Router] = []
        self.closing: list[Any] = []
        self.moved = asyncio.Event()

    async def start(self, reached: Callable[[str], Any] | None = None) -> Router:
        settings, redis = self.settings, connect(self.settings)
        producer, clock = Producer(settings), RedisClock(redis)
        await producer.start()
        await clock.sync()

        async def tell(step: str) -> None:
            if reached is not None:
                await reached(step)
            self.moved.set()

        router = Router(settings, SourceStore(redis, settings.namespace), producer, clock, tell)
        await router.start()
        self.routers.append(router)
        self.closing += [redis, producer]
        return router

    async def send(self, *said: dict[str, Any], partition: int = 0) -> None:
        name = self.settings.topics(topics.WEB_ACTIVITY)
        for each in said:
            value = json.dumps({"at": 1_700_000_000_000, **each}).encode()
            await self.kafka.send_and_wait(name, value, partition=partition)

    async def routed(self, router: Router, incarnation: int, until: int) -> None:
        """Returns when the router stands at `until` in the first partition."""
        tp = TopicPartition(self.settings.topics(topics.WEB_ACTIVITY), 0)

        async def look() -> None:
            while True:
                self.moved.clear()
                reading = router._reading.get(tp)
                if reading and (reading.incarnation, reading.next) == (incarnation, until):
                    return
                try:
                    await asyncio.wait_for(self.moved.wait(), 0.5)
                except TimeoutError:
                    continue

        await asyncio.wait_for(look(), WITHIN_S)

    async def stop(self, router: Router) -> None:
        self.routers.remove(router)
        await router.stop()

    async def make_anew(self) -> None:
        name = self.settings.topics(topics.WEB_ACTIVITY)
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka)
        await admin.start()
        try:
            await admin.delete_topics([name])
            while name in await admin.list_topics():
                pass
            await admin.create_topics([NewTopic(name, topics.SOURCE_PARTITIONS, 1)])
            while name not in await admin.list_topics():
                pass
        finally:
            await admin.close()

    async def world(self) -> World:
        """The log as it is, to be judged like those of the listed worlds."""
        found = World(None, self.settings.namespace)
        found.kafka = Listed()
        for role in (topics.ACCOUNT_LOG, topics.LINKS):
            name = self.settings.topics(role)
            async with AIOKafkaConsumer(
                name, bootstrap_servers=self.settings.kafka, auto_offset_reset="earliest", enable_auto_commit=False
            ) as consumer:
                places = sorted(consumer.assignment())
                assert places
                ends = await consumer.end_offsets(places)
                while any([await consumer.position(tp) < ends[tp] for tp in places]):
                    for tp, messages in (await consumer.getmany(timeout_ms=200)).items():
                        for each in messages:
                            found.kafka.append(role, tp.partition, each.value, key=(each.key or b"").decode())
        return found


@pytest.fixture
async def routers(settings: Settings) -> AsyncIterator[Routers]:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, max_request_size=6_000_000) as kafka:
        made = Routers(settings, kafka)
        yield made
        for router in made.routers:
            await router.stop()
        for each in made.closing:
            await (each.aclose() if isinstance(each, Redis) else each.stop())


def visit(n: int, at: int) -> dict[str, Any]:
    said = {"kind": "activity", "name": "visited", "user": f"u{n}", "email": f"ann@acme{n}.example"}
    return {**said, "at": 1_700_000_000_000 + at}


def places(world: World, account: str) -> list[Any]:
    """Where the activities of an account stood that count, in the order in which they count."""
    found = [json.loads(each) for kept in world.accepted() for each in kept]
    return [each["via"] for each in found if each.get("account") == account and each["kind"] == "activity"]


@pytest.mark.parametrize("step", STEPS)
async def test_a_router_that_stands_still_is_replaced_and_wakes_up(routers: Routers, step: str) -> None:
    """It goes on where it was, with its token taken away: what it saves is refused, what it produces is known."""
    stands, wakes = asyncio.Event(), asyncio.Event()
    passed: list[str] = []

    async def stand_still(reached: str) -> None:
        passed.append(reached)
        if reached == step and passed.count(step) == 2:
            stands.set()
            await wakes.wait()

    await routers.send(*[visit(0, n) for n in range(10)])
    first = await routers.start(stand_still)
    await asyncio.wait_for(stands.wait(), WITHIN_S)
    await first._consumer.stop()
    second = await routers.start()
    await routers.routed(second, 0, 10)
    turn = first._turn
    wakes.set()
    async with turn:  # the first one has done what it was about to do
        await first._consumer._client.close()  # it has asked Kafka once more, after it had left
    await routers.send(*[visit(0, n) for n in range(10, 12)])
    await routers.routed(second, 0, 12)
    assert places(await routers.world(), "domain:acme0.example") == [["web.activity/0", n, 0] for n in range(12)]


@pytest.mark.parametrize(("running", "length"), [(True, 3), (False, 3), (False, 5), (False, 9)])
async def test_a_topic_is_deleted_and_made_anew(routers: Routers, running: bool, length: int) -> None:
    await routers.send(*[visit(0, n) for n in range(5)])
    router = await routers.start()
    await routers.routed(router, 0, 5)
    if not running:
        await routers.stop(router)
    await routers.make_anew()
    await routers.send(*[visit(1, n) for n in range(length)])
    if not running:
        router = await routers.start()
    await routers.routed(router, 1, length)
    await routers.send(visit(1, 100))
    await routers.routed(router, 1, length + 1)
    world = await routers.world()
    assert places(world, "domain:acme0.example") == [["web.activity/0", n, 0] for n in range(5)]
    assert places(world, "domain:acme1.example") == [["web.activity@1/0", n, 0] for n in range(length + 1)]


async def test_a_record_as_large_as_a_message_may_be_is_taken(routers: Routers) -> None:
    """A message of a million bytes becomes a record of a few more; others do not wait behind it for ever."""
    large = visit(0, 1) | {"props": {"text": "x" * 1_048_000}}
    large["props"]["text"] = "x" * (1_048_576 - len(json.dumps(large).encode()) + 1_048_000)
    await routers.send(large, visit(0, 2))
    router = await routers.start()
    await routers.routed(router, 0, 2)
    assert len(places(await routers.world(), "domain:acme0.example")) == 2
