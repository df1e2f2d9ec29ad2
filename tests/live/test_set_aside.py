"""A partition that is not read keeps no other waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams import topics
from streams.connecting import kafka_options
from streams.consuming import set_aside
from streams.settings import Settings
from tests.live.conftest import TIMEOUT_S


@pytest.mark.kafka
async def test_nothing_waits_for_a_partition_that_is_set_aside(settings: Settings) -> None:
    """Where to begin there nobody has said. aiokafka would ask the group, which does not know either, again and
    again, and fetch nothing else from that broker meanwhile."""
    await topics.create(settings)
    topic = settings.topics(topics.ACCOUNT_LOG)
    read, aside = TopicPartition(topic, 0), TopicPartition(topic, 1)
    consumer: Any = AIOKafkaConsumer(
        **kafka_options(settings),
        group_id=settings.group("aside"),
        auto_offset_reset="none",
        enable_auto_commit=False,
    )
    async with consumer, AIOKafkaProducer(bootstrap_servers=settings.kafka, linger_ms=0) as producer:
        consumer.assign([read, aside])
        consumer.seek(read, 0)
        set_aside(consumer, aside)
        async with asyncio.timeout(TIMEOUT_S):
            for n in range(20):
                await producer.send_and_wait(topic, b"%d" % n, partition=0)
                await producer.send_and_wait(topic, b"unread", partition=1)
                got = await consumer.getone()
                assert (got.partition, got.value) == (0, b"%d" % n)
