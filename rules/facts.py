"""A fact's value, out of all that was reported of it.

Values are brought to the declared type once, when they are folded. Without ranks the later report wins. With
ranks the newest report of each rank is kept: the highest rank wins, and a lower one only over a value that is
older than its own by more than the refresh interval; a source may have an interval of its own. So the value does
not depend on the order of arrival.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

from rules import calendars
from rules.records import FactValue
from rules.state import NEVER, Fact, Report
from rules.vocabulary import Meanings

TEXT_KEPT, LIST_KEPT = 512, 1_000  # characters of a text, texts of a list
INTEGERS = 1 << 63  # what a packed state can hold
_NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?$")
_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
_EARLIEST_MS = 10**11  # March 1973; a smaller whole number is not meant in milliseconds
_LATEST_MS = 253_402_300_800_000  # the year 10000


@dataclass(frozen=True, slots=True)
class FactRule:
    """How reports of one fact are taken in: its type, and what a source's word counts."""

    kind: str = "any"
    ranks: dict[str, int] = field(default_factory=dict)  # source -> 0 for the highest
    refresh: int = NEVER
    meanings: Meanings | None = None
    zone: str = "UTC"
    intervals: dict[str, int] = field(default_factory=dict)  # source -> ms, instead of `refresh`

    def rank(self, source: str) -> int:
        return self.ranks.get(source, len(self.ranks))

    def wins_for(self, source: str) -> int:
        """How much newer, in ms, a lower source's word may be and still count for less."""
        return self.intervals.get(source, self.refresh)

    def fact(self, report: Report, others: tuple[Report, ...] = ()) -> Fact:
        match = self.meanings.nearest(report.value) if self.meanings is not None else None
        return Fact(report.value, report.at, report.source, match, others)


UNDECLARED = FactRule()


def merged(known: Fact | None, report: Report, rule: FactRule) -> Fact | None:
    """The fact after one more report; None when that changes nothing."""
    if not rule.ranks:
        return rule.fact(report) if known is None or known.at <= report.at else None
    reports = _by_rank(known, rule)
    rank = rule.rank(report.source)
    if rank in reports and reports[rank].at > report.at:
        return None
    reports[rank] = report
    chosen = _chosen(reports, rule)
    others = tuple(each for each in reports.values() if each is not chosen)
    return rule.fact(chosen, others)


def _by_rank(known: Fact | None, rule: FactRule) -> dict[int, Report]:
    reports: dict[int, Report] = {}
    if known is not None:
        for each in (*known.others, Report(known.value, known.at, known.source)):
            rank = rule.rank(each.source)
            if rank not in reports or reports[rank].at <= each.at:
                reports[rank] = each
    return dict(sorted(reports.items()))


def _chosen(reports: dict[int, Report], rule: FactRule) -> Report:
    chosen: Report | None = None
    for _, report in sorted(reports.items()):
        if report.value is None:
            continue
        if chosen is None or report.at - chosen.at > rule.wins_for(chosen.source):
            chosen = report
    return chosen or max(reports.values(), key=lambda each: each.at)


def conflicting(fact: Fact, rule: FactRule) -> bool:
    """Whether another rank's newest report means something else."""
    return any(a != b for a, b in pairwise(_meant([fact, *fact.others], rule)))


def _meant(reports: Iterable[Fact | Report], rule: FactRule) -> list[object]:
    values = [each.value for each in reports if each.value is not None]
    if rule.meanings is None:
        return list(values)
    return [rule.meanings.term(value) or value for value in values]


def coerce(kind: str, value: FactValue, zone: str = "UTC") -> FactValue:
    """`value` as the declared type (`any`: none was). Raises ValueError when it cannot be."""
    match kind, value:
        case _, None:
            return None
        case "date", int() if not isinstance(value, bool):
            if not _EARLIEST_MS <= value < _LATEST_MS:
                raise ValueError(f"{value!r} is no instant in UTC milliseconds")
            return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        case "date", str() if value.strip():
            calendars.interval(value.strip(), zone)
            return value.strip()
        case "date", str():
            return None
        case _, int() if not -INTEGERS <= value < INTEGERS:
            raise ValueError(f"{value!r} is too large to be kept")
        case "any", str():
            return value[:TEXT_KEPT]
        case "any" | "list", list():
            return [str(each)[:TEXT_KEPT] for each in value[:LIST_KEPT]]
        case "any", _:
            return value
        case ("number", bool()) | ("boolean", float()) | ("text", list()):
            raise ValueError(f"{value!r} is not a {kind}")
        case "number", int() | float():
            if not math.isfinite(value):
                raise ValueError(f"{value!r} is not a {kind}")
            return value
        case "number", str() if _NUMBER.match(value.strip()):
            number = float(value.replace(",", ""))
            if math.isinf(number):
                raise ValueError(f"{value!r} is too large to be kept")
            return int(number) if number.is_integer() and abs(number) < INTEGERS else number
        case "boolean", bool():
            return value
        case "boolean", int() | str() if str(value).strip().casefold() in _BOOLEANS:
            return _BOOLEANS[str(value).strip().casefold()]
        case "list", str():
            return [value[:TEXT_KEPT]]
        case "text", str():
            return value[:TEXT_KEPT].strip() or None
        case "text", _:
            return str(value)
    raise ValueError(f"{value!r} is not a {kind}")
