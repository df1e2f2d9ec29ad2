"""Who is in a segment, a page at a time, in an order that stays while one turns the pages.

The order is made as of an instant, which the cursor carries on: a score is what it was then, however long one
reads. What moves meanwhile is not seen, or has gone from the page that it would be on.
"""

from __future__ import annotations

import asyncio
import binascii
import time
from base64 import b64decode, urlsafe_b64encode
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias, TypeVar

import msgspec

from rules.changes import instant_or_none, since
from rules.errors import did_you_mean
from rules.reasons import display_name
from rules.ruleset import Dimension, Ruleset
from rules.scores import scores_of
from rules.state import NEVER, UNCLASSIFIED, AccountState, standing_in
from streams.api.problems import Refused
from streams.producer import partition_of
from streams.reading import Reader
from streams.settings import Settings
from streams.store.redis import RedisStore

SORTED_AT_MOST = 200_000  # accounts of one segment
SEARCHED_AT_MOST = 20_000  # accounts of one segment whose names are read
AT_ONCE = 2_000  # accounts asked for together
KEPT, KEPT_S = 8, 120.0  # orders, and for how long
CURSOR_LONGEST = 2_000
BY_SCORE = "score:"

Place: TypeAlias = tuple[float, str]  # in an order: the lower the key the earlier, then by account
T = TypeVar("T")
Load: TypeAlias = Callable[[int, Sequence[str]], Awaitable[Mapping[str, T]]]  # of a partition, by account
Key: TypeAlias = Callable[[AccountState, int], float]


class Cursor(msgspec.Struct, array_like=True, frozen=True):
    """Behind what the page before ended with."""

    sort: str
    as_of: int
    key: float
    account: str

    def word(self) -> str:
        return urlsafe_b64encode(_pack(self)).rstrip(b"=").decode()

    @classmethod
    def of(cls, word: str) -> Cursor:
        try:
            return _unpack(b64decode(word.encode("ascii") + b"=" * (-len(word) % 4), b"-_", validate=True))
        except (UnicodeEncodeError, binascii.Error, msgspec.MsgspecError):
            raise Refused(400, "unknown_cursor", "this cursor was not given by this API") from None


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Cursor).decode


@dataclass(frozen=True, slots=True)
class Page:
    as_of: int
    accounts: list[dict[str, Any]]
    next: str | None


@dataclass(frozen=True, slots=True)
class Sort:
    """An order. `key` None: by account alone, and nothing of it need be read. `value` is what is shown."""

    key: Key | None
    value: Key | None = None


def sort_of(word: str, dimension: Dimension, ruleset: Ruleset) -> Sort:
    """Raises Refused for an order that there is not."""
    name = dimension.name
    scores = scores_of(ruleset) if word.startswith(BY_SCORE) else {}
    if (score := scores.get(word.removeprefix(BY_SCORE))) is not None:
        value = score.value
        return Sort(lambda state, now: -value(state, now), value)
    match word:
        case "account":
            return Sort(None)
        case "since":
            return Sort(lambda state, now: -standing_in(state, name).since)
        case "stays_until":
            return Sort(lambda state, now: min(NEVER, ruleset.stays_until(dimension, state)))
    known = ["account", "since", "stays_until", *(BY_SCORE + each for each in scores_of(ruleset))]
    raise Refused(422, "unknown_sort", f"there is no order {word[:100]!r}", did_you_mean(word, known))


@dataclass(slots=True)
class Members:
    reader: Reader
    store: RedisStore
    settings: Settings
    now: Callable[[], int]
    _orders: OrderedDict[tuple[str, ...], tuple[float, list[Place]]] = field(default_factory=OrderedDict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # one order is made at a time, but for that by id

    async def page(self, dimension: str, segment: str, sort: str, limit: int, cursor: str) -> Page:
        """Raises Refused."""
        ruleset = await self.reader.ruleset()
        asked = _dimension(ruleset, dimension, segment)
        after = Cursor.of(cursor) if cursor else None
        if after is not None and after.sort != sort:
            raise Refused(400, "unknown_cursor", f"this cursor is of the order {after.sort[:100]!r}")
        as_of = after.as_of if after else self.now()
        order = sort_of(sort, asked, ruleset)
        places = await self._order((dimension, segment, sort, str(as_of), ruleset.hash), order, as_of)
        start = bisect_right(places, (after.key, after.account)) if after else 0
        chosen = places[start : start + limit]
        told = [
            _told(account, state, asked, ruleset, order, as_of)
            async for account, state in self._of_each([account for _, account in chosen], self.store.load)
        ]
        is_last = start + limit >= len(places)
        return Page(as_of, told, None if is_last else Cursor(sort, as_of, *chosen[-1]).word())

    async def search(
        self, dimension: str, segment: str, text: str, limit: int
    ) -> tuple[list[dict[str, Any]], bool]:
        """The accounts whose id or name holds `text`, and whether these are all: only so many are looked at.

        Raises Refused.
        """
        ruleset, as_of = await self.reader.ruleset(), self.now()
        asked, sought, by_id = _dimension(ruleset, dimension, segment), text.casefold(), Sort(None)
        members, found = await self.reader.members(dimension, segment), list[str]()
        async for account, name in self._of_each(members[:SEARCHED_AT_MOST], self.store.names):
            if sought in account.casefold() or sought in name.casefold():
                found.append(account)
                if len(found) > limit:
                    break
        told = [
            _told(account, state, asked, ruleset, by_id, as_of)
            async for account, state in self._of_each(found[:limit], self.store.load)
        ]
        return told, len(found) <= limit and len(members) <= SEARCHED_AT_MOST

    async def _order(self, asked: tuple[str, ...], sort: Sort, as_of: int) -> list[Place]:
        async with self._turn if sort.key is not None else nullcontext():
            made, places = self._orders.get(asked, (0.0, []))
            if not made or time.monotonic() - made > KEPT_S:
                places = await self._made(asked[0], asked[1], sort, as_of)
                self._orders[asked] = time.monotonic(), places
                if len(self._orders) > KEPT:
                    self._orders.popitem(last=False)
            return places

    async def _made(self, dimension: str, segment: str, sort: Sort, as_of: int) -> list[Place]:
        members = await self.reader.members(dimension, segment)
        if len(members) > SORTED_AT_MOST:
            detail = (
                f"{dimension}/{segment} holds {len(members):,} accounts, and at most {SORTED_AT_MOST:,} are listed"
            )
            raise Refused(422, "too_many_accounts", detail, "subscribe to segment.memberships for all of them")
        if sort.key is None:
            return [(0.0, account) for account in members]
        key = sort.key
        return sorted(
            [(key(state, as_of), account) async for account, state in self._of_each(members, self.store.load)]
        )

    async def _of_each(self, accounts: Sequence[str], load: Load[T]) -> AsyncIterator[tuple[str, T]]:
        """In the order of `accounts`, without those that are gone; others have a turn in between."""
        left = iter(accounts)
        while some := list(islice(left, AT_ONCE)):
            by_partition: dict[int, list[str]] = {}
            for account in some:
                by_partition.setdefault(partition_of(account, self.settings.partitions), []).append(account)
            loaded = await asyncio.gather(*(load(number, each) for number, each in by_partition.items()))
            found = {account: what for each in loaded for account, what in each.items()}
            for account in some:
                if account in found:
                    yield account, found[account]
            await asyncio.sleep(0)


def dimension_of(ruleset: Ruleset, dimension: str) -> Dimension:
    """Raises Refused for one that there is not."""
    found = ruleset.dimension(dimension)
    if found is None:
        hint = did_you_mean(dimension, [each.name for each in ruleset.dimensions])
        raise Refused(404, "unknown_dimension", f"there is no dimension {dimension[:100]!r}", hint)
    return found


def _dimension(ruleset: Ruleset, dimension: str, segment: str) -> Dimension:
    found = dimension_of(ruleset, dimension)
    if found.segment(segment) is None and segment != UNCLASSIFIED:
        hint = did_you_mean(segment, [each.name for each in found.segments])
        raise Refused(404, "unknown_segment", f"{dimension} has no segment {segment[:100]!r}", hint)
    return found


def _told(
    account: str, state: AccountState, dimension: Dimension, ruleset: Ruleset, sort: Sort, as_of: int
) -> dict[str, Any]:
    told = {
        "account": account,
        "name": display_name(state),
        "since": since(standing_in(state, dimension.name)),
        "stays_until": instant_or_none(ruleset.stays_until(dimension, state)),
    }
    return told if sort.value is None else told | {"value": sort.value(state, as_of)}
