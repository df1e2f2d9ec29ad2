"""What of a new schema breaks those who read by the old one.

Readers let pass fields that they do not know. So a field may be added, and a value may become narrower; whatever
makes them meet a value that they were not told of, or miss one that they were promised, is a break.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

WORDING = frozenset({"$schema", "$id", "$comment", "$defs", "title", "description", "examples", "default"})
_SHAPE = WORDING | {"type", "enum", "const", "anyOf", "oneOf", "$ref", "properties", "required", "items"} | {
    "additionalProperties"
}  # fmt: skip
NARROWER = {"integer": "number"}


def all_breaks(old: Mapping[str, Schema], new: Mapping[str, Schema]) -> list[str]:
    """Every break between two versions of a set of messages, each with its place."""
    gone = [f"{name}: not published any more" for name in old if name not in new]
    return gone + [f"{name}: {each}" for name in old if name in new for each in breaks(old[name], new[name])]


def breaks(old: Schema, new: Schema) -> list[str]:
    """Every break between two schemas, each with its place: `data.owner: removed`."""
    return list(_Comparison(old.get("$defs", {}), new.get("$defs", {})).breaks("", old, new))


def shape(schema: Any) -> Any:
    """The schema without its wording."""
    if isinstance(schema, list):
        return [shape(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key == "$defs" or key not in WORDING}
    return {key: _shapes(value) if key in ("properties", "$defs") else shape(value) for key, value in kept.items()}


def _shapes(named: Mapping[str, Any]) -> dict[str, Any]:
    """A field may well be called `title`."""
    return {name: shape(each) for name, each in named.items()}


class _Comparison:
    def __init__(self, old_shapes: Mapping[str, Schema], new_shapes: Mapping[str, Schema]) -> None:
        self._old, self._new = old_shapes, new_shapes

    def breaks(self, place: str, old: Schema, new: Schema) -> Iterator[str]:
        """A value of the new schema is one of its alternatives: each must be one that the old schema knows."""
        known = list(_alternatives(old, self._old))
        for each in _alternatives(new, self._new):
            yield from self._nearest(place, known, each)

    def _nearest(self, place: str, known: list[Schema], new: Schema) -> Iterator[str]:
        alike = [each for each in known if _is_within(new.get("type"), each.get("type"))]
        if not alike:
            yield f"{place or 'all'}: may be {_said(new)} now"
            return
        found = [list(self._of_one_type(place, each, new)) for each in alike]
        yield from min(found, key=len)

    def _of_one_type(self, place: str, old: Schema, new: Schema) -> Iterator[str]:
        yield from _values(place, old, new)
        yield from _limits(place, old, new)
        yield from self._fields(place, old, new)
        for key, inside in (("items", "[]"), ("additionalProperties", "*")):
            if isinstance(old.get(key), dict):
                yield from self.breaks(_at(place, inside), old[key], new.get(key, {}))

    def _fields(self, place: str, old: Schema, new: Schema) -> Iterator[str]:
        there, promised = new.get("properties", {}), new.get("required", ())
        for name, field in old.get("properties", {}).items():
            where = _at(place, name)
            if name not in there:
                yield f"{where}: removed"
                continue
            if name in old.get("required", ()) and name not in promised:
                yield f"{where}: may be missing now"
            yield from self.breaks(where, field, there[name])


def _alternatives(schema: Schema, shapes: Mapping[str, Schema]) -> Iterator[Schema]:
    """What a value may be, one type each."""
    if "$ref" in schema:
        yield from _alternatives(shapes[schema["$ref"].rpartition("/")[2]], shapes)
        return
    for parts in (schema.get("anyOf"), schema.get("oneOf")):
        if parts is not None:
            for each in parts:
                yield from _alternatives(each, shapes)
            return
    match schema.get("type"):
        case list() as types:
            yield from (schema | {"type": each} for each in types)
        case _:
            yield schema


def _is_within(new: str | None, old: str | None) -> bool:
    return old is None or new == old or (new is not None and NARROWER.get(new) == old)


def _values(place: str, old: Schema, new: Schema) -> Iterator[str]:
    known, given = _listed(old), _listed(new)
    if known is None:
        return
    if given is None:
        yield f"{place}: may be something other than {_or(known)} now"
    elif len(known) == len(given) == 1 and known != given:
        yield f"{place}: was always {known[0]!r}, is {given[0]!r} now"
    elif more := [each for each in given if each not in known]:
        yield f"{place}: may be {_or(more)} now"


def _limits(place: str, old: Schema, new: Schema) -> Iterator[str]:
    """Patterns, ranges and the like cannot be compared: a limit stays as it is, or is added."""
    for key in sorted(set(old) - _SHAPE):
        if new.get(key) != old[key]:
            yield f"{place}: {key} was {old[key]!r}, is {new.get(key)!r} now"


def _listed(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _said(schema: Schema) -> str:
    values = _listed(schema)
    return schema.get("type") or ("anything" if values is None else _or(values))


def _or(values: list[Any]) -> str:
    return " or ".join(map(repr, values))


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
