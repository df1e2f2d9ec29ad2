"""Comparisons of one value: one table that the compiler, the explanation, the schema and the docs share.

Every test gets a value that is there and of the right type; what is missing or of another type never
reaches it and makes the comparison unknown. A date arrives as UTC milliseconds, its operand as an `Interval`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

from rules import durations

Test: TypeAlias = Callable[[Any, Any], bool]
Takes: TypeAlias = Literal["one", "many", "two", "duration", "yes"]
NUMBER = frozenset({"number"})
TEXT = frozenset({"text"})
LIST = frozenset({"list"})
DATE = frozenset({"date"})
SCALAR = frozenset({"text", "number", "boolean"})
ANY = frozenset({"text", "number", "boolean", "list", "date", "other"})
GLOB_LONGEST, GLOB_STARS = 256, 16


class Interval(NamedTuple):
    """The milliseconds that an operand of a date comparison stands for: a whole day, or one instant."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Operator:
    """`types`: the fact types it takes. `takes`: its operand. `words`: how a reason says it, {} the operand.

    `edges` are the ages at which a date's answer turns by time alone: `date + age` is when. Ages of a date are
    counted from it to now, so they are negative for a date that lies ahead.
    """

    types: frozenset[str]
    takes: Takes
    test: Test
    words: str
    edges: Callable[[int], tuple[int, ...]] | None = None


def _among(value: Any, operand: Any) -> bool:
    """Python takes true for 1, and we do not: what is equal must be of one type, too."""
    return value in operand and (
        isinstance(value, str) or any(value == each and type_of(value) == type_of(each) for each in operand)
    )


def matches_glob(text: str, pattern: str) -> bool:
    return globbing(pattern)(text)


@lru_cache(4096)
def globbing(pattern: str) -> Callable[[str], bool]:
    """Whether a text matches: `*` is any run of characters, `?` any one, nothing else is special.

    The time is bounded by text times pattern: each piece between stars is found at its first place and never
    tried again (an atomic group), which decides the same as trying all places would.
    """
    first, *rest = ["".join("." if c == "?" else re.escape(c) for c in piece) for piece in pattern.split("*")]
    if not rest:
        matcher = re.compile(first, re.DOTALL)
    else:
        # What stands after the last star ends the text, so only the pieces between stars are searched for.
        middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1] if piece)
        matcher = re.compile(f"{first}{middle}.*{rest[-1]}" if rest[-1] else f"{first}{middle}.*", re.DOTALL)
    return lambda text: matcher.fullmatch(text) is not None


TABLE: dict[str, Operator] = {
    # A comparison of unlike types is unknown, see `decides`: true is not 1, and "1" is neither.
    "is": Operator(SCALAR | DATE, "one", lambda value, operand: value == operand, "is {}"),
    "is_not": Operator(SCALAR, "one", lambda value, operand: value != operand, "is not {}"),
    "in": Operator(SCALAR, "many", _among, "is one of {}"),
    "not_in": Operator(SCALAR, "many", lambda value, operand: not _among(value, operand), "is none of {}"),
    "at_least": Operator(NUMBER, "one", lambda value, operand: value >= operand, "is at least {}"),
    "above": Operator(NUMBER, "one", lambda value, operand: value > operand, "is above {}"),
    "at_most": Operator(NUMBER, "one", lambda value, operand: value <= operand, "is at most {}"),
    "below": Operator(NUMBER, "one", lambda value, operand: value < operand, "is below {}"),
    "between": Operator(
        NUMBER | DATE, "two", lambda value, operand: operand[0] <= value <= operand[1], "is between {} and {}"
    ),
    "starts": Operator(TEXT, "one", lambda value, operand: value.startswith(operand), "starts with {}"),
    "ends": Operator(TEXT, "one", lambda value, operand: value.endswith(operand), "ends with {}"),
    "contains": Operator(TEXT | LIST, "one", lambda value, operand: operand in value, "contains {}"),
    "glob": Operator(TEXT, "one", matches_glob, "matches {}"),
    "has_any": Operator(LIST, "many", lambda value, operand: any(x in value for x in operand), "has any of {}"),
    "has_all": Operator(LIST, "many", lambda value, operand: all(x in value for x in operand), "has all of {}"),
    "has_none": Operator(
        LIST, "many", lambda value, operand: not any(x in value for x in operand), "has none of {}"
    ),
    "before": Operator(DATE, "one", lambda value, operand: value < operand.start, "is before {}"),
    "after": Operator(DATE, "one", lambda value, operand: value >= operand.end, "is after {}"),
    # These four compare the date's age with a length of time.
    "older_than": Operator(
        DATE, "duration", lambda age, length: age >= length, "is {} ago or longer", lambda n: (n,)
    ),
    "newer_than": Operator(
        DATE, "duration", lambda age, length: age < length, "is less than {} ago", lambda n: (n,)
    ),
    "within_last": Operator(
        DATE, "duration", lambda age, length: 0 <= age < length, "is within the last {}", lambda n: (0, n)
    ),
    "within_next": Operator(
        DATE, "duration", lambda age, length: -length <= age < 0, "is within the next {}", lambda n: (-n, 0)
    ),
    # Both ask about the presence of a value, which the compiler answers; the tests see a value, so it is there.
    "exists": Operator(ANY, "yes", lambda value, operand: True, "is known"),
    "missing": Operator(ANY, "yes", lambda value, operand: False, "is missing"),
}
PRESENCE = {"exists": True, "missing": False}  # operator -> its verdict when the value is there
FOLDS = frozenset({"is", "is_not", "in", "not_in", "starts", "ends", "contains", "glob"}) | {
    name for name, operator in TABLE.items() if operator.types == LIST
}


_TYPES = {bool: "boolean", int: "number", float: "number", list: "list", tuple: "list", str: "text"}


def type_of(value: object) -> str:
    """The fact type of a plain value; `other` for what no fact can be: an object in the props of an activity."""
    return _TYPES.get(type(value), "other")  # asked for every event: one look-up


def decides(operator: str, operand: Any) -> frozenset[str]:
    """The types of value that `operator` can compare with `operand`."""
    takes = TABLE[operator].types
    if operator in ("is", "is_not"):
        return takes & {type_of(operand)}
    if operator in ("in", "not_in"):
        return takes & {type_of(each) for each in operand}
    return takes


def folded(value: Any) -> Any:
    """Text without its case, and each text of a list; anything else as it is."""
    if isinstance(value, str):
        return value.casefold()
    return [folded(each) for each in value] if isinstance(value, list | tuple) else value


def words(operator: str, operand: Any) -> str:
    """The comparison as a reason says it: `is at least 200`."""
    match TABLE[operator].takes:
        case "many":
            return TABLE[operator].words.format(", ".join(map(show, operand)))
        case "two":
            return TABLE[operator].words.format(*map(show, operand))
        case "duration":
            return TABLE[operator].words.format(durations.in_words(operand))
        case _:
            return TABLE[operator].words.format(show(operand))


def all_words(comparisons: Iterable[tuple[str, Any]]) -> str:
    return " and ".join(words(operator, operand) for operator, operand in comparisons)


def show(value: object) -> str:
    """A value as people read it: 2,000 and not 2000.0."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return f"{int(value):,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(show, value))
    return f"{value:,}" if isinstance(value, float) else str(value)
