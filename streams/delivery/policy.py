"""When a delivery is tried again, and what makes an endpoint fail as a whole. Policy is data; all times in ms."""

from __future__ import annotations

from dataclasses import dataclass

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class GivenUp:
    """There is no next attempt."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`waits[k]` after the k-th attempt comes the next one; behind the last of them there is none."""

    waits: tuple[int, ...] = (5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR)
    asked_at_most: int = DAY  # of a Retry-After more is not believed

    @property
    def attempts(self) -> int:
        return len(self.waits) + 1

    def next(self, attempt: int, now: int, after_s: float | None = None) -> int | GivenUp:
        """The instant of the attempt that follows number `attempt` (from 1), which failed at `now`.

        `after_s` is what the receiver asked for: it may make the wait longer, never shorter.
        """
        if attempt > len(self.waits):
            return GivenUp()
        return now + max(self.waits[attempt - 1], self.asked(after_s))

    def asked(self, after_s: float | None) -> int:
        """What a Retry-After asks for, in ms, within reason."""
        return 0 if after_s is None else round(min(max(after_s, 0.0) * 1000, self.asked_at_most))


@dataclass(frozen=True, slots=True)
class ProbePolicy:
    """After so many deliveries in a row have failed, an endpoint counts as failing: one at a time is tried."""

    failing_after: int = 10
    waits: tuple[int, ...] = (5 * SECOND, 5 * MINUTE, 30 * MINUTE)  # the last goes on
    disabled_after: int = 5 * DAY  # without a success

    def next(self, probes: int, now: int) -> int:
        """When to try after `probes` (from 0) have failed."""
        return now + self.waits[min(probes, len(self.waits) - 1)]


@dataclass(frozen=True, slots=True)
class Policy:
    retry: RetryPolicy = RetryPolicy()
    probe: ProbePolicy = ProbePolicy()
    window: int = 64  # deliveries that are read and neither delivered, given up nor stored
    stored: int = 1_000  # failed deliveries that wait, an endpoint; then no more is read
