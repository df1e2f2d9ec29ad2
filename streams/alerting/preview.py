"""What would have been told to whom, from the changes that Kafka still has. Nothing is sent, nothing is kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rules.changes import iso
from rules.contract import read
from streams import topics
from streams.alerting.knowing import Knowing
from streams.alerting.rehearsal import Rehearsal, Telling
from streams.alerting.rulebook import Rulebook
from streams.alerting.seen import Seen, seen
from streams.alerting.stepping import About
from streams.clock import RedisClock
from streams.playback import up_to_its_end
from streams.settings import Settings
from streams.store.redis import connect

ASKED_AT_MOST = 20_000  # accounts whose facts are looked up


@dataclass(frozen=True, slots=True)
class Preview:
    since: int
    until: int
    first: int  # decided: the oldest change that Kafka still has; 0: it has none
    changes: int
    tellings: tuple[Telling, ...]
    untold: Counter[str]
    rules: Rulebook

    def plain(self) -> dict[str, Any]:
        return {
            "since": iso(self.since),
            "until": iso(self.until),
            "oldest_change": iso(self.first) if self.first else None,
            "changes": self.changes,
            "messages": [_plain(each, self.rules) for each in self.tellings],
            "recipients": dict(Counter(each.parcel.to.queue for each in self.tellings).most_common()),
            "not_told": dict(self.untold.most_common()),
        }


def _plain(telling: Telling, rules: Rulebook) -> dict[str, Any]:
    parcel = telling.parcel
    return {
        "at": iso(telling.at),
        "channel": parcel.to.channel,
        "to": parcel.to.to,
        "timezone": parcel.to.timezone,
        "kind": "digest"
        if parcel.is_digest
        else {"first": "alert", "late": "escalation", "face": "edit"}[parcel.part],
        "text": parcel.sheet(rules).title,
        "accounts": [each.account for each in parcel.items],
    }


@dataclass
class _Known:
    """Where accounts stood at each moment, as the changes say it; what they say nothing of is as it is now."""

    now: dict[str, About]
    then: defaultdict[str, dict[str, frozenset[str]]] = field(default_factory=lambda: defaultdict(dict))

    def about(self, change: Seen) -> About:
        held = self.then[change.account]
        held |= {name: frozenset(each.segments) for name, each in change.standings.items()}
        known = self.now.get(change.account, About())
        return About(known.facts, {**known.memberships, **held}, ids=known.ids, do=known.do)


async def preview(settings: Settings, rules: Rulebook, last: int) -> Preview:
    """Rehearses all changes that there are and tells of the `last` ms, as if nobody acknowledged anything."""
    redis = connect(settings)
    try:
        clock = RedisClock(redis)
        await clock.sync()
        now = clock.now()
        changes = await _changes(settings)
        knowing = Knowing(redis, settings, rules.facts)
        asked = list(dict.fromkeys(each.account for each in changes if rules.dimensions & each.standings.keys()))
        abouts = await knowing.abouts(asked[:ASKED_AT_MOST], now)
    finally:
        await redis.aclose()
    return rehearse(changes, abouts, rules, now - last, now)


def rehearse(changes: list[Seen], abouts: dict[str, About], rules: Rulebook, since: int, now: int) -> Preview:
    known, told = _Known(abouts), list[Telling]()
    rehearsal = Rehearsal(rules, known.about)
    early: Counter[Any] | None = None
    for change in changes:
        if early is None and change.decided >= since:
            early = Counter(rehearsal.untold)
        told += rehearsal.change(change, change.decided)
    told += rehearsal.until(now)
    untold: Counter[str] = Counter()
    for (_, why), count in (rehearsal.untold - (rehearsal.untold if early is None else early)).items():
        untold[str(why)] += count
    first = changes[0].decided if changes else 0
    recent = tuple(each for each in told if each.at >= since)
    return Preview(since, now, first, sum(1 for e in changes if e.decided >= since), recent, untold, rules)


async def _changes(settings: Settings) -> list[Seen]:
    """All changes, in the order in which they were decided."""
    found: dict[str, Seen] = {}
    async for message in up_to_its_end(settings, topics.CHANGES):
        try:
            change = seen(read(message.value or b""))
        except (msgspec.MsgspecError, ValueError, TypeError):
            continue
        found.setdefault(change.id, change)
    return sorted(found.values(), key=lambda each: (each.decided, each.order))
