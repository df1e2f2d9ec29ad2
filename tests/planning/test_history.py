"""Where accounts stood at an instant of the past, as the log tells it."""

from __future__ import annotations

import asyncio
import os
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rules.records import Activity, Delete, Facts, Merge, Override, Record, RulesetRecord, Tick
from rules.ruleset import Ruleset
from rules.state import AccountState
from streams.history import Past
from streams.refolding import Log, LogProblem
from tests.planning.world import ListLog

from generate import ACCOUNTS, fresh, worlds  # isort: skip
from naive import Life, Naive, TooClose  # isort: skip

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
EXAMPLES = 3_000 if os.environ.get("ISOTHERM_TESTS") == "nightly" else 150
HOUR, DAY = 3_600_000, 86_400_000
MON = 1_772_409_600_000
FILES = {
    "rules.yaml": """
facts: {employees: {type: number}}
activities: {visited: {}}
---
dimension: engagement
segments:
  - {segment: hot, when: {count: visited, at_least: 2, within: 7d}}
  - {segment: cold, otherwise: true}
"""
}
Answers = dict[str, dict[str, tuple[str, ...]]]


def past(log: ListLog, at: int) -> Past:
    return Past(log.settings, None, cast(Log, log), [len(log.messages)], at)


def everybody(log: ListLog, at: int) -> Answers:
    async def look() -> tuple[Ruleset, list[tuple[str, AccountState]]]:
        ruleset, states = await past(log, at).partition(0)
        return ruleset, list(states)

    _, states = asyncio.run(look())
    return {account: answers(state) for account, state in states if answers(state)}


def one(log: ListLog, account: str, at: int) -> dict[str, tuple[str, ...]]:
    found = asyncio.run(past(log, at).account(account))
    return {} if found is None else answers(found[0])


def answers(state: AccountState) -> dict[str, tuple[str, ...]]:
    return {name: standing.answer for name, standing in state.standings.items() if standing.answer}


def rules(at: int, files: dict[str, str] | None = None) -> RulesetRecord:
    return RulesetRecord(received=at, hash="", files=FILES if files is None else files)


def visit(account: str, at: int) -> Activity:
    return Activity(account=account, name="visited", at=at, received=at)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 1_000, suppress_health_check=SLOW)
@given(worlds(), st.integers(0, 25), st.sampled_from([-1, 0, 1, HOUR, 3 * HOUR, 8 * DAY]))
def test_who_was_where_is_what_the_oracle_says(
    world: tuple[list[dict[str, str]], list[Record]], place: int, beside: int
) -> None:
    """Recomputed from the whole history up to the instant; all accounts at once, and each by itself."""
    (files,), log = world
    records = [rules(log[0].received, files), *fresh(log)]
    at = records[min(place, len(records) - 1)].received + beside
    lives, log_time = {account: Life(Naive(files)) for account in ACCOUNTS}, 0
    try:
        for record in records[1:]:
            if record.received > at:
                break
            log_time = max(log_time, record.received)
            if not isinstance(record, Tick):
                lives[record.account].meets(record, log_time)  # type: ignore[union-attr]  # all others name one
        for life in lives.values():
            life.pass_time(at)
    except TooClose:
        return
    expected = {account: life.answers for account, life in lives.items() if life.answers}
    if records[0].received > at:
        expected = {}
    found = ListLog(records)
    assert everybody(found, at) == expected
    assert {account: one(found, account, at) for account in ACCOUNTS if one(found, account, at)} == expected


def test_an_account_leaves_a_window_in_the_past_though_no_record_says_so() -> None:
    log = ListLog([rules(MON), visit("a", MON), visit("a", MON + DAY), Tick(received=MON + 30 * DAY)])
    assert one(log, "a", MON) == {"engagement": ("cold",)}
    assert one(log, "a", MON + DAY) == {"engagement": ("hot",)}
    assert one(log, "a", MON + 7 * DAY - 1) == {"engagement": ("hot",)}
    assert one(log, "a", MON + 7 * DAY) == {"engagement": ("cold",)}


def test_before_it_was_known_an_account_is_not_there_and_when_it_is_deleted_it_is_nowhere() -> None:
    gone = Delete(account="a", at=MON + DAY, received=MON + DAY)
    log = ListLog([rules(MON - DAY), visit("a", MON), gone])
    assert asyncio.run(past(log, MON - 1).account("a")) is None
    assert one(log, "a", MON) == {"engagement": ("cold",)}
    assert one(log, "a", MON + DAY) == {}
    assert everybody(log, MON + DAY) == {}


def test_rules_count_from_their_record_on_though_no_sweep_had_come_yet() -> None:
    stricter = {"rules.yaml": FILES["rules.yaml"].replace("at_least: 2", "at_least: 3")}
    log = ListLog([rules(MON), visit("a", MON), visit("a", MON), rules(MON + DAY, stricter)])
    assert one(log, "a", MON + DAY - 1) == {"engagement": ("hot",)}
    assert one(log, "a", MON + DAY) == {"engagement": ("cold",)}


def test_a_merge_and_an_override_are_there_from_their_instants_on() -> None:
    merge = Merge(account="group:g", into="a", at=MON + DAY, received=MON + DAY)
    forced = Override(
        account="a", dimension="engagement", segment="hot", until=MON + 3 * DAY, at=MON, received=MON + 2 * DAY
    )
    log = ListLog([rules(MON), visit("a", MON), visit("group:g", MON), merge, forced])
    assert everybody(log, MON + DAY - 1).keys() == {"a", "group:g"}
    assert everybody(log, MON + DAY).keys() == {"a"}
    assert one(log, "a", MON + 2 * DAY) == {"engagement": ("hot",)}
    assert one(log, "a", MON + 3 * DAY) == {"engagement": ("cold",)}


def test_a_shortened_log_answers_from_its_snapshot_on_and_says_so() -> None:
    records = [rules(MON), visit("a", MON), visit("a", MON + DAY), visit("b", MON + 2 * DAY)]
    snapshot = ListLog(records).until(3)
    log = ListLog(records, gone=3, snapshot=snapshot)
    assert one(log, "a", MON + DAY) == {"engagement": ("hot",)}
    assert everybody(log, MON + 2 * DAY).keys() == {"a", "b"}
    with pytest.raises(LogProblem, match=r"from 2026-03-03T00:00:00\.000Z on, and not for 2026-03-02T23"):
        one(log, "a", MON + DAY - 1)
    with pytest.raises(LogProblem, match="begins at offset 3 and no snapshot reaches there"):
        one(ListLog(records, gone=3), "a", MON + DAY)


def test_a_snapshot_that_is_younger_than_the_instant_is_passed_over() -> None:
    records = [rules(MON), visit("a", MON), visit("a", MON + DAY)]
    log = ListLog(records, snapshot=ListLog(records).until(3))
    assert one(log, "a", MON) == {"engagement": ("cold",)}
    assert one(log, "a", MON + 7 * DAY) == {"engagement": ("cold",)}


def test_what_is_no_record_is_passed_over() -> None:
    log = ListLog([rules(MON), visit("a", MON)])
    log.messages[1:1] = [type(log.messages[0])(1, b"{")]
    log.messages[2] = type(log.messages[0])(2, log.messages[2].value)
    assert one(log, "a", MON) == {"engagement": ("cold",)}


def test_facts_are_those_of_the_time() -> None:
    told = [
        Facts(account="a", at=MON + n * DAY, received=MON + n * DAY, source="crm", set={"employees": n})
        for n in range(3)
    ]
    log = ListLog([rules(MON), *told])
    found = asyncio.run(past(log, MON + DAY).account("a"))
    assert found is not None
    assert found[0].facts["employees"].value == 1
