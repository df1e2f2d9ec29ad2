"""The log folded once more, up to a position: nothing is told of it, and nothing that runs is touched.

It is the same `fold` as the worker's. `verify` and `snapshot` fold into memory, `rebuild` into a second namespace
of Redis; what the log sends to other accounts is in the log already, so nothing goes out.

What an account is follows from its own records, from the time that passes in its partition, and from where the
records that count once came from. So a sample is folded by passing over all others but for their times and places:
a merge brings a state along in a record of the account itself.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from rules.fold import ALONE, Due, Folded, accounts_of, fold
from rules.records import Record, Release
from rules.state import NEVER
from streams.connecting import kafka_options
from streams.pipeline import GapError, Message, OtherLogError, Owned, Run, compiled, decoded, look_up
from streams.playback import SILENCE_S, up_to_its_end
from streams.settings import Settings
from streams.store.base import At, Commit, Committed, Refused, StoppedError, Store, commit_of
from streams.store.memory import MemoryStore
from streams.store.snapshots import Assembling, Snapshot, seed
from streams.topics import ACCOUNT_LOG, SNAPSHOTS

Progress = Callable[[int], None]  # told how many records more have been folded
Wanted = Callable[[str], bool]  # whether an account is folded


class LogProblem(Exception):
    """The log cannot answer. The message says for which range it can, or what is wrong with it."""


@dataclass(slots=True)
class Log:
    """`account.log`, read partition by partition, and the snapshots that stand for its beginning."""

    settings: Settings
    consumer: Any

    @property
    def topic(self) -> str:
        return self.settings.topics(ACCOUNT_LOG)

    async def snapshot(self, number: int) -> Snapshot | None:
        """The newest that is whole. Raises LogProblem for one that this code cannot read."""
        found = Assembling(number)
        try:
            async for message in up_to_its_end(self.settings, SNAPSHOTS, only=number):
                found.hears(message.key, message.value)
        except ValueError as error:
            raise LogProblem(f"{self.settings.topics(SNAPSHOTS)}/{number}: {error}") from None
        return found.snapshot

    async def first(self, number: int) -> int:
        """The first offset that the log has."""
        place = TopicPartition(self.topic, number)
        return int((await self.consumer.beginning_offsets([place]))[place])

    async def end(self, number: int) -> int:
        """The offset behind the log's last message."""
        place = TopicPartition(self.topic, number)
        return int((await self.consumer.end_offsets([place]))[place])

    async def require(self, number: int, since: int) -> int:
        """The first offset that the log has. Raises LogProblem when it has no more what follows `since`."""
        first = await self.first(number)
        if first > since:
            wanted = "no snapshot reaches" if not since else f"what was kept ends at {since:,} and does not reach"
            raise LogProblem(
                f"{self.topic}/{number} begins at offset {first:,}, and {wanted} so far: it can answer for what "
                f"follows {first:,}, and not for what accounts were before. Nothing was changed"
            )
        return first

    async def read(self, number: int, start: int, upto: int) -> AsyncIterator[list[Any]]:
        """The messages from `start` up to the one before `upto`, which must be in the log."""
        place = TopicPartition(self.topic, number)
        if start >= upto:
            return
        self.consumer.assign([place])
        self.consumer.seek(place, start)
        while start < upto:
            batch: dict[TopicPartition, list[Any]] = {}
            try:
                async with asyncio.timeout(SILENCE_S):
                    while not batch:
                        batch = await self.consumer.getmany(place, timeout_ms=200, max_records=self.settings.batch)
            except TimeoutError:
                raise KafkaTimeoutError(f"{self.topic}/{number} could not be read on from {start}") from None
            messages = [each for each in batch[place] if each.offset < upto]
            start = batch[place][-1].offset + 1
            yield messages


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Log]:
    async with AIOKafkaConsumer(
        **kafka_options(settings),
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=settings.fetch_max_wait_ms,
    ) as consumer:
        await asyncio.sleep(0)  # aiokafka cannot stop what has not yet had a turn
        yield Log(settings, consumer)


async def begin(
    log: Log, number: int, store: Store, upto: int, whole: bool = False, wanted: Wanted | None = None
) -> Owned:
    """The partition in `store`, to be folded up to `upto`: as it stands, or else from the newest snapshot on; from
    nothing where there is none, or where the `whole` log is to be folded.

    Raises LogProblem when the log does not reach back there, StoppedError when somebody else folds there too.
    """
    acquired, partitions = await store.acquire(number), log.settings.partitions
    if not acquired.partition.offset and not whole:
        snapshot = await log.snapshot(number)
        if snapshot is not None and snapshot.partition.offset <= upto:
            done = await seed(store, acquired, snapshot, wanted)
            if isinstance(done, Refused):
                raise StoppedError(done)
            acquired = await store.acquire(number)
    await log.require(number, acquired.partition.offset)
    return Owned.from_store(acquired, partitions)


async def refold(
    log: Log, owned: Owned, store: Store, upto: int, progress: Progress, wanted: Wanted | None = None
) -> Owned:
    """Folds the log from where `store` stands up to `upto`, and gives the partition as it stands then.

    Raises LogProblem, StoppedError when somebody else folds into the same store, RulesetError for rules that this
    code cannot load.
    """
    number, at = owned.partition.number, owned.partition.offset
    if at >= upto:
        return owned
    first = await log.require(number, at)
    start = max(first, at - 1) if owned.partition.last else at  # the last one again: is it still the same log?
    try:
        async for messages in log.read(number, start, upto):
            before = owned.partition.offset
            owned = await _fold(messages, owned, store, wanted)
            progress(owned.partition.offset - before)
    except (GapError, OtherLogError) as error:
        raise LogProblem(f"{log.topic}/{number} is not the log that was folded: {error}") from None
    return owned


async def _fold(messages: Sequence[Message], owned: Owned, store: Store, wanted: Wanted | None) -> Owned:
    for run in decoded(messages, owned):
        if wanted is not None:
            run.records = [passed_over(each, wanted) for each in run.records]
        owned, _ = await fold_quietly(run, owned, store)
    return owned


async def fold_quietly(
    run: Run, owned: Owned, store: Store, change: Callable[[Folded], None] = lambda folded: None
) -> tuple[Owned, Folded]:
    """Folds a run into `store`; nothing goes out of it. What is to be written may be changed before it is.

    Raises StoppedError when somebody else folds into the same store.
    """
    due, unswept = await look_up(run.records, owned, store)
    named = accounts_of(run.records).union(unswept, (account for _, account in due))
    states = await store.load(owned.partition.number, named, owned.at)
    folded = fold(owned.partition, owned.rules, run.records, states, compiled, due, unswept, run.end)
    folded.partition = msgspec.structs.replace(folded.partition, last=run.last)
    change(folded)
    done = await store.commit(commit_of(owned.token, owned.partition.offset, folded, ()))
    if isinstance(done, Refused):
        raise StoppedError(done)
    return owned.after(folded, done, 0), folded


def passed_over(record: Record, wanted: Wanted) -> Record:
    """Of an account that nobody asked for, only when its record came and from where: it makes no state."""
    if isinstance(record, ALONE) or wanted(record.account):
        return record
    return Release(
        account=record.account,
        received=record.received,
        source=record.source,
        via=record.via,
        offset=record.offset,
    )


class Recollection(MemoryStore):
    """A store in memory that takes a long log: what is due is looked up, not searched for."""

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[Due] = []

    async def due(self, partition: int, until: int, limit: int, at: At | None = None) -> list[Due]:
        wakes, found = self._of(partition).wakes, list[Due]()
        while self._heap and self._heap[0][0] <= until and len(found) < limit:
            entry = heapq.heappop(self._heap)
            if wakes.get(entry[1]) == entry[0] and found[-1:] != [entry]:
                found.append(entry)
        for entry in found:  # due it is until a commit says otherwise
            heapq.heappush(self._heap, entry)
        return found

    async def commit(self, commit: Commit) -> Committed | Refused:
        self._write(self._of(commit.partition.number), commit)  # there is one who folds: itself
        for account, wake in commit.wakes.items():
            if wake < NEVER:
                heapq.heappush(self._heap, (wake, account))
        return Committed(NEVER)  # nobody waits for the next one

    def packed(self, partition: int) -> Mapping[str, bytes]:
        """All accounts, in no order, as stores keep them."""
        return self._of(partition).accounts

    def counted(self, partition: int) -> Mapping[int, Mapping[str, int]]:
        """The tallies of all days that are kept."""
        return self._of(partition).tallies
