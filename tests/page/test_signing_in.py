"""Who may look: nobody without a token, and with a cookie only from here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect
from starlette.requests import Request

from streams.api.rights import Holder, Tokens
from streams.page import sessions
from streams.page.sessions import LASTS_S, Sessions
from tests.page.conftest import Installation, assert_is_accessible, signed_in

BROWSER = {"Accept": "text/html"}


@pytest_asyncio.fixture(loop_scope="package")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


async def get(http: Any, url: str, **options: Any) -> Any:
    async with http.get(url, allow_redirects=False, **options) as answer:
        await answer.read()
        return answer


PATHS = ("/", "/live", "/accounts?q=x", "/segments", "/quality", "/accounts/crm:000", "/nowhere")


@pytest.mark.parametrize("path", PATHS)
async def test_who_is_not_signed_in_sees_nothing(installation: Installation, http: Any, path: str) -> None:
    shown = await get(http, installation.url + path, headers=BROWSER)
    assert shown.status == 303
    assert shown.headers["Location"].startswith("/sign-in")
    told = await get(http, installation.url + path)
    assert (told.status, (await told.json())["type"]) == (401, "urn:isotherm:problem:no_token")
    forged = await get(http, installation.url + path, headers={"Cookie": "isotherm_1=x"} | BROWSER)
    assert forged.status == 303


async def test_every_answer_says_what_a_browser_may_not_do(installation: Installation, http: Any) -> None:
    for path in ("/", "/sign-in", "/v1/segments"):
        headers = (await get(http, installation.url + path)).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"


async def test_the_cookie_is_not_the_token_and_no_script_can_read_it(
    browser: Browser, installation: Installation
) -> None:
    context = await signed_in(browser, installation)
    (cookie,) = await context.cookies()
    assert cookie["value"] not in (installation.tokens["reader"], "")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page = await context.new_page()
    await page.goto(installation.url)
    assert await page.evaluate("document.cookie") == ""
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url("**/sign-in")
    await context.add_cookies([cookie])
    await page.goto(installation.url)
    assert "/sign-in" in page.url
    await context.close()


async def test_a_wrong_token_is_told_and_nothing_is_repeated(browser: Browser, installation: Installation) -> None:
    page = await browser.new_page()
    await page.goto(installation.url + "/segments")
    await page.get_by_label("Token").fill("isotherm_wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("not known here")
    assert "isotherm_wrong" not in await page.content()
    await assert_is_accessible(page, "the sign-in page")
    await page.get_by_label("Token").fill(installation.tokens["reader"])
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/segments")
    await page.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
        {},
    ],
)
@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
async def test_a_form_of_another_site_is_refused(
    installation: Installation, http: Any, path: str, headers: dict[str, str]
) -> None:
    given = {"token": installation.tokens["reader"]}
    async with http.post(installation.url + path, data=given, headers=headers) as answer:
        assert answer.status == 403
        assert "Set-Cookie" not in answer.headers


async def test_it_leads_only_to_places_of_its_own(installation: Installation, http: Any) -> None:
    for asked in ("//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb"):
        given = {"token": installation.tokens["reader"], "next": asked}
        headers = {"Origin": installation.url}
        async with http.post(
            installation.url + "/sign-in", data=given, headers=headers, allow_redirects=False
        ) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")


async def test_a_token_that_is_taken_out_ends_what_it_opened(browser: Browser, installation: Installation) -> None:
    context = await signed_in(browser, installation, "admin")
    page = await context.new_page()
    await page.goto(installation.url)
    await expect(page.locator("#connection")).to_have_text("live")
    lines = installation.file.read_text()
    installation.file.write_text("".join(each for each in lines.splitlines(True) if "admin" not in each))
    other = await context.new_page()  # the first goes to sign in by itself as soon as it hears of it
    try:
        await other.goto(installation.url + "/")
        assert "/sign-in" in other.url
    finally:
        installation.file.write_text(lines)
        await context.close()


# -- sessions alone -----------------------------------------------------------------------------------------


def asking(secret: str) -> Request:
    headers = [(b"cookie", f"isotherm_80={secret}".encode())]
    return Request({"type": "http", "headers": headers, "server": ("127.0.0.1", 80)})


def test_an_invitation_signs_in_once(installation: Installation) -> None:
    made = Sessions(Tokens(str(installation.file)))
    key = made.invite(Holder("a reader", "reader"))
    secret = made.sign_in(key)
    assert secret is not None
    assert made.holder(asking(secret)) == Holder("a reader", "reader")
    assert made.sign_in(key) is None


def test_a_session_ends_after_its_time(installation: Installation) -> None:
    now = 100.0
    made = Sessions(Tokens(str(installation.file)), lambda: now)
    secret = made.sign_in(installation.tokens["reader"])
    assert secret is not None
    now += LASTS_S - 1
    assert made.holder(asking(secret)) is not None
    now += 1
    assert made.holder(asking(secret)) is None


def test_there_are_only_so_many_sessions(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST", 2)
    made = Sessions(Tokens(str(installation.file)))
    secrets = [made.sign_in(installation.tokens["reader"]) or "" for _ in range(3)]
    assert [made.holder(asking(each)) is not None for each in secrets] == [False, True, True]


async def test_a_link_of_the_demo_signs_in_without_a_token(
    browser: Browser, installation: Installation, tmp_path: Any
) -> None:
    from streams.demo.page import showing

    settings = installation.settings.model_copy(update={"api_port": 0})
    async with showing(settings, tmp_path) as shown:
        link = shown.link()
        page = await browser.new_page()
        await page.goto(link)
        await page.wait_for_url(shown.address + "/")
        assert "key" not in page.url
        await expect(page.get_by_text("demo, operator")).to_be_visible()
        other = await browser.new_context()
        second = await other.new_page()
        await second.goto(link)
        await expect(second.get_by_role("alert")).to_contain_text("works once")
        await other.close()
        await page.close()
    assert not (tmp_path / "tokens.yaml").exists()
    await asyncio.sleep(0)
