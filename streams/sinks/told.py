"""What a person writes in an endpoint's `to:`, and what is wrong with it, at its line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from rules.errors import Problem, did_you_mean
from rules.model import Duration, Model
from rules.yamlfile import Document, Path
from streams.sinks.base import Rate


def _url(text: str) -> str:
    """Where it may lead, and that http:// leads to networks of our own only, is seen when it is connected to."""
    try:
        url = urlsplit(text)
        port_is_good = url.port is None or url.port > 0
    except ValueError:
        raise ValueError("no URL like https://api.example.com/v1/batch") from None
    if url.scheme not in ("http", "https") or not url.hostname or not port_is_good or "@" in url.netloc:
        raise ValueError("no URL like https://api.example.com/v1/batch")
    if url.query or url.fragment:
        raise ValueError("the URL ends at its path")
    return text


Url = Annotated[str, AfterValidator(_url)]


class RateTo(Model):
    """At most so many requests in so long a time."""

    requests: Annotated[int, Field(ge=1, le=100_000)]
    per: Duration

    def rate(self) -> Rate:
        return Rate(self.requests, self.per / 1000)


def problems(document: Document, at: Path, model: type[BaseModel], error: ValidationError) -> Iterator[Problem]:
    """What pydantic finds wrong below `at`, in our words. No value is repeated: it may be a secret."""
    keys = _keys(model)
    for each in error.errors(include_input=False, include_url=False):
        path, name = (*at, *_path(each["loc"])), str(each["loc"][-1]) if each["loc"] else ""
        match each["type"]:
            case "extra_forbidden":
                yield document.problem(path, f"unknown key '{name}'", did_you_mean(name, keys))
            case "missing":
                yield document.problem(path[:-1], f"'{name}' is missing")
            case "model_type" | "model_attributes_type" | "dict_type":
                yield document.problem(path, f"{name}: has keys of its own below it")
            case "string_pattern_mismatch":
                yield document.problem(path, f"{name}: has a character that no such name has")
            case _:
                message = each["msg"].removeprefix("Value error, ").removeprefix("Input ")
                yield document.problem(path, f"{name}: {message}" if name else message)


def _path(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Without what pydantic says of keys of a mapping."""
    return tuple(each for each in location if each != "[key]")


def _keys(model: type[BaseModel]) -> set[str]:
    """Of the model and of all that stand in it."""
    found = set()
    for name, field in model.model_fields.items():
        found.add(field.alias or name)
        for inner in _models(field.annotation):
            found |= _keys(inner)
    return found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)
