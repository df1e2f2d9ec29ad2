"""Debezium change events of a product's own database (Postgres, MySQL and their relatives).

    a table of accounts   c, r, u -> facts; d -> delete
    a table of contacts   c, r, u -> contact; d, or leaving its account -> contact that is gone
    a table of events     c, r -> activity; what is edited or cleaned up later, u and d, has still happened

`TABLES` says which tables are which; any other is refused by its name, so that nobody waits for it.
An id is `SERVER:ID`, SERVER being the connector's `topic.prefix`: account 1 of `crm` is `crm:1`.

**A row tells everything.** `after` is all of the row, so null in an update clears; in an insert or a
snapshot it says nothing. A value that Postgres did not send because it did not change (TOAST) is no
value. `before` has only the key, if that, unless the table's REPLICA IDENTITY is FULL: it is read for
deletes alone.

**Types stand in the schema.** A date is a number of days, an instant a number of ms, us or ns, a
decimal the base64 of its bytes: without the schema nobody can tell. There `value.converter.
schemas.enable=true` is needed, or text in place of numbers (`decimal.handling.mode=string`,
`time.precision.mode=isostring`); a fact that must be a number or a date and cannot be read is refused.

**Time** is `source.ts_ms`, when the database changed; what a snapshot reads has origin `import`. The
row of an event has its own time. **Ids** are of the change's position in the database's log and stay
when a connector that crashed sends again; an event's is that of its row, snapshot or not.

A tombstone (no value, behind each delete) and a logical message (op m) are understood and yield
nothing. A truncated table is refused: somebody has to decide.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from rules.records import Origin
from streams.adapters.base import Claims, Decoded, Kind, Observation, Reason, Rejected
from streams.adapters.facts import FactChanges, account_traits, contact_traits, number
from streams.adapters.names import blot, scrub, snake
from streams.adapters.times import instant
from streams.adapters.wire import Refusal, admit, claim, key, read

# Columns by what they say, the first that the row has; compared in snake_case.
ID = ("id", "uuid")
ACCOUNT_ID = ("account_id", "company_id", "organization_id")
DOMAIN = ("domain", "website", "website_url", "url", "homepage")
EMAIL = ("email", "email_address", "work_email")
EVENT_NAME = ("event", "event_name", "event_type", "activity", "activity_type", "name", "type")
EVENT_AT = ("occurred_at", "happened_at", "event_time", "at", "timestamp", "created_at")
EVENT_PROPS = ("properties", "props", "payload", "data")
# All we take of a contact: any other column may tell of a private person.
CONTACT_COLUMNS = frozenset({
    "department", "job_role", "job_title", "lead_status", "lifecycle_stage", "position", "role", "seniority",
    "seniority_level", "status", "title",
})  # fmt: skip
# Facts that rules read as a number or a date, whatever the column's type.
NUMBERS = frozenset({"annual_revenue", "arr", "employees", "open_deals", "predicted_arr", "seat_use"})
DATES = frozenset({"customer_since", "renewal_date"})

UNAVAILABLE = "__debezium_unavailable_value"
_UNAVAILABLE: tuple[Any, ...] = (UNAVAILABLE, "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==", [UNAVAILABLE])
# What tells one change from the next in the log of Postgres, MySQL, SQL Server, Oracle, any other.
POSITIONS = (("lsn",), ("file", "pos", "row"), ("change_lsn", "event_serial_no"), ("scn",), ("ts_ns",), ("ts_ms",))
_LIVE = (None, False, "false")  # `source.snapshot` was a boolean before it was text

Row: TypeAlias = dict[str, Any]


class _Field(msgspec.Struct, gc=False):
    """A part of a Kafka Connect schema."""

    field: str | None = None
    name: str | None = None  # of a logical type
    parameters: dict[str, Any] | None = None
    fields: list[_Field] | None = None


class _Message(msgspec.Struct, gc=False):
    """An envelope; with its schema, or after a converter that leaves that out, it is in `payload`."""

    schema: msgspec.Raw = msgspec.Raw(b"null")
    payload: msgspec.Raw = msgspec.Raw()
    op: str | None = None
    before: Row | None = None
    after: Row | None = None
    source: Row | None = None
    ts_ms: Any = None


_decode_message = msgspec.json.Decoder(_Message | None).decode
_decode_schema = msgspec.json.Decoder(_Field | None).decode
_decode_props = msgspec.json.Decoder(Row | None).decode
_TOMBSTONE = _Message()


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of one row, whose values have been read and stand under snake_case names."""

    op: str
    server: str
    table: str
    at: int
    place: str  # in the database's log
    row: Mapping[str, Any]
    origin: Origin

    def first(self, columns: tuple[str, ...]) -> Any:
        """The first of these that is there and not null."""
        return next((value for each in columns if (value := self.row.get(each)) is not None), None)

    def has(self, columns: tuple[str, ...]) -> bool:
        return any(each in self.row for each in columns)

    def id(self) -> str:
        """The row's own; the key is in the message's key too, which we do not get to see."""
        value = self.first(ID)
        if (found := _id(value, "id")) is None:
            hint = " (is its REPLICA IDENTITY nothing?)" if self.op == "d" else ""
            raise Refusal(Reason.MISSING_KEY, f"a row of {self.table!r} without id{hint}")
        return found

    def record(self) -> str:
        return f"{self.server}:{self.id()}"

    def account(self) -> str | None:
        found = _id(self.first(ACCOUNT_ID), "account_id")
        return f"{self.server}:{found}" if found else None

    def seen(self, kind: Kind, claims: Claims, **said: Any) -> Observation:
        id = key(f"{self.server}/{self.table}/{self.id()}/{self.op}/{self.place}", "the change's id") or ""
        return Observation(kind=kind, claims=claims, at=self.at, id=id, origin=self.origin, **said)


def _id(value: Any, field: str) -> str | None:
    """An id as text. It stands in clear in the log, so that it may be no e-mail address."""
    if value is not None and type(value) not in (int, str):
        raise Refusal(Reason.BAD_KEY, f"{field} is neither text nor a whole number")
    found = key(value, field)
    if found and "@" in found:
        raise Refusal(Reason.BAD_KEY, f"{field} is an e-mail address")
    return found


def decode(value: bytes | None, received: int) -> Decoded:
    try:
        message, schema = _opened(value)
        if message is _TOMBSTONE or message.op == "m":
            return []
        source = message.source or {}
        table = _table(source)
        make = TABLES.get(table.casefold())
        if make is None:
            raise Refusal(Reason.UNKNOWN_KIND, f"table {table[:60]!r}: known are {', '.join(TABLES)}")
        change, refused = _change(message, source, table, schema)
        return [*make(change), *refused]
    except Refusal as refusal:
        return [refusal.rejected]


def _opened(value: bytes | None) -> tuple[_Message, msgspec.Raw]:
    if value is None:
        return _TOMBSTONE, _TOMBSTONE.schema
    outer = read(_decode_message, admit(value))
    if outer is None:
        return _TOMBSTONE, _TOMBSTONE.schema
    if not bytes(outer.payload):
        return outer, outer.schema
    inner = read(_decode_message, bytes(outer.payload))
    return inner or _TOMBSTONE, outer.schema


def _table(source: Row) -> str:
    table = source.get("table")
    if type(table) is not str or not table:
        raise Refusal(Reason.MISSING_FIELD, "no source.table: is this a change event of Debezium?")
    return table


def _change(message: _Message, source: Row, table: str, schema: msgspec.Raw) -> tuple[_Change, list[Rejected]]:
    op = message.op
    if op == "t":
        raise Refusal(Reason.RESYNC_NEEDED, f"{table} was truncated: delete its accounts, or read it again")
    if op not in ("c", "r", "u", "d"):
        raise Refusal(Reason.UNKNOWN_KIND if op else Reason.MISSING_FIELD, f"unknown op {str(op)[:40]!r}")
    raw = message.before if op == "d" else message.after
    row, refused = _read_row(raw or {}, _types_in(schema, "before" if op == "d" else "after"))
    change = _Change(op, _server(source), table, _at(message, source), _place(source), row, _origin(op, source))
    return change, refused


def _server(source: Row) -> str:
    name = source.get("name")
    if type(name) is not str or not name:
        raise Refusal(Reason.MISSING_FIELD, "no source.name: the connector's topic.prefix")
    if name in ("domain", "group", "visitor") or "@" in name:
        raise Refusal(Reason.BAD_KEY, f"topic.prefix {name[:40]!r} would be misread in an id: choose another")
    return name


def _at(message: _Message, source: Row) -> int:
    """When the database changed; some snapshots write 0 there."""
    if source.get("ts_ms"):
        return instant(source["ts_ms"], "source.ts_ms")
    if message.ts_ms is None:
        raise Refusal(Reason.MISSING_FIELD, "neither source.ts_ms nor ts_ms")
    return instant(message.ts_ms, "ts_ms")


def _place(source: Row) -> str:
    for fields in POSITIONS:
        found = [source.get(each) for each in fields]
        if all(type(each) in (int, str) for each in found):
            return blot(":".join(str(each)[:80] for each in found))
    return ""


def _origin(op: str, source: Row) -> Origin:
    return "import" if op == "r" or source.get("snapshot") not in _LIVE else "live"


# -- what the tables are


def _account(change: _Change) -> Decoded:
    claims = Claims(crm=change.record(), domain=claim(change.first(DOMAIN)))
    if change.op == "d":
        return [change.seen("delete", Claims(crm=claims.crm))]
    found = account_traits(_without(change.row, ID))
    return [_told(change, "facts", claims, found), *found.rejected]


def _contact(change: _Change) -> Decoded:
    who, account = change.record(), change.account()
    left = change.op == "u" and account is None and change.has(ACCOUNT_ID)
    if change.op == "d" or left:
        return [change.seen("contact", Claims(contact=who), gone=True)]
    found = contact_traits({name: value for name, value in change.row.items() if name in CONTACT_COLUMNS})
    claims = Claims(contact=who, crm=account, email=claim(change.first(EMAIL)))
    return [_told(change, "contact", claims, found), *found.rejected]


def _without(row: Mapping[str, Any], *columns: tuple[str, ...]) -> Row:
    used = {each for group in columns for each in group}
    return {name: value for name, value in row.items() if name not in used}


def _told(change: _Change, kind: Kind, claims: Claims, found: FactChanges) -> Observation:
    clear = found.clear if change.op == "u" else ()
    return change.seen(kind, claims, set=found.set, clear=clear)


def _event(change: _Change) -> Decoded:
    if change.op not in ("c", "r"):
        return []
    name = change.first(EVENT_NAME)
    if type(name) is not str or not (name := snake(name)):
        raise Refusal(Reason.BAD_NAME, f"a row of {change.table!r} names its event in {', '.join(EVENT_NAME)}")
    id = key(f"{change.server}/{change.table}/{change.id()}", "the event's id") or ""
    at, props = _happened(change), _props(change)
    claims = _whose(change)
    return [
        Observation(kind="activity", claims=claims, at=at, id=id, name=name, props=props, origin=change.origin)
    ]


def _happened(change: _Change) -> int:
    told = change.first(EVENT_AT)
    if told is not None:
        return instant(f"{told}Z" if _is_naive(told) else told, "the event's time")
    if change.origin == "import":
        detail = f"a row of {change.table!r} tells its time in {', '.join(EVENT_AT)}"
        raise Refusal(Reason.MISSING_FIELD, detail)  # read now, but when did it happen?
    return change.at


_NAIVE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?", re.ASCII)


def _is_naive(told: Any) -> bool:
    """A column without time zone: Debezium reads it as UTC."""
    return type(told) is str and _NAIVE.fullmatch(told) is not None


def _whose(change: _Change) -> Claims:
    contact = _id(change.row.get("contact_id"), "contact_id")
    claims = Claims(
        crm=change.account(),
        contact=f"{change.server}:{contact}" if contact else None,
        user=_user(change.row.get("user_id")),
        email=claim(change.first(EMAIL)),
        domain=claim(change.first(DOMAIN[:1])),
    )
    if claims == _NOBODY:
        raise Refusal(Reason.MISSING_KEY, f"a row of {change.table!r} without account_id, contact_id, user_id")
    return claims


def _user(value: Any) -> str | None:
    """Only a hash of it is kept: it may be an e-mail address."""
    return key(value, "user_id") if type(value) in (int, str) else None


_NOBODY = Claims()


def _props(change: _Change) -> Row:
    """The other columns, and what stands in a column of JSON."""
    told = change.first(EVENT_PROPS)
    inner = read(_decode_props, admit(told.encode(errors="replace"))) if type(told) is str else told
    if inner is not None and type(inner) is not dict:
        raise Refusal(Reason.WRONG_TYPE, f"properties of {change.table!r} are no object")
    used = (ID, ACCOUNT_ID, EVENT_NAME, EVENT_AT, EVENT_PROPS, ("contact_id", "user_id", "domain"))
    columns = {name: value for name, value in _without(change.row, *used).items() if value is not None}
    props = scrub(columns | (inner or {}))
    props.pop("name", None)  # of a form, the person's
    return props


TABLES: dict[str, Callable[[_Change], Decoded]] = {
    "account": _account, "accounts": _account, "company": _account, "companies": _account,
    "contact": _contact, "contacts": _contact, "person": _contact, "people": _contact,
    "event": _event, "events": _event, "activity": _event, "activities": _event,
}  # fmt: skip


# -- values


def _read_row(raw: Row, types: Mapping[str, _Field]) -> tuple[Row, list[Rejected]]:
    """The row under our names, without what is not a value, and why others are refused."""
    row: Row = {}
    refused = []
    for column, value in raw.items():
        if value in _UNAVAILABLE:
            continue
        try:
            name = snake(column)
            row[name] = _value(name, value, types.get(column))
        except Refusal as refusal:
            refused.append(refusal.rejected)
    return row, refused


def _value(name: str, value: Any, typed: _Field | None) -> Any:
    if value is None:
        return None
    told = typed.name if typed else None
    if typed and told in _READERS:
        value = _READERS[told](name, value, typed)
    elif type(value) is dict and value.keys() == {"scale", "value"}:
        value = _unscaled(name, value["value"], value["scale"])  # says itself what it is
    elif told is None and name in DATES and type(value) is int:
        raise Refusal(Reason.BAD_VALUE, f"{name} is {value}: days or microseconds? Enable schemas")
    return _as_number(name, value) if name in NUMBERS else value


def _as_number(name: str, value: Any) -> Any:
    if value == "":
        return None
    try:
        return number(name, value)
    except Refusal:
        hint = "Enable schemas, or set decimal.handling.mode=string"
        raise Refusal(Reason.BAD_VALUE, f"{name} is no number: {str(value)[:40]!r}. {hint}") from None


def _decimal(name: str, value: Any, typed: _Field) -> int | float:
    scale = (typed.parameters or {}).get("scale")
    return _unscaled(name, value, int(scale) if type(scale) is str and _SCALE.fullmatch(scale) else scale)


_SCALE = re.compile(r"-?\d{1,4}", re.ASCII)


def _unscaled(name: str, value: Any, scale: Any) -> int | float:
    """A decimal from the base64 of its digits, most significant byte first, and where its point is."""
    if type(value) is not str or type(scale) is not int or abs(scale) > 100 or not 0 < len(value) <= 64:
        raise Refusal(Reason.BAD_VALUE, f"{name} is no decimal: {str(value)[:40]!r}")
    try:
        digits = int.from_bytes(b64decode(value, validate=True), "big", signed=True)
    except ValueError:
        raise Refusal(Reason.BAD_VALUE, f"{name} is no base64: {value[:40]!r}") from None
    return number(name, f"{Decimal(digits).scaleb(-scale):f}")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _day(name: str, value: Any, _: _Field) -> str:
    return _moment(name, value, 86_400_000_000).date().isoformat()


def _instant_in(microseconds: int, per: int = 1) -> Callable[[str, Any, _Field], str]:
    """A column without time zone, in units of so many microseconds: ISO-8601 without one either."""

    def reader(name: str, value: Any, _: _Field) -> str:
        whole = value // per if type(value) is int else value
        return _moment(name, whole, microseconds).replace(tzinfo=None).isoformat()

    return reader


def _moment(name: str, value: Any, microseconds: int) -> datetime:
    if type(value) is int:
        try:
            return _EPOCH + timedelta(microseconds=value * microseconds)
        except OverflowError:
            pass
    raise Refusal(Reason.BAD_VALUE, f"{name} is no date: {str(value)[:40]!r}")


_READERS: dict[str | None, Callable[[str, Any, _Field], Any]] = {
    "io.debezium.time.Date": _day,
    "io.debezium.time.Timestamp": _instant_in(1000),
    "io.debezium.time.MicroTimestamp": _instant_in(1),
    "io.debezium.time.NanoTimestamp": _instant_in(1, per=1000),
    "org.apache.kafka.connect.data.Date": _day,
    "org.apache.kafka.connect.data.Timestamp": _instant_in(1000),
    "org.apache.kafka.connect.data.Decimal": _decimal,
}


def _types_in(schema: msgspec.Raw, part: str) -> Mapping[str, _Field]:
    return _types(bytes(schema), part)


@lru_cache(maxsize=256)
def _types(schema: bytes, part: str) -> Mapping[str, _Field]:
    """The columns' types; one schema comes with every message of its table."""
    found = read(_decode_schema, schema)
    columns = next((each.fields for each in (found and found.fields) or () if each.field == part), None)
    return {each.field: each for each in columns or () if each.field}
