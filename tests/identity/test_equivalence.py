"""However late something is learnt about who is who, in the end all stands where it would, had it been known at
once.

Histories (`histories`) are drawn from what is true of a few companies and people: each message claims some of
it. The truth is what all messages say together, however they are ordered: companies that stand in one facts
message are one, so are ids of a person that stand in one message, and a person or a deal is of the company that
it was said to be of. So each message has its account and its person, and a log in which these stand from the
start is the oracle. It knows nothing of links, visitors or merges. A second run through the resolver, with all
links of the first one there when it begins, must end the same too.

In scope: visitors, users, devices, contacts, deals and addresses in any order, private addresses, provisional
accounts by domain and by group, several domains, two CRMs of which one leads, records that the CRM merges, late
events, events in the context of another company, redelivery, any cut into batches, any interleaving of
partitions.

Out of scope, as they differ by meaning:

- **Somebody who changes employers**, or addresses: what happened before stays where and as whom it happened.
  Here a person has one company and one address. The same goes for a contact that is deleted.
- **A device that several people use**: what is done without signing in is of who was there last.
- **A stranger in a group's context.** Whose home is elsewhere, or unknown, and who acts in a group's context
  before an e-mail is known, is counted there as another person from then on. Here such events bring the address
  along.
- **A CRM's merge** keeps the facts of the record that stays: here each record tells facts of its own.
- **An erasure.** Of a visitor all goes, of an account's person all but the counts; so it matters what was known
  by then. `test_after_an_erasure_nothing_of_them_is_left` asks only for that.
- **`for`, `stay`, `keep_for`** run on as they did at the account that stays; there are none in the rules here.
- **Ties.** Each message has an instant of its own.
- **Visitors expire** after 30 days without anything new; histories are shorter.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rules import measures
from rules.counting import EVER
from rules.records import is_visitor
from rules.replay import Replay
from rules.state import GONE, AccountState
from streams.adapters.base import Claims, Observation
from streams.identity import follow
from tests.identity.histories import Heard, History, Pick, Scope, Truth, a_history, as_it_was, drawing
from tests.identity.world import DAY, HOUR, World, ruleset

EXAMPLES = int(os.environ.get("IDENTITY_EXAMPLES", "70"))
PROFILE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="IDENTITY_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
LATER = (0, 3 * HOUR, 2 * DAY)


@st.composite
def histories(draw: st.DrawFn, most: int = 14, **scope: bool) -> History:
    return a_history(drawing(draw), most, Scope(**scope))


def lived(history: History, links: dict[str, str] | None = None, **how: Any) -> World:
    world = World(history.lead, measured=True, **how)
    world.links |= links or {}
    for each in history.heard:
        world.hears_all([each.said], each.received)
    world.deliver(everything=True)
    return world


# -- (a) the same as had all been known ---------------------------------------------------------------------


def is_as_it_was(history: History, world: World) -> None:
    truth = Truth(history.heard)
    known = Replay(ruleset(True))
    list(known.run(as_it_was(history)))
    accounts = {account_behind(key, world.links): truth.companies.find(key) for key in companies_in(history)}
    for later in LATER:
        world.waits(history.end + later - world.now)
        list(known.advance(history.end + later))
        for found, true in accounts.items():
            assert world.stands(found) == answers(known, true), (found, later)
        assert world.accounts() <= accounts.keys()
    for found, true in accounts.items():
        state = known.states.get(true, AccountState(born=0))
        assert world.facts(found) == {name: fact.value for name, fact in state.facts.items()}
        assert len(world.contacts(found)) == sum(GONE not in facts for facts in state.contacts.values())


def answers(replay: Replay, account: str) -> dict[str, tuple[str, ...]]:
    state = replay.states.get(account)
    if state is None or not state.ruleset:
        return {}
    return {name: each.answer for name, each in state.standings.items() if each.answer}


def account_behind(account: str, links: dict[str, str]) -> str:
    while (following := follow(account, links)) != account:
        account = following
    return account


def companies_in(history: History) -> set[str]:
    found = set()
    for each in history.heard:
        claims = each.said.claims
        found |= {
            claims.crm,
            claims.group and f"group:{claims.group}",
            claims.domain and f"domain:{claims.domain}",
        }
        if claims.email and not claims.email.endswith("@gmail.com"):
            found.add("domain:" + claims.email.partition("@")[2])
    return {each for each in found if each}


@settings(PROFILE, max_examples=2 * EXAMPLES)
@given(histories())
def test_what_is_learnt_late_is_as_if_it_had_been_known(history: History) -> None:
    is_as_it_was(history, lived(history))


@PROFILE
@given(histories())
def test_with_the_links_of_the_end_from_the_start_all_ends_the_same(history: History) -> None:
    first = lived(history)
    is_as_it_was(history, lived(history, first.links))


# -- (b) batches, (c) redelivery, (d) partitions ------------------------------------------------------------


@PROFILE
@given(histories(), st.integers(1, 6))
def test_how_messages_are_cut_into_batches_makes_no_difference(history: History, size: int) -> None:
    alone, together = World(history.lead, measured=True), World(history.lead, measured=True)
    for start in range(0, len(history.heard), size):
        batch = history.heard[start : start + size]
        together.hears_all([each.said for each in batch], batch[-1].received)
        for each in batch:
            alone.hears_all([each.said], batch[-1].received)
    assert alone.links == together.links
    said = ([msgspec.structs.replace(each, offset=0) for each in world.records] for world in (alone, together))
    assert next(said) == next(said)
    assert alone.accounts() == together.accounts()
    for account in alone.accounts():
        assert alone.stands(account) == together.stands(account)


@st.composite
def redelivered(draw: st.DrawFn) -> tuple[History, History]:
    """A history, and the same one with each message coming again, at once or later."""
    history, pick = draw(histories(most=10)), drawing(draw)
    heard = [identified(each, i) for i, each in enumerate(history.heard)]
    again = [*heard]
    for i, each in reversed([*enumerate(heard)]):
        place = pick.of(range(i + 1, len(again) + 1))
        received = again[place - 1].received
        again.insert(place, Heard(each.said, received))
    return History(heard, history.lead), History(again, history.lead)


def identified(heard: Heard, i: int) -> Heard:
    return Heard(msgspec.structs.replace(heard.said, id=f"m{i}"), heard.received)


@PROFILE
@given(redelivered())
def test_what_comes_twice_counts_once(both: tuple[History, History]) -> None:
    once, twice = both
    is_as_it_was(once, lived(twice))


@PROFILE
@given(histories(), st.lists(st.integers(0, 5), max_size=40), st.integers(2, 5))
def test_in_which_order_partitions_hear_of_each_other_makes_no_difference(
    history: History, order: list[int], partitions: int
) -> None:
    turns = iter(order)
    is_as_it_was(history, lived(history, choose=lambda n: next(turns, -1) % n, partitions=partitions))


# -- (e) nothing is lost, nothing is there twice ------------------------------------------------------------


@PROFILE
@given(histories())
def test_each_event_is_counted_once_and_nothing_is_left_of_what_was_merged(history: History) -> None:
    world = lived(history)
    happened = sum(each.said.kind == "activity" for each in history.heard)
    assert sum(counted(world, state) for state in world.live().values()) == happened
    for account, answers_there in world.published().items():
        assert answers_there == world.stands(account)
        if world.states[account].merged_into:
            assert not answers_there
    assert not any(is_visitor(account) for account in world.published())
    for state in world.states.values():
        if state.merged_into:
            assert (state.standings, state.measures, state.facts) == ({}, {}, {})


def counted(world: World, state: AccountState) -> int:
    """How many events of whatever name are kept there: histories are shorter than what is kept."""
    index = next(i for i, each in enumerate(world.rules.dimensions) if each.name == "all")
    (id,) = (id for id, readers in world.rules.readers.items() if index in readers)
    ring = state.measures.get(id)
    return len(measures.ring_pairs(ring, EVER.leaves, world.now)[0]) if ring is not None else 0


@st.composite
def forgotten(draw: st.DrawFn) -> tuple[History, dict[str, str], str]:
    """A history, in which somebody asks on the way to be forgotten and is not heard of again."""
    history, pick = draw(histories()), drawing(draw)
    who = pick.of(["0", "1", "2"])
    place = pick.of(range(len(history.heard) + 1))
    mine = [each for each in history.heard[:place] if who in said_of(each.said.claims)]
    claim = claim_of(pick, mine)
    kept = [each for i, each in enumerate(history.heard) if i < place or who not in said_of(each.said.claims)]
    if claim:
        said = Observation(kind="erase", claims=Claims(**claim), at=history.end)
        received = kept[place - 1].received if place else kept[0].received
        kept.insert(place, Heard(said, received))
    return History(kept, history.lead), claim, who


def said_of(claims: Claims) -> str:
    """The number of the person that is claimed."""
    if claims.email:
        return claims.email[0]
    return (claims.user or claims.anonymous or (claims.contact or "").removeprefix("salesforce:"))[1:2]


def claim_of(pick: Pick, mine: list[Heard]) -> dict[str, str]:
    claims = [each.said.claims for each in mine]
    found = [{name: value} for each in claims for name in CLAIMS if (value := getattr(each, name))]
    return pick.of(found) if found else {}


CLAIMS = ("user", "contact", "email")


@PROFILE
@given(forgotten())
def test_after_an_erasure_nothing_of_them_is_left(case: tuple[History, dict[str, str], str]) -> None:
    """Of what was known to be one with the id by which they ask."""
    history, claim, _ = case
    if not claim:
        return
    world = lived(history)
    before = [each for each in history.heard if each.said.kind != "erase"]
    erased = next(i for i, each in enumerate(history.heard) if each.said.kind == "erase")
    truth = Truth(before[:erased])
    asked = truth.person(Claims(**claim))
    names = {
        world.person(**{name: value})
        for each in before[:erased]
        for name in ("user", "anonymous", "email")
        if (value := getattr(each.said.claims, name)) and truth.person(Claims(**{name: value})) == asked
    }
    assert world.traces(*names) == []
