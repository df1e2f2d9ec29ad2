"""From the outbox to the topics: publish what is committed, trim what is published.

A crash between the two publishes again, the same bytes under the same id. What waits is bounded: the fold stops
taking batches while the output broker is away and the outbox grows.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from mode import Service

from streams.clock import RedisClock
from streams.outage import wait_out
from streams.producer import Producer
from streams.store.base import Store

log = structlog.get_logger()
WAITING_AT_MOST = 50_000  # messages committed and not yet published
ENTRIES = 64


class Publisher(Service):
    def __init__(self, store: Store, producer: Producer, clock: RedisClock, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._store, self._producer, self._clock = store, producer, clock
        self._dirty: dict[int, int] = {}  # partition -> messages waiting, as far as we know
        self._ours: set[int] = set()
        self._told: dict[int, tuple[int, int]] = {}  # partition -> the last entry that we published
        self._wanted = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.published = 0

    def committed(self, partition: int, messages: int) -> None:
        """The fold committed `messages` to the outbox of `partition` (0: look for what is left from before)."""
        self._ours.add(partition)
        self._dirty[partition] = self._dirty.get(partition, 0) + messages
        if sum(self._dirty.values()) > WAITING_AT_MOST:
            self._room.clear()
        self._wanted.set()

    def lost(self, partition: int) -> None:
        """Somebody else publishes it from now on."""
        self._ours.discard(partition)
        self._dirty.pop(partition, None)

    async def room(self) -> None:
        """Returns when little enough is waiting."""
        await self._room.wait()

    @Service.task
    async def _publish(self) -> None:
        while not self.should_stop:
            await self._wanted.wait()
            await self.publish_waiting()

    async def publish_waiting(self) -> None:
        """Publishes what waits in the partitions where something was committed."""
        self._wanted.clear()
        dirty, self._dirty = self._dirty, {}
        await asyncio.gather(*(self._drain(partition) for partition in dirty))
        if sum(self._dirty.values()) <= WAITING_AT_MOST:
            self._room.set()

    async def _drain(self, partition: int) -> None:
        def stopped() -> bool:
            return bool(self.should_stop) or partition not in self._ours

        while not stopped():
            if not await wait_out("publishing", lambda: self._once(partition), stopped):
                break

    async def _once(self, partition: int) -> int:
        """Publishes the oldest entries of a partition; how many there were.

        What we have published ourselves is not told again when a Redis that has gone back has it once more: who
        takes the partition over reads at the end of the topic how far it was told.
        """
        entries = await self._store.outbox(partition, ENTRIES)
        if entries:
            await self._store.safe(partition)
            told = self._told.get(partition, (-1, -1))
            messages = [message for entry in entries if order(entry.id) > told for message in entry.messages]
            await self._producer.send(messages, self._clock.now(), partition)
            self._told[partition] = max(told, order(entries[-1].id))
            await self._store.trim(partition, entries[-1].id)
            self.published += len(messages)
        return len(entries)

    async def on_stop(self) -> None:
        self._wanted.set()
        self._room.set()


def order(id: str) -> tuple[int, int]:
    """Entries in the order of the log, by what they are called."""
    offset, _, n = id.partition("-")
    return int(offset), int(n)
