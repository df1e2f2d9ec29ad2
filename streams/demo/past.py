"""What happened before the demo began.

The past is made so that there is something to watch at once: every "cooling" company has looked at the
pricing page exactly three times in seven days, and the oldest view turns a week old 8 to 120 s after `now`,
one company after the other.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, TypeAlias

from streams.demo.companies import Company, Contact, World, weighted
from streams.demo.wire import DAY, Browser, Message, act, call, created
from streams.demo.words import MODELS, TECHNOLOGIES

HOUR = 3_600_000
WEEK = 7 * DAY
# When the cooling companies' oldest view is a week old, in ms after `now`.
FIRST_COOLS, LAST_COOLS = 8_000, 120_000
BOUNCE = "550 5.1.1 The e-mail account does not exist"

# What people do on the web site: a path is a page view, a pair is a tracked event.
Deed: TypeAlias = str | tuple[str, dict[str, Any]]
Visit: TypeAlias = tuple[int, Company, Deed]
READING: tuple[tuple[int, Deed], ...] = (
    (14, "/docs/getting-started"),
    (12, "/docs/rules"),
    (9, "/docs/sources"),
    (7, "/docs/api"),
    (12, "/blog/accounts-not-people"),
    (10, "/blog/exact-windows"),
    (14, "/customers"),
    (12, "/integrations"),
    (5, "/integrations/crm"),
)
EVENTS: tuple[tuple[int, Deed], ...] = (
    (30, ("Email Opened", {"campaign": "spring-webinar"})),
    (14, ("Email Clicked", {"campaign": "spring-webinar", "link": "/customers"})),
    (20, ("Signed In", {})),
    (18, ("Report Exported", {"format": "csv", "rows": 12000})),
    (10, ("Webinar Attended", {"webinar": "Segments that keep time", "minutes": 42})),
    (4, ("Trial Started", {"plan": "trial"})),
    (3, ("Demo Requested", {"seats": 25})),
)
# What a company that is merely warm may do: no trial, no demo.
MILD = READING + EVENTS[:-2]


def opening(world: World, now_ms: int) -> Iterator[Message]:
    """Companies, contacts and deals, then who is who on the web site, then recent visits, oldest first."""
    rng = random.Random(f"{world.seed}/opening/{now_ms}")  # noqa: S311 - a made-up world, not a secret
    for company in world.companies:
        yield from _crm(rng, company, now_ms)
    for company in world.companies:
        yield from _introductions(rng, company, now_ms)
    visits = list(_cooling(rng, world, now_ms))
    for company in world.companies:
        visits += _visits(rng, company, now_ms)
    for at, company, deed in sorted(visits, key=lambda visit: visit[0]):
        yield act(rng, at, someone(rng, company), deed)


def someone(rng: random.Random, company: Company) -> Browser:
    """One of the company's people; three calls in ten do not say for which company they are made."""
    contact = rng.choice(company.contacts)
    return Browser(contact.anonymous, contact.user, company.group if rng.random() < 0.7 else None)


def identify(rng: random.Random, at: int, browser: Browser, company: Company, contact: Contact) -> Message:
    traits = {
        "email": contact.email,
        "firstName": contact.first,
        "lastName": contact.last,
        "title": contact.title,
        "company": {"id": company.group, "name": company.name},
    }
    return call(rng, "identify", at, browser, "/docs/getting-started", traits=traits)


def _crm(rng: random.Random, company: Company, now: int) -> Iterator[Message]:
    since = now - rng.randint(80, 400) * DAY
    account = {
        "Name": company.name,
        "Type": company.kind,
        "Website": company.domain,
        "Industry": company.industry,
        "AnnualRevenue": company.revenue,
        "NumberOfEmployees": company.employees,
        "Ownership": company.ownership,
        "BillingAddress": {"Street": None, "City": company.city, "State": None, "Country": company.country},
    }
    yield created(rng, "Account", company.id, since, account)
    for contact in company.contacts:
        at = since + rng.randint(1, 50) * DAY
        yield created(rng, "Contact", contact.id, at, _contact_body(company, contact, at))
    if company.opportunity:
        deal = {
            "AccountId": company.id,
            "Name": f"{company.name} - new business",
            "StageName": "Prospecting",
            "IsClosed": False,
            "IsWon": False,
            "Amount": float(rng.randint(8, 240) * 1000),
            "Probability": 10.0,
            "CloseDate": now // DAY + rng.randint(20, 120),
            "LeadSource": "Web",
        }
        yield created(rng, "Opportunity", company.opportunity, since + 75 * DAY, deal)


def _contact_body(company: Company, contact: Contact, at: int) -> dict[str, Any]:
    bounced = contact.status == "bounced"
    return {
        "AccountId": company.id,
        "Name": {"Salutation": None, "FirstName": contact.first, "LastName": contact.last},
        "Title": contact.title,
        "Email": contact.email,
        "HasOptedOutOfEmail": contact.status == "unsubscribed",
        "EmailBouncedReason": BOUNCE if bounced else None,
        "EmailBouncedDate": at + HOUR if bounced else None,
    }


def _introductions(rng: random.Random, company: Company, now: int) -> Iterator[Message]:
    """Each person says who they are; the first also at which company, the others' mail domain tells."""
    for contact in company.contacts:
        at = now - rng.randint(65 * DAY, 75 * DAY)
        yield identify(rng, at, Browser(contact.anonymous, contact.user), company, contact)
    first = company.contacts[0]
    traits = {"name": company.name, "website": f"https://{company.domain}", "plan": "trial"} | _enriched(company)
    browser = Browser(first.anonymous, first.user)
    at = now - rng.randint(61 * DAY, 64 * DAY)
    yield call(rng, "group", at, browser, "/customers", groupId=company.group, traits=traits)


def _enriched(company: Company) -> dict[str, Any]:
    """What is known of two companies in three besides; drawn apart, so that the story stays as it is."""
    rng = random.Random(company.id)  # noqa: S311 - a made-up world, not a secret
    if rng.random() < 1 / 3:
        return {}
    return {"technologies": rng.sample(TECHNOLOGIES, rng.randint(1, 6)), "businessModel": rng.choice(MODELS)}


def _cooling(rng: random.Random, world: World, now: int) -> Iterator[Visit]:
    companies = world.at_pace("cooling")
    step = (LAST_COOLS - FIRST_COOLS) / max(1, len(companies) - 1)
    for n, company in enumerate(companies):
        oldest = now - WEEK + FIRST_COOLS + round(n * step)
        for at in (oldest, now - rng.randint(DAY, 6 * DAY), now - rng.randint(HOUR, DAY)):
            yield at, company, "/pricing"


def _visits(rng: random.Random, company: Company, now: int) -> Iterator[Visit]:
    """Recent ones for hot and warm companies; for most of the cold ones, some a month ago."""
    pricing, others, newest, oldest = {
        "cooling": (0, 0, 0, 0),
        "hot": (rng.randint(3, 6), rng.randint(2, 6), HOUR, 5 * DAY),
        "warm": (rng.randint(0, 2), rng.randint(2, 5), HOUR, 6 * DAY),
        "cold": (rng.choice((0, 0, 1, 3)), rng.choice((0, 1, 3)), 31 * DAY, 60 * DAY),
    }[company.pace]
    mix = READING + EVENTS if company.pace == "hot" else MILD
    for n in range(pricing + others):
        yield now - rng.randint(newest, oldest), company, "/pricing" if n < pricing else weighted(rng, mix)
