"""HubSpot's webhooks: signed as its documentation says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from yarl import URL

from streams.adapters.base import Observation
from streams.collector.hubspot import decoded
from streams.topics import CRM_UPDATES
from tests.collector.conftest import SECRET, Answer, Running

PUBLIC = "https://collect.example/isotherm/v1/hubspot"
CREATED = {
    "subscriptionType": "company.creation",
    "portalId": 62515,
    "objectId": 5543,
    "occurredAt": 1772442000000,
}
NAMED = {
    **CREATED,
    "subscriptionType": "company.propertyChange",
    "propertyName": "name",
    "propertyValue": "Blue Harbor",
}


def signed(body: bytes, *, url: str = PUBLIC, secret: str = SECRET, ago_s: float = 0) -> dict[str, str]:
    timestamp = str(int((time.time() - ago_s) * 1000))
    text = f"POST{url}".encode() + body + timestamp.encode()
    signature = base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()
    return {
        "X-HubSpot-Signature-v3": signature,
        "X-HubSpot-Request-Timestamp": timestamp,
        "Content-Type": "application/json",
    }


async def post(collector: Running, body: bytes, headers: dict[str, str], query: str = "") -> Answer:
    url = URL(f"{collector.url}/v1/hubspot{query}", encoded=True)
    async with collector.session.post(url, data=body, headers=headers) as answer:
        return Answer(answer.status, answer.headers, await answer.json())


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


async def test_a_request_is_one_message_of_its_portal(collector: Running) -> None:
    body = as_bytes([CREATED, NAMED])
    answer = await post(collector, body, signed(body))
    assert (answer.status, answer.body) == (202, {"accepted": 2})
    (found,) = await collector.arrived(CRM_UPDATES, 1)
    assert (found.value, found.key, found.format) == (body, "hubspot:62515", "hubspot")
    assert [part.kind for part in found.decoded() if isinstance(part, Observation)] == ["facts", "facts"]


async def test_only_hubspot_is_believed_and_only_for_five_minutes(collector: Running) -> None:
    body = as_bytes([CREATED])
    wrong = {
        "wrong_signature": [signed(body, secret="another"), signed(b"[]"), signed(body, url=f"{PUBLIC}/")],
        "stale_signature": [signed(body, ago_s=301), signed(body, ago_s=-301)],
        "no_signature": [{"Content-Type": "application/json"}],
    }
    for error, requests in wrong.items():
        for headers in requests:
            refused = await post(collector, body, headers)
            assert (refused.status, refused.body["error"]) == (401, error)
    only = as_bytes([NAMED])
    assert (await post(collector, only, signed(only, ago_s=299))).status == 202
    assert [each.value for each in await collector.arrived(CRM_UPDATES, 1)] == [only]


async def test_the_url_is_decoded_as_hubspot_does_before_it_signs(collector: Running) -> None:
    body = as_bytes([CREATED])
    headers = signed(body, url=f"{PUBLIC}?to=https://a.example/?x=1&name=Blue%20Harbor%26Co")
    query = "?to=https%3A%2F%2Fa.example%2f%3Fx=1&name=Blue%20Harbor%26Co"
    assert (await post(collector, body, headers, query)).status == 202


def test_each_character_is_decoded_once() -> None:
    assert decoded("%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B %253A %20 %26 %3d") == ":/?@!$'()*,; %253A %20 %26 %3d"


@pytest.mark.parametrize(
    "body", [b"{}", b"no json", b"[1]", b"[[]]", b'[{"portalId": {}}]', b"\xff", b"[" * 400_000]
)
async def test_what_hubspot_would_never_send_is_refused(collector: Running, body: bytes) -> None:
    assert (await post(collector, body, signed(body))).status == 400


async def test_an_empty_array_is_nothing(collector: Running) -> None:
    assert (await post(collector, b"[]", signed(b"[]"))).body == {"accepted": 0}
