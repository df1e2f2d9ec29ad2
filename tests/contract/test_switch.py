"""A partition that was folded once more takes the live one's place whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from redis.exceptions import ResponseError
from test_store import PARTITIONS, _everything, commit, hot

from rules.fold import Partition, Place, Refolding
from rules.state import AccountState, Standing
from streams.keys import PartitionKeys, rebuilt
from streams.store.base import Acquired, Committed, Entry, Outbound, Refused
from streams.store.redis import RedisStore
from streams.store.switching import QuietStore, Switch, forget, keys_of, last_entry, switch

LIVE, FRESH = PartitionKeys.of(1, PARTITIONS), PartitionKeys.of(1, PARTITIONS, rebuilt())
REFOLDING = Refolding(1, Place(0, 0, 5))


@pytest.fixture
def live(redis: Any) -> RedisStore:
    return RedisStore(redis, PARTITIONS)


@pytest.fixture
def fresh(redis: Any) -> QuietStore:
    return QuietStore(redis, PARTITIONS, rebuilt())


def cold() -> AccountState:
    return AccountState(born=0, standings={"engagement": Standing(("cold",), 5)})


async def both(live: RedisStore, fresh: QuietStore) -> tuple[Acquired, Acquired]:
    """Two foldings of one record: the live one took `acme` for hot and forgot `bolt`."""
    await live.commit(
        commit(
            await live.acquire(1),
            states={"acme": hot(wake=900), "nobody": hot()},
            wakes={"acme": 900},
            joined={("engagement", "hot"): ["acme", "nobody"], ("size", "smb"): ["acme"]},
            outbox=(Outbound("segment.changes", "acme", b"told"),),
            tallies={20_000: {"engagement/hot/entered": 7}, 19_990: {"engagement/hot/entered": 1}},
            files={"a.yaml": "live"},
        )
    )
    await fresh.commit(
        commit(
            await fresh.acquire(1),
            states={"acme": cold(), "bolt": hot(wake=800)},
            wakes={"bolt": 800},
            joined={("engagement", "cold"): ["acme"], ("engagement", "hot"): ["bolt"]},
            outbox=(Outbound("segment.changes", "acme", b"not to be told"),),
            tallies={20_000: {"engagement/cold/entered": 2}},
            files={"a.yaml": "fresh"},
        )
    )
    return await live.acquire(1), await fresh.acquire(1)


def asked(was: Acquired, now: Acquired, **given: Any) -> Switch:
    partition = msgspec.structs.replace(now.partition, refolding=REFOLDING)
    return Switch(LIVE, FRESH, was.token, now.token, given.pop("partition", partition), **given)


async def test_what_was_folded_once_more_is_there_and_nothing_of_before(
    live: RedisStore, fresh: QuietStore, redis: Any
) -> None:
    await live.accept_gap(1, 3, 4)
    other = PartitionKeys.of(2, PARTITIONS)
    await redis.set(other.ruleset, b"{}")
    was, now = await both(live, fresh)
    entry = Entry("1-1", [Outbound("segment.changes", "nobody", b"goes")])
    assert await switch(redis, asked(was, now, entries=[entry])) is None

    assert await live.owners([1]) == [("", 1)]  # nobody's
    acquired = await live.acquire(1)
    assert acquired.partition == msgspec.structs.replace(now.partition, refolding=REFOLDING)
    assert (acquired.files, acquired.next_wake) == ({"a.yaml": "fresh"}, 800)
    assert await live.load(1, ["acme", "bolt", "nobody"]) == {"acme": cold(), "bolt": hot(wake=800)}
    assert await live.due(1, 999, 9) == [(800, "bolt")]
    assert await live.members(1, "engagement", "hot") == {"bolt"}
    assert await live.members(1, "engagement", "cold") == {"acme"}
    assert await live.members(1, "size", "smb") == set()
    assert (await live.tallies(1, 20_000), await live.tallies(1, 19_990)) == ({"engagement/cold/entered": 2}, {})
    said = [(each.id, each.messages[0].value) for each in await live.outbox(1, 9)]
    assert said == [("1-0", b"told"), ("1-1", b"goes")]
    assert await last_entry(redis, LIVE) == "1-1"
    assert await live.accepted(1) == (3, 4)
    assert await keys_of(redis, FRESH) == []
    assert await redis.get(other.ruleset) == b"{}"


async def test_the_owner_of_before_is_told_to_take_over_anew(
    live: RedisStore, fresh: QuietStore, redis: Any
) -> None:
    was, now = await both(live, fresh)
    assert await switch(redis, asked(was, now)) is None
    assert await live.commit(commit(was, batch="late")) == Refused("moved", 1)
    anew = await live.acquire(1)
    assert isinstance(await live.commit(commit(anew)), Committed)


@pytest.mark.parametrize(
    ("meanwhile", "refused"),
    [
        ("a worker takes the live one over", Refused("fenced")),
        ("somebody else rebuilds it", Refused("fenced")),
        ("Redis is emptied", Refused("fenced")),
        ("the live one goes on", Refused("moved", 2)),
        ("the rebuilt one is behind", Refused("behind", 1)),
    ],
)
async def test_it_is_refused_when_one_of_them_is_not_as_it_was(
    live: RedisStore, fresh: QuietStore, redis: Any, meanwhile: str, refused: Refused
) -> None:
    was, now = await both(live, fresh)
    given: dict[str, Any] = {}
    match meanwhile:
        case "a worker takes the live one over":
            await live.acquire(1)
        case "somebody else rebuilds it":
            await fresh.acquire(1)
        case "Redis is emptied":
            await redis.flushall()
        case "the live one goes on":
            await live.commit(commit(was))
        case "the rebuilt one is behind":
            await live.commit(commit(was))
            given["partition"] = Partition(1, offset=2)
    before = await _everything(redis)
    assert await switch(redis, asked(was, now, **given)) == refused
    assert await _everything(redis) == before


@pytest.mark.parametrize("fault", ["an id that is too low", "a key that is not there", "a key too many"])
async def test_what_cannot_be_done_whole_is_not_begun(
    live: RedisStore, fresh: QuietStore, redis: Any, fault: str
) -> None:
    was, now = await both(live, fresh)
    entries, spoilt = [Entry("1-0", [])], redis
    if fault != "an id that is too low":
        entries, spoilt = [], Spoilt(redis, "isotherm:rebuild:{1}:gone", twice=fault == "a key that is not there")
    before = await _everything(redis)
    with pytest.raises(ResponseError):
        await switch(spoilt, asked(was, now, entries=entries))
    assert await _everything(redis) == before


class Spoilt:
    """A Redis whose scripts are called with a key, or two, at the end that nobody asked for."""

    def __init__(self, redis: Any, key: str, twice: bool) -> None:
        self._redis, self._more = redis, [key] * (1 + twice)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)

    def register_script(self, text: str) -> Callable[..., Any]:
        script = self._redis.register_script(text)
        return lambda keys, args: script(keys=[*keys, *self._more], args=args)


async def test_abandoned_it_leaves_nothing(live: RedisStore, fresh: QuietStore, redis: Any) -> None:
    await both(live, fresh)
    before = await keys_of(redis, LIVE)
    assert await forget(redis, FRESH) > 0
    assert (await keys_of(redis, FRESH), await keys_of(redis, LIVE)) == ([], before)
    assert await forget(redis, FRESH) == 0


def test_a_name_with_signs_of_patterns_matches_itself() -> None:
    keys = PartitionKeys.of(0, 1, "a*b?[c]\\")
    assert keys.all == "a\\*b\\?\\[c\\]\\\\:{0}:*"
    assert keys.place(keys.members("size", "a/b")) == ("size", "a/b")
    assert keys.place(keys.meta) is None
