"""Waiting out an outage in place: back off, say it once, say when it is over."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

log = structlog.get_logger()
T = TypeVar("T")

AWAY = (KafkaError, RedisError, OSError, asyncio.TimeoutError)
FIRST_S, LONGEST_S = 0.1, 5.0
waiting: Counter[str] = Counter()  # what is being waited out at the moment


async def wait_out(what: str, attempt: Callable[[], Awaitable[T]], stopped: Callable[[], bool]) -> T | None:
    """The result of `attempt`, tried until it succeeds; None once `stopped()` says so.

    Only what an absent broker or Redis raises is waited out; everything else is a bug and goes up.
    """
    pause, said = FIRST_S, False
    try:
        while not stopped():
            try:
                result = await attempt()
            except AWAY as error:
                if not said:
                    log.warning("waiting", what=what, why=f"{type(error).__name__}: {error}")
                    said = True
                    waiting[what] += 1
                await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311 - jitter, not a secret
                pause = min(LONGEST_S, pause * 2)
            else:
                if said:
                    log.info("resumed", what=what)
                return result
        return None
    finally:
        if said:
            waiting[what] -= 1


def is_waiting() -> bool:
    return any(waiting.values())
