"""What the pages about segments show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from rules import yamlfile
from rules.changes import iso
from rules.durations import DAY
from rules.ruleset import Dimension, Ruleset
from rules.state import UNCLASSIFIED
from rules.tally import ENTERED, LEFT, REVENUE
from streams.page.views.now import flows

Tallied = Mapping[tuple[str, str, str], int]  # (dimension, segment, what) -> how many
OUTCOMES = ("sent", "opened", "replied", "meeting", "opportunity", "won", "lost", "churned")
# A rate and what it is of: it is told with both counts, so that nobody is deceived by a small one.
RATES = (
    ("reply rate", "replied", ("sent",)),
    ("meeting rate", "meeting", ("sent",)),
    ("win rate", "won", ("won", "lost")),
)


@dataclass(frozen=True, slots=True)
class Size:
    """A segment with how many it holds; `share` of all accounts of its dimension."""

    segment: str
    count: int
    share: float
    entered: int
    left: int
    owner: str
    action: str
    description: str


@dataclass(frozen=True, slots=True)
class Overview:
    """A dimension in the list of all. `largest` segments first, not known last."""

    name: str
    kind: str
    question: str
    sizes: list[Size]

    @property
    def held(self) -> list[Size]:
        return sorted(
            (each for each in self.sizes if each.count),
            key=lambda each: (each.segment == UNCLASSIFIED, -each.count),
        )


def overviews(ruleset: Ruleset, counts: Mapping[str, Mapping[str, int]]) -> list[Overview]:
    return [
        Overview(each.name, each.kind, each.description, sizes(each, counts.get(each.name, {}), {}))
        for each in sorted(ruleset.dimensions, key=lambda each: each.name != "engagement")
    ]


def sizes(dimension: Dimension, counts: Mapping[str, int], tallied: Tallied) -> list[Size]:
    """Every segment of the dimension, as the rules list them; of a set, shares are of its largest."""
    whole = sum(counts.values()) if dimension.kind == "ladder" else max([0, *counts.values()])
    described = {each.name: each for each in dimension.segments}
    found = []
    for name, count in counts.items():
        known = described.get(name)
        if known is None and not count:
            continue
        entered, left = (tallied.get((dimension.name, name, what), 0) for what in (ENTERED, LEFT))
        owner, action, text = ("", "", "What decides is not known of these accounts.")
        if known is not None:
            owner, action, text = known.owner, known.action.get("do", ""), known.description
        found.append(Size(name, count, count / whole if whole else 0.0, entered, left, owner, action, text))
    return found


@dataclass(frozen=True, slots=True)
class Matrix:
    """Numbers by two segments: rows to columns. `share` of a cell is of the greatest."""

    rows: list[str]
    columns: list[str]
    cells: Mapping[tuple[str, str], int]

    def share(self, row: str, column: str) -> float:
        return self.cells.get((row, column), 0) / max([1, *self.cells.values()])

    def step(self, row: str, column: str) -> int:
        """0 to 4, for the shade of a cell."""
        return min(4, round(self.share(row, column) * 4 + 0.49))


def movements(dimension: Dimension, tallied: Tallied) -> Matrix:
    """From where to where accounts moved; "" is no segment."""
    cells = flows(dimension.name, tallied)
    met = {each for pair in cells for each in pair}
    names = [each.name for each in dimension.segments]
    order = [*names, *sorted(met - {*names, ""}), *([""] if "" in met else [])]
    shown = [each for each in order if each in met] or names
    return Matrix(shown, shown, cells)


def accounts_in(ruleset: Ruleset, counts: Mapping[str, Mapping[str, int]]) -> int:
    """How many accounts there are: an account is on one rung of a ladder at most, and may be in many sets."""
    sizes = [sum(counts.get(each.name, {}).values()) for each in ruleset.dimensions if each.kind == "ladder"]
    return max(sizes, default=0)


def volatility(dimension: str, tallied: Tallied, size: int) -> float | None:
    """Comings and goings for each of `size` accounts."""
    moved = sum(n for (name, _, what), n in tallied.items() if name == dimension and what in (ENTERED, LEFT))
    return moved / size if size else None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How it went with the accounts of a segment."""

    segment: str
    counts: dict[str, int]
    rates: dict[str, tuple[int, int]]  # of how many, how many
    revenue: float


def outcomes(dimension: str, segments: Iterable[str], tallied: Tallied) -> tuple[list[str], list[Outcomes]]:
    """The outcomes that there were, and each segment's; empty when there were none."""
    of = {segment: {what: tallied.get((dimension, segment, what), 0) for what in OUTCOMES} for segment in segments}
    shown = [what for what in OUTCOMES if any(counts[what] for counts in of.values())]
    told = [
        Outcomes(
            segment,
            counts,
            {rate: (counts[what], sum(counts[each] for each in base)) for rate, what, base in RATES},
            tallied.get((dimension, segment, REVENUE), 0) / 100,
        )
        for segment, counts in of.items()
        if any(counts.values())
    ]
    return shown, told


@dataclass(frozen=True, slots=True)
class Day:
    day: str
    entered: int
    left: int


def days(dimension: str, segments: Sequence[str], by_day: Mapping[int, Tallied]) -> list[tuple[str, list[Day]]]:
    """Of each segment, the comings and goings by day."""
    return [
        (
            segment,
            [
                Day(iso(day * DAY)[:10], *(counts.get((dimension, segment, what), 0) for what in (ENTERED, LEFT)))
                for day, counts in sorted(by_day.items())
            ],
        )
        for segment in segments
    ]


def added(by_day: Mapping[int, Tallied]) -> Tallied:
    total: Counter[tuple[str, str, str]] = Counter()
    for counts in by_day.values():
        total.update(counts)
    return total


def series(samples: Sequence[tuple[int, Mapping[str, float]]], segments: Sequence[str]) -> dict[str, Any]:
    """Sizes over time, or other numbers by name, for a chart."""
    return {
        "at": [at / 1000 for at, _ in samples],
        "series": [
            {"segment": each, "values": [counts.get(each, 0) for _, counts in samples]} for each in segments
        ],
    }


def definition(ruleset: Ruleset, dimension: str, segment: str) -> str:
    """The segment as its rule file says it, in YAML; "" for one that a fact's values make."""
    for document in _documents(ruleset):
        data = document.data
        if isinstance(data, dict) and data.get("dimension") == dimension:
            for each in data.get("segments") or ():
                if each.get("segment") == segment:
                    rule = {key: value for key, value in each.items() if key in RULE_KEYS}
                    return yaml.safe_dump(rule, sort_keys=False, allow_unicode=True, width=90) if rule else ""
            made = {key: data[key] for key in ("by_fact", "by_bands") if key in data}
            return yaml.safe_dump(made, sort_keys=False, allow_unicode=True) if made else ""
    return ""


RULE_KEYS = ("when", "otherwise", "for", "stay", "keep_for")


def _documents(ruleset: Ruleset) -> Iterator[yamlfile.Document]:
    for file, text in ruleset.files.items():
        yield from yamlfile.read(file, text)


HARMFUL = ("=", "+", "-", "@", "\t", "\r")


def csv_cell(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(HARMFUL) and not isinstance(value, int | float) else text
