"""Every sample message of the ecosystem, and what we make of it.

The samples' shapes follow the sources they cite; their values are invented. `normalised` is what each
should become, in neutral words: `AGREES` says once how those words and our observations go together,
and the tables above it where we differ and why.
"""

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutation import messages, spoilt

from streams.adapters import ADAPTERS, decode_any
from streams.adapters.base import Observation, Reason, Rejected
from streams.adapters.names import snake
from streams.adapters.times import instant
from streams.identity import Resolver

SAMPLES = {sample["id"]: sample for sample in json.loads(Path(__file__).with_name("samples.json").read_text())}
PAYLOADS = [sample["payload"] for sample in SAMPLES.values()]
# Samples of systems that we have no adapter for.
WHY_NOT = {
    "CL-1": "close_crm: an opportunity's change by webhook; Close has no adapter here",
    "GPX-1": "gainsight_px: a sign-up by webhook; Gainsight PX has no adapter here",
}
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
            "clear": ("industry", "annual_revenue", "ownership", "owner", "parent"),
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


def decoded(sample_id):
    sample = SAMPLES[sample_id]
    return [
        found
        for message in messages(sample["payload"])
        for found in decode_any(sample["format"], message, RECEIVED)
    ]


def said(found, name):
    if name == "at":
        return found.at
    return getattr(found, name) if hasattr(found, name) else getattr(found.claims, name)


@pytest.mark.parametrize("sample_id", EXPECTED)
def test_a_sample_becomes(sample_id):
    expected = [dict(one, at=instant(one["at"], "")) if "at" in one else one for one in EXPECTED[sample_id]]
    found = decoded(sample_id)
    assert len(found) == len(expected)
    for observation, fields in zip(found, expected, strict=True):
        assert {name: said(observation, name) for name in fields} == fields


# -- `normalised`, and how our observations say it

# Their fact or prop, by format, and ours. What stands in no table has our spelling of its name; None is not kept.
NAMES = {
    "segment": {
        "address.city": "city", "address.country": "country", "address.state": "region",
        "address.postalCode": None, "address.street": None,  # of an address, what segments are made of
    },
    "salesforce": {
        "Type": "account_type", "NumberOfEmployees": "employees", "StageName": "stage",
        "BillingAddress.City": "city", "BillingAddress.Country": "country",
        "BillingAddress.Street": None, "BillingAddress.PostalCode": None,
        "Phone": None,  # never enters the log
        "CloseDate": None,  # of a stage's change we keep stage, outcome and amount
    },
    "hubspot": {"annualrevenue": "annual_revenue", "lifecyclestage": "lifecycle_stage"},
    "ga4": {"page_location": "url"},  # a page has the same props whoever tells of it
}  # fmt: skip
EVENTS = {"page": "page_viewed", "page_view": "page_viewed"}

# A value we have otherwise.
VALUES = {
    ("hubspot", "annualrevenue"): 12_500_000,  # the fact is a number, which HubSpot writes as text
    # An instant without its schema is a number of nobody knows what: a fact nobody asks for stays as it is.
    ("debezium", "updated_at"): 1772442000000000,
}
# The samples leave out the schema, without which nobody can tell these from other numbers or text: refused by
# name, and the rest of the row counts. With the schema they are read: test_debezium.
REFUSED = {("debezium", "arr"), ("debezium", "renewal_date")}

# Their `dedupe_id` and our id.
SAME_ID = {
    "segment": str.__eq__, "salesforce": str.__eq__, "snowplow": str.__eq__, "posthog": str.__eq__,
    # Both forms of one change have one id, and the value in it is a digest: an id enters the log.
    "hubspot": lambda theirs, ours: theirs.replace("/object.", "/company.").rpartition("/")[0]
    == ours.rpartition("/")[0],
    # Rows of one snapshot share a position: the table and the row's id stand between.
    "debezium": lambda theirs, ours: (theirs.split("/")[0], theirs.split("/")[-1])
    == (ours.split("/")[0], ours.split("/")[-1]),
    # "<derived: client_id+timestamp+index>", as a digest
    "ga4": lambda theirs, ours: bool(re.fullmatch("[0-9a-f]{24}", ours)),
}  # fmt: skip

# Where the samples leave the choice. `our-segmenter` is not what we call ourselves, and Rating no fact of ours.
CHOSEN = {"SEG-10": "store as account trait", "SF-C13": "apply"}

# What came before a sample that is sent again, where it is no sample itself.
EARLIER = {"HS-P2": {"eventId": 1000, "attemptNumber": 0}}


def observed(found, kind):
    return [each for each in found if isinstance(each, Observation) and each.kind == kind]


def flat(said, prefix=""):
    """`{"address": {"city": "Berlin"}}` as `{"address.city": "Berlin"}`."""
    whole = {}
    for name, value in said.items():
        whole |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return whole


def ours(sample, said):
    """Their values under our names: those to find, and the names of those that are refused."""
    format, kept, refused = sample["format"], {}, []
    for theirs, value in flat(said).items():
        name = NAMES.get(format, {}).get(theirs, snake(theirs))
        if (format, theirs) in REFUSED:
            refused.append(name)
        elif name:
            kept[name] = VALUES.get((format, theirs), value)
    return kept, refused


def record(sample, id):
    system = {"salesforce": "salesforce", "hubspot": "hubspot", "debezium": "crm"}.get(sample["format"])
    return f"{system}:{id}" if system else id


def whose(each):
    return each.claims.crm or each.claims.group


def told_of(op, sample, each):
    """Whether the observation has the time and the id that the sample gives it."""
    at = {"<receivedAt>": RECEIVED}.get(op["event_time"]) or instant(op["event_time"], "")
    return each.at == at and ("dedupe_id" not in op or SAME_ID[sample["format"]](op["dedupe_id"], each.id))


def attrs(op, sample, found):
    kind = {"account": "facts", "company": "facts", "contact": "contact", "opportunity": "activity"}[op["entity"]]
    values, refused = ours(sample, op["set"])
    if not values and not refused:  # nothing is left of it
        assert found == []
        return found
    (each,) = observed(found, kind)
    id = {"facts": whose(each), "contact": each.claims.contact, "activity": each.claims.opportunity}[kind]
    assert id == record(sample, op["id"])
    assert told_of(op, sample, each)
    said = each.props if kind == "activity" else each.set
    assert {name: said.get(name) for name in values} == values
    assert {name for name, value in values.items() if value is None} <= set(each.clear)
    assert bool(each.clear) or not op.get("replace")
    rejections = [part for part in found if isinstance(part, Rejected)]
    assert [part.detail.split()[0] for part in rejections] == refused
    assert {part.reason for part in rejections} <= {Reason.BAD_VALUE}
    return [each, *rejections]


def link(op, sample, found):
    """Whoever says both teaches that they belong together: no observation of its own is needed."""
    linking = [each for each in found if isinstance(each, Observation) and each.claims.user == op["user"]]
    assert [(whose(each), told_of(op, sample, each)) for each in linking] == [(op["account"], True)]
    return linking


def event(op, sample, found):
    name, props = EVENTS.get(op["name"], snake(op["name"])), ours(sample, op.get("props", {}))[0]
    (each,) = [each for each in observed(found, "activity") if each.name == name]
    assert (whose(each), each.claims.user) == (op.get("account"), op.get("user"))
    assert told_of(op, sample, each)
    assert {prop: each.props[prop] for prop in props} == props
    return [each]


def parked(op, sample, found):
    """Of a visitor and of nobody else: identity keeps it until the visitor is known."""
    (each,) = event(op, sample, found)
    claimed = {name: said for name in each.claims.__struct_fields__ if (said := getattr(each.claims, name))}
    assert claimed == {"anonymous": op["anonymous_id"]}
    return [each]


def ignored(op, sample, found):
    """The same id for what says the same: the fold drops it. Nothing at all for what says nothing."""
    if not op["reason"].startswith("duplicate"):
        return []  # checked with the other ops of the sample: what nobody asked for is a failure
    if (earlier := re.match(r"duplicate of (\S+)", op["reason"])) is not None:
        before = decoded(earlier[1])
    else:
        first = [each | EARLIER[sample["id"]] for each in sample["payload"]]
        assert first != sample["payload"]
        before = decode_any(sample["format"], json.dumps(first).encode(), RECEIVED)
    assert [each.id for each in found if isinstance(each, Observation)] == [
        each.id for each in before if isinstance(each, Observation)
    ]
    return found


def lifecycle(kind):
    def check(op, sample, found):
        (each,) = observed(found, kind)
        assert record(sample, op["id"]) == (each.claims.crm or each.claims.contact)
        assert told_of(op, sample, each)
        return [each]

    return check


def known(op, sample, found):
    (each,) = lifecycle("facts")(op, sample, found)
    assert (each.set, each.clear) == ({}, ())
    return [each]


def resync(op, sample, found):
    """Marked as stale, or refused with that word for whoever must read the system again."""
    (each,) = found
    if isinstance(each, Rejected):
        assert each.reason == Reason.RESYNC_NEEDED
    else:
        assert each.kind == "stale"
    return found


def chosen(op, sample, found):
    assert CHOSEN[sample["id"]] in op["choices"]
    assert {(each.kind, whose(each)) for each in found} <= {("facts", record(sample, op["account"]))}
    return found


AGREES = {
    "attrs": attrs, "link": link, "event": event, "event_for_user": event, "park_until_identified": parked,
    "ignore": ignored, "delete": lifecycle("delete"), "restore": lifecycle("restore"),
    "erase": lifecycle("erase"), "known": known, "mark_entity_stale": resync, "delete_all": resync,
    "needs_policy": chosen,
}  # fmt: skip


@pytest.mark.parametrize("sample_id", [*SAMPLES, *WHY_NOT])
def test_a_sample_says_what_it_should(sample_id):
    if sample_id in WHY_NOT:
        pytest.skip(f"{sample_id}, {WHY_NOT[sample_id]}")
    sample = SAMPLES[sample_id]
    found = decoded(sample_id)
    asked_for = [each for op in sample["normalised"] for each in AGREES[op["op"]](op, sample, found)]
    assert [each for each in found if each not in asked_for] == []


def test_every_sample_is_checked_or_left_out_by_name():
    assert set(EXPECTED) <= set(SAMPLES)
    assert not set(WHY_NOT) & set(SAMPLES)
    assert {sample["format"] for sample in SAMPLES.values()} | {"canonical", "cloudevents"} == set(ADAPTERS)
    assert all(sample["normalised"] for sample in SAMPLES.values())


# -- ids


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
            resolver.link_keys(found)
            resolver.resolve(found, {})
