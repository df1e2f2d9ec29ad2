"""Whose words stand in `segment.memberships`, and where.

Kafka takes whatever it is sent. A worker that stands still in the middle of a sending, for longer than it owns the
partition, puts old words behind the newer ones of whoever owns it then; so does a network that holds them up. To
readers who go by position they are old; of a compacted topic only the last is left. So an owner knows where its
own words stand, and Redis where those of the owners before it end: what is found in between is somebody else's.
What is old among it is mended by a new epoch, in which all accounts that changed since tell where they stand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from rules.contract import read_memberships
from streams.playback import up_to_its_end
from streams.settings import Settings
from streams.topics import MEMBERSHIPS

ANY = 1 << 62  # older than this is every word


@dataclass(frozen=True, slots=True)
class Written:
    """Our last sending: in one batch all between `first` and `behind` is ours."""

    first: int
    behind: int
    in_one: bool = True

    @property
    def others_from(self) -> int:
        return self.behind if self.in_one else self.first


@dataclass(frozen=True, slots=True)
class Others:
    """Words that are not ours stand from `start` to `end`; those decided below that offset of the log are old."""

    start: int
    end: int
    below: int


class Words:
    """What an owner knows of the partitions that it publishes."""

    def __init__(self) -> None:
        self._written: dict[int, Written] = {}
        self.others: dict[int, Others] = {}

    def begins(self, partition: int, behind: int) -> None:
        """Ours from now on; the words of those before us end at `behind`, -1: nobody knows."""
        self.ends(partition)
        if behind >= 0:
            self._written[partition] = Written(behind, behind)

    def ends(self, partition: int) -> None:
        """Somebody else owns it."""
        self.others.pop(partition, None)
        self._written.pop(partition, None)

    def wrote(self, partition: int, first: int, count: int, in_one: bool) -> None:
        """We sent `count` words, the first of which stands at `first`; -1: the broker had it, and does not say."""
        if first < 0:
            self._written.pop(partition, None)
        else:
            self._written[partition] = Written(first, first + count, in_one)

    def looked(self, partition: int, end: int, below: int = ANY) -> None:
        """All behind our last sending, up to `end`, is somebody else's."""
        written = self._written.get(partition)
        if written is not None and end > written.behind:
            before = self.others.get(partition, Others(written.others_from, end, below))
            self.others[partition] = Others(before.start, end, max(before.below, below))
            self._written[partition] = Written(end, end)

    def mended(self, partition: int, end: int) -> None:
        """Whatever is old up to `end` has been told anew, or nothing is."""
        if partition in self.others and self.others[partition].end <= end:
            del self.others[partition]

    def end(self, partition: int) -> int | None:
        """Where the topic ends if nobody but us has written there; None: we cannot know."""
        written = self._written.get(partition)
        return None if written is None else written.behind

    def safe_up_to(self, partition: int) -> int:
        """Up to where all words are ours, or have been mended; -1: we cannot know."""
        if partition in self.others:
            return self.others[partition].start
        written = self._written.get(partition)
        return -1 if written is None else written.others_from


async def oldest(settings: Settings, partition: int, others: Others) -> int | None:
    """The lowest place in the log of those that are old; None: none is. Raises KafkaError."""
    since = {partition: others.start}
    return oldest_of([each async for each in up_to_its_end(settings, MEMBERSHIPS, since, partition)], others)


def oldest_of(messages: Iterable[Any], others: Others) -> int | None:
    places = [_place(each) for each in messages if others.start <= each.offset < others.end]
    return min((each for each in places if each < others.below), default=None)


def _place(message: Any) -> int:
    """At which offset of the log it was decided; a tombstone says so in a header. 0: it does not say."""
    try:
        if message.value:
            return read_memberships(message.value).position.offset
        return int(dict(message.headers or ()).get("offset", b"0"))
    except (msgspec.MsgspecError, ValueError):
        return 0
