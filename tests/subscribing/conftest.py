"""What a real fold writes and publishes, step by step; and a subscriber with a copy of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from streams import topics
from streams.producer import Producer
from streams.settings import Settings
from streams.store.redis import RedisStore
from tests.subscribing.world import PARTITIONS, World


@pytest.fixture
def settings(kafka: str, redis_url: str, topic_prefix: str) -> Settings:
    embedded = not os.environ.get("ISOTHERM_TEST_KAFKA")
    return Settings(
        kafka=kafka,
        redis=redis_url,
        partitions=PARTITIONS,
        topic_prefix=topic_prefix,
        namespace=topic_prefix.rstrip("."),
        idempotence=not embedded,
        fetch_max_wait_ms=5 if embedded else 20,
        session_timeout_ms=1000 if embedded else 6000,
    )


@pytest.fixture
async def world(settings: Settings, redis: Any) -> AsyncIterator[World]:
    await topics.create(settings)
    producer = Producer(settings)
    await producer.start()
    made = World(settings, redis, RedisStore(redis, PARTITIONS, settings.namespace), producer)
    await made.begin()
    yield made
    await producer.stop()
