"""The Segment spec, as Segment, RudderStack and Jitsu write it: one call, or a `batch` of them.

    track                -> activity, named after the event: "Demo Requested" is `demo_requested`
    page, screen         -> activity `page_viewed`, `screen_viewed`, with `name`, `path`, `url`, `title`
    group                -> facts of the account; also the user's link to it
    identify             -> contact
    alias                -> link: the earlier id is the same person

`messageId` does not change when a library sends again, and is the observation's id.

Time is `timestamp`, which Segment has freed of the device's clock. Where it is absent we compute
it the same way, receivedAt - (sentAt - originalTimestamp), as far as those are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import msgspec

from rules.sources import Sources
from streams.adapters.base import Claims, Decode, Decoded, Observation, Reason
from streams.adapters.facts import TraitMap, account_traits, contact_traits
from streams.adapters.ids import event_id
from streams.adapters.names import blot, scrub, snake
from streams.adapters.times import instant, instant_or_none, sane
from streams.adapters.wire import Refusal, admit, claim, key, read

_PAGE_FIELDS = ("path", "url", "title", "referrer", "search")


class _Traits(msgspec.Struct, gc=False):
    email: Any = None


class _Context(msgspec.Struct, rename="camel", gc=False):
    group_id: str | int | None = None
    traits: _Traits | None = None  # of the user; may be stale
    page: msgspec.Raw = msgspec.Raw(b"null")


class _Call(msgspec.Struct, rename="camel", gc=False):
    type: str = ""
    message_id: str | int | None = None
    user_id: str | int | None = None
    anonymous_id: str | int | None = None
    group_id: str | int | None = None  # of group calls; all others have it in `context`
    previous_id: str | int | None = None
    event: str | None = None
    name: str | None = None
    properties: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None
    context: _Context | None = None
    timestamp: Any = None
    original_timestamp: Any = None
    sent_at: Any = None
    received_at: Any = None
    batch: list[msgspec.Raw] | None = None


_decode_call = msgspec.json.Decoder(_Call).decode
_decode_page = msgspec.json.Decoder(dict[str, Any] | None).decode


def decoder(sources: Sources) -> Decode:
    """Reads the traits that `sources` maps, and what is built in."""
    makers = _MAKERS | {
        "group": partial(_group, mapped=TraitMap.of(sources.fields_of("segment", "group"))),
        "identify": partial(_identify, mapped=TraitMap.of(sources.fields_of("segment", "identify"))),
    }

    def decode(value: bytes | None, received: int) -> Decoded:
        try:
            call = read(_decode_call, admit(value))
            if call.batch is None or call.type:
                return _observations(call, received, makers)
        except Refusal as refusal:
            return [refusal.rejected]
        return [found for part in call.batch for found in _part(part, received, makers)]

    return decode


def _part(part: msgspec.Raw, received: int, makers: _Makers) -> Decoded:
    try:
        return _observations(read(_decode_call, bytes(part)), received, makers)
    except Refusal as refusal:
        return [refusal.rejected]


def _observations(call: _Call, received: int, makers: _Makers) -> Decoded:
    if (make := makers.get(call.type)) is None:
        raise Refusal(Reason.UNKNOWN_KIND, f"unknown type {call.type[:40]!r}")
    context = call.context or _NO_CONTEXT
    return make(call, context, _happened(call, received))


def _happened(call: _Call, received: int) -> int:
    if call.timestamp is not None:
        return instant(call.timestamp, "timestamp")
    original = call.original_timestamp
    arrived = instant_or_none(call.received_at)
    if original is None:
        return received if arrived is None else arrived
    began = instant(original, "originalTimestamp")
    if arrived is None:
        return began  # nobody noted the arrival: the device's clock is all there is
    sent = instant_or_none(call.sent_at)
    return arrived if sent is None else sane(arrived - (sent - began), "originalTimestamp")


def _claims(
    call: _Call, context: _Context, *, email: Any = None, group: str | None = None, domain: Any = None
) -> Claims:
    user = key(call.user_id, "userId")
    anonymous = key(call.anonymous_id, "anonymousId")
    group = group or key(context.group_id, "context.groupId")
    mail = _email(email) or (_email(context.traits.email) if context.traits else None) or _email(user)
    if not (user or anonymous or group or mail):
        raise Refusal(Reason.MISSING_KEY, "neither userId nor anonymousId nor groupId")
    return Claims(group=group, user=user, anonymous=anonymous, email=mail, domain=claim(domain))


def _email(value: Any) -> str | None:
    return claim(value) if type(value) is str and "@" in value else None


def _id(call: _Call) -> str:
    return event_id(key(call.message_id, "messageId") or "")


def _track(call: _Call, context: _Context, at: int) -> Decoded:
    if not (name := snake(call.event or "")):
        raise Refusal(Reason.MISSING_FIELD, "a track call names its event in `event`")
    props = scrub(call.properties or {})
    props.pop("name", None)  # of a form, the person's
    return [
        Observation(kind="activity", claims=_claims(call, context), at=at, id=_id(call), name=name, props=props)
    ]


def _page(call: _Call, context: _Context, at: int) -> Decoded:
    props = scrub(call.properties or {})
    if "path" not in props:
        props = _page_context(context.page) | props
    return [_viewed("page_viewed", call, context, at, props)]


def _page_context(page: msgspec.Raw) -> dict[str, Any]:
    """Server-side libraries leave the page to the context."""
    found = scrub(read(_decode_page, bytes(page)) or {})
    return {field: found[field] for field in _PAGE_FIELDS if field in found}


def _screen(call: _Call, context: _Context, at: int) -> Decoded:
    return [_viewed("screen_viewed", call, context, at, scrub(call.properties or {}))]


def _viewed(name: str, call: _Call, context: _Context, at: int, props: dict[str, Any]) -> Observation:
    if call.name:
        props["name"] = blot(call.name)
    claims = _claims(call, context)
    return Observation(kind="activity", claims=claims, at=at, id=_id(call), name=name, props=props)


def _group(call: _Call, context: _Context, at: int, mapped: TraitMap | None = None) -> Decoded:
    group = key(call.group_id, "groupId")
    if group is None:
        raise Refusal(Reason.MISSING_FIELD, "a group call names its group in `groupId`")
    found = account_traits(call.traits or {}, mapped)
    claims = _claims(call, context, group=group, domain=found.set.get("website"))
    facts = Observation(kind="facts", claims=claims, at=at, id=_id(call), set=found.set, clear=found.clear)
    return [facts, *found.rejected]


def _identify(call: _Call, context: _Context, at: int, mapped: TraitMap | None = None) -> Decoded:
    traits = call.traits or {}
    found = contact_traits(traits, mapped)
    claims = _claims(call, context, email=traits.get("email"))
    contact = Observation(kind="contact", claims=claims, at=at, id=_id(call), set=found.set, clear=found.clear)
    return [contact, *found.rejected]


def _alias(call: _Call, context: _Context, at: int) -> Decoded:
    user = key(call.user_id, "userId")
    earlier = key(call.previous_id, "previousId")
    if not (user and earlier):
        raise Refusal(Reason.MISSING_FIELD, "an alias call names `userId` and `previousId`")
    return [Observation(kind="link", claims=Claims(user=user, anonymous=earlier), at=at, id=_id(call))]


_NO_CONTEXT = _Context()
_Makers: TypeAlias = Mapping[str, Callable[[_Call, _Context, int], Decoded]]
_MAKERS: dict[str, Callable[[_Call, _Context, int], Decoded]] = {
    "track": _track,
    "page": _page,
    "screen": _screen,
    "group": _group,
    "identify": _identify,
    "alias": _alias,
}

decode = decoder(Sources())
