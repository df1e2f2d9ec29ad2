"""Time as the Redis primary has it: the one clock by which records are stamped.

Workers' own clocks may differ; the primary is one. We ask it every few seconds and count on with the monotonic
clock in between. A step of more than 30 s stops appending until somebody has looked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

STEP_MS = 30_000
EVERY_S = 10.0


class ClockSteppedError(Exception):
    """The Redis primary's time jumped. Nothing is stamped until the process is restarted."""


class RedisClock:
    """`now()` in UTC ms, after `sync()` has been called at least once."""

    def __init__(self, redis: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._monotonic = monotonic
        self._offset: float | None = None
        self._synced = 0.0
        self._stepped = ""

    async def sync(self) -> None:
        """Asks Redis. Half the round trip is taken off; a step is remembered and raised by `now`."""
        before = self._monotonic()
        seconds, micros = await self._redis.time()
        after = self._monotonic()
        offset = seconds * 1000 + micros / 1000 - (before + after) / 2 * 1000
        if self._offset is not None and abs(offset - self._offset) > STEP_MS:
            self._stepped = f"the time of Redis stepped by {(offset - self._offset) / 1000:.1f} s"
        self._offset, self._synced = offset, after

    async def keep(self) -> None:
        """Asks again when the last answer is old."""
        if self._offset is None or self._monotonic() - self._synced > EVERY_S:
            await self.sync()

    def now(self) -> int:
        if self._offset is None:
            raise RuntimeError("the clock was never set: call sync() first")
        if self._stepped:
            raise ClockSteppedError(self._stepped)
        return int(self._monotonic() * 1000 + self._offset)
