"""A ruleset as it runs: dimensions compiled to closures, and an index from what changed to what to ask again.

Built once per ruleset by `compiler`, then only read. `step` looks up which measures an activity feeds and
which dimensions a changed fact or measure can move; nothing else is evaluated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rules.conditions import Condition, Decide, Told
from rules.records import FactValue
from rules.state import NEVER, UNCLASSIFIED, AccountState, Answer

ANY_ACTIVITY = "any"
TEXT_KEPT = 512
INTEGERS = 1 << 63  # what a packed state can hold
_NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?$")
_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}

Matches = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Feed:
    """How one activity changes one measure, and which dimensions read it.

    `add(value, at, log offset, log_time)` gives the measure with one more activity. One that is `longest`
    old or older when it arrives lies outside every window and changes no answer; the measure only notes that
    it is missing, for a rule that may one day ask further back.
    """

    measure: str
    matches: Matches | None  # None: every activity of that name
    add: Callable[[bytes, int, int, int], bytes]
    empty: bytes
    longest: int
    dimensions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    name: str
    condition: Condition
    owner: str = ""
    action: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One question about an account. `decide` gives its answer and until when time cannot change it."""

    name: str
    kind: Literal["ladder", "set"]
    segments: tuple[Segment, ...]
    decide: Callable[[AccountState, int], tuple[Answer, int]]
    reads: frozenset[str]
    skips_unknown: bool = False

    def segment(self, name: str) -> Segment | None:
        return next((segment for segment in self.segments if segment.name == name), None)

    def tell(self, name: str, state: AccountState, now: int) -> Told:
        """Why `name` is or is not (part of) the answer: its condition tree, or what was not known."""
        segment = self.segment(name)
        if segment is not None:
            return segment.condition.tell(state, now)
        unknown = self.unknown(state, now)
        return {"says": "not known", "verdict": "unknown", "parts": [told for _, told in unknown[:1]]}

    def unknown(self, state: AccountState, now: int) -> list[tuple[str, Told]]:
        """The segments that could not be decided, in order, each with its tree."""
        return [
            (each.name, each.condition.tell(state, now))
            for each in self.segments
            if each.condition.decide(state, now)[0] is None
        ]

    def stays_until(self, answer: Answer, state: AccountState, wake: int) -> int:
        """When the answer will change if nothing happens (NEVER: not by time alone).

        A wake may come before the change it watches for, so the wakes are walked until the answer differs.
        """
        for _ in range(64):
            if wake >= NEVER:
                break
            then, following = self.decide(state, wake)
            if then != answer:
                return wake
            wake = following
        return wake


def ladder(
    segments: tuple[Segment, ...], skips_unknown: bool
) -> Callable[[AccountState, int], tuple[Answer, int]]:
    """The first segment that is true. Unknown above it stops the search, or is passed over."""
    rungs: list[tuple[Decide, Answer]] = [(each.condition.decide, (each.name,)) for each in segments]
    unclassified: Answer = (UNCLASSIFIED,)

    def decide(state: AccountState, now: int) -> tuple[Answer, int]:
        until = NEVER
        for check, answer in rungs:
            verdict, holds = check(state, now)
            if holds < until:
                until = holds
            if verdict is True:
                return answer, until
            if verdict is None and not skips_unknown:
                return unclassified, until
        return (), until

    return decide


def members(segments: tuple[Segment, ...]) -> Callable[[AccountState, int], tuple[Answer, int]]:
    """A set: every segment that is true; unknown is not a member."""
    each = [(segment.condition.decide, segment.name) for segment in segments]

    def decide(state: AccountState, now: int) -> tuple[Answer, int]:
        until, answer = NEVER, []
        for check, name in each:
            verdict, holds = check(state, now)
            until = min(until, holds)
            if verdict is True:
                answer.append(name)
        return tuple(answer), until

    return decide


@dataclass(frozen=True, slots=True)
class Ruleset:
    hash: str = ""
    files: dict[str, str] = field(default_factory=dict)
    dimensions: tuple[Dimension, ...] = ()
    measures: dict[str, Callable[[int], bytes]] = field(
        default_factory=dict
    )  # id -> the empty one, from its floor
    feeds: dict[str, tuple[Feed, ...]] = field(default_factory=dict)  # by activity, `any` included
    readers: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by `fact:NAME` or `contacts`
    fact_types: dict[str, str] = field(default_factory=dict)
    contact_types: dict[str, str] = field(default_factory=dict)
    sets: frozenset[str] = frozenset()  # names of the dimensions that are sets

    def feeds_of(self, activity: str) -> tuple[Feed, ...]:
        return self.feeds.get(activity) or self.feeds.get(ANY_ACTIVITY, ())

    def dimension(self, name: str) -> Dimension | None:
        return next((each for each in self.dimensions if each.name == name), None)


NO_RULES = Ruleset()


@dataclass(frozen=True, slots=True)
class InForce:
    """A ruleset at work in a partition: since which record, and since when each measure has been kept."""

    ruleset: Ruleset = NO_RULES
    offset: int = -1
    at: int = 0
    introduced: dict[str, tuple[int, int]] = field(default_factory=dict)  # measure -> (offset, log_time)

    def switch(self, ruleset: Ruleset, offset: int, log_time: int) -> InForce:
        introduced = {m: self.introduced.get(m, (offset, log_time)) for m in ruleset.measures}
        return InForce(ruleset, offset, log_time, introduced)


def coerce(kind: str, value: FactValue) -> FactValue:
    """`value` as the declared type (`any`: none was). Raises ValueError when it cannot be."""
    match kind, value:
        case _, None:
            return None
        case _, int() if not -INTEGERS <= value < INTEGERS:
            raise ValueError(f"{value!r} is too large to be kept")
        case "any", _:
            return value
        case ("number", bool()) | ("boolean", float()) | ("text", list()):
            raise ValueError(f"{value!r} is not a {kind}")
        case "number", int() | float():
            if not math.isfinite(value):
                raise ValueError(f"{value!r} is not a {kind}")
            return value
        case "number", str() if _NUMBER.match(value.strip()):
            number = float(value.replace(",", ""))
            if math.isinf(number):
                raise ValueError(f"{value!r} is too large to be kept")
            return int(number) if number.is_integer() and abs(number) < INTEGERS else number
        case "boolean", bool():
            return value
        case "boolean", int() | str() if str(value).strip().casefold() in _BOOLEANS:
            return _BOOLEANS[str(value).strip().casefold()]
        case "list", list():
            return [str(each)[:TEXT_KEPT] for each in value]
        case "list", str():
            return [value[:TEXT_KEPT]]
        case "text", str():
            return value[:TEXT_KEPT].strip() or None
        case "text", _:
            return str(value)
    raise ValueError(f"{value!r} is not a {kind}")
