"""Whose turn it is to be swept: live traffic comes first.

After new rules, or an epoch, every account is looked at once. Of all partitions that want it, a worker sweeps one
at a time, a few accounts a tick, since nothing else of it is folded meanwhile. As long as a tick took, waiting its
turn in the log included, the next one lets others go first, if anything came for them.
"""

from __future__ import annotations

from collections.abc import Mapping

SWEPT_AT_ONCE = 50  # accounts: some 50 ms under the shipped rules
LONGEST_REST_MS = 1_000


class Turns:
    """Instants are UTC ms."""

    def __init__(self) -> None:
        self.rests_until = 0
        self._last = -1  # the partition whose turn it was
        self._began: tuple[int, int] | None = None  # while it is: since when, and all offsets then

    def next(self, swept: Mapping[int, bool], offsets: int, now: int) -> int | None:
        """The partition that is swept now, if any. `swept`: those that want it, and whether their last tick has
        still to be folded. `offsets`: of all partitions of this worker together."""
        if self._began is not None:
            if swept.get(self._last):
                return None
            began, before = self._began
            self._began = None
            if offsets - before > 1:  # something was folded beside the tick
                self.rests_until = now + min(max(0, now - began), LONGEST_REST_MS)
        ready = sorted(number for number, is_waiting in swept.items() if not is_waiting)
        if not ready or now < self.rests_until <= now + LONGEST_REST_MS:
            return None
        self._last = next((number for number in ready if number > self._last), ready[0])
        self._began = now, offsets
        return self._last
