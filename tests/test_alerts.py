"""Whom sales is told about: a table of changes and what becomes of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from streams.alerts import alert_for

MOVED: dict[str, Any] = {
    "id": "0.0.4.0",
    "type": "segment.moved",
    "data": {
        "account": "salesforce:001",
        "name": "Blue & Co",
        "dimension": "engagement",
        "from": "warm",
        "to": "hot",
        "origin": "live",
        "stays_until": "2026-03-09T10:00:00.000Z",
        "reason": {"text": "3 pricing page views in 7 days (needs 3); something else"},
        "action": {"do": "reach out today"},
    },
}
STATE: dict[str, Any] = {
    "id": "0.0.1.0",
    "type": "account.state",
    "data": {
        "account": "domain:acme.example",
        "name": "",
        "origin": "live",
        "memberships": {"engagement": {"answer": "hot", "stays_until": None}},
        "reason": {"engagement": {"text": "1 demo request"}},
    },
}


def test_the_message_says_who_why_until_when_and_what_to_do() -> None:
    message = alert_for(MOVED)
    assert message is not None
    assert message["text"] == (
        "Blue &amp; Co is hot (warm → hot): 3 pricing page views in 7 days (needs 3); "
        "hot until 2026-03-09 10:00 UTC"
    )
    told = message["blocks"][0]["text"]["text"]
    assert "Do: reach out today" in told
    assert "something else" not in told


def test_a_first_live_state_that_is_hot_is_announced() -> None:
    message = alert_for(STATE)
    assert message is not None
    assert message["text"] == (
        "domain:acme.example is hot (first seen → hot): 1 demo request; hot until something changes"
    )


@pytest.mark.parametrize(
    ("event", "path", "value"),
    [
        (MOVED, "to", "warm"),
        (MOVED, "origin", "import"),
        (MOVED, "origin", "backfill"),
        (MOVED, "dimension", "size"),
        (STATE, "origin", "import"),
        (STATE, "memberships", {}),
        (STATE, "memberships", {"engagement": {"answer": "cold", "stays_until": None}}),
    ],
)
def test_everything_else_is_silent(event: dict[str, Any], path: str, value: Any) -> None:
    changed = copy.deepcopy(event)
    changed["data"][path] = value
    assert alert_for(changed) is None
