"""A collector in this process, on a loopback port, in front of a real broker."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import SecretStr

from streams import topics
from streams.adapters import decode_any
from streams.adapters.base import Decoded
from streams.answering import listening
from streams.collector.limits import Limits
from streams.collector.run import made, serve
from streams.settings import Settings

WRITE_KEY, RECORD_KEY, SECRET = "a-write-key-of-tests", "a-record-key-of-tests", "a-secret-of-hubspot"
TIMEOUT_S = 60


class Answer(NamedTuple):
    status: int
    headers: Any
    body: Any


class Arrived(NamedTuple):
    """A message as the router will find it."""

    topic: str
    partition: int
    key: str | None
    format: str
    sender: str
    value: bytes

    def decoded(self) -> Decoded:
        return decode_any(self.format, self.value, 1_772_442_000_000)


@dataclass
class Running:
    """A collector that answers, and what it has written."""

    settings: Settings
    url: str
    session: aiohttp.ClientSession
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(method, f"{self.url}{path}", **options) as answer:
            json = answer.content_type == "application/json"
            return Answer(answer.status, answer.headers, await answer.json() if json else await answer.read())

    async def post(self, path: str, key: str | None = WRITE_KEY, **options: Any) -> Answer:
        """Posts with the key as Segment's libraries send it."""
        given = {} if key is None else basic(key)
        return await self.ask("POST", path, headers=given | options.pop("headers", {}), **options)

    async def ready(self) -> None:
        async def look() -> None:
            while (await self.ask("GET", "/readyz")).status != 200:
                await asyncio.sleep(0.05)

        await asyncio.wait_for(look(), TIMEOUT_S)

    async def arrived(self, role: str, count: int) -> list[Arrived]:
        """The first `count` messages of a topic, partition by partition; those behind them, if they are there."""
        topic = self.settings.topics(role)
        places = [TopicPartition(topic, number) for number in range(topics.SOURCE_PARTITIONS)]
        found: list[Arrived] = []

        async def read() -> None:
            while len(found) < count:
                for records in (await kafka.getmany(timeout_ms=200)).values():
                    found.extend(_arrived(record) for record in records)

        async with AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka, enable_auto_commit=False, fetch_max_wait_ms=5
        ) as kafka:
            kafka.assign(places)
            await kafka.seek_to_beginning(*places)
            await asyncio.wait_for(read(), TIMEOUT_S)
        return found


def _arrived(record: Any) -> Arrived:
    headers = {name: value.decode() for name, value in record.headers}
    key = record.key.decode() if record.key else None
    sender = headers.get("sender", "")
    return Arrived(record.topic, record.partition, key, headers["format"], sender, record.value)


def basic(key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}


@pytest.fixture
def settings(kafka: str, topic_prefix: str) -> Settings:
    return settings_for(kafka, topic_prefix, idempotence=bool(os.environ.get("ISOTHERM_TEST_KAFKA")))


def settings_for(kafka: str, prefix: str, idempotence: bool = False) -> Settings:
    return Settings(
        kafka=kafka,
        partitions=1,
        topic_prefix=prefix,
        idempotence=idempotence,
        collector_port=0,
        collector_url="https://collect.example/isotherm/",
        collector_origins="https://www.acme.example",
        write_keys=SecretStr(f"website:{WRITE_KEY},app:another-write-key"),
        record_keys=SecretStr(f"erp:{RECORD_KEY}"),
        hubspot_client_secret=SecretStr(SECRET),
    )


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
async def starting(settings: Settings, limits: Limits) -> AsyncIterator[Running]:
    """A collector that listens; whether Kafka answers is not said."""
    listener = listening(settings.collector_host, settings.collector_port)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    connections = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connections) as session:
        running = Running(settings, url, session)
        serving = asyncio.create_task(serve(made(settings, limits), listener, running.stop))
        try:
            yield running
        finally:
            running.stop.set()
            await session.close()
            await asyncio.wait_for(serving, TIMEOUT_S)


@pytest.fixture
async def collector(settings: Settings, starting: Running) -> Running:
    await topics.create(settings)
    await starting.ready()
    return starting
