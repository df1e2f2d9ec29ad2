"""One contract, every store: what the fold relies on, in memory and in Valkey or Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from rules.fold import Partition
from rules.state import NEVER, AccountState, Standing, pack
from streams.keys import PartitionKeys, tag
from streams.settings import Settings
from streams.store.base import (
    Acquired,
    At,
    Commit,
    Committed,
    Outbound,
    Refused,
    StoppedError,
    Store,
    pack_state,
    unpack_state,
)
from streams.store.memory import MemoryStore
from streams.store.redis import RedisStore, connect
from streams.store.sources import link_digest
from streams.store.switching import forget

PARTITIONS = 4


@pytest.fixture(params=["memory", "redis", "cluster"])
async def store(request: pytest.FixtureRequest, redis: Any) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
    elif request.param == "redis":
        yield RedisStore(redis, PARTITIONS)
    else:
        async with connect(Settings(redis=request.getfixturevalue("cluster").url)) as cluster:
            yield RedisStore(cluster, PARTITIONS)


def commit(acquired: Acquired, **given: Any) -> Commit:
    """The next commit after `acquired`, one record further, named by what it holds."""
    at = acquired.partition.offset
    given.setdefault("partition", Partition(acquired.partition.number, offset=at + 1, log_time=7))
    return Commit(acquired.token, at, given.pop("batch", f"batch-{at}"), **given)


def hot(wake: int = NEVER) -> AccountState:
    return AccountState(born=0, standings={"engagement": Standing(("hot",), 5, wake)}, wake=wake)


async def test_a_new_partition_begins_at_zero(store: Store) -> None:
    acquired = await store.acquire(2)
    assert acquired.partition == Partition(2)
    assert acquired.files == {}
    assert acquired.next_wake == NEVER


async def test_what_is_committed_is_found_again(store: Store) -> None:
    first = await store.acquire(0)
    done = await store.commit(
        commit(
            first,
            states={"acme": hot(wake=900), "bolt": hot()},
            wakes={"acme": 900},
            joined={("engagement", "hot"): ["acme", "bolt"]},
            files={"a.yaml": "ü: 1"},
        )
    )
    assert done == Committed(next_wake=900)
    assert await store.load(0, ["acme", "bolt", "nobody"]) == {"acme": hot(wake=900), "bolt": hot()}
    again = await store.acquire(0)
    assert again.partition == Partition(0, offset=1, log_time=7)
    assert again.files == {"a.yaml": "ü: 1"}
    assert again.next_wake == 900
    assert again.token != first.token


async def test_an_empty_load_asks_nothing(store: Store) -> None:
    assert await store.load(0, []) == {}


async def test_partitions_do_not_see_each_other(store: Store) -> None:
    acquired = await store.acquire(0)
    await store.commit(commit(acquired, states={"acme": hot()}))
    assert await store.load(1, ["acme"]) == {}
    assert (await store.acquire(1)).partition.offset == 0


async def test_who_lost_the_partition_writes_nothing(store: Store) -> None:
    old = await store.acquire(0)
    await store.acquire(0)
    assert await store.commit(commit(old, states={"acme": hot()})) == Refused("fenced")
    assert await store.load(0, ["acme"]) == {}


async def test_a_commit_for_another_position_writes_nothing(store: Store) -> None:
    acquired = await store.acquire(0)
    await store.commit(commit(acquired))
    late = commit(acquired, states={"acme": hot()}, batch="another")
    assert await store.commit(late) == Refused("moved", 1)
    assert await store.load(0, ["acme"]) == {}


async def test_a_repeated_commit_is_recognised_and_not_written_twice(store: Store) -> None:
    acquired = await store.acquire(0)
    once = commit(acquired, outbox=(Outbound("segment.changes", "acme", b"x"),), wakes={"acme": 5})
    assert await store.commit(once) == Committed(5)
    assert await store.commit(once) == Committed(5, repeated=True)
    assert len(await store.outbox(0, 10)) == 1
    assert (await store.acquire(0)).partition.offset == 1


async def test_wakes_come_in_order_of_instant_then_account(store: Store) -> None:
    acquired = await store.acquire(0)
    wakes = {"b": 20, "a": 20, "é": 20, "z": 10, "later": 31}
    await store.commit(commit(acquired, wakes=wakes))
    assert await store.due(0, 30, 10) == [(10, "z"), (20, "a"), (20, "b"), (20, "é")]
    assert await store.due(0, 30, 2) == [(10, "z"), (20, "a")]
    assert await store.due(0, 9, 10) == []


async def test_a_wake_moves_and_goes(store: Store) -> None:
    await store.commit(commit(await store.acquire(0), wakes={"a": 10, "b": 20}))
    done = await store.commit(commit(await store.acquire(0), wakes={"a": NEVER, "b": 25}))
    assert done == Committed(25)
    assert await store.due(0, 99, 10) == [(25, "b")]


async def test_members_join_and_leave(store: Any) -> None:
    await store.commit(commit(await store.acquire(0), joined={("size", "smb"): ["a", "b"]}))
    await store.commit(
        commit(await store.acquire(0), left={("size", "smb"): ["a"]}, joined={("size", "enterprise"): ["a"]})
    )
    assert await store.members(0, "size", "smb") == {"b"}
    assert await store.members(0, "size", "enterprise") == {"a"}


async def test_the_sweep_sees_accounts_in_order(store: Store) -> None:
    states = dict.fromkeys(["c", "a", "b", "é"], hot())
    await store.commit(commit(await store.acquire(0), states=states))
    assert await store.accounts_after(0, "", 2) == ["a", "b"]
    assert await store.accounts_after(0, "b", 10) == ["c", "é"]


async def test_the_outbox_keeps_order_and_is_trimmed_by_id(store: Store) -> None:
    for value in (b"one", None, b"three"):
        message = Outbound("segment.memberships", "acme", value, (("h", b"1"),))
        await store.commit(commit(await store.acquire(0), outbox=(message,)))
    entries = await store.outbox(0, 10)
    assert [entry.messages[0].value for entry in entries] == [b"one", None, b"three"]
    assert entries[0].messages[0].headers == (("h", b"1"),)
    await store.trim(0, entries[1].id)
    await store.trim(0, entries[0].id)  # an old owner, late: nothing more is lost
    assert [entry.id for entry in await store.outbox(0, 10)] == [entries[2].id]


async def test_the_next_owner_learns_where_the_words_of_its_owners_end(store: Store) -> None:
    first = await store.acquire(0)
    assert first.words == -1
    await store.trim(0, "1-0", first.token, 17)
    await store.trim(0, "1-0", first.token)  # does not know: what was known stays
    second = await store.acquire(0)
    assert second.words == 17
    await store.trim(0, "1-0", first.token, 30)  # an old owner, late
    assert (await store.acquire(0)).words == 17


@pytest.mark.parametrize("count", [0, 1, 1_999, 2_000, 2_001, 9_001])
async def test_batches_of_any_size_are_written_whole(store: Any, count: int) -> None:
    accounts = [f"account-{i:05}" for i in range(count)]
    states = dict.fromkeys(accounts, hot(wake=5))
    first = commit(
        await store.acquire(0),
        states=states,
        wakes=dict.fromkeys(accounts, 5),
        joined={("engagement", "hot"): accounts, ("size", "smb"): accounts[:1]},
    )
    assert isinstance(await store.commit(first), Committed)
    assert len(await store.load(0, accounts)) == count
    assert len(await store.due(0, 5, count + 1)) == count
    assert await store.members(0, "engagement", "hot") == set(accounts)
    gone = commit(
        await store.acquire(0), wakes=dict.fromkeys(accounts, NEVER), left={("engagement", "hot"): accounts}
    )
    assert await store.commit(gone) == Committed(NEVER)
    assert await store.members(0, "engagement", "hot") == set()


@pytest.mark.parametrize("fault", ["too few arguments", "too many arguments"])
async def test_a_malformed_commit_writes_nothing(redis: Any, fault: str) -> None:
    """Everything is checked before the first write: before equals after."""
    store = RedisStore(redis, PARTITIONS)
    acquired = await store.acquire(0)
    await store.commit(commit(acquired, states={"acme": hot()}, joined={("a", "b"): ["acme"]}))
    before = await _everything(redis)
    keys, arguments = store._written(commit(await store.acquire(0), states={"bolt": hot()}, wakes={"bolt": 3}))
    broken = arguments[:-1] if fault == "too few arguments" else [*arguments, "x"]
    held = await redis.hget(keys[0], "token")
    with pytest.raises(Exception, match="malformed"):
        await store._commit(keys=keys, args=broken)
    after = await _everything(redis)
    before[keys[0].encode()][b"token"] = held  # `acquire` wrote it, the commit did not
    assert after == before


async def _everything(redis: Any) -> dict[bytes, Any]:
    read: dict[bytes, Callable[[bytes], Any]] = {
        b"hash": redis.hgetall,
        b"set": redis.smembers,
        b"string": redis.get,
        b"zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        b"stream": redis.xrange,
    }
    return {key: await read[await redis.type(key)](key) for key in await redis.keys("*")}


def test_slots_of_partitions_are_evenly_spaced() -> None:
    import binascii

    for partitions in (1, 8, 64, 512):
        slots = [binascii.crc_hqx(tag(p, partitions).encode(), 0) % 16384 for p in range(partitions)]
        width = 16384 / partitions
        assert all(p * width - 1 <= slot < (p + 1) * width + 1 for p, slot in enumerate(slots))
        assert len({PartitionKeys.of(p, partitions).prefix for p in range(partitions)}) == partitions


async def test_tallies_add_up_and_are_forgotten_with_their_day(store: Store) -> None:
    await store.commit(
        commit(await store.acquire(0), tallies={20_000: {"heat/hot/won": 1, "heat/hot/revenue": 500}})
    )
    again = await store.acquire(0)
    added = commit(again, tallies={20_000: {"heat/hot/won": 2}, 20_001: {"heat/cold/won": 1}})
    assert await store.commit(added) == Committed(NEVER)
    assert await store.commit(added) == Committed(NEVER, repeated=True)
    assert await store.tallies(0, 20_000) == {"heat/hot/won": 3, "heat/hot/revenue": 500}
    await store.commit(commit(await store.acquire(0), forgotten=[19_999, 20_000]))
    assert (await store.tallies(0, 20_000), await store.tallies(0, 20_001)) == ({}, {"heat/cold/won": 1})


async def test_a_tally_without_room_stops_nothing(store: Store, redis: Any) -> None:
    most = (1 << 63) - 1
    for n in (most, 1):
        done = await store.commit(
            commit(await store.acquire(0), states={"acme": hot()}, tallies={1: {"a/b/c": n}})
        )
        assert isinstance(done, Committed)
    assert (await store.acquire(0)).partition.offset == 2


@pytest.mark.parametrize("blob", [b"", b"\x00", b"\xff" * 40, b"\x10\x00\x00\x00zzzz"])
def test_a_state_that_cannot_be_read_says_so(blob: bytes) -> None:
    with pytest.raises(ValueError, match="state"):
        unpack_state(blob)


def test_a_state_takes_less_than_it_is_packed() -> None:
    state = AccountState(born=0, standings={f"dimension_{n}": Standing(("unclassified",), 5) for n in range(20)})
    assert unpack_state(pack_state(state)) == state
    assert len(pack_state(state)) < len(pack(state)) / 2


# -- what the owner asks -------------------------------------------------------------------------------------


async def test_an_emptied_store_is_not_somebody_elses(store: Any) -> None:
    """Nobody took the partition over: its owner takes it again, from where the store stands."""
    acquired = await store.acquire(0)
    await store.commit(commit(acquired))
    if isinstance(store, MemoryStore):
        store = MemoryStore()
    else:
        assert await forget(store._redis, PartitionKeys.of(0, PARTITIONS)) == 1
    again = Acquired(acquired.token, Partition(0, offset=1))
    assert await store.commit(commit(again)) == Refused("moved", 0)
    assert await store.owners([0]) == [("", 0)]


async def test_who_owns_a_partition_and_how_far_it_is(store: Store) -> None:
    first, second = await store.acquire(0), await store.acquire(2)
    await store.commit(commit(second))
    assert await store.owners([2, 0, 1]) == [(second.token, 1), (first.token, 0), ("", 0)]


async def test_a_gap_is_accepted_for_one_partition_alone(store: Store) -> None:
    assert await store.accepted(1) is None
    await store.accept_gap(1, 5, 900)
    await store.accept_gap(1, 7, 1_000)
    assert await store.accepted(1) == (7, 1_000)
    assert await store.accepted(0) is None


async def test_who_may_hold_something_of_a_person(store: Store) -> None:
    """By the person's hash; and visitors by the digest of the link that led to them, all that is known of it."""
    acquired, person, device = await store.acquire(0), "p" * 12, "d" * 12
    states = {
        "acme": AccountState(born=0, contacts={person: {}}),
        f"visitor:user:{person}": AccountState(born=0, merged_into="acme"),
        f"visitor:anon:{device}": AccountState(born=0, merged_into="acme"),
        "bolt": AccountState(born=0),
    }
    await store.commit(commit(acquired, states=states))
    assert await store.holding(0, [person]) == ["acme", f"visitor:user:{person}"]
    assert await store.holding(0, [link_digest(f"anon:{device}").hex()]) == [f"visitor:anon:{device}"]
    assert await store.holding(0, ["nobody"]) == []


def reads(store: Store, at: At) -> list[Callable[[], Any]]:
    """Everything that is read for a commit."""
    return [
        lambda: store.load(0, ["acme"], at),
        lambda: store.due(0, 999, 9, at),
        lambda: store.accounts_after(0, "", 9, at),
        lambda: store.holding(0, ["somebody"], at),
    ]


async def test_its_owner_reads_where_it_left_the_partition(store: Store) -> None:
    acquired = await store.acquire(0)
    await store.commit(commit(acquired, states={"acme": hot(wake=900)}, wakes={"acme": 900}))
    found = [await read() for read in reads(store, At(acquired.token, 1))]
    assert found == [{"acme": hot(wake=900)}, [(900, "acme")], ["acme"], []]


@pytest.mark.parametrize("standing", ["older", "newer", "emptied", "taken over"])
async def test_nothing_is_read_for_its_owner_where_the_partition_stands_elsewhere(
    store: Store, redis: Any, standing: str
) -> None:
    acquired = await store.acquire(0)
    await store.commit(commit(acquired, states={"acme": hot(wake=900)}, wakes={"acme": 900}))
    at, refused = At(acquired.token, 1), Refused("moved", 1)
    match standing:
        case "older":
            at = At(acquired.token, 2)
        case "newer":
            at = At(acquired.token, 0)
        case "emptied":
            refused = Refused("moved", 0)
            if isinstance(store, MemoryStore):
                store._kept.clear()
            else:
                await forget(store._redis, store._keys[0])  # type: ignore[attr-defined]
        case "taken over":
            refused = Refused("fenced")
            await store.acquire(0)
    for read in reads(store, at):
        with pytest.raises(StoppedError) as error:
            await read()
        assert error.value.refused == refused


async def test_thousands_are_loaded_for_their_owner(store: Store) -> None:
    acquired, many = await store.acquire(0), [f"acct-{n}" for n in range(9_001)]
    await store.commit(commit(acquired, states=dict.fromkeys(many, hot())))
    at = At(acquired.token, 1)
    assert (await store.load(0, [*many, "nobody"], at)).keys() == set(many)
    assert len(await store.accounts_after(0, "", 10_000, at)) == len(many)
    assert await store.load(0, [], at) == {}
