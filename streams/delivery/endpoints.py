"""The endpoints that a file describes (ISOTHERM_WEBHOOKS): which changes each gets, and where they go.

    allow: [10.0.0.0/8]
    endpoints:
      - name: journeys
        kind: webhook
        to: {url: "https://hooks.example.com/isotherm", secrets: ["file:/run/secrets/journeys"]}
        dimensions: [engagement]
        facts: {country: [DE, AT]}

It is read and checked as rules are: all mistakes at once, each at its line. No value of a secret stands in it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from rules import yamlfile
from rules.errors import Problem, RulesetError, did_you_mean
from rules.model import Model, Name, Scalar, Term
from rules.state import UNCLASSIFIED
from rules.yamlfile import Document
from streams.delivery.addresses import Allowed
from streams.news import Filter
from streams.sinks import making
from streams.sinks.base import Sink
from streams.sinks.told import problems

MOST = 100
HINT = "it begins with `endpoints:`"


def _network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError:
        raise ValueError(f"'{text}' is no network like 10.0.0.0/8 or fd00::/8") from None
    return text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | int | float) else value


_AnyOf = Annotated[list[Scalar], BeforeValidator(_as_list), Field(min_length=1, max_length=1000)]
_Kind = Literal["webhook", "segment", "hubspot", "salesforce"]
_Type = Literal["segment.moved", "segment.entered", "segment.left", "account.state"]
_Origin = Literal["live", "import", "backfill", "rebuild"]
_Segment = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}/[a-z][a-z0-9_]{0,63}$")]


def _only_news() -> list[_Origin]:
    return ["live"]


class WrittenEndpoint(Model):
    """One endpoint as it is written. What it does not filter by, it does not ask about."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
    kind: _Kind = "webhook"
    to: dict[str, Any]
    types: list[_Type] = Field(default_factory=list)
    dimensions: list[Name] = Field(default_factory=list)
    segments: list[_Segment] = Field(default_factory=list)
    owners: list[Term] = Field(default_factory=list)
    origins: Annotated[list[_Origin], Field(min_length=1, default_factory=_only_news)]
    facts: dict[Name, _AnyOf] = Field(default_factory=dict)
    start: Literal["now", "beginning"] = "now"


class WebhooksFile(Model):
    """The file as a whole."""

    allow: list[Annotated[str, AfterValidator(_network)]] = Field(default_factory=list)
    endpoints: Annotated[list[WrittenEndpoint], Field(max_length=MOST)]


@dataclass(frozen=True, slots=True)
class Endpoint:
    name: str
    kind: str
    sink: Sink
    filter: Filter = field(default_factory=Filter)
    facts: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # name -> any of these values
    start: Literal["now", "beginning"] = "now"
    allowed: Allowed = field(default_factory=Allowed)


@dataclass(frozen=True, slots=True)
class Known:
    """What an endpoint may name, as the rules have it."""

    dimensions: Mapping[str, Collection[str]]  # name -> its segments
    facts: Collection[str]


def read(path: Path | str, known: Known | None = None) -> list[Endpoint]:
    """The endpoints of a file; of "" none. Raises RulesetError with every problem."""
    if path == "":
        return []
    path, file = Path(path), str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RulesetError([Problem(file, 0, "the file is not UTF-8 text")]) from None
    except OSError as error:
        raise RulesetError([Problem(file, 0, f"it cannot be read: {error.strerror}")]) from None
    return parse(file, text, known)


def parse(file: str, text: str, known: Known | None = None) -> list[Endpoint]:
    documents = yamlfile.read(file, text)
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        raise RulesetError([Problem(file, 0, "endpoints are described in one mapping", HINT)])
    (document,) = documents
    try:
        written = WebhooksFile.model_validate(document.data)
    except ValidationError as error:
        raise RulesetError(_shape_problems(document, error)) from None
    found: list[Problem] = []
    allowed = Allowed(tuple(map(ip_network, written.allow)))
    endpoints = [
        endpoint
        for place, each in enumerate(written.endpoints)
        if (endpoint := _endpoint(document, place, each, allowed, known, found)) is not None
    ]
    found += _named_twice(document, written.endpoints)
    if found:
        raise RulesetError(found)
    return endpoints


def _shape_problems(document: Document, error: ValidationError) -> list[Problem]:
    """What is wrong with the shape, and with what each `to:` says: all of it at once."""
    found = list(problems(document, (), WebhooksFile, error))
    endpoints = document.data.get("endpoints")
    for place, each in enumerate(endpoints if isinstance(endpoints, list) else []):
        if isinstance(each, dict) and isinstance(each.get("to"), dict):
            kind = each.get("kind", "webhook")
            if kind in making.KINDS:
                to = making.read(document, ("endpoints", place, "to"), kind, each["to"])
                found += to if isinstance(to, list) else []
    return found


def _endpoint(
    document: Document,
    place: int,
    written: WrittenEndpoint,
    allowed: Allowed,
    known: Known | None,
    found: list[Problem],
) -> Endpoint | None:
    at = ("endpoints", place)
    if known is not None:
        found += _unknown(document, place, written, known)
    dimensions = None if known is None else known.dimensions
    sink = making.read(document, (*at, "to"), written.kind, written.to, dimensions)
    if isinstance(sink, list):
        found += sink
        return None
    url = written.to.get("url")
    if isinstance(url, str) and url[:5].lower() == "http:" and not allowed.networks:
        found.append(
            document.problem((*at, "to", "url"), "http:// is for networks that `allow:` names", "write https://")
        )
    return Endpoint(
        written.name,
        written.kind,
        sink,
        Filter(
            types=tuple(written.types),
            dimensions=tuple(written.dimensions),
            segments=tuple(written.segments),
            owners=tuple(written.owners),
            origins=tuple(written.origins),
        ),
        {name: tuple(values) for name, values in written.facts.items()},
        written.start,
        allowed,
    )


def _unknown(document: Document, place: int, written: WrittenEndpoint, known: Known) -> list[Problem]:
    found, at = [], ("endpoints", place)
    for i, name in enumerate(written.dimensions):
        if name not in known.dimensions:
            hint = did_you_mean(name, known.dimensions)
            found.append(document.problem((*at, "dimensions", i), f"unknown dimension '{name}'", hint))
    segments = {f"{name}/{each}" for name, those in known.dimensions.items() for each in (*those, UNCLASSIFIED)}
    for i, name in enumerate(written.segments):
        if name not in segments:
            hint = did_you_mean(name, segments)
            found.append(document.problem((*at, "segments", i), f"unknown segment '{name}'", hint))
    for name in written.facts:
        if name not in known.facts:
            hint = did_you_mean(name, known.facts)
            found.append(document.problem((*at, "facts", name), f"unknown fact '{name}'", hint))
    return found


def _named_twice(document: Document, written: list[WrittenEndpoint]) -> list[Problem]:
    names = [each.name for each in written]
    return [
        document.problem(("endpoints", place, "name"), f"two endpoints are named '{name}'")
        for place, name in enumerate(names)
        if name in names[:place]
    ]
