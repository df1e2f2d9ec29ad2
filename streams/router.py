"""The router as a service: source topics in, `account.log` out, each message's account decided once.

    fetch ─► take apart ─► links ─► route ─► save ─► produce ─► next batch

What a batch taught and its outcome are saved in Redis under its source position before it is produced, if the
links that were read are still in force, else it is routed again. The next batch waits for the broker's
acknowledgement. Whoever takes over produces the saved batch again; the fold knows it.

A topic that was made anew under the same name is noticed by its last message not being there any more, or being
another one; it is read from its beginning, as another incarnation, whose positions the fold does not mix up with
the old ones. A source partition of which too much is rejected is paused until somebody has looked at it.
"""

from __future__ import annotations

import asyncio
import binascii
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from mode import Service

from rules.records import encode_record
from streams.adapters.base import Claims
from streams.clock import RedisClock
from streams.consuming import LOOK_AGAIN_S, SHOW_LAG_EVERY_S, consumer, fetch, show_lag
from streams.identity import Resolver, further_keys
from streams.letters import forget
from streams.outage import AWAY, wait_out
from streams.poison import Poison
from streams.producer import Producer
from streams.routing import Routed, Seen, link_keys, route, take_apart
from streams.settings import Settings
from streams.store.base import Outbound
from streams.store.sources import Batch, SourceHeld, SourceStore, as_text
from streams.topics import ACCOUNT_LOG, LINKS, SOURCES

log = structlog.get_logger()


async def nothing(step: str) -> None:
    """Nobody is told."""


@dataclass(slots=True)
class Reading:
    """A source partition that we read: our token, and the offset of the next message.

    `last` is what the message before it looked like, as long as we have not seen that it is still there.
    """

    token: str
    next: int
    incarnation: int = 0
    last: str = ""
    poison: Poison = field(default_factory=Poison)


class Router(Service, ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(
        self,
        settings: Settings,
        store: SourceStore,
        producer: Producer,
        clock: RedisClock,
        reached: Callable[[str], Awaitable[None]] = nothing,
        **kwargs: Any,
    ) -> None:
        """`reached` is told of each step of a batch: the crash tests stop there."""
        super().__init__(**kwargs)
        self._settings, self._store, self._producer, self._clock = settings, store, producer, clock
        self._resolver = Resolver(settings.person_key.get_secret_value().encode())
        self._reached = reached
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
        if held.paused:
            self._consumer.pause(tp)
        if not held.next:
            await self._read_from_beginning(tp, held.token, held.incarnation)
            return
        self._reading[tp] = Reading(held.token, held.next, held.incarnation, held.last)
        self._consumer.seek(tp, held.next - 1 if held.last else held.next)

    async def _read_from_beginning(self, tp: TopicPartition, token: str, incarnation: int) -> None:
        first = (await self._consumer.beginning_offsets([tp]))[tp]
        self._reading[tp] = Reading(token, first, incarnation)
        self._consumer.seek(tp, first)

    @Service.task
    async def _run(self) -> None:
        while not self.should_stop:
            batches = await fetch(self._consumer, self._settings)
            if batches:
                await wait_out("reading the time", self._clock.keep, lambda: self.should_stop)
                async with self._turn:
                    await asyncio.gather(*(self._route(tp, each) for tp, each in batches.items()))

    async def _route(self, tp: TopicPartition, messages: list[Any]) -> None:
        try:
            if await self._is_another_topic(tp, messages):
                return
            for start in range(0, len(messages), self._settings.batch):
                await self._route_batch(tp, messages[start : start + self._settings.batch])
        except AWAY as error:
            log.warning("waiting", what="routing", partition=str(tp), why=f"{type(error).__name__}: {error}")
            await self._try_to_take_over(tp)

    async def _is_another_topic(self, tp: TopicPartition, messages: list[Any]) -> bool:
        """Whether the message before the next one is another than was read there; asked once after a takeover."""
        reading = self._reading.get(tp)
        if reading is None or not reading.last:
            return False
        last, reading.last = reading.last, ""
        if messages[0].offset == reading.next - 1 and looks_like(messages[0]) != last:
            await self._begin_again(tp, reading, "its last message is another one")
            return True
        return False

    async def _begin_again(self, tp: TopicPartition, reading: Reading, why: str) -> None:
        log.error("topic made anew, reading it from its beginning", partition=str(tp), why=why)
        self.counts["recreated", tp.topic] += 1
        if await self._store.begin_again(tp.topic, tp.partition, reading.token, reading.incarnation + 1):
            await self._read_from_beginning(tp, reading.token, reading.incarnation + 1)
        else:
            self._reading.pop(tp, None)

    async def _route_batch(self, tp: TopicPartition, messages: list[Any]) -> None:
        reading = self._reading.get(tp)
        messages = [message for message in messages if reading is not None and message.offset >= reading.next]
        if reading is None or not messages:
            return
        await self._reached("fetch")
        source, received = self._settings.topics.role(tp.topic), self._clock.now()
        topic = f"{source}@{reading.incarnation}" if reading.incarnation else source
        seen = take_apart(source, messages, received)
        while True:
            routed, batch = await self._decide(topic, seen, reading, received)
            await self._reached("route")
            status = await self._store.save(tp.topic, tp.partition, reading.token, batch)
            if status != "CHANGED":
                break
            self.counts["routed again", ""] += 1
        if status != "OK":
            log.warning("routing refused", partition=str(tp), why=status)
            self._reading.pop(tp, None)
            return
        await self._reached("save")
        await self._producer.send(batch.outbound, received)
        await self._reached("produce")
        reading.next = batch.following
        self.counts.update(routed.counts)
        await self._watch_for_poison(tp, reading, routed)

    async def _decide(self, topic: str, seen: list[Seen], reading: Reading, received: int) -> tuple[Routed, Batch]:
        """What the messages become by the links that are in force now."""
        links = await self._store.links(wanted := link_keys(seen, self._resolver))
        asked = set(wanted)
        while further := [key for key in further_keys(links) if key not in asked]:
            asked.update(further)
            links |= await self._store.links(further)
        routed = route(topic, seen, links, self._resolver, received)
        forgotten = await self._erase(routed) if routed.erased else []
        last = seen[-1].message
        batch = Batch(
            reading.next,
            last.offset + 1,
            looks_like(last),
            routed.outbound,
            links,
            routed.learned,
            forgotten,
            {each.key: f"{each.holder}\t{each.claimant}" for each in routed.conflicts},
        )
        return routed, batch

    async def _erase(self, routed: Routed) -> list[bytes]:
        """Links and dead letters of people who ask to be forgotten go; every partition of the log is told."""
        forgotten: list[bytes] = []
        for each in routed.erased:
            forgotten += await self._store.holding(each.record.persons)
            record = encode_record(each.record)
            routed.outbound += [
                Outbound(ACCOUNT_LOG, "", record, partition=p) for p in range(self._settings.partitions)
            ]
            if needles := _needles(each.said):
                self.counts["letters forgotten", ""] += await forget(self._settings, needles)
        routed.outbound += [Outbound(LINKS, as_text(digest), None) for digest in forgotten]
        return forgotten

    async def _watch_for_poison(self, tp: TopicPartition, reading: Reading, routed: Routed) -> None:
        why = reading.poison.after(routed.rejected)
        if why and self._settings.poison_limit:
            self._consumer.pause(tp)
            await self._store.pause(tp.topic, tp.partition, why)
            self.counts["paused", tp.topic] += 1
            log.error("source paused", partition=str(tp), why=why, do="isotherm resume, once it is mended")

    @Service.timer(SHOW_LAG_EVERY_S)
    async def _show_lag(self) -> None:
        await show_lag(self._consumer, {tp: reading.next for tp, reading in self._reading.items()})

    @Service.timer(LOOK_AGAIN_S)
    async def _look_after(self) -> None:
        """Resumes what was paused and is to go on; notices topics that end before where we stand."""
        async with self._turn:
            for tp in self._consumer.paused():
                if tp in self._reading and not await self._store.paused(tp.topic, tp.partition):
                    self._reading[tp].poison = Poison()
                    self._consumer.resume(tp)
            for tp, reading in list(self._reading.items()):
                end = self._consumer.highwater(tp) if tp in self._consumer.assignment() else None
                if end is not None and end < reading.next:
                    await self._begin_again(tp, reading, f"it ends at {end}, and {reading.next} was the next")


def _needles(claims: Claims) -> list[bytes]:
    """By what a message in JSON can be known to name somebody: the address, or an id as a whole value."""
    found = [claims.email] if claims.email else []
    for id in (claims.user, claims.anonymous, (claims.contact or "").rpartition(":")[2]):
        if id:
            found += [f'"{id}"', f":{id},", f": {id},", f":{id}}}", f": {id}}}"]
    return [text.encode() for text in found]


def looks_like(message: Any) -> str:
    """By what a message is known again: when it was written, and a sum of its bytes."""
    return f"{message.timestamp}/{binascii.crc32(message.value or b'')}"
