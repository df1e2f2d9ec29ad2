"""A worker that answers, and what it says; as a process, in front of a real broker and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from streams import topics
from streams.embedded import free_port
from streams.settings import Settings
from tests.live.conftest import Receiver, producer, receiver, valkey

__all__ = ["producer", "receiver", "valkey"]
PARTITIONS = 2
TIMEOUT_S = 60
Labels = tuple[tuple[str, str], ...]


@dataclass
class Scraped:
    """Metrics by name and labels."""

    text: str
    values: dict[tuple[str, Labels], float] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> Scraped:
        made = cls(text)
        for family in text_string_to_metric_families(text):
            made.kinds[family.name] = family.type
            for each in family.samples:
                made.values[each.name, tuple(sorted(each.labels.items()))] = each.value
        return made

    def value(self, name: str, **labels: str) -> float | None:
        return self.values.get((name, tuple(sorted(labels.items()))))

    def names(self) -> set[str]:
        return {name for name, _ in self.values}


@dataclass
class Watching:
    """Asks a worker over HTTP, until what is awaited is there."""

    url: str
    session: aiohttp.ClientSession

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.url + path) as found:
            return found.status, await found.text()

    async def metrics(self) -> Scraped:
        status, text = await self.get("/metrics")
        assert status == 200, text
        return Scraped.of(text)

    async def until(self, wanted: Callable[[Scraped], Any]) -> Scraped:
        scraped = Scraped("")
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    with suppress(aiohttp.ClientConnectionError):
                        scraped = await self.metrics()
                    if wanted(scraped):
                        return scraped
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"it did not come to be; last seen:\n{scraped.text}")

    async def answers(self, path: str, wanted: int) -> str:
        """What it says once it answers with that status."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                try:
                    status, text = await self.get(path)
                except aiohttp.ClientConnectionError:
                    status, text = 0, ""
                if status == wanted:
                    return text
                await asyncio.sleep(0.05)


@pytest.fixture
async def hooks() -> AsyncIterator[str]:
    """The URL of an endpoint that takes whatever it gets."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    application = web.Application()
    application.router.add_post("/hooks", take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
    await runner.cleanup()


@pytest.fixture
def settings(settings_of: Callable[..., Settings], redis: Any, receiver: Receiver, tmp_path: Path) -> Settings:
    return settings_of(
        partitions=PARTITIONS,
        alert_url=receiver.url,
        person_key=SecretStr("a secret of the tests"),
        metrics_port=free_port(),
    )


@pytest.fixture
async def watching(settings: Settings) -> AsyncIterator[Watching]:
    async with aiohttp.ClientSession() as session:
        yield Watching(f"http://127.0.0.1:{settings.metrics_port}", session)


@pytest.fixture
async def there(settings: Settings) -> None:
    await topics.create(settings)
