"""Every adapter, and the way on, against messages that somebody or something has damaged.

20,000 messages over all adapters; `ISOTHERM_FUZZ=1000000` sets another number (`make fuzz`), and
`ISOTHERM_FUZZ_SEED` which ones. Each message has a seed of its own: a failure names it and shows the bytes.

Most of them are only changed in their structure, and a person is planted in them, whom nothing that
enters the log may tell of. The others are torn as bytes besides.
"""

import importlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import msgspec
import pytest
from mutation import EMAIL, NAME, PHONE, RECEIVED, changed, damaged, messages, planted, spots, written

from rules.records import decode_record
from streams.adapters import ADAPTERS
from streams.adapters.base import Observation, Reason, Rejected
from streams.adapters.times import EARLIEST, LATEST
from streams.adapters.wire import MAX_CLAIM, MAX_KEY
from streams.identity import Resolver
from streams.routing import route, take_apart
from streams.topics import ACCOUNT_LOG, WEB_ACTIVITY

COUNT = int(os.environ.get("ISOTHERM_FUZZ", "20000"))
SEED = os.environ.get("ISOTHERM_FUZZ_SEED", "1")
MAX_ID = 256  # characters of an observation's id: that of its message, and what tells it from its neighbours
_NOBODY = re.compile("|".join(map(re.escape, (EMAIL, PHONE, NAME))))
RESOLVER = Resolver(b"secret")

CLAIMED = {"domain": "acme.example", "email": "ann@acme.example", "at": "2026-03-02T09:15:00Z", "id": "e-1"}
RECORDS = [
    CLAIMED | {"kind": "activity", "name": "demo_requested", "props": {"seats": 25, "tags": ["a"]}},
    CLAIMED | {"kind": "facts", "set": {"employees": 329, "industry": "retail"}, "clear": ["plan"]},
    CLAIMED | {"kind": "contact", "set": {"title": "CTO"}, "contact": "salesforce:0035f00002JUZPDAA5"},
    {"kind": "delete", "account": "a1", "at": 1772442000000, "origin": "import", "source": "crm"},
    {"kind": "restore", "crm": "salesforce:0015f00002JUZPDAA5", "at": 1772442000000},
]
CALL = {"messageId": "m-1", "userId": "u-1", "anonymousId": "a-1", "timestamp": "2026-03-03T10:00:00Z"}
CALLS = [
    CALL | {"type": "identify", "traits": {"email": "ann@acme.example", "title": "CTO", "plan": None}},
    CALL | {"type": "alias", "previousId": "a-1"},
    CALL | {"type": "screen", "name": "Billing", "properties": {"tab": "cards"}},
    CALL | {"type": "page", "properties": None, "context": {"groupId": 7, "page": {"path": "/pricing"}}},
]
HEADER = {
    "recordIds": ["0035f00002JUZPDAA5"], "transactionKey": "tx", "sequenceNumber": 1, "changeType": "UPDATE",
    "commitTimestamp": 1772442000000, "changeOrigin": "", "changedFields": [], "nulledFields": ["Department"],
}  # fmt: skip
RECORD = {
    "Title": "CTO", "Email": "ann@acme.example", "AccountId": "0015f00002JUZPDAA5", "StageName": "Won",
    "Amount": 5.5, "CloseDate": 20514, "HasOptedOutOfEmail": True, "Status": "Completed", "Company": "Acme",
    "Website": "acme.example", "WhoId": "0035f00002JUZPDAA5", "Name": {"FirstName": "Ann", "LastName": "Ray"},
}  # fmt: skip
CHANGES = [
    {"ChangeEventHeader": HEADER | {"entityName": entity, "changeType": kind}, **RECORD}
    for entity in ("Contact", "Lead", "Opportunity", "Task", "CampaignMember")
    for kind in ("CREATE", "UPDATE", "DELETE", "UNDELETE", "GAP_UPDATE")
]


def corpus(format):
    """The samples of the ecosystem, and those of the adapter's own tests."""
    samples = json.loads(Path(__file__).with_name("samples.json").read_text())
    theirs = [
        json.loads(message)
        for sample in samples
        if sample["format"] == format
        for message in messages(sample["payload"])
        if message is not None
    ]
    more = {"canonical": RECORDS, "segment": CALLS, "salesforce": CHANGES}.get(format)
    theirs += importlib.import_module(f"test_{format}").SAMPLES if more is None else more
    return [json.loads(_NOBODY.sub("x", json.dumps(each))) for each in theirs]  # but for those who are planted


@dataclass
class Message:
    """As it comes from Kafka."""

    value: bytes
    headers: list = field(default_factory=list)
    partition: int = 0
    offset: int = 7


def routed(format, value):
    """What the router makes of the message, with nothing known of anybody yet."""
    seen = take_apart(WEB_ACTIVITY, [Message(value, [("format", format.encode())])], RECEIVED)
    return route(WEB_ACTIVITY, seen, {}, RESOLVER, RECEIVED).outbound


def check(format, value, nobody_told):
    for part in ADAPTERS[format](value, RECEIVED):
        if isinstance(part, Rejected):
            assert isinstance(part.reason, Reason)
            part.detail.encode()
        else:
            check_observation(format, part, nobody_told)
    for outbound in routed(format, value):
        if outbound.topic == ACCOUNT_LOG:
            decode_record(outbound.value)


def check_observation(format, part, nobody_told):
    assert isinstance(part, Observation)
    assert type(part.at) is int
    assert EARLIEST <= part.at < LATEST
    assert len(part.id) <= MAX_ID
    assert len(part.name) <= MAX_KEY
    assert bool(part.name) == (part.kind == "activity")
    assert not part.merged or part.kind == "merge"
    for name in part.claims.__struct_fields__:
        said = getattr(part.claims, name) or ()
        for each in (said,) if isinstance(said, str) else said:
            assert 0 < len(each) <= (MAX_CLAIM if name in ("email", "domain") else MAX_ID)
    msgspec.json.encode(part)
    assert all(-(2**63) <= number < 2**63 for number in integers([part.set, part.props]))
    entering = json.dumps(
        [part.name, part.set, part.clear, part.props, part.id], allow_nan=False, ensure_ascii=False
    )
    entering.encode()
    if nobody_told:
        assert not [each for each in (EMAIL, PHONE, NAME) if each in entering], entering


def integers(value):
    return [within[key] for within, key in spots(value) if type(within[key]) is int]


def spoilt_message(random, format, samples):
    """The bytes, and whether nothing personal may be left of them."""
    value = changed(random, samples)
    if random.random() < 0.6:
        return written(random, planted(random, value, pairs=format == "ga4")), True
    return damaged(random, written(random, value)), False


@pytest.mark.parametrize("format", ADAPTERS)
def test_nothing_breaks_an_adapter(format):
    samples = corpus(format)
    print(f"{format}: {COUNT // len(ADAPTERS):,} messages, ISOTHERM_FUZZ_SEED={SEED}")
    for number in range(COUNT // len(ADAPTERS)):
        random = Random(f"{SEED}/{format}/{number}")
        value, nobody_told = spoilt_message(random, format, samples)
        try:
            check(format, value, nobody_told)
        except Exception as error:
            pytest.fail(f"{format}, message {number} of seed {SEED}: {error!r}\n{value!r}")
