"""What the demo saw, in numbers and in the newest lines. No I/O: others write into it, screens read it.

How long an event takes to become a readable change is measured from outside, by joining three sightings: when
the player sent the message, which record of the log came from it, when the change that this record made was read.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias

ENGAGEMENT, HOT = "engagement", "hot"
# Where there is not room for all dimensions, these are shown: what moves most, then what an account is.
FIRST = (
    "engagement", "intent", "buying_stage", "priority", "web_activity", "buying_group", "needs", "relationship",
    "lifecycle", "fit", "size", "industry", "region",
)  # fmt: skip
NEWS_KEPT = 200
SAMPLES_KEPT = 5_000
SIGHTINGS_KEPT = 20_000

Place: TypeAlias = tuple[str, int, int]  # topic, partition, offset
LogPosition: TypeAlias = tuple[int, int]  # partition, offset
Cause: TypeAlias = str
Direction: TypeAlias = Literal["into", "out of"]


def first_things_first(counts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The dimensions, those of FIRST before the others."""
    return {name: counts[name] for name in FIRST if name in counts} | counts


@dataclass(frozen=True, slots=True)
class Change:
    """A change event and the instant at which it was read, UTC ms."""

    event: dict[str, Any]
    read: int

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.event["data"]
        return data

    @property
    def who(self) -> str:
        return str(self.data["name"] or self.data["account"])

    @property
    def is_state(self) -> bool:
        return bool(self.event["type"] == "account.state")

    @property
    def is_engagement(self) -> bool:
        return self.data.get("dimension") == ENGAGEMENT

    @property
    def effective(self) -> int:
        return milliseconds(self.data["effective"])

    @property
    def after_effective(self) -> int:
        """ms from the instant at which it took effect until it could be read."""
        return self.read - self.effective

    @property
    def why(self) -> str:
        return str(self.data["reason"].get("text", "")).partition(";")[0]


class Alert(NamedTuple):
    text: str
    change: str  # id of the change it tells of; `digest` for one that tells of many


class Hot(NamedTuple):
    """A hot account and how long it stays so if nothing happens, UTC ms."""

    name: str
    until: int
    about: str


class Latency:
    """ms from sending a message to reading the change it made. Only the newest sightings are kept."""

    def __init__(self) -> None:
        self.samples: deque[int] = deque(maxlen=SAMPLES_KEPT)
        self._sent: dict[Place, int] = {}
        self._caused: dict[LogPosition, Place] = {}
        self._read: dict[LogPosition, int] = {}

    def sent(self, place: Place, at: int) -> None:
        self._sent[place] = at

    def logged(self, position: LogPosition, place: Place) -> None:
        self._caused[position] = place

    def read(self, position: LogPosition, at: int) -> None:
        self._read.setdefault(position, at)

    def join(self) -> None:
        for position, read in list(self._read.items()):
            sent = self._sent.get(self._caused.get(position, ("", 0, 0)))
            if sent is not None:
                self.samples.append(read - sent)
                del self._read[position]
        _forget(self._sent)
        _forget(self._caused)
        _forget(self._read)


def _forget(sightings: dict[Any, Any]) -> None:
    """Drops the oldest beyond what is kept."""
    for key in list(sightings)[: max(0, len(sightings) - SIGHTINGS_KEPT)]:
        del sightings[key]


@dataclass
class Ledger:
    """Written by player, watch and receiver; read by the screens."""

    on_news: Callable[[Change | Alert], None] = lambda news: None
    loading: bool = True  # the past is being read in
    warning: str = ""  # what the watcher should do something about
    messages: int = 0
    folded: int = 0
    changes: int = 0
    alerts: int = 0
    ticks: int = 0
    latency: Latency = field(default_factory=Latency)
    news: deque[Change] = field(default_factory=lambda: deque(maxlen=NEWS_KEPT))
    alerted: deque[Alert] = field(default_factory=lambda: deque(maxlen=NEWS_KEPT))
    letters: Counter[str] = field(default_factory=Counter)  # dead letters by reason
    moves: Counter[tuple[Direction, Cause, bool]] = field(default_factory=Counter)  # of hot; bool: while loading
    cooled: list[int] = field(default_factory=list)  # ms from the instant to reading, of accounts that time cooled
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # dimension -> segment -> accounts
    hottest: list[Hot] = field(default_factory=list)  # the next to cool first
    _old: set[str] = field(default_factory=set)  # ids of the changes that loading the past made

    def read_change(self, change: Change) -> None:
        self.changes += 1
        self._note_hot(change)
        position = change.data["position"]
        if change.data["cause"] == "data" and not self.loading:
            self.latency.read((position["partition"], position["offset"]), change.read)
        if self.loading:
            self._old.add(change.event["id"])
        if not change.is_state or not self.loading:
            self.news.appendleft(change)
            self.on_news(change)

    def take_alert(self, alert: Alert) -> None:
        """Alerts come a moment after their change: those of the past are no news, whenever they come."""
        self.alerts += 1
        self.alerted.appendleft(alert)
        if alert.change not in self._old:
            self.on_news(alert)

    def moved(self, direction: Direction, cause: Cause | None = None, *, loading: bool | None = None) -> int:
        """Moves into or out of hot, of that cause and that phase if they are given."""
        return sum(
            n
            for (way, why, early), n in self.moves.items()
            if way == direction and cause in (None, why) and loading in (None, early)
        )

    def _note_hot(self, change: Change) -> None:
        data = change.data
        if change.is_state:
            if data["memberships"].get(ENGAGEMENT, {}).get("answer") == HOT:
                self.moves["into", data["cause"], self.loading] += 1
        elif change.is_engagement:
            if data["to"] == HOT:
                self.moves["into", data["cause"], self.loading] += 1
            if data["from"] == HOT:
                self.moves["out of", data["cause"], self.loading] += 1
                if data["cause"] == "time":
                    self.cooled.append(change.after_effective)


def percentile(samples: Sequence[int], share: float) -> int | None:
    """The sample that `share` of all do not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def milliseconds(instant: str) -> int:
    return round(datetime.fromisoformat(instant).timestamp() * 1000)
