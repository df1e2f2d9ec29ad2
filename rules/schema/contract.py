"""JSON Schemas of what subscribers get, one for each message, generated from `rules.contract`.

Objects are open: a reader lets pass what it does not know.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from rules import contract

Schema: TypeAlias = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MEMBERSHIPS = "memberships"
KINDS: dict[str, Any] = {
    contract.MOVED: contract.Event[contract.Moved],
    contract.ENTERED: contract.Event[contract.Crossed],
    contract.LEFT: contract.Event[contract.Crossed],
    contract.STATE: contract.Event[contract.State],
    MEMBERSHIPS: contract.Memberships,
}


def schemas() -> dict[str, Schema]:
    """Each message's schema by its name, complete in itself."""
    return {name: _alone(name) for name in KINDS}


def components(prefix: str) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """Each message's schema by its name, and the shapes they share, to which they refer under `prefix`."""
    references, shapes = msgspec.json.schema_components(KINDS.values(), ref_template=prefix + "{name}")
    names = [each["$ref"].removeprefix(prefix) for each in references]
    told = {message: _named(message, shapes[name]) for message, name in zip(KINDS, names, strict=True)}
    return told, {name: _tidy(shape) for name, shape in sorted(shapes.items()) if name not in names}


def _alone(name: str) -> Schema:
    schema = msgspec.json.schema(KINDS[name])
    shapes = schema["$defs"]
    main = shapes.pop(schema["$ref"].removeprefix("#/$defs/"))
    shared = {each: _tidy(shape) for each, shape in sorted(shapes.items())}
    return {"$schema": DIALECT, "$comment": f"version {contract.VERSION}", **_named(name, main), "$defs": shared}


def _named(name: str, schema: Schema) -> Schema:
    """The schema of one message: an event's `type` is no other."""
    plain: Schema = _tidy(schema) | {"title": name}
    if name in contract.DATA:
        plain["properties"] |= {"type": {"enum": [name]}}
    return plain


def _tidy(value: Any) -> Any:
    """Texts of docstrings in one line."""
    if isinstance(value, dict):
        return {
            key: " ".join(each.split()) if key == "description" and isinstance(each, str) else _tidy(each)
            for key, each in value.items()
        }
    return [_tidy(each) for each in value] if isinstance(value, list) else value
