"""CloudEvents 1.0 in structured JSON: one event, or a batch of them as an array.

    `data` with a `kind`, or a type `isotherm.KIND`   -> that record of our own format (`canonical`)
    any other type                                     -> activity, named after its last part

`com.example.page_viewed` is `page_viewed`, and so is `com.example.page_viewed.v2`: a version at the
end is no name. What `data` holds are the activity's properties, and whom it names there
(`account_id`, `user_id`, `email` and so on) are its claims.

`subject` is the account: its web domain if it looks like one, else its id; an e-mail address is the
person's. What `data` says of the same wins. `time` is when it happened, if `data` does not say; an
event without either happened when it was received. `source` and `id` together are the event's id.

Binary mode is not read: its attributes are the Kafka headers `ce_*`, and an adapter sees the value
alone. Such a message is refused for the `specversion` it lacks.

`data_base64` is read where the content is JSON. Extension attributes are passed over, but for one:
a top-level `kind` makes any message one of our own format, before this adapter is asked.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Any

import msgspec

from streams.adapters import canonical
from streams.adapters.base import Claims, Decoded, Observation, Reason
from streams.adapters.ids import event_id
from streams.adapters.names import scrub, snake
from streams.adapters.times import instant
from streams.adapters.wire import MAX_KEY, Refusal, admit, claim, key, one_or_many, read

OURS = "isotherm."

# Properties that say whom an activity is about, in snake_case without underscores, and our claim.
CLAIMS = {
    "account": "account", "accountid": "account", "crm": "crm",
    "group": "group", "groupid": "group", "contact": "contact", "opportunity": "opportunity",
    "user": "user", "userid": "user", "anonymous": "anonymous", "anonymousid": "anonymous",
    "email": "email", "domain": "domain",
}  # fmt: skip
_ADDRESSES = frozenset({"email", "domain"})  # of the claims; the others are ids


class _Event(msgspec.Struct, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    data: Any = None
    data_base64: str | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_data = msgspec.json.Decoder(Any).decode


def decode(value: bytes | None, received: int) -> Decoded:
    try:
        events = one_or_many(value)
    except Refusal as refusal:
        return [refusal.rejected]
    return [found for event in events for found in _observations(event, received)]


def _observations(raw: msgspec.Raw, received: int) -> Decoded:
    try:
        event = read(_decode_event, bytes(raw))
        _require_1_0(event)
        data = _data(event)
        if event.type.startswith(OURS) or (type(data) is dict and type(data.get("kind")) is str):
            return _record(event, data, received)
        return [_activity(event, data if type(data) is dict else {}, received)]
    except Refusal as refusal:
        return [refusal.rejected]


def _require_1_0(event: _Event) -> None:
    if event.specversion != "1.0":
        raise Refusal(Reason.UNKNOWN_FORMAT, f"specversion {event.specversion[:40]!r}; 1.0 is read")
    for attribute in ("id", "source", "type"):
        if not getattr(event, attribute):
            raise Refusal(Reason.MISSING_FIELD, f"the attribute `{attribute}` is empty")


def _data(event: _Event) -> Any:
    if event.data_base64 is None:
        return event.data
    if event.data is not None:
        raise Refusal(Reason.BAD_VALUE, "both data and data_base64")
    try:
        content = b64decode(event.data_base64, validate=True)
    except ValueError:
        raise Refusal(Reason.BAD_VALUE, "data_base64 is no base64") from None
    return read(_decode_data, admit(content)) if _is_json(event.datacontenttype) else None


def _is_json(content_type: str | None) -> bool:
    return content_type is None or content_type.partition(";")[0].strip().lower().endswith("json")


def _id(event: _Event) -> str:
    """Never with an e-mail address in it, which the spec allows for a source."""
    return event_id(f"{event.source}/{event.id}")


# -- a record of our own


def _record(event: _Event, data: Any, received: int) -> Decoded:
    """Facts go under our spelling: `canonical` knows what is personal by that alone."""
    if type(data) is not dict:
        raise Refusal(Reason.WRONG_TYPE, f"the data of {event.type[:60]!r} is no object")
    record = {"kind": event.type.rpartition(".")[2], "at": event.time or received, **data, "id": _id(event)}
    for name, value in _subject(event).items():
        record.setdefault(name, value)
    if type(facts := record.get("set")) is dict:
        record["set"] = {snake(name): value for name, value in facts.items()}
    if type(cleared := record.get("clear")) is list:
        record["clear"] = [snake(name) if type(name) is str else name for name in cleared]
    try:
        text = msgspec.json.encode(record)
    except OverflowError:
        raise Refusal(Reason.HUGE_NUMBER, "an integer needs more than 64 bits") from None
    return canonical.decode(text, received)


_DOMAIN = re.compile(r"https?://.*|[\w-]+(\.[\w-]+)*\.[^\W\d]{2,}", re.I)


def _subject(event: _Event) -> dict[str, str]:
    """The account's domain or id, or a person's address: as a claim."""
    subject = key(event.subject, "subject")
    if subject is None:
        return {}
    if "@" in subject:
        return {"email": subject}
    return {"domain" if _DOMAIN.fullmatch(subject) else "account": subject}


# -- an activity


def _activity(event: _Event, data: dict[str, Any], received: int) -> Observation:
    claims, props = _told(event, data)
    at = received if event.time is None else instant(event.time, "time")
    return Observation(kind="activity", claims=claims, at=at, id=_id(event), name=_name(event.type), props=props)


_VERSION = re.compile(r"\.v\d+$", re.I | re.ASCII)


def _name(type: str) -> str:
    last = _VERSION.sub("", type[-2 * MAX_KEY :]).rpartition(".")[2]
    if name := snake(last):
        return name
    raise Refusal(Reason.BAD_NAME, f"the type {type[:60]!r} names no activity in its last part")


def _told(event: _Event, data: dict[str, Any]) -> tuple[Claims, dict[str, Any]]:
    """Whom the event is about, and the other properties."""
    claims: dict[str, Any] = {**_subject(event)}
    rest = {}
    for name, value in data.items():
        what = CLAIMS.get(snake(name).replace("_", ""))
        if what is None or type(value) not in (str, int):
            rest[name] = value
        elif said := _claim(what, value):
            claims |= said
    if not claims:
        raise Refusal(Reason.MISSING_KEY, "no subject, and data names no account, user, e-mail or domain")
    props = scrub(rest)
    props.pop("name", None)  # of a form, the person's
    return Claims(**claims), props


def _claim(what: str, value: str | int) -> dict[str, str]:
    """An address where an id is expected is the person's: no id in the log may be one."""
    found = claim(value) if what in _ADDRESSES else key(value, what)
    if found is None:
        return {}
    return {"email" if "@" in found and what not in ("user", "domain") else what: found}
