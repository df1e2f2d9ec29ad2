"""Snowplow's enriched event, as the analytics SDKs write it in JSON: one event a message.

    page_view            -> activity `page_viewed`, with `path`, `url`, `search`, `title`, `referrer`
    unstruct             -> activity, named after the self-describing event, whose fields are its props
    struct               -> activity, named after `se_action`: its `event_name` is always `event`
    page_ping            -> nothing: a heartbeat every few seconds
    found by a robot     -> nothing, where the IAB enrichment says so

The account is the entity that a context attaches: `contexts_<vendor>_account_1`, always a list. The
`1` grows when its schema changes, so it is not looked at. Whoever turns the columns into JSON without
the SDK has `contexts`, `derived_contexts` and `unstruct_event` as they were, self-describing JSON or
that as text: each entity beside its schema. It is read as if the SDK had been there.

Time is `derived_tstamp`, freed of the device's clock. An event's id is `event_id` with its
`event_fingerprint`: trackers that send twice repeat both, what has only the first is another event.
The user agent, the IP address and where it is are not kept.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import msgspec

from streams.adapters.base import Claims, Decoded, Observation, Reason
from streams.adapters.ids import event_id
from streams.adapters.names import scrub, snake
from streams.adapters.tracking import VIEWS, email, name_of, own_props, page, screen, utc
from streams.adapters.wire import Refusal, admit, claim, read

# By preference; of an entity's name, the end.
_ENTITIES = ("_account", "_company", "_organization", "_organisation", "_group")
_ENTITY_IDS = ("id", "account_id", "company_id", "organization_id", "group_id", "key")
_ENTITY_DOMAINS = ("domain", "website")
_MAJOR = re.compile(r"(_\d+)+$")
_ROBOTS = "com_iab_snowplow_spiders_and_robots"
_NOISE = frozenset({"page_ping"})
_SCHEMA = re.compile(r"iglu:([\w.-]{1,100})/([\w.-]{1,100})/jsonschema/(\d{1,5})-\d{1,5}-\d{1,5}", re.ASCII)
_TIMES = ("derived_tstamp", "collector_tstamp")
# The id that the collector gives to whoever asks for anonymity: it would join them all.
_NO_VISITOR = "00000000-0000-0000-0000-000000000000"
# What somebody typed into a form: it stands beside the field's name, not under it.
_TYPED = {"_submit_form": "elements", "_change_form": "value", "_focus_form": "value"}
# Of the older kinds of event, which column is which prop.
_COLUMNS = {
    "struct": {"se_category": "category", "se_label": "label", "se_property": "property", "se_value": "value"},
    "transaction": {"tr_orderid": "order", "tr_total": "total", "tr_currency": "currency"},
    "transaction_item": {
        "ti_orderid": "order", "ti_sku": "sku", "ti_category": "category", "ti_price": "price",
        "ti_quantity": "quantity", "ti_currency": "currency",
    },
}  # fmt: skip

_Event: TypeAlias = dict[str, Any]
_Contexts: TypeAlias = dict[str, list[dict[str, Any]]]  # entities by the context's name, of all its versions
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_any = msgspec.json.Decoder(Any).decode


def decode(value: bytes | None, received: int) -> Decoded:
    try:
        return _observations(_spread(read(_decode_event, _admit_json(value))))
    except Refusal as refusal:
        return [refusal.rejected]


def _admit_json(value: bytes | None) -> bytes:
    admitted = admit(value)
    if b"\t" in admitted and not admitted.lstrip().startswith(b"{"):
        raise Refusal(Reason.BROKEN_JSON, "tab-separated: turn it into JSON with Snowplow's analytics SDK")
    return admitted


def _spread(event: _Event) -> _Event:
    """The event as the SDK writes it: a column for each schema. Those it has already are left as they are."""
    found: _Event = {}
    for each in (*_described(event.get("contexts")), *_described(event.get("derived_contexts"))):
        if name := _schema_name(each):
            found.setdefault(f"contexts_{name}", []).append(each.get("data"))
    for each in _described(event.get("unstruct_event")):
        if name := _schema_name(each):
            found[f"unstruct_event_{name}"] = each.get("data")
    return found | event if found else event


def _described(column: Any) -> list[dict[str, Any]]:
    """The entities in a column of self-describing JSON, or of that as text; of a lone one, a list of it."""
    if type(column) is str and column:
        column = read(_decode_any, admit(column.encode(errors="replace")))
    data = column.get("data") if type(column) is dict else None
    return [each for each in (data if type(data) is list else [data]) if type(each) is dict]


def _schema_name(entity: dict[str, Any]) -> str | None:
    """`com_example_demo_requested_1` of `iglu:com.example/demo_requested/jsonschema/1-0-0`."""
    match = _SCHEMA.fullmatch(_text(entity.get("schema")))
    return f"{snake(match[1])}_{snake(match[2])}_{match[3]}" if match else None


def _observations(event: _Event) -> Decoded:
    name, contexts = _name(event), _contexts(event)
    if name in _NOISE or any(entity.get("spiderOrRobot") is True for entity in contexts.get(_ROBOTS, ())):
        return []
    claims, props = _claims(event, contexts), _props(event, name)
    return [Observation(kind="activity", claims=claims, at=_at(event), id=_id(event), name=name, props=props)]


def _name(event: _Event) -> str:
    said = event.get("se_action") if event.get("event") == "struct" else event.get("event_name")
    named = snake(_text(said) or _text(event.get("event")))
    if not named:
        raise Refusal(Reason.MISSING_FIELD, "an enriched event is named in `event_name` or `event`")
    return VIEWS.get(named, named)


def _text(value: Any) -> str:
    return value if type(value) is str else ""


def _contexts(event: _Event) -> _Contexts:
    found: _Contexts = {}
    for column, said in event.items():
        if column.startswith("contexts_") and type(said) is list:
            name = _MAJOR.sub("", column.removeprefix("contexts_"))
            found.setdefault(name, []).extend(entity for entity in said if type(entity) is dict)
    return found


def _at(event: _Event) -> int:
    for field in _TIMES:
        if event.get(field) is not None:
            return utc(event[field], field)
    raise Refusal(Reason.MISSING_FIELD, "an enriched event has `derived_tstamp` and `collector_tstamp`")


def _id(event: _Event) -> str:
    parts = (name_of(event.get(field), field) for field in ("event_id", "event_fingerprint"))
    return event_id("/".join(part for part in parts if part))


def _claims(event: _Event, contexts: _Contexts) -> Claims:
    user = name_of(event.get("user_id"), "user_id")
    group, domain = _account(contexts)
    return Claims(group=group, domain=domain, user=user, anonymous=_visitor(event), email=email(user))


def _visitor(event: _Event) -> str | None:
    """The browser, by the site's own cookie; without that by the collector's."""
    for field in ("domain_userid", "network_userid"):
        visitor = name_of(event.get(field), field)
        if visitor and visitor != _NO_VISITOR:
            return visitor
    return None


def _account(contexts: _Contexts) -> tuple[str | None, str | None]:
    """Id and web domain of the account that a context names."""
    for ending in _ENTITIES:
        for entity in (each for name, found in contexts.items() if name.endswith(ending) for each in found):
            said = {snake(field): value for field, value in entity.items()}
            group = next((found for field in _ENTITY_IDS if (found := name_of(said.get(field), field))), None)
            if group:
                return group, next((found for field in _ENTITY_DOMAINS if (found := claim(said.get(field)))), None)
    return None, None


def _props(event: _Event, name: str) -> dict[str, Any]:
    columns = _COLUMNS.get(_text(event.get("event")), {})
    said = {prop: event[column] for column, prop in columns.items() if event.get(column) is not None}
    told = _told(event)
    return own_props(told) | scrub(said) | _view(event, name, told)


def _told(event: _Event) -> dict[str, Any]:
    """The fields of a self-describing event."""
    for column, told in event.items():
        if column.startswith("unstruct_event_") and type(told) is dict:
            typed = next((field for form, field in _TYPED.items() if _MAJOR.sub("", column).endswith(form)), None)
            return {field: value for field, value in told.items() if field != typed}
    return {}


def _view(event: _Event, name: str, told: dict[str, Any]) -> dict[str, Any]:
    if name != "page_viewed":
        return screen(told.get("name")) if name == "screen_viewed" else {}
    title, referrer = event.get("page_title"), event.get("page_referrer")
    return page(event.get("page_url"), path=event.get("page_urlpath"), title=title, referrer=referrer)
