"""What a real fold writes and publishes, step by step; and a subscriber with a copy of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from streams import topics
from streams.producer import Producer
from streams.settings import Settings
from streams.store.redis import RedisStore
from tests.subscribing.world import PARTITIONS, World


@pytest.fixture
def settings(settings_of: Callable[..., Settings]) -> Settings:
    return settings_of(partitions=PARTITIONS)


@pytest.fixture
async def world(settings: Settings, redis: Any) -> AsyncIterator[World]:
    await topics.create(settings)
    producer = Producer(settings)
    await producer.start()
    made = World(settings, redis, RedisStore(redis, PARTITIONS, settings.namespace), producer)
    await made.begin()
    yield made
    await producer.stop()
