"""A history that the real fold folds into a real Redis, and that is published to a real broker."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from rules.records import Activity, Delete, Epoch, Facts, Record, Restore, RulesetRecord, Tick, encode_record
from streams.pipeline import Owned, fold_batch
from streams.producer import Producer, partition_of
from streams.reading import Reader
from streams.settings import Settings
from streams.store.redis import RedisStore
from streams.topics import CHANGES, MEMBERSHIPS

PARTITIONS = 2
HOUR = 3_600_000
START = 20_000 * 24 * HOUR
ACCOUNTS = [f"salesforce:{n}" for n in range(14)]
RULES = {
    "rules.yaml": """
facts:
  employees: {type: number}
activities:
  visited: {}
  asked: {}
scores:
  interest: {half_life: 1d, signals: [{activity: asked, weight: 10}, {activity: visited, weight: 1}]}
---
dimension: engagement
on_unknown: skip
segments:
  - {segment: hot, when: {count: visited, at_least: 2, within: 1d}, owner: sales}
  - {segment: warm, when: {score: interest, at_least: 4}}
  - {segment: cold, otherwise: true}
---
dimension: size
segments:
  - {segment: large, when: {fact: employees, at_least: 1000}}
  - {segment: small, when: {fact: employees, below: 1000}}
---
dimension: signs
kind: set
segments:
  - {segment: asked, when: {seen: asked, within: 2d}}
  - {segment: crowded, when: {fact: employees, at_least: 500}}
"""
}
Mirror = dict[str, dict[str, Any]]  # account -> dimension -> answer


@dataclass(frozen=True, slots=True)
class Message:
    offset: int
    value: bytes | None


@dataclass(slots=True)
class World:
    settings: Settings
    redis: Any
    store: RedisStore
    producer: Producer
    now: int = START
    logs: dict[int, list[Message]] = field(default_factory=lambda: defaultdict(list))
    owned: dict[int, Owned] = field(default_factory=dict)
    draw: random.Random = field(default_factory=lambda: random.Random(1))

    async def begin(self) -> None:
        for number in range(PARTITIONS):
            self.owned[number] = Owned.from_store(await self.store.acquire(number), PARTITIONS)
            await self.fold(number, RulesetRecord(received=self.now, hash="one", files=RULES))
        await self.publish()

    async def fold(self, number: int, record: Record) -> None:
        log = self.logs[number]
        log.append(Message(len(log), encode_record(record)))
        self.owned[number] = await fold_batch(log[-1:], self.owned[number], self.store)

    async def happens(self, account: str, record: Record) -> None:
        await self.fold(partition_of(account, PARTITIONS), record)

    async def publish(self) -> None:
        """What is committed and not published yet."""
        for number in range(PARTITIONS):
            for entry in await self.store.outbox(number, 10_000):
                await self.producer.send(entry.messages, _today(), number)
                await self.store.trim(number, entry.id)

    async def publisher_dies(self) -> None:
        """Some of what is committed went out, to both topics or to one of them, and that was not noted: all of it
        is published by the next publisher."""
        for number in range(PARTITIONS):
            entries = await self.store.outbox(number, 10_000)
            reached = self.draw.choice([{CHANGES}, {MEMBERSHIPS}, {CHANGES, MEMBERSHIPS}])
            for entry in entries[: self.draw.randint(0, len(entries))]:
                sent = [each for each in entry.messages if each.topic in reached]
                await self.producer.send(sent, _today(), number)

    async def goes_on(self, records: int) -> None:
        """So many things happen, and are published; now and then a publisher dies."""
        for _ in range(records):
            self.now += self.draw.choice([1, HOUR // 2, 3 * HOUR])
            account = self.draw.choice(ACCOUNTS)
            await self.happens(account, self._something(account))
            if self.draw.random() < 0.1:
                for number in range(PARTITIONS):
                    await self.fold(number, Tick(received=self.now))
            if self.draw.random() < 0.03:
                number = self.draw.randrange(PARTITIONS)
                await self.fold(number, Epoch(received=self.now, number=1, since=0))
                await self.fold(number, Tick(received=self.now))
            if self.draw.random() < 0.2:
                await (self.publisher_dies if self.draw.random() < 0.4 else self.publish)()

    def _something(self, account: str) -> Record:
        at = {"account": account, "at": self.now, "received": self.now}
        match self.draw.randrange(10):
            case 0:
                return Delete(**at)
            case 1:
                return Restore(**at)
            case 2 | 3:
                return Facts(**at, source="crm", set={"employees": self.draw.choice([5, 500, 5000])})
            case 4 | 5:
                return Activity(**at, name="asked")
            case _:
                return Activity(**at, name="visited")

    async def memberships(self) -> Mirror:
        """Where all stand, as Redis has it, which is what a dashboard would show."""
        reader, found = Reader(self.redis, self.settings), Mirror()
        sets = {each.name for each in (await reader.ruleset()).dimensions if each.kind == "set"}
        for number in range(PARTITIONS):
            async for account, state in reader.states(number):
                if not state.deleted and state.ruleset:
                    found[account] = {
                        name: list(each.answer) if name in sets else next(iter(each.answer), None)
                        for name, each in state.standings.items()
                    }
        return said(found)


def _today() -> int:
    """The broker's retention goes by when something was published, not by when it happened."""
    return int(time.time() * 1000)


def said(mirror: Mirror) -> Mirror:
    """Without what says nothing: in no segment, or not mentioned, is the same."""
    return {account: {name: each for name, each in of.items() if each} for account, of in mirror.items()}
