"""Which column of a CSV file says what: written in YAML, or guessed from the header.

    kind: contact                  # facts, contact or activity
    email: E-mail                  # whom a row is about: account, crm, group, contact, user, email, domain …
    at: Last modified              # a column, or one instant for all rows
    zone: Europe/Berlin            # of times that name none
    facts: {Job title: title}      # column: fact

Left of a colon stands what we know, right of it a column; in `facts` and `props` it is the other way round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rules import yamlfile
from rules.errors import Problem, RulesetError, did_you_mean
from streams.adapters import salesforce
from streams.adapters.names import is_personal, snake
from streams.adapters.times import instant_or_none

# Those of `Claims` that a cell can hold.
CLAIMS = (
    "account", "crm", "group", "contact", "opportunity", "user", "anonymous", "email", "domain", "person",
)  # fmt: skip
OF_A_SYSTEM = ("crm", "contact", "opportunity")  # ids that are known only with the name of their CRM before them
Tell: TypeAlias = Callable[[tuple[str | int, ...], str, str], Problem]  # (place in the map, message, hint)

# Columns as they are usually called, without spaces and in small letters.
WEBSITES = frozenset({"website", "url", "homepage", "websiteurl", "companywebsite", "companyurl"})
DOMAINS = frozenset({"domain", "companydomain", "domainname", "emaildomain"})
EMAILS = frozenset({"email", "emailaddress", "workemail", "businessemail", "mail"})
INSTANTS = frozenset({
    "at", "date", "datetime", "time", "timestamp", "updatedat", "lastmodified", "lastmodifieddate", "modifiedat",
    "occurredat", "eventtime", "createdat", "createddate",
})  # fmt: skip
EVENTS = frozenset({"activity", "activityname", "event", "eventname"})
COMPANY = {
    "accountname": "name", "company": "name", "companyname": "name", "name": "name", "organization": "name",
    "industry": "industry", "sector": "industry",
    "employees": "employees", "employeecount": "employees", "headcount": "employees",
    "numberofemployees": "employees", "noofemployees": "employees", "numemployees": "employees",
    "annualrevenue": "annual_revenue", "revenue": "annual_revenue", "yearlyrevenue": "annual_revenue",
    "country": "country", "billingcountry": "country", "countrycode": "country",
    "city": "city", "billingcity": "city", "region": "region", "state": "region", "billingstate": "region",
} | dict.fromkeys(WEBSITES, "website")  # fmt: skip
CONTACT = {
    "title": "title", "jobtitle": "title", "position": "title", "role": "role", "jobrole": "role",
    "seniority": "seniority", "senioritylevel": "seniority", "department": "department",
}  # fmt: skip


class WrittenMap(BaseModel):
    """The file as a person writes it. Every text is the name of a column, unless said otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    kind: Literal["facts", "contact", "activity"]
    account: str = ""
    crm: str = ""
    group: str = ""
    contact: str = ""
    opportunity: str = ""
    user: str = ""
    anonymous: str = ""
    email: str = ""
    domain: str = ""
    person: str = ""
    system: Literal["", "salesforce", "hubspot"] = Field(default="", description="whose ids crm and contact are")
    at: str = Field(default="", description="a column, or an instant; without it, when the file was written")
    zone: str = Field(default="", description="of times that name none: Europe/Berlin")
    id: str = ""
    name: str = Field(default="", description="the column with an activity's name")
    activity: str = Field(default="", description="the name itself, if all rows are the same activity")
    facts: dict[str, str] = Field(default_factory=dict, description="column: fact")
    props: dict[str, str] = Field(default_factory=dict, description="column: property of the activity")

    def as_yaml(self) -> str:
        said = {name: value for name, value in self.model_dump().items() if value}
        text: str = yaml.safe_dump(said, sort_keys=False, allow_unicode=True)
        return text


@dataclass(frozen=True, slots=True)
class Columns:
    """A map, compiled for one header: where in a row stands what."""

    kind: str
    claims: tuple[tuple[str, int], ...]
    values: tuple[tuple[int, str], ...]  # facts, or an activity's properties
    system: str
    at: int | None
    always_at: int | None  # UTC ms, where the column is empty or there is none
    zone: ZoneInfo | None
    id: int | None
    name: int | None
    activity: str

    def record(self, cells: Sequence[str]) -> dict[str, Any]:
        """A row in our own format. Empty cells say nothing. Raises Refusal where a CRM's id is none."""
        said: dict[str, Any] = {"kind": self.kind}
        for claim, column in self.claims:
            if text := cells[column].strip():
                said[claim] = self._claim(claim, text)
        if (at := self._instant(cells)) is not None:
            said["at"] = at
        if self.id is not None and (id := cells[self.id].strip()):
            said["id"] = id
        values = {name: cells[column] for column, name in self.values if cells[column].strip()}
        if self.kind != "activity":
            return said | {"set": values}
        name = self.activity if self.name is None else cells[self.name].strip()
        return said | {"name": name, "props": values}

    def _claim(self, claim: str, text: str) -> str:
        if not self.system or claim not in OF_A_SYSTEM:
            return text
        return salesforce.record_id(text) if self.system == "salesforce" else f"{self.system}:{text}"

    def _instant(self, cells: Sequence[str]) -> int | str | None:
        text = cells[self.at].strip() if self.at is not None else ""
        if not text:
            return self.always_at
        if text.isascii() and text.isdecimal() and len(text) <= 15:
            return int(text)
        return _with_zone(text, self.zone) if self.zone else text


def _with_zone(text: str, zone: ZoneInfo) -> str:
    """The time with its zone; what is no time is left for the adapter to refuse."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return text if moment.tzinfo else moment.replace(tzinfo=zone).isoformat()


def read_map(file: str, text: str, header: Sequence[str], written_at: int) -> Columns:
    """The map in `text`. `written_at` (UTC ms) is the instant of facts for which the map names none.

    Raises RulesetError with every mistake: its line, and a hint.
    """
    documents = yamlfile.read(file, text)
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        raise RulesetError([Problem(file, 0, "a map is one YAML mapping", "it begins `kind: facts`")])
    document = documents[0]
    try:
        written = WrittenMap.model_validate(document.data)
    except ValidationError as error:
        raise RulesetError(_misshapen(error, document.problem)) from None
    return compile_map(written, header, written_at, document.problem)


def _misshapen(error: ValidationError, tell: Tell) -> Iterator[Problem]:
    for each in error.errors():
        path = each["loc"]
        key = str(path[0]) if path else ""
        match each["type"]:
            case "extra_forbidden":
                yield tell(path, f"unknown key {key!r}", did_you_mean(key, WrittenMap.model_fields))
            case "missing":
                yield tell((), f"{key!r} is missing", "facts, contact or activity" if key == "kind" else "")
            case _:
                yield tell(path, f"{'.'.join(map(str, path))}: {each['msg']}", "")


def compile_map(written: WrittenMap, header: Sequence[str], written_at: int, tell: Tell) -> Columns:
    """Raises RulesetError with every column that is not there and everything that cannot be meant."""
    problems = [*_impossible(written, tell)]
    times = Counter(header)

    def column(path: tuple[str, ...], name: str) -> int | None:
        if times[name] > 1:
            problems.append(tell(path, f"column {name!r} stands there {times[name]} times", "rename the others"))
        if times[name]:
            return header.index(name)
        if name:
            problems.append(tell(path, f"there is no column {name!r}", did_you_mean(name, header)))
        return None

    section, named = ("props", written.props) if written.kind == "activity" else ("facts", written.facts)
    fixed_at = instant_or_none(written.at) if written.at not in times else None
    compiled = Columns(
        kind=written.kind,
        claims=tuple(
            (claim, at) for claim in CLAIMS if (at := column((claim,), getattr(written, claim))) is not None
        ),
        values=tuple(
            (at, name) for each, name in named.items() if (at := column((section, each), each)) is not None
        ),
        system=written.system,
        at=None if fixed_at is not None else column(("at",), written.at),
        always_at=written_at if fixed_at is None and written.kind != "activity" else fixed_at,
        zone=_zone(written.zone),
        id=column(("id",), written.id),
        name=column(("name",), written.name),
        activity=written.activity,
    )
    if problems:
        raise RulesetError(problems)
    return compiled


def _impossible(written: WrittenMap, tell: Tell) -> Iterator[Problem]:
    activity = written.kind == "activity"
    if not any(getattr(written, claim) for claim in CLAIMS):
        yield tell((), "no column says whom a row is about", f"name one of {', '.join(CLAIMS)}")
    if activity and not written.at:
        yield tell((), "'at' is missing", "an activity happened at some instant: a column, or one for all rows")
    if activity and bool(written.name) == bool(written.activity):
        yield tell(
            (), "what is the activity called?", "`name` is a column with names, `activity` one name for all"
        )
    for key in ("facts",) if activity else ("props", "name", "activity"):
        if getattr(written, key):
            yield tell((key,), f"{key!r} is not for kind {written.kind}", "")
    if written.zone and _zone(written.zone) is None:
        yield tell(("zone",), f"there is no time zone {written.zone!r}", "like Europe/Berlin or UTC")
    yield from _unkept("facts", written.facts, tell)
    yield from _unkept("props", written.props, tell)


def _unkept(section: str, named: Mapping[str, str], tell: Tell) -> Iterator[Problem]:
    """Names under which nothing would arrive, or of two columns only one."""
    taken: dict[str, str] = {}
    for column, name in named.items():
        if not name or len(name) > 200 or snake(name) != name:
            yield tell((section, column), f"{name[:40]!r} is no name of ours", "like annual_revenue")
        elif is_personal(name):
            yield tell((section, column), f"{name!r} is about a private person and is not kept", "leave it out")
        elif name in taken:
            yield tell((section, column), f"{name!r} is in column {taken[name]!r} already", "")
        taken.setdefault(name, column)


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (KeyError, OSError, ValueError):  # not known, or no name of a zone at all
        return None


def guess(header: Sequence[str]) -> WrittenMap:
    """The map that the names of the columns suggest. Of two columns that say the same the first counts."""
    plain = {name: _plain(name) for name in header}
    first = _Finder(plain)
    event, email, at = first(EVENTS), first(EMAILS), first(INSTANTS)
    kind = "activity" if event else "contact" if email and first(CONTACT) else "facts"
    table = {"activity": {}, "contact": CONTACT, "facts": COMPANY}[kind]
    facts: dict[str, str] = {}
    for column, name in plain.items():
        if name in table and table[name] not in facts.values():
            facts[column] = table[name]
    domain = first(DOMAINS) or first(WEBSITES)
    return WrittenMap.model_validate(
        {"kind": kind, "domain": domain, "email": email, "at": at, "name": event, "facts": facts}
    )


@dataclass(frozen=True, slots=True)
class _Finder:
    plain: Mapping[str, str]

    def __call__(self, names: Iterable[str]) -> str:
        """The first column called one of these; "" if there is none."""
        wanted = set(names)
        return next((column for column, name in self.plain.items() if name in wanted), "")


def _plain(column: str) -> str:
    return snake(column[:200]).replace("_", "")
