"""Redis made anew from the log, while workers go on: `isotherm rebuild`.

    log ─► fold, quietly ─► second namespace ─► within reach ─► fence ─► the rest ─► compare ─► switch
                                                                  └ the live partition stands still so long ┘

One partition after the other, so that Redis needs room for one of them twice. Until the switch nothing that runs
is touched; the switch is one script, and whoever held the partition takes it over anew. Both stand at the same
record then: what the log says up to there has been told, or waits in the live outbox, which stays.

Only who stands elsewhere than before is told of. Such an account is marked as told at the switch, and the epoch
that the new owner begins lets all tell where they stand that were told there or later. Who is in Redis and not in
the log, and so is nobody to tell, is taken leave of by the outbox.

Ended in between, the same command goes on: what was folded into the second namespace is kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rules.engine import tell_again
from rules.fold import Folded, Outgoing, Partition, Place, Refolding
from rules.records import is_visitor
from rules.state import NEVER, AccountState
from streams.keys import PartitionKeys
from streams.pipeline import Owned, published
from streams.producer import partition_of
from streams.publisher import order
from streams.refolding import Log, begin, opened, refold
from streams.settings import Settings
from streams.store.base import Commit, Entry, Refused, StoppedError
from streams.store.redis import RedisStore, connect
from streams.store.switching import QuietStore, Switch, forget, keys_of, last_entry, switch
from streams.verifying import SLICE, read_state, stands

PASSES = 20  # over what has come meanwhile, before the partition is made to stand still whatever is left
TRIES = 5
AFTER_ALL = 1 << 30  # n of what no record of the log did: behind all that the last record did

Progress = Callable[[int, int], None]


class RebuildProblem(Exception):
    """It was not done. The message says why, and what to do."""


@dataclass(slots=True)
class Rebuilt:
    """What differed. `entered` and `left`: how many accounts the sets of a segment gained and lost."""

    partitions: list[int] = field(default_factory=list)
    accounts: int = 0
    told: int = 0  # accounts that stand elsewhere than before
    entered: Counter[tuple[str, str]] = field(default_factory=Counter)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    still_ms: int = 0  # the longest that a partition stood still
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        segments = sorted(self.entered.keys() | self.left.keys())
        return {
            "partitions": self.partitions,
            "accounts": self.accounts,
            "told": self.told,
            "segments": {
                "/".join(place): {"entered": self.entered[place], "left": self.left[place]} for place in segments
            },
            "still_ms": self.still_ms,
            "seconds": round(self.seconds, 1),
        }


async def rebuild(
    settings: Settings,
    numbers: Iterable[int],
    into: str,
    whole: bool = False,
    progress: Progress = lambda done, of: None,
) -> Rebuilt:
    """Rebuilds these partitions by way of the namespace `into`, from the newest snapshot or from the `whole` log.

    Raises LogProblem when the log does not reach back, RebuildProblem when a partition is not left alone.
    """
    redis, began = connect(settings, timeout=60.0), time.monotonic()
    try:
        async with opened(settings) as log:
            live = RedisStore(redis, settings.partitions, settings.namespace)
            fresh = QuietStore(redis, settings.partitions, into)
            work = _Rebuilding(settings, redis, log, live, fresh, into, progress, whole)
            for number in numbers:
                await work.partition(number)
        work.rebuilt.seconds = time.monotonic() - began
        return work.rebuilt
    finally:
        await redis.aclose()


async def abandon(settings: Settings, numbers: Iterable[int], into: str) -> int:
    """Removes what was folded into the namespace `into`; how many keys that were."""
    redis = connect(settings)
    try:
        return sum([await forget(redis, PartitionKeys.of(each, settings.partitions, into)) for each in numbers])
    finally:
        await redis.aclose()


@dataclass(slots=True)
class _Rebuilding:
    settings: Settings
    redis: Any
    log: Log
    live: RedisStore
    fresh: QuietStore
    into: str
    progress: Progress
    whole: bool = False
    rebuilt: Rebuilt = field(default_factory=Rebuilt)
    done: int = 0
    total: int = 0

    async def partition(self, number: int) -> None:
        position = await self._position(number)
        if not position:
            return  # nothing has been folded yet
        ((_, at),) = await self.fresh.owners([number])
        if not at:  # what a snapshot was written to that was not finished
            await forget(self.redis, self._keys(number, self.into))
        try:
            owned = await begin(self.log, number, self.fresh, position, self.whole)
            for _ in range(TRIES):
                owned = await self._within_reach(owned)
                began = time.monotonic()
                owned, refused = await self._switch(owned)
                if refused is None:
                    still = int(1000 * (time.monotonic() - began))
                    self.rebuilt.still_ms = max(self.rebuilt.still_ms, still)
                    self.rebuilt.partitions.append(number)
                    return
        except StoppedError:
            raise RebuildProblem(
                f"partition {number} is being rebuilt by somebody else too, into {self.into}; nothing was switched"
            ) from None
        raise RebuildProblem(
            f"partition {number} was taken back {TRIES} times before it was switched; the same command goes on"
        )

    async def _within_reach(self, owned: Owned) -> Owned:
        number = owned.partition.number
        for _ in range(PASSES):
            position = await self._position(number)
            if position - owned.partition.offset <= self.settings.batch:
                break
            owned = await self._fold(owned, position)
        return owned

    async def _position(self, number: int) -> int:
        ((_, position),) = await self.live.owners([number])
        return position

    async def _fold(self, owned: Owned, upto: int) -> Owned:
        self.total += max(0, upto - owned.partition.offset)
        return await refold(self.log, owned, self.fresh, upto, self._folded)

    def _folded(self, records: int) -> None:
        self.done += records
        self.progress(self.done, self.total)

    # -- the switch ------------------------------------------------------------------------------------------

    async def _switch(self, owned: Owned) -> tuple[Owned, Refused | None]:
        """With the live partition ours, it stands still: until the switch, or until a worker takes it back."""
        number = owned.partition.number
        live = await self.live.acquire(number)
        position = live.partition.offset
        if position < owned.partition.offset:
            raise RebuildProblem(
                f"Redis stands at {position:,} in partition {number} and what was rebuilt at "
                f"{owned.partition.offset:,}: Redis has gone back. Let workers catch up, or begin anew after "
                "`isotherm rebuild --abandon`"
            )
        owned = await self._fold(owned, position)
        differing = await self._compare(owned, live.partition)
        farewells = await self._farewells(owned, live.partition, differing.gone)
        await self._mark(owned, differing.marked)
        asked = Switch(
            self._keys(number, self.settings.namespace),
            self._keys(number, self.into),
            live.token,
            owned.token,
            _noted(owned.partition, live.partition),
            farewells,
        )
        refused = await switch(self.redis, asked)
        if refused is None:
            self.rebuilt.accounts += differing.accounts
            self.rebuilt.told += len(differing.marked) + len(differing.gone)
            self.rebuilt.entered += differing.entered
            self.rebuilt.left += differing.left
        return owned, refused

    def _keys(self, number: int, namespace: str) -> PartitionKeys:
        return PartitionKeys.of(number, self.settings.partitions, namespace)

    async def _compare(self, owned: Owned, was: Partition) -> _Differing:
        """Both stand still, and at the same record."""
        number, found = owned.partition.number, _Differing()
        live, fresh = self._keys(number, self.settings.namespace), self._keys(number, self.into)
        ours = {name.decode() for name in await self.redis.hkeys(fresh.accounts)}
        theirs = {name.decode() for name in await self.redis.hkeys(live.accounts)}
        found.accounts = len(ours)
        names = sorted(ours | theirs)
        for start in range(0, len(names), SLICE):
            asked = names[start : start + SLICE]
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.hmget(fresh.accounts, asked)
                pipe.hmget(live.accounts, asked)
                blobs, blobs_were = await pipe.execute()
            for account, blob, blob_was in zip(asked, blobs, blobs_were, strict=True):
                if blob != blob_was and not is_visitor(account):
                    found.sees(account, blob, blob_was, _owing(was))
        # What is at home in another partition is not gone: where it stands is told there.
        found.gone = [each for each in found.gone if partition_of(each, self.settings.partitions) == number]
        await self._compare_sets(live, fresh, found)
        return found

    async def _compare_sets(self, live: PartitionKeys, fresh: PartitionKeys, found: _Differing) -> None:
        places = {live.place(key) for key in await keys_of(self.redis, live)}
        places |= {fresh.place(key) for key in await keys_of(self.redis, fresh)}
        for place in places:
            if place is not None:
                sets = fresh.members(*place), live.members(*place)
                if entered := len(await self.redis.sdiff(*sets)):
                    found.entered[place] = entered
                if left := len(await self.redis.sdiff(*reversed(sets))):
                    found.left[place] = left

    async def _mark(self, owned: Owned, accounts: list[str]) -> None:
        """As told of at the switch: the epoch's sweep lets these tell where they stand."""
        number, position = owned.partition.number, owned.partition.offset
        for start in range(0, len(accounts), SLICE):
            states = await self.fresh.load(number, accounts[start : start + SLICE], owned.at)
            for state in states.values():
                state.told = position
            batch = f"{position}-{start}-{owned.token}-marked"
            done = await self.fresh.commit(Commit(owned.token, position, batch, owned.partition, states))
            if isinstance(done, Refused):
                raise StoppedError(done)

    async def _farewells(self, owned: Owned, was: Partition, accounts: list[str]) -> list[Entry]:
        """What is told of accounts that are not in the log: they are in no segment."""
        position, rules, entries = owned.partition.offset, owned.rules, list[Entry]()
        if not accounts:
            return entries
        offset, last = order(await last_entry(self.redis, self._keys(was.number, self.settings.namespace)))
        n, gone = last if offset == position else 0, AccountState(0, deleted=True)
        for start in range(0, len(accounts), SLICE):
            folded = Folded(owned.partition, rules)
            for account in accounts[start : start + SLICE]:
                (change,) = tell_again(account, gone, owned.partition.log_time, rules).changes
                at = AFTER_ALL + n * SLICE + len(folded.outgoing)
                folded.outgoing.append(Outgoing(was.epoch, position - 1, at, change, gone, rules.ruleset))
            n += 1
            entries.append(Entry(f"{position}-{n}", list(published(folded))))
        return entries


@dataclass(slots=True)
class _Differing:
    """What the log says and the live partition did not, or the other way round."""

    accounts: int = 0
    marked: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  # the log knows nothing of them
    entered: Counter[tuple[str, str]] = field(default_factory=Counter)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)

    def sees(self, account: str, blob: bytes | None, blob_was: bytes | None, owing: int) -> None:
        state = read_state(blob) if blob is not None else None
        was = read_state(blob_was) if blob_was is not None else None
        unreadable = blob_was is not None and was is None
        if not unreadable and stands(state) == stands(was) and not (was is not None and was.told >= owing):
            return
        if state is not None:
            self.marked.append(account)
        elif unreadable or stands(was) != stands(None):
            self.gone.append(account)


def _owing(was: Partition) -> int:
    """Accounts that were told of at this offset or later still owe where they stand: a sweep was to come."""
    owing = [was.tells] if was.tells >= 0 else []
    if was.refolding is not None:
        owing.append(was.refolding.since)
    return min(owing, default=NEVER)


def _noted(partition: Partition, was: Partition) -> Partition:
    """The partition as it is switched: what the live one told is told, and an epoch is to begin."""
    position = partition.offset
    told, since, lost = Place(was.epoch, position - 1, AFTER_ALL << 1), position, None
    if was.refolding is not None:
        told, since, lost = max(told, was.refolding.told), min(since, was.refolding.since), was.refolding.lost
    return msgspec.structs.replace(partition, refolding=Refolding(since, told, lost))
