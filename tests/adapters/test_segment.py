"""Web activity as Segment and its relatives send it."""

import json

import pytest

from streams.adapters.base import Observation, Rejected
from streams.adapters.segment import decode
from streams.adapters.times import instant
from streams.adapters.wire import nesting

RECEIVED = instant("2026-03-05T00:00:00Z", "")
AT = "2026-03-02T09:15:00.111Z"


def call(**fields):
    message = {"type": "track", "event": "Signed In", "userId": "u1", "timestamp": AT, "messageId": "m1"}
    return message | fields


def sent(message):
    return decode(json.dumps(message).encode(), RECEIVED)


def only(message):
    (found,) = sent(message)
    return found


def reason(message):
    return only(message).reason


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ("Demo Requested", "demo_requested"),
        ("demoRequested", "demo_requested"),
        ("demo-requested ", "demo_requested"),
        ("HTTPServer Error", "http_server_error"),
        ("Überweisung", "überweisung"),
    ],
)
def test_an_event_is_named_in_snake_case(event, name):
    assert only(call(event=event)).name == name


@pytest.mark.parametrize(
    ("times", "at"),
    [
        ({"timestamp": AT, "receivedAt": "2026-03-02T09:15:00512Z"}, AT),
        # The device is two hours fast, and sent 30 s after the event.
        (
            {
                "originalTimestamp": "2026-03-03T12:00:00Z",
                "sentAt": "2026-03-03T12:00:30Z",
                "receivedAt": "2026-03-03T10:00:30Z",
            },
            "2026-03-03T10:00:00Z",
        ),
        ({"originalTimestamp": "2026-03-03T12:00:00Z", "sentAt": "2026-03-03T12:00:30Z"}, "2026-03-03T12:00:00Z"),
        ({"originalTimestamp": AT, "receivedAt": "2026-03-03T10:00:30Z"}, "2026-03-03T10:00:30Z"),
        ({"receivedAt": "2026-03-03T10:00:30+01:00"}, "2026-03-03T09:00:30Z"),
        ({"receivedAt": "2026-03-02T09:15:00512Z"}, "2026-03-05T00:00:00Z"),
        ({}, "2026-03-05T00:00:00Z"),
    ],
)
def test_when_it_happened(times, at):
    assert only(call(timestamp=None) | times).at == instant(at, "")


@pytest.mark.parametrize(
    ("timestamp", "why"),
    [
        ("2026-03-02T09:15:00512Z", "bad_time"),
        ("2019-01-TuT12:48:23.395+00:00", "bad_time"),
        ("2026-03-02T09:15:00", "naive_time"),
        ("0001-01-01T00:00:00Z", "absurd_time"),
        (1772442000, "absurd_time"),
        (10**30, "absurd_time"),
        (True, "absurd_time"),
        (["2026"], "absurd_time"),
    ],
)
def test_a_time_that_cannot_be_used_is_not_replaced_by_now(timestamp, why):
    assert reason(call(timestamp=timestamp)) == why


def test_a_page_is_known_by_its_path_wherever_that_stands():
    page = {"path": "/pricing", "url": "https://a.example/pricing", "title": "Pricing"}
    in_properties = only(call(type="page", name="Pricing", properties=page))
    in_context = only(call(type="page", name="Pricing", context={"page": page}))
    assert in_properties.props == in_context.props == {**page, "name": "Pricing"}
    assert in_properties.name == "page_viewed"
    assert only(call(type="screen", name="Home")).props == {"name": "Home"}


def test_one_bad_call_does_not_sink_the_batch():
    found = sent({"batch": [call(), {"type": "track"}, 7, call(timestamp=1), call(messageId="m2")]})
    assert [type(one) for one in found] == [Observation, Rejected, Rejected, Rejected, Observation]
    assert [one.reason for one in found[1:4]] == ["missing_field", "wrong_type", "absurd_time"]


def test_traits_go_under_our_names_and_types():
    traits = {
        "companyName": "Acme", "Employee Count": "1,200", "annualRevenue": "1.25e7", "URL": "acme.example",
        "address": {"country": "DE", "street": "Torstr. 1"}, "phone": "+49 30 1", "email": "info@acme.example",
        "plan": None, "note": "", "nested": {"a": 1}, "tags": ["a", "b"], "Health Score": 0.5,
    }  # fmt: skip
    found = only(call(type="group", groupId="acme", traits=traits))
    assert found.set == {
        "name": "Acme", "employees": 1200, "annual_revenue": 12_500_000, "website": "acme.example",
        "country": "DE", "tags": ["a", "b"], "health_score": 0.5,
    }  # fmt: skip
    assert found.clear == ("plan",)
    assert found.claims.domain == "acme.example"


@pytest.mark.parametrize("employees", ["50-100", "nan", "1.5", True, 1.5, 10**30, "9" * 400])
def test_a_value_of_the_wrong_type_is_rejected_alone(employees):
    facts, rejected = sent(call(type="group", groupId="acme", traits={"employees": employees, "plan": "pro"}))
    assert facts.set == {"plan": "pro"}
    assert rejected.reason in ("bad_value", "huge_number")


def test_nothing_personal_is_left():
    traits = {"email": "bob@acme.example", "firstName": "Bob", "last_name": "Ray", "name": "Bob Ray",
              "phone": "1", "workEmail": "b@x.example", "title": "CTO", "optedOutOfEmail": True}  # fmt: skip
    contact = only(call(type="identify", traits=traits))
    assert contact.kind == "contact"
    assert contact.set == {"title": "CTO", "opted_out_of_email": True}
    assert contact.claims.email == "bob@acme.example"

    form = {"email": "bob@acme.example", "name": "Bob", "form": {"Phone Number": "1", "seats": 3},
            "url": "https://a.example/?mail=bob%40acme.example&seats=3",
            "note": "ask bob@acme.example"}  # fmt: skip
    assert only(call(properties=form)).props == {
        "form": {"seats": 3}, "url": "https://a.example/?mail=(email)&seats=3", "note": "ask (email)",
    }  # fmt: skip


def test_an_alias_is_a_link():
    found = only(call(type="alias", previousId="anon-1"))
    assert (found.kind, found.claims.user, found.claims.anonymous) == ("link", "u1", "anon-1")


@pytest.mark.parametrize("junk", ["undefined", "null", " ", "[object Object]"])
def test_what_only_looks_like_an_id_joins_nobody(junk):
    assert reason(call(userId=junk)) == "missing_key"


def test_a_numeric_id_is_text():
    assert only(call(userId=1001)).claims.user == "1001"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "null_value"),
        (b"", "broken_json"),
        (b"{", "broken_json"),
        (b"[]", "wrong_type"),
        (b'{"type":"track","event":"a","userId":"u","x":"\xff"}', "bad_utf8"),
        (b'{"type":"track","event":"a","userId":"\\ud800"}', "broken_json"),
        (b'{"type":"track","event":"a","userId":"u","properties":{"a":NaN}}', "broken_json"),
        (b'{"type":"track","event":"a","userId":"u","properties":{"a":1e999}}', "huge_number"),
        (b'{"type":"track","event":"a","userId":"u","properties":{"a":' + b"9" * 30 + b"}}", "huge_number"),
        (b'{"properties":{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}}", "too_deep"),
        (b'"' + b"a" * 1_100_000 + b'"', "too_large"),
        (b'{"type":"delete"}', "unknown_kind"),
        (b'{"type":"track","userId":"u"}', "missing_field"),
        (b'{"type":"track","event":"a"}', "missing_key"),
        (b'{"type":"track","event":"a","userId":"' + b"u" * 300 + b'"}', "bad_key"),
        (b'{"type":"track","event":7,"userId":"u"}', "wrong_type"),
    ],
)
def test_poison_has_a_name(value, why):
    assert [found.reason for found in decode(value, RECEIVED)] == [why]


def test_nesting_is_counted_outside_of_text():
    assert nesting(rb'{"a":[{"b":"[[[[\"[[[\\"}]}') == 3
    assert sent(call(properties={"text": "[" * 500, "list": [[]] * 100}))[0].kind == "activity"


def test_blotting_a_long_text_takes_no_time():
    assert only(call(properties={"text": "a" * 900_000 + " @"})).kind == "activity"
