"""The fold as a service: owns partitions of `account.log`, folds them batch by batch, lets time pass in them.

Kafka says which partitions are ours; Redis decides it: taking a partition over writes a new token, and a commit
with an old one is refused. Where to read on stands in Redis too; Kafka's committed offsets only show the lag.

Who takes a partition over asks `segment.changes` how far it was told. If that is farther than Redis stands, Redis
has gone back: the log is folded once more, what was told is not told again, and then a new epoch begins.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias

import msgspec
import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from mode import Service
from structlog.contextvars import bind_contextvars

from rules.errors import RulesetError
from rules.fold import Partition, Place, Refolding
from rules.records import Epoch, Tick, encode_record
from rules.state import OtherBuildError
from streams.clock import RedisClock
from streams.consuming import (
    LOOK_AGAIN_S,
    SHOW_LAG_EVERY_S,
    end_offset,
    fetch,
    first_offset,
    set_aside,
    show_lag,
    started,
)
from streams.metrics import histogram
from streams.outage import AWAY, is_waiting, wait_out
from streams.pipeline import GapError, OtherLogError, Owned, fold_batch
from streams.pipeline import place as position_of
from streams.producer import Producer
from streams.publisher import Publisher, order
from streams.settings import Settings
from streams.stalling import StalledError, Stalling, Standing
from streams.store.base import Commit, Outbound, Refused, StoppedError, Store
from streams.told import last_told
from streams.topics import ACCOUNT_LOG, MEMBERSHIPS
from streams.traces import Traces
from streams.turns import SWEPT_AT_ONCE, Turns
from streams.words import ANY, Others, oldest

log = structlog.get_logger()
LOOK_FOR_OTHERS_EVERY_S = 5.0
LastTold: TypeAlias = Callable[[Mapping[int, int]], Awaitable[dict[int, Place]]]
Oldest: TypeAlias = Callable[[int, Others], Awaitable[int | None]]


class StoppedBy(StrEnum):
    """Why nothing is folded in a partition."""

    GAP = "gap"
    OTHER_LOG = "other_log"
    RULES = "rules"
    OTHER_BUILD = "other_build"
    TOO_MANY_PARTITIONS = "too_many_partitions"
    BUG = "bug"


@dataclass(slots=True)
class Held:
    """A partition that we own, and the last tick we put into it."""

    owned: Owned
    ticked: int = -1
    epoch_at: int = -1  # where we appended the epoch that ends a refolding

    @property
    def is_waiting(self) -> bool:
        """The last tick has not been folded yet."""
        return self.owned.partition.offset <= self.ticked

    def wants_epoch(self) -> bool:
        """All that had been told has been folded once more."""
        partition = self.owned.partition
        refolding = partition.refolding
        return refolding is not None and partition.offset > max(refolding.told.offset, self.epoch_at)


class Fold(Service, ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(
        self,
        settings: Settings,
        store: Store,
        producer: Producer,
        publisher: Publisher,
        clock: RedisClock,
        traces: Traces | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._settings, self._store, self._clock, self._traces = settings, store, clock, traces
        self._producer, self._publisher = producer, publisher
        self._topic = settings.topics(ACCOUNT_LOG)
        self._memberships = settings.topics(MEMBERSHIPS)
        self._last_told: LastTold = partial(last_told, settings)
        self._oldest: Oldest = partial(oldest, settings)
        self._held: dict[int, Held] = {}
        self._turn = asyncio.Lock()  # held while partitions are folded, or change hands
        self._changed = asyncio.Event()
        self.changed_hands = asyncio.Event()  # a partition became ours, or was stopped at: for who signs for it
        self._fenced: dict[int, float] = {}  # ours by Kafka, somebody else's by Redis: since when
        self._stalling, self._turns = Stalling(self._topic), Turns()
        self._gaps: dict[int, tuple[int, int]] = {}  # stopped at: first, behind
        # Where old words were found: since where in the log all is to be told anew, and up to where they stand.
        self._tells_since: dict[int, tuple[int, int]] = {}
        self.stopped_partitions: dict[int, str] = {}
        self.stopped_by: dict[int, StoppedBy] = {}
        # Of partitions that went elsewhere; of those that are ours, each has its own.
        self.counts: Counter[tuple[str, str]] = Counter()
        self.changes: Counter[tuple[str, str, str]] = Counter()
        self.seconds = histogram("isotherm_fold_seconds")
        self._consumer: Any = None

    async def on_start(self) -> None:
        self._consumer = await started(self._settings, "fold", lambda: self.should_stop)
        if self._consumer is not None:  # subscribed behind it: nobody waits here for the group to settle
            self._consumer.subscribe([self._topic], listener=self)

    async def on_stop(self) -> None:
        self._changed.set()
        async with self._turn:
            pass  # what is being folded is folded to its end
        if self._consumer is not None:  # it may be in the middle of a rebalance, which waits for its turn
            await self._consumer.stop()

    # -- whose partitions -----------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        async with self._turn:
            gone = [each.partition for each in revoked]
            for number in gone:
                self._let_go(number)
                self._fenced.pop(number, None)
                self._gaps.pop(number, None)
                self._is_mended(number)
            await self._publisher.ended(gone, self._settings.session_timeout_ms / 2000)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        async with self._turn:
            if not self.should_stop:
                await self._take_over(*sorted(each.partition for each in assigned))

    async def _take_over(self, *partitions: int) -> None:
        """Becomes the owner, and reads on from where the store stands."""
        await wait_out("taking over", lambda: self._acquire(partitions), lambda: self.should_stop)

    async def _acquire(self, partitions: Iterable[int]) -> None:
        """Raises what an absent broker or Redis raises; then nothing is ours yet."""
        acquired = {each: await self._store.acquire(each) for each in partitions if self._is_known(each)}
        waiting = {each: await self._store.outbox(each, 1) for each in acquired}
        floors = {
            each: order(waiting[each][0].id)[0] if waiting[each] else acquired[each].partition.offset
            for each in acquired
        }
        told = await self._last_told(floors) if floors else {}
        for number, each in acquired.items():
            self._publisher.words.begins(number, each.words)
        await self.look_for_others({p: floors[p] if waiting[p] else ANY for p in acquired})
        for number, each in acquired.items():
            self._is_mended(number)
            self._fenced.pop(number, None)
            self._gaps.pop(number, None)
            try:
                owned = Owned.from_store(each, self._settings.partitions)
            except RulesetError as error:
                self._stop_partition(number, StoppedBy.RULES, f"cannot load the ruleset in force: {error}")
                continue
            try:
                owned = await self._gone_back(owned, told.get(number))
            except StoppedError:
                self._fenced[number] = asyncio.get_running_loop().time()
                set_aside(self._consumer, TopicPartition(self._topic, number))
                continue
            self._keep_counts(number)
            self._held[number] = Held(owned)
            await self._read_on(number, owned.partition)
            if number in self._held:
                self._publisher.committed(number, 0, owned.token)
        self._changed.set()
        self.changed_hands.set()

    def _is_known(self, partition: int) -> bool:
        if partition < self._settings.partitions:
            return True
        self._stop_partition(
            partition,
            StoppedBy.TOO_MANY_PARTITIONS,
            f"{self._topic} has more than {self._settings.partitions} partitions: their number is frozen when the "
            "log is created, since it decides where an account is; nothing that stands there is read",
        )
        return False

    async def _gone_back(self, owned: Owned, told: Place | None) -> Owned:
        """Notes in the store, before anything is published, that what was told already is folded once more."""
        partition = owned.partition
        if told is None or (told.epoch <= partition.epoch and told.offset < partition.offset):
            return owned
        if partition.refolding is not None and partition.refolding.told >= told:
            return owned
        since = partition.offset if partition.refolding is None else partition.refolding.since
        log.error(
            "Redis has gone back",
            partition=partition.number,
            to=partition.offset,
            told=f"{told.epoch}/{told.offset}",
        )
        self.counts["gone back", ""] += 1
        return await self._noted(owned, msgspec.structs.replace(partition, refolding=Refolding(since, told)))

    async def _noted(self, owned: Owned, partition: Partition) -> Owned:
        """Writes the partition as it is to be, without a record folded."""
        at = owned.partition.offset
        batch = f"{at}-{partition.offset}-{owned.token}-noted"
        done = await self._store.commit(Commit(owned.token, at, batch, partition))
        if isinstance(done, Refused):
            raise StoppedError(done)
        return replace(owned, partition=partition)

    async def _read_on(self, number: int, partition: Partition) -> None:
        tp = TopicPartition(self._topic, number)
        first = await first_offset(self._consumer, self._settings, tp)
        if first > partition.offset:
            self._stop_at_gap(number, partition.offset, first)
        else:
            self._seek(tp, partition, first)
            self._consumer.resume(tp)

    def _seek(self, tp: TopicPartition, partition: Partition, first: int = 0) -> None:
        """To the last message that was folded, once more: it shows whether this is still the same log."""
        self._consumer.seek(tp, max(first, partition.offset - 1) if partition.last else partition.offset)

    async def _ends_before(self, number: int, at: int) -> bool:
        """Whether the log ends before where we stand, so that it is another one.

        The broker is asked outright: what comes along with fetched messages is for a moment too low when a
        partition's leader has changed.
        """
        tp = TopicPartition(self._topic, number)
        end = await end_offset(self._consumer, self._settings, tp)
        if end < at:
            self._stop_partition(
                number,
                StoppedBy.OTHER_LOG,
                f"{self._topic}/{number} ends at {end}, and {at} records of it were folded: it was made anew, or "
                "cut off by a broker that had not all of it. Restore the topic, or fold what there is into an "
                "empty Redis namespace (ISOTHERM_NAMESPACE)",
            )
        return end < at

    async def _pass_over(self, number: int) -> bool:
        """Goes on behind what the log has no more, if somebody has said so; then all tell where they stand."""
        first, behind = self._gaps[number]
        if await self._store.accepted(number) != (first, behind):
            return False
        acquired = await self._store.acquire(number)
        if acquired.partition.offset != first:  # Redis has gone back meanwhile: more is missing than was accepted
            return True
        owned, partition = Owned.from_store(acquired, self._settings.partitions), acquired.partition
        told = (await self._last_told({number: 0})).get(number, Place(0, -1, 0))
        told = max(told, Place(max(told.epoch, partition.epoch), behind - 1, 0))
        refolding = Refolding(0, told, (first, behind))
        owned = await self._noted(
            owned, msgspec.structs.replace(partition, offset=behind, last=0, refolding=refolding)
        )
        log.warning("went on without", partition=number, first=first, behind=behind)
        return True

    def _let_go(self, partition: int) -> None:
        self._keep_counts(partition)
        self._held.pop(partition, None)
        self._tells_since.pop(partition, None)
        self._publisher.lost(partition)

    def _stop_at_gap(self, partition: int, first: int, behind: int) -> None:
        self._stop_partition(
            partition,
            StoppedBy.GAP,
            f"GAP: offsets {first} to {behind - 1} of {self._topic}/{partition} are not in the log any more, and "
            f"were never folded; to go on without them: isotherm resume {ACCOUNT_LOG}/{partition} --accept-gap",
        )
        self._gaps[partition] = (first, behind)

    def _stop_partition(self, partition: int, by: StoppedBy, why: str) -> None:
        self._let_go(partition)
        set_aside(self._consumer, TopicPartition(self._topic, partition))
        self.stopped_partitions[partition], self.stopped_by[partition] = why, by
        self.changed_hands.set()
        log.error("partition stopped", partition=partition, by=by, why=why)

    def _is_mended(self, partition: int) -> None:
        """It did not stop, or is for somebody else to fold."""
        self.stopped_partitions.pop(partition, None)
        self.stopped_by.pop(partition, None)

    # -- folding --------------------------------------------------------------------------------------------

    @Service.task
    async def _run(self) -> None:
        while not self.should_stop and self._consumer is not None:
            await self._publisher.room()
            await self.fold_more()

    async def fold_more(self) -> None:
        """Folds what has arrived in the partitions that we hold."""
        before = dict(self._held)
        batches = await fetch(self._consumer, self._settings, self._out_of_range)
        if batches:
            async with self._turn:
                same = [
                    self._fold(tp.partition, each)
                    for tp, each in batches.items()
                    if self._is_still_ours(tp, before)
                ]
                await asyncio.gather(*same)
            self._changed.set()

    def _is_still_ours(self, tp: TopicPartition, before: Mapping[int, Held]) -> bool:
        """Whether what was fetched when we held `before` is for whoever holds the partition now."""
        held = self._held.get(tp.partition)
        if held is not None and before.get(tp.partition) is not held:
            self._seek(tp, held.owned.partition)
            return False
        return held is not None

    async def _out_of_range(self, places: Iterable[TopicPartition]) -> None:
        """There is no message where we read: the log was shortened, or is another one."""
        async with self._turn:
            for tp in places:
                find = partial(self._find_place, tp.partition)
                await wait_out("finding the place", find, lambda: self.should_stop)

    async def _find_place(self, number: int) -> None:
        held = self._held.get(number)
        if held is not None and not await self._ends_before(number, held.owned.partition.offset):
            await self._read_on(number, held.owned.partition)

    async def _fold(self, partition: int, messages: list[Any]) -> None:
        """Folds a batch. Outages are waited out here, everything else stops the partition and says so."""
        held = self._held.get(partition)
        if held is None:
            return
        bind_contextvars(position=position_of(partition, messages[0].offset))  # for this task's lines
        before, reached = held.owned.outgoing, self._stopwatch()
        try:
            for start in range(0, len(messages), self._settings.batch):
                some = messages[start : start + self._settings.batch]
                held.owned = await fold_batch(some, held.owned, self._store, reached, self._traces)
        except StoppedError as error:
            await self._refused(partition, error)
        except GapError as error:
            self._stop_at_gap(partition, *error.lost)
        except OtherLogError as error:
            told = f"{self._topic}/{partition} is another topic by now: {error}"
            self._stop_partition(partition, StoppedBy.OTHER_LOG, told)
        except RulesetError as error:
            self._stop_partition(partition, StoppedBy.RULES, f"cannot load a ruleset record: {error}")
        except OtherBuildError as error:
            self._stop_partition(partition, StoppedBy.OTHER_BUILD, str(error))
        except AWAY as error:
            log.warning("waiting", what="commit", partition=partition, why=f"{type(error).__name__}: {error}")
            await self._take_over(partition)
        except Exception as error:
            log.exception("bug in the fold", partition=partition)
            self._stop_partition(partition, StoppedBy.BUG, f"{type(error).__name__}: {error}")
        # Taken over in between, by ourselves: the publisher knows of it, and by a newer token.
        if held.owned.outgoing > before and self._held.get(partition, held) is held:
            self._publisher.committed(partition, held.owned.outgoing - before, held.owned.token)

    def _stopwatch(self) -> Callable[[str], None]:
        """Told of a batch's steps, it notes how long each took."""
        since = perf_counter()

        def reached(step: str) -> None:
            nonlocal since
            now = perf_counter()
            self.seconds.labels(step).observe(now - since)
            since = now

        return reached

    async def _refused(self, partition: int, error: StoppedError) -> None:
        if error.refused.reason == "moved":
            log.warning("the store stands elsewhere", partition=partition, at=error.refused.at)
            await self._take_over(partition)
        else:
            self._let_go(partition)
            self._fenced[partition] = asyncio.get_running_loop().time()
            log.warning("fenced: somebody else took the partition over", partition=partition)

    @Service.timer(LOOK_AGAIN_S)
    async def _look_around(self) -> None:
        try:
            await self.look_after()
        except (*AWAY, StoppedError) as error:
            log.info("not looked after", why=f"{type(error).__name__}: {error}")

    async def look_after(self) -> None:
        """Takes over what Redis has lost since, also where nothing comes that would show it; what nobody else
        reads; what stopped at a gap that somebody has accepted. Notices logs that end before where we stand."""
        async with self._turn:
            for number, held in list(self._held.items()):
                end, at = (
                    self._consumer.highwater(TopicPartition(self._topic, number)),
                    held.owned.partition.offset,
                )
                if end is not None and end < at:
                    await self._ends_before(number, at)
            ours = {tp.partition for tp in self._consumer.assignment()}
            back = await self._lost() | self._left_alone()
            back |= {number for number in sorted(self._gaps) if await self._pass_over(number)}
            if back := back & ours:
                await self._take_over(*sorted(back))

    async def look_for_others(self, floors: Mapping[int, int] | None = None) -> None:
        """Finds what somebody else has put among our words; what is old of it is told anew.

        Of partitions in `floors` we have sent nothing yet, and shall send all from that place on.
        """
        words = self._publisher.words
        asked = [
            number for number in (self._held if floors is None else floors) if not self._publisher.is_busy(number)
        ]
        ends = {number: end for number in asked if (end := words.end(number)) is not None}
        places = [TopicPartition(self._memberships, number) for number in ends]
        for place, end in (await self._consumer.end_offsets(places) if places else {}).items():
            number = place.partition
            if words.end(number) == ends[number] and not self._publisher.is_busy(number):
                words.looked(number, end, (floors or {}).get(number, ANY))
        for number, others in list(words.others.items()):
            since = await self._oldest(number, others)
            if since is None:
                words.mended(number, others.end)
            else:
                log.warning("old words", partition=number, at=others.start, end=others.end, since=since)
                self._tells_since[number] = (since, others.end)

    async def _lost(self) -> set[int]:
        """Partitions that Redis has no more, or not as far as we wrote them; and those from which we were fenced,
        where nobody has them now."""
        held, asked = dict(self._held), [*{*self._held, *self._fenced}]
        lost = set()
        for number, (token, offset) in zip(asked, await self._store.owners(asked) if asked else [], strict=True):
            each = held.get(number)
            if not token or (each and token == each.owned.token and offset < each.owned.partition.offset):
                lost.add(number)
            elif each and token != each.owned.token:
                await self._refused(number, StoppedError(Refused("fenced")))
        return lost

    def _left_alone(self) -> set[int]:
        """Those from which we were fenced, and which Kafka says still are ours: whoever fenced us was on the way
        out, or Redis has gone back to a token of before."""
        now, silence = asyncio.get_running_loop().time(), self._settings.session_timeout_ms / 1000
        return {number for number, since in self._fenced.items() if now - since > silence}

    # -- time -----------------------------------------------------------------------------------------------

    @Service.task
    async def _let_time_pass(self) -> None:
        while not self.should_stop:
            self._changed.clear()
            await self.append_what_is_due()
            await self._until_due()

    async def append_what_is_due(self) -> None:
        """A tick for each partition in which somebody is due or a sweep goes on, an epoch where refolding ends."""
        await wait_out("reading the time", self._clock.keep, lambda: self.should_stop)
        now = self._clock.now()
        swept = {p: held.is_waiting for p, held in self._held.items() if held.owned.partition.sweep is not None}
        offsets = sum(held.owned.partition.offset for held in self._held.values())
        turn = self._turns.next(swept, offsets, now)
        due = [
            (p, held, SWEPT_AT_ONCE if p == turn else 0)
            for p, held in self._held.items()
            if not held.is_waiting and (p == turn or held.owned.next_wake <= now)
        ]
        for partition, held in list(self._held.items()):
            if held.wants_epoch() or (partition in self._tells_since and held.owned.partition.refolding is None):
                begins = partial(self._begin_epoch, partition, held, now)
                await wait_out("appending an epoch", begins, lambda: self.should_stop)
        if due:
            ticks = lambda: asyncio.gather(*(self._tick(*each, now) for each in due))  # noqa: E731
            await wait_out("appending a tick", ticks, lambda: self.should_stop)

    async def _tick(self, partition: int, held: Held, sweeps: int, now: int) -> None:
        tick = Outbound(ACCOUNT_LOG, "", encode_record(Tick(received=now, sweeps=sweeps)))
        (answer,) = await self._producer.send([tick], now, partition)
        held.ticked = answer.offset

    async def _begin_epoch(self, partition: int, held: Held, now: int) -> None:
        """Where all has been folded once more, or where somebody else's words stand among ours."""
        owned = held.owned.partition
        since, end = self._tells_since.get(partition, (owned.offset, 0))
        epoch = Epoch(received=now, number=owned.epoch + 1, since=since)
        if (refolding := owned.refolding) is not None:
            number, since = max(owned.epoch, refolding.told.epoch) + 1, min(since, refolding.since)
            epoch = Epoch(received=now, number=number, since=since, lost=refolding.lost)
        (answer,) = await self._producer.send([Outbound(ACCOUNT_LOG, "", encode_record(epoch))], now, partition)
        self._tells_since.pop(partition, None)
        self._publisher.words.mended(partition, end)
        held.epoch_at = answer.offset

    async def _until_due(self) -> None:
        """Sleeps to the next instant at which somebody is due, or until a commit changes that."""
        now = self._clock.now()
        waiting = [held.owned.next_wake for held in self._held.values() if not held.is_waiting]
        if self._turns.rests_until > now:
            waiting.append(self._turns.rests_until)
        seconds = min([LOOK_AGAIN_S, *(max(0, wake - now) / 1000 for wake in waiting)])
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return

    @Service.timer(LOOK_FOR_OTHERS_EVERY_S)
    async def _look_for_others(self) -> None:
        try:
            await self.look_for_others()
        except AWAY as error:
            log.info("not looked for others", why=f"{type(error).__name__}: {error}")

    @Service.timer(SHOW_LAG_EVERY_S)
    async def _watch(self) -> None:
        """Ends the worker when a partition's end moves on and its fold does not, for no reason that we know of: so
        that whoever restarts workers does, and the partition goes elsewhere."""
        try:
            await self.watch(asyncio.get_running_loop().time())
        except AWAY as error:
            log.info("not watched", why=f"{type(error).__name__}: {error}")
        except StalledError as error:
            log.critical("stalled", why=str(error))
            await self.crash(error)

    async def watch(self, now: float) -> None:
        """Raises StalledError; `now` in seconds."""
        asked = [TopicPartition(self._topic, number) for number in self._held]
        found = await self._consumer.end_offsets(asked) if asked else {}
        ends = {place.partition: end for place, end in found.items()}
        offsets = {number: offset for number, offset in self.positions().items() if number in ends}
        self._stalling.look(now, offsets, ends, is_waiting())

    @Service.timer(SHOW_LAG_EVERY_S)
    async def _show_lag(self) -> None:
        positions = {TopicPartition(self._topic, p): offset for p, offset in self.positions().items()}
        await show_lag(self._consumer, positions)

    # -- what others may ask --------------------------------------------------------------------------------

    def positions(self) -> dict[int, int]:
        return {p: held.owned.partition.offset for p, held in self._held.items()}

    def owned(self) -> dict[int, Owned]:
        return {p: held.owned for p, held in self._held.items()}

    def standing(self) -> dict[int, Standing]:
        """Since when the partitions stand where they do, as of the last look."""
        return {p: each for p, each in self._stalling.standing.items() if p in self._held}

    def end(self, partition: int) -> int:
        """Where the log ends, as far as we have heard: what was fetched says so, and a look every few seconds."""
        heard = self._consumer.highwater(TopicPartition(self._topic, partition)) if self._consumer else None
        looked = self._stalling.standing.get(partition)
        return max(heard or 0, looked.end if looked else 0)

    def _keep_counts(self, partition: int) -> None:
        if (held := self._held.get(partition)) is not None:
            self.counts.update(held.owned.counts)
            self.changes.update(held.owned.changes)
