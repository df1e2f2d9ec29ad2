"""CRM updates by Change Data Capture."""

import json

import pytest

from streams.adapters.salesforce import decode, record_id

ACCOUNT, CONTACT, DEAL = "0015f00002JUZPDAA5", "0035f00002JUZPDAA5", "0065f00002JUZPDAA5"


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
    assert sent(echo) == sent(change("Lead", "CREATE", "00Q5f00002JUZPDAA5")) == []


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (change("Account", "GAP_UPDATE", ACCOUNT), "resync_needed"),
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
