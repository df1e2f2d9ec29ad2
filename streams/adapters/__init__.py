"""The wire formats we read. A topic's setting names its format; a header may name another.

On any topic a message may also be in our own format, which a top-level `kind` tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from rules.sources import FORMATS, HUMAN, Sources
from streams.adapters import (
    canonical,
    cloudevents,
    debezium,
    ga4,
    hubspot,
    posthog,
    salesforce,
    segment,
    snowplow,
)
from streams.adapters.base import Decode, Decoded, Observation, Reason, Rejected
from streams.adapters.wire import MAX_BYTES
from streams.sources import shipped


@dataclass(frozen=True, slots=True)
class Adapters:
    """A decoder for each format, as a sources file wants it."""

    decoders: Mapping[str, Decode]

    @classmethod
    def of(cls, sources: Sources) -> Adapters:
        made: dict[str, Decode] = {
            "canonical": canonical.decode,
            "segment": segment.decoder(sources),
            "salesforce": salesforce.decoder(sources),
            "hubspot": hubspot.decoder(sources),
            "debezium": debezium.decoder(sources),
            "cloudevents": cloudevents.decode,
            "snowplow": snowplow.decode,
            "ga4": ga4.decode,
            "posthog": posthog.decoder(sources),
        }
        return cls({format: _renaming(made[format], sources.names_of(format)) for format in FORMATS})

    def decode_any(self, format: str, value: bytes | None, received: int) -> Decoded:
        """Reads a message of a topic whose format is `format`, or in our own format.

        A format that does not exist is a rejection: it may stem from a message's header.
        """
        if (decode := self.decoders.get(format)) is None:
            return [Rejected(Reason.UNKNOWN_FORMAT, f"{format[:40]!r}; known: {', '.join(self.decoders)}")]
        return canonical.decode(value, received) if _is_canonical(value) else decode(value, received)


def _renaming(decode: Decode, names: Mapping[str, str | None]) -> Decode:
    """`decode`, its activities under the names that a sources file gives them. Where it gives none, itself."""
    return partial(_renamed, decode, names) if names else decode


def _renamed(decode: Decode, names: Mapping[str, str | None], value: bytes | None, received: int) -> Decoded:
    found: Decoded = []
    for each in decode(value, received):
        if isinstance(each, Observation) and each.kind == "activity" and each.name in names:
            if (name := names[each.name]) is not None:
                found.append(msgspec.structs.replace(each, name=name))
        else:
            found.append(each)
    return found


class _Peek(msgspec.Struct, gc=False):
    kind: Any = None


_peek = msgspec.json.Decoder(_Peek).decode


def _is_canonical(value: bytes | None) -> bool:
    """Searching for the word costs 50 ns and settles it for nearly all messages of other formats."""
    if value is None or len(value) > MAX_BYTES or b'"kind"' not in value:
        return False
    try:
        return isinstance(_peek(value).kind, str)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False  # the format's own decoder says what is wrong with it


SHIPPED = Adapters.of(shipped())
ADAPTERS = SHIPPED.decoders
decode_any = SHIPPED.decode_any
SYSTEMS = (*FORMATS, HUMAN)  # what records may name as their source
