"""Where an account stands, in the properties of its company, whatever HubSpot answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streams.sinks.base import Delivered, GiveUp, Retry
from tests.sinks.conftest import Sender, Serve, sink_of
from tests.sinks.events import AT, UNTIL, WHY, Account
from tests.sinks.fake_hubspot import HubSpot

TO = """
token: file:<secret>
url: <url>
ids: {domain: isotherm_key}
properties:
  engagement: {segment: heat, reason: heat_reason, since: heat_since, stays_until: heat_until}
  size: company_size
  signals: {segment: signals, since: signals_since}
"""
PROPERTIES = {"heat", "heat_reason", "heat_since", "heat_until", "company_size", "signals", "signals_since"}
HOT = {"heat": "hot", "heat_reason": WHY, "heat_since": AT, "heat_until": UNTIL}


@pytest.fixture
def hubspot() -> HubSpot:
    return HubSpot(
        companies={"7": {}, "8": {}},
        properties=PROPERTIES,
        options={"heat": ("hot", "warm", "cold", "")},
        unique={"acme.example": "7"},
    )


@pytest.fixture
async def sink(hubspot: HubSpot, serve: Serve, secret: Path) -> Any:
    return sink_of("hubspot", TO, url=await serve(hubspot.application()), secret=secret)


async def test_a_move_is_written_with_its_reason(hubspot: HubSpot, sink: Any, sender: Sender) -> None:
    assert await sender.send(sink, Account("hubspot:7").moved("hot", was="warm")) == [Delivered()]
    assert hubspot.companies == {"7": HOT, "8": {}}


async def test_leaving_clears_what_was_written(hubspot: HubSpot, sink: Any, sender: Sender) -> None:
    acme = Account("hubspot:7")
    await sender.send(sink, acme.moved("hot"))
    await sender.send(sink, acme.moved(None, was="hot", stays_until=None))
    assert hubspot.companies["7"] == {"heat_reason": WHY}


async def test_a_state_writes_all_properties_at_once(hubspot: HubSpot, sink: Any, sender: Sender) -> None:
    hubspot.companies["7"] = {"heat": "cold", "company_size": "small"}
    await sender.send(sink, Account("hubspot:7").state({"engagement": "hot", "signals": ["funding", "hiring"]}))
    assert hubspot.companies["7"] == HOT | {"signals": "funding;hiring", "signals_since": AT}


async def test_what_is_left_of_a_set_keeps_its_instant(hubspot: HubSpot, sink: Any, sender: Sender) -> None:
    acme = Account("hubspot:7")
    await sender.send(sink, acme.entered("hiring", ["funding", "hiring"]))
    await sender.send(sink, acme.left("funding", ["hiring"]))
    assert hubspot.companies["7"] == {"signals": "hiring", "signals_since": AT}
    await sender.send(sink, acme.left("hiring", []))
    assert hubspot.companies["7"] == {}


async def test_of_several_changes_of_an_account_in_a_request_the_last_counts(
    hubspot: HubSpot, sink: Any, sender: Sender
) -> None:
    acme, other = Account("hubspot:7"), Account("hubspot:8")
    changes = [acme.moved("hot"), other.moved("warm"), acme.moved("cold"), acme.moved("small", dimension="size")]
    assert await sender.send(sink, *reversed(changes)) == [Delivered()] * 4
    assert (hubspot.companies["7"]["heat"], hubspot.companies["7"]["company_size"]) == ("cold", "small")
    assert len(hubspot.requests[0]) == 2


async def test_an_account_is_found_by_a_unique_property(hubspot: HubSpot, sink: Any, sender: Sender) -> None:
    known, unknown = Account("domain:acme.example"), Account("domain:other.example")
    assert await sender.send(sink, known.moved("hot")) == [Delivered()]
    assert hubspot.companies["7"]["heat"] == "hot"
    assert await sender.send(sink, unknown.moved("hot")) == [GiveUp("not_found")]
    # Together: the answer names the company that was updated by an id that we do not know.
    again = Retry("not_confirmed", 0.0, alone=True)
    assert await sender.send(sink, known.moved("cold"), unknown.moved("cold")) == [again, again]


async def test_an_account_of_another_system_is_not_sent(hubspot: HubSpot, sink: Any, sender: Sender) -> None:
    assert await sender.send(sink, Account("salesforce:001").moved("hot")) == [GiveUp("no_record")]
    assert not hubspot.requests


@pytest.mark.parametrize("names_errors", [False, True])
async def test_a_company_that_does_not_exist_holds_up_no_other(
    names_errors: bool, hubspot: HubSpot, sink: Any, sender: Sender
) -> None:
    hubspot.names_errors = names_errors
    gone, there = Account("hubspot:99"), Account("hubspot:8")
    outcomes = await sender.send(sink, gone.moved("hot"), there.moved("hot"))
    assert [type(each) for each in outcomes] == [GiveUp, Delivered]
    assert outcomes[0].reason == "not_found"  # type: ignore[union-attr]  # its type is asserted above
    assert hubspot.companies["8"] == HOT


async def test_a_merged_company_answers_under_its_new_id(hubspot: HubSpot, sink: Any, sender: Sender) -> None:
    hubspot.merged = {"6": "7"}
    assert await sender.send(sink, Account("hubspot:6").moved("hot")) == [Delivered()]


async def test_a_merged_company_is_not_taken_for_one_that_is_missing(
    hubspot: HubSpot, sink: Any, sender: Sender
) -> None:
    hubspot.merged = {"6": "7"}
    changes = [Account(f"hubspot:{n}").moved("hot") for n in (6, 8, 99)]
    again = Retry("not_confirmed", 0.0, alone=True)
    assert await sender.send(sink, *changes) == [again, Delivered(), again]
    assert await sender.send(sink, changes[0]) == [Delivered()]
    assert await sender.send(sink, changes[2]) == [GiveUp("not_found")]


@pytest.mark.parametrize("body", [b"{}", b"", b"<html>", b'{"results": 1}', b'{"results": [{"id": "7", "proper'])
def test_what_is_no_answer_of_hubspots_confirms_nothing(body: bytes, sink: Any) -> None:
    one, other = Account("hubspot:7").moved("hot"), Account("hubspot:8").moved("hot")
    assert sink.outcomes([one], 200, {}, body) == [Retry("not_confirmed", 10.0)]
    assert sink.outcomes([one, other], 200, {}, body) == [Retry("not_confirmed", 10.0, alone=True)] * 2


async def test_an_account_that_was_merged_clears_nothing(hubspot: HubSpot, sink: Any, sender: Sender) -> None:
    """HubSpot would take the old id for the company that stayed."""
    hubspot.merged = {"6": "7"}
    await sender.send(sink, Account("hubspot:7").moved("hot"))
    assert await sender.send(sink, Account("hubspot:6").merged(into="hubspot:7")) == [GiveUp("merged")]
    assert hubspot.companies["7"] == HOT


async def test_a_deleted_account_is_cleared_where_the_company_is_still_there(
    hubspot: HubSpot, sink: Any, sender: Sender
) -> None:
    hubspot.companies["7"] = dict(HOT)
    there, gone = Account("hubspot:7"), Account("hubspot:99")
    assert await sender.send(sink, there.deleted(), gone.deleted()) == [Delivered()] * 2
    assert hubspot.companies["7"] == {}


async def test_one_bad_value_is_found_by_sending_each_alone(hubspot: HubSpot, sink: Any, sender: Sender) -> None:
    bad, good = Account("hubspot:7").moved("boiling"), Account("hubspot:8").moved("hot")
    alone = Retry("batch_refused", 0.0, alone=True, detail="VALIDATION_ERROR")
    assert await sender.send(sink, bad, good) == [alone, alone]
    assert await sender.send(sink, bad) == [GiveUp("invalid", "VALIDATION_ERROR")]
    assert await sender.send(sink, good) == [Delivered()]


async def test_a_hundred_companies_go_in_one_request(hubspot: HubSpot, sink: Any, sender: Sender) -> None:
    hubspot.companies = {str(n): {} for n in range(100)}
    changes = [Account(f"hubspot:{n}").moved("hot", reason={"text": "word " * 1000}) for n in range(sink.batch)]
    assert await sender.send(sink, *changes) == [Delivered()] * 100
    assert all(each["heat"] == "hot" and len(each["heat_reason"]) <= 1000 for each in hubspot.companies.values())


LIMITS = [
    ("TEN_SECONDLY_ROLLING", None, Retry("rate_limited", 10.0, whole=True, detail="TEN_SECONDLY_ROLLING")),
    ("TEN_SECONDLY_ROLLING", "3", Retry("rate_limited", 3.0, whole=True, detail="TEN_SECONDLY_ROLLING")),
    ("DAILY", None, Retry("daily_limit", 3600.0, whole=True, detail="DAILY")),
]


@pytest.mark.parametrize(("policy", "retry_after", "outcome"), LIMITS)
async def test_a_limit_pauses_the_endpoint_and_nothing_is_lost(
    policy: str, retry_after: str | None, outcome: object, hubspot: HubSpot, sink: Any, sender: Sender
) -> None:
    hubspot.allowed, hubspot.policy, hubspot.retry_after = 1, policy, retry_after
    acme = Account("hubspot:7")
    assert await sender.send(sink, acme.moved("warm")) == [Delivered()]
    hot = acme.moved("hot")
    assert await sender.send(sink, hot) == [outcome]
    hubspot.allowed = 1
    assert await sender.send(sink, hot) == [Delivered()]
    assert hubspot.companies["7"] == HOT


async def test_a_renewed_token_is_used_at_once(hubspot: HubSpot, sink: Any, sender: Sender, secret: Path) -> None:
    hubspot.token = "the next one"
    hot = Account("hubspot:7").moved("hot")
    assert await sender.send(sink, hot) == [
        Retry("unauthorized", 60.0, whole=True, detail="INVALID_AUTHENTICATION")
    ]
    secret.write_text("the next one")
    assert await sender.send(sink, hot) == [Delivered()]


@pytest.mark.parametrize(("status", "after"), [(500, None), (502, None), (504, None), (477, "3600")])
async def test_an_outage_is_waited_out(
    status: int, after: str | None, hubspot: HubSpot, sink: Any, sender: Sender
) -> None:
    hubspot.failing, hubspot.retry_after = status, after
    outcomes = await sender.send(sink, Account("hubspot:7").moved("hot"), Account("hubspot:8").moved("hot"))
    wait = Retry("unavailable", float(after) if after else None, whole=after is not None, detail=str(status))
    assert outcomes == [wait, wait]
