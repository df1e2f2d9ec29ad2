"""Kafka as lists, for thousands of schedules of the real router over a real Redis; and the fold of its log.

`Listed` keeps whole topics in memory under the part of the consumer's and the producer's interface that the router
uses. It is honest about what matters here: a message that was taken stays, in order per partition, whether its
sender lives to hear of it or not; positions are the consumer's own; a topic that is made anew begins at 0.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any

from aiokafka import TopicPartition
from pydantic import SecretStr

from rules.measures import INSTANT, PAIR, TAGGED
from rules.records import Activity, Erase, Record, RulesetRecord, decode_record, encode_record
from streams.going_back import Intent, intent_of
from streams.pipeline import Owned, fold_batch
from streams.producer import partition_of
from streams.router import Router
from streams.settings import Settings
from streams.store.base import Outbound
from streams.store.memory import MemoryStore
from streams.store.sources import SourceStore
from streams.topics import ACCOUNT_LOG, CRM_UPDATES, LINKS, WEB_ACTIVITY

NOW = 20_000 * 86_400_000
PARTITIONS = 2  # of the log
STEPS = ("fetch", "route", "save", "intend", "told", "produce", "settle")
RULES = {
    "rules.yaml": """
facts: {employees: {type: number}}
contact_facts: {status: {type: text}}
activities: {visited: {}}
---
dimension: heat
kind: set
segments:
  - {segment: visited, when: {count: visited, at_least: 3, within: 7d}}
  - {segment: by_two, when: {people: visited, at_least: 2, within: 7d}}
"""
}


class Kill(BaseException):
    """The process is gone: nothing in it catches this."""


@dataclass(frozen=True, slots=True)
class Message:
    topic: str
    partition: int
    offset: int
    value: bytes | None
    timestamp: int = NOW
    key: Any = ""
    headers: tuple[tuple[str, bytes], ...] = ()


class Listed:
    """Topics by name and partition, and what was committed of them; `forgetful` keeps offsets only."""

    def __init__(self, forgetful: bool = False) -> None:
        self.topics: dict[TopicPartition, list[Message]] = {}
        self.committed: dict[TopicPartition, tuple[int, str]] = {}
        self.forgetful = forgetful

    def append(self, topic: str, partition: int, value: bytes | None, **told: Any) -> None:
        held = self.topics.setdefault(TopicPartition(topic, partition), [])
        held.append(Message(topic, partition, len(held), value, **told))

    def make_anew(self, topic: str, partition: int) -> None:
        self.topics[TopicPartition(topic, partition)] = []

    def of(self, topic: str, partition: int) -> list[Message]:
        return self.topics.get(TopicPartition(topic, partition), [])

    async def intents(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Intent]:
        return {tp: intent_of(*self.committed[tp]) for tp in places if tp in self.committed}

    async def read(self, topic: str, since: Mapping[int, int] | None = None) -> AsyncIterator[Message]:
        """As `playback.up_to_its_end` does."""
        for tp, held in sorted(self.topics.items()):
            for each in held[(since or {}).get(tp.partition, 0) :] if tp.topic == topic else []:
                yield replace(each, key=each.key.encode())

    def compacted(self, topic: str) -> dict[str, bytes | None]:
        """The last value of each key; tombstones go."""
        last = {each.key: each.value for tp, held in self.topics.items() if tp.topic == topic for each in held}
        return {key: value for key, value in last.items() if value is not None}


class ListedConsumer:
    """What the router uses of a consumer. `first` is where a shortened partition begins."""

    def __init__(self, kafka: Listed, assigned: Iterable[TopicPartition], at_most: int = 100) -> None:
        self.kafka, self.at_most = kafka, at_most
        self.position: dict[TopicPartition, int | None] = dict.fromkeys(assigned)
        self.first: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self.position)

    def paused(self) -> set[TopicPartition]:
        return set(self._paused)

    def pause(self, tp: TopicPartition) -> None:
        self._paused.add(tp)

    def resume(self, tp: TopicPartition) -> None:
        self._paused.discard(tp)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.position[tp] = offset

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {tp.partition for tp in self.kafka.topics if tp.topic == topic}

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        for tp, (offset, metadata) in offsets.items():
            self.kafka.committed[tp] = offset, "" if self.kafka.forgetful else metadata

    def highwater(self, tp: TopicPartition) -> int:
        return len(self.kafka.of(*tp))

    async def beginning_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self.first.get(tp, 0) for tp in places}

    async def end_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: len(self.kafka.of(*tp)) for tp in places}

    def fetch(self, tp: TopicPartition) -> list[Message]:
        at = self.position[tp]
        if at is None or tp in self._paused:
            return []
        found = self.kafka.of(*tp)[at : at + self.at_most]
        self.position[tp] = at + len(found)
        return found


async def never(message: Outbound, partition: int) -> None: ...


@dataclass
class ListedProducer:
    kafka: Listed
    sent: int = 0
    lost: Callable[[Outbound, int], Awaitable[None]] = never  # told of each message before it is taken

    async def send(self, messages: Sequence[Outbound], at: int, partition: int | None = None) -> list[Any]:
        answers = []
        for each in messages:
            number = each.partition
            if number is None:
                number = partition_of(each.key, PARTITIONS) if each.topic == ACCOUNT_LOG else 0
            await self.lost(each, number)
            self.kafka.append(each.topic, number, each.value, timestamp=at, key=each.key, headers=each.headers)
            answers.append(self.kafka.of(each.topic, number)[-1])
        self.sent += 1
        return answers


class FixedClock:
    """Time stands still, so that two runs write the same bytes."""

    async def keep(self) -> None: ...

    def now(self) -> int:
        return NOW


async def nothing(step: str) -> None: ...


@dataclass
class World:
    """The source topics, the log, and the Redis that routers share."""

    redis: Any
    namespace: str
    batch: int = 3
    kafka: Listed = field(default_factory=Listed)
    poison_limit: bool = True
    instant: int = NOW - 86_400_000

    def __post_init__(self) -> None:
        for p in range(PARTITIONS):
            self.kafka.append(ACCOUNT_LOG, p, encode_record(RulesetRecord(received=NOW, hash="one", files=RULES)))

    @property
    def settings(self) -> Settings:
        return Settings(
            partitions=PARTITIONS,
            batch=self.batch,
            namespace=self.namespace,
            person_key=SecretStr("of the tests"),
            poison_limit=self.poison_limit,
            session_timeout_ms=1_000,
        )

    @property
    def store(self) -> SourceStore:
        return SourceStore(self.redis, self.namespace)

    @property
    def sources(self) -> list[TopicPartition]:
        return sorted(tp for tp in self.kafka.topics if tp.topic in (CRM_UPDATES, WEB_ACTIVITY))

    def put(self, topic: str, partition: int, *said: dict[str, Any], **told: Any) -> None:
        """Each at an instant of its own: what comes together at one account is told apart by that."""
        for each in said:
            self.instant += 1
            self.kafka.append(topic, partition, json.dumps({"at": self.instant, **each}).encode(), **told)

    def router(
        self,
        reached: Callable[[str], Awaitable[None]] = nothing,
        places: Iterable[TopicPartition] | None = None,
    ) -> Router:
        producer: Any = ListedProducer(self.kafka)
        clock: Any = FixedClock()
        made = Router(self.settings, self.store, producer, clock, reached)
        made._committed = self.kafka.intents  # type: ignore[assignment]
        made._links_told = partial(self.kafka.read, LINKS)
        made._log_since = partial(self.kafka.read, ACCOUNT_LOG)
        made._consumer = ListedConsumer(self.kafka, self.sources if places is None else places, self.batch)
        return made

    async def drain(self, router: Router) -> None:
        """Takes over what is assigned and routes it to its end, a batch of each partition after the other."""
        for tp in router._consumer.assignment():
            if tp not in router._reading:
                await router._try_to_take_over(tp)
        while any([await self.turn(router, tp) for tp in sorted(router._consumer.assignment())]):
            pass

    async def turn(self, router: Router, tp: TopicPartition) -> bool:
        """Fetches from a partition once; whether there was something."""
        before = dict(router._reading)
        messages = router._consumer.fetch(tp)
        if messages:
            await router._route(tp, messages, before)
        return bool(messages)

    async def settled(self, router: Router) -> None:
        """Drains, and lets it look around until there is nothing that it has lost."""
        for _ in range(4):
            await self.drain(router)
            for tp in router._lost:
                router._lost[tp] -= 10  # long ago
            await router.look_after()

    # -- Redis, some time ago

    async def snapshot(self) -> dict[bytes, bytes]:
        held = await self.redis.keys(f"{self.namespace}:*")
        return {key: await self.redis.dump(key) for key in held}

    async def go_back(self, snapshot: Mapping[bytes, bytes]) -> None:
        await self.redis.flushall()
        for key, dumped in snapshot.items():
            await self.redis.restore(key, 0, dumped)

    # -- what came of it

    def counted(self) -> Counter[int]:
        """How often each activity counts, by the instant at which it happened."""
        records = [decode_record(each) for kept in self.accepted() for each in kept]
        return Counter(record.at for record in records if isinstance(record, Activity))

    def log(self, partition: int) -> list[Record]:
        return [decode_record(each.value or b"") for each in self.kafka.of(ACCOUNT_LOG, partition)]

    def accepted(self) -> list[list[bytes]]:
        """The records of each log partition that count: by a naive high-water of their places."""
        found = []
        for p in range(PARTITIONS):
            high: dict[str, tuple[int, int]] = {}
            kept = []
            for record in self.log(p):
                if record.via is not None:
                    place, position = record.via[0], record.via[1:]
                    again = position <= high.get(place, (-1, -1))
                    if again and not isinstance(record, Erase):
                        continue
                    high[place] = max(position, high.get(place, position))
                    if again:
                        continue
                kept.append(encode_record(record))
            found.append(kept)
        return found

    async def links(self) -> dict[bytes, bytes]:
        """All links as Redis has them, by their key in `identity.links`."""
        found = {}
        for key in await self.redis.keys(f"{self.namespace}:{{ids}}:links:*"):
            bucket = int(key.rpartition(b":")[2])
            for name, link in (await self.redis.hgetall(key)).items():
                found[bytes([bucket // 256, bucket % 256]) + name] = link
        return found

    async def folded(self) -> dict[str, Any]:
        """Where each account stands when the log has been folded by the real fold, transfers and all."""
        return await fold_log([list(self.kafka.of(ACCOUNT_LOG, p)) for p in range(PARTITIONS)])


async def fold_log(log: list[list[Message]]) -> dict[str, Any]:
    """The accounts that stay, visitors aside: their answers, and how many contacts they have."""
    store = MemoryStore()
    owned = [Owned.from_store(await store.acquire(p), PARTITIONS) for p in range(PARTITIONS)]
    while any(owned[p].partition.offset < len(log[p]) for p in range(PARTITIONS)):
        for p in range(PARTITIONS):
            owned[p] = await fold_batch(log[p][owned[p].partition.offset :], owned[p], store)
            for entry in await store.outbox(p, 1 << 20):
                for each in entry.messages:
                    if each.topic == ACCOUNT_LOG:
                        home = partition_of(each.key, PARTITIONS)
                        log[home].append(Message(ACCOUNT_LOG, home, len(log[home]), each.value))
                await store.trim(p, entry.id)
    found: dict[str, Any] = {}
    for p in range(PARTITIONS):
        names = await store.accounts_after(p, "", 1 << 20)
        for account, state in (await store.load(p, names)).items():
            if not state.merged_into and not account.startswith("visitor:"):
                answers = {name: standing.answer for name, standing in state.standings.items()}
                rings = [len(ring) - INSTANT for ring in state.measures.values()]
                found[account] = Account(
                    answers,
                    sorted(state.contacts),
                    sum(size // PAIR for size in rings if size % PAIR == 0),
                    sum(size // TAGGED for size in rings if size % TAGGED == 0),
                )
    return found


@dataclass(frozen=True)
class Account:
    """Where it stands, whose contacts it has, how many visits it counts (32 at most), and of how many people."""

    answers: dict[str, Any]
    contacts: list[str]
    visits: int
    people: int


def visits(folded: dict[str, Any], account: str) -> int:
    return folded[account].visits if account in folded else 0


def people(folded: dict[str, Any], account: str) -> int:
    return folded[account].people if account in folded else 0


@dataclass
class Turns:
    """Lets several tasks go on one step at a time, in an order that is given."""

    waiting: dict[int, asyncio.Event] = field(default_factory=dict)
    parked: dict[int, asyncio.Event] = field(default_factory=dict)
    free: bool = False

    def reached(self, who: int) -> Callable[[str], Awaitable[None]]:
        self.waiting[who], self.parked[who] = asyncio.Event(), asyncio.Event()

        async def park(step: str) -> None:
            if not self.free:
                self.parked[who].set()
                await self.waiting[who].wait()
                self.waiting[who].clear()

        return park

    async def run(self, work: Sequence[Awaitable[None]], schedule: Iterable[int]) -> None:
        """Each number in `schedule` lets that task run to its next step; afterwards each runs to its end."""
        tasks = [asyncio.ensure_future(each) for each in work]
        for who in range(len(tasks)):
            await self._parked(tasks, who)
        for who in schedule:
            if not tasks[who].done():
                self.parked[who].clear()
                self.waiting[who].set()
                await self._parked(tasks, who)
        self.free = True
        for who, task in enumerate(tasks):
            self.waiting[who].set()
            await task

    async def _parked(self, tasks: Sequence[asyncio.Future[None]], who: int) -> None:
        parked = asyncio.ensure_future(self.parked[who].wait())
        await asyncio.wait([tasks[who], parked], return_when=asyncio.FIRST_COMPLETED)
        parked.cancel()


def schedules(length: int, of: int = 2) -> Iterable[tuple[int, ...]]:
    return product(range(of), repeat=length)
