"""How large segments were. The folds keep how large they are, and moves by day; the rest is sampled here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog
from redis.exceptions import RedisError

from streams.clock import ClockSteppedError, RedisClock
from streams.reading import Reader
from streams.remembering import DAY, Remembered, Span

log = structlog.get_logger()
LOOK_S = 5.0
Counts = dict[str, dict[str, int]]


@dataclass(slots=True)
class Sizes:
    reader: Reader
    clock: RedisClock
    kept: Remembered[Counts]

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self.take()
            except (RedisError, OSError, ClockSteppedError) as error:
                log.info("no sample of sizes", why=f"{type(error).__name__}: {error}")
            await asyncio.sleep(LOOK_S)

    async def take(self) -> None:
        """A sample of all sizes, if one is due and there are rules. Segments that hold nobody are left out."""
        await self.clock.keep()
        await self.kept.read()
        now = self.clock.now()
        if not self.kept.is_due(DAY, now):
            return
        counts = await self.reader.counts()
        if counts and await self.kept.wants(now):
            await self.kept.keep(
                now, {name: {each: n for each, n in of.items() if n} for name, of in counts.items()}
            )

    def of(self, dimension: str, span: Span) -> list[tuple[int, dict[str, int]]]:
        return [(at, counts[dimension]) for at, counts in self.kept.over(span) if dimension in counts]
