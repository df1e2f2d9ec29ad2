"""How long the page takes with 100,000 accounts: each of its addresses, from `isotherm serve` over HTTP.

The accounts, with what a CRM says of them and some activities of the last month, are written into the log and
folded by a worker under the shipped rules; then worker and server are processes of their own on the embedded pair,
and somebody looks: first at each address once, then again and again. Data quality comes last, since the first look
at it begins a survey of all accounts. Where there is a Chromium, a browser opens each of them too: from the
beginning of the navigation to the load event, its cache empty.

    python tests/bench/viewing.py [--accounts N] [--partitions N]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

import aiohttp
import live
import workload
from aiokafka import AIOKafkaConsumer, TopicPartition
from redis import Redis
from reporting import Table
from rich.console import Console

from rules.compiler import load
from rules.records import Activity, Contact, Facts, Record
from rules.scores import scores_of
from streams import topics
from streams.api.rights import new_token
from streams.embedded import Embedded, free_port
from streams.keys import PartitionKeys
from streams.settings import Settings

GOAL_S = 1.0
VIEWS, OPENED = 20, 3  # of each address over HTTP, and in the browser
AT_MOST_S, AT_LEAST = 15.0, 3  # of views that are slow there are fewer
MONTH = 30 * 24 * workload.HOUR
NAMES = {"page_viewed": 30, "email_opened": 6, "email_clicked": 3, "webinar_attended": 1, "demo_requested": 1}
PATHS = ("/pricing", "/docs/api", "/blog/a", "/customers/x", "/")
MOST = 9  # activities of an account; account 0 has six times as many
PATIENCE_S = 1_800.0
CHROMIUM = os.environ.get("ISOTHERM_TEST_CHROMIUM", "/usr/bin/chromium")
ARGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
QUALITY, SURVEYED = "/quality", b'id="fact-industry"'
Paths = list[tuple[str, str]]  # what each is called in the table, and where it is


@dataclass(slots=True)
class Views:
    """Of one address: seconds to the first byte and to the last of each view, the very first one apart; `cpu` of
    the server's seconds for all of them."""

    first: float = 0.0
    begun: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    browser: list[float] = field(default_factory=list)
    size: int = 0
    cpu: float = 0.0


@dataclass(slots=True)
class Seen:
    accounts: int
    views: dict[str, Views]
    surveyed_s: float = 0.0
    load: tuple[float, float, float] = (0.0, 0.0, 0.0)


def account_id(number: int) -> str:
    return f"salesforce:001A{number:014d}"


def log(accounts: int, now: int) -> Iterator[Record]:
    """What the CRM says, a month ago; then what happened since, in order."""
    rng, began = random.Random(9), now - MONTH
    yield from workload.in_force(workload.SHIPPED, began - workload.HOUR)
    for number in range(accounts):
        yield from _in_crm(rng, number, began - (accounts - number) * workload.HOUR // accounts)
    happened = (
        (rng.randrange(began, now - 60_000), number)
        for number in range(accounts)
        for _ in range(rng.randrange(MOST) if number else 6 * MOST)
    )
    names = iter(lambda: rng.choices(list(NAMES), list(NAMES.values()))[0], "")
    for serial, (at, number) in enumerate(sorted(happened)):
        name, person = next(names), f"p_{number * 31 + serial % 3:016x}"
        made = Activity(account=account_id(number), name=name, at=at, received=at, source="web.activity")
        made.id, made.person = f"web-{serial:016x}", person
        made.props = {"path": rng.choice(PATHS)} if name == "page_viewed" else {}
        yield made


def _in_crm(rng: random.Random, number: int, at: int) -> Iterator[Record]:
    facts = Facts(account=account_id(number), at=at, received=at, id=f"crm-{number}", source=workload.CRM)
    facts.set = {
        "name": f"Company {number:06d} Ltd", "website": f"company-{number:06d}.example",
        "employees": int(rng.lognormvariate(5, 1.6)) + 1, "country": rng.choice(workload.COUNTRIES),
    }  # fmt: skip
    if number % 3:
        facts.set["annual_revenue"] = int(rng.lognormvariate(17, 1.8))
    if industry := rng.choice(workload.INDUSTRIES):
        facts.set["industry"] = industry
    yield facts
    person = f"{rng.getrandbits(72):018x}"
    contact = Contact(account=account_id(number), person=person, at=at, received=at, source=workload.CRM)
    contact.id, contact.set = f"con-{number}", {"status": "active", "title": rng.choice(workload.TITLES)}
    yield contact


def addresses(accounts: int) -> Paths:
    """What is looked at."""
    one, cold = quote(account_id(0), safe=":"), "/segments/engagement/cold"
    scores = scores_of(load(workload.SHIPPED))
    found = {
        "Now": "/",
        "an account": f"/accounts/{one}",
        "its story": f"/story/{one}",
        "Segments": "/segments",
        "a dimension": "/segments/engagement",
        "a dimension with another": "/segments/engagement?with=size&over=35d",
        **{f"members by {sort}": f"{cold}?sort={sort}" for sort in ("since", "stays_until", "account")},
        "members, searched": f"{cold}?q={accounts - 7:06d}",
        "Data quality": QUALITY,
        "Operations": "/operations",
    }
    return [
        *found.items(),
        *((f"members by {len(scores)} scores", f"{cold}?sort=score:{name}") for name in scores),
    ]


def measure(directory: Path, accounts: int, partitions: int, say: Callable[[str], None] = print) -> Seen:
    directory.mkdir(parents=True, exist_ok=True)
    token, digest = new_token()
    tokens = directory / "tokens.yaml"
    tokens.write_text(f'- {{name: bench, sha256: "{digest}", role: operator}}\n')
    with Embedded(directory / "servers") as servers:
        settings = Settings(
            kafka=servers.kafka, redis=servers.redis, partitions=partitions, topic_prefix="page.", namespace="p",
            idempotence=False, fetch_max_wait_ms=20, person_key="bench", role="fold", api_port=free_port(),
            api_tokens=str(tokens),
        )  # fmt: skip
        installation = live.Installation(settings, directory)
        running: list[subprocess.Popen[bytes]] = []
        try:
            return asyncio.run(_measured(installation, accounts, token, running, say))
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(30)


async def _measured(
    installation: live.Installation,
    accounts: int,
    token: str,
    running: list[subprocess.Popen[bytes]],
    say: Callable[[str], None],
) -> Seen:
    settings = installation.settings
    say(f"writing the log of {accounts:,} accounts")
    pairs = workload.pairs(log(accounts, int(time.time() * 1000)))
    await workload.write(settings.kafka, settings.topics(topics.ACCOUNT_LOG), settings.partitions, pairs)
    await topics.create(settings)
    say("folding it")
    running.append(_started(installation, "worker"))
    await _folded(settings, running[0])
    say("looking at the page")
    running.append(_started(installation, "serve"))
    seen = Seen(accounts, {name: Views() for name, _ in addresses(accounts)})
    base = f"http://127.0.0.1:{settings.api_port}"
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/html"}
    async with aiohttp.ClientSession(base, headers=headers) as http:
        await _answers(http, running[1])
        await _look(http, seen, running[1].pid, say)
    if shutil.which(CHROMIUM):
        await _open(base, token, seen)
    seen.load = os.getloadavg()
    return seen


def _started(installation: live.Installation, command: str) -> subprocess.Popen[bytes]:
    with (installation.directory / f"{command}.log").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "streams.cli", command, "--log-level", "warning"],
            env=os.environ | installation.environment,
            cwd=installation.directory,
            stdout=said,
            stderr=said,
        )


async def _folded(settings: Settings, worker: subprocess.Popen[bytes]) -> None:
    """Until all is folded and published."""
    keys = [PartitionKeys.of(n, settings.partitions, settings.namespace) for n in range(settings.partitions)]
    places = [TopicPartition(settings.topics(topics.ACCOUNT_LOG), n) for n in range(settings.partitions)]
    deadline = time.monotonic() + PATIENCE_S
    with Redis.from_url(settings.redis) as redis:
        async with AIOKafkaConsumer(bootstrap_servers=settings.kafka) as consumer:
            while True:
                ends = await consumer.end_offsets(places)
                left = sum(
                    ends[place] - int(redis.hget(each.meta, "offset") or 0) + int(redis.xlen(each.outbox))
                    for each, place in zip(keys, places, strict=True)
                )
                if left <= 0:
                    return
                if worker.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the worker did not fold the log: {left:,} records and changes are left")
                await asyncio.sleep(0.5)


async def _answers(http: aiohttp.ClientSession, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            async with http.get("/healthz"):
                return
        except aiohttp.ClientConnectionError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("isotherm serve does not answer") from None
            await asyncio.sleep(0.05)


async def _look(http: aiohttp.ClientSession, seen: Seen, pid: int, say: Callable[[str], None]) -> None:
    """All others first: whoever looks at the quality of the data begins a survey of all accounts."""
    paths = addresses(seen.accounts)
    await _again_and_again(http, seen, pid, [each for each in paths if each[1] != QUALITY])
    began = time.monotonic()
    await _again_and_again(http, seen, pid, [each for each in paths if each[1] == QUALITY])
    while SURVEYED not in (await _view(http, QUALITY))[2]:
        if time.monotonic() - began > PATIENCE_S:
            raise RuntimeError("the data was never surveyed")
        await asyncio.sleep(1)
    seen.surveyed_s = time.monotonic() - began
    say(f"surveyed within {seen.surveyed_s:.1f} s")
    await _again_and_again(http, seen, pid, [each for each in paths if each[1] == QUALITY])


async def _again_and_again(
    http: aiohttp.ClientSession, seen: Seen, pid: int, paths: list[tuple[str, str]]
) -> None:
    for name, path in paths:
        _, first, _ = await _view(http, path)
        seen.views[name].first = max(first, seen.views[name].first)
    for n in range(VIEWS):
        for name, path in paths:
            before, views = live.process_cpu(pid) or 0.0, seen.views[name]
            if n >= AT_LEAST and sum(views.whole) > AT_MOST_S:
                continue
            begun, whole, text = await _view(http, path)
            views.cpu += (live.process_cpu(pid) or 0.0) - before
            views.begun.append(begun)
            views.whole.append(whole)
            views.size = len(text)


async def _view(http: aiohttp.ClientSession, path: str) -> tuple[float, float, bytes]:
    """Seconds to the first byte of the answer's body and to its last, and the answer."""
    asked = time.perf_counter()
    async with http.get(path) as answer:
        head = await answer.content.readany()
        begun = time.perf_counter() - asked
        text = head + await answer.read()
        whole = time.perf_counter() - asked
    if answer.status != 200:
        raise RuntimeError(f"{path} answers {answer.status}: {text[:500].decode(errors='replace')}")
    return begun, whole, text


async def _open(base: str, token: str, seen: Seen) -> None:
    """Each address in a browser that has seen none of it before."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        for n in range(OPENED):
            context = await browser.new_context()
            page = await context.new_page()
            await page.goto(base)
            await page.get_by_label("Token").fill(token)
            await page.get_by_role("button", name="Sign in").click()
            await page.wait_for_url(base + "/")
            cookies: Any = await context.cookies()
            await context.close()
            for name, path in addresses(seen.accounts):
                if name == "its story" or len(seen.views[name].browser) == n + 1:
                    continue  # the browser fetches the story by itself; of the scores one will do
                fresh = await browser.new_context()
                await fresh.add_cookies(cookies)
                page = await fresh.new_page()
                await page.goto(base + path, wait_until="load")
                took = "performance.getEntriesByType('navigation')[0].loadEventEnd"
                await page.wait_for_function(f"{took} > 0")
                seen.views[name].browser.append(await page.evaluate(took) / 1000)
                await fresh.close()
        await browser.close()


def table(seen: Seen) -> Table:
    columns = ["ms", "first view", "first byte", "whole: median", "worst", "CPU", "KB", "in a browser", "goal"]
    made = Table(f"The page with {seen.accounts:,} accounts", columns)
    for name, each in seen.views.items():
        slowest = max(each.first, *each.whole, *each.browser)
        made.rows.append(
            [
                name,
                _ms(each.first),
                _ms(median(each.begun)),
                _ms(median(each.whole)),
                _ms(max(each.whole)),
                _ms(each.cpu / len(each.whole)),
                f"{each.size / 1024:,.0f}",
                f"{_ms(median(each.browser))} – {_ms(max(each.browser))}" if each.browser else "–",
                f"< {GOAL_S * 1000:,.0f}" + ("" if slowest < GOAL_S else ", missed"),
            ]
        )
    loads = ", ".join(f"{each:.1f}" for each in seen.load)
    made.notes += [
        f"the first survey of the data was done {seen.surveyed_s:.1f} s after somebody looked at its quality",
        "CPU is the server's, a view: what it would take where nothing else runs, without Redis'",
        f"{VIEWS} views of each (of slow ones fewer) over HTTP after it; {OPENED} of each in a browser with an "
        "empty cache, from the beginning of the navigation to the load event: median – worst",
        f"load of the machine over 1, 5 and 15 minutes at the end: {loads}",
    ]
    return made


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="isotherm-page-") as directory:
        seen = measure(Path(directory), options.accounts, options.partitions)
    made = table(seen)
    made.show(Console(width=150))
    print(made.markdown())


if __name__ == "__main__":
    main()
