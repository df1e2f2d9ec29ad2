"""The page of an account."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from rules.changes import iso
from tests.page.conftest import (
    DAY,
    WEEK,
    Installation,
    Looking,
    assert_is_accessible,
    is_known,
    utc_ms,
)


async def one(installation: Installation, account: str, name: str) -> int:
    """An account with facts of two sources, two pricing views and a score; when the first view was."""
    first = utc_ms() - 3 * DAY
    await installation.happens(
        installation.facts(account, first - 400 * DAY, name=name, country="Germany", annual_revenue=2_000_000),
        installation.facts(account, first - 30 * DAY, employees=900),
        installation.facts(account, first, "hubspot", employees=12),
        installation.visit(account, first),
        installation.visit(account, first + DAY, "/pricing/enterprise"),
        installation.did(account, "webinar_attended", first + 2 * DAY, webinar="Segments that keep time"),
    )
    await is_known(installation, account)
    return first


async def test_it_says_where_the_account_stands_and_why(installation: Installation, looking: Looking) -> None:
    await one(installation, "crm:why", "Juniper Loom Weavers")
    page = await looking.opens("/accounts/crm:why")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Juniper Loom Weavers")
    engagement = page.locator("#dimension-engagement")
    await expect(engagement.locator("summary")).to_contain_text("warm")
    await expect(engagement.locator("summary time[data-clock=left]")).to_be_visible()
    true = engagement.locator("[data-verdict=true]")
    await expect(true.filter(has_text="2 pricing page views in 14 days (needs one)").last).to_be_visible()
    await expect(page.locator("#fact-employees")).to_contain_text("hubspot says 12")
    await expect(page.locator("#fact-annual_revenue")).to_contain_text("stale")


async def test_it_says_what_would_move_it_and_what_happened(installation: Installation, looking: Looking) -> None:
    first = await one(installation, "crm:story", "Kestrel Bridge Labs")
    page = await looking.opens("/accounts/crm:story")
    advice = page.locator(".advice li").first
    await expect(advice).to_contain_text("One more pricing page view before")
    await expect(advice).to_contain_text("engagement hot")
    await expect(page.locator(".advice li").nth(1)).to_contain_text("One more demo request")
    await expect(advice.locator("time")).to_have_attribute("datetime", iso(first + WEEK))
    timeline = page.locator(".timeline li")
    await expect(timeline.filter(has_text="/pricing/enterprise")).to_have_count(1)
    await expect(timeline.filter(has_text="webinar attended").filter(has_text="keep time")).to_have_count(1)
    await expect(timeline.filter(has_text="is now known")).to_have_count(1)


async def test_a_score_is_drawn_to_where_it_crosses(installation: Installation, looking: Looking) -> None:
    await one(installation, "crm:curve", "Lantern Creek Foods")
    page = await looking.opens("/accounts/crm:curve")
    await expect(page.locator("figure canvas").first).to_be_visible()
    told = await page.evaluate(
        "[...document.querySelectorAll('.curve')].map((each) => JSON.parse(each.content.textContent))"
    )
    interest = next(each for each in told if each["label"] == "interest score")
    assert interest["values"] == sorted(interest["values"], reverse=True)
    assert interest["values"][0] > interest["values"][-1]
    asked = {each["needs"] for each in interest["crossings"]}
    reached = [each for each in asked if each <= interest["values"][0]]
    assert reached
    assert min(interest["values"]) < min(reached)


async def test_it_changes_while_one_looks_and_keeps_what_is_open(
    installation: Installation, looking: Looking
) -> None:
    await one(installation, "crm:live", "Meadow Quartz Ltd")
    page = await looking.opens("/accounts/crm:live")
    await expect(page.locator("#connection")).to_have_text("live")
    await page.locator("#dimension-web_activity summary").click()
    await installation.happens(installation.visit("crm:live"))
    await expect(page.locator("#dimension-engagement summary .chip")).to_have_text("hot")
    await expect(page.locator(".timeline li").filter(has_text="warm → hot")).to_be_visible()
    assert await page.locator("#dimension-web_activity").get_attribute("open") is not None


async def test_one_that_is_not_known_says_what_to_do(looking: Looking) -> None:
    page = await looking.opens("/accounts/crm:nobody")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Unknown account")
    await expect(page.locator("main")).to_contain_text("web domain")
    await assert_is_accessible(page, "a problem")
    looking.said = [each for each in looking.said if "404" not in each]


async def test_of_a_visitor_nothing_is_shown(installation: Installation, looking: Looking) -> None:
    await looking.opens("/accounts/visitor:507f191e")
    assert any("404" in each for each in looking.said)
    looking.said = []


@pytest.mark.parametrize("asked", ["Foxglove", "foxglove harb", "crm:named"])
async def test_the_search_finds_an_account_by_its_name(
    installation: Installation, looking: Looking, asked: str
) -> None:
    await one(installation, "crm:named", "Foxglove Harbor Tools")
    page = await looking.opens("/")
    await page.get_by_role("searchbox").fill(asked)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/accounts/crm:named")


@pytest.mark.parametrize("asked", ["quarrylane.com", "https://www.QuarryLane.com/pricing?a=1"])
async def test_the_search_takes_a_web_address(installation: Installation, looking: Looking, asked: str) -> None:
    await installation.happens(installation.facts("quarrylane.com", name="Quarry Lane"))
    await is_known(installation, "quarrylane.com")
    page = await looking.opens("/")
    await page.get_by_role("searchbox").fill(asked)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Quarry Lane")


async def test_the_search_lists_several_and_says_when_there_is_none(
    installation: Installation, looking: Looking
) -> None:
    for n in range(2):
        await one(installation, f"crm:twin-{n}", f"Larkspur Twin {n}")
    page = await looking.opens("/accounts?q=larkspur+twin")
    await expect(page.locator("tbody th")).to_have_text(["Larkspur Twin 0", "Larkspur Twin 1"])
    await expect(page.locator("tbody .chip").first).to_have_text("warm")
    await assert_is_accessible(page, "what the search found")
    await page.get_by_role("searchbox").fill("nobody of that name")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("No account with “nobody of that name”")
    await expect(page.locator("main")).to_contain_text("web domain")


async def test_the_search_finds_an_account_by_keyboard(installation: Installation, looking: Looking) -> None:
    await one(installation, "crm:found", "Nimbus Harbor Care")
    page = await looking.opens("/")
    await page.get_by_role("searchbox").fill("crm:found")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/accounts/crm:found")


async def test_it_is_accessible(installation: Installation, looking: Looking) -> None:
    page = await looking.opens("/accounts/crm:018")
    await expect(page.locator(".timeline li").first).to_be_visible()
    await page.locator("#others summary").first.click()
    await assert_is_accessible(page, "an account")
