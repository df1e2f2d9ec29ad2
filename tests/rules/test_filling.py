"""Measures that get their past: what is unknown until then, what counts afterwards, and what says so."""

from __future__ import annotations

from story import ACME, DAY, MON, THU, TUE, WED, Account, given, ruleset

from rules import filling, measures, planning
from rules.filling import GAPS_KEPT
from rules.records import Erase, Fill, Filled, Merge, RulesetRecord, Same, Tick, Transfer
from rules.ruleset import InForce
from rules.state import NEVER, UNCLASSIFIED, AccountState, pack, standing_in
from rules.work import Cause

VISITS = """
dimension: engagement
segments:
  - {segment: hot, when: {count: visit, at_least: 2, within: 7d}}
  - {segment: cold, otherwise: true}
"""
DEMOS = """
dimension: interest
on_unknown: stop
segments:
  - {segment: high, when: {count: demo, at_least: 2, within: 30d}}
  - {segment: low, otherwise: true}
"""
LONGER = VISITS.replace("7d", "30d")
SCORE = """
scores:
  heat: {half_life: 7d, signals: [{activity: visit, weight: 4}]}
---
dimension: heat
on_unknown: stop
segments:
  - {segment: warm, when: {score: heat, at_least: 6}}
  - {segment: cool, otherwise: true}
"""
CROWD = """
dimension: crowd
on_unknown: stop
segments:
  - {segment: many, when: {people: visit, at_least: 2, within: 30d}}
  - {segment: few, otherwise: true}
"""


def deployed(*texts: str, at: int, id: str = "d2", fill_since: int | None = 0) -> RulesetRecord:
    files = dict(ruleset(*texts).files)
    return RulesetRecord(received=at, hash="", files=files, deployment=id, fill_since=fill_since)


def fill(account: Account, past: Account, at: int, of: str = ACME, id: str = "d2") -> Fill:
    """What the account would have had at the switch: what `past` has, which lived under these rules before."""
    (filling,) = account.replay.partition.fillings
    measures = {name: kept for name, kept in past.state.measures.items() if name in filling.measures}
    return Fill(
        account=ACME,
        of=of,
        deployment=id,
        before=filling.offset,
        measures=list(filling.measures),
        state=pack(AccountState(0, measures=measures)),
        received=at,
        origin="backfill",
    )


def answer(account: Account, dimension: str) -> str:
    return "".join(standing_in(account.state, dimension).answer)


def test_what_is_counted_for_the_first_time_is_unknown_until_its_past_is_there() -> None:
    past = given(VISITS, DEMOS).sees("demo", at=[MON, TUE])
    account = given(VISITS).sees("demo", at=[MON, TUE]).feed(deployed(VISITS, DEMOS, at=WED))
    assert answer(account, "interest") == UNCLASSIFIED
    account.feed(fill(account, past, at=THU))
    assert answer(account, "interest") == "high"
    change = account.outgoing[-1].change
    assert (change.cause, change.origin, change.effective) == (Cause.BACKFILL, "backfill", THU)
    told = change.reason["because"]
    assert [each["offset"] for each in told["evidence"]] == [1, 0], "where the demos stand in the log"
    assert account.state.gaps == {}


def test_what_came_since_the_switch_counts_once() -> None:
    past = given(DEMOS).sees("demo", at=MON)
    account = given(VISITS).sees("demo", at=MON).feed(deployed(DEMOS, at=TUE)).sees("demo", at=WED)
    account.feed(fill(account, past, at=THU))
    assert answer(account, "interest") == "high"
    account.until(MON + 30 * DAY)
    assert answer(account, "interest") == "low", "one of the two is thirty days old"


def test_a_second_fill_is_nothing() -> None:
    past = given(SCORE).sees("visit", at=MON)
    account = given(DEMOS).sees("visit", at=MON).feed(deployed(SCORE, at=MON))
    account.feed(fill(account, past, at=MON))
    before = account.state
    assert answer(account, "heat") == "cool", "one visit is four, six are needed"
    account.feed(fill(account, past, at=MON))
    assert (account.state.measures, account.state.standings) == (before.measures, before.standings)


def test_a_longer_window_gets_what_the_shorter_one_dropped() -> None:
    """The measure is the same one: what it has from before the switch is in the fill too, and counts once."""
    visits = [MON, MON + 9 * DAY, MON + 10 * DAY, MON + 19 * DAY]
    account = given(VISITS.replace("2,", "4,")).sees("visit", at=visits)
    account.feed(deployed(LONGER.replace("2,", "4,"), at=MON + 20 * DAY))
    past = given(LONGER.replace("2,", "4,")).sees("visit", at=visits)
    account.sees("visit", at=MON + 21 * DAY).feed(fill(account, past, at=MON + 22 * DAY))
    assert answer(account, "engagement") == "hot"
    account.until(MON + 30 * DAY)
    assert answer(account, "engagement") == "hot", "the first is over, and there were five"
    account.until(MON + 39 * DAY)
    assert answer(account, "engagement") == "cold"


def test_a_member_stays_one_while_a_longer_window_waits_for_its_past() -> None:
    account = given(VISITS).sees("visit", at=[MON, MON + 9 * DAY, MON + 10 * DAY])
    account.feed(deployed(LONGER, at=MON + 11 * DAY))
    assert answer(account, "engagement") == "hot"
    assert account.state.gaps == {f"d2/{ACME}": MON + 11 * DAY}


def test_a_score_that_is_new_gets_its_past_and_one_that_is_not_is_left_alone() -> None:
    past = given(SCORE).sees("visit", at=[MON, MON])
    account = given(DEMOS).sees("visit", at=[MON, MON]).feed(deployed(SCORE, at=MON))
    assert answer(account, "heat") == UNCLASSIFIED
    account.feed(fill(account, past, at=MON))
    assert answer(account, "heat") == "warm"
    account.feed(Filled(received=MON, deployment="d2")).feed(deployed(SCORE, at=TUE, id="d3"))
    assert account.replay.partition.fillings == ()


def test_an_account_that_is_new_has_nothing_to_fill() -> None:
    account = given(VISITS).feed(deployed(DEMOS, at=MON)).sees("demo", at=[TUE, WED])
    assert answer(account, "interest") == "high"
    assert account.state.gaps == {}


def test_whoever_was_forgotten_meanwhile_is_not_in_what_is_filled() -> None:
    past = given(CROWD).sees("visit", at=MON, person="p").sees("visit", at=MON, person="q")
    account = given(VISITS).sees("visit", at=MON, person="p").sees("visit", at=MON, person="q")
    account.feed(deployed(CROWD, at=TUE))
    late = fill(account, past, at=THU)
    account.feed(Erase(received=WED, persons=["p"])).feed(late)
    assert answer(account, "crowd") == "few"


def test_who_somebody_turned_out_to_be_counts_in_what_is_filled() -> None:
    past = given(CROWD).sees("visit", at=MON, person="p").sees("visit", at=MON, person="q")
    account = given(VISITS).sees("visit", at=MON, person="p").sees("visit", at=MON, person="q")
    account.feed(deployed(CROWD, at=TUE))
    late = fill(account, past, at=THU)
    account.feed(Same(account=ACME, person="p", same_as="q", at=WED, received=WED)).feed(late)
    assert answer(account, "crowd") == "few"


def test_what_was_given_away_before_the_other_switch_is_missing_up_to_then() -> None:
    """This partition had switched on Monday; the other account counted by the old rules until Wednesday."""
    account = given(VISITS).learns(at=MON, name="Acme").feed(deployed(DEMOS, at=MON))
    theirs = given(VISITS).sees("demo", at=[TUE, WED])
    brought = Transfer(
        account=ACME,
        merged="other",
        at=WED,
        received=THU,
        ruleset=ruleset(VISITS).hash,
        state=pack(theirs.state),
    )
    account.feed(brought).feed(fill(account, given(DEMOS).learns(at=MON), at=THU))
    assert answer(account, "interest") == UNCLASSIFIED
    account.feed(fill(account, given(DEMOS).sees("demo", at=[TUE, WED]), at=THU, of="other"))
    assert answer(account, "interest") == "high"


def test_of_an_account_that_is_given_away_the_fill_comes_later() -> None:
    """What it had from before the switch does not go along: it would count twice."""
    visits = [MON, MON + 9 * DAY, MON + 10 * DAY]
    account = given(VISITS).sees("visit", at=visits).feed(deployed(LONGER, at=MON + 11 * DAY))
    account.sees("visit", at=MON + 12 * DAY)
    late = fill(account, given(LONGER).sees("visit", at=visits), at=MON + 13 * DAY)
    merge = Merge(account=ACME, into="other", at=MON + 13 * DAY, received=MON + 13 * DAY)
    account.feed(merge).feed(late).until(MON + 14 * DAY)
    other = account.replay.states["other"]
    assert other.gaps == {}
    (ring,) = other.measures.values()
    assert [each.at for each in measures.ring_pairs(ring, lambda at: NEVER, 0)[0]] == [
        MON + 12 * DAY,
        *visits[::-1],
    ]


def test_what_never_happened_at_the_other_account_is_not_kept_here() -> None:
    """It is said, so that nobody takes it for missing; and that is all."""
    account = given(VISITS, DEMOS, CROWD, SCORE).learns(at=MON, name="Acme")
    merge = Merge(account=ACME, into="other", at=TUE, received=TUE)
    account.feed(merge).until(WED)
    assert account.replay.states["other"].measures == {}


def test_of_too_many_gaps_none_is_forgotten() -> None:
    account = given(VISITS).learns(at=MON, name="Acme").feed(deployed(DEMOS, at=MON))
    for n in range(GAPS_KEPT):
        theirs = pack(AccountState(0, gaps={f"d2/{n}": TUE}))
        state = {"state": theirs, "ruleset": ruleset(DEMOS).hash, "deployment": "d2"}
        account.feed(Transfer(account=ACME, merged=f"{n}", at=TUE, received=TUE, **state))
    assert account.state.gaps == {"": TUE}


def test_what_came_before_the_switch_here_is_in_the_fill_of_who_took_it_in() -> None:
    """The other account's partition had switched already, and its own fill is still to come there."""
    account = given(VISITS).learns(at=MON, name="Acme")
    theirs = pack(AccountState(0, gaps={"d2/other": TUE}))
    how = {"state": theirs, "ruleset": ruleset(DEMOS).hash, "deployment": "d2"}
    account.feed(Transfer(account=ACME, merged="other", at=TUE, received=TUE, **how))
    assert account.state.gaps == {}
    assert list(account.feed(deployed(DEMOS, at=WED)).state.gaps) == [f"d2/{ACME}"]


def test_what_is_on_its_way_when_its_partition_is_filled_comes_to_its_account() -> None:
    """The other account was given away with its gap open, and its fill follows it."""
    account = given(VISITS).feed(Tick(received=MON)).feed(deployed(DEMOS, at=MON))
    late = Fill(
        account=ACME,
        of="other",
        deployment="d2",
        before=0,
        measures=[id for each in account.replay.partition.fillings for id in each.measures],
        state=pack(AccountState(0, measures=given(DEMOS).sees("demo", at=[MON, MON]).state.measures)),
        received=WED,
    )
    (id,) = late.measures
    kept = ruleset(DEMOS).measures[id]
    theirs = pack(AccountState(0, measures={id: kept.empty(MON)}, gaps={"d2/other": MON}))
    account.feed(Filled(received=TUE, deployment="d2"))
    how = {"state": theirs, "ruleset": ruleset(DEMOS).hash, "deployment": "d2"}
    account.feed(Transfer(account=ACME, merged="other", at=TUE, received=TUE, **how))
    assert answer(account, "interest") == UNCLASSIFIED
    assert answer(account.feed(late), "interest") == "high"


def test_what_a_longer_window_lacks_can_be_asked_for_later() -> None:
    visits = [MON, MON + 9 * DAY, MON + 10 * DAY]
    account = given(VISITS.replace("2,", "3,")).sees("visit", at=visits)
    account.feed(deployed(LONGER.replace("2,", "3,"), at=MON + 11 * DAY, id="d1", fill_since=None))
    assert account.replay.partition.fillings == ()
    account.feed(deployed(LONGER.replace("2,", "3,"), at=MON + 12 * DAY))
    past = given(LONGER.replace("2,", "3,")).sees("visit", at=visits)
    assert answer(account.feed(fill(account, past, at=MON + 13 * DAY)), "engagement") == "hot"


def test_the_plan_names_all_that_would_lack_its_past() -> None:
    before, after = InForce().switch(ruleset(VISITS), 0, MON), ruleset(LONGER, DEMOS)
    switched = before.switch(after, 9, TUE)
    lacks = planning.lacking(before, after)
    assert set(lacks) == set(filling.lacking(before, after, switched.introduced))
    assert sorted(place for places in lacks.values() for place in places) == ["engagement/hot", "interest/high"]
    assert planning.lacking(before, ruleset(VISITS)) == {}


def test_what_a_fill_does_not_bring_stays_unknown() -> None:
    """As when the past was folded under rules that do not ask for it: nothing was counted, which is no zero."""
    past = given(VISITS).sees("demo", at=[MON, TUE])
    account = given(VISITS).sees("demo", at=[MON, TUE]).feed(deployed(VISITS, DEMOS, at=WED))
    brought = fill(account, past, at=THU)
    brought.measures = []
    assert answer(account.feed(brought), "interest") == UNCLASSIFIED
