"""What was deployed: who, when, what for, what changed, and how far the partitions are with it.

The log is asked, not a list beside it: each partition knows at which offsets its newest ruleset records stand
(`Partition.deployed`), and the records say the rest. What the log has no more cannot be told, nor deployed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rules.changes import iso
from rules.differing import differences
from rules.fold import Partition
from rules.records import RulesetRecord, decode_record
from streams.deploy import named
from streams.keys import PartitionKeys
from streams.refolding import Log, opened
from streams.settings import Settings
from streams.store.base import unpack_partition
from streams.store.redis import connect


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a partition is with the ruleset that is in force there."""

    partition: int
    deployment: str  # that put it in force; empty: none so far
    since: int  # its log_time then
    accounts: int
    swept: int  # accounts that the sweep has come to
    is_swept: bool
    is_filling: bool = False  # what it asked to be filled is not

    def plain(self) -> dict[str, Any]:
        return {
            "partition": self.partition,
            "deployment": self.deployment or None,
            "since": iso(self.since) if self.deployment else None,
            "accounts": self.accounts,
            "swept": self.swept,
            "done": self.is_swept,
            "filling": self.is_filling,
        }


@dataclass(frozen=True, slots=True)
class Deployment:
    """One that was made. `changes` are those against the one before it; None where that is not in the log."""

    id: str
    at: int
    by: str
    message: str
    quiet: bool
    ruleset: str
    files: Mapping[str, str]
    changes: list[str] | None = None
    progress: list[Progress] = field(default_factory=list)  # of the partitions in which it is in force

    def plain(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "at": iso(self.at),
            "by": self.by,
            "message": self.message,
            "quiet": self.quiet,
            "ruleset": self.ruleset,
            "changes": self.changes,
            "in_force": [each.plain() for each in self.progress],
        }


@dataclass(frozen=True, slots=True)
class History:
    """The newest deployments that workers have reached, the newest first. `lost`: so many are not in the log."""

    deployments: list[Deployment]
    partitions: int
    lost: int = 0

    @property
    def in_force(self) -> Deployment | None:
        """The newest that is in force anywhere."""
        return next((each for each in self.deployments if each.progress), None)

    def find(self, id: str) -> list[Deployment]:
        """The one of that name, else all whose names begin so."""
        return [each for each in self.deployments if each.id == id] or [
            each for each in self.deployments if id and each.id.startswith(id)
        ]

    def before(self, deployment: Deployment) -> Deployment | None:
        place = self.deployments.index(deployment) + 1
        return self.deployments[place] if place < len(self.deployments) else None

    def plain(self) -> dict[str, Any]:
        told = {"partitions": self.partitions, "not_in_the_log": self.lost}
        return told | {"deployments": [each.plain() for each in self.deployments]}


async def history(settings: Settings) -> History:
    """Raises what an absent Redis or broker raises."""
    partitions, accounts = await _partitions(settings)
    if all(each.ruleset_offset < 0 for each in partitions):
        return History([], settings.partitions)
    found: dict[str, RulesetRecord] = {}
    lost, in_force = 0, dict[int, str]()
    async with opened(settings) as log:
        for each in partitions:
            in_force[each.number] = each.deployment
            if each.deployment in found:
                continue
            # The first partition tells of all, another one only what that has not come to.
            offsets = each.deployed or ((each.ruleset_offset,) if each.ruleset_offset >= 0 else ())
            records = await _records(log, each.number, offsets[-1:] if each.number else offsets)
            known = [record for record in records if record is not None]
            lost = max(lost, len(records) - len(known))
            found |= {_id(record): record for record in known}
            if known and known[-1] is records[-1]:
                in_force[each.number] = _id(known[-1])
    progress = [_progress(each, in_force[each.number], accounts[each.number]) for each in partitions]
    return History(_told(found.values(), progress), settings.partitions, lost)


async def _partitions(settings: Settings) -> tuple[list[Partition], dict[int, int]]:
    """Each partition as Redis has it, and how many accounts it holds."""
    redis: Any = connect(settings)
    try:
        async with redis.pipeline(transaction=False) as pipe:
            for number in range(settings.partitions):
                its = PartitionKeys.of(number, settings.partitions, settings.namespace)
                pipe.hget(its.meta, "partition")
                pipe.hlen(its.accounts)
            answers = await pipe.execute()
    finally:
        await redis.aclose()
    blobs = enumerate(answers[::2])
    return (
        [unpack_partition(blob) if blob else Partition(number) for number, blob in blobs],
        dict(enumerate(answers[1::2])),
    )


async def unreached(settings: Settings) -> list[str]:
    """The deployments that stand in the log where no worker has come to, in no order. Raises as `history` does."""
    partitions, _ = await _partitions(settings)
    found = dict[str, None]()
    async with opened(settings) as log:
        ends = {each.number: await log.end(each.number) for each in partitions}
        for each in partitions:
            async for messages in log.read(each.number, each.offset, ends[each.number]):
                for message in messages:
                    if (record := _ruleset_in(message.value)) is not None:
                        found[_id(record)] = None
    return list(found)


async def _records(log: Log, number: int, offsets: Iterable[int]) -> list[RulesetRecord | None]:
    """The ruleset records at these offsets, None for one that the log has no more."""
    wanted, found = list(offsets), list[RulesetRecord | None]()
    first = await log.first(number) if wanted else 0
    for offset in wanted:
        found.append(await _record(log, number, offset) if offset >= first else None)
    return found


async def _record(log: Log, number: int, offset: int) -> RulesetRecord | None:
    async for messages in log.read(number, offset, offset + 1):
        for message in messages:
            return _ruleset_in(message.value)
    return None


def _ruleset_in(value: bytes | None) -> RulesetRecord | None:
    try:
        record = decode_record(value or b"")
    except (msgspec.MsgspecError, RecursionError):
        return None
    return record if isinstance(record, RulesetRecord) else None


def _id(record: RulesetRecord) -> str:
    """Of a record by an earlier build, which has none: when it was."""
    return record.deployment or named(record.received)


def _progress(partition: Partition, id: str, accounts: int) -> Progress:
    is_swept = partition.sweep is None
    swept = accounts if is_swept else min(partition.swept, accounts)
    is_filling = any(each.deployment == partition.deployment for each in partition.fillings)
    return Progress(partition.number, id, partition.ruleset_at, accounts, swept, is_swept, is_filling)


def _told(records: Iterable[RulesetRecord], progress: list[Progress]) -> list[Deployment]:
    told: list[Deployment] = []
    before: RulesetRecord | None = None
    for each in sorted(records, key=lambda record: (record.received, _id(record))):
        changes = None if before is None else differences(before.files, each.files)
        in_force = [one for one in progress if one.deployment == _id(each)]
        told.append(
            Deployment(
                _id(each),
                each.received,
                each.author,
                each.message,
                each.quiet,
                each.hash,
                each.files,
                changes,
                in_force,
            )
        )
        before = each
    return told[::-1]
