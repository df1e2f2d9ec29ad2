"""Comparisons of one value: one table that the compiler, the explanation and the docs share.

Every test gets a value that is there and of the right type; what is missing or of another type never
reaches it and makes the comparison unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Test = Callable[[Any, Any], bool]
TEXT = frozenset({"text"})
NUMBER = frozenset({"number"})
SCALAR = frozenset({"text", "number", "boolean"})
ANY = frozenset({"text", "number", "boolean", "list", "other"})


@dataclass(frozen=True, slots=True)
class Operator:
    """`types`: the fact types it takes. `words`: how a reason says it, with {} for the operand."""

    types: frozenset[str]
    test: Test
    words: str


TABLE: dict[str, Operator] = {
    # A comparison of unlike types is unknown, see `decides`: true is not 1, and "1" is neither.
    "is": Operator(SCALAR, lambda value, operand: value == operand, "is {}"),
    "is_not": Operator(SCALAR, lambda value, operand: value != operand, "is not {}"),
    "in": Operator(SCALAR, lambda value, operand: value in operand, "is one of {}"),
    "not_in": Operator(SCALAR, lambda value, operand: value not in operand, "is none of {}"),
    "at_least": Operator(NUMBER, lambda value, operand: value >= operand, "is at least {}"),
    "above": Operator(NUMBER, lambda value, operand: value > operand, "is above {}"),
    "at_most": Operator(NUMBER, lambda value, operand: value <= operand, "is at most {}"),
    "below": Operator(NUMBER, lambda value, operand: value < operand, "is below {}"),
    "starts": Operator(TEXT, lambda value, operand: value.startswith(operand), "starts with {}"),
    "ends": Operator(TEXT, lambda value, operand: value.endswith(operand), "ends with {}"),
    "contains": Operator(frozenset({"text", "list"}), lambda value, operand: operand in value, "contains {}"),
    # Both ask about the presence of a value, which the compiler answers; the tests see a value, so it is there.
    "exists": Operator(ANY, lambda value, operand: True, "is known"),
    "missing": Operator(ANY, lambda value, operand: False, "is missing"),
}
PRESENCE = {"exists": True, "missing": False}  # operator -> its verdict when the value is there


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


def words(operator: str, operand: object) -> str:
    shown = ", ".join(map(show, operand)) if isinstance(operand, list | tuple) else show(operand)
    return TABLE[operator].words.format(shown)


def show(value: object) -> str:
    """A value as people read it: 2,000 and not 2000.0."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return f"{int(value):,}"
    return f"{value:,}" if isinstance(value, float) else str(value)
