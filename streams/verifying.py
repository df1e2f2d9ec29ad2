"""Whether Redis holds what the log says: `isotherm verify`.

A partition is folded into memory up to where Redis stands, then compared account by account. Workers may go on:
each slice of accounts is read together with the position at which they stand, in one transaction, and the fold
goes on to just there before they are compared.

Sets of members are what counts and lists are read from. Who is in one and should not be is over-inclusion, who
should be and is not is under-inclusion. Told by themselves: states with another answer, wakes at another instant,
and sets that do not agree with the states beside them.

A sample is one account in so many, by a sum over its id: those that Redis has lost are in it too, and each run
takes another share. In a sample, accounts that the last tick or a sweep has not come to are left out (see
`refolding`).
"""

from __future__ import annotations

import binascii
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from rules.fold import Partition
from rules.state import NEVER, AccountState
from streams.keys import PartitionKeys
from streams.producer import partition_of
from streams.refolding import Log, LogProblem, Recollection, Wanted, begin, opened, refold
from streams.settings import Settings
from streams.store.base import unpack_partition, unpack_state
from streams.store.redis import connect

SLICE = 500  # accounts read from Redis at once
EXAMPLES = 20  # of each kind that are named

Place: TypeAlias = tuple[str, str]  # (dimension, segment)
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Verdict:
    """What was compared and what differs: over- and under-inclusion by segment, the rest by account."""

    compared: int = 0
    left_out: int = 0
    over: Counter[Place] = field(default_factory=Counter)
    under: Counter[Place] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)  # answers, wakes, sets
    examples: list[dict[str, Any]] = field(default_factory=list)
    upto: dict[int, int] = field(default_factory=dict)  # partition -> the position for which this holds

    @property
    def is_equal(self) -> bool:
        return not (self.over or self.under or self.counts)

    def differs(self, kind: str, account: str, **told: Any) -> None:
        if kind in KINDS:
            self.counts[kind] += 1
        if sum(each["kind"] == kind for each in self.examples) < EXAMPLES:
            self.examples.append({"kind": kind, "account": account, **told})

    def metrics(self) -> dict[str, int]:
        """Numbers for whoever watches: 0 each, but for `compared`, where all is well."""
        return {
            "compared": self.compared,
            "left_out": self.left_out,
            "over": self.over.total(),
            "under": self.under.total(),
            **{kind: self.counts[kind] for kind in KINDS},
        }

    def plain(self) -> dict[str, Any]:
        return {
            "equal": self.is_equal,
            **self.metrics(),
            "over_inclusion": _by_segment(self.over),
            "under_inclusion": _by_segment(self.under),
            "examples": self.examples,
            "upto": {str(number): offset for number, offset in self.upto.items()},
        }


KINDS = ("answers", "wakes", "sets")


def _by_segment(counts: Counter[Place]) -> dict[str, int]:
    return {"/".join(place): count for place, count in sorted(counts.items())}


async def verify(
    settings: Settings,
    accounts: Iterable[str] = (),
    sample: int = 0,
    whole: bool = False,
    progress: Progress = lambda done, of: None,
) -> Verdict:
    """Compares these accounts, else about `sample` of them, else all; from the newest snapshot on, or by the
    `whole` log.

    Raises LogProblem when the log does not reach back far enough, or Redis goes back meanwhile.
    """
    redis = connect(settings, timeout=60.0)
    try:
        async with opened(settings) as log:
            return await _Verifying(settings, redis, log, progress, whole).run([*accounts], sample)
    finally:
        await redis.aclose()


@dataclass(frozen=True, slots=True)
class Read:
    """A slice of accounts as Redis has them at one moment. A state of None cannot be read."""

    partition: Partition
    states: dict[str, AccountState | None]
    wakes: dict[str, int]
    members: dict[Place, set[str]]


@dataclass(slots=True)
class _Verifying:
    settings: Settings
    redis: Any
    log: Log
    progress: Progress
    whole: bool = False
    verdict: Verdict = field(default_factory=Verdict)
    done: int = 0
    total: int = 0

    async def run(self, accounts: list[str], sample: int) -> Verdict:
        count = self.settings.partitions
        numbers = sorted({partition_of(each, count) for each in accounts}) if accounts else [*range(count)]
        positions = {number: await self._position(number) for number in numbers}
        self.total = sum(positions.values())
        wanted: Wanted | None = None
        if accounts:
            wanted = frozenset(accounts).__contains__
        elif sample:
            wanted = await self._share(sample)
        for number, position in positions.items():
            await self._partition(number, position, wanted, accounts)
        return self.verdict

    async def _share(self, sample: int) -> Wanted | None:
        """One account in so many, which ones is left to chance; None: there are no more than that."""
        sizes = [await self.redis.hlen(self._keys(number).accounts) for number in range(self.settings.partitions)]
        parts = sum(sizes) // sample
        return partial(_is_in_share, parts, secrets.randbelow(parts)) if parts > 1 else None

    async def _partition(self, number: int, position: int, wanted: Wanted | None, accounts: list[str]) -> None:
        store = Recollection()
        owned = await begin(self.log, number, store, position, self.whole, wanted)
        self.total -= owned.partition.offset
        owned = await refold(self.log, owned, store, position, self._folded, wanted)
        places, found = await self._known(number)
        mine = (each for each in accounts if partition_of(each, self.settings.partitions) == number)
        names = sorted(name for name in found.union(store.packed(number), mine) if wanted is None or wanted(name))
        for start in range(0, len(names), SLICE):
            asked = names[start : start + SLICE]
            read = await self._read(number, asked, places)
            if read.partition.offset < owned.partition.offset:
                raise LogProblem(f"Redis went back while it was read (partition {number}); try again")
            self.total += read.partition.offset - owned.partition.offset
            owned = await refold(self.log, owned, store, read.partition.offset, self._folded, wanted)
            ours = await store.load(number, asked)
            for account in asked:
                self._compare(account, ours.get(account), read, is_sample=wanted is not None)
        self.verdict.upto[number] = owned.partition.offset

    # -- reading Redis ---------------------------------------------------------------------------------------

    def _keys(self, number: int) -> PartitionKeys:
        return PartitionKeys.of(number, self.settings.partitions, self.settings.namespace)

    async def _position(self, number: int) -> int:
        blob = await self.redis.hget(self._keys(number).meta, "partition")
        return unpack_partition(blob).offset if blob else 0

    async def _known(self, number: int) -> tuple[list[Place], set[str]]:
        """Every set of members that there is, and every account that is named anywhere."""
        keys, places, names = self._keys(number), list[Place](), set[str]()
        async for name in self.redis.scan_iter(match=keys.all, count=1_000):
            if place := keys.place(name.decode()):
                places.append(place)
                names.update([each.decode() async for each in self.redis.sscan_iter(name, count=1_000)])
        names.update([each.decode() for each in await self.redis.hkeys(keys.accounts)])
        names.update([each.decode() async for each, _ in self.redis.zscan_iter(keys.wakes, count=1_000)])
        return sorted(set(places)), names

    async def _read(self, number: int, accounts: list[str], places: list[Place]) -> Read:
        keys = self._keys(number)
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.hget(keys.meta, "partition")
            pipe.hmget(keys.accounts, accounts)
            pipe.zmscore(keys.wakes, accounts)
            for place in places:
                pipe.smismember(keys.members(*place), accounts)
            position, blobs, scores, *sets = await pipe.execute()
        return Read(
            unpack_partition(position) if position else Partition(number),
            {name: read_state(blob) for name, blob in zip(accounts, blobs, strict=True) if blob is not None},
            {name: int(score) for name, score in zip(accounts, scores, strict=True) if score is not None},
            {
                place: {name for name, is_in in zip(accounts, flags, strict=True) if is_in}
                for place, flags in zip(places, sets, strict=True)
            },
        )

    # -- comparing -------------------------------------------------------------------------------------------

    def _compare(self, account: str, ours: AccountState | None, read: Read, is_sample: bool) -> None:
        verdict, theirs = self.verdict, read.states.get(account)
        if is_sample and _is_behind(account, theirs, read.partition):
            verdict.left_out += 1
            return
        verdict.compared += 1
        ours_in = places_of(ours)
        in_sets = {place for place, members in read.members.items() if account in members}
        for place in sorted(in_sets - ours_in):
            verdict.over[place] += 1
            verdict.differs("over", account, segment="/".join(place))
        for place in sorted(ours_in - in_sets):
            verdict.under[place] += 1
            verdict.differs("under", account, segment="/".join(place))
        unreadable = account in read.states and theirs is None
        if unreadable or stands(ours) != stands(theirs):
            found = "cannot be read" if unreadable else stands(theirs)
            verdict.differs("answers", account, expected=stands(ours), found=found)
        wake, found_wake = ours.wake if ours is not None else NEVER, read.wakes.get(account, NEVER)
        if wake != found_wake:
            verdict.differs("wakes", account, expected=wake, found=found_wake)
        if in_sets != places_of(theirs):
            verdict.differs("sets", account)

    def _folded(self, records: int) -> None:
        self.done += records
        self.progress(self.done, self.total)


def read_state(blob: bytes) -> AccountState | None:
    """None for one that cannot be read."""
    try:
        return unpack_state(blob)
    except ValueError:
        return None


def _is_in_share(parts: int, share: int, account: str) -> bool:
    return binascii.crc32(account.encode()) % parts == share


def _is_behind(account: str, state: AccountState | None, partition: Partition) -> bool:
    """Whether a sweep or a wake has still to come to the account: which tick does depends on all the others."""
    if partition.sweep is not None and account > partition.sweep:
        return True
    return state is not None and state.wake <= partition.log_time


def places_of(state: AccountState | None) -> set[Place]:
    """The segments that the account is in."""
    standings = state.standings if state is not None else {}
    return {(name, segment) for name, standing in standings.items() for segment in standing.answer}


def stands(state: AccountState | None) -> str | dict[str, list[str]]:
    """Where the account stands, as subscribers know it; who was deleted is as good as not there."""
    if state is None or state.deleted:
        return "not there"
    if state.merged_into:
        return f"merged into {state.merged_into}"
    return {name: [*standing.answer] for name, standing in sorted(state.standings.items()) if standing.answer}
