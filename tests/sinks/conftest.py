"""A real client between a sink and a real server on a loopback port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from rules.yamlfile import read as read_yaml
from streams.sinks.base import Delivery, Outcome, Sink
from streams.sinks.making import read

SECRET = "a-secret-of-the-tests"

Serve = Callable[[web.Application], Awaitable[str]]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """The file in which the token is."""
    file = tmp_path / "token"
    file.write_text(SECRET + "\n")
    return file


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves an application until the test ends, and gives its URL."""
    runners: list[web.AppRunner] = []

    async def start(application: web.Application) -> str:
        runners.append(runner := web.AppRunner(application))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@dataclass
class Sender:
    session: aiohttp.ClientSession

    async def send(self, sink: Sink, *deliveries: Delivery) -> list[Outcome]:
        """What came of one request with those that the sink takes."""
        refused = {each.id: refusal for each in deliveries if (refusal := sink.refuses(each))}
        taken = [each for each in deliveries if each.id not in refused]
        assert len(taken) <= sink.batch
        found = dict(refused) | dict(zip((each.id for each in taken), await self._ask(sink, taken), strict=True))
        return [found[each.id] for each in deliveries]

    async def _ask(self, sink: Sink, deliveries: Sequence[Delivery]) -> list[Outcome]:
        if not deliveries:
            return []
        request = sink.request(deliveries)
        async with self.session.request(
            request.method, request.url, headers=request.headers, data=request.body, allow_redirects=False
        ) as answer:
            return sink.outcomes(deliveries, answer.status, answer.headers, await answer.read())


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    async with aiohttp.ClientSession(skip_auto_headers=["User-Agent"]) as session:
        yield Sender(session)


def sink_of(kind: str, text: str, **places: Any) -> Sink:
    """The sink that a `to:` describes, with the places of this test put in."""
    for name, place in places.items():
        text = text.replace(f"<{name}>", str(place))
    (document,) = read_yaml("webhooks.yaml", text)
    made = read(document, (), kind, document.data)
    assert not isinstance(made, list), "\n".join(map(str, made))
    return made
