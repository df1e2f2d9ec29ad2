"""PostHog: captured, passed on by webhook, and off its own Kafka topic."""

import json

import pytest
from hypothesis import given
from mutation import RECEIVED, assert_nobody_told, assert_safe, personal, spoilt

from streams.adapters.base import Claims, Observation, Rejected
from streams.adapters.posthog import decode
from streams.adapters.times import instant

AT = "2026-03-02T09:00:00.000Z"
UUID = "0195559e-8f00-7000-8000-000000000001"

# posthog-python@c55c9b2 and PostHog's Kafka consumers, values invented.
CAPTURED = {
    "api_key": "phc_x", "event": "report exported", "distinct_id": "user_5",
    "properties": {"rows": 12000, "$groups": {"company": "acme", "project": "p-9"}, "$lib": "posthog-python"},
    "timestamp": AT, "uuid": UUID,
}  # fmt: skip
ROW = {
    "team_id": 2, "event": "report exported", "person_id": "019a3b6e", "distinct_id": "user_5",
    "properties": '{"rows":12000,"$group_0":"acme"}', "timestamp": "2026-03-02 09:00:00.000000", "uuid": UUID,
}  # fmt: skip
COHORT = {
    "team_id": 2, "cohort_id": 77, "person_id": "019a3b6e", "last_updated": "2026-03-02 09:00:00.512344",
    "status": "entered",
}  # fmt: skip
WEBHOOK = {
    "event": {
        "uuid": UUID, "event": "report exported", "distinct_id": "user_5", "timestamp": AT,
        "properties": {"rows": 12000}, "elements_chain": "", "url": "https://eu.posthog.com/project/2/events/1",
    },
    "person": {"id": "019a", "name": "Bob Ray", "properties": {"email": "bob@acme.example", "name": "Bob Ray"}},
    "groups": {"company": {"id": "acme", "type": "company", "index": 0, "properties": {"name": "Acme"}}},
}  # fmt: skip
VIEWED = CAPTURED | {
    "event": "$pageview", "distinct_id": "dev-1",
    "properties": {
        "$current_url": "https://www.example.com/pricing?utm_medium=cpc", "$pathname": "/pricing",
        "$referrer": "$direct", "title": "Pricing", "$device_id": "dev-1", "$is_identified": False,
        "utm_medium": "cpc", "token": "phc_x", "distinct_id": "dev-1",
    },
}  # fmt: skip
GROUP = CAPTURED | {
    "event": "$groupidentify",
    "properties": {
        "$group_type": "company", "$group_key": "acme",
        "$group_set": {"name": "Acme GmbH", "employee_count": "329", "website": "acme.example", "plan": None},
    },
}  # fmt: skip
IDENTIFIED = CAPTURED | {
    "event": "$identify",
    "properties": {
        "$anon_distinct_id": "dev-1",
        "$set": {"email": "bob@acme.example", "name": "Bob Ray", "job_title": "CTO", "$browser": "Chrome"},
        "$set_once": {"title": "Intern"}, "$unset": ["department"],
    },
}  # fmt: skip
BATCH = {"api_key": "phc_x", "batch": [CAPTURED, VIEWED, GROUP, IDENTIFIED]}
SAMPLES = [CAPTURED, ROW, COHORT, WEBHOOK, VIEWED, GROUP, IDENTIFIED, BATCH, [CAPTURED, VIEWED]]


def sent(message):
    return decode(json.dumps(message).encode(), RECEIVED)


def only(message):
    (found,) = sent(message)
    return found


def capture(**properties):
    return CAPTURED | {"properties": properties}


def test_a_captured_event_is_an_activity_of_the_company():
    """The samples keep the name `report exported`; ours are snake_case, as rules write them."""
    found = only(CAPTURED)
    assert (found.kind, found.name, found.props) == ("activity", "report_exported", {"rows": 12000})
    assert found.claims == Claims(group="acme", user="user_5")
    assert (found.at, found.id) == (instant(AT, ""), UUID)


def test_an_id_with_an_address_in_it_is_a_digest():
    """Programs make their `$insert_id` of what they have: the address stood in the log once."""
    mine = capture(**{"$insert_id": "bob@acme.example-signup"}) | {"uuid": None}
    other = capture(**{"$insert_id": "ann@acme.example-signup"}) | {"uuid": None}
    assert only(mine).id == only(mine).id != only(other).id
    assert "acme" not in only(mine).id


def test_the_kafka_row_of_an_event_is_the_same_event():
    assert sent(ROW) == sent(CAPTURED)


def test_a_webhook_says_the_same_and_who_it_was():
    found = only(WEBHOOK)
    assert (found.name, found.props, found.id) == ("report_exported", {"rows": 12000}, UUID)
    assert found.claims == Claims(group="acme", user="user_5", email="bob@acme.example")


def test_broken_properties_sink_their_event_alone():
    found = sent([ROW | {"properties": '{"rows":'}, ROW | {"properties": "[" * 100}, ROW])
    assert [type(one) for one in found] == [Rejected, Rejected, Observation]
    assert [one.reason for one in found[:2]] == ["broken_json", "too_deep"]


def test_without_a_zone_only_the_databases_own_writing_is_utc():
    assert only(ROW).at == instant(AT, "")
    assert only(ROW | {"timestamp": "2026-03-02T10:00:00+01:00"}).at == instant(AT, "")
    assert only(ROW | {"timestamp": "2026-03-02T09:00:00"}).reason == "naive_time"
    assert only(ROW | {"timestamp": None}).at == RECEIVED


def test_when_it_was_sent_corrects_nothing():
    """Against what? When it was received the message does not say, and we may read it hours later."""
    late = "2026-03-02T11:00:00Z"
    assert sent(CAPTURED | {"sent_at": late}) == sent(CAPTURED)
    assert sent({"batch": [CAPTURED], "sent_at": late}) == sent(CAPTURED)


def test_changes_of_cohorts_say_nothing_to_us():
    assert sent(COHORT) == []


@pytest.mark.parametrize(
    ("properties", "group"),
    [
        ({"$groups": {"project": "p-9", "organization": "o", "company": "acme"}}, "acme"),
        ({"$groups": {"Organization": "o", "project": "p-9"}}, "o"),
        ({"$groups": {"company": 77}}, "77"),
        # Where the types are named, the first number may be a project's.
        ({"$groups": {"project": "p-9"}, "$group_0": "p-9"}, None),
        ({"$groups": {}, "$group_0": "acme"}, "acme"),
        ({"$groups": {"company": {"id": "acme"}}}, None),
        ({}, None),
    ],
)
def test_the_account_is_the_group_whose_type_says_so(properties, group):
    assert only(capture(**properties)).claims.group == group


def test_a_page_view_looks_like_segments():
    found = only(VIEWED)
    assert found.name == "page_viewed"
    assert found.props == {
        "path": "/pricing", "url": "https://www.example.com/pricing?utm_medium=cpc", "search": "?utm_medium=cpc",
        "referrer": "", "title": "Pricing", "utm_medium": "cpc",
    }  # fmt: skip
    assert found.claims == Claims(anonymous="dev-1")


def test_a_screen_keeps_its_name():
    found = only(CAPTURED | {"event": "$screen", "properties": {"$screen_name": "Billing"}})
    assert (found.name, found.props) == ("screen_viewed", {"name": "Billing"})


def test_an_event_of_ones_own_may_be_called_pageview():
    assert only(CAPTURED | {"event": "screen"}).name == "screen"


def test_a_group_tells_facts_of_the_account_and_who_joined_it():
    found = only(GROUP)
    assert (found.kind, found.id) == ("facts", UUID)
    assert found.set == {"name": "Acme GmbH", "employees": 329, "website": "acme.example"}
    assert found.clear == ("plan",)
    assert found.claims == Claims(group="acme", user="user_5", domain="acme.example")


def test_nobody_joins_where_a_server_made_up_the_person():
    for message in (GROUP | {"distinct_id": "$company_acme"}, json.loads(json.dumps(GROUP))):
        if message["distinct_id"] == "user_5":
            message["properties"]["$process_person_profile"] = False
        assert only(message).claims == Claims(group="acme", domain="acme.example")


def test_a_value_of_the_wrong_type_is_rejected_alone():
    said = {"$group_type": "company", "$group_key": "acme", "$group_set": {"employees": "50-100", "plan": "pro"}}
    facts, rejected = sent(GROUP | {"properties": said})
    assert (facts.set, rejected.reason) == ({"plan": "pro"}, "bad_value")


def test_groups_of_other_types_are_no_accounts():
    assert sent(GROUP | {"properties": {"$group_type": "project", "$group_key": "p-9"}}) == []
    assert only(GROUP | {"properties": {"$group_type": "company"}}).reason == "missing_field"


def test_identify_links_and_tells_of_the_person():
    link, contact = sent(IDENTIFIED)
    assert link.kind == "link"
    assert link.claims == Claims(user="user_5", anonymous="dev-1", email="bob@acme.example")
    assert (contact.kind, contact.set, contact.clear) == ("contact", {"title": "CTO"}, ("department",))
    assert contact.claims.email == "bob@acme.example"
    assert (link.id, contact.id) == (UUID, f"{UUID}/person")


def test_what_is_set_once_is_left_to_posthog():
    """It counts only for a person who had no such property, and that only PostHog knows."""
    (activity,) = sent(capture(**{"$set_once": {"title": "Intern"}}))
    assert activity.kind == "activity"


def test_any_event_may_tell_of_the_person():
    activity, contact = sent(capture(rows=1, **{"$set": {"role": "admin"}}))
    assert (activity.props, contact.kind, contact.set) == ({"rows": 1}, "contact", {"role": "admin"})
    assert only(CAPTURED | {"event": "$set", "properties": {}, "$set": {"role": "admin"}}).kind == "contact"


@pytest.mark.parametrize("event", ["$create_alias", "$merge_dangerously"])
def test_an_alias_is_a_link(event):
    found = only(CAPTURED | {"event": event, "properties": {"alias": "dev-1"}})
    assert (found.kind, found.claims.user, found.claims.anonymous) == ("link", "user_5", "dev-1")
    assert only(CAPTURED | {"event": event, "properties": {}}).reason == "missing_field"


def test_the_browsers_library_names_the_person_among_the_properties():
    message = {"event": "Signed In", "uuid": UUID, "properties": {"distinct_id": "user_5", "token": "phc_x"}}
    assert (only(message).claims.user, only(message).props) == ("user_5", {})


@pytest.mark.parametrize("nobody", ["$posthog_cookieless", "anonymous", "Guest", "not_authenticated", "null", "0"])
def test_what_libraries_send_for_nobody_joins_nobody(nobody):
    assert only(CAPTURED | {"distinct_id": nobody}).claims == Claims(group="acme")
    assert only(CAPTURED | {"distinct_id": nobody, "properties": {}}).reason == "missing_key"


def test_heartbeats_say_nothing():
    for event in ("$pageleave", "$feature_flag_called", "$web_vitals", "$$heatmap"):
        assert sent(CAPTURED | {"event": event}) == []


def test_history_that_is_moved_here_is_no_news():
    assert {found.origin for found in sent(BATCH)} == {"live"}
    assert {found.origin for found in sent(BATCH | {"historical_migration": True})} == {"import"}


def test_one_bad_event_does_not_sink_the_batch():
    found = sent(
        {"batch": [CAPTURED, {"event": 7}, 7, {"event": "a", "distinct_id": "u", "timestamp": 1}, CAPTURED]}
    )
    assert [type(one) for one in found] == [Observation, Rejected, Rejected, Rejected, Observation]
    assert [one.reason for one in found[1:4]] == ["wrong_type", "wrong_type", "absurd_time"]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "null_value"),
        (b"", "broken_json"),
        (b"7", "wrong_type"),
        (b"{}", "missing_field"),
        (b'{"event":""}', "missing_field"),
        (b'{"event":{"event":{"event":"a"}}}', "missing_field"),
        (b'{"event":"!","distinct_id":"u"}', "bad_name"),
        (b'{"event":"a"}', "missing_key"),
        (b'{"event":"a","distinct_id":true}', "wrong_type"),
        (b'{"event":"a","distinct_id":"' + b"u" * 300 + b'"}', "bad_key"),
        (b'{"event":"$identify"}', "missing_key"),
        (b'{"event":"a","distinct_id":"u","properties":{"a":' + b"9" * 30 + b"}}", "huge_number"),
    ],
)
def test_poison_has_a_name(value, why):
    assert [found.reason for found in decode(value, RECEIVED)] == [why]


@given(value=spoilt(SAMPLES))
def test_no_message_raises(value):
    assert_safe(decode, value)


@pytest.mark.parametrize("sample", SAMPLES)
def test_observations_of_one_event_have_ids_of_their_own(sample):
    events = [sample] if isinstance(sample, dict) and "batch" not in sample else []
    for event in events:
        ids = assert_safe(decode, json.dumps(event).encode())
        assert len(ids) == len(set(ids))


@given(value=personal(SAMPLES))
def test_nothing_personal_is_left(value):
    assert_nobody_told(decode, value)
