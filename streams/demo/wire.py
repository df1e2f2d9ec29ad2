"""The messages themselves, in the shapes in which Salesforce and Segment send them.

Salesforce: Change Data Capture as the Pub/Sub API delivers it, decoded: every field of the entity is there,
what is not set (CREATE) or not changed (UPDATE) is null. Account updates take the other road, CometD, whose
envelope carries the changed fields only. Segment: calls of analytics.js, as a Kafka destination writes them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec

Topic: TypeAlias = Literal["crm.updates", "web.activity"]
SITE = "https://www.isotherm.example"
DAY = 86_400_000
# From a page's script to the end of Segment's pipe, in ms.
TRANSIT = 40

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECK = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_USER = "0055f000005mc66AAA"
_FIELDS: dict[str, tuple[str, ...]] = {
    "Account": (
        "Name", "Type", "ParentId", "BillingAddress", "Phone", "Website", "Industry", "AnnualRevenue",
        "NumberOfEmployees", "Ownership", "OwnerId", "CreatedDate", "LastModifiedDate",
    ),
    "Contact": (
        "AccountId", "Name", "Title", "Email", "Phone", "HasOptedOutOfEmail", "EmailBouncedReason",
        "EmailBouncedDate", "LeadSource", "OwnerId", "CreatedDate", "LastModifiedDate",
    ),
    "Opportunity": (
        "AccountId", "Name", "StageName", "IsClosed", "IsWon", "Amount", "Probability", "CloseDate",
        "LeadSource", "OwnerId", "CreatedDate", "LastModifiedDate",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    topic: Topic
    key: bytes
    value: bytes


def salesforce_id(prefix: str, serial: int) -> str:
    """15 case-sensitive characters and the 3 that tell their case, so that it survives a spreadsheet."""
    digits = ""
    rest = 61_917_364_224 + serial * 7_919
    while rest:
        rest, digit = divmod(rest, 62)
        digits = _DIGITS[digit] + digits
    body = f"{prefix}5f000{digits:0>7}"
    chunks = (body[i : i + 5] for i in (0, 5, 10))
    return body + "".join(_CHECK[sum(char.isupper() << i for i, char in enumerate(c))] for c in chunks)


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def uuid(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


# -- Salesforce


def created(rng: random.Random, entity: str, record: str, at: int, body: dict[str, Any]) -> Message:
    whole = dict.fromkeys(_FIELDS[entity]) | body
    whole |= {"OwnerId": _USER, "CreatedDate": at, "LastModifiedDate": at}
    return _crm(record, {"ChangeEventHeader": _header(rng, entity, record, at), **whole})


def changed(rng: random.Random, entity: str, record: str, at: int, body: dict[str, Any]) -> Message:
    """An UPDATE as Pub/Sub tells it. A None in `body` means that the field was emptied."""
    whole = dict.fromkeys(_FIELDS[entity]) | body | {"LastModifiedDate": at}
    return _crm(record, {"ChangeEventHeader": _header(rng, entity, record, at, body), **whole})


def changed_cometd(rng: random.Random, entity: str, record: str, at: int, body: dict[str, Any]) -> Message:
    """The same in CometD's envelope: changed fields only, date-times as text."""
    payload = {
        "ChangeEventHeader": _header(rng, entity, record, at, body),
        **body,
        "LastModifiedDate": iso(at - at % 1000).replace(".000Z", "Z"),
    }
    data = {"schema": "IeRuaY6cbI_HsV8Rv1Mc5g", "payload": payload, "event": {"replayId": at % 100_000_000}}
    return _crm(record, {"data": data, "channel": f"/data/{entity}ChangeEvent"})


def _header(
    rng: random.Random, entity: str, record: str, at: int, update: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "entityName": entity,
        "recordIds": [record],
        "changeType": "CREATE" if update is None else "UPDATE",
        "changeOrigin": "com/salesforce/api/soap/60.0;client=SfdcInternalAPI/",
        "transactionKey": uuid(rng),
        "sequenceNumber": 1,
        "commitTimestamp": at,
        "commitNumber": at * 1000 + rng.randrange(1000),
        "commitUser": _USER,
        "nulledFields": [name for name, value in (update or {}).items() if value is None],
        "diffFields": [],
        "changedFields": [] if update is None else [*update, "LastModifiedDate"],
    }


def _crm(record: str, payload: dict[str, Any]) -> Message:
    return Message("crm.updates", record.encode(), msgspec.json.encode(payload))


# -- Segment


@dataclass(frozen=True, slots=True)
class Browser:
    """Who sends a call, as far as the page's script knows; of an anonymous visitor neither user nor group."""

    anonymous: str
    user: str | None = None
    group: str | None = None


def call(rng: random.Random, kind: str, at: int, browser: Browser, path: str, **body: Any) -> Message:
    """One call, made `at`; Segment's three other times agree with it."""
    context: dict[str, Any] = {
        "ip": f"203.0.113.{int(browser.anonymous[:2], 16) % 254 + 1}",
        "library": {"name": "analytics.js", "version": "2.11.1"},
        "locale": "en-US",
        "timezone": "Europe/Berlin",
        "page": _page(path),
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    }
    if browser.group and kind != "group":
        context["groupId"] = browser.group
    payload = {
        "anonymousId": browser.anonymous,
        "channel": "browser",
        "context": context,
        "integrations": {"All": True},
        "messageId": f"ajs-next-{at}-{uuid(rng)}",
        "originalTimestamp": iso(at),
        "receivedAt": iso(at + TRANSIT),
        "sentAt": iso(at + TRANSIT),
        "timestamp": iso(at),
        "type": kind,
        "userId": browser.user,
        "version": "2",
        **body,
    }
    return Message("web.activity", (browser.user or browser.anonymous).encode(), msgspec.json.encode(payload))


def act(rng: random.Random, at: int, browser: Browser, deed: str | tuple[str, dict[str, Any]]) -> Message:
    """A page view of the path, or a tracked event of that name with its properties."""
    if isinstance(deed, str):
        properties = _page(deed)
        return call(rng, "page", at, browser, deed, name=properties["title"], properties=properties)
    event, properties = deed
    return call(rng, "track", at, browser, "/docs/api", event=event, properties=properties)


def _page(path: str) -> dict[str, str]:
    title = path.strip("/").split("/")[-1].replace("-", " ").capitalize()
    return {"path": path, "referrer": "", "search": "", "title": title, "url": SITE + path}
