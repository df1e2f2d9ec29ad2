"""What `isotherm override` does: it says in the log where an account stands, and waits until that is folded.

What is asked is checked against the rules that are in force where the account is. Like `release`, it is something
that people do by hand: the record goes straight into the account's partition of `account.log`, and says who did.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from rules.changes import iso
from rules.errors import did_you_mean
from rules.explain import explanation
from rules.records import AccountRecord, EndOverride, Override, encode_record, is_visitor
from rules.ruleset import Dimension
from streams.clock import RedisClock
from streams.deploy import who
from streams.keys import PartitionKeys
from streams.producer import Producer, partition_of
from streams.reading import Found, Reader
from streams.settings import Settings
from streams.store.base import Outbound, unpack_partition
from streams.store.redis import connect
from streams.topics import ACCOUNT_LOG

ASK_AGAIN_S = 0.1
WHY_LONGEST, BY_LONGEST = 500, 100
_PERSONAL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+|\+\d[\d ()/.-]{7,}\d")


class OverrideProblem(Exception):
    """Nothing was said in the log. The message says why; `misused`: what was asked for cannot be meant."""

    def __init__(self, message: str, misused: bool = True) -> None:
        super().__init__(message)
        self.misused = misused


@dataclass(frozen=True, slots=True)
class Said:
    """What was said of an account, and where it stands now, if workers have folded it."""

    account: str
    dimension: str
    segment: str
    until: int | None  # None: it was taken back
    now: dict[str, Any] | None

    def plain(self) -> dict[str, Any]:
        told = {"account": self.account, "dimension": self.dimension, "segment": self.segment or None}
        now = self.now or {}
        return told | {
            "until": None if self.until is None else iso(self.until),
            "folded": self.now is not None,
            "stands": now.get("segment"),
            "rules_say": now.get("rules_say", now.get("segment")),
        }


@dataclass(frozen=True, slots=True)
class Wish:
    """Where an account is to stand: in `segment` or, in a set, `out` of it; up to `until`, or for so long."""

    account: str
    dimension: str
    segment: str
    why: str
    until: int = 0
    lasting: int = 0  # ms, if `until` is 0
    by: str = ""
    out: bool = False


async def override(wish: Wish, settings: Settings, wait_s: float) -> Said:
    """Raises OverrideProblem."""
    _check_words(wish.why, wish.by)
    async with _opened(settings) as at:
        found = await at.account(wish.account)
        dimension = dimension_of(found, wish.dimension)
        _check_segment(dimension, wish.segment, wish.out)
        now = at.clock.now()
        until = wish.until or now + wish.lasting
        if until <= now:
            raise OverrideProblem(f"{iso(until)} is over: it is {iso(now)}")
        record = Override(
            account=found.account,
            at=now,
            received=now,
            dimension=wish.dimension,
            segment=wish.segment,
            until=until,
            why=wish.why,
            by=wish.by or who(),
            out=wish.out,
        )
        stands = await at.say(record, wish.dimension, wait_s)
    return Said(found.account, wish.dimension, wish.segment, until, stands)


async def clear(account: str, dimension: str, segment: str, by: str, settings: Settings, wait_s: float) -> Said:
    """Takes back what was said of the account in a dimension, or of one segment. Raises OverrideProblem."""
    _check_words("", by)
    async with _opened(settings) as at:
        found = await at.account(account)
        asked = dimension_of(found, dimension)
        if segment:
            _check_segment(asked, segment, out=False)
        known = found.state.overrides.get(dimension)
        if known is None or (segment and all(each.segment != segment for each in known.forced)):
            place = f"{dimension}/{segment}" if segment else dimension
            raise OverrideProblem(f"nobody said anything of {found.account} in {place}", misused=False)
        now = at.clock.now()
        record = EndOverride(
            account=found.account, at=now, received=now, dimension=dimension, segment=segment, by=by or who()
        )
        stands = await at.say(record, dimension, wait_s)
    return Said(found.account, dimension, segment, None, stands)


def dimension_of(found: Found, name: str) -> Dimension:
    dimension = found.ruleset.dimension(name)
    if dimension is None:
        raise OverrideProblem(f"no dimension {name!r} ({did_you_mean(name, found.ruleset.index)})")
    return dimension


def _check_segment(dimension: Dimension, segment: str, out: bool) -> None:
    if dimension.segment(segment) is None:
        known = did_you_mean(segment, [each.name for each in dimension.segments])
        raise OverrideProblem(f"no segment {segment!r} in {dimension.name} ({known})")
    if out and dimension.kind == "ladder":
        raise OverrideProblem(f"{dimension.name} is a ladder: say where the account is, not where it is not")


def _check_words(why: str, by: str) -> None:
    """They stand in the log for good, and in what journeys are told."""
    for what, text, longest in (("--why", why, WHY_LONGEST), ("--by", by, BY_LONGEST)):
        if len(text) > longest:
            raise OverrideProblem(f"{what} has {len(text)} characters, and at most {longest} are kept")
        if _PERSONAL.search(text):
            raise OverrideProblem(f"{what} holds an e-mail address or a phone number: none may enter the log")


@dataclass(frozen=True, slots=True)
class _At:
    settings: Settings
    redis: Any
    clock: RedisClock
    producer: Producer

    async def account(self, account: str) -> Found:
        found = await Reader(self.redis, self.settings).account(account)
        if found is None:
            raise OverrideProblem(f"account {account} is not known", misused=False)
        if is_visitor(found.account):
            raise OverrideProblem(f"{account} is a visitor, of no account yet: no segment has them", misused=False)
        return found

    async def say(self, record: AccountRecord, dimension: str, wait_s: float) -> dict[str, Any] | None:
        """Appends the record; where the account stands once it is folded, None when that did not come in time."""
        number = partition_of(record.account, self.settings.partitions)
        await self.producer.start()
        (answer,) = await self.producer.send(
            [Outbound(ACCOUNT_LOG, record.account, encode_record(record))], record.received, number
        )
        deadline = asyncio.get_running_loop().time() + wait_s
        while not await self._folded(number, int(answer.offset)):
            if asyncio.get_running_loop().time() > deadline:
                return None
            await asyncio.sleep(ASK_AGAIN_S)
        found = await self.account(record.account)
        if found.state.quarantined >= 0:
            raise OverrideProblem(
                f"{found.account} is in quarantine: what was said waits with its other records, and counts once "
                f"somebody runs isotherm release {found.account}",
                misused=False,
            )
        told = explanation(found.account, found.state, found.ruleset, found.log_time)
        stands: dict[str, Any] = told["dimensions"].get(dimension, {})
        return stands

    async def _folded(self, number: int, offset: int) -> bool:
        meta = PartitionKeys.of(number, self.settings.partitions, self.settings.namespace).meta
        blob = await self.redis.hget(meta, "partition")
        return blob is not None and unpack_partition(blob).offset > offset


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[_At]:
    redis, producer = connect(settings), Producer(settings)
    try:
        clock = RedisClock(redis)
        await clock.sync()
        yield _At(settings, redis, clock, producer)
    finally:
        await producer.stop()
        await redis.aclose()
