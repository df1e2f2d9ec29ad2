"""Subscribing to changes: what journeys, deliveries, alerts and pages are built on.

    async with subscribe(settings, "memberships", Filter(dimensions=("engagement",)), group="crm") as subscription:
        async for received in subscription:
            ...
            await subscription.settled(received)

Where it begins: `now`, at the `beginning` of what Kafka keeps, with the `memberships` and then every change after
them, or at given offsets. Each change is given once, in order per account; see `news` for what is dropped.

With a `group`, Kafka spreads the partitions over all who share its name and keeps how far each is settled: up to
the first thing that is not. Who comes next goes on from there, so what was given and not settled is given again,
and a subscriber that dies misses nothing. `start` then says where a partition begins that the group has never
settled anything of. Kafka forgets a group in which nobody was for a week (`offsets.retention.minutes`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from rules.contract import Event, Memberships, read
from streams.beginning import Standing, behind, standing
from streams.connecting import kafka_options
from streams.consuming import FETCH_BYTES, LOOK_AGAIN_S, METADATA_MS, consumer, end_offset, fetch, first_offset
from streams.news import ACCOUNTS, Filter, Newest, Settling
from streams.outage import wait_out
from streams.playback import places_of
from streams.settings import Settings
from streams.topics import CHANGES

__all__ = ["Filter", "MissedError", "Newest", "Received", "Start", "Subscription", "subscribe"]

log = structlog.get_logger()
COMMIT_EVERY_S = 1.0
RECALLED = 128  # messages of a partition, before the first that is given: what is told again is known again
UNSETTLED_AT_MOST = 50_000  # of one partition; then it is read on when some of them are settled
Start: TypeAlias = Literal["now", "beginning", "memberships"] | Mapping[int, int]
Told: TypeAlias = Callable[[Sequence[int]], Awaitable[None]]


class MissedError(Exception):
    """Kafka has deleted messages that this subscriber has not read, or the topic was made anew."""

    def __init__(self, partition: int, first: int, behind: int) -> None:
        self.partition, self.first, self.behind = partition, first, behind
        super().__init__(
            f"{CHANGES}/{partition}: there is no message {first} any more, the first one is {behind}; "
            "begin with the memberships, which say where all stand now"
        )


@dataclass(frozen=True, slots=True)
class Received:
    """A change, or where an account stands; `offset` is that of its message in its own topic."""

    event: Event[Any] | None
    memberships: Memberships | None
    raw: bytes = field(repr=False)
    partition: int
    offset: int


async def nobody(partitions: Sequence[int]) -> None:
    """Is told."""


def subscribe(
    settings: Settings,
    start: Start = "now",
    filter: Filter | None = None,
    group: str = "",
    *,
    on_assigned: Told = nobody,
    on_lost: Told = nobody,
    on_memberships: Told = nobody,
    unsettled: int = UNSETTLED_AT_MOST,
    accounts: int = ACCOUNTS,
    fetch_bytes: int = FETCH_BYTES,
) -> Subscription:
    """To be entered with `async with`, which raises TopicsError when there is no such topic, KafkaError when the
    broker is away. Later outages are waited out.

    `on_assigned` and `on_lost` hear of partitions; of one that is lost nothing more is given, and what was given
    before is somebody else's. `on_memberships`: all memberships of the partition follow, so whoever keeps a copy
    that outlives the subscription empties it of that partition: an account that is gone is not among them.
    `unsettled` bounds what is given and not settled of a partition, `accounts` of how many of a partition is known
    one by one what was seen.
    """
    return Subscription(
        settings,
        start,
        filter or Filter(),
        group,
        on_assigned,
        on_lost,
        on_memberships,
        unsettled,
        Newest(accounts),
        fetch_bytes,
    )


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The first change of a partition to be given, the first that there is, and what is to be told before."""

    offset: int
    first: int
    standing: Standing | None = None


@dataclass(slots=True, eq=False)
class Subscription(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    settings: Settings
    start: Start
    filter: Filter
    group: str
    on_assigned: Told
    on_lost: Told
    on_memberships: Told
    unsettled: int
    _newest: Newest
    fetch_bytes: int
    _kafka: Any = None
    _topic: str = ""
    _arrived: deque[int] = field(default_factory=deque)  # ours, and not yet begun
    _reading: dict[int, Settling] = field(default_factory=dict)
    _committed: dict[int, int] = field(default_factory=dict)
    _ready: deque[Received] = field(default_factory=deque)
    _held: dict[int, list[Received]] = field(default_factory=dict)  # of partitions that stand still
    _full: set[int] = field(default_factory=set)  # partitions of which too much is not settled
    _committing: asyncio.Task[None] | None = None
    _again: dict[int, int] = field(default_factory=dict)  # to be read once more, from which offset
    _from: dict[int, int] = field(default_factory=dict)  # of those that have arrived
    _turn: int = 0  # counts the times that partitions changed hands
    _closed: bool = False

    # -- opening and closing ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._topic = self.settings.topics(CHANGES)
        places = await places_of(self.settings, CHANGES)
        self._kafka = (
            consumer(self.settings, self.group, self.fetch_bytes) if self.group else _alone(self.settings)
        )
        try:
            await self._kafka.start()
            if self.group:
                self._kafka.subscribe([self._topic], listener=self)
                self._committing = asyncio.create_task(self._commit_now_and_then())
            else:
                self._kafka.assign(places)
                await self.on_partitions_assigned(places)
                while self._arrived and self.start != "memberships":  # those come one partition at a time
                    await self._begin_next()
        except BaseException:
            await self._kafka.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        if self._committing is not None:
            self._committing.cancel()
            with suppress(asyncio.CancelledError):
                await self._committing
            await self.commit()
        await self._kafka.stop()

    # -- reading ---------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        if not self._ready:
            await self._fill()
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()

    async def batch(self, within_s: float | None = None) -> list[Received]:
        """All that is there, in order per partition; waits for the first, but about `within_s` at most.

        Empty after that time, or when the subscription is closed meanwhile. Raises MissedError.
        """
        if not self._ready:
            await self._fill(None if within_s is None else time.monotonic() + within_s)
        given = list(self._ready)
        self._ready.clear()
        return given

    @property
    def positions(self) -> dict[int, int]:
        """By partition, the offset behind what was fetched so far."""
        return {number: settling.next for number, settling in self._reading.items()}

    async def _fill(self, until: float | None = None) -> None:
        while not (self._ready or self._closed):
            if until is not None and time.monotonic() >= until:
                return
            await self._go_back()
            if self._arrived:
                await self._begin_next()
                continue
            for place, messages in (await fetch(self._kafka, self.settings, self._out_of_range)).items():
                if place.partition in self._reading:
                    self._take(place.partition, messages)

    def _take(self, number: int, messages: Iterable[Any]) -> None:
        settling = self._reading[number]
        for message in messages:
            event, is_recalled = _read(message), message.offset < settling.next
            is_news = event is not None and self._newest.is_news(event)
            if is_recalled:
                continue
            settling.reached(message.offset)
            if event is not None and is_news and self.filter.wants(event):
                self._give(settling.given, Received(event, None, message.value, number, message.offset))
        self._slow_down(number)

    def _give(self, given: Callable[[int], None], received: Received) -> None:
        if self.group:
            given(received.offset)
        if received.partition in self._held:
            self._held[received.partition].append(received)
        else:
            self._ready.append(received)

    # -- settling --------------------------------------------------------------------------------------------

    async def settled(self, received: Received) -> None:
        """It is done with, and is not given again. Written to Kafka a moment later, or by `commit`."""
        settling = self._reading.get(received.partition)
        if settling is not None and self.group:
            settling.settled(received.event is not None, received.offset)
            self._slow_down(received.partition)

    async def commit(self) -> None:
        """Writes to Kafka what is settled by now. What cannot be written is given again after a restart."""
        if not self.group:
            return
        ours, offsets = self._kafka.assignment(), {}
        for number, settling in self._reading.items():
            place, following = TopicPartition(self._topic, number), settling.following
            if following is not None and place in ours and self._committed.get(number) != following:
                offsets[place] = following
        try:
            if offsets:
                await self._kafka.commit(offsets)
        except (KafkaError, IllegalStateError) as error:
            log.info("not committed", group=self.group, why=f"{type(error).__name__}: {error}")
        else:
            self._committed |= {place.partition: offset for place, offset in offsets.items()}

    async def _commit_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            await self.commit()

    # -- once more -------------------------------------------------------------------------------------------

    def read_again(self, partition: int, offset: int) -> None:
        """The partition is read from `offset` on once more, as if it had been lost and come back: `on_lost` and
        `on_assigned` hear of it, and what was given of it before is not settled any more."""
        self._again[partition] = offset

    async def _go_back(self) -> None:
        again, self._again = self._again, {}
        for number, offset in again.items():
            place, turn = TopicPartition(self._topic, number), self._turn
            if number in self._reading:
                await self.on_partitions_revoked([place])
                if place in self._kafka.assignment() and self._turn == turn + 1:
                    await self.on_partitions_assigned([place])
            if number in self._arrived:
                self._from[number] = offset

    # -- standing still --------------------------------------------------------------------------------------

    def pause(self, partition: int) -> None:
        """Nothing of the partition is given until `resume`; a partition that is lost is forgotten."""
        if partition in self._held:
            return
        self._held[partition] = [each for each in self._ready if each.partition == partition]
        self._ready = deque(each for each in self._ready if each.partition != partition)
        self._stop_or_go(partition)

    def resume(self, partition: int) -> None:
        self._ready.extend(self._held.pop(partition, ()))
        self._stop_or_go(partition)

    def _slow_down(self, partition: int) -> None:
        full = bool(self.group) and len(self._reading[partition]) >= self.unsettled
        if full != (partition in self._full):
            (self._full.add if full else self._full.discard)(partition)
            self._stop_or_go(partition)

    def _stop_or_go(self, partition: int) -> None:
        place = TopicPartition(self._topic, partition)
        if place in self._kafka.assignment():
            still = partition in self._held or partition in self._full
            (self._kafka.pause if still else self._kafka.resume)(place)

    # -- partitions ------------------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self.commit()
        self._turn += 1
        numbers = sorted(place.partition for place in revoked)
        for number in numbers:
            self._forget(number)
        if numbers:
            await self.on_lost(numbers)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._turn += 1
        numbers = sorted(place.partition for place in assigned)
        for number in numbers:
            self._forget(number)
            self._arrived.append(number)
        if numbers:
            await self.on_assigned(numbers)

    def _forget(self, number: int) -> None:
        self._newest.forget(number)
        self._reading.pop(number, None)
        self._committed.pop(number, None)
        self._held.pop(number, None)
        self._full.discard(number)
        self._from.pop(number, None)
        self._arrived = deque(each for each in self._arrived if each != number)
        self._ready = deque(each for each in self._ready if each.partition != number)

    # -- where a partition begins ----------------------------------------------------------------------------

    async def _begin_next(self) -> None:
        """Finding where may take a while, in which the partition may be lost, and come back: then it is found
        again."""
        number, turn = self._arrived[0], self._turn
        found = await wait_out("subscribing", partial(self._find, number), partial(self._is_over, turn))
        if found is not None and turn == self._turn:
            self._arrived.popleft()
            await self._begin(number, found)
            await self.commit()  # who takes over would have another now

    def _is_over(self, turn: int) -> bool:
        return self._closed or turn != self._turn

    async def _begin(self, number: int, found: _Beginning) -> None:
        self._from.pop(number, None)
        settling = self._reading[number] = Settling(found.offset)
        self._kafka.seek(TopicPartition(self._topic, number), max(found.first, found.offset - RECALLED))
        self._stop_or_go(number)
        if found.standing is None:
            return
        self._newest.knows_up_to(number, found.standing.highest)
        for held, raw, offset in found.standing.of.values():
            if self.filter.wants_memberships(held):
                self._give(settling.given_memberships, Received(None, held, raw, number, offset))
        await self.on_memberships([number])

    async def _find(self, number: int) -> _Beginning:
        """Where a partition begins that has become ours."""
        place = TopicPartition(self._topic, number)
        first = await first_offset(self._kafka, self.settings, place)
        if number in self._from:
            return _Beginning(max(first, self._from[number]), first)
        following = await self._kafka.committed(place) if self.group else None
        if following is None and isinstance(self.start, Mapping):
            following = self.start.get(number, first)
        if following is not None and following >= first:
            return _Beginning(following, first)
        if following is not None:
            return await self._find_again(number, following, first)
        if self.start == "memberships":
            return await self._with_memberships(number, first)
        now = self.start == "now"
        return _Beginning(await end_offset(self._kafka, self.settings, place) if now else first, first)

    async def _find_again(self, number: int, following: int, first: int) -> _Beginning:
        """What was to be read next is gone."""
        if self.start != "memberships":
            raise MissedError(number, following, first)
        log.warning("changes are gone that were not read: memberships again", partition=number, next=following)
        return await self._with_memberships(number, first)

    async def _with_memberships(self, number: int, first: int) -> _Beginning:
        stand = await standing(self.settings, number)
        end = await end_offset(self._kafka, self.settings, TopicPartition(self._topic, number))
        start = await behind(self.settings, number, stand.highest, first, end)
        return _Beginning(start, first, stand)

    async def _out_of_range(self, places: Iterable[TopicPartition]) -> None:
        for place in places:
            find = partial(self._find_place, place)
            await wait_out("finding the place", find, partial(self._is_over, self._turn))

    async def _find_place(self, place: TopicPartition) -> None:
        """There is no message where we read: the topic was shortened, or is another one of that name. A broker
        that leads it only since just now says so too, and it is not so."""
        number, turn = place.partition, self._turn
        if (settling := self._reading.get(number)) is None:
            return
        first = await first_offset(self._kafka, self.settings, place)
        if first <= settling.next <= await end_offset(self._kafka, self.settings, place):
            await asyncio.sleep(LOOK_AGAIN_S)
            if turn == self._turn:
                self._kafka.seek(place, max(first, settling.next - RECALLED))
            return
        found = await self._find_again(number, settling.next, first)
        if turn == self._turn:
            self._forget(number)
            await self._begin(number, found)


def _alone(settings: Settings) -> Any:
    """A consumer without a group."""
    return AIOKafkaConsumer(
        **kafka_options(settings),
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=settings.fetch_max_wait_ms,
        max_partition_fetch_bytes=FETCH_BYTES,
        metadata_max_age_ms=METADATA_MS,
    )


def _read(message: Any) -> Event[Any] | None:
    try:
        return None if message.value is None else read(message.value)
    except (msgspec.MsgspecError, KeyError) as error:
        log.error("not a change", partition=message.partition, offset=message.offset, why=str(error))
        return None
