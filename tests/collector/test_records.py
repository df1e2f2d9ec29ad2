"""Canonical records: checked at the door, all or none."""

from __future__ import annotations

import io
import json

from streams.adapters.base import Observation
from streams.topics import CRM_UPDATES, WEB_ACTIVITY
from tests.collector.conftest import RECORD_KEY, WRITE_KEY, Running

FACTS = {"kind": "facts", "account": "acme", "at": "2026-03-02T09:00:00Z", "set": {"employees": 250}}
VISIT = {"kind": "activity", "domain": "acme.example", "at": "2026-03-02T10:00:00Z", "name": "page_viewed"}
GONE = {"kind": "delete", "account": "acme", "at": "2026-03-02T11:00:00Z"}
LINES = {"Content-Type": "application/x-ndjson"}


async def test_records_go_where_such_things_come_from(collector: Running) -> None:
    one = await collector.post("/v1/events", RECORD_KEY, json=FACTS)
    many = await collector.post("/v1/events", RECORD_KEY, json=[VISIT, GONE])
    assert (one.status, one.body, many.status, many.body) == (202, {"accepted": 1}, 202, {"accepted": 2})
    told = await collector.arrived(CRM_UPDATES, 2)
    (seen,) = await collector.arrived(WEB_ACTIVITY, 1)
    assert [json.loads(each.value) for each in told] == [FACTS, GONE]
    assert {(each.key, each.format, each.sender) for each in told} == {("acme", "canonical", "erp")}
    assert (json.loads(seen.value), seen.key) == (VISIT, "acme.example")
    assert all(isinstance(part, Observation) for each in [*told, seen] for part in each.decoded())


async def test_one_bad_record_and_none_is_taken(collector: Running) -> None:
    naive = {**VISIT, "at": "2026-03-02T10:00:00"}
    typo = {**FACTS, "sett": {}}
    lines = "\n".join(["", *map(json.dumps, (VISIT, naive, FACTS, typo)), "{broken", ""])
    key = {"Authorization": f"Bearer {RECORD_KEY}"}
    refused = await collector.post("/v1/events", None, data=lines, headers=key | LINES)
    assert (refused.status, refused.body["error"]) == (400, "refused")
    assert refused.body["detail"] == "3 of 5 records cannot be used; none was accepted"
    assert [(each["index"], each["reason"]) for each in refused.body["refused"]] == [
        (2, "naive_time"),
        (4, "unknown_field"),
        (5, "broken_json"),
    ]
    assert all(each["detail"] for each in refused.body["refused"])
    good = "\r\n".join(map(json.dumps, (VISIT, {**VISIT, "name": "demo_requested"})))
    assert (await collector.post("/v1/events", RECORD_KEY, data=good, headers=LINES)).body == {"accepted": 2}
    found = await collector.arrived(WEB_ACTIVITY, 2)
    assert [json.loads(each.value)["name"] for each in found] == ["page_viewed", "demo_requested"]


async def test_the_index_is_that_in_the_array(collector: Running) -> None:
    refused = await collector.post("/v1/events", RECORD_KEY, json=[FACTS, 7, VISIT])
    assert [each["index"] for each in refused.body["refused"]] == [1]


async def test_a_write_key_is_no_record_key(collector: Running) -> None:
    for key in (WRITE_KEY, None):
        assert (await collector.post("/v1/events", key, json=GONE)).status == 401


async def test_too_many_and_too_large_are_refused(collector: Running) -> None:
    small = json.dumps({"kind": "restore", "account": "a", "at": 1_772_442_000_000}) + "\n"
    assert (await collector.post("/v1/events", RECORD_KEY, data=small * 5_001, headers=LINES)).status == 413
    assert (
        await collector.post("/v1/events", RECORD_KEY, data=io.BytesIO(b" " * 1_048_577), headers=LINES)
    ).status == 413
    large = {**VISIT, "props": {"note": "x" * 300_000}}
    refused = await collector.post("/v1/events", RECORD_KEY, json=large)
    assert [each["reason"] for each in refused.body["refused"]] == ["too_large"]
