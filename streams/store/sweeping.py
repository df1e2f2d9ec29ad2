"""The accounts that a sweep comes to next, without listing all of them at every tick.

A partition's accounts are a hash, and a hash has no order, while which accounts a tick comes to must follow from
the log alone. So whoever sweeps looks through the names once for the next AHEAD of them, in order, and keeps these
as its own commits change them: nobody else writes while it holds the partition.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from streams.store.base import Commit

AHEAD = 20_000  # names kept of a partition that is swept
SLICE = 5_000  # names asked for at once


@dataclass(slots=True)
class Ahead:
    """The names behind `after` as they stand at `offset`, in order; `whole` when there are no further ones."""

    token: str
    offset: int
    after: str
    names: list[str]
    whole: bool

    def next(self, account: str, limit: int) -> list[str] | None:
        """The names behind `account`; None when they are not all here."""
        start = bisect_right(self.names, account)
        found = self.names[start : start + limit]
        return None if account < self.after or (len(found) < limit and not self.whole) else found

    def follow(self, commit: Commit) -> bool:
        """Takes in whom a commit brings and forgets; false when it is not the next one, or the sweep is over."""
        if (commit.token, commit.expected) != (self.token, self.offset) or commit.partition.sweep is None:
            return False
        for account, state in commit.states.items():
            self._take(account, is_gone=state is None)
        self.offset = commit.partition.offset
        return True

    def _take(self, account: str, is_gone: bool) -> None:
        place = bisect_left(self.names, account)
        is_here = place < len(self.names) and self.names[place] == account
        if is_gone and is_here:
            del self.names[place]
        elif not is_gone and not is_here and account > self.after and (self.whole or place < len(self.names)):
            self.names.insert(place, account)


class Smallest:
    """The smallest names of many that are heard, each once; never holds more than a few times as many."""

    def __init__(self, after: str, most: int) -> None:
        self._after, self._most = after, most
        self._heard: set[str] = set()
        self._dropped = False

    def hear(self, names: list[bytes]) -> None:
        self._heard.update(name for each in names if (name := each.decode()) > self._after)
        if len(self._heard) > 4 * self._most:
            self._heard = set(self._sorted())

    def _sorted(self) -> list[str]:
        self._dropped = self._dropped or len(self._heard) > self._most
        return sorted(self._heard)[: self._most]

    def found(self) -> tuple[list[str], bool]:
        """In order, and whether these are all."""
        names = self._sorted()
        return names, not self._dropped
