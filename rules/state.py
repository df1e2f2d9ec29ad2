"""What is kept of an account: the fold of its records so far, and nothing that can be derived.

Packed with msgpack as an array behind a version byte. Measures are byte strings (see `measures`), so
that reading a state does not unpack what the next record will not touch.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from rules.records import FactValue

VERSION = b"\x03"
READS = {VERSION}  # versions of states that this build reads
GONE = "\0gone"  # among a contact's facts: no longer a contact; no source can report a fact of that name
HERE = "\0here"  # likewise: reported as a contact, with no facts to tell when
NEVER = 1 << 53  # later than every instant, and still exact as a Redis score
SEEN_KEPT = 64
SEEN_BYTES = 5  # two different ids look alike to an account once in 17 billion events

Answer: TypeAlias = tuple[str, ...]  # the segments an account holds in one dimension; a ladder: at most one
UNCLASSIFIED = "unclassified"


class OtherBuildError(ValueError):
    """What is kept was written by a build that keeps it otherwise."""


class Fact(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A value (None: cleared), the instant at which it was true, and who said so.

    `match` is the vocabulary's term for a spelling that it only nearly knows, and how alike the two are (0 to 1).
    `others` is the newest report of each other rank, where the fact's declaration ranks its sources.
    """

    value: FactValue
    at: int
    source: str = ""
    match: tuple[str, float] | None = None
    others: tuple[Report, ...] = ()


class Report(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What one source said of a fact."""

    value: FactValue
    at: int
    source: str = ""


class Standing(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An account's answer in one dimension, since when, and when time alone may change it.

    `timers`: since when a segment's rule has been true, or a member has been one (see `membership`).
    """

    answer: Answer
    since: int
    wake: int = NEVER
    timers: dict[str, int] = {}


class Forced(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What somebody said of an account: in a segment (of a set: or `out` of it), from `since` to `until`."""

    segment: str
    until: int
    since: int
    why: str = ""
    by: str = ""
    out: bool = False


class Overridden(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A dimension of which somebody said something, and where its rules have the account (None: nowhere)."""

    forced: tuple[Forced, ...]
    ruled: Standing | None = None


NOWHERE = Standing((), 0)  # in no segment, and nothing to wait for: this is not kept


class AccountState(msgspec.Struct, array_like=True, gc=False):
    born: int  # offset of the account's first record
    ruleset: str = ""  # hash of the ruleset it was last evaluated by; empty: never evaluated
    facts: dict[str, Fact] = msgspec.field(default_factory=dict)
    contacts: dict[str, dict[str, Fact]] = msgspec.field(default_factory=dict)
    measures: dict[str, bytes] = msgspec.field(default_factory=dict)
    standings: dict[str, Standing] = msgspec.field(default_factory=dict)  # none for NOWHERE
    wake: int = NEVER
    seen: bytes = b""  # hashes of the newest event ids, oldest first
    deleted: bool = False
    merged_into: str = ""  # nothing else is kept then: what comes for this account is passed on
    also: tuple[str, ...] = ()  # the accounts that were merged into this one; visitors are not noted
    stale: dict[str, int] = msgspec.field(default_factory=dict)  # source -> since when it must be read again
    touched: int = 0  # offset of the last record that was applied to it or passed on by it; not by time alone
    # As whom somebody was counted -> who it is, and since when that is known: what was on its way says the first.
    known: dict[str, tuple[str, int]] = msgspec.field(default_factory=dict)
    told: int = -1  # offset of the record at which something was last told of it
    quarantined: int = -1  # offset of the record at which folding it raised; what comes since is parked
    overrides: dict[str, Overridden] = msgspec.field(default_factory=dict)  # by dimension
    # Of measures that are to be filled (`filling`): what is still to come, and up to when it may have happened.
    gaps: dict[str, int] = msgspec.field(default_factory=dict)
    opened: int = -1  # offset of the last ruleset record whose gaps were opened
    degraded: int = 0  # when facts that no rule reads were last dropped, because they were too much (`shedding`)


class _Name(msgspec.Struct, gc=False):
    name: Fact | None = None


class _Glance(msgspec.Struct, array_like=True, gc=False):
    """The first fields of an `AccountState`, and of its facts one: the decoder passes over the rest."""

    born: int
    ruleset: str
    facts: _Name


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(AccountState).decode
_glance = msgspec.msgpack.Decoder(_Glance).decode


def pack(state: AccountState) -> bytes:
    return VERSION + _pack(state)


def unpack(blob: bytes) -> AccountState:
    """The state in `blob`. Raises OtherBuildError for a version that this build does not read."""
    return _unpack(_read(blob))


def name_in(blob: bytes) -> str:
    """What the account is called, for a quarter of the cost of unpacking its state. Raises as `unpack` does."""
    return shown(_glance(_read(blob)).facts.name)


def shown(name: Fact | None) -> str:
    """What an account is called, by that fact; "" when nobody knows."""
    return str(name.value) if name is not None and name.value is not None else ""


def _read(blob: bytes) -> memoryview:
    if blob[:1] not in READS:
        raise OtherBuildError(
            f"account state of version {blob[0] if blob else 'none'}, and this build reads {VERSION[0]}: another "
            "build wrote it. Run that build, or fold the log with this one into an empty Redis namespace "
            "(ISOTHERM_NAMESPACE)"
        )
    return memoryview(blob)[1:]


def standing_in(state: AccountState, dimension: str) -> Standing:
    return state.standings.get(dimension, NOWHERE)


def copy(state: AccountState) -> AccountState:
    """A state of one's own to change: `step` never touches the one it was given."""
    return AccountState(
        state.born,
        state.ruleset,
        state.facts,
        state.contacts,
        state.measures,
        state.standings,
        state.wake,
        state.seen,
        state.deleted,
        state.merged_into,
        state.also,
        state.stale,
        state.touched,
        state.known,
        state.told,
        state.quarantined,
        state.overrides,
        state.gaps,
        state.opened,
        state.degraded,
    )
