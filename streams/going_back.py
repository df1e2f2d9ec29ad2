"""What the router does when Redis has lost what it wrote last: a failover, an older snapshot, an emptied server.

Before a batch is produced the router's group commits the offset behind it, so whatever was produced lies below
what is committed. With the offset goes an `Intent`: where the batch begins, and how far the log reached before it.
All below that beginning is in Kafka to the last link; only the one batch is in doubt, and the log, read from there
on, has what came of it.

A message in doubt is routed once more, as of the same instant, by the links that are in force now. What the log
has of it stays, at the account at which it counted first; the rest is produced, as it is decided now. They are
told apart by content, not by index: by other links a message may become other records. A record that the fold
would take for one that it has seen (its log partition has a later one of that batch) comes from `web.activity+/0`
instead of `web.activity/0`.

What a message in doubt, or one of a batch that was saved and is in doubt nowhere, would teach is perhaps known by
others already, or they have gone on without it. So who is meant by these messages is told as what they are by now,
accounts that the log has of them included (see strays).

Redis may go back once more before all that is in doubt is decided; by the offsets it stands where it should then.
So the batches that are decided anew are counted, in Redis and in what goes with the offset.

The embedded broker does not keep what is committed with an offset. Then the log is read from its beginning, and
the batch in doubt is known by its instant: the last one of the source partition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from rules.records import AccountRecord, Erase, Merge, Record, Same, decode_record, encode_record, is_provisional
from streams.connecting import kafka_options
from streams.producer import partition_of
from streams.settings import Settings
from streams.store.base import Outbound
from streams.topics import ACCOUNT_LOG

LONGEST = 4_000  # bytes that go with an offset; brokers take 4,096 unless told otherwise
NOWHERE = (-1, -1)
Position: TypeAlias = tuple[int, int]  # source offset, index
Found: TypeAlias = tuple[int, AccountRecord]  # partition of the log, record


class Intent(msgspec.Struct, array_like=True, frozen=True):
    """What is about to be produced: a batch up to `following`. `start` None: nobody has said where it begins.

    `redone` counts batches that were routed once more because they were in doubt: by the offset alone nobody could
    tell that Redis has gone back again before all of them were.
    """

    following: int
    start: int | None = None
    incarnation: int = 0
    ends: dict[int, int] = {}  # by partition of the log: nothing of the batch stands before that
    redone: int = 0

    def packed(self) -> str:
        """The shape that goes with an offset. Where the ends find no room, the log is read from its beginning."""
        packed = msgspec.json.encode(self).decode()
        return packed if len(packed) <= LONGEST else msgspec.structs.replace(self, ends={}).packed()

    def is_beyond(self, incarnation: int, next: int | None) -> bool:
        """Whether Redis, where it stands so, has gone back."""
        return (self.incarnation, self.following) > (incarnation, -1 if next is None else next)


_unpack = msgspec.json.Decoder(Intent).decode


def intent_of(offset: int, metadata: str) -> Intent:
    try:
        intent = _unpack(metadata)
    except (msgspec.DecodeError, msgspec.ValidationError):  # another broker's, or an earlier build's
        return Intent(offset)
    return intent if intent.following == offset else Intent(offset)


async def committed(settings: Settings, places: Iterable[TopicPartition]) -> dict[TopicPartition, Intent]:
    """The last intent of each source partition that has one. Raises KafkaError when the broker is away."""
    admin = AIOKafkaAdminClient(**kafka_options(settings))
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(settings.group("router"), partitions=list(places))
    finally:
        await admin.close()
    return {tp: intent_of(each.offset, each.metadata) for tp, each in found.items() if each.offset >= 0}


@dataclass(slots=True)
class Doubt:
    """The messages of `place` from `start` up to `until`, and what the log has of them.

    `received` is when they were routed; None: nothing of them is in the log.
    """

    until: int
    start: int
    ends: dict[int, int]
    received: int | None = None
    there: dict[int, Counter[bytes]] = field(default_factory=dict)  # by source offset
    highest: dict[tuple[str, int], Position] = field(default_factory=dict)  # by place and log partition
    accounts: set[str] = field(default_factory=set)  # provisional ones at which something of them counts

    @classmethod
    def of(cls, intent: Intent, next: int, found: Iterable[Found]) -> Doubt:
        """`found` is what the log has of the partition, at `next` or behind it."""
        doubt = cls(intent.following, max(next, intent.start or 0), intent.ends)
        records = [(number, record) for number, record in found if via(record)[1] >= doubt.start]
        if not records:
            return doubt
        _, last = max(records, key=lambda each: via(each[1])[1:])
        if intent.start is None:
            done = [via(record)[1] + 1 for _, record in records if record.received != last.received]
            doubt.start = max(done, default=doubt.start)
        doubt.received = last.received
        for number, record in records:
            place, offset, index = via(record)
            if offset >= doubt.start:
                doubt.there.setdefault(offset, Counter())[content(record)] += 1
                account = record.into if isinstance(record, Merge) else record.account
                if is_provisional(account):
                    doubt.accounts.add(account)
            key = (place, number)
            doubt.highest[key] = max(doubt.highest.get(key, NOWHERE), (offset, index))
        return doubt

    def missing(self, outbound: Iterable[Outbound], partitions: int) -> Iterator[Outbound]:
        """What is to be produced of `outbound`: all but the records that the log has."""
        there = {offset: counted.copy() for offset, counted in self.there.items()}
        for each in outbound:
            if each.topic != ACCOUNT_LOG or each.partition is not None:  # an erasure harms nobody twice
                yield each
                continue
            record = decode_record(each.value or b"")
            place, offset, index = via(record)
            counted, what = there.get(offset, Counter()), content(record)
            if counted[what]:
                counted[what] -= 1
                continue
            number = partition_of(each.key, partitions)
            while (offset, index) <= self.highest.get((place, number), NOWHERE):
                place = again(place)
            record.via = (place, offset, index)
            yield Outbound(each.topic, each.key, encode_record(record), each.headers)


def of_partition(message: Any, place: str, next: int, until: int) -> Found | None:
    """The record of the log in `message`, if it comes from those messages of `place`."""
    if place.partition("/")[0].encode() not in (message.value or b""):
        return None
    record = decode_record(message.value)
    if record.via is None or isinstance(record, Erase):
        return None
    name, offset, _ = record.via
    return (message.partition, record) if name.replace("+", "") == place and next <= offset < until else None


def via(record: Record) -> tuple[str, int, int]:
    return record.via or ("", *NOWHERE)


def again(place: str) -> str:
    topic, _, partition = place.rpartition("/")
    return f"{topic}+/{partition}"


def content(record: Record) -> bytes:
    """What a record says, whatever it is decided to be of: by other links it is of another account or person."""
    said: dict[str, Any] = msgspec.to_builtins(record)
    decided = {"received", "via", "under", "offset", "into", "same_as", "account", "person"}
    decided -= {"account"} if isinstance(record, Merge) else {"person"} if isinstance(record, Same) else set()
    return msgspec.json.encode({name: each for name, each in said.items() if name not in decided}, order="sorted")
