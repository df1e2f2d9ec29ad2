"""CloudEvents, one or a batch of them."""

import base64
import json
from datetime import datetime

import pytest
from cloudevents.core.bindings.kafka import to_structured_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from mutation import EMAIL, RECEIVED, assert_nobody_told, assert_safe, personal, spoilt

from streams.adapters import decode_any
from streams.adapters.base import Claims, Observation
from streams.adapters.cloudevents import decode
from streams.adapters.times import instant

TIME = "2026-03-02T09:15:00Z"
AT = instant(TIME, "")
VIEW = {
    "specversion": "1.0", "id": "A234", "source": "/web/acme", "type": "com.example.page_viewed",
    "subject": "acme.example", "time": TIME, "datacontenttype": "application/json", "data": {"path": "/pricing"},
}  # fmt: skip


def cloud(**fields):
    return {key: value for key, value in (VIEW | fields).items() if value is not None}


def sent(message):
    return decode(json.dumps(message).encode(), RECEIVED)


def only(message):
    (found,) = sent(message)
    return found


# -- activities


def test_an_event_is_an_activity_of_its_subject():
    found = only(VIEW)
    assert (found.kind, found.name, found.at, found.id) == ("activity", "page_viewed", AT, "/web/acme/A234")
    assert (found.claims, found.props) == (Claims(domain="acme.example"), {"path": "/pricing"})
    assert decode_any("cloudevents", json.dumps(VIEW).encode(), RECEIVED) == [found]


def test_what_the_official_sdk_writes():
    attributes = {"type": VIEW["type"], "source": VIEW["source"], "id": "A234", "subject": VIEW["subject"],
                  "time": datetime.fromisoformat(TIME), "datacontenttype": "application/json"}  # fmt: skip
    message = to_structured_event(CloudEvent(attributes, {"path": "/pricing"}), JSONFormat())
    assert decode(message.value, RECEIVED) == [only(VIEW)]


def test_a_batch_mixes_what_is_sound_and_what_is_not():
    found = sent([VIEW, {"specversion": "1.0"}, cloud(specversion="0.3"), 7, cloud(id="A235")])
    assert [isinstance(each, Observation) for each in found] == [True, False, False, False, True]
    assert [each.reason for each in found[1:4]] == ["missing_field", "unknown_format", "wrong_type"]
    assert sent([]) == []


@pytest.mark.parametrize(
    ("type", "name"),
    [
        ("com.example.page_viewed", "page_viewed"),
        ("com.example.PageViewed", "page_viewed"),
        ("com.example.demo-requested.v2", "demo_requested"),
        ("Demo Requested", "demo_requested"),
        ("v2", "v2"),
    ],
)
def test_the_last_part_of_the_type_names_the_activity(type, name):
    assert only(cloud(type=type)).name == name


@pytest.mark.parametrize(
    ("subject", "claims"),
    [
        ("acme.example", Claims(domain="acme.example")),
        ("https://www.acme.example/x", Claims(domain="https://www.acme.example/x")),
        ("a-17", Claims(account="a-17")),
        ("salesforce:0015f00002JUZPDAA5", Claims(account="salesforce:0015f00002JUZPDAA5")),
        ("10.2", Claims(account="10.2")),
        (EMAIL, Claims(email=EMAIL)),
    ],
)
def test_the_subject_is_an_account_or_its_domain(subject, claims):
    assert only(cloud(subject=subject)).claims == claims


def test_data_may_name_whom_it_is_about():
    data = {"accountId": "a1", "user_id": 1001, "email": EMAIL, "anonymousId": "x", "seats": 3, "name": "Bob"}
    found = only(cloud(data=data))
    assert found.claims == Claims(account="a1", user="1001", email=EMAIL, anonymous="x", domain="acme.example")
    assert found.props == {"seats": 3}
    assert only(cloud(subject="a0", data=data)).claims.account == "a1"


def test_an_address_is_nobodys_account():
    assert only(cloud(subject=None, data={"account": EMAIL})).claims == Claims(email=EMAIL)


def test_the_id_is_source_and_id_without_a_persons_address():
    assert only(cloud(source="/b")).id != only(VIEW).id != only(cloud(id="B")).id
    by_mail = only(cloud(source=f"mailto:{EMAIL}"))
    assert EMAIL not in by_mail.id
    assert by_mail.id == only(cloud(source=f"mailto:{EMAIL}", time=None)).id
    assert len(only(cloud(source="/" * 2000)).id) == 32


@pytest.mark.parametrize(
    ("time", "at"),
    [(None, RECEIVED), ("2026-03-02T10:15:00+01:00", AT), ("2026-03-02T09:15:00.000123456Z", AT)],
)
def test_when_it_happened(time, at):
    assert only(cloud(time=time)).at == at


def test_binary_mode_is_refused_for_what_its_headers_say():
    assert only(VIEW["data"]).reason == "missing_field"


@pytest.mark.parametrize("data", [None, "text", 7, [1], True])
def test_data_that_is_no_object_has_no_properties(data):
    assert only(cloud(data=data)).props == {}


def encoded(content):
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("content_type", "props"),
    [
        ("application/json", {"path": "/pricing"}),
        ("application/vnd.x+json; charset=utf-8", {"path": "/pricing"}),
        (None, {"path": "/pricing"}),
        ("application/octet-stream", {}),
    ],
)
def test_binary_data_is_read_where_it_is_json(content_type, props):
    content = encoded(b'{"path": "/pricing"}')
    assert only(cloud(data=None, data_base64=content, datacontenttype=content_type)).props == props


# -- records of our own


def test_data_with_a_kind_is_a_record_of_ours():
    found = only(cloud(data={"kind": "facts", "set": {"employees": "329"}}))
    assert (found.kind, found.set, found.at) == ("facts", {"employees": 329}, AT)
    assert (found.claims, found.id) == (Claims(domain="acme.example"), "/web/acme/A234")


def test_a_type_of_ours_names_the_kind():
    found = only(cloud(type="isotherm.activity", subject="a1", data={"name": "demo_requested", "props": {}}))
    assert (found.kind, found.name, found.claims) == ("activity", "demo_requested", Claims(account="a1"))


def test_what_data_says_wins():
    data = {"kind": "delete", "account": "a2", "at": "2026-03-01T00:00:00Z"}
    found = only(cloud(subject="a1", data=data))
    assert (found.kind, found.claims.account, found.at) == ("delete", "a2", instant(data["at"], ""))


def test_facts_of_a_record_are_spelt_our_way_and_refused_one_by_one():
    said = {"AnnualRevenue": "1.25e7", "Work Email": EMAIL, "mobilePhone": "1", "visits": 10**30}
    facts, *rejected = sent(
        cloud(data={"kind": "facts", "set": said | {"employees": "many"}, "clear": ["SubIndustry"]})
    )
    assert (facts.set, facts.clear) == ({"annual_revenue": 12_500_000}, ("sub_industry",))
    assert {each.reason for each in rejected} == {"bad_value", "huge_number"}


def test_a_record_in_binary_data():
    content = encoded(json.dumps({"kind": "restore"}).encode())
    assert only(cloud(data=None, data_base64=content)).kind == "restore"


# -- what is wrong


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (7, "wrong_type"),
        ({}, "missing_field"),
        (cloud(specversion="0.3"), "unknown_format"),
        (cloud(specversion=1.0), "wrong_type"),
        (cloud(id=""), "missing_field"),
        (cloud(source=None), "missing_field"),
        (cloud(type="com.example."), "bad_name"),
        (cloud(type="x" * 300), "bad_name"),
        (cloud(time="2026-03-02T09:15:00"), "naive_time"),
        (cloud(time="soon"), "bad_time"),
        (cloud(subject=None), "missing_key"),
        (cloud(subject="x" * 300), "bad_key"),
        (cloud(data_base64="e30="), "bad_value"),
        (cloud(data=None, data_base64="?"), "bad_value"),
        (cloud(data=None, data_base64=encoded(b"{")), "broken_json"),
        (cloud(data=None, data_base64=encoded(b"[" * 100)), "too_deep"),
        (cloud(data={"n": 10**30}), "huge_number"),
        (cloud(type="isotherm.facts", data="text"), "wrong_type"),
        (cloud(type="isotherm.segment.changed"), "unknown_kind"),
        (cloud(data={"kind": "activity"}), "missing_field"),
        (cloud(data={"kind": "facts", "acount": "a"}), "unknown_field"),
    ],
)
def test_poison_has_a_name(message, why):
    found = only(message)
    assert (found.reason, bool(found.detail)) == (why, True)


@pytest.mark.parametrize(("value", "why"), [(None, "null_value"), (b"[{]", "broken_json"), (b"\xff", "bad_utf8")])
def test_bytes_that_are_no_message(value, why):
    assert [each.reason for each in decode(value, RECEIVED)] == [why]


SAMPLES = [
    VIEW, [VIEW, cloud(id="B", subject="a1", data={"userId": "u", "seats": 3})],
    cloud(type="isotherm.contact", data={"crm": "x:1", "email": EMAIL, "set": {"title": "CTO"}}),
    cloud(data={"kind": "facts", "account": "a1", "set": {"employees": 5}, "clear": ["city"]}),
    cloud(data=None, data_base64=encoded(b'{"path": "/pricing"}')),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(value=spoilt(SAMPLES))
def test_no_message_raises(value):
    assert_safe(decode, value)


@settings(max_examples=300, deadline=None)
@given(value=personal(SAMPLES))
def test_nothing_personal_is_left(value):
    assert_nobody_told(decode, value)
    assert not [each for each in decode(value, RECEIVED) if isinstance(each, Observation) and EMAIL in each.id]
