"""The router as a service: source topics in, `account.log` out, each message's account decided once.

    fetch ─► take apart ─► links ─► route ─► save ─► produce ─► next batch

The outcome of a batch is saved in Redis under its source position before it is produced, and the next batch
waits for the broker's acknowledgement. Whoever takes over produces the saved batch again; the fold knows it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from mode import Service

from streams.clock import RedisClock
from streams.consuming import SHOW_LAG_EVERY_S, consumer, fetch, show_lag
from streams.identity import Resolver, further_keys
from streams.outage import AWAY, wait_out
from streams.producer import Producer
from streams.routing import link_keys, route, take_apart
from streams.settings import Settings
from streams.store.sources import SourceHeld, SourceStore
from streams.topics import SOURCES

log = structlog.get_logger()


@dataclass(slots=True)
class Reading:
    """A source partition that we read: our token, and the offset of the next message."""

    token: str
    next: int


class Router(Service, ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(
        self, settings: Settings, store: SourceStore, producer: Producer, clock: RedisClock, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._settings, self._store, self._producer, self._clock = settings, store, producer, clock
        self._resolver = Resolver(settings.person_key.get_secret_value().encode())
        self._reading: dict[TopicPartition, Reading] = {}
        self._turn = asyncio.Lock()
        self._consumer: Any = None
        self.counts: Counter[tuple[str, str]] = Counter()

    async def on_start(self) -> None:
        self._consumer = consumer(self._settings, "router")
        await self._consumer.start()  # before subscribing: nobody waits here for the group to settle
        self._consumer.subscribe([self._settings.topics(role) for role in SOURCES], listener=self)

    async def on_stop(self) -> None:
        async with self._turn:
            await self._consumer.stop()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        async with self._turn:
            for each in revoked:
                self._reading.pop(each, None)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        async with self._turn:
            for each in sorted(assigned):
                await self._try_to_take_over(each)

    async def _try_to_take_over(self, tp: TopicPartition) -> None:
        await wait_out("taking over", lambda: self._take_over(tp), lambda: self.should_stop)

    async def _take_over(self, tp: TopicPartition) -> None:
        """Becomes the reader; what the one before had saved but perhaps not produced is produced now."""
        held: SourceHeld = await self._store.acquire(tp.topic, tp.partition)
        if held.saved:
            await self._producer.send(held.saved, self._clock.now())
        following = held.next
        if following is None:
            following = (await self._consumer.beginning_offsets([tp]))[tp]
        self._reading[tp] = Reading(held.token, following)
        self._consumer.seek(tp, following)

    @Service.task
    async def _run(self) -> None:
        while not self.should_stop:
            batches = await fetch(self._consumer, self._settings)
            if batches:
                await wait_out("reading the time", self._clock.keep, lambda: self.should_stop)
                async with self._turn:
                    await asyncio.gather(*(self._route(tp, each) for tp, each in batches.items()))

    async def _route(self, tp: TopicPartition, messages: list[Any]) -> None:
        for start in range(0, len(messages), self._settings.batch):
            try:
                await self._route_batch(tp, messages[start : start + self._settings.batch])
            except AWAY as error:
                log.warning("waiting", what="routing", partition=str(tp), why=f"{type(error).__name__}: {error}")
                await self._try_to_take_over(tp)
                return

    async def _route_batch(self, tp: TopicPartition, messages: list[Any]) -> None:
        reading = self._reading.get(tp)
        messages = [message for message in messages if reading is not None and message.offset >= reading.next]
        if reading is None or not messages:
            return
        source, received = self._settings.topics.role(tp.topic), self._clock.now()
        seen = take_apart(source, messages, received)
        links = await self._store.links(link_keys(seen, self._resolver))
        links |= await self._store.links(further_keys(links.values()))
        routed = route(source, seen, links, self._resolver, received)
        following = messages[-1].offset + 1
        await self._store.learn(routed.learned)
        status = await self._store.save(
            tp.topic, tp.partition, reading.token, reading.next, following, routed.outbound
        )
        if status != "OK":
            log.warning("routing refused", partition=str(tp), why=status)
            self._reading.pop(tp, None)
            return
        await self._producer.send(routed.outbound, received)
        reading.next = following
        self.counts.update(routed.counts)

    @Service.timer(SHOW_LAG_EVERY_S)
    async def _show_lag(self) -> None:
        await show_lag(self._consumer, {tp: reading.next for tp, reading in self._reading.items()})
