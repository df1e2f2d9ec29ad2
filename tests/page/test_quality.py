"""The page Data quality."""

from __future__ import annotations

from playwright.async_api import expect

from tests.page.conftest import Looking, assert_is_accessible


async def test_it_says_what_is_known_and_what_gaps_cost(looking: Looking) -> None:
    page = await looking.opens("/quality")
    industry = page.locator("#fact-industry")
    await expect(industry).to_be_visible()
    numbers = await industry.locator("td").all_inner_texts()
    assert int(numbers[0]) > 0
    assert int(numbers[4]) > 0, "Zeppelins are no sector that is understood"
    gaps = page.locator(".gaps li")
    await expect(gaps.filter(has_text="employees").get_by_role("link", name="without size")).to_be_visible()
    await expect(gaps.filter(has_text="industry").get_by_role("link", name="without industry")).to_be_visible()
    await expect(page.locator("#sizes-chart canvas")).to_be_visible()
    await expect(page.locator(".legend")).to_contain_text("industry")
    sources = page.get_by_role("table", name="Facts by source")
    await expect(sources.get_by_role("row", name="employees").filter(has_text="hubspot").first).to_be_visible()
    await gaps.filter(has_text="employees").get_by_role("link", name="without size").click()
    await expect(page.locator("tbody tr").first).to_be_visible()


async def test_it_is_accessible(looking: Looking) -> None:
    page = await looking.opens("/quality")
    await expect(page.locator("#fact-industry")).to_be_visible()
    await assert_is_accessible(page, "Data quality")
