"""Conditions, compiled once: each becomes two closures over an account's state and an instant.

`decide(state, now)` gives the verdict and the instant until which time alone cannot change it. The bounds are
tight: an `all` that is false stays so until its *last* false part may flip, a true one until its *first*
part may. `tell(state, now)` gives the same verdict as a tree for people, with values and evidence.

Three values: true, false, and None for unknown. A missing fact makes a comparison unknown; an activity that
never happened is a plain 0. `all` is false if any part is false, else unknown if any is; `any` mirrors it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rules import calendars, durations, measures, operators
from rules.measures import Aggregate, Decision, Leaves, Part, Verdict
from rules.operators import Interval
from rules.state import GONE, NEVER, UNCLASSIFIED, AccountState, Fact, standing_in

Decide: TypeAlias = Callable[[AccountState, int], Decision]
Told: TypeAlias = dict[str, Any]
Tell: TypeAlias = Callable[[AccountState, int], Told]
Facts: TypeAlias = Mapping[str, Fact]
Matches: TypeAlias = Callable[[Facts, int], Decision]  # whether the facts of one contact match, as of an instant

TRUE: Decision = (True, NEVER)
FALSE: Decision = (False, NEVER)
UNKNOWN: Decision = (None, NEVER)
OF_VERDICT: dict[Verdict, Decision] = {True: TRUE, False: FALSE, None: UNKNOWN}
WORD: dict[Verdict, str] = {True: "true", False: "false", None: "unknown"}
NOT: dict[Verdict, Verdict] = {True: False, False: True, None: None}
EVIDENCE_SHOWN = 8
NO_RING = measures.empty_ring()  # nothing happened yet, and nothing is missing

CONTACTS = "contacts"


@dataclass(frozen=True, slots=True)
class Condition:
    """`reads` names what the verdict depends on: `fact:NAME`, `segment:DIMENSION`, a measure's id, `contacts`."""

    decide: Decide
    tell: Tell
    reads: frozenset[str]


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


@dataclass(frozen=True, slots=True)
class Reader:
    """How rules see a fact: its value out of all facts, and the reported fact behind it, with its name."""

    name: str
    value: Callable[[Facts], Any]
    behind: Callable[[Facts], tuple[str, Fact] | None]
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


# -- facts --------------------------------------------------------------------------------------------------


def compare_fact(
    reader: Reader,
    comparisons: dict[str, Any],
    or_missing: bool = False,
    fold: bool = False,
    zone: str | None = None,
) -> Condition:
    """All `comparisons` of a fact's value; without a value unknown, or true with `or_missing`.

    `zone` is given for a date: the time zone in which its operands' days begin.
    """
    asked = asking(comparisons, or_missing, fold, zone)
    value_of = reader.value
    if isinstance(asked, Timeless):
        verdict_of = asked.verdict

        def decide(state: AccountState, now: int) -> Decision:
            return OF_VERDICT[verdict_of(value_of(state.facts))]

    else:
        decision_of = asked.decide

        def decide(state: AccountState, now: int) -> Decision:
            return decision_of(value_of(state.facts), now)

    needs = operators.all_words(comparisons.items()) + (" or missing" if or_missing else "")

    def tell(state: AccountState, now: int) -> Told:
        value, behind = reader.value(state.facts), reader.behind(state.facts)
        shown = value if zone is None or behind is None else behind[1].value
        verdict, until = decide(state, now)
        told: Told = {
            "says": f"{reader.name} {needs}: it is {'not known' if value is None else operators.show(shown)}",
            "verdict": WORD[verdict],
            "fact": reader.name,
            "value": shown if value is not None else None,
        }
        return _until(told | _provenance(reader.name, value, behind, zone), until)

    return Condition(decide, tell, reader.reads)


def _provenance(name: str, value: Any, behind: tuple[str, Fact] | None, zone: str | None) -> Told:
    if behind is None:
        return {}
    told: Told = {"source": behind[1].source, "at": behind[1].at}
    if behind[0] != name:
        told["from"] = behind[0]
    if zone is None and behind[1].value != value:
        told["raw"] = behind[1].value
    if behind[1].match is not None and behind[1].match[0] == value:
        told["confidence"] = behind[1].match[1]
    return told


@dataclass(frozen=True, slots=True)
class Timeless:
    """Comparisons whose verdict follows from the value alone, None standing for a missing one."""

    verdict: Callable[[Any], Verdict]

    def decide(self, value: Any, now: int) -> Decision:
        return OF_VERDICT[self.verdict(value)]


@dataclass(frozen=True, slots=True)
class Timed:
    """Comparisons of a date (UTC ms) whose verdict may turn by time alone."""

    decide: Callable[[int | None, int], Decision]


def asking(
    comparisons: dict[str, Any], or_missing: bool = False, fold: bool = False, zone: str | None = None
) -> Timeless | Timed:
    """All `comparisons` of one value, ready to be asked; `zone` as in `compare_fact`."""
    if zone is None or not comparisons.keys() - operators.PRESENCE:
        return Timeless(comparing(comparisons, or_missing, fold))
    absent = TRUE if or_missing else UNKNOWN
    edges = [edge for op, n in comparisons.items() if (of := operators.TABLE[op].edges) for edge in of(n)]
    tests = [_of_date(op, operand, zone) for op, operand in comparisons.items()]

    def decide(value: int | None, now: int) -> Decision:
        if value is None:
            return absent
        until = min((value + edge for edge in edges if value + edge > now), default=NEVER)
        return all(test(value, now) for test in tests), until

    return Timed(decide)


def _of_date(op: str, operand: Any, zone: str) -> Callable[[int, int], bool]:
    """The comparison of a date in UTC ms. Raises ValueError for an operand that is no date."""
    test = operators.TABLE[op].test
    if operators.TABLE[op].takes == "duration":
        return lambda value, now: test(now - value, operand)
    if op == "between":
        start, end = calendars.interval(operand[0], zone).start, calendars.interval(operand[1], zone).end
        return lambda value, now: start <= value < end
    day: Interval = calendars.interval(operand, zone)
    if op == "is":
        return lambda value, now: day.start <= value < day.end
    return lambda value, now: test(value, day)


def comparing(
    comparisons: dict[str, Any], or_missing: bool = False, fold: bool = False
) -> Callable[[Any], Verdict]:
    """The verdict of all `comparisons` on one value, None standing for a missing one."""
    absent: Verdict = None
    if "missing" in comparisons or or_missing:
        absent = True
    elif "exists" in comparisons:
        absent = False
    ready = operators.folded if fold else lambda value: value
    checks = [
        (operators.TABLE[op].test, operators.decides(op, operand), ready(operand))
        for op, operand in comparisons.items()
    ]

    if len(checks) == 1 and not fold:
        ((only, takes, against),) = checks

        def verdict_of_one(value: Any) -> Verdict:
            if value is None:
                return absent
            return only(value, against) if operators.type_of(value) in takes else None

        return verdict_of_one

    def verdict_of(value: Any) -> Verdict:
        if value is None:
            return absent
        kind, value = operators.type_of(value), ready(value)
        result: Verdict = True
        for test, types, operand in checks:
            if kind not in types:
                result = None
            elif not test(value, operand):
                return False
        return result

    return verdict_of


# -- contacts -----------------------------------------------------------------------------------------------


def matching(checks: list[tuple[Reader, Timeless | Timed]]) -> Matches:
    """Whether all checks hold of one contact's facts."""
    timeless = [(reader.value, asked.verdict) for reader, asked in checks if isinstance(asked, Timeless)]

    def matches_at_any_time(facts: Facts, now: int) -> Decision:
        unknown = False
        for value, verdict_of in timeless:
            verdict = verdict_of(value(facts))
            if verdict is False:
                return FALSE
            unknown = unknown or verdict is None
        return UNKNOWN if unknown else TRUE

    if len(timeless) == len(checks):
        return matches_at_any_time

    def matches(facts: Facts, now: int) -> Decision:
        decisions = [asked.decide(reader.value(facts), now) for reader, asked in checks]
        return at_least(decisions, len(decisions))

    return matches


def contacts(which: str, k: int, matches: Matches, words: str) -> Condition:
    """All, none or at least k of the account's contacts match; over no contacts it is unknown."""

    def each(state: AccountState, now: int) -> list[Decision]:
        return [matches(facts, now) for facts in state.contacts.values() if GONE not in facts]

    def decide(state: AccountState, now: int) -> Decision:
        decisions = each(state, now)
        if not decisions:
            return UNKNOWN
        if which == "any":
            if len(decisions) < k:
                return FALSE
            return at_least(decisions, k)
        verdict, until = at_least(decisions, len(decisions) if which == "all" else 1)
        return (verdict, until) if which == "all" else (NOT[verdict], until)

    who = f"at least {k}" if k > 1 else which

    def tell(state: AccountState, now: int) -> Told:
        verdicts = [verdict for verdict, _ in each(state, now)]
        verdict, until = decide(state, now)
        told: Told = {
            "says": f"{who} of the contacts: {words}: {verdicts.count(True)} of {len(verdicts)} known contacts",
            "verdict": WORD[verdict],
            "value": verdicts.count(True),
            "of": len(verdicts),
        }
        return _until(told, until)

    return Condition(decide, tell, frozenset({CONTACTS}))


# -- activities ---------------------------------------------------------------------------------------------


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
        return _with_evidence(told, pairs[: max(k, EVIDENCE_SHOWN)], until)

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
        return _with_evidence(told, counted[: max(k, EVIDENCE_SHOWN)], until)

    return Condition(decide, tell, frozenset({measure, CONTACTS} if who is not None else {measure}))


# For each kind of amount: its value, and the comparisons that no missing amount can make false (True)
# or true (False) once they are so.
_AMOUNTS: dict[str, Callable[[Aggregate], float]] = {
    "sum": lambda all: all.total,
    "min": lambda all: all.least,
    "max": lambda all: all.greatest,
    "avg": lambda all: all.total / all.number,
}
_TESTS: dict[str, Callable[[int, int], bool]] = {
    "at_least": lambda value, bound: value >= bound,
    "above": lambda value, bound: value > bound,
    "at_most": lambda value, bound: value <= bound,
    "below": lambda value, bound: value < bound,
}
_MORE = frozenset({"at_least", "above"})


def amount(measure: str, kind: str, label: str, op: str, bound: float, window: Window) -> Condition:
    """The sum, least, greatest or mean of a property in the window, against a bound."""
    test, limit = _TESTS[op], measures.in_millionths(bound)
    of = _AMOUNTS[kind]
    certain = _certain(kind, op)

    def holds(all: Aggregate) -> Verdict:
        if kind == "sum":
            return test(all.total, limit)
        if not all.number:
            return None
        if kind == "avg":
            return test(all.total, limit * all.number)  # without dividing, so without rounding
        return test(all.least if kind == "min" else all.greatest, limit)

    def decide(state: AccountState, now: int) -> Decision:
        ring = state.measures.get(measure, NO_RING)
        return measures.amounts_decide(ring, holds, certain, window.leaves, now)

    needs = operators.words(op, bound)

    def tell(state: AccountState, now: int) -> Told:
        entries, complete = measures.tagged_entries(state.measures.get(measure, NO_RING), window.leaves, now)
        all_ = measures.aggregates(entries)[-1]
        value = of(all_) / measures.DECIMALS if all_.number or kind == "sum" else None
        verdict, until = decide(state, now)
        shown = "not known" if value is None else operators.show(value)
        says = f"{kind} of {labelled(label, 2)} {window.words} {needs}: it is {shown}"
        told: Told = {
            "says": says if complete else f"{says} or more is missing",
            "verdict": WORD[verdict],
            "value": value,
            "complete": complete,
            op: bound,
            "within": window.words.removeprefix("in "),
        }
        return _with_evidence(told, entries[:EVIDENCE_SHOWN], until)

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
        return _with_evidence({"says": says(bool(pairs)), "verdict": WORD[verdict]}, pairs[:1], until)

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
        return _with_evidence({"says": says, "verdict": WORD[verdict]}, pairs, until)

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
        return _with_evidence(told, pairs[:1], until)

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
        return _with_evidence(told, [], until)

    return Condition(decide, tell, frozenset({measure}))


# -- telling ------------------------------------------------------------------------------------------------


def labelled(label: str, count: int) -> str:
    """`page view(s)` as one says it of that many."""
    return label.replace("(s)", "" if count == 1 else "s")


def _with_evidence(told: Told, entries: Iterable[Any], until: int) -> Told:
    if found := [{"at": entry.at, "offset": entry.offset} for entry in entries]:
        told["evidence"] = found
    return _until(told, until)


def _until(told: Told, until: int) -> Told:
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
