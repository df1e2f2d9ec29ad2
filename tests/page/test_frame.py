"""What all pages have in common."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.async_api import expect

from streams.api.rights import May, Tokens
from streams.page import wording
from streams.page.app import create
from streams.page.rendering import HERE, NAVIGATION
from streams.page.sessions import Sessions
from streams.settings import Settings
from tests.page.conftest import Installation, Looking
from tests.page.screenshots import SHOWN, of_the_page

ROOT = Path(__file__).parents[2]
VENDOR = HERE / "static" / "vendor"


def test_what_is_vendored_is_what_was_published() -> None:
    listed = dict(reversed(line.split()) for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    there = {each.name for each in VENDOR.iterdir()} - {"SHA256SUMS"}
    assert there == listed.keys()
    for name, digest in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
    assert "uPlot" in (ROOT / "NOTICE").read_text()


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    for path in (HERE / "templates").glob("*.html"):
        text = path.read_text()
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|\|\s*safe\b", text), path.name
        assert "//" not in re.sub(r"\{#.*?#\}", "", text), path.name


def test_every_route_of_the_page_wants_a_right(installation: Installation) -> None:
    app = made(installation)
    rights = {
        route.path: [each.call for each in route.dependant.dependencies if isinstance(each.call, May)]
        for route in app.routes
        if hasattr(route, "dependant")
    }
    assert {"/", "/live", "/quality", "/segments/{dimension}"} <= rights.keys()
    assert len(rights) == len(app.routes)
    assert all(rights.values())


def made(installation: Installation) -> FastAPI:
    tokens = Tokens(str(installation.file))
    return create(Settings(kafka="127.0.0.1:1", redis="redis://127.0.0.1:1"), tokens, Sessions(tokens))


async def test_the_keyboard_reaches_everything_in_order(looking: Looking) -> None:
    page = await looking.opens("/")
    reached = []
    for _ in range(3 + len(NAVIGATION) + 3):
        await page.keyboard.press("Tab")
        reached.append(
            await page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id")
        )
        outlined = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outlined != "none", reached
    assert reached[:2] == ["Skip to content", "Isotherm"]
    assert reached[2 : 2 + len(NAVIGATION)] == [each.title for each in NAVIGATION]
    assert reached[2 + len(NAVIGATION) :][:3] == ["account-search", "Find", "Sign out"]


async def test_one_can_skip_to_the_content(looking: Looking) -> None:
    page = await looking.opens("/")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()


@pytest.mark.parametrize("entry", NAVIGATION)
async def test_the_navigation_leads_there_and_says_where_one_is(looking: Looking, entry: object) -> None:
    page = await looking.opens("/")
    link = page.get_by_role("navigation").get_by_role("link", name=entry.title)
    await link.click()
    await page.wait_for_url("**" + entry.path)
    await expect(link).to_have_attribute("aria-current", "page")


@pytest.mark.parametrize(
    ("seconds", "said"), [(-1, "0:00"), (9.9, "0:09"), (75, "1:15"), (3_700, "1 h 1 min"), (90_000, "1 d 1 h")]
)
async def test_server_and_browser_say_a_span_alike(looking: Looking, seconds: float, said: str) -> None:
    assert wording.span(seconds) == said
    page = await looking.opens("/")
    address = await page.locator("script[src]").first.get_attribute("src")
    assert address is not None
    clock = address.replace("page.js", "clock.js")
    assert await page.evaluate(f"import('{clock}').then((it) => it.span({seconds}))") == said
    assert await page.evaluate(f"import('{clock}').then((it) => it.roughly({seconds}))") == wording.roughly(
        seconds
    )


def test_the_pictures_in_docs_show_the_page_as_it_is() -> None:
    assert SHOWN.read_text().strip() == of_the_page(), "make screenshots"
