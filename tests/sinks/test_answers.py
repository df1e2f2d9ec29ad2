"""Answers of any kind, and the pace at which they are asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from streams.sinks.answers import retry_after
from streams.sinks.base import Delivered, GiveUp, Rate, Retry
from streams.sinks.pacing import Pace
from tests.sinks.conftest import sink_of
from tests.sinks.events import Account

SINKS = [
    sink_of("segment", "{url: https://a.example/v1/batch, key: env:K}"),
    sink_of("hubspot", "{token: env:T, properties: {engagement: heat}, ids: {domain: key}}"),
    sink_of("salesforce", "{url: https://a.example, token: env:T, properties: {engagement: Heat__c}}"),
]
JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=20),
    lambda inner: (
        some.lists(inner, max_size=4)
        | some.dictionaries(
            some.sampled_from(
                ["results", "errors", "id", "context", "ids", "category", "success", "statusCode", "errorCode"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
HEADERS = some.dictionaries(some.sampled_from(["Retry-After", "Date", "x"]), some.text(max_size=30), max_size=3)
CHANGES = [
    Account(id).moved("hot") for id in ("hubspot:7", "salesforce:001xx000003DGb2AAG", "domain:acme.example")
]


@pytest.mark.parametrize("sink", SINKS, ids=lambda each: type(each).__name__)
@given(
    some.integers(100, 999), HEADERS, some.binary(max_size=60) | JSON.map(lambda told: json.dumps(told).encode())
)
def test_whatever_is_answered_each_delivery_has_an_outcome(
    sink: Any, status: int, headers: dict[str, str], body: bytes
) -> None:
    taken = [each for each in CHANGES if not sink.refuses(each)]
    outcomes = sink.outcomes(taken, status, headers, body)
    assert len(outcomes) == len(taken)
    for each in outcomes:
        assert isinstance(each, Delivered | Retry | GiveUp)
        assert not isinstance(each, Delivered) or 200 <= status < 300
        assert not isinstance(each, Retry) or each.after_s is None or 0 <= each.after_s <= 24 * 3600
        assert isinstance(each, Delivered) or (len(each.detail) <= 60 and each.detail.isprintable())


NOW = "Mon, 09 Mar 2026 10:00:00 GMT"
WAITS = [
    ({"retry-after": "30"}, 30.0),
    ({"Retry-After": "999999999"}, 86_400.0),
    ({"Retry-After": "Mon, 09 Mar 2026 10:01:30 GMT", "Date": NOW}, 90.0),
    ({"Retry-After": "Mon, 09 Mar 2026 09:00:00 GMT", "Date": NOW}, 0.0),
    ({"Retry-After": "Mon, 09 Mar 2026 10:01:30 GMT"}, None),
    ({"Retry-After": "Mon, 09 Mar 2026 10:01:30 GMT", "Date": "Mon, 09 Mar 2026 10:00:00"}, None),
    ({"Retry-After": "soon"}, None),
    ({"Retry-After": "²"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "after"), WAITS)
def test_how_long_to_wait(headers: dict[str, str], after: float | None) -> None:
    assert retry_after(headers) == after


@given(some.lists(some.floats(0, 5), max_size=60), some.integers(1, 4))
def test_no_window_holds_more_requests_than_the_rate(pauses: list[float], requests: int) -> None:
    """Whenever there is something to send, and waiting as long as one is told to."""
    pace, now, asked = Pace(Rate(requests, 10.0)), 0.0, []
    for pause in pauses:
        now += pause
        now += pace.wait_s(now)
        assert pace.wait_s(now) <= 1e-9
        pace.asked(now)
        asked.append(now)
    for first, last in zip(asked, asked[requests:], strict=False):
        assert last - first >= 10.0 - 1e-9


def test_without_a_rate_nobody_waits() -> None:
    pace = Pace(None)
    for _ in range(1000):
        pace.asked(0.0)
    assert pace.wait_s(0.0) == 0.0
