"""How good the data is that rules go by: for each declared fact, of how many accounts it is known, and how well.

Counted from account states as they stand; nothing here is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rules.facts import conflicting
from rules.ruleset import Ruleset
from rules.state import NEVER, UNCLASSIFIED, AccountState


@dataclass(slots=True)
class FactQuality:
    """Accounts by what is known of one fact. Stale and conflicting ones are known too."""

    known: int = 0
    unclassified: int = 0  # a value is there, and its vocabulary has no term for it
    missing: int = 0
    stale: int = 0  # older than the fact's refresh interval
    conflicting: int = 0  # sources of different rank disagree
    nearly: int = 0  # read by likeness
    confidence: float = 0.0  # the sum of those likenesses

    def plain(self) -> dict[str, Any]:
        told = {"known": self.known, "unclassified": self.unclassified, "missing": self.missing}
        told |= {"stale": self.stale, "conflicting": self.conflicting, "matched_by_likeness": self.nearly}
        of = self.known + self.unclassified + self.missing
        shares = {"share_known": _share(self.known, of), "share_stale": _share(self.stale, self.known)}
        mean = round(self.confidence / self.nearly, 3) if self.nearly else None
        return {**told, **shares, "mean_confidence": mean}


@dataclass(slots=True)
class Quality:
    """The survey of many accounts."""

    accounts: int = 0
    facts: dict[str, FactQuality] = field(default_factory=dict)
    unclassified: dict[str, int] = field(default_factory=dict)  # by dimension: accounts that could not be placed
    read_again: dict[str, int] = field(default_factory=dict)  # by source that could not say what changed: accounts

    def survey(self, state: AccountState, ruleset: Ruleset, now: int) -> None:
        """Counts one more account as of `now`. Deleted accounts do not count."""
        if state.deleted:
            return
        self.accounts += 1
        for name in ruleset.facts:
            self._fact(self.facts.setdefault(name, FactQuality()), name, state, ruleset, now)
        for source in state.stale:
            self.read_again[source] = self.read_again.get(source, 0) + 1
        for name, standing in state.standings.items():
            if standing.answer == (UNCLASSIFIED,):
                self.unclassified[name] = self.unclassified.get(name, 0) + 1

    def _fact(self, quality: FactQuality, name: str, state: AccountState, ruleset: Ruleset, now: int) -> None:
        view, rule = ruleset.views[name], ruleset.facts[name]
        behind = view.behind(state.facts)
        if behind is None or behind[1].value is None:
            quality.missing += 1
            return
        fact = behind[1]
        if view.value(state.facts) is None:
            quality.unclassified += 1
        else:
            quality.known += 1
            quality.stale += rule.refresh < NEVER and now - fact.at > rule.refresh
        quality.conflicting += conflicting(fact, rule)
        if fact.match is not None:
            quality.nearly += 1
            quality.confidence += fact.match[1]

    def plain(self) -> dict[str, Any]:
        return {
            "accounts": self.accounts,
            "facts": {name: self.facts[name].plain() for name in sorted(self.facts)},
            "unclassified": dict(sorted(self.unclassified.items())),
            "read_again": dict(sorted(self.read_again.items())),
        }


def _share(part: int, of: int) -> float | None:
    return round(part / of, 4) if of else None
