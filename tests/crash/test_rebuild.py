"""Redis is wrong in some way: `verify` says how, a rebuild mends it, and tells of those that stand elsewhere.

The same log as in `test_crash`, folded into a real Redis; the log that is read once more is a list. The rebuild is
ended at each of its commands to Redis, before it was carried out and after, and then run again.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from redis.asyncio import Redis
from test_crash import START, Crash, Message, Topic, Tripwire, log
from test_gone_back import SWEEPS, events, subscribed

from rules.records import Activity, Epoch, Facts, Tick, encode_record
from rules.state import Standing
from streams import snapshots
from streams.fold import Fold
from streams.keys import PartitionKeys, rebuilt
from streams.pipeline import Owned, fold_batch
from streams.refolding import Log, LogProblem, Recollection, refold
from streams.renewing import RebuildProblem, _Rebuilding
from streams.settings import Settings
from streams.snapshots import FileProblem
from streams.store.base import Outbound, pack_state, unpack_state
from streams.store.redis import RedisStore
from streams.store.snapshots import Assembling, Snapshot
from streams.store.snapshots import messages as written
from streams.store.switching import QuietStore, keys_of
from streams.verifying import Verdict, _Verifying, places_of

SETTINGS = Settings(partitions=1, batch=3)
KEYS, FRESH = PartitionKeys.of(0, 1), PartitionKeys.of(0, 1, rebuilt())
DAY = 86_400_000
CUT = 15  # when the damage is done: acme is hot and large, bolt is large


def story() -> list[Message]:
    """The log of `test_crash`, but that bolt stays; a third account moves before and after CUT."""
    messages = log()
    later = START + 9 * DAY
    more = [
        Facts(account="calm", at=later, received=later, set={"employees": 5}),
        Activity(account="calm", name="asked", at=later, received=later + 1),
        Activity(account="acme", name="visited", at=later, received=later + 2),
        Tick(received=later + 3),
    ]
    kept = messages[:14] + messages[15:16]
    return [Message(n, each.value) for n, each in enumerate([*kept, *map(_message, more)])]


def _message(record: Any) -> Message:
    return Message(0, encode_record(record))


class Listed(Log):
    """A log that is a list, and begins at `first`."""

    def __init__(self, messages: list[Message], first: int = 0, snapshot: Snapshot | None = None) -> None:
        super().__init__(SETTINGS, self)
        self.messages, self.begins, self.made = messages, first, snapshot

    async def snapshot(self, number: int) -> Snapshot | None:
        return self.made

    async def beginning_offsets(self, places: list[Any]) -> dict[Any, int]:
        return dict.fromkeys(places, self.begins)

    async def read(self, number: int, start: int, upto: int) -> AsyncIterator[list[Any]]:
        assert start >= self.begins
        for at in range(start, upto, 4):
            yield self.messages[at : min(at + 4, upto)]


async def fold_on(redis: Any, messages: list[Message], topic: Topic) -> Owned:
    """What a worker does from taking over until all is folded and published."""
    store = RedisStore(redis, 1)
    owned = Owned.from_store(await store.acquire(0), 1)
    while True:
        for entry in await store.outbox(0, 99):
            await topic.send(entry.messages, 0)
            await store.trim(0, entry.id)
        if owned.partition.offset == len(messages):
            return owned
        at = owned.partition.offset
        owned = await fold_batch(messages[at : at + 2], owned, store)


async def end_epoch(redis: Any, messages: list[Message], topic: Topic) -> Owned:
    """The owner finds what was noted, and begins an epoch; then all are swept."""
    noted = (await RedisStore(redis, 1).acquire(0)).partition
    assert noted.refolding is not None
    assert noted.offset > noted.refolding.told.offset
    number = max(noted.epoch, noted.refolding.told.epoch) + 1
    for each in (Epoch(received=START, number=number, since=noted.refolding.since), *SWEEPS):
        messages.append(Message(len(messages), encode_record(each)))
    return await fold_on(redis, messages, topic)


def rebuilding(redis: Any, log: Log, kind: type[_Rebuilding] = _Rebuilding) -> _Rebuilding:
    live, fresh = RedisStore(redis, 1), QuietStore(redis, 1, rebuilt())
    return kind(SETTINGS, redis, log, live, fresh, rebuilt(), lambda done, of: None)


async def rebuild(redis: Any, messages: list[Message]) -> None:
    await rebuilding(redis, Listed(messages)).partition(0)


async def verified(
    redis: Any, messages: list[Message], accounts: tuple[str, ...] = (), sample: int = 0
) -> Verdict:
    work = _Verifying(SETTINGS, redis, Listed(messages), lambda done, of: None)
    return await work.run([*accounts], sample)


async def expected(redis: Any, messages: list[Message]) -> dict[tuple[str, str], Any]:
    """What a subscriber holds who has heard one thread that was never disturbed."""
    alone, topic = [Message(n, each.value) for n, each in enumerate(messages)], Topic(Tripwire())
    store = RedisStore(redis, 1, "alone")
    owned = Owned.from_store(await store.acquire(0), 1)
    await fold_batch(alone, owned, store)
    for entry in await store.outbox(0, 99):
        await topic.send(entry.messages, 0)
    return subscribed(events(topic))


# -- what can be wrong ----------------------------------------------------------------------------------------


async def change_state(redis: Any, account: str, change: Callable[[Any], None]) -> None:
    state = unpack_state(await redis.hget(KEYS.accounts, account))
    change(state)
    await redis.hset(KEYS.accounts, account, pack_state(state))


async def wrong_answer(redis: Any) -> None:
    def change(state: Any) -> None:
        state.standings = state.standings | {"signs": Standing(("asked",), START)}

    await change_state(redis, "acme", change)


async def lost(redis: Any) -> None:
    await redis.hdel(KEYS.accounts, "bolt")
    await redis.zrem(KEYS.wakes, "bolt")
    await redis.srem(KEYS.members("signs", "large"), "bolt")


async def invented(redis: Any) -> None:
    await redis.hset(KEYS.accounts, "ghost", await redis.hget(KEYS.accounts, "acme"))
    for place in places_of(unpack_state(await redis.hget(KEYS.accounts, "acme"))):
        await redis.sadd(KEYS.members(*place), "ghost")


async def unreadable(redis: Any) -> None:
    await redis.hset(KEYS.accounts, "acme", b"\xff" * 40)


async def sets(redis: Any) -> None:
    await redis.srem(KEYS.members("signs", "large"), "acme")
    await redis.sadd(KEYS.members("signs", "asked"), "calm")
    await redis.sadd(KEYS.members("no_such", "thing"), "stranger")


async def wakes(redis: Any) -> None:
    await redis.zadd(KEYS.wakes, {"acme": START + 99 * DAY, "stranger": START + 99 * DAY})


Damage = Callable[[Any], Awaitable[None]]
# What is done, what `verify` says of it, and who is told of after a rebuild.
DAMAGES: list[tuple[Damage, dict[str, int], set[str]]] = [
    (wrong_answer, {"answers": 1, "sets": 1}, {"acme"}),
    (lost, {"under": 1, "answers": 1, "sets": 1}, {"bolt"}),
    (invented, {"over": 2, "answers": 1}, {"ghost"}),
    (unreadable, {"answers": 1, "sets": 1}, {"acme"}),
    (sets, {"over": 2, "under": 1, "sets": 3}, set()),
    (wakes, {"wakes": 2}, set()),
]


@pytest.mark.parametrize(("damage", "says", "told"), DAMAGES, ids=lambda each: getattr(each, "__name__", ""))
async def test_what_is_wrong_is_told_and_mended(
    redis: Redis, damage: Damage, says: dict[str, int], told: set[str]
) -> None:
    messages, topic = story(), Topic(Tripwire())
    await fold_on(redis, messages[:CUT], topic)
    assert (await verified(redis, messages)).is_equal
    await damage(redis)
    verdict = await verified(redis, messages)
    found = {name: count for name, count in verdict.metrics().items() if name not in ("compared", "left_out")}
    assert found == dict.fromkeys(found, 0) | says
    before = events(topic)

    await rebuild(redis, messages)
    assert (await verified(redis, messages)).is_equal
    assert await keys_of(redis, FRESH) == []
    await fold_on(redis, messages, topic)
    owned = await end_epoch(redis, messages, topic)

    assert (owned.partition.epoch, owned.partition.refolding, owned.partition.sweep) == (1, None, None)
    again = [event for event in events(topic)[len(before) :] if event["data"]["cause"] == "rebuild"]
    moved = {event["subject"] for event in events(topic) if event["data"]["position"]["offset"] >= CUT}
    assert told <= {event["subject"] for event in again} <= told | moved
    assert subscribed(events(topic)) == await expected(redis, messages)
    assert (await verified(redis, messages)).is_equal


async def test_what_a_rebuild_reports(redis: Redis) -> None:
    await broken(redis)
    await sets(redis)
    work = rebuilding(redis, Listed(story()))
    await work.partition(0)
    told = work.rebuilt.plain()
    assert (told["partitions"], told["accounts"], told["told"]) == ([0], 2, 3)
    assert told["segments"]["signs/large"] == {"entered": 2, "left": 0}  # acme and bolt
    assert told["segments"]["signs/asked"] == {"entered": 0, "left": 2}  # ghost and calm
    assert told["segments"]["no_such/thing"] == {"entered": 0, "left": 1}


@pytest.mark.parametrize("upto", range(1, 19))
async def test_an_account_alone_is_what_it_is_among_others(upto: int) -> None:
    messages = story()
    whole = await recollected(messages, upto, None)
    for account in ("acme", "bolt", "calm", "nobody"):
        assert await recollected(messages, upto, account.__eq__) == {
            name: state for name, state in whole.items() if name == account
        }


async def recollected(messages: list[Message], upto: int, wanted: Any) -> dict[str, bytes]:
    store = Recollection()
    owned = Owned.from_store(await store.acquire(0), 1)
    await refold(Listed(messages), owned, store, upto, lambda more: None, wanted)
    return dict(store.packed(0))


async def test_accounts_that_are_named_or_drawn_are_compared_and_no_others(redis: Redis) -> None:
    messages = story()
    await fold_on(redis, messages, Topic(Tripwire()))
    await lost(redis)
    assert (await verified(redis, messages, ("acme", "calm", "nobody"))).metrics()["compared"] == 3
    assert (await verified(redis, messages, ("acme", "calm"))).is_equal
    one = await verified(redis, messages, ("bolt",))
    assert (one.compared, one.under) == (1, {("signs", "large"): 1})
    assert (await verified(redis, messages, sample=2)).compared == 3  # there are no more than that
    drawn = [await verified(redis, messages, sample=1) for _ in range(20)]
    assert {each.compared for each in drawn} < {0, 1, 2, 3}
    assert {each.is_equal for each in drawn} == {True, False}  # the lost one is drawn too


async def test_a_log_that_does_not_reach_back_is_named_and_nothing_is_touched(redis: Redis) -> None:
    messages = story()
    await fold_on(redis, messages, Topic(Tripwire()))
    before = await RedisStore(redis, 1).owners([0])
    late = Listed(messages, first=3)
    with pytest.raises(LogProblem, match=r"account\.log/0 begins at offset 3, and no snapshot reaches so far"):
        await rebuilding(redis, late).partition(0)
    with pytest.raises(LogProblem, match="it can answer for what follows 3"):
        await _Verifying(SETTINGS, redis, late, lambda done, of: None).run([], 0)
    assert await RedisStore(redis, 1).owners([0]) == before


async def snapshot_at(position: int) -> Snapshot:
    store = Recollection()
    owned = Owned.from_store(await store.acquire(0), 1)
    owned = await refold(Listed(story()), owned, store, position, lambda more: None)
    return Snapshot(owned.partition, owned.rules.ruleset.files, store.packed(0), store.counted(0))


def read_back(told: Iterable[Outbound]) -> Snapshot | None:
    found = Assembling(0)
    for each in told:
        found.hears(each.key.encode(), each.value)
    return found.snapshot


@pytest.mark.parametrize("position", range(1, 19))
async def test_from_a_snapshot_on_all_is_as_from_the_beginning(redis: Redis, position: int) -> None:
    messages, topic = story(), Topic(Tripwire())
    await fold_on(redis, messages, topic)
    made = read_back(written(await snapshot_at(position)))
    assert made is not None
    late = Listed(messages, first=position, snapshot=made)
    assert (await _Verifying(SETTINGS, redis, late, lambda done, of: None).run([], 0)).is_equal
    whole = (await RedisStore(redis, 1).acquire(0)).partition
    days = range(START // DAY - 2, START // DAY + 12)
    tallies = [await RedisStore(redis, 1).tallies(0, day) for day in days]
    await broken_by(redis, lost)
    await rebuilding(redis, late).partition(0)
    assert (await verified(redis, messages)).is_equal
    again = (await RedisStore(redis, 1).acquire(0)).partition
    assert msgspec.structs.replace(again, refolding=None) == whole
    assert [await RedisStore(redis, 1).tallies(0, day) for day in days] == tallies


async def broken_by(redis: Redis, damage: Damage) -> None:
    await damage(redis)
    assert not (await verified(redis, story())).is_equal


async def test_a_snapshot_that_was_not_finished_leaves_the_one_before() -> None:
    before, after = await snapshot_at(12), await snapshot_at(19)
    first, second = list(written(before)), list(written(after, before.accounts))
    for upto in range(len(second)):
        assert read_back([*first, *second[:upto]]) == before
    assert read_back([*first, *second]) == after
    # The broker has taken the older of two messages with the same key.
    compacted = {each.key: each for each in [*first, *second[:1]]}
    assert read_back(sorted(compacted.values(), key=lambda each: each.key.startswith("account.log"))) is None
    assert read_back([]) is None


async def test_accounts_that_are_no_more_are_removed() -> None:
    snapshot = await snapshot_at(12)
    gone = [each for each in written(snapshot, [*snapshot.accounts, "gone"]) if each.value is None]
    assert [each.key for each in gone] == ["gone"]


def test_a_snapshot_that_cannot_be_read_says_so() -> None:
    with pytest.raises(ValueError, match="another version, or damaged"):
        read_back([Outbound("account.snapshots", "acme", b"{}")])
    with pytest.raises(ValueError, match="has version 2, this code reads 1"):
        read_back([Outbound("account.snapshots", "acme", msgspec.msgpack.encode([2, 7, b""]))])


async def test_a_file_brings_back_what_was_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, path = await snapshot_at(12), tmp_path / "snapshots.gz"

    @asynccontextmanager
    async def opened(settings: Settings) -> AsyncIterator[Log]:
        yield Listed(story(), snapshot=made)

    monkeypatch.setattr(snapshots, "opened", opened)
    assert await snapshots.export(SETTINGS, [0], path) == {0: (12, len(made.accounts))}
    assert list(snapshots.read(path, 1)) == [made]
    with pytest.raises(FileProblem, match="is of a log with 1 partitions, this one has 64"):
        list(snapshots.read(path, 64))
    with pytest.raises(FileProblem, match="cannot be written"):
        await snapshots.export(SETTINGS, [0], tmp_path / "nowhere" / "snapshots.gz")
    assert [each.name for each in tmp_path.iterdir()] == ["snapshots.gz"]


async def test_a_file_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "snapshots.gz"
    lines = [{"partitions": 1}]
    for each in written(await snapshot_at(12)):
        lines.append({"partition": 0, "key": each.key, "value": b64encode(each.value or b"").decode()})
    for upto in range(1, len(lines)):
        path.write_bytes(gzip.compress("".join(json.dumps(each) + "\n" for each in lines[:upto]).encode()))
        if upto == 1:
            assert list(snapshots.read(path, 1)) == []
            continue
        with pytest.raises(FileProblem, match="the snapshot of partition 0 is not whole"):
            list(snapshots.read(path, 1))
    for damaged in (b"", b"no gzip", path.read_bytes()[:-9], gzip.compress(b'{"partitions": 1}\nnonsense\n')):
        path.write_bytes(damaged)
        with pytest.raises(FileProblem, match="cannot be read"):
            list(snapshots.read(path, 1))


async def test_what_was_written_of_an_unfinished_beginning_is_not_built_upon(redis: Redis) -> None:
    messages = story()
    await broken(redis)
    await redis.hset(FRESH.accounts, "left behind", await redis.hget(KEYS.accounts, "acme"))
    await rebuild(redis, messages)
    assert (await verified(redis, messages)).is_equal


class TakenBack(_Rebuilding):
    """A worker takes the partition back, and goes on, before it is switched."""

    times = 1

    async def _farewells(self, *given: Any) -> Any:
        if self.times:
            TakenBack.times -= 1
            await fold_on(self.redis, story()[: CUT + 1], Topic(Tripwire()))
        return await super()._farewells(*given)


async def test_taken_back_by_a_worker_it_tries_again(redis: Redis) -> None:
    messages = story()
    await broken(redis)
    TakenBack.times = 1
    await rebuilding(redis, Listed(messages), TakenBack).partition(0)
    assert (await verified(redis, messages)).is_equal
    assert await RedisStore(redis, 1).owners([0]) == [("", CUT + 1)]

    await broken(redis)
    TakenBack.times = 9
    with pytest.raises(RebuildProblem, match="taken back 5 times"):
        await rebuilding(redis, Listed(messages), TakenBack).partition(0)
    assert not (await verified(redis, messages)).is_equal


async def test_who_was_fenced_takes_over_as_soon_as_it_is_switched(redis: Redis) -> None:
    messages, store, nobody = story(), RedisStore(redis, 1), cast(Any, None)
    await broken(redis)
    fold = Fold(SETTINGS, store, nobody, nobody, nobody)
    fold._fenced[0] = 0
    await store.acquire(0)  # the rebuild has it
    assert await fold._lost() == set()
    await rebuild(redis, messages)
    assert await fold._lost() == {0}


async def test_two_do_not_rebuild_the_same(redis: Redis) -> None:
    messages = story()
    await broken(redis)

    class Overtaken(Listed):
        async def read(self, number: int, start: int, upto: int) -> AsyncIterator[list[Any]]:
            await QuietStore(redis, 1, rebuilt()).acquire(0)
            async for each in super().read(number, start, upto):
                yield each

    with pytest.raises(RebuildProblem, match="being rebuilt by somebody else too"):
        await rebuilding(redis, Overtaken(messages)).partition(0)
    await rebuild(redis, messages)
    assert (await verified(redis, messages)).is_equal


@pytest.mark.parametrize("when", ["before", "after"])
async def test_ended_at_any_command_it_is_run_again(redis: Redis, redis_url: str, when: str) -> None:
    calm = Tripwire()
    await broken(redis)
    async with watched(redis_url, calm, when) as client:
        await rebuild(client, story()[:CUT])
    assert "EVALSHA" in calm.passed
    for crash_at, command in enumerate(calm.passed):
        where = f"crash at {crash_at}, {when} {command}"
        messages, topic, before = story(), *await broken(redis)
        try:
            async with watched(redis_url, Tripwire(crash_at), when) as client:
                await rebuild(client, messages)
        except Crash:
            await fold_on(redis, messages[: CUT + 1], topic)  # workers go on meanwhile
            await rebuild(redis, messages)
        assert (await verified(redis, messages)).is_equal, where
        assert await keys_of(redis, FRESH) == [], where
        await fold_on(redis, messages, topic)
        await end_epoch(redis, messages, topic)
        told = {event["subject"] for event in events(topic)[before:]}
        assert {"acme", "bolt", "ghost"} <= told, where
        assert subscribed(events(topic)) == await expected(redis, messages), where


async def broken(redis: Redis) -> tuple[Topic, int]:
    """A Redis that is wrong in three ways, what has been told, and how many changes that were."""
    await redis.flushall()
    topic = Topic(Tripwire())
    await fold_on(redis, story()[:CUT], topic)
    for damage in (wrong_answer, lost, invented):
        await damage(redis)
    return topic, len(events(topic))


class Watched(Redis):
    """A Redis client that dies with its process at a command, or when the command has been carried out."""

    reached: Tripwire
    when: str

    async def execute_command(self, *command: Any, **options: Any) -> Any:
        return await self._watched(str(command[0]), super().execute_command(*command, **options))

    def pipeline(self, *given: Any, **named: Any) -> Any:
        pipe = super().pipeline(*given, **named)
        execute = pipe.execute
        pipe.execute = lambda *given, **named: self._watched("pipeline", execute(*given, **named))
        return pipe

    async def _watched(self, command: str, carrying_out: Awaitable[Any]) -> Any:
        if self.when == "before":
            with suppress_unawaited(carrying_out):
                self.reached(command)
        answer = await carrying_out
        if self.when == "after":
            self.reached(command)
        return answer


@contextmanager
def suppress_unawaited(coroutine: Any) -> Iterator[None]:
    try:
        yield
    except Crash:
        coroutine.close()
        raise


@asynccontextmanager
async def watched(url: str, reached: Tripwire, when: str) -> AsyncIterator[Watched]:
    async with Watched.from_url(url) as client:
        client.reached, client.when = reached, when
        yield client
