"""Where alerts are kept: `alerts.state` has the truth, Redis a copy of it and the queues.

One writes at a time, whichever process it is: whoever holds the writer's token. What is written stands in Kafka
first and then in Redis, so a Redis that was emptied is filled again from the topic before anything is decided.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import structlog
from redis.exceptions import RedisError

from streams import keys, topics
from streams.alerting import stepping
from streams.alerting.parcels import entries
from streams.alerting.rulebook import Rulebook
from streams.alerting.state import Alerts, pack, unpack
from streams.alerting.stepping import Happened, Step
from streams.playback import up_to_its_end
from streams.producer import Producer
from streams.settings import Settings
from streams.store.base import Outbound

log = structlog.get_logger()
HELD_MS = 15_000  # a writer that stands still for longer has lost its turn
RESTORED_AT_ONCE = 500
NOTHING_SEEN = 1 << 62
_WRITE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local i = 4
for _ = 1, tonumber(ARGV[2]) do
  local account, blob, queues = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  i = i + 3
  if blob == '' then redis.call('HDEL', KEYS[2], account) else redis.call('HSET', KEYS[2], account, blob) end
  for _ = 1, queues do
    local queue, due = ARGV[i], tonumber(ARGV[i + 1])
    i = i + 2
    if due > 0 then
      redis.call('ZADD', KEYS[4] .. queue, due, account)
      if queue ~= '' then redis.call('SADD', KEYS[3], queue) end
    else
      redis.call('ZREM', KEYS[4] .. queue, account)
    end
  end
end
if ARGV[3] == '0' then return 1 end
return redis.call('INCR', KEYS[5])
"""


class LostError(RedisError):
    """Somebody else writes, or Redis was emptied: what was decided counts for nothing and is decided again."""


@dataclass(slots=True)
class Turn:
    """States as they are, and what becomes of them. Nothing is kept before `Book.turn` ends."""

    rules: Rulebook
    states: dict[str, Alerts | None]
    before: dict[str, Alerts | None]
    steps: list[Step] = field(default_factory=list)

    def apply(self, account: str, what: Happened) -> Step:
        done = stepping.step(self.states[account], what, self.rules)
        self.states[account] = done.state
        self.steps.append(done)
        return done

    @property
    def changed(self) -> dict[str, Alerts | None]:
        return {account: state for account, state in self.states.items() if state != self.before[account]}


class Book:
    """`trusting`: what Redis has is taken for all there is. Else it is first compared with the topic, once."""

    def __init__(
        self, settings: Settings, redis: Any, producer: Producer, rules: Rulebook, *, trusting: bool = False
    ) -> None:
        self._settings, self._redis, self._producer, self.rules = settings, redis, producer, rules
        self._write = redis.register_script(_WRITE)
        self._here = asyncio.Lock()
        self._written = -1 if trusting else NOTHING_SEEN

    def _key(self, what: str) -> str:
        return keys.alerts(what, self._settings.namespace)

    # -- writing ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def turn(self, accounts: Iterable[str], now: int) -> AsyncIterator[Turn]:
        """The states of `accounts`, to be changed by nobody else meanwhile; kept when the block ends.

        Raises KafkaError or RedisError, and then nothing is to be done as if it were kept.
        """
        wanted = list(dict.fromkeys(accounts))
        async with self._here:
            token = await self._take()
            try:
                if not await self._is_whole():
                    await self._restore(token)
                held = await self.states(wanted)
                states = {account: held.get(account) for account in wanted}
                turn = Turn(self.rules, states, dict(states))
                yield turn
                await self._keep(token, turn.before, turn.changed, now)
            finally:
                await self._leave(token)

    async def _take(self) -> str:
        token = secrets.token_hex(8)
        while True:
            if await self._redis.set(self._key("writer"), token, nx=True, px=HELD_MS):
                return token
            await asyncio.sleep(random.uniform(0.01, 0.03))  # noqa: S311 - jitter, not a secret

    async def _is_whole(self) -> bool:
        """Whether Redis has what we wrote last. One that was emptied has not, nor one that went back in time."""
        count = await self._redis.get(self._key("whole"))
        return count is not None and int(count) >= self._written

    async def _leave(self, token: str) -> None:
        try:
            if await self._redis.get(self._key("writer")) == token.encode():
                await self._redis.delete(self._key("writer"))
        except RedisError:
            log.debug("the writer's token ends by itself")

    async def _keep(
        self, token: str, before: Mapping[str, Alerts | None], after: Mapping[str, Alerts | None], now: int
    ) -> None:
        if not after:
            return
        blobs = {account: pack(state) if state else None for account, state in after.items()}
        records = [Outbound(topics.ALERTS, account, blob) for account, blob in blobs.items()]
        await self._producer.send(records, now)
        arguments: list[Any] = []
        for account, state in after.items():
            was, will = entries(before.get(account), self.rules), entries(state, self.rules)
            queues = dict.fromkeys(was, 0) | dict(will)
            arguments += [account, blobs[account] or b"", len(queues), *chain.from_iterable(queues.items())]
        self._written = await self._write_all(token, len(after), arguments)

    async def _write_all(
        self, token: str, accounts: int, arguments: Sequence[Any], *, counted: bool = True
    ) -> int:
        """How often Redis has been written to since it was last filled."""
        named = [self._key(each) for each in ("writer", "states", "queues", "queue:", "whole")]
        written = await self._write(keys=named, args=[token, accounts, int(counted), *arguments])
        if not written:
            raise LostError("somebody else writes alerts now")
        return int(written)

    async def _restore(self, token: str) -> None:
        """Redis lacks what the topic has, or may: everything is read once more."""
        kept: dict[str, bytes] = {}
        async for message in up_to_its_end(self._settings, topics.ALERTS):
            if message.key is not None:
                account = message.key.decode()
                kept.pop(account, None)
                if message.value is not None:
                    kept[account] = message.value
            if message.offset % RESTORED_AT_ONCE == 0:
                await self._go_on(token)
        await self._empty()
        accounts = list(kept)
        for start in range(0, len(accounts), RESTORED_AT_ONCE):
            arguments: list[Any] = []
            for account in accounts[start : start + RESTORED_AT_ONCE]:
                queues = entries(unpack(kept[account]), self.rules)
                arguments += [account, kept[account], len(queues), *chain.from_iterable(queues.items())]
            some = len(accounts[start : start + RESTORED_AT_ONCE])
            await self._write_all(token, some, arguments, counted=False)
            await self._go_on(token)
        self._written = 1 if self._written == NOTHING_SEEN else self._written + 1
        await self._redis.set(self._key("whole"), self._written)
        log.info("alerts restored", accounts=len(accounts))

    async def _go_on(self, token: str) -> None:
        """It takes longer than a turn does; whether it is still ours is seen when something is written."""
        if await self._redis.get(self._key("writer")) == token.encode():
            await self._redis.set(self._key("writer"), token, xx=True, px=HELD_MS)

    async def _empty(self) -> None:
        queues = ["", *(each.decode() for each in await self._redis.smembers(self._key("queues")))]
        await self._redis.delete(
            *(self._key(each) for each in ("whole", "states", "queues")),
            *(self._key(f"queue:{queue}") for queue in queues),
        )

    # -- reading ------------------------------------------------------------------------------------------

    async def states(self, accounts: Sequence[str]) -> dict[str, Alerts]:
        if not accounts:
            return {}
        blobs = await self._redis.hmget(self._key("states"), accounts)
        return {account: unpack(blob) for account, blob in zip(accounts, blobs, strict=True) if blob}

    async def known(self, accounts: Sequence[str]) -> set[str]:
        """Those of `accounts` that have alerts, or may have: all of them while Redis lacks what the topic has."""
        if not accounts:
            return set()
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self._key("whole"))
            pipe.hmget(self._key("states"), accounts)
            count, blobs = await pipe.execute()
        if count is None or int(count) < self._written:
            return set(accounts)
        return {account for account, blob in zip(accounts, blobs, strict=True) if blob}

    async def all(self) -> AsyncIterator[Alerts]:
        """Every account that has alerts, in no order."""
        async for _, blob in self._redis.hscan_iter(self._key("states"), count=500):
            yield unpack(blob)

    async def waiting(self, now: int) -> list[str]:
        """The recipients for whom something is due; "" stands for what time alone changes."""
        queues = ["", *sorted(each.decode() for each in await self._redis.smembers(self._key("queues")))]
        async with self._redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.zrange(self._key(f"queue:{queue}"), "-inf", now, byscore=True, offset=0, num=1)
            found = await pipe.execute()
        return [queue for queue, due in zip(queues, found, strict=True) if due]

    async def due(self, queue: str, now: int, limit: int) -> list[str]:
        """The accounts that have waited longest in a queue."""
        key = self._key(f"queue:{queue}")
        found = await self._redis.zrange(key, "-inf", now, byscore=True, offset=0, num=limit)
        return [account.decode() for account in found]

    # -- turns of recipients ------------------------------------------------------------------------------

    async def may_send(self, queue: str, token: str, for_ms: int) -> bool:
        """Whether it is ours to send there, until `rest` or for so long."""
        return bool(await self._redis.set(self._key(f"turn:{queue}"), token, nx=True, px=for_ms))

    async def rest(self, queue: str, for_ms: int) -> None:
        """Nobody sends there for so long."""
        await self._redis.set(self._key(f"turn:{queue}"), b"rest", px=max(1, for_ms))

    async def count(self, queue: str, key: str, now: int) -> None:
        """One more message was sent there."""
        name, per = self._key(f"sent:{queue}"), self.rules.per
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zadd(name, {key: now})
            pipe.zremrangebyscore(name, "-inf", now - per)
            await pipe.execute()

    async def is_full(self, queue: str, now: int) -> bool:
        recent = await self._redis.zcount(self._key(f"sent:{queue}"), now - self.rules.per + 1, "+inf")
        return int(recent) >= self.rules.messages
