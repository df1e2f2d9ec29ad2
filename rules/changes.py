"""A change as the world gets it: CloudEvents 1.0 JSON, the same bytes for the same log position.

No wall clock and no random id enters: `id` is the position in the log, `time` the instant at which the change
took effect. A subscriber that keeps the highest (epoch, offset, n) per account and dimension is right,
whatever is delivered twice.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypedDict

import msgspec
from msgspec import UNSET, UnsetType

from rules import contract
from rules.fold import Outgoing
from rules.ruleset import Dimension, Ruleset
from rules.state import NEVER, NOWHERE, Answer, Standing, standing_in
from rules.work import Cause, Kind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode
_INSTANTS = ("at", "until")


def iso(instant: int) -> str:
    """UTC with milliseconds, `2026-03-02T09:15:00.111Z`."""
    seconds, ms = divmod(instant, 1000)
    days, second = divmod(seconds, 86_400)
    return f"{_date(days)}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{ms:03}Z"


@lru_cache(4096)
def _date(days: int) -> str:
    return (_EPOCH + timedelta(days=days)).date().isoformat()


def change_id(partition: int, out: Outgoing) -> str:
    return f"{partition}.{out.epoch}.{out.offset}.{out.n}"


def cloud_event(partition: int, ruleset: Ruleset, out: Outgoing) -> bytes:
    """The change as one CloudEvent. `partition` and the position make its id."""
    change = out.change
    return _encode(
        contract.Event(
            specversion="1.0",
            id=change_id(partition, out),
            source=f"/isotherm/account.log/{partition}",
            type=_TYPES[change.kind],
            subject=change.account,
            time=iso(change.effective),
            datacontenttype="application/json",
            partitionkey=change.account,
            data=_DATA[change.kind](partition, ruleset, out),
        )
    )


def memberships(partition: int, ruleset: Ruleset, out: Outgoing) -> bytes | None:
    """The account's full memberships after the change, for the compacted topic; None (a tombstone) if gone."""
    change, state = out.change, out.state
    if state.deleted or state.merged_into:
        return None
    return _encode(
        contract.Memberships(
            account=change.account,
            name=change.name,
            memberships={each.name: _plain(each, standing_in(state, each.name)) for each in ruleset.dimensions},
            effective=iso(change.effective),
            position=_position(partition, out),
            ruleset=ruleset.hash,
        )
    )


class _Told(TypedDict):
    """What the data of every event says."""

    account: str
    name: str
    provisional: bool | UnsetType
    effective: str
    decided: str
    cause: contract.Cause
    origin: contract.Origin
    stays_until: str | None
    reason: dict[str, Any]
    owner: str
    action: dict[str, Any]
    ruleset: str
    deployment: str | UnsetType
    position: contract.Position


def _told(partition: int, ruleset: Ruleset, out: Outgoing) -> _Told:
    change = out.change
    return {
        "account": change.account,
        "name": change.name,
        "provisional": True if change.provisional else UNSET,
        "effective": iso(change.effective),
        "decided": iso(change.decided),
        "cause": _CAUSES[change.cause],
        "origin": change.origin,
        "stays_until": instant_or_none(change.stays_until),
        "reason": readable(change.reason),
        "owner": change.owner,
        "action": change.action,
        "ruleset": ruleset.hash,
        "deployment": change.deployment or UNSET,
        "position": _position(partition, out),
    }


def _moved(partition: int, ruleset: Ruleset, out: Outgoing) -> contract.Moved:
    change = out.change
    return contract.Moved(
        dimension=change.dimension,
        before=_one(change.before),
        after=_one(change.after),
        **_told(partition, ruleset, out),
    )


def _crossed(partition: int, ruleset: Ruleset, out: Outgoing) -> contract.Crossed:
    change = out.change
    return contract.Crossed(
        dimension=change.dimension,
        segment=change.segment,
        members=list(change.after),
        **_told(partition, ruleset, out),
    )


def _state(partition: int, ruleset: Ruleset, out: Outgoing) -> contract.State:
    change = out.change
    gone = change.deleted or bool(change.merged_into)
    return contract.State(
        merged_into=change.merged_into or UNSET,
        deleted=True if change.deleted and not change.merged_into else UNSET,
        memberships={} if gone else {each.name: _membership(each, ruleset, out) for each in ruleset.dimensions},
        **_told(partition, ruleset, out),
    )


def _membership(dimension: Dimension, ruleset: Ruleset, out: Outgoing) -> contract.Membership:
    standing = out.change.memberships.get(dimension.name, NOWHERE)
    stays_until = instant_or_none(ruleset.stays_until(dimension, out.state))
    return contract.Membership(_plain(dimension, standing), since(standing), stays_until)


_DATA: dict[Kind, Callable[[int, Ruleset, Outgoing], contract.Data]] = {
    Kind.MOVED: _moved,
    Kind.ENTERED: _crossed,
    Kind.LEFT: _crossed,
    Kind.STATE: _state,
}
_TYPES: dict[Kind, contract.EventType] = {
    Kind.MOVED: "segment.moved",
    Kind.ENTERED: "segment.entered",
    Kind.LEFT: "segment.left",
    Kind.STATE: "account.state",
}
_CAUSES: dict[Cause, contract.Cause] = {
    Cause.DATA: "data",
    Cause.TIME: "time",
    Cause.RULES: "rules",
    Cause.IDENTITY: "identity",
    Cause.MERGE: "merge",
    Cause.OVERRIDE: "override",
    Cause.BACKFILL: "backfill",
    Cause.REBUILD: "rebuild",
}


def _plain(dimension: Dimension, standing: Standing) -> str | list[str] | None:
    return list(standing.answer) if dimension.kind == "set" else _one(standing.answer)


def since(standing: Standing) -> str | None:
    """Since when; None where the account is in no segment and nothing is waited for: that is not kept."""
    return None if standing is NOWHERE else iso(standing.since)


def _one(answer: Answer) -> str | None:
    return answer[0] if answer else None


def _position(partition: int, out: Outgoing) -> contract.Position:
    return contract.Position(partition, out.epoch, out.offset, out.n)


def instant_or_none(instant: int) -> str | None:
    return None if instant >= NEVER else iso(instant)


def readable(told: Any) -> Any:
    """A reason with its instants written out."""
    if isinstance(told, dict):
        return {
            key: iso(value) if key in _INSTANTS and isinstance(value, int) else readable(value)
            for key, value in told.items()
        }
    return [readable(each) for each in told] if isinstance(told, list) else told
