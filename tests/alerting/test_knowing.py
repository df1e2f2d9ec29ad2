"""What is known of an account, from a state that the shipped rules folded."""

from __future__ import annotations

from pathlib import Path

import rules as shipped
from rules.compiler import load
from rules.durations import DAY
from rules.records import Activity, Contact, Facts, Record
from rules.replay import Replay
from streams.alerting.knowing import about
from streams.alerting.stepping import About

RULES = load(Path(shipped.__file__).parent / "segments")
NOW = 1_772_445_600_000


def visits(*days_ago: float, person: str | None = None) -> list[Record]:
    ats = sorted(NOW - round(each * DAY) for each in days_ago)
    return [
        Activity(account="acme", name="page_viewed", at=at, received=at, person=person, props={"path": "/pricing"})
        for at in ats
    ]


def known(*records: Record) -> About:
    replay = Replay(RULES)
    list(replay.run(sorted(records, key=lambda each: each.received), NOW))
    return about(replay.states["acme"], RULES, ("owner", "sales_region"), NOW)


def facts(**given: str) -> Facts:
    return Facts(account="acme", at=NOW - 60 * DAY, received=NOW - 60 * DAY, source="salesforce", set=dict(given))


def contact(person: str, title: str) -> Contact:
    at = NOW - 59 * DAY
    return Contact(account="acme", person=person, at=at, received=at, source="salesforce", set={"title": title})


def test_this_week_is_compared_with_the_week_before() -> None:
    assert known(facts(), *visits(1, 2, 6.9, 7, 8, 13.9, 14, 20)).week == (3, 3)


def test_where_activities_are_missing_nothing_is_compared() -> None:
    """More happened in a fortnight than the rules keep of it."""
    assert known(facts(), *visits(*(n / 24 for n in range(1, 100)))).week is None


def test_people_are_roles_and_counts_and_who_is_no_contact_is_not_in_the_crm() -> None:
    told = known(
        facts(),
        contact("p-ann", "Chief Executive Officer"),
        contact("p-bob", "Software Engineer"),
        contact("cem", "Software Engineer"),
        contact("dora", "Chief Financial Officer"),
        *visits(1, person="p-ann"),
        *visits(2, person="p-bob"),
        *visits(3, person="cem"),
        *visits(9, person="dora"),
        *visits(1.5, person="a stranger"),
    )
    assert told.roles == (("technical", 2), ("executive", 1), ("", 1))
    assert not any(name in repr(told) for name in ("p-ann", "p-bob", "a stranger"))


def test_the_region_is_what_rules_make_of_the_country_and_what_to_do_is_the_segments() -> None:
    told = known(facts(owner="0055f01", country="Germany"), *visits(0.1, 0.2, 0.3))
    assert told.facts == {"owner": "0055f01", "sales_region": "dach"}
    assert told.memberships["engagement"] == {"hot"}
    assert told.do["engagement", "hot"][0] == "reach out today"
