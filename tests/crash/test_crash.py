"""A crash is test data: it is moved to every step between fetch and trim, and nothing may come out differently.

The worker under test is the real `fold_batch` and the real `Publisher` over a store of the contract; the log is
a list and the topic is a list. A crash throws the worker away; a new one takes the partition over.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from rules import state as states
from rules.records import Activity, Contact, Delete, Facts, Record, RulesetRecord, Tick, encode_record
from streams.pipeline import Owned, fold_batch
from streams.publisher import Publisher
from streams.store.base import Commit, Outbound, Store
from streams.store.memory import MemoryStore
from streams.store.redis import RedisStore

DAY = 86_400_000
START = 20_000 * DAY
RULES = {
    "rules.yaml": """
facts:
  employees: {type: number}
contact_facts:
  status: {type: text}
activities:
  visited: {}
  asked: {}
scores:
  interest: {half_life: 1d, signals: [{activity: asked, weight: 10}, {activity: visited, weight: 1}]}
---
dimension: engagement
on_unknown: skip
segments:
  - {segment: hot, when: {count: visited, at_least: 2, within: 7d}}
  - {segment: warm, when: {score: interest, at_least: 4}}
  - {segment: cold, otherwise: true}
---
dimension: signs
kind: set
segments:
  - {segment: asked, when: {seen: asked, within: 2d}}
  - {segment: large, when: {fact: employees, at_least: 100}}
"""
}


@dataclass(frozen=True, slots=True)
class Message:
    offset: int
    value: bytes | None


def log() -> list[Message]:
    """Two accounts that become hot, cool by time, are swept by a new ruleset, and one that is deleted."""
    looser = {"rules.yaml": RULES["rules.yaml"].replace("at_least: 100", "at_least: 10")}
    records: list[Record | bytes] = [
        RulesetRecord(received=START, hash="one", files=RULES),
        Facts(
            account="acme", at=START, received=START + 1, set={"employees": 50}, via=("crm/0", 0, 0), source="crm"
        ),
        Activity(account="acme", name="visited", at=START + 5, received=START + 5, id="a", via=("crm/0", 1, 0)),
        b"{not a record",
        Activity(account="acme", name="visited", at=START + 9, received=START + 9, id="b", via=("crm/0", 2, 0)),
        Activity(account="acme", name="visited", at=START + 9, received=START + 9, id="b", via=("crm/0", 3, 0)),
        Activity(account="bolt", name="asked", at=START + 9, received=START + 10, via=("crm/0", 4, 0)),
        Activity(account="bolt", name="asked", at=START + 9, received=START + 10, via=("crm/0", 4, 0)),
        Tick(received=START + 3 * DAY),
        Facts(account="bolt", at=START, received=START + 3 * DAY + 1, set={"employees": 500}),
        Tick(received=START + 8 * DAY),
        RulesetRecord(received=START + 8 * DAY, hash="two", files=looser),
        Activity(account="acme", name="visited", at=START + 8 * DAY, received=START + 8 * DAY + 2),
        Tick(received=START + 8 * DAY + 3),
        b"\xff\xfe",
        Contact(account="bolt", person="p", at=START, received=START + 9 * DAY, set={"status": "bounced"}),
        Delete(account="bolt", at=START + 9 * DAY, received=START + 9 * DAY),
        Tick(received=START + 30 * DAY),
    ]
    return [Message(i, each if isinstance(each, bytes) else encode_record(each)) for i, each in enumerate(records)]


class Crash(Exception):
    """The process is gone."""


@dataclass(slots=True)
class Tripwire:
    """Counts steps and crashes at one of them."""

    at: int = -1
    passed: list[str] = field(default_factory=list)

    def __call__(self, step: str) -> None:
        self.passed.append(step)
        if len(self.passed) - 1 == self.at:
            raise Crash(step)


@dataclass(slots=True)
class Topic:
    """A producer that keeps what it was given, also when the sender dies before the answer."""

    reached: Tripwire
    taken: list[Outbound] = field(default_factory=list)

    async def send(self, messages: list[Outbound], at: int, partition: int | None = None) -> list[Any]:
        self.taken += messages
        self.reached("produce sent")
        return []


class LostReply:
    """The store, whose commit may be written and its answer never read."""

    def __init__(self, store: Store, reached: Tripwire) -> None:
        self._store, self._reached = store, reached

    async def commit(self, commit: Commit) -> Any:
        done = await self._store.commit(commit)
        self._reached("commit sent, reply unread")
        return done

    async def trim(self, partition: int, id: str, *own: Any) -> None:
        self._reached("produced, before trim")
        await self._store.trim(partition, id, *own)
        self._reached("trimmed")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Clock:
    def now(self) -> int:
        return 0


async def work(store: Store, topic: Topic, messages: list[Message], size: int) -> None:
    """What a worker does from taking over to having nothing left, crashing where the wire says."""
    guarded: Any = LostReply(store, topic.reached)
    publisher = Publisher(guarded, topic, Clock())  # type: ignore[arg-type]  # a list for Kafka
    owned = Owned.from_store(await store.acquire(0), 1)
    while await publisher._once(0):
        pass
    while owned.partition.offset < len(messages):
        batch = messages[owned.partition.offset : owned.partition.offset + size]
        topic.reached("fetch")
        owned = await fold_batch(batch, owned, guarded, topic.reached)
        await publisher._once(0)


async def run(store: Store, size: int, crash_at: int = -1) -> Topic:
    topic = Topic(Tripwire(crash_at))
    try:
        await work(store, topic, log(), size)
    except Crash:
        topic.reached.at = -1
        await work(store, topic, log(), size)
    return topic


def told(topic: Topic) -> dict[tuple[str, str], set[bytes | None]]:
    """Everything that was published: by topic and id, each content that stood under it."""
    found: dict[tuple[str, str], set[bytes | None]] = {}
    for each in topic.taken:
        id = json.loads(each.value)["id"] if each.topic == "segment.changes" and each.value else str(each.value)
        found.setdefault((each.topic, id), set()).add(each.value)
    return found


async def kept(store: Any) -> dict[str, Any]:
    accounts = await store.accounts_after(0, "", 100)
    loaded = await store.load(0, accounts)
    places = [("engagement", s) for s in ("hot", "warm", "cold")] + [("signs", s) for s in ("asked", "large")]
    return {
        "states": {account: states.pack(state) for account, state in loaded.items()},
        "partition": (await store.acquire(0)).partition,
        "due": await store.due(0, 1 << 52, 100),
        "members": {place: await store.members(0, *place) for place in places},
        "outbox": await store.outbox(0, 100),
    }


@pytest.fixture(params=["memory", "redis"])
def new_store(request: pytest.FixtureRequest, redis: Any) -> Callable[[int], Store]:
    if request.param == "memory":
        return lambda n: MemoryStore()
    return lambda n: RedisStore(redis, 1, namespace=f"crash{n}")


@pytest.mark.parametrize("size", [1, 4, 100])
async def test_a_crash_at_any_step_changes_nothing(new_store: Callable[[int], Store], size: int) -> None:
    calm_store = new_store(-1)
    calm = await run(calm_store, size)
    steps = len(calm.reached.passed)
    assert {"fetch", "load", "step", "commit sent, reply unread", "commit", "produce sent"} < set(
        calm.reached.passed
    )
    expected, left = told(calm), await kept(calm_store)
    assert left["outbox"] == []
    for crash_at in range(steps):
        store = new_store(crash_at)
        topic = await run(store, size, crash_at)
        where = f"crash at {crash_at}: {calm.reached.passed[crash_at]}"
        assert told(topic) == expected, where
        assert await kept(store) == left, where


async def test_what_happens_in_the_uninterrupted_run(new_store: Callable[[int], Store]) -> None:
    """The log above is worth crashing in: it moves accounts by data, time and rules, and rejects two records."""
    calm = await run(new_store(-2), 4)
    changes = [json.loads(each.value) for each in calm.taken if each.topic == "segment.changes" and each.value]
    moves = [
        (e["subject"], e["data"].get("from"), e["data"].get("to"), e["data"]["cause"])
        for e in changes
        if e["type"] == "segment.moved"
    ]
    assert ("acme", "cold", "hot", "data") in moves
    assert ("acme", "hot", "cold", "time") in moves
    assert ("bolt", "warm", "cold", "time") in moves
    entered = [(e["subject"], e["data"]["segment"], e["data"]["cause"]) for e in changes if "entered" in e["type"]]
    assert ("acme", "large", "rules") in entered
    letters = [each for each in calm.taken if each.topic == "dead.letters"]
    assert [letter.value for letter in letters] == [b"{not a record", b"\xff\xfe"]
    gone = [each.value for each in calm.taken if each.topic == "segment.memberships" and each.key == "bolt"]
    assert gone[-1] is None


async def test_any_cut_into_batches_gives_the_same(new_store: Callable[[int], Store]) -> None:
    runs = []
    for size in range(1, 8):
        store = new_store(100 + size)
        topic = await run(store, size)
        runs.append((told(topic), await kept(store)))
    assert all(each == runs[0] for each in runs)
