"""Producing in batches, the partition of every message chosen by us."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.connecting import kafka_options
from streams.settings import Settings
from streams.store.base import Outbound
from streams.topics import ACCOUNT_LOG, CHANGES, LARGEST_MESSAGE, LIKE_THE_LOG

log = structlog.get_logger()
BATCH_BYTES = 512 * 1024
RENEWED_WITHIN_S = 10.0
# A structured CloudEvent says so, in CloudEvents' binding to Kafka.
STRUCTURED = ("content-type", b"application/cloudevents+json; charset=UTF-8")


@lru_cache(200_000)
def partition_of(key: str, partitions: int) -> int:
    """Kafka's own partitioner: `murmur2` of the key's bytes. The router alone chooses with it."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """As Kafka hashes a key. aiokafka's, of the same answers, reads byte by byte and takes twice as long."""
    hashed, words = 0x9747B28C ^ len(data), len(data) // 4
    for word in struct.unpack_from(f"<{words}I", data):
        mixed = word * _MIX & _32_BITS
        hashed = (hashed * _MIX ^ (mixed ^ mixed >> 24) * _MIX) & _32_BITS
    if rest := data[4 * words :]:
        hashed = (hashed ^ int.from_bytes(rest, "little")) * _MIX & _32_BITS
    hashed = (hashed ^ hashed >> 13) * _MIX & _32_BITS
    return hashed ^ hashed >> 15


_MIX, _32_BITS = 0x5BD1E995, 0xFFFFFFFF


class Producer:
    """Sends lists of messages and returns when the broker has all of them.

    An idempotent client numbers its batches, and a broker that has not got one takes none that follows it.
    aiokafka never goes back to a number that it gave up (its issue 1017): after a failure we go on with another
    client.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._changes = settings, settings.topics(CHANGES)
        self._turn = itertools.count()
        self._kafka: Any = None
        self._renewing = asyncio.Lock()
        self._left: set[asyncio.Task[None]] = set()  # earlier clients, which end what they have begun

    async def start(self) -> None:
        self._kafka = self._client()
        await self._kafka.start()

    def _client(self) -> Any:
        settings = self._settings
        return AIOKafkaProducer(
            **kafka_options(settings),
            acks="all",
            enable_idempotence=settings.idempotence,
            max_batch_size=BATCH_BYTES,
            max_request_size=2 * LARGEST_MESSAGE,
            request_timeout_ms=30_000,
            retry_backoff_ms=100,
            metadata_max_age_ms=60_000,
        )

    async def stop(self) -> None:
        if self._kafka is not None:
            await self._kafka.stop()
        await asyncio.gather(*self._left, return_exceptions=True)

    async def send(self, messages: Iterable[Outbound], at: int, partition: int | None = None) -> list[Any]:
        """Sends `messages` in order per partition, with `at` (UTC ms) as their Kafka timestamp.

        `partition` is that of the log where it is known; else the key decides. Gives the broker's answers,
        one for each Kafka batch. Raises the broker's error if any of them was not taken.
        """
        kafka = self._kafka
        try:
            return await self._send(kafka, messages, at, partition)
        except KafkaError:
            if self._settings.idempotence:
                await self._renew(kafka)
            raise

    async def _send(self, kafka: Any, messages: Iterable[Outbound], at: int, partition: int | None) -> list[Any]:
        left = [
            (place, self._batches(group, at, [STRUCTURED] if place[0] == self._changes else []))
            for place, group in (await self._grouped(messages, partition)).items()
        ]
        answers: list[Any] = []
        while left:
            # One batch a partition at a time: were the first given up and the next one taken, the fold would hold
            # what comes of the first later for something it has seen.
            waiting = [
                await kafka.send_batch(batches[0], topic, partition=number) for (topic, number), batches in left
            ]
            told = await asyncio.gather(*waiting, return_exceptions=True)  # all: none may land behind the next try
            for failed in (each for each in told if isinstance(each, BaseException)):
                raise failed
            answers += told
            left = [(place, batches[1:]) for place, batches in left if len(batches) > 1]
        return answers

    async def _renew(self, broken: Any) -> None:
        """Goes on with another client than `broken`, if one can be had now; else who fails next tries again."""
        async with self._renewing:
            if self._kafka is not broken:
                return
            fresh = self._client()
            try:
                async with asyncio.timeout(RENEWED_WITHIN_S):
                    await fresh.start()
            except (KafkaError, OSError, TimeoutError):
                await fresh.stop()
                return
            self._kafka = fresh
            log.info("a producer was replaced", why="a batch of it was given up")
            leaving = asyncio.create_task(broken.stop())
            self._left.add(leaving)
            leaving.add_done_callback(self._left.discard)

    async def _grouped(
        self, messages: Iterable[Outbound], partition: int | None
    ) -> dict[tuple[str, int], list[Outbound]]:
        groups: defaultdict[tuple[str, int], list[Outbound]] = defaultdict(list)
        topics, counts = self._settings.topics, dict[str, int]()
        for message in messages:
            role, key = message.topic, message.key
            if role in LIKE_THE_LOG:
                # What is for another account goes to that one's partition, whoever sends it.
                elsewhere = role == ACCOUNT_LOG and key
                if message.partition is not None:
                    number = message.partition
                elif partition is None or elsewhere:
                    number = partition_of(key, self._settings.partitions)
                else:
                    number = partition
            else:
                if (count := counts.get(role)) is None:
                    count = counts[role] = len(await self._kafka.partitions_for(topics(role)))
                number = partition_of(key, count) if key else next(self._turn) % count
            groups[role, number].append(message)
        return {(topics(role), number): group for (role, number), group in groups.items()}

    def _batches(self, group: list[Outbound], at: int, further: list[tuple[str, bytes]]) -> list[Any]:
        batches = []
        batch = self._kafka.create_batch()
        for message in group:
            key, headers = message.key.encode() if message.key else None, [*message.headers, *further]
            if batch.append(key=key, value=message.value, timestamp=at, headers=headers) is None:
                batch.close()
                batches.append(batch)
                batch = self._kafka.create_batch()
                batch.append(key=key, value=message.value, timestamp=at, headers=headers)
        batch.close()
        return [*batches, batch]
