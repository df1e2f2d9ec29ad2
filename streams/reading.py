"""Reading what the fold keeps: counts, members, accounts. Reads only, and never waits for a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rules.fold import Partition
from rules.records import is_visitor
from rules.ruleset import NO_RULES, Ruleset
from rules.state import UNCLASSIFIED, AccountState
from streams.identity import STEPS, account_of
from streams.keys import PartitionKeys
from streams.observing.verified import Verified, last_verified
from streams.pipeline import compiled
from streams.producer import partition_of
from streams.settings import Settings
from streams.store.base import unpack_files, unpack_partition, unpack_state
from streams.store.sources import SourceStore

SLICE = 500  # accounts read at once


@dataclass(frozen=True, slots=True)
class Slice:
    """Some accounts of a partition, packed, with the partition and its ruleset as of the moment they were read."""

    partition: Partition
    ruleset: Ruleset
    accounts: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Found:
    """An account as it stands, with the ruleset and log_time of its partition."""

    account: str
    state: AccountState
    ruleset: Ruleset
    log_time: int


class Reader:
    def __init__(self, redis: Any, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._keys = [
            PartitionKeys.of(p, settings.partitions, settings.namespace) for p in range(settings.partitions)
        ]

    async def account(self, account: str) -> Found | None:
        """The account with this id, or that a web domain is linked to; of one that was merged, the other."""
        found = await self._by_id(account) or await self._by_id(await self._linked(f"domain:{account}"))
        for _ in range(STEPS):
            if found is None or not found.state.merged_into:
                break
            found = await self._by_id(found.state.merged_into)
        return found

    async def accounts(self, accounts: Iterable[str]) -> list[Found]:
        found = [await self._by_id(account) for account in accounts]
        return [each for each in found if each is not None]

    async def packed(self, accounts: Sequence[str]) -> dict[str, bytes]:
        """Many accounts at once, as stores keep them; without those there are not."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for account in accounts:
                pipe.hget(self._keys[partition_of(account, self._settings.partitions)].accounts, account)
            blobs = await pipe.execute()
        return {account: blob for account, blob in zip(accounts, blobs, strict=True) if blob is not None}

    async def ruleset(self, partition: int = 0) -> Ruleset:
        """The ruleset in force in a partition."""
        files = await self._redis.get(self._keys[partition].ruleset)
        return compiled(unpack_files(files)) if files else NO_RULES

    async def counts(self, only: str = "") -> dict[str, dict[str, int]]:
        """Accounts per segment: dimension → segment → how many, in the ruleset's order; `only` of one."""
        ruleset = await self.ruleset()
        places = [
            (dimension.name, name)
            for dimension in ruleset.dimensions
            if only in ("", dimension.name)
            for name in [*(segment.name for segment in dimension.segments), UNCLASSIFIED]
        ]
        async with self._redis.pipeline(transaction=False) as pipe:
            for place in places:
                for partition in self._keys:
                    pipe.scard(partition.members(*place))
            sizes = await pipe.execute()
        counts: dict[str, dict[str, int]] = {}
        step = len(self._keys)
        for i, (dimension, segment) in enumerate(places):
            counts.setdefault(dimension, {})[segment] = sum(sizes[i * step : (i + 1) * step])
        return counts

    async def members(self, dimension: str, segment: str) -> list[str]:
        """The accounts in a segment, in order of their ids."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for partition in self._keys:
                pipe.smembers(partition.members(dimension, segment))
            found = await pipe.execute()
        return sorted(account.decode() for each in found for account in each)

    async def overlaps(self, left: str, right: str) -> dict[tuple[str, str], int]:
        """How many accounts are in a segment of each of two dimensions: (segment, segment) → how many."""
        names = {
            each.name: [*(s.name for s in each.segments), UNCLASSIFIED]
            for each in (await self.ruleset()).dimensions
        }
        pairs = [(a, b) for a in names[left] for b in names[right]]
        async with self._redis.pipeline(transaction=False) as pipe:
            for a, b in pairs:
                for partition in self._keys:
                    pipe.sintercard(2, [partition.members(left, a), partition.members(right, b)])
            found = await pipe.execute()
        step = len(self._keys)
        return {pair: sum(found[i * step : (i + 1) * step]) for i, pair in enumerate(pairs)}

    async def claimed_twice(self) -> dict[str, str]:
        """Web domains that more than one account claims, with whose each is and who claims it too."""
        return await SourceStore(self._redis, self._settings.namespace).conflicts()

    async def verified(self) -> Verified | None:
        """What `isotherm verify` found last."""
        return await last_verified(self._redis, self._settings.namespace)

    async def tallies(self, days: Iterable[int]) -> dict[int, Counter[tuple[str, str, str]]]:
        """What was counted on each of these UTC days over all partitions, by (dimension, segment, what): see
        `rules.tally`."""
        found: dict[int, Counter[tuple[str, str, str]]] = {}
        for day in days:
            async with self._redis.pipeline(transaction=False) as pipe:
                for partition in self._keys:
                    pipe.hgetall(partition.tally(day))
                kept = await pipe.execute()
            counts: Counter[tuple[str, str, str]] = Counter()
            for each in kept:
                for place, number in each.items():
                    dimension, rest = place.decode().split("/", 1)
                    segment, _, what = rest.rpartition("/")
                    counts[dimension, segment, what] += int(number)
            if counts:
                found[day] = counts
        return found

    async def states(self, partition: int) -> AsyncIterator[tuple[str, AccountState]]:
        """Every account of a partition, in no order, a slice at a time; no visitors, and none that was merged."""
        async for account, blob in self._redis.hscan_iter(self._keys[partition].accounts, count=500):
            state = unpack_state(blob)
            if not state.merged_into and not is_visitor(account.decode()):
                yield account.decode(), state

    async def slices(self, number: int) -> AsyncIterator[Slice]:
        """Every account of a partition, in no order; one that changes meanwhile may come twice."""
        keys, cursor = self._keys[number], 0
        ruleset: Ruleset | None = None
        switched = -1
        while True:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hget(keys.meta, "partition")
                pipe.hscan(keys.accounts, cursor, count=SLICE)
                if ruleset is None:
                    pipe.get(keys.ruleset)
                blob, (following, found), *files = await pipe.execute()
            partition = unpack_partition(blob) if blob else Partition(number)
            if ruleset is None:
                ruleset = compiled(unpack_files(files[0])) if files[0] else NO_RULES
                switched = partition.ruleset_offset
            elif (
                switched != partition.ruleset_offset
            ):  # other rules came meanwhile: the slice once more, with them
                ruleset = None
                continue
            yield Slice(partition, ruleset, {account.decode(): state for account, state in found.items()})
            cursor = int(following)
            if not cursor:
                return

    async def earliest_wake(self) -> int | None:
        """The first instant at which time alone may change some account; None when there is none."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for partition in self._keys:
                pipe.zrange(partition.wakes, 0, 0, withscores=True)
            found = await pipe.execute()
        return min((int(wake) for first in found for _, wake in first), default=None)

    async def partition(self, number: int) -> Partition:
        """As far as it has been folded."""
        blob = await self._redis.hget(self._keys[number].meta, "partition")
        return unpack_partition(blob) if blob else Partition(number)

    async def size(self, number: int) -> int:
        """How many accounts a partition has, visitors and those that were merged included."""
        return int(await self._redis.hlen(self._keys[number].accounts))

    async def _by_id(self, account: str | None) -> Found | None:
        if account is None:
            return None
        partition = partition_of(account, self._settings.partitions)
        its = self._keys[partition]
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hget(its.accounts, account)
            pipe.hget(its.meta, "partition")
            blob, held = await pipe.execute()
        if blob is None:
            return None
        position: Partition = unpack_partition(held)
        return Found(account, unpack_state(blob), await self.ruleset(partition), position.log_time)

    async def _linked(self, key: str) -> str | None:
        found = await SourceStore(self._redis, self._settings.namespace).links([key])
        return account_of(found.get(key, "")) or None
