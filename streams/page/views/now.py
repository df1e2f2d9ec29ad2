"""What the page Now shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rules.ruleset import Dimension, Ruleset
from rules.scores import scores_of
from rules.state import UNCLASSIFIED
from rules.tally import FROM
from streams.page.wording import plain

LADDER, TOP = "engagement", "hot"
Flows = Mapping[tuple[str, str], int]  # (from, to) -> accounts; "": no segment


@dataclass(frozen=True, slots=True)
class Ladder:
    """The ladder that the page is about, its warmest rung, and the score by which that rung is decided."""

    dimension: Dimension
    top: str
    score: str | None


def ladder_of(ruleset: Ruleset) -> Ladder | None:
    """`engagement`, or else the first ladder; `hot`, or else its first rung. None: the rules have no ladder."""
    ladders = [each for each in ruleset.dimensions if each.kind == "ladder" and each.segments]
    found = next((each for each in ladders if each.name == LADDER), ladders[0] if ladders else None)
    if found is None:
        return None
    top = found.segment(TOP) or found.segments[0]
    scores = (name for name, each in scores_of(ruleset).items() if each.reads <= top.condition.reads)
    return Ladder(found, top.name, next(scores, None))


@dataclass(frozen=True, slots=True)
class Column:
    """A rung: who is on it, and who came and went today, from where and to where."""

    segment: str
    count: int
    share: float  # of the largest rung
    came: tuple[tuple[str, int], ...]
    went: tuple[tuple[str, int], ...]
    description: str

    @property
    def entered(self) -> int:
        return sum(n for _, n in self.came)

    @property
    def left(self) -> int:
        return sum(n for _, n in self.went)


def columns(dimension: Dimension, counts: Mapping[str, int], flows: Flows) -> list[Column]:
    """The rungs in the ladder's order; one of which nothing is known only when somebody is on it."""
    most = max([1, *counts.values()])
    described = {each.name: each.description for each in dimension.segments}
    shown = [name for name in counts if name != UNCLASSIFIED or counts[name]]
    return [
        Column(
            name,
            counts[name],
            counts[name] / most,
            _ranked((before, n) for (before, after), n in flows.items() if after == name),
            _ranked((after, n) for (before, after), n in flows.items() if before == name),
            described.get(name, "What decides is not known of these accounts."),
        )
        for name in shown
    ]


def _ranked(flows: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(flows, key=lambda each: (-each[1], each[0])))


def flows(dimension: str, tallied: Mapping[tuple[str, str, str], int]) -> dict[tuple[str, str], int]:
    """How many moved from where to where, of what was tallied."""
    return {
        (what.removeprefix(FROM), segment): n
        for (name, segment, what), n in tallied.items()
        if name == dimension and what.startswith(FROM)
    }


@dataclass(frozen=True, slots=True)
class Hot:
    """An account on the warmest rung: why, and until when if nothing happens."""

    account: str
    name: str
    why: str
    until: str | None
    value: float | None


@dataclass(frozen=True, slots=True)
class News:
    """A change in a line."""

    id: str
    at: str
    account: str
    name: str
    said: str  # `engagement warm → hot`
    segment: str | None  # where it is now, for its colour
    why: str
    by_time: bool


def news(event: Mapping[str, Any]) -> News:
    """What a change says, whatever its kind."""
    data = event["data"]
    said, segment = _said(event["type"], data)
    why = str(data["reason"].get("text", ""))
    by_time = data["cause"] == "time"
    return News(
        event["id"],
        data["effective"],
        data["account"],
        data["name"] or data["account"],
        said,
        segment,
        why,
        by_time,
    )


def _said(kind: str, data: Mapping[str, Any]) -> tuple[str, str | None]:
    if kind == "segment.moved":
        return f"{plain(data['dimension'])}: {plain(data['from'])} → {plain(data['to'])}", data["to"]
    if kind in ("segment.entered", "segment.left"):
        verb = "joins" if kind == "segment.entered" else "leaves"
        return f"{plain(data['dimension'])}: {verb} {plain(data['segment'])}", None
    if data.get("deleted"):
        return "is gone, and left every segment", None
    if merged := data.get("merged_into"):
        return f"is one with {merged} now", None
    held = data["memberships"].get(LADDER, {}).get("answer")
    return "is now known" + (f", {plain(held)}" if isinstance(held, str) else ""), held


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the health strip. `state` says in a word how it is: good, note or bad; or unknown."""

    name: str
    value: str
    state: str
    hint: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the endpoints stand. `known` is false where this process was not told of them."""

    known: bool
    endpoints: int = 0
    waiting: int = 0
    failing: tuple[str, ...] = ()


LAG_BAD_S, OVERDUE_BAD_S = 10.0, 5.0
UNREAD = "not readable"


def health(
    lag_s: float | None,
    overdue_s: float | None,
    letters: int | None,
    most: int,
    delivery: Delivery | None,
    is_counting: bool = False,
) -> list[Figure]:
    """The strip. None: this process could not read it; of letters also, that they are being counted."""
    return [_lag(lag_s), _wake(overdue_s), _letters(letters, most, is_counting), _delivery(delivery)]


def _lag(lag_s: float | None) -> Figure:
    if lag_s is None:
        why = "account.log cannot be read from here: Kafka is away, or this process lacks the right to."
        return Figure("Lag", UNREAD, "unknown", why)
    if lag_s >= LAG_BAD_S:
        return Figure("Lag", f"{lag_s:,.0f} s", "bad", "Records wait to be folded: is every worker running?")
    return Figure("Lag", f"{lag_s:.0f} s", "good", "How long the oldest record waits to be folded.")


def _wake(overdue_s: float | None) -> Figure:
    if overdue_s is None:
        return Figure("Oldest wake", "none", "good", "No account will change by time alone.")
    if overdue_s >= OVERDUE_BAD_S:
        why = "Accounts are due and nobody asks them: is every worker running?"
        return Figure("Oldest wake", f"{overdue_s:,.0f} s overdue", "bad", why)
    return Figure("Oldest wake", "on time", "good", "No account that is due waits.")


def _letters(letters: int | None, most: int, is_counting: bool) -> Figure:
    if letters is None and is_counting:
        return Figure("Dead letters", "counting", "unknown", "They are being read. Their number comes by itself.")
    if letters is None:
        return Figure(
            "Dead letters",
            UNREAD,
            "unknown",
            "dead.letters cannot be read from here: Kafka is away, or this process lacks the right to.",
        )
    shown = f"{letters:,}{'+' if letters >= most else ''}"
    why = "Messages that could not be used. The page Operations shows them."
    return Figure(
        "Dead letters", shown, "note" if letters else "good", why if letters else "Every message was used."
    )


def _delivery(delivery: Delivery | None) -> Figure:
    if delivery is None:
        return Figure("Delivery", UNREAD, "unknown", "The endpoints could not be read.")
    if not delivery.known:
        return Figure("Delivery", "no endpoints", "good", "ISOTHERM_WEBHOOKS names none here.")
    if delivery.failing:
        why = f"Failing: {', '.join(delivery.failing[:5])}. The page Operations says why."
        return Figure("Delivery", f"{len(delivery.failing)} of {delivery.endpoints} failing", "bad", why)
    if delivery.waiting:
        return Figure("Delivery", f"{delivery.waiting:,} waiting", "note", "They are tried again by themselves.")
    return Figure("Delivery", "all delivered", "good", f"Endpoints: {delivery.endpoints}.")


def in_words(figures: Sequence[Figure]) -> str:
    """All of it in a sentence: what a screen reader hears when it changes."""
    told = [f"{each.name}: {each.value}" for each in figures if each.state in ("bad", "unknown")]
    return "; ".join(told) if told else "all is well"
