"""What subscribers get, and nothing else: the messages of `segment.changes` and `segment.memberships`.

One model for all: what is published is built of these, what is read is parsed into these, and the JSON Schemas
and the AsyncAPI document are made from these. Fields are in the order in which they stand on the wire.

A field may be added; taking one away, or giving one another type or meaning, is a new version of the contract.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

VERSION = "1.0.0"

MOVED, ENTERED, LEFT, STATE = "segment.moved", "segment.entered", "segment.left", "account.state"

Instant: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        description="UTC with milliseconds",
        examples=["2026-03-09T10:00:00.000Z"],
    ),
]
EventType: TypeAlias = Literal["segment.moved", "segment.entered", "segment.left", "account.state"]
Cause: TypeAlias = Annotated[
    Literal["data", "time", "rules", "merge", "identity", "override", "backfill", "rebuild"],
    Meta(description="What made it happen: new data, time alone, other rules, two accounts that are one, …"),
]
Origin: TypeAlias = Annotated[
    Literal["live", "import", "backfill", "rebuild"],
    Meta(description="`live` is news. Of the others a journey is not started and nobody is alerted."),
]
Until: TypeAlias = Annotated[
    Instant | None, Meta(description="The instant at which time alone may end this; null: none")
]
Name: TypeAlias = Annotated[str, Meta(description="The fact `name` of the account; empty: it is not known")]
Provisional: TypeAlias = Annotated[
    bool | UnsetType, Meta(description="Known by its domain or group only; it may be merged into another")
]
Segment: TypeAlias = Annotated[str | None, Meta(description="A segment of the ladder; null: none")]
Decided: TypeAlias = Annotated[Instant, Meta(description="The log's time when it was decided")]
Effective: TypeAlias = Annotated[Instant, Meta(description="When it took effect")]
Owner: TypeAlias = Annotated[str, Meta(description="Whose the segment is, as its rule says it; may be empty")]
RulesetHash: TypeAlias = Annotated[str, Meta(description="The hash of the ruleset that decided")]
Deployment: TypeAlias = Annotated[
    str | UnsetType, Meta(description="With cause `rules`: the deployment that put these rules in force")
]
Answer: TypeAlias = Annotated[
    str | list[str] | None,
    Meta(description="A ladder: its segment or null. A set: the segments that the account is in."),
]
Reason: TypeAlias = Annotated[
    dict[str, Any],
    Meta(description="`text` in a line; `because` as a tree of conditions with values, thresholds, evidence"),
]
Action: TypeAlias = Annotated[dict[str, Any], Meta(description="What the segment asks for, as its rule says it")]


class Position(msgspec.Struct, frozen=True):
    """Where in the log it was decided. Of two messages about one account the one with the higher
    `(epoch, offset, n)` is the later."""

    partition: int
    epoch: int
    offset: int
    n: int

    @property
    def order(self) -> tuple[int, int, int]:
        return self.epoch, self.offset, self.n


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """An account went from one segment of a ladder to another; null: none."""

    account: str
    name: Name
    provisional: Provisional = UNSET
    dimension: str
    before: Segment = field(name="from")
    after: Segment = field(name="to")
    effective: Effective
    decided: Decided
    cause: Cause
    origin: Origin
    stays_until: Until
    reason: Reason
    owner: Owner
    action: Action
    ruleset: RulesetHash
    deployment: Deployment = UNSET
    position: Position


class Crossed(msgspec.Struct, frozen=True, kw_only=True):
    """An account entered or left one segment of a set; `members` are all that it is in afterwards."""

    account: str
    name: Name
    provisional: Provisional = UNSET
    dimension: str
    segment: str
    members: Annotated[list[str], Meta(description="All segments of the set that it is in afterwards")]
    effective: Effective
    decided: Decided
    cause: Cause
    origin: Origin
    stays_until: Until
    reason: Reason
    owner: Owner
    action: Action
    ruleset: RulesetHash
    deployment: Deployment = UNSET
    position: Position


class Membership(msgspec.Struct, frozen=True):
    """Where an account stands in one dimension."""

    answer: Answer
    since: Annotated[Instant | None, Meta(description="Since when; null: nothing is kept")]
    stays_until: Until


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Where an account stands in all dimensions; it takes the place of whatever was said of it before.

    Without memberships when the account is `deleted` or was `merged_into` another.
    """

    account: str
    name: Name
    provisional: Provisional = UNSET
    merged_into: Annotated[str | UnsetType, Meta(description="The account that it is one with now")] = UNSET
    deleted: bool | UnsetType = UNSET
    memberships: dict[str, Membership]
    effective: Effective
    decided: Decided
    cause: Cause
    origin: Origin
    stays_until: Until
    reason: Annotated[dict[str, Any], Meta(description="A reason for each dimension")]
    owner: Owner
    action: Action
    ruleset: RulesetHash
    deployment: Deployment = UNSET
    position: Position


Data: TypeAlias = Moved | Crossed | State
D = TypeVar("D", Moved, Crossed, State, msgspec.Raw)


class Event(msgspec.Struct, Generic[D], frozen=True):
    """A CloudEvent 1.0 in structured JSON. Its `id` is a position in the log: delivered twice it is the same."""

    specversion: Literal["1.0"]
    id: Annotated[str, Meta(pattern=r"^\d+\.\d+\.\d+\.\d+$", examples=["0.0.4.0"])]
    source: Annotated[str, Meta(pattern=r"^/isotherm/account\.log/\d+$")]
    type: EventType
    subject: Annotated[str, Meta(description="The account")]
    time: Effective
    datacontenttype: Literal["application/json"]
    partitionkey: Annotated[str, Meta(description="The account, the key of the message")]
    data: D


class Memberships(msgspec.Struct, frozen=True, kw_only=True):
    """All an account is in, the newest message for each account kept; a tombstone when it is gone."""

    account: str
    name: Name
    memberships: dict[str, Answer]
    effective: Effective
    position: Position
    ruleset: RulesetHash


DATA: dict[str, type[Moved] | type[Crossed] | type[State]] = {
    MOVED: Moved, ENTERED: Crossed, LEFT: Crossed, STATE: State
}  # fmt: skip
_envelope = msgspec.json.Decoder(Event[msgspec.Raw])
_data: dict[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(kind) for name, kind in DATA.items()}
_memberships = msgspec.json.Decoder(Memberships)


def read(value: bytes) -> Event[Any]:
    """The event with its data parsed. Fields we do not know are left out; raises msgspec.MsgspecError."""
    event = _envelope.decode(value)
    return msgspec.structs.replace(event, data=_data[event.type].decode(event.data))


def read_memberships(value: bytes) -> Memberships:
    """Raises msgspec.MsgspecError."""
    return _memberships.decode(value)
