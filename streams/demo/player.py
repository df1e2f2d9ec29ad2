"""Plays the traffic into the source topics: the past as fast as it goes, then the present at its own pace."""

from __future__ import annotations

import asyncio
import random
from asyncio import Future
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

from aiokafka import AIOKafkaProducer

from streams.connecting import kafka_options
from streams.demo.companies import World
from streams.demo.ledger import Ledger
from streams.demo.traffic import Clock, Message, live, opening
from streams.settings import Settings

REPORT_EVERY = 250  # messages between two reports of progress
AHEAD_S = 0.002  # the present may run this far ahead of its pace

Report: TypeAlias = Callable[[float], None]  # how much of the past was played, 0 to 1


class Player:
    """Sends messages under the key they were given and notes in the ledger when each was sent."""

    def __init__(self, producer: Any, world: World, ledger: Ledger, clock: Clock) -> None:
        self._producer = producer
        self._world, self._ledger, self._clock = world, ledger, clock

    async def past(self, now: int, routed: Callable[[], Awaitable[None]], report: Report) -> None:
        """The opening as of `now`, waiting after each stretch until `routed` returns.

        Topics are read side by side. Without the wait a visit could be read before the introduction that says
        whose visit it is, and would stand under a provisional account.
        """
        past = list(opening(self._world, now))
        for stretch in stretches(self._world, past):
            for message in stretch:
                await self._send(message)
                if self._ledger.messages % REPORT_EVERY == 0:
                    report(self._ledger.messages / len(past))
            await self._producer.flush()
            await routed()
        report(1.0)

    async def present(self, rate: float) -> None:
        """Goes on without end, `rate` messages per second; a pause is made up for afterwards."""
        rng = random.Random(f"{self._world.seed}/live")  # noqa: S311 - a made-up world, not a secret
        loop = asyncio.get_running_loop()
        due = loop.time()
        for message in live(self._world, self._clock, rng):
            if (ahead := due - loop.time()) > AHEAD_S:
                await asyncio.sleep(ahead)
            await self._send(message)
            due += 1 / rate

    async def _send(self, message: Message) -> None:
        at = self._clock()
        acknowledged = await self._producer.send(message.topic, message.value, key=message.key, timestamp_ms=at)
        self._ledger.messages += 1
        acknowledged.add_done_callback(partial(self._note, at))

    def _note(self, at: int, acknowledged: Future[Any]) -> None:
        if not acknowledged.cancelled() and acknowledged.exception() is None:
            stands = acknowledged.result()
            self._ledger.latency.sent((stands.topic, stands.partition, stands.offset), at)


@asynccontextmanager
async def playing(settings: Settings, world: World, ledger: Ledger, clock: Clock) -> AsyncIterator[Player]:
    producer = AIOKafkaProducer(**kafka_options(settings), enable_idempotence=False, request_timeout_ms=10_000)
    await producer.start()
    try:
        yield Player(producer, world, ledger, clock)
    finally:
        await producer.stop()


def stretches(world: World, past: list[Message]) -> Iterator[list[Message]]:
    """The opening in three: what the CRM knows, who is who on the web site, who visited."""
    web = next(n for n, message in enumerate(past) if message.topic == "web.activity")
    visits = web + sum(len(company.contacts) + 1 for company in world.companies)
    yield past[:web]
    yield past[web:visits]
    yield past[visits:]
