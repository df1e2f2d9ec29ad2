"""Kafka as lists, under those parts of aiokafka's clients that the fold, its producer and `told` use.

Honest about what matters: what was taken stays, in order, whether its sender hears of it or not; a consumer's
position is its own; who asks for an offset that is not there is told so; a log may be shortened at its beginning.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiokafka import TopicPartition
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError

# Told of each call before and after it has its effect; it may raise, or come back much later.
Gate: TypeAlias = Callable[[str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Message:
    offset: int
    value: bytes | None
    key: str = ""
    timestamp: int = 0  # of Kafka, UTC ms
    headers: tuple[tuple[str, bytes], ...] = ()


class Topics:
    """Every message that was ever taken, by topic and partition; `first` is where a shortened one begins."""

    def __init__(self) -> None:
        self._messages: defaultdict[TopicPartition, list[Message]] = defaultdict(list)
        self._first: defaultdict[TopicPartition, int] = defaultdict(int)

    def append(self, tp: TopicPartition, value: bytes | None, **told: Any) -> int:
        held = self._messages[tp]
        held.append(Message(len(held), value, **told))
        return len(held) - 1

    def of(self, tp: TopicPartition) -> list[Message]:
        return self._messages[tp]

    def named(self, topic: str) -> list[tuple[int, Message]]:
        """Of each partition after the other."""
        places = sorted(tp for tp in self._messages if tp.topic == topic)
        return [(tp.partition, each) for tp in places for each in self._messages[tp]]

    def first(self, tp: TopicPartition) -> int:
        return self._first[tp]

    def end(self, tp: TopicPartition) -> int:
        return len(self._messages[tp])

    def shorten(self, tp: TopicPartition, first: int) -> None:
        self._first[tp] = max(self._first[tp], min(first, self.end(tp)))


class Consumer:
    """As a member of the group sees the topics. Whoever simulates assigns, and says how much one fetch brings."""

    def __init__(self, topics: Topics, gate: Gate) -> None:
        self._topics, self._gate = topics, gate
        self._positions: dict[TopicPartition, int | None] = {}
        self._seen: dict[TopicPartition, int] = {}  # the end that the last fetch told
        self._paused: set[TopicPartition] = set()
        self.at_most = 1

    def assign(self, places: Iterable[TopicPartition]) -> None:
        self._positions = dict.fromkeys(places)
        self._paused.clear()
        self._seen.clear()

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._positions)

    def pause(self, tp: TopicPartition) -> None:
        self._paused.add(tp)

    def resume(self, tp: TopicPartition) -> None:
        self._paused.discard(tp)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        if tp in self._positions:
            self._positions[tp] = offset

    def highwater(self, tp: TopicPartition) -> int | None:
        return self._seen.get(tp)

    async def beginning_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await self._gate("begin", "before")
        return {tp: self._topics.first(tp) for tp in places}

    async def end_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await self._gate("end", "before")
        return {tp: self._topics.end(tp) for tp in places}

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Message]]:
        """From every partition that is not paused `at_most` messages."""
        await self._gate("fetch", "before")
        found = {}
        reading = {tp: at for tp, at in self._positions.items() if tp not in self._paused}
        for tp, at in reading.items():
            if at is None:
                raise NoOffsetForPartitionError(tp)
            self._seen[tp] = self._topics.end(tp)
            if not self._topics.first(tp) <= at <= self._topics.end(tp):
                raise OffsetOutOfRangeError({tp: at})
        for tp, at in reading.items():
            if messages := self._topics.of(tp)[at : at + min(self.at_most, max_records)]:
                found[tp] = messages
                self._positions[tp] = at + len(messages)
        await self._gate("fetch", "after")
        return found


class Reader:
    """A consumer of no group, as who wants to know something makes one for that."""

    def __init__(self, topics: Topics, **options: Any) -> None:
        self._topics = topics
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def __aenter__(self) -> Reader:
        return self

    async def __aexit__(self, *raised: object) -> None: ...

    def assign(self, places: Iterable[TopicPartition]) -> None:
        self._positions = {tp: self._topics.first(tp) for tp in places}
        self._paused.clear()

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset

    def pause(self, tp: TopicPartition) -> None:
        self._paused.add(tp)

    def highwater(self, tp: TopicPartition) -> int:
        return self._topics.end(tp)

    async def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    async def beginning_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self._topics.first(tp) for tp in places}

    async def end_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self._topics.end(tp) for tp in places}

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[Message]]:
        found = {}
        for tp, at in self._positions.items():
            if tp not in self._paused and (messages := self._topics.of(tp)[at:]):
                found[tp] = messages
                self._positions[tp] = at + len(messages)
        return found


@dataclass(slots=True)
class Batch:
    """As `create_batch` gives one; it is never full."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    def append(self, *, key: bytes | None, value: bytes | None, timestamp: int, headers: list[Any]) -> object:
        told = {"key": (key or b"").decode(), "timestamp": timestamp, "headers": tuple(headers)}
        self.messages.append({"value": value, **told})
        return self

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    topic: str
    offset: int


class KafkaProducer:
    """Takes batches whole. After the gate's word a batch is there, and yet its sender may never learn of it."""

    def __init__(self, topics: Topics, gate: Gate) -> None:
        self._topics, self._gate = topics, gate

    def create_batch(self) -> Batch:
        return Batch()

    async def partitions_for(self, topic: str) -> set[int]:
        return {0}

    async def send_batch(self, batch: Batch, topic: str, partition: int) -> asyncio.Future[Answer]:
        await self._gate("send", "before")
        tp = TopicPartition(topic, partition)
        first = self._topics.end(tp)
        for each in batch.messages:
            self._topics.append(tp, **each)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        await self._gate("send", "after")
        answer.set_result(Answer(topic, first))
        return answer
