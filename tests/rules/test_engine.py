"""Steps one by one: what a record, a tick and new rules do to one account, and what they leave alone."""

from __future__ import annotations

from typing import Any

import pytest
from story import ACME, DAY, HOUR, MON, MS, NAMES, SUN, THU, TUE, WED, question, ruleset

from rules.engine import let_time_pass, step
from rules.records import AccountRecord, Activity, Contact, Delete, Facts, Origin, Restore
from rules.ruleset import NO_RULES, InForce
from rules.state import NEVER, UNCLASSIFIED, AccountState, pack
from rules.work import Change, Kind, Outcome, Step

WEEK = 7 * DAY
YES, NO = ("yes",), ("no",)
TWICE = question("{count: visit, at_least: 2, within: 7d}")
OTHER = """
dimension: other
kind: set
segments:
  - {segment: seen, when: {seen: visit, within: 1d}}
"""


def rules(*texts: str, names: str = NAMES, offset: int = -1, at: int = 0) -> InForce:
    """Rules that a record at `offset` put in force."""
    return InForce().switch(ruleset(*texts, names=names), offset, at)


def visit(at: int, offset: int = 0, name: str = "visit", id: str = "", origin: Origin = "live") -> Activity:
    return Activity(account=ACME, name=name, at=at, received=at, offset=offset, id=id, origin=origin)


def learns(at: int, offset: int = 0, **facts: Any) -> Facts:
    return Facts(account=ACME, at=at, received=at, offset=offset, set=facts)


def after(in_force: InForce, *records: AccountRecord) -> AccountState:
    """The account after those records, each at its own time."""
    state: AccountState | None = None
    for record in records:
        state = step(state, record, record.received, in_force).state
    assert state is not None
    return state


def told(done: Step) -> list[tuple[str, str, tuple[str, ...], int, int]]:
    """Of each change: why, in which dimension, to what, when it took effect, and when that was decided."""
    return [(str(each.cause), each.dimension, each.after, each.effective, each.decided) for each in done.changes]


def the(done: Step) -> Change:
    (change,) = done.changes
    return change


# -- records ------------------------------------------------------------------------------------------------


def test_an_account_is_born_with_its_first_record() -> None:
    state = after(rules(TWICE), visit(MON, offset=17), visit(TUE, offset=18))
    assert state.born == 17


@pytest.mark.parametrize(
    "record",
    [
        visit(TUE),
        learns(TUE, name="Acme"),
        Contact(account=ACME, person="p", at=TUE, received=TUE),
        Delete(account=ACME, at=TUE, received=TUE),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_step_leaves_the_state_it_was_given(record: AccountRecord) -> None:
    state = after(rules(TWICE, OTHER), visit(MON, id="1"))
    before = pack(state)
    assert pack(step(state, record, TUE, rules(TWICE, OTHER)).state) != before
    let_time_pass(ACME, state, SUN, SUN, rules(TWICE))
    assert pack(state) == before


def test_a_duplicate_adds_nothing_but_time_has_passed() -> None:
    state = after(rules(TWICE), visit(MON, id="1"), visit(TUE, id="2"))
    done = step(state, visit(MON + WEEK, id="2"), MON + WEEK, rules(TWICE))
    assert done.outcome is Outcome.DUPLICATE
    assert told(done) == [("time", "answer", NO, MON + WEEK, MON + WEEK)]
    assert done.state.measures == state.measures


def test_what_has_no_id_is_never_a_duplicate() -> None:
    done = step(after(rules(TWICE), visit(MON)), visit(MON), MON, rules(TWICE))
    assert (done.outcome, told(done)) == (Outcome.APPLIED, [("data", "answer", YES, MON, MON)])


def test_what_changed_came_from_where_its_record_came_from() -> None:
    state = after(rules(TWICE), visit(MON))
    assert the(step(state, visit(TUE, origin="import"), TUE, rules(TWICE))).origin == "import"
    assert the(step(None, visit(TUE, origin="backfill"), TUE, rules(TWICE))).origin == "backfill"
    assert the(step(state, visit(TUE), TUE, rules(TWICE))).origin == "live"


def test_an_outcome_is_held_against_where_the_account_stood_just_before() -> None:
    names = NAMES.replace("demo: {}", "demo: {outcome: meeting}")
    in_force = rules(question("{seen: demo, within: 7d}"), TWICE.replace("answer", "often"), names=names)
    state = after(in_force, visit(MON), visit(TUE))
    done = step(state, visit(MON + WEEK, name="demo"), MON + WEEK, in_force)
    assert done.held is not None
    assert {name: standing.answer for name, standing in done.held.items()} == {"answer": NO, "often": NO}
    assert done.state.standings["answer"].answer == YES
    assert step(state, visit(WED), WED, in_force).held is None
    assert step(state, learns(WED, name="demo"), WED, in_force).held is None


def test_a_deleted_account_goes_on_counting_and_is_asked_nothing() -> None:
    state = after(rules(TWICE), visit(MON), Delete(account=ACME, at=TUE, received=TUE))
    done = step(state, visit(WED), WED, rules(TWICE))
    assert (done.changes, done.state.standings, done.state.wake) == ((), {}, NEVER)
    back = step(done.state, Restore(account=ACME, at=THU, received=THU), THU, rules(TWICE))
    assert (the(back).kind, the(back).cause, the(back).effective) == (Kind.STATE, "data", THU)
    assert back.state.standings["answer"].answer == YES


# -- time ---------------------------------------------------------------------------------------------------


def test_wakes_fire_in_order_each_at_its_own_instant_up_to_the_one_given() -> None:
    in_force = rules(TWICE, OTHER)
    state = after(in_force, visit(MON), visit(TUE))
    assert state.wake == WED
    for until, expected in {
        WED - MS: [],
        WED: [("time", "other", (), WED, SUN)],
        MON + WEEK - MS: [("time", "other", (), WED, SUN)],
        MON + WEEK: [("time", "other", (), WED, SUN), ("time", "answer", NO, MON + WEEK, SUN)],
    }.items():
        done = let_time_pass(ACME, state, until, SUN, in_force)
        assert told(done) == expected
        assert {change.account for change in done.changes} <= {ACME}
    assert done.state.wake == NEVER


def test_what_is_due_together_is_told_in_the_order_of_the_dimensions() -> None:
    apart = "dimension: {}\nsegments: [{{segment: s, when: {{seen: {}, within: 1d}}}}]\n"
    in_force = rules(apart.format("b", "page"), apart.format("a", "visit"))
    for first, second in (("visit", "page"), ("page", "visit")):
        state = after(in_force, visit(MON, name=first), visit(MON, name=second))
        done = let_time_pass(ACME, state, TUE, TUE, in_force)
        assert [change.dimension for change in done.changes] == [each.name for each in in_force.ruleset.dimensions]


def test_what_was_due_is_told_before_what_the_record_does() -> None:
    done = step(after(rules(TWICE), visit(MON), visit(TUE)), visit(SUN + DAY), SUN + DAY, rules(TWICE))
    assert told(done) == [
        ("time", "answer", NO, MON + WEEK, SUN + DAY),
        ("data", "answer", YES, SUN + DAY, SUN + DAY),
    ]
    assert done.state.wake == TUE + WEEK


# -- rules --------------------------------------------------------------------------------------------------


def test_an_account_from_before_all_rules_is_introduced_by_a_tick() -> None:
    state = after(InForce(), visit(MON, offset=3))
    assert (state.ruleset, state.standings) == ("", {})
    in_force = rules(TWICE, offset=5, at=TUE)
    introduced = the(let_time_pass(ACME, state, TUE, WED, in_force))
    assert (introduced.kind, introduced.cause, introduced.account) == (Kind.STATE, "rules", ACME)
    assert (introduced.effective, introduced.decided) == (WED, WED)
    assert introduced.memberships["answer"].answer == (UNCLASSIFIED,)
    again = let_time_pass(ACME, let_time_pass(ACME, state, TUE, WED, in_force).state, THU, THU, in_force)
    assert again.changes == ()


def test_an_account_is_introduced_by_its_data_or_by_the_rules_that_came_after_it() -> None:
    born_before = after(InForce(), visit(MON, offset=3))
    assert the(step(born_before, visit(WED, offset=9), WED, rules(TWICE, offset=5, at=TUE))).cause == "rules"
    assert the(step(None, visit(WED, offset=9), WED, rules(TWICE, offset=5, at=TUE))).cause == "data"


def test_rules_without_a_dimension_introduce_nobody() -> None:
    done = step(None, visit(MON), MON, InForce())
    assert (done.changes, done.state.ruleset, done.outcome) == ((), "", Outcome.APPLIED)
    assert let_time_pass(ACME, done.state, TUE, TUE, InForce().switch(NO_RULES, 4, MON)).changes == ()


def test_a_deleted_account_is_under_the_new_rules_and_told_nothing() -> None:
    gone = after(rules(TWICE), visit(MON), Delete(account=ACME, at=MON, received=MON))
    new = rules(OTHER, offset=5, at=TUE)
    for done in (step(gone, visit(WED, offset=6), WED, new), let_time_pass(ACME, gone, WED, WED, new)):
        assert (done.changes, done.state.standings, done.state.ruleset) == ((), {}, new.ruleset.hash)


def test_a_deleted_account_from_before_all_rules_is_told_nothing_either() -> None:
    gone = after(InForce(), visit(MON), Delete(account=ACME, at=MON, received=MON))
    done = let_time_pass(ACME, gone, WED, WED, rules(TWICE, offset=5, at=TUE))
    assert (done.changes, done.state.standings, done.state.wake) == ((), {}, NEVER)
    assert done.state.ruleset != ""


def test_new_rules_ask_again_as_of_their_own_instant() -> None:
    state = after(rules(TWICE), visit(MON), visit(TUE))
    new = rules(TWICE.replace("at_least: 2", "at_least: 3"), offset=5, at=WED)
    done = let_time_pass(ACME, state, THU, SUN, new)
    assert told(done) == [("rules", "answer", NO, WED, SUN)]
    assert the(done).origin == "live"


def test_a_dimension_that_is_gone_is_left_and_wakes_nobody() -> None:
    state = after(rules(TWICE, OTHER), visit(MON))
    done = let_time_pass(ACME, state, TUE, WED, rules(TWICE, offset=5, at=MON + HOUR))
    assert told(done) == [("rules", "other", (), MON + HOUR, WED)]
    assert (the(done).before, set(done.state.standings), done.state.wake) == (("seen",), {"answer"}, NEVER)


def test_a_dimension_that_is_gone_is_not_left_by_who_was_in_none_of_its_segments() -> None:
    """The account only waited there."""
    waits = "dimension: other\nkind: set\nsegments: [{segment: s, when: {seen: visit, within: 7d}, for: 3d}]\n"
    state = after(rules(TWICE, waits), visit(MON))
    assert (state.standings["other"].answer, state.wake) == ((), THU)
    done = let_time_pass(ACME, state, SUN, SUN, rules(TWICE, offset=5, at=TUE))
    assert (done.changes, set(done.state.standings), done.state.wake) == ((), {"answer"}, NEVER)


def test_measures_go_with_the_rules_that_ask_for_them() -> None:
    state = after(rules(TWICE), visit(MON, offset=1))
    (kept,) = state.measures.items()
    new = rules(
        TWICE, question("{count: page, at_least: 1, within: 2d}").replace("answer", "read"), offset=5, at=TUE
    )
    both = let_time_pass(ACME, state, TUE, TUE, new).state
    assert kept in both.measures.items()
    assert both.standings["read"].answer == (UNCLASSIFIED,)  # what it read before Tuesday is not known
    assert both.wake == TUE + 2 * DAY
    young = step(None, visit(WED, offset=6), WED, new).state
    assert young.standings["read"].answer == NO
    only = let_time_pass(ACME, both, WED, WED, rules(OTHER, offset=7, at=WED)).state
    assert only.measures == dict([kept])


NEAR = """
facts: {sector: {type: text, vocabulary: trade}}
contact_facts: {role: {type: text, vocabulary: trade}}
activities: {visit: {}}
---
vocabulary: trade
fuzzy: 0.8
terms: {software: [Computer Software], banking: [Investment Banking]}
"""


def test_what_is_known_is_read_anew_under_another_vocabulary() -> None:
    asks = question("{all: [{fact: sector, is: software}, {contacts: any, where: {role: software}}]}")
    exact = rules(asks, names=NEAR.replace("fuzzy: 0.8\n", ""))
    state = after(
        exact,
        learns(MON, sector="Computer Sofware"),
        Contact(account=ACME, person="p", at=MON, received=MON, set={"role": "Computer Softwar"}),
    )
    assert state.standings["answer"].answer == (UNCLASSIFIED,)
    near = let_time_pass(ACME, state, TUE, TUE, rules(asks, names=NEAR, offset=5, at=TUE)).state
    assert near.standings["answer"].answer == YES
    sector, role = near.facts["sector"], near.contacts["p"]["role"]
    assert (sector.value, sector.match, sector.at) == (
        "Computer Sofware",
        ("software", pytest.approx(0.9, abs=0.1)),
        MON,
    )
    assert (role.value, role.match) == ("Computer Softwar", ("software", pytest.approx(0.9, abs=0.1)))
    undeclared = NEAR.replace("sector: {type: text, vocabulary: trade}", "sector: {type: text}")
    other = question("{contacts: any, where: {role: software}}")
    plain = let_time_pass(ACME, near, WED, WED, rules(other, names=undeclared, offset=7, at=WED)).state
    assert (plain.facts["sector"].value, plain.facts["sector"].match) == ("Computer Sofware", None)


def test_facts_that_no_rule_declares_are_kept_as_they_are() -> None:
    state = after(rules(TWICE), learns(MON, shoe_size="XL"))
    new = rules(OTHER, names="activities: {visit: {}}", offset=5, at=TUE)
    assert let_time_pass(ACME, state, TUE, TUE, new).state.facts == state.facts
