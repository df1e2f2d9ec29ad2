"""What accounts had of some measures when a ruleset came into force, folded from the log once more.

It is the worker's `fold`, in memory, under a ruleset of these measures alone: so merges, people, duplicates and
erasures are what they were. Facts are left out of what is kept, and no dimension is asked.

An account that was merged into another brought a state along that knows nothing of the new measures. Here it
brings what the fold of its own partition makes of it; so partitions are folded side by side, and one that comes to
such a record waits until the other is there. What was given away before the switch there and taken in behind it
here is left over, and belongs to the fills.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import msgspec

from rules.filling import Filling
from rules.fold import Folded
from rules.records import (
    Activity,
    Epoch,
    Fill,
    Filled,
    Record,
    Release,
    RulesetRecord,
    Tick,
    Transfer,
)
from rules.ruleset import InForce, Ruleset
from rules.state import AccountState, pack, unpack
from streams.pipeline import Message, Owned, Run, decoded
from streams.producer import partition_of
from streams.refolding import Recollection, fold_quietly
from streams.store.base import pack_state, unpack_state
from streams.store.snapshots import Snapshot, seed
from streams.topics import ACCOUNT_LOG

Via: TypeAlias = tuple[str, int, int]
Read: TypeAlias = Callable[["Past"], Awaitable[Sequence[Message]]]  # the next messages behind its offset


@dataclass(slots=True)
class Given:
    """What an account had when it was given away, at a place of the log."""

    merged: str
    into: str
    state: bytes
    has_arrived: bool = False


@dataclass(frozen=True, slots=True)
class Waits:
    """The fold cannot go on before that of another partition has come to an offset."""

    partition: int
    offset: int


def only(ruleset: Ruleset, filling: Filling) -> Ruleset:
    """The ruleset, of which these measures alone are kept."""
    asked = set(filling.measures)
    feeds = {
        activity: tuple(
            replace(feed, dimensions=(), asked=(), renews=None) for feed in feeds if feed.measure in asked
        )
        for activity, feeds in ruleset.feeds.items()
    }
    measures = {id: kept for id, kept in ruleset.measures.items() if id in asked}
    return Ruleset(hash=f"{ruleset.hash}/{filling.deployment}", measures=measures, feeds=feeds)


@dataclass(slots=True)
class Pasts:
    """The partitions, and what went from one to another."""

    partitions: dict[int, Past] = field(default_factory=dict)
    given: dict[Via, Given] = field(default_factory=dict)

    def waits_for(self, record: Transfer) -> Waits | None:
        place = _place(record.via)
        if place is None or place[0] not in self.partitions:
            return None
        number, offset = place
        return Waits(number, offset) if self.partitions[number].offset <= offset else None

    def left_over(self, number: int) -> Iterator[Given]:
        """What was given away before the switch, to accounts of this partition that had switched already."""
        for via, each in self.given.items():
            place = _place(via)
            was_before = place is not None and self.partitions[place[0]].is_before(place[1])
            if was_before and self._home(each.into) == number:
                yield each

    async def fold(self, read: Read, progress: Callable[[], None] = lambda: None) -> None:
        """All up to the switch, side by side, so that time passes in them alike."""
        while todo := [past for past in self.partitions.values() if not past.is_there]:
            await self._advance(min(todo, key=lambda past: past.log_time), read)
            progress()
        while (late := self._late()) is not None:  # its fill comes behind it
            await self._advance(late, read, late.offset + 1)

    def _late(self) -> Past | None:
        """A partition in which something has not arrived that is left over."""
        left = (each for past in self.partitions.values() for each in self.left_over(past.number))
        return next((self.partitions[self._home(each.into)] for each in left if not each.has_arrived), None)

    def _home(self, account: str) -> int:
        return partition_of(account, len(self.partitions))

    async def _advance(self, past: Past, read: Read, upto: int | None = None) -> None:
        if not past.waiting:
            past.waiting = await read(past)
        await past.fold(upto)
        if (waits := past.waits) is not None:
            other = self.partitions[waits.partition]
            while other.offset <= waits.offset:
                await self._advance(other, read, waits.offset + 1)


def _place(via: Via | None) -> tuple[int, int] | None:
    """The partition and offset of the log at which a fold sent something."""
    topic, _, number = (via[0] if via else "").rpartition("/")
    return (int(number), via[1]) if via and topic == ACCOUNT_LOG and number.isdecimal() else None


class Past:
    """One partition, up to where `filling` came into force; further, as far as another one waits for it."""

    def __init__(
        self, owned: Owned, store: Recollection, filling: Filling, ruleset: Ruleset, pasts: Pasts
    ) -> None:
        self._owned, self._store, self._filling, self._pasts = owned, store, filling, pasts
        self._measures = ruleset.measures
        self._hash = ruleset.hash
        self.waiting: Sequence[Message] = ()  # read, and not folded yet
        self.waits: Waits | None = None
        self._switched: int | None = None
        self._had: Mapping[str, bytes] = {}

    @classmethod
    async def begin(
        cls,
        number: int,
        partitions: int,
        snapshot: Snapshot | None,
        filling: Filling,
        ruleset: Ruleset,
        all: Pasts,
    ) -> Past:
        """From the log's beginning; where that is gone, from the snapshot that stands for it."""
        store, measures = Recollection(), only(ruleset, filling)
        acquired = await store.acquire(number)
        if snapshot is not None:
            await seed(store, acquired, _stripped(snapshot, measures))
            acquired = await store.acquire(number)
        owned = Owned.from_store(acquired, partitions)
        since = (owned.partition.offset, owned.partition.log_time)
        introduced = dict.fromkeys(measures.measures, since)
        rules = InForce(measures, since[0] - 1, since[1], introduced)
        held = msgspec.structs.replace(
            owned.partition, ruleset=measures.hash, introduced=introduced, sweep=None, fillings=(), refolding=None
        )
        past = cls(replace(owned, partition=held, rules=rules), store, filling, measures, all)
        all.partitions[number] = past
        return past

    @property
    def number(self) -> int:
        return self._owned.partition.number

    @property
    def offset(self) -> int:
        return self._owned.partition.offset

    @property
    def log_time(self) -> int:
        return self._owned.partition.log_time

    @property
    def is_there(self) -> bool:
        """It has come to the switch."""
        return self._switched is not None

    def is_before(self, offset: int) -> bool:
        return self._switched is None or offset < self._switched

    async def fold(self, upto: int | None = None) -> None:
        """Folds what is `waiting`, as far as no other partition has to come first: up to the switch, or behind it
        up to offset `upto`."""
        self.waits = None
        messages = self.waiting
        while messages and self.waits is None and not self._ends(upto):
            run = next(decoded(messages, self._owned))
            await self._fold(self._cut(run, upto))
            messages = messages[self.offset - messages[0].offset :]
        self.waiting = messages

    def _ends(self, upto: int | None) -> bool:
        return self.is_there and (upto is None or self.offset >= upto)

    def _cut(self, run: Run, upto: int | None) -> Run:
        """The run up to a record for which another partition has to come first."""
        for i, record in enumerate(run.records):
            if isinstance(record, Transfer) and (waits := self._pasts.waits_for(record)) is not None:
                self.waits = waits
                return Run(run.records[:i], record.offset, 0)
        return run

    async def _fold(self, run: Run) -> None:
        if run.end == self.offset:
            return
        for each in run.records:  # one that is a ruleset stands alone
            if isinstance(each, RulesetRecord) and each.deployment == self._filling.deployment:
                self._switched, self._had = each.offset, dict(self._store.packed(self.number))
        run.records = [self._as_past(each) for each in run.records]
        self._owned, folded = await fold_quietly(run, self._owned, self._store, self._strip)
        for record in folded.sent:
            if isinstance(record, Transfer) and record.via is not None:
                self._pasts.given[record.via] = Given(record.merged, record.account, record.state)

    def _strip(self, folded: Folded) -> None:
        """Of accounts their measures are kept, and what tells people and duplicates apart."""
        for state in folded.states.values():
            if state is not None:
                state.facts, state.contacts, state.ruleset = {}, {}, self._hash

    def _as_past(self, record: Record) -> Record:
        match record:
            case RulesetRecord() | Filled() | Epoch():
                return Tick(received=record.received, offset=record.offset)
            case Transfer():
                return self._as_given(record)
            case Fill():
                return _nothing(record)
            case Activity() if record.at <= self._filling.since:
                return _nothing(record)
        return record

    def _as_given(self, record: Transfer) -> Transfer:
        here = self._pasts.given.get(record.via) if record.via is not None else None
        if record.via is None or here is None:
            return record
        here.has_arrived = True
        if not self.is_there:  # else it is left over: behind the switch the live fold could make nothing of it
            del self._pasts.given[record.via]
        return msgspec.structs.replace(record, ruleset=self._hash, state=here.state)

    # -- what it comes to -----------------------------------------------------------------------------------

    def fills(self, received: int) -> Iterator[Fill]:
        """A fill for each account that was there at the switch, in the order of their names; then for what was on
        its way here."""
        for account, blob in sorted(self._had.items()):
            state = unpack_state(blob)
            if not state.merged_into:
                yield self._fill(account, account, state, received)
        for each in self._pasts.left_over(self.number):
            yield self._fill(each.into, each.merged, unpack(each.state), received)

    @property
    def accounts(self) -> int:
        return len(self._had)

    def _fill(self, account: str, of: str, state: AccountState, received: int) -> Fill:
        measures = {id: kept for id, kept in state.measures.items() if id in self._measures}
        if since := self._filling.since:
            for id, kept in self._measures.items():
                measures[id] = kept.join(measures.get(id, kept.empty(0)), kept.empty(since), 0, 0, False)
        return Fill(
            account=account,
            of=of,
            deployment=self._filling.deployment,
            before=self._switched or 0,
            measures=[id for id in self._filling.measures if id in self._measures],
            state=pack(AccountState(0, measures=measures)),
            received=received,
            origin="backfill",
        )


def _nothing(record: Activity | Fill) -> Release:
    """What leaves no trace but its id and where it came from."""
    return Release(
        account=record.account,
        received=record.received,
        id=record.id,
        source=record.source,
        via=record.via,
        offset=record.offset,
    )


def _stripped(snapshot: Snapshot, ruleset: Ruleset) -> Snapshot:
    """The snapshot with what is folded here. Of measures that it does not have, all before it is missing."""
    missing = {id: kept.empty(snapshot.partition.log_time) for id, kept in ruleset.measures.items()}

    def stripped(blob: bytes) -> bytes:
        state = unpack_state(blob)
        state.facts, state.contacts, state.standings, state.overrides, state.gaps = {}, {}, {}, {}, {}
        if not state.merged_into:
            known = {id: each for id, each in state.measures.items() if id in missing}
            state.measures, state.ruleset = missing | known, ruleset.hash
        return pack_state(state)

    accounts = {account: stripped(blob) for account, blob in snapshot.accounts.items()}
    return replace(snapshot, accounts=accounts, files={}, tallies={})
