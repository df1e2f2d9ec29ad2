"""Measures that got their past are those of a fold that had the rules from the beginning; until then nothing that
is said of them is wrong.

Accounts of two partitions become one on the way. The same log is folded twice, record by record: under rules that
come into force in its midst, in each partition elsewhere, and are filled while it goes on; and under these rules
from its beginning. What one fold sends to the other arrives some records later, in both alike.
"""

from __future__ import annotations

import asyncio
import math
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rules import compiler, measures
from rules.fold import Partition, accounts_of, fold
from rules.records import (
    Erase,
    Fill,
    Filled,
    Record,
    RulesetRecord,
    Tick,
    decode_record,
    encode_record,
    is_visitor,
)
from rules.ruleset import InForce, Ruleset
from rules.state import AccountState, pack, unpack
from streams.past import Past, Pasts
from streams.producer import partition_of
from tests.planning.world import Message, compile_files

from generate import drawing, rule_files  # isort: skip
from test_joining_property import World, joined_worlds  # isort: skip

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
EXAMPLES = 3_000 if os.environ.get("ISOTHERM_TESTS") == "nightly" else 250
SETTINGS = settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 1_000, suppress_health_check=SLOW)
PARTITIONS = 2
HOUR = 3_600_000
D = "d1"
States = dict[str, AccountState]


@dataclass
class Fold:
    """A partition in memory: its log, and what it comes to."""

    partition: Partition
    compile: Any = compile_files
    rules: InForce = field(default_factory=InForce)
    log: list[Message] = field(default_factory=list)
    packed: dict[str, bytes] = field(default_factory=dict)

    def take(self, record: Record) -> list[Record]:
        """The next record of the log; what goes to other accounts."""
        record = decode_record(encode_record(msgspec.structs.replace(record, offset=0)))
        record.offset = len(self.log)
        self.log.append(Message(record.offset, encode_record(record)))
        states = {account: unpack(blob) for account, blob in self.packed.items()}
        now = max(record.received, self.partition.log_time)
        due: list[tuple[int, str]] = []
        swept: list[str] = []
        if isinstance(record, Tick | RulesetRecord):
            due = sorted((state.wake, account) for account, state in states.items() if state.wake <= now)
        if isinstance(record, Tick) and self.partition.sweep is not None:
            swept = sorted(a for a in states if a > self.partition.sweep)[: record.sweeps]
        elif isinstance(record, Erase):
            swept = sorted(states)
        named = accounts_of([record]).union(swept, (account for _, account in due))
        known = {account: states[account] for account in named if account in states}
        done = fold(self.partition, self.rules, [record], known, self.compile, due, swept)
        assert not done.quarantined, done.quarantined
        self.partition, self.rules = done.partition, done.rules
        for account, state in done.states.items():
            if state is None:
                self.packed.pop(account, None)
            else:
                self.packed[account] = pack(state)
        return list(done.sent)


@dataclass(frozen=True)
class Underway:
    """What a partition sent, in each history; `is_before` its switch."""

    at: int  # turn at which it arrives
    sender: int
    is_before: bool
    lived: Record
    always: Record


class Twice:
    """The same log under two histories of rules."""

    def __init__(self, old: dict[str, str], new: dict[str, str], start: int, since: int, compile: Any) -> None:
        self.since, self.new, self.compile = since, new, compile
        self.lived = [Fold(Partition(n), compile) for n in range(PARTITIONS)]
        self.always = [Fold(Partition(n), compile) for n in range(PARTITIONS)]
        self.underway: list[Underway] = []
        self.switched: set[int] = set()
        self.time, self.turn = start, 0
        for number in range(PARTITIONS):
            self._both(number, *(RulesetRecord(received=start, hash="", files=files) for files in (old, new)))

    def _both(self, number: int, lived: Record, always: Record, delay: int = 0) -> None:
        sent = self.lived[number].take(lived), self.always[number].take(always)
        if isinstance(lived, Fill):  # passed on: in the other history time passes
            sent = sent[0], [Tick(received=self.time) for _ in sent[0]]
        assert len(sent[0]) == len(sent[1])
        for pair in zip(*sent, strict=True):
            self._sends(number, *pair, delay)

    def _sends(self, number: int, lived: Record, always: Record, delay: int = 0) -> None:
        """What one partition sends arrives in that order."""
        earliest = max((each.at for each in self.underway if each.sender == number), default=0)
        at = max(self.turn + delay, earliest)
        self.underway.append(Underway(at, number, number not in self.switched, lived, always))

    def goes_on(self, record: Record, delay: int) -> None:
        self.time = max(self.time, record.received)
        self.turn += 1
        self._both(_home(record.account), record, record, delay)  # type: ignore[union-attr]
        self._arrive()

    def arrive(self) -> None:
        self._arrive(all_of_them=True)

    def _arrive(self, all_of_them: bool = False) -> None:
        while ready := next((each for each in self.underway if all_of_them or each.at <= self.turn), None):
            self.underway.remove(ready)
            lived, always = (
                msgspec.structs.replace(each, received=self.time) for each in (ready.lived, ready.always)
            )
            self._both(_home(lived.account), lived, always)  # type: ignore[union-attr]

    def switches(self, number: int) -> None:
        record = RulesetRecord(received=self.time, hash="", files=self.new, deployment=D)
        self._both(number, msgspec.structs.replace(record, fill_since=self.since), record)
        self.switched.add(number)
        self._both(number, Tick(received=self.time), Tick(received=self.time))

    def can_be_filled(self) -> bool:
        """What was sent before a switch has arrived; else filling waits for it."""
        return len(self.switched) == PARTITIONS and not any(each.is_before for each in self.underway)

    def is_filled(self, record: Record, number: int) -> None:
        """Fills there are only where there is something to fill; in the other log time passes."""
        self._both(number, record, Tick(received=self.time))

    def ends(self) -> None:
        self.arrive()
        for number in range(PARTITIONS):
            self._both(number, Tick(received=self.time), Tick(received=self.time))

    # -- the backfill --------------------------------------------------------------------------------------

    def fills(self) -> dict[int, list[Fill]]:
        return asyncio.run(self._fills())

    async def _fills(self) -> dict[int, list[Fill]]:
        pasts, asked = Pasts(), [fold.partition.fillings for fold in self.lived]
        filling = next((each for them in asked for each in them), None)
        if filling is None:
            return {}
        for number in range(PARTITIONS):
            await Past.begin(number, PARTITIONS, None, filling, self.compile(self.new), pasts)

        async def read(past: Past) -> list[Message]:
            return self.lived[past.number].log[past.offset : past.offset + 3]

        await pasts.fold(read)
        return {n: list(pasts.partitions[n].fills(self.time)) for n in range(PARTITIONS) if asked[n]}

    # -- what is compared ----------------------------------------------------------------------------------

    def accounts(self) -> Iterator[tuple[AccountState, AccountState]]:
        for lived, always in zip(self.lived, self.always, strict=True):
            for account, blob in lived.packed.items():
                mine, theirs = unpack(blob), unpack(always.packed[account])
                assert mine.merged_into == theirs.merged_into
                if not mine.merged_into and mine.ruleset == theirs.ruleset and not is_visitor(account):
                    yield mine, theirs


def _home(account: str) -> int:
    return partition_of(account, PARTITIONS)


def verdicts(ruleset: Ruleset, state: AccountState, now: int) -> dict[str, Any]:
    scores = {id for id, kept in ruleset.measures.items() if kept.since is None}
    return {
        f"{dimension.name}/{segment.name} after {after} h": segment.condition.decide(state, now + after * HOUR)[0]
        for dimension in ruleset.dimensions
        for segment in dimension.segments
        for after in (0, 1, 5, 24, 200)
        if scores.isdisjoint(segment.condition.reads) and not _refers(segment.condition.reads)
    }


def _chains(ruleset: Ruleset, places: Iterable[str]) -> set[str]:
    """Those of the places where a sequence is asked for."""
    sequences = {id for id, kept in ruleset.measures.items() if kept.since is measures.sequence_since}
    asking = {
        f"{dimension.name}/{segment.name}"
        for dimension in ruleset.dimensions
        for segment in dimension.segments
        if not sequences.isdisjoint(segment.condition.reads)
    }
    return {place for place in places if place.partition(" ")[0] in asking}


def _refers(reads: frozenset[str]) -> bool:
    """To another dimension: whose answer is of when it was asked."""
    return any(each.startswith("segment:") for each in reads)


def same_scores(ruleset: Ruleset, mine: AccountState, theirs: AccountState) -> None:
    for id, kept in ruleset.measures.items():
        if kept.since is None:
            empty = kept.empty(0)
            one, other = (
                struct.unpack(f">Q{'dQ' * ((len(empty) - 8) // 16)}", each.measures.get(id, empty))
                for each in (mine, theirs)
            )
            assert all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) for a, b in zip(one, other, strict=True))


@st.composite
def cases(draw: st.DrawFn) -> tuple[World, dict[str, str], list[int], list[int], int]:
    """A world; the rules before; when each partition switches; how long each message is under way; when filling
    begins."""
    world = draw(joined_worlds(most=16, missing=False))
    pick = drawing(draw)
    old = rule_files(pick, dwell=False, missing=False)
    places = range(len(world.apart) + 1)
    delays = [pick.of([0, 0, 1, 2, 4]) for _ in world.apart]
    switches = [pick.of(places) for _ in range(PARTITIONS)]
    return world, old, switches, delays, pick.of([0, 0, 1, 3, 6])


def live(case: Any, compile: Any, never_wrong: Any) -> Twice | None:
    """The world to its end. `never_wrong` is asked behind each record."""
    world, old, switches, delays, later = case
    if not world.apart:
        return None
    twice = Twice(old, world.files, max(world.apart[0].received - 1, 1), 0, compile)
    fills: dict[int, list[Fill]] | None = None
    for i in range(len(world.apart) + 1):
        for number in (n for n in range(PARTITIONS) if switches[n] == i):
            twice.switches(number)
        if i >= max(switches) + later and fills is None and twice.can_be_filled():
            fills = twice.fills()
        for number, them in (fills or {}).items():
            for fill in them[: 1 + i % 2]:  # some now, others later
                twice.is_filled(fill, number)
            del them[: 1 + i % 2]
        if i < len(world.apart):
            twice.goes_on(world.apart[i], delays[i])
        never_wrong(twice)
    if fills is None:
        twice.arrive()
        fills = twice.fills()
    for number, them in fills.items():
        for fill in them:
            twice.is_filled(fill, number)
    for number in fills:
        twice.is_filled(Filled(received=twice.time, deployment=D), number)
    twice.ends()
    never_wrong(twice)
    return twice


def is_right_or_unknown(twice: Twice) -> None:
    ruleset = twice.compile(twice.new)
    for mine, theirs in twice.accounts():
        if mine.ruleset == ruleset.hash:
            expected = verdicts(ruleset, theirs, twice.time)
            for place, said in verdicts(ruleset, mine, twice.time).items():
                assert said is None or expected[place] is None or said is expected[place], (place, said)


@SETTINGS
@given(cases())
def test_what_was_filled_is_as_if_it_had_been_kept_from_the_beginning(case: Any) -> None:
    twice = live(case, compile_files, is_right_or_unknown)
    if twice is None:
        return
    ruleset = compile_files(twice.new)
    for mine, theirs in twice.accounts():
        if theirs.ruleset == ruleset.hash:
            assert mine.gaps == {}
            said, expected = (verdicts(ruleset, each, twice.time) for each in (mine, theirs))
            # Whether a late step made a chain with one that the fill brought is, rarely, not known any more.
            known = {
                place: it for place, it in said.items() if it is not None or place not in _chains(ruleset, said)
            }
            assert known == {place: it for place, it in expected.items() if place in known}
            same_scores(ruleset, mine, theirs)


@SETTINGS
@given(cases())
def test_where_too_little_is_kept_what_was_filled_is_right_or_unknown(case: Any) -> None:
    """With rings of two most of what happened is dropped, before the fill comes or by it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "KEPT_AT_LEAST", 2)
        patch.setattr(measures, "TAGGED_KEPT", 2)
        compiled = {id(files): compiler.compile_files(files) for files in (case[0].files, case[1])}
    live(case, lambda files: _by_content(compiled, files, case), is_right_or_unknown)


def _by_content(compiled: dict[int, Ruleset], files: Any, case: Any) -> Ruleset:
    return compiled[id(case[0].files) if dict(files) == dict(case[0].files) else id(case[1])]
