"""What the page of an account shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rules import measures
from rules.advising import Advice
from rules.changes import iso
from rules.ruleset import Ruleset
from rules.scores import Score, scores_of
from rules.state import AccountState
from streams.page.views.now import LADDER, News
from streams.page.wording import milliseconds

POINTS = 120  # of a curve
HOUR_MS, WEEK_MS, BACK_MS = 3_600_000, 7 * 86_400_000, 30 * 86_400_000
Told = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """A dimension: where the account is, and why. `reasons` by segment; a ladder has one."""

    name: str
    question: str
    segment: str | list[str] | None
    since: str | None
    until: str | None
    reasons: list[tuple[str, Told]]
    overrides: list[Told]
    owner: str
    action: Told
    undecided: list[str]


def answers(told: Told, ruleset: Ruleset) -> tuple[list[Answered], list[Answered]]:
    """The dimensions in which the account is somewhere, the most asked about first; and all others."""
    found = [_answered(name, each, ruleset) for name, each in told["dimensions"].items()]
    found.sort(key=lambda each: each.name != LADDER)
    placed = [each for each in found if each.segment and each.segment != "unclassified"]
    return placed, [each for each in found if each not in placed]


def _answered(name: str, told: Told, ruleset: Ruleset) -> Answered:
    dimension, reason = ruleset.dimension(name), told["reason"]
    by_segment = {"": reason} if "because" in reason else reason
    return Answered(
        name,
        dimension.description if dimension is not None else "",
        told["segment"],
        told["since"],
        told["stays_until"],
        [(segment, each["because"]) for segment, each in by_segment.items()],
        list(told.get("overrides", ())),
        told.get("owner", ""),
        told.get("action", {}),
        [each for reason in by_segment.values() for each in reason.get("unknown", ())],
    )


@dataclass(frozen=True, slots=True)
class Crossing:
    """A rule that asks for the score: where, how much it needs, and when that is over."""

    segment: str
    needs: float
    until: str | None


@dataclass(frozen=True, slots=True)
class Curve:
    """A score from its newest contribution on: seconds (UTC) and values, as it will decay if nothing happens."""

    name: str
    label: str
    value: float
    at: list[float]
    values: list[float]
    crossings: list[Crossing]

    def plain(self, now: int) -> dict[str, Any]:
        return {
            "label": self.label, "now": now / 1000, "at": self.at, "values": self.values,
            "crossings": [{"needs": each.needs, "segment": each.segment} for each in self.crossings],
        }  # fmt: skip


def curves(told: Told, state: AccountState, ruleset: Ruleset, now: int) -> list[Curve]:
    """The scores that are not nothing, those first that decide something now."""
    found = []
    for name, score in scores_of(ruleset).items():
        value = score.value(state, now)
        if value >= 0.01:
            crossings = list(_crossings(told, score.label))
            at, values = _points(score, state, now, crossings)
            found.append(Curve(name, score.label, value, at, values, crossings))
    return sorted(found, key=lambda each: (not any(c.until for c in each.crossings), -each.value))


def _points(
    score: Score, state: AccountState, now: int, crossings: Iterable[Crossing]
) -> tuple[list[float], list[float]]:
    start = min(now, max([now - BACK_MS, *(_newest(state, id) for id in score.reads)]))
    falls = [milliseconds(each.until) - now for each in crossings if each.until]
    end = now + (max(HOUR_MS, *falls) * 5 // 4 if falls else WEEK_MS)
    step = max(1, (end - start) // POINTS)
    instants = sorted({*range(start, end, step), now, end})
    return [each / 1000 for each in instants], [score.value(state, each) for each in instants]


def _newest(state: AccountState, measure: str) -> int:
    """When the newest contribution happened; before it the score was another, which nobody has kept."""
    kept = state.measures.get(measure)
    return 0 if kept is None else measures.score_newest(kept)


def _crossings(told: Told, label: str) -> Iterator[Crossing]:
    seen: set[tuple[str, float]] = set()
    for name, dimension in told["dimensions"].items():
        reason = dimension["reason"]
        for each in [reason] if "because" in reason else reason.values():
            for leaf in leaves(each["because"]):
                if "half_life" not in leaf or not leaf["says"].startswith(f"{label} "):
                    continue
                where = dimension["segment"] if isinstance(dimension["segment"], str) else name
                if (name, leaf["at_least"]) not in seen:
                    seen.add((name, leaf["at_least"]))
                    yield Crossing(f"{name}/{where}", leaf["at_least"], leaf.get("until"))


def leaves(told: Told) -> Iterator[Told]:
    """The conditions of a tree that have no parts."""
    if parts := told.get("parts"):
        for part in parts:
            yield from leaves(part)
    else:
        yield told


@dataclass(frozen=True, slots=True)
class Advised:
    """What would move the account up, in words. `until`: the last moment at which that is enough."""

    says: str
    dimension: str
    segment: str
    before: bool
    until: str | None


def advised(advice: Iterable[Advice]) -> list[Advised]:
    """The ladder that the page is about before others."""
    found = [
        Advised(each.says, each.dimension, each.segment, each.before is not None, iso(each.before or 0))
        for each in advice
    ]
    return sorted(found, key=lambda each: each.dimension != LADDER)


def why_no_advice(state: AccountState, ruleset: Ruleset) -> str:
    """Where no advice says nothing about what would happen; "" where it does."""
    if state.deleted:
        return "A deleted account is in no segment, whatever happens."
    if state.quarantined >= 0:
        return "In quarantine no answer changes, so nothing can be said of what would move it."
    if state.ruleset != ruleset.hash:
        return "It has not been asked by the newest rules yet. This comes by itself."
    if state.overrides:
        return "Nothing of one kind would move it up a ladder; one that an override decides moves by no activity."
    return ""


# -- what happened ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Happened:
    """An entry of the timeline: an activity, or a change."""

    at: str
    what: str
    detail: str
    segment: str | None
    is_change: bool
    origin: str = ""


SHOWN_PROPS = ("path", "title", "stage", "amount", "campaign", "webinar", "plan", "seats", "need", "topic", "name")


def timeline(records: Iterable[Any], changes: Iterable[News], most: int) -> list[Happened]:
    """Activities and changes together, the newest first."""
    found = [_activity(each) for each in records]
    found += [Happened(each.at, each.said, each.why, each.segment, True) for each in changes]
    return sorted(found, key=lambda each: (each.at, each.is_change), reverse=True)[:most]


def _activity(record: Any) -> Happened:
    props = {name: record.props[name] for name in SHOWN_PROPS if record.props.get(name) not in (None, "")}
    detail = ", ".join(f"{name} {value}" if name != "path" else str(value) for name, value in props.items())
    name = record.name.replace("_", " ")
    return Happened(iso(record.at), name, detail[:200], None, False, record.source)
