"""Other rules beside those in force, for as long as one likes: `isotherm shadow`.

    account.log ─► the same fold, under the other rules ─► second namespace, and nothing goes out
                                                                 └─► compared with the live one, now and then

The other rules count from the log's beginning, as if they had always been in force. Where it was shortened they
come into force at the snapshot, and what they would have had to see before is unknown; so it is of an account that
was merged, up to then: what it brought along was counted by the rules in force. Whoever runs it may be killed: it
goes on where the namespace stands.

Both stand at almost the same record when they are compared; an account that moves just then may differ a moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rules.changes import iso
from rules.records import Record, RulesetRecord, Tick
from rules.ruleset import InForce, Ruleset
from rules.state import UNCLASSIFIED
from streams.clock import RedisClock
from streams.deploy import How, put_in_force
from streams.keys import PartitionKeys
from streams.pipeline import Owned, decoded
from streams.reading import Reader
from streams.refolding import Log, LogProblem, fold_quietly, opened
from streams.remembering import DAY, MONTH, Remembered
from streams.settings import Settings
from streams.store.base import Commit, Refused, StoppedError
from streams.store.redis import RedisStore, connect
from streams.store.snapshots import seed
from streams.store.switching import QuietStore, forget

SHADOW = "shadow"
LOOK_S = 0.5
COMPARED_EVERY_S = DAY.step / 1000

Progress = Callable[[int, int], None]


class ShadowProblem(Exception):
    """It was not done. The message says why, and what to do."""


class Compared(msgspec.Struct, frozen=True):
    """How many accounts each segment has in force and in the shadow, and how many of one are not in the other.

    `places`: `dimension/segment` → (in force, in the shadow, only in force, only in the shadow). `at`: log_time,
    UTC ms; `behind`: so many records the shadow had still to fold.
    """

    at: int
    behind: int
    places: dict[str, tuple[int, int, int, int]]

    @property
    def differing(self) -> int:
        return sum(only + other for _, _, only, other in self.places.values())

    def plain(self) -> dict[str, Any]:
        names = ("in_force", "shadow", "only_in_force", "only_shadow")
        return {
            "at": iso(self.at) if self.at else None,
            "behind": self.behind,
            "segments": {place: dict(zip(names, each, strict=True)) for place, each in self.places.items()},
        }


def of(settings: Settings) -> Settings:
    """The settings under which the shadow is read."""
    return settings.model_copy(update={"namespace": f"{settings.namespace}:{SHADOW}"})


def remembered(redis: Any, settings: Settings) -> Remembered[Compared]:
    """How the two differed, by when they were compared."""
    return Remembered(redis, SHADOW, settings.namespace, Compared)


async def run(settings: Settings, ruleset: Ruleset, progress: Progress, until_caught_up: bool = False) -> None:
    """Folds the log under `ruleset`, and goes on as it grows.

    Raises ShadowProblem, and LogProblem when the log does not reach back.
    """
    async with _opened(settings) as shadow:
        await shadow.require_rules(ruleset)
        compared = time.monotonic()
        while True:
            behind = await shadow.catch_up(ruleset, progress)
            ends = until_caught_up and not behind
            if ends or time.monotonic() - compared > COMPARED_EVERY_S:
                await shadow.keep(await shadow.compare())
                compared = time.monotonic()
            if ends:
                return
            if not behind:
                await asyncio.sleep(LOOK_S)


async def compare(settings: Settings) -> tuple[Ruleset, Compared, list[Compared]]:
    """The rules in the shadow, what differs now, and what differed before, the newest first."""
    async with _opened(settings) as shadow:
        return await shadow.rules(), await shadow.compare(), await shadow.history()


async def promote(settings: Settings, how: How) -> RulesetRecord:
    """Puts the rules of the shadow in force: one record into every partition."""
    async with _opened(settings) as shadow:
        return await put_in_force(await shadow.rules(), how, settings)


async def drop(settings: Settings) -> int:
    """Removes the shadow; how many keys that were."""
    async with _opened(settings) as shadow:
        return await shadow.drop()


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[_Shadow]:
    redis = connect(settings, timeout=60.0)
    try:
        async with opened(settings) as log:
            yield _Shadow(settings, redis, log)
    finally:
        await redis.aclose()


@dataclass(slots=True)
class _Shadow:
    settings: Settings
    redis: Any
    log: Log
    kept: Remembered[Compared] = field(init=False)

    def __post_init__(self) -> None:
        self.kept = remembered(self.redis, self.settings)

    @property
    def store(self) -> QuietStore:
        return QuietStore(self.redis, self.settings.partitions, of(self.settings).namespace)

    @property
    def numbers(self) -> range:
        return range(self.settings.partitions)

    async def rules(self) -> Ruleset:
        ruleset = await Reader(self.redis, of(self.settings)).ruleset()
        if not ruleset.hash:
            raise ShadowProblem("there is no shadow; isotherm shadow run DIR begins one")
        return ruleset

    async def require_rules(self, wanted: Ruleset) -> None:
        there = await Reader(self.redis, of(self.settings)).ruleset()
        if there.hash and there.hash != wanted.hash:
            raise ShadowProblem(
                f"the shadow has other rules ({there.hash}, and these are {wanted.hash}): isotherm shadow drop, "
                "and begin with these; or go on with those"
            )

    # -- folding --------------------------------------------------------------------------------------------

    async def catch_up(self, ruleset: Ruleset, progress: Progress) -> int:
        """Folds what workers have folded by now; how many records were left to fold."""
        live = RedisStore(self.redis, self.settings.partitions, self.settings.namespace)
        ends = [at for _, at in await live.owners(list(self.numbers))]
        starts = [at for _, at in await self.store.owners(list(self.numbers))]
        behind = sum(max(0, end - start) for end, start in zip(ends, starts, strict=True))
        done = 0
        for number in self.numbers:
            if ends[number] > starts[number]:
                async for count in self._fold(number, ends[number], ruleset):
                    done += count
                    progress(min(done, behind), behind)
        return behind

    async def _fold(self, number: int, upto: int, ruleset: Ruleset) -> AsyncIterator[int]:
        try:
            owned = await self._begin(number, ruleset)
            async for messages in self.log.read(number, owned.partition.offset, upto):
                for run_ in decoded(messages, owned):
                    run_.records = [_passed(each) for each in run_.records]
                    owned, _ = await fold_quietly(run_, owned, self.store)
                yield len(messages)
        except StoppedError:
            raise ShadowProblem("somebody else runs this shadow too") from None

    async def _begin(self, number: int, ruleset: Ruleset) -> Owned:
        store, first = self.store, await self.log.first(number)
        acquired = await store.acquire(number)
        if not acquired.files:
            at, log_time = -1, 0
            if first:
                snapshot = await self.log.snapshot(number)
                if snapshot is None or snapshot.partition.offset < first:
                    raise LogProblem(
                        f"{self.log.topic}/{number} begins at offset {first:,}, and no snapshot reaches so far"
                    )
                await seed(store, acquired, snapshot)
                acquired = await store.acquire(number)
                at, log_time = acquired.partition.offset, acquired.partition.log_time
            rules = InForce().switch(ruleset, at, log_time)
            held = msgspec.structs.replace(
                acquired.partition,
                ruleset=ruleset.hash,
                ruleset_offset=rules.offset,
                ruleset_at=rules.at,
                introduced=rules.introduced,
                sweep="" if first else None,
                refolding=None,
            )
            offset = acquired.partition.offset
            begun = Commit(acquired.token, offset, f"begun-{acquired.token}", held, files=ruleset.files)
            if isinstance(refused := await store.commit(begun), Refused):
                raise StoppedError(refused)
            acquired = await store.acquire(number)
        return Owned.from_store(acquired, self.settings.partitions)

    # -- comparing ------------------------------------------------------------------------------------------

    async def compare(self) -> Compared:
        live, shadow = Reader(self.redis, self.settings), Reader(self.redis, of(self.settings))
        rules = await self.rules()
        names: dict[str, None] = {}
        for ruleset in (await live.ruleset(), rules):
            for dimension in ruleset.dimensions:
                for segment in (*(each.name for each in dimension.segments), UNCLASSIFIED):
                    names[f"{dimension.name}/{segment}"] = None
        places = {name: await self._difference(*name.split("/", 1)) for name in names}
        partitions = [(await live.partition(n), await shadow.partition(n)) for n in self.numbers]
        behind = sum(max(0, one.offset - other.offset) for one, other in partitions)
        at = max(other.log_time for _, other in partitions)
        return Compared(at, behind, {name: each for name, each in places.items() if any(each)})

    async def _difference(self, dimension: str, segment: str) -> tuple[int, int, int, int]:
        async with self.redis.pipeline(transaction=False) as pipe:
            for number in self.numbers:
                mine, theirs = (
                    PartitionKeys.of(number, self.settings.partitions, namespace).members(dimension, segment)
                    for namespace in (self.settings.namespace, of(self.settings).namespace)
                )
                pipe.scard(mine)
                pipe.scard(theirs)
                pipe.sinter([mine, theirs])
            answers = await pipe.execute()
        one, other = sum(answers[::3]), sum(answers[1::3])
        both = sum(len(each) for each in answers[2::3])
        return one, other, one - both, other - both

    async def keep(self, compared: Compared) -> None:
        clock = RedisClock(self.redis)
        await clock.sync()
        await self.kept.read()
        await self.kept.keep(clock.now(), compared)

    async def history(self) -> list[Compared]:
        await self.kept.read()
        fine, coarse = self.kept.over(DAY), self.kept.over(MONTH)
        return [each for _, each in reversed([*(old for old in coarse if old[0] < fine[0][0]), *fine])]

    async def drop(self) -> int:
        namespace, removed = of(self.settings).namespace, 0
        for number in self.numbers:
            removed += await forget(self.redis, PartitionKeys.of(number, self.settings.partitions, namespace))
        return removed + await self.kept.forget()


def _passed(record: Record) -> Record:
    """A ruleset, and what it has filled, is passed over: at its place time passes only."""
    if isinstance(record, RulesetRecord):
        return Tick(received=record.received, offset=record.offset)
    return record


def moved(compared: Compared) -> Mapping[str, tuple[int, int, int, int]]:
    """Where the two differ, the greatest difference first."""
    found = {name: each for name, each in compared.places.items() if each[2] or each[3]}
    return dict(sorted(found.items(), key=lambda item: (-item[1][2] - item[1][3], item[0])))
