"""What Segment's libraries send, and what Kafka has of it."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from streams.adapters.base import Observation
from streams.topics import WEB_ACTIVITY
from tests.collector.conftest import WRITE_KEY, Running

VISITOR = "visitor-1"
ENTRANCE = {"type": "page", "anonymousId": VISITOR, "messageId": "m1", "properties": {"path": "/"}}
KNOWN = {"type": "identify", "anonymousId": VISITOR, "userId": "u1", "traits": {"email": "a@acme.example"}}
PRICING = {"type": "track", "anonymousId": VISITOR, "userId": "u1", "event": "Pricing Viewed"}


async def test_a_visitors_calls_arrive_in_order_and_are_understood(collector: Running) -> None:
    for call in (ENTRANCE, KNOWN, PRICING):
        path = f"/v1/{call['type']}"
        answer = await collector.post(path, json={name: call[name] for name in call if name != "type"})
        assert (answer.status, answer.body) == (200, {"success": True, "accepted": 1})
    found = await collector.arrived(WEB_ACTIVITY, 3)
    assert [json.loads(each.value)["type"] for each in found] == ["page", "identify", "track"]
    assert {(each.key, each.partition, each.format, each.sender) for each in found} == {
        (VISITOR, found[0].partition, "segment", "website")
    }
    said = [part for each in found for part in each.decoded()]
    assert [part.kind for part in said if isinstance(part, Observation)] == ["activity", "contact", "activity"]
    assert isinstance(said[0], Observation)
    assert said[0].id == "m1"


async def test_what_a_call_does_not_say_is_added_and_nothing_else_changed(collector: Running) -> None:
    odd = '{"event": "X", "userId": 7, "properties": {"price": 1.10, "big": 12345678901234567890}, "type": null}'
    await collector.post("/v1/track", data=odd, headers={"Content-Type": "application/json"})
    (found,) = await collector.arrived(WEB_ACTIVITY, 1)
    call = json.loads(found.value)
    assert b'{"price": 1.10, "big": 12345678901234567890}' in found.value
    assert call["type"] == "track"
    assert len(call["messageId"]) == 32
    assert call["receivedAt"].endswith("Z")
    assert found.key == "7"


async def test_a_batch_becomes_its_calls(collector: Running) -> None:
    """As Segment's library for Python sends it: gzipped, with the key in the body too."""
    own = {**PRICING, "context": {"ip": "203.0.113.1"}}
    batch = {
        "batch": [ENTRANCE, own],
        "context": {"groupId": "acme", "ip": "203.0.113.9"},
        "sentAt": "2026-03-02T09:15:00Z",
        "writeKey": WRITE_KEY,
    }
    answer = await collector.post("/v1/batch", **zipped(batch))
    assert (answer.status, answer.body["accepted"]) == (200, 2)
    found = await collector.arrived(WEB_ACTIVITY, 2)
    first, second = (json.loads(each.value) for each in found)
    assert (first["type"], second["type"]) == ("page", "track")
    assert first["context"] == {"groupId": "acme", "ip": "203.0.113.9"}
    assert second["context"] == {"groupId": "acme", "ip": "203.0.113.1"}
    assert first["sentAt"] == second["sentAt"] == "2026-03-02T09:15:00Z"
    assert WRITE_KEY.encode() not in b"".join(each.value for each in found)
    assert all(isinstance(part, Observation) for each in found for part in each.decoded())


def zipped(value: Any) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return {"data": gzip.compress(json.dumps(value).encode()), "headers": headers}


async def test_a_page_sends_the_key_in_the_body_and_json_as_text(collector: Running) -> None:
    """As Segment's library for browsers does: so the browser need not ask for permission first."""
    body = json.dumps({**PRICING, "writeKey": WRITE_KEY})
    headers = {"Content-Type": "text/plain;charset=UTF-8", "Origin": "https://www.acme.example"}
    answer = await collector.post("/v1/t", key=None, data=body, headers=headers)
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://www.acme.example"
    (found,) = await collector.arrived(WEB_ACTIVITY, 1)
    assert "writeKey" not in json.loads(found.value)


async def test_browsers_may_post_calls_from_the_named_pages_and_nothing_else(collector: Running) -> None:
    async def may(path: str, origin: str) -> str | None:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        answer = await collector.ask("OPTIONS", path, headers={"Origin": origin, **asked})
        found: str | None = answer.headers.get("Access-Control-Allow-Origin")
        return found

    assert await may("/v1/batch", "https://www.acme.example") == "https://www.acme.example"
    assert await may("/v1/batch", "https://elsewhere.example") is None
    assert await may("/v1/events", "https://www.acme.example") is None
    assert await may("/v1/hubspot", "https://www.acme.example") is None


@pytest.mark.parametrize("key", ["not-a-key-of-ours", "", None, "website"])
async def test_without_a_known_key_nothing_is_produced(collector: Running, key: str | None) -> None:
    for path, body in (("/v1/track", PRICING), ("/v1/batch", {"batch": [PRICING]})):
        refused = await collector.post(path, key, json=body)
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"].startswith("Basic")
        assert set(refused.body) == {"error", "detail", "hint"}
    assert (await collector.post("/v1/page", json={**ENTRANCE, "messageId": "the only one"})).status == 200
    found = await collector.arrived(WEB_ACTIVITY, 1)
    assert [json.loads(each.value)["messageId"] for each in found] == ["the only one"]


async def test_a_wrong_key_in_the_header_is_not_mended_by_one_in_the_body(collector: Running) -> None:
    assert (
        await collector.post("/v1/track", "wrong-wrong-wrong", json=PRICING | {"writeKey": WRITE_KEY})
    ).status == 401


async def test_a_key_that_stands_in_a_page_cannot_delete_accounts(collector: Running) -> None:
    """A `kind` would make the call a canonical record, whatever the message's format."""
    delete = {"kind": "delete", "account": "acme", "at": 1_772_442_000_000}
    assert (await collector.post("/v1/track", json=delete)).status == 200
    assert (await collector.post("/v1/batch", json={"batch": [delete]})).status == 200
    assert (await collector.post("/v1/events", json=delete)).status == 401
    for found in await collector.arrived(WEB_ACTIVITY, 2):
        assert not any(isinstance(part, Observation) for part in found.decoded())


async def test_too_much_is_refused_and_its_place_told(collector: Running) -> None:
    long = {**PRICING, "properties": {"note": "x" * 33_000}}
    assert (await collector.post("/v1/track", json=long)).status == 413
    refused = await collector.post("/v1/batch", json={"batch": [PRICING, long]})
    assert (refused.status, refused.body["error"], refused.body["index"]) == (413, "too_large", 1)
    assert (await collector.post("/v1/batch", json={"batch": [PRICING] * 9_000})).status == 413
    assert (await collector.post("/v1/batch", json={"batch": [{}] * 5_001})).status == 413
    assert (await collector.post("/v1/batch", json={"batch": []})).body["accepted"] == 0


async def test_a_bomb_is_not_unpacked(collector: Running) -> None:
    bomb = gzip.compress(b'{"event": "' + b"x" * 200_000_000 + b'"}', 9)
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert len(bomb) < 500_000
    refused = await collector.post("/v1/batch", data=bomb, headers=headers)
    assert (refused.status, refused.body["error"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Encoding": "gzip"}, b"no gzip at all", 400),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"{}")[:-4], 400),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"{}") + b"more", 400),
        ({"Content-Encoding": "br"}, b"{}", 415),
        ({"Content-Type": "application/xml"}, b"<a/>", 415),
        ({"Content-Type": "application/json; charset=latin-1"}, b"{}", 415),
        ({}, b"\xff{}", 400),
        ({}, b"", 400),
        ({}, b"[]", 400),
        ({}, b'{"a":' * 6_000, 400),
    ],
)
async def test_what_cannot_be_read_is_refused_with_a_word_for_programs(
    collector: Running, headers: dict[str, str], body: bytes, status: int
) -> None:
    given = {"Content-Type": "application/json", **headers}
    refused = await collector.post("/v1/track", data=body, headers=given)
    assert refused.status == status
    assert set(refused.body) >= {"error", "detail", "hint"}
