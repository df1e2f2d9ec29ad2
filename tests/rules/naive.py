"""An oracle: where every account stands at an instant, recomputed from the whole history each time.

It is written from the language's specification, reads the plain YAML of a ruleset and shares nothing with the core
but the records. Nothing is clever here: counts scan all activities, sequences try all combinations, a score adds
up all contributions, a day is the instants whose local date it is.

`Seen` answers conditions from a history. `Life` walks one account through its records and through every instant at
which anything may flip, and keeps of each segment only what `for`, `stay` and `keep_for` ask for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from rules.records import Activity, Contact, Delete, EndOverride, Facts, Override, Restore

UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
FAR = 1 << 52
MONTHS = {"mo": 1, "q": 3, "y": 12}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CLOSE = 1e-12  # floats added in another order may differ by so much
UNCLASSIFIED = ("unclassified",)
Verdict = bool | None
Answer = tuple[str, ...]
History = list[tuple[int, Any]]  # (log_time, record) of one account, in the order of the log


class TooClose(Exception):
    """A score so near to a threshold that the order of adding floats decides: nobody can say who is right."""


def length(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1]]


# -- calendars ----------------------------------------------------------------------------------------------


@lru_cache(100_000)
def local_date(at: int, zone: str) -> date:
    return (EPOCH + timedelta(milliseconds=at)).astimezone(ZoneInfo(zone)).date()


@lru_cache(10_000)
def begins(day: date, zone: str) -> int:
    """The first millisecond whose local date is `day` or later."""
    noon = (datetime(day.year, day.month, day.day, 12, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
    return first_where(lambda at: local_date(at, zone) >= day, noon - 2 * UNITS["d"], noon + 2 * UNITS["d"])


def first_where(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The first instant in (low, high] at which it holds; it does not at `low`, and from somewhere on it does."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def window_begins(text: str, today: date) -> date:
    """The first day of the calendar window: the unit that `today` is in, and the n - 1 before it."""
    n, unit = _units(text)
    if unit == "d":
        return today - timedelta(days=n - 1)
    if unit == "w":
        return today - timedelta(days=today.weekday() + 7 * (n - 1))
    month = (today.year * 12 + today.month - 1) // MONTHS[unit] * MONTHS[unit] - (n - 1) * MONTHS[unit]
    return date(month // 12, month % 12 + 1, 1)


def unit_over(text: str, day: date) -> date:
    """The first day on which a window no longer reaches back to `day`."""
    while window_begins(text, later := day + timedelta(days=1)) <= window_begins(text, day):
        day = later
    return later


@lru_cache(10_000)
def leaves(text: str, day: date) -> date:
    for _ in range(_units(text)[0]):
        day = unit_over(text, day)
    return day


def _units(text: str) -> tuple[int, str]:
    digits = re.match(r"\d+", text)
    assert digits is not None
    return int(digits[0]), text[digits.end() :]


@lru_cache(10_000)
def day_or_instant(text: str, zone: str) -> tuple[int, int]:
    """From when to when (exclusive) a written date lasts."""
    if len(text) == 10:
        day = date(*map(int, text.split("-")))
        return begins(day, zone), begins(day + timedelta(days=1), zone)
    instant = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    start = (instant - EPOCH) // timedelta(milliseconds=1)
    return start, start + 1


# -- rules --------------------------------------------------------------------------------------------------


class Naive:
    """A ruleset as its files say it."""

    def __init__(self, files: dict[str, str]) -> None:
        self.facts: dict[str, dict[str, Any]] = {}
        self.contact_facts: dict[str, dict[str, Any]] = {}
        self.activities: dict[str, dict[str, Any]] = {}
        self.scores: dict[str, dict[str, Any]] = {}
        self.vocabularies: dict[str, dict[str, Any]] = {}
        self.bands: dict[str, dict[str, Any]] = {}
        dimensions: dict[str, dict[str, Any]] = {}
        for text in files.values():
            for document in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
                if "dimension" in document:
                    dimensions[document["dimension"]] = document
                elif "vocabulary" in document:
                    self.vocabularies[document["vocabulary"]] = document
                elif "bands" in document:
                    self.bands[document["bands"]] = document
                else:
                    for section, names in document.items():
                        getattr(self, section).update(names)
        for each in dimensions.values():
            self._spell_out(each)
        self.dimensions = list(_each_after_those_it_names(dimensions))

    def kind(self, dimension: str) -> str:
        """`ladder` or `set`; empty when there is no such dimension."""
        found = (each for each in self.dimensions if each["dimension"] == dimension)
        return next((each.get("kind", "ladder") for each in found), "")

    def _spell_out(self, dimension: dict[str, Any]) -> None:
        """Gives a dimension that is made of a fact's values the segments it stands for."""
        if fact := dimension.get("by_fact"):
            terms = self.vocabularies[self.facts[fact]["vocabulary"]]["terms"]
            dimension["segments"] = [{"segment": term, "when": {"fact": fact, "is": term}} for term in terms]
        elif by := dimension.get("by_bands"):
            cuts = list(self.bands[by["bands"]]["profiles"][by["profile"]].items())
            dimension["segments"] = [
                {
                    "segment": name,
                    "when": {"fact": by["fact"], "at_least": cut}
                    | ({"below": cuts[i + 1][1]} if i + 1 < len(cuts) else {}),
                }
                for i, (name, cut) in enumerate(cuts)
            ]

    def term(self, vocabulary: str, text: Any) -> str | None:
        """The term that a text means."""
        declared = self.vocabularies[vocabulary]
        if not isinstance(text, str):
            return None
        found = _spelled(declared, text)
        if found is None and "of" in declared:
            inner = self.term(declared["of"], text)
            return None if inner is None else _spelled(declared, inner)
        return found

    def value(self, declared: dict[str, dict[str, Any]], facts: dict[str, Any], name: str) -> Any:
        """A fact as rules see it: its term where it has a vocabulary, an instant where it is a date."""
        raw, spec = facts.get(name), declared[name]
        if spec["type"] == "date":
            return None if raw is None else raw if isinstance(raw, int) else day_or_instant(raw, _zone(spec))[0]
        vocabulary = spec.get("vocabulary")
        if vocabulary is None:
            return raw
        if (term := self.term(vocabulary, raw)) is not None:
            return term
        for other in spec.get("also", []):
            tried = facts.get(other)
            found = self.term(vocabulary, tried)
            own = declared[other].get("vocabulary")
            if found is None and own is not None:
                found = self.term(vocabulary, self.term(own, tried))
            if found is not None:
                return found
        return None


def _zone(spec: dict[str, Any]) -> str:
    return str(spec.get("timezone", "UTC"))


def _each_after_those_it_names(dimensions: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    left = dict(dimensions)
    while left:
        for name, dimension in list(left.items()):
            if not {each for each in _named(dimension) if each != name} & left.keys():
                yield left.pop(name)


def _named(node: Any) -> Iterator[str]:
    """The dimensions that rules refer to."""
    if isinstance(node, dict):
        if isinstance(segment := node.get("segment"), str | list) and "when" not in node:
            for each in [segment] if isinstance(segment, str) else segment:
                yield each.split("/")[0]
        for value in node.values():
            yield from _named(value)
    elif isinstance(node, list):
        for value in node:
            yield from _named(value)


def _plain(text: str) -> str:
    """Case, punctuation and the two ways to write `and` put aside."""
    text = text.casefold().replace("&", " and ")
    return " ".join("".join(c if c.isalnum() else " " for c in text).split())


def _spelled(vocabulary: dict[str, Any], text: str) -> str | None:
    text, match = _plain(text), vocabulary.get("match", "exact")
    spellings = [
        (_plain(each), term)
        for term, listed in vocabulary["terms"].items()
        for each in (listed if match != "exact" else [term, *listed])
    ]
    if match == "exact":
        return next((term for known, term in spellings if known == text), None)
    if match == "words":
        there = [(known, term) for known, term in spellings if f" {known} " in f" {text} "]
    else:
        there = [(known, term) for known, term in spellings if text.startswith(known)]
    longest = max((len(known) for known, _ in there), default=0)
    return next((term for known, term in there if len(known) == longest), None)


# -- what an account is seen to be --------------------------------------------------------------------------


class Seen:
    """An account as its whole history shows it."""

    def __init__(self, rules: Naive, history: History) -> None:
        self.rules = rules
        self.deleted = False
        self.known = False
        self.activities: list[tuple[int, int, Activity]] = []  # (at, place in the log, what)
        self.facts: dict[str, Any] = {}
        self.contacts: dict[str, dict[str, Any]] = {}  # of those who still are contacts
        self.gone: set[str] = set()
        self._asked: dict[str, Any] = {}
        self._read(_without_repeats(history))

    def _read(self, history: History) -> None:
        reports: list[tuple[int, int, str, Any, str]] = []
        people: dict[str, list[tuple[int, int, Contact]]] = {}
        for place, (log_time, record) in enumerate(history):
            self.known = True
            at = min(record.at, log_time)
            match record:
                case Activity():
                    self.activities.append((at, place, record))
                case Facts():
                    reports += [(at, place, name, value, record.source) for name, value in record.set.items()]
                    reports += [(at, place, name, None, record.source) for name in record.clear]
                case Contact():
                    people.setdefault(record.person, []).append((at, place, record))
                case Delete():
                    self.deleted = True
                case Restore():
                    self.deleted = False
        reported = _reported(reports, self.rules.facts)
        self.facts = {name: value for name, (_, value) in reported.items()}
        self.reported = {name: at for name, (at, _) in reported.items()}
        for person, records in people.items():
            said = [(at, n, name, value, r.source) for at, n, r in records for name, value in r.set.items()]
            said += [(at, n, name, None, r.source) for at, n, r in records for name in r.clear]
            newest = max(at for at, _, _ in records)
            if any(r.gone for at, _, r in records if at == newest):
                self.gone.add(person)
            else:
                self.contacts[person] = _values(said, self.rules.contact_facts)

    # -- conditions -----------------------------------------------------------------------------------------

    def holds(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        """The verdict on a condition; `places` is where the account stands in the dimensions it may name."""
        return getattr(self, f"_{kind_of(c)}")(c, now, places)

    def _all(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        return all_of([self.holds(each, now, places) for each in c["all"]])

    def _any(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        return any_of([self.holds(each, now, places) for each in c["any"]])

    def _not(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        return negated(self.holds(c["not"], now, places))

    def _of(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        return at_least(c["at_least"], [self.holds(each, now, places) for each in c["of"]])

    def _fact(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        return self._of_fact(self.rules.facts, self.facts, c["fact"], c, now)

    def _stale(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        name = c["stale"]
        if self.facts.get(name) is None:
            return None
        return self.reported[name] + length(self.rules.facts[name]["refresh"]) < now

    def _of_fact(
        self, declared: dict[str, dict[str, Any]], facts: dict[str, Any], name: str, c: dict[str, Any], now: int
    ) -> Verdict:
        value = self.rules.value(declared, facts, name)
        if declared[name]["type"] == "date":
            return compare_date(value, c, now, _zone(declared[name]))
        return compare(value, c)

    def _count(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        return _within_bounds(len(self._in_window(c, c["count"], now)), c)

    def _people(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        persons = {each.person for _, _, each in self._in_window(c, c["people"], now) if each.person is not None}
        if "who" not in c:
            return _within_bounds(len(persons), c)
        verdicts = [self._is_who(person, c["who"], now) for person in persons]
        surely, possibly = verdicts.count(True), len(verdicts) - verdicts.count(False)
        # Each bound by itself: what may be missing from one may not matter to the other.
        bounds = [{key: c[key]} for key in ("at_least", "at_most", "below") if key in c]
        return all_of(
            [
                least if (least := _within_bounds(surely, bound)) == _within_bounds(possibly, bound) else None
                for bound in bounds
            ]
        )

    def _is_who(self, person: str, who: dict[str, Any], now: int) -> Verdict:
        """Whether someone is a contact that matches; of a person never heard of nothing is known."""
        if person in self.gone:
            return False
        return self._matches(self.contacts[person], who, now) if person in self.contacts else None

    def _amounts(self, c: dict[str, Any], now: int) -> list[int]:
        """The property's values in the window, in millionths."""
        kind = kind_of(c)
        values = [_number(each.props.get(c["of"])) for _, _, each in self._in_window(c, c[kind], now)]
        return [millionths(value) for value in values if value is not None]

    def _sum(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        return _compared(Fraction(sum(self._amounts(c, now))), c)

    def _min(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        amounts = self._amounts(c, now)
        return _compared(Fraction(min(amounts)), c) if amounts else None

    def _max(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        amounts = self._amounts(c, now)
        return _compared(Fraction(max(amounts)), c) if amounts else None

    def _avg(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        amounts = self._amounts(c, now)
        return _compared(Fraction(sum(amounts), len(amounts)), c) if amounts else None

    def _seen(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        return len(self._in_window(c, c["seen"], now)) > 0

    def _never(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        return not self.matched(c, c["never"])

    def _quiet(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        return all(at <= now - length(c["for"]) for at, _, _ in self.matched(c, c["quiet"]))

    def _first(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        return _aged(min((at for at, _, _ in self.matched(c, c["first"])), default=None), c, now)

    def _last(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        return _aged(max((at for at, _, _ in self.matched(c, c["last"])), default=None), c, now)

    def _sequence(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        return any("within" not in c or now - length(c["within"]) < end <= now for end in self.ends(c))

    def _score(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        threshold = c["at_least"] if "at_least" in c else c["below"]
        value, exact = self.score(c["score"], now)
        if not exact and abs(value - threshold) <= CLOSE * threshold:
            raise TooClose(c, value, now)
        return value >= threshold if "at_least" in c else value < threshold

    def _contacts(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        verdicts = [self._matches(facts, c["where"], now) for facts in self.contacts.values()]
        if not verdicts:
            return None
        if c["contacts"] == "all":
            return all_of(verdicts)
        return at_least(c.get("at_least", 1), verdicts) if c["contacts"] == "any" else negated(any_of(verdicts))

    def _matches(self, facts: dict[str, Any], where: dict[str, Any], now: int) -> Verdict:
        asked = [(name, c if isinstance(c, dict) else {"is": c}) for name, c in where.items()]
        return all_of([self._of_fact(self.rules.contact_facts, facts, name, c, now) for name, c in asked])

    def _segment(self, c: dict[str, Any], now: int, places: dict[str, Answer]) -> Verdict:
        names = [c["segment"]] if isinstance(c["segment"], str) else c["segment"]
        if c.get("missing"):
            return places[names[0]] == UNCLASSIFIED
        asked = [each.split("/") for each in names]
        return any_of([None if places[d] == UNCLASSIFIED else segment in places[d] for d, segment in asked])

    # -- activities -----------------------------------------------------------------------------------------

    def matched(self, c: dict[str, Any], name: str) -> list[tuple[int, int, Activity]]:
        """All activities of that name that pass the condition's filter, in order."""
        return self._once(
            f"matched {name} {c.get('where')}",
            lambda: sorted(each for each in self.activities if self._is(each[2], name, c.get("where", {}))),
        )

    def _in_window(self, c: dict[str, Any], name: str, now: int) -> list[tuple[int, int, Activity]]:
        found = self.matched(c, name)
        if "within" in c:
            return [each for each in found if now - length(c["within"]) < each[0] <= now]
        if "calendar" in c:
            begin = window_begins(c["calendar"], local_date(now, _zone(c)))
            return [each for each in found if local_date(each[0], _zone(c)) >= begin]
        return found

    def _is(self, activity: Activity, name: str, where: dict[str, Any]) -> bool:
        """Is it one of `name` that passes `where`? An alias asks its own filters too."""
        for prop, c in where.items():
            if compare(activity.props.get(prop), c if isinstance(c, dict) else {"is": c}) is not True:
                return False
        alias = self.rules.activities.get(name, {})
        if "of" in alias:
            return self._is(activity, alias["of"], alias.get("where", {}))
        return name in ("any", activity.name)

    def ends(self, c: dict[str, Any]) -> list[int]:
        """When the last step of each combination that is a sequence happened."""

        def found() -> list[int]:
            steps = [each if isinstance(each, dict) else {"activity": each} for each in c["sequence"]]
            chains = [[each] for each in self.matched(steps[0], steps[0]["activity"])]
            for step in steps[1:]:
                following = self.matched(step, step["activity"])
                chains = [[*chain, each] for chain in chains for each in following if each[:2] > chain[-1][:2]]
            return sorted({chain[-1][0] for chain in chains if chain[-1][0] - chain[0][0] <= length(c["span"])})

        return self._once(f"ends {c}", found)

    def score(self, name: str, now: int) -> tuple[float, bool]:
        """The sum of weight times two to the minus (age over half-life), and whether no float was rounded."""
        declared = self.rules.scores[name]
        exact, total = True, []
        for signal in declared["signals"]:
            half_life = length(signal.get("half_life", declared["half_life"]))
            ages = [now - at for at, _, _ in self.matched(signal, signal["activity"])]
            worth = [signal["weight"] * 2.0 ** (-age / half_life) for age in ages]
            if "cap" in signal and math.fsum(worth) > signal["cap"] * (1 + CLOSE):
                total.append(float(signal["cap"]))
            else:
                total += worth
                exact = exact and all(age % half_life == 0 or age > 80 * half_life for age in ages)
        return math.fsum(total), exact

    def _falls(self, c: dict[str, Any], now: int) -> list[int]:
        """When a score falls below its threshold if nothing else happens."""
        threshold = c["at_least"] if "at_least" in c else c["below"]
        below = lambda at: self.score(c["score"], at)[0] < threshold  # noqa: E731
        if below(now):
            return []
        high = now + 1
        while not below(high):
            high += 2 * (high - now)
        return [first_where(below, now, high)]

    # -- flips ----------------------------------------------------------------------------------------------

    def flips(self, c: Any, now: int) -> set[int]:
        """All instants after `now` at which time alone may turn this condition, or one within it."""
        return {at for at in self._flips(c, now) if at > now}

    def _flips(self, c: dict[str, Any], now: int) -> Iterator[int]:
        kind = kind_of(c)
        match kind:
            case "all" | "any" | "of" | "not":
                for part in c[kind] if isinstance(c[kind], list) else [c[kind]]:
                    yield from self.flips(part, now)
            case "fact":
                yield from self._turns(self.rules.facts, self.facts, c["fact"], c)
            case "contacts":
                yield from self._people_turn(c["where"])
            case "score":
                yield from self._falls(c, now)
            case "sequence":
                yield from (at + length(c["within"]) for at in self.ends(c) if "within" in c)
            case "segment":
                pass
            case "stale":
                if self.facts.get(c["stale"]) is not None:
                    yield self.reported[c["stale"]] + length(self.rules.facts[c["stale"]]["refresh"]) + 1
            case _:
                for at, _, _ in self.matched(c, c[kind]):
                    for key in {"within", "older_than", "for"} & c.keys():
                        yield at + length(c[key])
                    if "calendar" in c:
                        yield begins(leaves(c["calendar"], local_date(at, _zone(c))), _zone(c))
                if kind == "people" and "who" in c:
                    yield from self._people_turn(c["who"])

    def _people_turn(self, where: dict[str, Any]) -> Iterator[int]:
        for facts in self.contacts.values():
            for name, c in where.items():
                yield from self._turns(self.rules.contact_facts, facts, name, c if isinstance(c, dict) else {})

    def _turns(
        self, declared: dict[str, dict[str, Any]], facts: dict[str, Any], name: str, c: dict[str, Any]
    ) -> Iterator[int]:
        if declared[name]["type"] == "date" and (value := self.rules.value(declared, facts, name)) is not None:
            for op in {"older_than", "newer_than", "within_last", "within_next"} & c.keys():
                yield from (value, value + length(c[op]), value - length(c[op]))

    def _once(self, key: str, made: Callable[[], Any]) -> Any:
        if key not in self._asked:
            self._asked[key] = made()
        return self._asked[key]


KINDS = (
    "fact count people sum min max avg seen never quiet first last sequence score contacts stale segment "
    "all any not of"
)


@lru_cache(100)
def _kind(keys: tuple[str, ...]) -> str:
    return next(kind for kind in KINDS.split() if kind in keys)  # `of` also names the property of an amount


def kind_of(c: dict[str, Any]) -> str:
    return _kind(tuple(c))


# -- over time ----------------------------------------------------------------------------------------------


class Place:
    """What is kept of an account in one dimension: where it is, since when a rule is true, when it went in."""

    def __init__(self) -> None:
        self.answer: Answer = ()
        self.true_since: dict[str, int] = {}
        self.went_in: dict[str, int] = {}


class Life:
    """One account, walked through its records and all instants at which anything may flip."""

    def __init__(self, rules: Naive) -> None:
        self.rules = rules
        self.history: History = []
        self.seen = Seen(rules, [])
        self.now = 0
        self.ruled: dict[str, Place] = {}  # as if nobody had said anything
        self.places: dict[str, Answer] = {}
        self.said: list[Override] = []  # that count, in the order in which they were said
        self.flips: list[int] = []  # that follow from the history alone, latest first

    @property
    def answers(self) -> dict[str, Answer]:
        return {name: answer for name, answer in self.places.items() if answer}

    def meets(self, record: Any, log_time: int) -> None:
        """The record, after everything that time did until then."""
        self.pass_time(log_time)
        if isinstance(record, Override | EndOverride):
            self._is_said(record)
        else:
            self.history.append((log_time, record))
        self._look_again(log_time)

    def _is_said(self, record: Override | EndOverride) -> None:
        """In a ladder the last word counts, in a set the last about each segment."""
        kind = self.rules.kind(record.dimension)
        if not self.history or (isinstance(record, Override) and not self._fits(record)):
            return
        segments = {record.segment} - {""} if kind == "set" or isinstance(record, EndOverride) else set()
        self.said = [
            each
            for each in self.said
            if each.dimension != record.dimension or (segments and each.segment not in segments)
        ]
        if isinstance(record, Override):
            self.said.append(record)

    def _fits(self, said: Override) -> bool:
        kind = self.rules.kind(said.dimension)
        names = {each["segment"] for name, each in self._segments() if name == said.dimension}
        return said.segment in names and not (said.out and kind == "ladder")

    def is_judged_by(self, rules: Naive, log_time: int) -> None:
        """Other rules, from now on."""
        self.pass_time(log_time)
        self.rules = rules
        self.said = [each for each in self.said if rules.kind(each.dimension)]
        self._look_again(log_time)

    def pass_time(self, until: int) -> None:
        while (instant := self.next_flip()) <= until:
            self._evaluate(instant)

    def next_flip(self) -> int:
        while self.flips and self.flips[-1] <= self.now:
            self.flips.pop()
        waits = [flip for flip in self._dwelling() if flip > self.now]
        return min([*waits, *self.flips[-1:]], default=FAR)

    def flips_until(self, until: int) -> set[int]:
        """When something may flip, as far as that is known beforehand."""
        return {flip for flip in [*self.flips, *self._dwelling()] if self.now < flip <= until}

    def _look_again(self, log_time: int) -> None:
        self.seen = Seen(self.rules, self.history)
        self._evaluate(log_time)
        rules = [segment[key] for _, segment in self._segments() for key in ("when", "stay") if key in segment]
        flips: set[int] = set()
        if self.places:
            flips = flips.union(*(self.seen.flips(rule, log_time) for rule in rules))
        self.flips = sorted(flips, reverse=True)

    def _segments(self) -> Iterable[tuple[str, dict[str, Any]]]:
        return ((d["dimension"], segment) for d in self.rules.dimensions for segment in d["segments"])

    def _dwelling(self) -> Iterator[int]:
        """When a wait or a hold ends, or what somebody said."""
        yield from (each.until for each in self.said)
        for name, segment in self._segments():
            place = self.ruled.get(name)
            if place is not None and "for" in segment and segment["segment"] in place.true_since:
                yield place.true_since[segment["segment"]] + length(segment["for"])
            if place is not None and "keep_for" in segment and segment["segment"] in place.answer:
                yield place.went_in[segment["segment"]] + length(segment["keep_for"])

    def _evaluate(self, now: int) -> None:
        self.now = now
        if self.seen.deleted or not self.seen.known:
            self.places, self.ruled = {}, {}
            return
        before, self.ruled, self.places = self.ruled, {}, {}
        self.said = [each for each in self.said if each.until > now and self._fits(each)]
        for dimension in self.rules.dimensions:
            name = dimension["dimension"]
            self.ruled[name] = self._settle(dimension, before.get(name, Place()), now)
            self.places[name] = self._overridden(dimension, self.ruled[name].answer)

    def _overridden(self, dimension: dict[str, Any], ruled: Answer) -> Answer:
        said = [each for each in self.said if each.dimension == dimension["dimension"]]
        if not said:
            return ruled
        if dimension.get("kind", "ladder") == "ladder":
            return (said[-1].segment,)
        put_in = {each.segment for each in said if not each.out}
        put_out = {each.segment for each in said if each.out}
        names = [each["segment"] for each in dimension["segments"]]
        return tuple(name for name in names if name in put_in or (name in ruled and name not in put_out))

    def _settle(self, dimension: dict[str, Any], before: Place, now: int) -> Place:
        after = Place()
        answers = dict(self.places)
        verdicts = []
        for segment in dimension["segments"]:
            name = segment["segment"]
            when = self.seen.holds(segment["when"], now, answers) if "when" in segment else True
            if when is True:
                after.true_since[name] = before.true_since.get(name, now)
            verdicts.append((name, self._is_in(segment, when, before, after, now, answers)))
        after.answer = _answer(dimension, verdicts)
        after.went_in = {name: before.went_in.get(name, now) for name in after.answer}
        return after

    def _is_in(
        self,
        segment: dict[str, Any],
        when: Verdict,
        before: Place,
        after: Place,
        now: int,
        answers: dict[str, Answer],
    ) -> Verdict:
        """Whether the account is in the segment, given what its rule says now."""
        name = segment["segment"]
        was_in = name in before.answer
        if when is True:
            return was_in or now - after.true_since[name] >= length(segment.get("for", "0s"))
        if was_in and "keep_for" in segment and now < before.went_in[name] + length(segment["keep_for"]):
            return True
        out = False if "for" in segment else when  # unknown counts as false there
        if was_in and "stay" in segment:
            return True if self.seen.holds(segment["stay"], now, answers) is True else out
        return out


def _answer(dimension: dict[str, Any], verdicts: list[tuple[str, Verdict]]) -> Answer:
    if dimension.get("kind") == "set":
        return tuple(name for name, verdict in verdicts if verdict is True)
    for name, verdict in verdicts:
        if verdict is True:
            return (name,)
        if verdict is None and dimension.get("on_unknown", "stop") == "stop":
            return UNCLASSIFIED
    return ()


# -- values -------------------------------------------------------------------------------------------------


def _without_repeats(history: History) -> History:
    """Event ids count once. (The core remembers the newest 64 of an account; a history here has fewer.)"""
    ids: set[str] = set()
    first = []
    for log_time, record in history:
        if record.id and record.id in ids:
            continue
        ids.add(record.id)
        first.append((log_time, record))
    return first


class Refused(Exception):
    """A value that cannot be what its fact is declared to be."""


def _as_declared(kind: str, value: Any) -> Any:
    if value is None or value == "":
        return None
    if kind == "number" and (value := _number(value)) is None:
        raise Refused
    if kind == "date" and isinstance(value, str):
        try:
            day_or_instant(value, "UTC")
        except ValueError:
            raise Refused from None
    if kind == "text" and not isinstance(value, str):
        return str(value)
    return value


def _reported(
    reports: list[tuple[int, int, str, Any, str]], declared: dict[str, dict[str, Any]]
) -> dict[str, tuple[int, Any]]:
    """By name the value that all reports of it come to, and the instant at which that was reported."""
    by_name: dict[str, list[tuple[int, int, Any, str]]] = {}
    for at, place, name, value, source in reports:
        if name not in declared:
            continue  # no rule reads it
        try:
            taken = _as_declared(declared[name]["type"], value)
        except Refused:
            continue
        by_name.setdefault(name, []).append((at, place, taken, source))
    found = ((name, _chosen(reported, declared[name])) for name, reported in by_name.items())
    return {name: chosen for name, chosen in found if chosen}


def _values(reports: list[tuple[int, int, str, Any, str]], declared: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: value for name, (_, value) in _reported(reports, declared).items()}


def _chosen(reported: list[tuple[int, int, Any, str]], spec: dict[str, Any]) -> tuple[int, Any] | None:
    """The highest rank's newest value, unless a lower rank's is newer by more than the refresh interval."""
    ranks = spec.get("sources", [])
    newest: dict[int, tuple[int, Any]] = {}
    for at, _, value, source in sorted(reported, key=lambda each: each[:2]):
        newest[ranks.index(source) if source in ranks else len(ranks)] = (at, value)
    chosen: tuple[int, Any] | None = None
    for rank in sorted(newest):
        at, value = newest[rank]
        if value is None:
            continue  # what this source said last is that it has no value
        if chosen is None or ("refresh" in spec and chosen[0] < at - length(spec["refresh"])):
            chosen = (at, value)
    return chosen


def _number(value: Any) -> float | None:
    """A property that is a number, or a text that reads as one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def millionths(value: float) -> int:
    return int((Decimal(str(value)) * 1_000_000).quantize(Decimal(1), ROUND_HALF_EVEN))


# -- comparisons --------------------------------------------------------------------------------------------


def compare(value: Any, c: dict[str, Any]) -> Verdict:
    """All comparisons in `c` of one value; one of unlike types is unknown."""
    if value is None:
        if c.get("or_missing") or "missing" in c:
            return True
        return False if "exists" in c else None
    fold = _casefold if c.get("fold") else lambda x: x
    value = fold(value)
    return all_of([_holds(op, value, fold(operand)) for op, operand in c.items() if op in OPERATORS])


def globs(text: str, pattern: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(globs(text[i:], pattern[1:]) for i in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and globs(text[1:], pattern[1:])


OPERATORS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "is": ("same", lambda value, x: value == x),
    "is_not": ("same", lambda value, x: value != x),
    "in": ("among", lambda value, x: any(value == each and _type(value) == _type(each) for each in x)),
    "not_in": ("among", lambda value, x: not any(value == each and _type(value) == _type(each) for each in x)),
    "at_least": ("number", lambda value, x: value >= x),
    "above": ("number", lambda value, x: value > x),
    "at_most": ("number", lambda value, x: value <= x),
    "below": ("number", lambda value, x: value < x),
    "between": ("number", lambda value, x: x[0] <= value <= x[1]),
    "starts": ("text", lambda value, x: value[: len(x)] == x),
    "ends": ("text", lambda value, x: value[max(0, len(value) - len(x)) :] == x),
    "contains": ("text list", lambda value, x: x in value),
    "glob": ("text", globs),
    "has_any": ("list", lambda value, x: bool(set(value) & set(x))),
    "has_all": ("list", lambda value, x: set(x) <= set(value)),
    "has_none": ("list", lambda value, x: not set(value) & set(x)),
    "exists": ("", lambda value, x: True),
    "missing": ("", lambda value, x: False),
}


def _holds(op: str, value: Any, operand: Any) -> Verdict:
    takes, test = OPERATORS[op]
    kind = _type(value)
    if takes == "same":
        fits = kind == _type(operand) and kind != "list"
    elif takes == "among":
        fits = kind in {_type(each) for each in operand}
    else:
        fits = not takes or kind in takes.split()
    return test(value, operand) if fits else None


def _type(value: Any) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "text", list: "list", tuple: "list"}
    return names.get(type(value), "object")


def _casefold(value: Any) -> Any:
    if isinstance(value, list):
        return [_casefold(each) for each in value]
    return value.casefold() if isinstance(value, str) else value


def compare_date(value: int | None, c: dict[str, Any], now: int, zone: str) -> Verdict:
    """All comparisons in `c` of a date, which stands for its first instant."""
    if value is None:
        return compare(None, c)
    tests: dict[str, Callable[[Any], bool]] = {
        "is": lambda x: day_or_instant(x, zone)[0] <= value < day_or_instant(x, zone)[1],
        "before": lambda x: value < day_or_instant(x, zone)[0],
        "after": lambda x: value >= day_or_instant(x, zone)[1],
        "between": lambda x: day_or_instant(x[0], zone)[0] <= value < day_or_instant(x[1], zone)[1],
        "older_than": lambda x: value <= now - length(x),
        "newer_than": lambda x: value > now - length(x),
        "within_last": lambda x: now - length(x) < value <= now,
        "within_next": lambda x: now < value <= now + length(x),
        "exists": lambda x: True,
        "missing": lambda x: False,
    }
    return all(test(c[op]) for op, test in tests.items() if op in c)


def _within_bounds(n: int, c: dict[str, Any]) -> bool:
    return c.get("at_least", 0) <= n <= c.get("at_most", math.inf) and n < c.get("below", math.inf)


def _compared(value: Fraction, c: dict[str, Any]) -> bool:
    bounds = {op: millionths(c[op]) for op in ("at_least", "above", "at_most", "below") if op in c}
    return all(OPERATORS[op][1](value, bound) for op, bound in bounds.items())


def _aged(at: int | None, c: dict[str, Any], now: int) -> bool:
    if at is None:
        return False
    return at > now - length(c["within"]) if "within" in c else at <= now - length(c["older_than"])


def all_of(verdicts: list[Verdict]) -> Verdict:
    return False if False in verdicts else None if None in verdicts else True


def any_of(verdicts: list[Verdict]) -> Verdict:
    return True if True in verdicts else None if None in verdicts else False


def negated(verdict: Verdict) -> Verdict:
    return None if verdict is None else not verdict


def at_least(k: int, verdicts: list[Verdict]) -> Verdict:
    """Whether k of them are true, whatever the unknown ones are."""
    if verdicts.count(True) >= k:
        return True
    return None if len(verdicts) - verdicts.count(False) >= k else False
