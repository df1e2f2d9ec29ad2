"""The store in Redis or Valkey: reads in one round trip, one guarded script for the write (`commit.lua`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
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
    At,
    Commit,
    Committed,
    Entry,
    Refused,
    StoppedError,
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
NOBODY = At("", -1)  # who reads without owning anything
HELD_SLICE = 500
AT_ONCE = 4_000  # names in one command of a script: Lua's stack holds about 8,000
_COMMIT = Path(__file__).with_name("commit.lua").read_text()
_TRIM = Path(__file__).with_name("trim.lua").read_text()
_READ = Path(__file__).with_name("read.lua").read_text()


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
        self._read = self._redis.register_script(_READ)
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

    async def load(self, partition: int, accounts: Iterable[str], at: At | None = None) -> dict[str, AccountState]:
        return await self._load(partition, list(accounts), unpack_state, at)

    async def names(self, partition: int, accounts: Iterable[str]) -> dict[str, str]:
        """What accounts are called, for those who need nothing else of them; "" where nobody knows."""
        return await self._load(partition, list(accounts), name_in)

    async def _load(
        self, partition: int, accounts: list[str], what: Callable[[bytes], T], at: At | None = None
    ) -> dict[str, T]:
        found: dict[str, T] = {}
        for start in range(0, len(accounts), AT_ONCE):
            some = accounts[start : start + AT_ONCE]
            asked = ("HMGET", self._keys[partition].accounts, *some)
            blobs = await (self._together.ask(*asked) if at is None else self._read_at(partition, at, *asked))
            found |= {each: what(blob) for each, blob in zip(some, blobs, strict=True) if blob is not None}
        return found

    async def due(self, partition: int, until: int, limit: int, at: At | None = None) -> list[Due]:
        upto = ("-inf", until, "BYSCORE", "LIMIT", 0, limit, "WITHSCORES")
        found = await self._read_at(partition, at, "ZRANGE", self._keys[partition].wakes, *upto)
        return [(int(instant), account.decode()) for account, instant in _pairs(found)]

    async def holding(self, partition: int, persons: Iterable[str], at: At | None = None) -> list[str]:
        marks, found = marks_of(persons), set[str]()
        async for some in self._gone_through(partition, at, HELD_SLICE):
            found.update(each.decode() for each, blob in _pairs(some) if holds(each.decode(), blob, marks))
        return sorted(found)

    async def accounts_after(self, partition: int, account: str, limit: int, at: At | None = None) -> list[str]:
        known = self._ahead.get(partition)
        found = known.next(account, limit) if known is not None else None
        if found is None:
            smallest = Smallest(account, max(limit, AHEAD))
            async for names in self._gone_through(partition, at, SLICE, "names"):
                smallest.hear(names)
            ahead, whole = smallest.found()
            found = ahead[:limit]
            if (held := self._held.get(partition)) is not None:
                self._ahead[partition] = Ahead(*held, account, ahead, whole)
        return found

    async def _gone_through(
        self, partition: int, at: At | None, count: int, what: str = ""
    ) -> AsyncIterator[list[bytes]]:
        """All accounts with their states, or their names only, in slices; one may come twice."""
        accounts, cursor, begun = self._keys[partition].accounts, b"0", None
        while True:
            last = cursor
            told = ("HSCAN", accounts, cursor, "COUNT", count)
            cursor, found = await self._read_at(partition, at, *told, what=what)
            if last == b"0":
                begun = self._home(accounts)
            elif begun is not self._home(accounts):
                raise RedisError(f"{accounts} came to another node of the cluster while it was gone through")
            yield found
            if cursor == b"0":
                return

    async def _read_at(
        self, partition: int, at: At | None, command: str, key: str, *arguments: Any, what: str = ""
    ) -> Any:
        """The answer to a reading command, if the partition stands `at`."""
        told = [*(at or NOBODY), what, command, *arguments]
        status, answer = await self._together.run(self._read, [self._keys[partition].meta, key], told)
        match status:
            case b"OK":
                return answer
            case b"FENCED":
                raise StoppedError(Refused("fenced"))
            case _:
                raise StoppedError(Refused("moved", int(answer)))

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


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _wakes(commit: Commit) -> tuple[list[Any], list[str]]:
    set_: list[Any] = []
    removed = []
    for account, wake in commit.wakes.items():
        if wake < NEVER:
            set_ += (wake, account)
        else:
            removed.append(account)
    return set_, removed
