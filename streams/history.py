"""Where accounts stood at an instant of the past: `isotherm explain --at`, `isotherm members --at`.

A partition is folded in memory up to the last record that had been received by then, and from there time passes to
the instant itself. What rules say takes effect at their record, whenever an account is reached; so an account that
no sweep had come to yet is told as it was decided later.

For one account only its own records are folded, which is exact (see `refolding`). It begins at the newest snapshot
that is not younger than the instant, else at the log's beginning; where the log has been shortened, it says since
when it can answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from rules.changes import iso
from rules.engine import let_time_pass
from rules.errors import did_you_mean
from rules.explain import explanation
from rules.reasons import display_name
from rules.records import is_visitor
from rules.ruleset import Ruleset
from rules.state import UNCLASSIFIED, AccountState, standing_in
from streams.clock import RedisClock
from streams.identity import STEPS, account_of
from streams.pipeline import Owned
from streams.producer import partition_of
from streams.reading import Reader
from streams.refolding import Log, LogProblem, Recollection, Wanted, begin, opened, refold
from streams.settings import Settings
from streams.store.base import unpack_state
from streams.store.redis import connect
from streams.store.sources import SourceStore

AT_ONCE = 500  # accounts read from Redis at once
Progress = Callable[[int, int], None]


class HistoryProblem(Exception):
    """What was asked has no answer. The message says why, and for which time there is one."""


@dataclass(frozen=True, slots=True)
class Member:
    """An account in a segment; `since` when its answer in that dimension is what it is."""

    account: str
    name: str
    since: str

    def plain(self) -> dict[str, str]:
        return {"account": self.account, "name": self.name, "since": self.since}


@dataclass(frozen=True, slots=True)
class Members:
    """Who is in a segment at an instant, in order of their ids."""

    dimension: str
    segment: str
    at: int
    members: list[Member]

    def plain(self) -> dict[str, Any]:
        return {
            "segment": f"{self.dimension}/{self.segment}",
            "at": iso(self.at),
            "count": len(self.members),
            "members": [each.plain() for each in self.members],
        }


class _Stamp(msgspec.Struct, gc=False):
    received: int = 0


_stamp = msgspec.json.Decoder(_Stamp).decode


async def explain_at(
    account: str, at: int, settings: Settings, progress: Progress = lambda done, of: None
) -> dict[str, Any] | None:
    """Where the account with this id, or this web domain, stood at `at`, and why; None if it was not known then.

    Of one that had been merged by then, the other. Raises LogProblem when the log does not reach back so far,
    HistoryProblem for an instant that is still to come.
    """
    async with _opened(settings, at, progress) as past:
        name: str | None = account
        found = await past.account(account)
        if found is None:
            name = await past.linked(account)
            found = await past.account(name) if name else None
        for _ in range(STEPS):
            if found is None or name is None or not found[0].merged_into:
                break
            name = found[0].merged_into
            found = await past.account(name)
    if found is None or name is None:
        return None
    state, ruleset = found
    return explanation(name, state, ruleset, at)


async def members_at(
    dimension: str, segment: str, at: int, settings: Settings, progress: Progress = lambda done, of: None
) -> Members:
    """Who was in a segment at `at`. Raises as `explain_at`, and HistoryProblem for a segment there was not."""
    found: list[Member] = []
    problem = ""
    async with _opened(settings, at, progress) as past:
        for number in range(settings.partitions):
            ruleset, states = await past.partition(number)
            problem = problem or _unknown(ruleset, dimension, segment)
            found += _in(states, dimension, segment)
    if problem and not found:
        raise HistoryProblem(f"at {iso(at)}: {problem}")
    return Members(dimension, segment, at, sorted(found, key=lambda each: each.account))


async def members_now(dimension: str, segment: str, settings: Settings) -> Members:
    """Who is in a segment now, as far as workers have folded. Raises HistoryProblem for one there is not."""
    redis = connect(settings)
    try:
        reader = Reader(redis, settings)
        if problem := _unknown(await reader.ruleset(), dimension, segment):
            raise HistoryProblem(problem)
        clock = RedisClock(redis)
        await clock.sync()
        found: list[Member] = []
        names = await reader.members(dimension, segment)
        for start in range(0, len(names), AT_ONCE):
            states = await reader.packed(names[start : start + AT_ONCE])
            found += _in(((name, unpack_state(blob)) for name, blob in states.items()), dimension, segment)
    finally:
        await redis.aclose()
    return Members(dimension, segment, clock.now(), found)


def _in(states: Any, dimension: str, segment: str) -> Iterator[Member]:
    for account, state in states:
        standing = standing_in(state, dimension)
        if segment in standing.answer:
            yield Member(account, display_name(state), iso(standing.since))


def _unknown(ruleset: Ruleset, dimension: str, segment: str) -> str:
    """What is wrong with the name of a segment; empty: nothing."""
    asked = ruleset.dimension(dimension)
    if asked is None:
        hint = did_you_mean(dimension, [each.name for each in ruleset.dimensions])
        return f"there is no dimension {dimension}" + (f" ({hint})" if hint else "")
    names = [*(each.name for each in asked.segments), UNCLASSIFIED]
    if segment not in names:
        return f"{dimension} has no segment {segment} ({did_you_mean(segment, names)})"
    return ""


# -- the past -----------------------------------------------------------------------------------------------


class _opened:
    """The past as of an instant, for as long as the log is open."""

    def __init__(self, settings: Settings, at: int, progress: Progress) -> None:
        self._settings, self._at, self._progress = settings, at, progress
        self._redis = connect(settings, timeout=60.0)
        self._log = opened(settings)

    async def __aenter__(self) -> Past:
        try:
            clock = RedisClock(self._redis)
            await clock.sync()
            if self._at > clock.now():
                raise HistoryProblem(
                    f"{iso(self._at)} is still to come; `isotherm explain` says until when an account stays"
                )
            reader = Reader(self._redis, self._settings)
            ends = [(await reader.partition(number)).offset for number in range(self._settings.partitions)]
            return Past(self._settings, self._redis, await self._log.__aenter__(), ends, self._at, self._progress)
        except BaseException:
            await self._redis.aclose()
            raise

    async def __aexit__(self, *error: Any) -> None:
        try:
            await self._log.__aexit__(*error)
        finally:
            await self._redis.aclose()


class Past:
    """Accounts as they stood at an instant. `ends`: how far each partition of the log is asked, exclusive."""

    def __init__(
        self,
        settings: Settings,
        redis: Any,
        log: Log,
        ends: Sequence[int],
        at: int,
        progress: Progress = lambda done, of: None,
    ) -> None:
        self._settings, self._redis, self._log, self._ends = settings, redis, log, ends
        self._at, self._progress = at, progress
        self._done = self._total = 0

    async def account(self, account: str) -> tuple[AccountState, Ruleset] | None:
        """One account by its id."""
        number = partition_of(account, self._settings.partitions)
        owned, store = await self._folded(number, account.__eq__)
        state = (await store.load(number, [account])).get(account)
        state = None if state is None else self._now(account, state, owned)
        return None if state is None else (state, owned.rules.ruleset)

    async def partition(self, number: int) -> tuple[Ruleset, Iterator[tuple[str, AccountState]]]:
        """Every account of a partition; no visitors, and none that had been merged."""
        owned, store = await self._folded(number, None)

        def states() -> Iterator[tuple[str, AccountState]]:
            for account, blob in store.packed(number).items():
                if is_visitor(account):
                    continue
                state = self._now(account, unpack_state(blob), owned)
                if state is not None and not state.merged_into:
                    yield account, state

        return owned.rules.ruleset, states()

    async def linked(self, domain: str) -> str | None:
        """The account that a web domain is linked to: as of now, links are kept without their past."""
        key = f"domain:{domain}"
        found = await SourceStore(self._redis, self._settings.namespace).links([key])
        return account_of(found.get(key, "")) or None

    def _now(self, account: str, state: AccountState, owned: Owned) -> AccountState | None:
        if state.quarantined >= 0:
            return state
        return let_time_pass(account, state, self._at, self._at, owned.rules).state

    async def _folded(self, number: int, wanted: Wanted | None) -> tuple[Owned, Recollection]:
        store = Recollection()
        start, upto = await self._range(number)
        owned = await begin(self._log, number, store, upto, whole=not start, wanted=wanted)
        self._total += upto - owned.partition.offset
        return await refold(self._log, owned, store, upto, self._tell, wanted), store

    def _tell(self, records: int) -> None:
        self._done += records
        self._progress(self._done, self._total)

    async def _range(self, number: int) -> tuple[int, int]:
        """From where the log is folded (0: its beginning) and up to which offset, exclusive."""
        end = self._ends[number]
        first = await self._log.first(number)
        snapshot = await self._log.snapshot(number)
        start = 0
        if snapshot is not None and first <= snapshot.partition.offset <= end:
            if snapshot.partition.log_time <= self._at:
                start = snapshot.partition.offset
            elif first:
                raise LogProblem(
                    f"{self._log.topic}/{number} has been shortened: it can answer for instants from "
                    f"{iso(snapshot.partition.log_time)} on, and not for {iso(self._at)}"
                )
        elif first:
            raise LogProblem(
                f"{self._log.topic}/{number} begins at offset {first:,} and no snapshot reaches there: it cannot "
                "answer for the past"
            )
        return start, await self._upto(number, start, end)

    async def _upto(self, number: int, start: int, end: int) -> int:
        """Where the first record stands that was received after the instant."""
        if start >= end:
            return end
        async for messages in self._log.read(number, start, end):
            for message in messages:
                if _received(message.value) > self._at:
                    return int(message.offset)
        return end


def _received(value: bytes | None) -> int:
    """When it was appended; 0 of what is no record."""
    try:
        return _stamp(value or b"").received
    except msgspec.MsgspecError:
        return 0
