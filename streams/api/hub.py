"""One reader of `segment.changes` in a process, and everybody who listens.

    Kafka ─► reader ─► entry (encoded once) ─┬─► recent   the newest entries, for who comes back
                                             └─► channels one a filter ─► listeners, each with a bounded queue

What the reader gets within a moment goes out as one chunk, which all listeners of a filter share. A listener that
resumes first gets what it missed: from `recent`, or where that does not reach back so far from a reader of its
own, until the two meet. All of that happens between two chunks, so nothing is missing and nothing comes twice.

A listener that does not take what is there is cut off and told why; it comes back with the id that it had last.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import structlog
from sse_starlette.event import ServerSentEvent

from rules.contract import Event
from streams.api.places import packed, place, varint
from streams.outage import AWAY
from streams.settings import Settings
from streams.subscribe import Filter, MissedError, Received, Subscription, subscribe
from streams.topics import TopicsError

log = structlog.get_logger()
LOOK_AGAIN_S = 1.0
EVERYTHING = Filter()
CLOSING, SLOW, LOST = "closing", "too_slow", "changes_deleted"


@dataclass(frozen=True, slots=True)
class Pace:
    """How much waits, and for how long."""

    together_s: float = 0.05  # what comes within this time goes out as one chunk
    recent: int = 20_000  # entries kept for who comes back,
    recent_bytes: int = 64 * 1024 * 1024  # and how large they may be
    waiting_bytes: int = 4 * 1024 * 1024  # for one listener; who has more is cut off
    listeners: int = 2_000
    catching_up: int = 8  # listeners with a reader of their own, at one time
    heartbeat_s: float = 15.0
    send_s: float = 30.0  # for a listener to take a chunk


@dataclass(frozen=True, slots=True)
class Entry:
    """A change, and the frame that listeners get of it, whose id is how far the hub had read with it."""

    event: Event[Any]
    raw: bytes
    partition: int
    offset: int
    frame: bytes


def frame(event: Event[Any], raw: bytes, id: str) -> bytes:
    return ServerSentEvent(raw.decode(), event=event.type, id=id, sep="\n").encode()


def note(id: str) -> bytes:
    """What moves a listener's id on and is no event: also a sign of life."""
    return ServerSentEvent(id=id, sep="\n").encode()


def farewell(why: str) -> bytes:
    return ServerSentEvent(f'{{"reason":"{why}"}}', event="closed", sep="\n").encode()


class Listener:
    """What waits for somebody. `ended` says why nothing more comes."""

    def __init__(self, filter: Filter, most: int) -> None:
        self.filter, self._most = filter, most
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._there = asyncio.Event()
        self.ended = ""

    def take(self, chunk: bytes) -> None:
        if self.ended:
            return
        if self._waiting and self._waiting + len(chunk) > self._most:
            self.end(SLOW)
            return
        self._chunks.append(chunk)
        self._waiting += len(chunk)
        self._there.set()

    def end(self, why: str) -> None:
        self.ended = self.ended or why
        if why == SLOW:
            self._chunks.clear()
        self._there.set()

    async def next(self, within_s: float) -> bytes:
        """What waits, all at once; empty when nothing came, or nothing will."""
        if not (self._chunks or self.ended):
            try:
                async with asyncio.timeout(within_s):
                    await self._there.wait()
            except TimeoutError:
                pass
        if not self._chunks:
            return b""
        found = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._waiting = 0
        if not self.ended:
            self._there.clear()
        return found


@dataclass(slots=True)
class _Channel:
    """Everybody with the same filter."""

    filter: Filter
    listeners: set[Listener] = field(default_factory=set)
    frames: list[bytes] = field(default_factory=list)  # since the last chunk

    def hears(self, entry: Entry) -> None:
        if self.filter.wants(entry.event):
            self.frames.append(entry.frame)

    def flush(self) -> None:
        if self.frames:
            chunk = b"".join(self.frames)
            self.frames.clear()
            for listener in self.listeners:
                listener.take(chunk)


@dataclass(slots=True)
class Missed:
    """Frames that a listener has not been given. `is_all`: there are no others by now."""

    frames: list[bytes] = field(default_factory=list)
    is_all: bool = False


class Recent:
    """The newest entries, and from which offset on each partition is whole in them."""

    def __init__(self, starts: Sequence[int], pace: Pace) -> None:
        self.starts = list(starts)
        self._pace = pace
        self._entries: deque[Entry] = deque()
        self._bytes = 0

    def keep(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._bytes += len(entry.raw) + len(entry.frame)
        while len(self._entries) > self._pace.recent or self._bytes > self._pace.recent_bytes:
            oldest = self._entries.popleft()
            self._bytes -= len(oldest.raw) + len(oldest.frame)
            self.starts[oldest.partition] = oldest.offset + 1

    def __iter__(self) -> Iterator[Entry]:
        """The newest first."""
        return reversed(self._entries)

    def reaches_back_to(self, offsets: Sequence[int]) -> bool:
        return len(offsets) == len(self.starts) and all(
            start <= offset for start, offset in zip(self.starts, offsets, strict=True)
        )

    def since(self, offsets: list[int], filter: Filter, most: int) -> Missed:
        """From these offsets on, which move along, up to about `most` bytes. Where the hub had read all that the
        listener knows already, an entry's own frame says the right place; until then a place is made for it."""
        missed, size = Missed(), 0
        behind = {number for number, start in enumerate(self.starts) if start < offsets[number]}
        for entry in self._entries:
            number = entry.partition
            if entry.offset + 1 >= offsets[number]:
                behind.discard(number)
            if entry.offset < offsets[number]:
                continue
            offsets[number] = entry.offset + 1
            if filter.wants(entry.event):
                told = frame(entry.event, entry.raw, place(offsets)) if behind else entry.frame
                missed.frames.append(told)
                size += len(told)
            if size >= most:
                return missed
        missed.is_all = True
        return missed


class Hub:
    """Runs as long as the process; `is_reading` says whether it has found its place in Kafka."""

    def __init__(self, settings: Settings, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self.settings = settings
        self.catching_up = asyncio.Semaphore(self.pace.catching_up)
        self.listeners = 0
        self.closed = False
        self._channels: dict[Filter, _Channel] = {}
        self._offsets: list[int] = []  # by partition, behind what was read
        self._varints: list[bytes] = []
        self._recent = Recent([], self.pace)
        self._progress = asyncio.Condition()

    # -- reading ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it is cancelled. While Kafka is away it waits; who listens misses nothing."""
        while True:
            try:
                async with subscribe(self.settings, dict(enumerate(self._offsets)) or "now") as subscription:
                    self._found(subscription.positions)
                    while True:
                        await self._read(subscription)
            except MissedError as error:  # whoever listens has a gap, and is to be told
                log.error("changes were deleted before they were read", why=str(error))
                self._offsets = []
                self._end_all(LOST)
            except (*AWAY, TopicsError) as error:
                log.warning("not reading changes", why=f"{type(error).__name__}: {error}")
                await asyncio.sleep(LOOK_AGAIN_S)

    def _found(self, positions: dict[int, int]) -> None:
        if not self._offsets:
            self._offsets = [positions[number] for number in sorted(positions)]
            self._varints = [varint(each) for each in self._offsets]
            self._recent = Recent(self._offsets, self.pace)

    async def _read(self, subscription: Subscription) -> None:
        """What is there goes out at once, before anybody else has a turn: nobody sees a half of it."""
        received = await subscription.batch(within_s=1.0)
        for each in received:
            self._hear(each)
        for number, offset in subscription.positions.items():  # also behind what is no news
            self._reached(number, offset)
        for channel in self._channels.values():
            channel.flush()
        async with self._progress:
            self._progress.notify_all()
        if received:
            await asyncio.sleep(self.pace.together_s)

    def _hear(self, received: Received) -> None:
        if received.event is None:
            return
        self._reached(received.partition, received.offset + 1)
        event, raw = received.event, received.raw
        told = frame(event, raw, self.place)
        entry = Entry(event, raw, received.partition, received.offset, told)
        self._recent.keep(entry)
        for channel in self._channels.values():
            channel.hears(entry)

    def _reached(self, partition: int, offset: int) -> None:
        if offset != self._offsets[partition]:
            self._offsets[partition] = offset
            self._varints[partition] = varint(offset)

    def newest(self, most: int, filter: Filter = EVERYTHING) -> list[Entry]:
        """The newest of what it remembers, the newest first."""
        return list(islice((each for each in self._recent if filter.wants(each.event)), most))

    # -- listening -------------------------------------------------------------------------------------------

    @property
    def is_reading(self) -> bool:
        return bool(self._offsets)

    @property
    def partitions(self) -> int:
        return len(self._offsets)

    @property
    def place(self) -> str:
        """How far it has read, and everybody who has joined has been given; empty before it has begun."""
        return packed(self._varints) if self._offsets else ""

    def join(self, filter: Filter, before: Iterable[bytes] = ()) -> Listener:
        """Hears what comes from now on, after the frames that it is given `before`."""
        listener = Listener(filter, self.pace.waiting_bytes)
        listener.take(b"".join([*before, note(self.place)]))
        self._channels.setdefault(filter, _Channel(filter)).listeners.add(listener)
        if self.closed:
            listener.end(CLOSING)
        return listener

    def leave(self, listener: Listener) -> None:
        if (channel := self._channels.get(listener.filter)) is not None:
            channel.listeners.discard(listener)
            if not channel.listeners:
                del self._channels[listener.filter]

    def missed(self, filter: Filter, offsets: list[int], most: int) -> Missed | None:
        """What it has read from these offsets on, which move along, up to about `most` bytes. None: it does not
        remember all of that any more."""
        if not self._recent.reaches_back_to(offsets):
            return None
        return self._recent.since(offsets, filter, most)

    def remembers(self, offsets: Sequence[int]) -> bool:
        return self._recent.reaches_back_to(offsets)

    def has_read(self, offsets: Sequence[int]) -> bool:
        return len(self._offsets) == len(offsets) and all(map(int.__ge__, self._offsets, offsets))

    async def comes_to(self, offsets: Sequence[int], within_s: float) -> bool:
        """Whether it has read so far, or has in a moment: another process may be a little ahead."""
        try:
            async with asyncio.timeout(within_s), self._progress:
                await self._progress.wait_for(lambda: self.has_read(offsets))
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Everybody is told that no more comes."""
        self.closed = True
        self._end_all(CLOSING)

    def _end_all(self, why: str) -> None:
        for channel in self._channels.values():
            for listener in channel.listeners:
                listener.end(why)
