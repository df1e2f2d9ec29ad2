"""An oracle: what every dimension answers at an instant, recomputed from the whole history each time.

It reads the plain YAML of a ruleset and shares nothing with the core but the records. Nothing is incremental here
and nothing is clever: counts scan all activities, a score adds up all contributions, facts are sorted.
"""

from __future__ import annotations

import math
from typing import Any

import yaml

from rules.records import Activity, Contact, Delete, Facts, Restore

UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
Verdict = bool | None
History = list[tuple[int, Any]]  # (log_time, record) of one account, in the order of the log


def length(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1]]


class Naive:
    """Understands facts (no vocabularies), counts, seen, quiet, scores, contacts, all, any, not."""

    def __init__(self, files: dict[str, str]) -> None:
        self.declared: dict[str, dict[str, Any]] = {
            "facts": {},
            "contact_facts": {},
            "activities": {},
            "scores": {},
        }
        self.dimensions: list[dict[str, Any]] = []
        for text in files.values():
            for document in yaml.safe_load_all(text):
                if "dimension" in document:
                    self.dimensions.append(document)
                else:
                    for section, names in document.items():
                        self.declared[section] |= names

    def see(self, history: History) -> Seen:
        return Seen(self, history)

    def spans(self) -> set[int]:
        """The lengths of all windows."""
        found: set[int] = set()

        def look(node: Any) -> None:
            if isinstance(node, dict):
                found.update(length(node[key]) for key in ("within", "for") if key in node)
                for each in node.values():
                    look(each)
            elif isinstance(node, list):
                for each in node:
                    look(each)

        look(self.dimensions)
        return found

    def thresholds(self) -> set[tuple[str, float]]:
        """The (score, threshold) pairs that conditions ask for."""
        found: set[tuple[str, float]] = set()

        def look(node: Any) -> None:
            if isinstance(node, dict):
                if "score" in node:
                    found.add((node["score"], node.get("at_least") or node["below"]))
                for each in node.values():
                    look(each)
            elif isinstance(node, list):
                for each in node:
                    look(each)

        look(self.dimensions)
        return found


class Seen:
    """An account as its whole history shows it."""

    def __init__(self, rules: Naive, history: History) -> None:
        self.rules = rules
        self.deleted = False
        self.known = False
        self.activities: list[tuple[int, str, dict[str, Any]]] = []
        self.facts: dict[str, Any] = {}
        self.contacts: dict[str, dict[str, Any]] = {}
        self._read(_without_repeats(history))

    def _read(self, history: History) -> None:
        reports: list[tuple[int, int, str, Any]] = []
        people: dict[str, list[tuple[int, int, Contact]]] = {}
        for arrival, (log_time, record) in enumerate(history):
            self.known = True
            at = min(record.at, log_time)
            match record:
                case Activity():
                    self.activities.append((at, record.name, record.props))
                case Facts():
                    reports += [(at, arrival, name, value) for name, value in record.set.items()]
                    reports += [(at, arrival, name, None) for name in record.clear]
                case Contact():
                    people.setdefault(record.person, []).append((at, arrival, record))
                case Delete():
                    self.deleted = True
                case Restore():
                    self.deleted = False
        self.facts = _newest(reports)
        for person, records in people.items():
            set_ = [(at, n, name, value) for at, n, r in records for name, value in r.set.items()]
            cleared = [(at, n, name, None) for at, n, r in records for name in r.clear]
            newest = max(at for at, _, _ in records)
            if not any(r.gone for at, _, r in records if at == newest):
                self.contacts[person] = _newest(set_ + cleared)

    def answers(self, now: int) -> dict[str, tuple[str, ...]]:
        if self.deleted or not self.known:
            return {}
        return {each["dimension"]: self._answer(each, now) for each in self.rules.dimensions}

    def _answer(self, dimension: dict[str, Any], now: int) -> tuple[str, ...]:
        verdicts = [
            (s["segment"], True if "otherwise" in s else self.holds(s["when"], now)) for s in dimension["segments"]
        ]
        if dimension.get("kind") == "set":
            return tuple(name for name, verdict in verdicts if verdict is True)
        for name, verdict in verdicts:
            if verdict is True:
                return (name,)
            if verdict is None and dimension.get("on_unknown", "stop") == "stop":
                return ("unclassified",)
        return ()

    def holds(self, c: dict[str, Any], now: int) -> Verdict:
        if "all" in c:
            return _all([self.holds(each, now) for each in c["all"]])
        if "any" in c:
            return _any([self.holds(each, now) for each in c["any"]])
        if "not" in c:
            return _not(self.holds(c["not"], now))
        if "fact" in c:
            return self._compare(self.facts.get(c["fact"]), c)
        if "count" in c:
            n = self._count(c["count"], c.get("where", {}), length(c["within"]), now)
            bounds = [n >= c.get("at_least", 0), n < c.get("below", math.inf), n <= c.get("at_most", math.inf)]
            return all(bounds)
        if "seen" in c:
            return self._count(c["seen"], c.get("where", {}), length(c["within"]), now) > 0
        if "quiet" in c:
            return self._count(c["quiet"], c.get("where", {}), length(c["for"]), now) == 0
        if "score" in c:
            value = self.score(c["score"], now)
            return value >= c["at_least"] if "at_least" in c else value < c["below"]
        return self._contacts(c)

    def _count(self, name: str, where: dict[str, Any], window: int, now: int) -> int:
        return sum(
            now - window < at <= now and self._is(activity, props, name, where)
            for at, activity, props in self.activities
        )

    def score(self, name: str, now: int) -> float:
        """The sum of weight times two to the minus (age over half-life), largest error last place."""
        declared = self.rules.declared["scores"][name]
        half_life = length(declared["half_life"])
        return math.fsum(
            signal["weight"] * 2.0 ** (-(now - at) / half_life)
            for at, activity, props in self.activities
            for signal in declared["signals"]
            if at <= now and self._is(activity, props, signal["activity"], signal.get("where", {}))
        )

    def crossings(self, now: int) -> list[float]:
        """When each score falls below each threshold if nothing else happens; float, so good to a few ms."""
        found = []
        for name, threshold in self.rules.thresholds():
            half_life = length(self.rules.declared["scores"][name]["half_life"])
            value = self.score(name, now)
            if value > 0:
                found.append(now + half_life * math.log2(value / threshold))
        return found

    def _is(self, activity: str, props: dict[str, Any], name: str, where: dict[str, Any]) -> bool:
        """Is it one of `name` that passes `where`? An alias asks its own filters too."""
        if not all(
            self._compare(props.get(prop), c if isinstance(c, dict) else {"is": c}) is True
            for prop, c in where.items()
        ):
            return False
        if name in ("any", activity) and "of" not in self.rules.declared["activities"].get(name, {}):
            return True
        alias = self.rules.declared["activities"].get(name, {})
        return "of" in alias and self._is(activity, props, alias["of"], alias.get("where", {}))

    def _contacts(self, c: dict[str, Any]) -> Verdict:
        verdicts = [
            _all(
                [
                    self._compare(
                        facts.get(name), comparison if isinstance(comparison, dict) else {"is": comparison}
                    )
                    for name, comparison in c["where"].items()
                ]
            )
            for facts in self.contacts.values()
        ]
        if not verdicts:
            return None
        if c["contacts"] == "all":
            return _all(verdicts)
        return _any(verdicts) if c["contacts"] == "any" else _not(_any(verdicts))

    def _compare(self, value: Any, c: dict[str, Any]) -> Verdict:
        if value is None:
            if c.get("or_missing") or "missing" in c:
                return True
            return False if "exists" in c else None
        tests = {
            "is": lambda x: value == x,
            "is_not": lambda x: value != x,
            "in": lambda x: value in x,
            "not_in": lambda x: value not in x,
            "at_least": lambda x: value >= x,
            "above": lambda x: value > x,
            "at_most": lambda x: value <= x,
            "below": lambda x: value < x,
            "starts": lambda x: value[: len(x)] == x,
            "ends": lambda x: value[len(value) - len(x) :] == x,
            "contains": lambda x: x in value,
            "exists": lambda x: True,
            "missing": lambda x: False,
        }
        return all(test(c[op]) for op, test in tests.items() if op in c)


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


def _newest(reports: list[tuple[int, int, str, Any]]) -> dict[str, Any]:
    """By name the value reported latest; of several at one instant the one that arrived last."""
    return {name: value for _, _, name, value in sorted(reports, key=lambda report: report[:2])}


def _all(verdicts: list[Verdict]) -> Verdict:
    return False if False in verdicts else None if None in verdicts else True


def _any(verdicts: list[Verdict]) -> Verdict:
    return True if True in verdicts else None if None in verdicts else False


def _not(verdict: Verdict) -> Verdict:
    return None if verdict is None else not verdict
