"""Are the outputs those of a reference? A bench of something that computes the wrong thing is worth nothing."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import workload
from aiokafka import AIOKafkaConsumer, TopicPartition
from events import generate, reference

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from check import by_account, difference, published

from rules.changes import change_id, cloud_event, iso
from rules.fold import Outgoing, Partition
from rules.records import Activity, Record
from rules.replay import Replay
from rules.ruleset import NO_RULES


class _Position(msgspec.Struct):
    offset: int


class _Data(msgspec.Struct):
    position: _Position


class _Change(msgspec.Struct):
    id: str
    data: _Data


_decode = msgspec.json.Decoder(_Change).decode
HEAD = len(workload.in_force(workload.LADDER))  # records before the first event in our log


async def values(kafka: str, topic: str, partitions: int) -> list[bytes]:
    """All that stands in the topic at this moment."""
    async with AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False) as consumer:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        ends = await consumer.end_offsets(places)
        left = {place for place in places if ends[place]}
        consumer.assign(list(left))
        await consumer.seek_to_beginning(*left)
        found: list[bytes] = []
        while left:
            for place, records in (await consumer.getmany(timeout_ms=1_000)).items():
                found.extend(record.value for record in records)
                if records[-1].offset + 1 >= ends[place]:
                    left.discard(place)
        return found


async def deciding(kafka: str, topic: str) -> int:
    """How many records of a log of one partition changed something: those that a published change names."""
    return len({_decode(value).data.position.offset for value in await values(kafka, topic, 1)})


class AsRead(Replay):
    """A replay from before the first ruleset in which time passes only where the log says so."""

    def __init__(self) -> None:
        super().__init__(NO_RULES)
        self.partition = Partition(0)
        self.rules = self.partition.in_force(NO_RULES)

    def feed(self, record: Record) -> list[Outgoing]:  # type: ignore[override]  # a list is an iterator's better
        return self._fold(record)


async def shipped_rules(kafka: str, topic: str, count: int) -> str:
    """Empty, or in what the changes of the first `count` records differ from a replay: ids, order or bytes."""
    replay = AsRead()
    expected: dict[str, bytes] = {}
    records = list(workload.shipped(count))
    for record in records:
        for out in replay.feed(record):
            expected[change_id(0, out)] = cloud_event(0, replay.rules.ruleset, out)
    found = await values(kafka, topic, 1)
    ids = [_decode(value).id for value in found]
    first = next((n for n, (a, b) in enumerate(zip(expected, ids, strict=False)) if a != b), None)
    if first is not None or len(ids) != len(expected):
        at = first if first is not None else min(len(ids), len(expected))
        return f"change {at}: expected {list(expected)[at:][:1]}, published {ids[at:][:1]}"
    wrong = [value for id, value in zip(ids, found, strict=True) if expected[id] != value]
    return f"other bytes: {wrong[0].decode()}" if wrong else ""


async def one_ladder(kafka: str, topic: str, count: int) -> str:
    """Empty, or where our published changes give an account another segment than the reference does.

    Asked after each of the first `count` events, at that event's own time. What was published more than once, by
    run after run, must have been the same bytes each time.
    """
    changes: dict[str, bytes] = {}
    for value in await values(kafka, topic, 1):
        id = _decode(value).id
        if changes.setdefault(id, value) != value:
            return f"{id} was published with other bytes by another run"
    moves: dict[str, list[tuple[str, str]]] = defaultdict(list)  # account -> (effective, segment), in log order
    for value in changes.values():
        data = json.loads(value)["data"]
        if data["position"]["offset"] < count + HEAD:
            moves[data["account"]].append((data["effective"], _segment(data)))
    events = list(generate(count))
    theirs = by_account(reference(events))
    for account, times in _times(events).items():
        wanted = [(iso(at), segment) for _, segment, at in theirs.get(account, [])]
        for at in map(iso, times):
            expected, found = _standing(wanted, at), _standing(moves[account], at)
            if expected != found:
                return f"{account} at {at}: the reference says {expected}, our changes say {found}"
    return ""


async def peer(kafka: str, topic: str, count: int) -> str:
    """Empty, or in what a peer's published changes differ from the reference's."""
    expected = by_account(reference(generate(count)))
    return difference(expected, by_account(await published(kafka, topic))) or ""


def _segment(data: dict[str, Any]) -> str:
    if "memberships" in data:
        answer: str = data["memberships"]["engagement"]["answer"]
        return answer
    segment: str = data["to"]
    return segment


def _times(events: Iterable[Activity]) -> dict[str, list[int]]:
    times: dict[str, list[int]] = defaultdict(list)
    for event in events:
        times[event.account].append(event.received)
    return times


def _standing(moves: list[tuple[str, str]], at: str) -> str:
    """The segment of the last move that took effect by then; ISO times of one length compare as text."""
    return next((segment for effective, segment in reversed(moves) if effective <= at), "cold")
