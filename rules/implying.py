"""Whether one condition being true makes another sure: what `lint` asks of two rungs of a ladder.

Everything here errs to one side: what it says is so; what it does not see, it does not say. Two kinds of
reasoning. Of conditions that ask one fact, the values for which they are true are compared as sets, so that
several rungs together may cover one. Of others, two are compared part by part: more often than 3 times in a week
is also more often than once in a month.

A point between values is a `Cut`: (5, 0) lies just below 5 and (5, 1) just above it, so "at least 5" begins at
the one and "above 5" at the other. Dates have two lines, one for the date itself and one for its age.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Any, TypeAlias

from rules import calendars, model, operators
from rules.names import Names
from rules.ruleset import ANY_ACTIVITY

Cut: TypeAlias = tuple[float, int]
Verdict: TypeAlias = bool | None
Key: TypeAlias = tuple[str, str]  # a fact, and which line of it
_FIRST, _LAST = (-math.inf, 0), (math.inf, 1)

# -- sets of values -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """Numbers, as spans between cuts: ascending and apart."""

    spans: tuple[tuple[Cut, Cut], ...]

    @classmethod
    def of(cls, spans: Iterable[tuple[Cut, Cut]]) -> Line:
        merged: list[tuple[Cut, Cut]] = []
        for start, end in sorted(span for span in spans if span[0] < span[1]):
            if merged and start <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((start, end))
        return cls(tuple(merged))

    @property
    def empty(self) -> bool:
        return not self.spans

    def __or__(self, other: Line) -> Line:
        return Line.of((*self.spans, *other.spans))

    def __invert__(self) -> Line:
        cuts = [_FIRST, *(cut for span in self.spans for cut in span), _LAST]
        return Line.of(zip(cuts[::2], cuts[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class Words:
    """Some texts or booleans, or (`but`) all except those; of a vocabulary's terms it is always some."""

    words: frozenset[Any]
    but: bool = False
    known: frozenset[Any] | None = None  # all there are, when that is known

    @property
    def empty(self) -> bool:
        return not self.words and not self.but

    def __or__(self, other: Words) -> Words:
        match self.but, other.but:
            case False, False:
                return self._with(self.words | other.words, False)
            case True, True:
                return self._with(self.words & other.words, True)
            case True, False:
                return self._with(self.words - other.words, True)
            case _:
                return other | self

    def __invert__(self) -> Words:
        return self._with(self.words, not self.but)

    def _with(self, words: frozenset[Any], but: bool) -> Words:
        if but and self.known is not None:
            words, but = self.known - words, False
        return Words(words, but, self.known)


@dataclass(frozen=True, slots=True)
class Values:
    """For which values a condition is true, and its verdict where there is none."""

    there: Line | Words
    missing: Verdict = None

    def __or__(self, other: Values) -> Values:
        found = [self.missing, other.missing]
        return Values(
            _either(self.there, other.there), True if True in found else None if None in found else False
        )

    def __and__(self, other: Values) -> Values:
        found = [self.missing, other.missing]
        verdict = False if False in found else None if None in found else True
        return Values(~_either(~self.there, ~other.there), verdict)

    def __invert__(self) -> Values:
        return Values(~self.there, None if self.missing is None else not self.missing)

    def covers(self, other: Values) -> bool:
        """Whether every value that is among the other's is among these; missing ones aside."""
        return (~_either(~other.there, self.there)).empty


def _either(one: Line | Words, other: Line | Words) -> Line | Words:
    """Both are of the same line of the same fact, so of one kind."""
    if isinstance(one, Line) and isinstance(other, Line):
        return one | other
    if isinstance(one, Words) and isinstance(other, Words):
        return one | other
    raise AssertionError(one, other)


# -- what a condition says of facts -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Facts:
    """Conditions as sets of values, under what is declared."""

    names: Names

    def bounds(self, condition: Any) -> dict[Key, Values]:
        """Among which values a fact is whenever the condition is true."""
        match condition:
            case model.FactCondition():
                return self._of_fact(condition)[0]
            case model.NotCondition(not_=model.FactCondition() as inner):
                found, exact = self._of_fact(inner)
                return {key: ~values for key, values in found.items()} if exact else {}
            case model.AllCondition():
                together: dict[Key, Values] = {}
                for each in map(self.bounds, condition.all):
                    for key, values in each.items():
                        together[key] = together[key] & values if key in together else values
                return together
            case model.AnyCondition():
                parts = [self.bounds(part) for part in condition.any]
                shared = set(parts[0]).intersection(*parts[1:])
                return {key: reduce(or_, (part[key] for part in parts)) for key in sorted(shared)}
            case _:
                return {}

    def grants(self, condition: Any) -> dict[Key, Values]:
        """For which values of a fact the condition is surely true, whatever else there is."""
        match condition:
            case model.FactCondition():
                found, exact = self._of_fact(condition)
                return found if exact else {}
            case model.NotCondition(not_=model.FactCondition()):
                return self.bounds(condition)
            case model.AllCondition():
                parts = [self.grants(part) for part in condition.all]
                shared = set(parts[0]).intersection(*parts[1:])
                return {key: reduce(and_, (part[key] for part in parts)) for key in sorted(shared)}
            case model.AnyCondition():
                together: dict[Key, Values] = {}
                for each in map(self.grants, condition.any):
                    for key, values in each.items():
                        together[key] = together[key] | values if key in together else values
                return together
            case _:
                return {}

    def _of_fact(self, condition: model.FactCondition) -> tuple[dict[Key, Values], bool]:
        """What each line of the fact must be, and whether that is all that the condition asks."""
        declared = self.names.facts[condition.fact]
        absent: Verdict = True if condition.or_missing else None
        found: dict[Key, Values] = {}
        exact = True
        for op, operand in condition.given().items():
            if op in operators.PRESENCE:
                everything = ~self._none(declared)
                there = everything if operators.PRESENCE[op] else ~everything
                return {(condition.fact, _line(op)): Values(there, not operators.PRESENCE[op])}, True
            values = self._of_operator(declared, op, operand) if not condition.fold else None
            if values is None:
                exact, values = False, ~self._none(declared)
            key = (condition.fact, _line(op))
            either = Values(values, absent)
            found[key] = found[key] & either if key in found else either
        return found, exact and len(found) == 1

    def _none(self, declared: model.FactDeclaration) -> Line | Words:
        """No value of the fact's type."""
        match declared.type:
            case "number" | "date":
                return Line(())
            case "boolean":
                return Words(frozenset(), known=frozenset({True, False}))
            case _:
                terms = self.names.terms.get(declared.vocabulary or "")
                return Words(frozenset(), known=None if terms is None else frozenset(terms))

    def _of_operator(self, declared: model.FactDeclaration, op: str, operand: Any) -> Line | Words | None:
        """The values for which the comparison is true; None where they are no such set."""
        if declared.type == "date":
            return _of_date(op, operand, declared.timezone)
        if declared.type == "list" or op not in _SPANS:
            return None
        operands = operand if isinstance(operand, list) else [operand]
        if declared.type == "number":
            numbers = Line.of(_SPANS[op](*operands)) if op == "between" else _one_by_one(op, operands)
            return ~numbers if op in _NEGATIVE else numbers
        none = self._none(declared)
        if not isinstance(none, Words) or op not in _EQUAL:
            return None
        some = Words(frozenset(operands), known=none.known)
        return ~some if op in _NEGATIVE else some


def _line(op: str) -> str:
    return "age" if operators.TABLE[op].takes == "duration" else "value"


def _one_by_one(op: str, operands: Iterable[float]) -> Line:
    return Line.of(span for each in operands for span in _SPANS[op](each))


def _is(value: float, *_: float) -> list[tuple[Cut, Cut]]:
    return [((value, 0), (value, 1))]


_EQUAL = frozenset({"is", "is_not", "in", "not_in"})
_NEGATIVE = frozenset({"is_not", "not_in"})  # their spans are those of what is not meant
_SPANS: dict[str, Any] = {
    "is": _is,
    "is_not": _is,
    "in": _is,
    "not_in": _is,
    "at_least": lambda value: [((value, 0), _LAST)],
    "above": lambda value: [((value, 1), _LAST)],
    "at_most": lambda value: [(_FIRST, (value, 1))],
    "below": lambda value: [(_FIRST, (value, 0))],
    "between": lambda low, high: [((low, 0), (high, 1))],
}
_AGES: dict[str, Any] = {
    "older_than": lambda age: [((age, 0), _LAST)],
    "newer_than": lambda age: [(_FIRST, (age, 0))],
    "within_last": lambda age: [((0, 0), (age, 0))],
    "within_next": lambda age: [((-age, 0), (0, 0))],
}


def _of_date(op: str, operand: Any, zone: str) -> Line:
    if op in _AGES:
        return Line.of(_AGES[op](operand))
    first, last = operand if op == "between" else (operand, operand)
    start, end = (calendars.interval(first, zone).start, 0), (calendars.interval(last, zone).end, 0)
    match op:
        case "before":
            return Line.of([(_FIRST, start)])
        case "after":
            return Line.of([(end, _LAST)])
        case _:
            return Line.of([(start, end)])


# -- one condition and another ----------------------------------------------------------------------------------


def implies(one: Any, other: Any, names: Names) -> bool:
    """Whether `other` is surely true when `one` is."""
    if one == other:
        return True
    if isinstance(other, model.AnyCondition) and any(implies(one, part, names) for part in other.any):
        return True
    if isinstance(other, model.AllCondition):
        return all(implies(one, part, names) for part in other.all)
    match one:
        case model.AllCondition():
            return any(implies(part, other, names) for part in one.all)
        case model.AnyCondition():
            return all(implies(part, other, names) for part in one.any)
        case model.ScoreCondition():
            return isinstance(other, model.ScoreCondition) and _score_implies(one, other)
        case model.SegmentCondition(missing=None):
            return (
                isinstance(other, model.SegmentCondition)
                and other.missing is None
                and set(one.segment) <= set(other.segment)
            )
        case _:
            wanted = _asked(other, names)
            given = _asked(one, names)
            return bool(wanted) and all(any(_stronger(a, b) for a in given) for b in wanted)


def _score_implies(one: model.ScoreCondition, other: model.ScoreCondition) -> bool:
    if one.score != other.score:
        return False
    if one.at_least is not None and other.at_least is not None:
        return one.at_least >= other.at_least
    return one.below is not None and other.below is not None and one.below <= other.below


@dataclass(frozen=True, slots=True)
class _Asked:
    """How many of what, how far back: one bound of a count, and what says the same in other words."""

    people: bool
    activity: str
    ours: bool  # outbound, so not among activities of any kind
    filters: tuple[Any, ...]
    at_least: bool
    k: int
    back: float  # rolling ms; infinite for ever
    calendar: tuple[int, str, str] | None = None


def _asked(condition: Any, names: Names) -> Sequence[_Asked]:
    """The bounds that a condition is made of; none for a condition of another kind."""
    match condition:
        case model.CountCondition():
            return _bounds(False, condition.count, condition, names)
        case model.PeopleCondition() if not condition.who:
            return _bounds(True, condition.people, condition, names)
        case model.SeenCondition():
            return [_Asked(False, *_events(condition.seen, condition.where, names), True, 1, *_back(condition))]
        case model.LastCondition(within=int() as back):
            return [_Asked(False, *_events(condition.last, condition.where, names), True, 1, back)]
        case model.NeverCondition():
            return [_Asked(False, *_events(condition.never, condition.where, names), False, 1, math.inf)]
        case model.QuietCondition():
            return [_Asked(False, *_events(condition.quiet, condition.where, names), False, 1, condition.for_)]
        case _:
            return []


def _bounds(people: bool, name: str, condition: model.Many, names: Names) -> list[_Asked]:
    where = getattr(condition, "where", {})
    events = _events(name, where, names)
    limits = [condition.below, None if condition.at_most is None else condition.at_most + 1]
    wanted = [(True, condition.at_least), *((False, k) for k in limits)]
    back = _back(condition)
    return [_Asked(people, *events, least, k, *back) for least, k in wanted if k is not None]


def _events(name: str, where: model.Where, names: Names) -> tuple[str, bool, tuple[Any, ...]]:
    activity, filters = names.resolve(name, where)
    declared = names.activities.get(activity)
    return activity, declared is not None and declared.outbound, tuple(filters)


def _back(condition: model.Windowed) -> tuple[float, tuple[int, str, str] | None]:
    if condition.calendar is not None:
        return 0, (*condition.calendar, condition.timezone or "UTC")
    return math.inf if condition.within is None else condition.within, None


def _stronger(one: _Asked, other: _Asked) -> bool:
    """Whether the bound `one` being kept means that `other` is. At least: of fewer events in a shorter window."""
    if one.at_least is not other.at_least:
        return False
    small, large = (one, other) if one.at_least else (other, one)
    if not _among(small, large) or not _shorter(small, large):
        return False
    if one.at_least:
        return one.k >= other.k and (one.people or not other.people)
    return one.k <= other.k and (other.people or not one.people)


def _among(small: _Asked, large: _Asked) -> bool:
    """Whether every activity that the one counts is counted by the other."""
    same = large.activity == small.activity or (large.activity == ANY_ACTIVITY and not small.ours)
    return same and all(each in small.filters for each in large.filters)


def _shorter(small: _Asked, large: _Asked) -> bool:
    if small.calendar is None and large.calendar is None:
        return small.back <= large.back
    if small.calendar is None or large.calendar is None:
        return large.back == math.inf
    (n, unit, zone), (m, *like) = small.calendar, large.calendar
    return n <= m and [unit, zone] == like
