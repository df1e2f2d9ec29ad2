"""PostHog: what its libraries capture, what its webhook destinations and its own Kafka topic pass on.

    $pageview, $screen         -> activity `page_viewed`, `screen_viewed`
    $groupidentify             -> facts of the account; also the user's link to it
    $identify                  -> link: the earlier id is the same person
    $create_alias, $merge_dangerously -> link
    `$set`, `$unset` of any    -> contact, without what names the person
    any other                  -> activity: "report exported" is `report_exported`

One event, a `batch` of them, or a list. A webhook puts the event into `event` beside `person` and
`groups`. On the Kafka topic `properties` is JSON inside a text, and time has a space and no zone: UTC.

The account is the group of the first type in `_ACCOUNTS`. Kafka rows may know groups by number only;
then it is `$group_0`, the first type that the project made. `$`-properties are PostHog's own and not
kept. `$set_once` is not read: whether the value counts, only PostHog knows. Nor is `sent_at`: PostHog
corrects a device's clock by the instant at which it received the event, and what it passes on has been
corrected; a captured one does not say when that was, and the time we read it at may be hours later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from rules.records import Origin
from rules.sources import Sources
from streams.adapters.base import Claims, Decode, Decoded, Observation, Reason
from streams.adapters.facts import TraitMap, account_traits, contact_traits
from streams.adapters.ids import event_id
from streams.adapters.names import snake
from streams.adapters.tracking import email, name_of, own_props, page, screen, utc
from streams.adapters.wire import Refusal, admit, claim, key, read

_ACCOUNTS = ("company", "account", "organization", "organisation", "customer")
_VIEWS = {"$pageview": "page_viewed", "$screen": "screen_viewed"}
# Sent without anybody doing anything, or so often that it tells nothing.
_NOISE = frozenset({
    "$$heatmap", "$feature_flag_called", "$opt_in", "$pageleave", "$performance_event", "$set",
    "$snapshot", "$snapshot_items", "$web_vitals",
})  # fmt: skip
# Not of the event, but where its libraries put the envelope.
_ENVELOPE = frozenset({"distinct_id", "token"})
# What libraries send for nobody in particular; PostHog refuses to merge these.
_NOBODY = frozenset({
    "$posthog_cookieless", "0", "anonymous", "distinct_id", "distinctid", "email", "false", "guest", "id",
    "not_authenticated", "true",
})  # fmt: skip

_Properties: TypeAlias = dict[str, Any]


class _Person(msgspec.Struct, gc=False):
    properties: _Properties | None = None


class _Group(msgspec.Struct, gc=False):
    id: Any = None
    key: Any = None


class _Message(msgspec.Struct, gc=False):
    event: str | _Message | None = None
    distinct_id: str | int | None = None
    properties: _Properties | str | None = None
    timestamp: Any = None
    uuid: str | int | None = None
    set: _Properties | None = msgspec.field(default=None, name="$set")
    unset: list[Any] | None = msgspec.field(default=None, name="$unset")
    person: _Person | None = None
    person_properties: _Properties | str | None = None
    groups: dict[str, _Group | None] | None = None
    batch: list[msgspec.Raw] | None = None
    historical_migration: bool | None = None
    cohort_id: Any = None


class _Event(msgspec.Struct, gc=False):
    """One event, whichever way it came."""

    name: str
    at: int
    id: str
    origin: Origin
    properties: _Properties
    claims: Claims


_decode_message = msgspec.json.Decoder(list[msgspec.Raw] | _Message).decode
_decode_part = msgspec.json.Decoder(_Message).decode
_decode_properties = msgspec.json.Decoder(_Properties | None).decode


class _Maps(msgspec.Struct, frozen=True, gc=False):
    """Which properties of groups and persons are mapped."""

    group: TraitMap | None
    person: TraitMap | None


def decoder(sources: Sources) -> Decode:
    """Reads the properties that `sources` maps, and what is built in."""
    group, person = (TraitMap.of(sources.fields_of("posthog", each)) for each in ("group", "person"))
    maps = _Maps(group, person)

    def decode(value: bytes | None, received: int) -> Decoded:
        try:
            message = read(_decode_message, admit(value))
            if isinstance(message, _Message) and message.batch is None:
                return _observations(message, received, "live", maps)
        except Refusal as refusal:
            return [refusal.rejected]
        if isinstance(message, list):
            return _batch(message, received, "live", maps)
        return _batch(message.batch or [], received, "import" if message.historical_migration else "live", maps)

    return decode


def _batch(parts: list[msgspec.Raw], received: int, origin: Origin, maps: _Maps) -> Decoded:
    return [found for part in parts for found in _part(part, received, origin, maps)]


def _part(part: msgspec.Raw, received: int, origin: Origin, maps: _Maps) -> Decoded:
    try:
        return _observations(read(_decode_part, bytes(part)), received, origin, maps)
    except Refusal as refusal:
        return [refusal.rejected]


def _observations(message: _Message, received: int, origin: Origin, maps: _Maps) -> Decoded:
    if message.event is None and message.cohort_id is not None:
        return []  # of its cohorts: who is in them is an answer of PostHog's
    outer, message = message, message.event if isinstance(message.event, _Message) else message
    if not isinstance(message.event, str) or not message.event:
        raise Refusal(Reason.MISSING_FIELD, "an event is named in `event`")
    properties = _properties(message.properties)
    event = _Event(
        name=message.event,
        at=received if message.timestamp is None else utc(message.timestamp, "timestamp"),
        id=event_id(key(message.uuid, "uuid") or name_of(properties.get("$insert_id"), "$insert_id") or ""),
        origin=origin,
        properties=properties,
        claims=_claims(outer, message, properties),
    )
    return [*_MAKERS.get(event.name, _activity)(event, maps), *_contact(event, message, maps)]


def _properties(said: _Properties | str | None) -> _Properties:
    """Also as JSON inside a text; admitted anew, as what it holds was not looked at yet."""
    if isinstance(said, str):
        said = read(_decode_properties, admit(said.encode())) if said else None
    return said or {}


# -- whom it is about ----------------------------------------------------------------------------------------


def _claims(outer: _Message, message: _Message, properties: _Properties) -> Claims:
    distinct = _distinct(outer, message, properties)
    anonymous = distinct is not None and _is_anonymous(distinct, properties)
    return Claims(
        group=_account(outer, message, properties),
        user=None if anonymous else distinct,
        anonymous=distinct if anonymous else None,
        email=email(*(each.get("email") for each in _persons(outer, message, properties)), distinct),
    )


def _distinct(outer: _Message, message: _Message, properties: _Properties) -> str | None:
    candidates = (message.distinct_id, properties.get("distinct_id"), outer.distinct_id)
    return next((found for each in candidates if (found := _somebody(each, "distinct_id"))), None)


def _somebody(value: Any, field: str) -> str | None:
    found = name_of(value, field)
    return None if found is None or found.lower() in _NOBODY else found


def _is_anonymous(distinct: str, properties: _Properties) -> bool:
    return properties.get("$is_identified") is False or distinct == properties.get("$device_id")


def _persons(outer: _Message, message: _Message, properties: _Properties) -> list[_Properties]:
    """What is said of the person, the newest first."""
    stored = outer.person.properties if outer.person else None
    found = (_set(message, properties), stored, _properties(message.person_properties))
    return [each for each in found if each]


def _set(message: _Message, properties: _Properties) -> _Properties:
    inner = properties.get("$set")
    return (message.set or {}) | (inner if isinstance(inner, dict) else {})


def _account(outer: _Message, message: _Message, properties: _Properties) -> str | None:
    """The key of the account among the groups. Where types are named, numbers are not asked."""
    if isinstance(named := properties.get("$groups"), dict) and named:
        return _preferred(named)
    if groups := outer.groups or message.groups:
        return _preferred({name: group.key or group.id for name, group in groups.items() if group})
    return name_of(properties.get("$group_0"), "$group_0")


def _preferred(groups: Mapping[str, Any]) -> str | None:
    keys = {kind.lower(): group for kind, group in groups.items()}
    return next((found for kind in _ACCOUNTS if (found := name_of(keys.get(kind), kind))), None)


# -- what it says --------------------------------------------------------------------------------------------


def _activity(event: _Event, _: _Maps) -> Decoded:
    if event.name in _NOISE:
        return []
    if not (name := _VIEWS.get(event.name) or snake(event.name)):
        raise Refusal(Reason.BAD_NAME, "an event's name has no letter in it")
    _require_somebody(event.claims)
    own = {field: value for field, value in event.properties.items() if not _is_posthogs(field)}
    props = own_props(own) | _view(event.name, event.properties)
    return [_observation(event, event.claims, kind="activity", name=name, props=props)]


def _require_somebody(claims: Claims) -> None:
    if claims == _NOBODY_CLAIMED:
        raise Refusal(Reason.MISSING_KEY, "neither distinct_id nor a group of a type that stands for accounts")


def _is_posthogs(name: str) -> bool:
    return name.startswith("$") or name in _ENVELOPE


def _view(name: str, said: _Properties) -> _Properties:
    if name == "$pageview":
        referrer = "" if said.get("$referrer") == "$direct" else said.get("$referrer")
        title = said.get("title") or said.get("$title")
        return page(said.get("$current_url"), path=said.get("$pathname"), title=title, referrer=referrer)
    return screen(said.get("$screen_name")) if name == "$screen" else {}


def _group(event: _Event, maps: _Maps) -> Decoded:
    said = event.properties
    group, kind = name_of(said.get("$group_key"), "$group_key"), said.get("$group_type")
    if not group or not isinstance(kind, str):
        raise Refusal(Reason.MISSING_FIELD, "a $groupidentify names its group in `$group_type` and `$group_key`")
    if kind.lower() not in _ACCOUNTS:
        return []
    traits = said.get("$group_set")
    found = account_traits(traits if isinstance(traits, dict) else {}, maps.group)
    claims = _member(event, group, claim(found.set.get("website")))
    return [_observation(event, claims, kind="facts", set=found.set, clear=found.clear), *found.rejected]


def _member(event: _Event, group: str, domain: str | None) -> Claims:
    """The group, and who joined it. Servers make up a `$company_acme` where nobody did."""
    said = event.claims
    if (said.user or "").startswith("$") or event.properties.get("$process_person_profile") is False:
        return Claims(group=group, domain=domain)
    return Claims(group=group, domain=domain, user=said.user, anonymous=said.anonymous, email=said.email)


def _identify(event: _Event, _: _Maps) -> Decoded:
    return _link(event, "$anon_distinct_id")


def _alias(event: _Event, _: _Maps) -> Decoded:
    if _somebody(event.properties.get("alias"), "alias") is None:
        raise Refusal(Reason.MISSING_FIELD, f"{event.name} names the other id in `alias`")
    return _link(event, "alias")


def _link(event: _Event, field: str) -> Decoded:
    said = event.claims
    if not (user := said.user or said.anonymous):
        raise Refusal(Reason.MISSING_KEY, f"{event.name} names its person in `distinct_id`")
    earlier = _somebody(event.properties.get(field), field)
    claims = Claims(group=said.group, user=user, anonymous=earlier, email=said.email)
    return [_observation(event, claims, kind="link")]


def _contact(event: _Event, message: _Message, maps: _Maps) -> Decoded:
    """What any event may say of its person."""
    if not (event.claims.user or event.claims.anonymous):
        return []
    said = _set(message, event.properties) | dict.fromkeys(_unset(event, message))
    found = contact_traits({name: value for name, value in said.items() if not name.startswith("$")}, maps.person)
    if not (found.set or found.clear):
        return list(found.rejected)
    id = f"{event.id}/person" if event.id else ""
    contact = _observation(event, event.claims, kind="contact", set=found.set, clear=found.clear, id=id)
    return [contact, *found.rejected]


def _unset(event: _Event, message: _Message) -> list[str]:
    inner = event.properties.get("$unset")
    names = [*(message.unset or []), *(inner if isinstance(inner, list) else [])]
    return [name for name in names if isinstance(name, str)]


def _observation(event: _Event, claims: Claims, **said: Any) -> Observation:
    fields = {"id": event.id} | said
    return Observation(claims=claims, at=event.at, origin=event.origin, **fields)


_NOBODY_CLAIMED = Claims()
_MAKERS: dict[str, Callable[[_Event, _Maps], Decoded]] = {
    "$groupidentify": _group,
    "$identify": _identify,
    "$create_alias": _alias,
    "$merge_dangerously": _alias,
}

decode = decoder(Sources())
