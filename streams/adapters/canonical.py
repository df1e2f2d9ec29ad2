"""Our own format: a record of `account.log` before anyone decided which account it belongs to.

    {"kind": "activity", "name": "demo_requested", "at": "2026-03-02T09:15:00Z",
     "domain": "acme.example", "email": "...", "props": {"seats": 25}}

The kinds and their fields are those of `rules.records`; in place of `account` a message may claim
any of the identities of `Claims`. Two things differ: `at` may be ISO-8601 text with a zone, and
`received` may stand there and is not used, because whoever appends the record knows better. A field
we do not know is refused: it is a typing error, and would be lost in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, assert_never

import msgspec

from rules.records import FactValue
from streams.adapters.base import Claims, Decoded, Kind, Observation, Reason
from streams.adapters.facts import FactChanges, put
from streams.adapters.ids import event_id
from streams.adapters.names import is_personal, scrub, snake
from streams.adapters.times import instant
from streams.adapters.wire import Refusal, admit, claim, key, read


class _Message(msgspec.Struct, tag_field="kind", forbid_unknown_fields=True, kw_only=True, gc=False):
    at: int | str
    id: str = ""
    origin: Literal["live", "import", "backfill"] = "live"
    received: int | str | None = None
    source: str | None = None
    account: str | None = None
    crm: str | None = None
    also: list[str] = []
    group: str | None = None
    contact: str | None = None
    opportunity: str | None = None
    user: str | None = None
    anonymous: str | None = None
    email: str | None = None
    domain: str | None = None
    person: str | None = None


class _Activity(_Message, tag="activity"):
    name: str
    props: dict[str, Any] = {}


class _Facts(_Message, tag="facts"):
    set: dict[str, FactValue] = {}
    clear: list[str] = []


class _Contact(_Message, tag="contact"):
    set: dict[str, FactValue] = {}
    clear: list[str] = []
    gone: bool = False


class _Delete(_Message, tag="delete"):
    pass


class _Restore(_Message, tag="restore"):
    pass


class _Merge(_Message, tag="merge"):
    """The records in `merged` are the one that is claimed, `crm` or `contact`, from now on."""

    merged: list[str]


class _Erase(_Message, tag="erase"):
    """A person asks to be forgotten."""


_AnyMessage: TypeAlias = _Activity | _Facts | _Contact | _Delete | _Restore | _Merge | _Erase
_decode_message = msgspec.json.Decoder(_AnyMessage).decode
_IDS = ("account", "crm", "group", "contact", "opportunity", "user", "anonymous", "person")


def decode(value: bytes | None, received: int) -> Decoded:
    try:
        return _observations(read(_decode_message, admit(value)))
    except Refusal as refusal:
        return [refusal.rejected]


def _observations(message: _AnyMessage) -> Decoded:
    match message:
        case _Activity():
            return [_observation("activity", message, name=_name(message.name), props=scrub(message.props))]
        case _Facts():
            found = _facts(message.set, message.clear, private=())
            facts = _observation("facts", message, set=found.set, clear=found.clear)
            return [facts, *found.rejected]
        case _Contact():
            found = _facts(message.set, message.clear, private=("name",))
            contact = _observation("contact", message, set=found.set, clear=found.clear, gone=message.gone)
            return [contact, *found.rejected]
        case _Delete():
            return [_observation("delete", message)]
        case _Restore():
            return [_observation("restore", message)]
        case _Merge():
            others = tuple(id for each in message.merged if (id := key(each, "merged")))
            if not (others and (message.crm or message.contact)):
                raise Refusal(
                    Reason.MISSING_KEY, "a merge names `merged`, and in `crm` or `contact` what they are now"
                )
            return [_observation("merge", message, merged=others)]
        case _Erase():
            return [_observation("erase", message)]
        case _:
            assert_never(message)


def _observation(kind: Kind, message: _Message, **said: Any) -> Observation:
    at = instant(message.at, "at")
    event, source = event_id(key(message.id, "id") or ""), key(message.source, "source") or "canonical"
    return Observation(
        kind=kind, claims=_claims(message), at=at, id=event, origin=message.origin, source=source, **said
    )


def _claims(message: _Message) -> Claims:
    # Most messages claim one or two: what is not there is not looked at.
    said: dict[str, Any] = {
        name: found for name in _IDS if (value := getattr(message, name)) and (found := key(value, name))
    }
    for name, value in (("email", message.email), ("domain", message.domain)):
        if value and (claimed := claim(value)):
            said[name] = claimed
    if message.also and (also := tuple(found for each in message.also if (found := key(each, "also")))):
        said["also"] = also
    if not said:
        raise Refusal(Reason.MISSING_KEY, "no account, crm, group, user, email, domain: whom is it about?")
    return Claims(**said)


def _name(text: str) -> str:
    if name := snake(text):
        return name
    raise Refusal(Reason.BAD_NAME, "an activity has a name, like `demo_requested`")


def _facts(values: Mapping[str, FactValue], clear: list[str], private: tuple[str, ...]) -> FactChanges:
    """Null says nothing here: `clear` names what is emptied. Names are brought to one spelling first: `firstName`
    is as personal as `first_name`."""
    named = {snake(name): value for name, value in values.items() if "@" not in name}
    cleared = dict.fromkeys(snake(name) for name in clear if "@" not in name)
    changes = FactChanges(
        clear=tuple(name for name in cleared if name and name not in named and not is_personal(name))
    )
    for name, value in named.items():
        if name and name not in private and (type(value) is bool or not is_personal(name)):
            put(changes, name, value)
    return changes
