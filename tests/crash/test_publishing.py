"""Partitions are published side by side, and nothing is told of one that went elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rules.fold import Partition
from streams.publisher import Publisher
from streams.store.base import Commit, Outbound
from streams.store.memory import MemoryStore

WITHIN_S = 30


class Topic:
    """A producer that has taken what it was sent once it is let go on; partition 0 is held up at first."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.taken: asyncio.Queue[str] = asyncio.Queue()
        self.held_up = asyncio.Event()

    async def send(self, messages: list[Outbound], at: int, partition: int | None = None) -> list[Any]:
        if partition == 0:
            self.held_up.set()
            await self.goes_on.wait()
        for each in messages:
            self.taken.put_nowait(each.key)
        return []


class Clock:
    def now(self) -> int:
        return 0


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def publisher(store: MemoryStore, topic: Topic) -> AsyncIterator[Publisher]:
    given: Any = (store, topic, Clock())
    made = Publisher(*given)
    await made.start()
    yield made
    topic.goes_on.set()
    await made.stop()


async def committed(store: MemoryStore, number: int) -> str:
    """Something of this partition waits to be told; the owner's token."""
    acquired = await store.acquire(number)
    at = acquired.partition.offset
    outbox = (Outbound("segment.changes", f"account of {number}", b"{}"),)
    await store.commit(Commit(acquired.token, at, f"{at}", Partition(number, offset=at + 1), outbox=outbox))
    return acquired.token


async def test_one_that_is_held_up_keeps_no_other_waiting(
    store: MemoryStore, topic: Topic, publisher: Publisher
) -> None:
    publisher.committed(0, 1, await committed(store, 0))
    await asyncio.wait_for(topic.held_up.wait(), WITHIN_S)
    publisher.committed(1, 1, await committed(store, 1))
    assert await asyncio.wait_for(topic.taken.get(), WITHIN_S) == "account of 1"
    topic.goes_on.set()
    assert await asyncio.wait_for(topic.taken.get(), WITHIN_S) == "account of 0"


async def test_what_somebody_else_owns_by_now_is_not_told(
    store: MemoryStore, topic: Topic, publisher: Publisher
) -> None:
    token = await committed(store, 1)
    await store.acquire(1)
    publisher.committed(1, 1, token)
    publisher.committed(2, 1, await committed(store, 2))
    assert await asyncio.wait_for(topic.taken.get(), WITHIN_S) == "account of 2"
    await asyncio.wait_for(publisher.ended([1], WITHIN_S), WITHIN_S)
    assert topic.taken.empty()
    assert len(await store.outbox(1, 9)) == 1
