"""A log replayed on virtual time, without Kafka or Redis: what `isotherm replay` and the stories run.

Records go through the same `fold` as live ones. Between them ticks are put at each instant at which an account
is due, so that changes by time alone are decided exactly when they take effect.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator

from rules.compiler import compile_files
from rules.fold import Folded, Outgoing, Partition, accounts_of, fold
from rules.records import ACCOUNTS_PER_TICK, Erase, Record, Tick
from rules.ruleset import InForce, Ruleset
from rules.state import NEVER, AccountState
from rules.tally import Tallies


class Replay:
    """One partition in memory. `feed` and `advance` give the changes that follow, in order."""

    def __init__(self, ruleset: Ruleset, partition: int = 0) -> None:
        rules = InForce().switch(ruleset, -1, 0)
        self.rules = rules
        self.partition = Partition(partition, ruleset=ruleset.hash, introduced=rules.introduced)
        self.states: dict[str, AccountState] = {}
        self.tallies: Tallies = Counter()
        self._wakes: list[tuple[int, str]] = []

    def run(self, records: Iterable[Record], until: int = 0) -> Iterator[Outgoing]:
        for record in records:
            yield from self.feed(record)
        yield from self.advance(until)

    def feed(self, record: Record) -> Iterator[Outgoing]:
        """Folds `record` after everything that was due before it."""
        yield from self.advance(max(record.received, self.partition.log_time))
        yield from self._fold(record)
        while self.partition.sweep is not None:  # the rules changed: every account is asked again
            yield from self._fold(Tick(received=self.partition.log_time))

    def advance(self, until: int) -> Iterator[Outgoing]:
        """Lets time pass up to `until`."""
        while (wake := self.next_wake()) <= until:
            yield from self._fold(Tick(received=wake))

    def next_wake(self) -> int:
        while self._wakes and self._is_stale(*self._wakes[0]):
            heapq.heappop(self._wakes)
        return self._wakes[0][0] if self._wakes else NEVER

    def _fold(self, record: Record) -> Iterator[Outgoing]:
        """Folds `record`, and what it sends to other accounts."""
        record.offset = self.partition.offset
        due, unswept = [], []
        if isinstance(record, Tick):
            due, unswept = self._due(record.received), self._unswept(record.sweeps)
        elif isinstance(record, Erase):
            unswept = sorted(self.states)
        named = {account for _, account in due} | {*unswept} | accounts_of([record])
        states = {account: self.states[account] for account in named if account in self.states}
        folded = fold(self.partition, self.rules, [record], states, compile_files, due, unswept)
        self._keep(folded)
        for entry in due:
            if not self._is_stale(*entry):  # more were due than one tick lets through
                heapq.heappush(self._wakes, entry)
        yield from folded.outgoing
        for sent in folded.sent:
            yield from self._fold(sent)

    def _due(self, until: int) -> list[tuple[int, str]]:
        due: dict[tuple[int, str], None] = {}
        while self._wakes and self._wakes[0][0] <= until and len(due) < ACCOUNTS_PER_TICK:
            entry = heapq.heappop(self._wakes)
            if not self._is_stale(*entry):
                due[entry] = None
        return list(due)

    def _unswept(self, at_most: int) -> list[str]:
        cursor = self.partition.sweep
        return [] if cursor is None else sorted(a for a in self.states if a > cursor)[:at_most]

    def _is_stale(self, instant: int, account: str) -> bool:
        return account not in self.states or self.states[account].wake != instant

    def _keep(self, folded: Folded) -> None:
        self.partition, self.rules = folded.partition, folded.rules
        self.tallies.update(folded.tallies)
        for account, state in folded.states.items():
            if state is None:
                self.states.pop(account, None)
                continue
            self.states[account] = state
            if state.wake < NEVER:
                heapq.heappush(self._wakes, (state.wake, account))
