"""Fills the ledger from what anybody may read: the log, the changes, the dead letters, and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from rules.records import Tick, decode_record
from streams import keys
from streams.connecting import kafka_options
from streams.demo.ledger import ENGAGEMENT, HOT, Change, Hot, Ledger, first_things_first
from streams.demo.traffic import Clock
from streams.keys import PartitionKeys
from streams.reading import Found, Reader
from streams.settings import Settings
from streams.store.base import unpack_partition
from streams.store.redis import connect
from streams.topics import ACCOUNT_LOG, CHANGES, DEAD_LETTERS, SOURCE_PARTITIONS, SOURCES

LOOK_EVERY_S = 1.0
QUIET_S = 0.25
HOTTEST = 24
ABOUT = ("size", "region")  # dimensions that introduce a hot account

_decode = msgspec.json.Decoder().decode


class Watch:
    """`follow` reads the topics, `look` asks Redis; both write into the ledger."""

    def __init__(self, settings: Settings, redis: Any, consumer: Any, ledger: Ledger, clock: Clock) -> None:
        self._settings, self._redis, self._consumer = settings, redis, consumer
        self._ledger, self._clock = ledger, clock
        self._reader = Reader(redis, settings)
        self._keys = [
            PartitionKeys.of(p, settings.partitions, settings.namespace) for p in range(settings.partitions)
        ]
        self._take: dict[str, Callable[[Any, int], None]] = {
            settings.topics(ACCOUNT_LOG): self._log,
            settings.topics(CHANGES): self._change,
            settings.topics(DEAD_LETTERS): self._letter,
        }

    # -- topics ---------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Reads the three topics from their beginning, for ever."""
        settings = self._settings
        counts = dict.fromkeys(self._take, settings.partitions) | {
            settings.topics(DEAD_LETTERS): SOURCE_PARTITIONS
        }
        partitions = [TopicPartition(topic, p) for topic, count in counts.items() for p in range(count)]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_beginning(*partitions)
        while True:
            batches = await self._consumer.getmany(timeout_ms=200)
            now = self._clock()
            for tp, messages in batches.items():
                for message in messages:
                    self._take[tp.topic](message, now)

    def _log(self, message: Any, now: int) -> None:
        record = decode_record(message.value)
        if isinstance(record, Tick):
            self._ledger.ticks += 1
        elif record.via is not None and not self._ledger.loading:
            topic, _, partition = record.via[0].rpartition("/")
            place = (self._settings.topics(topic), int(partition), record.via[1])
            self._ledger.latency.logged((message.partition, message.offset), place)

    def _change(self, message: Any, now: int) -> None:
        self._ledger.read_change(Change(_decode(message.value), now))

    def _letter(self, message: Any, now: int) -> None:
        self._ledger.letters[dict(message.headers).get("reason", b"unknown").decode()] += 1

    # -- Redis ----------------------------------------------------------------------------------------------

    async def look(self) -> None:
        while True:
            await self.look_once()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look_once(self) -> None:
        ledger = self._ledger
        ledger.counts = first_things_first(await self._reader.counts())
        ledger.hottest = await self._hottest()
        ledger.folded = await self.folded()
        ledger.latency.join()

    async def routed(self) -> int:
        """Messages of the source topics whose account is decided."""
        topics = [self._settings.topics(role) for role in SOURCES]
        async with self._redis.pipeline(transaction=False) as pipe:
            for topic in topics:
                for p in range(SOURCE_PARTITIONS):
                    pipe.hget(keys.source(topic, p, self._settings.namespace), "next")
            return sum(int(following or 0) for following in await pipe.execute())

    async def folded(self) -> int:
        """Records of the log that are folded."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for its in self._keys:
                pipe.hget(its.meta, "partition")
            return sum(unpack_partition(held).offset for held in await pipe.execute() if held)

    async def is_settled(self) -> bool:
        """All that was read of the log is folded, its changes are published, and nothing more comes for a moment.

        The moment matters: a message counts as routed shortly before its records stand in the log.
        """
        before = await self._positions()
        await asyncio.sleep(QUIET_S)
        log = self._settings.topics(ACCOUNT_LOG)
        if await self.folded() < sum(offset for tp, offset in before.items() if tp.topic == log):
            return False
        async with self._redis.pipeline(transaction=False) as pipe:
            for its in self._keys:
                pipe.xlen(its.outbox)
            waiting = any(await pipe.execute())
        return not waiting and await self._positions() == before

    async def _positions(self) -> dict[TopicPartition, int]:
        return {tp: await self._consumer.position(tp) for tp in self._consumer.assignment()}

    async def _hottest(self) -> list[Hot]:
        hot = set(await self._reader.members(ENGAGEMENT, HOT))
        async with self._redis.pipeline(transaction=False) as pipe:
            for its in self._keys:
                pipe.zrange(its.wakes, 0, HOTTEST, withscores=True)
            soonest = sorted((wake, account.decode()) for due in await pipe.execute() for account, wake in due)
        found = await self._reader.accounts([account for _, account in soonest if account in hot][:HOTTEST])
        return sorted(filter(None, map(_hot, found)), key=lambda each: each.until)


def _hot(found: Found) -> Hot | None:
    state, dimension = found.state, found.ruleset.dimension(ENGAGEMENT)
    standing = state.standings.get(ENGAGEMENT)
    if dimension is None or standing is None or HOT not in standing.answer:
        return None
    name = state.facts.get("name")
    about = [answer for each in ABOUT if each in state.standings for answer in state.standings[each].answer]
    return Hot(
        str(name.value) if name else found.account,
        found.ruleset.stays_until(dimension, state),
        " · ".join(about),
    )


@asynccontextmanager
async def watching(settings: Settings, ledger: Ledger, clock: Clock) -> AsyncIterator[Watch]:
    redis = connect(settings)
    consumer = AIOKafkaConsumer(
        **kafka_options(settings),
        enable_auto_commit=False,
        fetch_max_wait_ms=settings.fetch_max_wait_ms,
    )
    try:
        await consumer.start()
        yield Watch(settings, redis, consumer, ledger, clock)
    finally:
        await consumer.stop()
        await redis.aclose()
