"""Between delivering and a destination: deliveries become a request, its answer becomes an outcome for each.

A sink is pure. It sends nothing, waits for nothing and keeps nothing: when something is sent, how often it is
tried and what is remembered of it are the delivering's. What it reads from outside are secrets, at each request,
so that a token which was renewed in its file is used at once.

The delivering asks in this order:

    refuses(delivery)            GiveUp where the destination cannot take it at all: no request is made for it
    request(deliveries)          one request for at most `batch` of the others, in the order of their changes
    outcomes(deliveries, …)      one for each, in the same order, of any answer that has a status
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

from rules.contract import Event


@dataclass(frozen=True, slots=True)
class Delivery:
    """A change on its way to one endpoint."""

    id: str  # the change's: sent twice it is the same
    account: str
    event: Event[Any]
    raw: bytes  # the event as it was published
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent. Its URL and headers may hold secrets: neither is shown."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Reason(StrEnum):
    """Why something is not delivered, by one name everywhere."""

    # It is tried again.
    RATE_LIMITED = "rate_limited"
    DAILY_LIMIT = "daily_limit"  # of requests, for the whole account there
    UNAVAILABLE = "unavailable"
    LOCKED = "locked"  # somebody else is writing that record
    UNAUTHORIZED = "unauthorized"  # the token or key is not taken: a person has to mend that
    FORBIDDEN = "forbidden"  # it is taken and may not do this: likewise
    SECRET_UNREADABLE = "secret_unreadable"  # noqa: S105 - a reason
    WRONG_ADDRESS = "wrong_address"  # nothing there takes such requests
    REDIRECTED = "redirected"  # nobody is followed to where secrets were not meant to go
    BATCH_REFUSED = "batch_refused"  # for one of many that is not named
    NOT_CONFIRMED = "not_confirmed"  # the answer does not say what became of it
    # It is given up.
    NOTHING_TO_WRITE = "nothing_to_write"  # of what changed the endpoint writes nothing
    NO_RECORD = "no_record"  # the account has no id by which the destination knows it
    MERGED = "merged"  # what the old id leads to may be the account that stays
    TOO_LARGE = "too_large"
    NOT_FOUND = "not_found"  # the destination has no such record any more
    INVALID = "invalid"  # the destination does not take what we send


@dataclass(frozen=True, slots=True)
class Delivered:
    pass


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now. `after_s`: not before so many seconds, as the destination says; None: it says nothing."""

    reason: str
    after_s: float | None = None
    whole: bool = False  # it is no fault of this delivery: nothing is sent to the endpoint until then
    alone: bool = False  # one of several may be at fault: it goes in a request of its own
    detail: str = ""  # the destination's own word for it; never more than a word or a code


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Never: trying the same again would get the same answer."""

    reason: str
    detail: str = ""


Outcome: TypeAlias = Delivered | Retry | GiveUp


class SecretUnreadable(Exception):
    """A secret cannot be read now. The message names where it should be, never what it was.

    `request` raises it; the delivering takes it for `Retry(Reason.SECRET_UNREADABLE, whole=True)`.
    """


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so many requests within so many seconds, for the whole endpoint."""

    requests: int
    window_s: float


class Sink(Protocol):
    @property
    def batch(self) -> int:
        """The most deliveries in one request."""

    @property
    def rate(self) -> Rate | None:
        """How often the destination may be asked; None: as often as there is something to send."""

    def refuses(self, delivery: Delivery) -> GiveUp | None: ...

    def request(self, deliveries: Sequence[Delivery]) -> Request:
        """Raises SecretUnreadable."""

    def outcomes(
        self, deliveries: Sequence[Delivery], status: int, headers: Mapping[str, str], body: bytes
    ) -> list[Outcome]:
        """`headers` are looked up without regard to case."""
