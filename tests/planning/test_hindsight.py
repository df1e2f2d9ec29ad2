"""The same past under two rulesets: what each would have told, and whose alerts were right."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rules.hindsight import Hindsight, Question, Telling
from rules.records import Activity, Merge, Record, RulesetRecord, Tick
from rules.replay import Replay
from streams.hindsight import _Comparing
from streams.refolding import Log, LogProblem
from tests.planning.world import ListLog, compile_files

from generate import fresh, worlds  # isort: skip

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
EXAMPLES = 2_000 if os.environ.get("ISOTHERM_TESTS") == "nightly" else 100
DAY = 86_400_000
MON = 1_772_409_600_000
HOT = frozenset({("engagement", "hot")})


def rules(visits: int) -> dict[str, str]:
    return {
        "rules.yaml": f"""
activities: {{visited: {{}}, meeting_booked: {{outcome: meeting}}}}
---
dimension: engagement
segments:
  - {{segment: hot, when: {{count: visited, at_least: {visits}, within: 7d}}}}
  - {{segment: cold, otherwise: true}}
"""
    }


def visits(account: str, *at: int, **more: Any) -> list[Record]:
    return [Activity(account=account, name="visited", at=each, received=each, **more) for each in at]


def meets(account: str, at: int) -> Record:
    return Activity(account=account, name="meeting_booked", at=at, received=at)


def compared(
    log: list[Record], old: dict[str, str], new: dict[str, str], since: int, within: int = 30 * DAY, **more: Any
) -> Hindsight:
    until = max(record.received for record in log)
    asked = Question(HOT, since, until, within)
    work = _Comparing(compile_files(old), compile_files(new), asked, None, lambda done, of: None)
    read = ListLog(sorted(log, key=lambda record: record.received), **more)
    asyncio.run(work.partition(cast(Log, read), 0, len(read.messages)))
    work.truth.settle()
    return Hindsight(compile_files(old), compile_files(new), asked, *work.tellings, work.truth)


def test_a_stricter_rule_alerts_less_and_is_right_more_often() -> None:
    """Of two that look twice one buys; who looks three times buys. The last one has looked only now."""
    log = [
        *visits("twice", MON, MON + DAY),
        *visits("buyer", MON, MON + DAY),
        meets("buyer", MON + 10 * DAY),
        *visits("keen", MON, MON + DAY, MON + 2 * DAY),
        meets("keen", MON + 12 * DAY),
        *visits("late", MON + 50 * DAY, MON + 51 * DAY, MON + 52 * DAY),
    ]
    told = compared(log, rules(2), rules(3), since=MON).plain()
    assert told["differs"]
    assert told["alerts"]["from"] == {
        "alerts": 4,
        "accounts": 4,
        "followed_by_outcome": 2,
        "too_early_to_tell": 1,
        "judged": 3,
        "precision": 0.6667,
        "outcomes": 2,
        "outcomes_announced": 2,
        "coverage": 1.0,
    }
    assert told["alerts"]["to"] | {"alerts": 2, "accounts": 2} == {
        "alerts": 2,
        "accounts": 2,
        "followed_by_outcome": 1,
        "too_early_to_tell": 1,
        "judged": 1,
        "precision": 1.0,
        "outcomes": 2,
        "outcomes_announced": 1,
        "coverage": 0.5,
    }
    assert told["alerts"]["accounts"]["only_from"] == {"count": 2, "examples": ["buyer", "twice"]}
    assert told["alerts"]["accounts"]["both"] == 2
    # Each enters and, where the window ends before the log does, leaves.
    assert told["changes"]["engagement"] == {"from": 4 + 4 + 3, "to": 4 + 2 + 1}


def test_alerts_whose_time_is_not_over_are_not_judged_by_those_that_went_well() -> None:
    """Of a hundred alerts of the last month two had a meeting so far: that is no precision of 100 %."""
    log = [record for n in range(100) for record in visits(f"a{n}", MON, MON + DAY)]
    log += [meets("a1", MON + 5 * DAY), meets("a2", MON + 6 * DAY), Tick(received=MON + 20 * DAY)]
    told = compared(log, rules(2), rules(2), since=MON).plain()["alerts"]["from"]
    assert (told["followed_by_outcome"], told["too_early_to_tell"], told["judged"]) == (2, 98, 0)
    assert told["precision"] is None
    told = compared(log, rules(2), rules(2), since=MON, within=10 * DAY).plain()["alerts"]["from"]
    assert (told["too_early_to_tell"], told["judged"], told["precision"]) == (0, 100, 0.02)


def test_the_same_rules_tell_the_same() -> None:
    log = [*visits("a", MON, MON + DAY), meets("a", MON + 2 * DAY)]
    told = compared(log, rules(2), rules(2), since=MON)
    assert not told.differs
    assert told.plain()["alerts"]["from"] == told.plain()["alerts"]["to"]


def test_what_was_before_is_counted_and_not_told() -> None:
    """The first visit lies before the time asked about; with the second the account is hot within it."""
    told = compared(visits("a", MON, MON + 3 * DAY), rules(2), rules(1), since=MON + DAY).plain()
    assert told["alerts"]["from"]["alerts"] == 1
    assert told["alerts"]["to"]["alerts"] == 0


def test_what_is_imported_alerts_nobody() -> None:
    told = compared(visits("a", MON, MON + DAY, origin="import"), rules(2), rules(1), since=MON).plain()
    assert told["alerts"]["from"]["alerts"] == told["alerts"]["to"]["alerts"] == 0


def test_a_meeting_of_the_account_that_it_became_counts() -> None:
    merge = Merge(account="group:g", into="a", at=MON + 2 * DAY, received=MON + 2 * DAY)
    log = [*visits("group:g", MON, MON + DAY), merge, meets("a", MON + 3 * DAY)]
    told = compared(log, rules(2), rules(2), since=MON).plain()
    assert told["alerts"]["from"]["followed_by_outcome"] == 1


def test_a_meeting_is_followed_by_nothing_that_came_before_or_too_late() -> None:
    log = [meets("a", MON - DAY), *visits("a", MON, MON + DAY), meets("a", MON + 9 * DAY)]
    log.append(Tick(received=MON + 40 * DAY))
    told = compared(log, rules(2), rules(2), since=MON - DAY, within=7 * DAY).plain()["alerts"]["from"]
    assert (told["followed_by_outcome"], told["precision"], told["coverage"]) == (0, 0.0, 0.0)


def test_rules_that_came_into_force_meanwhile_change_nothing() -> None:
    log = [*visits("a", MON, MON + DAY), Tick(received=MON + 2 * DAY)]
    with_rules = [RulesetRecord(received=MON, hash="", files=rules(1)), *log]
    assert compared(log, rules(2), rules(3), MON).plain() == compared(with_rules, rules(2), rules(3), MON).plain()


def test_a_shortened_log_begins_at_its_snapshot() -> None:
    """What the other rules would have had to see before is unknown: they alert of nobody whom they cannot know."""
    log = [
        RulesetRecord(received=MON, hash="", files=rules(2)),
        *visits("a", MON, MON + DAY),
        *visits("b", MON + 2 * DAY),
    ]
    snapshot = ListLog(log).until(3)
    later = [*log, *visits("b", MON + 3 * DAY), Tick(received=MON + 4 * DAY)]
    told = compared(later, rules(2), rules(1), since=MON + DAY, gone=3, snapshot=snapshot).plain()
    assert told["alerts"]["from"]["alerts"] == 1
    with pytest.raises(LogProblem, match="ask --since a shorter time"):
        compared(later, rules(2), rules(1), since=MON, gone=3, snapshot=snapshot)
    with pytest.raises(LogProblem, match="no snapshot reaches there"):
        compared(later, rules(2), rules(1), since=MON, gone=3)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 1_000, suppress_health_check=SLOW)
@given(worlds(versions=2), st.integers(0, 25))
def test_both_tell_what_a_replay_of_their_own_tells(
    world: tuple[list[dict[str, str]], list[Record]], place: int
) -> None:
    (old, new), log = world
    since = log[min(place, len(log) - 1)].received
    until = max(record.received for record in log)
    asked = Question(frozenset({("d0", "s0")}), since, until, DAY)
    work = _Comparing(compile_files(old), compile_files(new), asked, None, lambda done, of: None)
    asyncio.run(work.partition(cast(Log, ListLog(fresh(log))), 0, len(log)))
    for files, telling in zip((old, new), work.tellings, strict=True):
        expected = Telling()
        for out in Replay(compile_files(files)).run(fresh(log), until):
            expected.hears(out.change, asked)
        assert telling.changes == expected.changes
        assert Counter(telling.alerts) == Counter(expected.alerts)
