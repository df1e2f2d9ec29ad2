"""The names that a sweep comes to are those that are there, in order, whatever came and went meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.fold import Partition
from rules.state import AccountState
from streams.store import redis as redis_store
from streams.store.base import At, Commit, Committed
from streams.store.redis import RedisStore
from streams.store.sweeping import Ahead, Smallest

SOMEBODY = AccountState(born=0)
NAMES = [f"acct-{n:04}" for n in range(0, 1_000, 2)]


class Counting(RedisStore):
    """Knows how often all names were looked through."""

    looked = 0

    async def accounts_after(self, partition: int, account: str, limit: int, at: At | None = None) -> list[str]:
        known = self._ahead.get(partition)
        found = await super().accounts_after(partition, account, limit, at)
        self.looked += self._ahead.get(partition) is not known
        return found


class Owner:
    def __init__(self, store: Counting) -> None:
        self.store, self.at, self.token = store, 0, ""

    async def takes(self) -> Owner:
        acquired = await self.store.acquire(0)
        self.token, self.at = acquired.token, acquired.partition.offset
        return self

    async def commits(self, *come: str, gone: Iterable[str] = (), sweep: str | None = "") -> Any:
        states: dict[str, AccountState | None] = {**dict.fromkeys(come, SOMEBODY), **dict.fromkeys(gone)}
        partition = Partition(0, offset=self.at + 1, sweep=sweep)
        done = await self.store.commit(Commit(self.token, self.at, f"{self.token}-{self.at}", partition, states))
        self.at += 1
        return done


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> int:
    """Fewer are kept, so that a sweep looks several times."""
    monkeypatch.setattr(redis_store, "AHEAD", 120)
    monkeypatch.setattr(redis_store, "SLICE", 50)
    return 120


async def test_a_sweep_reads_all_names_once_in_a_while(redis: Any, ahead: int) -> None:
    owner = await Owner(Counting(redis, 1)).takes()
    await owner.commits(*NAMES)
    seen, cursor = list[str](), ""
    while found := await owner.store.accounts_after(0, cursor, 20):
        seen, cursor = seen + found, found[-1]
        await owner.commits(*found, sweep=cursor)
    assert seen == NAMES
    assert owner.store.looked == len(NAMES) // ahead + 1


async def test_who_comes_and_goes_meanwhile_is_known(redis: Any, ahead: int) -> None:
    owner = await Owner(Counting(redis, 1)).takes()
    await owner.commits(*NAMES)
    assert await owner.store.accounts_after(0, "", 2) == ["acct-0000", "acct-0002"]
    await owner.commits("acct-0003", "acct-0999", gone=["acct-0004", "acct-0001"])
    assert await owner.store.accounts_after(0, "acct-0002", 3) == ["acct-0003", "acct-0006", "acct-0008"]
    assert owner.store.looked == 1
    assert await owner.store.accounts_after(0, "acct-0996", 9) == ["acct-0998", "acct-0999"]


async def test_whoever_takes_over_reads_anew(redis: Any) -> None:
    first, second = await Owner(Counting(redis, 1)).takes(), Owner(Counting(redis, 1))
    await first.commits("a", "c")
    assert await first.store.accounts_after(0, "", 5) == ["a", "c"]
    await second.takes()
    assert await second.commits("b") == Committed(1 << 53)
    refused = await first.commits("d")
    assert refused.reason == "fenced"
    assert await first.store.accounts_after(0, "", 5) == ["a", "b", "c"]
    await first.takes()
    assert await first.store.accounts_after(0, "", 5) == ["a", "b", "c"]


async def test_nothing_is_kept_once_the_sweep_is_over(redis: Any) -> None:
    store = Counting(redis, 1)
    owner = await Owner(store).takes()
    await owner.commits("a")
    await store.accounts_after(0, "", 5)
    assert store._ahead
    await owner.commits("b", sweep=None)
    assert not store._ahead


names = st.text("abé", min_size=1, max_size=3)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sets(names, max_size=30), names, st.integers(1, 5), st.lists(st.tuples(names, st.booleans()), max_size=20)
)
def test_what_is_kept_is_what_is_there(
    known: set[str], after: str, most: int, more: list[tuple[str, bool]]
) -> None:
    there, smallest = set(known), Smallest(after, most)
    for each in sorted(known, reverse=True):
        smallest.hear([each.encode()] * 2)
    ahead = Ahead("t", 0, after, *smallest.found())
    for at, (name, is_gone) in enumerate(more):
        there = there - {name} if is_gone else there | {name}
        states = {name: None if is_gone else SOMEBODY}
        assert ahead.follow(Commit("t", at, "", Partition(0, offset=at + 1, sweep=""), states))
        for cursor in [after, *sorted(there)]:
            for limit in (1, 3):
                found = ahead.next(cursor, limit)
                assert found is None or found == sorted(each for each in there if each > cursor)[:limit]
    assert not ahead.follow(Commit("other", len(more), "", Partition(0, sweep=""), {}))
