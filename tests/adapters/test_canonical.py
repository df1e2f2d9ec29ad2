"""Our own format, and how it is told from the others."""

import json

import pytest

from streams.adapters import decode_any
from streams.adapters.base import Claims
from streams.adapters.canonical import decode

VIEW = {"kind": "activity", "name": "Pricing Viewed", "at": 1772442000000, "domain": "acme.example"}


def only(message):
    (found,) = decode(json.dumps(message).encode(), 0)
    return found


def test_an_activity():
    found = only(
        {**VIEW, "at": "2026-03-02T10:00:00+01:00", "props": {"path": "/pricing", "email": "b@x.example"}}
    )
    assert (found.kind, found.name, found.at) == ("activity", "pricing_viewed", 1772442000000)
    assert found.props == {"path": "/pricing"}
    assert found.claims == Claims(domain="acme.example")


def test_facts():
    found = only({"kind": "facts", "at": 1772442000000, "account": "a1", "origin": "import",
                  "source": "clearbit", "set": {"employees": "329", "industry": "Banking", "plan": None},
                  "clear": ["city"]})  # fmt: skip
    assert (found.set, found.clear, found.origin) == (
        {"employees": 329, "industry": "Banking"},
        ("city",),
        "import",
    )


def test_a_contact_has_no_name():
    found = only({"kind": "contact", "at": 1772442000000, "crm": "salesforce:1", "email": "b@acme.example",
                  "set": {"name": "Bob", "title": "CTO"}, "gone": True})  # fmt: skip
    assert (found.set, found.gone) == ({"title": "CTO"}, True)


@pytest.mark.parametrize("kind", ["delete", "restore"])
def test_delete_and_restore(kind):
    assert only({"kind": kind, "at": 1772442000000, "account": "a1"}).kind == kind


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"kind": "activity", "name": "x", "account": "a"}, "missing_field"),
        ({"kind": "activity", "at": 1772442000000, "account": "a"}, "missing_field"),
        ({"kind": "facts", "at": 1772442000000, "acount": "a"}, "unknown_field"),
        ({"kind": "facts", "at": 1772442000000}, "missing_key"),
        ({"kind": "fact", "at": 1772442000000}, "unknown_kind"),
        ({**VIEW, "at": 17.5}, "wrong_type"),
        ({**VIEW, "at": "2026-03-02T10:00:00"}, "naive_time"),
        ({**VIEW, "at": 12}, "absurd_time"),
        ({**VIEW, "account": 7}, "wrong_type"),
        ({**VIEW, "origin": "rebuild"}, "wrong_type"),
        ({**VIEW, "via": [0, 0, 0]}, "unknown_field"),
        ({**VIEW, "name": "?!"}, "bad_name"),
        ({"kind": "facts", "at": 1772442000000, "account": "a", "set": {"x": {}}}, "wrong_type"),
    ],
)
def test_what_is_wrong_is_said(message, why):
    found = only(message)
    assert found.reason == why
    assert found.detail


def test_on_any_topic_a_kind_tells_our_own_format():
    track = {"type": "track", "event": "X", "userId": "u", "properties": {"kind": "facts"}}
    for format in ("segment", "salesforce", "canonical"):
        assert decode_any(format, json.dumps(VIEW).encode(), 0)[0].name == "pricing_viewed"
    assert decode_any("segment", json.dumps(track).encode(), 0)[0].name == "x"
    assert decode_any("canonical", json.dumps(track).encode(), 0)[0].reason == "missing_field"
    assert decode_any("sgment", json.dumps(track).encode(), 0)[0].reason == "unknown_format"


def test_a_name_is_personal_however_it_is_spelled() -> None:
    """Once `firstName` and `Work Email` entered the log, which only knew `first_name` to be personal."""
    (found,) = decode(
        b'{"kind": "contact", "account": "a", "email": "bob@x.example", "at": 1772442000000,'
        b' "set": {"firstName": "Bob", "Work Email": "bob@x.example", "mobilePhone": "1", "jobTitle": "CTO"},'
        b' "clear": ["lastName", "bob@x.example", "Status"]}',
        1772442000000,
    )
    assert (set(found.set), found.clear) == ({"job_title"}, ("status",))
