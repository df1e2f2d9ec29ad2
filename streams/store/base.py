"""What the fold asks of a store: load what a run of records needs, and one write that all depends on.

acquire ──► load · due · unswept ──► commit ──► outbox ──► trim
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import cramjam
import msgspec

from rules import state as states
from rules import tally
from rules.fold import Due, Folded, Partition
from rules.measures import person_tag
from rules.records import digest_of, is_visitor
from rules.state import NEVER, AccountState


class Outbound(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A message to be published. `topic` is a role (see `topics`), `value` None a tombstone.

    `partition` is given where the key does not decide it.
    """

    topic: str
    key: str
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


class Entry(NamedTuple):
    """What one commit left to publish; `id` grows with the log."""

    id: str
    messages: list[Outbound]


class At(NamedTuple):
    """Where its owner believes a partition to stand. What is read for a commit is read there or not at all: Redis
    may have gone back when it is read, and forward again when the commit comes."""

    token: str
    offset: int


@dataclass(frozen=True, slots=True)
class Acquired:
    """A partition as its new owner finds it. `files` is the text of the ruleset in force.

    `words`: where in `segment.memberships` the words of its owners so far end; -1: that is not known.
    """

    token: str
    partition: Partition
    files: dict[str, str] = field(default_factory=dict)
    next_wake: int = NEVER
    words: int = -1


@dataclass(frozen=True, slots=True)
class Commit:
    """One batch of one partition, to be written whole or not at all."""

    token: str
    expected: int  # the offset at which the store must stand
    batch: str  # tells a retry of this commit from another one
    partition: Partition
    states: Mapping[str, AccountState | None] = field(default_factory=dict)  # None: forgotten
    wakes: Mapping[str, int] = field(default_factory=dict)  # only those that changed; NEVER: none any more
    joined: Mapping[tuple[str, str], list[str]] = field(default_factory=dict)  # (dimension, segment) -> accounts
    left: Mapping[tuple[str, str], list[str]] = field(default_factory=dict)
    outbox: tuple[Outbound, ...] = ()
    files: Mapping[str, str] | None = None  # of the ruleset this batch switched to
    tallies: Mapping[int, Mapping[str, int]] = field(default_factory=dict)  # day -> what -> so many more
    forgotten: Iterable[int] = ()  # days whose tallies go


@dataclass(frozen=True, slots=True)
class Committed:
    next_wake: int  # the earliest in the partition
    repeated: bool = False  # it had been written before; the reply was lost


@dataclass(frozen=True, slots=True)
class Refused:
    """Not written. `fenced`: somebody else owns the partition. `moved`: the store stands elsewhere."""

    reason: str
    at: int = -1


class StoppedError(Exception):
    """The store refused. `reason`: somebody else owns the partition, or the store stands elsewhere."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(f"refused: {refused.reason}")
        self.refused = refused


class Store(Protocol):
    """Whoever gives `at` reads as the owner, and gets StoppedError where the partition does not stand there."""

    async def acquire(self, partition: int) -> Acquired: ...

    async def load(
        self, partition: int, accounts: Iterable[str], at: At | None = None
    ) -> dict[str, AccountState]: ...

    async def due(self, partition: int, until: int, limit: int, at: At | None = None) -> list[Due]:
        """The earliest wakes up to `until`, ordered by (instant, account)."""

    async def holding(self, partition: int, persons: Iterable[str], at: At | None = None) -> list[str]:
        """The accounts that may hold something of these people, by what their packed state looks like."""

    async def accounts_after(self, partition: int, account: str, limit: int, at: At | None = None) -> list[str]:
        """The next account ids after `account`, in order."""

    async def commit(self, commit: Commit) -> Committed | Refused: ...

    async def outbox(self, partition: int, limit: int) -> list[Entry]:
        """The oldest entries not yet trimmed, in order."""

    async def tallies(self, partition: int, day: int) -> dict[str, int]:
        """What was counted on a UTC day, as `dimension/segment/what`."""

    async def owners(self, partitions: Sequence[int]) -> list[tuple[str, int]]:
        """The token under which each partition is held ("": none, Redis was emptied), and its offset."""

    async def accept_gap(self, partition: int, first: int, behind: int) -> None:
        """Lets the fold go on at `behind`, without what the log has no more since `first`."""

    async def accepted(self, partition: int) -> tuple[int, int] | None:
        """The gap that was accepted last."""

    async def safe(self, partition: int) -> None:
        """Returns when what was committed outlives this server, as far as `ISOTHERM_BARRIER` asks for that.

        Raises RedisError when it does not come to be in time.
        """

    async def trim(self, partition: int, id: str, token: str = "", words: int = -1) -> None:
        """Forgets the entries up to and including `id`. Safe to repeat, and after a takeover; of who owns the
        partition by `token` it notes where their `words` end (-1: they do not know)."""


def new_token() -> str:
    return secrets.token_hex(8)


def commit_of(token: str, expected: int, folded: Folded, outbox: Iterable[Outbound]) -> Commit:
    """The write that `folded` asks for: states, and what differs in wakes and memberships."""
    wakes: dict[str, int] = {}
    joined: dict[tuple[str, str], list[str]] = {}
    left: dict[tuple[str, str], list[str]] = {}
    for account, state in folded.states.items():
        before = folded.before[account]
        wake = state.wake if state is not None else NEVER
        if wake != (before.wake if before is not None else NEVER):
            wakes[account] = wake
        if before is None or state is None or state.standings is not before.standings:
            for place in (here := _places(state)) - (was := _places(before)):
                joined.setdefault(place, []).append(account)
            for place in was - here:
                left.setdefault(place, []).append(account)
    partition = folded.partition
    files = folded.switched.files if folded.switched is not None else None
    batch = f"{expected}-{partition.offset}-{token}"
    return Commit(
        token,
        expected,
        batch,
        partition,
        folded.states,
        wakes,
        joined,
        left,
        tuple(outbox),
        files,
        _tallies(folded),
        tally.forgotten(folded.log_time_before, partition.log_time),
    )


def _tallies(folded: Folded) -> dict[int, dict[str, int]]:
    by_day: dict[int, dict[str, int]] = {}
    for each, more in folded.tallies.items():
        if tally.is_kept(each.day, folded.partition.log_time):
            by_day.setdefault(each.day, {})[f"{each.dimension}/{each.segment}/{each.what}"] = more
    return by_day


def _places(state: AccountState | None) -> set[tuple[str, str]]:
    standings = state.standings if state is not None else {}
    return {(name, segment) for name, standing in standings.items() for segment in standing.answer}


def pack_state(state: AccountState) -> bytes:
    """A state as stores keep it: packed, and squeezed to some six tenths, which takes a few microseconds."""
    return bytes(cramjam.lz4.compress_block(states.pack(state)))


def unpack_state(blob: bytes) -> AccountState:
    """Raises ValueError for a state that this code cannot read."""
    return states.unpack(_unsqueezed(blob))


def name_in(blob: bytes) -> str:
    """What the account with this state is called. Raises as `unpack_state` does."""
    return states.name_in(_unsqueezed(blob))


def _unsqueezed(blob: bytes) -> bytes:
    try:
        return bytes(cramjam.lz4.decompress_block(blob))
    except cramjam.DecompressionError as error:
        raise ValueError(f"account state is damaged: {error}") from None


def holds(account: str, blob: bytes, marks: Sequence[bytes]) -> bool:
    """Whether one of the `marks` of people (see `marks_of`) is in an account's id or state."""
    state = bytes(cramjam.lz4.decompress_block(blob))
    if any(mark in state or mark in account.encode() for mark in marks):
        return True
    return is_visitor(account) and digest_of(account.removeprefix("visitor:")).encode() in marks


def marks_of(persons: Iterable[str]) -> list[bytes]:
    """What a person looks like in a packed state: the hash as text, and the tag in measures of people."""
    return [mark for person in persons for mark in (person.encode(), person_tag(person))]


def pack_files(files: Mapping[str, str]) -> bytes:
    return json.dumps(files, ensure_ascii=False, sort_keys=True).encode()


def unpack_files(text: bytes) -> dict[str, str]:
    files: dict[str, str] = json.loads(text)
    return files


pack_partition = msgspec.msgpack.Encoder().encode
unpack_partition = msgspec.msgpack.Decoder(Partition).decode
pack_outbox = msgspec.msgpack.Encoder().encode
unpack_outbox = msgspec.msgpack.Decoder(list[Outbound]).decode
