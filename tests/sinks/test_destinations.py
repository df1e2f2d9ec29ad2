"""docs/destinations.md says what is: every example is read as webhooks.yaml is, every key is in its table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rules.compiler import load
from streams.commands import SHIPPED
from streams.delivery.endpoints import Known, parse
from streams.sinks.making import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "destinations.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SECTIONS = {
    "segment": "Segment, RudderStack, Customer.io, Dittofeed",
    "hubspot": "HubSpot",
    "salesforce": "Salesforce",
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_read_and_fits_the_shipped_rules(example: str) -> None:
    ruleset = load(SHIPPED)
    dimensions = {each.name: [segment.name for segment in each.segments] for each in ruleset.dimensions}
    (endpoint,) = parse("webhooks.yaml", example, Known(dimensions, ruleset.facts))
    assert endpoint.kind in SECTIONS


def test_there_is_an_example_for_each_kind() -> None:
    assert [re.findall(r"kind: (\w+)", each) for each in EXAMPLES] == [[kind] for kind in SECTIONS]


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind in SECTIONS for key in KINDS[kind].model_fields])
def test_every_key_is_in_the_table_of_its_kind(kind: str, key: str) -> None:
    section = PAGE.partition(f"\n## {SECTIONS[kind]}\n")[2].partition("\n## ")[0]
    assert f"| `{key}` |" in section
