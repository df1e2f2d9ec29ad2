"""What goes next to one recipient: one alert, or a digest of many. Pure.

Whatever somebody died over goes first, under the key that it had: so a recipient that knows keys gets it once. A
burst, what waited for the morning and what came above the limit are told together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from streams.alerting import stepping, wording
from streams.alerting.rulebook import Recipient, Rulebook
from streams.alerting.state import Alert, Alerts
from streams.alerting.stepping import GIVEN_UP, Message, Part, face_of, messages

DIGEST = "digest/"
PATIENCE = 60_000  # who has had to wait for longer may as well be told with the others
IN_JSON = 100  # accounts at most, which is the most that a digest has


@dataclass(frozen=True, slots=True)
class Item:
    """A message that is due, and the alert that it is about."""

    account: str
    message: Message
    alert: Alert

    @property
    def key(self) -> str:
        """The same whenever it is asked for, and another one for whatever else is told of the account."""
        story, times = self.alert.story, self.alert.times
        first = f"{story.change}/{self.message.rule}" + (f"/{times}" if times else "")
        match self.message.part:
            case "first":
                return first
            case "late":
                return f"{first}/late"
            case "face":
                return f"{first}/{face_of(self.alert)}/{self.alert.since}"


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message to one recipient. `edits` is what the channel called the one that it mends or follows."""

    key: str
    to: Recipient
    part: Part
    items: tuple[Item, ...]
    edits: str = ""
    face: str = "hot"

    @property
    def is_digest(self) -> bool:
        return self.key.startswith(DIGEST)

    def sheet(self, rules: Rulebook) -> wording.Sheet:
        alert, zone = self.items[0].alert, self.to.timezone
        if self.is_digest:
            return wording.digest([each.alert.story for each in self.items], zone)
        if self.part == "late":
            rule = rules.rule(self.items[0].message.rule)
            after = rule.escalate.after if rule and rule.escalate else 0
            return wording.late(alert, after, rules, zone)
        return wording.alert(alert, self.face, rules, zone)

    def plain(self, rules: Rulebook) -> dict[str, Any]:
        """The same for programs: what a webhook is sent."""
        kind = "digest" if self.is_digest else "escalation" if self.part == "late" else f"alert.{self.face}"
        return {
            "type": kind,
            "id": self.key,
            "about": self.edits,
            "text": self.sheet(rules).title,
            "alerts": [_plain(each, rules) for each in self.items[:IN_JSON]],
        }


def _plain(item: Item, rules: Rulebook) -> dict[str, Any]:
    story = item.alert.story
    return {
        "account": story.account,
        "name": story.name,
        "rule": item.message.rule,
        "segment": story.segment,
        "before": story.before,
        "at": story.at,
        "until": story.until or None,
        "reasons": list(story.reasons),
        "do": list(story.do),
        "people": {role or "not in the CRM": count for role, count in story.roles},
        "activities": None if story.week is None else dict(zip(("week", "week_before"), story.week, strict=True)),
        "links": dict(rules.links_of((story.account, *story.ids))),
        "change": story.change,
    }


def items(states: Iterable[Alerts], queue: str, rules: Rulebook, now: int) -> list[Item]:
    """What is due in that recipient's queue, the longest due first."""
    found = [
        Item(state.account, message, state.alerts[message.rule])
        for state in states
        for message in messages(state, rules)
        if message.to.queue == queue and message.due <= now
    ]
    return sorted(found, key=lambda each: (each.message.due, each.alert.story.at, each.account))


def hopeless(due: Sequence[Item], now: int) -> list[Item]:
    """What could not be told for so long that it is no news any more."""
    return [each for each in due if each.message.due + GIVEN_UP < now]


def next_parcel(due: Sequence[Item], rules: Rulebook, now: int, *, is_full: bool = False) -> Parcel | None:
    """What goes next of what is `due`. `is_full`: the recipient has had as many messages as one bears."""
    claimed = [each for each in due if each.message.key]
    if claimed:
        return _again(claimed)
    first = [each for each in due if each.message.part == "first"]
    if first and not is_full:
        return _digest(first[: rules.digest_most]) if _together(first, rules, now) else _single(first[0])
    others = [each for each in due if each.message.part == "face" or (each.message.part == "late" and not is_full)]
    return _single(others[0]) if others else None


def _together(first: Sequence[Item], rules: Rulebook, now: int) -> bool:
    """A burst, or two and more of which one had to wait anyway."""
    had_to_wait = any(each.message.held or now - each.message.due > PATIENCE for each in first)
    return len(first) >= rules.digest_from or (len(first) > 1 and had_to_wait)


def _again(claimed: Sequence[Item]) -> Parcel:
    key = claimed[0].message.key
    same = tuple(sorted((each for each in claimed if each.message.key == key), key=lambda each: each.account))
    return Parcel(key, same[0].message.to, same[0].message.part, same)


def _digest(some: Sequence[Item]) -> Parcel:
    together = tuple(sorted(some, key=lambda each: each.account))
    digest = sha256("\n".join(each.key for each in together).encode()).hexdigest()[:32]
    return Parcel(f"{DIGEST}{digest}", together[0].message.to, "first", together)


def _single(item: Item) -> Parcel:
    if item.message.part == "face":
        alert = item.alert
        return Parcel(item.key, item.message.to, "face", (item,), alert.first.ref, face_of(alert))
    return Parcel(item.key, item.message.to, item.message.part, (item,))


def entries(state: Alerts | None, rules: Rulebook) -> Mapping[str, int]:
    """In which queues the account waits, and from when on. What is on its way is due before all else."""
    found: dict[str, int] = {}
    for queue, due in _entries(state, rules):
        found[queue] = min(due, found.get(queue, due))
    return found


def _entries(state: Alerts | None, rules: Rulebook) -> Iterator[tuple[str, int]]:
    if state is None:
        return
    for message in messages(state, rules):
        yield message.to.queue, 1 if message.key else message.due
    if wake := stepping.wakes(state, rules):
        yield "", wake
