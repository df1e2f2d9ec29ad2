"""The published JSON Schemas are those of the types, and say of rule files what loading says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from story import NAMES, SHIPPED

from rules import model, operators, rehearsal_model, schema, sources, yamlfile
from rules.compiler import TEST_SUFFIX
from rules.records import Activity, Facts, Record, RulesetRecord, Tick, decode_record, encode_record

PAGE = Path(__file__).parents[2] / "docs" / "rule-language.md"


@pytest.mark.parametrize("path", schema.WRITTEN, ids=lambda path: path.name)
def test_the_schema_is_the_one_of_the_types(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == schema.WRITTEN[path](), "run `python -m rules.schema`"
    Draft202012Validator.check_schema(_read(path))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# -- records --------------------------------------------------------------------------------------------------


def test_the_schema_names_every_kind() -> None:
    kinds = json.loads(schema.record())["discriminator"]["mapping"]
    assert set(kinds) == {kind.__struct_config__.tag for kind in _members()}
    assert {Activity, Facts, Tick, RulesetRecord} <= set(_members())


def _members() -> tuple[type[Record], ...]:
    return get_args(Record)


@pytest.mark.parametrize(
    "record",
    [
        Activity(account="a", name="page_viewed", at=1, received=2, via=("crm/0", 7, 1), props={"path": "/"}),
        Facts(account="a", at=1, received=2, set={"employees": 5, "tags": ["x"]}, clear=["country"]),
        Tick(received=3),
        RulesetRecord(received=3, hash="h", files={"a.yaml": ""}),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    written = encode_record(record)
    assert decode_record(written) == record
    Draft202012Validator(_read(schema.RECORD)).validate(json.loads(written))


# -- rule files and tests -------------------------------------------------------------------------------------

RULES, TESTS = (Draft202012Validator(_read(path)) for path in (schema.RULES, schema.TEST))


def _texts() -> Iterator[tuple[str, str]]:
    """Every rule file and test that is shipped, and every one on the page of the language."""
    yield "story.yaml", NAMES
    for path in sorted(SHIPPED.rglob("*.yaml")):
        yield path.relative_to(SHIPPED).as_posix(), path.read_text(encoding="utf-8")
    for i, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)):
        yield f"page-{i}{TEST_SUFFIX if block.startswith('test:') else '.yaml'}", block


@pytest.mark.parametrize(("name", "text"), [pytest.param(*each, id=each[0]) for each in _texts()])
def test_what_loads_conforms(name: str, text: str) -> None:
    validator = TESTS if name.endswith(TEST_SUFFIX) else RULES
    for document in yamlfile.read(name, text):
        validator.validate(document.data)


LADDER = "dimension: d\nsegments: [{segment: s, when: %s}]"


@pytest.mark.parametrize(
    "text",
    [
        "dimension: Size\nby_fact: x",
        "dimension: d\nkind: staircase\nby_fact: x",
        "dimension: d\nsegments: []",
        "dimension: d\nsegmets: []",
        "facts: {x: {type: txt}}",
        "facts: {X: {type: text}}",
        "vocabulary: v\nterms: {}",
        "bands: b\nprofiles: {p: {small: few}}",
        "ranks: human",
        "human: {wins_for: 90 days}",
        "fields: {salesforce: {acount: {}}}",
        "tables: {t: {object: row}}",
        LADDER % "{}",
        LADDER % "{fact: x, at_leest: 1}",
        LADDER % "{count: x, at_least: 0, within: 7d}",
        LADDER % "{count: x, at_least: 1, within: 7 days}",
        LADDER % "{count: x, at_least: 1, calendar: 7m}",
        LADDER % "{count: x, seen: y}",
        LADDER % "{sequence: [x], span: 1d}",
        LADDER % "{contacts: most, where: {x: y}}",
        LADDER % "{not: {fact: x, in: []}}",
    ],
)
def test_what_has_the_wrong_shape_does_not(text: str) -> None:
    assert not RULES.is_valid(yamlfile.read("x.yaml", text)[0].data)


def test_a_test_of_the_wrong_shape_does_not() -> None:
    for text in ("test: t", "test: t\ntimeline: []", "test: t\ntimeline: [{activty: x}]", "timeline: [{at: 1h}]"):
        assert not TESTS.is_valid(yamlfile.read("x_test.yaml", text)[0].data)


# -- for completion -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [schema.RULES, schema.TEST], ids=lambda path: path.name)
def test_every_key_is_described(path: Path) -> None:
    whole = _read(path)
    shapes = [whole, *whole["$defs"].values()]
    assert all(field["description"] for shape in shapes for field in shape.get("properties", {}).values())


def test_operators_and_conditions_are_described_by_their_own_words() -> None:
    shapes = _read(schema.RULES)["$defs"]
    for name in operators.TABLE:
        assert shapes["Comparison"]["properties"][name]["description"].startswith(
            operators.TABLE[name].words.partition(" {}")[0]
        )
    assert len(shapes["Condition"]["anyOf"]) == len(model.CONDITION_KEYS)


def test_no_word_is_left_over() -> None:
    """A key that is gone takes its description along."""
    names = {
        f"{shape.__name__}.{field.alias or name}"
        for module in (model, rehearsal_model, sources)
        for shape in vars(module).values()
        if isinstance(shape, type) and issubclass(shape, model.Model)
        for name, field in shape.model_fields.items()
    }
    keys = {name.partition(".")[2] for name in names}
    assert {key for key in schema.KEYS if key not in (names if "." in key else keys)} == set()
