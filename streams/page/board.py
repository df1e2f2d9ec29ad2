"""What the page Now reads: counts, today's moves, the hottest accounts, the newest changes, the system's health.

Nothing here reads all accounts. Counts and moves are what the folds keep; the hottest are of one segment, sorted
at most as often as that takes a fifth of the time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from rules import tally
from rules.errors import RulesetError
from rules.reasons import explain
from rules.ruleset import Ruleset
from streams.api.app import Api
from streams.api.problems import Refused
from streams.connecting import kafka_options
from streams.delivery.endpoints import read
from streams.delivery.looking import standing
from streams.letters import count_open
from streams.page.keeping import Kept
from streams.page.views import now as view
from streams.settings import Settings
from streams.store.base import unpack_state
from streams.topics import ACCOUNT_LOG, TopicsError

log = structlog.get_logger()
SHOWN, NEWS = 8, 30
LETTERS_MOST = 10_000
UNREADABLE = (KafkaError, TopicsError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Now:
    """All that the page shows, as of an instant."""

    at: int
    ladder: view.Ladder | None
    columns: list[view.Column]
    hottest: list[view.Hot] | None  # None: they are still being sorted
    cooling: list[view.Hot] | None
    news: list[view.News]
    health: list[view.Figure]
    is_reading: bool


@dataclass(slots=True)
class Board:
    api: Api
    settings: Settings
    now: Kept[Now] = field(init=False)
    _hottest: Kept[list[view.Hot]] = field(init=False)
    _cooling: Kept[list[view.Hot]] = field(init=False)
    _lag: Kept[float | None] = field(init=False)
    _letters: Kept[int | None] = field(init=False)
    _delivery: Kept[view.Delivery | None] = field(init=False)
    _consumer: AIOKafkaConsumer | None = None

    def __post_init__(self) -> None:
        self.now = Kept(self._read, age_s=0.1, share=1.0)
        self._hottest = Kept(self._sorted_by_score, age_s=0.2)
        self._cooling = Kept(self._sorted_by_end, age_s=0.2)
        self._lag = Kept(self._read_lag, age_s=1.0)
        self._letters = Kept(self._read_letters, age_s=15.0, share=0.05)
        self._delivery = Kept(self._read_delivery, age_s=5.0)

    async def end(self) -> None:
        for each in (self.now, self._hottest, self._cooling, self._lag, self._letters, self._delivery):
            await each.end()
        if self._consumer is not None:
            await self._consumer.stop()

    async def _read(self) -> Now:
        api = self.api
        await api.clock.keep()
        at = api.clock.now()
        ruleset = await api.reader.ruleset()
        ladder = view.ladder_of(ruleset)
        columns: list[view.Column] = []
        hottest = cooling = None
        if ladder is not None:
            name, today = ladder.dimension.name, tally.day_of(at)
            counts = (await api.reader.counts(name))[name]
            tallied = (await api.reader.tallies([today])).get(today, Counter())
            columns = view.columns(ladder.dimension, counts, view.flows(name, tallied))
            hottest, cooling = await asyncio.gather(self._hottest.get(0.3), self._cooling.get(0.3))
        decode = msgspec.json.decode
        news = [view.news(decode(each.raw)) for each in api.hub.newest(NEWS)]
        return Now(at, ladder, columns, hottest, cooling, news, await self._health(at), api.hub.is_reading)

    # -- the hottest -----------------------------------------------------------------------------------------

    async def _sorted_by_score(self) -> list[view.Hot]:
        ruleset = await self.api.reader.ruleset()
        ladder = view.ladder_of(ruleset)
        if ladder is None:
            return []
        return await self._hot(ruleset, ladder, f"score:{ladder.score}" if ladder.score else "since")

    async def _sorted_by_end(self) -> list[view.Hot]:
        ruleset = await self.api.reader.ruleset()
        ladder = view.ladder_of(ruleset)
        if ladder is None:
            return []
        return [each for each in await self._hot(ruleset, ladder, "stays_until") if each.until is not None]

    async def _hot(self, ruleset: Ruleset, ladder: view.Ladder, sort: str) -> list[view.Hot]:
        dimension = ladder.dimension
        try:
            page = await self.api.members.page(dimension.name, ladder.top, sort, SHOWN, "")
        except Refused:  # so many that nobody sorts them
            return []
        packed = await self.api.reader.packed([each["account"] for each in page.accounts])
        found = []
        for each in page.accounts:
            if (blob := packed.get(each["account"])) is not None:
                state = unpack_state(blob)
                why = explain(dimension, state, (), ladder.top, page.as_of)["text"]
                name = each["name"] or each["account"]
                found.append(view.Hot(each["account"], name, why, each["stays_until"], each.get("value")))
        return found

    # -- health ----------------------------------------------------------------------------------------------

    async def _health(self, at: int) -> list[view.Figure]:
        lag, letters, delivery = await asyncio.gather(
            self._lag.get(0.2), self._letters.get(0.1), self._delivery.get(0.2)
        )
        is_counting = self._letters.is_being_made
        return view.health(lag, await self._overdue(at), letters, LETTERS_MOST, delivery, is_counting)

    async def _overdue(self, at: int) -> float | None:
        """For how many seconds the earliest wake has been due; below 0: it is still to come."""
        wake = await self.api.reader.earliest_wake()
        return None if wake is None else (at - wake) / 1000

    async def _read_lag(self) -> float | None:
        """For how many seconds, at most, the oldest record has waited that is not folded."""
        try:
            async with asyncio.timeout(5.0):
                ends = await self._ends()
        except UNREADABLE as error:
            log.info("lag not read", why=f"{type(error).__name__}: {error}")
            return None
        now, oldest = self.api.clock.now(), 0.0
        for number, end in ends.items():
            partition = await self.api.reader.partition(number)
            if partition.offset < end:
                oldest = max(oldest, (now - partition.log_time) / 1000 if partition.log_time else 0.0)
        return oldest

    async def _ends(self) -> dict[int, int]:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(**kafka_options(self.settings), enable_auto_commit=False)
            await consumer.start()
            self._consumer = consumer
        topic = self.settings.topics(ACCOUNT_LOG)
        places = [TopicPartition(topic, number) for number in range(self.settings.partitions)]
        return {place.partition: end for place, end in (await self._consumer.end_offsets(places)).items()}

    async def _read_letters(self) -> int | None:
        try:
            return await count_open(self.settings, LETTERS_MOST)
        except UNREADABLE as error:
            log.info("dead letters not read", why=f"{type(error).__name__}: {error}")
            return None

    async def _read_delivery(self) -> view.Delivery | None:
        if not self.settings.webhooks:
            return view.Delivery(known=False)
        try:
            kinds = {each.name: each.kind for each in read(self.settings.webhooks)}
            found = await standing(self.settings, kinds)
        except (RulesetError, RedisError, OSError) as error:
            log.info("endpoints not read", why=f"{type(error).__name__}: {error}")
            return None
        failing = tuple(each["endpoint"] for each in found if each["state"] != "well")
        return view.Delivery(True, len(found), sum(each.get("waiting", 0) for each in found), failing)
