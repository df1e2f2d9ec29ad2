"""Where an account stands after an event, as destinations that hold current values are told.

A change speaks of one dimension. An `account.state` speaks of all: what it does not name, the account is not in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, TypeAlias

from msgspec import UNSET

from rules.contract import LEFT, Answer, Crossed, Event, Moved, State
from streams.sinks.base import Delivery

Field: TypeAlias = Literal["segment", "reason", "since", "stays_until"]
FIELDS: tuple[Field, ...] = ("segment", "reason", "since", "stays_until")


# What is said of an account in one dimension. A field that is not there is not spoken of; None: it is in none.
Standing: TypeAlias = dict[Field, Answer]
NOWHERE: Standing = dict.fromkeys(FIELDS)


def is_merged(event: Event[Any]) -> bool:
    return isinstance(event.data, State) and event.data.merged_into is not UNSET


def is_deleted(event: Event[Any]) -> bool:
    return isinstance(event.data, State) and event.data.deleted is True


def standings(event: Event[Any], dimensions: Collection[str]) -> dict[str, Standing]:
    """Of `dimensions`, those that the event speaks of."""
    data = event.data
    if isinstance(data, State):
        return {each: _of_state(data, each) for each in dimensions}
    return {data.dimension: _of_change(event)} if data.dimension in dimensions else {}


def newest(deliveries: Iterable[Delivery], dimensions: Collection[str]) -> dict[str, dict[str, Standing]]:
    """By account, what is so after all of the deliveries: of two that speak of one dimension the later counts."""
    found: dict[str, dict[str, Standing]] = {}
    for each in sorted(deliveries, key=lambda each: each.event.data.position.order):
        account = found.setdefault(each.account, {})
        for dimension, standing in standings(each.event, dimensions).items():
            account[dimension] = account.get(dimension, {}) | standing
    return found


def _of_state(data: State, dimension: str) -> Standing:
    standing = data.memberships.get(dimension)
    if standing is None or not standing.answer:
        return dict(NOWHERE)
    return {
        "segment": standing.answer,
        "reason": text_of(data.reason.get(dimension)),
        "since": standing.since,
        "stays_until": standing.stays_until,
    }


def _of_change(event: Event[Any]) -> Standing:
    data: Moved | Crossed = event.data
    answer = data.after if isinstance(data, Moved) else data.members or None
    found: Standing = {"segment": answer, "reason": text_of(data.reason), "stays_until": data.stays_until}
    # A set's instant is that of what was entered; that something was left says nothing of what is still there.
    if answer is None or event.type != LEFT:
        found["since"] = data.effective if answer else None
    return found


def text_of(reason: Mapping[str, Any] | None) -> str | None:
    text = (reason or {}).get("text")
    return text if isinstance(text, str) and text else None


def shortened(text: str, longest: int) -> str:
    """At most so many characters, ended at a word."""
    if len(text) <= longest:
        return text
    if longest == 0:
        return ""
    words = text[: longest - 1].rpartition(" ")[0] or text[: longest - 1]
    return words.rstrip(" ;,") + "…"
