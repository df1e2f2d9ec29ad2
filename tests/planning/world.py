"""A partition in memory that stands still between records: nothing passes that the log does not say."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from rules import compiler
from rules.fold import Outgoing, Partition, accounts_of, fold
from rules.planning import Edit, Look, Raised, Switch, look
from rules.records import ACCOUNTS_PER_TICK, Erase, Record, RulesetRecord, Tick, encode_record
from rules.ruleset import InForce, Ruleset
from rules.state import AccountState, pack, unpack
from streams.refolding import Log, Recollection, begin, refold
from streams.settings import Settings
from streams.store.snapshots import Snapshot

RULES = Path(__file__).parents[1] / "rules"
if str(RULES) not in sys.path:  # the generator and the oracle stand beside the tests of the rules
    sys.path.append(str(RULES))


def compile_files(files: dict[str, str]) -> Ruleset:
    return _compiled(tuple(sorted(files.items())))


@lru_cache(64)
def _compiled(files: tuple[tuple[str, str], ...]) -> Ruleset:
    return compiler.compile_files(dict(files))


@dataclass(frozen=True, slots=True)
class Message:
    offset: int
    value: bytes


class ListLog:
    """One partition of `account.log` as a list, the first `gone` messages of which are no more."""

    topic = "account.log"

    def __init__(self, records: Iterable[Record], gone: int = 0, snapshot: Snapshot | None = None) -> None:
        self.settings = Settings(partitions=1)
        self.messages = [Message(i, encode_record(record)) for i, record in enumerate(records)]
        self.gone, self.kept = gone, snapshot

    async def first(self, number: int) -> int:
        return self.gone

    async def require(self, number: int, since: int) -> int:
        assert since >= self.gone
        return self.gone

    async def snapshot(self, number: int) -> Snapshot | None:
        return self.kept

    async def read(self, number: int, start: int, upto: int) -> AsyncIterator[list[Message]]:
        assert start >= self.gone
        for place in range(start, upto, 3):
            yield self.messages[place : min(place + 3, upto)]

    def until(self, offset: int) -> Snapshot:
        """What the messages before `offset` come to."""
        return asyncio.run(self._until(offset))

    async def _until(self, offset: int) -> Snapshot:
        store = Recollection()
        owned = await begin(cast(Log, self), 0, store, offset)
        owned = await refold(cast(Log, self), owned, store, offset, lambda done: None)
        return Snapshot(owned.partition, owned.rules.ruleset.files, store.packed(0), store.counted(0))


class Frozen:
    """What a worker keeps of a partition, packed, as far as the log goes."""

    def __init__(self) -> None:
        self.partition, self.rules = Partition(0), InForce()
        self.packed: dict[str, bytes] = {}

    @property
    def states(self) -> dict[str, AccountState]:
        return {account: unpack(blob) for account, blob in self.packed.items()}

    def feed(self, records: Iterable[Record]) -> list[Outgoing]:
        return [out for record in records for out in self._one(record)]

    def deploy(self, files: dict[str, str]) -> list[Outgoing]:
        """The switch at the next record, and the sweep to its end; no time passes meanwhile."""
        now = self.partition.log_time
        told = self._one(RulesetRecord(received=max(now, 1), hash="", files=files))
        while self.partition.sweep is not None:
            told += self._one(Tick(received=max(now, 1)))
        return told

    def plan(self, files: dict[str, str]) -> dict[str, Look | Raised]:
        """What would become of each account."""
        switch = self.switch(files)
        found = {account: look(account, state, switch) for account, state in self.states.items()}
        return {account: each for account, each in found.items() if each is not None}

    def switch(self, files: dict[str, str]) -> Switch:
        return Switch.of(self.partition, Edit.of(self.rules.ruleset, compile_files(files)))

    def _one(self, record: Record) -> list[Outgoing]:
        record.offset = self.partition.offset
        now, states = max(record.received, self.partition.log_time), self.states
        due: list[tuple[int, str]] = []
        swept: list[str] = []
        if isinstance(record, Tick | RulesetRecord):
            due = sorted((state.wake, account) for account, state in states.items() if state.wake <= now)
        if isinstance(record, Tick):
            due = due[:ACCOUNTS_PER_TICK]
            cursor = self.partition.sweep
            swept = [] if cursor is None else sorted(a for a in states if a > cursor)[: record.sweeps]
        elif isinstance(record, Erase):
            swept = sorted(states)
        named = accounts_of([record]).union(swept, (account for _, account in due))
        given = {account: states[account] for account in named if account in states}
        done = fold(self.partition, self.rules, [record], given, compile_files, due, swept)
        self.partition, self.rules = done.partition, done.rules
        for account, state in done.states.items():
            if state is None:
                self.packed.pop(account, None)
            else:
                self.packed[account] = pack(state)
        return done.outgoing
