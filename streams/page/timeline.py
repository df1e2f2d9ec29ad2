"""What happened at an account lately: read from Kafka, the end of its partition and what rules count of before.

A partition holds many accounts, and nobody reads all of it for a page: the newest TAIL messages are looked
through, and older activities are fetched one by one by the positions that the account's state names as evidence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from rules.records import Activity, decode_record
from streams.connecting import kafka_options
from streams.outage import AWAY
from streams.page.views.account import Happened, leaves, timeline
from streams.page.views.now import News, news
from streams.producer import partition_of
from streams.settings import Settings
from streams.topics import ACCOUNT_LOG, CHANGES

log = structlog.get_logger()
TAIL, ONE_BY_ONE, SHOWN = 3_000, 12, 40
WITHIN_S, AT_ONCE = 8.0, 3
FETCH_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Story:
    """The newest of what happened. `why_not`: what could not be read."""

    happened: list[Happened]
    why_not: str = ""


@dataclass(slots=True)
class Timeline:
    settings: Settings
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def of(self, account: str, evidence: Iterable[int]) -> Story:
        """`evidence`: offsets of activities that rules count for this account."""
        records: list[Any] = []
        changes: list[News] = []
        problems = []
        async with self._turn, self._reading() as consumer:
            if consumer is None:
                return Story([], "Kafka cannot be reached")
            for what, read in (
                ("account.log", self._records(consumer, account, set(evidence), records)),
                ("segment.changes", self._changes(consumer, account, changes)),
            ):
                try:
                    async with asyncio.timeout(WITHIN_S):
                        await read
                except (*AWAY, TimeoutError) as error:
                    log.info("timeline not read", what=what, why=f"{type(error).__name__}: {error}")
                    problems.append(f"{what} could not be read from here")
        return Story(timeline(records, changes, SHOWN), "; ".join(problems))

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Any]:
        consumer = AIOKafkaConsumer(
            **kafka_options(self.settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=self.settings.fetch_max_wait_ms,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        try:
            await consumer.start()
        except AWAY as error:
            log.info("timeline not read", why=f"{type(error).__name__}: {error}")
            await consumer.stop()
            yield None
            return
        try:
            yield consumer
        finally:
            await consumer.stop()

    async def _records(self, consumer: Any, account: str, evidence: set[int], found: list[Any]) -> None:
        place = self._place(ACCOUNT_LOG, account)
        needle = msgspec.json.encode(account)
        async for message in _tail(consumer, place):
            evidence.discard(message.offset)
            if needle in (message.value or b""):
                found += _activities(message.value, account)
        for offset in sorted(evidence, reverse=True)[:ONE_BY_ONE]:
            consumer.seek(place, offset)
            got = await consumer.getmany(place, timeout_ms=2_000, max_records=1)
            for message in got.get(place, ()):
                if message.offset == offset:
                    found += _activities(message.value, account)

    async def _changes(self, consumer: Any, account: str, found: list[News]) -> None:
        key = account.encode()
        seen: set[str] = set()
        async for message in _tail(consumer, self._place(CHANGES, account)):
            if message.key == key and message.value is not None:
                told = news(msgspec.json.decode(message.value))
                if told.id not in seen:  # what the publisher published twice
                    seen.add(told.id)
                    found.append(told)

    def _place(self, role: str, account: str) -> TopicPartition:
        return TopicPartition(self.settings.topics(role), partition_of(account, self.settings.partitions))


async def _tail(consumer: Any, place: TopicPartition) -> AsyncIterator[Any]:
    """The newest messages of a partition, the oldest first, up to where it ends now."""
    consumer.assign([place])
    first = (await consumer.beginning_offsets([place]))[place]
    end = (await consumer.end_offsets([place]))[place]
    start = max(first, end - TAIL)
    consumer.seek(place, start)
    while await consumer.position(place) < end:
        for message in (await consumer.getmany(place, timeout_ms=200)).get(place, ()):
            yield message


def _activities(value: bytes | None, account: str) -> Iterator[Activity]:
    record = decode_record(value or b"")
    if isinstance(record, Activity) and record.account == account:
        yield record


def evidence_of(told: Mapping[str, Any]) -> set[int]:
    """The log offsets of all activities that an explanation names."""
    return {
        each["offset"]
        for dimension in told["dimensions"].values()
        for reason in ([dimension["reason"]] if "because" in dimension["reason"] else dimension["reason"].values())
        for leaf in leaves(reason["because"])
        for each in leaf.get("evidence", ())
    }
