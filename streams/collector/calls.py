"""Calls of a Segment library, as messages of `web.activity`.

A call's fields stay as they are, but for these: `type` is the path's where the call has none; `receivedAt` and
`messageId` are added where they are missing; `writeKey` is taken out, so that no key enters Kafka; and so is
`kind`, which the Segment spec does not have and which would make the call a canonical record: a key that stands
in a web page must not delete accounts.

A batch is taken apart into its calls. Its `context` is that of each call, where the call does not say otherwise,
and its `sentAt` too. What a call means, and whether it means anything, the router finds out: as dead letters the
bad ones can be seen and replayed, while a refused batch is dropped by most libraries.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from streams.collector.limits import Limits
from streams.collector.reading import parse
from streams.collector.refused import Refused, too_large
from streams.store.base import Outbound
from streams.topics import WEB_ACTIVITY

Fields: TypeAlias = dict[str, msgspec.Raw]
# Libraries for browsers post to the first letter of the call's name.
PATHS = {
    "track": "t",
    "page": "p",
    "screen": "s",
    "identify": "i",
    "group": "g",
    "alias": "a",
    "batch": "b",
}
KEY_LONGEST = 200

_fields = msgspec.json.Decoder(Fields).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_scalar = msgspec.json.Decoder(str | int).decode
_anything = msgspec.json.Decoder(Any).decode
_encode = msgspec.json.encode
_raw = msgspec.Raw


@dataclass(frozen=True, slots=True)
class Calls:
    """What one request holds: calls with their sizes in bytes, and the key in the body, if there is one."""

    calls: list[Fields]
    write_key: str | None

    def messages(self, sender: str, now: int) -> list[Outbound]:
        """One for each call, in order. `now` is UTC ms."""
        arrived = _raw(_encode(_text(now)))
        headers = (("format", b"segment"), ("sender", sender.encode()))
        return [Outbound(WEB_ACTIVITY, _key(call), _completed(call, arrived), headers) for call in self.calls]


def read_call(body: bytes, kind: str, limits: Limits) -> Calls:
    call = parse(_fields, body)
    write_key = _taken(call, "writeKey")
    call.pop("batch", None)
    if _missing(call, "type"):
        call["type"] = _raw(_encode(kind))
    return Calls([call], write_key)


def read_batch(body: bytes, limits: Limits) -> Calls:
    whole = parse(_fields, body)
    if "batch" not in whole:
        raise Refused(400, "missing_field", "a batch has its calls in `batch`", 'send {"batch": [...]}')
    items = parse(_items, bytes(whole["batch"]))
    if len(items) > limits.messages:
        raise Refused(413, "too_many", f"more than {limits.messages:,} calls", "send smaller batches")
    return Calls(
        [_item(each, index, whole, limits) for index, each in enumerate(items)], _taken(whole, "writeKey")
    )


def _item(item: msgspec.Raw, index: int, whole: Fields, limits: Limits) -> Fields:
    if len(memoryview(item)) > limits.call:
        raise too_large("a call", limits.call, "leave large values out", index=index)
    call = parse(_fields, bytes(item), index=index)
    call.pop("writeKey", None)
    if _missing(call, "sentAt") and "sentAt" in whole:
        call["sentAt"] = whole["sentAt"]
    if "context" in whole:
        call["context"] = _merged(whole["context"], call.get("context"))
    return call


def _merged(common: msgspec.Raw, own: msgspec.Raw | None) -> msgspec.Raw:
    """Both contexts, the call's own before the batch's."""
    if own is None:
        return common
    try:
        return _raw(_encode(_fields(common) | _fields(own)))
    except msgspec.DecodeError:  # one is no object: the call's own stays, the router judges it
        return own


def _completed(call: Fields, arrived: msgspec.Raw) -> bytes:
    call.pop("kind", None)
    if _missing(call, "receivedAt"):
        call["receivedAt"] = arrived
    if _missing(call, "messageId"):
        call["messageId"] = _raw(f'"{secrets.token_hex(16)}"'.encode())
    return _encode(call)


def _key(call: Fields) -> str:
    """Whose call it is: what one browser or one server sends about somebody keeps its order.

    The anonymous id first: a browser sends it before and after its visitor is known.
    """
    for name in ("anonymousId", "userId", "groupId"):
        if (value := call.get(name)) is not None:
            try:
                if found := str(_scalar(value)):
                    return found[:KEY_LONGEST]
            except (msgspec.DecodeError, UnicodeError):
                continue
    return ""


def _missing(call: Fields, name: str) -> bool:
    value = call.get(name)
    return value is None or bytes(value) in (b"null", b'""')


def _taken(call: Fields, name: str) -> str | None:
    """A text field, removed; None when it is missing or no text."""
    value = call.pop(name, None)
    if value is None:
        return None
    try:
        found = _anything(value)
    except (msgspec.DecodeError, UnicodeError):
        return None
    return found if isinstance(found, str) else None


def _text(now: int) -> str:
    return datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
