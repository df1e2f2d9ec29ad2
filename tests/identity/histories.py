"""Histories drawn by hypothesis, and what is true of them.

There are companies, with records in a CRM, domains and a group, and people, with a user id, devices, a contact
and an address. A message claims some of what is true, never anything else. So it can be said of each message
whose it is, once all messages have been heard: whatever stands in one message together is one (`Truth`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st

from rules.records import AccountRecord, Activity, Contact, Facts
from streams.adapters.base import Claims, Observation
from tests.identity.world import DAY, HOUR, MON

T = TypeVar("T")


class Pick:
    """Draws for plain functions: hypothesis only sees whole numbers, which is much faster than strategies."""

    def __init__(self, up_to: Callable[[int], int]) -> None:
        self.up_to = up_to

    def of(self, options: Sequence[T]) -> T:
        return options[self.up_to(len(options) - 1)]

    def one_in(self, n: int) -> bool:
        """Rarely true; false is simpler."""
        return self.up_to(n - 1) == n - 1

    def some(self, options: dict[str, Any]) -> dict[str, Any]:
        """Each key with probability a half; what is None is left out."""
        keys = self.up_to((1 << len(options)) - 1)
        return {key: value for i, (key, value) in enumerate(options.items()) if keys >> i & 1 and value}


@lru_cache(64)
def _up_to(most: int) -> st.SearchStrategy[int]:
    return st.integers(0, most)


def drawing(draw: st.DrawFn) -> Pick:
    return Pick(lambda most: draw(_up_to(most)))


# -- what there is ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Company:
    records: tuple[str, ...]  # in the CRM; a second one is merged into the first, or is that of a lower system
    domains: tuple[str, ...]
    group: str | None


@dataclass(frozen=True)
class Somebody:
    company: Company | None
    user: str
    devices: tuple[str, ...]
    contact: str
    email: str


@dataclass(frozen=True)
class Heard:
    """A message, and when it arrived."""

    said: Observation
    received: int


@dataclass
class History:
    heard: list[Heard]
    lead: tuple[str, ...] = ()
    companies: list[Company] = field(default_factory=list)

    def __repr__(self) -> str:
        return "\n".join([f"lead={self.lead}", *(_shown(each) for each in self.heard)])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(f"\n{self!r}\n")  # as a failing example shows it

    @property
    def end(self) -> int:
        return self.heard[-1].received if self.heard else MON


def _shown(heard: Heard) -> str:
    said = heard.said
    claims = {name: value for name in said.claims.__struct_fields__ if (value := getattr(said.claims, name))}
    more = said.name or said.set or said.merged or ""
    return f"{(heard.received - MON) / HOUR:6.1f} h  {said.kind:8} {claims} {more}"


# -- drawing one --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scope:
    """What histories may have in them."""

    merges: bool = True  # of records in the CRM
    systems: bool = True  # several CRMs, of which one leads
    elsewhere: bool = True  # events in the context of another company's group


def a_history(pick: Pick, most: int = 16, scope: Scope = Scope()) -> History:
    how = pick.of(["one", "one", *["merged"] * scope.merges, *["lead"] * scope.systems])
    companies = [_company(pick, name, how) for name in ("acme", "beta")]
    people = [_somebody(pick, i, companies) for i in range(3)]
    said = [_message(pick, companies, people, how, scope) for _ in range(pick.of(range(1, most + 1)))]
    for company in companies:
        for claims in _introduced(company, how):
            said.insert(pick.of(range(len(said) + 1)), claims)
        if how == "merged" and len(company.records) > 1:
            merge = Observation(
                kind="merge", claims=Claims(crm=company.records[0]), at=0, merged=company.records[1:]
            )
            said.insert(pick.of(range(len(said) + 1)), merge)
    lead = ("salesforce", "hubspot") if how == "lead" else ()
    return History(_timed(pick, said), lead, companies)


def _company(pick: Pick, name: str, how: str) -> Company:
    if pick.one_in(4):  # which no CRM knows
        return pick.of([
            Company((), (f"{name}.example",), None),
            Company((), (), name),
            Company((), (f"{name}.example",), name),
        ])  # fmt: skip
    second = {"one": (), "merged": (f"salesforce:{name}-2",), "lead": (f"hubspot:{name}",)}[how]
    domains = pick.of([(f"{name}.example",), (f"{name}.example", f"{name}.org")])
    return Company((f"salesforce:{name}", *second), domains, pick.of([name, None]))


def _introduced(company: Company, how: str) -> Iterable[Observation]:
    """What makes all that a company has one."""
    claims: list[dict[str, Any]] = [{"domain": each} for each in company.domains]
    if not company.records:
        if company.group and company.domains:
            yield Observation(
                kind="facts", claims=Claims(group=company.group, domain=company.domains[0]), at=0, source="segment"
            )
        return
    if company.group:
        claims.append({"group": company.group})
    if how == "lead":
        claims = [claim | {"crm": each} for claim in claims for each in company.records]
    else:
        claims = [claim | {"crm": each} for claim in claims for each in company.records[:1]]
    for each in claims:
        yield Observation(kind="facts", claims=Claims(**each), at=0, source=each["crm"].partition(":")[0])


def _somebody(pick: Pick, i: int, companies: list[Company]) -> Somebody:
    company = pick.of([companies[0], *companies, None])
    home = company.domains[-1] if company and company.domains else "gmail.com"
    return Somebody(
        company,
        f"u{i}",
        pick.of([(f"d{i}",), (f"d{i}", f"e{i}")]),
        f"salesforce:c{i}",
        f"{i}@{pick.of([home, home, 'gmail.com'])}",
    )


def _message(pick: Pick, companies: list[Company], people: list[Somebody], how: str, scope: Scope) -> Observation:
    who = pick.of([people[0], *people])
    company = who.company
    records = company.records if company else ()
    record = pick.of(records) if records else None
    group = company.group if company else None
    web = {"user": who.user, "anonymous": pick.of(who.devices), "email": who.email}
    match pick.of(["web", "web", "web", "identify", "group", "account", "contact", "crm", "deal", "link"]):
        case "web":
            claims = pick.some(web) or {"anonymous": who.devices[0]}
            if pick.one_in(4):
                claims["group"] = pick.of([c.group for c in companies]) if scope.elsewhere else group
                claims["email"] = who.email
            return _activity(pick, claims)
        case "identify":
            return _contact(pick, {"user": who.user} | pick.some(web))
        case "group" if group:
            site = {"domain": company.domains[0]} if company and company.domains else {}
            return _facts(pick, {"group": group} | pick.some(web | site), how)
        case "account" if record:
            site = {"domain": company.domains[0], "group": group} if record == records[0] else {}
            return _facts(pick, {"crm": record} | pick.some(site), how)
        case "contact":
            return _contact(pick, {"contact": who.contact} | pick.some({"crm": record, "email": who.email}))
        case "crm":
            deal = f"salesforce:o-{record}" if record and record.startswith("salesforce:") else None
            return _activity(pick, {"contact": who.contact} | pick.some({"opportunity": deal, "crm": record}))
        case "deal" if record:
            claims = {"opportunity": f"salesforce:o-{record}"} | pick.some({"crm": record})
            return _activity(pick, claims)
        case _:
            return Observation(kind="link", claims=Claims(user=who.user, anonymous=pick.of(who.devices)), at=0)


def _source(claims: dict[str, Any]) -> str:
    return (claims.get("crm") or claims.get("contact") or claims.get("opportunity") or "segment:").partition(":")[
        0
    ]


def _activity(pick: Pick, claims: dict[str, Any]) -> Observation:
    props = pick.of([{"seconds": 5, "path": "/pricing/a"}, {"seconds": 10}, {"path": "/pricing"}, {}])
    name = pick.of(["page", "page", "demo"])
    return Observation(
        kind="activity", claims=Claims(**claims), at=0, name=name, props=props, source=_source(claims)
    )


def _contact(pick: Pick, claims: dict[str, Any]) -> Observation:
    said = pick.some({"role": pick.of(["buyer", "user"]), "level": pick.of([1, 3, 5])})
    return Observation(kind="contact", claims=Claims(**claims), at=0, set=said, source=_source(claims))


def _facts(pick: Pick, claims: dict[str, Any], how: str) -> Observation:
    """Where the CRM merges, the facts of the record that stays win: no two sources tell the same one."""
    if how != "merged":
        said = pick.some(
            {"industry": pick.of(["retail", "banks"]), "employees": pick.of([20, 500]), "country": "DE"}
        )
    elif "crm" in claims:
        said = {"country": "DE"} if claims["crm"].endswith("-2") else {"employees": pick.of([20, 500])}
    else:
        said = {}
    return Observation(kind="facts", claims=Claims(**claims), at=0, set=said, source=_source(claims))


def _timed(pick: Pick, said: list[Observation]) -> list[Heard]:
    """Each at an instant of its own; some are late."""
    now, taken, heard = MON + 10 * DAY, set(), []
    for i, each in enumerate(said):
        now += pick.of([0, HOUR, 2 * HOUR, DAY])
        at = now - pick.of([0, 0, 0, HOUR, 30 * HOUR, 6 * DAY]) - i  # milliseconds apart
        while at in taken:
            at -= 1
        taken.add(at)
        props = {"at": at, "id": f"m{i}"} if each.kind == "activity" else {"at": at}
        heard.append(Heard(msgspec.structs.replace(each, **props), now))
    return heard


# -- what is true -------------------------------------------------------------------------------------------


class Union:
    """What is one with what."""

    def __init__(self) -> None:
        self.above: dict[str, str] = {}

    def find(self, key: str) -> str:
        while (above := self.above.get(key, key)) != key:
            key = above
        return key

    def join(self, keys: Iterable[str]) -> None:
        first, *others = keys
        for each in others:
            self.above[self.find(each)] = self.find(first)


class Truth:
    """Whose each message is, once all have been heard: companies are one, and people, by what was said together.

    Deals and the people who have to do with them are of the same company.
    """

    def __init__(self, heard: Iterable[Heard]) -> None:
        self.companies, self.people, self.circles = Union(), Union(), Union()
        self._said_of: dict[str, set[str]] = {}  # a person or deal -> where it was said to belong
        for each in heard:
            self._hear(each.said)
        self._homes: dict[str, set[str]] = {}
        for key, homes in self._said_of.items():
            found = {self.companies.find(home) for home in homes}
            self._homes.setdefault(self.circles.find(key), set()).update(found)

    def _hear(self, said: Observation) -> None:
        claims = said.claims
        if said.kind == "merge" and claims.crm:
            self.companies.join([claims.crm, *said.merged])
            return
        companies = [
            claims.crm,
            claims.group and f"group:{claims.group}",
            claims.domain and f"domain:{claims.domain}",
        ]
        if said.kind == "facts":
            self.companies.join([each for each in companies if each])
        persons = _persons(claims)
        circle = persons + ([f"opp:{claims.opportunity}"] if claims.opportunity else [])
        for union, keys in ((self.people, persons), (self.circles, circle)):
            if keys:
                union.join(keys)
        if circle:
            homes = self._said_of.setdefault(circle[0], set())
            if claims.crm:
                homes.add(claims.crm)
            elif claims.group and said.kind != "activity":
                homes.add(f"group:{claims.group}")
            if claims.email and not claims.email.endswith("@gmail.com"):
                homes.add("domain:" + claims.email.partition("@")[2])

    def person(self, claims: Claims) -> str | None:
        found = _persons(claims)
        return self.people.find(found[0]) if found else None

    def account(self, said: Observation) -> str | None:
        """The company, by one of its names; None for whoever is of none."""
        claims = said.claims
        if claims.crm:
            return self.companies.find(claims.crm)
        if claims.group and not claims.contact:
            return self.companies.find(f"group:{claims.group}")
        key = next(iter(_persons(claims)), f"opp:{claims.opportunity}")
        homes = self._homes.get(self.circles.find(key), set())
        assert len(homes) <= 1, homes
        return next(iter(homes), None)


def _persons(claims: Claims) -> list[str]:
    found = {"contact": claims.contact, "user": claims.user, "anon": claims.anonymous, "email": claims.email}
    return [f"{kind}:{each}" for kind, each in found.items() if each]


def as_it_was(history: History) -> list[AccountRecord]:
    """The log had everything been known from the start: each message at its company, by its person."""
    truth = Truth(history.heard)
    found: list[AccountRecord] = []
    for each in history.heard:
        said, account = each.said, truth.account(each.said)
        person = truth.person(said.claims)
        if account is None:
            continue
        head: dict[str, Any] = {
            "account": account,
            "at": said.at,
            "received": each.received,
            "source": said.source,
            "id": said.id,
        }
        match said.kind:
            case "activity":
                found.append(Activity(**head, name=said.name, person=person, props=said.props))
            case "facts":
                found.append(Facts(**head, set=said.set))
            case "contact" if person:
                found.append(Contact(**head, person=person, set=said.set))
    return found
