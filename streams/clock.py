"""Time as the Redis primary has it: the one clock by which records are stamped.

Workers' own clocks may differ; the primary is one. We ask it every few seconds and count on with the monotonic
clock in between, as fast as the last two answers say that it goes: within the error that their round trips leave
we take it for right. An answer that was long on its way says little, and less than what is known from those
before: we go on with that as far as it is allowed, and with the answer if both cannot be right. It never goes
back. A step of more than 30 s stops appending until somebody has looked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

STEP_MS = 30_000
FIRST_S, EVERY_S = 0.25, 10.0  # the first answers follow each other closely: until then the rate is not known
FIRST_TRIES, GOOD_MS = 3, 100.0
FINEST_MS = 0.002  # Redis tells microseconds, and so does a float: two answers are so far apart, give or take
SLOWEST, FASTEST = 0.5, 2.0
DRIFT = 1e-5  # by so much may how fast our clock goes change from one answer to the next


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

    def narrowed(self, expected: float, error: float) -> Answer:
        """What was `expected` at the same instant, give or take `error`, as far as this answer allows it; the
        answer itself where both cannot be right."""
        low, high = max(self.said - self.error, expected - error), min(self.said + self.error, expected + error)
        said = min(max(expected, low), high)
        return Answer(self.at, said, max(said - low, high - said)) if low <= high else self


class RedisClock:
    """`now()` in UTC ms, after `sync()` has been called at least once."""

    def __init__(self, redis: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._monotonic = monotonic
        self._answer: Answer | None = None
        self._rate, self._rate_error = 1.0, 1.0
        self._again_after = FIRST_S
        self._latest = 0
        self._stepped = ""

    async def sync(self) -> None:
        """Asks Redis; the first time more than once if it takes long. A step is remembered and raised by `now`."""
        is_first = self._answer is None
        answer = await self._ask()
        for _ in range(FIRST_TRIES - 1 if is_first else 0):
            if answer.error <= GOOD_MS:
                break
            answer = await self._ask()

    async def _ask(self) -> Answer:
        before = self._monotonic() * 1000
        seconds, micros = await self._redis.time()
        after = self._monotonic() * 1000
        took = (after - before) * min(self._rate + self._rate_error, FASTEST)  # at most, as Redis' time goes
        answer = Answer((before + after) / 2, seconds * 1000 + micros / 1000, took / 2)
        if self._answer is not None:
            last, expected = self._answer, self._answer.later(answer.at, self._rate)
            step, between = answer.said - expected, answer.at - last.at
            if abs(step) > STEP_MS:
                self._stepped = f"the time of Redis stepped by {step / 1000:.1f} s"
            answer = answer.narrowed(expected, last.error + self._rate_error * between)
            rate, error = rate_of(last, answer), (last.error + answer.error) / between if between > 0 else 1.0
            if error <= self._rate_error or abs(rate - self._rate) > error + self._rate_error:
                self._rate, self._rate_error = rate, error
            else:
                self._rate_error += DRIFT
            self._again_after = min(EVERY_S, 2 * self._again_after)
        self._answer = answer
        return answer

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
    error = (first.error + second.error + FINEST_MS) / between
    measured = (second.said - first.said) / between
    return min(max(1.0, measured - error, SLOWEST), measured + error, FASTEST)
