"""Standard Webhooks: the event as it was published, signed. See https://www.standardwebhooks.com.

`webhook-id` is the change's id, the same at each attempt; the timestamp is that of the attempt, so that a receiver
may refuse what is old. With two secrets both sign: a receiver takes either while it goes from one to the other.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from standardwebhooks import Webhook

from rules.model import Model
from streams.sinks.answers import fit, retry_after
from streams.sinks.base import Delivered, Delivery, GiveUp, Outcome, Rate, Reason, Request, Retry, SecretUnreadable
from streams.sinks.secret import Held, Secret
from streams.sinks.told import RateTo

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64  # bytes of a secret
MEDIA_TYPE = "application/cloudevents+json"
REFUSED = "refused"


def _url(text: str) -> str:
    if problem := url_problem(text):
        raise ValueError(problem)
    return text


def url_problem(text: str) -> str:
    """What is wrong with it; it is not repeated, since who has it may be able to post there."""
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        return "no URL like https://hooks.example.com/isotherm"
    if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc or url.fragment:
        return "no URL like https://hooks.example.com/isotherm"
    return ""


class WebhookTo(Model):
    """`to:` of an endpoint of kind `webhook`."""

    url: Annotated[str, AfterValidator(_url)] | None = None
    url_file: Annotated[str, Field(pattern=r"^/")] | None = None
    secrets: Annotated[list[Secret], Field(min_length=1, max_length=2)]
    rate: RateTo | None = None

    @model_validator(mode="after")
    def _one_url(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("one of `url` and `url_file` says where to")
        return self

    def sink(self) -> WebhookSink:
        url = self.url or Held("file", self.url_file or "")
        return WebhookSink(url, tuple(self.secrets), self.rate.rate() if self.rate else None)


def _read(url: str | Held) -> str:
    """Raises SecretUnreadable."""
    if isinstance(url, str):
        return url
    found = url.read()
    if problem := url_problem(found):
        raise SecretUnreadable(f"{url} holds {problem}")
    return found


def signer(secret: Held) -> Webhook:
    """Raises SecretUnreadable, which says where it stands and what is wrong, and not what it is."""
    text = secret.read()
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not (text.startswith(PREFIX) and SHORTEST <= len(key) <= LONGEST):
        raise SecretUnreadable(f"{secret} is no secret like whsec_… of {SHORTEST} to {LONGEST} bytes in base64")
    return Webhook(key)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class WebhookSink:
    url: str | Held = field(repr=False)
    secrets: tuple[Held, ...]
    rate: Rate | None = None
    clock: Callable[[], datetime] = _now  # the receiver's and ours must agree within minutes: that of the world
    batch: int = 1

    def refuses(self, delivery: Delivery) -> GiveUp | None:
        return None

    def request(self, deliveries: Sequence[Delivery]) -> Request:
        (delivery,) = deliveries
        now = self.clock()
        body = delivery.raw.decode()
        signatures = [signer(each).sign(delivery.id, now, body) for each in self.secrets]
        headers = {
            "Content-Type": MEDIA_TYPE,
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        return Request("POST", _read(self.url), headers, delivery.raw)

    def outcomes(
        self, deliveries: Sequence[Delivery], status: int, headers: Mapping[str, str], body: bytes
    ) -> list[Outcome]:
        """Whatever is no 2xx may be mended at the other end, so all of it is tried again."""
        return [_outcome(status, headers)] * len(deliveries)


def _outcome(status: int, headers: Mapping[str, str]) -> Outcome:
    if 200 <= status < 300:
        return Delivered()
    after = retry_after(headers)
    detail = fit(str(status))
    if status == 429:
        return Retry(Reason.RATE_LIMITED, after, whole=after is not None, detail=detail)
    if 300 <= status < 400:
        return Retry(Reason.REDIRECTED, detail=detail)
    if status >= 500:
        return Retry(Reason.UNAVAILABLE, after, whole=status == 503 and after is not None, detail=detail)
    return Retry(REFUSED, after, detail=detail)
