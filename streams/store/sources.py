"""The router's side of Redis: identity links, and for each source partition where it stands.

What a batch taught, its outcome and the position behind it are written at once, if nothing of what was read has
changed since: so a message's account is decided once, and by links that were in force together. The outcome is
saved before it is produced. Whoever takes the partition over produces the saved batch again, byte for byte, and
goes on behind it; the fold drops what it has seen.

A link stands under ten bytes that its key is hashed to: two tell which of the packed hashes, eight the field in
it. All is in one slot of a cluster, for one script writes it.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from streams import keys
from streams.store.base import Outbound, new_token, pack_outbox, unpack_outbox

_SAVE = Path(__file__).with_name("route.lua").read_text()
_LINKS = Path(__file__).with_name("links.lua").read_text()
_HOLDING = Path(__file__).with_name("holding.lua").read_text()
BUCKETS = 1 << 16
LOOKED_THROUGH = 512  # buckets that one call looks through
CONFLICTS_KEPT = 1_000


@lru_cache(262_144)
def link_digest(key: str) -> bytes:
    return blake2b(key.encode(), digest_size=10).digest()


def link_id(key: str) -> str:
    """The link's key in `identity.links`."""
    return as_text(link_digest(key))


def as_text(digest: bytes) -> str:
    return urlsafe_b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class SourceHeld:
    """A source partition as its new owner finds it. `next` None: never read before.

    `last` is what the message before `next` looked like, `incarnation` how often the topic was made anew.
    """

    token: str
    next: int | None
    saved: list[Outbound]
    last: str = ""
    incarnation: int = 0
    paused: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is written when a batch has been routed: from `expected` to `following`, and what was learned."""

    expected: int
    following: int
    last: str
    outbound: Sequence[Outbound]
    read: Mapping[str, str]  # the links that were in force
    learned: Mapping[str, str]
    forgotten: Iterable[bytes] = ()  # digests of links that go
    conflicts: Mapping[str, str] | None = None  # domain -> who claims it beside whom


class SourceStore:
    def __init__(self, redis: Redis, namespace: str = keys.NAMESPACE) -> None:
        self._redis: Any = redis
        self._namespace = namespace
        self._save = self._redis.register_script(_SAVE)
        self._links = self._redis.register_script(_LINKS)
        self._holding = self._redis.register_script(_HOLDING)

    async def acquire(self, topic: str, partition: int) -> SourceHeld:
        key, token = keys.source(topic, partition, self._namespace), new_token()
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, "token", token)
            pipe.hmget(key, "next", "batch", "last", "incarnation", "paused")
            _, (following, batch, last, incarnation, paused) = await pipe.execute()
        return SourceHeld(
            token,
            None if following is None else int(following),
            unpack_outbox(batch) if batch else [],
            last.decode() if last else "",
            int(incarnation or 0),
            paused.decode() if paused else "",
        )

    async def begin_again(self, topic: str, partition: int, token: str, incarnation: int) -> bool:
        """The topic is another one of the same name: it is read from its beginning. False: not ours any more."""
        key = keys.source(topic, partition, self._namespace)
        if await self._redis.hget(key, "token") != token.encode():
            return False
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, "incarnation", incarnation)
            pipe.hdel(key, "next", "batch", "last")
            await pipe.execute()
        return True

    async def links(self, wanted: Iterable[str]) -> dict[str, str]:
        """The links that are there, in one round trip."""
        names = list(wanted)
        if not names:
            return {}
        digests = b"".join(map(link_digest, names))
        found = await self._links(args=[keys.links(self._namespace), digests])
        return {name: link.decode() for name, link in zip(names, found, strict=True) if link is not None}

    async def save(self, topic: str, partition: int, token: str, batch: Batch) -> str:
        """`OK`, or why nothing was written: `FENCED` (somebody else owns it), `MOVED` (it stands elsewhere),
        `CHANGED` (what was read of a link is not true any more)."""
        key = keys.source(topic, partition, self._namespace)
        conflicts = batch.conflicts or {}
        told: list[Any] = [
            token, batch.expected, batch.following, pack_outbox(batch.outbound), batch.last,
            keys.links(self._namespace), keys.conflicts(self._namespace), CONFLICTS_KEPT, len(conflicts),
        ]  # fmt: skip
        for domain, claims in conflicts.items():
            told += (domain, claims)
        for name, link in batch.learned.items():
            told += (link_digest(name), batch.read.get(name, ""), link)
        for digest in batch.forgotten:
            told += (digest, "*", "")
        status = await self._save(keys=[key], args=told)
        return str(status.decode())

    async def holding(self, persons: Sequence[str]) -> list[bytes]:
        """The digests of all links that lead to one of these people. Reads through all of them: for erasures."""
        found, name = [], keys.links(self._namespace)
        for start in range(0, BUCKETS, LOOKED_THROUGH):
            found += await self._holding(args=[name, start, start + LOOKED_THROUGH, *persons])
        return found

    async def pause(self, topic: str, partition: int, why: str) -> None:
        await self._redis.hset(keys.source(topic, partition, self._namespace), "paused", why)

    async def paused(self, topic: str, partition: int) -> str:
        """Why a source partition is paused; empty when it is not."""
        why = await self._redis.hget(keys.source(topic, partition, self._namespace), "paused")
        return why.decode() if why else ""

    async def resume(self, topic: str, partition: int) -> bool:
        """Lets it go on; whether it was paused."""
        return bool(await self._redis.hdel(keys.source(topic, partition, self._namespace), "paused"))

    async def conflicts(self) -> dict[str, str]:
        """Domains that several accounts claim: who has it, and who claims it too."""
        found = await self._redis.hgetall(keys.conflicts(self._namespace))
        return {domain.decode(): claims.decode() for domain, claims in sorted(found.items())}
