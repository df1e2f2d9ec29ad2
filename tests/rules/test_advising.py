"""What would move an account up: each piece of advice is followed, and does what it says."""

from __future__ import annotations

import random

import pytest

from rules.advising import Advice, advise
from rules.records import Activity
from tests.rules.story import ACME, DAY, HOUR, MON, TUE, WED, Account, given, given_shipped

LADDER = """
dimension: heat
on_unknown: skip
segments:
  - {segment: hot, when: {count: pricing, at_least: 3, within: 7d}}
  - {segment: warm, when: {people: visit, at_least: 2, within: 7d}}
  - {segment: cold, otherwise: true}
"""


def advice(account: Account, dimension: str = "heat") -> Advice | None:
    found = advise(ACME, account.state, account.replay.rules.ruleset, account.now)
    return next((each for each in found if each.dimension == dimension), None)


def test_one_more_pricing_view_before_the_first_is_a_week_old() -> None:
    account = given(LADDER).sees("page", [MON, TUE], props={"path": "/pricing"}).until(WED)
    found = advice(account)
    assert found == Advice("heat", "cold", "hot", "pricing", "pricing views", 1, MON + 7 * DAY)
    assert found.says == "one more pricing views"


def test_people_are_counted_as_new_ones() -> None:
    found = advice(given(LADDER).sees("visit", MON, person="ann"))
    assert found is not None
    assert (found.name, found.times, found.segment) == ("visit", 1, "warm")
    assert found.before == MON + 7 * DAY


def test_what_never_goes_has_no_deadline() -> None:
    found = advice(given(LADDER).learns(MON, name="Acme"))
    assert found is not None
    assert (found.name, found.times, found.before) == ("visit", 2, None)


def test_who_is_on_top_is_given_none() -> None:
    assert advice(given(LADDER).sees("page", [MON, MON + 1, MON + 2], props={"path": "/pricing"})) is None


def test_nothing_is_advised_where_somebody_has_said_where_it_stands() -> None:
    account = given(LADDER).learns(MON, name="Acme").is_said_to_be("heat/warm", MON + DAY)
    assert advice(account) is None


def test_nothing_is_advised_for_who_is_gone() -> None:
    assert advice(given(LADDER).learns(MON, name="Acme").is_deleted()) is None


def test_a_wait_is_no_move() -> None:
    waits = LADDER.replace("within: 7d}}\n  - {segment: warm", "within: 7d}, for: 1d}\n  - {segment: warm", 1)
    account = given(waits).sees("page", [MON, MON + 1], props={"path": "/pricing"})
    found = advice(account)
    assert found is not None
    assert found.segment == "warm"


def test_what_we_do_ourselves_is_no_advice() -> None:
    account = given_shipped().learns(MON, name="Acme")
    found = advise(ACME, account.state, account.replay.rules.ruleset, account.now)
    assert found
    assert not {each.name for each in found} & {"email_sent", "call_logged", "task_completed"}


@pytest.mark.parametrize("seed", range(6))
def test_advice_that_is_followed_does_what_it_says(seed: int) -> None:
    """Until an instant before the deadline; after it, the same is not enough."""
    draw = random.Random(seed)
    account = given_shipped().learns(MON, name="Acme", employees=draw.choice([20, 500, 9000]))
    for _ in range(draw.randrange(8)):
        at = account.now + draw.randrange(2 * DAY)
        name = draw.choice(["page_viewed", "demo_requested", "email_clicked", "webinar_attended"])
        account.sees(name, at, props={"path": draw.choice(["/pricing", "/docs", "/compare"])})
    account.until(account.now + HOUR)
    found = advise(ACME, account.state, account.replay.rules.ruleset, account.now)
    assert found
    for each in found:
        last = account.now + 90 * DAY if each.before is None else each.before - 1
        for at in (account.now, last):
            assert rung(followed(account, each, at), each.dimension) <= of(account, each.segment, each.dimension)
        if each.before is not None:
            late = followed(account, each, each.before)
            assert rung(late, each.dimension) > of(account, each.segment, each.dimension)


def followed(account: Account, advised: Advice, at: int) -> Account:
    """Another account with the same past, at which that happened."""
    from rules.advising import candidates

    ruleset = account.replay.rules.ruleset
    (tried,) = (each for each in candidates(ruleset) if each.name == advised.name)
    other = Account(ruleset)
    other.replay.states = dict(account.replay.states)
    other.replay._wakes = list(account.replay._wakes)
    other.replay.partition = account.replay.partition
    for n in range(advised.times):
        other.feed(
            Activity(
                account=ACME, name=tried.activity, at=at, received=at, props=dict(tried.props), person=f"new {n}"
            )
        )
    return other


def rung(account: Account, dimension: str) -> int:
    return of(account, account.segment(dimension), dimension)


def of(account: Account, segment: str, dimension: str) -> int:
    asked = account.replay.rules.ruleset.dimension(dimension)
    assert asked is not None
    names = [each.name for each in asked.segments]
    return names.index(segment) if segment in names else len(names)
