"""An account's standing as traits, and its live changes as events, at all that take the Segment spec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streams.sinks.base import Delivered, GiveUp, Retry
from streams.sinks.segment import BATCH, DELIVERIES
from tests.sinks.conftest import SECRET, Sender, Serve, sink_of
from tests.sinks.events import AT, UNTIL, WHY, Account
from tests.sinks.fake_tracking import SEGMENT, VENDORS, Tracking, Vendor

TO = "{url: <url>, key: 'file:<secret>', <more>}"


async def _at(vendor: Vendor, serve: Serve, secret: Path, more: str = "") -> tuple[Tracking, Any]:
    fake = Tracking(vendor)
    url = await serve(fake.application()) + vendor.path
    told = ", ".join(filter(None, (vendor.to, more)))
    return fake, sink_of("segment", TO, url=url, secret=secret, more=told)


def _only(fake: Tracking, type: str) -> list[dict[str, Any]]:
    return [each for each in fake.calls.values() if each["type"] == type]


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda each: each.name)
async def test_a_move_is_a_trait_and_an_event(vendor: Vendor, serve: Serve, secret: Path, sender: Sender) -> None:
    fake, sink = await _at(vendor, serve, secret)
    hot = Account("hubspot:7").moved("hot", was="warm")
    assert await sender.send(sink, hot) == [Delivered()]
    (group,), (track,) = _only(fake, "group"), _only(fake, "track")
    assert group == {
        "type": "group",
        "messageId": f"isotherm:{hot.id}:group",
        "timestamp": AT,
        "anonymousId": "isotherm:hubspot:7",
        "groupId": "hubspot:7",
        "traits": {"isotherm_engagement": "hot", "isotherm_engagement_reason": WHY},
    }
    assert (track["event"], track["context"]) == ("Account Segment Changed", {"groupId": "hubspot:7"})
    told = track["properties"]
    assert (told["dimension"], told["from"], told["to"]) == ("engagement", "warm", "hot")
    assert (told["reason"], told["stays_until"], told["action"]) == (WHY, UNTIL, {"do": "call them"})


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda each: each.name)
async def test_what_is_sent_twice_is_counted_once(
    vendor: Vendor, serve: Serve, secret: Path, sender: Sender
) -> None:
    fake, sink = await _at(vendor, serve, secret)
    hot = Account("hubspot:7").moved("hot")
    for _ in range(2):
        assert await sender.send(sink, hot) == [Delivered()]
    assert (len(fake.calls), fake.dropped) == (2, 2)


async def test_a_first_state_is_all_traits_at_once_and_a_move_from_nothing(
    serve: Serve, secret: Path, sender: Sender
) -> None:
    fake, sink = await _at(SEGMENT, serve, secret)
    first = Account("hubspot:7").state({"engagement": "hot", "size": None, "signals": ["funding", "hiring"]})
    await sender.send(sink, first)
    (group,) = _only(fake, "group")
    assert group["traits"]["isotherm_size"] is None
    assert group["traits"]["isotherm_signals"] == ["funding", "hiring"]
    assert group["traits"]["isotherm_account_status"] == "live"
    moves = {each["properties"]["dimension"]: each["properties"] for each in _only(fake, "track")}
    assert {name: (move["from"], move["to"]) for name, move in moves.items()} == {
        "engagement": (None, "hot"),
        "signals": (None, ["funding", "hiring"]),
    }


@pytest.mark.parametrize("origin", ["rebuild", "backfill", "import"])
async def test_what_is_no_news_begins_no_journey(origin: str, serve: Serve, secret: Path, sender: Sender) -> None:
    fake, sink = await _at(SEGMENT, serve, secret)
    acme = Account("hubspot:7")
    await sender.send(sink, acme.moved("hot", origin=origin), acme.state({"engagement": "hot"}, origin=origin))
    assert len(_only(fake, "group")) == 2
    assert not _only(fake, "track")


async def test_a_set_says_what_was_entered_and_left_and_all_that_it_is_in(
    serve: Serve, secret: Path, sender: Sender
) -> None:
    fake, sink = await _at(SEGMENT, serve, secret)
    acme = Account("hubspot:7")
    await sender.send(sink, acme.entered("hiring", ["funding", "hiring"]), acme.left("funding", ["hiring"]))
    moves = [each["properties"] for each in _only(fake, "track")]
    assert [(each["from"], each["to"], each["members"]) for each in moves] == [
        (None, "hiring", ["funding", "hiring"]),
        ("funding", None, ["hiring"]),
    ]
    assert _only(fake, "group")[-1]["traits"]["isotherm_signals"] == ["hiring"]


async def test_of_an_account_that_is_gone_the_named_traits_are_cleared(
    serve: Serve, secret: Path, sender: Sender
) -> None:
    fake, sink = await _at(SEGMENT, serve, secret, "dimensions: [engagement]")
    acme, other = Account("hubspot:7"), Account("domain:acme.example")
    await sender.send(sink, acme.deleted(), other.merged(into="hubspot:7"))
    cleared = {"isotherm_engagement": None, "isotherm_engagement_reason": None}
    assert [each["traits"] for each in _only(fake, "group")] == [
        cleared | {"isotherm_account_status": "deleted"},
        cleared | {"isotherm_account_status": "merged"},
    ]
    assert not _only(fake, "track")


async def test_a_dimension_that_is_not_wanted_is_not_sent(serve: Serve, secret: Path, sender: Sender) -> None:
    fake, sink = await _at(SEGMENT, serve, secret, "dimensions: [size]")
    assert await sender.send(sink, Account("hubspot:7").moved("hot")) == [GiveUp("nothing_to_write")]
    assert not fake.requests


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda each: each.name)
async def test_the_largest_batch_is_within_everybodys_limits(
    vendor: Vendor, serve: Serve, secret: Path, sender: Sender
) -> None:
    """Long reasons are shortened, then left out; what is still too large is not sent at all."""
    fake, sink = await _at(vendor, serve, secret)
    dimensions = {f"dimension_{n:02}": f"segment_{n:02}" for n in range(20)}
    reason = {name: {"text": "word " * 2000} for name in dimensions}
    large = [Account(f"hubspot:{n}").state(dimensions, reason=reason) for n in range(DELIVERIES)]
    assert await sender.send(sink, *large) == [Delivered()] * DELIVERIES
    assert 0.5 * BATCH < fake.requests[0] <= BATCH
    assert len(fake.calls) == DELIVERIES * 21
    huge = Account("hubspot:7").state({f"dimension_{n:04}": "x" * 100 for n in range(400)})
    assert await sender.send(sink, huge) == [GiveUp("too_large")]


REFUSED = [
    (400, {}, GiveUp("invalid", "400")),
    (401, {}, Retry("unauthorized", 60.0, whole=True, detail="401")),
    (429, {"Retry-After": "30"}, Retry("rate_limited", 30.0, whole=True, detail="429")),
    (429, {}, Retry("rate_limited", 10.0, whole=True, detail="429")),
    (503, {"Retry-After": "7"}, Retry("unavailable", 7.0, whole=True, detail="503")),
    (502, {}, Retry("unavailable", detail="502")),
    (302, {"Location": "http://127.0.0.1:9/"}, Retry("redirected", detail="302")),
]


@pytest.mark.parametrize(("status", "headers", "outcome"), REFUSED)
async def test_a_refusal_says_whether_and_when_to_try_again(
    status: int, headers: dict[str, str], outcome: object, serve: Serve, secret: Path, sender: Sender
) -> None:
    fake, sink = await _at(SEGMENT, serve, secret)
    fake.failing = (status, headers)
    assert await sender.send(sink, Account("hubspot:7").moved("hot")) == [outcome]


async def test_a_refused_batch_is_sent_one_by_one(serve: Serve, secret: Path, sender: Sender) -> None:
    fake, sink = await _at(SEGMENT, serve, secret)
    fake.failing = (400, {})
    both = [Account("hubspot:7").moved("hot"), Account("hubspot:8").moved("hot")]
    alone = Retry("batch_refused", 0.0, alone=True, detail="400")
    assert await sender.send(sink, *both) == [alone, alone]


async def test_a_wrong_key_is_seen_where_it_is_said(serve: Serve, secret: Path, sender: Sender) -> None:
    """Segment says nothing of it, which is in the table of destinations."""
    secret.write_text("another key")
    for vendor in VENDORS:
        fake, sink = await _at(vendor, serve, secret)
        (outcome,) = await sender.send(sink, Account("hubspot:7").moved("hot"))
        assert isinstance(outcome, Retry) == vendor.says_unauthorized
        assert not fake.calls


async def test_a_user_stands_for_the_account_where_somebody_wants_that(
    serve: Serve, secret: Path, sender: Sender
) -> None:
    fake, sink = await _at(SEGMENT, serve, secret, "user: account, track: none, prefix: seg_, traits: [since]")
    await sender.send(sink, Account("hubspot:7").moved("hot"))
    (call,) = fake.calls.values()
    assert (call["userId"], call["traits"]) == ("hubspot:7", {"seg_engagement_since": AT})
    assert SECRET not in json.dumps(call)
