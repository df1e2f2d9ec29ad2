"""Which account, and which person."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.adapters.base import Claims, Observation
from streams.domains import mail_domain, site_domain
from streams.identity import Merged, Resolved, Resolver, Unattributed, follow, further_keys

RESOLVER = Resolver(b"a secret")
BOB = "bob@acme.example"


class Only(dict):
    """Links of which only those may be read that were loaded."""

    def __init__(self, links, keys):
        super().__init__({key: links[key] for key in keys if key in links})
        self.keys_loaded = set(keys)

    def get(self, key, default=None):
        assert key in self.keys_loaded, f"{key} was read, and not loaded"
        return super().get(key, default)


class World:
    """What was learned so far; `sees` loads, asks and stores as a caller does."""

    def __init__(self):
        self.links = {}

    def sees(self, kind, **claims):
        gone = claims.pop("gone", False)
        observation = Observation(kind=kind, claims=Claims(**claims), at=0, gone=gone)
        keys = set(RESOLVER.link_keys(observation))
        while further := set(further_keys({key: self.links[key] for key in keys if key in self.links})) - keys:
            keys |= further
        known = Only(self.links, keys)
        found = RESOLVER.resolve(observation, known)
        assert found == RESOLVER._resolve(observation, RESOLVER._known(observation.claims), known)
        if isinstance(found, Resolved):
            self.links |= found.learned
        return found


@pytest.fixture
def world():
    return World()


def test_a_crm_account_claims_its_domain_and_the_second_one_does_not_get_it(world):
    assert world.sees("facts", crm="salesforce:1", domain="https://www.acme.example/de").account == "salesforce:1"
    assert world.sees("facts", crm="salesforce:2", domain="acme.example").learned == {}
    assert world.sees("activity", email=BOB).account == "salesforce:1"


def test_an_unknown_company_stands_for_itself_until_the_crm_knows_it(world):
    assert world.sees("contact", user="u1", email="Bob@Mail.Acme.example").account == "domain:acme.example"
    world.sees("facts", crm="salesforce:1", domain="acme.example")
    later = world.sees("activity", user="u1")
    assert later.account == "salesforce:1"
    # From then on the user's link leads there directly.
    assert any(link.startswith("salesforce:1|") for link in later.learned.values())


def test_a_group_is_provisional_until_its_website_is_known(world):
    assert world.sees("activity", user="u1", group="acme").account == "group:acme"
    assert world.sees("facts", user="u1", group="acme", domain="acme.example").account == "group:acme"
    assert world.sees("activity", email="ann@acme.example").account == "group:acme"
    crm = world.sees("facts", crm="salesforce:1", domain="acme.example")
    assert crm.learned == {"domain:acme.example": "salesforce:1|", "group:acme": "salesforce:1|"}
    assert world.sees("activity", user="u1", group="acme").account == "salesforce:1"
    assert world.sees("activity", user="u1").account == "salesforce:1"


def test_a_group_with_the_website_of_a_crm_account_is_that_account(world):
    world.sees("facts", crm="salesforce:1", domain="acme.example")
    assert world.sees("facts", group="acme", domain="www.acme.example").account == "salesforce:1"
    assert world.sees("activity", group="acme").account == "salesforce:1"


def test_an_event_with_its_own_group_moves_nobody(world):
    world.sees("facts", user="u1", group="home")
    assert world.sees("activity", user="u1", group="client").account == "group:client"
    assert world.sees("activity", user="u1").account == "group:home"


def test_a_crm_account_does_not_give_way_to_a_provisional_one(world):
    world.sees("facts", crm="salesforce:1", domain="acme.example")
    world.sees("contact", user="u1", email=BOB)
    assert world.sees("facts", user="u1", group="workspace-7").account == "group:workspace-7"
    assert world.sees("activity", user="u1").account == "salesforce:1"


def test_a_new_employer_replaces_the_old_one(world):
    world.sees("contact", user="u1", email=BOB)
    assert world.sees("contact", user="u1", email="bob@new.example").account == "domain:new.example"
    assert world.sees("activity", user="u1").account == "domain:new.example"
    # A stale e-mail in the context does not move him back.
    assert world.sees("activity", user="u1", email=BOB).account == "domain:new.example"


def test_a_device_takes_on_the_home_of_its_user(world):
    before = world.sees("activity", anonymous="d1")
    assert (before.account[:13], before.parked) == ("visitor:anon:", "anonymous")
    identified = world.sees("contact", user="u1", anonymous="d1", email=BOB)
    after = world.sees("activity", anonymous="d1")
    assert (after.account, after.person) == (identified.account, identified.person)


def test_who_signs_in_on_a_shared_device_is_another_person(world):
    alice = world.sees("contact", user="alice", anonymous="d1", email="alice@acme.example")
    assert world.sees("activity", user="bob", anonymous="d1").person != alice.person


def test_a_contact_is_known_by_its_crm_id_and_by_its_private_address(world):
    created = world.sees("contact", contact="salesforce:c", crm="salesforce:1", email="bob@gmail.com")
    assert world.sees("contact", contact="salesforce:c").account == "salesforce:1"
    web = world.sees("contact", user="u1", email="BOB@gmail.com")
    assert (web.account, web.person) == ("salesforce:1", created.person)


def test_a_contact_moves_and_goes(world):
    world.sees("contact", contact="salesforce:c", crm="salesforce:1", email="bob@gmail.com")
    moved = world.sees("contact", contact="salesforce:c", crm="salesforce:2")
    assert (moved.account, moved.left) == ("salesforce:2", "salesforce:1")
    assert world.sees("activity", email="bob@gmail.com").account == "salesforce:2"
    gone = world.sees("contact", contact="salesforce:c", gone=True)
    assert (gone.account, gone.person) == ("salesforce:2", moved.person)
    assert world.sees("contact", contact="salesforce:c").parked == "unknown_contact"


def test_that_a_contact_has_left_one_company_says_nothing_of_the_one_it_is_at_by_now(world):
    world.sees("contact", contact="hubspot:201", crm="hubspot:1")
    world.sees("contact", contact="hubspot:201", crm="hubspot:2")
    late = world.sees("contact", contact="hubspot:201", crm="hubspot:1", gone=True)
    assert (late.account, late.left, late.learned) == ("hubspot:1", None, {})
    assert world.sees("contact", contact="hubspot:201").account == "hubspot:2"


def test_what_a_contact_does_at_another_account_does_not_move_it(world):
    world.sees("contact", contact="salesforce:c", crm="salesforce:1")
    call = world.sees("activity", contact="salesforce:c", crm="salesforce:2")
    assert (call.account, call.left, call.learned) == ("salesforce:2", None, {})
    assert world.sees("contact", contact="salesforce:c").account == "salesforce:1"


def test_an_address_that_comes_after_the_company_leads_there_too(world):
    world.sees("contact", contact="hubspot:201", crm="hubspot:1")
    world.sees("contact", contact="hubspot:201", email="bob@gmail.com")
    assert world.sees("contact", user="u1", email="bob@gmail.com").account == "hubspot:1"


def test_an_opportunity_belongs_to_the_account_it_was_last_seen_with(world):
    parked = world.sees("activity", opportunity="salesforce:o")
    assert (parked.account, parked.parked) == ("visitor:opp:salesforce:o", "unknown_opportunity")
    linked = world.sees("link", opportunity="salesforce:o", crm="salesforce:1")
    assert linked.merged == (Merged("visitor:opp:salesforce:o", "salesforce:1"),)
    assert world.sees("activity", opportunity="salesforce:o").account == "salesforce:1"


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"anonymous": "d1"}, "anonymous"),
        ({"user": "u1"}, "unknown_user"),
        ({"user": "u1", "email": "bob@gmail.com"}, "free_mail"),
        ({"email": "bob@mailinator.com"}, "disposable_mail"),
        ({"email": "bob@localhost"}, "bad_domain"),
        ({"email": "not an address"}, "no_identity"),
        ({"domain": "https://gmail.com"}, "free_mail"),
        ({}, "no_identity"),
    ],
)
def test_nobody(world, claims, why):
    """Whom an id can make known later is kept as a visitor; both are counted by the reason."""
    found = world.sees("activity", **claims)
    if claims.keys() & {"user", "anonymous"} or "@" in claims.get("email", ""):
        assert (found.parked, found.account.partition(":")[0]) == (why, "visitor")
    else:
        assert found == Unattributed(why)


def test_a_person_is_the_hash_of_the_address_and_no_address_is_kept(world):
    one = world.sees("contact", user="u1", anonymous="d1", email=BOB)
    assert world.sees("activity", email="BOB@ACME.EXAMPLE ").person == one.person
    assert world.sees("activity", user="u1").person == one.person
    assert len(one.person) == 12
    other = Resolver(b"another").resolve(Observation(kind="activity", claims=Claims(email=BOB), at=0), {})
    assert other.person != one.person
    assert not any(secret in f"{world.links}" for secret in ("bob@", "u1", "d1"))


def test_an_empty_secret_is_refused():
    with pytest.raises(ValueError, match="secret"):
        Resolver(b"")


@pytest.mark.parametrize(
    ("site", "domain"),
    [
        ("https://www.acme.co.uk/path?x=1", "acme.co.uk"),
        ("ACME.example:8080", "acme.example"),
        ("//user@acme.example/", "acme.example"),
        ("https://münchen.de", "xn--mnchen-3ya.de"),
        ("shop.myshopify.com", "shop.myshopify.com"),
        ("linkedin.com", "linkedin.com"),
        ("https://www.linkedin.com/company/acme", "bad_domain"),
        ("http://10.0.0.1/", "bad_domain"),
        ("co.uk", "bad_domain"),
        ("no website", "bad_domain"),
        ("", "bad_domain"),
        ("a" * 5000, "bad_domain"),
    ],
)
def test_the_domain_of_a_website(site, domain):
    assert site_domain(site) == domain


def test_the_domain_of_an_address():
    assert mail_domain("bob@mail.acme.co.uk") == "acme.co.uk"
    assert mail_domain("bob@uni.yahoo.co.uk") == "free_mail"


IDS = {
    "crm": ["salesforce:1", "salesforce:2"], "group": ["a", "b"], "contact": ["salesforce:c"],
    "opportunity": ["salesforce:o"], "user": ["u", "v"], "anonymous": ["d", "e"],
    "email": [BOB, "ann@beta.example", "x@gmail.com", "broken"], "domain": ["acme.example", "beta.example", "?"],
}  # fmt: skip
MESSAGES = st.tuples(
    st.sampled_from(["activity", "facts", "contact", "link", "delete", "restore"]),
    st.fixed_dictionaries({}, optional={name: st.sampled_from(ids) for name, ids in IDS.items()}),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(MESSAGES, max_size=12))
def test_whatever_comes_only_loaded_links_are_read_and_repeating_teaches_nothing(messages):
    world = World()
    for kind, claims in messages:
        found = world.sees(kind, **claims)
        again = world.sees(kind, **claims)
        assert isinstance(again, type(found))
        third = world.sees(kind, **claims)
        if isinstance(third, Resolved):
            assert (third.learned, third.merged, third.same) == ({}, (), ())
        if isinstance(found, Resolved) and "crm" in claims:
            assert found.account == claims["crm"]
        for account in {link.rpartition("|")[0] for link in world.links.values()} - {""}:
            assert follow(follow(account, world.links), world.links) == follow(account, world.links)
