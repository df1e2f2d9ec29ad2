"""The published JSON Schema is the one of the types."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from rules import schema
from rules.records import Activity, Facts, Record, RulesetRecord, Tick, decode_record, encode_record


def test_the_schema_is_the_one_of_the_types() -> None:
    written = schema.RECORD.read_text(encoding="utf-8")
    assert written == schema.record(), "run `python -m rules.schema`"


def test_the_schema_names_every_kind() -> None:
    kinds = json.loads(schema.record())["discriminator"]["mapping"]
    assert set(kinds) == {kind.__struct_config__.tag for kind in _members()}
    assert {Activity, Facts, Tick, RulesetRecord} <= set(_members())


def _members() -> tuple[type[Record], ...]:
    return get_args(Record)


@pytest.mark.parametrize(
    "record",
    [
        Activity(account="a", name="page_viewed", at=1, received=2, via=(0, 7, 1), props={"path": "/"}),
        Facts(account="a", at=1, received=2, set={"employees": 5, "tags": ["x"]}, clear=["country"]),
        Tick(received=3),
        RulesetRecord(received=3, hash="h", files={"a.yaml": ""}),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert decode_record(encode_record(record)) == record
