"""What a sources file changes in what adapters make of messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutation import spoilt

from rules.names import Names
from rules.sources import FORMATS, Sources, SourcesFile, Table, compiled
from rules.yamlfile import read
from streams.adapters import ADAPTERS, Adapters
from streams.adapters.base import Observation, Rejected
from streams.adapters.ids import other_id
from streams.adapters.wire import Refusal
from streams.sources import shipped

SAMPLES = json.loads(Path(__file__).with_name("samples.json").read_text())
RECEIVED = 1_772_700_000_000
ACCOUNT = "0015f00002JUZPDAA5"


def sources(text: str) -> Sources:
    names = Names([])
    for document in read("sources.yaml", text):
        names.declare(document)
    assert not names.problems
    assert names.sources_file is not None
    return compiled(names.sources_file[1] or SourcesFile())


def sent(text: str, format: str, message: Any) -> list[Any]:
    return Adapters.of(sources(text)).decode_any(format, json.dumps(message).encode(), RECEIVED)


def only(text: str, format: str, message: Any) -> Any:
    (found,) = sent(text, format, message)
    return found


# -- Salesforce -----------------------------------------------------------------------------------------------


def account(kind: str = "CREATE", changed: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    header = {
        "entityName": "Account", "recordIds": [ACCOUNT], "changeType": kind, "transactionKey": "tx",
        "sequenceNumber": 1, "commitTimestamp": 1772442000000, "changedFields": changed, "nulledFields": [],
    }  # fmt: skip
    return {"ChangeEventHeader": header, **fields}


CUSTOM = """
fields:
  salesforce:
    account: {employees: Staff__c, tier: Tier__c, country: [Land__c, BillingAddress.Country], city: []}
"""


def test_a_custom_field_says_a_fact_and_one_that_is_mapped_replaces_the_built_in() -> None:
    message = account(
        Name="Acme", Staff__c=40, NumberOfEmployees=5, Tier__c="A", Land__c=None,
        BillingAddress={"Country": "Germany", "CountryCode": "DE", "City": "Berlin"},
    )  # fmt: skip
    assert only(CUSTOM, "salesforce", message).set == {
        "name": "Acme", "employees": 40, "tier": "A", "country": "Germany",
    }  # fmt: skip


def test_of_an_update_the_fields_that_it_names_count() -> None:
    update = account("UPDATE", ("Tier__c", "Land__c"), Tier__c=None, Land__c="AT", Staff__c=None)
    found = only(CUSTOM, "salesforce", update)
    assert (found.set, found.clear) == ({"country": "AT"}, ("tier",))
    assert sent(CUSTOM, "salesforce", account("UPDATE", ("NumberOfEmployees",), NumberOfEmployees=5)) == []


def test_what_leads_and_contacts_say() -> None:
    lead = account(Seniority__c="C-level", Title="CTO")
    lead["ChangeEventHeader"] |= {"entityName": "Lead", "recordIds": ["00Q5f00002JUZPDAA5"]}
    text = "fields: {salesforce: {lead: {seniority: Seniority__c, title: []}}}"
    assert only(text, "salesforce", lead).set == {"seniority": "C-level", "status": "active"}


# -- traits ---------------------------------------------------------------------------------------------------

GROUP = {
    "type": "group",
    "userId": "u1",
    "groupId": "acme",
    "messageId": "m1",
    "timestamp": "2026-03-02T09:00:00Z",
}
TRAITS = (
    "fields: {segment: {group: {employees: [Staff Count, people], tier: accountTier}, identify: {role: function}}}"
)


@pytest.mark.parametrize(
    ("traits", "facts", "clear"),
    [
        ({"staff_count": 40, "people": 5, "accountTier": "A"}, {"employees": 40, "tier": "A"}, ()),
        ({"staffCount": None, "people": "12"}, {"employees": 12}, ()),
        ({"staff_count": "", "plan": "pro"}, {"plan": "pro"}, ()),
        ({"people": None}, {}, ("employees",)),
        ({"employees": 9, "headcount": 8}, {}, ()),
        ({"email": "a@b.example", "tier": "B"}, {}, ()),
    ],
)
def test_a_mapped_trait_says_its_fact_and_nothing_else_does(traits: Any, facts: Any, clear: Any) -> None:
    found = only(TRAITS, "segment", GROUP | {"traits": traits})
    assert (found.set, found.clear) == (facts, clear)


def test_a_trait_of_a_person() -> None:
    call = GROUP | {"type": "identify", "traits": {"function": "Finance", "role": "x", "name": "Bob"}}
    assert only(TRAITS, "segment", call).set == {"role": "Finance"}
    batch = {"batch": [call]}
    assert only(TRAITS, "segment", batch).set == {"role": "Finance"}


def test_a_group_and_a_person_in_posthog() -> None:
    text = "fields: {posthog: {group: {employees: size}, person: {role: function}}}"
    group = {
        "event": "$groupidentify", "distinct_id": "u1", "timestamp": "2026-03-02T09:00:00Z", "uuid": "e1",
        "properties": {
            "$group_type": "company", "$group_key": "acme", "$group_set": {"size": 40, "employees": 3},
            "$set": {"function": "IT"},
        },
    }  # fmt: skip
    facts, contact = sent(text, "posthog", group)
    assert (facts.set, contact.set) == ({"employees": 40}, {"role": "IT"})


# -- tables ---------------------------------------------------------------------------------------------------

PLACE = {"name": "crm", "db": "shop", "schema": "public", "ts_ms": 1772442000000, "lsn": 7}


def row(table: str, op: str, after: Any, before: Any = None) -> dict[str, Any]:
    return {"op": op, "before": before, "after": after, "source": PLACE | {"table": table}, "ts_ms": 1772442000000}


COMPANIES = """
tables:
  kunden:
    object: account
    id: ref
    fields: {name: firma, employees: koepfe, renewal_date: bis, website: seite}
    ids: {salesforce: sf_id, billing: rechnung}
    deleted: geloescht_am
  personen: {object: contact, account: kunde, email: mail, fields: {title: rang}, deleted: weg}
"""
COMPANY = {"ref": 7, "firma": "Acme", "koepfe": "40", "id": 9, "seite": "acme.example", "domain": "x.example"}


def test_a_table_of_companies_under_its_own_names() -> None:
    more = {"sf_id": ACCOUNT[:15], "rechnung": 77, "geloescht_am": None}
    found = only(COMPANIES, "debezium", row("kunden", "c", COMPANY | more))
    assert (found.kind, found.claims.crm, found.claims.domain) == ("facts", "crm:7", "acme.example")
    assert found.claims.also == (f"salesforce:{ACCOUNT}", "billing:77")
    assert found.set["name"] == "Acme"
    assert found.set["employees"] == 40
    assert not {"sf_id", "rechnung", "geloescht_am", "koepfe", "ref"} & found.set.keys()


def test_a_mapped_date_without_its_type_is_refused() -> None:
    _, refused = sent(COMPANIES, "debezium", row("kunden", "c", COMPANY | {"bis": 20000}))
    assert (refused.reason, "bis" in refused.detail) == ("bad_value", True)


@pytest.mark.parametrize("mark", ["2026-03-01T00:00:00Z", True, 1, "true", "Y"])
def test_a_row_that_is_marked_as_deleted_is_deleted(mark: Any) -> None:
    for op in ("c", "r", "u"):
        found = only(COMPANIES, "debezium", row("kunden", op, COMPANY | {"geloescht_am": mark}))
        assert (found.kind, found.claims.crm) == ("delete", "crm:7")
    person = only(COMPANIES, "debezium", row("personen", "u", {"id": 3, "kunde": 7, "weg": mark}))
    assert (person.kind, person.gone) == ("contact", True)


@pytest.mark.parametrize("mark", [None, False, 0, "", "false", "N"])
def test_a_row_that_is_not_marked_is_there(mark: Any) -> None:
    assert only(COMPANIES, "debezium", row("kunden", "c", COMPANY | {"geloescht_am": mark})).kind == "facts"


def test_a_row_whose_mark_goes_is_restored_and_so_is_one_of_which_nobody_knows() -> None:
    now = COMPANY | {"geloescht_am": None}
    was = COMPANY | {"geloescht_am": "2026-03-01T00:00:00Z"}
    for before, kinds in ((was, ["restore", "facts"]), (None, ["restore", "facts"]), (now, ["facts"])):
        found = sent(COMPANIES, "debezium", row("kunden", "u", now, before))
        assert [each.kind for each in found] == kinds
        assert len({each.id for each in found}) == len(found)


def test_a_table_of_people_under_its_own_names() -> None:
    person = {"id": 3, "kunde": 7, "mail": "bob@acme.example", "rang": "CTO", "email": "x@y.example", "note": "n"}
    found = only(COMPANIES, "debezium", row("personen", "c", person))
    assert (found.claims.contact, found.claims.crm, found.claims.email) == ("crm:3", "crm:7", "bob@acme.example")
    assert found.set == {"title": "CTO"}


def test_a_table_is_found_by_schema_or_database_first() -> None:
    text = "tables: {public.kunden: {object: account}, kunden: {object: contact}, Shop.Leute: {object: contact}}"
    assert only(text, "debezium", row("KUNDEN", "c", {"id": 1})).kind == "facts"
    assert only(text, "debezium", row("leute", "c", {"id": 1})).kind == "contact"
    refused = only(text, "debezium", row("accounts", "c", {"id": 1}))
    assert (refused.reason, "known are public.kunden, kunden" in refused.detail) == ("unknown_kind", True)


DEALS = "tables: {deals: {object: opportunity, account: kunde, fields: {stage: phase, is_won: won}}}"


def test_a_table_of_opportunities() -> None:
    deal = {"id": 5, "kunde": 7, "phase": "Offer", "amount": "1200.50", "won": False}
    created, moved = sent(DEALS, "debezium", row("deals", "c", deal))
    assert [created.name, moved.name] == ["opportunity_created", "opportunity_stage_changed"]
    assert created.id != moved.id
    assert (moved.claims.opportunity, moved.claims.crm) == ("crm:5", "crm:7")
    assert moved.props == {"opportunity": "crm:5", "stage": "Offer", "is_won": False, "amount": 1200.5}


def test_only_another_stage_is_a_change_of_stage() -> None:
    deal = {"id": 5, "kunde": 7, "phase": "Offer"}
    moved = only(DEALS, "debezium", row("deals", "u", deal, deal | {"phase": "Demo"}))
    assert moved.name == "opportunity_stage_changed"
    assert sent(DEALS, "debezium", row("deals", "u", deal, deal)) == []
    assert sent(DEALS, "debezium", row("deals", "u", deal)) == [], "nobody says which stage it had"
    assert sent(DEALS, "debezium", row("deals", "r", deal)) == sent(
        DEALS, "debezium", row("deals", "d", None, deal)
    )


def test_a_table_of_activities_under_its_own_names() -> None:
    text = "tables: {log: {object: activity, fields: {name: was, at: wann, user: wer, props: mehr}}}"
    told = {"id": 1, "was": "Report Exported", "wann": "2026-03-02T09:00:00Z", "wer": "u1", "mehr": '{"rows": 3}'}
    found = only(text, "debezium", row("log", "c", told | {"account_id": 7}))
    assert (found.name, found.claims.user, found.claims.crm) == ("report_exported", "u1", "crm:7")
    assert found.props == {"rows": 3}


# -- names ----------------------------------------------------------------------------------------------------

NAMES = """
names:
  all: {Demo Booked: demo_requested}
  ga4: {generate_lead: demo_requested}
ignore:
  all: [heartbeat]
  segment: [Noise Made]
"""


def track(event: str) -> dict[str, Any]:
    return GROUP | {"type": "track", "event": event}


def test_an_activity_is_called_as_the_file_says() -> None:
    assert only(NAMES, "segment", track("demoBooked")).name == "demo_requested"
    assert only(NAMES, "segment", track("generate_lead")).name == "generate_lead", "that is said of ga4 alone"
    lead = {"event_name": "generate_lead", "event_timestamp": 1772442000000000, "user_id": "u1"}
    assert only(NAMES, "ga4", lead).name == "demo_requested"


def test_what_is_ignored_says_nothing_and_its_neighbours_count() -> None:
    batch = {"batch": [track("Heartbeat"), track("noise made"), track("Other"), {"type": "unheard"}]}
    other, rejected = sent(NAMES, "segment", batch)
    assert (other.name, rejected.reason) == ("other", "unknown_kind")


def test_our_own_format_keeps_its_names_on_any_topic() -> None:
    record = {"kind": "activity", "name": "demo_booked", "at": 1772442000000, "user": "u1"}
    assert only(NAMES, "canonical", record).name == only(NAMES, "segment", record).name == "demo_booked"


# -- the whole ------------------------------------------------------------------------------------------------


def test_without_names_nothing_stands_between_a_message_and_its_adapter() -> None:
    made = Adapters.of(shipped()).decoders
    assert list(made) == list(FORMATS) == list(ADAPTERS)
    assert not any(hasattr(decode, "func") for decode in made.values())


@pytest.mark.parametrize(("system", "value", "id"), [
    ("salesforce", ACCOUNT[:15], f"salesforce:{ACCOUNT}"), ("hubspot", 5543, "hubspot:5543"),
    ("hubspot", "5543", "hubspot:5543"), ("hubspot", 5543.0, "hubspot:5543"), ("billing", "C-7", "billing:C-7"),
    ("billing", None, None), ("billing", "", None), ("billing", "undefined", None), ("hubspot", True, None),
])  # fmt: skip
def test_an_id_in_another_system(system: str, value: Any, id: str | None) -> None:
    assert other_id(system, value) == id


@pytest.mark.parametrize(
    ("system", "value"), [("hubspot", "acme"), ("salesforce", "x"), ("billing", "a@b.example")]
)
def test_what_can_be_no_id_is_refused(system: str, value: str) -> None:
    with pytest.raises(Refusal):
        other_id(system, value)


EVERYTHING = Sources(
    salesforce_clients=frozenset({"sfdcinternalapi"}),
    fields={
        ("salesforce", "account"): {"tier": ("Rating", "BillingAddress.State"), "employees": ("Name",)},
        ("segment", "group"): {"employees": ("plan", "industry"), "plan": ("employees",)},
        ("segment", "identify"): {"role": ("title", "email")},
        ("posthog", "group"): {"plan": ("name",)},
    },
    ids={"salesforce": {"hubspot": "Industry", "billing": "Name"}},
    tables={
        "companies": Table(object="account", id="name", ids={"billing": "plan"}, deleted="plan"),
        "contacts": Table(object="contact", email="name", deleted="title"),
        "events": Table(object="activity"),
        "orders": Table(object="opportunity"),
    },
    names={format: {"report_exported": "x", "page_viewed": None} for format in FORMATS},
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=spoilt([each["payload"] for each in SAMPLES]) | st.binary(), format=st.sampled_from(FORMATS))
def test_no_message_raises_however_it_is_mapped(value: bytes, format: str) -> None:
    for found in Adapters.of(EVERYTHING).decode_any(format, value, RECEIVED):
        if isinstance(found, Rejected):
            assert found.reason
        else:
            assert isinstance(found, Observation)
            json.dumps([found.set, found.props, found.claims.also], allow_nan=False).encode()
