"""A store in memory under the same contract as Redis: for tests, replays and simulations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rules.fold import Due, Partition
from rules.state import NEVER, AccountState
from streams.store.base import (
    Acquired,
    At,
    Commit,
    Committed,
    Entry,
    Refused,
    StoppedError,
    holds,
    marks_of,
    new_token,
    pack_outbox,
    pack_state,
    unpack_outbox,
    unpack_state,
)


@dataclass(slots=True)
class _Kept:
    partition: Partition
    token: str = ""
    batch: str = ""
    accounts: dict[str, bytes] = field(default_factory=dict)
    wakes: dict[str, int] = field(default_factory=dict)
    members: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    outbox: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    accepted: tuple[int, int] | None = None
    tallies: dict[int, Counter[str]] = field(default_factory=dict)
    words: int = -1

    def next_wake(self) -> int:
        return min(self.wakes.values(), default=NEVER)

    def refuses(self, at: At) -> Refused | None:
        if self.token and self.token != at.token:
            return Refused("fenced")
        if not self.token or self.partition.offset != at.offset:
            return Refused("moved", self.partition.offset)
        return None


class MemoryStore:
    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}

    async def acquire(self, partition: int) -> Acquired:
        kept = self._of(partition)
        kept.token = new_token()
        return Acquired(kept.token, kept.partition, dict(kept.files), kept.next_wake(), kept.words)

    async def load(self, partition: int, accounts: Iterable[str], at: At | None = None) -> dict[str, AccountState]:
        held = self._of(partition, at).accounts
        return {account: unpack_state(held[account]) for account in accounts if account in held}

    async def due(self, partition: int, until: int, limit: int, at: At | None = None) -> list[Due]:
        wakes = self._of(partition, at).wakes
        return sorted((wake, account) for account, wake in wakes.items() if wake <= until)[:limit]

    async def holding(self, partition: int, persons: Iterable[str], at: At | None = None) -> list[str]:
        marks = marks_of(persons)
        accounts = self._of(partition, at).accounts
        return sorted(account for account, blob in accounts.items() if holds(account, blob, marks))

    async def accounts_after(self, partition: int, account: str, limit: int, at: At | None = None) -> list[str]:
        return sorted(each for each in self._of(partition, at).accounts if each > account)[:limit]

    async def commit(self, commit: Commit) -> Committed | Refused:
        kept = self._of(commit.partition.number)
        if kept.token == commit.token and kept.batch == commit.batch:
            return Committed(kept.next_wake(), repeated=True)
        if (refused := kept.refuses(At(commit.token, commit.expected))) is not None:
            return refused
        self._write(kept, commit)
        return Committed(kept.next_wake())

    async def outbox(self, partition: int, limit: int) -> list[Entry]:
        entries = list(self._of(partition).outbox.items())[:limit]
        return [Entry(id, unpack_outbox(blob)) for id, blob in entries]

    async def owners(self, partitions: Sequence[int]) -> list[tuple[str, int]]:
        return [(kept.token, kept.partition.offset) for kept in map(self._of, partitions)]

    async def accept_gap(self, partition: int, first: int, behind: int) -> None:
        self._of(partition).accepted = (first, behind)

    async def accepted(self, partition: int) -> tuple[int, int] | None:
        return self._of(partition).accepted

    async def safe(self, partition: int) -> None:
        pass

    async def trim(self, partition: int, id: str, token: str = "", words: int = -1) -> None:
        kept = self._of(partition)
        if words >= 0 and token == kept.token:
            kept.words = words
        outbox = kept.outbox
        for each in [each for each in outbox if _order(each) <= _order(id)]:
            del outbox[each]

    async def tallies(self, partition: int, day: int) -> dict[str, int]:
        return dict(self._of(partition).tallies.get(day, {}))

    async def members(self, partition: int, dimension: str, segment: str) -> set[str]:
        return set(self._of(partition).members.get((dimension, segment), set()))

    def _of(self, partition: int, at: At | None = None) -> _Kept:
        kept = self._kept.setdefault(partition, _Kept(Partition(partition)))
        if at is not None and (refused := kept.refuses(at)) is not None:
            raise StoppedError(refused)
        return kept

    def _write(self, kept: _Kept, commit: Commit) -> None:
        kept.batch, kept.partition = commit.batch, commit.partition
        for account, state in commit.states.items():
            if state is None:
                kept.accounts.pop(account, None)
            else:
                kept.accounts[account] = pack_state(state)
        for account, wake in commit.wakes.items():
            kept.wakes.pop(account, None)
            if wake < NEVER:
                kept.wakes[account] = wake
        for place, accounts in commit.joined.items():
            kept.members.setdefault(place, set()).update(accounts)
        for place, accounts in commit.left.items():
            kept.members[place].difference_update(accounts)
        if commit.outbox:
            kept.outbox[f"{commit.partition.offset}-0"] = pack_outbox(commit.outbox)
        if commit.files is not None:
            kept.files = dict(commit.files)
        for day, tallies in commit.tallies.items():
            kept.tallies.setdefault(day, Counter()).update(tallies)
        for day in commit.forgotten:
            kept.tallies.pop(day, None)


def _order(id: str) -> tuple[int, int]:
    offset, n = id.split("-")
    return int(offset), int(n)
