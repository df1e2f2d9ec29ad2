"""Calls of the Segment spec: an account's standing as traits of its group, a live change as an event.

    group    traits of the dimensions that the event speaks of, `null` where the account is in no segment
    track    `Account Segment Changed`, once for each dimension, for what is news

Segment, RudderStack, Customer.io's Pipelines, Dittofeed and our own collector take them, many in one request. A
call's `messageId` is the change's id and what the call is, so that what is sent twice is dropped there.

All of them want a user in each call, and a change has none. It is told of an anonymous one who stands for the
account: a `userId` would become a person, with a profile, whom somebody could write to.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, Field

from rules.contract import ENTERED, Crossed, Event, Moved, State
from rules.model import Model, Name, Term
from streams.sinks.answers import by_status
from streams.sinks.base import Delivered, Delivery, GiveUp, Outcome, Rate, Reason, Request
from streams.sinks.secret import Held, Secret
from streams.sinks.standing import Field as Told
from streams.sinks.standing import is_deleted, is_merged, shortened, standings, text_of
from streams.sinks.told import RateTo, Url

EVENT = "Account Segment Changed"
CALL = 32_000  # bytes: the least that any of them takes is 32 KB for a call
BATCH = 500_000  # and 500 KB for a batch
DELIVERIES = 50  # in one request
EACH = (BATCH - 1000) // DELIVERIES  # bytes of one delivery's calls, so that any 50 are a batch
REASON_LONGEST = 500  # characters
NO_USER = "isotherm:"
STATUS = "account_status"
_OF_ALL_MOVES = ("account", "name", "cause", "origin", "owner", "action")

_encode = msgspec.json.Encoder().encode


def _plain_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not name.replace("-", "").isalnum() or not value.isprintable():
            raise ValueError(f"'{name}' is no header of one line")
        if name.lower() in ("authorization", "content-type", "content-length", "host"):
            raise ValueError(f"'{name}' is ours to say")
    return headers


class SegmentTo(Model):
    """`to:` of an endpoint of kind `segment`."""

    url: Url
    key: Secret
    auth: Literal["basic", "as_is"] = "basic"
    dimensions: Annotated[list[Name], Field(min_length=1, max_length=200)] | None = None
    traits: Annotated[list[Told], Field(min_length=1)] = Field(default=["segment", "reason"])
    prefix: Annotated[str, Field(max_length=64)] = "isotherm_"
    track: Literal["live", "all", "none"] = "live"
    user: Literal["anonymous", "account"] = "anonymous"
    headers: Annotated[dict[Term, Term], AfterValidator(_plain_headers)] = Field(default_factory=dict)
    rate: RateTo | None = None

    def sink(self) -> SegmentSink:
        return SegmentSink(
            self.url,
            self.key,
            self.auth == "basic",
            None if self.dimensions is None else tuple(self.dimensions),
            tuple(self.traits),
            self.prefix,
            self.track,
            self.user == "account",
            self.headers,
            self.rate.rate() if self.rate else None,
        )


@dataclass(frozen=True, slots=True)
class SegmentSink:
    url: str
    key: Held
    basic: bool
    dimensions: tuple[str, ...] | None  # None: all
    traits: tuple[Told, ...]
    prefix: str
    track: str
    as_user: bool
    headers: Mapping[str, str]
    rate: Rate | None = None
    batch: int = DELIVERIES

    def refuses(self, delivery: Delivery) -> GiveUp | None:
        if not self._spoken_of(delivery.event) and not isinstance(delivery.event.data, State):
            return GiveUp(Reason.NOTHING_TO_WRITE)
        return None if self._calls(delivery) else GiveUp(Reason.TOO_LARGE)

    def request(self, deliveries: Sequence[Delivery]) -> Request:
        calls = [call for each in deliveries for call in self._calls(each)]
        headers = {**self.headers, "Content-Type": "application/json", "Authorization": self._authorization()}
        return Request("POST", self.url, headers, b'{"batch":[' + b",".join(calls) + b"]}")

    def outcomes(
        self, deliveries: Sequence[Delivery], status: int, headers: Mapping[str, str], body: bytes
    ) -> list[Outcome]:
        """A batch is taken or refused as a whole, and what is wrong with one call is often not said at all."""
        if 200 <= status < 300:
            return [Delivered()] * len(deliveries)
        return [by_status(status, headers, several=len(deliveries) > 1)] * len(deliveries)

    def _authorization(self) -> str:
        key = self.key.read()
        return f"Basic {base64.b64encode(f'{key}:'.encode()).decode()}" if self.basic else key

    # -- calls ------------------------------------------------------------------------------------------------

    def _calls(self, delivery: Delivery) -> list[bytes]:
        """As they are sent. Reasons are left out of what would be too large; none if it is too large even so."""
        for longest in (REASON_LONGEST, 0):
            calls = list(map(_encode, self._told(delivery, longest)))
            if max(map(len, calls), default=0) <= CALL and sum(map(len, calls)) + len(calls) <= EACH:
                return calls
        return []

    def _told(self, delivery: Delivery, longest: int) -> Iterator[dict[str, Any]]:
        traits = self._traits(delivery.event, longest)
        yield self._call(delivery, "group", "group", {"groupId": delivery.account, "traits": traits})
        for dimension, properties in self._moves(delivery.event, longest).items():
            told = {"event": EVENT, "properties": properties, "context": {"groupId": delivery.account}}
            yield self._call(delivery, "track", f"track:{dimension}", told)

    def _call(self, delivery: Delivery, type: str, part: str, told: dict[str, Any]) -> dict[str, Any]:
        whose = {"userId": delivery.account} if self.as_user else {"anonymousId": NO_USER + delivery.account}
        return {
            "type": type,
            "messageId": f"isotherm:{delivery.id}:{part}",
            "timestamp": delivery.event.time,
            **whose,
            **told,
        }

    def _wants(self, dimension: str) -> bool:
        return self.dimensions is None or dimension in self.dimensions

    def _spoken_of(self, event: Event[Any]) -> tuple[str, ...]:
        """A state speaks of dimensions that it does not name too, as far as we know them."""
        data = event.data
        if isinstance(data, State):
            return tuple(data.memberships) if self.dimensions is None else self.dimensions
        return (data.dimension,) if self._wants(data.dimension) else ()

    def _traits(self, event: Event[Any], longest: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for dimension, standing in standings(event, self._spoken_of(event)).items():
            for field in self.traits:
                if field in standing and not (field == "reason" and longest == 0):
                    value = standing[field]
                    told = shortened(value, longest) if field == "reason" and isinstance(value, str) else value
                    found[self.prefix + dimension + ("" if field == "segment" else f"_{field}")] = told
        if isinstance(event.data, State):
            found[self.prefix + STATUS] = status(event)
        return found

    def _moves(self, event: Event[Any], longest: int) -> dict[str, dict[str, Any]]:
        """By dimension, the properties of a `track` call. A journey begins at news, not at what is restated."""
        data = event.data
        if self.track == "none" or (self.track == "live" and data.origin != "live"):
            return {}
        reasons = data.reason if isinstance(data, State) else {data.dimension: data.reason}
        common = {name: getattr(data, name) for name in _OF_ALL_MOVES}
        found = {}
        for dimension, move in moves(event).items():
            if self._wants(dimension):
                reason = shortened(text_of(reasons.get(dimension)) or "", longest)
                found[dimension] = {**common, "dimension": dimension, **move}
                found[dimension] |= {"reason": reason} if reason else {}
        return found


def moves(event: Event[Any]) -> dict[str, dict[str, Any]]:
    """By dimension: from where to where. A first state is a move from nothing in each that it is in."""
    data = event.data
    move: dict[str, Any]
    match data:
        case State():
            return {
                dimension: {"from": None, "to": each.answer, "stays_until": each.stays_until}
                for dimension, each in data.memberships.items()
                if each.answer
            }
        case Moved():
            move = {"from": data.before, "to": data.after}
        case Crossed():
            entered = event.type == ENTERED
            move = {"from": None if entered else data.segment, "to": data.segment if entered else None}
            move |= {"members": data.members}
    return {data.dimension: move | {"stays_until": data.stays_until}}


def status(event: Event[Any]) -> str:
    """Of the account itself: `live`, `merged` into another or `deleted`."""
    return "merged" if is_merged(event) else "deleted" if is_deleted(event) else "live"
