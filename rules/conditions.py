"""Conditions, compiled once: each becomes two closures over an account's state and an instant.

`decide(state, now)` gives the verdict and the instant until which time alone cannot change it. The bounds are
tight: an `all` that is false stays so until its *last* false part may flip, a true one until its *first*
part may. `tell(state, now)` gives the same verdict as a tree for people, with values and evidence.

Three values: true, false, and None for unknown. A missing fact makes a comparison unknown; an activity that
never happened is a plain 0. `all` is false if any part is false, else unknown if any is; `any` mirrors it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rules.measures import Decision, Verdict
from rules.state import NEVER, UNCLASSIFIED, AccountState, standing_in

Decide: TypeAlias = Callable[[AccountState, int], Decision]
Told: TypeAlias = dict[str, Any]
Tell: TypeAlias = Callable[[AccountState, int], Told]

TRUE: Decision = (True, NEVER)
FALSE: Decision = (False, NEVER)
UNKNOWN: Decision = (None, NEVER)
OF_VERDICT: dict[Verdict, Decision] = {True: TRUE, False: FALSE, None: UNKNOWN}
WORD: dict[Verdict, str] = {True: "true", False: "false", None: "unknown"}
NOT: dict[Verdict, Verdict] = {True: False, False: True, None: None}


@dataclass(frozen=True, slots=True)
class Condition:
    """`reads` names what the verdict depends on: `fact:NAME`, `segment:DIMENSION`, a measure's id, `contacts`."""

    decide: Decide
    tell: Tell
    reads: frozenset[str]


def always() -> Condition:
    return Condition(
        lambda state, now: TRUE, lambda state, now: {"says": "otherwise", "verdict": "true"}, frozenset()
    )


# -- logic --------------------------------------------------------------------------------------------------


def all_of(parts: list[Condition]) -> Condition:
    return _combined("all", parts, settled_by=False)


def any_of(parts: list[Condition]) -> Condition:
    return _combined("any", parts, settled_by=True)


def _combined(word: str, parts: list[Condition], settled_by: bool) -> Condition:
    """`all` is settled by one false part, `any` by one true part; otherwise unknown if any part is."""
    decisions = [part.decide for part in parts]
    for_ever, otherwise = (settled_by, NEVER), not settled_by

    def decide(state: AccountState, now: int) -> Decision:
        settled_until, until, unknown = -1, NEVER, False
        for part in decisions:
            verdict, holds = part(state, now)
            if verdict is settled_by:
                if holds == NEVER:
                    return for_ever
                if holds > settled_until:
                    settled_until = holds
            else:
                if verdict is None:
                    unknown = True
                if holds < until:
                    until = holds
        if settled_until >= 0:
            return settled_by, settled_until
        return (None if unknown else otherwise), until

    return Condition(decide, _tell_parts(word, decide, parts), _reads(parts))


def negate(part: Condition) -> Condition:
    inner = part.decide

    def decide(state: AccountState, now: int) -> Decision:
        verdict, until = inner(state, now)
        return NOT[verdict], until

    return Condition(decide, _tell_parts("not", decide, [part]), part.reads)


def some_of(k: int, parts: list[Condition]) -> Condition:
    """At least k of the parts are true."""

    def decide(state: AccountState, now: int) -> Decision:
        return at_least([part.decide(state, now) for part in parts], k)

    told = _tell_parts(f"at least {k} of {len(parts)}", decide, parts)
    return Condition(decide, told, _reads(parts))


def at_least(decisions: Sequence[Decision], k: int) -> Decision:
    """Are at least k of them true? Holds until enough of those that make it so may flip."""
    true = sorted(until for verdict, until in decisions if verdict is True)
    if len(true) >= k:
        return True, true[len(true) - k]
    false = sorted(until for verdict, until in decisions if verdict is False)
    spare = len(decisions) - k  # so many may be false without harm
    if len(false) > spare:
        return False, false[len(false) - spare - 1]
    return None, min(until for _, until in decisions)


def in_segments(dimension: str, segments: Sequence[str]) -> Condition:
    """The account's answer in another dimension is, or has, one of these. Unknown while it is unclassified."""

    def decide(state: AccountState, now: int) -> Decision:
        answer = standing_in(state, dimension).answer
        if answer == (UNCLASSIFIED,):
            return UNKNOWN
        return TRUE if any(segment in answer for segment in segments) else FALSE

    def tell(state: AccountState, now: int) -> Told:
        answer = standing_in(state, dimension).answer
        shown = ", ".join(answer) or "in no segment"
        return {
            "says": f"{dimension} is {shown} (needs {' or '.join(segments)})",
            "verdict": WORD[decide(state, now)[0]],
            "dimension": dimension,
            "value": list(answer),
        }

    return Condition(decide, tell, frozenset({segment_key(dimension)}))


def unclassified(dimension: str) -> Condition:
    """What the account is in that dimension is not known."""

    def decide(state: AccountState, now: int) -> Decision:
        return TRUE if standing_in(state, dimension).answer == (UNCLASSIFIED,) else FALSE

    def tell(state: AccountState, now: int) -> Told:
        verdict = decide(state, now)[0]
        says = f"{dimension} is {'not known' if verdict else 'known'}"
        return {"says": says, "verdict": WORD[verdict], "dimension": dimension}

    return Condition(decide, tell, frozenset({segment_key(dimension)}))


def segment_key(dimension: str) -> str:
    return f"segment:{dimension}"


# -- telling ------------------------------------------------------------------------------------------------


def with_until(told: Told, until: int) -> Told:
    return told | {"until": until} if until < NEVER else told


def _tell_parts(word: str, decide: Decide, parts: list[Condition]) -> Tell:
    def tell(state: AccountState, now: int) -> Told:
        return {
            "says": word,
            "verdict": WORD[decide(state, now)[0]],
            "parts": [part.tell(state, now) for part in parts],
        }

    return tell


def _reads(parts: Iterable[Condition]) -> frozenset[str]:
    return frozenset().union(*(part.reads for part in parts))
