"""Conditions on what an account, or a contact, is: its facts against what the rule says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from rules import calendars, operators
from rules.conditions import FALSE, NOT, OF_VERDICT, TRUE, UNKNOWN, WORD, Condition, Told, at_least, with_until
from rules.durations import in_words
from rules.measures import Decision, Verdict
from rules.operators import Interval
from rules.state import GONE, NEVER, AccountState, Fact

Facts: TypeAlias = Mapping[str, Fact]
Matches: TypeAlias = Callable[[Facts, int], Decision]  # whether the facts of one contact match, as of an instant

CONTACTS = "contacts"  # among what a condition reads


@dataclass(frozen=True, slots=True)
class Reader:
    """How rules see a fact: its value out of all facts, and the reported fact behind it, with its name."""

    name: str
    value: Callable[[Facts], Any]
    behind: Callable[[Facts], tuple[str, Fact] | None]
    reads: frozenset[str]


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
        return with_until(told | _provenance(reader.name, value, behind, zone), until)

    return Condition(decide, tell, reader.reads)


def stale(name: str, refresh: int) -> Condition:
    """What was last reported is older than the fact's refresh interval, in ms."""

    def decide(state: AccountState, now: int) -> Decision:
        fact = state.facts.get(name)
        if fact is None or fact.value is None:
            return UNKNOWN
        if now - fact.at > refresh:
            return TRUE
        return False, fact.at + refresh + 1

    def tell(state: AccountState, now: int) -> Told:
        fact = state.facts.get(name)
        verdict, until = decide(state, now)
        told: Told = {
            "says": f"{name} is older than {in_words(refresh)}"
            + ("" if verdict is not None else ": it is not known"),
            "verdict": WORD[verdict],
            "fact": name,
        }
        if fact is not None and fact.value is not None:
            told |= {"value": fact.value, "source": fact.source, "at": fact.at}
        return with_until(told, until)

    return Condition(decide, tell, frozenset({report_of(name)}))


def report_of(name: str) -> str:
    """Among what a condition reads: when a fact was last reported, the same value or another."""
    return f"reported:{name}"


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
        return with_until(told, until)

    return Condition(decide, tell, frozenset({CONTACTS}))
