"""What our adapters make of messages in a file, for `isotherm decode`: no Kafka, no Redis, the router's decoding.

A line is a message. Each observation becomes one line in our own format, which `isotherm replay` reads. Only a
`link` has no record there: it teaches who belongs to whom, and replay names it as a line it cannot use.

What is printed includes the claims, an e-mail address among them: they are the reader's own data, and without
them one cannot see why a message goes to an account. Claims are for the resolver; they never enter the log.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec

from rules.changes import iso
from streams.adapters import ADAPTERS, decode_any
from streams.adapters.base import Decode, DecodeAny, Observation, Rejected

# What says nothing, and is left out.
_SILENT: dict[str, Any] = {
    "id": "", "name": "", "props": {}, "set": {}, "clear": (), "gone": False, "merged": (),
    "origin": "live", "source": "",
}  # fmt: skip

Line: TypeAlias = Observation | tuple[int, Rejected]


def decode_lines(
    lines: Iterable[bytes], format: str, received: int, decode: DecodeAny = decode_any
) -> Iterator[Line]:
    """What each line says, in order; a refusal comes with the line's number from 1. Empty lines are none."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            for part in decode(format, line.rstrip(b"\r\n"), received):
                if isinstance(part, Rejected):
                    yield number, part
                else:
                    yield msgspec.structs.replace(part, source=part.source or format)


def plain(found: Line) -> dict[str, Any]:
    """As it is printed."""
    if isinstance(found, Observation):
        return _canonical(found)
    number, rejected = found
    return {"line": number, "rejected": str(rejected.reason), "detail": rejected.detail}


def _canonical(found: Observation) -> dict[str, Any]:
    """The observation in our own format, of which everything unsaid is left out."""
    claims = {name: said for name, said in msgspec.structs.asdict(found.claims).items() if said not in (None, ())}
    said = {name: getattr(found, name) for name, silence in _SILENT.items() if getattr(found, name) != silence}
    return {"kind": found.kind, "at": iso(found.at)} | claims | said


def formats() -> dict[str, str]:
    """The name of each format we read, and the first line of what its adapter says of itself."""
    return {name: _first_line(decode) for name, decode in ADAPTERS.items()}


def _first_line(decode: Decode) -> str:
    return (getattr(inspect.getmodule(decode), "__doc__", None) or "").partition("\n")[0]
