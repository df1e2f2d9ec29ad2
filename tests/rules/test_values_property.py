"""Values one by one: comparisons, dates, facts that several sources report, spellings. Each against the oracle.

Whole rulesets meet an edge now and then (`test_property`); here nearly every example does.
"""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from generate import (
    ABOUT,
    CONTACTS,
    COUNTRIES,
    FACTS,
    HOUR,
    LISTS,
    NAMES,
    NUMBERS,
    PROPS,
    SOURCES,
    VOCABULARIES,
    WHERES,
    ZONES,
    Pick,
    any_date,
    of_dates,
)
from hypothesis import given, settings
from naive import Naive, Seen, compare, compare_date, day_or_instant, length
from story import DAY
from test_measures_property import MANY, drawn

from rules import calendars
from rules.comparing import asking, comparing
from rules.compiler import compile_files
from rules.records import Facts
from rules.replay import Replay

VALUES = [
    None,
    *(value for values in [*FACTS.values(), *PROPS.values()] if isinstance(values, list) for value in values),
]
ASKED = [
    *(each for listed in (NUMBERS, COUNTRIES, ABOUT, LISTS) for each in listed),
    *(each for where in WHERES for each in where.values() if isinstance(each, dict)),
]


@pytest.mark.parametrize("or_missing", [False, True])
def test_a_comparison_says_what_its_operator_means(or_missing: bool) -> None:
    for value, asked in product(VALUES, ASKED):
        plain = {op: operand for op, operand in asked.items() if op != "fold"}
        verdict = comparing(plain, or_missing, fold="fold" in asked)(value)
        assert verdict is compare(value, asked | ({"or_missing": True} if or_missing else {})), (value, asked)


def dates(pick: Pick) -> tuple[dict[str, Any], str, Any, int]:
    asked, zone, value = of_dates(pick), pick.of(ZONES), any_date(pick)
    start = _begins(value, zone) or pick.start
    edges = [0, *(sign * n for n in (HOUR, 2 * HOUR, 5 * HOUR, DAY, 3 * DAY) for sign in (1, -1))]
    return asked, zone, value, start + pick.of(edges) + pick.of([-2, -1, 0, 1])


def _begins(value: Any, zone: str) -> int | None:
    if isinstance(value, int):
        return value
    return None if value in (None, "soon") else day_or_instant(value, zone)[0]


AGES = ("older_than", "newer_than", "within_last", "within_next")


@settings(MANY)
@given(drawn(dates))
def test_a_date_turns_on_the_millisecond(case: tuple[dict[str, Any], str, Any, int]) -> None:
    asked, zone, value, now = case
    at = _begins(value, zone)
    if isinstance(value, str) and at is not None:
        assert calendars.interval(value, zone) == day_or_instant(value, zone)
    lengths = {op: length(operand) for op, operand in asked.items() if op in AGES}
    decide = asking(asked | lengths, zone=zone).decide
    for instant in range(now, now + 4):
        verdict, until = decide(at, instant)
        assert verdict is compare_date(at, asked, instant, zone)
        assert until > instant
        assert {compare_date(at, asked, each, zone) for each in (until - 1, (instant + until) // 2)} == {verdict}


def reports(pick: Pick) -> list[Facts]:
    """Of all facts; their times lie as far apart as a refresh interval, or nearly."""
    said, now = [], pick.start
    for offset in range(pick.of(range(1, 7))):
        now += pick.of([0, HOUR])
        at = now - pick.of([0, 0, HOUR, 2 * HOUR, 5 * HOUR, 5 * HOUR + 1, 6 * HOUR])
        values = {
            name: pick.of(FACTS[name]) for name in ("employees", "customer", "about", "industry", "line", "code")
        }
        source = pick.of(SOURCES)
        said.append(Facts(account="a", at=at, received=now, set=values, source=source, offset=offset))
    return said


RULES = {
    "names.yaml": json.dumps(NAMES),
    **{f"{each['vocabulary']}.yaml": json.dumps(each) for each in VOCABULARIES},
    "d.yaml": json.dumps({"dimension": "d", "segments": [{"segment": "s", "otherwise": True}]}),
}
COMPILED, ORACLE = compile_files(RULES), Naive(RULES)


@settings(MANY)
@given(drawn(reports))
def test_a_fact_is_what_its_sources_say_whatever_the_order(said: list[Facts]) -> None:
    replay = Replay(COMPILED)
    for record in said:
        list(replay.feed(record))
    seen = Seen(ORACLE, [(record.received, record) for record in said])
    for name in said[0].set:
        value = COMPILED.views[name].value(replay.states["a"].facts)
        assert value == ORACLE.value(ORACLE.facts, seen.facts, name), name


TEXTS = (
    [text for name in ("industry", "line", "code") for text in FACTS[name]] + CONTACTS["title"] + CONTACTS["role"]
)


def test_every_spelling_means_the_same_term() -> None:
    for name in ORACLE.vocabularies:
        meanings = (
            COMPILED.facts[name].meanings if name in COMPILED.facts else COMPILED.contact_facts[name].meanings
        )
        assert meanings is not None
        for text in TEXTS:
            assert meanings.term(text) == ORACLE.term(name, text), (name, text)


def test_days_begin_where_the_zone_says() -> None:
    """A midnight that a clock change leaves out is the first instant after it."""
    for zone in ZONES:
        for day in ("2018-11-04", "2018-02-18", "2026-03-29", "2025-10-26", "2026-01-01"):
            assert calendars.interval(day, zone) == day_or_instant(day, zone)
