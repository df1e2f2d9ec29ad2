"""Pictures of the page under docs/img, of the demo's fictional companies: `make screenshots`."""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from playwright.async_api import Page, async_playwright, expect

from streams.page.rendering import HERE
from tests.page.conftest import ARGS, CHROMIUM, TIMEOUT_S

PICTURES = Path(__file__).parents[2] / "docs" / "img"
SHOWN = PICTURES / "of.sha256"  # templates and scripts as they were when the pictures were taken
DEMO = ("-m", "streams.cli", "demo", "--seconds", "240")
STARTED_S = 180


async def link_of(demo: asyncio.subprocess.Process) -> str:
    assert demo.stdout is not None
    async with asyncio.timeout(STARTED_S):
        async for line in demo.stdout:
            if found := re.search(r"Page: (\S+)", line.decode()):
                return found[1]
    raise RuntimeError("the demo ended early")


async def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    expect.set_options(timeout=TIMEOUT_S * 1000)
    with tempfile.TemporaryDirectory() as directory:
        demo = await asyncio.create_subprocess_exec(
            sys.executable, *DEMO, cwd=directory, stdout=asyncio.subprocess.PIPE
        )
        try:
            await shoot(await link_of(demo))
        finally:
            demo.terminate()
            await demo.communicate()
    SHOWN.write_text(of_the_page() + "\n")


def of_the_page() -> str:
    """A sum over all that says how the page looks."""
    files = [*(HERE / "templates").rglob("*.html"), *(HERE / "static").glob("*.*")]
    return sha256(b"".join(path.name.encode() + path.read_bytes() for path in sorted(files))).hexdigest()


async def shoot(link: str) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await page.goto(link)
        await expect(page.locator("#cooling li").first).to_be_visible()
        await expect(page.locator("#connection")).to_have_text("live")
        await expect(page.locator("#health-3")).to_have_attribute("data-state", re.compile("good|note"))
        await picture(page, "now")
        await page.emulate_media(color_scheme="dark")
        await picture(page, "now-dark")
        await page.set_viewport_size({"width": 390, "height": 844})
        await picture(page, "now-phone")
        await page.set_viewport_size({"width": 1440, "height": 900})
        await page.emulate_media(color_scheme="light")
        await page.locator("#hottest a").first.click()
        await expect(page.locator(".timeline li").first).to_be_visible()
        await picture(page, "account")
        base = link.partition("/sign-in")[0]
        await page.goto(base + "/segments/engagement?with=size")
        await expect(page.locator("#sizes-chart canvas")).to_be_visible()
        await picture(page, "segments")
        await page.goto(base + "/quality")
        await expect(page.locator("#fact-industry")).to_be_visible()
        await picture(page, "quality")
        await page.goto(base + "/operations")
        await expect(page.locator("#workers td").nth(2)).not_to_have_text(re.compile("^[0–]$"))
        await picture(page, "operations")
        await browser.close()


async def picture(page: Page, name: str, **options: Any) -> None:
    await page.screenshot(path=PICTURES / f"{name}.png", full_page=name != "now-phone", **options)
    print(PICTURES / f"{name}.png")


if __name__ == "__main__":
    asyncio.run(main())
