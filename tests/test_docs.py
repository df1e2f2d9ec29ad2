"""What exists is documented: every command, setting, topic, operator and kind of condition."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rules import model, operators
from rules.compiler import compile_files, load
from streams import offline, topics
from streams.adapters.times import instant_or_none
from streams.cli import SHIPPED, app
from streams.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RULES = (ROOT / "docs" / "rules.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("name", sorted(name for name in app if not name.startswith("-")))
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"`isotherm {name}" in README


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_in_operations(name: str) -> None:
    assert f"`ISOTHERM_{name.upper()}`" in OPERATIONS


@pytest.mark.parametrize("name", sorted(topics.CONFIGS))
def test_every_topic_is_in_operations(name: str) -> None:
    assert f"`{name}`" in OPERATIONS


@pytest.mark.parametrize("name", [*operators.TABLE, *model.CONDITION_KEYS])
def test_every_operator_and_condition_is_in_rules(name: str) -> None:
    assert f"`{name}`" in RULES


def test_every_example_in_rules_compiles() -> None:
    """Each YAML block is a file of rules, or conditions to stand under `when:`."""
    blocks = re.findall(r"```yaml\n(.*?)```", RULES, re.DOTALL)
    declarations = blocks[0]
    assert len(blocks) > 5
    for i, block in enumerate(blocks):
        files = {"declarations.yaml": declarations, "example.yaml": _as_file(block)}
        if i == 0:
            files["example.yaml"] = "dimension: any\nsegments: [{segment: all, otherwise: true}]"
        assert compile_files(files).dimensions


def _as_file(block: str) -> str:
    if not block.startswith("- "):
        return block
    conditions = "".join(f"      {line}\n" for line in block.splitlines())
    return f"dimension: example\nsegments:\n  - segment: one\n    when:\n      all:\n{conditions}"


def test_the_change_in_the_readme_is_what_replay_prints() -> None:
    shown = json.loads(re.findall(r"```json\n(.*?)```", README, re.DOTALL)[0])
    with (ROOT / "docs" / "example.jsonl").open("rb") as lines:
        records = [each for each in offline.read(lines) if not isinstance(each, offline.Line)]
    until = instant_or_none("2026-04-01T00:00:00Z")
    assert until is not None
    changes = [json.loads(each) for each in offline.replay(records, load(SHIPPED), until)]
    assert _within(shown, next(each for each in changes if each["id"] == shown["id"]))


def _within(shown: object, whole: object) -> bool:
    """Everything shown is there; a shown mapping may leave keys out."""
    if isinstance(shown, dict) and isinstance(whole, dict):
        return all(key in whole and _within(value, whole[key]) for key, value in shown.items())
    return shown == whole


def test_relative_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
