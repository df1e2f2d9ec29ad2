"""`isotherm worker`, which may be told to kill itself at a step, or to stop: ISOTHERM_TEST_STOP_AT=commit:3:STOP.

Steps of the fold: fetch, load, step, written (the commit is in Redis, its reply unread), commit, outbox (what is
to be published was read), sent (a change is on its way to the broker), produced (the broker has it), trim; and
of the router, with `router-` before them: fetch, route, save, produce, settle. With ISOTHERM_TEST_CLOCK=3600,1.05
its own clock is an hour ahead and 5 % too fast. With ISOTHERM_TEST_NEXT_BUILD=1 it is a build that keeps states
in the next version, and reads those of this one too. Nothing of this is in the product: its parts are wrapped
here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from functools import partial
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.produce import ProduceRequest

import rules.state as states
import streams.application as application
import streams.fold as fold
from streams.clock import RedisClock
from streams.pipeline import fold_batch
from streams.producer import Producer
from streams.router import Router
from streams.run import work
from streams.settings import Settings
from streams.store.base import Commit, Entry
from streams.store.redis import RedisStore
from streams.topics import CHANGES

STEP, TIMES, SIGNAL = (os.environ.get("ISOTHERM_TEST_STOP_AT") or "::").split(":")
CLOCK = os.environ.get("ISOTHERM_TEST_CLOCK", "")
NEXT_VERSION = bytes([states.VERSION[0] + 1])
passed: Counter[str] = Counter()


def reached(step: str) -> None:
    passed[step] += 1
    if step == STEP and passed[step] == int(TIMES):
        os.kill(os.getpid(), signal.Signals[f"SIG{SIGNAL}"])


async def router_reached(step: str) -> None:
    reached(f"router-{step}")


class WiredStore(RedisStore):
    async def commit(self, commit: Commit) -> Any:
        done = await super().commit(commit)
        reached("written")
        return done

    async def outbox(self, partition: int, limit: int) -> list[Entry]:
        entries = await super().outbox(partition, limit)
        if entries:
            reached("outbox")
        return entries

    async def trim(self, partition: int, id: str, *own: Any) -> None:
        await super().trim(partition, id, *own)
        reached("trim")


class WiredProducer(Producer):
    async def send(self, messages: Any, at: int, partition: int | None = None) -> list[Any]:
        sending = list(messages)
        answers = await super().send(sending, at, partition)
        if any(each.topic == CHANGES for each in sending):
            reached("produced")
        return answers


async def wired_fold_batch(messages: Any, owned: Any, store: Any, timed: Any, *more: Any) -> Any:
    def both(step: str) -> None:
        timed(step)
        reached(step)

    return await fold_batch(messages, owned, store, both, *more)


class WiredRouter(Router):
    def __init__(self, *parts: Any, **kwargs: Any) -> None:
        super().__init__(*parts, reached=router_reached, **kwargs)


async def fetch(*given: Any) -> Any:
    batches = await plain_fetch(*given)
    if batches:
        reached("fetch")
    return batches


def send(self: AIOKafkaConnection, request: Any, *given: Any, **named: Any) -> Any:
    """Writes to the socket, and returns what will be the reply."""
    reply = plain_send(self, request, *given, **named)
    if isinstance(request, ProduceRequest) and any(CHANGES in topic for topic, _ in request._topics):
        # The loop hands the bytes to the kernel at the end of its turn.
        asyncio.get_running_loop().call_later(0.001, reached, "sent")
    return reply


def tell_where(*_: object) -> None:
    """What every task waits for, on stderr: asked of a worker that does not end (SIGUSR1)."""
    for task in asyncio.all_tasks(asyncio.get_event_loop_policy().get_event_loop()):
        task.print_stack()
        awaited: Any = task.get_coro()
        while (inner := getattr(awaited, "cr_await", None)) is not None:
            print("   ", inner, file=sys.stderr)
            awaited = inner


def misread_clocks(ahead_s: float, faster: float) -> None:
    """From now on the time of day is wrong, and both clocks go so many times as fast."""
    real_time, real_monotonic, began = time.time, time.monotonic, time.time()
    time.time = lambda: real_time() + ahead_s + (real_time() - began) * (faster - 1)
    time.monotonic = lambda: real_monotonic() * faster
    application.RedisClock = partial(RedisClock, monotonic=time.monotonic)  # type: ignore[misc, assignment]


def be_the_next_build() -> None:
    """Reads what this build wrote; this build does not read what it writes."""
    states.VERSION = NEXT_VERSION
    states.READS.add(NEXT_VERSION)


plain_fetch, plain_send = fold.fetch, AIOKafkaConnection.send
if STEP:
    fold.fold_batch = wired_fold_batch
    fold.fetch = fetch
    application.RedisStore = WiredStore  # type: ignore[misc]
    application.Producer = WiredProducer  # type: ignore[misc]
    application.Router = WiredRouter  # type: ignore[misc]
    AIOKafkaConnection.send = send

if os.environ.get("ISOTHERM_TEST_NEXT_BUILD"):
    be_the_next_build()
if CLOCK:
    misread_clocks(*map(float, CLOCK.split(",")))

if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, tell_where)
    work(Settings())
