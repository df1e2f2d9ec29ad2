"""What the commands that look, and change nothing, ask of Redis and Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, TopicPartition

from rules.explain import explanation
from streams.clock import RedisClock
from streams.connecting import kafka_options
from streams.reading import Reader
from streams.settings import Settings
from streams.store.redis import connect
from streams.topics import CHANGES


async def explain_account(account: str, settings: Settings) -> dict[str, Any] | None:
    """Where the account stands now, by Redis' time; None if it is not known."""
    redis = connect(settings)
    try:
        clock = RedisClock(redis)
        await clock.sync()
        found = await Reader(redis, settings).account(account)
    finally:
        await redis.aclose()
    if found is None:
        return None
    # Between two records time has passed that no record has told the fold of yet; its next wake bounds it.
    now = max(found.log_time, min(clock.now(), found.state.wake - 1))
    return explanation(found.account, found.state, found.ruleset, now)


async def follow_changes(settings: Settings, since: Literal["now", "beginning"]) -> AsyncIterator[bytes]:
    """Every change as its CloudEvent's bytes, in order per account, without joining a group."""
    topic = settings.topics(CHANGES)
    consumer = AIOKafkaConsumer(
        **kafka_options(settings), fetch_max_wait_ms=settings.fetch_max_wait_ms, enable_auto_commit=False
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, p) for p in range(settings.partitions)]
        consumer.assign(partitions)
        if since == "beginning":
            await consumer.seek_to_beginning(*partitions)
        else:
            await consumer.seek_to_end(*partitions)
        async for message in consumer:
            if message.value is not None:
                yield message.value
    finally:
        await consumer.stop()
