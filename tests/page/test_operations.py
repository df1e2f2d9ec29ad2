"""The page Operations."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from playwright.async_api import Browser, Page, expect

from rules.fold import Partition
from streams.api.rights import Holder
from streams.cli import app
from streams.clock import RedisClock
from streams.letters import Letter, open_letters
from streams.observing.signing import Signature
from streams.observing.standing import LogPartition, SourcePartition, Standing
from streams.observing.verified import Verified
from streams.page import views
from streams.page.desk import MOST, Clock, Desk, Unread
from streams.page.rendering import Pages
from streams.page.views import operations as view
from streams.settings import Settings
from streams.store.redis import connect
from streams.topics import CRM_UPDATES, DEAD_LETTERS
from tests.page.conftest import Installation, Looking, assert_is_accessible, is_known, signed_in, utc_ms

PAGE = Path(views.__file__).parents[1]
HTML = {"Accept": "text/html"}
NASTY = b'{"id": "nasty", "<script>alert(1)</script>": "\xe2\x80\xae", "email": "somebody@acme.example"'


@pytest_asyncio.fixture(loop_scope="package")
async def operating(browser: Browser, installation: Installation) -> AsyncIterator[Looking]:
    context = await signed_in(browser, installation, "operator")
    made = Looking(installation, browser, context)
    yield made
    await context.close()
    assert made.said == []


async def sends(installation: Installation, role: str, value: bytes, **options: Any) -> None:
    settings = installation.settings
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        await producer.send_and_wait(settings.topics(role), value, **options)


async def is_listed(page: Page, size: int) -> str:
    """The key of the letter with a value of so many bytes, once it is listed."""
    row = page.locator("#letters tbody tr").filter(has=page.locator("td.n", has_text=re.compile(f"^{size}$")))
    await expect(row).to_have_count(1)
    return await row.locator("th").inner_text()


async def test_it_says_how_everything_stands(looking: Looking) -> None:
    page = await looking.opens("/operations")
    for number in range(looking.installation.settings.partitions):
        row = page.locator(f"#partition-{number}")
        await expect(row.locator(".state")).to_have_text("well")
        await expect(row.locator("code")).to_have_text(re.compile("^[0-9a-f]{12}$"))
    await expect(page.locator("#stuck")).to_have_text("Nothing is stuck.")
    sources = page.get_by_role("table", name="Partitions of the sources")
    await expect(sources.get_by_role("row", name="crm.updates/0")).to_contain_text("read")
    await expect(page.get_by_text("None is known here: ISOTHERM_WEBHOOKS")).to_be_visible()
    await expect(page.get_by_text("time of Redis")).to_be_visible()
    await expect(page.locator("#verified")).to_contain_text("Never verified")
    await assert_is_accessible(page, "Operations")


async def test_it_says_how_fast_workers_fold(looking: Looking) -> None:
    page = await looking.opens("/operations")
    cells = page.locator("#workers tbody tr").first.locator("td")
    await expect(cells.nth(0)).to_have_text("2")
    await expect(cells.nth(1)).not_to_have_text("–")
    await looking.installation.happens(looking.installation.facts("crm:paced", name="Paced Ltd"))
    await expect(cells.nth(1)).to_have_text(re.compile("^[1-9]"))
    await expect(cells.nth(2)).to_have_text(re.compile("^[1-9]"))
    await expect(cells.nth(3)).to_have_text(re.compile(r"^[\d.,]+ ms$"))
    await expect(cells.nth(4)).to_have_text(re.compile(r"^[\d.,]+ ms$"))


async def test_a_letter_is_looked_at_and_sent_in_again(operating: Looking) -> None:
    """What cannot be used the second time either is a letter again, and that is told."""
    installation = operating.installation
    await sends(installation, CRM_UPDATES, NASTY, partition=0)
    page = await operating.opens("/operations")
    key = await is_listed(page, len(NASTY))
    await assert_is_accessible(page, "Operations with a dead letter")
    await page.get_by_role("link", name=key, exact=True).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(key)
    shown = await page.locator("#bytes").inner_text()
    assert "<script>alert(1)</script>" in shown
    assert "\\u202e" in shown, "the reading direction is not turned"
    assert "\u202e" not in shown
    assert await page.locator("main script").count() == 0
    await assert_is_accessible(page, "a dead letter")
    await page.get_by_role("button", name="Send it in again").click()
    await expect(page.get_by_role("heading", level=2)).to_have_text("It was sent in again")
    await expect(page.get_by_text("a operator sent its message in again")).to_be_visible()
    again = page.locator("#again a")
    await expect(again).to_have_count(1)
    fresh = await again.inner_text()
    assert fresh != key
    await assert_is_accessible(page, "a letter that was sent in again")
    await page.get_by_role("link", name="Operations").first.click()
    await expect(page.locator("#letters")).to_contain_text(fresh)
    await expect(page.get_by_role("link", name=key, exact=True)).to_have_count(0)


async def test_what_is_mended_is_folded_when_it_is_sent_in_again(operating: Looking) -> None:
    installation, account = operating.installation, f"crm:mended{utc_ms()}"
    message = json.dumps({"id": account, **installation.facts(account, name="Mended Ltd")}).encode()
    told = {"stage": "router", "reason": "unknown_source", "detail": "", "source": "crm.updates/0/900000"}
    headers = [(name, text.encode()) for name, text in (told | {"format": "canonical"}).items()]
    await sends(installation, DEAD_LETTERS, message, key=told["source"].encode(), headers=headers)
    page = await operating.opens(f"/operations/letters/{told['source']}")
    await page.get_by_role("button", name="Send it in again").click()
    await is_known(installation, account)
    await expect(page.get_by_text("1 letter of it is settled")).to_be_visible()


async def test_a_reader_sees_that_there_are_letters_and_neither_opens_nor_replays_one(
    installation: Installation, looking: Looking
) -> None:
    value = b"not json, of somebody@birch.example"
    await sends(installation, CRM_UPDATES, value, partition=1)
    page = await looking.opens("/operations")
    key = await is_listed(page, len(value))
    await expect(page.get_by_text("whoever has the role operator or admin")).to_be_visible()
    assert await page.locator("#letters a").count() == 0
    assert "detail" not in await page.locator("#letters thead").inner_text()
    path = f"/operations/letters/{key}"
    await page.goto(installation.url + path)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Role too small")
    post = "path => fetch(path, {method: 'POST'}).then((answer) => answer.status)"
    answer = await page.evaluate(post, f"/operations/replay/{key}")
    assert answer == 403
    await page.goto(installation.url + "/operations")
    await is_listed(page, len(value))
    looking.said = [each for each in looking.said if "403" not in each]


async def test_no_other_site_sends_a_letter_in_again(installation: Installation) -> None:
    url = f"{installation.url}/operations/replay/crm.updates/0/0"
    bearer = {"Authorization": f"Bearer {installation.tokens['operator']}"} | HTML
    async with aiohttp.ClientSession() as http:
        for said in ({}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            async with http.post(url, headers=bearer | said) as answer:
                assert answer.status == 403
                assert "nothing was done" in await answer.text()
        async with http.post(url, headers=bearer | {"Origin": installation.url}) as answer:
            assert answer.status == 404, "from here it is looked for"
        async with http.post(url, headers={"Origin": installation.url}) as answer:
            assert answer.status == 401


async def test_a_letter_that_is_not_open_is_told_with_a_hint(operating: Looking) -> None:
    page = await operating.opens("/operations/letters/crm.updates/0/1234567")
    await expect(page.get_by_role("heading", level=1)).to_have_text("No such letter")
    await expect(page.get_by_text("Operations lists those that are open")).to_be_visible()
    operating.said = [each for each in operating.said if "404" not in each]


def test_commands_that_the_page_names_exist() -> None:
    texts = [path.read_text() for path in (*PAGE.rglob("*.html"), *(PAGE / "views").glob("*.py"))]
    named = {each for text in texts for each in re.findall(r"[`>]isotherm ([a-z-]+(?: [a-z]+)?)", text)}
    assert named
    for each in named:
        known: Any = app
        for word in each.split():
            if known is not app and known.default_command is not None:
                break  # an argument
            known = known[word]


def letter(size: int, **own: str) -> Letter:
    said = {"stage": "router", "reason": "bad_time", "source": "crm.updates/0/1"} | own
    headers = tuple((name, text.encode()) for name, text in said.items())
    return Letter("crm.updates/0/1", 0, 0, 1_700_000_000_000, size, headers)


def test_what_is_shown_of_a_letter_is_bounded() -> None:
    value = b"[" * 900 + b"1," * 4_000_000
    told = view.letter(letter(len(value), **{f"h{n}": "x" * 100_000 for n in range(50)}), value)
    assert (told["bytes"], told["shown"]) == (len(value), view.BYTES)
    assert len(told["text"]) <= view.TEXT
    assert len(told["headers"]) == view.HEADERS
    assert told["more_headers"] == 50 - view.HEADERS
    assert all(len(said) < view.DETAIL + 5 for _, said in told["headers"])


async def test_of_very_many_letters_the_newest_are_held(installation: Installation) -> None:
    later = utc_ms() + 60_000
    for n in range(7):
        place = f"crm.updates/0/{800_000 + n}".encode()
        headers = [("stage", b"router"), ("reason", b"bad_time"), ("source", place)]
        options = {"key": place, "headers": headers, "timestamp_ms": later + n}
        await sends(installation, DEAD_LETTERS, b"one of many", **options)
    held = [each.key for each in await open_letters(installation.settings, most=2)]
    assert held == ["crm.updates/0/800005", "crm.updates/0/800006"]


# -- states that an installation which is well never has --------------------------------------------------------

NOW = 1_800_000_000_000


def text(standing: Standing | Unread | None, letters: list[Letter] | Unread | None, clock: Clock) -> str:
    told = view.overview(standing) | view.letters(letters, MOST)
    frame = {"who": Holder("an admin", "admin"), "here": "operations", "now": NOW, "clock": clock, "may": True}
    return Pages().text("operations.html", frame | told)


async def test_who_is_called_when_kafka_and_redis_are_away_is_told_what_to_do() -> None:
    settings = Settings(kafka="127.0.0.1:1", redis="redis://127.0.0.1:1")
    redis = connect(settings)
    desk = Desk(settings, RedisClock(redis))
    standing, letters, clock = await desk.standing.get(), await desk.letters.get(), await desk.time()
    await desk.end()
    await redis.aclose()
    shown = text(standing, letters, clock)
    assert "How the workers stand cannot be read." in shown
    assert "is ISOTHERM_REDIS right?" in shown
    assert "They cannot be read. Kafka says KafkaConnection: does it run, is ISOTHERM_KAFKA right" in shown


async def test_a_webhooks_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    settings = Settings(kafka="127.0.0.1:1", redis="redis://127.0.0.1:1", webhooks=str(tmp_path / "none.yaml"))
    desk = Desk(settings, RedisClock(None))
    standing = await desk.standing.get()
    assert isinstance(standing, Unread)
    assert str(tmp_path / "none.yaml") in standing.why


def test_what_was_not_read_yet_is_said() -> None:
    shown = text(None, None, Clock(NOW))
    assert "Reading how everything stands." in shown
    assert "Reading them." in shown
    assert "None is open" in text(None, [], Clock(NOW))


def test_what_verify_found_last_is_told() -> None:
    def shown(*found: int) -> str:
        return text(Standing(NOW, [], [], verified=Verified(NOW - 3_600_000, *found)), [], Clock(NOW))

    assert "1 h ago</time>, 1,000 accounts: Redis holds what the log says." in shown(1_000, 0, 0, 0, 0, 0)
    differing = shown(25, 2, 1, 0, 0, 0)
    assert "2 stand in a segment in which they should not be, 1 are missing from one." in differing
    assert "<code>isotherm rebuild</code> mends it" in differing


def test_of_many_partitions_those_that_are_not_well_are_shown() -> None:
    def partition(number: int, why: str = "") -> LogPartition:
        signed = Signature("w:1", NOW, "bug" if why else "", why)
        return LogPartition(Partition(number, offset=5), "t", 0, 5, signed)

    log = [partition(number, "<b>KeyError</b>" if number == 900 else "") for number in range(1_000)]
    sources = [SourcePartition("crm.updates", 3, 10, 12, paused="<i>too much</i> of it is refused")]
    shown = text(Standing(NOW, log, sources, alerts={"slack": 3}), [], Clock(NOW, ahead=90_000))
    assert "&lt;b&gt;KeyError&lt;/b&gt;" in shown
    assert "<b>KeyError" not in shown
    assert 'id="partition-900"' in shown
    assert shown.count('id="partition-') == view.PARTITIONS
    assert "and 872 more" in shown
    assert "account.log/900 stopped" in shown
    assert "&lt;i&gt;too much" in shown
    assert "isotherm resume crm.updates/3" in shown
    assert "3 alerts waiting" in shown
    assert "1 min ahead" in shown
