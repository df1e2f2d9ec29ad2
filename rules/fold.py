"""A partition of the log, folded: records in order, accounts in, accounts and changes out.

Pure like `step`, and independent of how the log is cut into batches: what fires at which record follows from
the log alone. A tick reaches accounts that no record names, so it is folded by itself (`runs` cuts there),
after whoever calls has looked up which accounts are due. A ruleset is folded by itself too, so that all changes
of a run were decided, and are told, under the ruleset that is in force at its end.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from rules import joining
from rules.durations import DAY
from rules.engine import erase, let_time_pass, step, tell_again
from rules.filling import Filling
from rules.records import (
    ACCOUNTS_PER_TICK,
    AccountRecord,
    Activity,
    Epoch,
    Erase,
    Fill,
    Filled,
    Record,
    Release,
    Restate,
    RulesetRecord,
    Tick,
    Transfer,
    is_visitor,
)
from rules.ruleset import InForce, Ruleset
from rules.state import NEVER, AccountState, copy
from rules.tally import Tallies, moves, outcomes
from rules.work import APPLIED, Change, Outcome, Step

ERASED_KEPT = 7 * DAY
DEPLOYED_KEPT = 50  # offsets of ruleset records, of which it is known where they stand
Due: TypeAlias = tuple[int, str]  # (instant, account)
# Records that name no account; a tuple, because a union is built anew each time.
ALONE = (Tick, RulesetRecord, Erase, Epoch, Filled)
Compile: TypeAlias = Callable[[Mapping[str, str]], Ruleset]


class Place(msgspec.Struct, array_like=True, frozen=True, order=True):
    """Where a change stands among all of its partition, in the order in which they are told."""

    epoch: int
    offset: int
    n: int


class Refolding(msgspec.Struct, array_like=True, frozen=True):
    """The log is folded once more from `since`: what was told up to `told` is not told again, and behind it an
    epoch begins."""

    since: int
    told: Place
    lost: tuple[int, int] | None = None  # offsets that could not be folded: the log had them no more


class Partition(msgspec.Struct, array_like=True, frozen=True):
    """What a partition knows besides its accounts, as of the record before `offset`."""

    number: int
    offset: int = 0  # of the next record to fold
    log_time: int = 0  # the highest `received` so far, UTC ms
    epoch: int = 0
    ruleset: str = ""  # hash of the ruleset in force, "" before the first
    ruleset_offset: int = -1
    ruleset_at: int = 0
    introduced: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    # Accounts up to here have been evaluated by that ruleset, and have told where they stand if they are to; None:
    # all have.
    sweep: str | None = None
    high: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)  # topic/partition -> position
    # person -> when they asked to be forgotten; an account on its way here may still bring something of them
    erased: dict[str, int] = msgspec.field(default_factory=dict)
    tells: int = -1  # while a sweep goes on: accounts that changed at this offset or later tell where they stand
    last: int = 0  # a sum over the message before `offset`, by which the log is known again
    refolding: Refolding | None = None
    deployment: str = ""  # that put the ruleset in force
    quiet: bool = False
    swept: int = 0  # accounts that the sweep under way, or the last one, has come to
    deployed: tuple[int, ...] = ()  # where the newest ruleset records stand, the last one in force
    fillings: tuple[Filling, ...] = ()
    before: tuple[str, str] = ("", "")  # the deployment and ruleset in force until then
    was_filled: tuple[Filling, ...] = ()
    lacking: tuple[str, ...] = ()

    def in_force(self, ruleset: Ruleset) -> InForce:
        return InForce(
            ruleset,
            self.ruleset_offset,
            self.ruleset_at,
            self.introduced,
            self.deployment,
            self.quiet,
            self.fillings,
            self.before,
            self.was_filled,
            self.lacking,
        )


class Parked(msgspec.Struct, frozen=True, gc=False):
    """A record of an account in quarantine, which is not applied; `why` is what was raised, where this one did."""

    record: AccountRecord
    why: str


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A change and its place: the order of everything that is published is (epoch, offset, n)."""

    epoch: int
    offset: int
    n: int
    change: Change
    state: AccountState  # of the account right after the change's record
    ruleset: Ruleset  # that decided it


@dataclass(slots=True)
class Folded:
    """What folding a run of records did: the new partition, the accounts that changed, what is to be told."""

    partition: Partition
    rules: InForce
    before: dict[str, AccountState | None] = field(default_factory=dict)
    states: dict[str, AccountState | None] = field(default_factory=dict)  # None: forgotten
    sent: list[AccountRecord] = field(default_factory=list)  # for other accounts, to be appended to the log
    outgoing: list[Outgoing] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    quarantined: dict[str, str] = field(default_factory=dict)  # account -> what folding it raised
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # (what, source)
    tallies: Tallies = field(default_factory=Counter)
    switched: Ruleset | None = None
    log_time_before: int = 0


def runs(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """`records` cut so that each tick, each ruleset and each erasure stands alone."""
    start = 0
    for i, record in enumerate(records):
        if isinstance(record, ALONE):
            if i > start:
                yield records[start:i]
            yield records[i : i + 1]
            start = i + 1
    if start < len(records):
        yield records[start:]


def accounts_of(records: Iterable[Record]) -> set[str]:
    return {record.account for record in records if not isinstance(record, ALONE)}


def fold(
    partition: Partition,
    rules: InForce,
    records: Sequence[Record],
    states: Mapping[str, AccountState],
    compile: Compile,
    due: Sequence[Due] = (),
    unswept: Sequence[str] = (),
    end: int | None = None,
) -> Folded:
    """Folds `records`, whose offsets begin at `partition.offset` or after, up to `end` (default: the last).

    `states` holds the accounts that the records name, and those in `due` and `unswept`. For a tick `due` is the
    earliest wakes up to its time, at most ACCOUNTS_PER_TICK, in order, and `unswept` the next accounts after the
    sweep's cursor, as many as it `sweeps`, in order; for a ruleset `due` is all wakes up to its time; for an
    erasure `unswept` are the accounts that may hold something of these people. Raises RulesetError for a ruleset
    record that this code cannot load.
    """
    work = _Fold(
        Folded(partition, rules, log_time_before=partition.log_time),
        states,
        partition.log_time,
        dict(partition.high),
        partition.sweep,
        partition.erased,
        partition.tells,
        partition.epoch,
        partition.refolding,
        partition.swept,
        partition.deployed,
    )
    for record in records:
        work.log_time = max(work.log_time, record.received)
        match record:
            case Tick():
                work.tick(record, due, unswept)
            case RulesetRecord():
                work.switch(record, compile, due)
            case Erase():
                work.erase(record, unswept)
            case Epoch():
                work.begin_epoch(record)
            case Filled():
                work.folded.rules = work.folded.rules.filled(record.deployment)
                work.folded.counts["filled", ""] += 1
            case _:
                work.account(record)
    if end is None:
        end = records[-1].offset + 1 if records else partition.offset
    return work.done(end)


@dataclass(slots=True)
class _Fold:
    folded: Folded
    loaded: Mapping[str, AccountState]
    log_time: int
    high: dict[str, tuple[int, int]]
    sweep: str | None
    erased: dict[str, int]
    tells: int
    epoch: int
    refolding: Refolding | None
    swept: int
    deployed: tuple[int, ...]
    applied: dict[str, int] = field(default_factory=dict)  # records by source, counted apart for speed

    def account(self, record: AccountRecord) -> None:
        source = record.source
        if record.via is not None:
            place, position = record.via[0], record.via[1:]
            if position <= self.high.get(place, (-1, -1)):
                self.folded.counts[Outcome.DUPLICATE, source] += 1
                return
            self.high[place] = position
        if self.erased and isinstance(record, Transfer | Restate | Fill):
            since = record.at if isinstance(record, Restate) else 0  # whom it tells of was not forgotten before
            persons = [person for person, at in self.erased.items() if at >= since]
            record = joining.without(record, persons, self.folded.rules.ruleset)
        state = self._state(record.account)
        if state is not None and state.quarantined >= 0:
            if isinstance(record, Release) or self._is_over(state):
                state = released(state)
            else:
                self._park(record, "")
                return
        try:
            done = step(state, record, self.log_time, self.folded.rules)
        except Exception as error:  # the account's alone: others go on
            self._quarantine(record.account, record.offset, error)
            self._park(record, self.folded.quarantined[record.account])
            return
        self._take(record.account, done, record.offset, 0)
        if done.held and isinstance(record, Activity):
            for tally, more in outcomes(self.folded.rules.ruleset, record, done.held, self.log_time):
                self.folded.tallies[tally] += more
        if done.outcome is APPLIED:
            self.applied[source] = self.applied.get(source, 0) + 1
        else:
            self.folded.counts[done.outcome, source] += 1
        if done.refused or done.early:
            self.folded.counts["refused", source] += len(done.refused)
            self.folded.counts["early", source] += done.early > 0

    def tick(self, tick: Tick, due: Sequence[Due], unswept: Sequence[str]) -> None:
        fired, n = self._fire(due, tick.offset, ACCOUNTS_PER_TICK)
        if self.sweep is not None:
            swept = unswept[: min(tick.sweeps, ACCOUNTS_PER_TICK - fired)]
            self.swept += len(swept)
            for account in swept:
                if self._state(account) is None and account in self.folded.states:
                    continue  # a visitor whom this very tick has forgotten
                n = self._pass(account, self.log_time, tick.offset, n)
                n = self._tell_again(account, tick.offset, n)
            if len(swept) == len(unswept) < tick.sweeps:
                self.sweep, self.tells = None, -1
            elif swept:
                self.sweep = swept[-1]
        self.folded.counts["tick", ""] += 1

    def _fire(self, due: Sequence[Due], offset: int, at_most: int) -> tuple[int, int]:
        """Fires wakes in (instant, account) order; how many fired, and the number of the next change."""
        heap, n, fired = list(due), 0, 0
        while heap and heap[0][0] <= self.log_time and fired < at_most:
            instant, account = heapq.heappop(heap)
            n = self._pass(account, instant, offset, n)
            fired += 1
            if (state := self._state(account)) is not None and state.wake <= self.log_time:
                heapq.heappush(heap, (state.wake, account))
        return fired, n

    def switch(self, record: RulesetRecord, compile: Compile, due: Sequence[Due]) -> None:
        """What was due before the switch is still decided by the rules that were in force then."""
        ruleset = compile(record.files)
        self._fire(due, record.offset, NEVER)
        self.folded.rules = self.folded.rules.switch(
            ruleset, record.offset, self.log_time, record.deployment, record.quiet, record.fill_since
        )
        self.folded.switched = ruleset
        self.sweep, self.swept = "", 0
        self.deployed = (*self.deployed, record.offset)[-DEPLOYED_KEPT:]
        self.folded.counts["ruleset", ""] += 1

    def erase(self, record: Erase, holding: Sequence[str]) -> None:
        n = 0
        for account in sorted(holding):
            if self._state(account) is not None:
                n = self._erase(account, record, n)
        since = self.log_time - ERASED_KEPT
        recent = {person: at for person, at in self.erased.items() if at > since}
        self.erased = recent | dict.fromkeys(record.persons, self.log_time)
        self.folded.counts["erase", ""] += 1

    def begin_epoch(self, record: Epoch) -> None:
        """All are swept, at most so many a tick: who changed since refolding began tells where they stand."""
        self.epoch = max(self.epoch + 1, record.number)
        self.tells = record.since if self.tells < 0 else min(record.since, self.tells)
        self.sweep, self.swept = "", 0
        if self.refolding is not None and record.offset > self.refolding.told.offset:
            self.refolding = None  # by an earlier epoch, which is folded once more too, it does not end
        self.folded.counts["epoch", ""] += 1

    def _tell_again(self, account: str, offset: int, n: int) -> int:
        state = self._state(account)
        if self.tells < 0 or state is None or state.told < self.tells or is_visitor(account):
            return n
        rules = self.folded.rules
        if state.quarantined >= 0 and not self._is_over(state):  # where it stands it can tell, though not why
            return self._take(account, tell_again(account, state, self.log_time, rules), offset, n)
        return self._guarded(account, offset, n, lambda state: tell_again(account, state, self.log_time, rules))

    # -- quarantine ------------------------------------------------------------------------------------------

    def _guarded(self, account: str, offset: int, n: int, attempt: Callable[[AccountState], Step]) -> int:
        """Takes what `attempt` gives; if it raises, the account is in quarantine and others go on."""
        state = self._state(account)
        if state is None:
            raise LookupError(f"{account} is due but its state was not loaded")
        if state.quarantined >= 0:
            if not self._is_over(state):
                return n
            state = released(state)
        try:
            done = attempt(state)
        except Exception as error:
            self._quarantine(account, offset, error)
            return n
        return self._take(account, done, offset, n)

    def _quarantine(self, account: str, offset: int, error: Exception) -> None:
        """It keeps the answers that it has, and none changes by time. The next ruleset ends it, or a Release."""
        state = self._state(account)
        state = AccountState(born=offset) if state is None else copy(state)
        state.wake, state.quarantined = NEVER, offset
        self._take(account, Step(state), offset, 0)
        self.folded.quarantined[account] = f"{type(error).__name__}: {error}"
        self.folded.counts["quarantined", ""] += 1

    def _park(self, record: AccountRecord, why: str) -> None:
        self.folded.parked.append(Parked(record, why))
        self.folded.counts[Outcome.PARKED, record.source] += 1

    def _is_over(self, state: AccountState) -> bool:
        return state.quarantined < self.folded.rules.offset

    def done(self, offset: int) -> Folded:
        self.folded.counts.update({(APPLIED, source): count for source, count in self.applied.items()})
        rules = self.folded.rules
        old = self.folded.partition
        self.folded.partition = Partition(
            old.number,
            offset,
            self.log_time,
            self.epoch,
            rules.ruleset.hash,
            rules.offset,
            rules.at,
            rules.introduced,
            self.sweep,
            self.high,
            self.erased,
            self.tells,
            old.last,
            self.refolding,
            rules.deployment,
            rules.quiet,
            self.swept,
            self.deployed,
            rules.fillings,
            rules.before,
            rules.was_filled,
            rules.lacking,
        )
        return self.folded

    def _pass(self, account: str, until: int, offset: int, n: int) -> int:
        rules = self.folded.rules
        return self._guarded(
            account, offset, n, lambda state: let_time_pass(account, state, until, self.log_time, rules)
        )

    def _erase(self, account: str, record: Erase, n: int) -> int:
        rules = self.folded.rules
        n = self._guarded(
            account, record.offset, n, lambda state: erase(account, state, record.persons, self.log_time, rules)
        )
        state = self._state(account)
        if state is not None and state.quarantined >= 0:  # not asked what it is now, and yet forgotten there too
            state = copy(state)
            joining.forget(state, record.persons, rules.ruleset)
            self._take(account, Step(state), record.offset, n)
        return n

    def _state(self, account: str) -> AccountState | None:
        states = self.folded.states
        return states[account] if account in states else self.loaded.get(account)

    def _take(self, account: str, done: Step, offset: int, n: int) -> int:
        """Keeps the step's state and changes; the number of the next change at this offset."""
        folded = self.folded
        if account not in folded.states:
            folded.before[account] = self.loaded.get(account)
        folded.states[account] = done.state
        for index, record in enumerate(done.sent):  # one step sends from one offset
            record.via = (f"account.log/{folded.partition.number}", offset, index)
            folded.sent.append(record)
        epoch, ruleset = self.epoch, folded.rules.ruleset
        if done.state is None or not done.changes:
            return n
        done.state.told = offset
        for i, change in enumerate(done.changes, n):
            folded.outgoing.append(Outgoing(epoch, offset, i, change, done.state, ruleset))
            folded.tallies.update(moves(change))
        return n + len(done.changes)


def released(state: AccountState) -> AccountState:
    """The state, out of quarantine."""
    state = copy(state)
    state.quarantined = -1
    return state
