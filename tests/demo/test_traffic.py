"""The demo's traffic is reproducible, in the formats it claims, and arranged so that accounts cool."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from rules.vocabulary import spelling
from streams.adapters import salesforce, segment
from streams.adapters.base import Observation, Rejected
from streams.demo.companies import World, build
from streams.demo.traffic import Message, live, opening
from streams.demo.words import PLACES, SECTORS

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
NOW = round(START.timestamp() * 1000)
WEEK = timedelta(days=7)
VOCABULARIES = Path(__file__).parents[2] / "rules/segments/vocabularies"
DECODE = {"crm.updates": salesforce.decode, "web.activity": segment.decode}


class Clock:
    """Moves on by `step` ms whenever somebody looks."""

    def __init__(self, step: int = 20) -> None:
        self.now, self.step = NOW, step

    def __call__(self) -> int:
        self.now += self.step
        return self.now


@pytest.fixture(scope="module")
def world() -> World:
    return build(7)


@pytest.fixture(scope="module")
def past(world: World) -> list[Message]:
    return list(opening(world, NOW))


@pytest.fixture(scope="module")
def present(world: World) -> list[Message]:
    return list(islice(live(world, Clock(), random.Random(1)), 8_000))


def parsed(messages: list[Message]) -> Iterator[dict[str, Any]]:
    for message in messages:
        try:
            yield json.loads(message.value)
        except ValueError:
            continue


def pricing_views(world: World, messages: list[Message]) -> dict[str, list[datetime]]:
    """Instants by the domain of the company whose people looked, oldest first."""
    employer = {person.user: company.domain for company in world.companies for person in company.contacts}
    seen: dict[str, list[datetime]] = {}
    for body in parsed(messages):
        if body.get("name") == "Pricing":
            seen.setdefault(employer[body["userId"]], []).append(datetime.fromisoformat(body["timestamp"]))
    return {domain: sorted(instants) for domain, instants in seen.items()}


def test_the_same_seed_tells_the_same_story(world: World, past: list[Message], present: list[Message]) -> None:
    assert build(7) == world
    assert list(opening(world, NOW)) == past
    assert list(islice(live(world, Clock(), random.Random(1)), 8_000)) == present
    assert build(8) != world
    assert list(islice(live(world, Clock(), random.Random(2)), 50)) != present[:50]


def test_five_hundred_companies_that_nobody_owns(world: World) -> None:
    assert len({company.domain for company in world.companies}) == 500
    ids = [company.id for company in world.companies]
    ids += [contact.id for company in world.companies for contact in company.contacts]
    assert len(set(ids)) == len(ids)
    for found in ids:
        assert salesforce.record_id(found[:15]) == f"salesforce:{found}"
    assert {2, 6} <= {len(company.contacts) for company in world.companies} <= set(range(2, 7))
    assert all(contact.email.endswith(c.domain) for c in world.companies for contact in c.contacts)


def test_every_domain_is_reserved(past: list[Message], present: list[Message]) -> None:
    for message in past + present:
        hosts = re.findall(rb'(?:://|@)([\w.-]+)|"Website":"([^"]+)"', message.value)
        whole = message.value.endswith(b"}")
        assert all(host.endswith(b".example") for pair in hosts for host in pair if host) or not whole


def test_data_quality_is_that_of_an_ordinary_crm(world: World) -> None:
    industries = Counter(company.industry for company in world.companies)
    assert industries[None] > 20
    assert industries["Other"] > 10
    assert len(industries) > 60
    assert sum(company.employees is None for company in world.companies) > 25
    assert len({company.country for company in world.companies}) > 30
    unreachable = [c for c in world.companies if all(contact.status != "active" for contact in c.contacts)]
    assert 5 <= len(unreachable) <= 25


def test_the_vocabularies_know_every_spelling_but_other() -> None:
    for sector in SECTORS:
        assert {spelling(word) for word in sector.spellings} <= spellings("industry")
    for place in PLACES:
        assert {spelling(word) for word in place.spellings} <= spellings("country")
    assert spelling("Other") not in spellings("industry") | spellings("ownership")


def spellings(vocabulary: str) -> set[str]:
    """What the shipped vocabulary understands, with what it reads by another one."""
    document = yaml.safe_load((VOCABULARIES / f"{vocabulary}.yaml").read_text("utf-8"))
    own = {spelling(word) for term, words in document["terms"].items() for word in (term, *words)}
    return own | (spellings(document["of"]) if "of" in document else set())


def test_every_message_of_the_past_is_understood(past: list[Message]) -> None:
    found = [item for message in past for item in DECODE[message.topic](message.value, NOW)]
    assert not [item for item in found if isinstance(item, Rejected)]
    ids = [item.id for item in found if isinstance(item, Observation)]
    assert len(set(ids)) == len(ids)
    kinds = Counter(item.kind for item in found if isinstance(item, Observation))
    assert kinds["facts"] == 1000  # the CRM's and the web site's word on every company
    assert all(item.at <= NOW for item in found if isinstance(item, Observation))


def test_only_a_broken_message_of_the_present_is_not_understood(present: list[Message]) -> None:
    rejected = Counter(
        item.reason
        for message in present
        for item in DECODE[message.topic](message.value, NOW)
        if isinstance(item, Rejected)
    )
    broken = len(present) - len(list(parsed(present)))
    assert 2 <= broken < len(present) // 100  # a pause is due at one in a hundred
    assert sum(rejected.values()) == broken
    assert len(rejected) == 1


def test_message_ids_and_transactions_are_unique(past: list[Message], present: list[Message]) -> None:
    ids = []
    for body in parsed(past + present):
        change = body.get("data", {}).get("payload", body)
        ids.append(body.get("messageId") or change["ChangeEventHeader"]["transactionKey"])
    assert len(set(ids)) == len(ids)


def test_somebody_cools_every_three_seconds(world: World, past: list[Message]) -> None:
    # start +8 s  +10.5 s  +13 s            +120 s
    #  |      |      |       |     ...         |      the oldest of three views is a week old
    cooling = {company.domain for company in world.at_pace("cooling")}
    views = {domain: at for domain, at in pricing_views(world, past).items() if domain in cooling}
    assert {len(at) for at in views.values()} == {3}
    cools = sorted(at[0] + WEEK for at in views.values())
    assert len(cools) == 45
    assert (cools[0], cools[-1]) == (START + timedelta(seconds=8), START + timedelta(seconds=120))
    assert max(later - sooner for sooner, later in pairwise(cools)) <= timedelta(seconds=3)
    assert all(contact.status == "active" for c in world.at_pace("cooling") for contact in c.contacts[:1])


def test_nobody_disturbs_the_cooling(world: World, present: list[Message]) -> None:
    users = {contact.user for company in world.at_pace("cooling") for contact in company.contacts}
    visits = [body["timestamp"] for body in parsed(present) if body.get("userId") in users]
    assert visits
    assert datetime.fromisoformat(min(visits)) > START + timedelta(seconds=145)


def test_a_burst_is_three_pricing_views_within_seconds(world: World, present: list[Message]) -> None:
    recent = [[at for at in views if at >= START] for views in pricing_views(world, present).values()]
    bursts = [
        first
        for views in recent
        for first, third in zip(views, views[2:], strict=False)
        if third - first < timedelta(seconds=2)
    ]
    assert len(bursts) > 20  # in eight minutes


def test_a_late_batch_is_three_views_about_to_be_a_week_old(world: World, present: list[Message]) -> None:
    cold = {company.domain for company in world.at_pace("cold")}
    late = {
        domain: [at for at in views if at < START - timedelta(days=6)]
        for domain, views in pricing_views(world, present).items()
    }
    late = {domain: views for domain, views in late.items() if views}
    assert len(late) > 20
    assert late.keys() <= cold
    assert all(len(views) % 3 == 0 for views in late.values())
    assert min(views[0] for views in late.values()) + WEEK > START + timedelta(seconds=20)


def test_an_account_that_leaves_a_field_empty_says_so(present: list[Message]) -> None:
    cleared = [
        body["data"]["payload"]
        for body in parsed(present)
        if "data" in body and body["data"]["payload"]["ChangeEventHeader"]["nulledFields"]
    ]
    assert cleared
    for payload in cleared:
        assert payload["ChangeEventHeader"]["nulledFields"] == ["Industry"]
        assert payload["Industry"] is None
