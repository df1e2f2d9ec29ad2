"""A sink of what a person wrote: the `to:` of an endpoint, by its `kind`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from rules.errors import Problem, did_you_mean
from rules.yamlfile import Document, Path
from streams.sinks.base import Sink
from streams.sinks.hubspot import HubspotTo
from streams.sinks.salesforce import SalesforceTo
from streams.sinks.segment import SegmentTo
from streams.sinks.told import problems
from streams.sinks.webhook import WebhookTo

KINDS: Mapping[str, type[WebhookTo] | type[SegmentTo] | type[HubspotTo] | type[SalesforceTo]] = {
    "webhook": WebhookTo,
    "segment": SegmentTo,
    "hubspot": HubspotTo,
    "salesforce": SalesforceTo,
}


def read(
    document: Document, at: Path, kind: str, told: Any, dimensions: Collection[str] | None = None
) -> Sink | list[Problem]:
    """The sink that `told`, at that place of the document, describes, or all that is wrong with it.

    With `dimensions`, those that it names have to be among them.
    """
    model = KINDS[kind]
    try:
        to = model.model_validate(told)
    except ValidationError as error:
        return list(problems(document, at, model, error))
    return _unknown(document, at, to, dimensions) or to.sink()


def _unknown(document: Document, at: Path, to: BaseModel, dimensions: Collection[str] | None) -> list[Problem]:
    if dimensions is None or isinstance(to, WebhookTo):
        return []
    key = "dimensions" if isinstance(to, SegmentTo) else "properties"
    named = getattr(to, key) or ()
    return [
        document.problem((*at, key, place), f"unknown dimension '{name}'", did_you_mean(name, dimensions))
        for place, name in (enumerate(named) if isinstance(named, list) else zip(named, named, strict=True))
        if name not in dimensions
    ]
