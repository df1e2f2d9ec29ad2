"""What is known of an account's alerts: one record in `alerts.state`, the newest counts.

JSON, so that people can read it. Of people at the account it has roles and how many, and no account is in it that
no rule has ever matched.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from streams.alerting.rulebook import Recipient

Order = tuple[int, int, int]


class Phase(StrEnum):
    """How far an alert has come. `NONE`: there is none; such an alert is not kept."""

    NONE = "none"
    NEW = "new"  # decided; it waits for its turn, or is on its way
    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    OVER = "over"  # it was told, and the account has left the segment
    REOPENED = "reopened"  # back within the cool-down: nobody is told once more
    FAILED = "failed"  # nobody could be told


class Story(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a message says of an account, as it stood when the alert was decided."""

    change: str  # id of the change
    account: str
    name: str
    segment: str  # dimension/segment
    before: str
    at: int  # UTC ms
    until: int = 0  # 0: until something happens
    reasons: tuple[str, ...] = ()
    do: tuple[str, ...] = ()
    roles: tuple[tuple[str, int], ...] = ()  # of those at the account who did something lately; "": not in the CRM
    week: tuple[int, int] | None = None  # activities in the last 7 days, and in the 7 days before
    ids: tuple[str, ...] = ()  # other accounts that are this one


class Telling(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message that is to be sent, is on its way (`key`) or was sent (`ref`)."""

    to: Recipient
    due: int  # from when on
    held: bool = False  # it waits for the end of quiet hours, and is then told with the others
    key: str = ""  # under which it is sent, again if need be
    ref: str = ""  # what the channel calls it
    at: int = 0  # when it was told
    digest: bool = False  # together with others

    @property
    def is_told(self) -> bool:
        return self.at > 0


class Alert(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule's alert for one account."""

    phase: Phase
    hot: bool  # whether the account is in the segment now
    story: Story
    first: Telling
    late: Telling | None = None  # the escalation
    shown: str = ""  # which face of the alert its message shows (see `stepping.FACES`)
    since: int = 0  # when it came to its phase
    until: int = 0  # snoozed until then
    by: str = ""  # who acknowledged or snoozed it
    times: int = 0  # how often it was announced


class Alerts(msgspec.Struct, frozen=True, omit_defaults=True):
    """An account's alerts by rule, and the newest position seen of each dimension."""

    account: str
    name: str = ""
    seen: dict[str, Order] = {}
    within: dict[str, tuple[str, ...]] = {}  # the segments it is in, of the dimensions that rules watch
    alerts: dict[str, Alert] = {}
    at: int = 0  # when something was last seen of it, UTC ms
    gone: bool = False  # deleted, or merged into another


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Alerts).decode


def pack(state: Alerts) -> bytes:
    return _encode(state)


def unpack(blob: bytes) -> Alerts:
    """Raises msgspec.MsgspecError."""
    return _decode(blob)
