"""`record.json`: the JSON Schema of a record in `account.log`, for those who write records in another language.

`python -m rules.schema` writes it anew from `rules.records`.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from rules.records import Record

RECORD = Path(__file__).parent / "record.json"


def record() -> str:
    """The schema's text, the same for the same types."""
    schema = msgspec.json.schema(Record)
    # The position is set by whoever reads a record; it is never written.
    for each in schema["$defs"].values():
        each.get("properties", {}).pop("offset", None)
    return (
        json.dumps({"title": "A record of account.log", **schema}, indent=2, sort_keys=True, ensure_ascii=False)
        + "\n"
    )
