"""What is kept of an endpoint's deliveries in Redis: those that wait for another attempt, and what came of others.

A partition's owner has a token; what somebody writes who was the owner before is refused. All that came of a batch
of deliveries is one script, so that a delivery is never both waiting and done, nor neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from streams.delivery.queue import Attempt, Change, Done, Finished, How, Waiting
from streams.keys import EndpointKeys
from streams.store.base import new_token

_RECORD = Path(__file__).with_name("record.lua").read_text()
KEPT = {How.DELIVERED: 1_000, How.GIVEN_UP: 10_000, How.SUPERSEDED: 1_000}  # the newest of each, an endpoint
ASKED_AT_MOST = 1_000
_ORDER = tuple(KEPT)


class Stored(msgspec.Struct, array_like=True, frozen=True):
    """A delivery that waits, in the order in which `packed` writes it."""

    id: str
    account: str
    dimension: str
    order: tuple[int, int, int]
    partition: int
    offset: int
    raw: bytes
    about: str
    due: int
    tried: int
    alone: bool
    attempts: list[tuple[int, int, int, str]]


class Record(msgspec.Struct, array_like=True, frozen=True):
    """What came of a delivery. The change itself is in `segment.changes`, at this place."""

    id: str
    account: str
    about: str
    partition: int
    offset: int
    how: str
    reason: str
    at: int
    attempts: list[tuple[int, int, int, str]]  # at, ms, status, why


_pack = msgspec.msgpack.Encoder().encode
_stored = msgspec.msgpack.Decoder(Stored).decode
_record = msgspec.msgpack.Decoder(Record).decode


def packed(waiting: Waiting) -> bytes:
    change = waiting.change
    what = change.id, change.account, change.dimension, change.order
    where = change.partition, change.offset, change.raw, change.about
    return _pack((*what, *where, waiting.due, waiting.tried, waiting.alone, _attempts(waiting)))


def unpacked(blob: bytes) -> Waiting:
    each = _stored(blob)
    change = Change(
        each.id, each.account, each.dimension, each.order, each.partition, each.offset, each.raw, each.about
    )
    attempts = tuple(Attempt(*attempt) for attempt in each.attempts)
    return Waiting(change, each.due, each.tried, attempts, alone=each.alone)


def _attempts(waiting: Waiting) -> list[tuple[int, int, int, str]]:
    return [(each.at, each.took, each.status, each.why) for each in waiting.attempts]


def recorded(finished: Finished, now: int) -> Record:
    change, attempts = finished.waiting.change, _attempts(finished.waiting)
    how, reason = str(finished.how), finished.reason
    return Record(
        change.id, change.account, change.about, change.partition, change.offset, how, reason, now, attempts
    )


@dataclass(frozen=True, slots=True)
class Status:
    """How an endpoint stands, whoever delivers to it. Instants in UTC ms, 0: never."""

    since: int = 0  # the first failure after the last success
    succeeded: int = 0
    disabled: int = 0
    why: str = ""
    missed: str = ""  # changes that Kafka had no more when they were to be read
    asked: int = 0  # deliveries that somebody wants made again
    again: Mapping[int, int] = field(default_factory=dict)  # partition -> the offset to read on from once more

    @property
    def state(self) -> str:
        return "disabled" if self.disabled else "failing" if self.since else "well"


class DeliveryStore:
    def __init__(self, redis: Any, namespace: str, endpoint: str) -> None:
        self._redis: Any = redis
        self._keys = EndpointKeys.of(endpoint, namespace)
        self._record = redis.register_script(_RECORD)

    # -- for the owner of a partition -----------------------------------------------------------------------

    async def acquire(self, partition: int) -> tuple[str, list[Waiting]]:
        """A token, without which nothing is written, and what waits in the partition."""
        token = new_token()
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._keys.status, f"owner:{partition}", token)
            pipe.hvals(self._keys.waiting(partition))
            _, blobs = await pipe.execute()
        return token, [unpacked(each) for each in blobs]

    async def write(self, partition: int, token: str, done: Sequence[Done], now: int) -> bool:
        """False: the partition is somebody else's."""
        keys = [self._keys.status, self._keys.waiting(partition), self._keys.records]
        keys += [self._keys.done(how) for how in _ORDER]
        given: list[Any] = [f"owner:{partition}", token, now, *KEPT.values()]
        for each in done:
            given.append(each.waiting.change.id)
            if isinstance(each, Finished):
                given += ["", _pack(recorded(each, now)), _ORDER.index(each.how) + 1]
            else:
                given += [packed(each.waiting), "", 0]
        return bool(await self._record(keys=keys, args=given))

    async def take_asked(self, partitions: Iterable[int]) -> list[Waiting]:
        """What somebody wants made again in these partitions; it stays asked for until `took`."""
        ours = set(partitions)
        found = [unpacked(each) for each in await self._redis.hvals(self._keys.asked)]
        return [each for each in found if each.change.partition in ours]

    async def took(self, ids: Sequence[str]) -> None:
        if ids:
            await self._redis.hdel(self._keys.asked, *ids)

    async def went_again(self, partition: int, offset: int) -> None:
        """The partition is read from there; another wish that came meanwhile stays."""
        name = f"again:{partition}"
        if await self._redis.hget(self._keys.status, name) == str(offset).encode():
            await self._redis.hdel(self._keys.status, name)

    # -- for all who deliver to it --------------------------------------------------------------------------

    async def status(self) -> Status:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._keys.status)
            pipe.hlen(self._keys.asked)
            found, asked = await pipe.execute()
        told = {name.decode(): value.decode() for name, value in found.items()}
        again = {int(name[6:]): int(value) for name, value in told.items() if name.startswith("again:")}
        since, succeeded, disabled = (int(told.get(name, 0)) for name in ("since", "succeeded", "disabled"))
        return Status(since, succeeded, disabled, told.get("why", ""), told.get("missed", ""), asked, again)

    async def succeeded(self, now: int) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._keys.status, "succeeded", now)
            pipe.hdel(self._keys.status, "since")
            await pipe.execute()

    async def failed(self, since: int) -> None:
        await self._redis.hsetnx(self._keys.status, "since", since)

    async def missed(self, what: str) -> None:
        await self._redis.hset(self._keys.status, "missed", what)

    async def disable(self, now: int, why: str) -> bool:
        """Whether it was we who did it."""
        done = await self._redis.hsetnx(self._keys.status, "disabled", now)
        if done:
            await self._redis.hset(self._keys.status, "why", why)
        return bool(done)

    # -- for commands ---------------------------------------------------------------------------------------

    async def enable(self) -> bool:
        """Whether it was disabled. What is known of failures before is forgotten."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hdel(self._keys.status, "disabled")
            pipe.hdel(self._keys.status, "since", "why")
            was, _ = await pipe.execute()
        return bool(was)

    async def ask(self, changes: Iterable[Change]) -> None:
        found = {each.id: packed(Waiting(each, 0)) for each in changes}
        if found:
            await self._redis.hset(self._keys.asked, mapping=found)

    async def ask_again(self, offsets: Mapping[int, int]) -> None:
        """The partitions are to be read from these offsets once more."""
        if offsets:
            await self._redis.hset(self._keys.status, mapping={f"again:{p}": at for p, at in offsets.items()})

    async def waiting(self, partitions: int) -> list[Waiting]:
        """What waits for another attempt, the next one first."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for partition in range(partitions):
                pipe.hvals(self._keys.waiting(partition))
            found = await pipe.execute()
        return sorted((unpacked(blob) for blobs in found for blob in blobs), key=lambda each: each.due)

    async def counts(self, partitions: int) -> dict[str, int]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for how in _ORDER:
                pipe.zcard(self._keys.done(how))
            for partition in range(partitions):
                pipe.hlen(self._keys.waiting(partition))
            found = await pipe.execute()
        counted = dict(zip(map(str, _ORDER), found, strict=False))
        return {"waiting": sum(found[len(_ORDER) :]), **counted}

    async def records(self, hows: Iterable[How], limit: int) -> list[Record]:
        """The newest first."""
        found: list[Record] = []
        for how in hows:
            ids = await self._redis.zrange(self._keys.done(how), 0, limit - 1, desc=True)
            blobs = await self._redis.hmget(self._keys.records, ids) if ids else []
            found += [_record(blob) for blob in blobs if blob is not None]
        return sorted(found, key=lambda each: (each.at, each.id), reverse=True)[:limit]

    async def find(self, id: str, partitions: int) -> Waiting | Record | None:
        for partition in range(partitions):
            if (blob := await self._redis.hget(self._keys.waiting(partition), id)) is not None:
                return unpacked(blob)
        blob = await self._redis.hget(self._keys.records, id)
        return None if blob is None else _record(blob)
