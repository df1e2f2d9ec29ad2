"""From requests to Kafka: those that wait share one produce, and each is told when the broker has its messages.

While one produce is under way, others gather behind it: with little to do a request goes at once and alone, with
much to do hundreds go together. Nobody waits for a timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError

from streams.collector.refused import away
from streams.connecting import kafka_options
from streams.outage import AWAY, wait_out
from streams.producer import Producer
from streams.settings import Settings
from streams.store.base import Outbound
from streams.topics import SOURCES

log = structlog.get_logger()
AT_ONCE = 2_000  # messages in one produce, unless one request alone has more


@dataclass(frozen=True, slots=True)
class _Parcel:
    messages: list[Outbound]
    delivered: asyncio.Future[None]


class Sender:
    """`run()` goes on until it is cancelled; meanwhile `deliver` may be called by any number of requests."""

    def __init__(self, settings: Settings, deliver_s: float, clock: Callable[[], int]) -> None:
        self._settings = settings
        self._producer = Producer(settings)
        self._deliver_s = deliver_s
        self._clock = clock
        self._waiting: deque[_Parcel] = deque()
        self._arrived = asyncio.Event()
        self.away = "it was not asked yet"  # why nothing can be delivered; "" when Kafka answers

    async def deliver(self, messages: list[Outbound]) -> None:
        """Returns when the broker has all of them; raises 503 when it does not say so in time.

        They may be there even then, so what is sent again must have an id of its own.
        """
        if self.away:
            raise away(self.away)
        if not messages:
            return
        parcel = _Parcel(messages, asyncio.get_running_loop().create_future())
        self._waiting.append(parcel)
        self._arrived.set()
        await parcel.delivered

    async def run(self) -> None:
        try:
            await self._back()
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._waiting:
                    await self._send(self._some())
        finally:
            self._fail("the collector stops", list(self._waiting))
            await self._producer.stop()

    def _some(self) -> list[_Parcel]:
        """Those who came first, as many as go into one produce."""
        some = [self._waiting.popleft()]
        count = len(some[0].messages)
        while self._waiting and (count := count + len(self._waiting[0].messages)) <= AT_ONCE:
            some.append(self._waiting.popleft())
        return some

    async def _send(self, parcels: list[_Parcel]) -> None:
        messages = [message for parcel in parcels for message in parcel.messages]
        try:
            async with asyncio.timeout(self._deliver_s):
                await self._producer.send(messages, self._clock())
        except AWAY as error:
            self._fail(f"{type(error).__name__}", [*parcels, *self._waiting])
            await self._back()
        except BaseException:
            self._fail("the collector stops", parcels)
            raise
        else:
            for parcel in parcels:
                if not parcel.delivered.done():  # whoever waited may be gone
                    parcel.delivered.set_result(None)

    def _fail(self, why: str, parcels: list[_Parcel]) -> None:
        """Those behind would wait as long and in vain; whoever comes now is told at once."""
        self.away = why
        self._waiting.clear()
        for parcel in parcels:
            if not parcel.delivered.done():
                parcel.delivered.set_exception(away(why))

    async def _back(self) -> None:
        await wait_out("Kafka", self._open, lambda: False)
        self.away = ""

    async def _open(self) -> None:
        """A new producer once Kafka answers. What the old one still has is settled first, delivered or given up:
        it would fail what comes behind it."""
        await self._look()
        await self._producer.stop()
        self._producer = Producer(self._settings)
        await self._producer.start()

    async def _look(self) -> None:
        """Raises what an absent broker raises, also for topics that are missing."""
        admin = AIOKafkaAdminClient(**kafka_options(self._settings))
        try:
            await admin.start()
            there = set(await admin.list_topics())  # asked about by name, a topic may be created
        finally:
            await admin.close()
        if missing := [name for role in SOURCES if (name := self._settings.topics(role)) not in there]:
            raise UnknownTopicOrPartitionError(f"no topic {', '.join(missing)}: run `isotherm topics`")
