"""Tokens and keys: named in a file that anybody may read, held where only we may."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainValidator

from streams.sinks.base import SecretUnreadable

LONGEST = 16 * 1024


@dataclass(frozen=True, slots=True)
class Held:
    """Where a secret is: `env:NAME` or `file:/path`. It is read whenever it is needed and never kept."""

    kind: str
    place: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.place}"

    def read(self) -> str:
        """Raises SecretUnreadable."""
        text = (os.environ.get(self.place, "") if self.kind == "env" else self._file()).strip()
        if not text:
            raise SecretUnreadable(f"{self} holds nothing")
        if not text.isascii() or not text.isprintable():
            raise SecretUnreadable(f"{self} is not one line of plain characters")
        return text

    def _file(self) -> str:
        try:
            with Path(self.place).open(encoding="utf-8") as file:
                return file.read(LONGEST)
        except (OSError, UnicodeDecodeError) as error:
            raise SecretUnreadable(f"cannot read {self}: {type(error).__name__}") from None


def held(value: Any) -> Held:
    """What is wrong is said without the value: whoever wrote the secret itself here must not read it in a log."""
    kind, colon, place = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not (colon and place) or kind not in ("env", "file"):
        raise ValueError("a secret is not written here: say env:NAME or file:/path")
    if kind == "file" and not place.startswith("/"):
        raise ValueError("the path of a secret begins with /")
    if kind == "env" and not place.replace("_", "").isalnum():
        raise ValueError("a variable's name has letters, digits and _")
    return Held(kind, place)


Secret = Annotated[Held, PlainValidator(held, json_schema_input_type=str)]
