"""Stories of the rule language's richer half: people, amounts, firsts, sequences, calendars, dwell and references.

Times read as in the other stories: MON is a Monday at midnight UTC, and what is due between two lines is told
at its own instant.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from story import (
    DAY,
    FRI,
    HOUR,
    MINUTE,
    MON,
    MS,
    NAMES,
    SAT,
    SUN,
    THU,
    TUE,
    WED,
    Account,
    given,
    given_when,
    moved,
)

from rules.errors import RulesetError
from rules.records import Activity
from rules.state import NEVER

YES, NO, UNKNOWN = "yes", "no", "unclassified"
WEEK = 7 * DAY


def local(zone: str, *when: int) -> int:
    """UTC milliseconds of a wall clock in a zone."""
    return int(datetime(*when, tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def flips(account: Account) -> list[tuple[str, int]]:
    """Where the account's answer went, and when."""
    return [(each.segment, each.at) for each in account.changes]


# -- people -------------------------------------------------------------------------------------------------

TWO_PEOPLE = "{people: visit, at_least: 2, within: 7d}"


def test_two_people_are_two_whoever_comes_often() -> None:
    account = given_when(TWO_PEOPLE).sees(at=[MON, MON + HOUR, TUE], person="ann")
    assert account.segment() == NO
    assert account.sees(at=WED, person="bob").segment() == YES


def test_a_person_counts_by_the_last_time() -> None:
    account = given_when(TWO_PEOPLE).sees(at=MON, person="ann").sees(at=TUE, person="bob")
    account.sees(at=WED, person="ann")  # now bob's visit is the one that leaves first
    assert account.until(TUE + WEEK - MS).segment() == YES
    assert flips(account.until(TUE + WEEK)) == [(YES, TUE), (NO, TUE + WEEK)]


def test_a_late_visit_does_not_make_a_person_older() -> None:
    account = given_when(TWO_PEOPLE).sees(at=TUE, person="ann").sees(at=TUE, person="bob")
    account.sees(at=MON, arriving=WED, person="ann")
    assert account.wakes_at == TUE + WEEK


def test_nobody_in_particular_is_no_person() -> None:
    assert given_when("{people: visit, at_least: 1, within: 7d}").sees(at=[MON, TUE]).segment() == NO


EXECUTIVES = "{people: visit, who: {level: chief}, at_least: 2, within: 7d}"


def test_a_role_learnt_later_counts_for_what_happened_before() -> None:
    account = given_when(EXECUTIVES).sees(at=MON, person="ann").sees(at=TUE, person="bob")
    assert account.segment() == UNKNOWN  # both might be
    account.contact("ann", at=WED, level="CEO")
    assert account.segment() == UNKNOWN
    account.contact("bob", at=THU, level="CTO")
    assert flips(account.until(MON + WEEK)) == [(UNKNOWN, TUE), (YES, THU), (NO, MON + WEEK)]


def test_who_cannot_be_enough_is_false_and_not_unknown() -> None:
    account = given_when(EXECUTIVES).contact("ann", level="clerk").sees(at=MON, person="ann")
    assert account.segment() == NO
    account.sees(at=TUE, person="bob")  # one that may match, and two are needed
    assert account.segment() == NO


def test_a_contact_who_left_does_not_match() -> None:
    account = given_when(EXECUTIVES)
    for person in ("ann", "bob"):
        account.contact(person, level="CEO").sees(at=MON, person=person)
    assert account.segment() == YES
    assert account.contact("bob", at=TUE, gone=True).segment() == NO


# -- amounts ------------------------------------------------------------------------------------------------

ORDERS = NAMES.replace("  demo: {}\n", "  demo: {}\n  order: {label: order(s)}\n")


def orders(condition: str) -> Account:
    return given_when(condition, names=ORDERS)


def order(account: Account, at: int, amount: Any, **more: Any) -> Account:
    return account.sees("order", at=at, props={"amount": amount}, **more)


def test_a_sum_falls_when_an_amount_leaves() -> None:
    account = orders("{sum: order, of: amount, at_least: 100, within: 7d}")
    order(order(order(account, MON, 30), TUE, 50.5), WED, 49.5)
    assert flips(account.until(SUN)) == [(YES, WED)]
    assert account.wakes_at == MON + WEEK + DAY  # without Monday's 30 it is still 100
    assert flips(account.until(TUE + WEEK)) == [(YES, WED), (NO, TUE + WEEK)]


def test_a_tenth_ten_times_is_one() -> None:
    account = orders("{sum: order, of: amount, at_least: 1, within: 7d}")
    for n in range(10):
        order(account, MON + n, 0.1)
    assert account.segment() == YES


def test_a_sum_may_rise_by_time_when_what_leaves_is_negative() -> None:
    account = orders("{sum: order, of: amount, at_least: 100, within: 7d}")
    order(order(account, MON, -10), TUE, 105)
    assert account.segment() == NO
    assert flips(account.until(MON + WEEK)) == [(YES, MON + WEEK)]


@pytest.mark.parametrize(
    ("kind", "bound", "moves"),
    [
        ("min", "at_least: 20", [(NO, TUE), (YES, TUE + WEEK), (UNKNOWN, WED + WEEK)]),
        ("max", "above: 20", [(NO, MON + WEEK), (UNKNOWN, WED + WEEK)]),
        ("avg", "below: 20", [(YES, TUE), (NO, WED), (YES, MON + WEEK), (NO, TUE + WEEK), (UNKNOWN, WED + WEEK)]),
    ],
)
def test_least_greatest_and_mean_follow_what_is_in_the_window(kind: str, bound: str, moves: list[Any]) -> None:
    account = orders(f"{{{kind}: order, of: amount, {bound}, within: 7d}}")
    order(order(order(account, MON, 25), TUE, 10), WED, 20 if kind != "avg" else 28)
    assert flips(account.until(WED + WEEK)) == moves


def test_the_sum_of_nothing_is_nothing_and_the_mean_of_nothing_is_unknown() -> None:
    for kind, answer in [("sum", YES), ("avg", UNKNOWN), ("min", UNKNOWN), ("max", UNKNOWN)]:
        account = orders(f"{{{kind}: order, of: amount, below: 5, within: 7d}}").learns(name="Acme")
        assert account.segment() == answer


def test_what_is_no_amount_adds_nothing() -> None:
    account = orders("{sum: order, of: amount, at_least: 10, within: 7d}")
    for amount in (None, "many", True, [10], float("inf"), 1e300):
        order(account, MON, amount)
    assert account.segment() == NO
    assert order(account, TUE, "1,000.50").segment() == YES


def test_more_amounts_than_are_kept_make_a_sum_unknown_until_the_missing_ones_have_left() -> None:
    account = orders("{sum: order, of: amount, at_least: 1000, within: 7d}")
    for n in range(257):
        order(account, MON + n * MINUTE, 1)
    assert account.segment() == UNKNOWN
    assert account.until(MON + WEEK).segment() == NO


def test_what_we_send_ourselves_is_no_sign_of_life() -> None:
    names = NAMES.replace("  demo: {}\n", "  demo: {}\n  mailed: {outbound: true}\n")
    account = given_when("{people: any, at_least: 1, within: 7d}", names=names)
    assert account.sees("mailed", at=MON, person="ann").segment() == NO
    assert account.sees("unheard_of", at=MON, person="ann").segment() == YES
    mailed = given_when("{count: mailed, at_least: 1, within: 7d}", names=names).sees("mailed", at=MON)
    assert mailed.segment() == YES


# -- ever, never, first, last -------------------------------------------------------------------------------


def test_seen_without_a_window_is_for_ever() -> None:
    account = given_when("{seen: demo}").learns(name="Acme")
    assert account.segment() == NO
    assert account.sees("demo", at=TUE).segment() == YES
    assert account.wakes_at == NEVER


def test_never_ends_with_the_first_time() -> None:
    account = given_when("{never: demo}").learns(name="Acme")
    assert account.segment() == YES
    assert flips(account.sees("demo", at=TUE).until(TUE + 400 * DAY)) == [(NO, TUE)]


def test_what_happened_before_the_rule_may_have_happened() -> None:
    account = given("dimension: d\nsegments: [{segment: s, otherwise: true}]").learns(name="Acme")
    account.gets_rules(
        "dimension: answer\nsegments: [{segment: 'yes', when: {never: demo}}, {segment: 'no', otherwise: true}]",
        at=TUE,
    )
    assert account.until(TUE).segment() == UNKNOWN
    assert account.sees("demo", at=WED).segment() == NO


def test_the_first_time_ages_whatever_follows() -> None:
    account = given_when("{first: demo, within: 30d}").sees("demo", at=[TUE, SUN])
    assert flips(account.until(TUE + 30 * DAY)) == [(NO, TUE + 30 * DAY)]


def test_an_earlier_first_time_may_arrive_late() -> None:
    account = given_when("{first: demo, older_than: 7d}").sees("demo", at=THU).sees("demo", at=TUE, arriving=FRI)
    assert account.segment() == NO
    assert flips(account.until(TUE + WEEK)) == [(YES, TUE + WEEK)]


def test_first_and_last_of_what_never_happened_are_false() -> None:
    for kind in ("first", "last"):
        for bound in ("within", "older_than"):
            assert given_when(f"{{{kind}: demo, {bound}: 7d}}").learns(name="Acme").segment() == NO


def test_the_last_time_is_renewed() -> None:
    account = given_when("{last: demo, older_than: 7d}").sees("demo", at=MON)
    assert account.until(MON + WEEK - MS).segment() == NO
    account.until(MON + WEEK).sees("demo", at=MON + 8 * DAY)
    assert flips(account.until(MON + 15 * DAY)) == [(YES, MON + WEEK), (NO, MON + 8 * DAY), (YES, MON + 15 * DAY)]


# -- sequences ----------------------------------------------------------------------------------------------

DEMO_THEN_VISIT = "{sequence: [demo, visit], span: 2d, within: 7d}"


def test_one_after_the_other_within_the_span() -> None:
    account = given_when(DEMO_THEN_VISIT).sees("demo", at=MON).sees("visit", at=WED)
    assert flips(account.until(WED + WEEK)) == [(YES, WED), (NO, WED + WEEK)]


@pytest.mark.parametrize(
    ("demo", "visit"), [(MON, WED + MS), (TUE, MON), (MON, MON - MS)], ids=["too long", "wrong order", "before"]
)
def test_no_sequence(demo: int, visit: int) -> None:
    account = given_when(DEMO_THEN_VISIT).sees("demo", at=demo, arriving=SAT).sees("visit", at=visit, arriving=SAT)
    assert account.segment() == NO


def test_the_first_half_may_arrive_last() -> None:
    account = given_when(DEMO_THEN_VISIT).sees("visit", at=WED).sees("demo", at=TUE, arriving=THU)
    assert (account.segment(), account.wakes_at) == (YES, WED + WEEK)


def test_a_crowd_between_changes_nothing() -> None:
    account = given_when(DEMO_THEN_VISIT).sees("demo", at=MON)
    account.sees("visit", at=[MON + n * MINUTE for n in range(1, 100)])
    assert account.segment() == YES
    account.sees("demo", at=[TUE + n * MINUTE for n in range(100)])
    assert account.segment() == YES


def test_three_steps_in_order() -> None:
    account = given_when("{sequence: [demo, click, visit], span: 3d}")
    account.sees("click", at=MON).sees("demo", at=TUE).sees("visit", at=WED)
    assert account.segment() == NO
    assert account.sees("click", at=TUE + HOUR, arriving=THU).segment() == YES
    assert account.wakes_at == NEVER


def test_twice_the_same_is_two_activities() -> None:
    account = given_when("{sequence: [demo, demo], span: 2d, within: 7d}").sees("demo", at=MON)
    assert account.segment() == NO
    assert account.sees("demo", at=TUE).segment() == YES


def test_a_step_may_be_told_by_its_properties() -> None:
    account = given_when(
        "{sequence: [pricing, {activity: page, where: {path: {starts: /docs}}}], span: 1h, within: 7d}"
    )
    account.sees("page", at=MON, props={"path": "/pricing"}).sees("page", at=MON + MINUTE, props={"path": "/x"})
    assert account.segment() == NO
    assert account.sees("page", at=MON + 2 * MINUTE, props={"path": "/docs/a"}).segment() == YES


# -- calendars ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "zone", "at", "leaves"),
    [
        ("1d", "UTC", MON, TUE),
        ("1d", "UTC", MON + DAY - MS, TUE),
        ("7d", "UTC", MON + HOUR, MON + WEEK),
        ("1w", "UTC", SUN, MON + WEEK),
        ("2w", "UTC", WED, MON + 2 * WEEK),
        ("1mo", "UTC", MON, local("UTC", 2026, 4, 1)),
        ("2q", "UTC", MON, local("UTC", 2026, 7, 1)),
        ("1y", "UTC", MON, local("UTC", 2027, 1, 1)),
        ("1d", "America/New_York", MON, local("America/New_York", 2026, 3, 2)),
        # The clocks go forward on 29 March 2026 in Berlin: that day has 23 hours.
        ("1d", "Europe/Berlin", local("Europe/Berlin", 2026, 3, 29), local("Europe/Berlin", 2026, 3, 30)),
        ("1mo", "Europe/Berlin", local("Europe/Berlin", 2026, 3, 1), local("Europe/Berlin", 2026, 4, 1)),
    ],
)
def test_an_activity_leaves_when_its_unit_is_old_enough(units: str, zone: str, at: int, leaves: int) -> None:
    account = given_when(f"{{seen: demo, calendar: {units}, timezone: {zone}}}").sees("demo", at=at)
    assert (account.segment(), account.wakes_at) == (YES, leaves)
    assert flips(account.until(leaves)) == [(NO, leaves)]


@pytest.mark.parametrize(("day", "hours"), [(28, 24), (29, 23), (30, 24)])
def test_the_day_the_clocks_change_has_its_own_length(day: int, hours: int) -> None:
    at = local("Europe/Berlin", 2026, 3, day)
    account = given_when("{seen: demo, calendar: 1d, timezone: Europe/Berlin}").sees("demo", at=at)
    assert account.wakes_at - at == hours * HOUR


def test_counts_people_and_sums_by_the_calendar() -> None:
    for condition in (
        "{count: order, at_least: 2, calendar: 1mo}",
        "{people: order, at_least: 2, calendar: 1mo}",
        "{sum: order, of: amount, at_least: 2, calendar: 1mo}",
    ):
        account = orders(condition)
        order(order(account, MON, 1, person="ann"), TUE, 1, person="bob")
        assert flips(account.until(local("UTC", 2026, 4, 1))) == [(YES, TUE), (NO, local("UTC", 2026, 4, 1))]


# -- dates --------------------------------------------------------------------------------------------------


def test_a_renewal_comes_near_and_passes() -> None:
    account = given_when("{fact: renewal, within_next: 30d}").learns(renewal="2026-05-01")
    day = local("UTC", 2026, 5, 1)
    assert flips(account.until(day)) == [(YES, day - 30 * DAY), (NO, day)]


def test_a_day_begins_where_the_fact_says() -> None:
    names = NAMES.replace("renewal: {type: date}", "renewal: {type: date, timezone: America/New_York}")
    account = given_when("{fact: renewal, older_than: 1d}", names=names).learns(renewal="2026-03-02")
    assert account.wakes_at == local("America/New_York", 2026, 3, 3)


@pytest.mark.parametrize("value", ["soon", "2026-02-30", 5, True, ["2026-01-01"], "05.03.2026"])
def test_what_is_no_date_is_refused_and_the_fact_stays(value: Any) -> None:
    account = given_when("{fact: renewal, before: 2026-03-05}").learns(renewal="2026-03-01")
    account.learns(at=TUE, renewal=value)
    assert account.segment() == YES


def test_an_instant_may_be_milliseconds() -> None:
    account = given_when("{fact: renewal, is: 2026-03-02}").learns(renewal=MON + HOUR)
    assert account.segment() == YES
    assert account.state.facts["renewal"].value == "2026-03-02T01:00:00.000Z"


def test_a_contact_known_for_long() -> None:
    names = NAMES.replace("  status: {type: text}", "  status: {type: text}\n  since: {type: date}")
    account = given_when("{contacts: any, where: {since: {older_than: 7d}}}", names=names)
    account.contact("ann", since="2026-03-01")
    assert flips(account.until(SUN)) == [(YES, SUN)]


# -- text ---------------------------------------------------------------------------------------------------


def test_case_counts_unless_it_is_folded() -> None:
    for condition in ("is: berlin", "in: [berlin]", "starts: b", "ends: N", "contains: RLI", "glob: 'B*N'"):
        assert given_when(f"{{fact: country, {condition}}}").learns(country="Berlin").segment() == NO
        assert given_when(f"{{fact: country, {condition}, fold: true}}").learns(country="Berlin").segment() == YES
    assert given_when("{fact: products, has_any: [crm], fold: true}").learns(products=["CRM"]).segment() == YES


@pytest.mark.parametrize(
    ("glob", "text", "matches"),
    [
        ("*", "", True),
        ("a*", "ba", False),
        ("*a*b*", "xxaxxbxx", True),
        ("*a*b*", "xxbxxaxx", False),
        ("a*ba", "aba", True),
        ("a*aba", "aba", False),
        ("?b?", "abc", True),
        ("?b?", "ab", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("*\n?", "x\ny", True),
        ("/blog/*/2026/*", "/blog/en/2026/x", True),
    ],
)
def test_a_glob(glob: str, text: str, matches: bool) -> None:
    account = given_when(f"{{seen: page, where: {{path: {{glob: {json.dumps(glob)}}}}}, within: 7d}}")
    assert account.sees("page", props={"path": text}).segment() == (YES if matches else NO)


# -- at least n of ------------------------------------------------------------------------------------------

TWO_OF = (
    """{at_least: 2, of: [{fact: employees, above: 100}, {fact: customer, is: true}, {seen: visit, within: 7d}]}"""
)


def test_two_of_three() -> None:
    account = given_when(TWO_OF).learns(employees=200)
    assert account.segment() == UNKNOWN  # whether it is a customer would decide
    assert account.sees("visit", at=TUE).segment() == YES
    assert flips(account.until(TUE + WEEK)) == [(YES, TUE), (UNKNOWN, TUE + WEEK)]
    assert given_when(TWO_OF).learns(employees=5).sees("demo").segment() == NO


def test_so_many_contacts() -> None:
    account = given_when("{contacts: any, at_least: 2, where: {level: chief}}").contact("ann", level="CEO")
    assert account.segment() == NO
    assert account.contact("bob").segment() == UNKNOWN
    assert account.contact("bob", at=TUE, level="CTO").segment() == YES


# -- scores -------------------------------------------------------------------------------------------------


def scored(signals: str, threshold: float = 50) -> Account:
    names = NAMES + f"---\nscores:\n  mixed: {{half_life: 7d, signals: [{signals}]}}\n"
    return given_when(f"{{score: mixed, at_least: {threshold}}}", names=names)


def test_signals_may_fade_at_their_own_pace() -> None:
    account = scored("{activity: demo, weight: 40}, {activity: click, weight: 40, half_life: 1d}")
    account.sees("demo", at=MON).sees("click", at=MON)
    # 40/2^(t/7) + 40/2^t = 50 at about 1.58 days
    (_, fell) = flips(account.until(MON + 3 * DAY))[-1]
    days = (fell - MON) / DAY
    before = (fell - 1 - MON) / DAY
    assert 40 / 2 ** (days / 7) + 40 / 2**days < 50 <= 40 / 2 ** (before / 7) + 40 / 2**before + 1e-9


def test_a_cap_limits_what_a_signal_is_worth_at_any_time() -> None:
    account = scored("{activity: demo, weight: 40}, {activity: visit, weight: 5, cap: 20}")
    account.sees("visit", at=[MON + n for n in range(100)])
    assert account.segment() == NO
    account.sees("demo", at=TUE)  # 40 + 20, and only 40 fades at first
    assert account.segment() == YES
    expected = TUE + int(7 * DAY * 0.41503749927884376)  # 40 / 2^(t/7) = 30
    assert abs(account.wakes_at - expected) <= 2


def test_a_negative_signal_takes_away() -> None:
    account = scored("{activity: demo, weight: 60}, {activity: click, weight: -20}")
    assert account.sees("demo", at=MON).segment() == YES
    assert account.sees("click", at=MON + MINUTE).segment() == NO
    assert account.wakes_at == NEVER  # both fade alike, so it cannot rise again by itself


@pytest.mark.parametrize(
    ("signals", "why"),
    [
        ("{activity: demo, weight: -1}, {activity: visit, weight: 1, cap: 5}", "a cap do not go together"),
        ("{activity: demo, weight: -1, half_life: 1d}, {activity: visit, weight: 1}", "one half-life for all"),
    ],
)
def test_a_score_that_might_rise_by_itself_is_refused_with_the_reason(signals: str, why: str) -> None:
    with pytest.raises(RulesetError) as caught:
        scored(signals)
    problem = caught.value.problems[0]
    assert why in problem.message
    assert "could not be told exactly" in problem.message


# -- dwell --------------------------------------------------------------------------------------------------


def dwelling(*more: str) -> Account:
    """Hot while there were two visits in a week, with `stay`, `for` or `keep_for`; otherwise cold."""
    return given(f"""
    dimension: heat
    on_unknown: skip
    segments:
      - {{segment: hot, when: {{count: visit, at_least: 2, within: 7d}}, {", ".join(more)}}}
      - {{segment: cold, otherwise: true}}
    """)


def test_for_waits_until_it_has_held_long_enough() -> None:
    account = dwelling("for: 2d").sees(at=[MON, TUE])
    assert account.segment("heat") == "cold"
    assert account.until(TUE + 2 * DAY - MS).segment("heat") == "cold"
    assert account.until(TUE + 2 * DAY).changes == [moved("heat", "cold", "hot", TUE + 2 * DAY, "time")]


def test_for_begins_anew_when_it_stopped_holding() -> None:
    account = dwelling("for: 8d").sees(at=[MON, TUE])  # holds until Monday's visit is a week old
    account.until(MON + 20 * DAY)
    assert account.changes == []


def test_a_repeated_visit_does_not_restart_the_wait() -> None:
    account = dwelling("for: 2d").sees(at=[MON, TUE, WED]).until(THU)
    assert account.changes == [moved("heat", "cold", "hot", THU, "time")]


def test_keep_for_holds_it_that_long() -> None:
    account = dwelling("keep_for: 10d").sees(at=[MON, TUE])
    assert account.told[-1].stays_until == TUE + 10 * DAY
    assert account.until(TUE + 10 * DAY).changes == [
        moved("heat", "cold", "hot", TUE),
        moved("heat", "hot", "cold", TUE + 10 * DAY, "time"),
    ]


def test_keep_for_is_not_begun_anew_by_the_rule_being_true_again() -> None:
    account = dwelling("keep_for: 3d").sees(at=[MON, TUE, FRI, SAT]).until(FRI + WEEK)
    assert account.changes[-1] == moved("heat", "hot", "cold", FRI + WEEK, "time")


def test_stay_is_a_looser_rule_to_remain() -> None:
    account = dwelling("stay: {seen: visit, within: 14d}").sees(at=[MON, TUE])
    assert account.until(TUE + 14 * DAY).changes == [
        moved("heat", "cold", "hot", TUE),
        moved("heat", "hot", "cold", TUE + 14 * DAY, "time"),
    ]
    # It does not let anybody in.
    assert dwelling("stay: {seen: visit, within: 14d}").sees(at=MON).segment("heat") == "cold"


def test_nothing_holds_an_account_against_a_higher_rung() -> None:
    account = given("""
    dimension: heat
    segments:
      - {segment: hot, when: {seen: demo, within: 7d}}
      - {segment: warm, when: {seen: visit, within: 7d}, keep_for: 30d}
      - {segment: cold, otherwise: true}
    """)
    account.sees("visit", at=MON).sees("demo", at=TUE).until(TUE + WEEK)
    assert account.segment("heat") == "cold"  # the stay in warm ended when it left
    assert [each.segment for each in account.changes] == ["hot", "cold"]


def test_for_counts_unknown_as_false() -> None:
    account = given("""
    dimension: d
    segments:
      - {segment: big, when: {fact: employees, above: 100}, for: 1d}
      - {segment: rest, otherwise: true}
    """).learns(name="Acme")
    assert account.segment("d") == "rest"


def test_a_set_lets_each_member_wait_and_stay_by_itself() -> None:
    account = given("""
    dimension: signs
    kind: set
    segments:
      - {segment: visited, when: {seen: visit, within: 1d}, keep_for: 3d}
      - {segment: keen, when: {count: visit, at_least: 2, within: 7d}, for: 1d}
    """)
    account.sees(at=[MON, MON + HOUR])
    assert account.segments("signs") == ("visited",)
    assert account.until(TUE + HOUR).segments("signs") == ("visited", "keen")
    assert account.until(THU - MS).segments("signs") == ("visited", "keen")
    assert account.until(THU).segments("signs") == ("keen",)
    assert account.until(MON + WEEK).segments("signs") == ()


def test_an_edited_rule_begins_its_wait_anew() -> None:
    rule = """
    dimension: heat
    segments:
      - {{segment: hot, when: {{seen: visit, within: {}d}}, for: 2d}}
      - {{segment: cold, otherwise: true}}
    """
    account = given(rule.format(7)).sees(at=MON).gets_rules(rule.format(9), at=TUE)
    assert account.until(WED).segment("heat") == "cold"
    assert account.until(THU).segment("heat") == "hot"
    unchanged = (
        given(rule.format(7)).sees(at=MON).gets_rules(rule.format(7), "dimension: x\nby_fact: industry", at=TUE)
    )
    assert unchanged.until(WED).segment("heat") == "hot"


def test_the_reason_says_what_holds_it() -> None:
    account = dwelling("keep_for: 10d").sees(at=[MON, TUE]).sees("demo", at=MON + WEEK)
    dimension = account.replay.rules.ruleset.dimension("heat")
    assert dimension is not None
    told = dimension.tell("hot", account.state, account.now)
    assert told["verdict"] == "true"
    assert {"says": "kept for 10 days, whatever happens", "verdict": "true", "until": TUE + 10 * DAY} in told[
        "parts"
    ]


# -- references ---------------------------------------------------------------------------------------------

PRIORITY = """
dimension: priority
segments:
  - {segment: first, when: {all: [{segment: heat/hot}, {segment: [size/large, size/middle]}]}}
  - {segment: later, otherwise: true}
---
dimension: heat
on_unknown: skip
segments:
  - {segment: hot, when: {seen: visit, within: 7d}}
  - {segment: cold, otherwise: true}
---
dimension: size
segments:
  - {segment: large, when: {fact: employees, at_least: 1000}}
  - {segment: middle, when: {fact: employees, at_least: 100}}
  - {segment: small, when: {fact: employees, at_least: 1}}
"""


def test_a_segment_may_rest_on_others_and_leaves_with_them() -> None:
    account = given(PRIORITY).learns(employees=500).sees(at=TUE)
    assert account.changes == [moved("heat", "cold", "hot", TUE), moved("priority", "later", "first", TUE)]
    assert account.told[-1].stays_until == TUE + WEEK
    account.until(TUE + WEEK)
    assert account.changes[2:] == [
        moved("heat", "hot", "cold", TUE + WEEK, "time"),
        moved("priority", "first", "later", TUE + WEEK, "time"),
    ]


def test_a_reference_to_what_is_unclassified_is_unknown() -> None:
    account = given(PRIORITY).sees(at=MON)
    assert (account.segment("size"), account.segment("priority")) == (UNKNOWN, UNKNOWN)
    missing = given(PRIORITY.replace("[size/large, size/middle]", "size, missing: true")).sees(at=MON)
    assert missing.segment("priority") == "first"
    assert missing.learns(employees=7).segment("priority") == "later"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("{segment: heet/hot}", "unknown dimension 'heet' (did you mean 'heat'?)"),
        ("{segment: heat/hott}", "unknown segment of 'heat' 'hott' (did you mean 'hot'?)"),
        ("{segment: heat}", "'heat' names no segment (write dimension/segment, such as engagement/hot)"),
        (
            "{segment: heat, missing: true}",
            "'heat' is a ladder that skips what is unknown, so it is never unclassified",
        ),
        ("{segment: [size, heat], missing: true}", "`missing:` asks about one dimension"),
    ],
)
def test_a_reference_that_leads_nowhere(condition: str, expected: str) -> None:
    text = PRIORITY.replace("{all: [{segment: heat/hot}, {segment: [size/large, size/middle]}]}", condition)
    with pytest.raises(RulesetError) as caught:
        given(text)
    assert any(expected in str(problem) for problem in caught.value.problems)


def test_a_circle_is_named() -> None:
    ring = """
    dimension: {}
    segments: [{{segment: s, when: {{segment: {}/s}}}}]
    """
    with pytest.raises(RulesetError) as caught:
        given(ring.format("a", "b"), ring.format("b", "c"), ring.format("c", "a"))
    assert "a → b → c → a" in str(caught.value.problems[0])


# -- facts with an authority --------------------------------------------------------------------------------

RANKED = NAMES.replace("employees: {type: number}", "employees: {type: number, sources: [crm, web], refresh: 30d}")


def ranked(*reports: tuple[str, Any, int]) -> Account:
    """Reports (source, value, at) in the order of arrival, all arriving at the end."""
    account = given_when("{fact: employees, at_least: 100}", names=RANKED)
    for source, value, at in reports:
        account.learns_from(source, at=at, arriving=MON + 90 * DAY, employees=value)
    return account


@pytest.mark.parametrize(
    ("reports", "value"),
    [
        ([("crm", 500, MON), ("web", 5, TUE)], 500),
        ([("web", 5, TUE), ("crm", 500, MON)], 500),
        ([("crm", 500, MON), ("web", 5, MON + 30 * DAY)], 500),
        ([("crm", 500, MON), ("web", 5, MON + 30 * DAY + MS)], 5),
        ([("crm", 500, MON), ("crm", None, TUE), ("web", 5, MON)], 5),
        ([("web", 5, MON), ("form", 7, MON + 31 * DAY)], 7),
        ([("web", 5, MON), ("form", 7, TUE), ("crm", 500, MON - WEEK)], 500),
    ],
)
def test_the_higher_rank_wins_unless_it_is_stale(reports: list[tuple[str, Any, int]], value: int) -> None:
    for order_ in (reports, reports[::-1]):
        account = ranked(*order_)
        assert account.state.facts["employees"].value == value


# -- vocabularies -------------------------------------------------------------------------------------------

WORLD = """
facts:
  country: {type: text, vocabulary: country}
  region: {type: text, vocabulary: region, also: [country]}
  sector: {type: text, vocabulary: sector, also: [code]}
  code: {type: text, vocabulary: code}
contact_facts:
  title: {type: text}
  role: {type: text, vocabulary: role, also: [title]}
activities: {visit: {}}
---
vocabulary: country
terms: {DE: [Deutschland, Germany], FR: [France]}
---
vocabulary: region
terms: {dach: [DE], west: [FR]}
---
vocabulary: trade
fuzzy: 0.8
terms: {banking: [Credit Union, Investment Banking], software: [Computer Software]}
---
vocabulary: sector
of: trade
fuzzy: 0.8
terms: {finance: [banking, Financial Services], tech: [software]}
---
vocabulary: code
match: prefix
terms: {banking: ["52", "5221"], software: ["51", "5112"]}
---
vocabulary: role
match: words
terms: {technical: [cto, vp engineering, engineer], executive: [vp, chief]}
"""


@pytest.mark.parametrize(
    ("facts", "condition"),
    [
        ({"country": "Deutschland"}, "{fact: region, is: dach}"),
        ({"country": "Deutschland", "region": "west"}, "{fact: region, is: west}"),
        ({"sector": "credit-union"}, "{fact: sector, is: finance}"),
        ({"sector": "Financial Services"}, "{fact: sector, is: finance}"),
        ({"code": "522110"}, "{fact: sector, is: finance}"),
        ({"code": "511"}, "{fact: sector, is: tech}"),
        ({"sector": "Zeppelins", "code": "522110"}, "{fact: sector, is: finance}"),
        ({"sector": "Computer Sofware"}, "{fact: sector, is: tech}"),
    ],
)
def test_a_value_is_read_through_its_vocabulary(facts: dict[str, str], condition: str) -> None:
    assert given_when(condition, names=WORLD).learns(**facts).segment() == YES


def test_a_near_spelling_keeps_its_confidence_and_what_is_far_is_unknown() -> None:
    account = given_when("{fact: sector, is: tech}", names=WORLD).learns(sector="Computer Sofware")
    told = account.told[-1].reason["answer"]["because"]
    assert told["value"] == "tech"
    assert told["raw"] == "Computer Sofware"
    assert 0.8 <= told["confidence"] < 1
    assert account.learns(at=TUE, sector="Zeppelins").segment() == UNKNOWN


@pytest.mark.parametrize(
    ("title", "role"),
    [
        ("VP, Engineering", "technical"),
        ("VP of Sales", "executive"),
        ("Chief engineer", "technical"),
        ("Clerk", ""),
    ],
)
def test_a_title_becomes_a_role(title: str, role: str) -> None:
    condition = (
        f"{{contacts: any, where: {{role: {role}}}}}"
        if role
        else "{contacts: any, where: {role: {missing: true}}}"
    )
    assert given_when(condition, names=WORLD).contact("ann", title=title).segment() == YES


def test_a_new_vocabulary_is_asked_about_old_values() -> None:
    question = "dimension: answer\nsegments: [{segment: 'yes', when: {fact: sector, is: tech}}]"
    account = given(question, names=WORLD).learns(sector="Computer Sofware")
    account.gets_rules(question, names=WORLD.replace("fuzzy: 0.8\nterms: {finance", "terms: {finance"), at=TUE)
    assert account.until(TUE).segment() == UNKNOWN
    account.gets_rules(question, names=WORLD.replace("[software]", "[software, Computer Sofware]"), at=WED)
    assert account.until(WED).segment() == YES


# -- bands --------------------------------------------------------------------------------------------------

BANDS = """
bands: headcount
profiles:
  wide: {small: 1, middle: 200, large: 2000}
  narrow: {small: 1, large: 51}
---
dimension: size
by_bands: {fact: employees, bands: headcount, profile: wide}
owner: sales
action: call
segments:
  - {segment: large, action: {do: visit, sla: 1d}}
"""


@pytest.mark.parametrize(
    ("employees", "size"), [(0, ""), (1, "small"), (199, "small"), (200, "middle"), (2000, "large")]
)
def test_bands_cut_a_number(employees: int, size: str) -> None:
    assert given(BANDS).learns(employees=employees).segment("size") == size


def test_another_profile_is_one_word() -> None:
    assert given(BANDS.replace("profile: wide", "profile: narrow")).learns(employees=51).segment("size") == "large"


def test_a_segment_made_of_a_value_has_its_own_words() -> None:
    account = given(BANDS).learns(employees=1).learns(employees=300, at=TUE).learns(employees=3000, at=WED)
    assert [(change.owner, change.action) for change in account.told[1:]] == [
        ("sales", {"do": "call"}),
        ("sales", {"do": "visit", "sla": "1d"}),
    ]


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (("profile: wide", "profile: wiide"), "unknown profile 'wiide' (did you mean 'wide'?)"),
        (("bands: headcount, ", "bands: heads, "), "unknown bands 'heads'"),
        (("fact: employees", "fact: country"), "bands cut a number, and country is a text"),
        (("segment: large", "segment: larg"), "unknown segment 'larg' (did you mean 'large'?)"),
        (("middle: 200, large: 2000", "middle: 200, large: 200"), "each band begins above the one before it"),
        (("segment: large, ", "segment: large, otherwise: true, "), "its rule is the fact's value"),
    ],
)
def test_bands_that_cannot_be(broken: tuple[str, str], expected: str) -> None:
    with pytest.raises(RulesetError) as caught:
        given(BANDS.replace(*broken))
    assert any(expected in str(problem) for problem in caught.value.problems)


# -- late, twice and ahead of time --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "condition",
    [
        TWO_PEOPLE,
        "{count: visit, at_least: 2, within: 7d}",
        "{sequence: [visit, visit], span: 5d, within: 7d}",
        "{sum: visit, of: worth, at_least: 2, within: 7d}",
    ],
)
def test_late_twice_and_ahead(condition: str) -> None:
    """Two visits make it true; one counted twice does not; one from the future counts as now."""

    def visit(account: Account, at: int, arriving: int, id: str, person: str) -> Account:
        return account.feed(
            Activity(
                account="acme", name="visit", at=at, received=arriving, id=id, person=person, props={"worth": 1}
            )
        )

    account = given_when(condition)
    visit(account, TUE, TUE, "1", "ann")
    visit(account, TUE, WED, "1", "bob")
    assert account.segment() == NO
    visit(account, MON, THU, "2", "cid")
    assert account.segment() == YES
    ahead = given_when(condition)
    visit(ahead, MON, MON, "1", "ann")
    visit(ahead, SUN, TUE, "2", "bob")
    assert (ahead.segment(), flips(ahead)) == (YES, [(YES, TUE)])
    gone = given_when(condition)
    visit(gone, MON, MON, "1", "ann")
    visit(gone, MON - 8 * DAY, TUE, "2", "bob")  # outside every window
    assert gone.segment() == NO
