"""Why an account is where it is: the tree of conditions, what could not be decided, and the same in a line."""

from __future__ import annotations

from itertools import takewhile

from rules import overriding
from rules.conditions import Told
from rules.ruleset import Dimension
from rules.state import AccountState, Answer, Forced, shown, standing_in

IN_QUARANTINE: Told = {"says": "in quarantine", "verdict": "unknown"}  # of which nothing is asked: it may raise


def explain(dimension: Dimension, state: AccountState, before: Answer, segment: str, now: int) -> Told:
    """Why: the tree of the segment it is about, of the one it left, and what could not be decided on the way.

    Where somebody said so: who, why, until when, and what the rules say.
    """
    if dimension.name not in state.overrides:
        return _by_rules(dimension, state, before, segment, now)
    forced = state.overrides[dimension.name].forced
    ruled = overriding.as_ruled(state, dimension.name)
    for each in forced:
        if dimension.kind == "ladder" or each.segment == segment:
            return _by_override(dimension, each, ruled, now)
    return _by_rules(dimension, ruled, before, segment, now)


def _by_override(dimension: Dimension, forced: Forced, ruled: AccountState, now: int) -> Told:
    says = " by ".join(["override", *filter(None, [forced.by])]) + (f": {forced.why}" if forced.why else "")
    answer = standing_in(ruled, dimension.name).answer
    if dimension.kind == "set":
        answer = tuple(each for each in answer if each == forced.segment)
    rules_say = _by_rules(dimension, ruled, (), answer[0] if answer else "", now)
    return {
        "text": says,
        "because": {"says": says, "verdict": "true", "until": forced.until},
        "override": {"by": forced.by, "why": forced.why, "at": forced.since, "until": forced.until},
        "rules": {"segment": answer[0] if answer else None, **rules_say},
    }


def _by_rules(dimension: Dimension, state: AccountState, before: Answer, segment: str, now: int) -> Told:
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
    return shown(state.facts.get("name"))
