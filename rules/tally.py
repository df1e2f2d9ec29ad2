"""What is counted as the log is folded: how it went with the accounts in each segment, and who came and went.

An outcome (a reply, a meeting, a deal won) counts, on the day it happened, for every segment that the account held
just before the record. A move counts on the day it took effect, in a ladder also from where. Only live records
count: what is imported happened when the account stood elsewhere. Days are UTC days, numbered from 1970-01-01; the
newest DAYS_KEPT are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rules.durations import DAY
from rules.facts import coerce
from rules.records import Activity
from rules.ruleset import Outcome, Ruleset
from rules.state import Standing
from rules.work import Change, Kind

DAYS_KEPT = 35
ENTERED, LEFT, REVENUE = "entered", "left", "revenue"
FROM = "from:"  # begins what is counted where somebody moved to: `from:warm`; no segment is ""
MOST_CENTS = 10**13  # of one deal; what is said to be more is taken for a mistake and counts without its amount


class Tally(NamedTuple):
    """One number: on that day, for that segment, so many of `what`. Revenue is in cents."""

    day: int
    dimension: str
    segment: str
    what: str


Tallies = Counter[Tally]


def outcomes(
    ruleset: Ruleset, activity: Activity, held: Mapping[str, Standing], log_time: int
) -> Iterator[tuple[Tally, int]]:
    """What an activity adds, for an account that stood in `held` just before it."""
    day = day_of(min(activity.at, log_time))
    if activity.origin != "live" or not is_kept(day, log_time):
        return
    for matches, outcome in ruleset.outcomes.get(activity.name, ()):
        if matches is not None and not matches(activity):
            continue
        cents = _cents(activity.props, outcome)
        for dimension, standing in held.items():
            for segment in standing.answer:
                yield Tally(day, dimension, segment, outcome.name), 1
                if cents:
                    yield Tally(day, dimension, segment, REVENUE), cents


def moves(change: Change) -> Iterator[Tally]:
    """Whom a change lets in and out."""
    if change.kind is Kind.STATE:
        return
    day = day_of(change.effective)
    if change.kind is not Kind.ENTERED:
        gone = change.before if change.kind is Kind.MOVED else (change.segment,)
        yield from (Tally(day, change.dimension, segment, LEFT) for segment in gone)
    if change.kind is not Kind.LEFT:
        come = change.after if change.kind is Kind.MOVED else (change.segment,)
        yield from (Tally(day, change.dimension, segment, ENTERED) for segment in come)
    if change.kind is Kind.MOVED:
        before, after = (answer[0] if answer else "" for answer in (change.before, change.after))
        yield Tally(day, change.dimension, after, FROM + before)


def forgotten(before: int, after: int) -> range:
    """The days that are no longer kept once a partition's log_time has gone from `before` to `after`."""
    first, last = day_of(before) - DAYS_KEPT + 1, day_of(after) - DAYS_KEPT + 1
    return range(max(first, last - DAYS_KEPT), last) if before else range(0)


def is_kept(day: int, log_time: int) -> bool:
    return day > day_of(log_time) - DAYS_KEPT


def day_of(instant: int) -> int:
    return instant // DAY


def _cents(props: Mapping[str, Any], outcome: Outcome) -> int:
    try:
        value = coerce("number", props.get(outcome.revenue)) if outcome.revenue else None
    except ValueError:
        return 0
    cents = round(value * 100) if isinstance(value, int | float) else 0
    return cents if abs(cents) <= MOST_CENTS else 0
