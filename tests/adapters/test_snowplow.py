"""Snowplow's enriched events, in JSON."""

import json

import pytest
from hypothesis import given
from mutation import RECEIVED, assert_nobody_told, assert_safe, personal, spoilt

from streams.adapters import decode_any
from streams.adapters.base import Claims
from streams.adapters.snowplow import decode
from streams.adapters.times import instant

AT = "2026-03-02T08:59:59.500Z"

# From the analytics SDK's transformation (snowplow-python-analytics-sdk@0ddca91), values invented.
REQUESTED = {
    "app_id": "web", "platform": "web", "etl_tstamp": "2026-03-02T09:00:02.110Z",
    "collector_tstamp": "2026-03-02T09:00:01.500Z", "dvce_created_tstamp": "2026-03-02T08:59:50.000Z",
    "event": "unstruct", "event_id": "c6ef3124", "user_id": "u-1001", "domain_userid": "bc2e92ec6c204a14",
    "domain_sessionidx": 3, "page_urlpath": "/demo",
    "contexts_com_example_account_1": [{"id": "acme", "plan": "pro"}],
    "unstruct_event_com_example_demo_requested_1": {"seats": 25}, "dvce_ismobile": False,
    "derived_tstamp": AT, "event_name": "demo_requested", "event_vendor": "com.example",
    "event_fingerprint": "e3dbfa9c",
}  # fmt: skip
BASE = {key: REQUESTED[key] for key in ("event_id", "domain_userid", "derived_tstamp", "user_id")}
VIEWED = BASE | {
    "event": "page_view", "event_name": "page_view", "page_title": "Pricing", "page_urlpath": "/pricing",
    "page_url": "https://www.example.com/pricing?utm_medium=cpc", "page_urlquery": "utm_medium=cpc",
    "page_referrer": "https://www.google.com/", "useragent": "Mozilla/5.0", "user_ipaddress": "203.0.113.7",
}  # fmt: skip
CLICKED = BASE | {
    "event": "struct", "event_name": "event", "se_category": "video", "se_action": "Play Started",
    "se_label": "tour", "se_value": 12.5,
}  # fmt: skip
FORM = BASE | {
    "event": "unstruct", "event_name": "submit_form",
    "unstruct_event_com_snowplowanalytics_snowplow_submit_form_1": {
        "formId": "demo", "elements": [{"name": "phone", "value": "+49 30 901820", "nodeName": "INPUT"}],
    },
}  # fmt: skip
SCREEN = BASE | {
    "event": "unstruct", "event_name": "screen_view",
    "unstruct_event_com_snowplowanalytics_mobile_screen_view_1": {"name": "Billing", "id": "s-1"},
}  # fmt: skip


def described(schema, data):
    return {"schema": f"iglu:{schema}/jsonschema/1-0-2", "data": data}


# The columns as they stand in the tab-separated event.
PLAIN = BASE | {
    "event": "unstruct", "event_name": "demo_requested", "event_fingerprint": "e3dbfa9c",
    "contexts": described("com.snowplowanalytics.snowplow/contexts", [
        described("com.snowplowanalytics.snowplow/web_page", {"id": "p-1"}),
        described("com.example/account", {"id": "acme", "plan": "pro"}),
    ]),
    "unstruct_event": described("com.snowplowanalytics.snowplow/unstruct_event",
                                described("com.example/demoRequested", {"seats": 25})),
}  # fmt: skip
AS_TEXT = PLAIN | {column: json.dumps(PLAIN[column]) for column in ("contexts", "unstruct_event")}
SAMPLES = [REQUESTED, VIEWED, CLICKED, FORM, SCREEN, PLAIN, AS_TEXT]


def sent(event):
    return decode(json.dumps(event).encode(), RECEIVED)


def only(event):
    (found,) = sent(event)
    return found


def test_a_self_describing_event_becomes_an_activity_of_its_account():
    found = only(REQUESTED)
    assert (found.kind, found.name, found.props) == ("activity", "demo_requested", {"seats": 25})
    assert found.claims == Claims(group="acme", user="u-1001", anonymous="bc2e92ec6c204a14")
    assert decode_any("snowplow", json.dumps(REQUESTED).encode(), RECEIVED) == [found]


def test_the_devices_clock_does_not_count():
    assert only(REQUESTED).at == instant(AT, "")
    assert only(REQUESTED | {"derived_tstamp": None}).at == instant("2026-03-02T09:00:01.500Z", "")
    # Warehouses drop the zone; it is UTC.
    assert only(REQUESTED | {"derived_tstamp": "2026-03-02 08:59:59.500"}).at == instant(AT, "")


def test_two_events_of_one_event_id_are_two_unless_their_fingerprints_agree():
    assert only(REQUESTED).id == "c6ef3124/e3dbfa9c"
    assert only(REQUESTED | {"event_fingerprint": "0000"}).id != only(REQUESTED).id
    assert only(REQUESTED | {"event_fingerprint": None}).id == "c6ef3124"


def test_an_id_is_bounded_and_tells_no_address():
    """Two ids of 200 characters stood side by side once, and an address in one of them."""
    long = REQUESTED | {"event_id": "e" * 200, "event_fingerprint": "f" * 200}
    assert len(only(long).id) == len(only(REQUESTED | {"event_id": "bob@acme.example"}).id) == 32


def test_an_upgraded_schema_is_the_same_event_and_the_same_account():
    upgraded = {
        "contexts_com_example_account_2": [{"accountId": "acme", "website": "acme.example"}],
        "unstruct_event_com_example_demo_requested_2": {"seats": 30},
        "contexts_com_example_account_1": [],
        "unstruct_event_com_example_demo_requested_1": None,
    }
    found = only(REQUESTED | upgraded)
    assert (found.claims.group, found.claims.domain, found.props) == ("acme", "acme.example", {"seats": 30})


@pytest.mark.parametrize("event", [PLAIN, AS_TEXT])
def test_self_describing_columns_say_what_the_sdk_makes_of_them(event):
    assert sent(event) == sent(REQUESTED)


def test_robots_and_what_was_typed_are_known_by_their_schema_too():
    robot = described("com.iab.snowplow/spiders_and_robots", {"spiderOrRobot": True})
    derived = described("com.snowplowanalytics.snowplow/contexts", [robot])
    assert sent(PLAIN | {"derived_contexts": json.dumps(derived)}) == []
    typed = described(
        "com.snowplowanalytics.snowplow/submit_form", {"formId": "demo", "elements": [{"value": "x"}]}
    )
    form = PLAIN | {"event_name": "submit_form", "unstruct_event": {"data": typed}}
    assert only(form).props == {"form_id": "demo"}


@pytest.mark.parametrize("column", [None, "", 7, [], {}, {"data": 7}, {"data": [7, {"schema": 7}, {"data": {}}]}])
def test_columns_that_describe_nothing_say_nothing(column):
    found = only(PLAIN | {"contexts": column, "unstruct_event": column})
    assert (found.claims.group, found.props) == (None, {})


def test_text_that_is_no_json_is_refused_with_its_event():
    assert only(PLAIN | {"contexts": "{"}).reason == "broken_json"
    assert only(PLAIN | {"contexts": "[" * 100}).reason == "too_deep"


def test_an_account_entity_goes_before_a_group():
    two = {"contexts_com_example_group_1": [{"id": "team-7"}], **REQUESTED}
    assert only(two).claims.group == "acme"


def test_a_page_view_looks_like_segments():
    found = only(VIEWED)
    assert found.name == "page_viewed"
    assert found.props == {
        "path": "/pricing", "url": "https://www.example.com/pricing?utm_medium=cpc", "search": "?utm_medium=cpc",
        "title": "Pricing", "referrer": "https://www.google.com/",
    }  # fmt: skip


def test_a_page_without_a_query_says_so():
    """`came_from_search` asks for `search: ""`; null columns are left out of the message."""
    assert only(VIEWED | {"page_url": "https://www.example.com/"}).props["search"] == ""
    assert only(VIEWED | {"page_url": "http://[broken", "page_urlpath": None}).props["url"] == "http://[broken"


def test_a_structured_event_is_called_by_its_action():
    """The `event_name` of all of them is `event`."""
    found = only(CLICKED)
    assert found.name == "play_started"
    assert found.props == {"category": "video", "label": "tour", "value": 12.5}


def test_older_kinds_keep_what_they_sold():
    sold = BASE | {"event": "transaction", "event_name": "transaction", "tr_orderid": "o1", "tr_total": 99.5}
    assert (only(sold).name, only(sold).props) == ("transaction", {"order": "o1", "total": 99.5})


def test_a_screen_keeps_its_name():
    assert (only(SCREEN).name, only(SCREEN).props["name"]) == ("screen_viewed", "Billing")


def test_heartbeats_and_robots_say_nothing():
    assert sent(BASE | {"event": "page_ping", "event_name": "page_ping"}) == []
    robots = "contexts_com_iab_snowplow_spiders_and_robots_1"
    assert sent(VIEWED | {robots: [{"spiderOrRobot": True, "reason": "FAILED_UA_INCLUDE"}]}) == []
    assert only(VIEWED | {robots: [{"spiderOrRobot": False}]}).name == "page_viewed"


def test_what_was_typed_into_a_form_stays_there():
    """The fields stand as name and value: by its own name, a value does not look like a phone number."""
    assert only(FORM).props == {"form_id": "demo"}
    changed = {"unstruct_event_com_snowplowanalytics_snowplow_change_form_1": {"elementId": "a", "value": "+49"}}
    assert only(BASE | {"event": "unstruct", "event_name": "change_form"} | changed).props == {"element_id": "a"}


def test_who_asked_for_anonymity_is_nobody():
    """The collector gives all of them one id; refusing them would count against the source."""
    nobody = {"user_id": None, "domain_userid": None, "network_userid": "00000000-0000-0000-0000-000000000000"}
    assert only(VIEWED | nobody).claims == Claims()
    assert only(VIEWED | nobody | {"network_userid": "4f1b"}).claims == Claims(anonymous="4f1b")


def test_a_user_id_may_be_an_address():
    assert only(VIEWED | {"user_id": "bob@acme.example"}).claims.email == "bob@acme.example"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "null_value"),
        (b"", "broken_json"),
        (b"[]", "wrong_type"),
        (b"web\tweb\t2026-03-02 09:00:02.110", "broken_json"),
        (b'{"derived_tstamp":"2026-03-02T08:59:59Z"}', "missing_field"),
        (b'{"event_name":"a"}', "missing_field"),
        (b'{"event_name":"a","derived_tstamp":"yesterday"}', "bad_time"),
        (b'{"event_name":"a","derived_tstamp":"2026-03-02T08:59:59"}', "naive_time"),
        (b'{"schema":"iglu:com.snowplowanalytics.snowplow.badrows/schema_violations/jsonschema/2-0-0","data":{}}',
         "missing_field"),
        (json.dumps(REQUESTED | {"user_id": "u" * 300}).encode(), "bad_key"),
    ],
)  # fmt: skip
def test_poison_has_a_name(value, why):
    assert [found.reason for found in decode(value, RECEIVED)] == [why]


def test_tabs_are_told_what_to_do():
    assert "analytics SDK" in decode(b"web\tweb\t", RECEIVED)[0].detail


@given(value=spoilt(SAMPLES))
def test_no_event_raises(value):
    assert_safe(decode, value)


@given(value=personal(SAMPLES))
def test_nothing_personal_is_left(value):
    assert_nobody_told(decode, value)
