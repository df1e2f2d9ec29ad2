"""Rules in the shadow, on the page: which they are, and what would differ."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from playwright.async_api import Page, expect

from streams.demo.run import SHIPPED
from tests.live.conftest import isotherm
from tests.page.conftest import Installation, Looking, assert_is_accessible


async def shadow(installation: Installation, *arguments: str) -> str:
    ended = await asyncio.to_thread(isotherm, installation.settings, "shadow", *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def looser(directory: Path) -> Path:
    """The rules of the installation, but that one look at prices makes hot."""
    made = Path(shutil.copytree(SHIPPED, directory / "looser", ignore=shutil.ignore_patterns("*_test.yaml")))
    rule = made / "engagement.yaml"
    text = rule.read_text()
    assert "{count: pricing_viewed, at_least: 3, within: 7d}" in text
    rule.write_text(text.replace("pricing_viewed, at_least: 3", "pricing_viewed, at_least: 1"))
    return made


async def test_without_one_it_says_how_to_begin(looking: Looking) -> None:
    page = await looking.opens("/segments")
    await expect(page.locator("#shadow")).to_contain_text("isotherm shadow run DIR")
    page = await looking.opens("/shadow")
    await expect(page.get_by_text("isotherm shadow run DIR")).to_be_visible()
    await assert_is_accessible(page, "without a shadow")


async def test_it_says_what_differs_now_and_over_time(
    installation: Installation, looking: Looking, tmp_path: Path
) -> None:
    rules = str(looser(tmp_path))
    await shadow(installation, "run", rules, "--once")
    told = json.loads(await shadow(installation, "status", "--json"))["segments"]["engagement/hot"]
    assert told["only_shadow"] > 0, "there is something to see"
    await shadow(installation, "run", rules, "--once")

    page = await looking.opens("/segments")
    await page.get_by_role("link", name="what would differ").click()
    await expect(page.get_by_text("engagement/hot: count pricing_viewed at_least 3 → 1")).to_be_visible()
    await expect(page.locator("dd", has_text="0 records")).to_be_visible()
    row = page.get_by_role("row", name="engagement: hot")
    await expect(row.locator("td")).to_have_text([str(each) for each in told.values()])
    await expect(page.locator("#sizes-chart canvas")).to_be_visible()
    await expect(page.locator(".legend")).to_contain_text("engagement/hot")
    assert len((await drawn(page))["at"]) == 2
    await page.get_by_role("link", name="35 days").click()
    await page.wait_for_url("**/shadow?over=35d")
    assert len((await drawn(page))["at"]) == 1
    await assert_is_accessible(page, "a shadow")

    await shadow(installation, "drop")
    await expect(page.get_by_text("No rules run beside those in force")).to_be_visible()


async def drawn(page: Page) -> dict[str, list[float]]:
    return json.loads(await page.evaluate("document.getElementById('sizes-data').content.textContent"))
