"""JSON Schemas, generated from the types and kept beside them.

    record.json   a record of `account.log`, for those who write records in another language
    rules.json    a document of a rule file, for editors
    test.json     a document of a test file, for editors

`python -m rules.schema` writes them anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from pydantic import TypeAdapter

from rules import model, operators
from rules.records import Record
from rules.rehearsal_model import WrittenTest
from rules.schema.words import KEYS
from rules.sources import SourcesFile

HERE = Path(__file__).parent
RECORD, RULES, TEST = HERE / "record.json", HERE / "rules.json", HERE / "test.json"


def record() -> str:
    """The schema's text, the same for the same types."""
    schema = msgspec.json.schema(Record)
    # The position is set by whoever reads a record; it is never written.
    for each in schema["$defs"].values():
        each.get("properties", {}).pop("offset", None)
    return _text({"title": "A record of account.log", **schema})


def rules() -> str:
    document = model.Dimension | model.Vocabulary | model.Bands | model.Declarations | SourcesFile
    schema = _for_editors(TypeAdapter(document).json_schema())
    return _text({"title": "A document of an Isotherm rule file", **schema})


def test() -> str:
    schema = _for_editors(TypeAdapter(WrittenTest).json_schema())
    return _text(schema | {"title": "A test of Isotherm rules"})


WRITTEN = {RECORD: record, RULES: rules, TEST: test}


def _text(schema: dict[str, Any]) -> str:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


# -- as editors like it ---------------------------------------------------------------------------------------


def _for_editors(schema: dict[str, Any]) -> dict[str, Any]:
    """Every key described, nothing said twice, and nothing that only a program would write."""
    shapes: dict[str, Any] = schema.get("$defs", {})
    conditions = [{"$ref": f"#/$defs/{kind.__name__}"} for kind in model.CONDITIONS.values()]
    plain: dict[str, Any] = _plain(schema, conditions)
    for name, shape in plain.get("$defs", {}).items():
        _describe(name, shape)
    if "properties" in plain:
        _describe(plain.get("title", ""), plain)
    if "SegmentCondition" in shapes:
        plain["$defs"]["Condition"] = {"anyOf": conditions, "description": "Exactly one kind of condition."}
    return plain


def _plain(value: Any, conditions: list[Any]) -> Any:
    match value:
        case {"oneOf": parts} if parts == conditions:
            return {"$ref": "#/$defs/Condition"}
        case {"anyOf": [*parts, {"type": "null"}], **rest}:
            # `key: null` is another way to leave the key out, and no way to write rules.
            inner = parts[0] if len(parts) == 1 else {"anyOf": parts}
            return _plain({**rest, **inner}, conditions)
        case dict():
            kept = {key: _plain(each, conditions) for key, each in value.items() if not _is_noise(key, each)}
            return kept | {"additionalProperties": False} if "patternProperties" in kept else kept
        case list():
            return [_plain(each, conditions) for each in value]
        case _:
            return value


def _is_noise(key: str, value: Any) -> bool:
    """What pydantic makes of a field's name, and defaults that say nothing."""
    if key == "default":
        return value in (None, "", []) or isinstance(value, dict)
    return key == "title" and isinstance(value, str)


def _describe(name: str, shape: dict[str, Any]) -> None:
    for key, field in shape.get("properties", {}).items():
        if "description" not in field:
            field["description"] = described(name, key)


def described(shape: str, key: str) -> str:
    """What `key` means in a mapping of that shape. Raises LookupError when nobody has said."""
    kind = model.CONDITIONS.get(key)
    if kind is not None and kind.__name__ == shape:
        return (kind.__doc__ or "").strip()
    if f"{shape}.{key}" in KEYS:
        return KEYS[f"{shape}.{key}"]
    if shape in ("Comparison", "FactCondition") and key in operators.TABLE:
        return _of_operator(key)
    if key not in KEYS:
        raise LookupError(f"say in rules/schema/words.py what '{key}' of {shape} means")
    return KEYS[key]


def _of_operator(name: str) -> str:
    """`is at least …; on a number`"""
    operator = operators.TABLE[name]
    words = operator.words.replace("{}", "…").strip()
    if operator.types == operators.ANY:
        return f"{words}; of any type"
    return f"{words}; {', '.join(sorted(operator.types))}"
