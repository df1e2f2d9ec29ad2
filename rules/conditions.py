"""Conditions, compiled once: each becomes two closures over an account's state and an instant.

`decide(state, now)` gives the verdict and the instant until which time alone cannot change it. The bounds are
tight: an `all` that is false stays so until its *last* false part may flip, a true one until its *first*
part may. `tell(state, now)` gives the same verdict as a tree for people, with values and evidence.

Three values: true, false, and None for unknown. A missing fact makes a comparison unknown; an activity that
never happened is a plain 0. `all` is false if any part is false, else unknown if any is; `any` mirrors it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from rules import durations, measures, operators
from rules.measures import Decision, Verdict
from rules.state import GONE, NEVER, AccountState

Decide: TypeAlias = Callable[[AccountState, int], Decision]
Told: TypeAlias = dict[str, Any]
Tell: TypeAlias = Callable[[AccountState, int], Told]
Read: TypeAlias = Callable[[AccountState], Any]

TRUE: Decision = (True, NEVER)
FALSE: Decision = (False, NEVER)
UNKNOWN: Decision = (None, NEVER)
OF_VERDICT: dict[Verdict, Decision] = {True: TRUE, False: FALSE, None: UNKNOWN}
WORD: dict[Verdict, str] = {True: "true", False: "false", None: "unknown"}
NOT: dict[Verdict, Verdict] = {True: False, False: True, None: None}
EVIDENCE_SHOWN = 8
NO_RING = measures.empty_ring()  # nothing happened yet, and nothing is missing
NO_SCORE = measures.empty_score()

CONTACTS = "contacts"


@dataclass(frozen=True, slots=True)
class Condition:
    """`reads` names what the verdict depends on: `fact:NAME`, a measure's id, or `contacts`."""

    decide: Decide
    tell: Tell
    reads: frozenset[str]


def always() -> Condition:
    return Condition(
        lambda state, now: TRUE, lambda state, now: {"says": "otherwise", "verdict": "true"}, frozenset()
    )


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


def compare_fact(name: str, read: Read, comparisons: dict[str, Any], or_missing: bool = False) -> Condition:
    """All `comparisons` of a fact's value; without a value unknown, or true with `or_missing`."""
    verdict_of = comparing(comparisons, or_missing)

    def decide(state: AccountState, now: int) -> Decision:
        return OF_VERDICT[verdict_of(read(state))]

    needs = " and ".join(operators.words(op, operand) for op, operand in comparisons.items())
    needs += " or missing" if or_missing else ""

    def tell(state: AccountState, now: int) -> Told:
        value = read(state)
        says = f"{name} {needs}: it is {'not known' if value is None else operators.show(value)}"
        told = {"says": says, "verdict": WORD[verdict_of(value)], "fact": name, "value": value}
        raw = state.facts.get(name)
        if raw is not None:
            told |= {"source": raw.source, "at": raw.at}
            if raw.value != value:
                told["raw"] = raw.value
        return told

    return Condition(decide, tell, frozenset({f"fact:{name}"}))


def comparing(comparisons: dict[str, Any], or_missing: bool = False) -> Callable[[Any], Verdict]:
    """The verdict of all `comparisons` on one value, None standing for a missing one."""
    absent: Verdict = None
    if "missing" in comparisons or or_missing:
        absent = True
    elif "exists" in comparisons:
        absent = False
    checks = [
        (operators.TABLE[op].test, operators.decides(op, operand), operand) for op, operand in comparisons.items()
    ]

    if len(checks) == 1:
        ((only, takes, against),) = checks

        def verdict_of_one(value: Any) -> Verdict:
            if value is None:
                return absent
            return only(value, against) if operators.type_of(value) in takes else None

        return verdict_of_one

    def verdict_of(value: Any) -> Verdict:
        if value is None:
            return absent
        kind = operators.type_of(value)
        result: Verdict = True
        for test, types, operand in checks:
            if kind not in types:
                result = None
            elif not test(value, operand):
                return False
        return result

    return verdict_of


def contacts(which: str, matches: Callable[[dict[str, Any]], Verdict], words: str) -> Condition:
    """All, any or none of the account's contacts match; over no contacts it is unknown."""

    decisive: Verdict = which != "all"  # one contact with this verdict settles it
    settled = TRUE if which == "any" else FALSE
    otherwise = FALSE if which == "any" else TRUE

    def decide(state: AccountState, now: int) -> Decision:
        known = unknown = False
        for facts in state.contacts.values():
            if GONE in facts:
                continue
            known, verdict = True, matches(facts)
            if verdict is decisive:
                return settled
            unknown = unknown or verdict is None
        return otherwise if known and not unknown else UNKNOWN

    def tell(state: AccountState, now: int) -> Told:
        each = [matches(facts) for facts in state.contacts.values() if GONE not in facts]
        says = f"{which} of the contacts: {words}: {each.count(True)} of {len(each)} known contacts"
        return {
            "says": says,
            "verdict": WORD[decide(state, now)[0]],
            "value": each.count(True),
            "of": len(each),
        }

    return Condition(decide, tell, frozenset({CONTACTS}))


def count_at_least(measure: str, label: str, k: int, window: int) -> Condition:
    """At least k of the activity in the window `(now - window, now]`."""

    ring_decide = measures.ring_decide

    def decide(state: AccountState, now: int) -> Decision:
        ring = state.measures.get(measure)
        return FALSE if ring is None else ring_decide(ring, k, window, now)

    needs = f"needs {k}" if k > 1 else "needs one"

    def tell(state: AccountState, now: int) -> Told:
        pairs, complete = measures.ring_pairs(state.measures.get(measure, NO_RING), window, now)
        verdict, until = decide(state, now)
        shown = f"{len(pairs)}{'' if complete else '+'}"
        told: Told = {
            "says": f"{shown} {labelled(label, len(pairs))} in {durations.in_words(window)} ({needs})",
            "verdict": WORD[verdict],
            "value": len(pairs),
            "complete": complete,
            "at_least": k,
            "within": durations.in_words(window),
        }
        return _with_evidence(told, pairs[: max(k, EVIDENCE_SHOWN)], until)

    return Condition(decide, tell, frozenset({measure}))


def quiet(measure: str, label: str, length: int) -> Condition:
    """None for this long: the mirror of having been seen, in its own words."""
    seen = negate(count_at_least(measure, label, 1, length))

    def tell(state: AccountState, now: int) -> Told:
        verdict, until = seen.decide(state, now)
        pairs, _ = measures.ring_pairs(state.measures.get(measure, NO_RING), NEVER, now)
        told: Told = {
            "says": f"no {labelled(label, 0)} for {durations.in_words(length)}",
            "verdict": WORD[verdict],
            "for": durations.in_words(length),
        }
        return _with_evidence(told, pairs[:1], until)

    return Condition(seen.decide, tell, seen.reads)


def score_at_least(measure: str, label: str, threshold: float, half_life: int) -> Condition:
    def decide(state: AccountState, now: int) -> Decision:
        return measures.score_decide(state.measures.get(measure, NO_SCORE), threshold, half_life, now)

    def tell(state: AccountState, now: int) -> Told:
        value = measures.score_value(state.measures.get(measure, NO_SCORE), half_life, now)
        verdict, until = decide(state, now)
        told: Told = {
            "says": f"{label} {operators.show(value)} (needs {operators.show(threshold)})",
            "verdict": WORD[verdict],
            "value": value,
            "at_least": threshold,
            "half_life": durations.in_words(half_life),
        }
        return _with_evidence(told, [], until)

    return Condition(decide, tell, frozenset({measure}))


def labelled(label: str, count: int) -> str:
    """`page view(s)` as one says it of that many."""
    return label.replace("(s)", "" if count == 1 else "s")


def _with_evidence(told: Told, pairs: list[measures.Pair], until: int) -> Told:
    if pairs:
        told["evidence"] = [{"at": pair.at, "offset": pair.offset} for pair in pairs]
    if until < NEVER:
        told["until"] = until
    return told


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
