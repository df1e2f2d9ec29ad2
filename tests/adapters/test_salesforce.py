"""CRM updates by Change Data Capture."""

import json

import pytest

from rules.sources import Sources
from streams.adapters.salesforce import decode, decoder, record_id

ACCOUNT, CONTACT, DEAL = "0015f00002JUZPDAA5", "0035f00002JUZPDAA5", "0065f00002JUZPDAA5"
LEAD, MEMBER, TASK = "00Q5f00002JUZPDAA5", "00v5f00002JUZPDAA5", "00T5f00002JUZPDAA5"


def change(entity, kind, record, *, changed=(), nulled=(), **fields):
    header = {
        "entityName": entity, "recordIds": [record] if isinstance(record, str) else record,
        "changeType": kind, "transactionKey": "tx", "sequenceNumber": 1, "commitTimestamp": 1772442000000,
        "changeOrigin": "com/salesforce/api/soap/60.0;client=SfdcInternalAPI/",
        "changedFields": list(changed), "nulledFields": list(nulled),
    }  # fmt: skip
    return {"ChangeEventHeader": header, **fields}


def sent(message):
    return decode(json.dumps(message).encode(), 0)


def only(message):
    (found,) = sent(message)
    return found


def test_null_means_unchanged_unless_it_is_listed():
    update = change("Account", "UPDATE", ACCOUNT, changed=["Industry", "Type"], Name=None, Industry=None, Type="X")
    found = only(update)
    assert (found.set, found.clear) == ({"account_type": "X"}, ("industry",))


def test_without_lists_what_is_there_counts():
    update = change("Account", "UPDATE", ACCOUNT, nulled=["Industry"], Name="Acme", Type=None)
    found = only(update)
    assert (found.set, found.clear) == ({"name": "Acme"}, ("industry",))


@pytest.mark.parametrize("wrap", [lambda m: {"data": {"payload": m}}, lambda m: {"schema": {}, "payload": m}])
def test_envelopes_are_opened(wrap):
    update = change("Account", "UPDATE", ACCOUNT, Name="Acme")
    assert sent(wrap(update)) == sent(update)


@pytest.mark.parametrize(
    ("changed", "address", "country"),
    [
        (["BillingAddress.Country"], {"Country": "Germany", "CountryCode": None}, "Germany"),
        (["BillingAddress"], {"Country": "Germany", "CountryCode": "DE"}, "DE"),
        (["BillingAddress.CountryCode", "BillingAddress.Country"], {"Country": None}, None),
    ],
)
def test_a_part_of_an_address_changes(changed, address, country):
    found = only(change("Account", "UPDATE", ACCOUNT, changed=changed, BillingAddress=address))
    assert found.set.get("country") == country
    assert ("country" in found.clear) == (country is None)


def test_several_records_are_one_observation_each():
    other = "0015f00002JUZPEAA5"
    found = sent(change("Account", "UPDATE", [ACCOUNT, "bad", other], Type="Customer"))
    assert [one.claims.crm for one in (found[0], found[2])] == [f"salesforce:{ACCOUNT}", f"salesforce:{other}"]
    assert [found[0].id, found[2].id] == [f"tx/1/{ACCOUNT}", f"tx/1/{other}"]
    assert found[1].reason == "bad_key"


def test_a_website_is_also_a_claim():
    assert only(change("Account", "CREATE", ACCOUNT, Website="acme.example")).claims.domain == "acme.example"
    unchanged = change("Account", "UPDATE", ACCOUNT, changed=["Type"], Type="X", Website="old.example")
    assert only(unchanged).claims.domain is None


def test_a_new_contact():
    found = only(
        change("Contact", "CREATE", CONTACT, AccountId=ACCOUNT, Email="bob@acme.example", FirstName="Bob",
               Name={"FirstName": "Bob"}, Title="CTO", Phone="+49", HasOptedOutOfEmail=False)
    )  # fmt: skip
    assert found.kind == "contact"
    assert found.set == {"title": "CTO", "status": "active"}
    claims = found.claims
    assert (claims.contact, claims.crm) == (f"salesforce:{CONTACT}", f"salesforce:{ACCOUNT}")
    assert claims.email == "bob@acme.example"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"HasOptedOutOfEmail": True}, "unsubscribed"),
        ({"HasOptedOutOfEmail": False}, "active"),
        ({"EmailBouncedDate": "2026-03-02T00:00:00Z"}, "bounced"),
        ({"IsEmailBounced": True}, "bounced"),
        ({"HasOptedOutOfEmail": True, "IsEmailBounced": True}, "unsubscribed"),
    ],
)
def test_whether_a_contact_can_be_written_to(fields, status):
    assert only(change("Contact", "UPDATE", CONTACT, changed=list(fields), **fields)).set == {"status": status}


def test_a_bounce_that_is_cleared_says_nothing_about_opting_out():
    assert sent(change("Contact", "UPDATE", CONTACT, nulled=["EmailBouncedDate"])) == []


@pytest.mark.parametrize(
    "message",
    [
        change("Contact", "DELETE", CONTACT),
        change("Contact", "UPDATE", CONTACT, changed=["AccountId"], nulled=["AccountId"], AccountId=None),
    ],
)
def test_a_contact_goes(message):
    found = only(message)
    assert (found.kind, found.gone, found.claims.contact) == ("contact", True, f"salesforce:{CONTACT}")


def test_a_new_opportunity_is_two_activities():
    message = change("Opportunity", "CREATE", DEAL, AccountId=ACCOUNT, StageName="Prospecting", Amount=5)
    created, moved = sent(message)
    assert [created.name, moved.name] == ["opportunity_created", "opportunity_stage_changed"]
    assert created.id != moved.id
    assert moved.props == {"opportunity": f"salesforce:{DEAL}", "stage": "Prospecting", "amount": 5}


def test_an_opportunity_that_changes_hands_is_a_link():
    found = only(change("Opportunity", "UPDATE", DEAL, changed=["AccountId"], AccountId=ACCOUNT))
    assert (found.kind, found.claims.crm) == ("link", f"salesforce:{ACCOUNT}")


def test_an_opportunity_whose_stage_stays_says_nothing():
    message = change("Opportunity", "UPDATE", DEAL, changed=["Amount"], Amount=7, StageName=None)
    assert sent(message) == []


def test_our_own_echo_and_other_entities_are_ignored():
    echo = change("Account", "UPDATE", ACCOUNT, Name="Acme")
    echo["ChangeEventHeader"]["changeOrigin"] = "com/salesforce/api/rest/60.0;client=Isotherm/"
    assert sent(echo) == sent(change("Case", "CREATE", "5005f00002JUZPDAA5")) == []


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (change("Account", "GAP_UPDATE", "001*"), "resync_needed"),
        (change("Account", "GAP_OVERFLOW", []), "resync_needed"),
        (change("Contact", "GAP_UPDATE", CONTACT), "resync_needed"),
        (change("Contact", "UPDATE", "003*"), "resync_needed"),
        (change("Account", "MERGE", ACCOUNT), "unknown_kind"),
        (change("Account", "UPDATE", []), "missing_key"),
        (change("Account", "UPDATE", ACCOUNT, changed=["0x4000000A"]), "undecoded_bitmap"),
        (change("Account", "UPDATE", ACCOUNT, changed=["4-0x02"]), "undecoded_bitmap"),
        (change("Opportunity", "CREATE", DEAL, AccountId=7), "wrong_type"),
        ({"Name": "Acme"}, "missing_field"),
        ({"ChangeEventHeader": {"entityName": 1}}, "wrong_type"),
    ],
)
def test_poison_has_a_name(message, why):
    assert only(message).reason == why


def test_a_value_of_the_wrong_type_is_rejected_alone():
    facts, rejected = sent(change("Account", "CREATE", ACCOUNT, Name="Acme", NumberOfEmployees="many"))
    assert (facts.set, rejected.reason) == ({"name": "Acme"}, "bad_value")


def test_the_short_form_of_an_id_is_completed():
    assert record_id(ACCOUNT[:15]) == record_id(ACCOUNT) == f"salesforce:{ACCOUNT}"
    assert record_id("005A0000000hHhH") == "salesforce:005A0000000hHhHIAU"


# -- companies above companies, and what cannot be known ------------------------------------------------------


def test_the_parent_account_is_a_fact():
    parent = "0015f00002JUZPEAA5"
    found = only(change("Account", "UPDATE", ACCOUNT, changed=["ParentId"], ParentId=parent[:15]))
    assert found.set == {"parent": record_id(parent[:15])}
    cleared = change("Account", "UPDATE", ACCOUNT, changed=["ParentId"], nulled=["ParentId"], ParentId=None)
    assert only(cleared).clear == ("parent",)


def test_a_parent_that_is_no_record_is_rejected_alone():
    facts, rejected = sent(change("Account", "CREATE", ACCOUNT, Name="Acme", ParentId="Acme Holding"))
    assert (facts.set, rejected.reason) == ({"name": "Acme"}, "bad_key")


def test_a_gap_is_told_and_makes_the_accounts_it_names_stale():
    other = "0015f00002JUZPEAA5"
    rejected, *stale = sent(change("Account", "GAP_UPDATE", [ACCOUNT, other], Name=None, Industry=None))
    assert rejected.reason == "resync_needed"
    assert ACCOUNT in rejected.detail
    assert [(each.kind, each.claims.crm) for each in stale] == [
        ("stale", f"salesforce:{ACCOUNT}"), ("stale", f"salesforce:{other}"),
    ]  # fmt: skip
    assert [each.set for each in stale] == [{}, {}]
    assert len({each.id for each in stale}) == 2


def test_a_gap_of_what_we_do_not_read_is_nothing():
    assert sent(change("Case", "GAP_UPDATE", "5005f00002JUZPDAA5")) == []


@pytest.mark.parametrize("text", ["--- \\n+++ 68\\n@@ -1 +1 @@", {"diff": "--- \\n+++ 68\\n@@ -1 +1 @@"}])
def test_of_a_long_text_the_difference_is_not_applied(text):
    reads = decoder(Sources(fields={("salesforce", "account"): {"sub_industry": ("About__c",)}}))
    message = change("Account", "UPDATE", ACCOUNT, changed=["About__c", "Type"], Type="X", About__c=text)
    if isinstance(text, str):
        message["ChangeEventHeader"]["diffFields"] = ["About__c"]
    facts, rejected = reads(json.dumps(message).encode(), 0)
    assert (facts.set, facts.clear, rejected.reason) == ({"account_type": "X"}, (), "resync_needed")
    assert only(message).set == {"account_type": "X"}  # nobody asks for the field


def test_a_difference_whose_field_nobody_has_decoded_is_refused():
    message = change("Account", "UPDATE", ACCOUNT, changed=["Type"], Type="X")
    message["ChangeEventHeader"]["diffFields"] = ["0x010000"]
    assert only(message).reason == "undecoded_bitmap"


@pytest.mark.parametrize(
    ("entity", "record", "field"),
    [("Account", ACCOUNT, "crm"), ("Contact", CONTACT, "contact"), ("Lead", LEAD, "contact")],
)
def test_a_record_that_was_merged_away_says_into_which(entity, record, field):
    """Where the channel is enriched with MasterRecordId; without it, it is a deletion like any other."""
    master = record[:14] + "XAA5"
    found = only(change(entity, "DELETE", record, MasterRecordId=master))
    assert (found.kind, found.merged) == ("merge", (f"salesforce:{record}",))
    assert getattr(found.claims, field) == f"salesforce:{master}"


# -- leads ----------------------------------------------------------------------------------------------------


def test_a_lead_is_a_person_of_a_company_known_by_its_domain():
    found = only(
        change("Lead", "CREATE", LEAD, Email="bob@acme.example", Website="https://acme.example", Title="CTO",
               Company="Acme", LastName="Bob", Status="Open - Not Contacted", HasOptedOutOfEmail=False)
    )  # fmt: skip
    assert (found.kind, found.claims.contact) == ("contact", f"salesforce:{LEAD}")
    assert (found.claims.email, found.claims.domain) == ("bob@acme.example", "https://acme.example")
    assert found.set == {"title": "CTO", "lead_status": "Open - Not Contacted", "status": "active"}
    assert found.claims.crm is None


def test_a_converted_lead_is_the_contact_that_it_became():
    converted = change(
        "Lead", "UPDATE", LEAD, changed=["IsConverted", "ConvertedAccountId", "ConvertedContactId"],
        IsConverted=True, ConvertedAccountId=ACCOUNT, ConvertedContactId=CONTACT,
    )  # fmt: skip
    moved, merged = sent(converted)
    assert (moved.kind, moved.claims.contact, moved.claims.crm) == (
        "contact", f"salesforce:{LEAD}", f"salesforce:{ACCOUNT}",
    )  # fmt: skip
    assert (merged.kind, merged.claims.contact, merged.merged) == (
        "merge", f"salesforce:{CONTACT}", (f"salesforce:{LEAD}",),
    )  # fmt: skip
    assert moved.id != merged.id


def test_a_lead_of_which_nothing_matters_changed_says_nothing():
    assert sent(change("Lead", "UPDATE", LEAD, changed=["Rating"], Rating="Hot")) == []


def test_a_lead_goes():
    found = only(change("Lead", "DELETE", LEAD))
    assert (found.kind, found.gone) == ("contact", True)


# -- campaigns and tasks --------------------------------------------------------------------------------------


def test_being_put_on_a_campaign_is_one_thing_and_responding_another():
    campaign = "7015f00002JUZPDAA5"
    message = change(
        "CampaignMember", "CREATE", MEMBER, CampaignId=campaign, ContactId=CONTACT, Status="Responded",
        HasResponded=True,
    )  # fmt: skip
    added, responded = sent(message)
    assert [added.name, responded.name] == ["campaign_member_added", "campaign_responded"]
    assert added.id != responded.id
    assert responded.claims.contact == f"salesforce:{CONTACT}"
    assert responded.props == {"status": "Responded", "campaign": f"salesforce:{campaign}"}


def test_a_response_belongs_to_the_contact_else_to_the_lead_else_to_nobody():
    update = {"changed": ["HasResponded"], "HasResponded": True}
    for fields, who in (({"ContactId": CONTACT, "LeadId": LEAD}, CONTACT), ({"LeadId": LEAD}, LEAD), ({}, None)):
        found = only(change("CampaignMember", "UPDATE", MEMBER, **update, **fields))
        assert (found.name, found.claims.contact) == ("campaign_responded", who and f"salesforce:{who}")


@pytest.mark.parametrize(
    "message",
    [
        change("CampaignMember", "UPDATE", MEMBER, changed=["Status"], Status="Sent", HasResponded=None),
        change("CampaignMember", "UPDATE", MEMBER, changed=["Status"], Status="Sent", HasResponded=True),
        change("CampaignMember", "DELETE", MEMBER),
        change("Task", "CREATE", TASK, Status="Not Started", TaskSubtype="Call", WhoId=CONTACT),
        change("Task", "UPDATE", TASK, changed=["Subject"], Status="Completed", WhoId=CONTACT),
        change("Task", "CREATE", TASK, Status="Erledigt", IsClosed=False, WhoId=CONTACT),
        change("Task", "DELETE", TASK, Status="Completed"),
    ],
)
def test_what_has_not_happened_says_nothing(message):
    assert sent(message) == []


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"TaskSubtype": "Call"}, "call_logged"),
        ({"TaskSubtype": "Call", "CallType": "Outbound"}, "call_logged"),
        ({"TaskSubtype": "Call", "CallType": "Inbound"}, "call_received"),
        ({"TaskSubtype": "Email"}, "email_sent"),
        ({"TaskSubtype": "ListEmail"}, "email_sent"),
        ({"TaskSubtype": "Task", "Type": "Meeting"}, "meeting_held"),
        ({"TaskSubtype": "Task", "Type": "Other"}, "task_completed"),
        ({}, "task_completed"),
    ],
)
def test_a_task_is_what_was_done(fields, name):
    found = only(change("Task", "CREATE", TASK, Status="Completed", WhoId=CONTACT, **fields))
    assert (found.kind, found.name, found.claims.contact) == ("activity", name, f"salesforce:{CONTACT}")


def test_a_task_says_what_it_was_about_and_when_it_was_done():
    found = only(
        change("Task", "UPDATE", TASK, changed=["Status", "IsClosed", "CompletedDateTime"], Status="Erledigt",
               IsClosed=True, CompletedDateTime="2026-03-01T10:00:00Z", WhoId=LEAD, WhatId=DEAL, AccountId=ACCOUNT,
               TaskSubtype="Call", CallDurationInSeconds=320, CallDisposition="reached", Subject="Call Bob Smith")
    )  # fmt: skip
    claims = found.claims
    assert (claims.contact, claims.opportunity, claims.crm) == (
        f"salesforce:{LEAD}", f"salesforce:{DEAL}", f"salesforce:{ACCOUNT}",
    )  # fmt: skip
    assert found.at == 1772359200000
    assert found.props == {
        "subtype": "Call", "outcome": "reached", "seconds": 320, "opportunity": f"salesforce:{DEAL}",
    }  # fmt: skip


# -- a person's hand, and other systems' ids ------------------------------------------------------------------

HANDS = Sources(
    salesforce_clients=frozenset({"sfdcinternalapi"}), salesforce_except=frozenset({"0055f000005mc66"})
)


@pytest.mark.parametrize(
    ("client", "user", "source"),
    [
        ("SfdcInternalAPI", "0055f000005mc77AAA", "human"),
        ("SfdcInternalAPI", None, "human"),
        ("SfdcInternalAPI", "0055f000005mc66AAA", ""),
        ("Dataloader", "0055f000005mc77AAA", ""),
        (None, "0055f000005mc77AAA", ""),
    ],
)
def test_what_a_person_edits_is_reported_by_a_human(client, user, source):
    message = change("Account", "UPDATE", ACCOUNT, changed=["Type"], Type="X")
    suffix = f";client={client}/" if client else ""
    message["ChangeEventHeader"] |= {"changeOrigin": f"com/salesforce/api/soap/60.0{suffix}", "commitUser": user}
    (found,) = decoder(HANDS)(json.dumps(message).encode(), 0)
    assert found.source == source
    assert only(message).source == ""  # unless it is said by what a person is known


@pytest.mark.parametrize(("told", "also"), [("5543", ("hubspot:5543",)), (5543.0, ("hubspot:5543",)), (None, ())])
def test_a_field_may_hold_the_id_in_another_system(told, also):
    reads = decoder(Sources(ids={"salesforce": {"hubspot": "HubSpot_Id__c"}}))
    (found,) = reads(json.dumps(change("Account", "CREATE", ACCOUNT, HubSpot_Id__c=told)).encode(), 0)
    assert found.claims.also == also


def test_another_systems_id_alone_is_worth_a_message():
    reads = decoder(Sources(ids={"salesforce": {"hubspot": "HubSpot_Id__c"}}))
    message = change("Account", "UPDATE", ACCOUNT, changed=["HubSpot_Id__c"], HubSpot_Id__c="5543")
    (found,) = reads(json.dumps(message).encode(), 0)
    assert (found.kind, found.set, found.claims.also) == ("facts", {}, ("hubspot:5543",))
    message["HubSpot_Id__c"] = "acme"
    assert reads(json.dumps(message).encode(), 0)[0].reason == "bad_key"
