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
from typing import TypeVar

from generate import Pick, drawing
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import CLOSE, begins, leaves, local_date
from test_property import PROFILE

from rules import calendars, counting, measures
from rules.measures import Decision, Part, Verdict
from rules.state import NEVER, AccountState

T = TypeVar("T")
BEGIN = 1_000
AHEAD = 60  # ms that are looked at after the last arrival; small numbers meet each other more often

MANY = settings(PROFILE, max_examples=10 * PROFILE.max_examples)  # they are small


def drawn(make: Callable[[Pick], T]) -> st.SearchStrategy[T]:
    return st.composite(lambda draw: make(drawing(draw)))()


class History:
    """What happened, in the order in which it arrived; a rule that asks, and how much it lets be kept."""

    def __init__(self, pick: Pick, most: int = 9) -> None:
        self.arrivals: list[tuple[int, int, int]] = []  # (log_time, at, log offset)
        now = BEGIN
        for offset in range(pick.of(range(1, most + 1))):
            now += pick.of([0, 1, 2, 3, 5])
            self.arrivals.append((now, now - pick.of([0, 0, 0, 0, 1, 2, 3, 5, 6, 10, 11, 20]), offset))
        self.now = now
        self.keep = pick.of([1, 1, 2, 3, 9])
        self.window = pick.of([5, 10, 20, 100])
        self.unit = pick.of([0, 0, 10])  # a window of whole units, as a calendar cuts them
        # What arrived before the rule that asks was not counted.
        introduced = pick.of([0, 0, 0, self.arrivals[0][0], self.arrivals[len(self.arrivals) // 2][0]])
        self.counted = [each for each in self.arrivals if each[0] > introduced]
        self.floor = introduced if len(self.counted) < len(self.arrivals) else 0
        self.pairs = sorted((at, offset) for _, at, offset in self.arrivals)

    def __repr__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in vars(self).items())

    @property
    def longest(self) -> int:
        return self.window + self.unit

    def leaves(self, at: int) -> int:
        return (at // self.unit * self.unit if self.unit else at) + self.window

    def inside(self, now: int) -> list[tuple[int, int]]:
        return [pair for pair in self.pairs if self.leaves(pair[0]) > now]


def says(decide: Callable[[int], Decision], truth: Callable[[int], Verdict], now: int) -> None:
    """Whatever `decide` says from `now` on is so, and stays so until the instant that it gives."""
    said = [decide(at) for at in range(now, now + AHEAD)]
    for i, (verdict, until) in enumerate(said):
        at = now + i
        assert until > at
        assert verdict is None or verdict is truth(at), (at, verdict, truth(at))
        assert {then for then, _ in said[i : until - now]} == {verdict}, (at, until)


@settings(MANY)
@given(drawn(lambda pick: (History(pick), pick.of([1, 1, 2, 2, 3, 4]))))
def test_a_count_is_never_wrong(case: tuple[History, int]) -> None:
    history, k = case
    ring = measures.empty_ring(history.floor)
    for log_time, at, offset in history.counted:
        ring = measures.ring_add(ring, at, offset, history.keep, log_time - history.longest)

    def truth(now: int) -> Verdict:
        return len(history.inside(now)) >= k

    says(lambda now: measures.ring_decide_leaving(ring, k, history.leaves, now), truth, history.now)
    if not history.unit:
        says(lambda now: measures.ring_decide(ring, k, history.window, now), truth, history.now)
    if not history.floor and len(history.arrivals) <= history.keep and not measures.floor_of(ring):
        assert measures.ring_decide_leaving(ring, k, history.leaves, history.now)[0] is not None


class Crowd:
    """Who did it, and who of them matches, which may turn by time alone."""

    def __init__(self, pick: Pick) -> None:
        self.history = History(pick)
        self.who = [pick.of("pqr") for _ in self.history.arrivals]
        self.k = pick.of([1, 1, 2, 3])
        self.asked = pick.of([True, True, False])
        verdicts: list[tuple[Verdict, Verdict]] = [(True, False), (False, True), (None, True), (True, None)]
        self.verdicts = {person: pick.of(verdicts) for person in "pqr"}
        self.turns = {person: self.history.now + pick.of(range(-5, 30)) for person in "pqr"}

    def __repr__(self) -> str:
        return repr(vars(self))

    def matches(self, person: str, now: int) -> Decision:
        before, after = self.verdicts[person]
        return (before, self.turns[person]) if now < self.turns[person] else (after, NEVER)

    def decide(self, ring: bytes, now: int) -> Decision:
        tags = {measures.person_tag(person): person for person in "pqr"}
        judge = (lambda tag: self.matches(tags[tag], now)) if self.asked else None
        return measures.people_decide(ring, self.k, self.history.leaves, now, judge)

    def truth(self, now: int) -> Verdict:
        there = {self.who[offset] for _, offset in self.history.inside(now)}
        verdicts = [self.matches(person, now)[0] if self.asked else True for person in there]
        if verdicts.count(True) >= self.k:
            return True
        return None if len(verdicts) - verdicts.count(False) >= self.k else False


@settings(MANY)
@given(drawn(Crowd))
def test_people_are_never_miscounted(crowd: Crowd) -> None:
    history = crowd.history
    ring = measures.empty_ring(history.floor)
    for log_time, at, offset in history.counted:
        ring = measures.people_add(ring, crowd.who[offset], at, offset, history.keep, log_time - history.longest)
    says(lambda now: crowd.decide(ring, now), crowd.truth, history.now)


COMPARED: dict[str, Callable[[float, float], bool]] = {
    "at_least": lambda value, bound: value >= bound,
    "above": lambda value, bound: value > bound,
    "at_most": lambda value, bound: value <= bound,
    "below": lambda value, bound: value < bound,
}
OF: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "min": min,
    "max": max,
    "avg": lambda values: sum(values) / len(values),
}


@dataclass
class Amount:
    history: History
    kind: str
    op: str
    bound: float
    values: list[float]


def amounts(pick: Pick) -> Amount:
    history = History(pick)
    values = [pick.of([-2, 0, 1, 2, 3.5, 4]) for _ in history.arrivals]
    return Amount(history, pick.of(list(OF)), pick.of(list(COMPARED)), pick.of([-1, 0, 1, 2, 3.5]), values)


@settings(MANY)
@given(drawn(amounts))
def test_an_amount_is_never_wrong(case: Amount) -> None:
    history = case.history
    window = counting.Window(history.leaves, history.longest, "in a while")
    condition = counting.amount("m", case.kind, "amount", case.op, case.bound, window)
    ring = measures.empty_ring(history.floor)
    for log_time, at, offset in history.counted:
        value = measures.in_millionths(case.values[offset])
        ring = measures.amounts_add(ring, value, at, offset, history.keep, log_time - history.longest)
    state = AccountState(born=0, measures={"m": ring})

    def truth(now: int) -> Verdict:
        there = [case.values[offset] for _, offset in history.inside(now)]
        if not there and case.kind != "sum":
            return None
        return COMPARED[case.op](OF[case.kind](there), case.bound)

    says(lambda now: condition.decide(state, now), truth, history.now)


@settings(MANY)
@given(drawn(lambda pick: (History(pick), pick.of([1, 5, 10, 30]))))
def test_a_first_time_is_never_wrong(case: tuple[History, int]) -> None:
    history, age = case
    first = measures.empty_ring(history.floor)
    for _, at, offset in history.counted:
        first = measures.first_add(first, at, offset)
    earliest = history.pairs[0][0]
    says(lambda now: measures.first_decide(first, age, now), lambda now: earliest <= now - age, history.now)


@dataclass
class Chain:
    """An activity may be several of the steps, or none."""

    history: History
    span: int
    ever: bool
    steps: list[list[int]]
    n: int

    @property
    def ends(self) -> set[int]:
        of_step = [[pair for pair in self.history.pairs if step in self.steps[pair[1]]] for step in range(self.n)]
        return {
            chain[-1][0]
            for chain in product(*of_step)
            if all(a < b for a, b in pairwise(chain)) and chain[-1][0] - chain[0][0] <= self.span
        }


def chains(pick: Pick) -> Chain:
    history, n = History(pick), pick.of([2, 2, 3])
    history.keep = pick.of([1, 1, 2, 9])
    steps = [pick.of([[0], [0], [n - 1], [n - 1], [1], [], [0, n - 1]]) for _ in history.arrivals]
    return Chain(history, pick.of([1, 2, 3, 5, 6, 40]), pick.of([True, False]), steps, n)


@settings(MANY, max_examples=4 * MANY.max_examples)
@given(drawn(chains))
def test_a_sequence_is_never_wrong(case: Chain) -> None:
    history, span, ends = case.history, case.span, case.ends
    window = NEVER if case.ever else history.longest
    known = measures.empty_sequence(case.n, history.floor)
    for log_time, at, offset in history.counted:
        for step in case.steps[offset]:
            known = measures.sequence_add(known, step, at, offset, span, history.keep, window, log_time)

    def leaving(at: int) -> int:
        return NEVER if case.ever else history.leaves(at)

    def decide(now: int) -> Decision:
        return measures.ring_decide_leaving(measures.completions(known), 1, leaving, now)

    says(decide, lambda now: any(leaving(end) > now for end in ends), history.now)
    if case.ever and not history.floor and len(history.arrivals) <= history.keep:
        assert decide(history.now)[0] is not None


@dataclass
class Score:
    """With negative weights there is one part without a cap: the compiler refuses the rest."""

    history: History
    parts: list[Part]
    signed: bool
    given: list[tuple[int, float]]  # part and weight of each activity
    threshold: float

    def value(self, now: int) -> float:
        sums = [0.0] * len(self.parts)
        for at, offset in self.history.pairs:
            part, weight = self.given[offset]
            sums[part] += weight * 2.0 ** ((at - now) / self.parts[part].half_life)
        return math.fsum(min(part.cap, each) for part, each in zip(self.parts, sums, strict=True))


def scores(pick: Pick) -> Score:
    history, signed = History(pick), pick.of([False, False, True])
    weights = [-2.0, 1.0, 3.0] if signed else [0.5, 1.0, 3.0]
    caps = [math.inf] if signed else [math.inf, 2.0, 3.5]
    parts = [Part(pick.of([5, 10, 100]), pick.of(caps)) for _ in range(1 if signed else pick.of([1, 2, 3]))]
    given_ = [(pick.of(range(len(parts))), pick.of(weights)) for _ in history.arrivals]
    return Score(history, parts, signed, given_, pick.of([0.25, 1.0, 2.0, 3.0, 5.0]))


@settings(MANY)
@given(drawn(scores))
def test_a_score_is_never_wrong(case: Score) -> None:
    history, parts, threshold = case.history, case.parts, case.threshold
    score = measures.empty_score(len(parts), history.floor)
    for _, at, offset in history.counted:
        part, weight = case.given[offset]
        score = measures.score_add(score, at, weight, parts[part].half_life, part)

    def decide(now: int) -> Decision:
        return measures.score_decide(score, threshold, parts, now, case.signed)

    def truth(now: int) -> Verdict:
        value = case.value(now)
        return decide(now)[0] if abs(value - threshold) <= CLOSE * threshold else value >= threshold

    says(decide, truth, history.now)
    assert history.floor or decide(history.now)[0] is not None


ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Beirut"]


@settings(MANY)
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
