"""What lets a partition, or an account, go on that stopped until somebody has looked at it."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

from rules.records import Release, encode_record
from streams.clock import RedisClock
from streams.connecting import kafka_options
from streams.producer import Producer, partition_of
from streams.reading import Reader
from streams.settings import Settings
from streams.store.base import Outbound
from streams.store.redis import RedisStore, connect
from streams.store.sources import SourceStore
from streams.topics import ACCOUNT_LOG


async def resume_source(topic: str, partition: int, settings: Settings) -> bool:
    """Whether the source partition was paused."""
    redis = connect(settings)
    try:
        return await SourceStore(redis, settings.namespace).resume(settings.topics(topic), partition)
    finally:
        await redis.aclose()


async def pass_gap_over(partition: int, settings: Settings, accept: bool) -> tuple[int, int] | None:
    """Offsets that are to be folded and that the log has no more: the first, and the one behind the last.

    With `accept` the owner goes on behind them, within a second or two.
    """
    redis = connect(settings)
    try:
        store = RedisStore(redis, settings.partitions, settings.namespace)
        ((_, first),) = await store.owners([partition])
        place = TopicPartition(settings.topics(ACCOUNT_LOG), partition)
        async with AIOKafkaConsumer(**kafka_options(settings)) as consumer:
            behind = (await consumer.beginning_offsets([place]))[place]
        if behind <= first:
            return None
        if accept:
            await store.accept_gap(partition, first, behind)
        return first, behind
    finally:
        await redis.aclose()


async def end_quarantine(account: str, settings: Settings) -> str:
    """Says in the log that the account is to be folded again; its id, or "" if it is not in quarantine."""
    redis, producer = connect(settings), Producer(settings)
    try:
        found = await Reader(redis, settings).account(account)
        if found is None or found.state.quarantined < 0:
            return ""
        clock = RedisClock(redis)
        await clock.sync()
        record = Release(account=found.account, received=clock.now())
        await producer.start()
        number = partition_of(found.account, settings.partitions)
        await producer.send([Outbound(ACCOUNT_LOG, found.account, encode_record(record))], clock.now(), number)
        return found.account
    finally:
        await producer.stop()
        await redis.aclose()
