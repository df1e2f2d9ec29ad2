"""A change as the world gets it: CloudEvents 1.0 JSON, the same bytes for the same log position.

No wall clock and no random id enters: `id` is the position in the log, `time` the instant at which the change
took effect. A subscriber that keeps the highest (epoch, offset, n) per account and dimension is right,
whatever is delivered twice.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from rules.fold import Outgoing
from rules.ruleset import Dimension, Ruleset
from rules.state import NEVER, NOWHERE, Answer, Standing, standing_in
from rules.work import Kind

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
        {
            "specversion": "1.0",
            "id": change_id(partition, out),
            "source": f"/isotherm/account.log/{partition}",
            "type": str(change.kind),
            "subject": change.account,
            "time": iso(change.effective),
            "datacontenttype": "application/json",
            "partitionkey": change.account,
            "data": _data(partition, ruleset, out),
        }
    )


def memberships(partition: int, ruleset: Ruleset, out: Outgoing) -> bytes | None:
    """The account's full memberships after the change, for the compacted topic; None (a tombstone) if gone."""
    change, state = out.change, out.state
    if state.deleted or state.merged_into:
        return None
    return _encode(
        {
            "account": change.account,
            "name": change.name,
            "memberships": {each.name: _plain(each, standing_in(state, each.name)) for each in ruleset.dimensions},
            "effective": iso(change.effective),
            "position": _position(partition, out),
            "ruleset": ruleset.hash,
        }
    )


def _data(partition: int, ruleset: Ruleset, out: Outgoing) -> dict[str, Any]:
    change = out.change
    data: dict[str, Any] = {"account": change.account, "name": change.name}
    if change.provisional:
        data["provisional"] = True
    if change.kind is Kind.STATE:
        data |= _state_data(ruleset, out)
    else:
        data |= {"dimension": change.dimension, **_move(out)}
    return data | {
        "effective": iso(change.effective),
        "decided": iso(change.decided),
        "cause": str(change.cause),
        "origin": change.origin,
        "stays_until": instant_or_none(change.stays_until),
        "reason": readable(change.reason),
        "owner": change.owner,
        "action": change.action,
        "ruleset": ruleset.hash,
        "position": _position(partition, out),
    }


def _move(out: Outgoing) -> dict[str, Any]:
    change = out.change
    if change.kind is Kind.MOVED:
        return {"from": _one(change.before), "to": _one(change.after)}
    return {"segment": change.segment, "members": list(change.after)}


def _state_data(ruleset: Ruleset, out: Outgoing) -> dict[str, Any]:
    change = out.change
    if change.merged_into:
        return {"merged_into": change.merged_into, "memberships": {}}
    if change.deleted:
        return {"deleted": True, "memberships": {}}
    return {
        "memberships": {
            each.name: {
                "answer": _plain(each, standing := change.memberships.get(each.name, NOWHERE)),
                "since": since(standing),
                "stays_until": instant_or_none(ruleset.stays_until(each, out.state)),
            }
            for each in ruleset.dimensions
        }
    }


def _plain(dimension: Dimension, standing: Standing) -> str | list[str] | None:
    return list(standing.answer) if dimension.kind == "set" else _one(standing.answer)


def since(standing: Standing) -> str | None:
    """Since when; None where the account is in no segment and nothing is waited for: that is not kept."""
    return None if standing is NOWHERE else iso(standing.since)


def _one(answer: Answer) -> str | None:
    return answer[0] if answer else None


def _position(partition: int, out: Outgoing) -> dict[str, int]:
    return {"partition": partition, "epoch": out.epoch, "offset": out.offset, "n": out.n}


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
