"""The fictional companies, drawn by a seeded generator.

The same seed gives the same world, ids included. Data quality is that of an ordinary CRM: sectors and
countries spelled in many ways, some of them missing or "Other", some companies without a headcount.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal, TypeAlias, TypeVar

from streams.demo.wire import salesforce_id, uuid
from streams.demo.words import COLOURS, FIRST, KINDS, LAST, OWNERSHIP, PLACES, SECTORS, THINGS, TITLES

# What a company did lately. "cooling": three pricing views, the oldest of them about to be a week old.
Pace: TypeAlias = Literal["cooling", "hot", "warm", "cold"]
Status: TypeAlias = Literal["active", "bounced", "unsubscribed"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Contact:
    id: str  # Salesforce, 18 characters
    user: str  # Segment userId
    anonymous: str  # Segment anonymousId of the person's browser
    first: str
    last: str
    email: str
    title: str
    status: Status


@dataclass(frozen=True, slots=True)
class Company:
    id: str  # Salesforce, 18 characters
    group: str  # Segment groupId
    name: str
    domain: str
    industry: str | None  # as somebody typed it
    country: str | None  # likewise
    city: str | None
    employees: int | None
    revenue: float | None
    ownership: str | None
    kind: str  # Salesforce's Type
    pace: Pace
    contacts: tuple[Contact, ...]
    opportunity: str | None  # Salesforce id of an open one


@dataclass(frozen=True, slots=True)
class World:
    seed: int
    companies: tuple[Company, ...]

    def at_pace(self, pace: Pace) -> list[Company]:
        return [company for company in self.companies if company.pace == pace]


def build(seed: int = 7, companies: int = 500) -> World:
    """A world of `companies` companies, at most 900 (one for each pair of COLOURS and THINGS)."""
    rng = random.Random(f"{seed}/companies")  # noqa: S311 - a made-up world, not a secret
    pairs = rng.sample([f"{colour} {thing}" for colour in COLOURS for thing in THINGS], companies)
    people = count(1001)
    paces = _paces(rng, companies)
    return World(seed, tuple(_company(rng, n, pairs[n], paces[n], people) for n in range(companies)))


def weighted(rng: random.Random, table: Sequence[tuple[int, T]]) -> T:
    return rng.choices([item for _, item in table], [weight for weight, _ in table])[0]


def _paces(rng: random.Random, companies: int) -> list[Pace]:
    """Of 500, 45 are cooling, 45 hot, 125 warm, the rest cold; in random order."""
    shares: tuple[tuple[Pace, float], ...] = (("cooling", 0.09), ("hot", 0.09), ("warm", 0.25))
    paces: list[Pace] = [pace for pace, share in shares for _ in range(round(companies * share))]
    paces += ["cold"] * (companies - len(paces))
    rng.shuffle(paces)
    return paces


def _company(rng: random.Random, n: int, pair: str, pace: Pace, people: Iterator[int]) -> Company:
    sector = rng.choices(SECTORS, [sector.weight for sector in SECTORS])[0]
    place = rng.choices(PLACES, [place.weight for place in PLACES])[0]
    name = f"{pair} {rng.choice(sector.nouns)}"
    slug = name.replace(" ", "").lower()
    domain = f"{slug}.example"
    size = max(3, round(10 ** rng.gauss(2.35, 0.75)))
    placed = rng.random() > 0.04
    return Company(
        id=salesforce_id("001", n),
        group=slug,
        name=name,
        domain=domain,
        industry=_typed(rng, sector.spellings),
        country=rng.choice(place.spellings) if placed else None,
        city=rng.choice(place.cities) if placed else None,
        employees=size if rng.random() > 0.09 else None,
        revenue=float(round(size * rng.uniform(60, 300)) * 1000) if rng.random() > 0.15 else None,
        ownership=weighted(rng, OWNERSHIP),
        kind=weighted(rng, KINDS),
        pace=pace,
        contacts=tuple(_contacts(rng, domain, people, unreachable=pace == "cold" and n % 20 == 11)),
        opportunity=salesforce_id("006", n) if rng.random() < 0.3 else None,
    )


def _typed(rng: random.Random, spellings: list[str]) -> str | None:
    """A spelling of the sector; for one company in twelve nothing, for one in twenty-five "Other"."""
    luck = rng.random()
    if luck < 0.08:
        return None
    return "Other" if luck < 0.12 else rng.choice(spellings)


def _contacts(rng: random.Random, domain: str, people: Iterator[int], *, unreachable: bool) -> Iterator[Contact]:
    """Two to six people, of whom the first can be reached by e-mail, unless nobody can."""
    gone: tuple[Status, ...] = ("bounced", "unsubscribed")
    size = rng.randint(2, 6)
    chosen = zip(rng.sample(FIRST, size), rng.sample(LAST, size), rng.sample(TITLES, size), strict=True)
    for n, (first, last, title) in enumerate(chosen):
        number = next(people)
        yield Contact(
            id=salesforce_id("003", number),
            user=f"u-{number}",
            anonymous=uuid(rng),
            first=first,
            last=last,
            email=f"{first}.{last}@{domain}".lower(),
            title=title,
            status=rng.choice(gone) if unreachable or (n and rng.random() < 0.08) else "active",
        )
