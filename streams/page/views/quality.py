"""What the page Data quality shows."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rules.quality import FactQuality, Quality
from streams.page.views import segments

Trend = Sequence[
    tuple[int, tuple[int, Mapping[str, int]]]
]  # (instant, (accounts, fact -> of how many it is known))


@dataclass(frozen=True, slots=True)
class FactRow:
    """A fact: of how many accounts it is known, and how well. Shares are of all accounts, or of the known ones."""

    name: str
    known: int
    coverage: float
    trend: float | None  # how many points of coverage it won since the first survey of the trend
    unclassified: int
    missing: int
    stale: float
    conflicting: int
    nearly: int
    confidence: float | None

    @property
    def state(self) -> str:
        return "good" if self.coverage >= GOOD else "note" if self.coverage >= FAIR else "bad"


GOOD, FAIR = 0.9, 0.5


def fact_rows(quality: Quality, trend: Trend) -> list[FactRow]:
    """The worst covered last: that is the order in which a table is read for what can be relied upon."""
    rows = [_row(name, each, quality.accounts, trend) for name, each in quality.facts.items()]
    return sorted(rows, key=lambda each: (-each.coverage, each.name))


def _row(name: str, fact: FactQuality, accounts: int, trend: Trend) -> FactRow:
    coverage = fact.known / accounts if accounts else 0.0
    return FactRow(
        name,
        fact.known,
        coverage,
        _won(name, coverage, trend),
        fact.unclassified,
        fact.missing,
        fact.stale / fact.known if fact.known else 0.0,
        fact.conflicting,
        fact.nearly,
        fact.confidence / fact.nearly if fact.nearly else None,
    )


def _won(name: str, coverage: float, trend: Trend) -> float | None:
    if len(trend) < 2:
        return None
    _, (accounts, known) = trend[0]
    return coverage - (known.get(name, 0) / accounts) if accounts else None


@dataclass(frozen=True, slots=True)
class Gap:
    """What a missing fact costs: in how many placements, and in which dimensions."""

    fact: str
    placements: int
    where: tuple[tuple[str, int], ...]


def gaps(counted: Mapping[tuple[str, str], int], ladders: Container[str]) -> list[Gap]:
    """The dearest first: those for want of which accounts are on no rung. `ladders` before sets."""
    facts = dict.fromkeys(fact for fact, _ in counted)
    found = []
    for fact in facts:
        where = sorted(
            ((each, n) for (name, each), n in counted.items() if name == fact),
            key=lambda e: (e[0] not in ladders, -e[1], e[0]),
        )
        found.append(Gap(fact, sum(n for name, n in where if name in ladders), tuple(where)))
    return sorted(found, key=lambda each: (-each.placements, -sum(n for _, n in each.where), each.fact))


def series(trend: Trend, dearest: Sequence[Gap], most: int) -> dict[str, Any]:
    """Coverage over time in percent, for a chart: of the facts whose gaps cost most, then of the best known."""
    shares = [(at, {name: 100 * n / of for name, n in known.items()}) for at, (of, known) in trend if of]
    last = shares[-1][1] if shares else {}
    names = [*(each.fact for each in dearest), *sorted(last, key=lambda name: (-last[name], name))]
    return segments.series(shares, [each for each in dict.fromkeys(names) if each in last][:most])
