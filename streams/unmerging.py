"""Separating two accounts that were made one: what `isotherm unmerge` does, and how it knows that it is done.

    workers run? ─► surveys ─► links ─► the merged one: rebuild, restate ─► the other: rebuild, restate

From the moment its link is gone, what comes for the merged account goes to it again, and is passed on as long as
it has not been restated. What the routers had decided before is waited for, and by the old link they decide
nothing more. Each account is rebuilt from the log (see `rules.rebuilding`) and told to be that in the log; the
fold refuses it when something came in between, and then the rest is read and it is told again. Whether it was
refused follows from the log alone.

Ended in between, the same command goes on: either the account is still merged, or the log says of it that it was
separated, and not of the other.

The log is read as a stream, some four times over, and nothing of it is kept but the state of one account.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from rules.fold import Partition
from rules.rebuilding import Apart, Rebuilding, Survey, separate
from rules.records import Record, Tick, decode_record, encode_record, is_provisional, is_visitor
from rules.state import AccountState
from streams.clock import RedisClock
from streams.connecting import kafka_options
from streams.identity import account_of, follow, further_keys, key_of
from streams.keys import PartitionKeys
from streams.pipeline import compiled
from streams.playback import SILENCE_S
from streams.producer import Producer, partition_of
from streams.settings import Settings
from streams.store.base import Outbound, unpack_partition
from streams.store.redis import RedisStore, connect
from streams.store.sources import SourceStore, link_id
from streams.topics import ACCOUNT_LOG, LINKS, check

ASK_AGAIN_S = 0.1
TRIES = 20

Progress = Callable[[int, int], None]


class UnmergeProblem(Exception):
    """It was not done. The message says why, what is as it was, and what to do."""


@dataclass(frozen=True, slots=True)
class Separated:
    """Both accounts stand as if they had never been one. `names`: what comes by these is the first one's again."""

    account: str
    survivor: str
    names: list[str]


async def unmerge(
    account: str, settings: Settings, wait_s: float, progress: Progress = lambda done, of: None
) -> Separated:
    """Separates `account` from the one it was merged into. Waits up to `wait_s` for each thing that workers do.

    Raises UnmergeProblem when it cannot be done.
    """
    await check(settings)
    redis, producer = connect(settings), Producer(settings)
    consumer = AIOKafkaConsumer(
        **kafka_options(settings),
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=settings.fetch_max_wait_ms,
    )
    try:
        await producer.start()
        await consumer.start()
        work = _Unmerging(account, settings, wait_s, progress, redis, producer, consumer)
        return await work.run()
    finally:
        await consumer.stop()
        await producer.stop()
        await redis.aclose()


@dataclass(slots=True)
class Tape:
    """A partition of the log, read in order from its beginning."""

    number: int
    place: TopicPartition
    consumer: Any
    where: dict[TopicPartition, int]  # where the consumer reads on, all of its partitions
    read: Callable[[int], None]  # told how many records have been read
    log_time: int = 0
    following: int = 0  # offset of the next record
    _ahead: deque[Record] = field(default_factory=deque)

    async def ahead(self, upto: int) -> Record | None:
        """The next record, which stays the next; None when there is none before `upto`. It must be in the log."""
        while not self._ahead:
            if self.following >= upto:
                return None
            await self._fetch()
        return self._ahead[0] if self._ahead[0].offset < upto else None

    async def _fetch(self) -> None:
        if self.where.get(self.place) != self.following:
            self.consumer.seek(self.place, self.following)
        try:
            async with asyncio.timeout(SILENCE_S):
                while not (batch := await self.consumer.getmany(self.place, timeout_ms=200, max_records=2_000)):
                    pass
        except TimeoutError:
            raise KafkaTimeoutError(f"{self.place} could not be read on from {self.following}") from None
        for message in batch[self.place]:
            self.following = message.offset + 1
            try:
                record = decode_record(message.value or b"")
            except (msgspec.MsgspecError, RecursionError):
                continue  # a dead letter
            record.offset = message.offset
            self._ahead.append(record)
        self.where[self.place] = self.following
        self.read(len(batch[self.place]))

    def take(self) -> Record:
        record = self._ahead.popleft()
        self.log_time = max(self.log_time, record.received)
        return record


async def play(tapes: Sequence[tuple[Tape, int]], hears: Callable[[int, Record], None]) -> None:
    """Lets `hears` hear each partition up to an offset, together in the order of their log_time."""
    while True:
        first, earliest = None, 0
        for tape, upto in tapes:
            record = await tape.ahead(upto)
            if record is None:
                continue
            log_time = max(tape.log_time, record.received)
            if first is None or log_time < earliest:
                first, earliest = tape, log_time
        if first is None:
            return
        hears(first.number, first.take())


@dataclass(slots=True)
class _Unmerging:
    account: str
    settings: Settings
    wait_s: float
    progress: Progress
    redis: Any
    producer: Producer
    consumer: Any
    done: int = 0
    total: int = 0
    where: dict[TopicPartition, int] = field(default_factory=dict)

    async def run(self) -> Separated:
        survivor = await self._survivor()
        await self._require_whole_log({self._part(self.account)} | ({self._part(survivor)} if survivor else set()))
        theirs = Survey(self.account)
        await self._require_workers({self._part(self.account)})
        await self._survey(theirs)
        if not survivor:
            return await self._go_on(theirs)
        await self._require_workers({self._part(survivor)})
        return await self._separate(theirs, Survey(survivor))

    async def _separate(self, theirs: Survey, mine: Survey) -> Separated:
        await self._give_links_back(theirs, mine.account)
        await self._until(self._routers_are_behind(await self._sources().saved()), "the routers' last batches")
        await self._require_workers({self._part(theirs.account), self._part(mine.account)})
        await self._survey(theirs)
        await self._survey(mine)
        names = await self._led_here(mine.claimed)
        theirs_apart, mine_apart = separate(theirs, mine, names)
        at = await self._restate(theirs, theirs_apart)
        await self._restate_survivor(mine, mine_apart, theirs.account, at)
        return Separated(theirs.account, mine.account, list(theirs_apart.names))

    async def _go_on(self, theirs: Survey) -> Separated:
        """The account is one of its own: only if it has just been separated there is something left to do."""
        last = next((each for each in reversed(theirs.apart) if each.was_merged), None)
        if last is None:
            raise UnmergeProblem(f"{self.account} was never merged into another account")
        mine = Survey(last.other)
        await self._require_whole_log({self._part(last.other)})
        await self._require_workers({self._part(last.other)})
        await self._survey(mine)
        if any(each.other == self.account and each.moved == last.moved for each in mine.apart):
            raise UnmergeProblem(f"{self.account} is an account of its own again, and so is {last.other}")
        apart = Apart(self.account, last.names, last.moved, was_merged=False)
        await self._restate_survivor(mine, apart, self.account, last.offset)
        return Separated(self.account, last.other, list(last.names))

    # -- may it be done --------------------------------------------------------------------------------------

    async def _survivor(self) -> str:
        """Which account it was merged into; empty if it is one of its own."""
        account = self.account
        if is_visitor(account):
            raise UnmergeProblem(f"{account} is a visitor, not an account: what somebody did stays where it is")
        state = await self._state(account)
        if state is None:
            raise UnmergeProblem(f"account {account} is not known")
        if not state.merged_into:
            return ""
        other = await self._state(state.merged_into)
        if other is not None and other.merged_into:
            raise UnmergeProblem(
                f"{account} was merged into {state.merged_into}, which was merged into {other.merged_into}: "
                f"separate these first, with `isotherm unmerge {state.merged_into}`"
            )
        return state.merged_into

    async def _require_whole_log(self, numbers: Iterable[int]) -> None:
        places = [self._place(number) for number in sorted(numbers)]
        for place, first in (await self.consumer.beginning_offsets(places)).items():
            if first:
                raise UnmergeProblem(
                    f"{place.topic}/{place.partition} begins at offset {first:,}: what came before is gone, so "
                    "nobody can tell any more what was whose. Nothing was changed"
                )

    async def _require_workers(self, numbers: Iterable[int]) -> None:
        """Returns when workers have folded all that is in these partitions of the log now."""
        for number in sorted(numbers):
            tick = Tick(received=await self._now())
            offset = await self._append(Outbound(ACCOUNT_LOG, "", encode_record(tick)), number)
            await self._folded(number, offset)

    async def _folded(self, number: int, offset: int) -> None:
        async def is_folded() -> bool:
            return (await self._partition(number)).offset > offset

        await self._until(is_folded, f"the fold of {self._place(number).topic}/{number}")

    async def _until(self, is_so: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline = asyncio.get_running_loop().time() + self.wait_s
        while not await is_so():
            if asyncio.get_running_loop().time() > deadline:
                raise UnmergeProblem(
                    f"{what} did not come within {self.wait_s:g} s (do workers run?); the same command goes on"
                )
            await asyncio.sleep(ASK_AGAIN_S)

    # -- links -----------------------------------------------------------------------------------------------

    async def _give_links_back(self, theirs: Survey, survivor: str) -> None:
        """From now on what comes for the account, and for those that had been merged into it, goes to it."""
        own = f"{self.account}|" if is_provisional(self.account) else ""
        await self._relink(key_of(self.account), lambda link: own)
        for name in theirs.names:
            if name != self.account:
                # Followed to its end and written anew while they were one.
                await self._relink(
                    key_of(name), lambda link: f"{self.account}|" if account_of(link) == survivor else link
                )

    async def _relink(self, key: str, given: Callable[[str], str]) -> None:
        sources = self._sources()
        while not await sources.relink(key, read := await self._link(key), given(read)):
            pass
        told = None
        while told != (link := await self._link(key)):  # the last message is the one that stays
            told = link
            await self.producer.send([Outbound(LINKS, link_id(key), link.encode() or None)], await self._now())

    async def _link(self, key: str) -> str:
        return (await self._sources().links([key])).get(key, "")

    async def _led_here(self, claimed: Iterable[str]) -> list[str]:
        """Those of the names that lead to the account."""
        names = list(claimed)
        sources = self._sources()
        links = await sources.links(key_of(name) for name in names)
        asked = {key_of(name) for name in names}
        while further := set(further_keys(links)) - asked:
            asked |= further
            links |= await sources.links(further)
        return [name for name in names if follow(name, links) == self.account]

    def _routers_are_behind(self, saved: dict[bytes, bytes]) -> Callable[[], Awaitable[bool]]:
        """Whether what the routers had decided, and not yet written, is in the log."""

        async def are_behind() -> bool:
            now = await self._sources().saved()
            return not any(now.get(key) == following for key, following in saved.items())

        return are_behind

    # -- reading, and telling ---------------------------------------------------------------------------------

    async def _survey(self, survey: Survey) -> None:
        """Reads on to where the fold is."""
        number = self._part(survey.account)
        upto = (await self._partition(number)).offset
        tape = self._tape(number, survey.upto)
        self._more(upto - survey.upto)
        await play([(tape, upto)], lambda number, record: survey.hears(record))

    async def _restate(self, survey: Survey, apart: Apart) -> int:
        """Rebuilds an account and has it told so; the offset at which it was."""
        account, number = survey.account, self._part(survey.account)
        rebuilding = Rebuilding(account, number, [*survey.apart, apart], compiled)
        limits = rebuilding.needs
        tapes = {each: self._tape(each) for each in (number, *map(self._part, limits))}
        upto = {self._part(each): 0 for each in limits}
        for each, limit in limits.items():
            upto[self._part(each)] = max(limit, upto[self._part(each)])
        upto[number] = max((await self._partition(number)).offset, upto.get(number, 0))
        await self._require_whole_log(upto)
        self._more(sum(upto.values()))
        for _ in range(TRIES):
            await play([(tapes[each], limit) for each, limit in upto.items()], rebuilding.hears)
            if rebuilding.is_merged:
                raise UnmergeProblem(f"{account} has been merged into another account meanwhile")
            record = rebuilding.restate(apart, await self._now())
            offset = await self._append(Outbound(ACCOUNT_LOG, account, encode_record(record)), number)
            upto[number] = offset + 1
            self._more(upto[number] - rebuilding.upto)
            await play([(tapes[number], offset + 1)], rebuilding.hears)
            await self._folded(number, offset)
            if rebuilding.touched == offset:
                return offset
        raise UnmergeProblem(f"{account} is never left alone long enough ({TRIES} times); try again later")

    async def _restate_survivor(self, mine: Survey, apart: Apart, merged: str, restated: int) -> None:
        """Tells the other one, when all that the merged one had passed on has come."""
        number = self._part(merged)
        offset = (await self._partition(number)).offset
        outbox = RedisStore(self.redis, self.settings.partitions, self.settings.namespace).outbox

        async def is_sent() -> bool:
            waiting = await outbox(number, 1)
            return not waiting or int(waiting[0].id.partition("-")[0]) > offset

        await self._folded(number, restated)
        await self._until(is_sent, "what the account passed on")
        await self._require_workers({self._part(mine.account)})
        await self._restate(mine, apart)

    # -- places ----------------------------------------------------------------------------------------------

    def _part(self, account: str) -> int:
        return partition_of(account, self.settings.partitions)

    def _place(self, number: int) -> TopicPartition:
        return TopicPartition(self.settings.topics(ACCOUNT_LOG), number)

    def _tape(self, number: int, start: int = 0) -> Tape:
        place = self._place(number)
        if place not in self.consumer.assignment():
            self.consumer.assign([*self.consumer.assignment(), place])
            self.where.clear()
        return Tape(number, place, self.consumer, self.where, self._read, following=start)

    def _more(self, records: int) -> None:
        self.total += max(records, 0)

    def _read(self, records: int) -> None:
        self.done += records
        self.progress(min(self.done, self.total), self.total)

    def _sources(self) -> SourceStore:
        return SourceStore(self.redis, self.settings.namespace)

    async def _state(self, account: str) -> AccountState | None:
        store = RedisStore(self.redis, self.settings.partitions, self.settings.namespace)
        return (await store.load(self._part(account), [account])).get(account)

    async def _partition(self, number: int) -> Partition:
        meta = PartitionKeys.of(number, self.settings.partitions, self.settings.namespace).meta
        blob = await self.redis.hget(meta, "partition")
        return unpack_partition(blob) if blob else Partition(number)

    async def _now(self) -> int:
        clock = RedisClock(self.redis)
        await clock.sync()
        return clock.now()

    async def _append(self, message: Outbound, number: int) -> int:
        (answer,) = await self.producer.send([message], await self._now(), number)
        return int(answer.offset)
