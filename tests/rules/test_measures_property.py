"""Measures that keep too little are unknown, never wrong, and a verdict holds for as long as it says.

Each measure is fed with few entries kept, in any order of arrival, now and then by a rule that came later than the
activities. Beside it stands the whole history. Whenever the measure claims to know, the history agrees; and what
it says, it says at every instant before the one it gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product

from hypothesis import given
from hypothesis import strategies as st
from naive import CLOSE, begins, leaves, local_date
from test_property import PROFILE

from rules import calendars, conditions, measures
from rules.measures import Decision, Part, Verdict
from rules.state import NEVER, AccountState

SPAN = 60  # ms; small numbers meet each other more often
BEGIN = 1_000


@dataclass
class History:
    """What happened, in the order in which it arrived: (log_time, at, log offset)."""

    arrivals: list[tuple[int, int, int]]
    introduced: int = 0  # the log_time of the rule that asks; what arrived before it was not counted
    keep: int = 1
    window: int = 10

    @property
    def counted(self) -> list[tuple[int, int, int]]:
        return [each for each in self.arrivals if each[0] > self.introduced]

    @property
    def floor(self) -> int:
        return self.introduced if len(self.counted) < len(self.arrivals) else 0

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return sorted((at, offset) for _, at, offset in self.arrivals)

    @property
    def now(self) -> int:
        return self.arrivals[-1][0]

    def inside(self, now: int) -> list[tuple[int, int]]:
        return [pair for pair in self.pairs if now - self.window < pair[0] <= now]


@st.composite
def histories(draw: st.DrawFn, most: int = 8, late: bool = True) -> History:
    times = sorted(draw(st.lists(st.integers(BEGIN, BEGIN + SPAN), min_size=1, max_size=most)))
    ages = st.sampled_from([0, 0, 0, 1, 2, 5, 9, 10, 11, 30] if late else [0])
    arrivals = [(log_time, log_time - draw(ages), offset) for offset, log_time in enumerate(times)]
    introduced = draw(st.sampled_from([0, 0, 0, times[0], times[len(times) // 2]]))
    return History(arrivals, introduced, draw(st.integers(1, 4)), draw(st.sampled_from([1, 5, 10, 30, 1000])))


def says(decide: Callable[[int], Decision], truth: Callable[[int], Verdict], now: int) -> None:
    """Whatever `decide` says from `now` on is so, and stays so until the instant that it gives."""
    said = [decide(at) for at in range(now, now + SPAN + 40)]
    for i, (verdict, until) in enumerate(said):
        at = now + i
        assert until > at
        assert verdict is None or verdict is truth(at), (at, verdict, truth(at))
        assert {then for then, _ in said[i : until - now]} == {verdict}, (at, until)


@PROFILE
@given(histories(), st.integers(1, 5))
def test_a_count_is_never_wrong(history: History, k: int) -> None:
    ring = measures.empty_ring(history.floor)
    for log_time, at, offset in history.counted:
        ring = measures.ring_add(ring, at, offset, history.keep, log_time - history.window)
    truth = lambda now: len(history.inside(now)) >= k  # noqa: E731
    says(lambda now: measures.ring_decide(ring, k, history.window, now), truth, history.now)
    says(
        lambda now: measures.ring_decide_leaving(ring, k, lambda at: at + history.window, now), truth, history.now
    )
    complete = len(history.counted) == len(history.arrivals) <= history.keep
    if complete and all(log_time - at < history.window for log_time, at, _ in history.arrivals):
        assert measures.ring_decide(ring, k, history.window, history.now)[0] is not None


@PROFILE
@given(histories(), st.integers(1, 3), st.data())
def test_people_are_never_miscounted(history: History, k: int, data: st.DataObject) -> None:
    who = [data.draw(st.sampled_from("pqrst")) for _ in history.arrivals]
    asked = data.draw(st.booleans())
    flips = {p: data.draw(st.integers(BEGIN, BEGIN + 2 * SPAN)) for p in "pqrst"}
    kinds = {
        p: data.draw(st.sampled_from([(True, False), (False, True), (None, True), (None, None)])) for p in "pqrst"
    }
    tags = {measures.person_tag(p): p for p in "pqrst"}

    def matches(person: str, now: int) -> Decision:
        before, after = kinds[person]
        return (before, flips[person]) if now < flips[person] else (after, NEVER)

    ring = measures.empty_ring(history.floor)
    for log_time, at, offset in history.counted:
        ring = measures.people_add(ring, who[offset], at, offset, history.keep, log_time - history.window)

    def decide(now: int) -> Decision:
        judge = (lambda tag: matches(tags[tag], now)) if asked else None
        return measures.people_decide(ring, k, lambda at: at + history.window, now, judge)

    def truth(now: int) -> Verdict:
        there = {who[offset] for _, offset in history.inside(now)}
        verdicts = [matches(person, now)[0] if asked else True for person in there]
        if verdicts.count(True) >= k:
            return True
        return None if len(verdicts) - verdicts.count(False) >= k else False

    says(decide, truth, history.now)


@PROFILE
@given(
    histories(),
    st.sampled_from(["sum", "min", "max", "avg"]),
    st.sampled_from(["at_least", "above", "at_most", "below"]),
    st.sampled_from([-1, 0, 2, 3.5]),
    st.data(),
)
def test_an_amount_is_never_wrong(history: History, kind: str, op: str, bound: float, data: st.DataObject) -> None:
    values = [data.draw(st.sampled_from([-2, 0, 1, 2, 3.5, 4])) for _ in history.arrivals]
    window = conditions.Window.of(history.window)
    condition = conditions.amount("m", kind, "amount", op, bound, window)
    ring = measures.empty_ring(history.floor)
    for log_time, at, offset in history.counted:
        value = measures.in_millionths(values[offset])
        ring = measures.amounts_add(ring, value, at, offset, history.keep, log_time - history.window)
    state = AccountState(born=0, measures={"m": ring})
    compared = {
        "at_least": lambda value: value >= bound,
        "above": lambda value: value > bound,
        "at_most": lambda value: value <= bound,
        "below": lambda value: value < bound,
    }[op]

    def truth(now: int) -> Verdict:
        there = [values[offset] for _, offset in history.inside(now)]
        if not there and kind != "sum":
            return None
        of = {"sum": sum, "min": min, "max": max, "avg": lambda all: sum(all) / len(all)}[kind]
        return bool(compared(of(there)))

    says(lambda now: condition.decide(state, now), truth, history.now)


@PROFILE
@given(histories(), st.integers(1, 40))
def test_a_first_time_is_never_wrong(history: History, age: int) -> None:
    first = measures.empty_ring(history.floor)
    for _, at, offset in history.counted:
        first = measures.first_add(first, at, offset)
    earliest = history.pairs[0][0]
    says(lambda now: measures.first_decide(first, age, now), lambda now: earliest <= now - age, history.now)


@PROFILE
@given(histories(most=9), st.integers(2, 3), st.sampled_from([1, 5, 10, 40]), st.booleans(), st.data())
def test_a_sequence_is_never_wrong(history: History, n: int, span: int, ever: bool, data: st.DataObject) -> None:
    """An activity may be several of the steps, or none."""
    steps = [data.draw(st.sets(st.integers(0, n - 1), max_size=2)) for _ in history.arrivals]
    window = NEVER if ever else history.window
    known = measures.empty_sequence(n, history.floor)
    for log_time, at, offset in history.counted:
        for step in sorted(steps[offset]):
            known = measures.sequence_add(known, step, at, offset, span, history.keep, window, log_time)
    of_step = [[pair for pair in history.pairs if step in steps[pair[1]]] for step in range(n)]
    ends = {
        chain[-1][0]
        for chain in product(*of_step)
        if all(a < b for a, b in pairwise(chain)) and chain[-1][0] - chain[0][0] <= span
    }

    def leaving(at: int) -> int:
        return NEVER if ever else at + window

    def truth(now: int) -> Verdict:
        return any(leaving(end) > now for end in ends)

    ring = measures.completions(known)
    says(lambda now: measures.ring_decide_leaving(ring, 1, leaving, now), truth, history.now)
    if ever and not history.floor and max(map(len, [*of_step, ends])) <= history.keep:
        assert measures.ring_decide_leaving(ring, 1, leaving, history.now)[0] is not None


PARTS = st.lists(
    st.builds(Part, st.sampled_from([5, 10, 100]), st.sampled_from([math.inf, 2.0, 3.5])), min_size=1, max_size=3
)


@PROFILE
@given(histories(), PARTS, st.sampled_from([0.25, 1.0, 2.0, 3.0]), st.booleans(), st.data())
def test_a_score_is_never_wrong(
    history: History, parts: list[Part], threshold: float, signed: bool, data: st.DataObject
) -> None:
    """With negative weights there is one part without a cap: the compiler refuses the rest."""
    parts = [Part(parts[0].half_life)] if signed else parts
    weights = st.sampled_from([-2.0, 1.0, 3.0] if signed else [0.5, 1.0, 3.0])
    given_ = [(data.draw(st.integers(0, len(parts) - 1)), data.draw(weights)) for _ in history.arrivals]
    score = measures.empty_score(len(parts), history.floor)
    for _, at, offset in history.counted:
        part, weight = given_[offset]
        score = measures.score_add(score, at, weight, parts[part].half_life, part)

    def value(now: int) -> float:
        sums = [0.0] * len(parts)
        for at, offset in history.pairs:
            part, weight = given_[offset]
            sums[part] += weight * 2.0 ** ((at - now) / parts[part].half_life)
        return math.fsum(min(part.cap, each) for part, each in zip(parts, sums, strict=True))

    def truth(now: int) -> Verdict:
        found = value(now)
        return None if abs(found - threshold) <= CLOSE * threshold else found >= threshold

    for at in range(history.now, history.now + SPAN):
        verdict, until = measures.score_decide(score, threshold, parts, at, signed)
        assert until > at
        assert verdict is None or truth(at) in (None, verdict)
        assert {measures.score_decide(score, threshold, parts, each, signed)[0] for each in (at, until - 1)} == {
            verdict
        }
        assert history.floor or verdict is not None


ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Beirut"]


@PROFILE
@given(
    st.integers(1_400_000_000_000, 1_900_000_000_000),
    st.sampled_from(["1d", "3d", "1w", "2w", "1mo", "5mo", "1q", "3q", "1y", "2y"]),
    st.sampled_from(ZONES),
)
def test_an_activity_leaves_when_its_unit_is_n_units_old(at: int, text: str, zone: str) -> None:
    count, unit = calendars.parse(text)
    leaving = calendars.leaves(count, unit, zone)
    assert leaving(at) == begins(leaves(text, local_date(at, zone)), zone)
    assert at < leaving(at) <= at + calendars.longest(count, unit)
    assert leaving(at) <= leaving(at + 1)
