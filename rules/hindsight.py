"""What two rulesets would have told of the same past, and how often what was told was followed by what it was for.

An alert here is a move into a segment of which somebody is told; its account got an outcome (a meeting, a deal
won) or did not, within a time. Of alerts whose time is not over and to which nothing came yet, nobody can say.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rules.changes import iso
from rules.planning import Place, moves
from rules.records import Activity, Merge, Record
from rules.ruleset import Ruleset
from rules.work import Cause, Change

GOOD = ("meeting", "opportunity", "won")  # outcomes for which sales is told
EXAMPLES = 20
_NOT_NEWS = (Cause.RULES, Cause.REBUILD)  # of the switch and of an epoch: no account did anything


@dataclass(frozen=True, slots=True)
class Question:
    """Alerts are moves into `places` from `since` on, and good if an outcome follows within `within` ms."""

    places: frozenset[Place]
    since: int
    until: int
    within: int
    outcomes: tuple[str, ...] = GOOD

    def covers(self, instant: int) -> bool:
        return self.since <= instant <= self.until


@dataclass(slots=True)
class Telling:
    """What one ruleset told."""

    changes: Counter[str] = field(default_factory=Counter)  # by dimension
    alerts: list[tuple[str, int]] = field(default_factory=list)  # (account, instant)

    def hears(self, change: Change, asked: Question) -> None:
        """A change that subscribers would have had as news."""
        if change.origin != "live" or change.cause in _NOT_NEWS or not asked.covers(change.effective):
            return
        entered = set()
        for dimension, was, goes in moves(change):
            self.changes[dimension] += 1
            if was != goes:
                entered.add((dimension, goes))
        if not asked.places.isdisjoint(entered):
            self.alerts.append((change.account, change.effective))


@dataclass(slots=True)
class Truth:
    """What came of accounts, as the log says it: when each had an outcome, and which are one by now."""

    outcomes: dict[str, list[int]] = field(default_factory=dict)
    became: dict[str, str] = field(default_factory=dict)

    def hears(self, record: Record, rulesets: Iterable[Ruleset], asked: Question, log_time: int) -> None:
        if isinstance(record, Merge):
            self.became[record.account] = record.into
        elif isinstance(record, Activity) and any(_is_good(record, each, asked) for each in rulesets):
            self.outcomes.setdefault(record.account, []).append(min(record.at, log_time))

    def settle(self) -> None:
        """All is known: what came to an account that became another one came to that one too."""
        joined: dict[str, list[int]] = {}
        for account, instants in self.outcomes.items():
            joined.setdefault(self.survivor(account), []).extend(instants)
        self.outcomes = {account: sorted(set(instants)) for account, instants in joined.items()}

    def survivor(self, account: str) -> str:
        seen = {account}
        while (into := self.became.get(account)) is not None and into not in seen:
            seen.add(account := into)
        return account

    def follows(self, account: str, at: int, within: int) -> bool:
        """Whether an outcome came after `at`, and within that time."""
        instants = self.outcomes.get(self.survivor(account), [])
        place = bisect.bisect_right(instants, at)
        return place < len(instants) and instants[place] <= at + within


def _is_good(activity: Activity, ruleset: Ruleset, asked: Question) -> bool:
    return any(
        outcome.name in asked.outcomes and (matches is None or matches(activity))
        for matches, outcome in ruleset.outcomes.get(activity.name, ())
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """How alerts turned out. `judged` are those whose time was over when the log ended: of others only the good
    ones would be known."""

    alerts: int
    good: int
    too_early: int
    judged: int
    judged_good: int
    accounts: int
    outcomes: int  # that came in the time asked about
    announced: int  # of these, how many an alert had come before

    @classmethod
    def of(cls, telling: Telling, truth: Truth, asked: Question) -> Kept:
        followed = [truth.follows(account, at, asked.within) for account, at in telling.alerts]
        is_over = [at + asked.within <= asked.until for _, at in telling.alerts]
        too_early = sum(not good and not over for good, over in zip(followed, is_over, strict=True))
        judged = [good for good, over in zip(followed, is_over, strict=True) if over]
        by_account: dict[str, list[int]] = {}
        for account, at in telling.alerts:
            by_account.setdefault(truth.survivor(account), []).append(at)
        in_time = [(a, at) for a, each in truth.outcomes.items() for at in each if asked.covers(at)]
        announced = sum(
            any(at - asked.within <= told < at for told in by_account.get(account, ())) for account, at in in_time
        )
        alerts, good, right = len(telling.alerts), sum(followed), sum(judged)
        return cls(alerts, good, too_early, len(judged), right, len(by_account), len(in_time), announced)

    def plain(self, parts: int) -> dict[str, Any]:
        return {
            "alerts": self.alerts * parts,
            "accounts": self.accounts * parts,
            "followed_by_outcome": self.good * parts,
            "too_early_to_tell": self.too_early * parts,
            "judged": self.judged * parts,
            "precision": round(self.judged_good / self.judged, 4) if self.judged else None,
            "outcomes": self.outcomes * parts,
            "outcomes_announced": self.announced * parts,
            "coverage": round(self.announced / self.outcomes, 4) if self.outcomes else None,
        }


@dataclass(frozen=True, slots=True)
class Hindsight:
    """Both tellings of a past, and what was true. `parts`: one account in so many was looked at."""

    old: Ruleset
    new: Ruleset
    asked: Question
    was: Telling
    would_be: Telling
    truth: Truth
    parts: int = 1
    positions: Mapping[int, int] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        return self.was.changes != self.would_be.changes or set(self.was.alerts) != set(self.would_be.alerts)

    def plain(self) -> dict[str, Any]:
        names = dict.fromkeys(each.name for ruleset in (self.old, self.new) for each in ruleset.dimensions)
        was, will = (
            {self.truth.survivor(account) for account, _ in each.alerts} for each in (self.was, self.would_be)
        )
        return {
            "ruleset": {"from": self.old.hash, "to": self.new.hash},
            "since": iso(self.asked.since),
            "until": iso(self.asked.until),
            "within_days": round(self.asked.within / 86_400_000, 3),
            "differs": self.differs,
            "one_in": self.parts,
            "changes": {
                name: {"from": self.was.changes[name] * self.parts, "to": self.would_be.changes[name] * self.parts}
                for name in names
            },
            "alerts": {
                "places": sorted("/".join(place) for place in self.asked.places),
                "outcomes": list(self.asked.outcomes),
                "from": Kept.of(self.was, self.truth, self.asked).plain(self.parts),
                "to": Kept.of(self.would_be, self.truth, self.asked).plain(self.parts),
                "accounts": {
                    "both": len(was & will) * self.parts,
                    "only_from": _some(was - will, self.parts),
                    "only_to": _some(will - was, self.parts),
                },
            },
        }


def _some(accounts: Collection[str], parts: int) -> dict[str, Any]:
    return {"count": len(accounts) * parts, "examples": sorted(accounts)[:EXAMPLES]}
