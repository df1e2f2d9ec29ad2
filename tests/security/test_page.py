"""`isotherm serve` with the rights that docs/operations.md gives it; what it may not read is said in its place."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streams import topics
from streams.api.rights import new_token
from streams.embedded import free_port
from streams.producer import Producer
from streams.settings import Settings
from streams.store.base import Outbound
from streams.store.redis import connect
from tests.live.conftest import TIMEOUT_S, Changes, Worker, isotherm
from tests.live.test_end_to_end import page
from tests.security.conftest import Installation

ACCOUNT = "group:served"
PAGES = ["/", f"/accounts/{ACCOUNT}", "/segments", "/segments/engagement", "/quality", "/operations"]
MORE = [f"/story/{ACCOUNT}", "/shadow", "/segments/engagement/hot", "/segments/engagement/hot/members.csv"]
API = [f"/v1/accounts/{ACCOUNT}", "/v1/segments", "/v1/segments/engagement/hot/accounts", "/v1/status", "/metrics"]


class Served:
    """A running `isotherm serve`, and an operator who looks at it."""

    def __init__(self, process: Worker, url: str, session: aiohttp.ClientSession) -> None:
        self.process, self._url, self._session = process, url, session

    async def get(self, path: str, accept: str = "text/html") -> tuple[int, str]:
        async with self._session.get(self._url + path, headers={"Accept": accept}) as answer:
            return answer.status, await answer.text()

    async def post(self, path: str) -> tuple[int, str]:
        here = {"Origin": self._url, "Sec-Fetch-Site": "same-origin"}
        async with self._session.post(self._url + path, headers=here | {"Accept": "text/html"}) as answer:
            return answer.status, await answer.text()

    async def until(self, path: str, words: str, no_more: str = "nothing is left out") -> str:
        """The page, as soon as it says the one and not the other: what it shows is some seconds old."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                status, text = await self.get(path)
                assert status == 200, text
                if words in text and no_more not in text:
                    return text
                await asyncio.sleep(0.2)

    def refusals(self) -> list[dict[str, Any]]:
        return [
            line for line in self.process.said() if "uthoriz" in json.dumps(line) or "NOPERM" in json.dumps(line)
        ]


@asynccontextmanager
async def served(settings: Settings, directory: Path) -> AsyncIterator[Served]:
    token, digest = new_token()
    file, port = directory / "tokens.yaml", free_port()
    file.write_text(f'- {{name: "an operator", sha256: "{digest}", role: operator}}\n')
    given = settings.model_copy(update={"api_tokens": str(file), "api_port": port})
    process, url = Worker(given, directory / "serve.log"), f"http://127.0.0.1:{port}"
    process.start("-m", "streams.cli", "serve")
    try:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            made = Served(process, url, session)
            async with asyncio.timeout(TIMEOUT_S):
                while not any(line["event"] == "answering" for line in process.said()):
                    await asyncio.sleep(0.1)
            yield made
        assert process.stop() == 0
    finally:
        process.kill()


@pytest.fixture
async def known(installation: Installation, tmp_path: Path) -> AsyncIterator[None]:
    """An account that is hot, and a dead letter, while a worker runs."""
    worker = Worker(installation.worker, tmp_path / "worker.log")
    worker.start()
    ended = await asyncio.to_thread(isotherm, installation.operator, "deploy")
    assert ended.returncode == 0, ended.stderr
    collector, now = Producer(installation.collector), int(time.time() * 1000)
    await collector.start()
    for n in range(3):
        call = page(n, now + n).replace(b'"acme"', b'"served"').replace(b"u-1001", b"u-served")
        await collector.send([Outbound(topics.WEB_ACTIVITY, "u-served", call)], now)
    await collector.send([Outbound(topics.WEB_ACTIVITY, "u", b"{broken")], now)
    await collector.stop()
    await Changes(installation.reader).until(lambda event: event["subject"] == ACCOUNT)
    yield
    assert worker.stop() == 0, worker.said()[-3:]


async def test_everything_is_shown(installation: Installation, known: None, tmp_path: Path) -> None:
    async with served(installation.serve, tmp_path) as page:
        for path in (*PAGES, *MORE):
            status, text = await page.get(path)
            assert status == 200, f"{path}: {text}"
        for path in API:
            status, text = await page.get(path, "application/json")
            assert status == 200, f"{path}: {text}"
        operations = await page.until("/operations", 'id="letters-title"', "Reading them")
        assert "this process may not" not in operations
        assert "may this process" not in operations
        await page.until(f"/story/{ACCOUNT}", 'class="activity"', "could not be read")
        await page.until("/", ACCOUNT)
        async with connect(installation.operator) as redis:
            async with asyncio.timeout(TIMEOUT_S):
                while await redis.exists("isotherm:{sizes}:day", "isotherm:{quality}:day") != 2:
                    await asyncio.sleep(0.1)
        assert page.refusals() == []


async def test_what_may_not_be_read_is_said_in_its_place(
    installation: Installation, known: None, tmp_path: Path
) -> None:
    """As the user of somebody who only follows the changes."""
    async with connect(installation.operator) as redis:  # samples are due again
        await redis.delete("isotherm:{sizes}:day", "isotherm:{sizes}:turn")
    async with served(installation.reader, tmp_path) as page:
        for path in PAGES:
            status, text = await page.get(path)
            assert status == 200, f"{path}: {text}"
        if os.environ.get("ISOTHERM_TEST_KAFKA"):
            assert "this process may not read it" in await page.until("/operations", "cannot be read")
            assert "could not be read from here" in await page.until(f"/story/{ACCOUNT}", "could not")
            await page.until("/", "not readable")
        async with asyncio.timeout(TIMEOUT_S):
            while not any("remembered by this process only" in line["event"] for line in page.process.said()):
                await asyncio.sleep(0.1)
        assert "Traceback" not in page.process.log.read_text()
