"""Redis loses what it was told, a little or all of it, while a worker runs: subscribers end with what is true."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from streams import topics
from streams.embedded import Valkey
from streams.playback import up_to_its_end
from streams.settings import Settings
from tests.conftest import running
from tests.live.conftest import Changes, Worker, isotherm
from tests.live.test_end_to_end import moved, page
from tests.live.test_outages import said


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with running(Valkey(tmp_path / "valkey")) as server:
        yield server


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    return valkey.url


async def test_redis_is_emptied(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes, redis: Redis
) -> None:
    """Everything is folded once more from the log; nothing is told twice, then all tell where they stand."""
    isotherm(settings, "deploy")
    web, now = settings.topics(topics.WEB_ACTIVITY), int(time.time() * 1000)
    for n in range(3):
        await producer.send_and_wait(web, page(n, now + n), key=b"u")
    hot = await changes.until(moved("warm", "hot"))
    before = [event["id"] for event in changes.seen]

    await redis.flushall()
    facts = {"kind": "facts", "at": now, "crm": "salesforce:2", "set": {"employees": 40}}
    await producer.send_and_wait(settings.topics(topics.CRM_UPDATES), json.dumps(facts).encode())

    told = await changes.until(lambda event: event["data"]["cause"] == "rebuild")
    assert (told["subject"], told["data"]["origin"]) == (hot["subject"], "rebuild")
    assert told["data"]["memberships"]["engagement"]["answer"] == "hot"
    assert told["data"]["position"]["epoch"] == hot["data"]["position"]["epoch"] + 1
    assert await said(worker, "Redis has gone back")
    await changes.until(lambda event: event["subject"] == "salesforce:2")
    assert changes.contradictions() == []
    ids = [event["id"] for event in await everything(settings)]
    assert len(ids) == len(set(ids))
    assert set(before) <= set(ids)


async def everything(settings: Settings) -> list[dict[str, Any]]:
    return [json.loads(message.value) async for message in up_to_its_end(settings, topics.CHANGES)]
