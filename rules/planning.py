"""What would move if other rules came into force now: told from states alone, and nothing is changed.

A partition switches at a record: what time owes by then is decided by the rules that go, and every account is
asked again as of that instant. `look` does just this to one account with the engine's own functions, and throws
away the state; so what it finds are the changes that a deployment at this place of the log would tell.

A `Survey` counts what `look` finds, account by account; surveys of parts add up to the survey of the whole.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, TypeAlias

from rules import yamlfile
from rules.changes import instant_or_none
from rules.conditions import Told
from rules.engine import let_time_pass
from rules.errors import Problem, did_you_mean
from rules.fold import Partition, released
from rules.reasons import display_name, explain
from rules.records import is_visitor
from rules.ruleset import Dimension, InForce, Ruleset, Segment
from rules.state import UNCLASSIFIED, AccountState, Answer, Standing, standing_in
from rules.work import Cause, Change, Kind

NOWHERE = ""  # from here an account comes that was in no segment, or to here it goes
CAUSES_ASKED = 200  # accounts of a survey that are asked which conditions make a segment undecided
CAUSES_KEPT = 3
FAILURES_KEPT = 5
TINY = 1_000  # a segment that has less than one account in so many is worth a second look
RANKED_BY = ("value", "arr", "employees")  # by which accounts are ranked, where the rules know it

Place: TypeAlias = tuple[str, str]  # (dimension, segment)


# -- one account --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edit:
    """Two rulesets; `written` are the dimensions of the new one that are new or written otherwise.

    `quick` is the new one with most dimensions giving the answer they gave: those that were not edited, refer to
    none that was, and that no edited one refers to. What was decided holds until its wake, so `quick` tells the
    same changes, of accounts that the old ruleset has evaluated.
    """

    old: Ruleset
    new: Ruleset
    written: frozenset[str]
    quick: Ruleset

    @classmethod
    def of(cls, old: Ruleset, new: Ruleset) -> Edit:
        (was, names_were), (now, names_are) = _documents(old.files), _documents(new.files)
        written = frozenset(name for name, said in now.items() if was.get(name) != said)
        if names_were != names_are:  # every answer may follow from a name or a word
            return cls(old, new, written, new)
        edited = {i for i, each in enumerate(new.dimensions) if each.name in written}
        moving = [each for each in new.dimensions if edited.intersection(each.behind)]
        asked = {new.dimensions[i].name for each in moving for i in each.behind}
        still = (each if each.name in asked else replace(each, settle=_as_before) for each in new.dimensions)
        return cls(old, new, written, replace(new, dimensions=tuple(still)))


def _documents(files: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    dimensions: dict[str, Any] = {}
    others: list[str] = []
    for file, text in sorted(files.items()):
        for document in yamlfile.read(file, text):
            if isinstance(document.data, dict) and "dimension" in document.data:
                dimensions[document.data["dimension"]] = document.data
            else:
                others.append(repr(document.data))
    return dimensions, sorted(others)


def _as_before(state: AccountState, now: int, before: Standing) -> Standing:
    return before


@dataclass(frozen=True, slots=True)
class Switch:
    """A partition before other rules come into force at its next record, and after; `at` is its log_time."""

    edit: Edit
    before: InForce
    after: InForce
    quick: InForce
    at: int

    @classmethod
    def of(cls, partition: Partition, edit: Edit) -> Switch:
        before, at = partition.in_force(edit.old), partition.log_time
        after, quick = (before.switch(each, partition.offset, at) for each in (edit.new, edit.quick))
        return cls(edit, before, after, quick, at)


@dataclass(frozen=True, slots=True)
class Look:
    """An account as it is just before the switch and just after, and the changes that the switch tells."""

    account: str
    before: AccountState
    after: AccountState
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Raised:
    """The rules raise on this account: it would go into quarantine."""

    account: str
    what: str


def look(account: str, state: AccountState, switch: Switch) -> Look | Raised | None:
    """What the switch does to an account; None for a visitor, and for one that was merged or deleted."""
    if state.merged_into or state.deleted or is_visitor(account):
        return None
    before = state
    if state.wake <= switch.at:
        before = let_time_pass(account, state, switch.at, switch.at, switch.before).state or state
    is_settled = before.ruleset == switch.before.ruleset.hash and before.quarantined < 0
    rules = switch.quick if is_settled else switch.after
    try:
        done = let_time_pass(account, released(before), switch.at, switch.at, rules)
    except Exception as error:  # whatever the fold would put it in quarantine for
        return Raised(account, f"{type(error).__name__}: {error}")
    if done.state is None:
        return None
    return Look(account, before, done.state, tuple(each for each in done.changes if each.cause is Cause.RULES))


def moves(change: Change) -> Iterator[tuple[str, str, str]]:
    """(dimension, from, to) of a change: of a ladder one, of a set one for each segment entered or left."""
    match change.kind:
        case Kind.STATE:
            for name, standing in change.memberships.items():
                yield from ((name, NOWHERE, segment) for segment in standing.answer)
        case Kind.ENTERED:
            yield change.dimension, NOWHERE, change.segment
        case Kind.LEFT:
            yield change.dimension, change.segment, NOWHERE
        case Kind.MOVED if len(change.before) > 1:  # a set that is no more, or is a ladder by now
            yield from ((change.dimension, segment, NOWHERE) for segment in change.before)
            yield from ((change.dimension, NOWHERE, segment) for segment in change.after)
        case _:
            yield change.dimension, _one(change.before), _one(change.after)


def _one(answer: Answer) -> str:
    return answer[0] if answer else NOWHERE


# -- what is asked, and who matters -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Importance:
    """By what accounts are ranked: rungs of ladders, the first being the highest, or numbers."""

    names: tuple[str, ...]
    rungs: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, ruleset: Ruleset, by: str = "") -> Importance | Problem:
        """By `by`, a ladder or a fact; else by what the ruleset has of RANKED_BY."""
        rungs = {
            each.name: {segment.name: i for i, segment in enumerate(each.segments)}
            for each in ruleset.dimensions
            if each.kind == "ladder"
        }
        known = {*rungs, *ruleset.views}
        if by and by not in known:
            return Problem("--by", 0, f"there is no ladder and no fact '{by}'", did_you_mean(by, known))
        names = (by,) if by else tuple(name for name in RANKED_BY if name in known)
        return cls(names, {name: rungs[name] for name in names if name in rungs})

    def rank(self, state: AccountState, ruleset: Ruleset) -> tuple[float, ...]:
        """Lower is more important. The answer is the one it had before the switch."""
        return tuple(self._rank(name, state, ruleset) for name in self.names)

    def _rank(self, name: str, state: AccountState, ruleset: Ruleset) -> float:
        if name in self.rungs:
            rungs = self.rungs[name]
            return rungs.get(_one(standing_in(state, name).answer), len(rungs))
        view = ruleset.views.get(name)
        value = view.value(state.facts) if view is not None else None
        return -value if isinstance(value, int | float) and not isinstance(value, bool) else float("inf")

    def __str__(self) -> str:
        return ", then ".join(map(self._said, self.names)) or "how many segments they change"

    def _said(self, name: str) -> str:
        return f"{name} ({next(iter(self.rungs[name]))} first)" if name in self.rungs else name


@dataclass(frozen=True, slots=True)
class Alert:
    """Somebody is told of an account that comes into one of the places, if it stands as `only_if` asks."""

    name: str
    when: frozenset[Place]
    only_if: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def is_due(self, entered: Collection[Place], state: AccountState) -> bool:
        return not self.when.isdisjoint(entered) and all(
            segments.intersection(standing_in(state, name).answer) for name, segments in self.only_if.items()
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """What a survey is asked besides counting."""

    importance: Importance
    top: int = 10  # accounts shown with both reasons
    alerts: tuple[Alert, ...] = ()


# -- many accounts ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Example:
    """An account that matters and moves; `rank` first, so that examples are in order."""

    rank: tuple[float, ...]
    account: str
    name: str = field(compare=False)
    moves: tuple[dict[str, Any], ...] = field(compare=False)

    @property
    def place(self) -> tuple[tuple[float, ...], str]:
        return self.rank, self.account

    def plain(self) -> dict[str, Any]:
        return {"account": self.account, "name": self.name, "moves": list(self.moves)}


@dataclass(slots=True)
class Survey:
    """What would become of the accounts looked at."""

    accounts: int = 0
    moving: int = 0
    first: int = 0  # evaluated for the first time
    events: Counter[str] = field(default_factory=Counter)  # messages on segment.changes, by type
    told: Counter[str] = field(default_factory=Counter)  # by dimension; a first state counts for none
    before: Counter[Place] = field(default_factory=Counter)
    after: Counter[Place] = field(default_factory=Counter)
    moves: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    alerts: Counter[str] = field(default_factory=Counter)  # by rule
    undecided: Counter[Place] = field(default_factory=Counter)
    causes: dict[Place, Counter[str]] = field(default_factory=dict)
    asked: Counter[Place] = field(default_factory=Counter)  # accounts that were asked for causes
    failed: Counter[str] = field(default_factory=Counter)
    failing: list[str] = field(default_factory=list)
    top: list[Example] = field(default_factory=list)

    def add(self, found: Look | Raised | None, switch: Switch, asked: Asked) -> None:
        match found:
            case Raised():
                self.accounts += 1
                self.failed[found.what] += 1
                self.failing = [*self.failing, found.account][:FAILURES_KEPT]
            case Look():
                self.accounts += 1
                self._count(found, asked)
                self._ask(found, switch)
                if found.changes:
                    self._keep(found, switch, asked)

    def merge(self, other: Survey, top: int) -> None:
        """Takes in the survey of other accounts."""
        for name in ("accounts", "moving", "first"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("events", "told", "before", "after", "moves", "alerts", "undecided", "asked", "failed"):
            getattr(self, name).update(getattr(other, name))
        for place, causes in other.causes.items():
            self.causes.setdefault(place, Counter()).update(causes)
        self.failing = [*self.failing, *other.failing][:FAILURES_KEPT]
        self.top = heapq.nsmallest(top, [*self.top, *other.top])

    def _count(self, found: Look, asked: Asked) -> None:
        for counts, state in ((self.before, found.before), (self.after, found.after)):
            for name, standing in state.standings.items():
                for segment in standing.answer:
                    counts[name, segment] += 1
        if not found.changes:
            return
        self.moving += 1
        entered: set[Place] = set()
        for change in found.changes:
            self.events[change.kind] += 1
            self.first += change.kind is Kind.STATE
            self.told[change.dimension] += change.kind is not Kind.STATE
            for move in moves(change):
                self.moves[move] += 1
                entered.add((move[0], move[2]))
        self.alerts.update(each.name for each in asked.alerts if each.is_due(entered, found.after))

    def _ask(self, found: Look, switch: Switch) -> None:
        """Of each segment of a dimension that is new or edited, whether it is known if the account is in it."""
        if not found.after.ruleset:
            return
        for dimension in switch.after.ruleset.dimensions:
            if dimension.name not in switch.edit.written:
                continue
            for segment in dimension.segments:
                if segment.is_unknown(found.after, switch.at):
                    self._undecided((dimension.name, segment.name), segment, found.after, switch.at)

    def _undecided(self, place: Place, segment: Segment, state: AccountState, now: int) -> None:
        self.undecided[place] += 1
        if self.asked[place] < CAUSES_ASKED:
            self.asked[place] += 1
            self.causes.setdefault(place, Counter()).update({*_unknown(segment.condition.tell(state, now))})

    def _keep(self, found: Look, switch: Switch, asked: Asked) -> None:
        rank = (*asked.importance.rank(found.before, switch.after.ruleset), -len(found.changes))
        if len(self.top) < asked.top or (self.top and (rank, found.account) < self.top[-1].place):
            told = tuple(side_by_side(found, switch))
            example = Example(rank, found.account, display_name(found.after), told)
            self.top = heapq.nsmallest(asked.top, [*self.top, example])


def side_by_side(found: Look, switch: Switch) -> Iterator[dict[str, Any]]:
    """Each move of the account: why it is where it is, and why it would go. Of a set, about the one segment."""
    ruleset = switch.after.ruleset
    for name, was, goes in chain.from_iterable(map(moves, found.changes)):
        old, new = switch.before.ruleset.dimension(name), ruleset.dimension(name)
        of_set = any(each is not None and each.kind == "set" for each in (old, new))
        yield {
            "dimension": name,
            "from": was or None,
            "to": goes or None,
            "because": _why(old, found.before, switch.at, was or (goes if of_set else "")),
            "will_be_because": _why(new, found.after, switch.at, goes or (was if of_set else "")),
            "stays_until": instant_or_none(ruleset.stays_until(new, found.after)) if new is not None else None,
        }


def _why(dimension: Dimension | None, state: AccountState, now: int, segment: str) -> str:
    if dimension is None:
        return "there is no such dimension"
    if not state.ruleset:
        return "it was not evaluated yet"
    if state.quarantined >= 0:
        return "it is in quarantine"
    text: str = explain(dimension, state, (), segment, now)["text"]
    return text


def _unknown(told: Told) -> Iterator[str]:
    """The leaves of a tree that nobody can decide."""
    parts = told.get("parts")
    if not parts and told["verdict"] == "unknown":
        yield told["says"]
    for part in parts or ():
        yield from _unknown(part)


# -- what it comes to ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """One account in `parts` was looked at, chosen by `seed`: counts are multiplied."""

    parts: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a deployment would do. `olds`: the rulesets in force, one unless a deployment is under way."""

    olds: Sequence[Ruleset]
    edit: Edit
    survey: Survey
    asked: Asked
    sample: Sample
    positions: Mapping[int, tuple[int, int]]  # partition -> (offset, log_time) when it was last read
    fresh: Mapping[str, Sequence[str]] = field(default_factory=dict)  # new measure -> segments that ask for it

    @property
    def new(self) -> Ruleset:
        return self.edit.new

    @property
    def moves_anybody(self) -> bool:
        return bool(self.survey.moving)

    def dimensions(self) -> Iterator[tuple[str, str]]:
        """Each dimension, and whether it is `new`, `gone`, `edited` or the `same`."""
        for each in self.new.dimensions:
            was = self.edit.old.dimension(each.name)
            yield each.name, "new" if was is None else "edited" if each.name in self.edit.written else "same"
        for each in self.edit.old.dimensions:
            if self.new.dimension(each.name) is None:
                yield each.name, "gone"

    def segments(self, dimension: str) -> list[str]:
        """In the order of the ladder, those that are no more last."""
        both = [each.dimension(dimension) for each in (self.new, *self.olds)]
        listed = chain.from_iterable(each.segments for each in both if each is not None)
        counted = [segment for name, segment in chain(self.survey.before, self.survey.after) if name == dimension]
        names = dict.fromkeys([*(each.name for each in listed), UNCLASSIFIED])
        return [name for name in names if name != UNCLASSIFIED or name in counted]

    def matrix(self, dimension: str) -> dict[str, dict[str, int]]:
        """from → to → how many; those who stay are not in it. NOWHERE: no segment."""
        found: dict[str, dict[str, int]] = {}
        for (name, was, goes), count in sorted(self.survey.moves.items()):
            if name == dimension:
                found.setdefault(was, {})[goes] = self.scaled(count)
        return found

    def empty(self) -> list[Place]:
        """Segments that nobody would be in."""
        return [place for place in self._places() if not self.survey.after[place]]

    def tiny(self) -> list[Place]:
        """Segments with less than one account in TINY, but not without any."""
        return [place for place in self._places() if 0 < self.survey.after[place] * TINY < self.survey.accounts]

    def _places(self) -> Iterator[Place]:
        return ((each.name, segment.name) for each in self.new.dimensions for segment in each.segments)

    def scaled(self, count: int) -> int:
        return count * self.sample.parts

    def plain(self) -> dict[str, Any]:
        """As `isotherm plan --json` prints it."""
        survey = self.survey
        return {
            "ruleset": {"from": [each.hash for each in self.olds], "to": self.new.hash},
            "accounts": self.scaled(survey.accounts),
            "moving": self.scaled(survey.moving),
            "first_evaluated": self.scaled(survey.first),
            "sample": {"looked_at": survey.accounts, "one_in": self.sample.parts, "seed": self.sample.seed},
            "dimensions": {name: self._dimension(name, status) for name, status in self.dimensions()},
            "volume": {
                "changes": self.scaled(survey.events.total()),
                "by_type": self._scaled(survey.events),
                "by_dimension": self._scaled(+survey.told),
                "alerts": self._scaled(survey.alerts),
            },
            "segments": {"empty": _spelled(self.empty()), "tiny": _spelled(self.tiny())},
            "undecided": {
                "/".join(place): {"accounts": self.scaled(count), "because": _most(survey.causes.get(place))}
                for place, count in survey.undecided.most_common()
            },
            "new_measures": {measure: list(segments) for measure, segments in self.fresh.items()},
            "would_raise": {"accounts": self._scaled(survey.failed), "examples": survey.failing},
            "ranked_by": str(self.asked.importance),
            "top": [each.plain() for each in survey.top],
            "positions": {
                str(number): {"offset": offset, "log_time": instant_or_none(log_time)}
                for number, (offset, log_time) in sorted(self.positions.items())
            },
        }

    def _dimension(self, name: str, status: str) -> dict[str, Any]:
        survey = self.survey
        return {
            "status": status,
            "moved": sum(sum(to.values()) for to in self.matrix(name).values()),
            "matrix": self.matrix(name),
            "before": {each: self.scaled(survey.before[name, each]) for each in self.segments(name)},
            "after": {each: self.scaled(survey.after[name, each]) for each in self.segments(name)},
        }

    def _scaled(self, counts: Mapping[str, int]) -> dict[str, int]:
        return {str(name): self.scaled(count) for name, count in sorted(counts.items())}


def lacking(before: InForce, new: Ruleset) -> dict[str, list[str]]:
    """Measures that are kept, or hold as much as the new rules ask for, from the switch on only; and the segments
    that ask for each."""
    found: dict[str, list[str]] = {}
    for measure, kept in new.measures.items():
        was = before.ruleset.measures.get(measure)
        if measure not in before.introduced or (was is not None and kept.is_more_than(was)):
            found[measure] = [
                f"{dimension.name}/{segment.name}"
                for dimension in new.dimensions
                for segment in dimension.segments
                if measure in _reads(segment)
            ]
    return found


def _reads(segment: Segment) -> frozenset[str]:
    return segment.condition.reads | (segment.stay.reads if segment.stay is not None else frozenset())


def _spelled(places: Iterable[Place]) -> list[str]:
    return ["/".join(place) for place in places]


def _most(causes: Counter[str] | None) -> list[str]:
    return [says for says, _ in causes.most_common(CAUSES_KEPT)] if causes else []
