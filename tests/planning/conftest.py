"""A history that the real fold folds into a real Redis, out of a real broker's log; no time passes by itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rules.fold import ALONE
from rules.records import Record, RulesetRecord, Tick, encode_record
from streams import topics
from streams.pipeline import Owned, fold_batch
from streams.producer import Producer, partition_of
from streams.reading import Reader
from streams.settings import Settings
from streams.store.base import Outbound
from streams.store.redis import RedisStore
from tests.live.conftest import environment
from tests.planning.world import Message

PARTITIONS = 2
Places = dict[str, dict[str, tuple[str, ...]]]


@dataclass(slots=True)
class System:
    settings: Settings
    redis: Any
    producer: Producer
    owned: dict[int, Owned] = field(default_factory=dict)

    async def begin(self) -> None:
        store = RedisStore(self.redis, PARTITIONS, self.settings.namespace)
        for number in range(PARTITIONS):
            self.owned[number] = Owned.from_store(await store.acquire(number), PARTITIONS)

    async def hears(self, *records: Record) -> None:
        """Each goes into its partition, or into all, and is folded there."""
        for record in records:
            if isinstance(record, ALONE):
                for number in range(PARTITIONS):
                    await self._append(number, "", record)
            else:
                await self._append(partition_of(record.account, PARTITIONS), record.account, record)

    async def deploy(self, files: dict[str, str], at: int) -> None:
        """The switch, and ticks until the sweep is over."""
        await self.hears(RulesetRecord(received=at, hash="", files=files))
        while any(each.partition.sweep is not None for each in self.owned.values()):
            await self.hears(Tick(received=at))

    async def places(self) -> Places:
        """Where all stand, as Redis has it."""
        reader, found = Reader(self.redis, self.settings), Places()
        for number in range(PARTITIONS):
            async for account, state in reader.states(number):
                found[account] = {n: each.answer for n, each in sorted(state.standings.items()) if each.answer}
        return found

    async def runs(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A command as a program of its own."""
        command = [sys.executable, "-m", "streams.cli", *map(str, arguments)]
        return await asyncio.to_thread(
            subprocess.run,
            command,
            env=environment(self.settings),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    async def _append(self, number: int, key: str, record: Record) -> None:
        value, owned = encode_record(record), self.owned[number]
        await self.producer.send([Outbound(topics.ACCOUNT_LOG, key, value)], record.received, number)
        store = RedisStore(self.redis, PARTITIONS, self.settings.namespace)
        self.owned[number] = await fold_batch([Message(owned.partition.offset, value)], owned, store)


@pytest.fixture
def settings(settings_of: Callable[..., Settings]) -> Settings:
    return settings_of(partitions=PARTITIONS)


@pytest.fixture
async def system(settings: Settings, redis: Any) -> AsyncIterator[System]:
    await topics.create(settings)
    producer = Producer(settings)
    await producer.start()
    made = System(settings, redis, producer)
    await made.begin()
    yield made
    await producer.stop()
