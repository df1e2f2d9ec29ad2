"""What rules mean, told as short stories: one for each kind of rule, each edge, each mistake once made."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from story import (
    ACME,
    DAY,
    FRI,
    HOUR,
    MON,
    MS,
    NAMES,
    SUN,
    THU,
    TUE,
    WED,
    Account,
    entered,
    given,
    given_shipped,
    given_when,
    left,
    moved,
    question,
    ruleset,
)

from rules import operators
from rules.applying import FACTS_KEPT
from rules.changes import cloud_event, memberships
from rules.compiler import compile_files
from rules.engine import step
from rules.fold import Partition, fold, runs
from rules.records import Activity, Contact, Facts, Record, RulesetRecord, Tick, decode_record
from rules.replay import Replay
from rules.ruleset import NO_RULES, InForce
from rules.state import NEVER, SEEN_KEPT, AccountState, copy, pack
from rules.work import Kind, Outcome

YES, NO, UNKNOWN = "yes", "no", "unclassified"
WEEK = 7 * DAY

THREE_VISITS = """
dimension: engagement
segments:
  - {segment: hot, when: {count: visit, at_least: 3, within: 7d}}
  - {segment: cold, otherwise: true}
"""


# -- facts --------------------------------------------------------------------------------------------------

COMPARED: list[tuple[str, Any, str, Any, Any]] = [
    # operator, operand, fact, a value for which it is true, a value for which it is false
    ("is", "DE", "country", "DE", "de"),
    ("is", 200, "employees", 200, 201),
    ("is", True, "customer", True, False),
    ("is_not", "DE", "country", "AT", "DE"),
    ("in", ["DE", "AT"], "country", "AT", "FR"),
    ("not_in", ["DE", "AT"], "country", "FR", "AT"),
    ("at_least", 200, "employees", 200, 199),
    ("above", 200, "employees", 201, 200),
    ("at_most", 200, "employees", 200, 201),
    ("below", 200, "employees", 199, 200),
    ("starts", "D", "country", "DE", "AD"),
    ("ends", "D", "country", "AD", "DE"),
    ("contains", "erman", "country", "Germany", "Austria"),
    ("contains", "crm", "products", ["crm", "erp"], ["erp"]),
    ("between", [200, 300], "employees", 300, 301),
    ("between", [200, 300], "employees", 200, 199),
    ("glob", "Ger*n?", "country", "Germany", "Germania"),
    ("has_any", ["crm", "erp"], "products", ["erp", "cms"], ["cms"]),
    ("has_all", ["crm", "erp"], "products", ["erp", "crm"], ["crm"]),
    ("has_none", ["crm", "erp"], "products", ["cms"], ["crm", "cms"]),
    ("is", "2026-03-05", "renewal", "2026-03-05T23:59:59.999Z", "2026-03-06"),
    ("before", "2026-03-05", "renewal", "2026-03-04", "2026-03-05"),
    ("after", "2026-03-05", "renewal", "2026-03-06", "2026-03-05T23:59:59.999Z"),
    ("between", ["2026-03-05", "2026-03-06"], "renewal", "2026-03-06T23:59:59.999Z", "2026-03-07"),
    ("older_than", "7d", "renewal", "2026-02-23", "2026-02-23T00:00:00.001Z"),
    ("newer_than", "7d", "renewal", "2026-02-23T00:00:00.001Z", "2026-02-23"),
    ("within_last", "7d", "renewal", "2026-03-02", "2026-03-02T00:00:00.001Z"),
    ("within_next", "7d", "renewal", "2026-03-09", "2026-03-02"),
]


@pytest.mark.parametrize(("op", "operand", "fact", "right", "wrong"), COMPARED)
def test_a_comparison_is_true_false_or_unknown(op: str, operand: Any, fact: str, right: Any, wrong: Any) -> None:
    condition = f"{{fact: {fact}, {op}: {_yaml(operand)}}}"
    assert given_when(condition).learns(**{fact: right}).segment() == YES
    assert given_when(condition).learns(**{fact: wrong}).segment() == NO
    assert given_when(condition).learns(name="Acme").segment() == UNKNOWN


def test_every_operator_has_a_story() -> None:
    assert {op for op, *_ in COMPARED} | {"exists", "missing"} == set(operators.TABLE)


def _yaml(operand: Any) -> str:
    return str(operand).lower() if isinstance(operand, bool) else str(operand)


def test_presence_is_never_unknown() -> None:
    for condition, when_there, when_not in [("exists", YES, NO), ("missing", NO, YES)]:
        account = given_when(f"{{fact: employees, {condition}: true}}").learns(name="Acme")
        assert account.segment() == when_not
        assert account.learns(employees=5).segment() == when_there
        assert account.learns(clear=["employees"]).segment() == when_not


def test_several_comparisons_must_all_hold() -> None:
    account = given_when("{fact: employees, at_least: 1, below: 200}")
    assert [account.learns(employees=n).segment() for n in (0, 1, 199, 200)] == [NO, YES, YES, NO]


def test_a_missing_fact_counts_as_true_only_when_the_rule_says_so() -> None:
    assert given_when("{fact: industry, is_not: retail}").learns(name="x").segment() == UNKNOWN
    assert given_when("{fact: industry, is_not: retail, or_missing: true}").learns(name="x").segment() == YES


BY_INDUSTRY = """
dimension: industry
by_fact: industry
"""


def test_spellings_become_the_vocabularys_term() -> None:
    account = given(BY_INDUSTRY)
    for raw in ("FinTech", "fin-tech", "Banking", "BANKING ", "Financial Services", "financial_services"):
        expected = UNKNOWN if raw == "fin-tech" else "financial_services"
        assert account.learns(industry=raw).segment("industry") == expected, raw


def test_an_unknown_spelling_is_unclassified_and_keeps_the_raw_value() -> None:
    account = given(BY_INDUSTRY, question("{fact: industry, is_not: retail}")).learns(industry="Zeppelins")
    assert account.segment("industry") == UNKNOWN
    assert account.segment("answer") == UNKNOWN
    assert account.state.facts["industry"].value == "Zeppelins"
    (told,) = account.told
    assert told.reason["answer"]["because"]["parts"][0]["raw"] == "Zeppelins"


def test_by_fact_moves_between_terms() -> None:
    account = given(BY_INDUSTRY).learns(at=MON, industry="Shops")
    account.learns(at=TUE, industry="Banking").learns(at=WED, clear=["industry"])
    assert account.changes == [
        moved("industry", "retail", "financial_services", TUE),
        moved("industry", "financial_services", UNKNOWN, WED),
    ]


@pytest.mark.parametrize(("more", "nowhere"), [("", (UNKNOWN,)), ("on_unknown: skip", ()), ("kind: set", ())])
def test_by_fact_says_of_the_unknown_what_its_dimension_says(more: str, nowhere: tuple[str, ...]) -> None:
    account = given(f"dimension: industry\nby_fact: industry\n{more}\n").learns(industry="Zeppelins")
    assert account.segments("industry") == nowhere
    assert account.learns(industry="Shops").segments("industry") == ("retail",)


def test_the_later_report_of_a_fact_wins_whatever_arrives_last() -> None:
    account = given_when("{fact: employees, at_least: 200}")
    account.learns(at=WED, employees=300)
    account.learns(at=TUE, arriving=THU, employees=100)  # older, ignored
    assert account.segment() == YES
    account.learns(at=TUE, arriving=THU, clear=["employees"])
    assert account.segment() == YES
    account.learns(at=WED, arriving=THU, employees=100)  # of the same instant: the one that arrives last
    assert account.segment() == NO
    assert account.changes == [moved("answer", YES, NO, THU)]


def test_a_cleared_fact_is_unknown_again() -> None:
    account = given_when("{fact: employees, at_least: 200}").learns(at=MON, employees=300)
    account.learns(at=TUE, clear=["employees"]).learns(at=WED, employees=None)
    assert account.changes == [moved("answer", YES, UNKNOWN, TUE)]


def test_a_repeat_publishes_nothing_and_restarts_nothing() -> None:
    account = given_when("{fact: employees, at_least: 200}").learns(at=MON, employees=300)
    account.learns(at=TUE, employees=300).learns(at=WED, employees="300").learns(at=THU, employees=400)
    assert account.changes == []
    assert account.state.standings["answer"].since == MON


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("1,200", 1200),
        (" 350 ", 350),
        ("12.5", 12.5),
        (7, 7),
        ("many", 300),
        ("1,20", 300),
        (True, 300),
        (["3"], 300),
    ],
)
def test_a_value_is_coerced_once_or_refused_and_the_fact_stays(raw: Any, kept: float) -> None:
    account = given_when("{fact: employees, at_least: 200}").learns(at=MON, employees=300)
    record = Facts(account=ACME, at=TUE, received=TUE, set={"employees": raw, "country": "DE"}, offset=1)
    done = step(account.state, record, TUE, account.replay.rules)
    assert done.state.facts["employees"].value == kept
    assert done.state.facts["country"].value == "DE"  # the rest of the update counts
    assert done.refused == (("employees",) if kept == 300 else ())


def test_refused_values_are_counted_by_source() -> None:
    record = Facts(
        account=ACME, at=MON, received=MON, source="crm", set={"employees": "many", "customer": "maybe"}
    )
    folded = fold(Partition(0), InForce().switch(ruleset(THREE_VISITS), -1, 0), [record], {}, _no_rules)
    assert folded.counts["refused", "crm"] == 2
    assert folded.counts[Outcome.APPLIED, "crm"] == 1


def test_a_huge_number_is_refused_because_no_state_could_hold_it() -> None:
    account = given_when("{fact: employees, at_least: 200}")
    for each in (10**30, "9" * 400, "9" * 30):
        account.learns(employees=each, undeclared=each if isinstance(each, int) else 1)
        assert pack(account.state)
    assert decode_record(b'{"kind":"facts","account":"a","at":1,"received":1,"set":{"employees":%d}}' % 10**30)


def test_facts_beyond_the_limit_are_refused_and_counted() -> None:
    rules = InForce().switch(ruleset(THREE_VISITS), -1, 0)
    many: dict[str, Any] = {f"fact{i}": i for i in range(FACTS_KEPT + 3)}
    done = step(None, Facts(account=ACME, at=MON, received=MON, set=many), MON, rules)
    assert len(done.state.facts) == FACTS_KEPT
    assert len(done.refused) == 3


def test_a_fact_kept_before_it_was_declared_as_text_is_unknown_to_its_vocabulary() -> None:
    account = given(THREE_VISITS, names=NAMES.replace("industry: {type: text, vocabulary: industry}", "")).learns(
        industry=["Banking"]
    )
    account.gets_rules(THREE_VISITS, BY_INDUSTRY, at=TUE)
    assert account.segment("industry") == UNKNOWN


# -- activities in windows ----------------------------------------------------------------------------------


def test_three_visits_in_a_week_enter_hot() -> None:
    # mon  tue  wed            mon
    # v    v    v → in         first visit leaves window → out
    account = given(THREE_VISITS).sees("visit", at=[MON, TUE, WED])
    assert account.changes == [moved("engagement", "cold", "hot", WED)]
    assert account.told[-1].stays_until == MON + WEEK
    assert account.wakes_at == MON + WEEK


def test_one_more_visit_stays_longer_and_is_no_change() -> None:
    account = given(THREE_VISITS).sees("visit", at=[MON, TUE, WED, THU])
    assert len(account.changes) == 1
    assert account.told[-1].stays_until == MON + WEEK  # as it was when it was told
    assert account.stays_until("engagement") == TUE + WEEK
    assert account.state.standings["engagement"].since == WED
    assert account.until(TUE + WEEK).changes[1].at == TUE + WEEK


def test_a_window_is_open_at_its_lower_edge() -> None:
    account = given(THREE_VISITS).sees("visit", at=[MON, TUE, WED])
    account.until(MON + WEEK - MS)
    assert account.segment("engagement") == "hot"
    account.until(MON + WEEK)
    assert account.changes[1:] == [moved("engagement", "hot", "cold", MON + WEEK, "time")]
    assert account.told[-1].decided == MON + WEEK


def test_an_activity_exactly_as_old_as_the_window_is_outside() -> None:
    for age, expected in [(WEEK - MS, YES), (WEEK, NO), (WEEK + MS, NO)]:
        account = given_when("{seen: visit, within: 7d}").sees("visit", at=MON, arriving=MON + age)
        assert account.segment() == expected, age


def test_a_leave_and_a_return_at_one_instant_are_two_changes() -> None:
    account = given(THREE_VISITS).sees("visit", at=[MON, TUE, WED, MON + WEEK])
    assert account.changes[1:] == [
        moved("engagement", "hot", "cold", MON + WEEK, "time"),
        moved("engagement", "cold", "hot", MON + WEEK),
    ]


def test_downtime_fires_overdue_changes_once_in_order_at_their_instants() -> None:
    rules = InForce().switch(ruleset(THREE_VISITS), -1, 0)
    state: AccountState | None = None
    for i, at in enumerate((MON, TUE, WED)):
        state = step(state, Activity(account=ACME, name="visit", at=at, received=at, offset=i), at, rules).state
    late = Activity(account=ACME, name="visit", at=MON + 30 * DAY, received=MON + 30 * DAY, offset=3)
    (change,) = step(state, late, MON + 30 * DAY, rules).changes
    assert (change.effective, change.decided, change.cause) == (MON + WEEK, MON + 30 * DAY, "time")


def test_one_late_tick_lets_everything_happen_that_was_due() -> None:
    rules = InForce().switch(ruleset(question("{count: visit, at_least: 2, at_most: 2, within: 7d}")), -1, 0)
    visits = [
        Activity(account=ACME, name="visit", at=at, received=at, offset=i) for i, at in enumerate((MON, TUE, WED))
    ]
    folded = fold(Partition(0), rules, visits, {}, _no_rules)
    tick = Tick(received=MON + 30 * DAY, offset=3)
    due = [(folded.states[ACME].wake, ACME)]
    late = fold(folded.partition, rules, [tick], folded.states, _no_rules, due)
    assert [(out.offset, out.n, out.change.effective, out.change.after) for out in late.outgoing] == [
        (3, 0, MON + WEEK, (YES,)),
        (3, 1, TUE + WEEK, (NO,)),
    ]


def test_where_filters_what_counts() -> None:
    account = given_when(
        "{count: page, where: {path: {starts: /pricing}, seconds: {above: 5}}, at_least: 1, within: 7d}"
    )
    for props in ({}, {"path": "/pricing"}, {"path": "/pricing", "seconds": 5}, {"path": "/", "seconds": 9}):
        assert account.sees("page", props=props).segment() == NO, props
    assert account.sees("page", props={"path": "/pricing/eu", "seconds": 6}).segment() == YES


def test_an_alias_and_a_condition_may_ask_about_the_same_property() -> None:
    """Once the condition's filter took the place of the alias's own: every page counted as a pricing view."""
    account = given_when("{seen: pricing, where: {path: {ends: eu}}, within: 7d}")
    assert account.sees("page", props={"path": "/blog/eu"}).segment() == NO
    assert account.sees("page", props={"path": "/pricing/us"}).segment() == NO
    assert account.sees("page", props={"path": "/pricing/eu"}).segment() == YES


def test_props_of_any_shape_stop_nothing() -> None:
    """Once an object where text was expected raised in the middle of the fold."""
    account = given_when("{seen: pricing, within: 7d}")
    for path in ({"a": 1}, ["/pricing"], None, 5, True):
        assert account.sees("page", props={"path": path}).segment() == NO
    there = given_when("{seen: page, where: {path: {exists: true}}, within: 7d}")
    assert there.sees("page", props={"path": {"a": 1}}).segment() == YES


def test_count_any_counts_everything() -> None:
    account = given_when("{count: any, at_least: 3, within: 7d}")
    assert account.sees("visit").sees("never_declared").segment() == NO
    assert account.sees("page").segment() == YES


def test_zero_activities_are_plain_zero() -> None:
    for condition in ("{count: visit, below: 2, within: 7d}", "{count: visit, at_most: 0, within: 7d}"):
        assert given_when(condition).learns(name="Acme").segment() == YES
    assert given_when("{count: visit, at_least: 1, within: 7d}").learns(name="Acme").segment() == NO


def test_below_and_at_most_return_when_the_window_empties() -> None:
    for bound, still in [("below: 2", "at_most: 1"), ("at_most: 1", "below: 2")]:
        account = given_when(f"{{count: visit, {bound}, within: 7d}}").sees("visit", at=[MON, TUE])
        assert account.until(MON + WEEK).changes == [
            moved("answer", YES, NO, TUE),
            moved("answer", NO, YES, MON + WEEK, "time"),
        ], still


def test_a_count_between_bounds() -> None:
    account = given_when("{count: visit, at_least: 2, at_most: 3, within: 7d}")
    assert [account.sees("visit", at=MON + n).segment() for n in range(4)] == [NO, YES, YES, NO]
    account.until(MON + WEEK)
    assert account.segment() == YES  # three are left
    assert account.until(MON + WEEK + 2 * MS).segment() == NO


def test_seen_and_quiet_mirror_each_other() -> None:
    account = given(
        question("{seen: visit, within: 2d}").replace("answer", "lately"),
        question("{quiet: visit, for: 2d}").replace("answer", "silent"),
    )
    account.learns(at=MON, name="Acme")
    assert (account.segment("lately"), account.segment("silent")) == (NO, YES)  # nothing has ever happened
    account.sees("visit", at=TUE).until(SUN)
    assert account.changes == [
        moved("lately", NO, YES, TUE),
        moved("silent", YES, NO, TUE),
        moved("lately", YES, NO, TUE + 2 * DAY, "time"),
        moved("silent", NO, YES, TUE + 2 * DAY, "time"),
    ]


def test_more_than_is_kept_still_counts_right() -> None:
    account = given_when("{count: visit, at_least: 3, within: 7d}").sees("visit", at=range(MON, MON + 100))
    (entry,) = account.changes
    assert entry == moved("answer", NO, YES, MON + 2)
    assert account.until(SUN + WEEK).changes[1:] == [moved("answer", YES, NO, MON + 97 + WEEK, "time")]


def test_a_future_instant_becomes_the_time_of_arrival() -> None:
    account = given_when("{seen: visit, within: 1d}").sees("visit", at=SUN, arriving=MON)
    assert account.wakes_at == MON + DAY
    done = step(None, Activity(account=ACME, name="visit", at=SUN, received=MON), MON, account.replay.rules)
    assert done.early == SUN - MON
    account.learns(at=SUN, arriving=MON, employees=5).learns(at=TUE, employees=7)
    assert account.state.facts["employees"].value == 7


def test_late_but_inside_the_window_counts() -> None:
    account = given(THREE_VISITS).sees("visit", at=[TUE, WED]).sees("visit", at=MON, arriving=THU)
    assert account.changes == [moved("engagement", "cold", "hot", THU)]
    assert account.told[-1].stays_until == MON + WEEK


def test_late_and_outside_every_window_changes_nothing_and_is_counted() -> None:
    account = given(THREE_VISITS).sees("visit", at=[TUE, WED])
    before = account.state.standings
    record = Activity(account=ACME, name="visit", at=MON - 5 * DAY, received=WED, offset=2)
    done = step(account.state, record, WED, account.replay.rules)
    assert done.outcome is Outcome.LATE
    assert (done.changes, done.state.standings) == ((), before)


def test_a_first_record_that_is_late_still_introduces_the_account() -> None:
    account = given(THREE_VISITS).sees("visit", at=MON, arriving=MON + 20 * DAY)
    assert [change.kind for change in account.told] == [Kind.STATE]
    assert account.segment("engagement") == "cold"


def test_an_instant_before_1970_is_refused_at_the_door() -> None:
    """Once it was let in, and raised when it was packed into a measure."""
    with pytest.raises(ValueError, match=r"at `\$\.at`"):
        decode_record(b'{"kind":"activity","account":"a","name":"visit","at":-5,"received":1}')


# -- scores -------------------------------------------------------------------------------------------------


def test_a_score_enters_at_its_threshold_and_leaves_at_the_exact_millisecond() -> None:
    # 40 points with a half-life of a week are 20 after exactly a week: still at least 20, one ms later not.
    account = given_when("{score: interest, at_least: 20}").learns(at=MON, name="Acme").sees("demo", at=TUE)
    assert account.changes == [moved("answer", NO, YES, TUE)]
    assert account.until(TUE + WEEK).segment() == YES
    account.until(TUE + WEEK + MS)
    assert account.changes[1:] == [moved("answer", YES, NO, TUE + WEEK + MS, "time")]


def test_a_score_equal_to_its_threshold_holds_for_one_millisecond() -> None:
    account = given_when("{score: interest, at_least: 40}").sees("demo", at=MON)
    assert account.segment() == YES
    assert account.until(TUE).changes == [moved("answer", YES, NO, MON + MS, "time")]


def test_a_late_contribution_counts_by_its_own_age() -> None:
    account = given_when("{score: interest, at_least: 20}").sees("visit", at=MON + WEEK)
    assert account.segment() == NO  # 10
    account.sees("visit", at=MON + WEEK)
    assert account.segment() == YES  # 20
    account.until(MON + WEEK + MS)
    account.sees("demo", at=MON + WEEK - 7 * DAY, arriving=MON + WEEK + DAY)  # 20 of its 40 as of MON + WEEK
    assert account.told[-1].stays_until == MON + WEEK + WEEK + MS  # (20 + 20) / 2 after another week
    assert account.until(MON + 3 * WEEK).changes[-1] == moved("answer", YES, NO, MON + 2 * WEEK + MS, "time")


def test_below_a_score_is_the_mirror() -> None:
    account = given_when("{score: interest, below: 20}").learns(at=MON, name="Acme").sees("demo", at=TUE)
    assert account.until(SUN + WEEK).changes == [
        moved("answer", YES, NO, TUE),
        moved("answer", NO, YES, TUE + WEEK + MS, "time"),
    ]


def test_an_activity_may_match_several_signals() -> None:
    account = given_when("{score: pages, at_least: 9}").sees("page", props={"path": "/pricing"})
    assert account.segment() == YES  # 8 as a pricing view and 1 as a page view


# -- three values -------------------------------------------------------------------------------------------

_VALUES = {
    YES: "{fact: country, is: DE}",
    NO: "{fact: country, is: AT}",
    UNKNOWN: "{fact: employees, at_least: 1}",
}
_RANK = {NO: 0, UNKNOWN: 1, YES: 2}


def _three_valued(condition: str) -> str:
    return given_when(condition).learns(country="DE").segment()


@pytest.mark.parametrize(("one", "other"), list(product(_VALUES, _VALUES)))
def test_all_and_any_in_three_values(one: str, other: str) -> None:
    parts = f"[{_VALUES[one]}, {_VALUES[other]}]"
    assert _three_valued(f"{{all: {parts}}}") == min(one, other, key=_RANK.__getitem__)
    assert _three_valued(f"{{any: {parts}}}") == max(one, other, key=_RANK.__getitem__)


@pytest.mark.parametrize(("value", "negated"), [(YES, NO), (NO, YES), (UNKNOWN, UNKNOWN)])
def test_not_in_three_values(value: str, negated: str) -> None:
    assert _three_valued(f"{{not: {_VALUES[value]}}}") == negated


def test_parts_that_flip_at_different_times_flip_the_whole_exactly() -> None:
    account = given_when(
        "{any: [{seen: visit, within: 1d}, {all: [{seen: page, within: 3d}, {quiet: visit, for: 2d}]}]}"
    )
    account.sees("visit", at=MON).sees("page", at=MON).until(SUN)
    assert account.changes == [
        moved("answer", YES, NO, TUE, "time"),  # the visit is a day old
        moved("answer", NO, YES, WED, "time"),  # quiet for two days, and the page is in its window
        moved("answer", YES, NO, THU, "time"),  # the page has left
    ]
    assert [change.stays_until for change in account.told] == [TUE, WED, THU, NEVER]


def test_the_wake_of_a_whole_is_as_late_as_its_parts_allow() -> None:
    """`all` stays false until its last false part may flip, `any` true until its last true part may."""
    recent = "[{seen: visit, within: 1d}, {seen: page, within: 3d}, {seen: visit, within: 2d}]"
    quiet = "[{quiet: visit, for: 1d}, {quiet: page, for: 3d}, {quiet: visit, for: 2d}]"
    for condition in (f"{{any: {recent}}}", f"{{all: {quiet}}}"):
        assert given_when(condition).sees("visit", at=MON).sees("page", at=MON).wakes_at == THU
    for condition in (f"{{all: {recent}}}", f"{{any: {quiet}}}"):
        assert given_when(condition).sees("visit", at=MON).sees("page", at=MON).wakes_at == TUE


# -- contacts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "bounced", "mixed", "fine"), [("all", YES, NO, NO), ("any", YES, YES, NO), ("none", NO, NO, YES)]
)
def test_all_any_or_none_of_the_contacts(which: str, bounced: str, mixed: str, fine: str) -> None:
    condition = f"{{contacts: {which}, where: {{status: {{in: [bounced, unsubscribed]}}}}}}"
    assert given_when(condition).learns(name="Acme").segment() == UNKNOWN  # over no contacts
    account = given_when(condition).contact("p", status="bounced").contact("q", status="unsubscribed")
    assert account.segment() == bounced
    assert account.contact("q", status="ok").segment() == mixed
    assert account.contact("p", status="ok").segment() == fine


@pytest.mark.parametrize(("which", "expected"), [("all", NO), ("any", UNKNOWN), ("none", UNKNOWN)])
def test_a_contact_of_unknown_status(which: str, expected: str) -> None:
    account = given_when(f"{{contacts: {which}, where: {{status: bounced}}}}")
    assert account.contact("p", status="ok").contact("q").segment() == expected


def test_a_contact_that_is_gone_no_longer_counts() -> None:
    account = given_when("{contacts: all, where: {status: bounced}}")
    account.contact("p", at=MON, status="bounced").contact("q", at=TUE, status="ok")
    assert account.contact("q", at=WED, gone=True).segment() == YES
    assert account.contact("p", at=THU, gone=True).segment() == UNKNOWN
    assert account.contact("p", at=FRI, status="bounced").segment() == YES


def test_of_gone_and_there_the_later_report_wins_whatever_arrives_last() -> None:
    """Once a late `gone` removed a contact that had been seen after it."""
    account = given_when("{contacts: any, where: {status: ok}}").contact("p", at=WED, status="ok")
    account.contact("p", at=TUE, arriving=THU, gone=True)
    assert account.segment() == YES
    account.contact("p", at=THU, gone=True).contact("p", at=WED, arriving=FRI, gone=True)
    account.contact("p", at=WED + HOUR, arriving=FRI, status="ok")
    assert account.segment() == UNKNOWN  # gone on Thursday; what came later is older


def test_gone_in_the_future_is_gone_on_arrival() -> None:
    account = given_when("{contacts: any, where: {status: ok}}").contact("p", at=MON, status="ok")
    account.contact("p", at=SUN, arriving=TUE, gone=True).contact("p", at=WED, status="ok")
    assert account.segment() == YES


def test_a_cleared_contact_fact_is_unknown_even_where_none_is_a_term() -> None:
    """Once an emptied fact was looked up as the word `None`."""
    account = given_when("{contacts: any, where: {level: none}}").contact("p", level="none")
    assert account.segment() == YES
    assert account.contact("p", clear=["level"]).segment() == UNKNOWN
    assert account.contact("p", level="None").segment() == YES


def test_contact_facts_go_through_their_vocabulary() -> None:
    assert given_when("{contacts: any, where: {level: chief}}").contact("p", level="CEO").segment() == YES


# -- ladders and sets ---------------------------------------------------------------------------------------

LADDER = """
dimension: size
on_unknown: {}
segments:
  - {{segment: big, when: {{fact: employees, at_least: 200}}}}
  - {{segment: german, when: {{fact: country, is: DE}}}}
"""


def test_stop_says_unclassified_at_the_first_unknown_rung_above_the_first_true_one() -> None:
    account = given(LADDER.format("stop")).learns(country="DE")
    assert account.segment("size") == UNKNOWN
    assert account.learns(employees=5).segment("size") == "german"
    assert (
        account.learns(employees=300, clear=["country"]).segment("size") == "big"
    )  # unknown below does not matter
    assert account.learns(employees=5).segment("size") == UNKNOWN


def test_skip_passes_over_the_unknown_and_lists_it_in_the_reason() -> None:
    account = given(LADDER.format("skip")).learns(name="Acme")
    assert account.segment("size") == ""
    account.learns(country="DE")
    assert account.changes == [moved("size", "", "german", MON)]
    assert account.told[-1].reason["unknown"] == ["big"]


def test_a_ladder_without_otherwise_may_hold_nothing() -> None:
    account = given(LADDER.format("stop")).learns(employees=5, country="DE").learns(at=TUE, country="FR")
    assert account.changes == [moved("size", "german", "", TUE)]


SET = """
dimension: interests
kind: set
owner: product
segments:
  - {segment: visitors, when: {count: visit, at_least: 1, within: 2d}, owner: web, action: say hello}
  - {segment: readers, when: {count: page, at_least: 1, within: 2d}}
  - {segment: large, when: {fact: employees, at_least: 200}}
"""


def test_a_set_tells_each_segment_and_its_complete_members() -> None:
    account = given(SET).learns(at=MON, name="Acme").sees("visit", at=MON).sees("page", at=TUE)
    account.learns(at=TUE, employees=300).until(FRI)
    assert account.changes == [
        entered("interests", "visitors", ["visitors"], MON),
        entered("interests", "readers", ["visitors", "readers"], TUE),
        entered("interests", "large", ["visitors", "readers", "large"], TUE),
        left("interests", "visitors", ["readers", "large"], WED, "time"),
        left("interests", "readers", ["large"], THU, "time"),
    ]
    assert [change.owner for change in account.told[1:3]] == ["web", "product"]
    assert account.told[1].action == {"do": "say hello"}


def test_segments_of_a_set_that_leave_together_are_told_one_by_one() -> None:
    account = given(SET).sees("visit", at=MON).sees("page", at=MON).until(FRI)
    assert account.changes[1:] == [
        left("interests", "visitors", [], WED, "time"),
        left("interests", "readers", [], WED, "time"),
    ]


# -- what is published --------------------------------------------------------------------------------------


def test_the_first_evaluation_is_one_account_state() -> None:
    account = given(THREE_VISITS, SET, LADDER.format("stop")).learns(at=MON, name="Acme", employees=300)
    (told,) = account.told
    assert told.kind is Kind.STATE
    assert {name: standing.answer for name, standing in told.memberships.items()} == {
        "engagement": ("cold",),
        "interests": ("large",),
        "size": ("big",),
    }
    assert (told.name, told.effective, told.cause, told.origin) == ("Acme", MON, "data", "live")


def test_an_account_that_is_hot_at_first_sight_says_so() -> None:
    account = given_when("{seen: visit, within: 7d}").sees("visit", at=MON)
    (told,) = account.told
    assert told.memberships["answer"].answer == (YES,)
    assert told.reason["answer"]["because"]["evidence"] == [{"at": MON, "offset": 0}]


def test_the_reason_carries_values_thresholds_and_evidence() -> None:
    account = given(THREE_VISITS).sees("visit", at=[MON, TUE, WED])
    because = account.told[-1].reason["because"]
    assert because["says"] == "3 visit in 7 days (needs 3)"
    assert (because["value"], because["at_least"], because["within"]) == (3, 3, "7 days")
    assert [each["offset"] for each in because["evidence"]] == [2, 1, 0]
    account.until(MON + WEEK)
    assert account.told[-1].reason["left"]["segment"] == "hot"
    assert account.told[-1].reason["text"] == "2 visit in 7 days (needs 3)"


def test_a_change_is_rendered_from_its_position_and_nothing_else() -> None:
    account = given(THREE_VISITS).sees("visit", at=[MON, TUE, WED])
    again = given(THREE_VISITS).sees("visit", at=[MON, TUE, WED])
    for one, other in zip(account.outgoing, again.outgoing, strict=True):
        rules = account.replay.rules.ruleset
        assert cloud_event(7, rules, one) == cloud_event(7, again.replay.rules.ruleset, other)
        assert memberships(7, rules, one) == memberships(7, rules, other)
    assert b'"id":"7.0.2.0"' in cloud_event(7, rules, account.outgoing[-1])


# -- duplicates ---------------------------------------------------------------------------------------------


def test_an_event_id_counts_once() -> None:
    account = given(THREE_VISITS).sees("visit", at=[MON, TUE], id="e1").sees("visit", at=WED, id="e2")
    account.sees("visit", at=WED, id="e1")
    assert account.segment("engagement") == "cold"
    assert account.sees("visit", at=THU, id="e3").segment("engagement") == "hot"


def test_the_newest_event_ids_are_remembered() -> None:
    account = given_when(f"{{count: visit, at_least: {SEEN_KEPT + 2}, within: 7d}}")
    for i in range(SEEN_KEPT + 1):
        account.sees("visit", at=MON, id=f"e{i}")
    assert account.sees("visit", id="e1").segment() == NO  # the oldest that is still remembered
    assert account.sees("visit", id="e0").segment() == YES  # forgotten


def test_the_end_of_one_id_and_the_beginning_of_the_next_are_no_id() -> None:
    account = given(THREE_VISITS).sees("visit", at=MON, id="e1")
    shifted = copy(account.state)
    shifted.seen = bytes(3) + account.state.seen + bytes(5)
    record = Activity(account=ACME, name="visit", at=MON, received=MON, id="e1", offset=1)
    assert step(account.state, record, MON, account.replay.rules).outcome is Outcome.DUPLICATE
    assert step(shifted, record, MON, account.replay.rules).outcome is Outcome.APPLIED


def test_a_redelivered_position_is_dropped_once_for_the_whole_partition() -> None:
    records: list[Record] = [
        Activity(account=account, name="visit", at=MON, received=MON, source="web", via=via, offset=i)
        for i, (account, via) in enumerate(
            [
                ("a", ("web/0", 5, 0)),
                ("b", ("web/0", 5, 1)),
                ("a", ("web/0", 5, 1)),
                ("c", ("web/0", 4, 9)),
                ("a", ("web/1", 2, 0)),
                ("a", ("web/0", 6, 0)),
            ]
        )
    ]
    folded = fold(Partition(0), InForce().switch(ruleset(THREE_VISITS), -1, 0), records, {}, _no_rules)
    assert folded.counts[Outcome.DUPLICATE, "web"] == 2
    assert folded.partition.high == {"web/0": (6, 0), "web/1": (2, 0)}
    assert set(folded.states) == {"a", "b"}
    assert folded.states["a"].standings["engagement"].answer == ("hot",)


def _no_rules(files: Any) -> Any:
    raise AssertionError("no ruleset record in this log")


# -- deletes ------------------------------------------------------------------------------------------------


def test_a_deleted_account_leaves_everything_in_one_last_state() -> None:
    account = given(THREE_VISITS).sees("visit", at=[MON, TUE, WED]).is_deleted(at=THU)
    last = account.told[-1]
    assert (last.kind, last.deleted, last.memberships, last.effective) == (Kind.STATE, True, {}, THU)
    assert memberships(0, account.replay.rules.ruleset, account.outgoing[-1]) is None
    assert account.until(SUN + WEEK).told[-1] is last
    assert account.is_deleted().told[-1] is last


def test_that_an_account_nobody_heard_of_is_deleted_is_told_too() -> None:
    """Subscribers may know it from what the log has lost."""
    account = given(THREE_VISITS).is_deleted(at=THU)
    (told,) = account.told
    assert (told.kind, told.deleted, told.memberships) == (Kind.STATE, True, {})


def test_a_restored_account_is_introduced_again_with_what_it_did_meanwhile() -> None:
    account = given(THREE_VISITS).sees("visit", at=[MON, TUE]).is_deleted(at=WED)
    account.sees("visit", at=THU)
    assert len(account.told) == 2
    account.is_restored(at=FRI)
    last = account.told[-1]
    assert (last.kind, last.effective, last.memberships["engagement"].answer) == (Kind.STATE, FRI, ("hot",))
    account.until(MON + WEEK)
    assert account.changes == [moved("engagement", "hot", "cold", MON + WEEK, "time")]


def test_restoring_what_is_not_deleted_does_nothing() -> None:
    account = given(THREE_VISITS).sees("visit", at=MON).is_restored(at=TUE)
    assert len(account.told) == 1


# -- the rules change ---------------------------------------------------------------------------------------


def test_editing_a_threshold_keeps_history() -> None:
    account = given(THREE_VISITS).sees("visit", at=[MON, TUE])
    account.gets_rules(THREE_VISITS.replace("at_least: 3", "at_least: 2"), at=WED)
    assert account.changes == [moved("engagement", "cold", "hot", WED, "rules")]
    assert account.until(SUN + WEEK).changes[1:] == [moved("engagement", "hot", "cold", MON + WEEK, "time")]


def test_every_account_is_asked_again_without_waiting_for_its_next_record() -> None:
    """Once a replay took the sweep for done before it began."""
    replay = Replay(ruleset(THREE_VISITS))
    names = [f"a{i}" for i in range(1203)]
    for name in names:
        list(replay.feed(Activity(account=name, name="visit", at=MON, received=MON)))
    files = ruleset(THREE_VISITS.replace("at_least: 3", "at_least: 1")).files
    told = list(replay.feed(RulesetRecord(received=TUE, hash="", files=files)))
    assert sorted(out.change.account for out in told) == sorted(names)
    assert {(out.change.cause, out.change.effective) for out in told} == {("rules", TUE)}


def test_more_accounts_than_a_tick_lets_through_are_all_told() -> None:
    """Once a replay forgot the wakes that did not fit into a tick."""
    replay = Replay(ruleset(question("{seen: visit, within: 7d}")))
    names = [f"a{i:04}" for i in range(2500)]
    for name in names:
        list(replay.feed(Activity(account=name, name="visit", at=MON, received=MON)))
    told = list(replay.advance(MON + WEEK))
    assert [out.change.account for out in told] == names


def test_a_threshold_above_what_was_kept_is_unknown_until_filled() -> None:
    account = given(THREE_VISITS).sees("visit", at=range(MON, MON + 40))
    account.gets_rules(question("{count: visit, at_least: 36, within: 7d}"), at=TUE)
    assert account.segment() == UNKNOWN  # 32 were kept
    assert account.until(MON + 7 + WEEK - MS).segment() == UNKNOWN  # the newest that was dropped is number 7
    assert account.until(MON + 7 + WEEK).segment() == NO
    account = given(THREE_VISITS).sees("visit", at=range(MON, MON + 40))
    account.gets_rules(question("{count: visit, at_least: 36, within: 7d}"), at=TUE).sees(
        "visit", at=range(TUE, TUE + 4)
    )
    assert account.segment() == YES


def test_a_new_measure_is_unknown_until_its_beginning_has_left_the_window() -> None:
    account = given(THREE_VISITS).sees("page", at=MON)
    account.gets_rules(question("{count: page, at_least: 1, within: 2d}"), at=TUE)
    assert account.segment() == UNKNOWN
    assert account.until(TUE + 2 * DAY - MS).segment() == UNKNOWN
    assert account.until(TUE + 2 * DAY).segment() == NO
    assert account.changes[-1] == moved("answer", UNKNOWN, NO, TUE + 2 * DAY, "time")
    sooner = given(THREE_VISITS).sees("page", at=MON)
    sooner.gets_rules(question("{count: page, at_least: 1, within: 2d}"), at=TUE).sees("page", at=TUE + HOUR)
    assert sooner.segment() == YES  # what happens afterwards is enough to know


def test_a_new_score_is_unknown_below_its_threshold_for_who_was_there_before() -> None:
    account = given(THREE_VISITS).sees("demo", at=MON)
    account.gets_rules(question("{score: interest, at_least: 40}"), at=TUE)
    assert account.segment() == UNKNOWN
    assert account.sees("demo", at=WED).segment() == YES  # enough without what was missed
    assert account.until(SUN).segment() == UNKNOWN


def test_an_account_is_moved_by_new_rules_as_of_their_instant_whenever_it_is_reached() -> None:
    account = given(THREE_VISITS).sees("visit", at=[MON, TUE])
    files = ruleset(THREE_VISITS.replace("at_least: 3", "at_least: 2"))
    rules = account.replay.rules.switch(files, 2, WED)
    record = Activity(account=ACME, name="page", at=FRI, received=FRI, offset=3)
    (change,) = step(account.state, record, FRI, rules).changes
    assert (change.cause, change.effective, change.decided) == ("rules", WED, FRI)


def test_a_new_measure_is_complete_for_accounts_born_under_it() -> None:
    account = Account(ruleset(THREE_VISITS))
    account.gets_rules(question("{count: page, at_least: 2, within: 2d}"), at=MON).sees("page", at=TUE)
    assert account.segment() == NO


def test_an_account_older_than_all_rules_does_not_know_what_it_missed() -> None:
    """Once its first activity under the rules began the measure as if nothing had happened before."""
    account = Account(NO_RULES).sees("page", at=[MON, MON + HOUR])
    assert account.told == []
    rules = InForce().switch(ruleset(question("{count: page, at_least: 2, within: 2d}")), 10, TUE)
    record = Activity(account=ACME, name="page", at=TUE + HOUR, received=TUE + HOUR, offset=11)
    done = step(account.state, record, TUE + HOUR, rules)
    assert done.state.standings["answer"].answer == (UNKNOWN,)


def test_what_came_too_late_is_unknown_to_a_rule_that_looks_further_back() -> None:
    """Once an activity that arrived too late for a rule was false, not unknown, to a longer one."""
    account = (
        given_when("{seen: visit, within: 2d}").learns(at=MON, name="Acme").sees("visit", at=MON, arriving=THU)
    )
    assert account.segment() == NO
    account.gets_rules(question("{seen: visit, within: 7d}"), at=FRI)
    assert account.segment() == UNKNOWN
    assert account.until(MON + WEEK).segment() == NO


def test_a_measure_nobody_asks_for_is_dropped_and_begins_anew() -> None:
    account = given_when("{count: visit, at_least: 1, within: 7d}").sees("visit", at=MON)
    account.gets_rules(question("{fact: country, exists: true}"), at=TUE)
    assert account.state.measures == {}
    account.gets_rules(question("{count: visit, at_least: 1, within: 7d}"), at=WED)
    assert account.segment() == UNKNOWN
    assert account.until(WED + WEEK).segment() == NO


def test_a_removed_dimension_is_left_with_cause_rules() -> None:
    account = given(THREE_VISITS, LADDER.format("stop")).learns(at=MON, employees=300)
    account.gets_rules(THREE_VISITS, at=TUE)
    assert account.changes == [moved("size", "big", "", TUE, "rules")]
    assert set(account.state.standings) == {"engagement"}


def test_a_removed_segment_moves_its_members() -> None:
    account = given(THREE_VISITS).sees("visit", at=[MON, MON, MON])
    account.gets_rules("dimension: engagement\nsegments: [{segment: cold, otherwise: true}]\n", at=TUE)
    assert account.changes[1:] == [moved("engagement", "hot", "cold", TUE, "rules")]
    assert account.wakes_at == NEVER


def test_a_new_dimension_is_told_as_a_move_from_nothing() -> None:
    account = given(THREE_VISITS).learns(at=MON, employees=300)
    account.gets_rules(THREE_VISITS, LADDER.format("stop"), at=TUE)
    assert account.changes == [moved("size", "", "big", TUE, "rules")]


def test_the_same_rules_again_change_nothing() -> None:
    account = given(THREE_VISITS).sees("visit", at=[MON, TUE, WED]).gets_rules(THREE_VISITS, at=THU)
    assert len(account.changes) == 1


def test_a_deleted_account_is_not_brought_back_by_new_rules() -> None:
    account = (
        given(THREE_VISITS).sees("visit", at=MON).is_deleted(at=TUE).gets_rules(LADDER.format("stop"), at=WED)
    )
    assert len(account.told) == 2
    assert account.is_restored(at=THU).told[-1].memberships["size"].answer == (UNKNOWN,)


def test_changes_around_new_rules_are_told_under_the_rules_they_were_decided_by() -> None:
    """Once a batch in which the rules changed was told under the last ones: other bytes for another cut."""
    visits: list[Record] = [Activity(account="a", name="visit", at=MON, received=MON)]
    files = ruleset(question("{seen: visit, within: 7d}")).files
    log = [*visits, RulesetRecord(received=MON, hash="", files=files), *visits, Tick(received=MON), *visits]
    assert [len(run) for run in runs(log)] == [1, 1, 1, 1, 1]
    assert [len(run) for run in runs([*visits, *visits, *log[1:2]])] == [2, 1]


# -- the shipped rules --------------------------------------------------------------------------------------


def _views(account: Account, *instants: int) -> Account:
    for at in instants:
        account.sees("page_viewed", at=at, props={"path": "/pricing"})
    return account


def test_shipped_three_pricing_views_in_a_week_are_hot_then_warm_then_cold() -> None:
    account = _views(given_shipped(), MON, MON + HOUR, TUE)
    assert account.moves("engagement") == [moved("engagement", "warm", "hot", TUE)]
    account.until(MON + 60 * DAY)
    assert [(each.before, each.after) for each in account.moves("engagement")[1:]] == [
        (("hot",), ("warm",)),
        (("warm",), ("cold",)),
    ]
    assert account.moves("engagement")[1].at == MON + WEEK


def test_shipped_a_demo_request_with_interest_is_hot() -> None:
    account = given_shipped().sees("demo_requested", at=MON)
    assert account.segment("engagement") == "warm"  # 40 of 50
    assert account.sees("webinar_attended", at=MON).segment("engagement") == "hot"
    assert given_shipped().sees("trial_started").sees("trial_started").segment("engagement") == "warm"  # no demo


def test_shipped_five_of_anything_in_a_month_are_warm() -> None:
    account = given_shipped().sees("report_exported", at=[MON, TUE, WED, THU])
    assert account.segment("engagement") == "cold"
    account.sees("report_exported", at=FRI)
    assert account.moves("engagement") == [moved("engagement", "cold", "warm", FRI)]
    assert account.until(MON + 30 * DAY).moves("engagement")[1:] == [
        moved("engagement", "warm", "cold", MON + 30 * DAY, "time")
    ]


def test_shipped_an_account_is_dead_when_every_contact_is() -> None:
    account = _views(given_shipped(), MON, MON, MON)
    account.contact("p", at=TUE, status="bounced").contact("q", at=TUE, status="unsubscribed")
    assert account.segment("engagement") == "dead"
    account.contact("r", at=WED, status="active")
    assert account.moves("engagement")[-1].after == ("hot",)


def test_shipped_an_account_of_which_little_is_known_is_cold_and_otherwise_unclassified() -> None:
    account = given_shipped().learns(name="Acme")
    assert account.segment("engagement") == "cold"
    assert {account.segment(each) for each in ("size", "industry", "revenue", "region")} == {UNKNOWN}


@pytest.mark.parametrize(
    ("employees", "size"),
    [(1, "smb"), (199, "smb"), (200, "mid_market"), (1999, "mid_market"), (2000, "enterprise"), (0, "")],
)
def test_shipped_sizes_at_their_boundaries(employees: int, size: str) -> None:
    assert given_shipped().learns(employees=employees).segment("size") == size


@pytest.mark.parametrize("raw", ["FinTech", "Banking", "Financial Services"])
def test_shipped_financial_services_by_any_name(raw: str) -> None:
    assert given_shipped().learns(industry=raw).segment("industry") == "financial_services"


@pytest.mark.parametrize("raw", ["Other", "Zeppelins", "-", ""])
def test_shipped_an_unknown_industry_is_unclassified_and_never_other(raw: str) -> None:
    assert given_shipped().learns(industry=raw).segment("industry") == UNKNOWN


@pytest.mark.parametrize(
    ("country", "region"), [("US", "north_america"), ("NO", "nordics"), ("DE", "dach"), ("BR", "latin_america")]
)
def test_shipped_regions(country: str, region: str) -> None:
    assert given_shipped().learns(country=country).segment("region") == region


def test_persons_leave_no_more_than_a_keyed_hash() -> None:
    record = Contact(account=ACME, person="5f0c", at=MON, received=MON, set={"status": "active"})
    done = step(None, record, MON, InForce().switch(ruleset(THREE_VISITS), -1, 0))
    assert list(done.state.contacts) == ["5f0c"]


# -- found by reading, each once wrong ----------------------------------------------------------------------


def test_what_the_old_rules_owe_is_paid_before_the_new_ones_begin() -> None:
    """Due before the switch but reached by no tick: it left by time, under the rules of then."""
    rules = InForce().switch(ruleset(THREE_VISITS), -1, 0)
    partition = Partition(0, ruleset=rules.ruleset.hash, introduced=rules.introduced)
    visits: list[Record] = [
        Activity(account=ACME, name="visit", at=at, received=at, offset=i) for i, at in enumerate([MON, TUE, WED])
    ]
    hot = fold(partition, rules, visits, {}, compile_files)
    files = ruleset(THREE_VISITS.replace("at_least: 3", "at_least: 2")).files
    late = RulesetRecord(received=MON + WEEK + HOUR, hash="", files=files, offset=3)
    switched = fold(hot.partition, hot.rules, [late], hot.states, compile_files, due=[(MON + WEEK, ACME)])
    (out,) = switched.outgoing
    assert (out.change.before, out.change.after) == (("hot",), ("cold",))
    assert (out.change.cause, out.change.effective) == ("time", MON + WEEK)
    assert out.ruleset is hot.rules.ruleset
    swept = fold(
        switched.partition,
        switched.rules,
        [Tick(received=MON + WEEK + 2 * HOUR, offset=4)],
        switched.states,
        compile_files,
        unswept=[ACME],
    )
    assert [(o.change.after, o.change.cause, o.change.effective) for o in swept.outgoing] == [
        (("hot",), "rules", MON + WEEK + HOUR)
    ]


def test_what_time_did_is_live_although_an_import_noticed_it() -> None:
    account = given(THREE_VISITS).sees("visit", at=[MON, TUE, WED])
    late = SUN + 3 * DAY
    account.feed(Facts(account=ACME, at=late, received=late, set={"name": "Acme"}, origin="import"))
    assert [(each.cause, each.origin) for each in account.told] == [
        ("data", "live"),
        ("data", "live"),
        ("time", "live"),
    ]


def test_a_restored_account_is_back_by_its_data_not_by_the_rules() -> None:
    account = given(THREE_VISITS).sees("visit", at=MON).gets_rules(THREE_VISITS, at=TUE).is_deleted(at=WED)
    assert account.is_restored(at=THU).told[-1].cause == "data"


@pytest.mark.parametrize(
    ("asked", "seen", "counts"),
    [("1", True, False), ("1", 1, True), ("true", 1, False), ("true", True, True), ("'1'", 1, False)],
)
def test_true_is_not_one_and_one_is_not_a_text(asked: str, seen: Any, counts: bool) -> None:
    account = given_when(f"{{count: page, where: {{n: {{is: {asked}}}}}, at_least: 1, within: 7d}}")
    account.sees("page", at=MON, props={"n": seen})
    assert account.segment() == (YES if counts else NO)


def test_a_contact_fact_named_gone_is_like_any_other() -> None:
    account = given_when("{contacts: all, where: {status: {is: active}}}").contact("p", at=MON, status="active")
    account.feed(Contact(account=ACME, person="p", at=TUE, received=TUE, set={"gone": "fishing"}))
    assert account.segment() == YES


def test_a_removed_dimension_wakes_nobody() -> None:
    """Its wake was kept, found nobody to ask at its instant, and was waited for again, for ever."""
    other = "dimension: other\nsegments: [{segment: all, otherwise: true}]\n"
    account = given(THREE_VISITS, other).sees("visit", at=[MON, TUE, WED])
    account.gets_rules(other, at=THU)
    assert account.wakes_at == NEVER
    assert account.until(SUN + 4 * WEEK).segment("other") == "all"
