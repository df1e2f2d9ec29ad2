"""A test of rules, ready to run: names that the ruleset knows, times as instants, steps as records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from rules.records import AccountRecord
from rules.rehearsal_model import Span
from rules.ruleset import Dimension
from rules.state import Answer
from rules.work import Kind


@dataclass(frozen=True, slots=True)
class Members:
    """The segments an account is expected to hold in a dimension."""

    has: frozenset[str]
    lacks: frozenset[str] = frozenset()
    exactly: bool = True

    def match(self, answer: Answer) -> bool:
        held = frozenset(answer)
        return held == self.has if self.exactly else self.has <= held and not self.lacks & held

    def __str__(self) -> str:
        if self.exactly:
            return segments(self.has)
        parts = (("with", self.has), ("without", self.lacks))
        return ", ".join(f"{word} {segments(names)}" for word, names in parts if names)


def segments(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "no segment"


@dataclass(frozen=True, slots=True)
class Holds:
    line: int
    dimension: Dimension
    members: Members


@dataclass(frozen=True, slots=True)
class Stays:
    line: int
    dimension: Dimension
    until: Span


@dataclass(frozen=True, slots=True)
class Says:
    line: int
    dimension: Dimension
    text: str


Expectation: TypeAlias = Holds | Stays | Says


@dataclass(frozen=True, slots=True)
class Beat:
    """A step of the timeline: its records, and what is expected at `at`, the instant of the last of them."""

    at: int
    records: tuple[AccountRecord, ...]
    expectations: tuple[Expectation, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A change that is expected. In a ladder `segment` "" is nowhere, and `before` None is from anywhere."""

    line: int
    when: Span
    dimension: str
    kind: Kind
    segment: str
    before: str | None = None
    because: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """A test, checked. `moves` None: the changes do not matter; empty: there is none in any dimension."""

    file: str
    line: int
    name: str
    start: int
    beats: tuple[Beat, ...]
    moves: tuple[Move, ...] | None
    moves_line: int

    @property
    def end(self) -> int:
        return max([self.beats[-1].at, *(move.when.latest for move in self.moves or ())])
