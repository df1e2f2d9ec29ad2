"""Redis has gone back: the log is folded once more, nothing is told twice, and a new epoch says where all stand.

The same worker as in `test_crash`: the real fold, a store of the contract, and lists for the log and the topic.
The store is put back to each state that it was ever in, also to nothing.
"""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from test_crash import START, Message, Topic, Tripwire, kept, log

from rules.fold import Place, Refolding
from rules.records import Epoch, Tick, encode_record
from streams.fold import Fold, Held
from streams.pipeline import Owned, fold_batch
from streams.settings import Settings
from streams.store.base import Commit
from streams.store.memory import MemoryStore
from streams.told import place_of
from streams.words import Words

SWEEPS = [Tick(received=START + 31 * 86_400_000 + n) for n in range(2)]


async def folded(store: MemoryStore, messages: list[Message], topic: Topic, size: int = 1) -> Owned:
    """Folds `messages` from where the store stands, and publishes."""
    owned = Owned.from_store(await store.acquire(0), 1)
    while owned.partition.offset < len(messages):
        at = owned.partition.offset
        owned = await fold_batch(messages[at : at + size], owned, store)
        for entry in await store.outbox(0, 9):
            await topic.send(entry.messages, 0)
            await store.trim(0, entry.id)
    return owned


def last_told(topic: Topic) -> Place:
    return max(
        place for each in topic.taken if each.topic == "segment.changes" and (place := place_of(each.value))
    )


async def noted(store: MemoryStore, since: int, told: Place) -> None:
    acquired = await store.acquire(0)
    partition = msgspec.structs.replace(acquired.partition, refolding=Refolding(since, told))
    at = acquired.partition.offset
    await store.commit(Commit(acquired.token, at, "noted", partition))


def events(topic: Topic) -> list[dict[str, Any]]:
    return [json.loads(each.value) for each in topic.taken if each.topic == "segment.changes" and each.value]


def subscribed(told: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
    """What a subscriber holds that keeps the highest (epoch, offset, n) per account and dimension."""
    held: dict[tuple[str, str], tuple[Any, Any]] = {}
    for event in told:
        data, place = event["data"], event["data"]["position"]
        at = (place["epoch"], place["offset"], place["n"])
        if event["type"] == "account.state":
            answers = {name: each["answer"] for name, each in data["memberships"].items()}
            answers |= {
                name: None for account, name in held if account == event["subject"] and name not in answers
            }
        else:
            answers = {data["dimension"]: data["to"] if "to" in data else data["members"]}
        for name, answer in answers.items():
            key = (event["subject"], name)
            if key not in held or held[key][0] < at:
                held[key] = (at, answer)
    return {key: answer for key, (_, answer) in held.items() if answer}


@pytest.mark.parametrize("size", [1, 5])
async def test_whatever_is_lost_subscribers_end_as_if_nothing_had_been(size: int) -> None:
    messages = log()
    snapshots, calm_store, calm = [MemoryStore()], MemoryStore(), Topic(Tripwire())
    for end in range(size, len(messages) + size, size):
        await folded(calm_store, messages[:end], calm, size)
        snapshots.append(copy.deepcopy(calm_store))
    expected = subscribed(events(calm))
    assert expected
    told = last_told(calm)
    for snapshot in snapshots[:-1]:
        topic = Topic(Tripwire(), list(calm.taken))
        since = (await snapshot.acquire(0)).partition.offset
        await noted(snapshot, since, told)
        ends = [Epoch(received=START, number=1, since=since), *SWEEPS]
        more = [Message(len(messages) + n, encode_record(each)) for n, each in enumerate(ends)]
        owned = await folded(snapshot, [*messages, *more], topic, size)

        where = f"put back to {since}"
        assert owned.partition.refolding is None, where
        assert (owned.partition.epoch, owned.partition.sweep, owned.partition.tells) == (1, None, -1), where
        new = events(topic)[len(events(calm)) :]
        assert {event["data"]["cause"] for event in new} <= {"rebuild"}, where
        assert all(event["data"]["origin"] == "rebuild" for event in new), where
        changed_since = {
            event["subject"] for event in events(calm) if event["data"]["position"]["offset"] >= since
        }
        assert {event["subject"] for event in new} == changed_since, where
        assert subscribed(events(topic)) == expected, where
        left, calmly = await kept(snapshot), await kept(calm_store)
        assert left["members"] == calmly["members"], where
        assert left["due"] == calmly["due"], where


async def test_what_had_not_been_told_is_told() -> None:
    """The publisher was behind: what it had not come to is told while the log is folded once more."""
    messages, calm = log(), Topic(Tripwire())
    await folded(MemoryStore(), messages, calm)
    everything = events(calm)
    for n in range(1, len(everything)):
        position = everything[n - 1]["data"]["position"]
        store, topic = MemoryStore(), Topic(Tripwire())
        await noted(store, 0, Place(position["epoch"], position["offset"], position["n"]))
        await folded(store, messages, topic)
        assert [event["id"] for event in events(topic)] == [event["id"] for event in everything[n:]]


async def test_an_epoch_counts_on_from_what_was_told() -> None:
    """Where records were lost an epoch may have been among them."""
    store, topic = MemoryStore(), Topic(Tripwire())
    epochs = [Epoch(received=START, number=7), Epoch(received=START, number=1)]
    more = [Message(len(log()) + n, encode_record(each)) for n, each in enumerate(epochs)]
    owned = await folded(store, [*log(), *more], topic)
    assert owned.partition.epoch == 8


class Nobody:
    """A consumer and a publisher that are told and do nothing."""

    words = Words()

    def __getattr__(self, name: str) -> Any:
        return lambda *given: None

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 0)

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {}


class Emptied:
    """A store that is emptied between two things that one batch asks of it."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    async def due(self, *given: Any) -> Any:
        found = await self.store.due(*given)
        self.store = MemoryStore()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


async def test_emptied_in_the_middle_of_a_batch_is_gone_back_and_no_bug() -> None:
    """Who is due is known still, and what they have is not."""
    before = next(i for i, each in enumerate(log()) if b'"tick"' in (each.value or b""))
    store, nobody = Emptied(MemoryStore()), Nobody()
    given: Any = (Settings(partitions=1), store, nobody, nobody, nobody)
    fold = Fold(*given)
    fold._consumer = nobody
    owned = await folded(store.store, log()[:before], Topic(Tripwire()))
    fold._held = {0: Held(owned)}
    fold._last_told = lambda floors: asyncio.sleep(0, {})  # nothing was told

    await fold._fold(0, [log()[before]])
    assert fold.stopped_partitions == {}
    assert fold._held[0].owned.partition.offset == 0
    assert await store.owners([0]) == [(fold._held[0].owned.token, 0)]
