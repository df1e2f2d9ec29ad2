"""How large segments were. Redis keeps how large they are, and moves a day; the rest this process remembers.

A sample of all sizes is taken every EVERY_S. When there are too many, every second one goes and samples come half
as often, so the whole time since the start stays in view.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog
from redis.exceptions import RedisError

from streams.clock import ClockSteppedError, RedisClock
from streams.reading import Reader

log = structlog.get_logger()
EVERY_S, MOST = 5.0, 720
Counts = dict[str, dict[str, int]]


@dataclass(slots=True)
class Sizes:
    reader: Reader
    clock: RedisClock
    every_s: float = EVERY_S
    samples: list[tuple[int, Counts]] = field(default_factory=list)  # (instant, sizes), the oldest first

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self.clock.keep()
                self.take(self.clock.now(), await self.reader.counts())
            except (RedisError, OSError, ClockSteppedError) as error:
                log.info("no sample of sizes", why=f"{type(error).__name__}: {error}")
            await asyncio.sleep(self.every_s)

    def take(self, at: int, counts: Counts) -> None:
        self.samples.append((at, counts))
        if len(self.samples) > MOST:
            del self.samples[1:-1:2]
            self.every_s *= 2

    @property
    def since(self) -> int | None:
        return self.samples[0][0] if self.samples else None

    def of(self, dimension: str) -> list[tuple[int, dict[str, int]]]:
        return [(at, counts[dimension]) for at, counts in self.samples if dimension in counts]
