"""Forgetting a person: what `isotherm erase` does, and how it knows that it is done.

    links ─► who it is ─► letters settled ─► erase message ─► router: links go, every partition is told ─► fold

The message names hashes only. What raw source topics have of the person stays there until their retention ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from streams.adapters.base import Claims, Observation
from streams.clock import RedisClock
from streams.identity import further_keys, resolver_of
from streams.keys import PartitionKeys
from streams.letters import forget
from streams.producer import Producer
from streams.settings import Settings
from streams.sources import shipped
from streams.store.base import Outbound, unpack_partition
from streams.store.redis import connect
from streams.store.sources import SourceStore
from streams.topics import CRM_UPDATES

ASK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Forgotten:
    """`persons`: the hashes under which they were known; `letters`: dead letters that named them."""

    persons: list[str]
    letters: int
    done: bool  # all partitions have folded it; else workers do so when they run


def needles(claims: Claims) -> list[bytes]:
    """By what a message in JSON can be known to name somebody: the address, or an id as a whole value."""
    found = [claims.email] if claims.email else []
    for id in (claims.user, claims.anonymous, (claims.contact or "").rpartition(":")[2]):
        if id:
            found += [f'"{id}"', f":{id},", f": {id},", f":{id}}}", f": {id}}}"]
    return [text.encode() for text in found]


async def erase(
    claims: Claims, settings: Settings, wait_s: float, progress: Callable[[int, int], None] = lambda done, of: None
) -> Forgotten:
    """Has the person forgotten, and waits up to `wait_s` for every partition of the log to have done so."""
    redis = connect(settings)
    clock, producer = RedisClock(redis), Producer(settings)
    try:
        await clock.sync()
        persons = await _persons(claims, SourceStore(redis, settings.namespace), settings)
        letters = await forget(settings, needles(claims))
        await producer.start()
        now = clock.now()
        asked = [{"kind": "erase", "at": now, "person": person} for person in persons]
        await producer.send([Outbound(CRM_UPDATES, "erase", msgspec.json.encode(each)) for each in asked], now)
        done = await _folded(persons, redis, settings, wait_s, progress)
    finally:
        await producer.stop()
        await redis.aclose()
    return Forgotten(persons, letters, done)


async def _persons(claims: Claims, store: SourceStore, settings: Settings) -> list[str]:
    resolver = resolver_of(settings, shipped())
    asked = set(resolver.link_keys(Observation(kind="erase", claims=claims, at=0)))
    links = await store.links(asked)
    while further := set(further_keys(links)) - asked:
        asked |= further
        links |= await store.links(further)
    return resolver.persons(claims, links)


async def _folded(
    persons: list[str], redis: object, settings: Settings, wait_s: float, progress: Callable[[int, int], None]
) -> bool:
    count = settings.partitions
    waiting = {p: PartitionKeys.of(p, count, settings.namespace).meta for p in range(count)}
    deadline = asyncio.get_running_loop().time() + wait_s
    while waiting:
        for number, meta in list(waiting.items()):
            blob = await redis.hget(meta, "partition")  # type: ignore[attr-defined]
            if blob and set(persons) <= unpack_partition(blob).erased.keys():
                del waiting[number]
        progress(count - len(waiting), count)
        if not waiting or asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(ASK_AGAIN_S)
    return not waiting
