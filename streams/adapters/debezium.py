"""Debezium change events of a product's own database (Postgres, MySQL and their relatives).

    a table of accounts       c, r, u -> facts; d -> delete
    a table of contacts       c, r, u -> contact; d, or leaving its account -> contact that is gone
    a table of opportunities  c -> activity `opportunity_created`; another stage -> `opportunity_stage_changed`
    a table of activities     c, r -> activity; what is edited or cleaned up later, u and d, has still happened

A sources file says which tables are which, and which columns say what; any other table is refused by its
name, so that nobody waits for it. A row that a column marks as deleted is deleted, and restored when it
no longer is.
An id is `SERVER:ID`, SERVER being the connector's `topic.prefix`: account 1 of `crm` is `crm:1`.

**A row tells everything.** `after` is all of the row, so null in an update clears; in an insert or a
snapshot it says nothing. A value that Postgres did not send because it did not change (TOAST) is no
value. `before` has only the key, if that, unless the table's REPLICA IDENTITY is FULL: it is read for
deletes, for the stage that an opportunity had, and for whether a row was marked as deleted.

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
from rules.sources import Sources, Table
from streams.adapters.base import Claims, Decode, Decoded, Kind, Observation, Reason, Rejected
from streams.adapters.facts import FactChanges, TraitMap, account_traits, contact_traits, number
from streams.adapters.ids import other_id
from streams.adapters.names import blot, scrub, snake
from streams.adapters.times import instant
from streams.adapters.wire import Refusal, admit, claim, key, read
from streams.sources import shipped

# Columns by what they say where nobody has said otherwise, the first that the row has; in snake_case.
ID = ("id", "uuid")
ACCOUNT_ID = ("account_id", "company_id", "organization_id")
DOMAIN = ("domain", "website", "website_url", "url", "homepage")
EMAIL = ("email", "email_address", "work_email")
EVENT_NAME = ("event", "event_name", "event_type", "activity", "activity_type", "name", "type")
EVENT_AT = ("occurred_at", "happened_at", "event_time", "at", "timestamp", "created_at")
EVENT_PROPS = ("properties", "props", "payload", "data")
WORDS = {
    "activity": {
        "name": EVENT_NAME, "at": EVENT_AT, "props": EVENT_PROPS, "user": ("user_id",), "contact": ("contact_id",),
    },
    "opportunity": {
        "stage": ("stage", "stage_name"), "amount": ("amount",),
        "is_closed": ("is_closed",), "is_won": ("is_won",),
    },
}  # fmt: skip
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
class _Spec:
    """What a table's rows are, and the columns that say so."""

    make: Callable[[_Change], Decoded]
    id: tuple[str, ...]
    account: tuple[str, ...]
    email: tuple[str, ...]
    traits: TraitMap | None  # which columns are mapped to facts
    words: Mapping[str, tuple[str, ...]]  # of an activity or opportunity
    ids: tuple[tuple[str, str], ...]  # another system, and the column of the account's id there
    deleted: str | None
    numbers: frozenset[str]
    dates: frozenset[str]

    @classmethod
    def of(cls, table: Table) -> _Spec:
        mapped = {fact: tuple(map(snake, said)) for fact, said in table.fields.items()}
        says_facts = table.object in ("account", "contact")
        return cls(
            make=_MAKERS[table.object],
            id=(snake(table.id),) if table.id else ID,
            account=(snake(table.account),) if table.account else ACCOUNT_ID,
            email=(snake(table.email),) if table.email else EMAIL,
            traits=TraitMap.of(mapped) if says_facts else None,
            words={} if says_facts else WORDS[table.object] | mapped,
            ids=tuple((system, snake(column)) for system, column in table.ids.items()),
            deleted=snake(table.deleted) if table.deleted else None,
            numbers=NUMBERS | _columns(mapped, NUMBERS),
            dates=DATES | _columns(mapped, DATES),
        )


def _columns(mapped: Mapping[str, tuple[str, ...]], facts: frozenset[str]) -> frozenset[str]:
    return frozenset(column for fact, said in mapped.items() if fact in facts for column in said)


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of one row, whose values have been read and stand under snake_case names."""

    op: str
    server: str
    table: str
    at: int
    place: str  # in the database's log
    row: Mapping[str, Any]
    was: Mapping[str, Any]  # of an update, as far as the database tells
    origin: Origin
    spec: _Spec

    def word(self, name: str) -> Any:
        return self.first(self.spec.words[name])

    @property
    def is_marked_deleted(self) -> bool:
        return self.spec.deleted is not None and _is_marked(self.row.get(self.spec.deleted))

    @property
    def may_be_restored(self) -> bool:
        """Whether the row was marked as deleted, or nobody knows."""
        column = self.spec.deleted
        return column is not None and self.op == "u" and (column not in self.was or _is_marked(self.was[column]))

    def first(self, columns: tuple[str, ...]) -> Any:
        """The first of these that is there and not null."""
        return next((value for each in columns if (value := self.row.get(each)) is not None), None)

    def has(self, columns: tuple[str, ...]) -> bool:
        return any(each in self.row for each in columns)

    def id(self) -> str:
        """The row's own; the key is in the message's key too, which we do not get to see."""
        value = self.first(self.spec.id)
        if (found := _id(value, "id")) is None:
            hint = " (is its REPLICA IDENTITY nothing?)" if self.op == "d" else ""
            raise Refusal(Reason.MISSING_KEY, f"a row of {self.table!r} without id{hint}")
        return found

    def record(self) -> str:
        return f"{self.server}:{self.id()}"

    def account(self) -> str | None:
        found = _id(self.first(self.spec.account), "account_id")
        return f"{self.server}:{found}" if found else None

    def seen(self, kind: Kind, claims: Claims, suffix: str = "", **said: Any) -> Observation:
        id = key(f"{self.server}/{self.table}/{self.id()}/{self.op}/{self.place}{suffix}", "the change's id") or ""
        return Observation(kind=kind, claims=claims, at=self.at, id=id, origin=self.origin, **said)


def _id(value: Any, field: str) -> str | None:
    """An id as text. It stands in clear in the log, so that it may be no e-mail address."""
    if value is not None and type(value) not in (int, str):
        raise Refusal(Reason.BAD_KEY, f"{field} is neither text nor a whole number")
    found = key(value, field)
    if found and "@" in found:
        raise Refusal(Reason.BAD_KEY, f"{field} is an e-mail address")
    return found


_UNMARKED = (None, False, 0, "", "0", "f", "false", "n", "no")


def _is_marked(value: Any) -> bool:
    """Of a column that holds a yes or no, or the instant of deletion."""
    return (value.casefold() if type(value) is str else value) not in _UNMARKED


def decoder(sources: Sources) -> Decode:
    """Reads the tables that `sources` names."""
    specs = {name: _Spec.of(table) for name, table in sources.tables.items()}
    known = ", ".join(sources.tables) or "none"

    def decode(value: bytes | None, received: int) -> Decoded:
        try:
            message, schema = _opened(value)
            if message is _TOMBSTONE or message.op == "m":
                return []
            source = message.source or {}
            table = _table(source)
            if (spec := _spec(specs, source, table)) is None:
                raise Refusal(Reason.UNKNOWN_KIND, f"table {table[:60]!r}: known are {known}")
            change, refused = _change(message, source, table, schema, spec)
            return [*spec.make(change), *refused]
        except Refusal as refusal:
            return [refusal.rejected]

    return decode


def _spec(specs: Mapping[str, _Spec], source: Row, table: str) -> _Spec | None:
    """By its schema and name, its database and name, or its name alone."""
    name = table.casefold()
    for inside in (source.get("schema"), source.get("db")):
        if type(inside) is str and (found := specs.get(f"{inside.casefold()}.{name}")) is not None:
            return found
    return specs.get(name)


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


def _change(
    message: _Message, source: Row, table: str, schema: msgspec.Raw, spec: _Spec
) -> tuple[_Change, list[Rejected]]:
    op = message.op
    if op == "t":
        raise Refusal(Reason.RESYNC_NEEDED, f"{table} was truncated: delete its accounts, or read it again")
    if op not in ("c", "r", "u", "d"):
        raise Refusal(Reason.UNKNOWN_KIND if op else Reason.MISSING_FIELD, f"unknown op {str(op)[:40]!r}")
    raw = message.before if op == "d" else message.after
    row, refused = _read_row(raw or {}, _types_in(schema, "before" if op == "d" else "after"), spec)
    asked = op == "u" and (spec.deleted is not None or "stage" in spec.words)
    was = _read_row(message.before or {}, _types_in(schema, "before"), spec)[0] if asked else {}
    at, place, origin = _at(message, source), _place(source), _origin(op, source)
    return _Change(op, _server(source), table, at, place, row, was, origin, spec), refused


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
    crm = Claims(crm=change.record())
    if change.op == "d" or change.is_marked_deleted:
        return [change.seen("delete", crm)]
    spec = change.spec
    theirs = (other_id(system, change.row.get(column)) for system, column in spec.ids)
    found = account_traits(_without(change.row, spec.id, _own_columns(spec)), spec.traits)
    is_mapped = spec.traits is not None and "website" in spec.traits.traits
    domain = claim(found.set.get("website") if is_mapped else change.first(DOMAIN))
    claims = Claims(crm=crm.crm, domain=domain, also=tuple(filter(None, theirs)))
    restored = [change.seen("restore", crm, "/restore")] if change.may_be_restored else []
    return [*restored, _told(change, "facts", claims, found), *found.rejected]


def _own_columns(spec: _Spec) -> tuple[str, ...]:
    """What tells of the row and is no fact."""
    columns = tuple(column for _, column in spec.ids)
    return (*columns, spec.deleted) if spec.deleted else columns


def _contact(change: _Change) -> Decoded:
    who, account = change.record(), change.account()
    left = change.op == "u" and account is None and change.has(change.spec.account)
    if change.op == "d" or left or change.is_marked_deleted:
        return [change.seen("contact", Claims(contact=who), gone=True)]
    mapped = change.spec.traits
    known = CONTACT_COLUMNS if mapped is None else CONTACT_COLUMNS | mapped.taken
    found = contact_traits({name: value for name, value in change.row.items() if name in known}, mapped)
    claims = Claims(contact=who, crm=account, email=claim(change.first(change.spec.email)))
    return [_told(change, "contact", claims, found), *found.rejected]


def _without(row: Mapping[str, Any], *columns: tuple[str, ...]) -> Row:
    used = {each for group in columns for each in group}
    return {name: value for name, value in row.items() if name not in used}


def _told(change: _Change, kind: Kind, claims: Claims, found: FactChanges) -> Observation:
    clear = found.clear if change.op == "u" else ()
    return change.seen(kind, claims, set=found.set, clear=clear)


def _opportunity(change: _Change) -> Decoded:
    """Whether an update is of the stage, only `before` can tell: the table needs REPLICA IDENTITY FULL."""
    if change.op not in ("c", "u"):
        return []
    stages = change.spec.words["stage"]
    stage, was = change.first(stages), next((change.was[each] for each in stages if each in change.was), None)
    created = [("opportunity_created", "/created")] if change.op == "c" else []
    moved = stage is not None and (change.op == "c" or was not in (None, stage))
    names = [*created, *([("opportunity_stage_changed", "")] if moved else [])]
    claims = Claims(opportunity=change.record(), crm=change.account())
    props: Row = {"opportunity": claims.opportunity}
    for word in ("stage", "is_closed", "is_won"):
        if type(value := change.word(word)) in (str, bool):
            props[word] = blot(value) if type(value) is str else value
    if (amount := change.word("amount")) is not None:
        props["amount"] = _as_number("amount", amount)
    return [change.seen("activity", claims, suffix, name=name, props=props) for name, suffix in names]


def _event(change: _Change) -> Decoded:
    if change.op not in ("c", "r"):
        return []
    name = change.word("name")
    if type(name) is not str or not (name := snake(name)):
        columns = ", ".join(change.spec.words["name"])
        raise Refusal(Reason.BAD_NAME, f"a row of {change.table!r} names its event in {columns}")
    id = key(f"{change.server}/{change.table}/{change.id()}", "the event's id") or ""
    at, props = _happened(change), _props(change)
    claims = _whose(change)
    return [
        Observation(kind="activity", claims=claims, at=at, id=id, name=name, props=props, origin=change.origin)
    ]


def _happened(change: _Change) -> int:
    told = change.word("at")
    if told is not None:
        return instant(f"{told}Z" if _is_naive(told) else told, "the event's time")
    if change.origin == "import":
        detail = f"a row of {change.table!r} tells its time in {', '.join(change.spec.words['at'])}"
        raise Refusal(Reason.MISSING_FIELD, detail)  # read now, but when did it happen?
    return change.at


_NAIVE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?", re.ASCII)


def _is_naive(told: Any) -> bool:
    """A column without time zone: Debezium reads it as UTC."""
    return type(told) is str and _NAIVE.fullmatch(told) is not None


def _whose(change: _Change) -> Claims:
    contact = _id(change.word("contact"), "contact_id")
    claims = Claims(
        crm=change.account(),
        contact=f"{change.server}:{contact}" if contact else None,
        user=_user(change.word("user")),
        email=claim(change.first(change.spec.email)),
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
    told = change.word("props")
    inner = read(_decode_props, admit(told.encode(errors="replace"))) if type(told) is str else told
    if inner is not None and type(inner) is not dict:
        raise Refusal(Reason.WRONG_TYPE, f"properties of {change.table!r} are no object")
    used = (change.spec.id, change.spec.account, *change.spec.words.values(), ("domain",))
    columns = {name: value for name, value in _without(change.row, *used).items() if value is not None}
    props = scrub(columns | (inner or {}))
    props.pop("name", None)  # of a form, the person's
    return props


_MAKERS: dict[str, Callable[[_Change], Decoded]] = {
    "account": _account,
    "contact": _contact,
    "opportunity": _opportunity,
    "activity": _event,
}


# -- values


def _read_row(raw: Row, types: Mapping[str, _Field], spec: _Spec) -> tuple[Row, list[Rejected]]:
    """The row under our names, without what is not a value, and why others are refused."""
    row: Row = {}
    refused = []
    for column, value in raw.items():
        if value in _UNAVAILABLE:
            continue
        try:
            name = snake(column)
            row[name] = _value(name, value, types.get(column), spec)
        except Refusal as refusal:
            refused.append(refusal.rejected)
    return row, refused


def _value(name: str, value: Any, typed: _Field | None, spec: _Spec) -> Any:
    if value is None:
        return None
    told = typed.name if typed else None
    if typed and told in _READERS:
        value = _READERS[told](name, value, typed)
    elif type(value) is dict and value.keys() == {"scale", "value"}:
        value = _unscaled(name, value["value"], value["scale"])  # says itself what it is
    elif told is None and name in spec.dates and type(value) is int:
        raise Refusal(Reason.BAD_VALUE, f"{name} is {value}: days or microseconds? Enable schemas")
    return _as_number(name, value) if name in spec.numbers else value


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


decode = decoder(shipped())
