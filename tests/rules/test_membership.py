"""Membership by itself: waits, holds and looser rules over the days of one account.

A rule's verdict is written as its turns: true, false or unknown from each instant on. An account is asked at its
wakes alone, as the engine does; asking it every hour as well must tell the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from story import DAY, FRI, HOUR, MON, MS, SAT, SUN, THU, TUE, WED

from rules.conditions import Decide
from rules.measures import Decision, Verdict
from rules.membership import Rule, Settle, kept_until, ladder, members, waiting_since
from rules.state import NEVER, NOWHERE, UNCLASSIFIED, AccountState, Answer, Standing

NOBODY = AccountState(0)
WEEK = 7 * DAY
LATER = MON + 30 * DAY
Life = list[tuple[int, Answer]]


def turns(*turns: tuple[int, Verdict]) -> Decide:
    """What holds from each instant on; false before."""

    def decide(state: AccountState, now: int) -> Decision:
        past = [verdict for at, verdict in turns if at <= now]
        return past[-1] if past else False, min((at for at, _ in turns if at > now), default=NEVER)

    return decide


def between(begin: int, end: int) -> Decide:
    return turns((begin, True), (end, False))


ALWAYS, UNKNOWN = turns((0, True)), turns((0, None))
OTHERWISE = Rule("cold", "otherwise", ALWAYS)


def hot(when: Decide, stay: Decide | None = None, wait: int = 0, keep: int = 0, id: str = "hot") -> Rule:
    return Rule("hot", id, when, stay, wait, keep)


def either(rule: Rule, skips_unknown: bool = True) -> Settle:
    """Hot or else cold."""
    return ladder([rule, OTHERWISE], skips_unknown)


def life(settle: Settle, also_at: Iterable[int] = (), before: Standing = NOWHERE, begin: int = MON) -> Life:
    """Each answer and the instant of its beginning."""
    standing, answers = before, []
    asked = {begin, *also_at}
    while asked:
        now = min(asked)
        after = settle(NOBODY, now, standing)
        assert now < after.wake
        assert now < LATER
        if after.answer != standing.answer or not answers:
            answers.append((now, after.answer))
        assert after.since == (before.since if after.answer == before.answer != () else answers[-1][0])
        standing = after
        asked = {at for at in {*asked, standing.wake} if now < at < NEVER}
    return answers


HOT, COLD, NONE = ("hot",), ("cold",), (UNCLASSIFIED,)

LIVES: dict[str, tuple[Settle, Life]] = {
    "a plain rule": (
        either(hot(between(TUE, THU))),
        [(MON, COLD), (TUE, HOT), (THU, COLD)],
    ),
    "it waits": (
        either(hot(between(TUE, SUN), wait=2 * DAY)),
        [(MON, COLD), (THU, HOT), (SUN, COLD)],
    ),
    "it waits in vain": (
        either(hot(between(TUE, WED), wait=DAY + MS)),
        [(MON, COLD)],
    ),
    "true for not quite long enough": (
        either(hot(between(TUE, WED), wait=DAY)),
        [(MON, COLD)],
    ),
    "a wait begins anew": (
        either(hot(turns((TUE, True), (WED, False), (THU, True)), wait=2 * DAY)),
        [(MON, COLD), (SAT, HOT)],
    ),
    "to a wait unknown is false": (
        either(hot(turns((TUE, True), (WED, None), (THU, True)), wait=2 * DAY), skips_unknown=False),
        [(MON, COLD), (SAT, HOT)],
    ),
    "without a wait unknown is unknown": (
        either(hot(turns((TUE, True), (WED, None), (THU, True))), skips_unknown=False),
        [(MON, COLD), (TUE, HOT), (WED, NONE), (THU, HOT)],
    ),
    "and is passed over": (
        either(hot(turns((TUE, True), (WED, None), (THU, True)))),
        [(MON, COLD), (TUE, HOT), (WED, COLD), (THU, HOT)],
    ),
    "it is kept": (
        either(hot(between(TUE, WED), keep=3 * DAY)),
        [(MON, COLD), (TUE, HOT), (FRI, COLD)],
    ),
    "it is kept from its entry on": (
        either(hot(turns((TUE, True), (WED, False), (THU, True), (FRI, False)), keep=4 * DAY)),
        [(MON, COLD), (TUE, HOT), (SAT, COLD)],
    ),
    "it is kept anew once it left": (
        either(hot(turns((TUE, True), (WED, False), (FRI, True), (SAT, False)), keep=2 * DAY)),
        [(MON, COLD), (TUE, HOT), (THU, COLD), (FRI, HOT), (SUN, COLD)],
    ),
    "kept for less than it is true": (
        either(hot(between(TUE, FRI), keep=DAY)),
        [(MON, COLD), (TUE, HOT), (FRI, COLD)],
    ),
    "it is kept though unknown": (
        either(hot(turns((TUE, True), (WED, None)), keep=3 * DAY), skips_unknown=False),
        [(MON, COLD), (TUE, HOT), (FRI, NONE)],
    ),
    "it stays by a looser rule": (
        either(hot(between(TUE, WED), stay=between(MON, SAT))),
        [(MON, COLD), (TUE, HOT), (SAT, COLD)],
    ),
    "it does not come back by the looser rule": (
        either(hot(between(TUE, WED), stay=turns((MON, True), (THU, False), (FRI, True)))),
        [(MON, COLD), (TUE, HOT), (THU, COLD)],
    ),
    "what is not known does not hold it": (  # once it was unclassified, until it was asked again
        either(hot(between(TUE, WED), stay=UNKNOWN), skips_unknown=False),
        [(MON, COLD), (TUE, HOT), (WED, COLD)],
    ),
    "whether it enters is not known, but it does not stay": (
        either(hot(turns((TUE, True), (WED, None)), stay=between(MON, THU)), skips_unknown=False),
        [(MON, COLD), (TUE, HOT), (THU, NONE)],
    ),
    "it is kept, then stays": (
        either(hot(between(TUE, WED), stay=between(MON, SAT), keep=2 * DAY)),
        [(MON, COLD), (TUE, HOT), (SAT, COLD)],
    ),
    "it stays, but is kept for longer": (
        either(hot(between(TUE, WED), stay=between(MON, THU), keep=4 * DAY)),
        [(MON, COLD), (TUE, HOT), (SAT, COLD)],
    ),
    "once in it need not wait again": (
        either(hot(turns((MON, True), (WED, False), (THU, True), (SAT, False)), stay=between(MON, FRI), wait=DAY)),
        [(MON, COLD), (TUE, HOT), (SAT, COLD)],
    ),
    "it waits, then is kept": (
        either(hot(between(MON, TUE + MS), wait=DAY, keep=2 * DAY)),
        [(MON, COLD), (TUE, HOT), (THU, COLD)],
    ),
}


@pytest.mark.parametrize("case", LIVES)
def test_in_and_out_at_the_exact_instants(case: str) -> None:
    settle, expected = LIVES[case]
    assert life(settle) == expected
    assert life(settle, also_at=range(MON, SUN + 2 * DAY, 6 * HOUR)) == expected


# -- ladders ------------------------------------------------------------------------------------------------


def test_a_higher_rung_that_is_true_always_wins() -> None:
    top = Rule("top", "top", between(WED, THU))
    assert life(ladder([top, hot(between(MON, TUE), keep=WEEK), OTHERWISE], skips_unknown=True)) == [
        (MON, HOT),
        (WED, ("top",)),
        (THU, COLD),  # its stay in hot ended when it left
    ]


def test_a_wait_goes_on_below_a_rung_that_is_true() -> None:
    top, middle = Rule("top", "top", between(MON, WED)), Rule("middle", "middle", between(MON, WED))
    assert life(ladder([top, middle, hot(ALWAYS, wait=2 * DAY), OTHERWISE], skips_unknown=True)) == [
        (MON, ("top",)),
        (WED, HOT),
    ]


def test_a_wait_that_ended_below_takes_nothing_from_a_higher_rung() -> None:
    top = Rule("top", "top", between(MON, FRI))
    settle = ladder([top, hot(ALWAYS, wait=DAY), OTHERWISE], skips_unknown=True)
    assert life(settle, also_at=[WED]) == [(MON, ("top",)), (FRI, HOT)]


def test_what_is_not_known_stops_the_search_or_is_passed_over() -> None:
    rules = [Rule("top", "top", turns((MON, None), (TUE, False))), hot(ALWAYS)]
    assert life(ladder(rules, skips_unknown=False)) == [(MON, NONE), (TUE, HOT)]
    assert life(ladder(rules, skips_unknown=True)) == [(MON, HOT)]
    assert life(ladder(rules[::-1], skips_unknown=False)) == [(MON, HOT)]


def test_below_what_is_not_known_a_wait_goes_on_and_nothing_is_entered() -> None:
    top = Rule("top", "top", turns((MON, None), (FRI, False)))
    assert life(ladder([top, hot(ALWAYS, wait=2 * DAY)], skips_unknown=False)) == [(MON, NONE), (FRI, HOT)]


def test_a_ladder_may_hold_nobody() -> None:
    settle = ladder([hot(between(TUE, WED), keep=DAY)], skips_unknown=True)
    assert life(settle) == [(MON, ()), (TUE, HOT), (WED, ())]
    assert settle(NOBODY, MON, NOWHERE) == Standing((), MON, TUE)


def test_the_answer_surely_stays_until_the_first_that_may_turn_it() -> None:
    wakes = {
        TUE: either(hot(between(TUE, THU))),
        THU: ladder([Rule("top", "top", between(MON, THU)), hot(between(MON, TUE))], skips_unknown=True),
        WED: ladder([Rule("top", "top", between(MON, THU)), hot(ALWAYS, wait=2 * DAY)], skips_unknown=True),
    }
    for wake, settle in wakes.items():
        assert settle(NOBODY, MON, NOWHERE).wake == wake


# -- sets ---------------------------------------------------------------------------------------------------


def test_each_member_waits_and_is_kept_by_itself() -> None:
    settle = members(
        [
            Rule("kept", "kept", between(MON, TUE), keep=3 * DAY),
            Rule("waits", "waits", between(TUE, SAT), wait=DAY),
            Rule("unknown", "unknown", UNKNOWN),
            Rule("stays", "stays", between(WED, THU), stay=between(MON, SUN)),
        ]
    )
    expected = [
        (MON, ("kept",)),
        (WED, ("kept", "waits", "stays")),
        (THU, ("waits", "stays")),
        (SAT, ("stays",)),
        (SUN, ()),
    ]
    assert life(settle) == expected
    assert life(settle, also_at=range(MON, SUN, 6 * HOUR)) == expected


def test_a_member_is_kept_from_its_own_entry_whatever_others_do() -> None:
    settle = members([Rule("early", "e", between(MON, TUE), keep=4 * DAY), Rule("late", "l", between(TUE, WED))])
    assert life(settle) == [(MON, ("early",)), (TUE, ("early", "late")), (WED, ("early",)), (FRI, ())]


# -- timers -------------------------------------------------------------------------------------------------


def test_timers_say_since_when_and_go_with_what_they_count() -> None:
    settle = either(hot(between(MON, WED), wait=DAY, keep=3 * DAY))
    waiting = settle(NOBODY, MON, NOWHERE)
    assert waiting == Standing(COLD, MON, TUE, {"for hot": MON})
    entered = settle(NOBODY, TUE, waiting)
    assert entered == Standing(HOT, TUE, WED, {"for hot": MON, "in hot": TUE})
    kept = settle(NOBODY, WED, entered)
    assert kept == Standing(HOT, TUE, FRI, {"in hot": TUE})
    assert settle(NOBODY, FRI, kept) == Standing(COLD, FRI)


def test_what_does_not_wait_and_is_not_kept_needs_no_timers() -> None:
    assert either(hot(between(MON, WED)))(NOBODY, MON, NOWHERE) == Standing(HOT, MON, WED)
    assert either(hot(between(MON, WED), stay=ALWAYS))(NOBODY, MON, NOWHERE).timers == {}


def test_another_rule_under_the_same_name_begins_its_wait_anew() -> None:
    waiting = either(hot(ALWAYS, wait=2 * DAY))(NOBODY, MON, NOWHERE)
    assert life(either(hot(ALWAYS, wait=2 * DAY)), before=waiting, begin=TUE)[-1] == (WED, HOT)
    edited = either(hot(ALWAYS, wait=2 * DAY, id="edited"))
    assert edited(NOBODY, TUE, waiting) == Standing(COLD, MON, THU, {"for edited": TUE})


@pytest.mark.parametrize("make", [either, lambda rule: members([rule])], ids=["ladder", "set"])
def test_who_was_in_before_there_was_a_keep_is_kept_from_when_it_entered(make: Callable[[Rule], Settle]) -> None:
    before = Standing(HOT, MON)
    settle = make(hot(between(MON, WED), keep=4 * DAY))
    known = settle(NOBODY, TUE, before)
    assert known == Standing(HOT, MON, WED, {"in hot": MON})
    out = make(hot(between(MON, TUE), keep=4 * DAY))
    assert out(NOBODY, TUE, before) == Standing(HOT, MON, FRI, {"in hot": MON})
    assert out(NOBODY, FRI, before).answer != HOT


# -- what people are told -----------------------------------------------------------------------------------


def test_since_when_it_waits() -> None:
    rule = hot(ALWAYS, wait=DAY)
    assert waiting_since(rule, either(rule)(NOBODY, MON, NOWHERE)) == MON
    assert waiting_since(rule, Standing(HOT, TUE, NEVER, {"for hot": MON})) is None  # it is in
    assert waiting_since(rule, Standing(COLD, MON)) is None
    assert waiting_since(rule, Standing(COLD, MON, NEVER, {"for another": MON})) is None


def test_until_when_it_is_kept() -> None:
    rule = hot(between(MON, TUE), keep=3 * DAY)
    assert kept_until(rule, either(rule)(NOBODY, MON, NOWHERE)) == THU
    assert kept_until(rule, Standing(HOT, WED, NEVER, {"in hot": MON})) == THU
    assert kept_until(rule, Standing(HOT, MON)) == THU
    assert kept_until(rule, Standing(COLD, MON, NEVER, {"in hot": MON})) is None
    assert kept_until(hot(ALWAYS), Standing(HOT, MON)) is None
    assert kept_until(hot(ALWAYS), Standing(COLD, MON)) is None


@pytest.mark.parametrize(
    ("rule", "dwells"),
    [
        (hot(ALWAYS), False),
        (hot(ALWAYS, stay=ALWAYS), True),
        (hot(ALWAYS, wait=1), True),
        (hot(ALWAYS, keep=1), True),
    ],
)
def test_a_rule_dwells_when_it_is_more_than_its_verdict(rule: Rule, dwells: bool) -> None:
    assert rule.dwells is dwells
