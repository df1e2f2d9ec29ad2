"""Keeping to a rate: what was asked lately, and how long to wait before asking again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from streams.sinks.base import Rate


@dataclass(slots=True)
class Pace:
    """Of one endpoint. Any window of the rate's length holds at most its requests. Instants are in seconds of
    any clock that does not go back."""

    rate: Rate | None
    _asked: deque[float] = field(default_factory=deque)

    def wait_s(self, now: float) -> float:
        """0 when a request may go now."""
        if self.rate is None:
            return 0.0
        while self._asked and self._asked[0] <= now - self.rate.window_s:
            self._asked.popleft()
        if len(self._asked) < self.rate.requests:
            return 0.0
        return self._asked[-self.rate.requests] + self.rate.window_s - now

    def asked(self, now: float) -> None:
        if self.rate is not None:
            self._asked.append(now)
