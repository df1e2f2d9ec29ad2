"""A worker, a receiver of alerts and a client, as separate processes would have them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from streams import topics
from streams.embedded import Valkey
from streams.inspect import follow_changes
from streams.settings import Settings
from tests.conftest import running

PARTITIONS = 2
TIMEOUT_S = 60


@dataclass
class Receiver:
    """A real HTTP endpoint that keeps what it is sent; the first `failing` requests get a 503."""

    failing: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    url: str = ""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        if self.failing:
            self.failing -= 1
            return web.Response(status=503)
        self.messages.append(await request.json())
        self.keys.append(request.headers["Idempotency-Key"])
        self.arrived.set()
        return web.Response(text="ok")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    kept = Receiver()
    server = web.Application()
    server.router.add_post("/alerts", kept.take)
    runner = web.AppRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    kept.url = f"http://127.0.0.1:{runner.addresses[0][1]}/alerts"
    yield kept
    await runner.cleanup()


@pytest.fixture
def settings(settings_of: Callable[..., Settings], redis: Any, receiver: Receiver) -> Settings:
    return settings_of(
        partitions=PARTITIONS, alert_url=receiver.url, person_key=SecretStr("a secret of the tests")
    )


def environment(settings: Settings) -> dict[str, str]:
    given = {
        f"ISOTHERM_{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in settings.model_dump().items()
    }
    return os.environ | given


def isotherm(settings: Settings, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streams.cli", *map(str, arguments)]
    return subprocess.run(
        command, env=environment(settings), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


async def done(settings: Settings, *arguments: str | Path) -> str:
    """What a command prints, that ends well."""
    ended = await asyncio.to_thread(isotherm, settings, *arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey of one test's own, to be killed or emptied; `redis_url` names it where a module says so."""
    with running(Valkey(tmp_path / "valkey")) as server:
        yield server


@dataclass
class Worker:
    """`isotherm worker` (or another command) as a process."""

    settings: Settings
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, *command: str) -> None:
        with self.log.open("ab") as log:
            arguments = command or ("-m", "streams.cli", "worker")
            self.process = subprocess.Popen(
                [sys.executable, *arguments], env=environment(self.settings), stdout=log, stderr=log
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(TIMEOUT_S)

    def said(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@contextmanager
def working(settings: Settings, log: Path) -> Iterator[Worker]:
    """A running worker, which does not outlive the test."""
    made = Worker(settings, log)
    made.start()
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.kill()


@pytest.fixture
async def worker(settings: Settings, tmp_path: Path) -> AsyncIterator[Worker]:
    """Created topics, a running worker."""
    await topics.create(settings)
    with working(settings, tmp_path / "worker.log") as made:
        yield made


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, max_request_size=6_000_000) as kafka:
        yield kafka


@dataclass
class Changes:
    """What is published, read as a subscriber would: awaited, never polled."""

    settings: Settings
    seen: list[dict[str, Any]] = field(default_factory=list)

    async def until(self, wanted: Any) -> dict[str, Any]:
        """The first change for which `wanted` is true, reading from the beginning."""

        async def look() -> dict[str, Any]:
            self.seen.clear()
            async for value in follow_changes(self.settings, "beginning"):
                event: dict[str, Any] = json.loads(value)
                self.seen.append(event)
                if wanted(event):
                    return event
            raise AssertionError("the topic ended")

        return await asyncio.wait_for(look(), TIMEOUT_S)

    def contradictions(self) -> list[str]:
        """Ids seen with two contents. The same one twice is allowed: it is published before it is trimmed."""
        contents: dict[str, set[str]] = {}
        for event in self.seen:
            contents.setdefault(event["id"], set()).add(json.dumps(event, sort_keys=True))
        return [id for id, each in contents.items() if len(each) > 1]


@pytest.fixture
def changes(settings: Settings) -> Changes:
    return Changes(settings)
