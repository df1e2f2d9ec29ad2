"""The router's side of Redis: identity links, and for each source partition where it stands.

A batch's outcome is saved under its position before it is produced. Whoever takes the partition over
produces the saved batch again, byte for byte, and goes on behind it; the fold drops what it has seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from streams import keys
from streams.store.base import Outbound, new_token, pack_outbox, unpack_outbox

_SAVE = Path(__file__).with_name("route.lua").read_text()


@dataclass(frozen=True, slots=True)
class SourceHeld:
    """A source partition as its new owner finds it. `next` None: never read before."""

    token: str
    next: int | None
    saved: list[Outbound]


class SourceStore:
    def __init__(self, redis: Redis, namespace: str = keys.NAMESPACE) -> None:
        self._redis: Any = redis
        self._namespace = namespace
        self._save = self._redis.register_script(_SAVE)

    async def acquire(self, topic: str, partition: int) -> SourceHeld:
        key, token = keys.source(topic, partition, self._namespace), new_token()
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, "token", token)
            pipe.hmget(key, "next", "batch")
            _, (following, batch) = await pipe.execute()
        saved = unpack_outbox(batch) if batch else []
        return SourceHeld(token, None if following is None else int(following), saved)

    async def links(self, wanted: Iterable[str]) -> dict[str, str]:
        names = list(wanted)
        if not names:
            return {}
        found = await self._redis.mget([keys.link(name, self._namespace) for name in names])
        return {name: link.decode() for name, link in zip(names, found, strict=True) if link is not None}

    async def save(
        self, topic: str, partition: int, token: str, expected: int, following: int, batch: list[Outbound]
    ) -> str:
        """`OK`, or why not: `FENCED` (somebody else owns it), `MOVED` (it stands elsewhere)."""
        key = keys.source(topic, partition, self._namespace)
        status = await self._save(keys=[key], args=[token, expected, following, pack_outbox(batch)])
        return str(status.decode())

    async def learn(self, links: Mapping[str, str]) -> None:
        if links:
            await self._redis.mset({keys.link(key, self._namespace): link for key, link in links.items()})
