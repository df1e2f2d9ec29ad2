"""A rule that raises: its account is set aside, visibly, and nobody else notices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from story import DAY, MON

import rules.fold
from rules.compiler import compile_files
from rules.engine import let_time_pass, step
from rules.explain import explanation
from rules.fold import Due, Folded, Partition, fold, runs
from rules.records import Activity, Epoch, Erase, Record, Release, RulesetRecord, Tick
from rules.ruleset import InForce
from rules.state import NEVER, AccountState, pack
from rules.work import Outcome, Step

RULES = {
    "rules.yaml": """
activities:
  visit: {}
---
dimension: engagement
segments:
  - {segment: hot, when: {count: visit, at_least: 2, within: 7d}}
  - {segment: cold, otherwise: true}
"""
}
OTHER = {"rules.yaml": RULES["rules.yaml"].replace("7d", "8d")}


class Log:
    """A partition that folds what it is told, one run at a time, and keeps what came of it."""

    def __init__(self) -> None:
        rules = InForce().switch(compile_files(RULES), -1, 0)
        self.rules = rules
        self.partition = Partition(0, ruleset=rules.ruleset.hash, introduced=rules.introduced)
        self.states: dict[str, AccountState] = {}
        self.folded: list[Folded] = []

    def hears(self, *records: Record) -> Folded:
        for n, record in enumerate(records):
            record.offset = self.partition.offset + n
        for run in runs(records):
            self._fold(run)
        return self.folded[-1]

    def _fold(self, run: Sequence[Record]) -> None:
        due: list[Due] = []
        unswept: list[str] = []
        if isinstance(run[0], Tick | RulesetRecord):
            due = sorted((each.wake, name) for name, each in self.states.items() if each.wake <= run[0].received)
        if isinstance(run[0], Tick) and self.partition.sweep is not None:
            unswept = sorted(name for name in self.states if name > (self.partition.sweep or ""))
        if isinstance(run[0], Erase):
            unswept = sorted(self.states)
        done = fold(self.partition, self.rules, run, self.states, compile_files, due, unswept)
        self.partition, self.rules = done.partition, done.rules
        self.states |= {name: state for name, state in done.states.items() if state is not None}
        self.folded.append(done)

    def stands(self, account: str) -> str:
        return self.states[account].standings["engagement"].answer[0]


def visit(account: str, at: int, **more: Any) -> Activity:
    return Activity(account=account, name="visit", at=at, received=at, source="web", **more)


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Accounts on which every rule raises, for as long as they are in here."""
    broken: set[str] = set()

    def fragile_step(state: Any, record: Any, log_time: int, rules: InForce) -> Step:
        if record.account in broken:
            raise OverflowError("math range error")
        return step(state, record, log_time, rules)

    def fragile_time(account: str, state: Any, *given: Any) -> Step:
        if account in broken:
            raise ZeroDivisionError("float division by zero")
        return let_time_pass(account, state, *given)

    monkeypatch.setattr(rules.fold, "step", fragile_step)
    monkeypatch.setattr(rules.fold, "let_time_pass", fragile_time)
    return broken


def test_only_the_account_on_which_a_rule_raises_is_set_aside(breaks: set[str]) -> None:
    log = Log()
    log.hears(visit("acme", MON), visit("bolt", MON))
    breaks.add("acme")
    done = log.hears(visit("acme", MON + 1, via=("web/0", 1, 0)), visit("bolt", MON + 2), visit("acme", MON + 3))
    assert log.stands("bolt") == "hot"
    assert log.stands("acme") == "cold"
    assert done.quarantined == {"acme": "OverflowError: math range error"}
    assert [(each.record.offset, each.why) for each in done.parked] == [
        (2, "OverflowError: math range error"),
        (4, ""),
    ]
    assert done.counts[Outcome.PARKED, "web"] == 2
    assert done.counts["quarantined", ""] == 1
    assert [out.change.account for out in done.outgoing] == ["bolt"]


def test_an_account_that_raises_at_its_first_record_is_known_and_in_no_segment(breaks: set[str]) -> None:
    log = Log()
    breaks.add("acme")
    log.hears(visit("acme", MON))
    state = log.states["acme"]
    assert (state.quarantined, state.standings, state.wake) == (0, {}, NEVER)
    told = explanation("acme", state, log.rules.ruleset, MON)
    assert told["quarantined"] is True


def test_time_that_raises_sets_aside_too_and_others_cool_at_their_instant(breaks: set[str]) -> None:
    log = Log()
    log.hears(*(visit(name, MON + n) for n in range(2) for name in ("acme", "bolt")))
    breaks.add("acme")
    done = log.hears(Tick(received=MON + 30 * DAY))
    assert log.stands("acme") == "hot"
    assert [(out.change.account, out.change.effective) for out in done.outgoing] == [("bolt", MON + 7 * DAY)]
    assert log.states["acme"].wake == NEVER
    again = log.hears(Tick(received=MON + 31 * DAY))
    assert (again.outgoing, again.quarantined) == ([], {})


def test_why_is_told_without_asking_what_raised(breaks: set[str]) -> None:
    log = Log()
    log.hears(visit("acme", MON))
    breaks.add("acme")
    log.hears(visit("acme", MON + 1))
    told = explanation("acme", log.states["acme"], log.rules.ruleset, MON)
    assert told["dimensions"]["engagement"]["segment"] == "cold"
    assert told["dimensions"]["engagement"]["reason"]["text"] == "in quarantine"


def test_in_a_new_epoch_it_tells_where_it_stands_though_not_why(breaks: set[str]) -> None:
    log = Log()
    log.hears(visit("good", MON), visit("bad", MON))
    breaks.add("bad")
    log.hears(visit("bad", MON + 1))
    log.hears(Epoch(number=1, since=0, received=MON + 2))
    told = {out.change.account: out.change for out in log.hears(Tick(received=MON + 3)).outgoing}
    assert {name: each.memberships["engagement"].answer for name, each in told.items()} == {
        "bad": ("cold",),
        "good": ("cold",),
    }
    assert log.rules.ruleset.stays_until(log.rules.ruleset.dimensions[0], log.states["bad"]) == NEVER
    assert told["bad"].reason == {"engagement": {"says": "in quarantine", "verdict": "unknown"}}
    assert log.states["bad"].quarantined >= 0


def test_released_it_is_asked_again_and_takes_what_comes(breaks: set[str]) -> None:
    log = Log()
    log.hears(visit("acme", MON), visit("acme", MON + 1))
    breaks.add("acme")
    parked = log.hears(visit("acme", MON + 2)).parked
    breaks.clear()
    log.hears(Release(account="acme", received=MON + 20 * DAY))
    assert log.stands("acme") == "cold"
    assert log.states["acme"].quarantined == -1
    log.hears(visit("acme", MON + 20 * DAY + 1), visit("acme", MON + 20 * DAY + 2))
    assert log.stands("acme") == "hot"
    assert len(parked) == 1


def test_released_too_early_it_is_set_aside_again(breaks: set[str]) -> None:
    log = Log()
    breaks.add("acme")
    log.hears(visit("acme", MON))
    done = log.hears(Release(account="acme", received=MON + 1))
    assert log.states["acme"].quarantined == 1
    assert done.quarantined == {"acme": "OverflowError: math range error"}


def test_the_next_ruleset_ends_it_for_all(breaks: set[str]) -> None:
    log = Log()
    log.hears(visit("acme", MON), visit("acme", MON + 1), visit("bolt", MON))
    breaks.update(("acme", "bolt"))
    log.hears(visit("acme", MON + 2), visit("bolt", MON + 2))
    breaks.clear()
    log.hears(RulesetRecord(received=MON + 3, hash="", files=OTHER))
    log.hears(visit("bolt", MON + 4))  # before the sweep comes to it
    assert log.stands("bolt") == "hot"
    log.hears(Tick(received=MON + 5))
    assert {name: state.quarantined for name, state in log.states.items()} == {"acme": -1, "bolt": -1}
    assert log.states["acme"].wake == MON + 8 * DAY


def test_whoever_asks_to_be_forgotten_is_forgotten_there_too(breaks: set[str]) -> None:
    log = Log()
    person = "p" * 22
    log.hears(visit("acme", MON, person=person), visit("acme", MON + 1, person=person))
    log.states["acme"].contacts = {person: {}}
    breaks.add("acme")
    log.hears(visit("acme", MON + 2))
    log.hears(Erase(persons=[person], received=MON + 3))
    assert log.states["acme"].quarantined == 2
    assert person.encode() not in pack(log.states["acme"])


def test_a_release_of_an_account_that_is_well_changes_nothing() -> None:
    log = Log()
    log.hears(visit("acme", MON), visit("acme", MON + 1))
    before = pack(log.states["acme"])
    done = log.hears(Release(account="acme", received=MON + 2), Release(account="nobody", received=MON + 2))
    assert done.outgoing == []
    assert done.states["nobody"] is None
    after = log.states["acme"]
    after.touched = 1
    assert pack(after) == before
