"""HubSpot's webhooks.

The envelope follows developers.hubspot.com (webhooks, legacy and generic subscriptions); values are
invented. Ids of events and subscriptions are left as they come: nothing may hang on them.
"""

import json
from itertools import permutations

import pytest
from hypothesis import given, settings
from mutation import EMAIL, RECEIVED, assert_nobody_told, assert_safe, personal, spoilt

from streams.adapters import decode_any
from streams.adapters.base import Claims, Observation
from streams.adapters.hubspot import decode
from streams.identity import Resolver

AT = 1772442100000
COMPANY, CONTACT, DEAL = "hubspot:5543", "hubspot:201", "hubspot:77"


def notice(kind, **fields):
    base = {
        "eventId": 1003, "subscriptionId": 1160452, "portalId": 62515, "appId": 1160452, "occurredAt": AT,
        "subscriptionType": kind, "attemptNumber": 0, "changeSource": "CRM_UI", "sourceId": "userId:9586504",
        "objectId": {"company": 5543, "contact": 201, "deal": 77}.get(kind.partition(".")[0], 9),
    }  # fmt: skip
    return base | fields


def changed(object, name, value, **fields):
    return notice(f"{object}.propertyChange", propertyName=name, propertyValue=value, **fields)


def associated(kind, start, end, **fields):
    said = {"associationType": kind, "fromObjectId": start, "toObjectId": end, "associationRemoved": False,
            "isPrimaryAssociation": True}  # fmt: skip
    return notice(f"{kind.split('_')[0].lower()}.associationChange", objectId=start) | said | fields


def merged(object, primary, others, new=None):
    return notice(f"{object}.merge", primaryObjectId=primary, mergedObjectIds=others, newObjectId=new,
                  numberOfPropertiesMoved=4)  # fmt: skip


def sent(*messages):
    return decode(json.dumps(list(messages)).encode(), RECEIVED)


def only(message):
    (found,) = sent(message)
    return found


INDUSTRY = changed("company", "industry", "COMPUTER_SOFTWARE")


def test_one_notification_need_not_be_in_an_array():
    assert decode(json.dumps(INDUSTRY).encode(), RECEIVED) == sent(INDUSTRY)
    assert decode_any("hubspot", json.dumps([INDUSTRY]).encode(), RECEIVED) == sent(INDUSTRY)
    assert sent() == []


def test_a_property_is_a_fact_of_when_it_changed():
    found = only(INDUSTRY)
    assert (found.kind, found.at, found.claims) == ("facts", AT, Claims(crm=COMPANY))
    assert (found.set, found.clear) == ({"industry": "COMPUTER_SOFTWARE"}, ())


@pytest.mark.parametrize(
    ("name", "value", "facts"),
    [
        ("numberofemployees", "329", {"employees": 329}),
        ("annualrevenue", "12500000", {"annual_revenue": 12_500_000}),
        ("annualrevenue", 12500000, {"annual_revenue": 12_500_000}),
        ("domain", "acme.example", {"website": "acme.example"}),
        ("lifecyclestage", "customer", {"lifecycle_stage": "customer"}),
        ("hs_lead_status", "OPEN_DEAL", {"lead_status": "OPEN_DEAL"}),
        ("type", "PROSPECT", {"account_type": "PROSPECT"}),
        ("state", "BE", {"region": "BE"}),
        ("web_technologies", "salesforce; segment ;", {"technologies": ["salesforce", "segment"]}),
        ("hubspot_owner_id", "9586504", {"owner": "9586504"}),
        # Of a portal's own properties the type is unknown here: a rule's declared type decides.
        ("Health Score", "0.5", {"health_score": "0.5"}),
        ("is_target", True, {"is_target": "true"}),
        ("renewal_date", "1803945600000", {"renewal_date": "2027-03-02T00:00:00Z"}),
        ("customer_since", "1772442100123", {"customer_since": "2026-03-02T09:01:40.123Z"}),
        ("invoice_number", "1772442100123", {"invoice_number": "1772442100123"}),
        ("founded_date", "1999", {"founded_date": "1999"}),
    ],
)
def test_text_becomes_what_the_fact_is(name, value, facts):
    assert only(changed("company", name, value)).set == facts


def test_a_domain_is_also_a_claim():
    assert only(changed("company", "domain", "acme.example")).claims == Claims(crm=COMPANY, domain="acme.example")
    assert only(changed("company", "name", "acme.example")).claims.domain is None


@pytest.mark.parametrize("empty", ["", " ", None])
def test_empty_text_is_a_cleared_property(empty):
    found = only(changed("company", "industry", empty))
    assert (found.set, found.clear) == ({}, ("industry",))


def test_a_second_name_of_a_fact_does_not_clear_it():
    assert sent(changed("company", "website", ""), changed("company", "hs_country_code", "")) == []
    assert only(changed("company", "domain", "")).clear == ("website",)


def test_a_value_of_the_wrong_type_is_rejected_and_the_fact_stays():
    assert only(changed("company", "numberofemployees", "50-100")).reason == "bad_value"


@pytest.mark.parametrize("name", ["phone", "hs_primary_email", "Owner First Name"])
def test_what_is_personal_is_nothing_to_us_even_at_a_company(name):
    assert sent(changed("company", name, "+49")) == []


def test_what_the_portal_calls_sensitive_is_not_read():
    assert sent(changed("company", "ssn_of_owner", "1", isSensitive=True)) == []
    assert only(changed("company", "industry", "X", isSensitive=False)).set == {"industry": "X"}


# -- the same thing told twice


def test_the_id_is_made_of_what_is_said():
    assert only(changed("company", "industry", "")).id == f"62515/company.propertyChange/5543/industry/{AT}/"
    assert only(notice("company.deletion")).id == f"62515/company.deletion/5543//{AT}/"


def test_a_retry_has_the_same_id_whatever_event_id_it_has():
    again = [INDUSTRY | {"attemptNumber": 2}, INDUSTRY | {"eventId": 7, "subscriptionId": 8}]
    assert {only(each).id for each in again} == {only(INDUSTRY).id}


def test_one_event_id_may_belong_to_two_changes():
    others = [
        changed("company", "city", "COMPUTER_SOFTWARE"),
        changed("company", "industry", "Banking"),
        changed("company", "industry", "COMPUTER_SOFTWARE", occurredAt=AT + 1),
        changed("company", "industry", "COMPUTER_SOFTWARE", objectId=5544),
        changed("company", "industry", "COMPUTER_SOFTWARE", portalId=1),
    ]
    assert len({only(each).id for each in [INDUSTRY, *others]}) == 6


def test_the_generic_form_is_the_same_change():
    # The samples' dedupe id keeps them apart; one app may get both forms of one change.
    generic = changed("object", "industry", "COMPUTER_SOFTWARE", objectId=5543, objectTypeId="0-2")
    assert only(generic) == only(INDUSTRY)
    assert sent(INDUSTRY, generic) == sent(INDUSTRY)
    assert only(notice("object.creation", objectId=201, objectTypeId="0-1")) == only(notice("contact.creation"))


def test_the_id_tells_nothing_of_a_person():
    # The samples' dedupe id ends with the value, and an id enters the log.
    found = only(changed("contact", "email", EMAIL))
    assert found.id == f"62515/contact.propertyChange/201/email/{AT}/"
    assert "Chief" not in only(changed("contact", "jobtitle", "Chief of Bob")).id


@pytest.mark.parametrize(
    ("how", "source"),
    [("CRM_UI", "human"), ("IMPORT", ""), ("AUTOMATION", ""), ("API", ""), (None, ""), (["CRM_UI"], "")],
)
def test_what_somebody_typed_is_said_by_a_human(how, source):
    set_, cleared = changed("company", "industry", "Banking"), changed("company", "industry", "")
    assert {only(each | {"changeSource": how}).source for each in (set_, cleared)} == {source}
    assert only(changed("contact", "jobtitle", "CTO", changeSource=how)).source == ""


# -- companies come and go


def test_a_new_company_is_known_and_nothing_of_it_is():
    found = only(notice("company.creation", changeFlag="NEW"))
    assert (found.kind, found.claims, found.set, found.clear) == ("facts", Claims(crm=COMPANY), {}, ())


def test_a_company_goes_and_comes_back_as_it_was():
    gone, back = sent(notice("company.deletion"), notice("company.restore", occurredAt=AT + 1))
    assert [(each.kind, each.claims.crm, each.at) for each in (gone, back)] == [
        ("delete", COMPANY, AT),
        ("restore", COMPANY, AT + 1),
    ]


def test_a_merge_names_the_survivor_and_whom_it_took_in():
    found = only(merged("company", 5543, [5544, "5545"]))
    assert (found.kind, found.claims, found.at) == ("merge", Claims(crm=COMPANY), AT)
    assert found.merged == ("hubspot:5544", "hubspot:5545")
    contact = only(merged("contact", 201, [202]))
    assert (contact.kind, contact.claims) == ("merge", Claims(contact=CONTACT))
    assert contact.merged == ("hubspot:202",)


def test_a_merge_may_make_a_new_company_of_both():
    found = only(merged("company", 5543, [5544], new=6000))
    assert (found.claims.crm, found.merged) == ("hubspot:6000", ("hubspot:5544", COMPANY))
    assert sent(merged("company", 5543, [5543])) == []


def test_a_merge_that_is_sent_again_has_its_id_and_another_one_has_not():
    again, other = merged("company", 5543, ["5545", 5544]), merged("company", 5543, [5544])
    assert only(again).id == only(merged("company", 5543, [5544, 5545])).id != only(other).id


def test_merged_deals_stay_with_their_company():
    """A deal is known by its company alone, and both are known already."""
    assert sent(merged("deal", 77, [78])) == []
    assert only(notice("deal.merge", primaryObjectId=77)).reason == "missing_field"


# -- contacts


def test_a_contact_says_no_more_than_its_role():
    names = ["firstname", "lastname", "phone", "address", "date_of_birth", "my_secret", "message"]
    assert sent(*(changed("contact", name, "Bob") for name in names)) == []
    found = only(changed("contact", "jobtitle", "CTO"))
    assert (found.kind, found.claims, found.set) == ("contact", Claims(contact=CONTACT), {"title": "CTO"})
    assert only(changed("contact", "jobtitle", "")).clear == ("title",)


def test_an_email_is_a_claim_and_no_fact():
    found = only(changed("contact", "email", EMAIL))
    assert (found.claims, found.set) == (Claims(contact=CONTACT, email=EMAIL), {})
    assert sent(changed("contact", "email", "")) == []


def test_a_day_is_midnight_in_utc():
    found = only(changed("contact", "hs_latest_meeting_activity", "1772409600000"))
    assert found.set == {"hs_latest_meeting_activity": "2026-03-02T00:00:00Z"}


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("hs_email_optout", "true", "unsubscribed"),
        ("hs_email_optout", "false", "active"),
        ("hs_email_hard_bounce_reason_enum", "OTHER", "bounced"),
        ("hs_email_bad_address", "true", "bounced"),
    ],
)
def test_whether_a_contact_can_be_written_to(name, value, status):
    assert only(changed("contact", name, value)).set == {"status": status}


def test_a_bounce_that_is_cleared_says_nothing_about_opting_out():
    assert (
        sent(changed("contact", "hs_email_hard_bounce_reason", ""), changed("contact", "hs_email_optout", ""))
        == []
    )
    assert sent(changed("contact", "hs_email_bad_address", "false")) == []


def test_a_contact_goes():
    found = only(notice("contact.deletion"))
    assert (found.kind, found.gone, found.claims) == ("contact", True, Claims(contact=CONTACT))


def test_who_asks_to_be_forgotten_is_erased():
    found = only(notice("contact.privacyDeletion"))
    assert (found.kind, found.claims, found.set) == ("erase", Claims(contact=CONTACT), {})


def test_a_restored_contact_has_lost_its_company():
    back, rejected = sent(notice("contact.restore"))
    assert (back.kind, back.gone, rejected.reason) == ("contact", False, "resync_needed")


# -- who belongs to whom


def test_an_association_moves_the_contact():
    # A link alone would leave it with its former company, and the new one without it.
    found = only(associated("CONTACT_TO_COMPANY", 201, 5543))
    assert (found.kind, found.gone, found.claims) == ("contact", False, Claims(contact=CONTACT, crm=COMPANY))
    resolver = Resolver(b"secret")
    learned = resolver.resolve(found, {}).learned
    assert learned == {f"contact:{CONTACT}": f"{COMPANY}|"}
    title = only(changed("contact", "jobtitle", "CTO"))
    assert resolver.resolve(title, {}).parked == "unknown_contact"
    assert resolver.resolve(title, learned).account == COMPANY
    moved = only(associated("CONTACT_TO_COMPANY", 201, 5544))
    assert resolver.resolve(moved, learned).left == COMPANY


def test_both_ends_of_an_association_say_the_same():
    ends = [associated("CONTACT_TO_COMPANY", 201, 5543), associated("COMPANY_TO_CONTACT", 5543, 201)]
    assert sent(*ends) == sent(ends[0]) == sent(ends[1])


def test_an_association_ends():
    found = only(associated("COMPANY_TO_CONTACT", 5543, 201, associationRemoved=True))
    assert (found.gone, found.claims) == (True, Claims(contact=CONTACT, crm=COMPANY))


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({"isPrimaryAssociation": False}, False),
        ({"isPrimaryAssociation": None}, True),
        ({"isPrimaryAssociation": None, "associationTypeId": 279}, False),
        ({"isPrimaryAssociation": None, "associationTypeId": 1}, True),
    ],
)
def test_only_the_primary_company_counts(fields, counts):
    assert bool(sent(associated("CONTACT_TO_COMPANY", 201, 5543) | fields)) is counts


def test_the_generic_form_of_an_association():
    generic = notice("object.associationChange", fromObjectId=201, toObjectId=5543, fromObjectTypeId="0-1",
                     toObjectTypeId="0-2", associationTypeId=1, isPrimaryAssociation=True)  # fmt: skip
    assert only(generic) == only(associated("CONTACT_TO_COMPANY", 201, 5543))


@pytest.mark.parametrize(
    "kind", ["CONTACT_TO_DEAL", "TICKET_TO_COMPANY", "COMPANY_TO_COMPANY", "DEAL_TO_LINE_ITEM"]
)
def test_other_associations_are_nothing_to_us(kind):
    assert sent(associated(kind, 1, 2)) == []


def test_the_property_that_mirrors_the_primary_company():
    assert only(changed("contact", "associatedcompanyid", "5543")).claims == Claims(contact=CONTACT, crm=COMPANY)
    assert only(changed("contact", "associatedcompanyid", "")).gone
    deal = only(changed("deal", "hs_primary_associated_company", "5543"))
    assert (deal.kind, deal.claims) == ("link", Claims(opportunity=DEAL, crm=COMPANY))


def links_after(messages, links):
    resolver, links = Resolver(b"secret"), dict(links)
    for found in sent(*messages):
        links |= resolver.resolve(found, links).learned
    return links


A, B = "hubspot:1", "hubspot:2"
LEFT_A = associated("CONTACT_TO_COMPANY", 201, 1, associationRemoved=True)
JOINED_B = associated("COMPANY_TO_CONTACT", 2, 201)
NOW_B = changed("contact", "associatedcompanyid", "2")


@pytest.mark.parametrize("times", [(0, 0, 0), (0, 1, 2), (2, 1, 0), (1, 0, 0), (0, 2, 1)])
def test_a_contact_that_changes_companies_ends_at_the_new_one_in_whatever_order(times):
    told = [each | {"occurredAt": AT + at} for each, at in zip((LEFT_A, JOINED_B, NOW_B), times, strict=True)]
    arrays = [[*part] for n in (2, 3) for part in permutations(told, n)]
    for array in arrays:
        ends = links_after(array, {f"contact:{CONTACT}": f"{A}|"})[f"contact:{CONTACT}"]
        assert ends == (f"{B}|"), array
        assert sent(*array) == sent(*reversed(array))


def test_the_last_of_several_companies_counts_however_they_are_ordered():
    there_and_back = [
        JOINED_B,
        associated("CONTACT_TO_COMPANY", 201, 2, associationRemoved=True, occurredAt=AT + 1),
        associated("CONTACT_TO_COMPANY", 201, 1, occurredAt=AT + 2),
    ]
    for array in permutations(there_and_back):
        assert links_after(array, {})[f"contact:{CONTACT}"] == f"{A}|"
    gone = [*there_and_back, notice("contact.deletion", occurredAt=AT + 2)]
    for array in permutations(gone):
        assert links_after(array, {})[f"contact:{CONTACT}"] == "|"


def test_what_else_is_said_of_a_contact_finds_it_where_it_belongs():
    """The title came between: it must not fall where the contact is nowhere."""
    title, other = changed("contact", "jobtitle", "CTO"), notice("company.creation")
    kinds = [(each.kind, each.claims.crm, each.set) for each in sent(JOINED_B, title, other, LEFT_A)]
    assert kinds == [
        ("contact", A, {}),
        ("contact", B, {}),
        ("contact", None, {"title": "CTO"}),
        ("facts", COMPANY, {}),
    ]


def test_an_address_that_is_told_after_the_company_is_told_with_its_contact():
    """Which is what joins the two."""
    joined, told = sent(JOINED_B, changed("contact", "email", EMAIL))
    assert (joined.claims.contact, told.claims) == (CONTACT, Claims(contact=CONTACT, email=EMAIL))
    links = links_after([JOINED_B, changed("contact", "email", EMAIL)], {})
    company, person = links[f"contact:{CONTACT}"].split("|")
    assert (company, bool(person)) == (B, True)


# -- deals


def test_a_deal_may_come_before_its_company():
    """Nothing but the deal is claimed until the link tells: identity keeps what came before."""
    opened, moved, link = sent(
        notice("deal.creation"), changed("deal", "dealstage", "closedwon"), associated("DEAL_TO_COMPANY", 77, 5543)
    )
    assert opened.claims == moved.claims == Claims(opportunity=DEAL)
    assert (link.kind, link.claims) == ("link", Claims(opportunity=DEAL, crm=COMPANY))
    resolver = Resolver(b"secret")
    assert resolver.resolve(opened, {}).parked == "unknown_opportunity"
    assert resolver.resolve(opened, resolver.resolve(link, {}).learned).account == COMPANY


def test_a_deal_is_linked_to_its_company():
    found = only(associated("DEAL_TO_COMPANY", 77, 5543))
    assert (found.kind, found.claims) == ("link", Claims(opportunity=DEAL, crm=COMPANY))
    assert sent(associated("DEAL_TO_COMPANY", 77, 5543, associationRemoved=True)) == []


def test_a_deal_opens_and_moves_on():
    opened, moved = sent(notice("deal.creation"), changed("deal", "dealstage", "presentationscheduled"))
    assert (opened.name, opened.props) == ("opportunity_created", {"opportunity": DEAL})
    assert (moved.name, moved.claims) == ("opportunity_stage_changed", Claims(opportunity=DEAL))
    # The label, which is what people write into rules.
    assert moved.props == {
        "opportunity": DEAL, "stage": "Presentation Scheduled", "is_closed": False, "is_won": False,
    }  # fmt: skip


@pytest.mark.parametrize(("stage", "won"), [("closedwon", True), ("closedlost", False)])
def test_a_deal_closes(stage, won):
    props = only(changed("deal", "dealstage", stage)).props
    assert (props["is_closed"], props["is_won"]) == (True, won)


def test_of_a_stage_of_the_portals_own_the_id_is_all_we_know():
    assert only(changed("deal", "dealstage", "99812")).props == {"opportunity": DEAL, "stage": "99812"}


def test_what_else_happens_to_a_deal_is_nothing_to_us():
    quiet = [changed("deal", "amount", "5"), changed("deal", "dealstage", ""), notice("deal.deletion")]
    assert sent(*quiet, notice("deal.restore")) == []


def test_other_objects_are_nothing_to_us():
    others = [notice("ticket.creation"), notice("conversation.newMessage"), notice("line_item.deletion")]
    assert sent(*others, notice("object.creation", objectTypeId="2-77")) == []


# -- what is wrong


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (7, "wrong_type"),
        ({}, "missing_field"),
        (notice("company.creation", occurredAt="soon"), "bad_time"),
        (notice("company.creation", occurredAt=1772442100), "absurd_time"),
        (notice("company.creation", objectId=None), "missing_key"),
        (notice("company.creation", objectId="acme"), "bad_key"),
        (notice("company.creation", portalId="acme"), "bad_key"),
        (notice("company.exploded"), "unknown_kind"),
        (notice("planet.creation"), "unknown_kind"),
        (notice("object.creation"), "missing_field"),
        (notice("company.propertyChange", propertyValue="x"), "missing_field"),
        (notice("company.propertyChange", propertyName="industry"), "missing_field"),
        (changed("company", "industry", ["x"]), "wrong_type"),
        (notice("company.merge", primaryObjectId=1), "missing_field"),
        (notice("company.merge", mergedObjectIds=[1]), "missing_key"),
        (notice("contact.associationChange"), "missing_field"),
        (associated("CONTACT_TO_COMPANY", 201, None), "missing_key"),
    ],
)
def test_poison_has_a_name(message, why):
    found = only(message)
    assert (found.reason, bool(found.detail)) == (why, True)


def test_one_bad_notification_does_not_sink_the_array():
    found = sent(INDUSTRY, 7, notice("company.exploded"), notice("company.deletion"))
    assert [isinstance(each, Observation) for each in found] == [True, False, False, True]


@pytest.mark.parametrize(("value", "why"), [(None, "null_value"), (b"[{]", "broken_json"), (b"\xff", "bad_utf8")])
def test_bytes_that_are_no_message(value, why):
    assert [each.reason for each in decode(value, RECEIVED)] == [why]


SAMPLES = [
    INDUSTRY,
    [INDUSTRY, changed("company", "domain", "acme.example"), notice("company.restore")],
    [changed("contact", "jobtitle", "CTO"), changed("contact", "email", "a@b.example")],
    [merged("company", 1, [2, 3], new=4), merged("contact", 1, [2])],
    [associated("CONTACT_TO_COMPANY", 201, 5543), associated("DEAL_TO_COMPANY", 77, 5543)],
    [notice("contact.privacyDeletion"), changed("deal", "dealstage", "closedwon")],
    [
        changed("object", "annualrevenue", "12500000", objectTypeId="0-2"),
        changed("company", "web_technologies", "a;b"),
    ],
]


@settings(max_examples=300, deadline=None)
@given(value=spoilt(SAMPLES))
def test_no_message_raises(value):
    ids = assert_safe(decode, value)
    assert len(ids) == len(set(ids))


@settings(max_examples=300, deadline=None)
@given(value=personal(SAMPLES))
def test_nothing_personal_is_left(value):
    assert_nobody_told(decode, value)
    assert not [each for each in decode(value, RECEIVED) if isinstance(each, Observation) and EMAIL in each.id]
