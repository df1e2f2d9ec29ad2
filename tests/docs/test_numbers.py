"""A number is measured once and written down once: docs/performance.md has all that README shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEASURED = (ROOT / "docs" / "performance.md").read_text()
SHOWN = (ROOT / "README.md").read_text().partition("## Numbers\n")[2].partition("\n## ")[0]
BENCH = ast.parse((ROOT / "tests" / "bench" / "run.py").read_text())
NUMBER = re.compile(r"[\d.,]*\d")


@pytest.mark.parametrize("row", re.findall(r"^\| .*\d.*$|^The same one-ladder.*$", SHOWN, re.MULTILINE))
def test_what_the_readme_shows_was_measured(row: str) -> None:
    written = set(NUMBER.findall(MEASURED))
    assert [each for each in NUMBER.findall(row) if each not in written] == []


def test_there_are_rows() -> None:
    assert len(NUMBER.findall(SHOWN)) > 30


def _sections() -> list[str]:
    """What `make bench ARGS="--only …"` takes, without importing what only the bench needs."""
    (value,) = (
        node.value
        for node in BENCH.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "SECTIONS"
    )
    return list(ast.literal_eval(value))


@pytest.mark.parametrize("section", _sections())
def test_every_section_of_the_bench_is_on_the_page(section: str) -> None:
    assert f"`{section}`" in MEASURED
