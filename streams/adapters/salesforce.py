"""Salesforce Change Data Capture: what Pub/Sub yields when decoded, and the CometD envelope.

    Account      -> facts; DELETE, UNDELETE -> delete, restore
    Contact      -> contact; DELETE, or leaving its account -> contact that is gone
    Opportunity  -> activities `opportunity_created`, `opportunity_stage_changed`; a new AccountId
                    alone -> link

**Which fields a message speaks of.** A decoded Pub/Sub message has all fields of the schema, and
null in an UPDATE mostly means "unchanged": only `changedFields` and `nulledFields` count, and null
in one of them clears. CometD sends changed fields only and may leave the lists empty: then what is
there and not null counts. A CREATE speaks of what is not null. An UNDELETE speaks of everything:
what it leaves out is cleared.

Other entities are understood and yield nothing; so does the echo of what we wrote ourselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from streams.adapters.base import Claims, Decoded, Observation, Reason
from streams.adapters.facts import FactChanges, number, put
from streams.adapters.names import fit
from streams.adapters.times import instant
from streams.adapters.wire import Refusal, admit, claim, key, read

OUR_CLIENT = "isotherm"

# Our fact, and the fields that say it: the first with a value wins.
ACCOUNT_FACTS = {
    "name": ("Name",),
    "industry": ("Industry",),
    "employees": ("NumberOfEmployees",),
    "annual_revenue": ("AnnualRevenue",),
    "country": ("BillingAddress.CountryCode", "BillingAddress.Country"),
    "city": ("BillingAddress.City",),
    "website": ("Website",),
    "account_type": ("Type",),
    "ownership": ("Ownership",),
    "owner": ("OwnerId",),
}
CONTACT_FACTS = {"title": ("Title",), "department": ("Department",)}
OPPORTUNITY_PROPS = {"stage": "StageName", "is_closed": "IsClosed", "is_won": "IsWon"}


class _Header(msgspec.Struct, rename="camel", gc=False):
    entity_name: str
    change_type: str
    record_ids: list[str]
    commit_timestamp: Any
    transaction_key: str
    sequence_number: int
    change_origin: str | None = None
    changed_fields: list[str] | None = None
    nulled_fields: list[str] | None = None


class _Payload(msgspec.Struct, gc=False):
    payload: dict[str, Any]


class _Wrapped(msgspec.Struct, gc=False):
    data: _Payload | None = None  # CometD
    payload: dict[str, Any] | None = None  # Kafka Connect, beside its schema


_decode_wrapped = msgspec.json.Decoder(_Wrapped).decode
_decode_body = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class _Change:
    """One record's change. `record` is its id; a path is a field, or `Compound.Part`."""

    kind: str
    record: str
    at: int
    id: str
    body: Mapping[str, Any]
    changed: frozenset[str]
    nulled: frozenset[str]

    def value(self, path: str) -> Any:
        """None when it is null, cleared or absent."""
        if _names(self.nulled, path):
            return None
        field, _, part = path.partition(".")
        value = self.body.get(field)
        return (value.get(part) if isinstance(value, dict) else None) if part else value

    def speaks_of(self, path: str) -> bool:
        if self.kind != "UPDATE":
            return True
        if self.changed:
            return _names(self.changed, path) or _names(self.nulled, path)
        return self.value(path) is not None or _names(self.nulled, path)

    def said(self, path: str) -> Any:
        """The value, if the message speaks of the field."""
        return self.value(path) if self.speaks_of(path) else None


def _names(fields: frozenset[str], path: str) -> bool:
    return path in fields or path.partition(".")[0] in fields


def decode(value: bytes | None, received: int) -> Decoded:
    try:
        body = _body(admit(value))
        header = _header(body)
        if header.entity_name not in _ENTITIES or _is_echo(header.change_origin or ""):
            return []
        at = instant(header.commit_timestamp, "commitTimestamp")
        _refuse_gaps(header)
    except Refusal as refusal:
        return [refusal.rejected]
    return [found for record in header.record_ids for found in _record(header, body, at, record)]


def _body(value: bytes) -> dict[str, Any]:
    if b'"payload"' in value:
        wrapped = read(_decode_wrapped, value)
        if (inner := wrapped.data.payload if wrapped.data else wrapped.payload) is not None:
            return inner
    return read(_decode_body, value)


def _header(body: Mapping[str, Any]) -> _Header:
    raw = body.get("ChangeEventHeader")
    if raw is None:
        raise Refusal(Reason.MISSING_FIELD, "no ChangeEventHeader: is this Change Data Capture?")
    return read(_convert_header, raw)


def _convert_header(raw: Any) -> _Header:
    return msgspec.convert(raw, _Header)


def _is_echo(origin: str) -> bool:
    """`com/salesforce/api/rest/60.0;client=isotherm/` names the program that made the change."""
    return origin.rpartition("client=")[2].strip("/; ").casefold() == OUR_CLIENT


_BITMAP = re.compile(r"(\d+-)?0x[0-9A-Fa-f]+")


def _refuse_gaps(header: _Header) -> None:
    """Where Salesforce says only that something changed, not what."""
    if header.change_type.startswith("GAP_") or any("*" in record for record in header.record_ids):
        which = ", ".join(header.record_ids[:5]) or "all"
        detail = f"{header.entity_name} {header.change_type} of {which}: read these records again"
        raise Refusal(Reason.RESYNC_NEEDED, detail)
    if header.change_type not in ("CREATE", "UPDATE", "DELETE", "UNDELETE"):
        raise Refusal(Reason.UNKNOWN_KIND, f"unknown changeType {header.change_type[:40]!r}")
    if not header.record_ids:
        raise Refusal(Reason.MISSING_KEY, "recordIds is empty")
    for field in (*(header.changed_fields or ()), *(header.nulled_fields or ())):
        if _BITMAP.fullmatch(field):
            raise Refusal(Reason.UNDECODED_BITMAP, f"{field}: decode changedFields with the event's schema")


def _record(header: _Header, body: Mapping[str, Any], at: int, record: str) -> Decoded:
    try:
        change = _Change(
            kind=header.change_type,
            record=record_id(record),
            at=at,
            id=key(f"{header.transaction_key}/{header.sequence_number}/{record}", "the event's id") or "",
            body=body,
            changed=frozenset(header.changed_fields or ()),
            nulled=frozenset(header.nulled_fields or ()),
        )
        return _ENTITIES[header.entity_name](change)
    except Refusal as refusal:
        return [refusal.rejected]


def _account(change: _Change) -> Decoded:
    claims = Claims(crm=change.record, domain=claim(change.said("Website")))
    if change.kind == "DELETE":
        return [Observation(kind="delete", claims=claims, at=change.at, id=change.id)]
    found = _facts(change, ACCOUNT_FACTS)
    facts = Observation(kind="facts", claims=claims, at=change.at, id=change.id, set=found.set, clear=found.clear)
    if change.kind == "UNDELETE":
        restored = Observation(kind="restore", claims=claims, at=change.at, id=f"{change.id}/restore")
        return [restored, facts, *found.rejected]
    told = change.kind == "CREATE" or found.set or found.clear
    return [*([facts] if told else []), *found.rejected]


def _facts(change: _Change, table: Mapping[str, tuple[str, ...]]) -> FactChanges:
    changes = FactChanges()
    cleared = []
    for name, paths in table.items():
        spoken = [path for path in paths if change.speaks_of(path)]
        value = next((value for path in spoken if (value := change.value(path)) is not None), None)
        if value is not None:
            put(changes, name, value)
        elif spoken and change.kind != "CREATE":
            cleared.append(name)
    changes.clear = tuple(cleared)
    return changes


def _contact(change: _Change) -> Decoded:
    account = change.said("AccountId")
    if change.kind == "DELETE" or (account is None and _has_left(change)):
        return [_contact_observation(change, Claims(contact=change.record), FactChanges(), gone=True)]
    found = _facts(change, CONTACT_FACTS)
    if status := _status(change):
        found.set["status"] = status
    claims = Claims(contact=change.record, crm=_reference(account, "AccountId"), email=claim(change.said("Email")))
    told = change.kind != "UPDATE" or found.set or found.clear or claims.crm or claims.email
    return [*([_contact_observation(change, claims, found)] if told else []), *found.rejected]


def _has_left(change: _Change) -> bool:
    """AccountId was emptied."""
    return change.kind == "UPDATE" and change.speaks_of("AccountId")


def _contact_observation(
    change: _Change, claims: Claims, found: FactChanges, *, gone: bool = False
) -> Observation:
    return Observation(
        kind="contact", claims=claims, at=change.at, id=change.id, set=found.set, clear=found.clear, gone=gone
    )


def _status(change: _Change) -> str | None:
    """Whether the person can be written to; None when the message does not say.

    A bounce that was cleared leaves open whether the person has opted out: it says nothing.
    """
    if change.said("HasOptedOutOfEmail") is True:
        return "unsubscribed"
    if change.said("EmailBouncedDate") is not None or change.said("IsEmailBounced") is True:
        return "bounced"
    opted_in = change.said("HasOptedOutOfEmail") is False
    return "active" if opted_in or change.kind != "UPDATE" else None


def _opportunity(change: _Change) -> Decoded:
    if change.kind in ("DELETE", "UNDELETE"):
        return []
    claims = Claims(opportunity=change.record, crm=_reference(change.said("AccountId"), "AccountId"))
    moved = change.said("StageName") is not None
    names = _STORIES[change.kind, moved]
    if not names and claims.crm:
        return [Observation(kind="link", claims=claims, at=change.at, id=change.id)]
    props = _opportunity_props(change) if names else {}
    return [
        Observation(
            kind="activity", claims=claims, at=change.at, id=f"{change.id}{suffix}", name=name, props=props
        )
        for name, suffix in names
    ]


_MOVED = ("opportunity_stage_changed", "")
_CREATED = ("opportunity_created", "/created")
_STORIES = {
    ("CREATE", True): (_CREATED, _MOVED),
    ("CREATE", False): (_CREATED,),
    ("UPDATE", True): (_MOVED,),
    ("UPDATE", False): (),
}


def _opportunity_props(change: _Change) -> dict[str, Any]:
    """What is there and not null, changed or not: IsClosed may be missing from `changedFields`."""
    props: dict[str, Any] = {"opportunity": change.record}
    for name, field in OPPORTUNITY_PROPS.items():
        if type(value := change.value(field)) in (str, bool):
            props[name] = fit(value)
    if (amount := change.value("Amount")) is not None:
        props["amount"] = number("amount", amount)
    return props


def _reference(value: Any, field: str) -> str | None:
    if value is None:
        return None
    if type(value) is not str:
        raise Refusal(Reason.WRONG_TYPE, f"{field} is no record id")
    return record_id(value)


_RECORD_ID = re.compile(r"[0-9A-Za-z]{15}([0-9A-Z]{3})?")
_CHECK = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


@lru_cache(maxsize=65_536)
def record_id(text: str) -> str:
    """`salesforce:` and the 18-character id; a 15-character one, as exports have it, is completed."""
    if not _RECORD_ID.fullmatch(text):
        raise Refusal(Reason.BAD_KEY, f"no Salesforce record id: {text[:40]!r}")
    return "salesforce:" + (text if len(text) == 18 else text + _suffix(text))


def _suffix(text: str) -> str:
    """One character for each five, whose bits say which of them are capitals."""
    fives = (text[start : start + 5] for start in (0, 5, 10))
    return "".join(_CHECK[sum(1 << n for n, char in enumerate(five) if char.isupper())] for five in fives)


_ENTITIES: dict[str, Callable[[_Change], Decoded]] = {
    "Account": _account,
    "Contact": _contact,
    "Opportunity": _opportunity,
}
