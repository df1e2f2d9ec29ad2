"""What an adapter makes of a message: observations, each with the identities the message claims.

An adapter is a pure function `decode(value, received) -> list[Observation | Rejected]`. It knows a
wire format; it does not know which account a message belongs to. That is `identity`'s work.

One message may carry many things, so the answer is a list that mixes both: a part that cannot be
used is rejected alone, its neighbours count. An empty list means: understood, and nothing in it
for us.

What leaves an adapter may enter the log, `Claims` excepted: `set` and `props` hold no e-mail
address, name of a person or phone number.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from rules.records import FactValue, Origin

Kind: TypeAlias = Literal["activity", "facts", "contact", "delete", "restore", "link", "merge", "erase", "stale"]


# Structs, not dataclasses: a frozen dataclass of this size costs 1.5 µs to build, a struct 0.3 µs.
# A message's claims are looked up twice: their hash is kept.
class Claims(msgspec.Struct, frozen=True, kw_only=True, gc=False, cache_hash=True):
    """Who a message says it is about. Everything is optional; the strongest present one decides."""

    account: str | None = None  # our own account id (canonical records only)
    crm: str | None = None  # "salesforce:0015f00002JUZPDAA5"
    also: tuple[str, ...] = ()  # of the same company, its records in other systems: "hubspot:5543"
    group: str | None = None  # Segment groupId
    contact: str | None = None  # "salesforce:0035f..."
    opportunity: str | None = None  # "salesforce:0065f..."
    user: str | None = None  # Segment userId
    anonymous: str | None = None  # Segment anonymousId
    email: str | None = None
    domain: str | None = None  # the company's web domain or URL, as the message writes it
    person: str | None = None  # an already hashed person id (canonical records only)


class Observation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing a message tells us. `kind` says which of the other fields are meant.

    A `link` teaches who belongs to whom and says nothing else: identity learns from it, and no
    record is appended. A `merge` says that the records in `merged` are the one that it claims from
    now on, companies or contacts. `erase` is a person's wish to be forgotten. `stale` says that the
    source could not tell what changed at the account: what it last said may be wrong until it is
    read again.
    """

    kind: Kind
    claims: Claims
    at: int  # UTC ms
    # The source's own event id, for sources that send twice. Unique to the observation: two
    # observations of one message never share it.
    id: str = ""
    name: str = ""  # activity
    props: dict[str, Any] = msgspec.field(default_factory=dict)  # activity
    set: dict[str, FactValue] = msgspec.field(default_factory=dict)  # facts, contact
    clear: tuple[str, ...] = ()  # facts, contact
    gone: bool = False  # contact: no longer one of the account's contacts
    origin: Origin = "live"
    merged: tuple[str, ...] = ()  # merge: ids like those of the claim, "hubspot:101"
    source: str = ""  # the system that says so, if it is not the format's own: an enrichment, a person's hand


class Reason(StrEnum):
    """Why something was rejected: the word in dead letters and metric labels. Never renamed."""

    NULL_VALUE = "null_value"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    BAD_UTF8 = "bad_utf8"
    BROKEN_JSON = "broken_json"
    HUGE_NUMBER = "huge_number"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_KIND = "unknown_kind"
    UNKNOWN_FORMAT = "unknown_format"
    MISSING_KEY = "missing_key"  # nothing says whom the message is about
    BAD_KEY = "bad_key"
    BAD_NAME = "bad_name"
    BAD_VALUE = "bad_value"  # one value of a fact; the fact stays as it was
    BAD_TIME = "bad_time"
    NAIVE_TIME = "naive_time"
    ABSURD_TIME = "absurd_time"
    RESYNC_NEEDED = "resync_needed"
    UNDECODED_BITMAP = "undecoded_bitmap"


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """A message, or one part of it, that cannot be used: goes to dead letters with its bytes."""

    reason: str  # a `Reason`, for counting
    detail: str = ""  # for the person who must fix it


Decoded: TypeAlias = list[Observation | Rejected]


class Decode(Protocol):
    """A wire format. Pure; never raises, whatever the bytes. `received` is UTC ms."""

    def __call__(self, value: bytes | None, received: int) -> Decoded: ...


class DecodeAny(Protocol):
    """The same of any format by its name. A format that does not exist is a rejection."""

    def __call__(self, format: str, value: bytes | None, received: int) -> Decoded: ...
