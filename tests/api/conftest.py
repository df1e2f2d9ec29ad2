"""The API in this process, on a loopback port, in front of a real broker and what a real fold wrote to Redis."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from rules.contract import read
from streams import topics
from streams.answering import listening
from streams.api.app import create_app
from streams.api.hub import Pace
from streams.api.rights import ROLES, Tokens, new_token
from streams.api.run import answer
from streams.embedded import free_port
from streams.playback import up_to_its_end
from streams.producer import Producer
from streams.settings import Settings
from streams.store.redis import RedisStore
from streams.subscribe import Filter
from tests.subscribing.world import HOUR, PARTITIONS, World

TIMEOUT_S = 60
WITHOUT = "without"


class Answer(NamedTuple):
    status: int
    headers: Any
    body: Any


class Told(NamedTuple):
    """One block of a stream. Without an event it only moves the id on."""

    id: str
    event: str
    data: Any


@dataclass
class Asked:
    """A running API, and who asks."""

    app: Any
    url: str
    session: aiohttp.ClientSession
    tokens: dict[str, str]
    stop: asyncio.Event

    async def get(self, path: str, role: str = "reader", method: str = "GET", **options: Any) -> Answer:
        async with self.session.request(method, self.url + path, headers=self._shows(role), **options) as found:
            is_json = found.content_type in ("application/json", "application/problem+json")
            return Answer(found.status, found.headers, await found.json() if is_json else await found.read())

    @asynccontextmanager
    async def listens(self, query: str = "", last_id: str = "", role: str = "reader") -> AsyncIterator[Stream]:
        """Has begun to listen: what is published from now on is heard."""
        async with self._listens(self.session, query, last_id, role) as stream:
            yield stream

    @asynccontextmanager
    async def listens_slowly(self) -> AsyncIterator[Stream]:
        """Nothing is taken off the wire that is not asked for, and the wire holds little."""

        def narrow(address: Any) -> socket.socket:
            made = socket.socket(*address[:3])
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.setblocking(False)
            return made

        connector = aiohttp.TCPConnector(socket_factory=narrow)
        async with (
            aiohttp.ClientSession(connector=connector, read_bufsize=8192) as session,
            self._listens(session) as stream,
        ):
            yield stream

    @asynccontextmanager
    async def _listens(
        self, session: aiohttp.ClientSession, query: str = "", last_id: str = "", role: str = "reader"
    ) -> AsyncIterator[Stream]:
        headers = self._shows(role) | ({"Last-Event-ID": last_id} if last_id else {})
        patience = aiohttp.ClientTimeout(total=None)
        async with session.get(f"{self.url}/v1/changes{query}", headers=headers, timeout=patience) as found:
            assert found.status == 200, await found.text()
            assert found.content_type == "text/event-stream"
            stream = Stream(found, last_id)
            if not last_id:
                await stream.next()
            yield stream

    async def is_reading(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not (await self.get("/v1/status", "operator")).body["data"]["reading"]:
                await asyncio.sleep(0.02)

    def _shows(self, role: str) -> dict[str, str]:
        return {} if role == WITHOUT else {"Authorization": f"Bearer {self.tokens.get(role, role)}"}


@dataclass
class Stream:
    """What a listener hears; `id` is what it would come back with."""

    answer: aiohttp.ClientResponse
    id: str = ""
    heard: list[dict[str, Any]] = field(default_factory=list)

    async def next(self) -> Told:
        """The next block with an id or an event."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                told = {"id": "", "event": "", "data": ""}
                while line := (await self.answer.content.readline()).decode():
                    if line == "\n":
                        break
                    name, _, value = line.rstrip("\n").partition(": ")
                    told[name] = value
                else:
                    raise EOFError
                if told["id"] or told["event"]:
                    self.id = told["id"] or self.id
                    data = json.loads(told["data"]) if told["data"] else None
                    if data and told["event"] != "closed":
                        self.heard.append(data)
                    return Told(told["id"], told["event"], data)

    async def hears(self, count: int) -> list[dict[str, Any]]:
        """Until so many changes were heard."""
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.heard) < count:
                await self.next()
        return self.heard

    async def closed(self) -> str:
        """Why it was ended."""
        while (told := await self.next()).event != "closed":
            pass
        return str(told.data["reason"])


@pytest.fixture
def settings(settings_of: Callable[..., Settings]) -> Settings:
    return settings_of(partitions=PARTITIONS)


@pytest.fixture
async def world(settings: Settings, redis: Any) -> AsyncIterator[World]:
    await topics.create(settings)
    producer = Producer(settings)
    await producer.start()
    store, lately = RedisStore(redis, PARTITIONS, settings.namespace), int(time.time() * 1000) - 6 * 24 * HOUR
    made = World(settings, redis, store, producer, lately)
    await made.begin()
    yield made
    await producer.stop()


@dataclass
class TokensFile:
    path: Path
    tokens: dict[str, str]

    def write(self, *roles: str) -> None:
        lines = []
        for role in roles:
            token, digest = new_token()
            self.tokens[role] = token
            lines.append(f'- {{name: "a {role}", sha256: "{digest}", role: {role}}}\n')
        self.path.write_text("".join(lines))


@pytest.fixture
def file(tmp_path: Path) -> TokensFile:
    made = TokensFile(tmp_path / "tokens.yaml", {})
    made.write(*ROLES)
    return made


@asynccontextmanager
async def running(app: Any, tokens: dict[str, str]) -> AsyncIterator[Asked]:
    """Answers on a port of its own; what it reads from Kafka may not be there yet."""
    listener, stop = listening("127.0.0.1", 0), asyncio.Event()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # so that a slow reader is felt soon
    serving = asyncio.create_task(answer(app, listener, stop))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        try:
            yield Asked(app, f"http://127.0.0.1:{listener.getsockname()[1]}", session, tokens, stop)
        finally:
            stop.set()
            await asyncio.wait_for(serving, TIMEOUT_S)
            listener.close()


Start = Callable[..., AbstractAsyncContextManager[Asked]]


@pytest.fixture
def start(settings: Settings, file: TokensFile) -> Start:
    """Starts a process' worth of it, more than once if you like."""

    @asynccontextmanager
    async def started(pace: Pace | None = None) -> AsyncIterator[Asked]:
        async with running(create_app(settings, Tokens(str(file.path)), pace), file.tokens) as asked:
            await asked.is_reading()
            yield asked

    return started


@pytest.fixture
def unused_port() -> int:
    return free_port()


@pytest.fixture
async def api(world: World, start: Start) -> AsyncIterator[Asked]:
    async with start() as asked:
        yield asked


async def published(settings: Settings, wanted: Filter | None = None) -> list[str]:
    """The ids of the changes that stand in Kafka, each once, in order per partition."""
    found: dict[str, None] = {}
    async for message in up_to_its_end(settings, topics.CHANGES):
        event = read(message.value)
        if wanted is None or wanted.wants(event):
            found[event.id] = None
    return list(found)
