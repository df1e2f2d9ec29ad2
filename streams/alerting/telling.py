"""From records to recipients: what is due is claimed, sent, and noted as told.

Each second, and whenever something was decided, every recipient with something due is served once, all of them at
the same time and each at its own pace. A recipient that cannot be reached is left alone for a while and keeps
nobody else waiting.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import structlog
from mode import Service

from streams.alerting.book import Book
from streams.alerting.channels import Arrived, Senders, Sent
from streams.alerting.parcels import Item, Parcel, hopeless, items, next_parcel
from streams.alerting.stepping import Claimed, Instant, Refused, Told
from streams.outage import wait_out
from streams.sinks.base import GiveUp, Retry

log = structlog.get_logger()
LOOK_S = 1.0
TURN_MS = 20_000  # longer than a message takes: then somebody else may send there
LOOKED_AT = 100  # accounts of one queue
SERVED = 32  # recipients at the same time
MARGIN_MS = 10  # a recipient's rest is over a moment later than we count
FIRST_MS, LONGEST_MS = 1_000, 300_000


class Clock(Protocol):
    def now(self) -> int: ...

    async def keep(self) -> None: ...


class Teller(Service):
    """Sends alerts. `sent` counts messages, `given_up` alerts."""

    def __init__(self, book: Book, senders: Senders, clock: Clock, decided: asyncio.Event, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._book, self._senders, self._clock, self._decided = book, senders, clock, decided
        self._failures: Counter[str] = Counter()
        self._serving: set[str] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(SERVED)
        self._failed: BaseException | None = None
        self.sent = self.given_up = 0

    @Service.task
    async def _tell(self) -> None:
        while not self.should_stop:
            await wait_out("telling alerts", self.look, lambda: self.should_stop)
            if self._failed is not None:
                raise self._failed
            try:
                await asyncio.wait_for(self._decided.wait(), LOOK_S)
            except TimeoutError:
                continue
            finally:
                self._decided.clear()

    async def look(self) -> bool:
        """Begins to serve every recipient that has something due and is not being served."""
        await self._clock.keep()
        for queue in await self._book.waiting(self._clock.now()):
            if queue not in self._serving:
                self._serving.add(queue)
                task = asyncio.create_task(self._serve(queue))
                self._running.add(task)
                task.add_done_callback(self._served)
        return True

    async def _serve(self, queue: str) -> None:
        """Until nothing more may go there for the moment."""
        attempt = partial(self.serve, queue) if queue else self.pass_time
        try:
            while True:
                if not await self._in_turn(attempt):
                    return
                await asyncio.sleep((self._pace(queue) + MARGIN_MS) / 1000)
        finally:
            self._serving.discard(queue)

    async def _in_turn(self, attempt: Callable[[], Awaitable[bool]]) -> bool:
        async with self._room:
            return bool(await wait_out("telling alerts", attempt, lambda: self.should_stop))

    def _pace(self, queue: str) -> int:
        channel = self._book.rules.channels.get(queue.partition("/")[0])
        return channel.pace if channel else FIRST_MS

    def _served(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            self._failed = self._failed or task.exception()

    # -- time ---------------------------------------------------------------------------------------------

    async def pass_time(self) -> bool:
        """Snoozes that end, alerts that escalate, what is forgotten. Whether there may be more of it."""
        now = self._clock.now()
        accounts = await self._book.due("", now, LOOKED_AT)
        async with self._book.turn(accounts, now) as turn:
            for account in accounts:
                turn.apply(account, Instant(now))
        return len(accounts) == LOOKED_AT

    # -- one recipient ------------------------------------------------------------------------------------

    async def serve(self, queue: str) -> bool:
        """Sends the next message to one recipient, if it is time for one."""
        if not await self._book.may_send(queue, secrets.token_hex(8), TURN_MS):
            return False
        pause = FIRST_MS
        try:
            parcel = await self._claim(queue)
            if parcel is None:
                return False
            outcome = await self._senders.send(parcel)
            pause = await self._note(queue, parcel, outcome)
            return True
        finally:
            await self._book.rest(queue, pause)

    async def _claim(self, queue: str) -> Parcel | None:
        """What goes next, written down as being on its way before anybody sees it."""
        now, rules = self._clock.now(), self._book.rules
        is_full = await self._book.is_full(queue, now)
        accounts = await self._book.due(queue, now, LOOKED_AT)
        async with self._book.turn(accounts, now) as turn:
            due = items((state for state in turn.states.values() if state), queue, rules, now)
            if late := hopeless(due, now):
                for each in late:
                    turn.apply(each.account, Refused(each.message.rule, each.message.part, now))
                    _log_given_up(each, "late")
                self.given_up += len(late)
                return None
            parcel = next_parcel(due, rules, now, is_full=is_full)
            for each in parcel.items if parcel else ():
                assert parcel is not None  # noqa: S101 - else there are no items
                turn.apply(each.account, Claimed(each.message.rule, each.message.part, parcel.key, now))
        return parcel

    async def _note(self, queue: str, parcel: Parcel, outcome: Sent) -> int:
        """Writes down what became of it; ms until the next message may go there."""
        now = self._clock.now()
        match outcome:
            case Retry():
                self._failures[queue] += 1
                after = _pause(self._failures[queue]) if outcome.after_s is None else round(outcome.after_s * 1000)
                log.warning("alert waits", to=parcel.to.channel, why=outcome.reason, detail=outcome.detail)
                return max(after, FIRST_MS)
            case GiveUp():
                for each in parcel.items:
                    _log_given_up(each, outcome.reason, outcome.detail)
                self.given_up += len(parcel.items)
        await wait_out("noting alerts", lambda: self._write(parcel, outcome, now), lambda: False)
        if isinstance(outcome, Arrived):
            del self._failures[queue]
            self.sent += 1
            if parcel.part != "face":
                await self._book.count(queue, parcel.key, now)
        return self._pace(queue)

    async def _write(self, parcel: Parcel, outcome: Sent, now: int) -> bool:
        async with self._book.turn([each.account for each in parcel.items], now) as turn:
            for each in parcel.items:
                rule, part = each.message.rule, each.message.part
                if isinstance(outcome, Arrived):
                    turn.apply(each.account, Told(rule, part, outcome.ref, now, parcel.is_digest, parcel.face))
                else:
                    turn.apply(each.account, Refused(rule, part, now))
        return True

    async def on_stop(self) -> None:
        self._decided.set()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._senders.close()


def _pause(failures: int) -> int:
    """1 s, 2 s, 4 s, … and never more than five minutes."""
    longest = min(LONGEST_MS, FIRST_MS << min(failures - 1, 20))
    return round(longest * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, not a secret


def _log_given_up(item: Item, reason: str, detail: str = "") -> None:
    told = {"account": item.account, "change": item.alert.story.change, "rule": item.message.rule}
    log.error("alert given up", **told, to=item.message.to.channel, why=reason, detail=detail)
