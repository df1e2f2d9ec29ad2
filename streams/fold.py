"""The fold as a service: owns partitions of `account.log`, folds them batch by batch, lets time pass in them.

Kafka says which partitions are ours; Redis decides it: taking a partition over writes a new token, and a commit
with an old one is refused. Where to read on stands in Redis too; Kafka's committed offsets only show the lag.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from mode import Service

from rules.errors import RulesetError
from rules.records import Tick, encode_record
from streams.clock import RedisClock
from streams.consuming import LOOK_AGAIN_S, SHOW_LAG_EVERY_S, consumer, fetch, show_lag
from streams.outage import AWAY, wait_out
from streams.pipeline import GapError, Owned, StoppedError, fold_batch
from streams.producer import Producer
from streams.publisher import Publisher
from streams.settings import Settings
from streams.store.base import Outbound, Store
from streams.topics import ACCOUNT_LOG

log = structlog.get_logger()


@dataclass(slots=True)
class Held:
    """A partition that we own, and the last tick we put into it."""

    owned: Owned
    ticked: int = -1

    def wants_tick(self, now: int) -> bool:
        """Something is due (or a sweep goes on), and the last tick has been folded."""
        partition = self.owned.partition
        return partition.offset > self.ticked and (self.owned.next_wake <= now or partition.sweep is not None)


class Fold(Service, ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(
        self,
        settings: Settings,
        store: Store,
        producer: Producer,
        publisher: Publisher,
        clock: RedisClock,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._settings, self._store, self._clock = settings, store, clock
        self._producer, self._publisher = producer, publisher
        self._topic = settings.topics(ACCOUNT_LOG)
        self._held: dict[int, Held] = {}
        self._turn = asyncio.Lock()  # held while partitions are folded, or change hands
        self._changed = asyncio.Event()
        self.stopped_partitions: dict[int, str] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self._consumer: Any = None

    async def on_start(self) -> None:
        self._consumer = consumer(self._settings, "fold")
        await self._consumer.start()  # before subscribing: nobody waits here for the group to settle
        self._consumer.subscribe([self._topic], listener=self)

    async def on_stop(self) -> None:
        self._changed.set()
        async with self._turn:
            await self._consumer.stop()

    # -- whose partitions -----------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        async with self._turn:
            for each in revoked:
                self._held.pop(each.partition, None)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        async with self._turn:
            for each in sorted(assigned):
                await self._take_over(each.partition)

    async def _take_over(self, partition: int) -> None:
        """Becomes the owner, and reads on from where the store stands."""
        acquired = await wait_out("taking over", lambda: self._store.acquire(partition), lambda: self.should_stop)
        if acquired is None:
            return
        self.stopped_partitions.pop(partition, None)
        try:
            self._held[partition] = Held(Owned.from_store(acquired))
        except RulesetError as error:
            self._stop_partition(partition, f"cannot load the ruleset in force: {error}")
            return
        self._consumer.seek(TopicPartition(self._topic, partition), acquired.partition.offset)
        self._publisher.committed(partition, 0)
        self._changed.set()

    def _stop_partition(self, partition: int, why: str) -> None:
        self._held.pop(partition, None)
        self._consumer.pause(TopicPartition(self._topic, partition))
        self.stopped_partitions[partition] = why
        log.error("partition stopped", partition=partition, why=why)

    # -- folding --------------------------------------------------------------------------------------------

    @Service.task
    async def _run(self) -> None:
        while not self.should_stop:
            await self._publisher.room()
            batches = await fetch(self._consumer, self._settings)
            if batches:
                async with self._turn:
                    await asyncio.gather(*(self._fold(tp.partition, each) for tp, each in batches.items()))
                self._changed.set()

    async def _fold(self, partition: int, messages: list[Any]) -> None:
        """Folds a batch. Outages are waited out here, everything else stops the partition and says so."""
        held = self._held.get(partition)
        if held is None:
            return
        before = held.owned.outgoing
        try:
            for start in range(0, len(messages), self._settings.batch):
                held.owned = await fold_batch(
                    messages[start : start + self._settings.batch], held.owned, self._store
                )
        except StoppedError as error:
            await self._refused(partition, error)
        except GapError as error:
            self._stop_partition(partition, f"GAP: {error}")
        except RulesetError as error:
            self._stop_partition(partition, f"cannot load a ruleset record: {error}")
        except AWAY as error:
            log.warning("waiting", what="commit", partition=partition, why=f"{type(error).__name__}: {error}")
            await self._take_over(partition)
        except Exception as error:
            log.exception("bug in the fold", partition=partition)
            self._stop_partition(partition, f"{type(error).__name__}: {error}")
        if held.owned.outgoing > before:
            self._publisher.committed(partition, held.owned.outgoing - before)

    async def _refused(self, partition: int, error: StoppedError) -> None:
        if error.refused.reason == "moved":
            log.warning("the store stands elsewhere", partition=partition, at=error.refused.at)
            await self._take_over(partition)
        else:
            self._held.pop(partition, None)
            self.stopped_partitions[partition] = "fenced: somebody else took the partition over"
            log.warning("fenced", partition=partition)

    # -- time -----------------------------------------------------------------------------------------------

    @Service.task
    async def _let_time_pass(self) -> None:
        """Appends a tick to a partition at the instant at which an account is due, and while a sweep goes on."""
        while not self.should_stop:
            self._changed.clear()
            await wait_out("reading the time", self._clock.keep, lambda: self.should_stop)
            now = self._clock.now()
            due = [(p, held) for p, held in self._held.items() if held.wants_tick(now)]
            if due:
                sending = lambda due=due, now=now: asyncio.gather(*(self._tick(p, h, now) for p, h in due))  # noqa: E731
                await wait_out("appending a tick", sending, lambda: self.should_stop)
            await self._until_due()

    async def _tick(self, partition: int, held: Held, now: int) -> None:
        tick = Outbound(ACCOUNT_LOG, "", encode_record(Tick(received=now)))
        (answer,) = await self._producer.send([tick], now, partition)
        held.ticked = answer.offset

    async def _until_due(self) -> None:
        """Sleeps to the next instant at which somebody is due, or until a commit changes that."""
        now = self._clock.now()
        waiting = [h.owned.next_wake for h in self._held.values() if h.owned.partition.offset > h.ticked]
        seconds = min([LOOK_AGAIN_S, *(max(0, wake - now) / 1000 for wake in waiting)])
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return

    @Service.timer(SHOW_LAG_EVERY_S)
    async def _show_lag(self) -> None:
        positions = {TopicPartition(self._topic, p): offset for p, offset in self.positions().items()}
        await show_lag(self._consumer, positions)

    # -- what others may ask --------------------------------------------------------------------------------

    def positions(self) -> dict[int, int]:
        return {p: held.owned.partition.offset for p, held in self._held.items()}
