"""An account rebuilt from the log, without what another one brought that was taken for the same.

    survey      what the account's partition says: of whom it was separated before, by which names it was claimed
    rebuild     the account's records folded by `step`, in order; what is the other's is left out

Both hear every record of the partition, whomever it is about: from it come log_time, the positions by which
redelivered records are known, rulesets, and people who are to be forgotten. Of two accounts that were one, the one
that had been merged also gets what came meanwhile under its names, from the partition of the one that stayed.
Several partitions are heard together, in the order of their log_time.

What is left out of an account until it was separated from another (`Apart`):

    of the one that stayed      the other's transfer, what the other passed on, what came under the other's names
    of the one that was merged  that it was merged

Nothing is evaluated for its own sake, and where the account stands is not kept: whoever takes the state in asks
anew. A record that came under one of the names after the other's state had been built stays where it came to: so
it is at one of the two, whatever was under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from rules import joining, overriding
from rules.engine import erase, let_time_pass, step
from rules.fold import ALONE, ERASED_KEPT, Compile
from rules.records import (
    AccountRecord,
    Erase,
    Fill,
    Filled,
    Merge,
    Record,
    Restate,
    RulesetRecord,
    Tick,
    Transfer,
    is_visitor,
)
from rules.ruleset import InForce
from rules.state import NEVER, AccountState, copy, pack, unpack


@dataclass(frozen=True, slots=True)
class Apart:
    """That an account is not `other`, said at `offset` of its partition (NEVER: about to be said)."""

    other: str
    names: tuple[str, ...]  # of the one that had been merged, as in `Restate`
    moved: Mapping[str, int]
    was_merged: bool  # the account itself, and not the other
    offset: int = NEVER

    @classmethod
    def of(cls, record: Restate) -> Apart:
        was_merged = record.account == record.names[0]
        return cls(record.apart, tuple(record.names), record.moved, was_merged, record.offset)

    def gives(self, record: AccountRecord) -> bool:
        """Whether the record came to the account that stayed and is of the other, by the name it came under."""
        return not record.hops and record.under in self.names and record.offset < self.moved.get(record.account, 0)

    def leaves_out(self, record: AccountRecord) -> bool:
        """Whether the record is not of the account that this is said of, which it came to."""
        if isinstance(record, Fill):
            return True  # it would be of both
        if self.was_merged:
            return isinstance(record, Merge)
        if isinstance(record, Transfer) and record.merged == self.other:
            return True
        return record.under == self.other if record.hops else self.gives(record)


def separate(merged: Survey, stays: Survey, names: Iterable[str] = ()) -> tuple[Apart, Apart]:
    """What is to be said of the account that had been merged, and of the one that stayed, as far as both have been
    surveyed. `names`: by which the first is claimed, where that does not follow from the log."""
    known = tuple({**merged.names, **dict.fromkeys(names)})
    moved = {stays.account: stays.upto}
    for each in stays.apart:  # it had been merged too, and has some of it from there
        if each.was_merged:
            moved |= {account: max(upto, moved.get(account, 0)) for account, upto in each.moved.items()}
    return Apart(stays.account, known, moved, True), Apart(merged.account, known, moved, False)


@dataclass(slots=True)
class Heard:
    """What a partition knows besides its accounts, as far as it has been heard."""

    log_time: int = 0
    high: dict[str, tuple[int, int]] = field(default_factory=dict)
    upto: int = 0  # the offset after the last record

    def hears(self, record: Record) -> bool:
        """False for a record that the fold dropped, because it had come before."""
        self.log_time, self.upto = max(self.log_time, record.received), record.offset + 1
        if isinstance(record, ALONE) or record.via is None:
            return True
        place, position = record.via[0], record.via[1:]
        if position <= self.high.get(place, (-1, -1)):
            return False
        self.high[place] = position
        return True


@dataclass(slots=True)
class Touched:
    """When a record last came to an account: so it is known, as by the fold, which `Restate` was taken."""

    account: str
    at: int = 0

    def takes(self, record: AccountRecord) -> bool:
        """Whether the record, which is the account's, does anything."""
        if isinstance(record, Restate) and self.at >= record.upto:
            return False
        self.at = record.offset
        return True


class Survey:
    """What the records of a partition say of one of its accounts."""

    def __init__(self, account: str) -> None:
        self.account = account
        self.apart: list[Apart] = []
        self.names: dict[str, None] = {account: None}  # its own, and of accounts that were merged into it
        self.claimed: dict[str, None] = {}  # under which names records came to it
        self._heard, self._touched = Heard(), Touched(account)

    @property
    def upto(self) -> int:
        return self._heard.upto

    def hears(self, record: Record) -> None:
        if not self._heard.hears(record) or isinstance(record, ALONE) or record.account != self.account:
            return
        taken = self._touched.takes(record)
        if isinstance(record, Restate) and taken:
            self.apart.append(apart := Apart.of(record))
            if not apart.was_merged:
                for name in apart.names:
                    self.names.pop(name, None)
        elif isinstance(record, Transfer):
            merged = (record.merged, *unpack(record.state).also)
            self.names |= {name: None for name in merged if not is_visitor(name)}
        if record.under and not record.hops:
            self.claimed[record.under] = None


class Rebuilding:
    """An account of partition `number`, record by record."""

    def __init__(self, account: str, number: int, apart: Iterable[Apart], compile: Compile) -> None:
        self.account = account
        self.state: AccountState | None = None
        self._number, self._compile = number, compile
        self._apart = list(apart)
        self._taken = [each for each in self._apart if each.was_merged]
        self._heard: dict[int, Heard] = {number: Heard()}
        self._touched = Touched(account)
        self._rules = InForce()
        self._to_be_asked = False
        self._erased: dict[str, int] = {}

    @property
    def upto(self) -> int:
        return self._heard[self._number].upto

    @property
    def needs(self) -> dict[str, int]:
        """Accounts of which it gets something, and up to where their partitions must be heard."""
        needs: dict[str, int] = {}
        for each in self._taken:
            for account, upto in each.moved.items():
                needs[account] = max(upto, needs.get(account, 0))
        return needs

    @property
    def is_merged(self) -> bool:
        """It became another account, and that was not said to be undone."""
        return self.state is not None and bool(self.state.merged_into)

    @property
    def touched(self) -> int:
        """As the fold has it at this place."""
        return self._touched.at

    @property
    def log_time(self) -> int:
        return max(heard.log_time for heard in self._heard.values())

    def hears(self, number: int, record: Record) -> None:
        """The next record of one of the partitions."""
        is_new = self._heard.setdefault(number, Heard()).hears(record)
        if isinstance(record, ALONE):
            if number == self._number:
                self._alone(record)
        elif is_new and number == self._number and record.account == self.account:
            if self._touched.takes(record) and not isinstance(record, Restate):
                self._apply(record)
        elif is_new and any(each.gives(record) for each in self._taken):
            # What is noted as the place of one from another partition is how far this one had come.
            offset = record.offset if number == self._number else max(self.upto - 1, 0)
            self._apply(msgspec.structs.replace(record, account=self.account, offset=offset), record)

    def _alone(self, record: Record) -> None:
        match record:
            case RulesetRecord():
                self._rules = self._rules.switch(
                    self._compile(record.files),
                    record.offset,
                    self.log_time,
                    record.deployment,
                    fill_since=record.fill_since,
                )
                self._to_be_asked = True
            case Filled():
                self._rules = self._rules.filled(record.deployment)
            case Erase():
                self._forget(record)
            case Tick() if self._to_be_asked:
                self._let_time_pass()
                self._to_be_asked = False

    def _forget(self, record: Erase) -> None:
        if self.state is not None:
            done = erase(self.account, self.state, record.persons, self.log_time, self._rules)
            self.state = done.state
        since = self.log_time - ERASED_KEPT
        recent = {person: at for person, at in self._erased.items() if at > since}
        self._erased = recent | dict.fromkeys(record.persons, self.log_time)

    def _let_time_pass(self) -> None:
        if self.state is not None:
            now = self.log_time
            self.state = let_time_pass(self.account, self.state, now, now, self._rules).state

    def _apply(self, record: AccountRecord, said: AccountRecord | None = None) -> None:
        """`said`: the record where it was found, if that is another place."""
        if any(record.offset < each.offset and each.leaves_out(said or record) for each in self._apart):
            return
        if self._erased and isinstance(record, Transfer):
            record = joining.without(record, self._erased, self._rules.ruleset)
        self.state = step(self.state, record, self.log_time, self._rules).state

    def restate(self, apart: Apart, received: int) -> Restate:
        """What the account is told to be, of what has been heard so far."""
        self._let_time_pass()
        state = AccountState(born=self.upto) if self.state is None else copy(self.state)
        state.ruleset = self._rules.ruleset.hash
        state.standings, state.wake, state.touched = {}, NEVER, 0
        state.overrides = overriding.without_rules(state.overrides)
        return Restate(
            account=self.account,
            at=max(self.log_time, 1),
            received=received,
            state=pack(state),
            upto=self.upto,
            apart=apart.other,
            names=list(apart.names),
            moved=dict(apart.moved),
            origin="rebuild",
        )
