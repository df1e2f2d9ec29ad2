"""When so much of a source partition cannot be used that going on would only fill the dead letters."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

WATCHED = 10_000  # messages
REJECTED_AT_MOST = 100  # of those: one in a hundred
IN_A_ROW = 100


class Poison:
    """Counts, message by message, what could not be used at all."""

    def __init__(self) -> None:
        self._rejected: deque[int] = deque()  # numbers of the rejected ones among the last WATCHED
        self._seen = 0
        self._row = 0

    def copy(self) -> Poison:
        other = Poison()
        other._rejected, other._seen, other._row = self._rejected.copy(), self._seen, self._row
        return other

    def after(self, rejected: Sequence[bool]) -> str:
        """Why it is too much, after these messages, in words; empty while it is not."""
        if rejected and not any(rejected):
            rejected, self._seen, self._row = rejected[-1:], self._seen + len(rejected) - 1, 0
        why = ""
        for each in rejected:
            self._seen += 1
            self._row = self._row + 1 if each else 0
            if each:
                self._rejected.append(self._seen)
                if self._row >= IN_A_ROW:
                    why = f"{self._row} messages in a row could not be used"
                elif len(self._rejected) > REJECTED_AT_MOST:
                    last = min(self._seen, WATCHED)
                    why = f"{len(self._rejected)} of the last {last:,} messages could not be used"
            while self._rejected and self._rejected[0] <= self._seen - WATCHED:
                self._rejected.popleft()
        return why
