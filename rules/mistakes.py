"""What pydantic finds wrong with a document, in our words and at its line."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from rules import model, sources
from rules.errors import Problem, did_you_mean
from rules.yamlfile import Document

_KEYS = {
    field.alias or name
    for kind in (*vars(model).values(), *vars(sources).values())
    if isinstance(kind, type) and issubclass(kind, BaseModel)
    for name, field in kind.model_fields.items()
}


def explain(document: Document, error: Any) -> Problem:
    """A pydantic error in our words, at its line. In its place a condition is preceded by its tag: skipped."""
    path: list[str | int] = []
    here: Any = document.data
    tagged = False
    for step in error["loc"]:
        if not tagged and step != error["loc"][-1] and model.which(here) == step:
            tagged = True
        elif (isinstance(here, dict) and step in here) or (isinstance(here, list) and isinstance(step, int)):
            path.append(step)
            here, tagged = here[step], False
    last = error["loc"][-1] if error["loc"] else ""
    name = last if isinstance(last, str) else ""
    match error["type"]:
        case "extra_forbidden" if name in _KEYS:
            return document.problem(tuple(path), f"'{name}' does not belong here")
        case "extra_forbidden":
            return document.problem(tuple(path), f"unknown key '{name}'", did_you_mean(name, _KEYS))
        case "missing":
            return document.problem(tuple(path), f"'{name}' is missing")
        case "union_tag_not_found":
            keys = list(here) if isinstance(here, dict) else []
            kinds = model.kinds_in(here)
            hint = f"here are {' and '.join(kinds)}" if kinds else ""
            if keys and not kinds:
                hint = did_you_mean(keys[0], model.CONDITION_KEYS)
            choice = ", ".join(model.CONDITION_KEYS)
            return document.problem(tuple(path), f"a condition has exactly one of: {choice}", hint)
        case "too_short":
            return document.problem(tuple(path), f"'{name}' is empty")
        case "string_pattern_mismatch":
            message = f"'{here}' is not a name: small letters, digits and _, beginning with a letter"
            return document.problem(tuple(path), message)
        case _:
            message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
            return document.problem(tuple(path), f"{name}: {message}" if name else message)
