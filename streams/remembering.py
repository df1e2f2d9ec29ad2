"""Samples over time, which outlive the process that takes them: a day in fine steps, 35 days in coarse ones.

    ns:{what}:day, ns:{what}:35d   a sorted set each: samples (packed) by their instant, UTC ms

Whoever remembers has a copy, and reads what others have kept since. Several processes may take the same samples:
one of them has the turn, once in a fine step. Who may not write goes on with the copy, and says so once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from redis.exceptions import NoPermissionError, ResponseError

from rules.durations import HOUR, MINUTE
from streams import keys

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Span:
    """How far back, and how many ms samples are apart."""

    name: str
    title: str
    step: int
    most: int

    @property
    def length(self) -> int:
        return self.step * self.most


DAY = Span("day", "a day", 2 * MINUTE, 720)
MONTH = Span("35d", "35 days", HOUR, 840)
SPANS = {each.name: each for each in (DAY, MONTH)}


class Remembered(Generic[T]):
    """Samples of `what`, each of type `kind`."""

    def __init__(self, redis: Any, what: str, namespace: str, kind: Any) -> None:
        self._redis, self._what, self._namespace = redis, what, namespace
        self._decoder = msgspec.msgpack.Decoder(tuple[int, kind])
        self._samples: dict[Span, list[tuple[int, T]]] = {each: [] for each in SPANS.values()}
        self._is_alone = False  # it may not write

    def over(self, span: Span) -> list[tuple[int, T]]:
        """Instants and what was then, the oldest first."""
        return self._samples[span]

    async def read(self) -> None:
        """Adds to the copy what was kept since. Raises what an absent Redis raises."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for span, samples in self._samples.items():
                pipe.zrangebyscore(self._key(span.name), f"({samples[-1][0]}" if samples else "-inf", "+inf")
            found = await pipe.execute()
        for span, added in zip(self._samples, found, strict=True):
            for each in added:
                self._add(span, *self._decoder.decode(each))

    def is_due(self, span: Span, at: int) -> bool:
        """Whether the newest sample that is known is older than a step."""
        samples = self._samples[span]
        return not samples or not 0 <= at - samples[-1][0] < span.step

    async def wants(self, at: int) -> bool:
        """Whether a sample is due and it is our turn to take it: then it is to be kept."""
        await self.read()
        if not self.is_due(DAY, at):
            return False
        return self._is_alone or await self._take_turn()

    async def _take_turn(self) -> bool:
        try:
            return bool(await self._redis.set(self._key("turn"), 1, nx=True, px=DAY.step * 9 // 10))
        except ResponseError as error:
            self._refused(error)
            return True

    async def keep(self, at: int, value: T) -> None:
        """From now on it is remembered, and of the coarse samples if one is due."""
        spans = [each for each in SPANS.values() if each is DAY or self.is_due(each, at)]
        for span in spans:
            self._add(span, at, value)
        if self._is_alone:
            return
        packed = msgspec.msgpack.encode((at, value))
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                for span in spans:
                    key = self._key(span.name)
                    pipe.zremrangebyscore(key, at, "+inf")  # a clock was put back: there is nothing later than now
                    pipe.zremrangebyscore(key, "-inf", at - span.length)
                    pipe.zadd(key, {packed: at})
                    pipe.zremrangebyrank(key, 0, -span.most - 1)
                await pipe.execute()
        except ResponseError as error:
            self._refused(error)

    def _refused(self, error: ResponseError) -> None:
        """Without the right it is not tried again: Redis notes each time in its own log."""
        self._is_alone = self._is_alone or isinstance(error, NoPermissionError)
        log.warning(
            "remembered by this process only", what=self._what, why=str(error),
            hint="docs/dashboard.md says which rights on Redis it wants to outlive the process",
        )  # fmt: skip

    async def forget(self) -> int:
        """Removes all; how many keys that were."""
        for samples in self._samples.values():
            samples.clear()
        return int(await self._redis.delete(*(self._key(each) for each in (*SPANS, "turn"))))

    def _add(self, span: Span, at: int, value: T) -> None:
        samples = self._samples[span]
        while samples and samples[-1][0] >= at:
            samples.pop()
        samples.append((at, value))
        while len(samples) > span.most or samples[0][0] <= at - span.length:
            del samples[0]

    def _key(self, which: str) -> str:
        return keys.remembered(self._what, which, self._namespace)
