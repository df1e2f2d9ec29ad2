"""The router as a service: source topics in, `account.log` out, each message's account decided once.

    fetch ─► take apart ─► links ─► route ─► save ─► intend ─► produce ─► settle ─► next batch

What a batch taught and its outcome are saved in Redis under its source position before it is produced, if the
links that were read are still in force, else it is routed again. The next batch waits for the broker's
acknowledgement. Whoever takes over produces the saved batch again; the fold knows it.

Before a batch is produced its intent is committed to Kafka, and Redis is asked whether it still has the batch: one
more round trip to each. So nothing is produced that does not lie below what the router's group has committed. Who
takes over and finds that Redis stands before that knows that Redis has gone back, restores the links from their
topic, and compares the messages in doubt with the log (see going_back). The offsets show the lag too.

A topic that was made anew under the same name is noticed by its last message not being there any more, or being
another one; it is read from its beginning, as another incarnation, whose positions the fold does not mix up with
the old ones. A source partition is paused until somebody has looked at it, while others go on, when too much of
it is rejected, and when messages were deleted before they were read.
"""

from __future__ import annotations

import asyncio
import binascii
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from time import perf_counter
from typing import Any

import msgspec
import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from mode import Service
from structlog.contextvars import bind_contextvars

from rules.records import encode_record
from streams.adapters.base import Rejected
from streams.clock import ClockSteppedError, RedisClock
from streams.consuming import LOOK_AGAIN_S, end_offset, fetch, first_offset, started
from streams.erasing import needles
from streams.going_back import Doubt, Intent, committed, of_partition
from streams.identity import further_keys, key_of, resolver_of, users_of
from streams.letters import forget
from streams.metrics import histogram
from streams.outage import AWAY, wait_out
from streams.playback import ends_of, up_to_its_end
from streams.poison import Poison
from streams.producer import Producer
from streams.routing import Formats, Routed, Seen, link_keys, route, take_apart
from streams.settings import Settings
from streams.sources import read
from streams.store.base import Outbound
from streams.store.sources import (
    NO_LOSS,
    Aftermath,
    Batch,
    GoneBackError,
    SourceHeld,
    SourceStore,
    Standing,
    as_text,
    link_digest,
)
from streams.strays import strays
from streams.topics import ACCOUNT_LOG, LINKS
from streams.traces import UNTRACED, Traced, Traces

log = structlog.get_logger()
RESTORED_AT_ONCE = 5_000  # links


async def nothing(step: str) -> None:
    """Nobody is told."""


@dataclass(slots=True)
class Reading:
    """A source partition that we read: our token, and the offset of the next message.

    `last` is what the message before it looked like, as long as we have not seen that it is still there. `begun`
    says whether Redis has that offset. `doubt` is of messages that had been routed when Redis went back;
    `after` is what else is left to do since then.
    """

    token: str
    next: int
    incarnation: int = 0
    last: str = ""
    poison: Poison = field(default_factory=Poison)
    begun: bool = False
    doubt: Doubt | None = None
    after: Aftermath = NO_LOSS

    def in_doubt(self) -> Doubt | None:
        return self.doubt if self.doubt is not None and self.next < self.doubt.until else None

    def behind(self, messages: int) -> Aftermath:
        """What is left behind so many messages more."""
        if self.in_doubt() is not None:
            return self.after._replace(redone=self.after.redone + 1)
        return self.after._replace(wary=max(0, self.after.wary - messages))

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
        traces: Traces | None = None,
        **kwargs: Any,
    ) -> None:
        """`reached` is told of each step of a batch: the crash tests stop there."""
        super().__init__(**kwargs)
        self._traces = traces
        self._settings, self._store, self._producer, self._clock = settings, store, producer, clock
        sources = read(settings.sources)
        self._formats = Formats.of(sources)
        self._resolver = resolver_of(settings, sources)
        self._reached = reached
        self._reading: dict[TopicPartition, Reading] = {}
        self._turn = asyncio.Lock()  # held while messages are routed, or partitions change hands
        self._lost: dict[TopicPartition, float] = {}  # ours by Kafka, somebody else's by Redis: since when
        self._consumer: Any = None
        self._committed = partial(committed, settings)
        self._links_told: Callable[[], AsyncIterator[Any]] = partial(up_to_its_end, settings, LINKS)
        self._log_since: Callable[[Mapping[int, int]], AsyncIterator[Any]]
        self._log_since = partial(up_to_its_end, settings, ACCOUNT_LOG)
        self._log_ends: dict[int, int] = {}  # what we produce comes behind that
        self._restoring: tuple[tuple[str, int], float] | None = None  # another worker, how far it is, since when
        self.stopped_partitions: dict[TopicPartition, str] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.seconds = histogram("isotherm_route_seconds")

    async def on_start(self) -> None:
        ends = partial(ends_of, self._settings, ACCOUNT_LOG)
        self._log_ends = await wait_out("Kafka", ends, lambda: self.should_stop) or {}
        self._consumer = await started(self._settings, "router", lambda: self.should_stop)
        if self._consumer is not None:  # subscribed behind it: nobody waits here for the group to settle
            self._consumer.subscribe(
                [self._settings.topics(role) for role in self._formats.of_topic], listener=self
            )

    async def on_stop(self) -> None:
        async with self._turn:
            pass  # what is being routed is routed to its end
        if self._consumer is not None:  # it may be in the middle of a rebalance, which waits for its turn
            await self._consumer.stop()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        async with self._turn:
            for each in revoked:
                self._reading.pop(each, None)
                self._lost.pop(each, None)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        async with self._turn:
            if not self.should_stop:
                await self._try_to_take_over(*sorted(assigned))

    async def _try_to_take_over(self, *places: TopicPartition) -> None:
        await wait_out("taking over", lambda: self._take_over(*places), lambda: self.should_stop)

    async def _take_over(self, *places: TopicPartition) -> None:
        for tp in places:
            self._reading.pop(tp, None)
        intents = await self._make_sure(places)
        for tp in places:
            await self._take(tp, intents.get(tp))

    async def _take(self, tp: TopicPartition, intent: Intent | None) -> None:
        """Becomes the reader; what the one before had saved but perhaps not produced is produced now."""
        self._lost.pop(tp, None)
        self.stopped_partitions.pop(tp, None)
        held: SourceHeld = await self._store.acquire(tp.topic, tp.partition)
        doubt = None
        if intent is not None and intent.is_beyond(held.incarnation, held.next):
            doubt = await self._doubt(tp, held, intent)
        if held.saved and held.next is not None:
            if not await self._intend(tp, held.token, held.next, self._intent_of(held, intent)):
                return
            await self._produce(tp, held.token, held.saved, self._clock.now(), held.next)
        if held.paused:
            self._pause(tp, held.paused)
        if doubt is not None:
            await self._read_what_is_in_doubt(tp, held, doubt)
        elif held.next is None:
            await self._read_from_beginning(tp, held.token, held.incarnation, held.after)
        else:
            reading = Reading(held.token, held.next, held.incarnation, held.last, begun=True, after=held.after)
            await self._read_on(tp, reading)

    def _intent_of(self, held: SourceHeld, intent: Intent | None) -> Intent:
        """Of a batch that somebody else had saved, and committed or not."""
        following, begins = held.next or 0, 0
        if intent is not None and intent.incarnation == held.incarnation:
            if intent.following >= following:
                return msgspec.structs.replace(intent, redone=max(intent.redone, held.after.redone))
            begins = intent.following
        return Intent(following, begins, held.incarnation, dict(self._log_ends), held.after.redone)

    # -- Redis has gone back ------------------------------------------------------------------------------------

    async def _make_sure(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Intent]:
        """The last intents, and Redis holds what it should: of all source partitions, not only of `places`,
        because what others taught and Redis has lost would be missing here."""
        if (restoring := await self._store.restoring()) is not None:
            await self._follow(restoring)
        changes = await self._store.changes()
        intents, standings = await self._compared({*places, *self._places()})
        back = {str(tp): stands.next for tp, stands in standings.items() if _is_news(stands, intents.get(tp))}
        if back:
            log.error("Redis has gone back", to=back)
            self.counts["gone back", ""] += 1
            await self._restore()
        self._store.expect(changes)
        return intents

    async def _compared(
        self, places: Iterable[TopicPartition]
    ) -> tuple[dict[TopicPartition, Intent], dict[TopicPartition, Standing]]:
        """What was intended, and then where Redis stands: whoever works on meanwhile has not gone back."""
        every = sorted(places)
        intents = await self._committed(every)
        standings = await self._store.standings([(tp.topic, tp.partition) for tp in every])
        return intents, dict(zip(every, standings, strict=True))

    async def _restore(self, instead_of: str = "") -> None:
        """Links become those of their topic, and of batches that are not in it yet. Each source partition that has
        gone back is told, so that this is done once."""
        token = await self._store.begin_restoring(instead_of)
        intents, standings = await self._compared(self._places())
        back = {tp: intents[tp] for tp, stands in standings.items() if _has_gone_back(stands, intents.get(tp))}
        held = [await self._store.look(tp.topic, tp.partition) for tp in standings if tp not in back]
        await self._store.forget_links(token)
        some: list[tuple[str, bytes | None]] = []
        async for message in self._links_told():
            some.append((message.key.decode(), message.value))
            if len(some) == RESTORED_AT_ONCE:
                await self._store.restore_links(token, some)
                some.clear()
        some += [(each.key, each.value) for one in held for each in one.saved if each.topic == LINKS]
        await self._store.restore_links(token, some)
        doubts = {
            (tp.topic, tp.partition): (each.following, each.incarnation, each.redone) if each else None
            for tp in standings
            for each in [back.get(tp)]
        }
        await self._store.end_restoring(token, doubts, self._settings.batch)
        log.warning("identity links restored", partitions=[str(tp) for tp in back])

    async def _follow(self, restoring: tuple[str, int]) -> None:
        """Another worker restores links: it is waited for, or followed once it has stopped."""
        now = asyncio.get_running_loop().time()
        if self._restoring is None or self._restoring[0] != restoring:
            self._restoring = restoring, now
        if now - self._restoring[1] < self._settings.session_timeout_ms / 1000:
            raise GoneBackError("identity links are being restored")
        await self._restore(instead_of=restoring[0])

    def _places(self) -> list[TopicPartition]:
        """All that routers read."""
        topics = [self._settings.topics(role) for role in self._formats.of_topic]
        return [
            TopicPartition(topic, number)
            for topic in topics
            for number in sorted(self._consumer.partitions_for_topic(topic) or ())
        ]

    async def _doubt(self, tp: TopicPartition, held: SourceHeld, intent: Intent) -> Doubt:
        place, start = f"{self._place(tp, held.incarnation)}/{tp.partition}", held.next or 0
        found = [
            each
            async for message in self._log_since(intent.ends)
            if (each := of_partition(message, place, start, intent.following)) is not None
        ]
        return Doubt.of(intent, start, found)

    async def _read_what_is_in_doubt(self, tp: TopicPartition, held: SourceHeld, doubt: Doubt) -> None:
        """What is before it is in Kafka to the last link."""
        if held.next is None or held.next < doubt.start:
            begun = held.next is not None
            done = Batch(held.next or 0, doubt.start, "", [], (), {}, {}, begun=begun, after=held.after)
            if (status := await self._store.save(tp.topic, tp.partition, held.token, done)) != "OK":
                await self._refused(tp, status)
                return
        at = max(held.next or 0, doubt.start)
        reading = Reading(held.token, at, held.incarnation, begun=True, doubt=doubt, after=held.after)
        await self._read_on(tp, reading)

    async def _intend(self, tp: TopicPartition, token: str, following: int, intent: Intent) -> bool:
        """Whether what was saved up to `following` may be produced: Kafka has been told, and says that we are the
        reader still; and Redis had not lost it before, for then others may have gone on without it."""
        try:
            await self._consumer.commit({tp: (intent.following, intent.packed())})
        except (CommitFailedError, IllegalStateError) as error:
            log.warning("not the reader any more", partition=str(tp), why=f"{type(error).__name__}: {error}")
            await self._refused(tp, "FENCED")
            return False
        (stands,) = await self._store.standings([(tp.topic, tp.partition)])
        if (stands.token, stands.next) != (token, following):
            await self._refused(tp, "FENCED" if stands.token not in ("", token) else "MOVED")
            return False
        await self._reached("intend")
        return True

    def _place(self, tp: TopicPartition, incarnation: int) -> str:
        """What the records of a topic are said to come from."""
        source = self._settings.topics.role(tp.topic)
        return f"{source}@{incarnation}" if incarnation else source

    # -- reading ------------------------------------------------------------------------------------------------

    async def _read_from_beginning(
        self, tp: TopicPartition, token: str, incarnation: int, after: Aftermath = NO_LOSS
    ) -> None:
        first = await first_offset(self._consumer, self._settings, tp)
        self._reading[tp] = Reading(token, first, incarnation, after=after)
        self._consumer.seek(tp, first)

    async def _read_on(self, tp: TopicPartition, reading: Reading) -> None:
        """Where it stands; the topic may have been shortened since. What was deleted unread is not passed over
        in silence."""
        self._reading[tp] = reading
        first = await first_offset(self._consumer, self._settings, tp)
        if first > reading.following:
            reading.last = ""
        if first > reading.next:
            why = f"messages {reading.next} to {first - 1} were deleted before they were read"
            skipped = Batch(
                reading.next, first, "", [], (), {}, {}, paused=why, begun=reading.begun, after=reading.after
            )
            status = await self._store.save(tp.topic, tp.partition, reading.token, skipped)
            if status != "OK":
                await self._refused(tp, status)
                return
            reading.next, reading.begun = first, True
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
        end = await end_offset(self._consumer, self._settings, tp)
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
        doubt = reading.in_doubt()
        doubtful = [message for message in messages if doubt is not None and message.offset < doubt.until]
        if not await self._route_some(tp, reading, doubtful, doubt.received if doubt else None):
            return False
        return await self._route_some(tp, reading, messages[len(doubtful) :])

    async def _route_some(
        self, tp: TopicPartition, reading: Reading, messages: list[Any], received: int | None = None
    ) -> bool:
        source, received = self._settings.topics.role(tp.topic), received or self._clock.now()
        for seen in cut(take_apart(source, messages, received, self._formats)):
            if not await self._route_seen(tp, reading, seen, received):
                return False
        return True

    async def _route_seen(self, tp: TopicPartition, reading: Reading, seen: Sequence[Seen], received: int) -> bool:
        topic, begun = self._place(tp, reading.incarnation), perf_counter()
        bind_contextvars(position=f"{topic}/{tp.partition}/{seen[0].message.offset}")  # for this task's lines
        spans = self._traces.routing(topic, tp.partition, seen) if self._traces else None
        while True:
            traced = spans.headers if spans else UNTRACED
            routed, batch, poison = await self._decide(topic, seen, reading, received, traced)
            await self._reached("route")
            status = await self._store.save(tp.topic, tp.partition, reading.token, batch)
            if status != "CHANGED":
                break
            self.counts["routed again", ""] += 1
        if status != "OK":
            await self._refused(tp, status)
            return False
        await self._reached("save")
        doubt = reading.in_doubt()
        intent = Intent(
            max(batch.following, doubt.until if doubt else 0),
            batch.expected,
            reading.incarnation,
            doubt.ends if doubt else dict(self._log_ends),
            batch.after.redone,
        )
        if not await self._intend(tp, reading.token, batch.following, intent):
            return False
        await self._produce(tp, reading.token, batch.outbound, received, batch.following)
        if any(each.topic != ACCOUNT_LOG for each in batch.outbound):
            # The log does not say that links and letters are there. Routed again, an older link might come back.
            with suppress(KafkaError):
                done = msgspec.structs.replace(intent, start=batch.following)
                await self._consumer.commit({tp: (done.following, done.packed())})
        reading.next, reading.poison, reading.begun, reading.after = batch.following, poison, True, batch.after
        self.counts.update(routed.counts)
        self.seconds.observe(perf_counter() - begun)
        if spans:
            spans.end()
        if batch.paused:
            self._pause(tp, batch.paused)
            self._consumer.seek(tp, reading.next)
        return not batch.paused

    async def _produce(
        self, tp: TopicPartition, token: str, outbound: Sequence[Outbound], at: int, following: int
    ) -> None:
        """Has the broker take a saved batch, and sees that the links in it end as they are now.

        Links go last: where one of them is in its topic, all that was decided with it is in the log.
        """
        told = [each for each in outbound if each.topic == LINKS]
        await self._send([each for each in outbound if each.topic != LINKS], at)
        await self._reached("told")
        await self._send(told, at)
        await self._reached("produce")
        links = {each.key: each.value for each in told}
        while links := await self._store.settle(tp.topic, tp.partition, token, links, following):
            await self._send([Outbound(LINKS, key, link) for key, link in links.items()], at)
        await self._reached("settle")

    async def _send(self, messages: Sequence[Outbound], at: int) -> None:
        log_name = self._settings.topics(ACCOUNT_LOG)
        for answer in await self._producer.send(messages, at) if messages else []:
            if answer.topic == log_name:
                self._log_ends[answer.partition] = max(answer.offset, self._log_ends.get(answer.partition, 0))

    async def _decide(
        self, topic: str, seen: Sequence[Seen], reading: Reading, received: int, traced: Traced = UNTRACED
    ) -> tuple[Routed, Batch, Poison]:
        """What the messages become by the links that are in force now."""
        doubt = reading.in_doubt()
        wanted = [*link_keys(seen, self._resolver), *(map(key_of, doubt.accounts) if doubt else ())]
        links, as_of = await self._store.read(wanted)
        asked, found = set(wanted), links
        while further := [key for key in further_keys(found) if key not in asked]:
            asked.update(further)
            links |= (found := await self._store.links(further))
        routed = route(topic, seen, links, self._resolver, received, traced)
        forgotten = await self._erase(routed) if routed.erased else []
        poison, last = reading.poison.copy(), seen[-1].message
        if doubt or reading.after.wary:
            place = f"{topic}/{last.partition}"
            routed.outbound += strays(asked, links, self._resolver, place, last.offset, received)
        too_much = poison.after(routed.rejected)
        batch = Batch(
            reading.next,
            last.offset + 1,
            looks_like(last),
            list(doubt.missing(routed.outbound, self._settings.partitions)) if doubt else routed.outbound,
            asked,
            links,
            routed.learned,
            forgotten,
            {each.key: f"{each.holder}\t{each.claimant}" for each in routed.conflicts},
            too_much if self._settings.poison_limit else "",
            as_of,
            reading.begun,
            reading.behind(len(seen)),
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
            # Visitors who are known by one of these links go as well.
            whom = [*persons, *(digest.hex() for digest in forgotten)]
            record = encode_record(msgspec.structs.replace(each.record, persons=whom))
            routed.outbound += [
                Outbound(ACCOUNT_LOG, "", record, partition=p) for p in range(self._settings.partitions)
            ]
        if said := [needle for each in routed.erased for needle in needles(each.said)]:
            self.counts["letters forgotten", ""] += await forget(self._settings, said)
        routed.outbound += [Outbound(LINKS, as_text(digest), None) for digest in forgotten]
        return forgotten

    def positions(self) -> dict[TopicPartition, int]:
        """The offset of the next message, by source partition that we read."""
        return {tp: reading.next for tp, reading in self._reading.items()}

    def end(self, tp: TopicPartition) -> int:
        """Where it ends, as far as what was fetched says."""
        return (self._consumer.highwater(tp) if self._consumer else None) or 0

    def paused(self) -> set[TopicPartition]:
        """What is paused until somebody has looked at it."""
        return (self._consumer.paused() if self._consumer else set()) & self._reading.keys()

    @Service.timer(LOOK_AGAIN_S)
    async def _look_around(self) -> None:
        try:
            await self.look_after()
        except AWAY as error:
            log.info("not looked after", why=f"{type(error).__name__}: {error}")

    async def look_after(self) -> None:
        """Resumes what was paused and is to go on; takes back what nobody else reads, and what Redis has lost
        since; notices topics that end before where we stand."""
        async with self._turn:
            await self._look_for_what_is_lost()
            for tp in sorted(self._consumer.assignment()):
                await self._look_at(tp)

    async def _look_for_what_is_lost(self) -> None:
        readings = list(self._reading.items())
        standings = await self._store.standings([(tp.topic, tp.partition) for tp, _ in readings])
        for (tp, reading), stands in zip(readings, standings, strict=True):
            expected = reading.next if reading.begun else None
            if not stands.token or (stands.token == reading.token and stands.next != expected):
                await self._refused(tp, "MOVED")
            elif stands.token != reading.token:
                await self._refused(tp, "FENCED")

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


def _has_gone_back(stands: Standing, intent: Intent | None) -> bool:
    return intent is not None and intent.is_beyond(stands.incarnation, stands.next)


def _is_news(stands: Standing, intent: Intent | None) -> bool:
    """Whether nobody has restored links since."""
    if intent is None or not _has_gone_back(stands, intent):
        return False
    known = (stands.incarnation, stands.doubt) == (intent.incarnation, intent.following)
    return not known or intent.redone > stands.redone


def cut(seen: list[Seen]) -> Iterator[list[Seen]]:
    """Messages in which somebody asks to be forgotten apart from others: what was before is forgotten, and what
    comes behind is not."""
    for _, group in groupby(seen, asks_to_be_forgotten):
        yield list(group)


def asks_to_be_forgotten(seen: Seen) -> bool:
    return "erase" in [part.kind for part in seen.parts if not isinstance(part, Rejected)]


def looks_like(message: Any) -> str:
    """By what a message is known again: when it was written, and a sum of its bytes."""
    return f"{message.timestamp}/{binascii.crc32(message.value or b'')}"
