"""The shape of `alerts.yaml`: what pydantic checks before it is compiled."""

from __future__ import annotations

import re
from datetime import time
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from rules.durations import DAY, HOUR
from rules.model import Duration, Model, Name, Term, Zone
from streams.sinks.secret import Secret

Days = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Days, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SEGMENT = re.compile(r"[a-z][a-z0-9_]{0,63}/[a-z][a-z0-9_]{0,63}$")


def _time(text: object) -> object:
    """`18:00` as a time of day."""
    if isinstance(text, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        return time.fromisoformat(text)
    raise ValueError("write a time of day such as 18:00")


def _segment(text: str) -> str:
    if not SEGMENT.match(text):
        raise ValueError("write a dimension and a segment, such as engagement/hot")
    return text


def address(text: str) -> str:
    user, at, host = text.rpartition("@")
    if not (user and at and host) or not text.isprintable() or set(text) & set(' ,;<>"()'):
        raise ValueError(f"'{text}' is no e-mail address")
    return text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


TimeOfDay = Annotated[time, BeforeValidator(_time, json_schema_input_type=str)]
Address = Annotated[str, AfterValidator(address)]
SegmentName = Annotated[str, AfterValidator(_segment)]
Segments = Annotated[list[SegmentName], BeforeValidator(_as_list), Field(min_length=1, max_length=50)]
Names = Annotated[list[Name], BeforeValidator(_as_list), Field(min_length=1, max_length=50)]


class Slack(Model):
    """An incoming webhook (`url`; none: ISOTHERM_ALERT_URL), or a bot (`token`), which can edit what it said."""

    url: Secret | None = None
    token: Secret | None = None
    api: Term | None = Field(None, description="of a Slack elsewhere than at https://slack.com/api/")

    @model_validator(mode="after")
    def _one_way(self) -> Slack:
        if self.url and self.token:
            raise ValueError("a webhook (`url`) or a bot (`token`), not both")
        if self.api and not self.token:
            raise ValueError("`api` is for a bot: it needs a `token`")
        return self


class Email(Model):
    """A mail server that takes our messages. `starttls: never` is for one on this machine."""

    server: Term
    port: Annotated[int, Field(ge=1, le=65_535)] = 587
    from_: Annotated[Address, Field(alias="from")]
    user: Term | None = None
    password: Secret | None = None
    starttls: Literal["always", "never"] = "always"
    ca: Term | None = Field(None, description="PEM file of the authority to trust; none: the system's")

    @model_validator(mode="after")
    def _not_in_the_clear(self) -> Email:
        if bool(self.user) != bool(self.password):
            raise ValueError("`user` and `password` go together")
        if self.password and self.starttls == "never":
            raise ValueError("`starttls: never` would show the network the password")
        return self


class Webhook(Model):
    """Any program that takes JSON."""

    url: Secret


class Channel(Model):
    """A way to tell somebody."""

    slack: Slack | None = None
    email: Email | None = None
    webhook: Webhook | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Channel:
        if sum(each is not None for each in (self.slack, self.email, self.webhook)) != 1:
            raise ValueError("a channel has exactly one of: slack, email, webhook")
        return self


class To(Model):
    """Who is told: a channel, for a bot the Slack user or channel, for e-mail the address, and their time zone."""

    channel: Term
    to: Term | None = None
    timezone: Zone | None = None


class Territories(Model):
    """Who is told for accounts without a known owner, by a fact of the account."""

    fact: Name
    are: Annotated[dict[Term, To], Field(min_length=1)]


class Tell(Model):
    """To whom alerts go: the account's owner, else its territory's, else everybody's queue."""

    owners: dict[Term, To] = Field(default_factory=dict)
    owner_fact: Name = "owner"
    territories: Territories | None = None
    otherwise: To


class Escalation(Model):
    """Whom to tell when nobody has acknowledged an alert after so long."""

    after: Duration
    to: To


class Rule(Model):
    """An alert: when an account enters one of these segments, and is in all that `only_if` asks for."""

    rule: Name
    when: Segments
    only_if: dict[Name, Names] = Field(default_factory=dict)
    cool_down: Duration = DAY
    to: To | None = None
    at_night: bool = Field(False, description="told at once, quiet hours or not")
    escalate: Escalation | None = None


class QuietHours(Model):
    """When nobody is disturbed, in the time zone of who is told."""

    from_: Annotated[TimeOfDay, Field(alias="from")]
    until: TimeOfDay
    days_off: Annotated[list[Days], Field(max_length=6)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _some_time_left(self) -> QuietHours:
        if self.from_ == self.until:
            raise ValueError("`from` and `until` are the same: nobody would ever be told")
        return self


class Digest(Model):
    """So many waiting at once are told in one message, of at most so many accounts."""

    from_: Annotated[int, Field(alias="from", ge=2, le=100)] = 4
    most: Annotated[int, Field(ge=2, le=100)] = 50


class Limits(Model):
    """So many messages to one recipient in that time; what comes above it waits and is told in a digest."""

    messages: Annotated[int, Field(ge=1, le=1000)] = 60
    per: Duration = HOUR


class AlertsFile(Model):
    """Whom to tell of what."""

    channels: Annotated[dict[Name, Channel], Field(min_length=1, max_length=100)]
    tell: Tell
    rules: Annotated[list[Rule], Field(min_length=1, max_length=50)]
    quiet_hours: QuietHours | None = None
    digest: Digest = Field(default_factory=Digest)
    limits: Limits = Field(default_factory=Limits)
    news: Duration = DAY
    links: Annotated[dict[Term, Term], Field(max_length=5)] = Field(default_factory=dict)
    timezone: Zone = "UTC"
