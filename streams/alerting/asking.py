"""What people ask of alerts: which there are, that somebody has seen one, that one is to be left alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from rules.changes import iso
from streams.alerting import rulebook
from streams.alerting.book import Book
from streams.alerting.state import Alert, Alerts, Phase
from streams.alerting.stepping import Acknowledged, Happened, Snoozed
from streams.clock import RedisClock
from streams.producer import Producer
from streams.settings import Settings
from streams.store.redis import connect

OPEN = (Phase.NEW, Phase.SENT, Phase.REOPENED, Phase.SNOOZED, Phase.ACKNOWLEDGED, Phase.FAILED)


async def alerts(settings: Settings, *, everything: bool = False) -> list[dict[str, Any]]:
    """The alerts that somebody may still care for, the newest last; with `everything` those that are over too."""
    redis = connect(settings)
    try:
        book = Book(settings, redis, Producer(settings), rulebook.read(settings.alerts), trusting=True)
        found = [
            (alert.story.at, _plain(state, rule, alert))
            async for state in book.all()
            for rule, alert in state.alerts.items()
            if everything or alert.phase in OPEN
        ]
    finally:
        await redis.aclose()
    return [plain for _, plain in sorted(found, key=lambda each: each[0])]


async def acknowledge(settings: Settings, account: str, by: str) -> list[dict[str, Any]]:
    """Notes that `by` sees to it; the account's acknowledged alerts. None: there is nothing to acknowledge."""
    return await _happen(settings, account, lambda now: Acknowledged(by, now), Phase.ACKNOWLEDGED)


async def snooze(settings: Settings, account: str, by: str, for_ms: int) -> list[dict[str, Any]]:
    """Nothing is told of the account for so long; afterwards it is, if it is hot then."""
    return await _happen(settings, account, lambda now: Snoozed(by, now + for_ms, now), Phase.SNOOZED)


async def _happen(settings: Settings, account: str, what: Any, phase: Phase) -> list[dict[str, Any]]:
    async with _book(settings) as (book, clock):
        happened: Happened = what(clock.now())
        async with book.turn([account], clock.now()) as turn:
            turn.apply(account, happened)
        state = turn.states[account]
    if state is None:
        return []
    return [_plain(state, rule, alert) for rule, alert in state.alerts.items() if alert.phase is phase]


@asynccontextmanager
async def _book(settings: Settings) -> AsyncIterator[tuple[Book, RedisClock]]:
    redis, producer = connect(settings), Producer(settings)
    try:
        clock = RedisClock(redis)
        await clock.sync()
        await producer.start()
        yield Book(settings, redis, producer, rulebook.read(settings.alerts), trusting=True), clock
    finally:
        await producer.stop()
        await redis.aclose()


def _plain(state: Alerts, rule: str, alert: Alert) -> dict[str, Any]:
    return {
        "account": state.account,
        "name": state.name,
        "rule": rule,
        "phase": str(alert.phase),
        "hot": alert.hot,
        "segment": alert.story.segment,
        "reasons": list(alert.story.reasons),
        "at": iso(alert.story.at),
        "channel": alert.first.to.channel,
        "to": alert.first.to.to,
        "told": iso(alert.first.at) if alert.first.is_told else None,
        "digest": alert.first.digest,
        "waits_until": iso(alert.first.due) if alert.phase is Phase.NEW and alert.first.held else None,
        "escalated": iso(alert.late.at) if alert.late and alert.late.is_told else None,
        "snoozed_until": iso(alert.until) if alert.phase is Phase.SNOOZED else None,
        "by": alert.by or None,
        "change": alert.story.change,
    }
