"""The pages as a site: they build without a warning, and a browser that shows them asks nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does, into a directory of its own."""
    at = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "-f", "docs/site/mkdocs.yml", "--strict", "-d", str(at)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # not a word on our pages: the theme's own announcement
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert [line for line in done.stderr.splitlines() if not line.startswith("INFO ")] == []
    return at


def test_every_page_is_there(site: Path) -> None:
    docs = ROOT / "docs"
    assert {page.relative_to(docs).with_suffix(".html") for page in docs.rglob("*.md")} <= {
        page.relative_to(site) for page in site.rglob("*.html")
    }


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = [each for page in site.rglob("*.html") for each in _loaded(page.read_text())]
    assert any(each.endswith(".css") for each in loaded)
    assert [each for each in loaded if "//" in each] == []
    assert [sheet for sheet in site.rglob("*.css") if "url(http" in sheet.read_text()] == []


def _loaded(page: str) -> Iterator[str]:
    """What a browser fetches by itself: not what a reader may click on."""
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            given = dict(attributes)
            if tag in LOADS and given.get("rel") not in ("canonical", "next", "prev"):
                found.append(given.get(LOADS[tag]) or "")

    Reader().feed(page)
    yield from found
