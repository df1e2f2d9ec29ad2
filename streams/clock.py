"""Time as the Redis primary has it: the one clock by which records are stamped.

Workers' own clocks may differ; the primary is one. We ask it every few seconds and count on with the monotonic
clock in between, as fast as the last two answers say that it goes: within the error that their round trips leave
we take it for right. It never goes back. A step of more than 30 s stops appending until somebody has looked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

STEP_MS = 30_000
FIRST_S, EVERY_S = 0.25, 10.0  # the first answers follow each other closely: until then the rate is not known
SLOWEST, FASTEST = 0.5, 2.0


class ClockSteppedError(Exception):
    """The Redis primary's time jumped. Nothing is stamped until the process is restarted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """At `at` of the monotonic clock, in ms and give or take `error`, Redis had `said`, UTC ms."""

    at: float
    said: float
    error: float

    def later(self, at: float, rate: float) -> float:
        return self.said + (at - self.at) * rate


class RedisClock:
    """`now()` in UTC ms, after `sync()` has been called at least once."""

    def __init__(self, redis: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._monotonic = monotonic
        self._answer: Answer | None = None
        self._rate = 1.0
        self._again_after = FIRST_S
        self._latest = 0
        self._stepped = ""

    async def sync(self) -> None:
        """Asks Redis. A step is remembered and raised by `now`."""
        before = self._monotonic() * 1000
        seconds, micros = await self._redis.time()
        after = self._monotonic() * 1000
        answer = Answer((before + after) / 2, seconds * 1000 + micros / 1000, (after - before) / 2)
        if self._answer is not None:
            step = answer.said - self._answer.later(answer.at, self._rate)
            if abs(step) > STEP_MS:
                self._stepped = f"the time of Redis stepped by {step / 1000:.1f} s"
            self._rate = rate_of(self._answer, answer)
            self._again_after = min(EVERY_S, 2 * self._again_after)
        self._answer = answer

    @property
    def is_set(self) -> bool:
        """Whether Redis has been asked yet."""
        return self._answer is not None

    async def keep(self) -> None:
        """Asks again when the last answer is old."""
        if self._answer is None or self._monotonic() - self._answer.at / 1000 > self._again_after:
            await self.sync()

    def now(self) -> int:
        if self._answer is None:
            raise RuntimeError("the clock was never set: call sync() first")
        if self._stepped:
            raise ClockSteppedError(self._stepped)
        self._latest = max(self._latest, int(self._answer.later(self._monotonic() * 1000, self._rate)))
        return self._latest


def rate_of(first: Answer, second: Answer) -> float:
    """How fast Redis' time goes by ours: of the rates that two answers allow, the one nearest to 1."""
    between = second.at - first.at
    if between <= 0:
        return 1.0
    measured, error = (second.said - first.said) / between, (first.error + second.error) / between
    return min(max(1.0, measured - error, SLOWEST), measured + error, FASTEST)
