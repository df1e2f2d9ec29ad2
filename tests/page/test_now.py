"""The page Now, while events flow."""

from __future__ import annotations

import json
import time

from playwright.async_api import Page, expect

from streams.page.views.now import Delivery, health, in_words
from tests.page.conftest import (
    HOUR,
    WEEK,
    Installation,
    Looking,
    assert_is_accessible,
    is_known,
    utc_ms,
)


async def test_an_account_turns_hot_on_screen(installation: Installation, looking: Looking) -> None:
    account, name = "crm:heats", "Golden Quill Stationery"
    await installation.happens(
        installation.facts(account, name=name),
        *(installation.visit(account, utc_ms() - n * HOUR) for n in range(2)),
    )
    await is_known(installation, account)
    page = await looking.opens("/")
    await expect(page.locator("#connection")).to_have_text("live")
    news = page.locator("#news li").filter(has_text=name)
    await expect(news.filter(has_text="cold → warm")).to_be_visible()
    was_hot = int(await page.locator("#count-hot").inner_text())
    await installation.happens(installation.visit(account))
    began = time.monotonic()
    await expect(news.filter(has_text="warm → hot")).to_be_visible()
    print(f"on screen {1000 * (time.monotonic() - began):.0f} ms after Kafka had it")
    await expect(news.filter(has_text="warm → hot")).to_contain_text("3 pricing page views in 7 days")
    await expect(page.locator("#count-hot")).to_have_text(str(was_hot + 1))
    await expect(page.locator("#rung-hot .flows")).to_contain_text("from warm")


async def test_an_account_cools_on_screen_by_itself(installation: Installation, looking: Looking) -> None:
    """Its third view comes late: it is nearly a week old when it makes the account hot."""
    account, name = "crm:cools", "Silver Quill Stationery"
    page = await looking.opens("/")
    await expect(page.locator("#connection")).to_have_text("live")
    await installation.happens(
        installation.facts(account, name=name),
        *(installation.visit(account, utc_ms() - n * HOUR) for n in range(2)),
        installation.visit(account, utc_ms() - WEEK + 15_000),
    )
    news = page.locator("#news li").filter(has_text=name)
    await expect(news.filter(has_text="warm → hot")).to_be_visible()
    cooled = news.filter(has_text="hot → warm")
    await expect(cooled).to_contain_text("by time alone")
    await expect(cooled).to_contain_text("2 pricing page views in 7 days")
    await expect(page.locator("#cooling li").filter(has_text=name)).to_have_count(0)


async def test_live_updates_leave_focus_and_elements_alone(installation: Installation, looking: Looking) -> None:
    account, name = "crm:calm", "Patient Otter Works"
    await installation.happens(installation.facts(account, name=name))
    await is_known(installation, account)
    page = await looking.opens("/")
    await expect(page.locator("#connection")).to_have_text("live")
    link = page.get_by_role("link", name="warm")
    await link.focus()
    await page.evaluate("window.before = document.querySelector('#ladder').firstElementChild")
    await installation.happens(installation.visit(account))
    await expect(page.locator("#news li").filter(has_text=name).first).to_be_visible()
    await expect(link).to_be_focused()
    assert await page.evaluate("window.before === document.querySelector('#ladder').firstElementChild")


async def test_the_rungs_say_who_came_and_went_today(installation: Installation, looking: Looking) -> None:
    account = "crm:moves"
    await installation.happens(installation.facts(account, name="Moving Parts"), installation.visit(account))
    page = await looking.opens("/")
    await expect(page.locator("#rung-warm .flows")).to_contain_text("from cold")
    await expect(page.locator("#rung-cold .flows")).to_contain_text("to warm")


async def test_it_is_accessible(looking: Looking) -> None:
    page = await looking.opens("/")
    await expect(page.locator("#hottest li").first).to_be_visible()
    await assert_is_accessible(page, "Now")


async def test_a_name_is_shown_and_never_run(installation: Installation, looking: Looking) -> None:
    account, name = "crm:<b>x</b>", "<script>document.title='run'</script><img src=x onerror=alert(1)>"
    await installation.happens(
        installation.facts(account, name=name), *(installation.visit(account) for _ in range(3))
    )
    page = await looking.opens("/")
    await expect(page.locator("#news a").filter(has_text=name).first).to_be_visible()
    await expect(page).to_have_title("Now · Isotherm")
    assert await page.locator("#content script, #content img").count() == 0


async def test_a_page_that_nobody_sees_reads_nothing(installation: Installation, looking: Looking) -> None:
    page = await looking.opens("/")
    connection = page.locator("#connection")
    await expect(connection).to_have_text("live")
    async with page.expect_event("requestfailed", lambda asked: asked.url.endswith("/live")):
        await is_seen(page, False)
    async with page.expect_request("**/live"):
        await is_seen(page, True)
    await expect(connection).to_have_text("live")


async def is_seen(page: Page, seen: bool) -> None:
    """As a browser has it when another tab comes to the front."""
    hidden = json.dumps(not seen)
    await page.evaluate(f"Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }})")
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


async def test_it_stands_still_while_it_is_paused(installation: Installation, looking: Looking) -> None:
    account, name = "crm:paused", "Copper Fern Supplies"
    await installation.happens(installation.facts(account, name=name))
    await is_known(installation, account)
    page, other = await looking.opens("/"), await looking.opens("/")
    pause = page.get_by_role("button", name="Pause")
    await expect(page.locator("#connection")).to_have_text("live")
    await pause.click()
    await expect(page.locator("#connection")).to_have_text("paused")
    await installation.happens(*(installation.visit(account) for _ in range(3)))
    moved = page.locator("#news li").filter(has_text=name).filter(has_text="hot")
    await expect(other.locator("#news li").filter(has_text=name).filter(has_text="hot").first).to_be_visible()
    assert await moved.count() == 0
    await pause.click()
    await expect(moved.first).to_be_visible()


async def test_a_lost_connection_is_shown_and_comes_back(installation: Installation, looking: Looking) -> None:
    page = await looking.opens("/")
    connection = page.locator("#connection")
    await expect(connection).to_have_text("live")
    await looking.context.set_offline(True)
    await expect(connection).to_contain_text("Connection lost")
    await looking.context.set_offline(False)
    await expect(connection).to_have_text("live")
    looking.said = [each for each in looking.said if "ERR_INTERNET_DISCONNECTED" not in each]


def test_what_is_not_known_is_not_said_to_be_well() -> None:
    away = health(None, 0.0, None, 9, None)
    assert [each.state for each in away] == ["unknown", "good", "unknown", "unknown"]
    assert in_words(away) == "Lag: not readable; Dead letters: not readable; Delivery: not readable"
    assert "Kafka is away" in away[0].hint
    assert health(0.0, None, None, 9, Delivery(False), is_counting=True)[2].value == "counting"
    assert in_words(health(0.0, None, 0, 9, Delivery(False))) == "all is well"
