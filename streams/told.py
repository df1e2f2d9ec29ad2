"""How far the changes of a partition have been told, as `segment.changes` itself says.

Redis may have lost what it wrote last (a failover, an older snapshot, an emptied server) and Kafka has not: if
something was told of records that Redis says are still to be folded, Redis has gone back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from rules.fold import Place
from streams.connecting import kafka_options
from streams.playback import SILENCE_S
from streams.settings import Settings
from streams.topics import CHANGES

FARTHER = 32  # times as many messages, each time we look back


class _Event(msgspec.Struct):
    id: str


_decode = msgspec.json.Decoder(_Event).decode


@dataclass(slots=True)
class _Tail:
    """The end of one partition: what has been read of it, from `start` up to `end`."""

    place: TopicPartition
    floor: int
    first: int
    end: int
    start: int
    highest: Place | None = None
    is_whole: bool = False
    is_last: bool = True  # it goes to where the topic ends

    def hears(self, message: Any) -> None:
        told = place_of(message.value)
        if told is None:
            return
        if self.highest is None or told > self.highest:
            self.highest = told
        if told.offset < self.floor:
            self.is_whole = True


def place_of(event: bytes | None) -> Place | None:
    """The place of a change; None for what is not one of ours."""
    try:
        _, epoch, offset, n = _decode(event or b"").id.split(".")
        return Place(int(epoch), int(offset), int(n))
    except (msgspec.MsgspecError, ValueError):
        return None


async def last_told(settings: Settings, floors: Mapping[int, int]) -> dict[int, Place]:
    """The highest place that was told, by partition; none for a partition of which nothing was.

    `floors`: an offset for each partition, below which all that was told has been trimmed from the outbox. A
    publisher that dies is followed by one that tells again what is not trimmed, so the last message need not be
    the highest: we look back until there is one from before that.

    Raises KafkaError when the broker is away.
    """
    consumer = AIOKafkaConsumer(
        **kafka_options(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=settings.fetch_max_wait_ms,
    )
    await consumer.start()
    try:
        places = {number: TopicPartition(settings.topics(CHANGES), number) for number in floors}
        consumer.assign(list(places.values()))
        firsts = await consumer.beginning_offsets(places.values())
        ends = await consumer.end_offsets(places.values())
        tails = [
            _Tail(place, floors[number], firsts[place], ends[place], max(firsts[place], ends[place] - 1))
            for number, place in places.items()
        ]
        back = 1
        while left := [tail for tail in tails if tail.start < tail.end and not tail.is_whole]:
            await _read(consumer, left)
            back *= FARTHER
            for tail in left:
                tail.is_whole = tail.is_whole or tail.start <= tail.first
                tail.end, tail.start, tail.is_last = tail.start, max(tail.first, tail.start - back), False
        return {tail.place.partition: tail.highest for tail in tails if tail.highest is not None}
    finally:
        await consumer.stop()


async def _read(consumer: Any, tails: list[_Tail]) -> None:
    """Reads each tail from its start up to its end."""
    left = {tail.place: tail for tail in tails}
    consumer.assign(list(left))
    for tail in tails:
        consumer.seek(tail.place, tail.start)
    heard = time.monotonic()
    while left:
        for place, messages in (await consumer.getmany(timeout_ms=100)).items():
            heard = time.monotonic()
            for message in messages:
                if place in left and (left[place].is_last or message.offset < left[place].end):
                    left[place].hears(message)
        for place, tail in list(left.items()):
            if tail.is_last:
                # The embedded broker names an end that may be too low.
                tail.end = max(tail.end, consumer.highwater(place) or 0)
            if await consumer.position(place) >= tail.end:
                del left[place]
                consumer.pause(place)
        if time.monotonic() - heard > SILENCE_S:
            raise KafkaTimeoutError(f"{', '.join(map(str, left))} could not be read to the end")
