"""Snapshots of partitions, from which a rebuild or a verification begins: `isotherm snapshot`.

A snapshot stands for the log's beginning, so it is made from the log alone, or from the snapshot before and what
came since: in memory, where it stands still. Redis moves while it is read; and what is wrong in it would be wrong
in the snapshot too, and never be found.

A file of snapshots (gzip) says in its first line into how many partitions the log was cut; then come the messages
as the topic has them, partition by partition, a line of JSON each.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

import msgspec

from streams.clock import RedisClock
from streams.producer import Producer
from streams.refolding import LogProblem, Recollection, begin, opened, refold
from streams.settings import Settings
from streams.store.redis import RedisStore, connect
from streams.store.snapshots import Assembling, Snapshot, messages
from streams.topics import check

AT_ONCE = 1_000  # messages
Made = dict[int, tuple[int, int]]  # partition -> its position, and how many accounts


class FileProblem(Exception):
    """The file cannot be written, or is not what it should be. The message says why; nothing was sent."""


class _Head(msgspec.Struct):
    """The first line of a file of snapshots."""

    partitions: int  # into which the log was cut


class _Line(msgspec.Struct):
    """A message of the topic."""

    partition: int
    key: str
    value: bytes


async def take(
    settings: Settings,
    numbers: Iterable[int],
    whole: bool = False,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Made:
    """Makes a snapshot of each partition as far as workers have folded it.

    From the newest one on, or from the `whole` log. Raises LogProblem when the log does not reach back there.
    """
    await check(settings)
    redis, producer = connect(settings), Producer(settings)
    try:
        clock, live = RedisClock(redis), RedisStore(redis, settings.partitions, settings.namespace)
        await clock.sync()
        await producer.start()
        asked = list(numbers)
        positions = {each: at for each, (_, at) in zip(asked, await live.owners(asked), strict=True) if at}
        done, total, made = 0, sum(positions.values()), Made()

        def folded(records: int) -> None:
            nonlocal done
            done += records
            progress(done, total)

        async with opened(settings) as log:
            for number, upto in positions.items():
                before = await log.snapshot(number)
                store = Recollection()
                owned = await begin(log, number, store, upto, whole)
                folded(owned.partition.offset)
                owned = await refold(log, owned, store, upto, folded)
                snapshot = Snapshot(
                    owned.partition, owned.rules.ruleset.files, store.packed(number), store.counted(number)
                )
                await _send(snapshot, before, producer, clock.now())
                made[number] = owned.partition.offset, len(snapshot.accounts)
        return made
    finally:
        await producer.stop()
        await redis.aclose()


async def _send(snapshot: Snapshot, before: Snapshot | None, producer: Producer, now: int) -> None:
    told = list(messages(snapshot, before.accounts if before is not None else ()))
    for start in range(0, len(told), AT_ONCE):  # in order: the header comes last
        await producer.send(told[start : start + AT_ONCE], now, snapshot.partition.number)


# -- in a file ----------------------------------------------------------------------------------------------


async def export(settings: Settings, numbers: Iterable[int], path: Path) -> Made:
    """Writes the newest snapshot of each partition into a file.

    Raises LogProblem where there is none, FileProblem when the file cannot be written.
    """
    made, unfinished = Made(), path.with_name(f"{path.name}.unfinished")
    try:
        async with opened(settings) as log:
            with gzip.open(unfinished, "wb") as file:
                file.write(msgspec.json.encode(_Head(settings.partitions)) + b"\n")
                for number in numbers:
                    snapshot = await log.snapshot(number)
                    if snapshot is None:
                        raise LogProblem(
                            f"there is no snapshot of partition {number}: `isotherm snapshot` makes one"
                        )
                    for each in messages(snapshot):
                        file.write(msgspec.json.encode(_Line(number, each.key, each.value or b"")) + b"\n")
                    made[number] = snapshot.partition.offset, len(snapshot.accounts)
            unfinished.replace(path)
    except OSError as error:
        raise FileProblem(f"{path} cannot be written: {error}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return made


def read(path: Path, partitions: int) -> Iterator[Snapshot]:
    """The snapshots in a file. Raises FileProblem for one of another log, or that is damaged or not whole."""
    try:
        with gzip.open(path, "rb") as file:
            head = msgspec.json.decode(file.readline(), type=_Head)
            if head.partitions != partitions:
                raise FileProblem(
                    f"{path} is of a log with {head.partitions} partitions, this one has {partitions}"
                )
            lines = (msgspec.json.decode(line, type=_Line) for line in file)
            for number, each in groupby(lines, lambda line: line.partition):
                found = Assembling(number)
                for line in each:
                    found.hears(line.key.encode(), line.value)
                if found.snapshot is None or found.snapshot.partition.number != number:
                    raise FileProblem(f"{path}: the snapshot of partition {number} is not whole")
                yield found.snapshot
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise FileProblem(f"{path} cannot be read: {error}") from None


async def bring_in(settings: Settings, path: Path) -> Made:
    """Sends the snapshots in a file to the topic, but for those that are older than what it has.

    Raises FileProblem, before anything was sent.
    """
    await check(settings)
    for _ in read(path, settings.partitions):
        pass  # all of it can be read
    redis, producer, made = connect(settings), Producer(settings), Made()
    try:
        clock = RedisClock(redis)
        await clock.sync()
        await producer.start()
        async with opened(settings) as log:
            for snapshot in read(path, settings.partitions):
                number, position = snapshot.partition.number, snapshot.partition.offset
                before = await log.snapshot(number)
                if before is None or before.partition.offset < position:
                    await _send(snapshot, before, producer, clock.now())
                    made[number] = position, len(snapshot.accounts)
        return made
    finally:
        await producer.stop()
        await redis.aclose()
