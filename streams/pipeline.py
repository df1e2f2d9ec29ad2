"""The way of the data through a partition, on one screen.

    messages ─► decode ─► load ─► step ─► commit ─► outbox ─► segment.changes, segment.memberships
                            ▲                │
                            └── one owner, one write: state, position, wakes, memberships, outbox

The fold reads `account.log` in order. Whatever a batch does is written by one commit; when that has returned,
the batch is settled. Nothing here waits for anything but the store.
"""

from __future__ import annotations

import binascii
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec
import structlog

from rules.changes import cloud_event, memberships
from rules.compiler import compile_files, ruleset_hash
from rules.fold import (
    ALONE,
    Due,
    Folded,
    Partition,
    Place,
    Refolding,
    accounts_of,
    fold,
    runs,
)
from rules.records import (
    ACCOUNTS_PER_TICK,
    AccountRecord,
    Erase,
    Record,
    RulesetRecord,
    Tick,
    decode_record,
    encode_record,
)
from rules.ruleset import NO_RULES, InForce, Ruleset
from rules.state import NEVER
from streams.producer import partition_of
from streams.store.base import Acquired, At, Committed, Outbound, Refused, StoppedError, Store, commit_of
from streams.topics import ACCOUNT_LOG, CHANGES, DEAD_LETTERS, MEMBERSHIPS
from streams.traces import SENT, UNTRACED, Traced, Traces

log = structlog.get_logger()
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
    partitions: int  # of the log
    next_wake: int = NEVER
    outgoing: int = 0  # messages committed to the outbox so far
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    changes: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # by dimension, segment and cause

    @classmethod
    def from_store(cls, acquired: Acquired, partitions: int) -> Owned:
        ruleset = compiled(acquired.files) if acquired.files else NO_RULES
        rules = acquired.partition.in_force(ruleset)
        return cls(acquired.token, acquired.partition, rules, partitions, acquired.next_wake)

    @property
    def at(self) -> At:
        return At(self.token, self.partition.offset)

    def after(self, folded: Folded, committed: Committed, outgoing: int) -> Owned:
        self.counts.update(folded.counts)
        changes = (each.change for each in folded.outgoing)
        self.changes.update((each.dimension, each.segment, each.cause) for each in changes)
        return replace(
            self,
            partition=folded.partition,
            rules=folded.rules,
            next_wake=committed.next_wake,
            outgoing=self.outgoing + outgoing,
        )


class GapError(Exception):
    """The log goes on further than we are: records from `first` to the one before `behind` are missing."""

    def __init__(self, first: int, behind: int) -> None:
        super().__init__(f"offsets {first} to {behind - 1} are not in the log any more")
        self.lost = (first, behind)


class OtherLogError(Exception):
    """This is not the log that was folded: made anew, or cut off at its end and written on."""


async def fold_batch(
    messages: Sequence[Message],
    owned: Owned,
    store: Store,
    reached: Callable[[str], None] = lambda step: None,
    traces: Traces | None = None,
) -> Owned:
    """Folds `messages` of one partition into the store and gives the partition as it stands then.

    Raises GapError when offsets are missing, OtherLogError when the log is not the one that was folded so far,
    StoppedError when the store refuses. `reached` is told of each step: the owner times them, the crash tests stop
    there.
    """
    spans = traces.folding(owned.partition.number, messages) if traces else None
    for run in decoded(messages, owned):
        due, unswept = await look_up(run.records, owned, store)
        named = accounts_of(run.records).union(unswept, (account for _, account in due))
        states = await store.load(owned.partition.number, named, owned.at)
        reached("load")
        folded = fold(owned.partition, owned.rules, run.records, states, compiled, due, unswept, run.end)
        reached("step")
        folded.partition = msgspec.structs.replace(folded.partition, last=run.last)
        folded.counts.update(run.counts)
        say_quarantined(folded)
        traced = spans.decided(folded) if spans else UNTRACED
        outgoing = published(folded, owned.partition.refolding, traced)
        outbox = [*run.aside, *parked(folded), *sent(folded, traced), *outgoing]
        committed = await store.commit(commit_of(owned.token, owned.partition.offset, folded, outbox))
        if isinstance(committed, Refused):
            raise StoppedError(committed)
        reached("commit")
        owned = owned.after(folded, committed, len(outbox))
    if spans:
        spans.end()
    return owned


async def look_up(records: Sequence[Record], owned: Owned, store: Store) -> tuple[list[Due], list[str]]:
    """For a tick or a ruleset (which stand alone): the accounts that are due, and for a tick those that the sweep
    comes to next. A ruleset asks for everybody who is due: what the old rules owe is paid before they go. For an
    erasure (alone too) the accounts that may hold something of these people."""
    if records and isinstance(records[0], Erase):
        return [], await store.holding(owned.partition.number, records[0].persons, owned.at)
    if not records or not isinstance(records[0], Tick | RulesetRecord):
        return [], []
    partition, first = owned.partition, records[0]
    until = max(first.received, partition.log_time)
    at_most = ACCOUNTS_PER_TICK if isinstance(first, Tick) else EVERYBODY
    due = await store.due(partition.number, until, at_most, owned.at)
    if partition.sweep is None or isinstance(first, RulesetRecord):
        return due, []
    if not first.sweeps:
        return due, []
    return due, await store.accounts_after(partition.number, partition.sweep, first.sweeps, owned.at)


@dataclass(slots=True)
class Run:
    """Records that are folded together, up to offset `end`; `last` is a sum over the message before it."""

    records: Sequence[Record]
    end: int
    last: int
    aside: list[Outbound] = field(default_factory=list)  # what is no record, or stands in another's partition
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)


def decoded(messages: Sequence[Message], owned: Owned) -> Iterator[Run]:
    """Runs of records, with what goes elsewhere: dead letters, and records that this partition is not for.

    Messages that were folded already are passed over; the last of them, if it is there, must be what was folded.
    """
    number, offset = owned.partition.number, owned.partition.offset
    records: list[Record] = []
    aside: list[tuple[int, Outbound]] = []
    counts: Counter[tuple[str, str]] = Counter()
    fresh: list[Message] = []
    for message in messages:
        if message.offset < offset:
            if message.offset == offset - 1 and owned.partition.last not in (0, looks_like(message)):
                raise OtherLogError(f"what stands at offset {message.offset} is not what was folded there")
            continue
        if message.offset != offset + len(fresh):
            raise GapError(offset + len(fresh), message.offset)
        fresh.append(message)
        try:
            record = decode_record(message.value or b"")
        except (msgspec.MsgspecError, RecursionError) as error:
            aside.append((message.offset, dead_letter(number, message, str(error))))
            counts["not_a_record", ""] += 1
            continue
        record.offset = message.offset
        if isinstance(record, ALONE) or partition_of(record.account, owned.partitions) == number:
            records.append(record)
        else:
            aside.append((message.offset, diverted(number, record)))
            counts["diverted", record.source] += 1
    cuts = list(runs(records)) or ([[]] if fresh else [])
    start = offset
    for i, cut in enumerate(cuts):
        end = cuts[i + 1][0].offset if i + 1 < len(cuts) else offset + len(fresh)
        run = Run(cut, end, looks_like(fresh[end - 1 - offset]))
        run.aside = [each for at, each in aside if start <= at < end]
        if not i:
            run.counts = counts
        yield run
        start = end


def looks_like(message: Message) -> int:
    """By what a message of the log is known again; never 0."""
    return binascii.crc32(message.value or b"") + 1


def diverted(number: int, record: AccountRecord) -> Outbound:
    """A record that somebody put into a partition that is not its account's, on its way to the right one."""
    record.via = (f"{ACCOUNT_LOG}/{number}", record.offset, 0)
    return Outbound(ACCOUNT_LOG, record.account, encode_record(msgspec.structs.replace(record, offset=0)))


def sent(folded: Folded, traced: Traced = UNTRACED) -> Iterator[Outbound]:
    """What goes on to other accounts by way of the log."""
    for record in folded.sent:
        headers = traced.get((record.via[1], SENT), ()) if traced and record.via else ()
        yield Outbound(ACCOUNT_LOG, record.account, encode_record(record), headers)


def published(folded: Folded, refolding: Refolding | None = None, traced: Traced = UNTRACED) -> Iterator[Outbound]:
    """Each change, and after an account's last one at a position its full memberships; of what is folded once more
    only what has not been told."""
    number = folded.partition.number
    outgoing = folded.outgoing
    if refolding is not None:
        outgoing = [each for each in outgoing if Place(each.epoch, each.offset, each.n) > refolding.told]
    for i, out in enumerate(outgoing):
        account = out.change.account
        headers = traced.get((out.offset, out.n), ()) if traced else ()
        yield Outbound(CHANGES, account, cloud_event(number, out.ruleset, out), headers)
        following = outgoing[i + 1] if i + 1 < len(outgoing) else None
        if following is None or (following.offset, following.change.account) != (out.offset, account):
            value = memberships(number, out.ruleset, out)
            place = () if value else (("offset", b"%d" % out.offset),)  # a tombstone has no position of its own
            yield Outbound(MEMBERSHIPS, account, value, place)


def say_quarantined(folded: Folded) -> None:
    for account, why in folded.quarantined.items():
        state, partition = folded.states[account], folded.partition
        at = place(partition.number, state.quarantined if state else partition.offset - 1)
        do = "isotherm release, once it is mended"
        log.error("account in quarantine", account=account, position=at, why=why, do=do)


def parked(folded: Folded) -> Iterator[Outbound]:
    """Records of accounts in quarantine, as letters that can be sent in again: they count once, by their id."""
    number = folded.partition.number
    for each in folded.parked:
        record, position = each.record, place(number, each.record.offset)
        again = msgspec.structs.replace(record, via=None, id=record.id or position, offset=0)
        detail = f"{record.account} is in quarantine" + (f": {each.why}" if each.why else "")
        yield letter(position, "quarantined", detail, encode_record(again))


def dead_letter(number: int, message: Message, detail: str) -> Outbound:
    """A message of log partition `number` that is no record."""
    return letter(place(number, message.offset), "not_a_record", detail, message.value or b"")


def letter(position: str, reason: str, detail: str, value: bytes) -> Outbound:
    headers = {"stage": "fold", "reason": reason, "detail": detail, "source": position}
    told = tuple((name, text.encode()) for name, text in headers.items())
    return Outbound(DEAD_LETTERS, position, value, told)


def place(number: int, offset: int) -> str:
    return f"{ACCOUNT_LOG}/{number}/{offset}"


_cache: dict[str, Ruleset] = {}


def compiled(files: Mapping[str, str]) -> Ruleset:
    """One compilation per ruleset, however many partitions switch to it."""
    key = ruleset_hash(files)
    if key not in _cache:
        if len(_cache) >= 8:
            _cache.pop(next(iter(_cache)))
        _cache[key] = compile_files(files)
    return _cache[key]
