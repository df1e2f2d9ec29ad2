"""Google Analytics 4: rows of the export, and requests of the Measurement Protocol."""

import json

import pytest
from hypothesis import given
from mutation import RECEIVED, assert_nobody_told, assert_safe, personal, spoilt

from streams.adapters.base import Claims, Observation, Rejected
from streams.adapters.ga4 import decode
from streams.adapters.times import instant

# The Measurement Protocol's reference, values invented.
REQUEST = {
    "client_id": "1234567890.0987654321", "user_id": "u-1001", "timestamp_micros": 1772442000000000,
    "user_properties": {"account_id": {"value": "acme"}},
    "events": [
        {"name": "generate_lead", "params": {
            "session_id": "1772441900", "engagement_time_msec": 100, "currency": "EUR", "value": 30.5,
        }},
        {"name": "page_view", "params": {"page_location": "https://www.example.com/demo"}},
    ],
}  # fmt: skip


def param(key, **value):
    empty = {"string_value": None, "int_value": None, "float_value": None, "double_value": None}
    return {"key": key, "value": empty | value}


# A row as `bq extract` writes it: whole numbers as text. 23:30 UTC is the next day in Berlin.
ROW = {
    "event_date": "20260303", "event_timestamp": "1772494200123456", "event_name": "page_view",
    "event_params": [
        param("page_location", string_value="https://www.example.com/pricing?utm_medium=cpc"),
        param("page_title", string_value="Pricing"), param("page_referrer", string_value="https://www.google.com/"),
        param("ga_session_id", int_value="1772441900"), param("entrances", int_value="1"),
        param("topic", string_value="security"), param("scroll_depth", int_value="90"),
        param("score", double_value=0.5), param("nothing"),
    ],
    "event_bundle_sequence_id": "-17", "event_server_timestamp_offset": "512000", "user_id": None,
    "user_pseudo_id": "1234567890.0987654321", "batch_page_id": "1772441900", "batch_ordering_id": "2",
    "batch_event_index": "1", "user_properties": [param("account_id", string_value="acme")],
    "geo": {"country": "Germany"}, "device": {"category": "desktop"}, "items": [],
    "privacy_info": {"analytics_storage": "Yes"},
}  # fmt: skip
BOUGHT = ROW | {
    "event_name": "purchase",
    "event_params": [param("value", double_value=99.5), param("currency", string_value="EUR")],
    "items": [
        {"item_id": "seat", "item_name": "Seat", "item_brand": "(not set)", "price": 33.2, "quantity": "3",
         "coupon": None, "item_params": []},
    ],
}  # fmt: skip
SAMPLES = [REQUEST, ROW, BOUGHT]


def sent(message):
    return decode(json.dumps(message).encode(), RECEIVED)


def only(message):
    (found,) = sent(message)
    return found


def test_a_request_is_an_activity_for_each_of_its_events():
    lead, view = sent(REQUEST)
    assert (lead.name, lead.props) == ("generate_lead", {"currency": "EUR", "value": 30.5})
    assert lead.at == view.at == instant("2026-03-02T09:00:00Z", "")
    assert lead.claims == Claims(group="acme", user="u-1001", anonymous="1234567890.0987654321")


def test_a_page_view_is_called_as_everywhere():
    """The samples keep `page_view` and `page_location`. Rules ask for `page_viewed` and `path`, whoever sends."""
    view = sent(REQUEST)[1]
    assert view.name == "page_viewed"
    assert view.props == {"url": "https://www.example.com/demo", "path": "/demo", "search": ""}


def test_events_of_one_request_share_a_time_and_not_an_id():
    ids = [found.id for found in sent(REQUEST)]
    assert len(set(ids)) == 2
    assert ids == [found.id for found in sent(REQUEST)]
    assert [found.id for found in sent(REQUEST | {"client_id": "other"})] != ids
    # Without a time it is made new each time it arrives.
    assert [(found.at, found.id) for found in sent(REQUEST | {"timestamp_micros": None})] == [(RECEIVED, "")] * 2


def test_microseconds_may_be_text():
    assert sent(REQUEST | {"timestamp_micros": "1772442000000000"}) == sent(REQUEST)
    own = REQUEST["events"][0] | {"timestamp_micros": 1772442001000000}
    assert only(REQUEST | {"events": [own]}).at == instant("2026-03-02T09:00:01Z", "")


def test_one_bad_event_does_not_sink_the_request():
    found = sent(REQUEST | {"events": [{"name": 7}, {"params": {}}, "x", REQUEST["events"][0]]})
    assert [type(one) for one in found] == [Rejected, Rejected, Rejected, Observation]


def test_a_row_is_read_from_its_keys_and_values():
    found = only(ROW)
    assert found.props == {
        "url": "https://www.example.com/pricing?utm_medium=cpc", "path": "/pricing", "search": "?utm_medium=cpc",
        "title": "Pricing", "referrer": "https://www.google.com/",
        "topic": "security", "scroll_depth": 90, "score": 0.5,
    }  # fmt: skip
    assert found.claims == Claims(group="acme", anonymous="1234567890.0987654321")


def test_the_date_is_not_the_time():
    """`event_date` is a day in the property's zone: here already the next one."""
    assert only(ROW).at == instant("2026-03-02T23:30:00.123Z", "")
    without = {key: value for key, value in ROW.items() if key != "event_timestamp"}
    assert only(without).reason == "missing_field"


def test_the_days_streamed_row_and_its_final_one_are_one():
    final = json.loads(json.dumps(ROW)) | {"event_timestamp": 1772494200123456, "batch_event_index": 1}
    assert only(final | {"geo": None, "user_properties": None}).id == only(ROW).id
    assert only(ROW | {"batch_event_index": "2"}).id != only(ROW).id


def test_an_id_tells_no_user():
    """An unkeyed hash of an address can be guessed: the user's id is no part of it."""
    assert only(ROW | {"user_id": "bob@acme.example"}).id == only(ROW).id


def test_items_are_what_is_known_of_them():
    bought = only(BOUGHT)
    assert bought.props == {
        "value": 99.5, "currency": "EUR",
        "items": [{"item_id": "seat", "item_name": "Seat", "price": 33.2, "quantity": 3}],
    }  # fmt: skip
    request = REQUEST | {"events": [{"name": "purchase", "params": {"items": [{"item_id": "seat"}, 7]}}]}
    assert only(request).props == {"items": [{"item_id": "seat"}]}


@pytest.mark.parametrize("value", [[param("phone", string_value="+49 30 1")], {"a": {"phone": "1"}}, [1], {}])
def test_a_parameter_is_text_or_a_number(value):
    """A list of keys and values inside one was kept once, and a phone number in it by no name it is known by."""
    call = REQUEST["events"][0] | {"params": {"currency": "EUR", "note": value}}
    assert only(REQUEST | {"events": [call]}).props == {"currency": "EUR"}
    assert only(BOUGHT | {"event_params": [param("note", double_value=value)], "items": []}).props == {}


def test_without_consent_a_row_names_nobody_and_is_no_mistake():
    found = only(
        ROW | {"user_pseudo_id": None, "user_properties": [], "privacy_info": {"analytics_storage": "No"}}
    )
    assert found.claims == Claims()


def test_the_account_may_be_a_parameter():
    params = [*ROW["event_params"], param("company_id", int_value="77")]
    found = only(ROW | {"user_properties": [], "event_params": params})
    assert (found.claims.group, "company_id" in found.props) == ("77", False)


def test_heartbeats_say_nothing():
    assert sent(ROW | {"event_name": "user_engagement"}) == []


def test_a_screen_keeps_its_name():
    found = only(
        ROW | {"event_name": "screen_view", "event_params": [param("firebase_screen", string_value="Billing")]}
    )
    assert (found.name, found.props) == ("screen_viewed", {"name": "Billing"})


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "null_value"),
        (b"{", "broken_json"),
        (b"[]", "wrong_type"),
        (b"{}", "missing_field"),
        (json.dumps(ROW | {"event_timestamp": 1772494200123}).encode(), "absurd_time"),
        (json.dumps(ROW | {"event_timestamp": "soon"}).encode(), "bad_time"),
        (json.dumps(ROW | {"event_timestamp": 1e15}).encode(), "wrong_type"),
        (json.dumps(ROW | {"event_params": {"a": 1}}).encode(), "wrong_type"),
        (json.dumps(ROW | {"event_params": [param("a", int_value="9" * 19)]}).encode(), "huge_number"),
        (json.dumps(ROW | {"event_name": "!"}).encode(), "bad_name"),
        (json.dumps(ROW | {"user_pseudo_id": "u" * 300}).encode(), "bad_key"),
    ],
)
def test_poison_has_a_name(value, why):
    assert [found.reason for found in decode(value, RECEIVED)] == [why]


def test_milliseconds_are_told_apart():
    assert "milliseconds?" in only(ROW | {"event_timestamp": 1772494200123}).detail


@given(value=spoilt(SAMPLES))
def test_no_message_raises(value):
    assert_safe(decode, value)


@given(value=personal(SAMPLES))
def test_nothing_personal_is_left(value):
    assert_nobody_told(decode, value)
