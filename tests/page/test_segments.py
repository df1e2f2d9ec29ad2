"""The pages about segments."""

from __future__ import annotations

import asyncio
import codecs
import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Page, expect

from rules.ruleset import Dimension, Ruleset
from streams.embedded import free_port
from streams.page.views.segments import accounts_in, csv_cell, volatility
from tests.page.conftest import (
    TIMEOUT_S,
    Installation,
    Looking,
    _wait_for,
    assert_is_accessible,
    is_known,
    run_in,
    signed_in,
)


async def test_every_dimension_is_listed_and_leads_to_its_members(looking: Looking) -> None:
    page = await looking.opens("/segments")
    await page.get_by_role("link", name="Engagement", exact=True).click()
    await page.locator("#size-hot a").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Hot")
    await expect(page.locator("pre")).to_contain_text("pricing_viewed")
    await expect(page.get_by_text("reach out today")).to_be_visible()
    await page.locator("tbody a").first.click()
    await expect(page.locator("#dimension-engagement summary")).to_contain_text("hot")


async def test_a_dimension_says_sizes_moves_outcomes_and_overlap(looking: Looking) -> None:
    page = await looking.opens("/segments/engagement?with=size")
    await expect(page.locator("#size-cold .n").first).not_to_have_text("0")
    cell = page.get_by_role("table", name="Moves").get_by_role("row", name="cold").locator("td")
    assert sum(int(each) for each in await cell.all_inner_texts() if each.isdecimal()) > 0
    outcomes = page.get_by_role("table", name="Outcomes by segment")
    await expect(outcomes.get_by_role("columnheader", name="replied")).to_be_visible()
    overlap = page.get_by_role("table", name="Accounts in both")
    counted = await overlap.locator("td").all_inner_texts()
    sizes = (
        await page.get_by_role("table", name="Segments of engagement").locator("td:nth-child(2)").all_inner_texts()
    )
    assert sum(map(int, counted)) == sum(map(int, sizes))
    await expect(page.locator("#sizes-chart canvas")).to_be_visible()


async def test_sizes_over_time_outlive_the_process_that_took_them(
    installation: Installation, looking: Looking, tmp_path: Path
) -> None:
    page = await looking.opens("/segments/engagement?with=size")
    first = await sampled(page)
    await page.get_by_role("link", name="35 days").click()
    await page.wait_for_url("**/engagement?with=size&over=35d")
    await expect(page.locator("#sizes-chart canvas")).to_be_visible()
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        later = run_in(installation.settings.model_copy(update={"api_port": port}), log, "serve")
        try:
            other = replace(installation, url=f"http://127.0.0.1:{port}", processes=[later])
            await asyncio.to_thread(_wait_for, other)
            context = await signed_in(looking.browser, other)
            page = await Looking(other, looking.browser, context).opens("/segments/engagement?over=day")
            assert (await sampled(page))[0] == first[0]
            await context.close()
        finally:
            later.terminate()
            later.wait(TIMEOUT_S)


async def test_a_chart_goes_on_while_somebody_looks(looking: Looking) -> None:
    """Its last point is now."""
    page = await looking.opens("/segments/engagement")
    await expect(page.locator("#sizes-chart canvas")).to_be_visible()
    first = (await drawn(page))[-1]
    async with asyncio.timeout(TIMEOUT_S):
        while (await drawn(page))[-1] == first:
            await asyncio.sleep(0.1)


async def sampled(page: Page) -> list[float]:
    """Instants of what is drawn: samples, once there is one, and now."""
    at: list[float] = []
    async with asyncio.timeout(TIMEOUT_S):
        while len(at) < 2:
            await page.reload()
            at = await drawn(page)
    return at


async def drawn(page: Page) -> list[float]:
    """Instants of the chart's points, as the page has them now."""
    at: list[float] = json.loads(await page.evaluate("document.getElementById('sizes-data').content.textContent"))[
        "at"
    ]
    return at


async def test_members_are_searched_and_turned_page_by_page(installation: Installation, looking: Looking) -> None:
    await installation.happens(*(installation.facts(f"crm:page{n:02}", name=f"Paged {n:02}") for n in range(60)))
    await is_known(installation, "crm:page59")
    page = await looking.opens("/segments/engagement/cold?sort=account")
    first = await page.locator("tbody th").all_inner_texts()
    await page.get_by_role("link", name="Next").click()
    await page.wait_for_url("**cursor**")
    second = await page.locator("tbody th").all_inner_texts()
    assert len(first) == 50
    assert second
    assert not set(first) & set(second)
    await page.get_by_role("searchbox", name="Name or id").fill("paged 07")
    await page.get_by_role("button", name="Show").click()
    await expect(page.locator("tbody th")).to_have_text(["Paged 07"])
    await page.get_by_role("searchbox", name="Name or id").fill("nobody of that name")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Nobody here has that")).to_be_visible()


LISTENERS = """
window.listeners = 0;
for (const [name, step] of [["addEventListener", 1], ["removeEventListener", -1]]) {
  const before = window[name].bind(window);
  window[name] = (kind, ...given) => {
    if (kind === "dppxchange") window.listeners += step;
    return before(kind, ...given);
  };
}
"""


async def test_a_chart_that_is_drawn_anew_does_not_keep_the_old_one(looking: Looking) -> None:
    """Each listens to the window, which would keep it, with its canvas, for as long as the page is open."""
    await looking.context.add_init_script(LISTENERS)
    page = await looking.opens("/segments/engagement")
    await expect(page.locator("#sizes-chart canvas")).to_be_visible()
    listeners = await page.evaluate("window.listeners")
    for width in (1200, 1000, 800):
        await page.set_viewport_size({"width": width, "height": 900})
        shown = await page.locator("#sizes-chart").evaluate("(place) => place.clientWidth")
        await expect(page.locator("#sizes-chart .uplot")).to_have_css("width", f"{shown}px")
    assert await page.locator("#sizes-chart .uplot").count() == 1
    assert await page.evaluate("window.listeners") == listeners


def test_volatility_is_for_each_account_also_of_a_set() -> None:
    kinds: tuple[tuple[str, Literal["ladder", "set"]], ...] = (("engagement", "ladder"), ("signs", "set"))
    dimensions = [Dimension(name, kind, (), lambda state, at: ((), at), frozenset()) for name, kind in kinds]
    ruleset = Ruleset(dimensions=tuple(dimensions))
    accounts = accounts_in(ruleset, {"engagement": {"hot": 1, "cold": 3}, "signs": {"a": 4, "b": 4}})
    assert accounts == 4
    tallied = {("signs", "a", "entered"): 4, ("signs", "b", "left"): 2, ("size", "big", "entered"): 9}
    assert volatility("signs", tallied, accounts) == 1.5
    assert volatility("signs", tallied, 0) is None


async def test_the_csv_has_every_member_and_no_formula(installation: Installation, looking: Looking) -> None:
    name = '=HYPERLINK("http://evil.example")'
    await installation.happens(installation.facts("crm:csv", name=name))
    await is_known(installation, "crm:csv")
    page = await looking.opens("/segments/engagement/cold")
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="Download as CSV").click()
    download = await downloading.value
    with open(await download.path(), encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(io.StringIO(file.read())))
    assert Path(await download.path()).read_bytes().startswith(codecs.BOM_UTF8), "Excel reads it as UTF-8"
    assert download.suggested_filename == "engagement-cold.csv"
    (row,) = (each for each in rows if each["account"] == "crm:csv")
    assert row["name"] == f"'{name}"
    assert len({each["account"] for each in rows}) == len(rows)


@pytest.mark.parametrize(
    ("value", "cell"),
    [("=1+1", "'=1+1"), ("@x", "'@x"), ("-2", "'-2"), (-2.5, "-2.5"), (None, ""), ("Acme", "Acme")],
)
def test_a_cell_is_no_formula(value: object, cell: str) -> None:
    assert csv_cell(value) == cell


@pytest.mark.parametrize(
    "path", ["/segments/nothing", "/segments/engagement/hott", "/segments/engagement?with=nothing"]
)
async def test_what_there_is_not_is_told_with_a_hint(looking: Looking, path: str) -> None:
    page = await looking.opens(path)
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Unknown")
    looking.said = [each for each in looking.said if "404" not in each]


async def test_they_are_accessible(looking: Looking) -> None:
    for path in ("/segments", "/segments/engagement?with=size", "/segments/engagement/warm"):
        page = await looking.opens(path)
        await assert_is_accessible(page, path)
        await page.close()
