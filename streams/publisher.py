"""From the outbox to the topics: publish what is committed, trim what is published.

A crash between the two publishes again, the same bytes under the same id. What waits is bounded: the fold stops
taking batches while the output broker is away and the outbox grows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any

import structlog
from mode import Service

from streams.clock import RedisClock
from streams.outage import wait_out
from streams.producer import Producer
from streams.store.base import Outbound, Store
from streams.topics import MEMBERSHIPS, Topics
from streams.words import Words

log = structlog.get_logger()
WAITING_AT_MOST = 50_000  # messages committed and not yet published
ENTRIES = 64


class Publisher(Service):
    """Publishes each partition for itself: one that has much to tell keeps no other waiting."""

    def __init__(
        self, store: Store, producer: Producer, clock: RedisClock, topics: Topics | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._store, self._producer, self._clock = store, producer, clock
        self._memberships = (topics or Topics())(MEMBERSHIPS)
        self.words = Words()
        self._waiting: dict[int, int] = {}  # messages committed and not published, of our partitions
        self._asked: set[int] = set()  # partitions in which there is something to look for
        self._tokens: dict[int, str] = {}
        self._draining: dict[int, asyncio.Task[None]] = {}
        self._told: dict[int, tuple[int, int]] = {}  # partition -> the last entry that we published
        self._failed: BaseException | None = None
        self._wanted = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.published = 0

    def committed(self, partition: int, messages: int, token: str) -> None:
        """The fold, which owns `partition` by `token`, committed `messages` to its outbox (0: look for what is
        left from before)."""
        self._tokens[partition] = token
        self._asked.add(partition)
        self._count(partition, messages)
        self._wanted.set()

    def lost(self, partition: int) -> None:
        """Somebody else publishes it from now on."""
        self._waiting.pop(partition, None)
        self.words.ends(partition)
        self._make_room()

    async def ended(self, partitions: Iterable[int], within_s: float) -> None:
        """Returns when nothing more of these is on its way to the broker, where it would come behind what the next
        owner publishes."""
        busy = [self._draining[each] for each in partitions if each in self._draining]
        if busy:
            await asyncio.wait(busy, timeout=within_s)

    async def room(self) -> None:
        """Returns when little enough is waiting."""
        await self._room.wait()

    @Service.task
    async def _publish(self) -> None:
        while not self.should_stop:
            await self._wanted.wait()
            self._wanted.clear()
            if self._failed is not None:
                raise self._failed
            for partition in self._asked - self._draining.keys():
                self._asked.discard(partition)
                task = self._draining[partition] = asyncio.create_task(self._drain(partition))
                task.add_done_callback(partial(self._drained, partition))

    def _drained(self, partition: int, task: asyncio.Task[None]) -> None:
        del self._draining[partition]
        if not task.cancelled():
            self._failed = self._failed or task.exception()
        if self._failed or self._asked:
            self._wanted.set()

    async def publish_waiting(self) -> None:
        """Publishes what waits in the partitions where something was committed."""
        self._wanted.clear()
        asked, self._asked = self._asked, set()
        await asyncio.gather(*(self._drain(partition) for partition in asked))

    async def _drain(self, partition: int) -> None:
        def stopped() -> bool:
            return bool(self.should_stop) or partition not in self._waiting

        while not stopped():
            if not await wait_out("publishing", lambda: self._once(partition), stopped):
                break

    async def _once(self, partition: int) -> int:
        """Publishes the oldest entries of a partition; how many there were.

        Whether the partition is still ours is asked last: what stood still for a while since it read the outbox
        would put an old word behind newer ones. What stands still in the middle of the sending can do so yet:
        the next owner finds it there (see `words`).

        What we have published ourselves is not told again when a Redis that has gone back has it once more: who
        takes the partition over reads at the end of the topic how far it was told.
        """
        token = self._tokens.get(partition)
        entries = await self._store.outbox(partition, ENTRIES)
        if entries:
            await self._store.safe(partition)
            told = self._told.get(partition, (-1, -1))
            messages = [message for entry in entries if order(entry.id) > told for message in entry.messages]
            if not await self._is_ours(partition, token):
                if self._tokens.get(partition) != token:  # taken over meanwhile, by ourselves: once more, then
                    return len(entries)
                self.lost(partition)
                return 0
            answers = await self._producer.send(messages, self._clock.now(), partition)
            if self._tokens.get(partition) != token:  # ours anew: what we sent before is somebody else's by now
                return len(entries)
            self._sent(partition, messages, answers, order(entries[0].id)[0])
            self._told[partition] = max(told, order(entries[-1].id))
            await self._store.trim(partition, entries[-1].id, token or "", self.words.safe_up_to(partition))
            self.published += len(messages)
            if partition in self._waiting:
                self._count(partition, -len(messages))
        return len(entries)

    def _sent(self, partition: int, messages: list[Outbound], answers: list[Any], first_place: int) -> None:
        count = sum(each.topic == MEMBERSHIPS for each in messages)
        firsts = [each.offset for each in answers if each.topic == self._memberships]
        if count:
            # What is not older than this sending has it behind itself, and is as good as ours.
            self.words.looked(partition, min(firsts, default=-1), first_place)
            self.words.wrote(partition, min(firsts, default=-1), count, len(firsts) == 1)

    def waiting(self, partition: int) -> int:
        """Messages of it that were committed and are not published yet."""
        return self._waiting.get(partition, 0)

    def is_busy(self, partition: int) -> bool:
        """Something of it may be on its way to the broker."""
        return partition in self._draining

    async def _is_ours(self, partition: int, token: str | None) -> bool:
        ((held, _),) = await self._store.owners([partition])
        return token is None or held == token == self._tokens.get(partition)

    def _count(self, partition: int, messages: int) -> None:
        self._waiting[partition] = max(0, self._waiting.get(partition, 0) + messages)
        self._make_room()

    def _make_room(self) -> None:
        if sum(self._waiting.values()) > WAITING_AT_MOST:
            self._room.clear()
        else:
            self._room.set()

    async def on_stop(self) -> None:
        self._wanted.set()
        self._room.set()
        for task in list(self._draining.values()):
            task.cancel()


def order(id: str) -> tuple[int, int]:
    """Entries in the order of the log, by what they are called."""
    offset, _, n = id.partition("-")
    return int(offset), int(n)
