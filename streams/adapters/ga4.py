"""Google Analytics 4: a row of the BigQuery export in JSON, or a Measurement Protocol request.

    page_view, screen_view     -> activity `page_viewed`, `screen_viewed`
    any other                  -> activity of its own name, the event's parameters as props
    user_engagement            -> nothing: a heartbeat

Time is `event_timestamp`, in microseconds; BigQuery writes whole numbers as text. `event_date` is a
day in the property's time zone and says nothing. GA4 has no event id: ours is made of what cannot
change between the day's streamed table and its final one.

The account is a user property or parameter named as in `_ACCOUNT_KEYS`. Without consent a row names
nobody; it is no mistake, so it is not refused, and counts as unattributed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from streams.adapters.base import Claims, Decoded, Observation, Reason
from streams.adapters.names import snake
from streams.adapters.times import EARLIEST, LATEST
from streams.adapters.tracking import VIEWS, email, name_of, own_props, page, screen
from streams.adapters.wire import Refusal, admit, key, read

_ACCOUNT_KEYS = ("account_id", "company_id", "organization_id")
_NOISE = frozenset({"user_engagement"})
# What GA4 adds of itself: sessions, and on each event the page it was on.
_BOOKKEEPING = frozenset({
    "batch_ordering_id", "batch_page_id", "debug_mode", "engaged_session_event", "engagement_time_msec",
    "entrances", "firebase_conversion", "firebase_event_origin", "firebase_screen", "ga_session_id",
    "ga_session_number", "ignore_referrer", "page_location", "page_referrer", "page_title", "session_engaged",
    "session_id", "synthetic_bundle", *_ACCOUNT_KEYS,
})  # fmt: skip
_NOT_SET = (None, "(not set)")
# What a parameter can be. Anything else is no parameter of GA4, and nobody has looked at what it holds.
_PLAIN_TYPES = frozenset({str, int, float, bool})
_WHOLE = re.compile(r"-?\d{1,19}", re.ASCII)


class _Value(msgspec.Struct, gc=False):
    """One of these is set, the others are null."""

    string_value: Any = None
    int_value: Any = None
    float_value: Any = None
    double_value: Any = None
    value: Any = None  # of the Measurement Protocol's user properties

    def plain(self) -> Any:
        values = (self.string_value, _whole(self.int_value), self.float_value, self.double_value, self.value)
        return next((value for value in values if type(value) in _PLAIN_TYPES), None)


class _Parameter(msgspec.Struct, gc=False):
    key: str = ""
    value: _Value | None = None


class _Row(msgspec.Struct, gc=False):
    event_name: str | None = None
    event_timestamp: int | str | None = None
    event_params: list[_Parameter] | None = None
    event_bundle_sequence_id: int | str | None = None
    batch_page_id: int | str | None = None
    batch_ordering_id: int | str | None = None
    batch_event_index: int | str | None = None
    user_id: str | int | None = None
    user_pseudo_id: str | int | None = None
    user_properties: list[_Parameter] | dict[str, _Value | None] | None = None
    items: list[dict[str, Any]] | None = None
    # The Measurement Protocol's words.
    client_id: str | int | None = None
    app_instance_id: str | int | None = None
    timestamp_micros: int | str | None = None
    events: list[msgspec.Raw] | None = None


class _Call(msgspec.Struct, gc=False):
    """An event of a Measurement Protocol request."""

    name: str
    params: dict[str, Any] | None = None
    timestamp_micros: int | str | None = None


class _Event(msgspec.Struct, gc=False):
    """What both have in common."""

    name: str
    params: dict[str, Any]
    micros: int
    index: str  # what tells apart events of one instant
    items: list[dict[str, Any]]


_decode_row = msgspec.json.Decoder(_Row).decode
_decode_call = msgspec.json.Decoder(_Call).decode


def decode(value: bytes | None, received: int) -> Decoded:
    try:
        row = read(_decode_row, admit(value))
        if row.events is None or row.event_name:
            return _observations(row, _exported(row))
    except Refusal as refusal:
        return [refusal.rejected]
    return [found for index, call in enumerate(row.events) for found in _sent(row, call, index, received)]


def _exported(row: _Row) -> _Event:
    if not row.event_name or row.event_timestamp is None:
        raise Refusal(Reason.MISSING_FIELD, "a row has `event_name` and `event_timestamp`, a request has `events`")
    order = (row.event_bundle_sequence_id, row.batch_page_id, row.batch_ordering_id, row.batch_event_index)
    index = "/".join("" if each is None else str(each) for each in order)
    micros = _micros(row.event_timestamp, "event_timestamp")
    return _Event(row.event_name, _plain(row.event_params or []), micros, index, row.items or [])


def _sent(row: _Row, call: msgspec.Raw, index: int, received: int) -> Decoded:
    """One event of a request. They share its time: only their place tells them apart."""
    try:
        return _observations(row, _called(row, read(_decode_call, bytes(call)), index, received))
    except Refusal as refusal:
        return [refusal.rejected]


def _called(row: _Row, call: _Call, index: int, received: int) -> _Event:
    params = dict(call.params or {})
    items = params.pop("items", None)
    stamp = row.timestamp_micros if call.timestamp_micros is None else call.timestamp_micros
    # Without a time it happened when it was sent, and is not known again when it is sent again.
    micros = received * 1000 if stamp is None else _micros(stamp, "timestamp_micros")
    rows = [item for item in items if type(item) is dict] if type(items) is list else []
    return _Event(call.name, params, micros, "" if stamp is None else str(index), rows)


def _observations(row: _Row, event: _Event) -> Decoded:
    name = snake(event.name)
    if not name:
        raise Refusal(Reason.BAD_NAME, "an event's name has no letter in it")
    if name in _NOISE:
        return []
    name = VIEWS.get(name, name)
    claims = _claims(row, event)
    id, at = _id(claims, event), event.micros // 1000
    return [Observation(kind="activity", claims=claims, at=at, id=id, name=name, props=_props(name, event))]


def _claims(row: _Row, event: _Event) -> Claims:
    user = key(row.user_id, "user_id")
    pseudonyms = (
        key(row.user_pseudo_id, "user_pseudo_id"),
        key(row.client_id, "client_id"),
        key(row.app_instance_id, "app_instance_id"),
    )
    anonymous = next(filter(None, pseudonyms), None)
    return Claims(group=_group(row, event), user=user, anonymous=anonymous, email=email(user))


def _group(row: _Row, event: _Event) -> str | None:
    for said in (_user_properties(row), event.params):
        for name in _ACCOUNT_KEYS:
            if group := name_of(said.get(name), name):
                return group
    return None


def _user_properties(row: _Row) -> dict[str, Any]:
    said = row.user_properties or []
    if isinstance(said, list):
        return _plain(said)
    return {name: value.plain() for name, value in said.items() if value}


def _plain(parameters: list[_Parameter]) -> dict[str, Any]:
    return {each.key: each.value.plain() for each in parameters if each.value}


def _id(claims: Claims, event: _Event) -> str:
    """The same for the same event. A visitor's id goes in as a hash, a user's not at all: it may be guessed."""
    if not event.index:
        return ""
    said = f"{claims.anonymous}\n{event.micros}\n{event.name}\n{event.index}"
    return blake2b(said.encode(), digest_size=12).hexdigest()


def _props(name: str, event: _Event) -> dict[str, Any]:
    params = event.params
    own = {
        field: said for field, said in params.items() if field not in _BOOKKEEPING and type(said) in _PLAIN_TYPES
    }
    props = own_props(own)
    if items := [known for item in event.items if (known := own_props(dict(_item(item))))]:
        props["items"] = items
    return props | _view(name, params)


def _view(name: str, params: dict[str, Any]) -> dict[str, Any]:
    if name != "page_viewed":
        return screen(params.get("firebase_screen")) if name == "screen_viewed" else {}
    title, referrer = params.get("page_title"), params.get("page_referrer")
    return page(params.get("page_location"), title=title, referrer=referrer)


def _item(item: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What is known of an item: a row lists all 30 columns, mostly empty."""
    for name, value in item.items():
        if type(value) in _PLAIN_TYPES and value not in _NOT_SET:
            yield name, _whole(value) if name == "quantity" else value


def _whole(value: Any) -> Any:
    """A whole number that BigQuery wrote as text."""
    return int(value) if type(value) is str and _WHOLE.fullmatch(value) else value


def _micros(value: int | str, field: str) -> int:
    micros = _whole(value)
    if type(micros) is not int:
        raise Refusal(Reason.BAD_TIME, f"{field} is no whole number of microseconds: {value!s:.40}")
    if EARLIEST <= micros // 1000 < LATEST:
        return micros
    hint = " (milliseconds? microseconds are meant)" if EARLIEST <= micros < LATEST else ""
    raise Refusal(Reason.ABSURD_TIME, f"{field} lies outside 1990 to 2200{hint}")
