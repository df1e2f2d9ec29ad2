"""The arrows of the architecture: `rules/` is pure, and knows nothing of `streams/`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

RULES = Path(__file__).parents[2] / "rules"
FILES = sorted(RULES.rglob("*.py"))
ALLOWED = sys.stdlib_module_names | {"pydantic", "msgspec", "yaml", "rules"}
# Of the standard library: what would reach the world, or keep time, or guess.
IMPURE = {
    "asyncio",
    "socket",
    "subprocess",
    "threading",
    "multiprocessing",
    "time",
    "random",
    "secrets",
    "uuid",
    "os",
}
CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter", "getenv", "urandom"}


def names(path: Path) -> str:
    return path.relative_to(RULES.parent).as_posix()


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{names(path)}:{node.lineno}: a relative import hides the arrow"
            yield node.module or ""


@pytest.mark.parametrize("path", FILES, ids=names)
def test_rules_import_the_standard_library_pydantic_msgspec_yaml_and_themselves(path: Path) -> None:
    packages = {name.partition(".")[0] for name in imports(path)}
    assert packages <= ALLOWED
    assert "streams" not in packages


@pytest.mark.parametrize("path", FILES, ids=names)
def test_rules_have_no_clock_no_chance_and_no_await(path: Path) -> None:
    assert {name.partition(".")[0] for name in imports(path)} & IMPURE == set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        place = f"{names(path)}:{getattr(node, 'lineno', 0)}"
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith), place
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in CLOCKS, place


def test_only_loading_reads_files() -> None:
    """The compiler reads a directory of rules and the schema writes itself; nothing else opens anything."""
    opening = {"open", "read_text", "read_bytes", "write_text", "write_bytes"}
    found = {
        names(path)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "attr", "") in opening or getattr(node.func, "id", "") in opening)
    }
    assert found <= {"rules/compiler.py", "rules/schema/__main__.py"}
