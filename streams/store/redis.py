"""The store in Redis or Valkey: reads in one round trip, one guarded script for the write (`commit.lua`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from ssl import TLSVersion
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from rules.fold import Due, Partition
from rules.state import NEVER, AccountState
from streams.keys import NAMESPACE, PartitionKeys
from streams.settings import Settings
from streams.store.base import (
    Acquired,
    Commit,
    Committed,
    Entry,
    Refused,
    holds,
    marks_of,
    name_in,
    new_token,
    pack_files,
    pack_outbox,
    pack_partition,
    pack_state,
    unpack_files,
    unpack_outbox,
    unpack_partition,
    unpack_state,
)
from streams.store.cluster import Cluster
from streams.store.sweeping import AHEAD, SLICE, Ahead, Smallest
from streams.store.together import Together

T = TypeVar("T")
BARRIER_MS = 2_000
_COMMIT = Path(__file__).with_name("commit.lua").read_text()
_TRIM = Path(__file__).with_name("trim.lua").read_text()
_NAMES = Path(__file__).with_name("names.lua").read_text()


def connect(settings: Settings, timeout: float = 5.0) -> Redis:
    """A client that never retries by itself: on the commit path only we know what may be sent twice."""
    options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    if password := settings.redis_password.get_secret_value():
        options["password"] = password
    if settings.redis.startswith("rediss"):
        options |= {"ssl_check_hostname": True, "ssl_cert_reqs": "required", "ssl_min_version": TLSVersion.TLSv1_2}
        named = {"ca_certs": settings.redis_ca, "certfile": settings.redis_cert, "keyfile": settings.redis_key}
        options |= {f"ssl_{name}": path for name, path in named.items() if path}
    url = urlsplit(settings.redis)
    if not settings.redis_cluster:
        return _client(settings.redis, options)
    scheme, (user, at, _) = url.scheme.removesuffix("+cluster"), url.netloc.rpartition("@")

    def node(host: str, port: int) -> Redis:
        place = f"[{host}]" if ":" in host else host
        return _client(url._replace(scheme=scheme, netloc=f"{user}{at}{place}:{port}").geturl(), options)

    return Cluster(node(url.hostname or "", url.port or 6379), node)


def _client(url: str, options: dict[str, Any]) -> Redis:
    redis = Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
    pool: Any = redis.connection_pool
    pool.connection_class = type("Resettable", (_Resettable, pool.connection_class), {})
    return redis


class _Resettable(AbstractConnection):
    """uvloop has a RuntimeError for writing to what was reset just now: that is an outage like any other."""

    async def send_packed_command(self, *command: Any, **named: Any) -> None:
        try:
            await super().send_packed_command(*command, **named)
        except RuntimeError as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError(str(error)) from error


class RedisStore:
    def __init__(self, redis: Redis, partitions: int, namespace: str = NAMESPACE, barrier: str = "none") -> None:
        self._redis: Any = redis
        self._barrier = barrier
        self._keys = [PartitionKeys.of(p, partitions, namespace) for p in range(partitions)]
        self._commit = self._redis.register_script(_COMMIT)
        self._trim = self._redis.register_script(_TRIM)
        self._names = self._redis.register_script(_NAMES)
        self._together = Together(redis)
        self._held: dict[int, tuple[str, int]] = {}  # token and offset, as far as we know
        self._ahead: dict[int, Ahead] = {}

    async def acquire(self, partition: int) -> Acquired:
        keys, token = self._keys[partition], new_token()
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.meta, "token", token)
            pipe.hmget(keys.meta, "partition", "words")
            pipe.get(keys.ruleset)
            pipe.zrange(keys.wakes, 0, 0, withscores=True)
            _, (blob, words), files, first = await pipe.execute()
        held = unpack_partition(blob) if blob else Partition(partition)
        self._held[partition] = token, held.offset
        self._ahead.pop(partition, None)
        return Acquired(
            token,
            held,
            unpack_files(files) if files else {},
            int(first[0][1]) if first else NEVER,
            -1 if words is None else int(words),
        )

    async def load(self, partition: int, accounts: Iterable[str]) -> dict[str, AccountState]:
        return await self._load(partition, list(accounts), unpack_state)

    async def names(self, partition: int, accounts: Iterable[str]) -> dict[str, str]:
        """What accounts are called, for those who need nothing else of them; "" where nobody knows."""
        return await self._load(partition, list(accounts), name_in)

    async def _load(self, partition: int, accounts: list[str], what: Callable[[bytes], T]) -> dict[str, T]:
        if not accounts:
            return {}
        blobs = await self._together.ask("HMGET", self._keys[partition].accounts, *accounts)
        return {each: what(blob) for each, blob in zip(accounts, blobs, strict=True) if blob is not None}

    async def due(self, partition: int, until: int, limit: int) -> list[Due]:
        wakes = self._keys[partition].wakes
        found = await self._redis.zrange(wakes, "-inf", until, byscore=True, offset=0, num=limit, withscores=True)
        return [(int(instant), account.decode()) for account, instant in found]

    async def holding(self, partition: int, persons: Iterable[str]) -> list[str]:
        marks, found = marks_of(persons), []
        async for account, blob in self._redis.hscan_iter(self._keys[partition].accounts, count=500):
            if holds(account.decode(), blob, marks):
                found.append(account.decode())
        return sorted(set(found))

    async def accounts_after(self, partition: int, account: str, limit: int) -> list[str]:
        known = self._ahead.get(partition)
        found = known.next(account, limit) if known is not None else None
        if found is None:
            smallest, accounts = Smallest(account, max(limit, AHEAD)), self._keys[partition].accounts
            cursor, begun = b"0", None
            while True:
                last, (cursor, names) = cursor, await self._together.run(self._names, [accounts], [cursor, SLICE])
                if last == b"0":
                    begun = self._home(accounts)
                elif begun is not self._home(accounts):
                    raise RedisError(f"{accounts} came to another node of the cluster while it was gone through")
                smallest.hear(names)
                if cursor == b"0":
                    break
            ahead, whole = smallest.found()
            found = ahead[:limit]
            if (held := self._held.get(partition)) is not None:
                self._ahead[partition] = Ahead(*held, account, ahead, whole)
        return found

    def _home(self, key: str) -> object:
        """Where a key is: a cursor of one node means nothing to another."""
        return self._redis.home(key) if isinstance(self._redis, Cluster) else None

    def _follow(self, commit: Commit, is_written: bool) -> None:
        """What we know of a partition, after a commit."""
        number = commit.partition.number
        if number in self._ahead and not (is_written and self._ahead[number].follow(commit)):
            del self._ahead[number]
        if is_written and self._held.get(number, ("", 0))[0] == commit.token:
            self._held[number] = commit.token, commit.partition.offset
        else:
            self._held.pop(number, None)

    async def commit(self, commit: Commit) -> Committed | Refused:
        keys, arguments = self._written(commit)
        status, number = await self._together.run(self._commit, keys, arguments)
        self._follow(commit, status in (b"OK", b"REPEATED"))
        match status:
            case b"OK" | b"REPEATED":
                return Committed(int(float(number)) if number else NEVER, repeated=status == b"REPEATED")
            case b"FENCED":
                return Refused("fenced")
            case _:
                return Refused("moved", int(number))

    async def outbox(self, partition: int, limit: int) -> list[Entry]:
        found = await self._together.ask("XRANGE", self._keys[partition].outbox, "-", "+", "COUNT", limit)
        return [Entry(id.decode(), unpack_outbox(fields[b"m"])) for id, fields in found]

    async def owners(self, partitions: Sequence[int]) -> list[tuple[str, int]]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for each in partitions:
                pipe.hmget(self._keys[each].meta, "token", "offset")
            return [((token or b"").decode(), int(offset or 0)) for token, offset in await pipe.execute()]

    async def accept_gap(self, partition: int, first: int, behind: int) -> None:
        await self._redis.hset(self._keys[partition].meta, "accepted", f"{first}-{behind}")

    async def accepted(self, partition: int) -> tuple[int, int] | None:
        told = await self._redis.hget(self._keys[partition].meta, "accepted")
        if told is None:
            return None
        first, _, behind = told.decode().partition("-")
        return int(first), int(behind)

    async def safe(self, partition: int) -> None:
        if self._barrier == "none":
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            # Both commands ask for what their own connection wrote; what others wrote before is there before it.
            pipe.hincrby(self._keys[partition].meta, "safe", 1)
            if self._barrier == "replica":
                pipe.execute_command("WAIT", 1, BARRIER_MS)
            else:
                pipe.execute_command("WAITAOF", 1, 0, BARRIER_MS)
            _, there = await pipe.execute()
        if not (there if self._barrier == "replica" else there[0]):
            raise RedisError(f"no {self._barrier} has what was committed after {BARRIER_MS} ms (ISOTHERM_BARRIER)")

    async def trim(self, partition: int, id: str, token: str = "", words: int = -1) -> None:
        (offset, _, n), keys = id.partition("-"), self._keys[partition]
        arguments = [f"{offset}-{int(n) + 1}", token, "" if words < 0 else words]
        await self._together.run(self._trim, [keys.meta, keys.outbox], arguments)

    async def tallies(self, partition: int, day: int) -> dict[str, int]:
        found = await self._redis.hgetall(self._keys[partition].tally(day))
        return {what.decode(): int(count) for what, count in found.items()}

    async def members(self, partition: int, dimension: str, segment: str) -> set[str]:
        found = await self._redis.smembers(self._keys[partition].members(dimension, segment))
        return {account.decode() for account in found}

    def _written(self, commit: Commit) -> tuple[list[str], list[Any]]:
        """Keys and arguments in the layout that `commit.lua` documents."""
        keys = self._keys[commit.partition.number]
        set_, removed = _wakes(commit)
        places = sorted(commit.joined.keys() | commit.left.keys())
        kept = {account: state for account, state in commit.states.items() if state is not None}
        forgotten = [account for account in commit.states if account not in kept]
        arguments: list[Any] = [
            commit.token,
            commit.expected,
            commit.batch,
            commit.partition.offset,
            pack_partition(commit.partition),
            b"" if commit.files is None else pack_files(commit.files),
            pack_outbox(commit.outbox) if commit.outbox else b"",
            len(kept),
            len(forgotten),
            len(set_) // 2,
            len(removed),
            len(places),
        ]
        for account, state in kept.items():
            arguments += (account, pack_state(state))
        arguments += forgotten
        arguments += set_
        arguments += removed
        for place in places:
            joined, left = commit.joined.get(place, []), commit.left.get(place, [])
            arguments += [len(joined), len(left), *joined, *left]
        named = [keys.members(*place) for place in places]
        for day, tallies in commit.tallies.items():
            named.append(keys.tally(day))
            arguments += [len(tallies), *chain.from_iterable(tallies.items())]
        for day in commit.forgotten:
            named.append(keys.tally(day))
            arguments.append(0)
        return [keys.meta, keys.accounts, keys.wakes, keys.outbox, keys.ruleset, *named], arguments


def _wakes(commit: Commit) -> tuple[list[Any], list[str]]:
    set_: list[Any] = []
    removed = []
    for account, wake in commit.wakes.items():
        if wake < NEVER:
            set_ += (wake, account)
        else:
            removed.append(account)
    return set_, removed
