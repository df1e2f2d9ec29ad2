"""Measures as rules need them: what feeds each, how it grows, and how much of it is kept.

A measure is known by what it folds (`identity`), not by who asks: thresholds and windows are left out, so editing
them keeps what was counted. It is made as large as the most demanding condition asks.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from rules import comparing, measures
from rules.conditions import Decide
from rules.facts import coerce
from rules.filling import Filled
from rules.names import Filters
from rules.records import Activity
from rules.ruleset import Feed, Join, Kept, Matches
from rules.state import NEVER

# (the measure, at, activity, log_time) -> the measure with one more activity
Add: TypeAlias = Callable[[bytes, int, Activity, int], bytes]
# (entries kept at most, ms kept at most) -> how it grows
Grow: TypeAlias = Callable[[int, int], Add]
Fed: TypeAlias = tuple[str, Matches | None, Grow]  # the activity that feeds, which of them, and how
# (entries kept at most, ms kept at most) -> how two of them become one
Joining: TypeAlias = Callable[[int, int], Join]
# (mine, what happened before a switch, how) -> both
Fill: TypeAlias = Callable[[bytes, bytes, Filled], bytes]
Since: TypeAlias = Callable[[bytes, int, int], bytes]


@dataclass(frozen=True, slots=True)
class Kind:
    """How two measures of a kind become one, how one gets its past, and what of it is new since a log offset
    (None: it cannot tell)."""

    join: Joining
    fill: Callable[[int, int], Fill]
    since: Since | None = measures.since


@dataclass(slots=True)
class Measure:
    """A measure that some condition needs, made as large as the most demanding of them asks."""

    empty: Callable[[int], bytes]
    feeds: list[Fed]
    kind: Kind
    keep: int = 1
    longest: int = 0
    asked: list[Decide] = field(default_factory=list)
    shortest: int = NEVER  # the shortest window of all
    of_people: bool = False
    span: int = 0  # how much longer than any window an activity can matter: it may begin a sequence

    def widen(self, keep: int, longest: int) -> None:
        self.keep, self.longest = max(self.keep, keep), max(self.longest, longest)

    @property
    def renews(self) -> Callable[[bytes, Activity, int], bool] | None:
        shortest = self.shortest
        if not self.of_people:
            return None
        return lambda ring, activity, log_time: (
            activity.person is not None and measures.is_in_already(ring, activity.person, log_time - shortest)
        )

    def kept(self) -> Kept:
        renamed = measures.person_renamed if self.of_people else None
        size, kind = (self.keep, self.longest), self.kind
        return Kept(self.empty, kind.join(*size), kind.fill(*size), kind.since, size, renamed)

    def feeds_with(self, id: str, readers: Mapping[str, tuple[int, ...]]) -> list[tuple[str, Feed]]:
        """Each activity that feeds it, and how."""
        longest, asked, dimensions = self.longest + self.span, tuple(self.asked), readers.get(id, ())
        return [
            (
                activity,
                Feed(
                    id,
                    matches,
                    grow(self.keep, self.longest),
                    self.empty(0),
                    longest,
                    dimensions,
                    asked,
                    self.renews,
                ),
            )
            for activity, matches, grow in self.feeds
        ]


def plain(filters: Filters) -> list[Any]:
    """The filters as data, the same in whatever order they were written."""
    data = [[prop, asked.fold, sorted(map(list, asked.given().items()))] for prop, asked in filters]
    return sorted(data, key=json.dumps)  # operands of several types have no order of their own


def identity(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    digest = hashlib.blake2b(text.encode(), digest_size=5).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")  # every account keeps it, for every measure


def matcher(filters: Filters) -> Matches | None:
    checks = [(prop, comparing.comparing(asked.given(), fold=asked.fold)) for prop, asked in filters]
    if not checks:
        return None
    if len(checks) == 1:
        ((prop, check),) = checks
        return lambda activity: check(activity.props.get(prop)) is True
    return lambda activity: all(check(activity.props.get(prop)) is True for prop, check in checks)


# -- how measures grow: `keep` entries at most, none older than `longest` -----------------------------------


def ring_add(keep: int, longest: int) -> Add:
    return lambda ring, at, activity, log_time: measures.ring_add(
        ring, at, activity.offset, keep, log_time - longest
    )


def first_add(keep: int, longest: int) -> Add:
    return lambda first, at, activity, log_time: measures.first_add(first, at, activity.offset)


def people_add(keep: int, longest: int) -> Add:
    def add(ring: bytes, at: int, activity: Activity, log_time: int) -> bytes:
        if activity.person is None:
            return ring
        return measures.people_add(ring, activity.person, at, activity.offset, keep, log_time - longest)

    return add


def amounts_add(prop: str) -> Grow:
    def sized(keep: int, longest: int) -> Add:
        def add(ring: bytes, at: int, activity: Activity, log_time: int) -> bytes:
            try:
                value = coerce("number", activity.props.get(prop))
                amount = measures.in_millionths(value) if isinstance(value, int | float) else None
            except ValueError:
                amount = None
            if amount is None:
                return ring  # an activity without the amount adds nothing
            return measures.amounts_add(ring, amount, at, activity.offset, keep, log_time - longest)

        return add

    return sized


def sequence_add(step: int, span: int) -> Grow:
    return lambda keep, longest: (
        lambda known, at, activity, log_time: measures.sequence_add(
            known, step, at, activity.offset, span, keep, longest, log_time
        )
    )


def score_add(weight: float, half_life: int, part: int) -> Grow:
    return lambda keep, longest: (
        lambda score, at, activity, log_time: measures.score_add(score, at, weight, half_life, part)
    )


# -- how two become one, and how one gets its past: `keep` entries at most, none older than `longest` ----------

RING = Kind(
    lambda keep, longest: (
        lambda mine, theirs, offset, log_time, twice: measures.ring_join(
            mine, theirs, offset, keep, log_time - longest, twice
        )
    ),
    lambda keep, longest: lambda mine, theirs, how: measures.ring_fill(mine, theirs, how, keep, longest),
)
AMOUNTS = Kind(
    lambda keep, longest: (
        lambda mine, theirs, offset, log_time, twice: measures.ring_join(
            mine, theirs, offset, keep, log_time - longest, twice, measures.TAGGED
        )
    ),
    lambda keep, longest: (
        lambda mine, theirs, how: measures.ring_fill(mine, theirs, how, keep, longest, measures.TAGGED)
    ),
    partial(measures.since, size=measures.TAGGED),
)
PEOPLE = Kind(
    lambda keep, longest: (
        lambda mine, theirs, offset, log_time, twice: measures.people_join(
            mine, theirs, offset, keep, log_time - longest
        )
    ),
    lambda keep, longest: lambda mine, theirs, how: measures.people_fill(mine, theirs, how, keep, longest),
    partial(measures.since, size=measures.TAGGED),
)
FIRST = Kind(
    lambda keep, longest: lambda mine, theirs, offset, log_time, twice: measures.first_join(mine, theirs, offset),
    lambda keep, longest: measures.first_fill,
)


def sequence(span: int) -> Kind:
    return Kind(
        lambda keep, longest: (
            lambda mine, theirs, offset, log_time, twice: measures.sequence_join(
                mine, theirs, offset, span, keep, twice
            )
        ),
        lambda keep, longest: (
            lambda mine, theirs, how: measures.sequence_fill(mine, theirs, how, span, keep, longest)
        ),
        measures.sequence_since,
    )


def score(half_lives: Sequence[int]) -> Kind:
    return Kind(
        lambda keep, longest: (
            lambda mine, theirs, offset, log_time, twice: measures.score_join(mine, theirs, half_lives)
        ),
        lambda keep, longest: lambda mine, theirs, how: measures.score_fill(mine, theirs, how, half_lives),
        None,
    )
