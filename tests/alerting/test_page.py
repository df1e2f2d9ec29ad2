"""docs/alerts.md is true: its rule files load, and no key, state or command is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

import rules as shipped
from rules.compiler import load
from streams.alerting import model, rulebook
from streams.alerting.state import Phase
from streams.alerting.stepping import Why
from streams.commands.alerts import app

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SEGMENTS = {
    each.name: [segment.name for segment in each.segments]
    for each in load(Path(shipped.__file__).parent / "segments").dimensions
}
SHAPES = [kind for kind in vars(model).values() if isinstance(kind, type) and issubclass(kind, BaseModel)]
KEYS = {field.alias or name for shape in SHAPES for name, field in shape.model_fields.items()}


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_rule_file_on_the_page_loads_and_names_segments_that_there_are(example: str) -> None:
    ending = "" if "\nrules:" in example else "rules: [{rule: hot, when: engagement/hot}]\n"
    assert rulebook.parse("docs/alerts.md", example + ending, SEGMENTS).rules


def test_the_shipped_rules_name_segments_that_there_are() -> None:
    assert rulebook.read("", SEGMENTS).otherwise.channel == "default"


@pytest.mark.parametrize("name", sorted(KEYS - {"api"}))
def test_every_key_is_on_the_page(name: str) -> None:
    assert re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`|^ *-? ?{name}:|[{{ ]{name}: ", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", sorted({*Phase} - {Phase.NONE} | {*Why}))
def test_every_state_and_every_reason_not_to_tell_is_on_the_page(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", sorted(name for name in app if not name.startswith("-")))
def test_every_command_is_on_the_page(name: str) -> None:
    assert f"isotherm alerts {name}" in PAGE
