"""The router as a service: source topics in, `account.log` out, each message's account decided once.

    fetch ─► take apart ─► links ─► route ─► save ─► produce ─► settle ─► next batch

What a batch taught and its outcome are saved in Redis under its source position before it is produced, if the
links that were read are still in force, else it is routed again. The next batch waits for the broker's
acknowledgement. Whoever takes over produces the saved batch again; the fold knows it.

A topic that was made anew under the same name is noticed by its last message not being there any more, or being
another one; it is read from its beginning, as another incarnation, whose positions the fold does not mix up with
the old ones. A source partition is paused until somebody has looked at it, while others go on, when too much of
it is rejected, and when messages were deleted before they were read.
"""

from __future__ import annotations

import asyncio
import binascii
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import msgspec
import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from mode import Service

from rules.records import encode_record
from streams.adapters.base import Rejected
from streams.clock import ClockSteppedError, RedisClock
from streams.consuming import LOOK_AGAIN_S, SHOW_LAG_EVERY_S, consumer, fetch, show_lag
from streams.erasing import needles
from streams.identity import further_keys, resolver_of, users_of
from streams.letters import forget
from streams.outage import AWAY, wait_out
from streams.poison import Poison
from streams.producer import Producer
from streams.routing import Formats, Routed, Seen, link_keys, route, take_apart
from streams.settings import Settings
from streams.sources import read
from streams.store.base import Outbound
from streams.store.sources import Batch, SourceHeld, SourceStore, as_text, link_digest
from streams.topics import ACCOUNT_LOG, LINKS

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

    @property
    def following(self) -> int:
        """Where to read on: at the last message once more, while it is to be looked at."""
        return self.next - 1 if self.last else self.next


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
        sources = read(settings.sources)
        self._formats = Formats.of(sources)
        self._resolver = resolver_of(settings, sources)
        self._reached = reached
        self._reading: dict[TopicPartition, Reading] = {}
        self._turn = asyncio.Lock()  # held while messages are routed, or partitions change hands
        self._lost: dict[TopicPartition, float] = {}  # ours by Kafka, somebody else's by Redis: since when
        self._consumer: Any = None
        self.stopped_partitions: dict[TopicPartition, str] = {}
        self.counts: Counter[tuple[str, str]] = Counter()

    async def on_start(self) -> None:
        self._consumer = consumer(self._settings, "router")
        await self._consumer.start()  # before subscribing: nobody waits here for the group to settle
        self._consumer.subscribe([self._settings.topics(role) for role in self._formats.of_topic], listener=self)

    async def on_stop(self) -> None:
        async with self._turn:
            await self._consumer.stop()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        async with self._turn:
            for each in revoked:
                self._reading.pop(each, None)
                self._lost.pop(each, None)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        async with self._turn:
            for each in sorted(assigned):
                await self._try_to_take_over(each)

    async def _try_to_take_over(self, tp: TopicPartition) -> None:
        await wait_out("taking over", lambda: self._take_over(tp), lambda: self.should_stop)

    async def _take_over(self, tp: TopicPartition) -> None:
        """Becomes the reader; what the one before had saved but perhaps not produced is produced now."""
        self._reading.pop(tp, None)
        self._lost.pop(tp, None)
        self.stopped_partitions.pop(tp, None)
        held: SourceHeld = await self._store.acquire(tp.topic, tp.partition)
        if held.saved:
            await self._produce(tp, held.token, held.saved, self._clock.now())
        if held.paused:
            self._pause(tp, held.paused)
        if held.next is None:
            await self._read_from_beginning(tp, held.token, held.incarnation)
        else:
            await self._read_on(tp, Reading(held.token, held.next, held.incarnation, held.last))

    async def _read_from_beginning(self, tp: TopicPartition, token: str, incarnation: int) -> None:
        first = (await self._consumer.beginning_offsets([tp]))[tp]
        self._reading[tp] = Reading(token, first, incarnation)
        self._consumer.seek(tp, first)

    async def _read_on(self, tp: TopicPartition, reading: Reading) -> None:
        """Where it stands; the topic may have been shortened since. What was deleted unread is not passed over
        in silence."""
        self._reading[tp] = reading
        first = (await self._consumer.beginning_offsets([tp]))[tp]
        if first > reading.following:
            reading.last = ""
        if first > reading.next:
            why = f"messages {reading.next} to {first - 1} were deleted before they were read"
            skipped = Batch(reading.next, first, "", [], (), {}, {}, paused=why)
            status = await self._store.save(tp.topic, tp.partition, reading.token, skipped)
            if status != "OK":
                await self._refused(tp, status)
                return
            reading.next = first
            self._pause(tp, why)
        self._consumer.seek(tp, reading.following)

    def _pause(self, tp: TopicPartition, why: str) -> None:
        self._consumer.pause(tp)
        self.counts["paused", tp.topic] += 1
        log.error("source paused", partition=str(tp), why=why, do="isotherm resume, once it is mended")

    @Service.task
    async def _run(self) -> None:
        while not self.should_stop:
            before = dict(self._reading)
            batches = await fetch(self._consumer, self._settings, self._out_of_range)
            if batches:
                await wait_out("reading the time", self._clock.keep, lambda: self.should_stop)
                self._clock.now()  # raises here, before anything is routed, if the time cannot be trusted
                async with self._turn:
                    await asyncio.gather(*(self._route(tp, each, before) for tp, each in batches.items()))

    async def _route(
        self, tp: TopicPartition, messages: list[Any], before: Mapping[TopicPartition, Reading] | None = None
    ) -> None:
        """Routes what was fetched when we read `before`. Outages are waited out here, everything else stops the
        partition and says so, so that others go on."""
        reading = self._reading.get(tp)
        try:
            if reading is None:
                return
            if before is not None and before.get(tp) is not reading:
                self._consumer.seek(tp, reading.following)  # fetched for who had it before us
                return
            if await self._is_another_topic(tp, reading, messages):
                return
            for start in range(0, len(messages), self._settings.batch):
                if not await self._route_batch(tp, reading, messages[start : start + self._settings.batch]):
                    return
        except AWAY as error:
            log.warning("waiting", what="routing", partition=str(tp), why=f"{type(error).__name__}: {error}")
            await self._try_to_take_over(tp)
        except ClockSteppedError:
            raise
        except Exception as error:
            log.exception("bug in the router", partition=str(tp))
            self._reading.pop(tp, None)
            self._consumer.pause(tp)
            self.stopped_partitions[tp] = f"{type(error).__name__}: {error}"

    async def _is_another_topic(self, tp: TopicPartition, reading: Reading, messages: list[Any]) -> bool:
        """Whether the message before the next one is another than was read there; asked once after a takeover."""
        if not reading.last or messages[-1].offset < reading.next - 1:
            return False
        last, reading.last = reading.last, ""
        there = next((each for each in messages if each.offset >= reading.next - 1), messages[-1])
        if there.offset == reading.next - 1 and looks_like(there) != last:
            await self._begin_again(tp, reading, "its last message is another one")
            return True
        return False

    async def _begin_again(self, tp: TopicPartition, reading: Reading, why: str) -> None:
        log.error("topic made anew, reading it from its beginning", partition=str(tp), why=why)
        self.counts["made anew", tp.topic] += 1
        if await self._store.begin_again(tp.topic, tp.partition, reading.token, reading.incarnation + 1):
            await self._read_from_beginning(tp, reading.token, reading.incarnation + 1)
        else:
            await self._refused(tp, "FENCED")

    async def _out_of_range(self, places: Iterable[TopicPartition]) -> None:
        """There is no message where we read: the topic was shortened, or is another one."""
        async with self._turn:
            for tp in places:
                await wait_out("finding the place", partial(self._find_place, tp), lambda: self.should_stop)

    async def _find_place(self, tp: TopicPartition) -> None:
        reading = self._reading.get(tp)
        if reading is not None and not await self._ends_before(tp, reading):
            await self._read_on(tp, reading)

    async def _ends_before(self, tp: TopicPartition, reading: Reading) -> bool:
        """Whether the topic ends before where we stand, so that it is another one, which is read from now on.

        The broker is asked outright: what comes along with fetched messages is for a moment too low when a
        partition's leader has changed.
        """
        end = (await self._consumer.end_offsets([tp]))[tp]
        if end < reading.next:
            await self._begin_again(tp, reading, f"it ends at {end}, and {reading.next} was the next")
        return bool(end < reading.next)

    async def _refused(self, tp: TopicPartition, status: str) -> None:
        """Nothing was written: somebody else has the partition, or it stands elsewhere than we thought."""
        log.warning("routing refused", partition=str(tp), why=status)
        self._reading.pop(tp, None)
        if status == "MOVED":
            await self._try_to_take_over(tp)
        else:
            self._lost[tp] = asyncio.get_running_loop().time()

    async def _route_batch(self, tp: TopicPartition, reading: Reading, messages: list[Any]) -> bool:
        """Whether to go on behind it."""
        messages = [message for message in messages if message.offset >= reading.next]
        if not messages:
            return True
        await self._reached("fetch")
        source, received = self._settings.topics.role(tp.topic), self._clock.now()
        for seen in cut(take_apart(source, messages, received, self._formats)):
            if not await self._route_seen(tp, reading, source, seen, received):
                return False
        return True

    async def _route_seen(
        self, tp: TopicPartition, reading: Reading, source: str, seen: Sequence[Seen], received: int
    ) -> bool:
        topic = f"{source}@{reading.incarnation}" if reading.incarnation else source
        while True:
            routed, batch, poison = await self._decide(topic, seen, reading, received)
            await self._reached("route")
            status = await self._store.save(tp.topic, tp.partition, reading.token, batch)
            if status != "CHANGED":
                break
            self.counts["routed again", ""] += 1
        if status != "OK":
            await self._refused(tp, status)
            return False
        await self._reached("save")
        await self._produce(tp, reading.token, batch.outbound, received)
        reading.next, reading.poison = batch.following, poison
        self.counts.update(routed.counts)
        if batch.paused:
            self._pause(tp, batch.paused)
            self._consumer.seek(tp, reading.next)
        return not batch.paused

    async def _produce(self, tp: TopicPartition, token: str, outbound: Sequence[Outbound], at: int) -> None:
        """Has the broker take a saved batch, and sees that the links in it end as they are now."""
        await self._producer.send(outbound, at)
        await self._reached("produce")
        links = {each.key: each.value for each in outbound if each.topic == LINKS}
        while links := await self._store.settle(tp.topic, tp.partition, token, links):
            await self._producer.send([Outbound(LINKS, key, link) for key, link in links.items()], at)
        await self._reached("settle")

    async def _decide(
        self, topic: str, seen: Sequence[Seen], reading: Reading, received: int
    ) -> tuple[Routed, Batch, Poison]:
        """What the messages become by the links that are in force now."""
        links, as_of = await self._store.read(wanted := link_keys(seen, self._resolver))
        asked = set(wanted)
        while further := [key for key in further_keys(links) if key not in asked]:
            asked.update(further)
            links |= await self._store.links(further)
        routed = route(topic, seen, links, self._resolver, received)
        forgotten = await self._erase(routed) if routed.erased else []
        poison, last = reading.poison.copy(), seen[-1].message
        too_much = poison.after(routed.rejected)
        batch = Batch(
            reading.next,
            last.offset + 1,
            looks_like(last),
            routed.outbound,
            asked,
            links,
            routed.learned,
            forgotten,
            {each.key: f"{each.holder}\t{each.claimant}" for each in routed.conflicts},
            too_much if self._settings.poison_limit else "",
            as_of,
        )
        return routed, batch, poison

    async def _erase(self, routed: Routed) -> list[bytes]:
        """Links and dead letters of people who ask to be forgotten go; every partition of the log is told."""
        persons = list(dict.fromkeys(person for each in routed.erased for person in each.record.persons))
        held = await self._store.holding(persons)
        persons += sorted(users_of(held.values()) - set(persons))
        named = {f"{kind}:{person}" for kind in ("user", "anon", "email") for person in persons}
        named |= {f"contact:{each.said.contact}" for each in routed.erased if each.said.contact}
        # What the same messages taught about them is not in the store yet.
        named |= {key for key, link in routed.learned.items() if any(person in link for person in persons)}
        forgotten = list(dict.fromkeys([*map(link_digest, sorted(named)), *held]))
        for each in routed.erased:
            record = encode_record(msgspec.structs.replace(each.record, persons=persons))
            routed.outbound += [
                Outbound(ACCOUNT_LOG, "", record, partition=p) for p in range(self._settings.partitions)
            ]
        if said := [needle for each in routed.erased for needle in needles(each.said)]:
            self.counts["letters forgotten", ""] += await forget(self._settings, said)
        routed.outbound += [Outbound(LINKS, as_text(digest), None) for digest in forgotten]
        return forgotten

    @Service.timer(SHOW_LAG_EVERY_S)
    async def _show_lag(self) -> None:
        await show_lag(self._consumer, {tp: reading.next for tp, reading in self._reading.items()})

    @Service.timer(LOOK_AGAIN_S)
    async def _look_around(self) -> None:
        try:
            await self.look_after()
        except AWAY as error:
            log.info("not looked after", why=f"{type(error).__name__}: {error}")

    async def look_after(self) -> None:
        """Resumes what was paused and is to go on; takes back what nobody else reads; notices topics that end
        before where we stand."""
        async with self._turn:
            for tp in sorted(self._consumer.assignment()):
                await self._look_at(tp)

    async def _look_at(self, tp: TopicPartition) -> None:
        reading = self._reading.get(tp)
        if reading is None:
            since = self._lost.get(tp)
            silence = self._settings.session_timeout_ms / 1000
            if since is not None and asyncio.get_running_loop().time() - since > silence:
                await self._try_to_take_over(tp)  # Kafka says so still: who fenced us was on the way out
            return
        if tp in self._consumer.paused() and not await self._store.paused(tp.topic, tp.partition):
            reading.poison = Poison()
            self._consumer.resume(tp)
            log.info("source goes on", partition=str(tp))
        end = self._consumer.highwater(tp)
        if end is not None and end < reading.next:
            await self._ends_before(tp, reading)


def cut(seen: list[Seen]) -> Iterator[list[Seen]]:
    """Messages in which somebody asks to be forgotten apart from others: what was before is forgotten, and what
    comes behind is not."""
    for _, group in groupby(seen, asks_to_be_forgotten):
        yield list(group)


def asks_to_be_forgotten(seen: Seen) -> bool:
    return any(not isinstance(part, Rejected) and part.kind == "erase" for part in seen.parts)


def looks_like(message: Any) -> str:
    """By what a message is known again: when it was written, and a sum of its bytes."""
    return f"{message.timestamp}/{binascii.crc32(message.value or b'')}"
