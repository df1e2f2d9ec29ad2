"""`kill -9` at every step of a delivery: nothing is lost, and what comes twice is the same."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from streams.settings import Settings
from tests.delivery.conftest import SECRET, WITHIN_S, Receiver, id_of, moved
from tests.live.conftest import environment

MAIN = Path(__file__).with_name("killed_main.py")
ACCOUNTS = 6


@dataclass
class Process:
    """`killed_main.py`, as often as it is started."""

    settings: Settings
    url: str
    log: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, step: str = "never", count: int = 0) -> subprocess.Popen[bytes]:
        given = environment(self.settings) | {"TEST_WEBHOOK_SECRET": SECRET}
        with self.log.open("ab") as log:
            command = [sys.executable, str(MAIN), self.url, step, str(count)]
            self.running.append(subprocess.Popen(command, env=given, stdout=log, stderr=log, cwd=MAIN.parents[2]))
        return self.running[-1]

    async def ends(self) -> int:
        async with asyncio.timeout(WITHIN_S):
            return await asyncio.to_thread(self.running[-1].wait)


@pytest.fixture
async def process(settings: Settings, receiver: Receiver, tmp_path: Path) -> AsyncIterator[Process]:
    made = Process(settings, f"{receiver.url}/journeys", tmp_path / "log")
    yield made
    for each in made.running:
        if each.poll() is None:
            each.kill()
            each.wait()


def history(rounds: int) -> list[bytes]:
    """Changes of several accounts, in two dimensions each, mixed."""
    return [
        moved(n * ACCOUNTS + a, f"account-{a}", "engagement" if n % 2 else "size", f"segment_{n}")
        for n in range(rounds)
        for a in range(ACCOUNTS)
    ]


def fails_at_first(receiver: Receiver) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Of every third change the first attempt is answered with a 500."""

    async def answer(request: web.Request) -> web.StreamResponse:
        id = request.headers["webhook-id"]
        times = sum(each.id == id for each in receiver.got)
        return web.Response(status=500 if times == 1 and int(id.split(".")[2]) % 3 == 0 else 200)

    return answer


async def everything_arrived(receiver: Receiver, redis: Any, settings: Settings, sent: list[bytes]) -> None:
    """All are done with: delivered, or made pointless by a newer one that was delivered."""
    from streams.delivery.queue import How
    from streams.delivery.store import DeliveryStore, Record

    store = DeliveryStore(redis, settings.namespace, "journeys")
    async with asyncio.timeout(WITHIN_S):
        while not all([isinstance(await store.find(id_of(each), 2), Record) for each in sent]):
            await asyncio.sleep(0.02)
    records = {id_of(each): await store.find(id_of(each), 2) for each in sent}
    arrived = {each.id for each in receiver.got}
    for change in sent:
        assert records[id_of(change)].how in (How.DELIVERED, How.SUPERSEDED)
        assert id_of(change) in arrived or records[id_of(change)].how == How.SUPERSEDED
    bodies = {id_of(each): each for each in sent}
    assert all(each.body == bodies[each.id] for each in receiver.got)
    assert sum((await store.counts(2)).values()) == len(sent)
    assert_newest_arrived(receiver, sent)


def assert_newest_arrived(receiver: Receiver, sent: list[bytes]) -> None:
    """Who keeps the highest position of each account and dimension has what is right."""

    def newest(bodies: list[bytes]) -> dict[tuple[str, str], tuple[int, str]]:
        found: dict[tuple[str, str], tuple[int, str]] = {}
        for body in bodies:
            data = json.loads(body)["data"]
            place = data["account"], data["dimension"]
            found[place] = max(found.get(place, (-1, "")), (data["position"]["offset"], data["to"]))
        return found

    assert newest([each.body for each in receiver.got]) == newest(sent)


KILLS = [("read", 1), ("sent", 1), ("recorded", 1), ("settled", 1), ("sent", 4), ("recorded", 2), ("settled", 2)]


async def test_killed_at_any_step_nothing_is_lost(
    process: Process, receiver: Receiver, redis: Any, settings: Settings, changes: Callable[..., Awaitable[None]]
) -> None:
    """One history through all of these deaths; each finds what the one before left, and something new."""
    receiver.answers["/journeys"] = fails_at_first(receiver)
    sent = history(rounds=len(KILLS))
    for number, (step, count) in enumerate(KILLS):
        await changes(*sent[number * ACCOUNTS : (number + 1) * ACCOUNTS])
        process.start(step, count)
        assert await process.ends() == -9
    process.start()
    await everything_arrived(receiver, redis, settings, sent)


async def test_killed_again_and_again_while_requests_are_under_way(
    process: Process, receiver: Receiver, redis: Any, settings: Settings, changes: Callable[..., Awaitable[None]]
) -> None:
    """The receiver has the request, and whoever sent it never hears that."""
    kill_at = {3, 6, 10}  # at least so many requests are made, however many changes are superseded
    receiver.answers["/journeys"] = fails_at_first(receiver)

    def kill(got: Any) -> None:
        if len(receiver.got) in kill_at:
            process.running[-1].kill()

    receiver.before_answering = kill
    sent = history(rounds=5)
    await changes(*sent)
    process.start()
    for at in sorted(kill_at):
        await receiver.until(at)
        await process.ends()
        process.start()
    await everything_arrived(receiver, redis, settings, sent)
    assert len(process.running) == len(kill_at) + 1
