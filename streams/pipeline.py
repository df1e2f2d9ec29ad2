"""The way of the data through a partition, on one screen.

    messages ─► decode ─► load ─► step ─► commit ─► outbox ─► segment.changes, segment.memberships
                            ▲                │
                            └── one owner, one write: state, position, wakes, memberships, outbox

The fold reads `account.log` in order. Whatever a batch does is written by one commit; when that has returned,
the batch is settled. Nothing here waits for anything but the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec

from rules.changes import cloud_event, memberships
from rules.compiler import compile_files, ruleset_hash
from rules.fold import ACCOUNTS_PER_TICK, Due, Folded, Partition, accounts_of, fold, runs
from rules.records import Erase, Record, RulesetRecord, Tick, decode_record, encode_record
from rules.ruleset import NO_RULES, InForce, Ruleset
from rules.state import NEVER
from streams.store.base import Acquired, Committed, Outbound, Refused, Store, commit_of
from streams.topics import ACCOUNT_LOG, CHANGES, DEAD_LETTERS, MEMBERSHIPS

EVERYBODY = 1 << 31


class Message(Protocol):
    """What we need of a Kafka record."""

    offset: int
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Owned:
    """A partition as its owner holds it between two commits."""

    token: str
    partition: Partition
    rules: InForce
    next_wake: int = NEVER
    outgoing: int = 0  # messages committed to the outbox so far
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def from_store(cls, acquired: Acquired) -> Owned:
        ruleset = compiled(acquired.files) if acquired.files else NO_RULES
        rules = acquired.partition.in_force(ruleset)
        return cls(acquired.token, acquired.partition, rules, acquired.next_wake)

    def after(self, folded: Folded, committed: Committed, outgoing: int) -> Owned:
        self.counts.update(folded.counts)
        return replace(
            self,
            partition=folded.partition,
            rules=folded.rules,
            next_wake=committed.next_wake,
            outgoing=self.outgoing + outgoing,
        )


class GapError(Exception):
    """The log goes on further than we are: records are missing in between."""


class StoppedError(Exception):
    """A commit was refused. `reason`: somebody else owns the partition, or the store stands elsewhere."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(f"commit refused: {refused.reason}")
        self.refused = refused


async def fold_batch(
    messages: Sequence[Message], owned: Owned, store: Store, reached: Callable[[str], None] = lambda step: None
) -> Owned:
    """Folds `messages` of one partition into the store and gives the partition as it stands then.

    Raises GapError when offsets are missing, StoppedError when the store refuses. `reached` is told of each
    step: the crash tests stop there.
    """
    for records, rejected, end in decoded(messages, owned.partition.offset, owned.partition.number):
        due, unswept = await look_up(records, owned, store)
        named = accounts_of(records).union(unswept, (account for _, account in due))
        states = await store.load(owned.partition.number, named)
        reached("load")
        folded = fold(owned.partition, owned.rules, records, states, compiled, due, unswept, end)
        reached("step")
        outbox = [*rejected, *sent(folded), *published(folded)]
        committed = await store.commit(commit_of(owned.token, owned.partition.offset, folded, outbox))
        if isinstance(committed, Refused):
            raise StoppedError(committed)
        reached("commit")
        owned = owned.after(folded, committed, len(outbox))
    return owned


async def look_up(records: Sequence[Record], owned: Owned, store: Store) -> tuple[list[Due], list[str]]:
    """For a tick or a ruleset (which stand alone): the accounts that are due, and for a tick those that the sweep
    comes to next. A ruleset asks for everybody who is due: what the old rules owe is paid before they go. For an
    erasure (alone too) the accounts that may hold something of these people."""
    if records and isinstance(records[0], Erase):
        return [], await store.holding(owned.partition.number, records[0].persons)
    if not records or not isinstance(records[0], Tick | RulesetRecord):
        return [], []
    partition, first = owned.partition, records[0]
    until = max(first.received, partition.log_time)
    due = await store.due(partition.number, until, ACCOUNTS_PER_TICK if isinstance(first, Tick) else EVERYBODY)
    if partition.sweep is None or isinstance(first, RulesetRecord):
        return due, []
    return due, await store.accounts_after(partition.number, partition.sweep, ACCOUNTS_PER_TICK)


def decoded(
    messages: Sequence[Message], offset: int, number: int
) -> Iterator[tuple[Sequence[Record], list[Outbound], int]]:
    """Runs of records, the dead letters among them, and the offset after each run.

    Messages before `offset` were folded already and are passed over.
    """
    records: list[Record] = []
    rejected: list[tuple[int, Outbound]] = []
    expected = offset
    for message in messages:
        if message.offset < offset:
            continue
        if message.offset != expected:
            raise GapError(f"expected offset {expected}, the log goes on at {message.offset}")
        expected += 1
        try:
            record = decode_record(message.value or b"")
            record.offset = message.offset
            records.append(record)
        except (msgspec.MsgspecError, RecursionError) as error:
            rejected.append((message.offset, dead_letter(number, message, str(error))))
    cuts = list(runs(records)) or ([[]] if rejected else [])
    start = offset
    for i, run in enumerate(cuts):
        end = cuts[i + 1][0].offset if i + 1 < len(cuts) else expected
        yield run, [letter for at, letter in rejected if start <= at < end], end
        start = end


def sent(folded: Folded) -> Iterator[Outbound]:
    """What goes on to other accounts by way of the log."""
    for record in folded.sent:
        yield Outbound(ACCOUNT_LOG, record.account, encode_record(record))


def published(folded: Folded) -> Iterator[Outbound]:
    """Each change, and after an account's last one at a position its full memberships."""
    number = folded.partition.number
    for i, out in enumerate(folded.outgoing):
        account = out.change.account
        yield Outbound(CHANGES, account, cloud_event(number, out.ruleset, out))
        following = folded.outgoing[i + 1] if i + 1 < len(folded.outgoing) else None
        if following is None or (following.offset, following.change.account) != (out.offset, account):
            yield Outbound(MEMBERSHIPS, account, memberships(number, out.ruleset, out))


def dead_letter(number: int, message: Message, detail: str) -> Outbound:
    """A message of log partition `number` that is no record, under the key of its position."""
    position = f"{ACCOUNT_LOG}/{number}/{message.offset}"
    headers = {"stage": "fold", "reason": "not_a_record", "detail": detail, "source": position}
    told = tuple((name, text.encode()) for name, text in headers.items())
    return Outbound(DEAD_LETTERS, position, message.value or b"", told)


_cache: dict[str, Ruleset] = {}


def compiled(files: Mapping[str, str]) -> Ruleset:
    """One compilation per ruleset, however many partitions switch to it."""
    key = ruleset_hash(files)
    if key not in _cache:
        if len(_cache) >= 8:
            _cache.pop(next(iter(_cache)))
        _cache[key] = compile_files(files)
    return _cache[key]
