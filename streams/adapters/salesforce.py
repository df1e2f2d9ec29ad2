"""Salesforce Change Data Capture: what Pub/Sub yields when decoded, and the CometD envelope.

    Account        -> facts, the parent account among them; DELETE, UNDELETE -> delete, restore
    Contact, Lead  -> contact; DELETE, or leaving its account -> contact that is gone; a lead that was converted
                      -> contact of its account, and merge into the contact that it became
    Opportunity    -> activities `opportunity_created`, `opportunity_stage_changed`; a new AccountId
                      alone -> link
    CampaignMember -> activities `campaign_member_added`, `campaign_responded`
    Task           -> when it is completed, activity by its subtype: `call_logged`, `email_sent` and so on

**Which fields a message speaks of.** A decoded Pub/Sub message has all fields of the schema, and
null in an UPDATE mostly means "unchanged": only `changedFields` and `nulledFields` count, and null
in one of them clears. CometD sends changed fields only and may leave the lists empty: then what is
there and not null counts. A CREATE speaks of what is not null. An UNDELETE speaks of everything:
what it leaves out is cleared. Of a long text an UPDATE may hold the difference alone (`diffFields`):
it is not applied, and refused if the field is mapped.

An UPDATE does not say to whom an unchanged campaign member or task belongs. Event enrichment adds
ContactId, LeadId, WhoId and the like to every message; without it such an activity is unattributed.

Where Salesforce says only that something changed (GAP and overflow events, `001*`), the message is
refused with the ids to read again, and each account it names is stale.

Other entities are understood and yield nothing; so does the echo of what we wrote ourselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, TypeAlias

import msgspec

from rules.sources import HUMAN, Sources
from streams.adapters.base import Claims, Decode, Decoded, Kind, Observation, Reason, Rejected
from streams.adapters.facts import FactChanges, number, put
from streams.adapters.ids import event_id, other_id, record_id
from streams.adapters.names import fit
from streams.adapters.times import instant, instant_or_none
from streams.adapters.wire import Refusal, admit, claim, key, read

__all__ = ["decode", "decoder", "record_id"]

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
    "parent": ("ParentId",),
}
CONTACT_FACTS = {"title": ("Title",), "department": ("Department",)}
LEAD_FACTS = {"title": ("Title",), "lead_status": ("Status",)}
REFERENCES = frozenset({"parent"})  # facts whose value is a record
OPPORTUNITY_PROPS = {"stage": "StageName", "is_closed": "IsClosed", "is_won": "IsWon"}
TASK_PROPS = {"type": "Type", "subtype": "TaskSubtype", "outcome": "CallDisposition"}
# By the first of TaskSubtype and Type that is here. A call is theirs if its CallType says so.
TASKS = {"call": "call_logged", "email": "email_sent", "listemail": "email_sent", "meeting": "meeting_held"}


class _Header(msgspec.Struct, rename="camel", gc=False):
    entity_name: str
    change_type: str
    record_ids: list[str]
    commit_timestamp: Any
    transaction_key: str
    sequence_number: int
    change_origin: str | None = None
    commit_user: Any = None
    changed_fields: list[str] | None = None
    nulled_fields: list[str] | None = None
    diff_fields: list[str] | None = None


class _Payload(msgspec.Struct, gc=False):
    payload: dict[str, Any]


class _Wrapped(msgspec.Struct, gc=False):
    data: _Payload | None = None  # CometD
    payload: dict[str, Any] | None = None  # Kafka Connect, beside its schema


_decode_wrapped = msgspec.json.Decoder(_Wrapped).decode
_decode_body = msgspec.json.Decoder(dict[str, Any]).decode

_Row: TypeAlias = tuple[str, tuple[str, ...]]  # a fact, and the paths that say it


class _Map(msgspec.Struct, frozen=True, gc=False):
    """Which paths say which facts."""

    rows: tuple[_Row, ...]
    fields: frozenset[str]  # the paths, and the compounds of which they are parts
    touched: Callable[[frozenset[str]], tuple[_Row, ...]]  # by the fields that changed: mostly the same few

    @classmethod
    def of(cls, built_in: Mapping[str, tuple[str, ...]], mapped: Mapping[str, tuple[str, ...]]) -> _Map:
        rows = tuple((fact, paths) for fact, paths in {**built_in, **mapped}.items() if paths)
        paths = {path for _, paths in rows for path in paths}
        fields = frozenset(paths | {path.partition(".")[0] for path in paths})
        return cls(rows, fields, lru_cache(1024)(partial(_touched, rows)))

    def rows_for(self, change: _Change) -> tuple[_Row, ...]:
        """The facts that the message speaks of, in order, each with those of its paths that are spoken of."""
        if change.kind != "UPDATE":
            return self.rows
        if change.changed:
            return self.touched(self.fields & (change.changed | change.nulled))
        return _spoken(self.rows, change.speaks_of)


def _touched(rows: tuple[_Row, ...], fields: frozenset[str]) -> tuple[_Row, ...]:
    return _spoken(rows, lambda path: _names(fields, path))


def _spoken(rows: tuple[_Row, ...], speaks_of: Callable[[str], bool]) -> tuple[_Row, ...]:
    said = ((fact, tuple(path for path in paths if speaks_of(path))) for fact, paths in rows)
    return tuple((fact, paths) for fact, paths in said if paths)


class _Reading(msgspec.Struct, frozen=True, gc=False):
    """What a sources file says of Salesforce, ready to look up."""

    account: _Map
    contact: _Map
    lead: _Map
    ids: tuple[tuple[str, str], ...]  # another system, and the field of an account that holds its id there
    sources: Sources

    @classmethod
    def of(cls, sources: Sources) -> _Reading:
        account, contact, lead = (
            _Map.of(built_in, sources.fields_of("salesforce", object))
            for object, built_in in (("account", ACCOUNT_FACTS), ("contact", CONTACT_FACTS), ("lead", LEAD_FACTS))
        )
        return cls(account, contact, lead, tuple(sources.ids.get("salesforce", {}).items()), sources)


class _Change(msgspec.Struct, frozen=True, gc=False):
    """One record's change. `record` is its id; a path is a field, or `Compound.Part`."""

    kind: str
    record: str
    at: int
    id: str
    body: dict[str, Any]
    changed: frozenset[str]
    nulled: frozenset[str]
    diffs: frozenset[str]
    source: str  # `human`, or ""

    def value(self, path: str) -> Any:
        """None when it is null, cleared or absent."""
        if self.nulled and _names(self.nulled, path):
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
        value = self.value(path)
        return value if value is not None and self.speaks_of(path) else None

    def seen(self, kind: Kind, claims: Claims, suffix: str = "", **said: Any) -> Observation:
        """`suffix` tells apart what one message says of one record."""
        return Observation(kind=kind, claims=claims, at=self.at, id=f"{self.id}{suffix}", **said)


def _names(fields: frozenset[str], path: str) -> bool:
    return path in fields or ("." in path and path.partition(".")[0] in fields)


def decoder(sources: Sources) -> Decode:
    """Reads the fields that `sources` maps, and what is built in."""
    reading = _Reading.of(sources)

    def decode(value: bytes | None, received: int) -> Decoded:
        try:
            body = _body(admit(value))
            header = _header(body)
            client = _client(header.change_origin or "")
            if header.entity_name not in _ENTITIES or client == OUR_CLIENT:
                return []
            at = instant(header.commit_timestamp, "commitTimestamp")
            if header.change_type.startswith("GAP_") or "*" in "".join(header.record_ids):
                return list(_gap(header, at))
            _refuse_unreadable(header)
        except Refusal as refusal:
            return [refusal.rejected]
        source = HUMAN if sources.is_human_in_salesforce(client, header.commit_user) else ""
        return [
            found for record in header.record_ids for found in _record(header, body, at, record, source, reading)
        ]

    return decode


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


def _client(origin: str) -> str:
    """The program that made the change, casefolded: of `com/salesforce/api/rest/60.0;client=isotherm/`. Or ""."""
    return origin.rpartition("client=")[2].strip("/; ").casefold() if "client=" in origin else ""


_BITMAP = re.compile(r"(\d+-)?0x[0-9A-Fa-f]+")


def _gap(header: _Header, at: int) -> Iterator[Observation | Rejected]:
    """Where Salesforce says only that something changed, not what."""
    which = ", ".join(header.record_ids[:5]) or "all"
    if len(header.record_ids) > 5:
        which += f" and {len(header.record_ids) - 5} more"
    detail = f"{header.entity_name} {header.change_type} of {which}: read these records again"
    yield Rejected(Reason.RESYNC_NEEDED, detail)
    if header.entity_name != "Account":
        return
    for record in header.record_ids:
        try:
            claims = Claims(crm=record_id(record))
        except Refusal:
            continue  # `001*`: all of them, and nobody can say which those are
        id = key(f"{header.transaction_key}/{header.sequence_number}/{record}/stale", "the event's id")
        yield Observation(kind="stale", claims=claims, at=at, id=event_id(id or ""))


def _refuse_unreadable(header: _Header) -> None:
    if header.change_type not in ("CREATE", "UPDATE", "DELETE", "UNDELETE"):
        raise Refusal(Reason.UNKNOWN_KIND, f"unknown changeType {header.change_type[:40]!r}")
    if not header.record_ids:
        raise Refusal(Reason.MISSING_KEY, "recordIds is empty")
    for fields in (header.changed_fields, header.nulled_fields, header.diff_fields):
        for field in fields or ():
            if "0x" in field and _BITMAP.fullmatch(field):
                raise Refusal(Reason.UNDECODED_BITMAP, f"{field}: decode changedFields with the event's schema")


def _record(
    header: _Header, body: dict[str, Any], at: int, record: str, source: str, reading: _Reading
) -> Decoded:
    try:
        change = _Change(
            kind=header.change_type,
            record=record_id(record),
            at=at,
            id=event_id(
                key(f"{header.transaction_key}/{header.sequence_number}/{record}", "the event's id") or ""
            ),
            body=body,
            changed=frozenset(header.changed_fields or ()),
            nulled=frozenset(header.nulled_fields or ()),
            diffs=frozenset(header.diff_fields or ()),
            source=source,
        )
        return _ENTITIES[header.entity_name](change, reading)
    except Refusal as refusal:
        return [refusal.rejected]


# -- companies


def _account(change: _Change, reading: _Reading) -> Decoded:
    if change.kind == "DELETE":
        return [_merged(change, Claims(crm=_master(change))) or change.seen("delete", Claims(crm=change.record))]
    also = _also(change, reading.ids) if reading.ids else ()
    found = _facts(change, reading.account)
    claims = Claims(crm=change.record, domain=claim(found.set.get("website")), also=also)
    facts = change.seen("facts", claims, set=found.set, clear=found.clear, source=change.source)
    if change.kind == "UNDELETE":
        return [change.seen("restore", claims, "/restore"), facts, *found.rejected]
    told = change.kind == "CREATE" or found.set or found.clear or also
    return [*([facts] if told else []), *found.rejected]


def _also(change: _Change, ids: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    found = (other_id(system, change.said(field)) for system, field in ids)
    return tuple(each for each in found if each)


def _master(change: _Change) -> str | None:
    """The record that a deleted one was merged into, where the channel is enriched with MasterRecordId."""
    return _reference(change.value("MasterRecordId"), "MasterRecordId")


def _merged(change: _Change, into: Claims) -> Observation | None:
    return None if into == _NOBODY else change.seen("merge", into, merged=(change.record,))


_NOBODY = Claims()


def _facts(change: _Change, mapped: _Map) -> FactChanges:
    changes = FactChanges()
    cleared = []
    for name, spoken in mapped.rows_for(change):
        for path in spoken:
            if (value := change.value(path)) is not None:
                break
        if value is not None:
            if change.diffs or type(value) is dict:
                value = _whole(change, name, spoken, value, changes)
            if name in REFERENCES:
                _put_reference(changes, name, value)
            else:
                put(changes, name, value)
        elif change.kind != "CREATE":
            cleared.append(name)
    changes.clear = tuple(cleared)
    return changes


def _whole(change: _Change, name: str, paths: tuple[str, ...], value: Any, changes: FactChanges) -> Any:
    """The value, or "" for one of which only the difference was sent, with the reason noted."""
    if not any(path in change.diffs for path in paths) and not (type(value) is dict and "diff" in value):
        return value
    detail = f"{name} of {change.record}: only the difference was sent; read this record again"
    changes.rejected.append(Rejected(Reason.RESYNC_NEEDED, detail))
    return ""


def _put_reference(changes: FactChanges, name: str, value: Any) -> None:
    try:
        changes.set[name] = record_id(value) if type(value) is str else ""
    except Refusal as refusal:
        changes.rejected.append(refusal.rejected)
    if changes.set.get(name) == "":
        del changes.set[name]


# -- people


def _contact(change: _Change, reading: _Reading) -> Decoded:
    account = change.said("AccountId")
    if change.kind == "DELETE":
        return [_merged(change, Claims(contact=_master(change))) or _gone(change)]
    if account is None and change.kind == "UPDATE" and change.speaks_of("AccountId"):
        return [_gone(change)]  # AccountId was emptied
    claims = Claims(contact=change.record, crm=_reference(account, "AccountId"), email=claim(change.said("Email")))
    return _person(change, claims, reading.contact)


def _lead(change: _Change, reading: _Reading) -> Decoded:
    """A person before there is a contact, known by e-mail or by the company's web site."""
    if change.kind == "DELETE":
        return [_merged(change, Claims(contact=_master(change))) or _gone(change)]
    account = _reference(change.said("ConvertedAccountId"), "ConvertedAccountId")
    contact = _reference(change.said("ConvertedContactId"), "ConvertedContactId")
    site = claim(change.said("Website"))
    claims = Claims(contact=change.record, crm=account, email=claim(change.said("Email")), domain=site)
    became = Claims(contact=contact, crm=account)
    converted = [change.seen("merge", became, "/converted", merged=(change.record,))] if contact else []
    return [*_person(change, claims, reading.lead), *converted]


def _gone(change: _Change) -> Observation:
    return change.seen("contact", Claims(contact=change.record), gone=True)


def _person(change: _Change, claims: Claims, mapped: _Map) -> Decoded:
    found = _facts(change, mapped)
    if status := _status(change):
        found.set["status"] = status
    told = change.kind != "UPDATE" or found.set or found.clear or claims.crm or claims.email or claims.domain
    seen = change.seen("contact", claims, set=found.set, clear=found.clear, source=change.source) if told else None
    return [*([seen] if seen else []), *found.rejected]


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


# -- what happens


def _opportunity(change: _Change, _: _Reading) -> Decoded:
    if change.kind in ("DELETE", "UNDELETE"):
        return []
    claims = Claims(opportunity=change.record, crm=_reference(change.said("AccountId"), "AccountId"))
    moved = change.said("StageName") is not None
    names = _STORIES[change.kind, moved]
    if not names and claims.crm:
        return [change.seen("link", claims)]
    props = _opportunity_props(change) if names else {}
    return [change.seen("activity", claims, suffix, name=name, props=props) for name, suffix in names]


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
    props: dict[str, Any] = {"opportunity": change.record} | _told(change, OPPORTUNITY_PROPS)
    if (amount := change.value("Amount")) is not None:
        props["amount"] = number("amount", amount)
    return props


def _told(change: _Change, fields: Mapping[str, str]) -> dict[str, Any]:
    said = ((name, change.value(field)) for name, field in fields.items())
    return {name: fit(value) for name, value in said if type(value) in (str, bool)}


def _campaign_member(change: _Change, _: _Reading) -> Decoded:
    """We put somebody on a list; that is not their doing. That they respond is."""
    if change.kind in ("DELETE", "UNDELETE"):
        return []
    names = [("campaign_member_added", "/added")] if change.kind == "CREATE" else []
    if change.said("HasResponded") is True:
        names.append(("campaign_responded", ""))
    if not names:
        return []
    person = _reference(change.value("ContactId"), "ContactId") or _reference(change.value("LeadId"), "LeadId")
    claims = Claims(contact=person)
    props = _told(change, {"status": "Status"})
    if campaign := _reference(change.value("CampaignId"), "CampaignId"):
        props["campaign"] = campaign
    return [change.seen("activity", claims, suffix, name=name, props=props) for name, suffix in names]


def _task(change: _Change, _: _Reading) -> Decoded:
    """Work of ours that is done: a call, an e-mail, a meeting. What is only planned has not happened."""
    if change.kind not in ("CREATE", "UPDATE") or not _is_completed(change):
        return []
    about = _reference(change.value("WhatId"), "WhatId") or ""
    account = _reference(change.value("AccountId"), "AccountId")
    props = _told(change, TASK_PROPS)
    if type(seconds := change.value("CallDurationInSeconds")) is int:
        props["seconds"] = fit(seconds)
    claims = Claims(
        contact=_reference(change.value("WhoId"), "WhoId"),
        opportunity=about if about.startswith(_OPPORTUNITY) else None,
        crm=account or (about if about.startswith(_ACCOUNT) else None),
    )
    if claims.opportunity:
        props["opportunity"] = about
    done = instant_or_none(change.value("CompletedDateTime"))
    task = change.seen("activity", claims, name=_task_name(change), props=props)
    return [task if done is None else msgspec.structs.replace(task, at=done)]


_ACCOUNT, _OPPORTUNITY = "salesforce:001", "salesforce:006"  # record ids begin with their object's prefix


def _is_completed(change: _Change) -> bool:
    """That it is, in the message in which it became so; the status's own word may be any language's."""
    closed, status = change.said("IsClosed"), change.said("Status")
    return closed is True or (closed is None and type(status) is str and status.casefold() == "completed")


def _task_name(change: _Change) -> str:
    said = (change.value(field) for field in ("TaskSubtype", "Type"))
    kinds = (TASKS.get(each.replace(" ", "").casefold()) for each in said if type(each) is str)
    name = next((kind for kind in kinds if kind), "task_completed")
    return "call_received" if name == "call_logged" and change.value("CallType") == "Inbound" else name


def _reference(value: Any, field: str) -> str | None:
    if value is None:
        return None
    if type(value) is not str:
        raise Refusal(Reason.WRONG_TYPE, f"{field} is no record id")
    return record_id(value)


_ENTITIES: dict[str, Callable[[_Change, _Reading], Decoded]] = {
    "Account": _account,
    "Contact": _contact,
    "Lead": _lead,
    "Opportunity": _opportunity,
    "CampaignMember": _campaign_member,
    "Task": _task,
}
decode = decoder(Sources())
