"""HubSpot webhooks: one notification or an array of them, as HubSpot posts it.

    company   creation, propertyChange -> facts; deletion, restore -> delete, restore
    contact   creation, propertyChange, restore -> contact; deletion -> contact that is gone
              privacyDeletion -> erase
    deal      creation -> activity `opportunity_created`; `dealstage` -> `opportunity_stage_changed`
    associationChange   contact and company -> contact of that company, or gone from it; deal and company -> link
    merge     of companies, of contacts -> merge; of deals -> nothing, each stays linked to its company

The generic form, `object.propertyChange` with an `objectTypeId`, is the same under another name, and
an app may get both: a notification's id is made of what it says and not of `eventId`, which HubSpot
does not promise to be unique. So a retry, the other form, and the two notifications of one
association, one from either end, all have one id.

**A notification holds one property**, as text; empty text is a cleared one. Whom a contact or a deal
belongs to is told by associations alone, or by the properties that mirror the primary one. We have
one account for each: an association that is not the primary one says nothing to us.

HubSpot promises no order, neither of messages nor within an array. A contact that changes companies
is told in up to three notifications: gone from the one, added to the other, and the property that
mirrors it. Those of one array are put in the order that ends where the contact is.

A fact that somebody typed into HubSpot has the source `human`, which outranks what programs report.

Other objects are understood and yield nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, TypeAlias

import msgspec

from rules.sources import HUMAN, Sources
from streams.adapters.base import Claims, Decode, Decoded, Kind, Observation, Reason, Rejected
from streams.adapters.facts import FactChanges, put
from streams.adapters.ids import other_id
from streams.adapters.names import fit, is_personal, snake
from streams.adapters.times import instant, instant_or_none
from streams.adapters.wire import Refusal, claim, key, one_or_many, read
from streams.sources import shipped

# Their property, our fact. What does not stand here keeps its own name.
COMPANY_FACTS = {
    "numberofemployees": "employees",
    "annualrevenue": "annual_revenue",
    "domain": "website",
    "website": "website",
    "state": "region",
    "hs_country_code": "country",
    "type": "account_type",
    "lifecyclestage": "lifecycle_stage",
    "hs_lead_status": "lead_status",
    "hs_num_open_deals": "open_deals",
    "hubspot_owner_id": "owner",
    "web_technologies": "technologies",
}
# A second way to say the same: emptied, it does not empty the fact.
SECOND_NAMES = frozenset({"website", "hs_country_code"})

# All we take of a contact: any other property may tell of a private person.
CONTACT_FACTS = {
    "jobtitle": "title",
    "department": "department",
    "job_function": "department",
    "hs_buying_role": "role",
    "seniority": "seniority",
    "hs_seniority": "seniority",
    "lifecyclestage": "lifecycle_stage",
    "hs_lead_status": "lead_status",
    "hs_persona": "persona",
    "hs_latest_meeting_activity": "hs_latest_meeting_activity",
}
# What is in neither table says nothing: a bounce that was cleared leaves open whether the person opted out.
OPT_OUT = {"true": "unsubscribed", "false": "active"}
BOUNCES = frozenset({
    "hs_email_bad_address", "hs_email_hard_bounce_reason", "hs_email_hard_bounce_reason_enum",
})  # fmt: skip

# The stages of the pipeline every portal begins with: label, is closed, is won. Of a stage that a
# portal has added we see the id only.
STAGES = {
    "appointmentscheduled": ("Appointment Scheduled", False, False),
    "qualifiedtobuy": ("Qualified To Buy", False, False),
    "presentationscheduled": ("Presentation Scheduled", False, False),
    "decisionmakerboughtin": ("Decision Maker Bought-In", False, False),
    "contractsent": ("Contract Sent", False, False),
    "closedwon": ("Closed Won", True, True),
    "closedlost": ("Closed Lost", True, False),
}

OBJECT_TYPES = {"0-1": "contact", "0-2": "company", "0-3": "deal"}
PRIMARY_TYPES = frozenset({1, 2, 5, 6})  # of `associationTypeId`: contact and company, deal and company
_OTHER_OBJECTS = frozenset({"conversation", "line_item", "object", "product", "ticket"})

_Id: TypeAlias = int | str | None


class _Event(msgspec.Struct, rename="camel", gc=False):
    subscription_type: str
    occurred_at: Any
    portal_id: _Id = None
    object_id: _Id = None
    object_type_id: str | None = None
    property_name: str | None = None
    property_value: Any = msgspec.UNSET
    change_source: Any = None
    is_sensitive: bool | None = None
    from_object_id: _Id = None
    to_object_id: _Id = None
    from_object_type_id: str | None = None
    to_object_type_id: str | None = None
    association_type: str | None = None
    association_type_id: int | None = None
    association_removed: bool | None = None
    is_primary_association: bool | None = None
    primary_object_id: _Id = None
    merged_object_ids: list[int | str] | None = None
    new_object_id: _Id = None


_decode_event = msgspec.json.Decoder(_Event).decode


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a sources file says of HubSpot: of a property, our fact, or None where it is not asked for one."""

    company: Mapping[str, str]
    contact: Mapping[str, str]
    replaced: frozenset[str]  # facts of companies that only mapped properties say
    ids: Mapping[str, str]  # property -> the system whose id it holds
    sources: Sources

    @classmethod
    def of(cls, sources: Sources) -> _Reading:
        company, contact = (sources.fields_of("hubspot", each) for each in ("company", "contact"))
        ids = {field: system for system, field in sources.ids.get("hubspot", {}).items()}
        return cls(_by_property(COMPANY_FACTS, company), _by_property(CONTACT_FACTS, contact), frozenset(company),
                   ids, sources)  # fmt: skip

    def company_fact(self, name: str) -> str | None:
        """What is in no table keeps its own name, unless that is a fact that another property says."""
        if name in self.company:
            return self.company[name]
        fact = COMPANY_FACTS.get(name) or snake(name)
        return None if fact in self.replaced else fact


def _by_property(built_in: Mapping[str, str], mapped: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    kept = {name: fact for name, fact in built_in.items() if fact not in mapped}
    return kept | {name: fact for fact, names in mapped.items() for name in names}


@dataclass(frozen=True, slots=True)
class _Notice:
    """One notification, whichever form it came in: `company.deletion` of record `hubspot:5543`."""

    object: str
    verb: str
    record: str
    at: int
    event: _Event
    reading: _Reading

    def seen(self, kind: Kind, claims: Claims, what: str = "", value: str = "", **said: Any) -> Observation:
        """`what` and `value` tell apart what one record says at one instant."""
        told = self.event.portal_id
        portal = "" if told is None else _bare(_record(told, "portalId"))
        id = f"{portal}/{self.object}.{self.verb}/{_bare(self.record)}/{what}/{self.at}/{value}"
        return Observation(kind=kind, claims=claims, at=self.at, id=key(id, "the event's id") or "", **said)


def decoder(sources: Sources) -> Decode:
    """Reads the properties that `sources` maps, and what is built in."""
    reading = _Reading.of(sources)

    def decode(value: bytes | None, received: int) -> Decoded:
        try:
            events = one_or_many(value)
        except Refusal as refusal:
            return [refusal.rejected]
        return _settled(_once(found for event in events for found in _observations(event, reading)))

    return decode


def _once(found: Iterator[Observation | Rejected]) -> Iterator[Observation | Rejected]:
    """Without what says the same again: both ends of one association often come in one array."""
    ids = set()
    for each in found:
        if isinstance(each, Observation):
            if each.id in ids:
                continue
            ids.add(each.id)
        yield each


def _settled(found: Iterator[Observation | Rejected]) -> Decoded:
    """In the order in which it came, but for where a contact belongs: all that is said of that stands where the
    first of it came, so that what else is said of the contact finds it there."""
    parts: list[Rejected | list[Observation]] = []
    of_contact: dict[str | None, list[Observation]] = {}
    for each in found:
        if isinstance(each, Rejected):
            parts.append(each)
        elif not _says_where(each):
            parts.append([each])
        elif said := of_contact.get(each.claims.contact):
            said.append(each)
        else:
            parts.append(of_contact.setdefault(each.claims.contact, [each]))
    ordered = (_ending_where_it_is(each) if isinstance(each, list) else [each] for each in parts)
    return [each for group in ordered for each in group]


def _says_where(part: Observation) -> bool:
    return part.kind == "contact" and (part.gone or part.claims.crm is not None)


def _ending_where_it_is(said: list[Observation]) -> Sequence[Observation]:
    """What is said of one contact's company, by time, and the decisive word at the end.

    That is the newest company the contact was added to, unless it is gone from that one, or from all, since.
    """
    if len(said) < 2:
        return said
    ordered = sorted(said, key=_by_time)
    decisive = ordered[0]
    for each in ordered[1:]:
        if not (each.gone and _is_of_another(each, decisive)):
            decisive = each
    return [*(each for each in ordered if each is not decisive), decisive]


# Of one instant, what is worth more: an association, the property that mirrors it, a contact that was deleted.
_WORTH = {"contact.associationChange": 0, "contact.propertyChange": 1, "contact.deletion": 2}


def _by_time(said: Observation) -> tuple[int, bool, bool, int, str]:
    """Of one instant, a company is worth more than none, and in the end the id decides."""
    worth = _WORTH[said.id.split("/", 2)[1]]
    return said.at, worth > 1, not said.gone, worth, said.claims.crm or ""


def _is_of_another(gone: Observation, stated: Observation) -> bool:
    """Whoever is gone from one company is still at the other."""
    return not stated.gone and gone.claims.crm not in (None, stated.claims.crm)


def _observations(raw: msgspec.Raw, reading: _Reading) -> Decoded:
    try:
        event = read(_decode_event, bytes(raw))
        if event.subscription_type.endswith(".associationChange"):
            return _association(event, reading)
        if (kind := _object(event)) is None:
            return []
        verb = event.subscription_type.partition(".")[2]
        if (make := _MAKERS.get((kind, verb))) is None:
            raise Refusal(Reason.UNKNOWN_KIND, f"unknown subscriptionType {event.subscription_type[:60]!r}")
        return make(_Notice(kind, verb, _subject(event, verb), _at(event), event, reading))
    except Refusal as refusal:
        return [refusal.rejected]


def _object(event: _Event) -> str | None:
    """Company, contact or deal; None for the objects that tell us nothing."""
    name = event.subscription_type.partition(".")[0]
    if name == "object":
        if event.object_type_id is None:
            raise Refusal(Reason.MISSING_FIELD, "an object.* notification names its `objectTypeId`")
        return OBJECT_TYPES.get(event.object_type_id)
    if name in OBJECT_TYPES.values():
        return name
    if name in _OTHER_OBJECTS:
        return None
    raise Refusal(Reason.UNKNOWN_KIND, f"unknown subscriptionType {event.subscription_type[:60]!r}")


def _at(event: _Event) -> int:
    return instant(event.occurred_at, "occurredAt")


def _subject(event: _Event, verb: str) -> str:
    return _survivor(event) if verb == "merge" else _record(event.object_id, "objectId")


def _record(id: _Id, field: str) -> str:
    text = key(id, field)
    if text is None:
        raise Refusal(Reason.MISSING_KEY, f"no {field}")
    if not (text.isascii() and text.isdigit()):
        raise Refusal(Reason.BAD_KEY, f"{field} is no HubSpot record id: {text[:40]!r}")
    return f"hubspot:{text}"


def _bare(record: str) -> str:
    return record.partition(":")[2]


# -- one property


def _property(notice: _Notice) -> tuple[str, str] | None:
    """Its name and value, "" when it was cleared; None when the portal calls it sensitive."""
    event = notice.event
    if event.property_name is None:
        raise Refusal(Reason.MISSING_FIELD, "a propertyChange names its property in `propertyName`")
    if event.is_sensitive:
        return None
    if event.property_value is msgspec.UNSET:
        raise Refusal(Reason.MISSING_FIELD, f"no propertyValue of {event.property_name[:40]!r}")
    return event.property_name, _text(event.property_value, event.property_name)


def _text(value: Any, name: str) -> str:
    """What HubSpot sends as text, programs between us may have read as something else."""
    if value is None:
        return ""
    if type(value) is bool:
        return str(value).lower()
    if type(value) not in (str, int, float):
        raise Refusal(Reason.WRONG_TYPE, f"propertyValue of {name[:40]!r} is no text")
    return str(value).strip()


def _mark(name: str, value: str) -> str:
    """The value's part in the id: a digest, and not even that of what is about a private person."""
    if not value or is_personal(snake(name)):
        return ""
    return blake2b(value.encode(), digest_size=6).hexdigest()


def _put(changes: FactChanges, fact: str, value: str) -> None:
    put(changes, fact, _several(value) if fact == "technologies" else _date(fact, value) or value)


def _several(value: str) -> list[str]:
    """A property with several values has them as `a;b`."""
    return [part.strip() for part in value.split(";") if part.strip()]


_DATE_NAME = re.compile(r"(date|_at|_since|_activity|_contacted|timestamp)$")
_EPOCH_MS = re.compile(r"\d{11,13}", re.ASCII)


def _date(fact: str, value: str) -> str | None:
    """ISO-8601 of a date in epoch milliseconds, which a property named like a date has as text.

    A day is its midnight in UTC.
    """
    if not (_DATE_NAME.search(fact) and _EPOCH_MS.fullmatch(value)):
        return None
    if (ms := instant_or_none(int(value))) is None:
        return None
    digits = "milliseconds" if ms % 1000 else "seconds"
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec=digits).replace("+00:00", "Z")


# -- companies


def _company_known(notice: _Notice) -> Decoded:
    """A creation holds no property: each is unknown until it is told."""
    return [notice.seen("facts", Claims(crm=notice.record))]


def _company_changed(notice: _Notice) -> Decoded:
    if (told := _property(notice)) is None:
        return []
    name, value = told
    if system := notice.reading.ids.get(name):
        return _known_elsewhere(notice, system, told)
    fact = notice.reading.company_fact(name)
    if not fact or is_personal(fact) or (not value and name in SECOND_NAMES):
        return []
    claims = Claims(crm=notice.record, domain=claim(value) if fact == "website" else None)
    return _changed(notice, "facts", claims, fact, told)


def _known_elsewhere(notice: _Notice, system: str, told: tuple[str, str]) -> Decoded:
    """The id of the same company in another system."""
    name, value = told
    if (also := other_id(system, value)) is None:
        return []
    return [notice.seen("facts", Claims(crm=notice.record, also=(also,)), snake(name), _mark(name, value))]


def _changed(notice: _Notice, kind: Kind, claims: Claims, fact: str, told: tuple[str, str]) -> Decoded:
    """The fact set or cleared, or why its value is refused."""
    name, value = told
    changes = FactChanges(clear=() if value else (fact,))
    if value:
        _put(changes, fact, value)
    if not (changes.set or changes.clear):
        return list(changes.rejected)
    what = snake(name), _mark(name, value)
    by_hand = notice.reading.sources.is_human_in_hubspot(notice.event.change_source)
    source = HUMAN if kind == "facts" and by_hand else ""
    return [notice.seen(kind, claims, *what, set=changes.set, clear=changes.clear, source=source)]


def _company_deleted(notice: _Notice) -> Decoded:
    return [notice.seen("delete", Claims(crm=notice.record))]


def _company_restored(notice: _Notice) -> Decoded:
    """Without its properties: those we have still count."""
    return [notice.seen("restore", Claims(crm=notice.record))]


def _company_merged(notice: _Notice) -> Decoded:
    return _joined(notice, Claims(crm=notice.record))


# -- contacts


def _contact_known(notice: _Notice) -> Decoded:
    return [notice.seen("contact", Claims(contact=notice.record))]


def _contact_changed(notice: _Notice) -> Decoded:
    if (told := _property(notice)) is None:
        return []
    name, value = told
    if name == "associatedcompanyid":
        return [_belongs(notice, name, value)]
    if name == "email":
        claims = Claims(contact=notice.record, email=claim(value))
        return [notice.seen("contact", claims, name)] if claims.email else []
    claims = Claims(contact=notice.record)
    if status := _status(name, value):
        return [notice.seen("contact", claims, name, _mark(name, value), set={"status": status})]
    fact = notice.reading.contact.get(name)
    return _changed(notice, "contact", claims, fact, told) if fact else []


def _belongs(notice: _Notice, name: str, value: str) -> Observation:
    """The mirror of the primary association."""
    company = _record(value, name) if value else None
    claims = Claims(contact=notice.record, crm=company)
    return notice.seen("contact", claims, name, _mark(name, value), gone=company is None)


def _status(name: str, value: str) -> str | None:
    """Whether the person can be written to; None when the property does not say."""
    if name == "hs_email_optout":
        return OPT_OUT.get(value.lower())
    return "bounced" if name in BOUNCES and value.lower() not in ("", "false") else None


def _contact_gone(notice: _Notice) -> Decoded:
    return [notice.seen("contact", Claims(contact=notice.record), gone=True)]


def _contact_erased(notice: _Notice) -> Decoded:
    return [notice.seen("erase", Claims(contact=notice.record))]


def _contact_restored(notice: _Notice) -> Decoded:
    """Going has cut the contact from its company, and a restore does not name it."""
    detail = f"contact {_bare(notice.record)} is restored: read its company again"
    return [*_contact_known(notice), Rejected(Reason.RESYNC_NEEDED, detail)]


def _contact_merged(notice: _Notice) -> Decoded:
    return _joined(notice, Claims(contact=notice.record))


# -- deals


def _deal_created(notice: _Notice) -> Decoded:
    props = {"opportunity": notice.record}
    claims = Claims(opportunity=notice.record)
    return [notice.seen("activity", claims, name="opportunity_created", props=props)]


def _deal_changed(notice: _Notice) -> Decoded:
    if (told := _property(notice)) is None:
        return []
    name, value = told
    if name == "hs_primary_associated_company" and value:
        claims = Claims(opportunity=notice.record, crm=_record(value, name))
        return [notice.seen("link", claims, name, _mark(name, value))]
    return [_moved(notice, value)] if name == "dealstage" and value else []


def _moved(notice: _Notice, stage: str) -> Observation:
    props: dict[str, Any] = {"opportunity": notice.record, "stage": fit(stage)}
    if known := STAGES.get(stage):
        props |= dict(zip(("stage", "is_closed", "is_won"), known, strict=True))
    claims, mark = Claims(opportunity=notice.record), _mark("dealstage", stage)
    return notice.seen("activity", claims, "dealstage", mark, name="opportunity_stage_changed", props=props)


def _nothing(_: _Notice) -> Decoded:
    return []


def _deal_merged(notice: _Notice) -> Decoded:
    """Nothing is kept of a deal but its company: what is told of either still finds it."""
    _merged(notice)
    return []


# -- merges


def _survivor(event: _Event) -> str:
    """A merge may make a new record of the two."""
    return _record(event.new_object_id or event.primary_object_id, "primaryObjectId")


def _merged(notice: _Notice) -> list[str]:
    """Who is no more."""
    event = notice.event
    if not event.merged_object_ids:
        raise Refusal(Reason.MISSING_FIELD, "a merge names what was merged in `mergedObjectIds`")
    records = [_record(each, "mergedObjectIds") for each in event.merged_object_ids]
    if event.primary_object_id is not None:
        records.append(_record(event.primary_object_id, "primaryObjectId"))
    return [record for record in dict.fromkeys(records) if record != notice.record]


def _joined(notice: _Notice, survivor: Claims) -> Decoded:
    merged = _merged(notice)
    if not merged:
        return []
    digest = blake2b(",".join(sorted(merged)).encode(), digest_size=6).hexdigest()
    return [notice.seen("merge", survivor, "", digest, merged=tuple(merged))]


# -- associations


def _association(event: _Event, reading: _Reading) -> Decoded:
    ends = _ends(event)
    company = ends.get("company")
    if company is None or len(ends) < 2 or not _is_primary(event):
        return []
    removed = bool(event.association_removed)
    what = _bare(company), "removed" if removed else "added"
    if contact := ends.get("contact"):
        notice = _Notice("contact", "associationChange", contact, _at(event), event, reading)
        claims = Claims(contact=contact, crm=company)
        return [notice.seen("contact", claims, *what, gone=removed)]
    deal = ends["deal"]
    notice = _Notice("deal", "associationChange", deal, _at(event), event, reading)
    return [] if removed else [notice.seen("link", Claims(opportunity=deal, crm=company), *what)]


def _ends(event: _Event) -> dict[str, str]:
    """The records at both ends by what they are; of companies, contacts and deals."""
    if event.association_type:
        start, _, end = event.association_type.lower().partition("_to_")
    elif event.from_object_type_id and event.to_object_type_id:
        start, end = (OBJECT_TYPES.get(each, "") for each in (event.from_object_type_id, event.to_object_type_id))
    else:
        raise Refusal(Reason.MISSING_FIELD, "an associationChange names its `associationType`")
    if not {start, end} <= set(OBJECT_TYPES.values()):
        return {}
    return {start: _record(event.from_object_id, "fromObjectId"), end: _record(event.to_object_id, "toObjectId")}


def _is_primary(event: _Event) -> bool:
    """Where a notification does not say, it is."""
    if event.is_primary_association is not None:
        return event.is_primary_association
    return event.association_type_id is None or event.association_type_id in PRIMARY_TYPES


_MAKERS: dict[tuple[str, str], Callable[[_Notice], Decoded]] = {
    ("company", "creation"): _company_known,
    ("company", "propertyChange"): _company_changed,
    ("company", "deletion"): _company_deleted,
    ("company", "restore"): _company_restored,
    ("company", "merge"): _company_merged,
    ("contact", "creation"): _contact_known,
    ("contact", "propertyChange"): _contact_changed,
    ("contact", "deletion"): _contact_gone,
    ("contact", "privacyDeletion"): _contact_erased,
    ("contact", "restore"): _contact_restored,
    ("contact", "merge"): _contact_merged,
    ("deal", "creation"): _deal_created,
    ("deal", "propertyChange"): _deal_changed,
    ("deal", "deletion"): _nothing,
    ("deal", "restore"): _nothing,
    ("deal", "merge"): _deal_merged,
}
decode = decoder(shipped())
