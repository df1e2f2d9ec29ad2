"""A partition as it stood at a position, as messages of `account.snapshots`, and back into a store.

A message for each account under its id, then the header under the name of the partition. Each says the position,
so that what an unfinished one left behind is told apart: a snapshot is whole when its header is there, and as many
accounts of its position as the header counts. Compaction may take parts of the last whole one for a newer one that
was never finished; then there is none, until one is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec

from rules.fold import Partition
from rules.state import NEVER
from streams.store.base import Acquired, Commit, Committed, Outbound, Refused, Store, unpack_state
from streams.topics import ACCOUNT_LOG, SNAPSHOTS

VERSION = 1
SLICE = 500  # accounts written to a store at once


class _Account(msgspec.Struct, array_like=True, frozen=True):
    version: int
    position: int
    state: bytes


class _Header(msgspec.Struct, array_like=True, frozen=True):
    version: int
    partition: Partition
    accounts: int
    files: dict[str, str]  # of the ruleset in force
    tallies: dict[int, dict[str, int]]


Told = TypeVar("Told", _Account, _Header)

_pack = msgspec.msgpack.Encoder().encode
_account = msgspec.msgpack.Decoder(_Account).decode
_header = msgspec.msgpack.Decoder(_Header).decode


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`accounts`: states as stores keep them."""

    partition: Partition
    files: Mapping[str, str]
    accounts: Mapping[str, bytes]
    tallies: Mapping[int, Mapping[str, int]] = field(default_factory=dict)


def header_key(number: int) -> str:
    """No account is called so: ids begin with a system, or with what somebody was met under, and a colon."""
    return f"{ACCOUNT_LOG}/{number}"


def messages(snapshot: Snapshot, before: Iterable[str] = ()) -> Iterator[Outbound]:
    """The header last. Accounts of the snapshot `before` that are no more are removed."""
    number, position = snapshot.partition.number, snapshot.partition.offset
    for account in before:
        if account not in snapshot.accounts:
            yield Outbound(SNAPSHOTS, account, None, partition=number)
    for account, state in snapshot.accounts.items():
        yield Outbound(SNAPSHOTS, account, _pack(_Account(VERSION, position, state)), partition=number)
    tallies = {day: dict(counts) for day, counts in snapshot.tallies.items()}
    header = _Header(VERSION, snapshot.partition, len(snapshot.accounts), dict(snapshot.files), tallies)
    yield Outbound(SNAPSHOTS, header_key(number), _pack(header), partition=number)


class Assembling:
    """Hears the messages of a partition in order; `snapshot` is the last one that is whole."""

    def __init__(self, number: int) -> None:
        self._key = header_key(number).encode()
        self._accounts: dict[int, dict[str, bytes]] = {}  # by position
        self._header: _Header | None = None

    def hears(self, key: bytes, value: bytes | None) -> None:
        """Raises ValueError for a snapshot that this code cannot read."""
        if value is None:
            return  # of no matter to the snapshot before, if this one is never finished
        try:
            if key == self._key:
                self._header = _known(_header(value))
                position = self._header.partition.offset
                self._accounts = {position: self._accounts.get(position, {})}
                return
            told = _known(_account(value))
        except msgspec.MsgspecError as error:
            raise ValueError(f"a snapshot of another version, or damaged: {error}") from None
        self._accounts.setdefault(told.position, {})[key.decode()] = told.state

    @property
    def snapshot(self) -> Snapshot | None:
        header = self._header
        if header is None:
            return None
        accounts = self._accounts.get(header.partition.offset, {})
        if len(accounts) != header.accounts:
            return None
        return Snapshot(header.partition, header.files, accounts, header.tallies)


def _known(told: Told) -> Told:
    if told.version != VERSION:
        raise ValueError(f"a snapshot has version {told.version}, this code reads {VERSION}")
    return told


async def seed(
    store: Store, acquired: Acquired, snapshot: Snapshot, wanted: Callable[[str], bool] | None = None
) -> Committed | Refused:
    """Writes the snapshot into a partition of which nothing was folded; the last commit makes it stand there."""
    names = [each for each in snapshot.accounts if wanted is None or wanted(each)]
    for start in range(0, len(names), SLICE):
        states = {name: unpack_state(snapshot.accounts[name]) for name in names[start : start + SLICE]}
        joined: dict[tuple[str, str], list[str]] = {}
        for name, state in states.items():
            for dimension, standing in state.standings.items():
                for segment in standing.answer:
                    joined.setdefault((dimension, segment), []).append(name)
        wakes = {name: state.wake for name, state in states.items() if state.wake < NEVER}
        batch = f"seed-{start}-{acquired.token}"
        done = await store.commit(Commit(acquired.token, 0, batch, acquired.partition, states, wakes, joined))
        if isinstance(done, Refused):
            return done
    last = Commit(acquired.token, 0, f"seeded-{acquired.token}", snapshot.partition)
    return await store.commit(replace(last, files=snapshot.files or None, tallies=snapshot.tallies))
