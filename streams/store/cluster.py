"""A cluster of Redis or Valkey, used as if it were one server.

redis-py's own client for clusters sends again by itself what may have been done already, and gives every command
of a transaction a thread and an event loop of its own. So here each node has a plain client, which sends once, and
this one only knows which slots are whose. A node that says MOVED has done nothing: what it was asked goes to whom
it names. Everything else is an outage that the caller hears of: a lost reply, a node that is away, and a slot of
which only some keys have been moved (ASK, TRYAGAIN): its partition waits until all of them have. After an outage
the slots are asked for once more.

All keys of a command, a script or a transaction lie in one slot (see `streams.keys`). Other pipelines are cut by
node; there, a command without a key goes with the one before it, as WAIT must.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    CrossSlotTransactionError,
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streams.keys import SLOTS

REDIRECTIONS = 5
KEYLESS = {"TIME", "PING", "WAIT", "WAITAOF", "SCAN"}
COUNTED = {"EVAL": 2, "EVALSHA": 2, "SINTERCARD": 1}  # where the number of keys stands, the keys behind it
CURSORS = {"HSCAN", "SSCAN", "ZSCAN"}
NO_CLUSTER = RedisError("it is no cluster: write redis:// instead of redis+cluster://")
AWAY = (RedisConnectionError, RedisTimeoutError, OSError, asyncio.TimeoutError)

Command = tuple[tuple[Any, ...], dict[str, Any]]


def slot_of(args: Sequence[Any]) -> int | None:
    """The slot of a command's first key; None for one that has none."""
    if args[0] in KEYLESS:
        return None
    place = COUNTED.get(args[0], 0)
    if place and not int(args[place]):
        raise RedisError(f"{args[0]} names no key, so nobody knows which node of the cluster is meant")
    return _slot(args[place + 1])


def _slot(key: str | bytes) -> int:
    return key_slot(key if isinstance(key, bytes) else key.encode())


@dataclass(frozen=True, slots=True)
class _Unit:
    """Commands that are sent together, and together once more after MOVED."""

    slot: int
    places: list[int]


def _units(commands: Sequence[Command], transaction: bool) -> list[_Unit]:
    units: list[_Unit] = []
    for place, (args, _) in enumerate(commands):
        slot = slot_of(args)
        if units and (transaction or slot is None):
            if slot not in (None, units[-1].slot):
                raise CrossSlotTransactionError(f"{args[0]} is about another slot than its transaction")
            units[-1].places.append(place)
        else:
            units.append(_Unit(slot or 0, [place]))
    return units


class Cluster(Redis):
    """`connect` opens a client for a node, by host and port."""

    def __init__(self, seed: Redis, connect: Callable[[str, int], Redis]) -> None:
        super().__init__(connection_pool=seed.connection_pool)
        self._seed, self._connect = seed, connect
        self._nodes: dict[tuple[str, int], Redis] = {}
        self._slots: list[Redis | None] = []  # whose each slot is; empty while nobody knows
        self._looking = asyncio.Lock()
        self._begun: dict[Any, Redis | None] = {}  # where it was begun to go through a key

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        for node in (self._seed, *self._nodes.values()):
            await node.aclose(close_connection_pool)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        match args[0]:
            case "SCRIPT LOAD":
                return await self._everywhere(args, options)
            case "SCAN":
                answer = await self._scan(args, options)
            case _:
                (answer,) = await self.exchange([(args, options)], transaction=False)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> _Pipeline:
        return _Pipeline(self, transaction)

    async def exchange(self, commands: Sequence[Command], transaction: bool) -> list[Any]:
        """The answer or the error of each."""
        answers: list[Any] = [None] * len(commands)
        units = _units(commands, transaction)
        for _ in range(REDIRECTIONS):
            slots, wanted = await self.owners(), dict[Redis | None, list[int]]()
            for unit in units:
                wanted.setdefault(slots[unit.slot], []).extend(unit.places)
            asking = [self._ask(node, [commands[i] for i in mine], transaction) for node, mine in wanted.items()]
            for mine, told in zip(wanted.values(), await asyncio.gather(*asking), strict=True):
                for place, answer in zip(mine, told, strict=True):
                    answers[place] = answer
            units = [unit for unit in units if any(isinstance(answers[i], MovedError) for i in unit.places)]
            if not units:
                break
        return [
            self._followed(args, self._said(answer)) for (args, _), answer in zip(commands, answers, strict=True)
        ]

    async def _ask(self, node: Any, commands: Sequence[Command], transaction: bool) -> list[Any]:
        answers: list[Any]
        try:
            if node is None:
                raise RedisConnectionError("a slot of the cluster is nobody's")
            if len(commands) == 1 and not transaction:
                ((args, options),) = commands
                return [await node.execute_command(*args, **options)]
            async with node.pipeline(transaction=transaction) as pipe:
                pipe.command_stack = list(commands)
                answers = await pipe.execute(raise_on_error=False)
        except AWAY as error:
            self._slots = []
            answers = [error] * len(commands)
        except RedisError as error:
            answers = [error] * len(commands)
        for answer in answers:
            if isinstance(answer, MovedError) and self._slots:
                self._slots[answer.slot_id] = self._node(answer.host or _host(node), answer.port)
        return answers

    def _said(self, answer: Any) -> Any:
        """What only a cluster says is an outage like any other."""
        if isinstance(answer, ClusterDownError):
            self._slots = []
        if isinstance(answer, AskError | TryAgainError | ClusterDownError) or (
            isinstance(answer, ResponseError) and "non local key" in str(answer)
        ):
            return RedisConnectionError(f"the cluster does not serve a slot just now: {answer}")
        return answer

    # -- going through many keys or fields: a cursor means something to the node that gave it ------------------

    def home(self, key: str | bytes) -> object:
        """Where a key is, as far as we know."""
        return self._slots[_slot(key)] if self._slots else None

    def _followed(self, args: Sequence[Any], answer: Any) -> Any:
        if args[0] not in CURSORS:
            return answer
        return self._from_one_node(args[1], args[2], answer)

    def _from_one_node(self, key: Any, cursor: Any, answer: Any) -> Any:
        if not int(cursor):
            self._begun[key] = self._slots[_slot(key)] if self._slots else None
        elif self._begun.get(key) is not self.home(key):
            return RedisConnectionError(f"{key!r} came to another node while it was gone through: begin again")
        return answer

    async def _scan(self, args: Sequence[Any], options: dict[str, Any]) -> Any:
        """Of one slot, which the pattern names. A node that does not have it is found out by a question that has
        a key; SCAN itself would find nothing there."""
        pattern = args[args.index(b"MATCH" if b"MATCH" in args else "MATCH") + 1]
        asked, found = await self.exchange([(("EXISTS", pattern), {}), (tuple(args), options)], transaction=False)
        return asked if isinstance(asked, BaseException) else self._from_one_node(pattern, args[1], found)

    # -- nodes -------------------------------------------------------------------------------------------------

    async def owners(self) -> list[Redis | None]:
        """Whose each slot is."""
        slots = self._slots
        if not slots:
            async with self._looking:
                slots = self._slots = self._slots or await self._look()
        return slots

    async def _look(self) -> list[Redis | None]:
        why: Exception = RedisConnectionError("no node of the cluster answers")
        known: list[Any] = [*self._nodes.values(), self._seed]
        for node in random.sample(known, len(known)):  # one that is cut off from the others knows no better
            try:
                ranges = await node.execute_command("CLUSTER", "SLOTS")
            except (RedisError, OSError) as error:
                why = NO_CLUSTER if "cluster support disabled" in str(error) else error
                continue
            slots: list[Redis | None] = [None] * SLOTS
            for first, last, (host, port, *_), *_ in ranges:
                name = host.decode() if host else _host(node)
                slots[first : last + 1] = [self._node(name, int(port))] * (last + 1 - first)
            return slots
        raise why

    def _node(self, host: str, port: int) -> Redis:
        if (host, port) not in self._nodes:
            self._nodes[host, port] = self._connect(host, port)
        return self._nodes[host, port]

    async def _everywhere(self, args: Sequence[Any], options: dict[str, Any]) -> Any:
        """Scripts are each node's own. One that is away hears of them when it is asked for one."""
        nodes = {node for node in await self.owners() if node is not None}
        answers = await asyncio.gather(*(self._ask(node, [(tuple(args), options)], False) for node in nodes))
        told = [answer for (answer,) in answers]
        if heard := [each for each in told if not isinstance(each, BaseException)]:
            return heard[0]
        raise told[0]


def _host(node: Redis) -> str:
    return str(node.connection_pool.connection_kwargs["host"])


class _Pipeline(Pipeline):
    def __init__(self, cluster: Cluster, transaction: bool) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, transaction, None)
        self._cluster = cluster

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands: Any = self.command_stack
        self.command_stack = []
        answers = await self._cluster.exchange(commands, bool(self.is_transaction)) if commands else []
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
        return answers
