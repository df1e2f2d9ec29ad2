"""What the pages about segments and about data quality read, kept for some seconds: many look, and one reads."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rules import tally
from streams.api.app import Api
from streams.api.members import Page
from streams.page.keeping import Kept
from streams.page.sizes import Counts, Sizes
from streams.page.views import segments as view

OVERLAPS = 16  # pairs of dimensions kept
SEGMENTS, MEMBERS = 16, 50  # first pages of members kept, and how many accounts are on one
PATIENCE_S, OLD_MS = 0.4, 60_000
PAST_S = 300.0  # for how long it is kept what was tallied before yesterday
ByDay = dict[int, view.Tallied]


@dataclass(slots=True)
class Looks:
    api: Api
    sizes: Sizes
    counts: Kept[Counts] = field(init=False)
    _by_day: Kept[ByDay] = field(init=False)
    _past: Kept[ByDay] = field(init=False)
    _overlaps: OrderedDict[tuple[str, str], Kept[view.Matrix]] = field(default_factory=OrderedDict)
    _members: OrderedDict[tuple[str, str, str], Kept[Page]] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.counts = Kept(self.api.reader.counts, age_s=0.5)
        self._by_day = Kept(self._tallies, age_s=2.0)
        self._past = Kept(self._past_tallies, age_s=PAST_S)

    async def end(self) -> None:
        every: list[Kept[Any]] = [
            self.counts,
            self._by_day,
            self._past,
            *self._overlaps.values(),
            *self._members.values(),
        ]
        for each in every:
            await each.end()

    async def tallied(self, dimension: str) -> view.Tallied:
        """What was tallied of a dimension, over all days that are kept."""
        total = view.added(await self._by_day.must())
        return {place: n for place, n in total.items() if place[0] == dimension}

    async def _tallies(self) -> ByDay:
        await self.api.clock.keep()
        today = tally.day_of(self.api.clock.now())
        lately = await self.api.reader.tallies(range(today - 1, today + 1))
        return await self._past.must() | {day: dict(counts) for day, counts in lately.items()}

    async def _past_tallies(self) -> ByDay:
        """Of the days before yesterday, in which little happens any more: there is a lot of it to read."""
        await self.api.clock.keep()
        today = tally.day_of(self.api.clock.now())
        days = range(today - tally.DAYS_KEPT + 1, today - 1)
        return {day: dict(counts) for day, counts in (await self.api.reader.tallies(days)).items()}

    async def overlap(self, left: str, right: str) -> view.Matrix:
        """Accounts in a segment of each."""

        async def read() -> view.Matrix:
            cells = await self.api.reader.overlaps(left, right)
            held = {pair for pair, n in cells.items() if n}
            rows, columns = ([*dict.fromkeys(pair[i] for pair in cells if pair in held)] for i in (0, 1))
            return view.Matrix(rows, columns, cells)

        kept = self._overlaps.setdefault((left, right), Kept(read, age_s=10.0))
        if len(self._overlaps) > OVERLAPS:
            _, oldest = self._overlaps.popitem(last=False)
            await oldest.end()
        return await kept.must()

    async def members(self, dimension: str, segment: str, sort: str) -> Page | None:
        """The first of a segment's members; None while so many of them are sorted that it takes a moment."""
        asked = (dimension, segment, sort)
        if asked not in self._members:
            read = partial(self.api.members.page, *asked, limit=MEMBERS, cursor="")
            self._members[asked] = Kept(read, age_s=0.0)
            if len(self._members) > SEGMENTS:
                _, oldest = self._members.popitem(last=False)
                await oldest.end()
        kept = self._members[asked]
        found = await kept.get(PATIENCE_S)
        is_old = found is None or self.api.clock.now() - found.as_of > OLD_MS
        return None if kept.is_being_made and is_old else found
