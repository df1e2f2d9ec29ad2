"""What the page Operations reads, and the one thing that it does: a dead letter is sent in again.

    standing (what `isotherm status` reads) ──┐
    dead.letters (the newest MOST open ones) ─┴► kept for some seconds ─► views/operations.py ─► templates

What cannot be read is a value, `Unread`: whoever is called at night is shown the rest of it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from aiokafka.errors import KafkaError
from redis.exceptions import NoPermissionError, RedisError

from rules.changes import iso
from rules.errors import RulesetError
from streams import letters as dead
from streams import sources
from streams.api.problems import Refused
from streams.clock import ClockSteppedError, RedisClock
from streams.delivery import endpoints
from streams.letters import Letter
from streams.observing.standing import Standing, standing
from streams.page.keeping import Kept
from streams.page.views.operations import Unread
from streams.settings import Settings
from streams.topics import DEAD_LETTERS, TopicsError

log = structlog.get_logger()
T = TypeVar("T")
AGE_S, MOST = 3.0, 10_000
STANDING_WITHIN_S, LETTERS_WITHIN_S, REPLAY_WITHIN_S = 20.0, 10.0, 60.0
REMEMBERED = 200  # letters that were sent in again from here
UNREADABLE = (KafkaError, TopicsError, RedisError, RulesetError, OSError)  # of which a timeout is one


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of Redis, UTC ms, and how far that of this machine is ahead. With a problem it is our own time."""

    now: int
    ahead: int = 0
    problem: str = ""

    @property
    def instant(self) -> str:
        return iso(self.now)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A letter that was sent in again from here, with `count` - 1 others of the same message."""

    letter: Letter
    count: int
    by: str
    at: str


@dataclass(slots=True)
class Desk:
    settings: Settings
    clock: RedisClock
    standing: Kept[Standing | Unread] = field(init=False)
    letters: Kept[list[Letter] | Unread] = field(init=False)  # the newest last
    outcomes: OrderedDict[str, Outcome] = field(default_factory=OrderedDict)  # by the letter's key
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.standing = Kept(self._read_standing, age_s=AGE_S)
        self.letters = Kept(self._read_letters, age_s=AGE_S, share=0.05)

    async def end(self) -> None:
        await self.standing.end()
        await self.letters.end()

    async def time(self) -> Clock:
        here = time.time_ns() // 1_000_000
        try:
            await self.clock.keep()
            now = self.clock.now()
        except (RedisError, OSError):
            return Clock(here, problem="Redis does not answer: does it run, and is ISOTHERM_REDIS right?")
        except ClockSteppedError as error:
            mend = "Set the clock of the Redis server right, then start the workers and this process again."
            return Clock(here, problem=f"{str(error).capitalize()}. {mend}")
        return Clock(now, here - now)

    async def _read_standing(self) -> Standing | Unread:
        async def read() -> Standing:
            kinds = {each.name: each.kind for each in endpoints.read(self.settings.webhooks)}
            topics = sources.read(self.settings.sources).topics
            return await standing(self.settings, kinds, topics, letters=False)

        return await _or_why("the workers", read, STANDING_WITHIN_S)

    async def _read_letters(self) -> list[Letter] | Unread:
        return await _or_why(DEAD_LETTERS, lambda: dead.open_letters(self.settings, most=MOST), LETTERS_WITHIN_S)

    async def find(self, key: str) -> tuple[Letter, bytes] | None:
        """An open letter and its value. Raises Refused."""
        return await self._alone(lambda: dead.find(self.settings, key), LETTERS_WITHIN_S)

    async def replay(self, key: str, by: str) -> Outcome | None:
        """Sends the message of an open letter in again; None when no such letter is open. Raises Refused."""
        outcome = await self._alone(lambda: self._replay(key, by), REPLAY_WITHIN_S)
        if outcome is not None:
            await self.letters.anew()
        return outcome

    async def _replay(self, key: str, by: str) -> Outcome | None:
        everyone = await dead.open_letters(self.settings)
        letter = next((each for each in everyone if each.key == key), None)
        if letter is None:
            return None
        if letter.unreplayable:
            raise Refused(409, "not_replayable", f"{key[:100]} is not sent in again: {letter.unreplayable}")
        count = await dead.replay(self.settings, dead.with_siblings([letter], everyone))
        log.info("dead letter replayed", letter=key, letters=count, by=by)
        outcome = self.outcomes[key] = Outcome(letter, count, by, (await self.time()).instant)
        while len(self.outcomes) > REMEMBERED:
            self.outcomes.popitem(last=False)
        return outcome

    async def _alone(self, do: Callable[[], Awaitable[T]], within_s: float) -> T:
        """One at a time: each reads the whole topic, and what two send in at once would be sent twice."""
        try:
            async with asyncio.timeout(within_s), self._turn:
                return await do()
        except UNREADABLE as error:
            hint = "The letter is still open unless it is gone from the list; isotherm dead-letters does the same."
            raise Refused(503, "not_now", _why(DEAD_LETTERS, error), hint) from None


async def _or_why(what: str, read: Callable[[], Awaitable[T]], within_s: float) -> T | Unread:
    try:
        async with asyncio.timeout(within_s):
            return await read()
    except UNREADABLE as error:
        log.info("not read", what=what, why=f"{type(error).__name__}: {error}")
        return Unread(_why(what, error))


def _why(what: str, error: Exception) -> str:
    """What is wrong and what to do; what an exception of a driver says is for the log."""
    match error:
        case RulesetError():
            return f"{error.problems[0]}. Mend the file, then start this process again."
        case TopicsError():
            return f"{error}; or this process may not read it."
        case NoPermissionError():
            return f"Redis lets this process read only some of it ({what}): its user lacks a right."
        case RedisError():
            return "Redis does not answer: does it run, and is ISOTHERM_REDIS right?"
        case KafkaError():
            name = type(error).__name__.removesuffix("Error")
            return f"Kafka says {name}: does it run, is ISOTHERM_KAFKA right, and may this process read {what}?"
    return f"There is no answer in time: do Kafka and Redis run, and can they be reached from here ({what})?"
