"""Who is who, as somebody tells it who knows the trade."""

from __future__ import annotations

import pytest

from streams.identity import Conflict
from tests.identity.world import DAY, HOUR, World

BOB = "bob@acme.example"
PRIVATE = "bob@gmail.com"
ACME = "salesforce:acme"
PRICING = {"path": "/pricing"}


@pytest.fixture
def world() -> World:
    return World()


def crm(world: World, record: str = ACME, **said: object) -> None:
    world.hears("facts", crm=record, **({"domain": "acme.example"} | said))


def looks_at_prices(world: World, times: int = 1, **who: str) -> None:
    for _ in range(times):
        world.now += 60_000
        world.hears("activity", props=PRICING, **who)


def people(world: World, account: str) -> int:
    """How many different people were seen there, as a segment would count them."""
    held = World(measured=True)
    assert world.rules is held.rules, "only worlds that measure know"
    return len(world.stands(account).get("people", ()))


# -- the web ------------------------------------------------------------------------------------------------


def test_what_a_visitor_read_counts_once_she_says_who_she_is(world: World) -> None:
    crm(world)
    looks_at_prices(world, 3, anonymous="laptop")
    assert world.engagement(ACME) == "cold"
    world.hears("contact", user="u1", anonymous="laptop", email="ann@acme.example")
    assert world.engagement(ACME) == "hot"
    assert world.published()[ACME]["engagement"] == ("hot",)
    assert world.live().keys() == {ACME}


def test_a_user_of_whom_nothing_is_known_becomes_known_on_another_device(world: World) -> None:
    crm(world)
    looks_at_prices(world, 1, anonymous="phone")
    looks_at_prices(world, 1, user="u1", anonymous="phone")
    looks_at_prices(world, 1, user="u1", anonymous="laptop")
    assert world.engagement(ACME) == "cold"
    world.hears("contact", user="u1", anonymous="laptop", email=BOB)
    assert world.engagement(ACME) == "hot"


def test_a_device_that_two_people_use() -> None:
    """Each is counted where they belong; what is read without signing in is of who was there last."""
    world = World(measured=True)
    crm(world)
    crm(world, "salesforce:beta", domain="beta.example")
    world.hears("contact", user="ann", anonymous="kiosk", email="ann@acme.example")
    world.hears("contact", user="ben", anonymous="kiosk", email="ben@beta.example")
    looks_at_prices(world, 1, user="ann", anonymous="kiosk")
    looks_at_prices(world, 2, anonymous="kiosk")
    looks_at_prices(world, 1, user="ben", anonymous="kiosk")
    assert world.stands(ACME)["pages"] == ("from_0", "from_1", "from_2")
    assert world.stands("salesforce:beta")["pages"] == ("from_0",)
    assert (people(world, ACME), people(world, "salesforce:beta")) == (1, 1)


def test_two_users_of_a_device_are_two_visitors(world: World) -> None:
    crm(world)
    looks_at_prices(world, 3, user="ann", anonymous="kiosk")
    looks_at_prices(world, 1, user="ben", anonymous="kiosk")
    world.hears("contact", user="ben", email=BOB)
    assert world.engagement(ACME) == "warm"  # three of the four were Ann's


def test_a_visitor_who_is_never_known_is_forgotten(world: World) -> None:
    looks_at_prices(world, 3, anonymous="laptop")
    world.waits(32 * DAY)
    assert world.states == {}
    assert world.published() == {}


def test_an_alias_is_the_same_person(world: World) -> None:
    crm(world)
    looks_at_prices(world, 3, anonymous="before")
    world.hears("link", user="u1", anonymous="before")
    world.hears("contact", user="u1", email=BOB)
    assert world.engagement(ACME) == "hot"


def test_the_same_address_under_two_user_ids_is_one_person() -> None:
    world = World(measured=True)
    looks_at_prices(world, 2, user="old", email=PRIVATE)
    looks_at_prices(world, 1, user="new")
    world.hears("contact", user="new", email=PRIVATE)
    world.hears("contact", contact="salesforce:c", crm=ACME, email=PRIVATE)
    assert world.engagement(ACME) == "hot"
    assert people(world, ACME) == 1
    looks_at_prices(world, 1, user="old")
    looks_at_prices(world, 1, user="new")
    assert world.stands(ACME)["pages"][-1] == "from_4"


def test_who_was_seen_as_a_stranger_is_one_person_afterwards() -> None:
    world = World(measured=True)
    world.hears("facts", user="u1", group="acme")
    looks_at_prices(world, 1, user="u1")
    world.hears("contact", user="u1", email=PRIVATE)
    looks_at_prices(world, 1, user="u1")
    assert people(world, "group:acme") == 1


@pytest.mark.parametrize("email", [PRIVATE, "bob@mailinator.com", "bob@localhost"])
def test_a_private_or_disposable_address_makes_no_account(world: World, email: str) -> None:
    world.hears("contact", user="u1", email=email)
    looks_at_prices(world, 3, user="u1")
    assert world.accounts() == set()
    assert world.published() == {}


def test_shops_under_a_shared_suffix_are_different_companies(world: World) -> None:
    for site in ("one.myshopify.com", "two.myshopify.com", "acme.co.uk", "beta.co.uk"):
        world.hears("activity", email=f"bob@{site}")
    assert len(world.accounts()) == 4


def test_a_consultant_counts_for_the_client_only_in_the_clients_context(world: World) -> None:
    world.hears("contact", user="u1", email="eve@consulting.example")
    looks_at_prices(world, 3, user="u1", group="client")
    assert world.engagement("group:client") == "hot"
    assert world.engagement("domain:consulting.example") == "cold"
    looks_at_prices(world, 1, user="u1")
    assert world.engagement("domain:consulting.example") == "warm"


def test_an_address_that_is_told_in_a_groups_context_says_where_somebody_belongs(world: World) -> None:
    looks_at_prices(world, 1, user="u1", group="client", email="eve@consulting.example")
    looks_at_prices(world, 1, user="u1")
    assert world.engagement("domain:consulting.example") == "warm"


def test_partitions_that_hear_of_each_other_late_know_one_person() -> None:
    """What a device did is still on its way to its user when that one has become an account's."""
    world = World(measured=True, partitions=5, choose=lambda n: n - 1)
    crm(world)
    looks_at_prices(world, 1, anonymous="laptop")
    looks_at_prices(world, 1, user="u1", anonymous="laptop")
    world.hears("contact", user="u1", anonymous="laptop", email=BOB)
    looks_at_prices(world, 1, user="u1")
    world.waits(HOUR)
    assert world.engagement(ACME) == "hot"
    assert people(world, ACME) == 1


def test_who_becomes_known_while_what_they_did_is_on_its_way_is_one_person() -> None:
    world = World(measured=True, partitions=2, choose=lambda n: n - 1)
    crm(world)
    crm(world, domain=None, group="acme")
    looks_at_prices(world, 1, anonymous="d2")
    world.hears("facts", user="u2", group="acme")
    looks_at_prices(world, 1, user="u2", anonymous="d2")
    world.hears("contact", user="u2", anonymous="d2", email="2@acme.example")
    world.waits(HOUR)
    assert people(world, ACME) == 1


def test_the_redirect_of_a_device_goes_with_its_user(world: World) -> None:
    world.hears("facts", group="acme", anonymous="d2")
    looks_at_prices(world, 1, user="u2", anonymous="d2")
    device = world.person(anonymous="d2")
    world.hears("erase", user="u2")
    assert world.traces(device) == []


def test_the_link_of_a_device_goes_with_the_user_whom_it_leads_to(world: World) -> None:
    looks_at_prices(world, 1, anonymous="d0")
    world.hears("link", user="u0", anonymous="d0")
    looks_at_prices(world, 1, user="u0", email="0@acme.example")
    user = world.person(user="u0")
    world.hears("erase", email="0@acme.example")
    assert world.traces(user) == []


# -- companies ----------------------------------------------------------------------------------------------


def test_a_domain_that_is_known_before_the_crm_knows_the_company(world: World) -> None:
    looks_at_prices(world, 3, email=BOB)
    assert world.engagement("domain:acme.example") == "hot"
    assert all(out.change.provisional for out in world.told)
    crm(world, set={"employees": 300})
    assert world.stands(ACME) == {"engagement": ("hot",), "size": ("large",)}
    assert world.published()["domain:acme.example"] == {}
    assert world.accounts() == {ACME}


def test_a_group_then_its_website_then_the_crm(world: World) -> None:
    world.hears("facts", user="u1", group="workspace", set={"employees": 20})
    looks_at_prices(world, 2, user="u1", group="workspace")
    looks_at_prices(world, 1, email=BOB)
    world.hears("facts", user="u1", group="workspace", domain="acme.example")
    assert world.engagement("domain:acme.example") == "hot"
    crm(world)
    assert world.stands(ACME) == {"engagement": ("hot",), "size": ("small",)}
    assert world.accounts() == {ACME}


def test_a_domain_that_is_claimed_twice_stays_with_the_first(world: World) -> None:
    crm(world)
    crm(world, "salesforce:other")
    assert world.conflicts == [Conflict("domain:acme.example", ACME, "salesforce:other")]
    looks_at_prices(world, 1, email=BOB)
    assert (world.engagement(ACME), world.engagement("salesforce:other")) == ("warm", "cold")


def test_a_company_with_several_domains(world: World) -> None:
    looks_at_prices(world, 2, email="ann@acme.org")
    crm(world)
    looks_at_prices(world, 1, email=BOB)
    crm(world, domain="acme.org")
    assert world.engagement(ACME) == "hot"


@pytest.mark.parametrize("leading_first", [True, False])
def test_the_same_company_in_two_crms_is_the_account_of_the_one_that_leads(leading_first: bool) -> None:
    world = World(lead=("salesforce", "hubspot"))
    records = [(ACME, {"employees": 300}), ("hubspot:5", {"country": "DE"})]
    for record, facts in records if leading_first else reversed(records):
        crm(world, record, set=facts, source=record.partition(":")[0])
        looks_at_prices(world, 1, email=BOB)
        world.now += HOUR
    assert world.accounts() == {ACME}
    assert world.facts(ACME) == {"employees": 300, "country": "DE"}
    world.hears("contact", contact="hubspot:c", crm="hubspot:5", email="ann@gmail.com")
    looks_at_prices(world, 1, email="ann@gmail.com")
    assert world.engagement(ACME) == "hot"


def test_without_a_leading_system_each_record_is_an_account(world: World) -> None:
    crm(world)
    crm(world, "hubspot:5")
    assert world.accounts() == {ACME, "hubspot:5"}
    assert len(world.conflicts) == 1


def test_a_record_that_names_that_of_the_other_system() -> None:
    world = World(lead=("salesforce", "hubspot"))
    crm(world, "hubspot:5", domain=None, also=(ACME,), set={"country": "DE"})
    world.hears("facts", crm=ACME, set={"employees": 300})
    assert world.accounts() == {ACME}
    assert world.facts(ACME) == {"country": "DE", "employees": 300}


def test_companies_that_the_crm_merges(world: World) -> None:
    crm(world, "hubspot:1")
    crm(world, "hubspot:2", domain="acme.org")
    looks_at_prices(world, 2, email="ann@acme.org")
    world.hears("contact", contact="hubspot:c", crm="hubspot:2")
    world.hears("merge", crm="hubspot:1", merged=("hubspot:2",))
    world.hears("activity", crm="hubspot:2", props=PRICING)
    assert world.engagement("hubspot:1") == "hot"
    looks_at_prices(world, 1, contact="hubspot:c")
    looks_at_prices(world, 1, email="ann@acme.org")
    assert world.accounts() == {"hubspot:1"}
    assert len(world.contacts("hubspot:1")) == 1


# -- contacts and deals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("web_first", [True, False])
def test_a_private_address_that_the_crm_knows(web_first: bool) -> None:
    world = World(measured=True)

    def web() -> None:
        looks_at_prices(world, 2, anonymous="laptop")
        world.hears("contact", user="u1", anonymous="laptop", email=PRIVATE)
        looks_at_prices(world, 1, user="u1")

    if web_first:
        web()
    world.hears("contact", contact="salesforce:c", crm=ACME, email=PRIVATE, set={"role": "buyer"})
    if not web_first:
        web()
    assert world.engagement(ACME) == "hot"
    assert people(world, ACME) == 1
    assert list(world.contacts(ACME).values()) == [{"role": "buyer"}]


def test_a_contact_whose_address_comes_later(world: World) -> None:
    crm(world)
    world.hears("contact", contact="hubspot:c")
    looks_at_prices(world, 3, contact="hubspot:c")
    world.hears("contact", contact="hubspot:c", email=BOB)
    assert world.engagement(ACME) == "hot"


def test_a_contact_who_moves_leaves_what_happened_where_it_happened(world: World) -> None:
    world.hears("contact", contact="salesforce:c", crm=ACME, email=PRIVATE)
    looks_at_prices(world, 3, email=PRIVATE)
    world.now += HOUR
    world.hears("contact", contact="salesforce:c", crm="salesforce:beta")
    looks_at_prices(world, 1, email=PRIVATE)
    assert (world.engagement(ACME), world.engagement("salesforce:beta")) == ("hot", "warm")
    assert (len(world.contacts(ACME)), len(world.contacts("salesforce:beta"))) == (0, 1)


def test_a_contact_who_moves_to_what_turns_out_to_be_the_same_company_is_there(world: World) -> None:
    world.hears("contact", contact="salesforce:c", email=BOB)
    world.now += HOUR
    world.hears("contact", contact="salesforce:c", crm=ACME)
    crm(world)
    assert len(world.contacts(ACME)) == 1


def test_a_contact_that_is_deleted_and_brought_back(world: World) -> None:
    world.hears("contact", contact="salesforce:c", crm=ACME, email=PRIVATE)
    world.now += HOUR
    world.hears("contact", contact="salesforce:c", gone=True)
    assert world.contacts(ACME) == {}
    world.now += HOUR
    world.hears("contact", contact="salesforce:c", crm=ACME)
    assert len(world.contacts(ACME)) == 1


def test_contacts_that_the_crm_merges() -> None:
    world = World(measured=True)
    world.hears("contact", contact="hubspot:1", crm="hubspot:acme", email=PRIVATE, set={"role": "buyer"})
    world.hears("contact", contact="hubspot:2", crm="hubspot:acme", email="bob@gmx.de")
    looks_at_prices(world, 1, contact="hubspot:1")
    looks_at_prices(world, 1, contact="hubspot:2")
    assert people(world, "hubspot:acme") == 2
    world.hears("merge", contact="hubspot:1", merged=("hubspot:2",))
    assert people(world, "hubspot:acme") == 1
    looks_at_prices(world, 1, contact="hubspot:2")
    looks_at_prices(world, 1, email="bob@gmx.de")
    assert list(world.contacts("hubspot:acme").values()) == [{"role": "buyer"}]


@pytest.mark.parametrize(("stays", "goes"), [("hubspot:1", "hubspot:2"), ("hubspot:2", "hubspot:1")])
def test_a_merged_contact_of_whom_one_record_was_of_no_company(stays: str, goes: str) -> None:
    world = World(measured=True)
    world.hears("contact", contact="hubspot:1", crm="hubspot:acme", set={"role": "buyer"})
    looks_at_prices(world, 1, contact="hubspot:1")
    looks_at_prices(world, 2, contact="hubspot:2")
    world.hears("merge", contact=stays, merged=(goes,))
    assert world.engagement("hubspot:acme") == "hot"
    assert people(world, "hubspot:acme") == 1
    looks_at_prices(world, 1, contact=stays)
    assert people(world, "hubspot:acme") == 1


def test_a_deal_that_is_known_before_its_company(world: World) -> None:
    looks_at_prices(world, 3, opportunity="salesforce:o")
    world.hears("link", opportunity="salesforce:o", crm=ACME)
    assert world.engagement(ACME) == "hot"


def test_a_meeting_with_somebody_unknown_about_an_unknown_deal(world: World) -> None:
    looks_at_prices(world, 3, opportunity="salesforce:o", contact="salesforce:c")
    world.hears("link", opportunity="salesforce:o", crm=ACME)
    assert world.engagement(ACME) == "hot"


# -- erasure ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claim", [{"email": PRIVATE}, {"contact": "salesforce:c"}, {"user": "u1"}], ids=["email", "contact", "user"]
)
def test_of_whom_is_forgotten_nothing_stays(claim: dict[str, str]) -> None:
    world = World(measured=True)
    looks_at_prices(world, 1, anonymous="laptop")
    world.hears("contact", contact="salesforce:c", crm=ACME, email=PRIVATE, set={"role": "buyer"})
    world.hears("contact", user="u1", anonymous="laptop", email=PRIVATE)
    looks_at_prices(world, 1, user="u1", anonymous="laptop")
    names = [world.person(email=PRIVATE), world.person(user="u1"), world.person(anonymous="laptop")]
    assert world.traces(*names)
    world.hears("erase", **claim)
    assert world.traces(*names) == []
    assert not any("salesforce:c" in key for key in world.links)
    assert (world.contacts(ACME), people(world, ACME)) == ({}, 0)
    assert world.stands(ACME)["pages"] == ("from_0", "from_1")  # what happened at the account is the account's


def test_a_user_without_an_address_is_forgotten(world: World) -> None:
    world.hears("facts", user="u1", anonymous="laptop", group="acme")
    looks_at_prices(world, 1, user="u1", anonymous="laptop")
    names = [world.person(user="u1"), world.person(anonymous="laptop")]
    world.hears("erase", user="u1")
    assert world.traces(*names) == []


def test_who_comes_back_after_being_forgotten_is_somebody_new(world: World) -> None:
    crm(world)
    world.hears("contact", user="u1", anonymous="laptop", email=PRIVATE)
    looks_at_prices(world, 3, user="u1", anonymous="laptop")
    world.hears("erase", email=PRIVATE)
    looks_at_prices(world, 1, anonymous="laptop")
    world.hears("contact", user="u1", anonymous="laptop", email=BOB)
    assert world.engagement(ACME) == "warm"
