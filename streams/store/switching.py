"""A second namespace, in which a partition is folded once more, and how it takes the place of the live one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redis.exceptions import ResponseError

from rules.fold import Partition
from streams.keys import PartitionKeys
from streams.store.base import Commit, Committed, Entry, Refused, pack_outbox, pack_partition
from streams.store.redis import RedisStore

_SWITCH = Path(__file__).with_name("switch.lua").read_text()


class QuietStore(RedisStore):
    """A store from which nothing goes out."""

    async def commit(self, commit: Commit) -> Committed | Refused:
        return await super().commit(replace(commit, outbox=()))


@dataclass(frozen=True, slots=True)
class Switch:
    """Fresh for live: both are held by these tokens, and stand where `partition` does."""

    live: PartitionKeys
    fresh: PartitionKeys
    live_token: str
    fresh_token: str
    partition: Partition  # as it is to be afterwards
    entries: Sequence[Entry] = ()  # for the live outbox, behind what waits there


async def switch(redis: Any, asked: Switch) -> Refused | None:
    """None when it is done. Refused: `fenced` by whoever took one of them over, `moved` with the live position,
    `behind` with the fresh one. Then nothing has changed."""
    live, fresh, offset = asked.live, asked.fresh, asked.partition.offset
    gone = [name for name in await keys_of(redis, live) if name not in (live.meta, live.outbox)]
    come = [name for name in await keys_of(redis, fresh) if name not in (fresh.meta, fresh.outbox)]
    moved = [name for key in come for name in (key, live.prefix + key.removeprefix(fresh.prefix))]
    said = [each for entry in asked.entries for each in (entry.id, pack_outbox(entry.messages))]
    status, number = await redis.register_script(_SWITCH)(
        keys=[live.meta, live.outbox, fresh.meta, *gone, *moved],
        args=[
            asked.live_token,
            asked.fresh_token,
            offset,
            f"{offset}-{offset}-{asked.live_token}-switched",
            pack_partition(asked.partition),
            len(gone),
            *said,
        ],
    )
    match status:
        case b"OK":
            return None
        case b"FENCED":
            return Refused("fenced")
        case b"MOVED":
            return Refused("moved", int(number))
        case _:
            return Refused("behind", int(number))


async def keys_of(redis: Any, keys: PartitionKeys) -> list[str]:
    """Every key that a partition has, sorted."""
    return sorted({name.decode() async for name in redis.scan_iter(match=keys.all, count=1_000)})


async def forget(redis: Any, keys: PartitionKeys) -> int:
    """Removes all that a partition has; how many keys that were."""
    names = await keys_of(redis, keys)
    return int(await redis.unlink(*names)) if names else 0


async def last_entry(redis: Any, keys: PartitionKeys) -> str:
    """The id of the last entry that the outbox ever had."""
    try:
        told = await redis.xinfo_stream(keys.outbox)
    except ResponseError:  # there is no such stream
        return "0-0"
    return str(told["last-generated-id"].decode())
