"""What a deployment would do to the system that runs: `isotherm plan`. Redis is read, nothing is written there.

Accounts are read a slice at a time, each slice with the position of its partition in the same transaction, and
asked by `rules.planning`. That is all computing, so shares of the accounts are spread over processes: a partition
is one share, or several where there are fewer partitions than processes. Each gives a survey, and surveys add up.
"""

from __future__ import annotations

import asyncio
import binascii
import csv
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rules import planning
from rules.errors import Problem, RulesetError, did_you_mean
from rules.fold import Partition
from rules.planning import (
    Alert,
    Asked,
    Edit,
    Importance,
    Look,
    Plan,
    Sample,
    Survey,
    Switch,
    lacking,
    side_by_side,
)
from rules.reasons import display_name
from rules.ruleset import Ruleset
from streams.alerting import rulebook
from streams.pipeline import compiled
from streams.reading import Reader, Slice
from streams.settings import Settings
from streams.store.base import unpack_state
from streams.store.redis import connect

ALONE = 4_000  # so few accounts are looked at sooner than a second process has started
PROCESSES = 16  # at most
LOOK_S = 0.2  # between two looks at how far the processes are
COLUMNS = ("account", "name", "dimension", "from", "to", "because", "will_be_because", "stays_until")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute what begins so

Progress = Callable[[int, int], None]


class PlanProblem(Exception):
    """The plan cannot be made as it was asked for. The message says why; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a plan is asked. `sample`: about so many accounts (0: all), chosen by `seed`; `processes` 0: by the
    machine."""

    new: Ruleset
    by: str = ""
    top: int = 10
    alerts: tuple[Alert, ...] = ()
    sample: int = 0
    seed: int = 0
    csv: Path | None = None
    processes: int = 0


@dataclass(frozen=True, slots=True)
class _Order:
    """A request as a process gets it; rules are compiled again there."""

    settings: Settings
    files: dict[str, str]
    by: str
    top: int
    alerts: tuple[Alert, ...]
    sample: Sample
    rows: Path | None  # a directory


@dataclass(frozen=True, slots=True)
class Share:
    """Of the accounts of a partition one part in `of`."""

    number: int
    part: int = 0
    of: int = 1


@dataclass(slots=True)
class Part:
    """What came of a share."""

    number: int
    survey: Survey = field(default_factory=Survey)
    olds: dict[str, dict[str, str]] = field(default_factory=dict)  # rulesets in force, by hash: their files
    position: tuple[int, int] = (0, 0)
    fresh: dict[str, list[str]] = field(default_factory=dict)


async def plan(settings: Settings, request: Request, progress: Progress = lambda done, of: None) -> Plan:
    """What moves if `request.new` comes into force now. `progress` is told accounts read, and of how many.

    Raises PlanProblem for what cannot be ranked by, or a file that cannot be written.
    """
    importance = _importance(request.new, request.by)
    redis = connect(settings)
    try:
        reader = Reader(redis, settings)
        sizes = [await reader.size(number) for number in range(settings.partitions)]
    finally:
        await redis.aclose()
    total = sum(sizes)
    sample = Sample(max(1, total // request.sample) if request.sample else 1, request.seed)
    with ExitStack() as stack:
        rows = Path(stack.enter_context(tempfile.TemporaryDirectory())) if request.csv else None
        order = _Order(settings, dict(request.new.files), request.by, request.top, request.alerts, sample, rows)
        count = _processes(request.processes, total)
        shares = list(_shares(settings.partitions, count))
        tell = lambda done: progress(min(done, total), total)  # noqa: E731
        parts = await (_spread(order, shares, count, tell) if count > 1 else _in_turn(order, shares, tell))
        if request.csv is not None and rows is not None:
            _write(request.csv, sorted(rows.iterdir()))
    return _put_together(request, importance, sample, parts)


def _importance(ruleset: Ruleset, by: str) -> Importance:
    found = Importance.of(ruleset, by)
    if isinstance(found, Problem):
        raise PlanProblem(str(found))
    return found


def _processes(asked: int, accounts: int) -> int:
    if asked:
        return min(asked, PROCESSES)
    return 1 if accounts < ALONE else min(len(os.sched_getaffinity(0)), PROCESSES)


def _shares(partitions: int, processes: int) -> Iterator[Share]:
    of = -(-processes // partitions)
    return (Share(number, part, of) for number in range(partitions) for part in range(of))


def _put_together(request: Request, importance: Importance, sample: Sample, parts: Sequence[Part]) -> Plan:
    survey, files, fresh = Survey(), dict[str, dict[str, str]](), dict[str, list[str]]()
    for part in parts:
        survey.merge(part.survey, request.top)
        files |= part.olds
        fresh |= part.fresh
    olds = [compiled(each) if each else Ruleset() for each in files.values()] or [Ruleset()]
    asked = Asked(importance, request.top, request.alerts)
    positions = {part.number: part.position for part in parts}
    return Plan(olds, Edit.of(olds[0], request.new), survey, asked, sample, positions, fresh)


def places_of(ruleset: Ruleset, named: Iterable[str]) -> Iterator[planning.Place]:
    """The segments named as `engagement/hot`. Raises PlanProblem for one that the rules do not have."""
    known = {
        f"{each.name}/{segment.name}": (each.name, segment.name)
        for each in ruleset.dimensions
        for segment in each.segments
    }
    for name in named:
        if name not in known:
            hint = did_you_mean(name, known)
            raise PlanProblem(f"no segment {name}" + (f" ({hint})" if hint else ""))
        yield known[name]


def alerts_of(settings: Settings, ruleset: Ruleset, named: Sequence[str]) -> tuple[Alert, ...]:
    """Of the segments named; else as the alert rules say. Raises PlanProblem, for mistakes in these too."""
    if named:
        return tuple(Alert("/".join(place), frozenset({place})) for place in places_of(ruleset, named))
    try:
        rules = rulebook.read(settings.alerts).rules
    except RulesetError as error:
        raise PlanProblem(f"the alert rules (ISOTHERM_ALERTS) cannot be read: {error.problems[0]}") from None
    return tuple(Alert(each.name, each.when, each.only_if) for each in rules)


# -- shares, one after the other or side by side ------------------------------------------------------------


async def _in_turn(order: _Order, shares: Iterable[Share], tell: Callable[[int], None]) -> list[Part]:
    done = 0

    def read(accounts: int) -> None:
        nonlocal done
        done += accounts
        tell(done)

    return [await survey_share(order, share, read) for share in shares]


async def _spread(order: _Order, shares: Sequence[Share], count: int, tell: Callable[[int], None]) -> list[Part]:
    context = multiprocessing.get_context("spawn")
    read, stop = context.Value("Q", 0), context.Event()
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(read, stop))
    try:
        tasks: list[Future[Part]] = [pool.submit(_in_process, order, share) for share in shares]
        waiting = {asyncio.wrap_future(task) for task in tasks}
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=LOOK_S, return_when=asyncio.FIRST_EXCEPTION)
            for each in done:
                each.result()  # what it raised is raised here
            tell(read.value // shares[0].of)
        return [task.result() for task in tasks]
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


_beat: dict[str, Any] = {}


def _begin(read: Any, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who is asked to stop is the one who started us
    _beat.update(read=read, stop=stop)


class _Stopped(Exception):
    """The plan is not wanted any more."""


def _in_process(order: _Order, share: Share) -> Part:
    def read(accounts: int) -> None:
        if _beat["stop"].is_set():
            raise _Stopped
        with _beat["read"].get_lock():
            _beat["read"].value += accounts

    return asyncio.run(survey_share(order, share, read))


async def survey_share(order: _Order, share: Share, read: Callable[[int], None]) -> Part:
    """Looks at every account of the share."""
    part, work = Part(share.number), _Looking(order, share)
    redis = connect(order.settings, timeout=60.0)
    try:
        with work:
            async for each in Reader(redis, order.settings).slices(share.number):
                work.take(each, part)
                read(len(each.accounts))
    finally:
        await redis.aclose()
    return part


class _Looking:
    """One share being looked at; with a file of rows, if rows were asked for."""

    def __init__(self, order: _Order, share: Share) -> None:
        self._order, self._share = order, share
        self._new = compiled(order.files)
        self._edits: dict[str, Edit] = {}  # by the hash of the ruleset in force
        self._asked = Asked(_importance(self._new, order.by), order.top, order.alerts)
        self._seen: set[str] = set()
        self._rows: Any = None
        self._file = (order.rows / f"{share.number:06}-{share.part:03}.csv") if order.rows else None
        self._open: Any = None

    def __enter__(self) -> None:
        if self._file is not None:
            self._open = self._file.open("w", newline="", encoding="utf-8")
            self._rows = csv.writer(self._open)

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()

    def take(self, each: Slice, part: Part) -> None:
        switch = Switch.of(each.partition, self._edit(each.ruleset))
        self._note(each.partition, each.ruleset, switch, part)
        for account, blob in each.accounts.items():
            if account in self._seen or not self._is_wanted(account):
                continue
            self._seen.add(account)
            found = planning.look(account, unpack_state(blob), switch)
            part.survey.add(found, switch, self._asked)
            if self._rows is not None and isinstance(found, Look) and found.changes:
                self._rows.writerows(rows_of(found, switch))

    def _is_wanted(self, account: str) -> bool:
        share, sample = self._share, self._order.sample
        if share.of > 1 and binascii.crc32(f"share/{account}".encode()) % share.of != share.part:
            return False
        return sample.parts == 1 or binascii.crc32(f"{sample.seed}/{account}".encode()) % sample.parts == 0

    def _edit(self, old: Ruleset) -> Edit:
        if old.hash not in self._edits:
            self._edits[old.hash] = Edit.of(old, self._new)
        return self._edits[old.hash]

    def _note(self, partition: Partition, old: Ruleset, switch: Switch, part: Part) -> None:
        part.position = partition.offset, partition.log_time
        if old.hash not in part.olds:
            part.olds[old.hash] = dict(old.files)
            part.fresh |= lacking(switch.before, self._new)


# -- a file of rows -----------------------------------------------------------------------------------------


def rows_of(found: Look, switch: Switch) -> Iterator[list[str]]:
    """A row for each move of the account."""
    name = display_name(found.after)
    for move in side_by_side(found, switch):
        told = {"account": found.account, "name": name, **move}
        yield [_cell(told[column]) for column in COLUMNS]


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _write(path: Path, parts: Iterable[Path]) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(COLUMNS)
            for part in parts:
                with part.open(newline="", encoding="utf-8") as rows:
                    for line in rows:
                        file.write(line)
    except OSError as error:
        raise PlanProblem(f"{path} cannot be written: {error.strerror or error}") from None
