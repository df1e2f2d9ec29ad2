"""A topic read from its beginning up to where it ends now."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaTimeoutError

from streams.connecting import kafka_options
from streams.settings import Settings
from streams.topics import TopicsError

SILENCE_S = 30.0  # of the broker, while there is more to read


async def up_to_its_end(
    settings: Settings, role: str, since: Mapping[int, int] | None = None, only: int | None = None
) -> AsyncGenerator[Any, None]:
    """All messages that the topic has now, in order per partition; of the partitions in `since` those from that
    offset on; `only` of one partition.

    Raises TopicsError when there is no such topic, KafkaError when the broker is away.
    """
    places = [each for each in await places_of(settings, role) if only in (None, each.partition)]
    consumer = AIOKafkaConsumer(
        **kafka_options(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=settings.fetch_max_wait_ms,
    )
    await consumer.start()
    try:
        consumer.assign(places)
        since = since or {}
        if starts := [(place, since[place.partition]) for place in places if place.partition in since]:
            firsts = await consumer.beginning_offsets([place for place, _ in starts])
            for place, start in starts:
                consumer.seek(place, max(start, firsts[place]))
        ends: dict[TopicPartition, int] = {}
        heard = time.monotonic()
        while not await _at_end(consumer, places, ends):
            batches = await consumer.getmany(timeout_ms=100)
            for place in places:
                # The end that comes with what is fetched; the embedded broker answers wrongly when asked for it.
                if place not in ends and (end := consumer.highwater(place)) is not None:
                    ends[place] = end
                    heard = time.monotonic()
            for place, messages in batches.items():
                heard = time.monotonic()
                for message in messages:
                    if message.offset < ends[place]:
                        yield message
            if time.monotonic() - heard > SILENCE_S:
                raise KafkaTimeoutError(f"{settings.topics(role)} could not be read to its end")
    finally:
        await consumer.stop()


async def ends_of(settings: Settings, role: str) -> dict[int, int]:
    """Where each partition ends now, or a little before: the embedded broker says less for a moment."""
    places = await places_of(settings, role)
    consumer = AIOKafkaConsumer(**kafka_options(settings), enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(places)
        return {place.partition: end for place, end in (await consumer.end_offsets(places)).items()}
    finally:
        await consumer.stop()


async def _at_end(consumer: Any, places: Iterable[TopicPartition], ends: dict[TopicPartition, int]) -> bool:
    """By position, not by the last message: compaction and transactions leave gaps."""
    for place in places:
        if place not in ends or await consumer.position(place) < ends[place]:
            return False
    return True


async def places_of(settings: Settings, role: str) -> list[TopicPartition]:
    topic = settings.topics(role)
    admin = AIOKafkaAdminClient(**kafka_options(settings))
    await admin.start()
    try:
        # Listed first: the embedded broker creates a topic that somebody asks about by name.
        if topic not in await admin.list_topics():
            raise TopicsError(f"no topic {topic}: create the topics with `isotherm topics`")
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    return [TopicPartition(topic, each["partition"]) for each in described["partitions"]]
