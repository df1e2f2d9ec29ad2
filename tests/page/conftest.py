"""A browser in front of `isotherm serve`, a worker and the embedded pair, each a process of its own.

One installation serves all tests of the page: accounts are a test's own by their names.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect
from pydantic import SecretStr

from rules.changes import iso
from streams import deploy, topics
from streams.api.rights import new_token
from streams.demo.run import SHIPPED
from streams.embedded import free_port
from streams.sending import send_lines
from streams.settings import Settings
from tests.live.conftest import environment

CHROMIUM = os.environ.get("ISOTHERM_TEST_CHROMIUM", "/usr/bin/chromium")
ARGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
PARTITIONS = 2
TIMEOUT_S = 60
HOUR, DAY = 3_600_000, 86_400_000
WEEK = 7 * DAY
WIDTHS = {390: 844, 1440: 900}
SCHEMES: tuple[Any, ...] = ("light", "dark")
LAST = "crm:last"
COMPANIES = ("Amber Harbor Foods", "Birch Lantern Bank", "Cobalt Meadow Clinics", "Dune Orchard Robotics")
SECTORS = ("FinTech", "Banking", "Hospital", "Zeppelins", "Retail", "Software", None)

expect.set_options(timeout=TIMEOUT_S * 1000)


def utc_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Installation:
    """What runs, and how something happens to an account of it."""

    settings: Settings
    url: str
    tokens: dict[str, str]
    file: Path
    sent: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    async def happens(self, *messages: dict[str, Any]) -> None:
        """Canonical messages, in order."""
        lines = []
        for each in messages:
            self.sent += 1
            lines.append(json.dumps({"id": f"m{self.sent}", "source": "salesforce"} | each).encode())
        await send_lines(lines, topics.CRM_UPDATES, "canonical", self.settings)

    def facts(
        self, account: str, at: int | None = None, source: str = "salesforce", **facts: Any
    ) -> dict[str, Any]:
        return {"kind": "facts", "account": account, "at": at or utc_ms(), "source": source, "set": facts}

    def visit(self, account: str, at: int | None = None, path: str = "/pricing") -> dict[str, Any]:
        return self.did(account, "page_viewed", at, path=path)

    def did(self, account: str, name: str, at: int | None = None, **props: Any) -> dict[str, Any]:
        return {
            "kind": "activity", "account": account, "name": name, "at": iso(at or utc_ms()), "props": props,
            "person": f"person of {account}",
        }  # fmt: skip


def account_url(installation: Installation, account: str) -> str:
    return f"{installation.url}/accounts/{quote(account, safe=':')}"


@pytest.fixture(scope="package")
def installation(kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("page")
    _require_chromium()
    name, port = f"page{utc_ms()}", free_port()
    embedded = not os.environ.get("ISOTHERM_TEST_KAFKA")
    tokens, lines = {}, []
    for role in ("reader", "operator", "admin"):
        tokens[role], digest = new_token()
        lines.append(f'- {{name: "a {role}", sha256: "{digest}", role: {role}}}\n')
    (directory / "tokens.yaml").write_text("".join(lines))
    settings = Settings(
        kafka=kafka, redis=redis_url, topic_prefix=f"{name}.", namespace=name, partitions=PARTITIONS,
        idempotence=not embedded, fetch_max_wait_ms=5 if embedded else 20,
        session_timeout_ms=1000 if embedded else 6000, person_key=SecretStr("a secret of the tests"),
        api_port=port, api_tokens=str(directory / "tokens.yaml"),
    )  # fmt: skip
    made = Installation(settings, f"http://127.0.0.1:{port}", tokens, directory / "tokens.yaml")
    asyncio.run(_prepare(made))
    with (directory / "log").open("wb") as log:
        for command in ("worker", "serve"):
            made.processes.append(run_in(settings, log, command))
        try:
            _wait_for(made)
            asyncio.run(is_known(made, LAST))
            yield made
        finally:
            for process in made.processes:
                process.terminate()
            for process in made.processes:
                process.wait(TIMEOUT_S)


def run_in(settings: Settings, log: Any, command: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "streams.cli", command]
    return subprocess.Popen(arguments, env=environment(settings), stdout=log, stderr=log)


async def _prepare(made: Installation) -> None:
    await topics.create(made.settings)
    await deploy.deploy(SHIPPED, "the rules shipped with Isotherm", made.settings)
    await made.happens(*history(made, 36))


def history(made: Installation, accounts: int) -> Iterator[dict[str, Any]]:
    """Fictional companies at every rung, of ordinary data quality."""
    now = utc_ms()
    for n in range(accounts):
        account, name = f"crm:{n:03}", f"{COMPANIES[n % 4]} {n}"
        employees = {"employees": 40 * (n + 1)} if n % 5 else {}
        sector = {"industry": SECTORS[n % 7]} if SECTORS[n % 7] else {}
        yield made.facts(account, now - 40 * DAY, name=name, country="Germany", **employees, **sector)
        yield made.facts(account, now - 9 * DAY, "hubspot", employees=35 * (n + 1))
        for visit in range(n % 5):
            yield made.visit(account, now - (visit + 1) * DAY - n * HOUR)
        if n % 6 == 0:
            yield made.did(account, "demo_requested", now - 2 * DAY)
            yield made.did(account, "webinar_attended", now - 3 * DAY)
        if n % 8 == 0:
            yield made.did(account, "email_replied", now - n * HOUR)

    yield made.facts(LAST, now, name="Zinnia Last Ltd")


def _require_chromium() -> None:
    if not shutil.which(CHROMIUM):
        why = f"there is no browser at {CHROMIUM}: install chromium, or name one in ISOTHERM_TEST_CHROMIUM"
        if os.environ.get("CI"):
            raise RuntimeError(why)
        pytest.skip(why)


def _wait_for(made: Installation) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            with urlopen(f"{made.url}/sign-in") as answer:
                assert answer.status == 200
                return
        except OSError:
            assert time.monotonic() < deadline, "isotherm serve does not answer"
            assert all(process.poll() is None for process in made.processes), "a process has ended"
            time.sleep(0.05)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One loop for all tests of the page: a browser belongs to a loop, and starting one takes a second."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="package"), append=False)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser() -> AsyncIterator[Browser]:
    _require_chromium()
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield launched
        await launched.close()


@dataclass
class Looking:
    """Somebody who has signed in. What the browser's console said is to be nothing."""

    installation: Installation
    browser: Browser
    context: BrowserContext
    said: list[str] = field(default_factory=list)

    async def opens(self, path: str) -> Page:
        page = await self.context.new_page()
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        await page.goto(self.installation.url + path)
        return page


async def signed_in(browser: Browser, installation: Installation, role: str = "reader") -> BrowserContext:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(installation.url)
    await page.get_by_label("Token").fill(installation.tokens[role])
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(installation.url + "/")
    await page.close()
    return context


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def cookies(browser: Browser, installation: Installation) -> Any:
    context = await signed_in(browser, installation)
    yield await context.storage_state()
    await context.close()


@pytest_asyncio.fixture(loop_scope="package")
async def looking(browser: Browser, installation: Installation, cookies: Any) -> AsyncIterator[Looking]:
    context = await browser.new_context(storage_state=cookies)
    made = Looking(installation, browser, context)
    yield made
    await context.close()
    assert made.said == []


async def assert_is_accessible(page: Page, where: str) -> None:
    """At both widths, light and dark: no violation that axe knows, nothing to scroll to sideways, one heading."""
    assert await page.locator("h1").count() == 1, where
    for width, height in WIDTHS.items():
        await page.set_viewport_size({"width": width, "height": height})
        wider = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider <= 0, f"{where} is {wider} px too wide at {width}"
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            found = (await Axe().run(page)).response["violations"]
            told = [
                f"{each['id']}: {node['html'][:200]} {node.get('failureSummary')}"
                for each in found
                for node in each["nodes"]
            ]
            assert not told, "\n".join([f"{where}, {width}, {scheme}", *told])


async def is_known(installation: Installation, account: str) -> None:
    """Until the account is folded."""
    from streams.reading import Reader
    from streams.store.redis import connect

    redis = connect(installation.settings)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while await Reader(redis, installation.settings).account(account) is None:
                await asyncio.sleep(0.02)
    finally:
        await redis.aclose()
