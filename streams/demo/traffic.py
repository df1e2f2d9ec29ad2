"""What the companies' CRM and browsers send: `opening` tells the past, `live` goes on without end.

`live` leaves the cooling companies alone until they have cooled, then keeps the show going: bursts that turn
a company hot, and late batches from phones that were offline for a week, whose views turn hot a company that
cools again within a minute and a half.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from streams.demo.companies import Company, Contact, World, weighted
from streams.demo.past import BOUNCE, EVENTS, LAST_COOLS, READING, WEEK, Deed, identify, opening, someone
from streams.demo.wire import DAY, TRANSIT, Browser, Message, Topic, act, changed, changed_cometd, uuid
from streams.demo.words import SECTORS

__all__ = ["Message", "Topic", "live", "opening"]

Clock: TypeAlias = Callable[[], int]  # UTC ms
PAGES: tuple[tuple[int, Deed], ...] = ((5, "/pricing"), *READING)
# How long `live` does not visit the cooling companies.
REST = LAST_COOLS + 30_000
STAGES: tuple[tuple[int, tuple[str, bool, bool]], ...] = (
    (5, ("Qualification", False, False)),
    (4, ("Proposal/Price Quote", False, False)),
    (3, ("Negotiation/Review", False, False)),
    (2, ("Closed Won", True, True)),
    (2, ("Closed Lost", True, False)),
)


@dataclass
class Stage:
    """Where the scenes play. Cold companies are split: bursts go to one half, late batches to the other."""

    world: World
    clock: Clock
    rng: random.Random
    start: int
    lost: list[Contact] = field(default_factory=list)  # opted out or bounced while we watched

    def __post_init__(self) -> None:
        everyone = list(self.world.companies)
        warm, cold = self.world.at_pace("warm"), self.world.at_pace("cold") or everyone
        self.visiting = 3 * self.world.at_pace("hot") + warm + cold[::8]
        self.rested = self.visiting + self.world.at_pace("cooling")
        self.rushing = warm + cold[::2]
        self.late = cold[1::2] or cold
        self.settled = [company for company in everyone if company.pace != "cooling"]
        self.deals = [company for company in everyone if company.opportunity]

    @property
    def at(self) -> int:
        return self.clock() - TRANSIT

    def company(self) -> Company:
        return self.rng.choice(self.rested if self.clock() > self.start + REST else self.visiting)


Scene: TypeAlias = Callable[[Stage], Iterator[Message]]


def live(world: World, clock: Clock, rng: random.Random) -> Iterator[Message]:
    """Without end, as fast as it is asked. `clock` paces what should not depend on the rate (TIMED)."""
    stage = Stage(world, clock, rng, clock())
    due = {scene: stage.start + period // 2 for scene, period in TIMED.items()}
    while True:
        now = clock()
        scene = next((scene for scene, when in due.items() if when <= now), None)
        if scene:
            due[scene] = now + round(TIMED[scene] * rng.uniform(0.6, 1.4))
        yield from (scene or weighted(rng, MIX))(stage)


def _browse(stage: Stage) -> Iterator[Message]:
    browser = someone(stage.rng, stage.company())
    for _ in range(stage.rng.randint(1, 3)):
        yield act(stage.rng, stage.at, browser, weighted(stage.rng, PAGES))


def _track(stage: Stage) -> Iterator[Message]:
    yield act(stage.rng, stage.at, someone(stage.rng, stage.company()), weighted(stage.rng, EVENTS))


def _visitor(stage: Stage) -> Iterator[Message]:
    """Somebody reads without a name, on a new device; half of them then sign in."""
    company = stage.company()
    contact = stage.rng.choice(company.contacts)
    unknown = uuid(stage.rng)
    for _ in range(2):
        yield act(stage.rng, stage.at, Browser(unknown), weighted(stage.rng, READING))
    if stage.rng.random() < 0.5:
        yield identify(stage.rng, stage.at, Browser(unknown, contact.user), company, contact)


def _rush(stage: Stage) -> Iterator[Message]:
    company = stage.rng.choice(stage.rushing)
    for _ in range(3):
        yield act(stage.rng, stage.at, someone(stage.rng, company), "/pricing")


def _late_batch(stage: Stage) -> Iterator[Message]:
    company = stage.rng.choice(stage.late)
    oldest = stage.clock() - WEEK + stage.rng.randint(20_000, 90_000)
    for n in range(3):
        yield act(stage.rng, oldest + n * 1_500, someone(stage.rng, company), "/pricing")


def _account_changes(stage: Stage) -> Iterator[Message]:
    rng, company = stage.rng, stage.rng.choice(stage.world.companies)
    size = max(3, round((company.employees or 200) * rng.uniform(0.5, 2.2)))
    industry = rng.choice(rng.choice(SECTORS).spellings) if rng.random() > 0.15 else None
    changes: tuple[tuple[int, dict[str, Any]], ...] = (
        (50, {"NumberOfEmployees": size}),
        (25, {"Industry": industry}),
        (25, {"AnnualRevenue": float(size * rng.randint(60, 300) * 1000)}),
    )
    yield changed_cometd(rng, "Account", company.id, stage.at, weighted(rng, changes))


def _contact_changes(stage: Stage) -> Iterator[Message]:
    """Opts out or bounces; once 30 have left, one comes back for each that goes."""
    rng, company, at = stage.rng, stage.rng.choice(stage.settled), stage.at
    contact = rng.choice(company.contacts)
    reasons: tuple[tuple[int, dict[str, Any]], ...] = (
        (60, {"HasOptedOutOfEmail": True}),
        (40, {"EmailBouncedReason": BOUNCE, "EmailBouncedDate": at}),
    )
    yield changed(rng, "Contact", contact.id, at, weighted(rng, reasons))
    stage.lost.append(contact)
    if len(stage.lost) > 30:
        well = {"HasOptedOutOfEmail": False, "EmailBouncedReason": None, "EmailBouncedDate": None}
        yield changed(rng, "Contact", stage.lost.pop(0).id, stage.at, well)


def _deal_moves(stage: Stage) -> Iterator[Message]:
    if not stage.deals:
        return
    rng, company = stage.rng, stage.rng.choice(stage.deals)
    name, closed, won = weighted(rng, STAGES)
    body: dict[str, Any] = {"StageName": name, "IsClosed": closed, "IsWon": won}
    if closed:
        body |= {"Amount": float(rng.randint(8, 240) * 1000), "CloseDate": stage.at // DAY}
    yield changed(rng, "Opportunity", str(company.opportunity), stage.at, body)


def _broken(stage: Stage) -> Iterator[Message]:
    """A message that lost its end, as a proxy with a size limit leaves it."""
    scene = stage.rng.choice((_browse, _account_changes))
    whole = next(scene(stage))
    yield Message(whole.topic, whole.key, whole.value[: stage.rng.randint(20, len(whole.value) - 1)])


# One message in about 500 is broken: rare enough not to look like an outage.
MIX: tuple[tuple[int, Scene], ...] = (
    (150, _browse),
    (90, _track),
    (18, _visitor),
    (24, _account_changes),
    (9, _contact_changes),
    (9, _deal_moves),
    (1, _broken),
)
# About how often, in ms of the clock.
TIMED: dict[Scene, int] = {_rush: 9_000, _late_batch: 6_000}
