"""What a step is made of: the changes it tells, the outcome it counts, and the step while it is under way."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from rules.conditions import Told
from rules.records import AccountRecord, Origin
from rules.ruleset import InForce
from rules.state import AccountState, Answer, Standing


class Cause(StrEnum):
    """Why an answer changed."""

    DATA = "data"
    TIME = "time"
    RULES = "rules"
    IDENTITY = "identity"  # it was learnt who somebody is, or that a provisional account is this one
    MERGE = "merge"  # the CRM made one account of two
    BACKFILL = "backfill"  # what happened before its rules were in force is counted by now
    OVERRIDE = "override"  # somebody said where the account stands, or what they said has ended
    REBUILD = "rebuild"  # nothing changed: where the account stands is told once more, in a new epoch


class Outcome(StrEnum):
    """What became of a record: every one that is read is counted under exactly one of these."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    PASSED_ON = "passed_on"  # its account was merged into another, which it is sent to
    LATE = "late"  # outside every window that asks for it
    PARKED = "parked"  # its account is in quarantine
    OVERTAKEN = "overtaken"  # a state for an account that has gone on since


APPLIED = Outcome.APPLIED  # a plain global: looking a member up in its class costs more than using it


class Kind(StrEnum):
    MOVED = "segment.moved"
    ENTERED = "segment.entered"
    LEFT = "segment.left"
    STATE = "account.state"


# Structs, not dataclasses: a step is made for every record, and a frozen dataclass costs a microsecond.
class Change(msgspec.Struct, frozen=True, gc=False):
    """An account moved within a dimension; for `account.state`, where it stands in all of them."""

    kind: Kind
    account: str
    dimension: str
    before: Answer
    after: Answer
    segment: str  # a set: which segment was entered or left; a ladder: where it is now
    effective: int
    decided: int
    cause: Cause
    origin: Origin
    stays_until: int
    reason: Told
    name: str = ""
    owner: str = ""
    action: dict[str, str] = {}
    provisional: bool = False
    deleted: bool = False
    merged_into: str = ""
    memberships: dict[str, Standing] = {}
    deployment: str = ""  # cause `rules`: what put these rules in force


class Step(msgspec.Struct, frozen=True, gc=False):
    state: AccountState | None  # None: there is no such account (any more)
    changes: tuple[Change, ...] = ()
    outcome: Outcome = APPLIED
    refused: tuple[str, ...] = ()  # facts whose value could not be what they are declared to be
    early: int = 0  # ms by which the record's `at` lay in the future
    held: dict[str, Standing] | None = None  # where the account stood just before an activity that is an outcome
    sent: tuple[AccountRecord, ...] = ()  # to be appended to the log for other accounts, in order


class Work(msgspec.Struct, gc=False):
    """A step under way."""

    state: AccountState
    rules: InForce
    log_time: int
    account: str
    origin: Origin = "live"
    cause: Cause = Cause.DATA  # of what the record changes
    changes: list[Change] = []
    refused: list[str] = []
    early: int = 0
    held: dict[str, Standing] | None = None
    sent: list[AccountRecord] = []

    def origin_of(self, cause: Cause) -> Origin:
        """What time, rules or people did is live, whatever record it was that noticed; what rules did that were
        deployed quietly is no news."""
        if cause is Cause.REBUILD:
            return "rebuild"
        if cause is Cause.BACKFILL:
            return "backfill"
        if cause is Cause.RULES:
            return "backfill" if self.rules.quiet else "live"
        return "live" if cause in (Cause.TIME, Cause.OVERRIDE) else self.origin

    def done(self, outcome: Outcome = APPLIED) -> Step:
        return Step(
            self.state, tuple(self.changes), outcome, tuple(self.refused), self.early, self.held, tuple(self.sent)
        )
