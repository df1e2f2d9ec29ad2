"""How a message leaves us: Slack's webhooks, Slack's own API, mail, and webhooks of any program.

What a server says is one of three: it arrived, it is tried again, it is given up. URLs and tokens are secrets: no
log and no reason holds one.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from hashlib import sha256
from typing import Any, Protocol, TypeAlias

import aiohttp
import aiosmtplib
import msgspec
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from streams.alerting import model, wording
from streams.alerting.parcels import Parcel
from streams.alerting.rulebook import Channel, Rulebook
from streams.sinks.answers import by_status
from streams.sinks.base import Delivered, GiveUp, Reason, Retry, SecretUnreadable

TIMEOUT_S = 10.0
SUBJECT = 150
# slack-sdk writes URLs into its log where a level lets it.
_quiet = logging.getLogger("streams.alerting.slack")
_quiet.setLevel(logging.WARNING)
# A person has to mend these; of the others each is about one message or one recipient.
_OURS = frozenset({"invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive"})
_LATER = frozenset({"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable"})


@dataclass(frozen=True, slots=True)
class Arrived:
    """`ref` is what the channel calls the message, by which it can be edited or answered."""

    ref: str


Sent: TypeAlias = Arrived | Retry | GiveUp


class Sender(Protocol):
    async def send(self, parcel: Parcel) -> Sent:
        """Never raises for what a server or a network does."""

    async def close(self) -> None: ...


class Senders:
    """One for each channel, made when it is first needed."""

    def __init__(self, rules: Rulebook, alert_url: str) -> None:
        self._rules, self._alert_url = rules, alert_url
        self._made: dict[str, Sender] = {}

    async def send(self, parcel: Parcel) -> Sent:
        channel = self._rules.channels.get(parcel.to.channel)
        if channel is None:
            return GiveUp(Reason.NOT_FOUND, "no such channel any more")
        if channel.name not in self._made:
            self._made[channel.name] = _sender(channel, self._rules, self._alert_url)
        try:
            return await self._made[channel.name].send(parcel)
        except SecretUnreadable as error:
            return Retry(Reason.SECRET_UNREADABLE, detail=str(error))

    async def close(self) -> None:
        for sender in self._made.values():
            await sender.close()


def _sender(channel: Channel, rules: Rulebook, alert_url: str) -> Sender:
    match channel.spec:
        case model.Slack(token=None):
            return SlackWebhook(channel.spec, rules, alert_url)
        case model.Slack():
            return SlackBot(channel.spec, rules)
        case model.Email():
            return Mail(channel.spec, rules)
        case _:
            return Webhook(channel.spec, rules)


# -- HTTP ------------------------------------------------------------------------------------------------------


class _RedirectedError(aiohttp.ClientError):
    """Whoever answers with another place may not be followed: what we carry is not meant for that one."""


async def _refuse_redirects(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> Any:
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise _RedirectedError
    return response


class _Http:
    """A session that is opened when something is first sent."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            self._session = aiohttp.ClientSession(timeout=timeout, middlewares=(_refuse_redirects,))
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _failed(error: Exception) -> Retry:
    """What it says may hold the URL, so only its kind is told."""
    reason = Reason.REDIRECTED if isinstance(error, _RedirectedError) else Reason.UNAVAILABLE
    return Retry(reason, detail=type(error).__name__.strip("_"))


def _answered(status: int, headers: Mapping[str, str], ref: str) -> Sent:
    if 200 <= status < 300:
        return Arrived(ref)
    if status in (404, 410):  # the URL is all there is of the recipient: somebody has to mend it
        return Retry(Reason.WRONG_ADDRESS, detail=str(status))
    outcome = by_status(status, headers, several=False)
    return Arrived(ref) if isinstance(outcome, Delivered) else outcome


class SlackWebhook(_Http):
    """An incoming webhook: it takes messages and never edits one."""

    def __init__(self, spec: model.Slack, rules: Rulebook, alert_url: str) -> None:
        super().__init__()
        self._spec, self._rules, self._alert_url = spec, rules, alert_url

    async def send(self, parcel: Parcel) -> Sent:
        url = self._spec.url.read() if self._spec.url else self._alert_url
        if not url:
            raise SecretUnreadable("neither the channel's `url` nor ISOTHERM_ALERT_URL is set")
        client = AsyncWebhookClient(url, session=self.session, logger=_quiet, retry_handlers=[])
        body = wording.slack(parcel.sheet(self._rules))
        try:
            answer = await client.send_dict(body, headers={"Idempotency-Key": parcel.key})
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            return _failed(error)
        return _answered(answer.status_code, answer.headers, parcel.key)


class Webhook(_Http):
    """Any program that takes JSON."""

    def __init__(self, spec: model.Webhook, rules: Rulebook) -> None:
        super().__init__()
        self._spec, self._rules = spec, rules

    async def send(self, parcel: Parcel) -> Sent:
        headers = {"Idempotency-Key": parcel.key, "Content-Type": "application/json"}
        body = msgspec.json.encode(parcel.plain(self._rules))
        try:
            async with self.session.post(self._spec.url.read(), data=body, headers=headers) as answer:
                return _answered(answer.status, answer.headers, parcel.key)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            return _failed(error)


class SlackBot(_Http):
    """A Slack app's token: what was said can be edited, and a person can be told alone. A ref is `channel ts`."""

    def __init__(self, spec: model.Slack, rules: Rulebook) -> None:
        super().__init__()
        self._spec, self._rules = spec, rules

    async def send(self, parcel: Parcel) -> Sent:
        message = wording.slack(parcel.sheet(self._rules))
        token = self._spec.token.read() if self._spec.token else ""
        client = AsyncWebClient(
            token,
            base_url=self._spec.api or AsyncWebClient.BASE_URL,
            session=self.session,
            logger=_quiet,
            retry_handlers=[],
            timeout=int(TIMEOUT_S),
        )
        try:
            if parcel.edits:
                channel, _, ts = parcel.edits.partition(" ")
                await client.chat_update(channel=channel, ts=ts, **message)
                return Arrived(parcel.edits)
            said = await client.chat_postMessage(
                channel=parcel.to.to, unfurl_links=False, metadata=_metadata(parcel), **message
            )
            return Arrived(f"{said['channel']} {said['ts']}")
        except SlackApiError as error:
            return _slack_said(error)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            return _failed(error)


def _metadata(parcel: Parcel) -> dict[str, Any]:
    """Slack knows no idempotency keys; with this, whoever looks finds the same alert told twice."""
    return {"event_type": "isotherm_alert", "event_payload": {"key": parcel.key}}


def _slack_said(error: SlackApiError) -> Retry | GiveUp:
    status = getattr(error.response, "status_code", 0)
    said = error.response.get("error", "") if hasattr(error.response, "get") else ""
    word = said if isinstance(said, str) and said.replace("_", "").isalnum() else ""
    if status == 429 or status >= 500 or word in _LATER:
        return _later(by_status(max(status, 429), dict(error.response.headers), several=False))
    if word in _OURS:
        return Retry(Reason.UNAUTHORIZED, detail=word)
    return GiveUp(Reason.INVALID, word)


def _later(outcome: Any) -> Retry:
    return outcome if isinstance(outcome, Retry) else Retry(Reason.UNAVAILABLE)


# -- mail ------------------------------------------------------------------------------------------------------


class Mail:
    """SMTP. The Message-ID is made of the key, so that a mail sent twice can be known for one."""

    def __init__(self, spec: model.Email, rules: Rulebook) -> None:
        self._spec, self._rules = spec, rules

    async def send(self, parcel: Parcel) -> Sent:
        spec, mail = self._spec, self.mail(parcel)
        try:
            refused, _ = await aiosmtplib.send(
                mail,
                hostname=spec.server,
                port=spec.port,
                username=spec.user,
                password=spec.password.read() if spec.password else None,
                start_tls=spec.starttls == "always",
                tls_context=ssl.create_default_context(cafile=spec.ca) if spec.starttls == "always" else None,
                timeout=TIMEOUT_S,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _smtp_said(max((each.code for each in error.recipients), default=550))
        except aiosmtplib.SMTPAuthenticationError:
            return Retry(Reason.UNAUTHORIZED)
        except aiosmtplib.SMTPResponseException as error:
            return _smtp_said(error.code)
        except (TimeoutError, aiosmtplib.SMTPException, OSError) as error:
            return _failed(error)
        return _smtp_said(next(iter(refused.values())).code) if refused else Arrived(str(mail["Message-ID"]))

    def mail(self, parcel: Parcel) -> EmailMessage:
        sheet, mail = parcel.sheet(self._rules), EmailMessage()
        mail["From"], mail["To"] = self._spec.from_, parcel.to.to
        mail["Subject"] = sheet.title[:SUBJECT]
        mail["Date"] = formatdate(parcel.items[0].alert.story.at / 1000)
        host = self._spec.from_.rpartition("@")[2]
        mail["Message-ID"] = f"<{sha256(parcel.key.encode()).hexdigest()[:40]}@{host}>"
        if parcel.edits:
            mail["In-Reply-To"] = mail["References"] = parcel.edits
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(wording.text(sheet))
        mail.add_alternative(wording.html(sheet), subtype="html")
        return mail

    async def close(self) -> None:
        """Each mail has a connection of its own."""


def _smtp_said(code: int) -> Retry | GiveUp:
    """4xx: later. 5xx: never."""
    return Retry(Reason.UNAVAILABLE, detail=str(code)) if code < 500 else GiveUp(Reason.INVALID, str(code))
