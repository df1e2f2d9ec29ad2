"""Change events of Debezium.

Shapes follow debezium/debezium@aad5519, documentation/modules/ROOT/pages/connectors/postgresql.adoc
and mysql.adoc; values are invented.
"""

import base64
import json

import pytest
from hypothesis import given, settings
from mutation import EMAIL, RECEIVED, assert_nobody_told, assert_safe, personal, spoilt

from streams.adapters import decode_any
from streams.adapters.base import Claims, Observation
from streams.adapters.debezium import decode
from streams.adapters.times import instant

AT = 1772442120000
LSN = 24023160
POSTGRES = {
    "version": "3.0.0.Final", "connector": "postgresql", "name": "crm", "ts_ms": AT, "ts_us": AT * 1000,
    "ts_ns": AT * 1_000_000, "snapshot": "false", "db": "crm", "sequence": '["24023151", "24023160"]',
    "schema": "public", "table": "accounts", "txId": 556, "lsn": LSN, "xmin": None,
}  # fmt: skip
MYSQL = {
    "version": "3.0.0.Final", "connector": "mysql", "name": "shop", "ts_ms": AT, "snapshot": "false",
    "db": "inventory", "sequence": None, "table": "accounts", "server_id": 223344, "gtid": None,
    "file": "mysql-bin.000003", "pos": 484, "row": 0, "thread": 7, "query": None,
}  # fmt: skip
ACME = {
    "id": 1, "name": "Acme GmbH", "plan": "pro", "employees": 329, "arr": "ExLQ", "renewal_date": 20879,
    "updated_at": 1772442000000000, "notes": "long text",
}  # fmt: skip
TYPES = [
    {"type": "int32", "optional": False, "field": "id"},
    {"type": "string", "optional": True, "field": "name"},
    {"type": "int32", "optional": True, "field": "employees"},
    {"type": "bytes", "optional": True, "name": "org.apache.kafka.connect.data.Decimal", "version": 1,
     "parameters": {"scale": "2", "connect.decimal.precision": "12"}, "field": "arr"},
    {"type": "int32", "optional": True, "name": "io.debezium.time.Date", "version": 1, "field": "renewal_date"},
    {"type": "int64", "optional": True, "name": "io.debezium.time.MicroTimestamp", "version": 1,
     "field": "updated_at"},
    {"type": "int64", "optional": True, "name": "io.debezium.time.MicroTimestamp", "version": 1,
     "field": "occurred_at"},
]  # fmt: skip
SCHEMA = {"type": "struct", "name": "crm.public.accounts.Envelope", "fields": [
    {"type": "struct", "fields": TYPES, "optional": True, "field": "before"},
    {"type": "struct", "fields": TYPES, "optional": True, "field": "after"},
    {"type": "string", "optional": False, "field": "op"},
]}  # fmt: skip


def change(op, after=None, before=None, source=POSTGRES, **about):
    return {"before": before, "after": after, "source": source | about, "op": op, "ts_ms": AT + 420}


def with_schema(envelope, schema=SCHEMA):
    return {"schema": schema, "payload": envelope}


def sent(message):
    return decode(json.dumps(message).encode(), RECEIVED)


def only(message):
    (found,) = sent(message)
    return found


def row(**columns):
    return {"id": 1, **columns}


UPDATE = change("u", row(name="Acme", plan="enterprise"), row())


# -- accounts


def test_a_row_with_its_schema():
    found = only(with_schema(change("u", ACME, row())))
    assert (found.kind, found.at, found.origin) == ("facts", AT, "live")
    assert found.claims == Claims(crm="crm:1")
    assert found.set == {
        "name": "Acme GmbH", "plan": "pro", "employees": 329, "arr": 12500, "renewal_date": "2027-03-02",
        "updated_at": "2026-03-02T09:00:00", "notes": "long text",
    }  # fmt: skip


def test_without_a_schema_days_and_decimals_are_not_guessed():
    # The samples leave the schema out and still have dates: from these bytes nobody can tell them.
    facts, *rejected = sent(change("u", ACME, row()))
    assert facts.set == {
        "name": "Acme GmbH", "plan": "pro", "employees": 329, "updated_at": 1772442000000000, "notes": "long text",
    }  # fmt: skip
    assert [each.reason for each in rejected] == ["bad_value", "bad_value"]
    assert "chemas" in rejected[0].detail
    assert "chemas" in rejected[1].detail
    assert facts.clear == ()


@pytest.mark.parametrize("arr", ["12500.00", 12500.0, {"scale": 2, "value": "ExLQ"}])
def test_a_decimal_that_says_what_it_is_needs_no_schema(arr):
    assert only(change("u", row(arr=arr))).set == {"arr": 12500}


@pytest.mark.parametrize("arr", ["NaN", "NAN", {"scale": 2, "value": "?"}, {"scale": "2", "value": "ExLQ"}])
def test_a_decimal_that_is_no_number_is_refused_alone(arr):
    facts, rejected = sent(change("u", row(arr=arr, plan="pro")))
    assert (facts.set, facts.clear, rejected.reason) == ({"plan": "pro"}, (), "bad_value")


@pytest.mark.parametrize(
    ("digits", "scale", "number"),
    [(-5, "0", -5), (125, "1", 12.5), (0, "2", 0), (7, "-3", 7000), (1, "30", 1e-30)],
)
def test_decimals_of_every_sign_and_scale(digits, scale, number):
    size = 2
    encoded = base64.b64encode(digits.to_bytes(size, "big", signed=True)).decode()
    decimal = {"name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": scale}, "field": "arr"}
    schema = {"fields": [{"field": "after", "fields": [decimal]}]}
    assert only(with_schema(change("c", row(arr=encoded)), schema)).set == {"arr": number}


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("io.debezium.time.Date", -3653, "1960-01-01"),
        ("org.apache.kafka.connect.data.Date", 20879, "2027-03-02"),
        ("io.debezium.time.Timestamp", 1772442000123, "2026-03-02T09:00:00.123000"),
        ("org.apache.kafka.connect.data.Timestamp", 1772442000000, "2026-03-02T09:00:00"),
        ("io.debezium.time.NanoTimestamp", 1772442000000000123, "2026-03-02T09:00:00"),
        ("io.debezium.time.ZonedTimestamp", "2026-03-02T09:00:00Z", "2026-03-02T09:00:00Z"),
        ("io.debezium.data.Enum", "pro", "pro"),
    ],
)
def test_what_a_type_means(name, value, read):
    schema = {"fields": [{"field": "after", "fields": [{"name": name, "field": "x"}]}]}
    assert only(with_schema(change("c", row(x=value)), schema)).set == {"x": read}


def test_a_snapshot_tells_of_now_and_is_history_to_nobody():
    found = only(change("r", row(plan="pro"), snapshot="first"))
    assert (found.kind, found.origin, found.at) == ("facts", "import", AT)


@pytest.mark.parametrize(("snapshot", "origin"), [
    (True, "import"), ("true", "import"), ("last", "import"), ("incremental", "import"),
    (False, "live"), ("false", "live"), (None, "live"),
])  # fmt: skip
def test_whether_it_is_a_snapshot_was_a_boolean_once(snapshot, origin):
    assert only(change("c", row(plan="pro"), snapshot=snapshot)).origin == origin


def test_null_clears_in_an_update_only():
    told = row(name="Acme", plan=None)
    assert [only(change(op, told)).clear for op in "cru"] == [(), (), ("plan",)]


def test_before_is_no_part_of_an_update():
    # With REPLICA IDENTITY DEFAULT it holds the key or nothing: no difference is taken.
    full = row(name="Acme", plan="enterprise")
    assert only(UPDATE) == only(change("u", full, full)) == only(change("u", full, None))


@pytest.mark.parametrize(
    "toast",
    ["__debezium_unavailable_value", "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==", ["__debezium_unavailable_value"]],
)
def test_what_was_not_sent_because_it_did_not_change_is_no_value(toast):
    found = only(change("u", row(plan="pro", notes=toast)))
    assert (found.set, found.clear) == ({"plan": "pro"}, ())
    assert sent(with_schema(change("u", row(arr=toast, plan="pro"))))[0].set == {"plan": "pro"}


def test_a_website_is_also_a_claim():
    found = only(change("c", row(website="acme.example", phone="+49", email="info@acme.example")))
    assert found.claims == Claims(crm="crm:1", domain="acme.example")
    assert found.set == {"website": "acme.example"}


def test_a_deleted_row_and_its_tombstone():
    found = only(change("d", None, row()))
    assert (found.kind, found.claims, found.at) == ("delete", Claims(crm="crm:1"), AT)
    assert decode(None, RECEIVED) == decode_any("debezium", None, RECEIVED) == []
    assert decode(b"null", RECEIVED) == sent({"schema": None, "payload": None}) == []


def test_a_delete_without_before_says_what_to_do():
    found = only(change("d", None, None))
    assert (found.reason, "REPLICA IDENTITY" in found.detail) == ("missing_key", True)


def test_a_truncated_table_is_for_an_operator():
    truncate = {"source": POSTGRES, "op": "t", "ts_ms": AT}
    found = only({"payload": truncate})
    assert (found.reason, "accounts was truncated" in found.detail) == ("resync_needed", True)


def test_a_logical_message_is_nothing_to_us():
    assert sent({"op": "m", "source": POSTGRES, "message": {"prefix": "x", "content": "eA=="}, "ts_ms": AT}) == []


@pytest.mark.parametrize("source", [POSTGRES, MYSQL])
def test_what_is_sent_again_after_a_crash_has_the_same_id(source):
    first = change("u", row(plan="pro"), None, source)
    again = first | {"ts_ms": AT + 99_999}
    assert only(first) == only(again) == only({"payload": again}) == only({"schema": None, "payload": again})


def test_rows_of_one_position_have_ids_of_their_own():
    # The rows of a snapshot share an lsn, as may those of one COPY: the samples' `crm/24023128` is too short.
    rows = [change("r", row(plan="pro")), change("r", {"id": 2}), change("d", None, row()),
            change("r", row(), table="companies"), change("r", row(), lsn=LSN + 1)]  # fmt: skip
    assert len({only(each).id for each in rows}) == 5
    assert only(rows[0]).id == f"crm/accounts/1/r/{LSN}"


def test_mysql():
    found = only(change("u", row(plan="pro", is_target=1), row(), MYSQL))
    assert (found.claims, found.set) == (Claims(crm="shop:1"), {"plan": "pro", "is_target": 1})
    assert found.id == "shop/accounts/1/u/mysql-bin.000003:484:0"


def test_a_snapshot_without_a_time_of_its_own_has_the_connectors():
    assert only(change("r", row(), source=MYSQL, ts_ms=0)).at == AT + 420


# -- contacts

CONTACT = {
    "id": 9, "account_id": 1, "email": EMAIL, "first_name": "Bob", "name": "Bob Ray", "phone": "1",
    "job_title": "CTO", "department": None, "bio": "Bob lives here", "status": "subscribed",
}  # fmt: skip


def test_a_contact_says_no_more_than_its_role():
    found = only(change("c", CONTACT, table="contacts"))
    assert (found.kind, found.set) == ("contact", {"title": "CTO", "status": "subscribed"})
    assert found.claims == Claims(contact="crm:9", crm="crm:1", email=EMAIL)
    assert only(change("u", CONTACT, table="People")).clear == ("department",)


@pytest.mark.parametrize("event", [
    change("d", None, {"id": 9}, table="contacts"),
    change("u", CONTACT | {"account_id": None}, table="contacts"),
])  # fmt: skip
def test_a_contact_goes(event):
    found = only(event)
    assert (found.kind, found.gone, found.claims) == ("contact", True, Claims(contact="crm:9"))


def test_a_contact_of_no_company_is_known_by_its_email():
    found = only(change("c", {"id": 9, "account_id": None, "email": EMAIL}, table="contacts"))
    assert (found.gone, found.claims) == (False, Claims(contact="crm:9", email=EMAIL))


# -- events

EVENT = {
    "id": "e-1", "account_id": 1, "user_id": "u-1001", "event": "Report Exported",
    "occurred_at": "2026-03-02T09:00:00Z",
    "properties": '{"rows": 12000, "email": "bob@acme.example", "note": "for bob@acme.example"}', "plan": "pro",
    "session": None,
}  # fmt: skip


def event(op="c", **columns):
    return change(op, EVENT | columns, table="events")


def test_a_row_of_an_event():
    found = only(event())
    assert (found.kind, found.name, found.at) == ("activity", "report_exported", instant(EVENT["occurred_at"], ""))
    assert found.claims == Claims(crm="crm:1", user="u-1001")
    assert found.props == {"rows": 12000, "note": "for (email)", "plan": "pro"}
    assert only(event(properties={"rows": 1})).props == {"rows": 1, "plan": "pro"}


def test_a_snapshot_of_events_is_history_and_none_counts_twice():
    # The samples never count a snapshot as activity; a row of an event has a time of its own, and
    # one id whether it was read or streamed.
    read = only(event("r", occurred_at="2024-03-02T09:00:00Z"))
    assert (read.origin, read.at) == ("import", instant("2024-03-02T09:00:00Z", ""))
    assert read.id == only(event()).id == "crm/events/e-1"
    assert only(event("r", occurred_at=None)).reason == "missing_field"


def test_an_event_without_a_time_happened_when_it_was_inserted():
    assert only(event(occurred_at=None)).at == AT


@pytest.mark.parametrize("op", ["u", "d"])
def test_what_has_happened_stays(op):
    assert sent(change(op, EVENT, EVENT, table="events")) == []


@pytest.mark.parametrize("told", ["2026-03-02T09:00:00.000Z", "2026-03-02 09:00:00", 1772442000000])
def test_when_it_happened(told):
    assert only(event(occurred_at=told)).at == 1772442000000


def test_when_it_happened_by_the_schema():
    assert only(with_schema(event(occurred_at=1772442000000000))).at == 1772442000000
    assert only(event(occurred_at=1772442000000000)).reason == "absurd_time"


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"event": None}, "bad_name"),
        ({"event": "?!"}, "bad_name"),
        ({"account_id": None, "user_id": None}, "missing_key"),
        ({"account_id": EMAIL}, "bad_key"),
        ({"id": None}, "missing_key"),
        ({"properties": "{"}, "broken_json"),
        ({"properties": "[]"}, "wrong_type"),
        ({"properties": [1]}, "wrong_type"),
        ({"properties": {"n": 10**30}}, "huge_number"),
    ],
)
def test_a_row_that_is_no_event(columns, why):
    assert only(event(**columns)).reason == why


# -- what is wrong


def test_a_table_nobody_has_described_is_named():
    found = only(change("c", row(), table="invoices"))
    assert (found.reason, "'invoices'" in found.detail) == ("unknown_kind", True)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ([], "wrong_type"),
        ({}, "missing_field"),
        ({"payload": 7}, "wrong_type"),
        ({"x": {"payload": None}}, "missing_field"),
        (change("x", row()), "unknown_kind"),
        (change(None, row()), "missing_field"),
        (change("c", [1]), "wrong_type"),
        (change("c", {"name": "Acme"}), "missing_key"),
        (change("c", {"id": 1.5}), "bad_key"),
        (change("c", {"id": EMAIL}), "bad_key"),
        (change("c", None), "missing_key"),
        (change("c", row(), table=None), "missing_field"),
        (change("c", row(), name=None), "missing_field"),
        (change("c", row(), name="domain"), "bad_key"),
        (change("c", row(), ts_ms=1772442120), "absurd_time"),
        (change("c", row(), ts_ms=None) | {"ts_ms": None}, "missing_field"),
        (with_schema(change("c", row()), 7), "wrong_type"),
    ],
)
def test_poison_has_a_name(message, why):
    found = only(message)
    assert (found.reason, bool(found.detail)) == (why, True)


SAMPLES = [
    with_schema(change("u", ACME, row())), {"payload": change("r", ACME, snapshot="first")}, UPDATE,
    change("d", None, row()), {"payload": {"source": POSTGRES, "op": "t", "ts_ms": AT}},
    change("c", CONTACT, table="contacts"), event(), with_schema(event(occurred_at=1772442000000000)),
    change("u", row(arr={"scale": 2, "value": "ExLQ"}), None, MYSQL),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(value=spoilt(SAMPLES))
def test_no_message_raises(value):
    ids = assert_safe(decode, value)
    assert len(ids) == len(set(ids))


@settings(max_examples=300, deadline=None)
@given(value=personal(SAMPLES))
def test_nothing_personal_is_left(value):
    assert_nobody_told(decode, value)
    assert not [each for each in decode(value, RECEIVED) if isinstance(each, Observation) and EMAIL in each.id]
