"""Conditions on what happened: how often, by whom, how much, how long ago, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rules import calendars, durations, measures, operators
from rules.comparing import CONTACTS, Matches
from rules.conditions import FALSE, UNKNOWN, WORD, Condition, Told, all_of, negate, with_until
from rules.measures import Aggregate, Decision, Leaves, Part, Verdict
from rules.state import GONE, NEVER, AccountState

EVIDENCE_SHOWN = 8
NO_RING = measures.empty_ring()  # nothing happened yet, and nothing is missing


@dataclass(frozen=True, slots=True)
class Window:
    """How far back a condition looks: when an instant leaves, and the longest that one can stay."""

    leaves: Leaves
    longest: int
    words: str
    rolling: int = 0  # its length when it is the same for every instant

    @classmethod
    def of(cls, length: int) -> Window:
        return cls(lambda at: at + length, length, f"in {durations.in_words(length)}", length)

    @classmethod
    def by_calendar(cls, count: int, unit: str, zone: str) -> Window:
        leaves = calendars.leaves(count, unit, zone)
        return cls(leaves, calendars.longest(count, unit), f"in {calendars.in_words(count, unit, zone)}")


EVER = Window(lambda at: NEVER, NEVER, "ever")


def count_at_least(measure: str, label: str, k: int, window: Window) -> Condition:
    """At least k of the activity in the window."""
    ring_decide, leaving, leaves, length = (
        measures.ring_decide,
        measures.ring_decide_leaving,
        window.leaves,
        window.rolling,
    )

    def decide_rolling(state: AccountState, now: int) -> Decision:
        ring = state.measures.get(measure)
        return FALSE if ring is None else ring_decide(ring, k, length, now)

    def decide_leaving(state: AccountState, now: int) -> Decision:
        ring = state.measures.get(measure)
        return FALSE if ring is None else leaving(ring, k, leaves, now)

    decide = decide_rolling if length else decide_leaving
    needs = f"needs {k}" if k > 1 else "needs one"

    def tell(state: AccountState, now: int) -> Told:
        pairs, complete = measures.ring_pairs(state.measures.get(measure, NO_RING), leaves, now)
        verdict, until = decide(state, now)
        told: Told = {
            "says": f"{_shown(len(pairs), complete)} {labelled(label, len(pairs))} {window.words} ({needs})",
            "verdict": WORD[verdict],
            "value": len(pairs),
            "complete": complete,
            "at_least": k,
            "within": window.words.removeprefix("in "),
        }
        return with_evidence(told, pairs[: max(k, EVIDENCE_SHOWN)], until)

    return Condition(decide, tell, frozenset({measure}))


def _shown(count: int, complete: bool) -> str:
    return f"{count}{'' if complete else '+'}"


def people_at_least(
    measure: str, label: str, k: int, window: Window, who: Matches | None = None, who_words: str = ""
) -> Condition:
    """At least k different people did it in the window; with `who`, of those contacts that match now."""

    def judge(state: AccountState, now: int) -> Callable[[bytes], Decision] | None:
        if who is None:
            return None
        matches = who
        tagged = {measures.person_tag(person): facts for person, facts in state.contacts.items()}

        def one(tag: bytes) -> Decision:
            facts = tagged.get(tag)
            if facts is None:
                return UNKNOWN
            return FALSE if GONE in facts else matches(facts, now)

        return one

    # Several segments ask the same of the same people one after the other: the last answer is kept.
    asked: tuple[bytes, object, int] = (b"", None, 0)
    answered: Decision = UNKNOWN

    def decide(state: AccountState, now: int) -> Decision:
        nonlocal asked, answered
        ring = state.measures.get(measure)
        if ring is None:
            return FALSE
        if asked[0] is not ring or asked[1] is not state.contacts or asked[2] != now:
            answered = measures.people_decide(ring, k, window.leaves, now, judge(state, now))
            asked = (ring, state.contacts, now)
        return answered

    of_whom = f" ({who_words})" if who_words else ""

    def tell(state: AccountState, now: int) -> Told:
        entries, complete = measures.tagged_entries(state.measures.get(measure, NO_RING), window.leaves, now)
        one = judge(state, now)
        counted = entries if one is None else [entry for entry in entries if one(entry.tag)[0] is True]
        verdict, until = decide(state, now)
        people = "person" if len(counted) == 1 else "people"
        told: Told = {
            "says": f"{_shown(len(counted), complete)} {people}{of_whom} with {labelled(label, 2)} {window.words}"
            f" (needs {k if k > 1 else 'one'})",
            "verdict": WORD[verdict],
            "value": len(counted),
            "complete": complete,
            "at_least": k,
            "within": window.words.removeprefix("in "),
        }
        if one is not None:
            told["undecided"] = sum(one(entry.tag)[0] is None for entry in entries)
        return with_evidence(told, counted[: max(k, EVIDENCE_SHOWN)], until)

    return Condition(decide, tell, frozenset({measure, CONTACTS} if who is not None else {measure}))


# Each kind of amount as a total and what to divide it by. The bound is multiplied instead: nothing is rounded.
_AMOUNTS: dict[str, tuple[Callable[[Aggregate], int], Callable[[Aggregate], int]]] = {
    "sum": (lambda all: all.total, lambda all: 1),
    "min": (lambda all: all.least, lambda all: 1),
    "max": (lambda all: all.greatest, lambda all: 1),
    "avg": (lambda all: all.total, lambda all: all.number),
}
_MORE = frozenset({"at_least", "above"})


def amount(measure: str, kind: str, label: str, op: str, bound: float, window: Window) -> Condition:
    """The sum, least, greatest or mean of a property in the window, against a bound."""
    test, limit = operators.TABLE[op].test, measures.in_millionths(bound)
    total, parts = _AMOUNTS[kind]
    certain = _certain(kind, op)

    def holds(all: Aggregate) -> Verdict:
        if not all.number and kind != "sum":
            return None
        return test(total(all), limit * parts(all))

    def decide(state: AccountState, now: int) -> Decision:
        ring = state.measures.get(measure, NO_RING)
        return measures.amounts_decide(ring, holds, certain, window.leaves, now)

    needs = operators.words(op, bound)

    def tell(state: AccountState, now: int) -> Told:
        entries, complete = measures.tagged_entries(state.measures.get(measure, NO_RING), window.leaves, now)
        all_ = measures.aggregates(entries)[-1]
        known = all_.number or kind == "sum"
        value = total(all_) / parts(all_) / measures.DECIMALS if known else None
        verdict, until = decide(state, now)
        shown = "not known" if value is None else operators.show(value)
        says = f"{kind} of {labelled(label, 2)} {window.words} {needs}: it is {shown}"
        told: Told = {
            "says": says if complete else f"{says}, and some is missing",
            "verdict": WORD[verdict],
            "value": value,
            "complete": complete,
            op: bound,
            "within": window.words.removeprefix("in "),
        }
        return with_evidence(told, entries[:EVIDENCE_SHOWN], until)

    return Condition(decide, tell, frozenset({measure}))


def _certain(kind: str, op: str) -> Verdict:
    """The verdict that stands whatever amounts are missing: one great value makes the greatest great for good."""
    if kind == "max":
        return op in _MORE
    if kind == "min":
        return op not in _MORE
    return None


def quiet(measure: str, label: str, length: int) -> Condition:
    """None for this long: the mirror of having been seen, in its own words."""
    seen = negate(count_at_least(measure, label, 1, Window.of(length)))
    return _told_of_last(measure, seen, lambda found: f"no {labelled(label, 0)} for {durations.in_words(length)}")


def never(measure: str, label: str) -> Condition:
    seen = negate(count_at_least(measure, label, 1, EVER))
    return _told_of_last(measure, seen, lambda found: f"{'some' if found else 'never any'} {labelled(label, 2)}")


def last(measure: str, label: str, age: int, older: bool) -> Condition:
    """Its last time is at least `age` ago, or not yet; false if it never happened."""
    recent = count_at_least(measure, label, 1, Window.of(age))
    ever = count_at_least(measure, label, 1, EVER)
    condition = all_of([ever, negate(recent)]) if older else recent
    bound = f"{durations.in_words(age)} ago or longer" if older else f"less than {durations.in_words(age)} ago"
    return _told_of_last(measure, condition, lambda found: f"the last of {labelled(label, 2)} was {bound}")


def _told_of_last(measure: str, condition: Condition, says: Callable[[bool], str]) -> Condition:
    def tell(state: AccountState, now: int) -> Told:
        verdict, until = condition.decide(state, now)
        pairs, _ = measures.ring_pairs(state.measures.get(measure, NO_RING), EVER.leaves, now)
        return with_evidence({"says": says(bool(pairs)), "verdict": WORD[verdict]}, pairs[:1], until)

    return Condition(condition.decide, tell, condition.reads)


def first(measure: str, label: str, age: int, older: bool) -> Condition:
    """Its first time ever is at least `age` ago, or not yet; false if it never happened."""

    def decide(state: AccountState, now: int) -> Decision:
        known = state.measures.get(measure, NO_RING)
        verdict, until = measures.first_decide(known, age, now)
        if older or verdict is None:
            return verdict, until
        return FALSE if verdict or len(known) == measures.INSTANT else (True, until)

    bound = f"{durations.in_words(age)} ago or longer" if older else f"less than {durations.in_words(age)} ago"

    def tell(state: AccountState, now: int) -> Told:
        verdict, until = decide(state, now)
        pairs, _ = measures.ring_pairs(state.measures.get(measure, NO_RING), EVER.leaves, now)
        says = f"the first of {labelled(label, 2)} was {bound}"
        return with_evidence({"says": says, "verdict": WORD[verdict]}, pairs, until)

    return Condition(decide, tell, frozenset({measure}))


def sequence(measure: str, label: str, window: Window) -> Condition:
    """The steps happened one after the other, and the last of them in the window."""

    def decide(state: AccountState, now: int) -> Decision:
        known = state.measures.get(measure)
        if known is None:
            return FALSE
        return measures.ring_decide_leaving(measures.completions(known), 1, window.leaves, now)

    def tell(state: AccountState, now: int) -> Told:
        known = state.measures.get(measure)
        ring = NO_RING if known is None else measures.completions(known)
        pairs, _ = measures.ring_pairs(ring, window.leaves, now)
        verdict, until = decide(state, now)
        told: Told = {"says": f"{label}, the last {window.words}", "verdict": WORD[verdict]}
        return with_evidence(told, pairs[:1], until)

    return Condition(decide, tell, frozenset({measure}))


def score_at_least(measure: str, label: str, threshold: float, parts: Sequence[Part], signed: bool) -> Condition:
    nothing = measures.empty_score(len(parts))

    def decide(state: AccountState, now: int) -> Decision:
        score = state.measures.get(measure)
        return FALSE if score is None else measures.score_decide(score, threshold, parts, now, signed)

    def tell(state: AccountState, now: int) -> Told:
        value = measures.score_value(state.measures.get(measure, nothing), parts, now)
        verdict, until = decide(state, now)
        told: Told = {
            "says": f"{label} {operators.show(value)} (needs {operators.show(threshold)})",
            "verdict": WORD[verdict],
            "value": value,
            "at_least": threshold,
            "half_life": " and ".join(dict.fromkeys(durations.in_words(part.half_life) for part in parts)),
        }
        return with_evidence(told, [], until)

    return Condition(decide, tell, frozenset({measure}))


# -- telling ------------------------------------------------------------------------------------------------


def labelled(label: str, count: int) -> str:
    """`page view(s)` as one says it of that many."""
    return label.replace("(s)", "" if count == 1 else "s")


def with_evidence(told: Told, entries: Iterable[Any], until: int) -> Told:
    if found := [{"at": entry.at, "offset": entry.offset} for entry in entries]:
        told["evidence"] = found
    return with_until(told, until)
