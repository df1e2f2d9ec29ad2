"""What stands in `account.log`: every record that may change anything, keyed by account.

Times are UTC milliseconds. `at` is when it happened, `received` when it was appended; the running
maximum of `received` in a partition is its log_time, the only clock the core knows. No e-mail
address, name of a person or phone number enters the log: a person is a keyed hash.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Annotated, Any, Literal, NewType, TypeAlias

import msgspec

AccountId = NewType("AccountId", str)
PersonId = NewType("PersonId", str)
Origin: TypeAlias = Literal["live", "import", "backfill", "rebuild"]
Scalar: TypeAlias = bool | int | float | str | None
FactValue: TypeAlias = Scalar | list[str]
Instant: TypeAlias = Annotated[int, msgspec.Meta(ge=1, lt=1 << 47)]  # UTC ms, before the year 6429
Key: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


PROVISIONAL = ("visitor:", "domain:", "group:")


def is_provisional(account: str) -> bool:
    """Known by what it was met under only; a link that is learnt later merges it into its account."""
    return account.startswith(PROVISIONAL)


def is_visitor(account: str) -> bool:
    """Somebody of no account yet: what they do is kept for when it is known; no segment has them until then."""
    return account.startswith("visitor:")


def digest_of(key: str) -> str:
    """By what a link is known without its key; a visitor's key is its account without the `visitor:`."""
    return sha1(key.encode(), usedforsecurity=False).hexdigest()[:20]


ACCOUNTS_PER_TICK = 1_000  # at most


class _Record(msgspec.Struct, tag_field="kind", omit_defaults=True, kw_only=True, gc=False):
    received: Instant
    id: str = ""
    source: str = ""
    # `source` is the system that said it; its facts rank by that. `via` is where the message that caused the
    # record stood: (topic/partition, offset, index). The log itself is such a place, for what a fold sends.
    via: tuple[str, int, int] | None = None
    origin: Origin = "live"
    hops: int = 0  # how often it was passed on from an account that had been merged into another
    # Which account it was meant for, where that is another one by now: the CRM record or group that the message
    # claimed (hops = 0), or the account that passed it on.
    under: str = ""
    # The record's own position in the log; set by whoever reads it, never written.
    offset: int = 0


class Activity(_Record, tag="activity"):
    """Something that happened at an account, at `at`."""

    account: Key
    name: str
    at: Instant
    person: str | None = None
    props: dict[str, Any] = msgspec.field(default_factory=dict)


class Facts(_Record, tag="facts"):
    """Current attributes of an account as `source` knew them at `at`; `clear` names emptied ones."""

    account: Key
    at: Instant
    set: dict[str, FactValue] = msgspec.field(default_factory=dict)
    clear: list[str] = msgspec.field(default_factory=list)


class Contact(_Record, tag="contact"):
    """Current attributes of one person at an account. `gone` says the person is no contact any more."""

    account: Key
    person: Key
    at: Instant
    set: dict[str, FactValue] = msgspec.field(default_factory=dict)
    clear: list[str] = msgspec.field(default_factory=list)
    gone: bool = False


class Delete(_Record, tag="delete"):
    """The source deleted the account: it leaves every segment. `Restore` brings it back."""

    account: Key
    at: Instant


class Restore(_Record, tag="restore"):
    account: Key
    at: Instant


class Merge(_Record, tag="merge"):
    """`account` is `into`: what is kept of it goes there, and so does whatever still comes for it.

    `person` says, where that was found out with it, as whom somebody was counted at `account`, and who it is.
    """

    account: Key
    into: Key
    at: Instant
    by_crm: bool = False  # two records of a CRM; else an account that was provisional
    person: tuple[str, str] | None = None


class Transfer(_Record, tag="transfer"):
    """What `merged` had when it was merged into `account`: its packed state under the ruleset of that hash, which
    `deployment` put in force there.

    `at` is the log_time at which it was given away. Appended by the fold of the partition of `merged`.
    """

    account: Key
    merged: Key
    at: Instant
    ruleset: str
    state: bytes
    by_crm: bool = False
    deployment: str = ""


class Restate(_Record, tag="restate"):
    """`account` was one with `apart` and is not: it is what the packed `state` says, for the log before `upto`.

    `at` is the log_time there. An account that has gone on since stays as it is: what came is not in the state.
    Whichever of the two had been merged is known by `names`, its own first: by these it was claimed meanwhile.
    What came so for the accounts in `moved`, before that offset in the partition of each, is its own, not theirs.
    """

    account: Key
    at: Instant
    state: bytes
    upto: int
    apart: Key
    names: list[str]
    moved: dict[str, int]


class Same(_Record, tag="same"):
    """At `account`, who was counted as `person` is `same_as`."""

    account: Key
    person: Key
    same_as: Key
    at: Instant


class Stale(_Record, tag="stale"):
    """The source could not say what changed: what it last said may be wrong until the account is read again."""

    account: Key
    at: Instant


class Release(_Record, tag="release"):
    """The account is folded again: whatever raised is mended. What was parked meanwhile comes once more."""

    account: Key


class Fill(_Record, tag="fill"):
    """What account `of` had of `measures`, in its packed `state`, when `deployment` came into force at log offset
    `before`; `account` is `of`, or took it in."""

    account: Key
    of: Key
    deployment: str
    before: int
    measures: list[str]
    state: bytes


class Override(_Record, tag="override"):
    """Somebody says where the account stands in `dimension`, whatever its rules say, until an instant.

    In a ladder: in `segment`, in place of what was said before. In a set: in that segment, or `out` of it; of its
    other segments what was said stays. `why` and `by` are for people: who decided, and what for.
    """

    account: Key
    at: Instant
    dimension: Key
    segment: Key
    until: Instant
    why: str = ""
    by: str = ""
    out: bool = False


class EndOverride(_Record, tag="end_override"):
    """What somebody said of the account in `dimension` counts no more; of `segment` alone, if one is named."""

    account: Key
    at: Instant
    dimension: Key
    segment: str = ""
    by: str = ""


class Erase(_Record, tag="erase"):
    """Somebody asked to be forgotten: nothing of them is kept at any account. It stands in every partition.

    `persons` are they, and the digests of links that led to them: visitors go that are known by one of these.
    """

    persons: list[str]


class Epoch(_Record, tag="epoch"):
    """A new epoch of a partition: what is told from here on comes after all that was told before.

    Accounts that changed at offset `since` or later tell where they stand. `lost` are offsets that the log had no
    more when they were to be read: [first, behind the last].
    """

    number: int  # at least; one more than the last, if that is higher
    since: int = 0
    lost: tuple[int, int] | None = None


class Tick(_Record, tag="tick"):
    """Lets time pass in a partition: wakes that are due fire, an unfinished sweep goes on by `sweeps` accounts."""

    sweeps: int = ACCOUNTS_PER_TICK


class Filled(_Record, tag="filled"):
    """Every account of the partition has what it had of the measures that `deployment` asked to be filled."""

    deployment: str


class RulesetRecord(_Record, tag="ruleset"):
    """From here on this ruleset is in force. `files` maps a path to its YAML text.

    `deployment` is the same in all partitions that it was put into. What a `quiet` one changes is no news. With
    `fill_since` (UTC ms; 0: the log's beginning) measures that lack it get their past from then on.
    """

    hash: str
    files: dict[str, str]
    message: str = ""
    author: str = ""
    deployment: str = ""
    quiet: bool = False
    fill_since: int | None = None


AccountRecord: TypeAlias = (
    Activity
    | Facts
    | Contact
    | Delete
    | Restore
    | Merge
    | Transfer
    | Restate
    | Same
    | Stale
    | Release
    | Fill
    | Override
    | EndOverride
)
Record: TypeAlias = AccountRecord | Erase | Epoch | Tick | RulesetRecord | Filled

# Named apart because msgspec builds its tables once per decoder.
decode_record = msgspec.json.Decoder(Record).decode
encode_record = msgspec.json.Encoder().encode
