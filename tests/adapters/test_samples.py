"""Every sample message of the ecosystem, and what we make of it.

The samples' shapes follow the sources they cite; their values are invented.
"""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutation import spoilt

from streams.adapters import ADAPTERS, decode_any
from streams.adapters.base import Observation, Rejected
from streams.adapters.times import instant
from streams.identity import Resolver

SAMPLES = {sample["id"]: sample for sample in json.loads(Path(__file__).with_name("samples.json").read_text())}
PAYLOADS = [sample["payload"] for sample in SAMPLES.values()]
ACME = "salesforce:0015f00002JUZPDAA5"
TRANSACTION = "0002343d-9d90-e395-ed20-cf416ba652ad"
RECEIVED = instant("2026-03-05T00:00:00Z", "")

EXPORTED = {
    "kind": "activity", "name": "report_exported", "at": "2026-03-03T10:05:00Z", "id": "ajs-022bb90c-0003",
    "group": "acme", "user": "u-1001", "props": {"format": "csv", "rows": 12000, "plan": "trial"},
}  # fmt: skip

# Of each sample, what it must yield: these fields, and claims, have these values.
EXPECTED = {
    "SEG-01": [{
        "kind": "facts", "at": "2026-03-02T09:15:00.111Z", "id": "ajs-022bb90c-0001",
        "group": "acme", "user": "u-1001", "domain": "https://acme.example",
        # Under our names; of the address what segments are made of. Street and postal code are not kept.
        "set": {
            "name": "Acme GmbH", "industry": "Technology", "employees": 329, "plan": "enterprise",
            "total_billed": 830, "website": "https://acme.example", "created_at": "2024-05-01T00:00:00Z",
            "city": "Berlin", "country": "DE", "region": "BE",
        },
    }],
    "SEG-02": [{"kind": "facts", "group": "acme", "set": {"industry": "Software"}, "clear": ("plan",)}],
    "SEG-03": [EXPORTED],
    "SEG-05": [{
        "kind": "activity", "name": "page_viewed", "at": "2026-03-03T10:07:00Z", "user": None,
        "anonymous": "507f191e-810c-4972-9de8-60ea00000001",
        "props": {
            "path": "/pricing", "referrer": "", "search": "", "title": "Pricing", "name": "Pricing",
            "url": "https://www.example.com/pricing",
        },
    }],
    # Two hours fast: `timestamp` has been corrected, `originalTimestamp` has not.
    "SEG-07": [{"kind": "activity", "name": "signed_in", "at": "2026-03-03T10:00:00Z", "props": {}}],
    # A duplicate is for the fold to drop: the adapter gives both the same id.
    "SEG-08": [EXPORTED],
    "SEG-09": [
        {"kind": "activity", "name": "a", "at": "2026-03-03T10:00:00Z", "id": "m1", "group": "acme"},
        {"kind": "activity", "name": "b", "at": "2026-03-05T00:00:00Z", "id": "m2", "group": "acme"},
    ],
    # Another system's audience is a fact like any other.
    "SEG-10": [{"kind": "facts", "group": "acme", "set": {"active_accounts": True}}],
    # Amounts as text stay text here; a rule's declared type decides.
    "RS-02": [{
        "kind": "activity", "name": "order_completed", "at": "2026-03-04T09:10:00Z", "id": "b3d1-0001",
        "group": "initech", "user": "user12345", "props": {"revenue": "120.50", "currency": "EUR"},
    }],
    "JT-01P": [{
        "kind": "activity", "name": "page_viewed", "at": "2026-03-04T09:20:00Z", "id": "jm-1",
        "user": "user@example.com", "email": "user@example.com",
    }],
    "SF-C1": [{
        "kind": "facts", "at": "2026-03-02T09:00:00Z", "id": f"{TRANSACTION}/1/0015f00002JUZPDAA5",
        "crm": ACME, "domain": "acme.example", "clear": (),
        "set": {
            "name": "Acme GmbH", "account_type": "Prospect", "city": "Berlin", "country": "DE",
            "website": "acme.example", "industry": "Technology", "annual_revenue": 12500000.0,
            "employees": 329, "owner": "0055f000005mc66AAA",
        },
    }],
    # A telephone number is nothing to us, and nothing else changed.
    "SF-C2": [],
    "SF-C3": [{"kind": "facts", "crm": ACME, "set": {"employees": 450}, "clear": ("industry",)}],
    "SF-C6": [{"reason": "resync_needed"}],
    "SF-C7": [{"kind": "delete", "at": "2026-03-02T11:00:00Z", "crm": ACME}],
    "SF-C8": [
        {"kind": "restore", "at": "2026-03-02T12:00:00Z", "crm": ACME},
        {
            "kind": "facts", "id": f"{TRANSACTION}/1/0015f00002JUZPDAA5",
            "set": {
                "name": "Acme GmbH", "account_type": "Prospect", "website": "acme.example",
                "employees": 450, "city": "Potsdam", "country": "DE",
            },
            # All that is not empty is sent: what is left out is empty now.
            "clear": ("industry", "annual_revenue", "ownership", "owner"),
        },
    ],
    "SF-C10": [{"reason": "resync_needed"}],
    # The account is unknown here: the opportunity's link will tell.
    "SF-C12": [{
        "kind": "activity", "name": "opportunity_stage_changed", "at": "2026-03-02T16:00:00Z", "crm": None,
        "opportunity": "salesforce:0065f00000Opp01AAA", "id": f"{TRANSACTION}/1/0065f00000Opp01AAA",
        "props": {
            "opportunity": "salesforce:0065f00000Opp01AAA", "stage": "Closed Won", "is_closed": True,
            "is_won": True, "amount": 98000.0,
        },
    }],
    # Another program's write, and `Rating` is none of our facts. Our own is tested in test_salesforce.
    "SF-C13": [],
}  # fmt: skip


def encoded(sample_id):
    return json.dumps(SAMPLES[sample_id]["payload"]).encode()


def decoded(sample_id):
    return decode_any(SAMPLES[sample_id]["format"], encoded(sample_id), RECEIVED)


def said(found, name):
    if name == "at":
        return found.at
    return getattr(found, name) if hasattr(found, name) else getattr(found.claims, name)


@pytest.mark.parametrize("sample_id", SAMPLES)
def test_a_sample_becomes(sample_id):
    expected = [dict(one, at=instant(one["at"], "")) if "at" in one else one for one in EXPECTED[sample_id]]
    found = decoded(sample_id)
    assert len(found) == len(expected)
    for observation, fields in zip(found, expected, strict=True):
        assert {name: said(observation, name) for name in fields} == fields


def test_a_resent_message_has_the_same_id_and_another_message_has_not():
    ids = [decoded(sample_id)[0].id for sample_id in ("SEG-03", "SEG-08", "SEG-07")]
    assert ids[0] == ids[1] != ids[2]


def test_observations_of_one_message_have_ids_of_their_own():
    for sample_id in SAMPLES:
        ids = [found.id for found in decoded(sample_id) if isinstance(found, Observation)]
        assert len(ids) == len(set(ids))


# Whatever is done to a message: an answer, never an exception, and only sound observations in it.


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=spoilt(PAYLOADS) | st.binary(), format=st.sampled_from([*ADAPTERS, "unheard-of"]))
def test_no_message_raises(value, format):
    resolver = Resolver(b"secret")
    for found in decode_any(format, value, RECEIVED):
        if isinstance(found, Rejected):
            assert found.reason
        else:
            json.dumps([found.set, found.props], allow_nan=False).encode()
            resolver.link_keys(found.claims)
            resolver.resolve(found, {})
