"""Giving new measures their past: `isotherm deploy --backfill`, and `isotherm backfill` to go on with it.

    log ─► past, up to the switch ─► fills ─► account.log ─► the fold closes the gaps of accounts

The past is folded in memory, here and not in a worker. What it comes to is appended to the log as records, a few
at a time, so that workers have time for what is live; what the fold does with them is as exact and as safe as
everything else. Ended in between, it is done once more: a gap closes once, and what comes for a closed one is
nothing. The partition's `Filled`, behind its last fill, says that all is done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from rules.filling import Filling
from rules.fold import Partition
from rules.records import Filled, encode_record
from rules.ruleset import Ruleset
from streams.clock import RedisClock
from streams.observing.signing import signatures
from streams.observing.standing import ranges
from streams.past import Past, Pasts
from streams.producer import Producer
from streams.reading import Reader
from streams.refolding import Log, LogProblem, opened
from streams.settings import Settings
from streams.store.base import Outbound
from streams.store.redis import connect
from streams.topics import ACCOUNT_LOG

AT_ONCE = 50  # fills that a partition is given before it has folded those before
LONGEST_REST_S = 1.0
LOOK_S = 0.02
AFTERWARDS = "What is not filled stays unknown; `isotherm backfill` goes on with it"
PATIENCE_S = 60.0
WORKER_S = 5.0  # workers that stand still for so long are said to

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much


class BackfillProblem(Exception):
    """Nothing more was filled. The message says why, and what to do."""


@dataclass(slots=True)
class Done:
    """What was filled: deployments, oldest first, and accounts."""

    deployments: list[str] = field(default_factory=list)
    accounts: int = 0
    records: int = 0
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        return {
            "deployments": self.deployments,
            "accounts": self.accounts,
            "records": self.records,
            "seconds": round(self.seconds, 1),
        }


async def backfill(settings: Settings, progress: Progress, awaited: tuple[str, int] | None = None) -> Done:
    """Fills what deployments asked for and did not get so far; waits until workers have come to the one `awaited`,
    of which the id is given and when it was received.

    Raises BackfillProblem, and LogProblem when the log does not reach back.
    """
    redis, producer = connect(settings, timeout=60.0), Producer(settings)
    done, began = Done(), time.monotonic()
    try:
        await producer.start()
        async with opened(settings) as log:
            work = _Backfill(
                settings, log, redis, Reader(redis, settings), producer, RedisClock(redis), progress, done
            )
            if awaited:
                await work.await_switch(*awaited)
            while open_ := await work.open():
                await work.fill(open_)
        done.seconds = time.monotonic() - began
        return done
    finally:
        await producer.stop()
        await redis.aclose()


@dataclass(slots=True)
class _Backfill:
    settings: Settings
    log: Log
    redis: Any
    reader: Reader
    producer: Producer
    clock: RedisClock
    progress: Progress
    done: Done

    @property
    def numbers(self) -> range:
        return range(self.settings.partitions)

    async def partitions(self) -> list[Partition]:
        return [await self.reader.partition(number) for number in self.numbers]

    async def await_switch(self, deployment: str, received: int) -> None:
        """Until every partition has come to the record of that deployment, or to a later one."""

        def is_there(partition: Partition) -> bool:
            return partition.deployment == deployment or partition.ruleset_at > received

        patience = _Patience(self.settings, self.redis, self.clock)
        while away := [each.number for each in await self.partitions() if not is_there(each)]:
            there = self.settings.partitions - len(away)
            self.progress("waiting for workers to switch", there, self.settings.partitions)
            await patience.look(away)
            await asyncio.sleep(LOOK_S)

    async def open(self) -> dict[int, Filling]:
        """The oldest deployment that is not filled everywhere: by partition, what is to be filled."""
        fillings = {each.number: each.fillings for each in await self.partitions() if each.fillings}
        if not fillings:
            return {}
        oldest = min((each for them in fillings.values() for each in them), key=lambda each: each.at)
        id = oldest.deployment
        return {number: each for number, them in fillings.items() for each in them if each.deployment == id}

    async def fill(self, fillings: Mapping[int, Filling]) -> None:
        """`fillings`: by partition, what one deployment asked for."""
        number, filling = next(iter(fillings.items()))
        pasts = await self._pasts(filling, await self.reader.ruleset(number))
        await self._fold(pasts)
        total, told = sum(pasts.partitions[number].accounts for number in fillings), 0
        for number in fillings:
            async for count in self._append(pasts, number):
                told += count
                self.progress("filling accounts", min(told, total), total)
        for number in fillings:
            await self._say_filled(number, filling.deployment)
        self.done.accounts += total
        self.done.deployments.append(filling.deployment)

    # -- the past -------------------------------------------------------------------------------------------

    async def _pasts(self, filling: Filling, ruleset: Ruleset) -> Pasts:
        """Of the measures that `ruleset` has: others stay unknown."""
        pasts = Pasts()
        for number in self.numbers:
            first = await self.log.first(number)
            snapshot = await self.log.snapshot(number) if first else None
            if first and (snapshot is None or snapshot.partition.offset < first):
                raise LogProblem(
                    f"{self.log.topic}/{number} begins at offset {first:,}, and no snapshot reaches so far: whose "
                    "what follows is cannot be told. Nothing was filled; what is missing stays unknown"
                )
            await Past.begin(number, self.settings.partitions, snapshot, filling, ruleset, pasts)
        return pasts

    async def _fold(self, pasts: Pasts) -> None:
        total = sum(each.offset for each in await self.partitions())
        started = sum(past.offset for past in pasts.partitions.values())

        def tell() -> None:
            self.progress("reading the log", at() - started, total - started)

        def at() -> int:
            return sum(past.offset for past in pasts.partitions.values())

        await pasts.fold(self._read, tell)
        self.done.records += at() - started

    async def _read(self, past: Past) -> Sequence[Any]:
        """The next messages of what workers have folded so far."""
        since = time.monotonic()
        while (position := (await self.reader.partition(past.number)).offset) <= past.offset:
            if time.monotonic() - since > PATIENCE_S:
                raise BackfillProblem(
                    f"workers have folded partition {past.number} of {self.log.topic} up to {position:,}, and "
                    "there is no record of this deployment. Do they run? If it was ended before all partitions "
                    "had it, deploy the same rules again. Nothing was filled"
                )
            await asyncio.sleep(LOOK_S)
        async for messages in self.log.read(past.number, past.offset, position):
            return messages
        return ()

    # -- what goes into the log -----------------------------------------------------------------------------

    async def _append(self, pasts: Pasts, number: int) -> AsyncIterator[int]:
        """Fills of one partition, a few at a time; how many each time."""
        await self.clock.sync()
        fills = pasts.partitions[number].fills(self.clock.now())
        while some := [*islice(fills, AT_ONCE)]:
            await self.clock.keep()
            records = [Outbound(ACCOUNT_LOG, each.account, encode_record(each)) for each in some]
            began = time.monotonic()
            answers = await self.producer.send(records, self.clock.now())
            yield len(some)
            await self._until(number, partial(_is_behind, answers[-1].offset))
            # What is live goes first: as long as these took, the worker has for itself.
            await asyncio.sleep(min(time.monotonic() - began, LONGEST_REST_S))

    async def _say_filled(self, number: int, deployment: str) -> None:
        await self.clock.keep()
        now = self.clock.now()
        record = Outbound(ACCOUNT_LOG, "", encode_record(Filled(received=now, deployment=deployment)))
        await self.producer.send([record], now, number)
        await self._until(number, lambda it: all(each.deployment != deployment for each in it.fillings))

    async def _until(self, number: int, is_there: Callable[[Partition], bool]) -> None:
        """Workers have come so far."""
        since, patience = time.monotonic(), _Patience(self.settings, self.redis, self.clock)
        while not is_there(await self.reader.partition(number)):
            if time.monotonic() - since > WORKER_S:
                self.progress("waiting for workers", 0, 0)
            await patience.look([number])
            await asyncio.sleep(LOOK_S)


@dataclass(slots=True)
class _Patience:
    """With workers that do not come: not for ever."""

    settings: Settings
    redis: Any
    clock: RedisClock
    heard: float = field(default_factory=time.monotonic)  # when somebody had signed for the partitions last
    looked: float = field(default_factory=time.monotonic)

    async def look(self, numbers: Sequence[int]) -> None:
        """Raises BackfillProblem where one of these partitions has stopped, or nobody folds any for long."""
        now = time.monotonic()
        if now - self.looked < WORKER_S:
            return
        self.looked = now
        await self.clock.keep()
        signed, at = await signatures(self.redis, self.settings.namespace), self.clock.now()
        fresh = {n: each for n in numbers if (each := signed.get(n)) is not None and each.is_fresh(at)}
        for number, each in fresh.items():
            if each.by:
                raise BackfillProblem(f"{ACCOUNT_LOG}/{number} stopped: {each.why}. {AFTERWARDS}")
        if fresh:
            self.heard = now
        elif now - self.heard > PATIENCE_S:
            where = f"{ACCOUNT_LOG}/{ranges(numbers)}"
            raise BackfillProblem(f"nobody folds {where}: does a worker of the role fold run? {AFTERWARDS}")


def _is_behind(offset: int, partition: Partition) -> bool:
    return partition.offset > offset
