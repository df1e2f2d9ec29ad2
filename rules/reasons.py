"""Why an account is where it is: the tree of conditions, what could not be decided, and the same in a line."""

from __future__ import annotations

from itertools import takewhile

from rules.conditions import Told
from rules.ruleset import Dimension
from rules.state import AccountState, Answer


def explain(dimension: Dimension, state: AccountState, before: Answer, segment: str, now: int) -> Told:
    """Why: the tree of the segment it is about, of the one it left, and what could not be decided on the way."""
    told: Told = (
        dimension.tell(segment, state, now) if segment else {"says": "no segment matches", "verdict": "true"}
    )
    reason: Told = {"text": "", "because": told}
    if dimension.kind == "ladder" and before and before[0] != segment and dimension.segment(before[0]):
        left = dimension.tell(before[0], state, now)
        if left["verdict"] != "true":
            reason["left"] = {"segment": before[0]} | left
    reason["text"] = "; ".join(headline(reason.get("left", told))[:3])
    if dimension.skips_unknown and (passed_over := _passed_over(dimension, state, segment, now)):
        reason["unknown"] = passed_over
    return reason


def _passed_over(dimension: Dimension, state: AccountState, segment: str, now: int) -> list[str]:
    """The segments above this one of which nobody knows whether the account belongs there; of a set, all such."""
    above = takewhile(lambda each: dimension.kind == "set" or each.name != segment, dimension.segments)
    return [each.name for each in above if each.is_unknown(state, now)]


def headline(told: Told) -> list[str]:
    """The leaves of a tree that made its verdict, in words, the first first."""
    parts = told.get("parts")
    if not parts:
        return [told["says"]]
    if told["says"] == "not":
        return headline(parts[0])
    deciding = [part for part in parts if part["verdict"] == told["verdict"]]
    return [words for part in deciding or parts for words in headline(part)]


def display_name(state: AccountState) -> str:
    name = state.facts.get("name")
    return str(name.value) if name is not None and name.value is not None else ""
