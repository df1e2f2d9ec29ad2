"""What is counted on the way: outcomes by the segment held just before, moves, and how good the data is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from rules.compiler import compile_files
from rules.durations import DAY, HOUR
from rules.quality import Quality
from rules.records import Activity, Facts, Record, RulesetRecord, Tick, encode_record
from rules.replay import Replay
from rules.tally import DAYS_KEPT, ENTERED, FROM, LEFT, REVENUE, Tally, day_of, forgotten
from streams.pipeline import Owned, fold_batch
from streams.report import report
from streams.settings import Settings
from streams.show import report_tables
from streams.store.redis import RedisStore

TODAY = 20_500
START = TODAY * DAY
RULES = {
    "rules.yaml": """
facts:
  name: {type: text}
  employees: {type: number, refresh: 30d, sources: [crm, web]}
  industry: {type: text, vocabulary: industry}
activities:
  visited: {}
  replied: {outcome: replied}
  deal: {}
  deal_won: {of: deal, where: {stage: won}, outcome: won, revenue: amount}
---
vocabulary: industry
fuzzy: 0.8
terms: {software: [Computer Software]}
---
dimension: heat
on_unknown: skip
segments:
  - {segment: hot, when: {seen: visited, within: 1d}}
  - {segment: cold, otherwise: true}
---
dimension: size
segments: [{segment: large, when: {fact: employees, at_least: 100}}, {segment: small, otherwise: true}]
---
dimension: signs
kind: set
segments: [{segment: replied, when: {seen: replied, within: 2d}}]
"""
}


def activity(name: str, at: int, arriving: int = 0, **more: Any) -> Activity:
    return Activity(account="acme", name=name, at=at, received=arriving or at, **more)


def tallied(*records: Record, until: int = 0) -> dict[Tally, int]:
    replay = Replay(compile_files(RULES))
    list(replay.run(records, until))
    return dict(replay.tallies)


def of_outcomes(counts: dict[Tally, int]) -> dict[Tally, int]:
    return {each: n for each, n in counts.items() if each.what not in (ENTERED, LEFT, FROM + "cold", FROM + "hot")}


def test_an_outcome_counts_for_the_segments_held_just_before() -> None:
    """The reply that makes it a replier finds it hot and large, and not yet among those who replied."""
    facts = Facts(account="acme", at=START, received=START, set={"employees": 200})
    counts = tallied(
        facts,
        activity("visited", START + HOUR),
        activity("replied", START + 2 * HOUR),
        activity("replied", START + DAY + HOUR),
    )
    assert of_outcomes(counts) == {
        Tally(TODAY, "heat", "hot", "replied"): 1,
        Tally(TODAY, "size", "large", "replied"): 1,
        Tally(TODAY + 1, "heat", "cold", "replied"): 1,  # it cooled down at that very instant
        Tally(TODAY + 1, "size", "large", "replied"): 1,
        Tally(TODAY + 1, "signs", "replied", "replied"): 1,
    }


def test_revenue_is_added_in_cents_and_nonsense_is_not() -> None:
    def won(amount: Any) -> Activity:
        return activity("deal", START + HOUR, props={"stage": "won", "amount": amount})

    lost = activity("deal", START + HOUR, props={"stage": "lost", "amount": 9})
    counts = of_outcomes(
        tallied(activity("visited", START), won(10.55), won("1,000"), won("lots"), won(1e300), lost)
    )
    assert counts[Tally(TODAY, "heat", "hot", "won")] == 4
    assert counts[Tally(TODAY, "heat", "hot", REVENUE)] == 101_055


def test_moves_count_when_they_take_effect_and_a_first_look_is_no_move() -> None:
    counts = tallied(activity("replied", START), activity("visited", START + HOUR), until=START + 3 * DAY)
    assert counts == {
        Tally(TODAY, "heat", "cold", LEFT): 1,
        Tally(TODAY, "heat", "hot", ENTERED): 1,
        Tally(TODAY, "heat", "hot", FROM + "cold"): 1,
        Tally(TODAY + 1, "heat", "hot", LEFT): 1,
        Tally(TODAY + 1, "heat", "cold", ENTERED): 1,
        Tally(TODAY + 1, "heat", "cold", FROM + "hot"): 1,
        Tally(TODAY + 2, "signs", "replied", LEFT): 1,
    }


def test_what_counts_no_more() -> None:
    visited = activity("visited", START)
    once = activity("replied", START + HOUR, id="1")
    again = activity("replied", START + HOUR, id="1")
    assert of_outcomes(tallied(visited, once, again)) == of_outcomes(tallied(visited, once))
    imported = activity("replied", START + HOUR, origin="import")
    old = activity("replied", START - DAYS_KEPT * DAY, arriving=START + HOUR)
    assert of_outcomes(tallied(visited, imported, old)) == {}


def test_days_are_forgotten_one_by_one() -> None:
    last = TODAY - DAYS_KEPT
    assert list(forgotten(START, START + DAY - 1)) == []
    assert list(forgotten(START, START + 2 * DAY)) == [last + 1, last + 2]
    assert len(forgotten(START, START + 1000 * DAY)) == DAYS_KEPT
    assert list(forgotten(0, START)) == []


# -- quality ------------------------------------------------------------------------------------------------


def test_the_quality_of_facts() -> None:
    replay = Replay(compile_files(RULES))

    def say(account: str, at: int, source: str = "crm", **facts: Any) -> None:
        list(
            replay.feed(
                Facts(account=account, at=at, received=max(at, START + 60 * DAY), source=source, set=facts)
            )
        )

    now = START + 60 * DAY
    say("fresh", now, employees=5, industry="Computer Software")
    say("stale", START, employees=5, industry="Computer Sofware")
    say("split", now, employees=5, industry="Zeppelins")
    say("split", now, "web", employees=9)
    quality = Quality()
    for state in replay.states.values():
        quality.survey(state, replay.rules.ruleset, now)
    told = quality.plain()
    assert told["accounts"] == 3
    employees, industry = told["facts"]["employees"], told["facts"]["industry"]
    assert (employees["known"], employees["stale"], employees["conflicting"]) == (3, 1, 1)
    assert (industry["known"], industry["unclassified"], industry["matched_by_likeness"]) == (2, 1, 1)
    assert 0.8 <= industry["mean_confidence"] < 1
    assert told["facts"]["name"] == {
        "known": 0, "unclassified": 0, "missing": 3, "stale": 0, "conflicting": 0, "matched_by_likeness": 0,
        "share_known": 0.0, "share_stale": None, "mean_confidence": None,
    }  # fmt: skip


# -- end to end ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    offset: int
    value: bytes


@pytest.fixture
async def settings(redis: Any, redis_url: str) -> Settings:
    """A Redis in which one partition has been folded, today by its own clock."""
    seconds, _ = await redis.time()
    now = int(seconds) * 1000
    records: list[Record] = [
        RulesetRecord(received=now - 2 * DAY, hash="", files=RULES),
        Facts(account="acme", at=now - 2 * DAY, received=now - 2 * DAY, set={"employees": 7}, source="crm"),
        activity("visited", now - 2 * DAY),
        Tick(received=now - DAY),
        activity("deal", now, props={"stage": "won", "amount": 12.5}),
        activity("deal", now, props={"stage": "won", "amount": 30}),
    ]
    store = RedisStore(redis, 1)
    owned = Owned.from_store(await store.acquire(0), 1)
    for offset, record in enumerate(records):  # one commit each: tallies add up over commits
        await fold_batch([Message(offset, encode_record(record))], owned, store)
        owned = Owned.from_store(await store.acquire(0), 1)
    return Settings(redis=redis_url, partitions=1)


async def test_the_report_adds_it_all_up(settings: Settings) -> None:
    told = await report(settings, days=30)
    heat = told["dimensions"]["heat"]
    assert (heat["size"], heat["entered"], heat["left"], heat["volatility"]) == (1, 2, 2, 4.0)
    assert heat["segments"]["cold"] == {"size": 1, "entered": 1, "left": 1, "won": 2, "revenue": 42.5}
    assert told["dimensions"]["size"]["segments"]["small"]["won"] == 2
    assert told["quality"]["facts"]["employees"]["share_known"] == 1.0
    assert [each["segment"] for each in told["by_day"] if "won" in each] == ["cold", "small"]
    assert json.loads(json.dumps(told)) == told
    assert next(table.title for table in report_tables(told)) == "What is known of 1 account"


async def test_a_shorter_report_looks_less_far_back(settings: Settings) -> None:
    assert (await report(settings, days=1))["dimensions"]["heat"]["segments"]["cold"].get("left") is None


async def test_old_tallies_leave_redis(settings: Settings, redis: Any) -> None:
    store = RedisStore(redis, 1)
    seconds, _ = await redis.time()
    today = day_of(int(seconds) * 1000)
    assert await store.tallies(0, today)
    owned = Owned.from_store(await store.acquire(0), 1)
    later = Tick(received=(today + DAYS_KEPT) * DAY)
    await fold_batch([Message(owned.partition.offset, encode_record(later))], owned, store)
    assert await store.tallies(0, today) == {}
