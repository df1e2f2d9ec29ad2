"""What would move an account up a ladder: the fewest more activities of one kind, and until when they would do.

Nothing is read out of rules: each activity that feeds a measure is tried on the account, once, twice and so on,
with the very `step` that folds. So what is advised is what would happen, waits and overrides included. Each try is
a person of its own, new to the account, because rules may count people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, islice
from typing import Any

from rules import model, yamlfile
from rules.durations import DAY
from rules.engine import let_time_pass, step
from rules.names import Names
from rules.records import Activity, is_visitor
from rules.ruleset import ANY_ACTIVITY, Dimension, InForce, Ruleset
from rules.state import NEVER, AccountState, standing_in

MORE_AT_MOST = 5
TRIED_TO_THE_END, TOLD_AT_MOST = 4, 2  # of activities that do alike in a ladder
LOOKED_AHEAD = 90 * DAY
CANDIDATES = 200
# What makes a property fulfil a comparison; an activity whose `where` asks for another cannot be tried.
_FULFILS = {
    "is": lambda operand: operand,
    "in": lambda operand: operand[0],
    "starts": lambda operand: operand,
    "ends": lambda operand: operand,
    "contains": lambda operand: operand,
    "at_least": lambda operand: operand,
    "at_most": lambda operand: operand,
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An activity that counts for something: its name in rules, in words, and one of it."""

    name: str
    label: str
    activity: str
    props: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Advice:
    """`times` more of it, and the account moves in `dimension` to `segment`. `before`: the instant from which on
    that is no longer enough; None: not within LOOKED_AHEAD."""

    dimension: str
    before_segment: str
    segment: str
    name: str
    label: str
    times: int
    before: int | None

    @property
    def says(self) -> str:
        """`one more pricing page view`."""
        number = ("one", "two", "three", "four", "five")[self.times - 1]
        return f"{number} more {self.label.replace('(s)', '' if self.times == 1 else 's')}"


def advise(account: str, state: AccountState, ruleset: Ruleset, now: int) -> list[Advice]:
    """For each ladder that one kind of activity would move up: the fewest, to the highest rung they reach; of
    several that do alike, the first whose end is nearest."""
    if state.deleted or state.merged_into or state.quarantined >= 0 or is_visitor(account):
        return []
    if state.ruleset != ruleset.hash:
        return []
    trial = _Trial(account, state, InForce().switch(ruleset, -1, 0))
    ladders = [each for each in ruleset.dimensions if each.kind == "ladder" and each.name not in state.overrides]
    best: dict[str, tuple[tuple[int, int], list[Candidate]]] = {}
    for candidate in candidates(ruleset):
        reached: set[str] = set()
        for times, after in enumerate(islice(trial.one_by_one(candidate, now), MORE_AT_MOST), 1):
            for ladder in ladders:
                segment = moved_up(ladder, state, after)
                if segment and ladder.name not in reached:
                    reached.add(ladder.name)
                    rank = times, _rung(ladder, segment)
                    held, tied = best.get(ladder.name, (rank, []))
                    if rank <= held:
                        best[ladder.name] = rank, [*(tied if rank == held else []), candidate]
    return [
        advice for each in ladders if each.name in best for advice in trial.advice(each, *best[each.name], now)
    ]


def moved_up(ladder: Dimension, before: AccountState, after: AccountState) -> str:
    """The higher rung that the account came to; "" when it did not."""
    then, now = _answer(ladder, before), _answer(ladder, after)
    return now if _rung(ladder, now) < _rung(ladder, then) else ""


def _rung(ladder: Dimension, segment: str) -> int:
    names = [each.name for each in ladder.segments]
    return names.index(segment) if segment in names else len(names)


def _answer(ladder: Dimension, state: AccountState) -> str:
    answer = standing_in(state, ladder.name).answer
    return answer[0] if answer else ""


@dataclass(frozen=True, slots=True)
class _Trial:
    account: str
    state: AccountState
    rules: InForce

    def after(self, candidate: Candidate, times: int, now: int) -> AccountState:
        """The account, had this happened so often at `now`."""
        return next(islice(self.one_by_one(candidate, now), times - 1, None))

    def one_by_one(self, candidate: Candidate, now: int) -> Iterator[AccountState]:
        """The account, had this happened at `now` once, twice and so on."""
        passed = let_time_pass(self.account, self.state, now, now, self.rules).state or self.state
        for n in count():
            record = Activity(
                account=self.account, name=candidate.activity, at=now, received=now, props=dict(candidate.props),
                person=f"\0somebody {n}",
            )  # fmt: skip
            record.offset = self.state.touched + n + 1
            passed = step(passed, record, now, self.rules).state or passed
            yield passed

    def advice(self, ladder: Dimension, rank: tuple[int, int], tied: list[Candidate], now: int) -> list[Advice]:
        """Of activities that do alike, those with the nearest end: they count with what has happened already."""
        times, rung = rank
        segment, here = ladder.segments[rung].name, _answer(ladder, self.state)
        found = [
            Advice(ladder.name, here, segment, each.name, each.label, times, before)
            for each in tied[:TRIED_TO_THE_END]
            for before in [self.deadline(ladder, segment, each, times, now)]
        ]
        return sorted(found, key=lambda each: each.before or NEVER)[:TOLD_AT_MOST]

    def deadline(self, ladder: Dimension, segment: str, candidate: Candidate, times: int, now: int) -> int | None:
        """The first instant at which it would not reach so far: by halving, so of several the one it meets."""

        def enough(at: int) -> bool:
            return _rung(ladder, _answer(ladder, self.after(candidate, times, at))) <= _rung(ladder, segment)

        low, high = now, now + LOOKED_AHEAD
        if enough(high):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if enough(middle) else (low, middle)
        return high


def candidates(ruleset: Ruleset) -> tuple[Candidate, ...]:
    """The activities that rules count; those that are a part of another come after it."""
    return _candidates(ruleset.hash, tuple(sorted(ruleset.files.items())), frozenset(ruleset.feeds))


@lru_cache(8)
def _candidates(hash: str, files: tuple[tuple[str, str], ...], feeds: frozenset[str]) -> tuple[Candidate, ...]:
    names = Names([])
    for file, text in files:
        for document in yamlfile.read(file, text):
            names.declare(document)
    found = list(_tried(names, feeds))
    found.sort(key=lambda each: (bool(each.props), each.name))
    return tuple(found[:CANDIDATES])


def _tried(names: Names, feeds: frozenset[str]) -> Iterator[Candidate]:
    for name, declared in names.activities.items():
        activity, filters = names.resolve(name, {})
        of = names.activities.get(activity)
        if declared.outbound or (of is not None and of.outbound) or name == ANY_ACTIVITY:
            continue  # what we do ourselves is no advice
        props = _props(filters)
        if props is not None and (activity in feeds or ANY_ACTIVITY in feeds):
            yield Candidate(name, declared.label or name.replace("_", " "), activity, props)


def _props(filters: list[tuple[str, model.Comparison]]) -> dict[str, Any] | None:
    """Properties that fulfil all of the filters; None where nobody knows such."""
    props: dict[str, Any] = {}
    for prop, comparison in filters:
        for operator, operand in comparison.given().items():
            if operator not in _FULFILS or prop in props:
                return None
            props[prop] = _FULFILS[operator](operand)
    return props
