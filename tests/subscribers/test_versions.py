"""A change of the schema that breaks readers is refused, unless the major number of the version is raised."""

from __future__ import annotations

import copy
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from rules.contract import VERSION
from rules.schema.compatibility import all_breaks, breaks, shape
from rules.schema.contract import schemas
from streams import contract

# What each published version says, as a sum over its schemas without their wording. A version adds a line; no line
# is ever changed.
PUBLISHED = {
    "1.0.0": "bd3687370975b959854e32fab014830c326af88e7c0bfcd399b7100ab6bf6b6a",
}


@pytest.mark.parametrize("path", contract.written(), ids=lambda path: path.name)
def test_what_is_kept_in_docs_is_what_the_model_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == contract.written()[path], "run `python -m streams.contract`"


@pytest.mark.parametrize("name", schemas())
def test_each_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(schemas()[name])


def test_the_model_breaks_no_reader_of_its_major_version() -> None:
    assert contract.refusals(VERSION, schemas(), contract.kept()) == []


def test_every_version_says_what_it_said_when_it_was_published() -> None:
    sums = {
        version: sha256(msgspec.json.encode(shape(kept))).hexdigest() for version, kept in contract.kept().items()
    }
    assert sums == PUBLISHED
    assert VERSION in PUBLISHED


# -- what breaks ----------------------------------------------------------------------------------------------


def _moved() -> Any:
    return copy.deepcopy(schemas()["segment.moved"])


def _data(schema: Any) -> Any:
    return schema["$defs"]["Moved"]


def removed(schema: Any) -> None:
    del _data(schema)["properties"]["owner"]
    _data(schema)["required"].remove("owner")


def optional_removed(schema: Any) -> None:
    del _data(schema)["properties"]["provisional"]


def optional(schema: Any) -> None:
    _data(schema)["required"].remove("owner")


def nullable(schema: Any) -> None:
    _data(schema)["properties"]["owner"] = {"anyOf": [{"type": "string"}, {"type": "null"}]}


def nullable_in_short(schema: Any) -> None:
    _data(schema)["properties"]["owner"] = {"type": ["string", "null"]}


def retyped(schema: Any) -> None:
    _data(schema)["properties"]["owner"] = {"type": "integer"}


def widened(schema: Any) -> None:
    schema["$defs"]["Position"]["properties"]["n"] = {"type": "number"}


def untyped(schema: Any) -> None:
    del _data(schema)["properties"]["owner"]["type"]


def another_cause(schema: Any) -> None:
    _data(schema)["properties"]["cause"]["enum"].append("whim")


def any_cause(schema: Any) -> None:
    del _data(schema)["properties"]["cause"]["enum"]


def constant(schema: Any) -> None:
    schema["properties"]["specversion"]["enum"] = ["2.0"]


def pattern(schema: Any) -> None:
    schema["properties"]["id"]["pattern"] = "^.+$"


def no_pattern(schema: Any) -> None:
    del schema["properties"]["id"]["pattern"]


def no_object(schema: Any) -> None:
    _data(schema)["properties"]["position"] = {"type": "string"}


BREAKING = {
    removed: ["data.owner: removed"],
    optional_removed: ["data.provisional: removed"],
    optional: ["data.owner: may be missing now"],
    nullable: ["data.owner: may be null now"],
    nullable_in_short: ["data.owner: may be null now"],
    retyped: ["data.owner: may be integer now"],
    widened: ["data.position.n: may be number now"],
    untyped: ["data.owner: may be anything now"],
    another_cause: ["data.cause: may be 'whim' now"],
    any_cause: [
        "data.cause: may be something other than 'backfill' or 'data' or 'identity' or 'merge' or 'override' "
        "or 'rebuild' or 'rules' or 'time' now"
    ],
    constant: ["specversion: was always '1.0', is '2.0' now"],
    pattern: [r"id: pattern was '^\\d+\\.\\d+\\.\\d+\\.\\d+$', is '^.+$' now"],
    no_pattern: [r"id: pattern was '^\\d+\\.\\d+\\.\\d+\\.\\d+$', is None now"],
    no_object: ["data.position: may be string now"],
}


@pytest.mark.parametrize("change", BREAKING, ids=lambda change: change.__name__)
def test_it_breaks_readers(change: Any) -> None:
    new = _moved()
    change(new)
    assert breaks(_moved(), new) == BREAKING[change]


def test_what_a_list_or_a_map_holds_counts_too() -> None:
    old = schemas()
    new = copy.deepcopy(old)
    new["segment.left"]["$defs"]["Crossed"]["properties"]["members"]["items"] = {"type": "integer"}
    new["account.state"]["$defs"]["Membership"]["properties"].pop("since")
    new["memberships"]["properties"]["memberships"]["additionalProperties"]["anyOf"].append({"type": "object"})
    del new["segment.entered"]
    assert all_breaks(old, new) == [
        "segment.entered: not published any more",
        "segment.left: data.members.[]: may be integer now",
        "account.state: data.memberships.*.since: removed",
        "memberships: memberships.*: may be object now",
    ]


# -- what does not --------------------------------------------------------------------------------------------


def added(schema: Any) -> None:
    _data(schema)["properties"]["mood"] = {"type": "string"}
    _data(schema)["required"].append("mood")


def always_there(schema: Any) -> None:
    _data(schema)["required"].append("provisional")


def never_null(schema: Any) -> None:
    _data(schema)["properties"]["to"] = {"type": "string"}


def fewer_causes(schema: Any) -> None:
    _data(schema)["properties"]["cause"]["enum"].remove("override")


def stricter(schema: Any) -> None:
    _data(schema)["properties"]["owner"]["minLength"] = 1


def moved_elsewhere(schema: Any) -> None:
    schema["$defs"]["Place"] = schema["$defs"].pop("Position")
    _data(schema)["properties"]["position"] = {"$ref": "#/$defs/Place"}


def reworded(schema: Any) -> None:
    schema["title"] = _data(schema)["description"] = "otherwise"
    schema["properties"]["id"]["examples"] = []


@pytest.mark.parametrize(
    "change",
    [added, always_there, never_null, fewer_causes, stricter, moved_elsewhere, reworded],
    ids=lambda change: change.__name__,
)
def test_it_breaks_nobody(change: Any) -> None:
    new = _moved()
    change(new)
    assert new != _moved()
    assert breaks(_moved(), new) == []


def test_another_kind_of_message_breaks_nobody() -> None:
    assert all_breaks(schemas(), schemas() | {"segment.renamed": {"type": "object"}}) == []


# -- versions -------------------------------------------------------------------------------------------------


def _changed(*changes: Any) -> Any:
    new = copy.deepcopy(schemas())
    for change in changes:
        change(new["segment.moved"])
    return new


def test_a_published_version_is_not_written_over() -> None:
    old = {"1.0.0": schemas()}
    assert contract.refusals("1.0.0", _changed(reworded), old) == []
    assert contract.refusals("1.0.0", _changed(added), old) == [
        "1.0.0 is published and says otherwise: this is version 1.1.0"
    ]
    assert contract.refusals("1.0.0", _changed(removed), old) == [
        "1.0.0 is published and says otherwise: this breaks its readers and is version 2.0.0",
        "segment.moved: data.owner: removed",
    ]


def test_within_a_major_version_nothing_breaks() -> None:
    old = {"1.0.0": schemas(), "1.1.0": _changed(added)}
    assert contract.refusals("1.2.0", _changed(added, always_there), old) == []
    assert contract.refusals("1.2.0", _changed(), old) == [
        "segment.moved: data.mood: removed (as against 1.1.0): raise the major number of the version"
    ]
    assert contract.refusals("2.0.0", _changed(removed), old) == []
