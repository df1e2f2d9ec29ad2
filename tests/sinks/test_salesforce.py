"""Where an account stands, in fields of its record, whatever Salesforce answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streams.sinks.base import Delivered, GiveUp, Retry
from tests.sinks.conftest import Sender, Serve, sink_of
from tests.sinks.events import AT, UNTIL, WHY, Account
from tests.sinks.fake_salesforce import Salesforce

TO = """
token: file:<secret>
url: <url>
properties:
  engagement: {segment: Heat__c, reason: Heat_Reason__c, since: Heat_Since__c, stays_until: Heat_Until__c}
  signals: Signals__c
"""
BY_DOMAIN = TO + "external_id: {field: Isotherm_Id__c, system: domain}\n"
FIELDS = {"Heat__c", "Heat_Reason__c", "Heat_Since__c", "Heat_Until__c", "Signals__c"}
HOT = {"Heat__c": "hot", "Heat_Reason__c": WHY, "Heat_Since__c": AT, "Heat_Until__c": UNTIL}
ACME, GLOBEX, INITECH = "001xx000003DGb2AAG", "001xx000003DGb3AAG", "001xx000003DGb4AAG"


@pytest.fixture
def salesforce() -> Salesforce:
    return Salesforce(accounts={ACME: {}, GLOBEX: {}, INITECH: {}}, external={"acme.example": ACME}, fields=FIELDS)


@pytest.fixture
async def url(salesforce: Salesforce, serve: Serve) -> str:
    return await serve(salesforce.application())


@pytest.fixture
def sink(url: str, secret: Path) -> Any:
    return sink_of("salesforce", TO, url=url, secret=secret)


def _account(id: str) -> Account:
    return Account(f"salesforce:{id}")


async def test_a_move_is_written_with_its_reason(salesforce: Salesforce, sink: Any, sender: Sender) -> None:
    assert await sender.send(sink, _account(ACME).moved("hot", was="warm")) == [Delivered()]
    assert salesforce.accounts[ACME] == HOT


async def test_leaving_clears_with_null(salesforce: Salesforce, sink: Any, sender: Sender) -> None:
    salesforce.accounts[ACME] = dict(HOT)
    await sender.send(sink, _account(ACME).moved(None, was="hot", stays_until=None))
    assert salesforce.accounts[ACME] == {name: WHY if name == "Heat_Reason__c" else None for name in HOT}


async def test_a_state_writes_all_fields_at_once(salesforce: Salesforce, sink: Any, sender: Sender) -> None:
    salesforce.accounts[ACME] = {"Signals__c": "old"}
    await sender.send(sink, _account(ACME).state({"engagement": "hot"}))
    assert salesforce.accounts[ACME] == HOT | {"Signals__c": None}


async def test_each_record_has_its_own_outcome(salesforce: Salesforce, sink: Any, sender: Sender) -> None:
    salesforce.locked, salesforce.deleted = {GLOBEX}, {INITECH}
    changes = [_account(id).moved("hot") for id in (ACME, GLOBEX, INITECH, "001xx000003DGb9AAG", "short")]
    assert await sender.send(sink, *changes) == [
        Delivered(),
        Retry("locked", detail="UNABLE_TO_LOCK_ROW"),
        GiveUp("not_found", "ENTITY_IS_DELETED"),
        GiveUp("not_found", "INVALID_CROSS_REFERENCE_KEY"),
        GiveUp("not_found", "MALFORMED_ID"),
    ]
    salesforce.locked.clear()
    assert await sender.send(sink, changes[1]) == [Delivered()]
    assert salesforce.accounts[GLOBEX] == HOT


async def test_a_field_that_is_not_there_is_named(salesforce: Salesforce, sink: Any, sender: Sender) -> None:
    salesforce.fields = FIELDS - {"Heat__c"}
    changes = [_account(ACME).moved("hot"), _account(GLOBEX).entered("hiring", ["hiring"])]
    assert await sender.send(sink, *changes) == [
        GiveUp("invalid", "INVALID_FIELD_FOR_INSERT_UPDATE"),
        Delivered(),
    ]


async def test_two_hundred_accounts_go_in_one_request(salesforce: Salesforce, sink: Any, sender: Sender) -> None:
    ids = [f"001xx0000{n:06}AAG" for n in range(sink.batch)]
    salesforce.accounts = {id: {} for id in ids}
    changes = [_account(id).moved("hot", reason={"text": "word " * 1000}) for id in ids]
    assert await sender.send(sink, *changes) == [Delivered()] * 200
    assert {each["Heat__c"] for each in salesforce.accounts.values()} == {"hot"}


async def test_the_limit_of_requests_pauses_the_endpoint(
    salesforce: Salesforce, sink: Any, sender: Sender
) -> None:
    salesforce.allowed = 0
    hot = _account(ACME).moved("hot")
    limited = Retry("daily_limit", 900.0, whole=True, detail="REQUEST_LIMIT_EXCEEDED")
    assert await sender.send(sink, hot) == [limited]
    salesforce.allowed = 1
    assert await sender.send(sink, hot) == [Delivered()]


async def test_a_renewed_token_is_used_at_once(
    salesforce: Salesforce, sink: Any, sender: Sender, secret: Path
) -> None:
    salesforce.token = "the next one"
    hot = _account(ACME).moved("hot")
    assert await sender.send(sink, hot) == [Retry("unauthorized", 60.0, whole=True, detail="INVALID_SESSION_ID")]
    secret.write_text("the next one")
    assert await sender.send(sink, hot) == [Delivered()]


async def test_maintenance_is_waited_out(salesforce: Salesforce, sink: Any, sender: Sender) -> None:
    salesforce.maintenance = True
    (outcome,) = await sender.send(sink, _account(ACME).moved("hot"))
    assert outcome == Retry("unavailable", 10.0, whole=True)


async def test_an_account_is_found_by_its_external_id_and_never_created(
    salesforce: Salesforce, url: str, secret: Path, sender: Sender
) -> None:
    sink = sink_of("salesforce", BY_DOMAIN, url=url, secret=secret)
    known, unknown = Account("domain:acme.example"), Account("domain:other.example")
    assert await sender.send(sink, known.moved("hot"), unknown.moved("hot"), _account(ACME).moved("cold")) == [
        Delivered(),
        GiveUp("not_found", "REQUIRED_FIELD_MISSING"),
        GiveUp("no_record"),
    ]
    assert salesforce.accounts[ACME] == HOT


async def test_a_field_of_external_ids_that_is_not_there_is_no_accounts_fault(
    url: str, secret: Path, sender: Sender
) -> None:
    sink = sink_of("salesforce", BY_DOMAIN.replace("Isotherm_Id__c", "Other__c"), url=url, secret=secret)
    (outcome,) = await sender.send(sink, Account("domain:acme.example").moved("hot"))
    assert outcome == Retry("wrong_address", 60.0, whole=True)


async def test_gone_accounts(salesforce: Salesforce, sink: Any, sender: Sender) -> None:
    """One that was deleted is cleared where it is still there; of one that was merged nothing is written."""
    salesforce.accounts[ACME], salesforce.deleted = dict(HOT), {GLOBEX}
    there, gone, merged = _account(ACME), _account(GLOBEX), _account(INITECH)
    outcomes = await sender.send(sink, there.deleted(), gone.deleted(), merged.merged(into=there.id))
    assert outcomes == [Delivered(), Delivered(), GiveUp("merged")]
    assert set(salesforce.accounts[ACME].values()) == {None}
