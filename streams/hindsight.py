"""The log of some time under two rulesets: `isotherm plan DIR --since 30d`. Nothing is written anywhere.

Each partition is read once and folded twice, in memory, with the worker's own `fold`: under the rules in force
now, and under the others. Where the log goes back to its beginning both count from there, as if they had always
been in force; where it was shortened both come into force at the snapshot that stands for what is gone, and what a
measure would have had to see before is unknown, as after a deployment. Rulesets in the log are passed over.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from rules.changes import iso
from rules.fold import ALONE, Outgoing
from rules.hindsight import Hindsight, Question, Telling, Truth
from rules.planning import Place
from rules.records import Record, RulesetRecord, Tick
from rules.ruleset import InForce, Ruleset
from streams.pipeline import Owned, Run, decoded
from streams.reading import Reader
from streams.refolding import Log, LogProblem, Recollection, Wanted, fold_quietly, opened, passed_over
from streams.settings import Settings
from streams.store.redis import connect
from streams.store.snapshots import Snapshot, seed

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Side:
    """One ruleset on one partition."""

    owned: Owned
    store: Recollection
    telling: Telling

    async def fold(self, run: Run, asked: Question) -> None:
        self.owned, folded = await fold_quietly(run, self.owned, self.store)
        self._hear(folded.outgoing, asked)

    async def end(self, asked: Question) -> None:
        """Lets time pass up to where the question ends."""
        number, at = self.owned.partition.number, self.owned.partition.offset
        while self.owned.partition.sweep is not None or await self.store.due(number, asked.until, 1):
            await self.fold(Run([Tick(received=max(asked.until, 1), offset=at)], at, 0), asked)

    def _hear(self, outgoing: Sequence[Outgoing], asked: Question) -> None:
        for out in outgoing:
            self.telling.hears(out.change, asked)


async def compare(
    settings: Settings,
    new: Ruleset,
    length: int,
    places: frozenset[Place],
    within: int,
    sample: int = 0,
    chosen_by: int = 0,
    progress: Progress = lambda done, of: None,
) -> Hindsight:
    """What the rules in force and `new` would have told in the last `length` ms that workers have folded.

    Raises LogProblem when the log does not reach back so far.
    """
    redis = connect(settings, timeout=60.0)
    try:
        reader = Reader(redis, settings)
        partitions = [await reader.partition(number) for number in range(settings.partitions)]
        old, accounts = await reader.ruleset(), 0
        for number in range(settings.partitions):
            accounts += await reader.size(number)
    finally:
        await redis.aclose()
    until = max(each.log_time for each in partitions)
    asked = Question(places, max(until - length, 0), until, within)
    parts = max(1, accounts // sample) if sample else 1
    work = _Comparing(old, new, asked, partial(_is_in, chosen_by, parts) if parts > 1 else None, progress)
    work.total = sum(each.offset for each in partitions)
    async with opened(settings) as log:
        for each in partitions:
            await work.partition(log, each.number, each.offset)
    work.truth.settle()
    positions = {each.number: each.offset for each in partitions}
    return Hindsight(old, new, asked, *work.tellings, work.truth, parts, positions)


def _is_in(chosen_by: int, parts: int, account: str) -> bool:
    return binascii.crc32(f"{chosen_by}/{account}".encode()) % parts == 0


class _Comparing:
    def __init__(
        self, old: Ruleset, new: Ruleset, asked: Question, wanted: Wanted | None, progress: Progress
    ) -> None:
        self._rulesets, self._asked, self._wanted, self._progress = (old, new), asked, wanted, progress
        self.tellings, self.truth = (Telling(), Telling()), Truth()
        self.total = self._done = 0

    async def partition(self, log: Log, number: int, upto: int) -> None:
        snapshot = await self._start(log, number, upto)
        sides = [
            await _side(log, number, snapshot, ruleset, telling, self._wanted)
            for ruleset, telling in zip(self._rulesets, self.tellings, strict=True)
        ]
        start = sides[0].owned.partition.offset
        self._done += start
        async for messages in log.read(number, start, upto):
            for run in decoded(messages, sides[0].owned):
                self._hear(run.records, sides[0].owned.partition.log_time)
                run.records = [_passed(each, self._wanted) for each in run.records]
                for side in sides:
                    await side.fold(run, self._asked)
            self._done += len(messages)
            self._progress(self._done, self.total)
        for side in sides:
            await side.end(self._asked)

    async def _start(self, log: Log, number: int, upto: int) -> Snapshot | None:
        """The snapshot to begin at, where the log has been shortened; None: its beginning."""
        first = await log.first(number)
        if not first:
            return None
        snapshot = await log.snapshot(number)
        if snapshot is None or not first <= snapshot.partition.offset <= upto:
            raise LogProblem(
                f"{log.topic}/{number} begins at offset {first:,}, and no snapshot reaches there: what "
                "accounts were before cannot be told"
            )
        if snapshot.partition.log_time > self._asked.since:
            raise LogProblem(
                f"{log.topic}/{number} has been shortened, and what it comes to is known since "
                f"{iso(snapshot.partition.log_time)}: ask --since a shorter time than to {iso(self._asked.since)}"
            )
        return snapshot

    def _hear(self, records: Sequence[Record], log_time: int) -> None:
        for record in records:
            log_time = max(log_time, record.received)
            if isinstance(record, ALONE) or (self._wanted is not None and not self._wanted(record.account)):
                continue
            self.truth.hears(record, self._rulesets, self._asked, log_time)


async def _side(
    log: Log,
    number: int,
    snapshot: Snapshot | None,
    ruleset: Ruleset,
    telling: Telling,
    wanted: Wanted | None,
) -> Side:
    """A partition under these rules: from nothing, or from the snapshot on, where they come into force."""
    store = Recollection()
    acquired = await store.acquire(number)
    if snapshot is not None:
        await seed(store, acquired, snapshot, wanted)
        acquired = await store.acquire(number)
    owned = Owned.from_store(acquired, log.settings.partitions)
    partition = owned.partition
    if snapshot is None:
        rules = InForce().switch(ruleset, -1, 0)
    else:
        rules = owned.rules.switch(ruleset, partition.offset, partition.log_time)
    held = msgspec.structs.replace(
        partition,
        ruleset=ruleset.hash,
        ruleset_offset=rules.offset,
        ruleset_at=rules.at,
        introduced=rules.introduced,
        sweep=None if snapshot is None else "",
    )
    return Side(replace(owned, partition=held, rules=rules), store, telling)


def _passed(record: Record, wanted: Wanted | None) -> Record:
    """A ruleset is passed over: at its place time passes only."""
    if isinstance(record, RulesetRecord):
        return Tick(received=record.received, offset=record.offset)
    return record if wanted is None else passed_over(record, wanted)
