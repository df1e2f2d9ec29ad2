"""From changes to records: each change is decided, kept in `alerts.state`, and only then acknowledged to Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog
from mode import Service

from rules.contract import read
from streams.alerting.book import Book
from streams.alerting.knowing import Knowing
from streams.alerting.seen import Seen, seen
from streams.alerting.stepping import About, Changed
from streams.outage import wait_out

log = structlog.get_logger()
TOGETHER = 200
WAITING = 1_000  # changes taken and not yet decided; then the agent waits


class Settler(Service):
    """Takes changes from the agent and decides them some at a time. `told` is called when there may be news."""

    def __init__(self, book: Book, knowing: Knowing, now: Callable[[], int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._book, self._knowing, self._now = book, knowing, now
        self._queue: asyncio.Queue[tuple[bytes | None, Callable[[], object]]] = asyncio.Queue(WAITING)
        self.decided = asyncio.Event()

    async def take(self, value: bytes | None, done: Callable[[], object]) -> None:
        """`done` is called once what follows from the change is kept. Waits while too many are undecided."""
        await self._queue.put((value, done))

    @Service.task
    async def _settle_all(self) -> None:
        await wait_out("reading alerts", self._read, lambda: self.should_stop)
        while not self.should_stop:
            some = [await self._queue.get()]
            while len(some) < TOGETHER and not self._queue.empty():
                some.append(self._queue.get_nowait())
            events = [event for value, _ in some if (event := self._parsed(value)) is not None]
            await wait_out("deciding alerts", partial(self.settle, events), lambda: self.should_stop)
            if self.should_stop:
                return
            for _, done in some:
                done()

    async def _read(self) -> bool:
        """What the topic has is in Redis, before the first change asks for it."""
        async with self._book.turn([], self._now()):
            return True

    def _parsed(self, value: bytes | None) -> Seen | None:
        """A change of which rules ask. What is none of ours is passed over: nobody else would mend it either."""
        try:
            found = seen(read(value or b""))
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            log.warning("not a change event", why=str(error)[:200])
            return None
        return found if found.gone or self._book.rules.dimensions & found.standings.keys() else None

    async def settle(self, changes: Sequence[Seen]) -> bool:
        """Decides them in order and keeps what follows. Raises what an absent broker or Redis raises."""
        now, changes = self._now(), await self._that_matter(changes)
        if not changes:
            return True
        entering = {each.account for each in changes if each.is_news and self._may_enter(each)}
        abouts = await self._knowing.abouts(entering, now)
        async with self._book.turn([each.account for each in changes], now) as turn:
            for each in changes:
                done = turn.apply(each.account, Changed(each, abouts.get(each.account, About()), now))
                for rule, why in done.untold.items():
                    log.debug("not alerted", account=each.account, rule=rule, why=str(why))
        self.decided.set()
        return True

    async def _that_matter(self, changes: Sequence[Seen]) -> list[Seen]:
        """Without the many that lead nowhere: into no segment of ours, of accounts that have no alert."""
        known = await self._book.known([each.account for each in changes])
        entering = {each.account for each in changes if self._may_enter(each)}
        return [each for each in changes if each.account in entering or each.account in known]

    def _may_enter(self, change: Seen) -> bool:
        return any(
            segment in change.standings[dimension].segments
            for rule in self._book.rules.rules
            for dimension, segment in rule.when
            if dimension in change.standings
        )
