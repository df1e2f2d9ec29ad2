"""How every Kafka client connects: where to, encrypted or not, as whom. No other module makes these options."""

from __future__ import annotations

import logging
import ssl
import time
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from aiokafka import conn
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from streams.tls import client_context

if TYPE_CHECKING:
    from streams.settings import Settings

_send = conn.AIOKafkaConnection.send


def _send_or_lose(self: Any, *given: Any, **named: Any) -> Any:
    """uvloop has a RuntimeError for writing to what was reset just now. aiokafka knows it not, and its fetcher
    ends of it for good while its heartbeats go on: so it is told in its own words that the connection is lost."""
    try:
        return _send(self, *given, **named)
    except RuntimeError as error:
        self.close(reason=conn.CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(str(error)) from error


conn.AIOKafkaConnection.send = _send_or_lose

ASK_WITHIN_S = 10.0
RENEWED_S = 60.0  # before a token expires


def kafka_options(settings: Settings) -> dict[str, Any]:
    """What each of aiokafka's clients wants to be told; a client of its own for each call."""
    options: dict[str, Any] = {"bootstrap_servers": settings.kafka, "security_protocol": settings.kafka_security}
    if settings.kafka_tls:
        options["ssl_context"] = kafka_tls(settings)
    if settings.kafka_sasl:
        _keep_quiet()
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        if settings.kafka_sasl_mechanism == "OAUTHBEARER":
            conn.OAuthAuthenticator = Listening
            options["sasl_oauth_token_provider"] = Tokens(settings)
        else:
            options["sasl_plain_username"] = settings.kafka_user
            options["sasl_plain_password"] = settings.kafka_password.get_secret_value()
    return options


def kafka_tls(settings: Settings) -> ssl.SSLContext:
    """A context of its own for each client: certificates that were exchanged meanwhile are read again."""
    return client_context("ISOTHERM_KAFKA", settings.kafka_ca, settings.kafka_cert, settings.kafka_key)


async def refusal(settings: Settings) -> str:
    """Why Kafka does not let us in, when waiting is of no use; empty if it does, or if it is merely away."""
    options = kafka_options(settings)
    for host, port, _ in conn.collect_hosts(options.pop("bootstrap_servers")):
        try:
            connection = await conn.create_conn(host, port, request_timeout_ms=ASK_WITHIN_S * 1000, **options)
        except (KafkaError, OSError) as error:
            if why := _needs_mending(error, settings):
                return f"{host}:{port} {why}"
        else:
            connection.close()
            return ""
    return ""


def _needs_mending(error: BaseException, settings: Settings) -> str:
    mechanism = settings.kafka_sasl_mechanism
    match error:
        case ssl.SSLCertVerificationError():
            return f"is not trusted (ISOTHERM_KAFKA, ISOTHERM_KAFKA_CA): {error.verify_message}"
        case ssl.SSLError():
            return f"does not agree on TLS (ISOTHERM_KAFKA_SECURITY): {error.reason}"
        case UnsupportedSaslMechanismError() | IllegalSaslStateError():
            return f"does not know {mechanism} (ISOTHERM_KAFKA_SASL_MECHANISM): {error}"
        case SaslAuthenticationFailed():
            if mechanism == "OAUTHBEARER":
                return f"refuses the token ({mechanism}; ISOTHERM_KAFKA_TOKEN_URL, …_FILE): {error}"
            whom = f"user {settings.kafka_user!r} or the password"
            return f"refuses {whom} ({mechanism}; ISOTHERM_KAFKA_USER, ISOTHERM_KAFKA_PASSWORD): {error}"
        case AuthenticationFailedError():
            return f"was not asked: {error}"
    return ""


class Listening(conn.OAuthAuthenticator):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka takes any answer to a token for a yes, and then wonders why it may ask nothing. A broker that
    refuses a token says so in its answer (RFC 7628, 3.2.2); one that takes it answers nothing."""

    async def step(self, payload: bytes | None) -> Any:
        if payload:
            raise SaslAuthenticationFailed(payload[:200].decode(errors="replace"))
        return await super().step(payload)


class Tokens(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """The tokens of OAUTHBEARER: from a file that others keep fresh, or by OAuth's client credentials."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._token, self._until = "", 0.0

    async def token(self) -> str:
        """One that is still good. Raises AuthenticationFailedError, which says what is wrong, and no token."""
        if path := self._settings.kafka_token_file:
            return _read(path)
        if time.monotonic() >= self._until:
            self._token, seconds = await self._asked_for()
            self._until = time.monotonic() + max(0.0, seconds - RENEWED_S)
        return self._token

    async def _asked_for(self) -> tuple[str, float]:
        import aiohttp

        settings, form = self._settings, {"grant_type": "client_credentials"}
        if settings.kafka_token_scope:
            form["scope"] = settings.kafka_token_scope
        # RFC 6749, 2.3.1: both are written as in a form first.
        client = f"{quote_plus(settings.kafka_user)}:{quote_plus(settings.kafka_password.get_secret_value())}"
        headers = {"Authorization": f"Basic {b64encode(client.encode()).decode()}", "Accept": "application/json"}
        patience = aiohttp.ClientTimeout(total=ASK_WITHIN_S)
        try:
            async with (
                aiohttp.ClientSession(headers=headers, timeout=patience) as session,
                session.post(settings.kafka_token_url, data=form, allow_redirects=False) as reply,
            ):
                if reply.status != 200:
                    raise AuthenticationFailedError(f"ISOTHERM_KAFKA_TOKEN_URL answers {reply.status}")
                answer = await reply.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise AuthenticationFailedError(f"ISOTHERM_KAFKA_TOKEN_URL: {type(error).__name__}") from None
        match answer:
            case {"access_token": str(token)} if token:
                seconds = answer.get("expires_in")
                return token, float(seconds) if isinstance(seconds, int | float) else 0.0
        raise AuthenticationFailedError("ISOTHERM_KAFKA_TOKEN_URL answers without an access_token")


def _read(path: str) -> str:
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AuthenticationFailedError(f"ISOTHERM_KAFKA_TOKEN_FILE: {path}: {type(error).__name__}") from None
    if not token:
        raise AuthenticationFailedError(f"ISOTHERM_KAFKA_TOKEN_FILE: {path} is empty")
    return token


def _keep_quiet() -> None:
    """aiokafka's debug lines hold each request as it is, and one of those is the password."""
    log = logging.getLogger("aiokafka.conn")
    if _tells_no_password not in log.filters:
        log.addFilter(_tells_no_password)


def _tells_no_password(record: logging.LogRecord) -> bool:
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(type(each).__name__.startswith("SaslAuthenticateRequest") for each in arguments)
