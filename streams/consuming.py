"""A consumer as both hot loops want it: positions are ours, Kafka's group only spreads the partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError, KafkaTimeoutError, NoOffsetForPartitionError, OffsetOutOfRangeError

from streams.connecting import kafka_options
from streams.outage import wait_out
from streams.settings import Settings

log = structlog.get_logger()
SHOW_LAG_EVERY_S = 5.0
LOOK_AGAIN_S = 1.0
FETCH_BYTES = 4 * 1024 * 1024
ANSWER_WITHIN_S = 5.0
METADATA_MS = 10_000  # a topic that was deleted and made anew is seen as soon


def consumer(settings: Settings, group: str, fetch_bytes: int = FETCH_BYTES) -> Any:
    """Not yet started, nor subscribed. It never commits by itself and never jumps to another offset."""
    return AIOKafkaConsumer(
        **kafka_options(settings),
        group_id=settings.group(group),
        group_instance_id=f"{settings.instance}.{group}" if settings.instance else None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        partition_assignment_strategy=[RangePartitionAssignor],
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=settings.session_timeout_ms // 3,
        fetch_max_wait_ms=settings.fetch_max_wait_ms,
        max_partition_fetch_bytes=fetch_bytes,
        metadata_max_age_ms=METADATA_MS,
    )


async def started(settings: Settings, group: str, stopped: Callable[[], bool]) -> Any:
    """A consumer that has reached the broker; None if `stopped()` says so first."""

    async def start() -> Any:
        made = consumer(settings, group)
        try:
            await made.start()
        except BaseException:
            await made.stop()
            raise
        return made

    return await wait_out("Kafka", start, stopped)


def set_aside(consumer: Any, place: TopicPartition) -> None:
    """Nothing is read there until somebody seeks and resumes.

    Paused is not enough: for a partition without a place aiokafka asks where it begins, over and over, and fetches
    nothing else from that broker meanwhile.
    """
    consumer.seek(place, 0)
    consumer.pause(place)


async def first_offset(consumer: Any, settings: Settings, place: TopicPartition) -> int:
    """The offset of the first message that the broker has, or of the next one."""
    return await _ask(consumer, settings, "beginning_offsets", place)


async def end_offset(consumer: Any, settings: Settings, place: TopicPartition) -> int:
    """The offset of the next message. The embedded broker may say less."""
    return await _ask(consumer, settings, "end_offsets", place)


async def _ask(consumer: Any, settings: Settings, question: str, place: TopicPartition) -> int:
    """Raises KafkaError or TimeoutError when the broker is away."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            found = await getattr(consumer, question)([place])
    except (TimeoutError, KafkaTimeoutError):
        # After an outage a client may wait for minutes on connections that are gone: a new one has an answer.
        async with asyncio.timeout(ANSWER_WITHIN_S), AIOKafkaConsumer(**kafka_options(settings)) as fresh:
            found = await getattr(fresh, question)([place])
    return int(found[place])


async def fetch(
    consumer: Any,
    settings: Settings,
    out_of_range: Callable[[Iterable[TopicPartition]], Awaitable[None]] | None = None,
) -> dict[TopicPartition, list[Any]]:
    """What has arrived, by partition; empty when nothing has for a while, or the broker is away.

    `out_of_range` is told of partitions that have no message where they are read.
    """
    try:
        batches: dict[TopicPartition, list[Any]] = await consumer.getmany(
            timeout_ms=200, max_records=4 * settings.batch
        )
    except NoOffsetForPartitionError:
        return {}  # asked before the new owner said where to read on
    except KafkaError as error:
        log.warning("fetch failed", why=f"{type(error).__name__}: {error}")
        if out_of_range is not None and isinstance(error, OffsetOutOfRangeError):
            await out_of_range(error.args[0])
        else:
            await asyncio.sleep(LOOK_AGAIN_S)
        return {}
    return batches


async def show_lag(consumer: Any, positions: Mapping[TopicPartition, int]) -> None:
    """Commits offsets to Kafka for people who watch the lag; nothing reads them back."""
    assigned = consumer.assignment()
    offsets = {tp: offset for tp, offset in positions.items() if tp in assigned}
    try:
        if offsets:
            await consumer.commit(offsets)
    except KafkaError as error:
        log.info("offsets not shown", why=f"{type(error).__name__}: {error}")
