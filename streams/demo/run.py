"""`isotherm demo`: broker, Valkey, worker, webhook and traffic on this machine, and a view of what happens.

    traffic ─► crm.updates, web.activity ─► worker ─► segment.changes ─► view, page
                                              └─► alerts ─► webhook ─────┘

Everything lives under `.isotherm/demo` of the current directory and ends with this process, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError
from pydantic import SecretStr
from redis.exceptions import RedisError
from rich.console import Console

import rules
from streams import sources, topics
from streams.demo.companies import World, build
from streams.demo.ledger import Ledger
from streams.demo.page import Page, showing
from streams.demo.player import Player, playing
from streams.demo.receiver import Receiver
from streams.demo.summary import summary
from streams.demo.view import View, view_for
from streams.demo.watch import Watch, watching
from streams.demo.worker import Worker, write_environment
from streams.deploy import deploy
from streams.embedded import Embedded, EmbeddedError
from streams.settings import Settings

HOME = Path(".isotherm/demo")
SHIPPED = Path(rules.__file__).parent / "segments"
PARTITIONS = 8
COMPANIES = range(10, 901)
LOADED_WITHIN_S = 90.0
DRAINED_WITHIN_S = 3.0
LOOK_EVERY_S, MIND_EVERY_S = 0.05, 1.0
CANCELLED_WITHIN_S = 0.5
CANNOT, MISUSED, AWAY, INTERRUPTED = 1, 2, 3, 130

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class DemoError(Exception):
    """The demo cannot go on. The message says where to look."""


@dataclass(frozen=True, slots=True)
class Plan:
    seconds: int  # of traffic; 0: until Ctrl-C
    companies: int
    rate: float  # messages per second once the past is loaded
    sources: str  # the sources file that the router reads; empty: the shipped one


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs while the demo does."""

    plan: Plan
    world: World
    ledger: Ledger
    view: View
    worker: Worker
    watch: Watch
    player: Player
    page: Page


def run_demo(*, seconds: int = 0, companies: int = 500, rate: float = 20.0, sources: str = "") -> int:
    """Runs the demo and gives the exit code: 0 also after Ctrl-C, once traffic has begun."""
    if companies not in COMPANIES or rate <= 0 or seconds < 0:
        err.print(f"companies: {COMPANIES[0]} to {COMPANIES[-1]}; rate: above 0; seconds: 0 (no end) or more")
        return MISUSED
    try:
        asyncio.run(_demo(Plan(seconds, companies, rate, sources)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        err.print("stopped")
        return INTERRUPTED
    except (EmbeddedError, DemoError) as error:
        err.print(str(error), markup=False)
        return CANNOT
    except (KafkaError, RedisError, OSError) as error:
        err.print(f"the broker or Valkey went away ({type(error).__name__}: {error}); see {HOME}", markup=False)
        return AWAY
    return 0


async def _demo(plan: Plan) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _task().cancel)
    ledger = Ledger()
    view = view_for(out, f"{plan.companies} fictional accounts, live", ledger, utc_ms)
    async with AsyncExitStack() as stack:
        stack.callback(view.close)
        stage = await _set_up(stack, plan, ledger, view)
        began = time.monotonic()
        await _perform(stage)
        view.close()
        for line in summary(ledger, time.monotonic() - began, HOME / "worker.log"):
            out.print(line, markup=False, soft_wrap=not sys.stdout.isatty())


async def _set_up(stack: AsyncExitStack, plan: Plan, ledger: Ledger, view: View) -> Stage:
    """Starts everything, in the order in which one needs the other; `stack` stops it the other way round."""
    view.step(f"starting a broker and a Valkey in {HOME}")
    pair = await stack.enter_async_context(Embedded(HOME))
    receiver = await stack.enter_async_context(Receiver(ledger.take_alert))
    settings = settings_for(pair, receiver.url, plan.sources)
    write_environment(HOME / "env", settings)
    stack.callback((HOME / "env").unlink, missing_ok=True)
    await topics.create(settings, sources.read(plan.sources).topics)
    ruleset = await deploy(SHIPPED, "the rules shipped with Isotherm", settings)
    view.step(f"ruleset {ruleset.hash} deployed; starting the worker")
    worker = await stack.enter_async_context(Worker(HOME, settings, HOME / "env"))
    watch = await stack.enter_async_context(watching(settings, ledger, utc_ms))
    world = build(companies=plan.companies)
    player = await stack.enter_async_context(playing(settings, world, ledger, utc_ms))
    page = await stack.enter_async_context(showing(settings, HOME))
    return Stage(plan, world, ledger, view, worker, watch, player, page)


async def _perform(stage: Stage) -> None:
    """Loads the past, then plays the present until the time is up or Ctrl-C; what came last is waited for."""
    loop, plan = asyncio.get_running_loop(), stage.plan
    began = loop.time()
    until = began + plan.seconds if plan.seconds else None
    async with _running(stage.watch.follow()) as following:
        await _load(stage)
        present = stage.player.present(plan.rate)
        shown = stage.view.watch(began, until, _hint(stage.world), f"Page: {stage.page.link()}")
        stage.page.open()
        async with _running(stage.watch.look(), present, shown, _mind_the_worker(stage)) as going:
            left = max(0.0, until - loop.time()) if until else None
            await _first_failure([*following, *going], left)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_until(stage, stage.watch.is_settled), DRAINED_WITHIN_S)
        await stage.watch.look_once()


async def _load(stage: Stage) -> None:
    """Plays the past; returns when all of it is folded and its changes were read."""
    stage.view.step(f"loading the past of {stage.plan.companies} accounts")

    async def all_routed() -> bool:
        return await stage.watch.routed() >= stage.ledger.messages

    try:
        async with asyncio.timeout(LOADED_WITHIN_S):
            await stage.player.past(utc_ms(), lambda: _until(stage, all_routed), stage.view.loading)
            await _until(stage, stage.watch.is_settled)
    except TimeoutError:
        raise DemoError(f"the past was not loaded within {LOADED_WITHIN_S:g} s; see {stage.worker.log}") from None
    await stage.watch.look_once()
    stage.ledger.loading = False


async def _until(stage: Stage, holds: Callable[[], Awaitable[bool]]) -> None:
    while not await holds():
        if not stage.worker.runs:
            raise DemoError(f"the worker ended; see {stage.worker.log}")
        await asyncio.sleep(LOOK_EVERY_S)


async def _mind_the_worker(stage: Stage) -> None:
    """Says when the worker is gone, until another one goes on in its place."""
    before = 0
    while True:
        now = await stage.watch.routed()
        stuck = not stage.worker.runs and before == now < stage.ledger.messages
        how = f"The worker ended. To start another one: source {HOME}/env; isotherm worker"
        stage.ledger.warning = how if stuck else ""
        before = now
        await asyncio.sleep(MIND_EVERY_S)


async def _first_failure(tasks: list[asyncio.Task[None]], seconds: float | None) -> None:
    """Returns after `seconds` or on Ctrl-C; raises what a task raises before."""
    try:
        ended, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        _task().uncancel()  # Ctrl-C is how a demo without an end is meant to end
        return
    for task in ended:
        task.result()


@asynccontextmanager
async def _running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield tasks
    finally:
        going = set(tasks)
        while going:  # a client may swallow a cancellation that meets it just as its answer arrives
            for task in going:
                task.cancel()
            _, going = await asyncio.wait(going, timeout=CANCELLED_WITHIN_S)


def settings_for(pair: Embedded, alert_url: str, sources: str) -> Settings:
    """Every setting given, so that none comes from the environment of whoever runs the demo."""
    given = {name: field.default for name, field in Settings.model_fields.items()}
    return Settings(
        **given
        | {
            "kafka": pair.kafka,
            "redis": pair.redis,
            "partitions": PARTITIONS,
            "alert_url": alert_url,
            "sources": sources,
            "person_key": SecretStr(secrets.token_hex(16)),
            "idempotence": False,  # the embedded broker does not know it
            "fetch_max_wait_ms": 5,
            "session_timeout_ms": 6_000,
        }
    )


def _hint(world: World) -> str:
    known = min((company.domain for company in world.at_pace("cooling") or world.companies), key=len)
    return f"New shell: source {HOME}/env; isotherm explain {known}; isotherm tail"


def _task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None, "only coroutines ask"  # noqa: S101
    return task


def utc_ms() -> int:
    return time.time_ns() // 1_000_000
