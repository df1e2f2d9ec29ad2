"""Measures by themselves: what each keeps, what it says of every instant, and until exactly when.

Where it is cheap, each millisecond of a short life is compared with counting from scratch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, localcontext
from itertools import permutations

import pytest
from story import DAY, FRI, HOUR, MON, MS, SAT, SUN, THU, TUE, WED

from rules import measures
from rules.measures import INSTANT, KEPT_AT_LEAST, MOST, PAIR, TAGGED, Aggregate, Decision, Leaves, Part, Verdict
from rules.state import NEVER

WEEK = 7 * DAY
LATER = 200  # in lives of a few milliseconds: nothing lasts that long


def after(length: int) -> Leaves:
    return lambda at: at + length


def ever(at: int) -> int:
    return NEVER


def ring(*instants: int, floor: int = 0, keep: int = KEPT_AT_LEAST, horizon: int = 0) -> bytes:
    """Activities at those instants, in the order of their arrival; the log offset of each is its place."""
    found = measures.empty_ring(floor)
    for offset, at in enumerate(instants):
        found = measures.ring_add(found, at, offset, keep, horizon)
    return found


def instants(ring: bytes) -> list[int]:
    """All that a ring of pairs keeps, oldest first."""
    return [pair.at for pair in reversed(measures.ring_pairs(ring, ever, 0)[0])]


def lasts(holds: Callable[[int], Verdict], now: int) -> Decision:
    """What holds now and until when, by asking again every millisecond."""
    verdict = holds(now)
    return verdict, next((at for at in range(now + 1, LATER) if holds(at) is not verdict), NEVER)


# -- rings --------------------------------------------------------------------------------------------------


def test_a_ring_keeps_the_newest_in_whatever_order_they_arrive() -> None:
    for arriving in permutations([MON, TUE, WED, THU]):
        found = ring(*arriving, keep=3)
        assert instants(found) == [TUE, WED, THU]
        assert measures.floor_of(found) == MON
        assert len(found) == INSTANT + 3 * PAIR


def test_a_ring_that_lost_nothing_is_complete() -> None:
    assert measures.floor_of(measures.empty_ring()) == 0
    assert measures.floor_of(ring(MON, TUE, keep=2)) == 0


def test_what_happened_in_one_millisecond_stands_in_the_order_of_the_log() -> None:
    first, second = 7, (1 << 40) - 1
    for offsets in permutations([first, second]):
        found = measures.empty_ring()
        for offset in offsets:
            found = measures.ring_add(found, MON, offset, 5, 0)
        assert measures.ring_pairs(found, ever, 0) == ([(MON, second), (MON, first)], True)


def test_what_is_as_old_as_the_longest_window_makes_room_and_is_noted_as_missing() -> None:
    found = ring(MON, TUE, WED, THU)
    sooner, later = (measures.ring_add(found, FRI, 4, 32, horizon) for horizon in (WED - MS, WED))
    assert (instants(sooner), measures.floor_of(sooner)) == ([WED, THU, FRI], TUE)
    assert (instants(later), measures.floor_of(later)) == ([THU, FRI], WED)


def test_what_is_outside_already_when_it_arrives_is_only_noted() -> None:
    assert ring(MON, horizon=TUE) == measures.empty_ring(MON)
    kept = ring(WED, THU)
    assert measures.ring_add(kept, TUE, 9, 32, TUE) == measures.raised(kept, TUE)


def test_a_floor_never_sinks() -> None:
    for more in ({"horizon": TUE}, {"keep": 1}):
        late = measures.ring_add(ring(SAT, floor=FRI), MON, 9, **{"keep": 32, "horizon": 0, **more})
        assert (instants(late), measures.floor_of(late)) == ([SAT], FRI)
    assert measures.raised(ring(SAT, floor=FRI), TUE) == ring(SAT, floor=FRI)
    assert measures.raised(ring(SAT, floor=TUE), FRI) == ring(SAT, floor=FRI)


def test_the_first_entry_stands_behind_the_floor() -> None:
    found = measures.ring_add(measures.empty_ring(MON), TUE, 3, 32, 0)
    assert (measures.floor_of(found), instants(found)) == (MON, [TUE])


def test_an_account_younger_than_the_window_loses_nothing() -> None:
    for horizon in (-5, 0):
        assert instants(ring(0, 1, horizon=horizon)) == [0, 1]
    assert ring(1, 2, horizon=1) == measures.ring_add(measures.empty_ring(1), 2, 1, 32, 0)


SEEN = [3, 5, 5, 9]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_a_count_is_right_at_every_millisecond_and_knows_when_it_ends(k: int) -> None:
    window = 10
    for now in range(max(SEEN), 25):
        expected = lasts(lambda at: sum(at - window < seen for seen in SEEN) >= k, now)
        assert measures.ring_decide(ring(*SEEN), k, window, now) == expected
        assert measures.ring_decide_leaving(ring(*SEEN), k, after(window), now) == expected


@pytest.mark.parametrize("k", [1, 2, 3])
def test_below_its_threshold_a_count_is_unknown_while_something_may_be_missing(k: int) -> None:
    window, floor, seen = 10, 4, [5, 9]

    def holds(at: int) -> Verdict:
        if sum(at - window < each for each in seen) >= k:
            return True
        return None if at - window < floor else False

    for now in range(max(seen), 25):
        assert measures.ring_decide(ring(*seen, floor=floor), k, window, now) == lasts(holds, now)
        assert measures.ring_decide_leaving(ring(*seen, floor=floor), k, after(window), now) == lasts(holds, now)


def test_a_full_ring_decides_what_it_keeps_and_nothing_beyond() -> None:
    found = ring(*range(MON, MON + 40))
    now = MON + 40
    assert measures.ring_decide(found, KEPT_AT_LEAST, WEEK, now) == (True, MON + 8 + WEEK)
    assert measures.ring_decide(found, KEPT_AT_LEAST + 1, WEEK, now) == (None, MON + 7 + WEEK)


def test_evidence_is_what_lies_in_the_window_newest_first() -> None:
    found = ring(MON, TUE, WED)
    assert measures.ring_pairs(found, after(WEEK), MON + WEEK - MS) == ([(WED, 2), (TUE, 1), (MON, 0)], True)
    assert measures.ring_pairs(found, after(WEEK), MON + WEEK) == ([(WED, 2), (TUE, 1)], True)
    assert measures.ring_pairs(found, after(WEEK), WED + WEEK) == ([], True)


def test_evidence_is_incomplete_until_what_may_be_missing_has_left() -> None:
    found = ring(WED, floor=MON)
    assert measures.ring_pairs(found, after(WEEK), MON + WEEK - MS) == ([(WED, 0)], False)
    assert measures.ring_pairs(found, after(WEEK), MON + WEEK) == ([(WED, 0)], True)


# -- people -------------------------------------------------------------------------------------------------

ANN, BOB, CID = "ann", "bob", "cid"


def people(*visits: tuple[str, int], floor: int = 0, keep: int = 32, horizon: int = 0) -> bytes:
    found = measures.empty_ring(floor)
    for offset, (person, at) in enumerate(visits):
        found = measures.people_add(found, person, at, offset, keep, horizon)
    return found


def last_seen(ring: bytes) -> list[tuple[bytes, int]]:
    return [(entry.tag, entry.at) for entry in measures.tagged_entries(ring, ever, 0)[0]]


def test_people_are_told_apart_by_eight_bytes() -> None:
    assert len({measures.person_tag(person) for person in (ANN, BOB, CID)}) == 3
    assert len(measures.person_tag(ANN)) == measures.TAG


def test_each_person_is_kept_once_with_the_last_time() -> None:
    expected = [(measures.person_tag(who), at) for who, at in ((BOB, FRI), (CID, THU), (ANN, WED))]
    for arriving in permutations([(ANN, MON), (ANN, WED), (BOB, TUE), (BOB, FRI), (CID, THU)]):
        found = people(*arriving)
        assert last_seen(found) == expected
        assert len(found) == INSTANT + 3 * TAGGED


def test_of_two_visits_in_one_millisecond_the_later_in_the_log_is_the_last() -> None:
    for offsets in ([2, 5], [5, 2]):
        found = measures.empty_ring()
        for offset in offsets:
            found = measures.people_add(found, ANN, MON, offset, 32, 0)
        assert measures.tagged_entries(found, ever, 0) == ([(MON, 5, measures.person_tag(ANN))], True)


def test_a_time_that_reads_like_a_person_is_nobody() -> None:
    """What lies across two fields of an entry may look like a tag."""
    tag = measures.person_tag(ANN)
    at = (MON >> 32 << 32) + int.from_bytes(tag[:4])
    offset = int.from_bytes(tag[4:]) << 8
    found = people((BOB, MON - WEEK))
    for person in (CID, ANN):
        found = measures.people_add(found, person, at, offset, 32, 0)
    seen = {who for who, _ in last_seen(found)}
    assert seen == {measures.person_tag(person) for person in (ANN, BOB, CID)}


def test_who_was_there_since_an_instant_is_in_already() -> None:
    found = people((ANN, MON), (BOB, WED), (CID, FRI))
    for person, last in ((ANN, MON), (BOB, WED), (CID, FRI)):
        assert measures.is_in_already(found, person, last - MS)
        assert not measures.is_in_already(found, person, last)
    assert not measures.is_in_already(found, "dan", 0)
    assert not measures.is_in_already(people(), ANN, 0)


def test_more_people_than_are_kept_leave_a_floor() -> None:
    found = people((ANN, MON), (BOB, TUE), (CID, WED), keep=2)
    assert (measures.floor_of(found), len(found)) == (MON, INSTANT + 2 * TAGGED)
    assert measures.people_decide(found, 2, after(WEEK), WED) == (True, TUE + WEEK)
    assert measures.people_decide(found, 3, after(WEEK), WED) == (None, MON + WEEK)
    assert last_seen(measures.people_add(found, ANN, THU, 3, 32, TUE)) == [
        (measures.person_tag(ANN), THU),
        (measures.person_tag(CID), WED),
    ]


def test_people_in_the_window_newest_first_and_whether_they_are_all() -> None:
    found = people((ANN, MON), (BOB, TUE))
    ann, bob = (MON, 0, measures.person_tag(ANN)), (TUE, 1, measures.person_tag(BOB))
    assert measures.tagged_entries(found, after(WEEK), MON + WEEK - MS) == ([bob, ann], True)
    assert measures.tagged_entries(found, after(WEEK), MON + WEEK) == ([bob], True)
    under = measures.raised(found, MON)
    assert measures.tagged_entries(under, after(WEEK), MON + WEEK - MS) == ([bob, ann], False)
    assert measures.tagged_entries(under, after(WEEK), MON + WEEK) == ([bob], True)


SURE: Decision = (True, NEVER)
MAYBE: Decision = (None, NEVER)
NOT: Decision = (False, NEVER)


def decided(k: int, now: int, floor: int = 0, **who: Decision) -> Decision:
    """Ann visited on Monday, Bob on Tuesday, Cid on Wednesday; what is known of each."""
    by_tag = {measures.person_tag(person): decision for person, decision in who.items()}
    found = people((ANN, MON), (BOB, TUE), (CID, WED), floor=floor)
    return measures.people_decide(found, k, after(WEEK), now, by_tag.__getitem__)


@pytest.mark.parametrize(
    ("k", "ann", "bob", "cid", "expected"),
    [
        (1, SURE, SURE, SURE, (True, WED + WEEK)),
        (2, SURE, SURE, SURE, (True, TUE + WEEK)),
        (3, SURE, SURE, SURE, (True, MON + WEEK)),
        (4, SURE, SURE, SURE, (False, NEVER)),
        (2, SURE, NOT, SURE, (True, MON + WEEK)),
        (2, SURE, MAYBE, SURE, (True, MON + WEEK)),
        (2, SURE, NOT, MAYBE, (None, MON + WEEK)),
        (1, MAYBE, NOT, MAYBE, (None, WED + WEEK)),
        (2, MAYBE, MAYBE, MAYBE, (None, TUE + WEEK)),
        (3, MAYBE, MAYBE, MAYBE, (None, MON + WEEK)),
        (2, NOT, NOT, MAYBE, (False, NEVER)),
        (1, NOT, NOT, NOT, (False, NEVER)),
    ],
)
def test_of_the_people_in_the_window_so_many_match_may_match_or_cannot(
    k: int, ann: Decision, bob: Decision, cid: Decision, expected: Decision
) -> None:
    assert decided(k, WED, ann=ann, bob=bob, cid=cid) == expected


def test_who_has_left_the_window_is_not_asked_about() -> None:
    assert decided(1, MON + WEEK - MS, ann=SURE, bob=NOT, cid=NOT) == (True, MON + WEEK)
    assert decided(1, MON + WEEK, bob=NOT, cid=NOT) == (False, NEVER)
    assert decided(2, MON + WEEK, bob=SURE, cid=SURE) == (True, TUE + WEEK)


def test_an_answer_holds_no_longer_than_what_is_known_of_each_person() -> None:
    soon = SUN
    assert decided(1, WED, ann=SURE, bob=SURE, cid=(True, soon)) == (True, soon)
    assert decided(2, WED, ann=NOT, bob=SURE, cid=(None, soon)) == (None, soon)
    assert decided(1, WED, ann=NOT, bob=(False, soon), cid=NOT) == (False, soon)
    assert decided(2, WED, floor=TUE, ann=NOT, bob=(False, soon), cid=SURE) == (None, soon)


def test_while_somebody_may_be_missing_too_few_are_unknown() -> None:
    assert decided(2, WED, floor=TUE, ann=NOT, bob=NOT, cid=SURE) == (None, TUE + WEEK)
    assert decided(1, WED, floor=TUE, ann=NOT, bob=NOT, cid=SURE) == (True, WED + WEEK)
    assert decided(2, TUE + WEEK, floor=TUE, cid=SURE) == (False, NEVER)
    assert decided(1, TUE + WEEK, floor=TUE, cid=MAYBE) == (None, WED + WEEK)


# -- amounts ------------------------------------------------------------------------------------------------


def amounts(*values: tuple[int, float], floor: int = 0, keep: int = 256, horizon: int = 0) -> bytes:
    found = measures.empty_ring(floor)
    for offset, (at, value) in enumerate(values):
        kept = measures.in_millionths(value)
        found = measures.amounts_add(found, kept, at, offset, keep, horizon)
    return found


def test_an_amount_is_kept_to_six_decimals() -> None:
    assert [measures.in_millionths(x) for x in (0.1, 12.3456789, -2.5, 3)] == [
        100_000,
        12_345_679,
        -2_500_000,
        3_000_000,
    ]


@pytest.mark.parametrize("value", [MOST, -MOST, 1e300, math.inf, -math.inf, math.nan])
def test_what_has_no_room_in_eight_bytes_is_no_amount(value: float) -> None:
    with pytest.raises(ValueError, match=r"^(-?[\d.e+]+|-?inf|nan) is too large to be kept$"):
        measures.in_millionths(value)


def test_the_largest_amounts_come_back_as_they_were() -> None:
    (aggregate,) = measures.aggregates(
        measures.tagged_entries(amounts((MON, MOST - 1), (TUE, 1 - MOST)), ever, 0)[0]
    )[2:]
    assert aggregate == Aggregate(2, 0, (1 - MOST) * measures.DECIMALS, (MOST - 1) * measures.DECIMALS)


def test_amounts_add_up_from_the_newest_on() -> None:
    entries, complete = measures.tagged_entries(amounts((WED, 5), (MON, -2), (TUE, 7)), ever, 0)
    assert complete
    assert measures.aggregates(entries) == [
        Aggregate(),
        Aggregate(1, 5_000_000, 5_000_000, 5_000_000),
        Aggregate(2, 12_000_000, 5_000_000, 7_000_000),
        Aggregate(3, 10_000_000, -2_000_000, 7_000_000),
    ]


def test_the_newest_amounts_are_kept() -> None:
    found = amounts((MON, 1), (TUE, 1), (WED, 1), keep=2)
    assert (measures.floor_of(found), len(found)) == (MON, INSTANT + 2 * TAGGED)
    assert amounts((MON, 1), (TUE, 1), horizon=MON) == measures.amounts_add(
        measures.empty_ring(MON), 1_000_000, TUE, 1, 256, 0
    )


def _total(all: Aggregate) -> float:
    return all.total / measures.DECIMALS


TESTS: dict[str, Callable[[Aggregate], Verdict]] = {
    "sum at least 10": lambda all: _total(all) >= 10,
    "sum below 0": lambda all: _total(all) < 0,
    "least below 0": lambda all: all.least < 0 if all.number else None,
    "greatest at least 6": lambda all: all.greatest >= 6_000_000 if all.number else None,
    "mean above 3": lambda all: all.total > 3_000_000 * all.number if all.number else None,
}
PAID = [(2, 4.0), (4, -6.0), (4, 9.0), (5, 6.0), (5, -6.0), (8, -1.0), (9, 8.0)]


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("paid", [PAID, PAID[:1], PAID[3:5], PAID[1:4], []], ids=len)
def test_an_amount_is_right_at_every_millisecond_and_knows_when_it_ends(
    test: str, paid: list[tuple[int, float]]
) -> None:
    window = 10
    for now in range(9, 25):

        def holds(at: int) -> Verdict:
            inside = [measures.in_millionths(value) for when, value in paid if at - window < when]
            least, greatest = min(inside, default=0), max(inside, default=0)
            return TESTS[test](Aggregate(len(inside), sum(inside), least, greatest))

        assert measures.amounts_decide(amounts(*paid), TESTS[test], None, after(window), now) == lasts(holds, now)


def test_a_sum_of_which_something_may_be_missing_is_unknown() -> None:
    found = amounts((TUE, 10), (WED, 10), floor=MON)
    for test in ("sum at least 10", "sum below 0"):
        assert measures.amounts_decide(found, TESTS[test], None, after(WEEK), WED) == (None, MON + WEEK)
    complete = measures.amounts_decide(found, TESTS["sum at least 10"], None, after(WEEK), MON + WEEK)
    assert complete == (True, WED + WEEK)


def test_what_no_missing_amount_could_turn_is_known_all_the_same() -> None:
    great = TESTS["greatest at least 6"]
    found = amounts((TUE, 8), (WED, 2), floor=MON)
    assert measures.amounts_decide(found, great, True, after(WEEK), WED) == (True, TUE + WEEK)
    assert measures.amounts_decide(amounts((TUE, 2), floor=MON), great, True, after(WEEK), WED) == (
        None,
        MON + WEEK,
    )
    assert measures.amounts_decide(measures.empty_ring(MON), great, True, after(WEEK), WED) == (None, MON + WEEK)
    assert measures.amounts_decide(measures.empty_ring(MON), great, None, after(WEEK), WED) == (None, MON + WEEK)


# -- firsts -------------------------------------------------------------------------------------------------


def first(*instants: int, floor: int = 0) -> bytes:
    found = measures.empty_ring(floor)
    for offset, at in enumerate(instants):
        found = measures.first_add(found, at, offset)
    return found


def test_the_first_time_alone_is_kept() -> None:
    for arriving in permutations([MON, TUE, WED]):
        found = first(*arriving)
        assert (len(found), instants(found)) == (INSTANT + PAIR, [MON])
    assert measures.floor_of(first(TUE, floor=MON)) == MON


def test_the_first_time_grows_old_at_its_instant() -> None:
    assert measures.first_decide(first(MON), WEEK, MON + WEEK - MS) == (False, MON + WEEK)
    assert measures.first_decide(first(MON), WEEK, MON + WEEK) == (True, NEVER)
    assert measures.first_decide(first(), WEEK, MON) == (False, NEVER)


def test_an_earlier_first_time_may_be_missing() -> None:
    assert measures.first_decide(first(floor=MON), WEEK, SUN) == (None, NEVER)
    assert measures.first_decide(first(TUE, floor=MON), WEEK, TUE + WEEK - MS) == (None, TUE + WEEK)
    assert measures.first_decide(first(TUE, floor=MON), WEEK, TUE + WEEK) == (True, NEVER)


# -- sequences ----------------------------------------------------------------------------------------------

SPAN = 2 * DAY


def sequence(
    steps: int,
    *events: tuple[int, int],
    span: int = SPAN,
    window: int = WEEK,
    log_time: int = 0,
    keep: int = 32,
    floor: int = 0,
) -> bytes:
    """Activities (step, at) in the order of their arrival; all arrive at `log_time` if it is given."""
    found = measures.empty_sequence(steps, floor)
    now = 0
    for offset, (step, at) in enumerate(events):
        now = log_time or max(now, at)
        found = measures.sequence_add(found, step, at, offset, span, keep, window, now)
    return found


def ends(sequence: bytes) -> list[int]:
    return instants(measures.completions(sequence))


def missing(sequence: bytes) -> int:
    return measures.floor_of(measures.completions(sequence))


def chains(steps: int, events: Iterable[tuple[int, int]], span: int) -> list[int]:
    """When chains end, by trying every combination."""
    found = [(step, (at, offset)) for offset, (step, at) in enumerate(events)]
    begun = [(place, place) for step, place in found if step == 0]
    for n in range(1, steps):
        begun = [(start, place) for start, end in begun for step, place in found if step == n and place > end]
    return sorted(at for at, _ in {end for start, end in begun if end[0] - start[0] <= span})


@pytest.mark.parametrize(
    "events",
    [
        [(0, MON), (1, TUE), (1, WED), (1, WED + MS), (0, TUE + MS)],
        [(0, MON), (0, MON), (1, MON), (1, TUE), (1, MON - MS)],
        [(0, MON), (1, MON + SPAN), (0, TUE), (1, TUE + SPAN), (1, TUE + SPAN + MS)],
    ],
)
def test_two_steps_are_found_in_whatever_order_they_arrive(events: list[tuple[int, int]]) -> None:
    for arriving in permutations(events):
        assert ends(sequence(2, *arriving, log_time=SAT)) == chains(2, arriving, SPAN)


def test_three_steps_are_found_in_whatever_order_they_arrive() -> None:
    events = [(0, MON), (1, TUE), (2, WED), (2, TUE - MS), (0, TUE), (1, WED)]
    for arriving in permutations(events):
        found = sequence(3, *arriving, log_time=SAT)
        assert (ends(found), missing(found)) == (chains(3, arriving, SPAN), 0)


def test_of_two_steps_in_one_millisecond_the_log_says_which_was_first() -> None:
    for at in (MON, 1):
        for demo, visit, expected in ((3, 5, [at]), (5, 3, [])):
            known = measures.sequence_add(measures.empty_sequence(2), 1, at, visit, SPAN, 32, WEEK, at)
            found = measures.sequence_add(known, 0, at, demo, SPAN, 32, WEEK, at)
            assert (ends(found), missing(found)) == (expected, 0)


def test_an_end_long_before_its_beginning_ends_nothing() -> None:
    for arriving in permutations([(1, 1), (0, 200), (1, 400)]):
        assert ends(sequence(2, *arriving, span=100, log_time=WEEK)) == []


def test_one_activity_is_not_two_steps() -> None:
    """`[demo, demo]`: the activity is added to both steps."""
    once = sequence(2, (0, MON))
    assert ends(measures.sequence_add(once, 1, MON, 0, SPAN, 32, WEEK, MON)) == []


def test_a_chain_found_twice_is_kept_once_and_hides_no_other() -> None:
    found = sequence(2, (0, MON), (1, TUE), (1, TUE + SPAN), (0, MON + HOUR), (0, TUE + HOUR), log_time=SAT)
    assert ends(found) == [TUE, TUE + SPAN]
    assert len(measures.completions(found)) == INSTANT + 2 * PAIR


def test_a_new_sequence_has_begun_nothing() -> None:
    assert (ends(measures.empty_sequence(3)), missing(measures.empty_sequence(3))) == ([], 0)
    assert missing(measures.empty_sequence(3, MON)) == MON


def test_steps_and_chains_are_kept_only_so_far() -> None:
    events = [(step, MON + n * HOUR + step) for n in range(40) for step in (0, 1)]
    found = sequence(2, *events, keep=5)
    assert ends(found) == [at for _, at in events[1::2]][-5:]
    assert len(found) == 3 * (2 + INSTANT + 5 * PAIR)


def test_a_late_step_that_is_too_old_to_be_kept_still_makes_its_chain() -> None:
    known = sequence(2, (0, FRI), (0, SAT), (1, TUE), keep=2)
    found = measures.sequence_add(known, 0, MON, 9, SPAN, 2, WEEK, SUN)
    assert (ends(found), missing(found)) == ([TUE], 0)
    assert len(found) == len(known) + PAIR  # of the chain alone
    # That it was there is noted: what comes up to a span after it may end another.
    for at, expected in ((MON + SPAN, MON + SPAN), (MON + SPAN + MS, 0)):
        assert missing(measures.sequence_add(found, 1, at, 10, SPAN, 2, WEEK, SUN)) == expected


def test_a_step_is_kept_while_a_chain_from_it_may_still_end_in_the_window() -> None:
    known = sequence(2, (0, MON))
    for now, kept in ((MON + WEEK + SPAN - MS, [MON, FRI]), (MON + WEEK + SPAN, [FRI])):
        found = measures.sequence_add(known, 0, FRI, 1, SPAN, 32, WEEK, now)
        late = measures.sequence_add(found, 1, MON + SPAN, 2, SPAN, 32, NEVER, now)
        assert len(found) == len(sequence(2)) + len(kept) * PAIR
        assert (ends(late), missing(late)) == (([MON + SPAN], 0) if MON in kept else ([], MON + SPAN))


def test_a_chain_leaves_when_its_end_is_as_old_as_the_window() -> None:
    known = sequence(2, (0, MON), (1, TUE))
    for now, kept in ((TUE + WEEK - MS, [TUE, WED]), (TUE + WEEK, [WED])):
        assert ends(measures.sequence_add(known, 1, WED, 2, SPAN, 32, WEEK, now)) == kept


def test_a_chain_that_is_too_late_for_the_window_is_missing_for_a_longer_one() -> None:
    """Once it was forgotten, and a rule that looked further back took it for false."""
    for events in ([(0, MON), (1, TUE)], [(1, TUE), (0, MON)]):
        found = sequence(2, *events, log_time=TUE + WEEK)
        assert (ends(found), missing(found)) == ([], TUE)


def under(*floors: int) -> bytes:
    """A sequence of which step by step something may be missing, and nothing of its chains."""
    rings = [measures.empty_ring(), *map(measures.empty_ring, floors)]
    return b"".join(len(each).to_bytes(2) + each for each in rings)


def missed(floors: Sequence[int], step: int, at: int) -> int:
    """Up to when a chain may be missing once `step` was seen at `at`."""
    return missing(measures.sequence_add(under(*floors), step, at, 9, SPAN, 32, WEEK, SAT))


def test_a_step_whose_beginning_may_be_missing_may_end_a_chain() -> None:
    """Once a beginning missed exactly a span before was taken for too early."""
    assert missed([MON, 0], 1, MON + SPAN) == MON + SPAN
    assert missed([MON, 0], 1, MON + SPAN + MS) == 0
    assert missed([0, MON, 0], 2, TUE) == TUE
    assert missed([1, 0], 1, 1 + MS) == 1 + MS
    assert missed([0, 0], 1, 1) == 0


def test_a_late_beginning_may_have_been_followed_by_an_end_that_is_missing() -> None:
    assert missed([0, TUE], 0, MON) == TUE
    assert missed([0, FRI], 0, MON) == MON + SPAN
    assert missed([0, MON], 0, MON) == 0  # what is missing stands before it in the log
    assert missed([0, MON + MS], 0, MON) == MON + MS


def test_of_a_late_step_that_makes_no_chain_only_the_other_steps_may_be_missing() -> None:
    def late(floors: Sequence[int], step: int) -> int:
        """A late step between one that is there (the last) and others of which something may be missing."""
        done, *rings = [measures.empty_ring(), *map(measures.empty_ring, floors)]
        rings[-1] = measures.ring_add(rings[-1], WED, 1, 32, 0)
        known = b"".join(len(each).to_bytes(2) + each for each in (done, *rings))
        return missing(measures.sequence_add(known, step, TUE, 9, SPAN, 32, WEEK, SAT))

    assert late([0, MON, 0], 1) == 0
    assert late([MON, 0, 0], 0) == 0
    assert late([MON, 0, 0], 1) == WED
    assert late([0, MON, 0], 0) == WED
    assert late([0, 0], 0) == 0
    assert late([MON, MON, 0, 0], 2) == WED


# -- scores -------------------------------------------------------------------------------------------------

H = WEEK


def score(*seen: tuple[int, float], half_life: int = H) -> bytes:
    found = measures.empty_score()
    for at, weight in seen:
        found = measures.score_add(found, at, weight, half_life)
    return found


def worth(seen: Iterable[tuple[int, float, int]], now: int) -> Decimal:
    """The exact score at an instant of contributions (at, weight, half-life), to fifty digits."""
    with localcontext() as context:
        context.prec = 50
        return sum(
            (Decimal(weight) * Decimal(2) ** (Decimal(at - now) / half_life) for at, weight, half_life in seen),
            Decimal(0),
        )


def test_who_did_nothing_has_no_score_and_needs_no_more_than_its_room() -> None:
    assert measures.empty_score() == bytes(24)
    assert measures.empty_score(3, 5) == bytes(7) + b"\5" + bytes(48)
    for parts in ([Part(H)], [Part(H), Part(DAY)]):
        nothing = measures.empty_score(len(parts))
        assert measures.score_decide(nothing, 0.5, parts, 0) == (False, NEVER)
        assert measures.score_value(nothing, parts, MON) == 0


def test_a_score_falls_in_the_exact_millisecond_in_whatever_order_it_was_earned() -> None:
    earned = [(MON, 40.0, H), (TUE, 10.0, H), (TUE, 5.0, H), (SAT, 25.0, H)]
    for arriving in permutations(earned):
        found = score(*((at, weight) for at, weight, _ in arriving))
        for threshold in (1, 20, 33.3, 58):
            verdict, falls = measures.score_decide(found, threshold, [Part(H)], SAT)
            assert verdict is True
            assert worth(earned, falls - 1) >= threshold > worth(earned, falls)


def test_a_score_is_below_from_the_millisecond_in_which_it_falls() -> None:
    found = score((MON, 40))
    assert measures.score_decide(found, 20, [Part(H)], MON + WEEK) == (True, MON + WEEK + MS)
    assert measures.score_decide(found, 20, [Part(H)], MON + WEEK + MS) == (False, NEVER)
    assert measures.score_decide(found, 40, [Part(H)], MON) == (True, MON + MS)
    assert measures.score_decide(found, 41, [Part(H)], MON) == (False, NEVER)


def parted(*parts: tuple[Part, list[tuple[int, float]]]) -> tuple[bytes, list[Part], list[tuple[int, float, int]]]:
    """A score of several parts, the parts, and all contributions."""
    found = measures.empty_score(len(parts))
    for i, (part, seen) in enumerate(parts):
        for at, weight in seen:
            found = measures.score_add(found, at, weight, part.half_life, i)
    return found, [part for part, _ in parts], [(*each, part.half_life) for part, seen in parts for each in seen]


@pytest.mark.parametrize("threshold", [1, 7.7, 24, 50, 63.9])
@pytest.mark.parametrize("scale", [1, 0.01, 100])
def test_parts_that_fade_at_their_own_pace_fall_in_the_exact_millisecond(threshold: float, scale: float) -> None:
    found, parts, seen = parted(
        (Part(WEEK), [(MON, 20 * scale), (THU, 20 * scale)]),
        (Part(DAY), [(THU, 25 * scale)]),
        (Part(HOUR), [(WED, 9 * scale), (MON, 2 * scale)]),
        (Part(30 * DAY), [(MON + HOUR, 5 * scale)]),
    )
    verdict, falls = measures.score_decide(found, threshold * scale, parts, THU)
    assert verdict is True
    assert worth(seen, falls - 1) >= threshold * scale > worth(seen, falls)


def test_parts_exactly_at_the_threshold_hold_for_one_millisecond() -> None:
    found, parts, _ = parted((Part(WEEK), [(MON, 20)]), (Part(DAY), [(MON, 10)]))
    assert measures.score_decide(found, 30, parts, MON) == (True, MON + MS)
    assert measures.score_decide(found, 30, parts, MON + MS) == (False, NEVER)
    assert measures.score_decide(found, 30.5, parts, MON) == (False, NEVER)
    halves, _, _ = parted((Part(WEEK), [(MON, 40)]), (Part(WEEK), [(MON, 40)]))
    assert measures.score_decide(halves, 40, [Part(WEEK), Part(WEEK)], MON) == (True, MON + WEEK + MS)


def test_a_part_counts_no_more_than_its_cap() -> None:
    found, parts, _ = parted((Part(WEEK, 30), [(MON, 60), (MON, 60)]), (Part(DAY), [(MON, 10)]))
    assert measures.score_decide(found, 41, parts, MON) == (False, NEVER)
    # The 120 are worth 30 for two weeks; the other part is worth 5 for one day.
    assert measures.score_decide(found, 35, parts, MON) == (True, MON + DAY + MS)
    assert measures.score_decide(found, 30, parts, MON)[1] > MON + 2 * WEEK
    alone = score((MON, 120))
    assert measures.score_decide(alone, 31, [Part(WEEK, 30)], MON) == (False, NEVER)
    assert measures.score_decide(alone, 30, [Part(WEEK, 30)], MON) == (True, MON + 2 * WEEK + MS)
    assert measures.score_decide(alone, 15, [Part(WEEK, 30)], MON) == (True, MON + 3 * WEEK + MS)


def test_what_was_missed_can_only_add_unless_something_takes_away() -> None:
    found = measures.score_add(measures.empty_score(1, MON), TUE, 40, H)
    assert measures.score_decide(found, 40, [Part(H)], TUE) == (True, TUE + MS)
    assert measures.score_decide(found, 40, [Part(H)], TUE + MS) == (None, NEVER)
    assert measures.score_decide(found, 40, [Part(H)], TUE, signed=True) == (None, NEVER)
    assert measures.score_decide(score((TUE, 40)), 40, [Part(H)], TUE, signed=True) == (True, TUE + MS)


def test_the_score_shown_never_reads_as_a_threshold_it_is_below() -> None:
    assert measures.score_value(score((MON, 40)), [Part(H)], MON + WEEK) == 20
    assert measures.score_value(score((MON, 40)), [Part(H)], MON + WEEK + MS) == 19.99
    assert measures.score_value(score((MON, 12.345)), [Part(H)], MON) == 12.34


def test_the_score_shown_is_of_the_newest_contribution_at_the_earliest() -> None:
    found, parts, _ = parted((Part(WEEK), [(MON, 40)]), (Part(DAY), [(MON + WEEK, 10)]))
    assert measures.score_value(found, parts, MON) == 30
    assert measures.score_value(found, parts, MON + WEEK + DAY) == pytest.approx(5 + 20 * 2 ** (-1 / 7), abs=0.01)
    capped, parts, _ = parted((Part(WEEK, 7), [(MON, 40)]), (Part(DAY), [(MON, 10)]))
    assert measures.score_value(capped, parts, MON) == 17
