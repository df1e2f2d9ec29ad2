"""Every setting: an environment variable `ISOTHERM_…`, checked once at start.

A secret may stand in a file instead, whose path is in `ISOTHERM_…_FILE`. What does not go together is refused
here, all of it at once, so that nothing runs with less security than somebody asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from streams.tls import client_context
from streams.topics import Topics

PREFIX = "ISOTHERM_"
OAUTH = "OAUTHBEARER"
HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class _SecretFile:
    """Where a secret stands. `twice`: the setting itself has a value too."""

    setting: str
    path: str
    twice: bool


class _SecretFiles(PydanticBaseSettingsSource):
    """`ISOTHERM_…_FILE` of every secret. Which file cannot be read is said when the setting is looked at."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        setting = PREFIX + field_name.upper()
        path = os.environ.get(f"{setting}_FILE") if field.annotation is SecretStr else None
        return _SecretFile(setting, path, bool(os.environ.get(setting))) if path else None, field_name, False

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields.items()
        found = {name: self.get_field_value(field, name)[0] for name, field in fields}
        return {name: file for name, file in found.items() if file is not None}


def _from_file(value: Any) -> Any:
    if not isinstance(value, _SecretFile):
        return value
    if value.twice:
        raise ValueError(f"{value.setting}_FILE is set too; keep one of them")
    try:
        text = Path(value.path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {value.path} of {value.setting}_FILE: {type(error).__name__}") from None
    if not text:
        raise ValueError(f"{value.path} of {value.setting}_FILE is empty")
    return text


Secret = Annotated[SecretStr, BeforeValidator(_from_file)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True)

    kafka: str = Field(default="127.0.0.1:9092", description="Kafka bootstrap servers, host:port,host:port")
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="Kafka's security protocol, in its own words"
    )
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        default="", description="how we show who we are; SASL_… wants one"
    )
    kafka_user: str = Field(default="", description="user; for OAUTHBEARER the client id")
    kafka_password: Secret = Field(
        default=SecretStr(""), description="its password; for OAUTHBEARER the client secret"
    )
    kafka_token_url: str = Field(
        default="", description="where OAUTHBEARER gets tokens for client id and secret, https://…"
    )
    kafka_token_scope: str = Field(default="", description="the scope that it asks for")
    kafka_token_file: str = Field(
        default="", description="a file with a token instead, read again for every connection"
    )
    kafka_ca: str = Field(default="", description="PEM file of the authorities to trust; empty: the system's")
    kafka_cert: str = Field(default="", description="PEM file of the certificate that we show to Kafka")
    kafka_key: str = Field(default="", description="PEM file of its key, unless it is in the same file")
    redis: str = Field(
        default="redis://127.0.0.1:6379/0",
        repr=False,
        description="Redis or Valkey URL; rediss:// with TLS, redis+cluster:// for a cluster, unix:///path",
    )
    redis_password: Secret = Field(default=SecretStr(""), description="the password, for a URL that holds none")
    redis_ca: str = Field(default="", description="PEM file of an authority to trust beside the system's")
    redis_cert: str = Field(default="", description="PEM file of the certificate that we show to Redis")
    redis_key: str = Field(default="", description="PEM file of its key, unless it is in the same file")
    partitions: int = Field(
        default=64, ge=1, le=4096, description="partitions of account.log; frozen once created"
    )
    replication: int = Field(
        default=1, ge=1, le=5, description="replicas of the topics that `isotherm topics` creates"
    )
    person_key: Secret = Field(
        default=SecretStr(""), description="secret that keys the hashes of persons; the router wants one"
    )
    alert_url: Secret = Field(
        default=SecretStr(""),
        description="Slack-shaped webhook for accounts that turn hot; empty: no alerts. Who has it can post",
    )
    alerts: str = Field(
        default="", description="the alert rules that `deliver` reads at start; empty: the shipped ones"
    )
    sources: str = Field(
        default="", description="the sources file that the router reads at start; empty: the shipped one"
    )
    webhooks: str = Field(
        default="", description="the file that says which endpoints changes are delivered to; empty: none"
    )
    topic_prefix: str = Field(default="", description="put before every topic and group name")
    namespace: str = Field(default="isotherm", description="put before every Redis key")
    batch: int = Field(default=2_000, ge=1, le=10_000, description="records a batch at most")
    fetch_max_wait_ms: int = Field(default=20, ge=1, le=500, description="how long a fetch may wait for more")
    session_timeout_ms: int = Field(
        default=10_000, ge=1_000, description="after this silence a worker's partitions move"
    )
    poison_limit: bool = Field(
        default=True, description="pause a source partition of which too much cannot be used"
    )
    idempotence: bool = Field(
        default=True, description="idempotent producing; the embedded broker does not know it"
    )
    barrier: Literal["none", "disk", "replica"] = Field(
        default="none", description="what a commit waits for before it is published: Redis' disk, or a replica"
    )
    instance: str = Field(
        default="",
        max_length=200,
        description="this worker's own name, the same after a restart: it has its partitions back at once",
    )
    role: str = Field(default="all", description="router, fold, deliver or all")
    collector_host: str = Field(default="127.0.0.1", description="the address on which the collector listens")
    collector_port: int = Field(default=8088, ge=0, le=65_535, description="its port; 0: any that is free")
    collector_url: str = Field(
        default="", description="the collector's URL as HubSpot sees it; empty: that of the request"
    )
    collector_origins: str = Field(
        default="*", description="web origins whose pages may post calls, https://a,https://b; *: all; empty: none"
    )
    write_keys: Secret = Field(
        default=SecretStr(""), description="name:key,name:key for Segment calls, or a file of them: /path"
    )
    record_keys: Secret = Field(
        default=SecretStr(""), description="name:key,name:key for canonical records, or a file of them: /path"
    )
    hubspot_client_secret: Secret = Field(
        default=SecretStr(""), description="the HubSpot app's client secret, with which it signs"
    )
    api_host: str = Field(default="127.0.0.1", description="the address on which the HTTP API listens")
    api_port: int = Field(default=8089, ge=0, le=65_535, description="its port; 0: any that is free")
    api_tokens: str = Field(default="", description="the file of those who may ask it, as SHA-256 of their tokens")
    metrics_host: str = Field(
        default="127.0.0.1", description="the address on which a worker answers /metrics, /healthz and /readyz"
    )
    metrics_port: int = Field(
        default=0, ge=0, le=65_535, description="the first port to try for that, 9464 for one; 0: it does not"
    )
    log: Literal["auto", "console", "json"] = Field(
        default="auto", description="what log lines look like; auto: for people at a terminal, else JSON"
    )
    traces: float = Field(
        default=0.0, ge=0, le=1, description="the share of raw messages that begin an OpenTelemetry trace; 0: off"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _SecretFiles(settings_cls), env_settings

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if problems := [*_kafka_problems(self), *_redis_problems(self), *_url_problems(self)]:
            raise ValueError("\n".join(problems))
        return self

    @cached_property
    def topics(self) -> Topics:
        return Topics(self.topic_prefix)

    def group(self, name: str) -> str:
        return f"{self.topic_prefix}isotherm.{name}"

    @property
    def kafka_tls(self) -> bool:
        return self.kafka_security in ("SSL", "SASL_SSL")

    @property
    def redis_cluster(self) -> bool:
        """Whether the URL names one node of many."""
        return urlsplit(self.redis).scheme.endswith("+cluster")

    @property
    def kafka_sasl(self) -> bool:
        return self.kafka_security in ("SASL_PLAINTEXT", "SASL_SSL")

    def in_the_clear(self) -> list[str]:
        """A sentence for each secret that everybody between us and another machine can read."""
        told = []
        hosts = [server.strip().rpartition(":")[0].strip("[]") for server in self.kafka.split(",")]
        if self.kafka_security == "SASL_PLAINTEXT" and not set(hosts) <= set(HERE):
            told.append("SASL_PLAINTEXT shows the network who we are: set ISOTHERM_KAFKA_SECURITY=SASL_SSL")
        url = urlsplit(self.redis)
        secret = url.password or self.redis_password.get_secret_value()
        if url.scheme in ("redis", "redis+cluster") and secret and url.hostname not in HERE:
            told.append("redis:// shows the network the password of Redis: set ISOTHERM_REDIS to rediss://…")
        return told


# -- what does not go together: names are told, values never ------------------------------------------------


def _kafka_problems(settings: Settings) -> Iterator[str]:
    security, mechanism = settings.kafka_security, settings.kafka_sasl_mechanism
    password = settings.kafka_password.get_secret_value()
    given = {
        "KAFKA_SASL_MECHANISM": mechanism, "KAFKA_USER": settings.kafka_user, "KAFKA_PASSWORD": password,
        "KAFKA_TOKEN_URL": settings.kafka_token_url, "KAFKA_TOKEN_FILE": settings.kafka_token_file,
    }  # fmt: skip
    if not settings.kafka_sasl:
        if unused := [PREFIX + name for name, value in given.items() if value]:
            yield (
                f"{', '.join(unused)}: nobody is told with ISOTHERM_KAFKA_SECURITY={security}; "
                "set that to SASL_SSL, or leave this out"
            )
    elif not mechanism:
        yield f"ISOTHERM_KAFKA_SASL_MECHANISM: {security} wants one, SCRAM-SHA-512 unless Kafka says otherwise"
    elif mechanism == OAUTH:
        yield from _token_problems(settings, password)
    else:
        if not (settings.kafka_user and password):
            yield f"ISOTHERM_KAFKA_USER, ISOTHERM_KAFKA_PASSWORD: {mechanism} wants both"
        if settings.kafka_token_url or settings.kafka_token_file:
            yield f"ISOTHERM_KAFKA_TOKEN_URL, ISOTHERM_KAFKA_TOKEN_FILE: {mechanism} uses no token; {OAUTH} does"
    files = (settings.kafka_ca, settings.kafka_cert, settings.kafka_key)
    yield from _tls_problems("ISOTHERM_KAFKA", f"ISOTHERM_KAFKA_SECURITY={security}", settings.kafka_tls, files)


def _token_problems(settings: Settings, secret: str) -> Iterator[str]:
    if bool(settings.kafka_token_url) == bool(settings.kafka_token_file):
        yield f"ISOTHERM_KAFKA_TOKEN_URL, ISOTHERM_KAFKA_TOKEN_FILE: {OAUTH} wants one of them"
    elif settings.kafka_token_url:
        if not (settings.kafka_user and secret):
            yield "ISOTHERM_KAFKA_USER, ISOTHERM_KAFKA_PASSWORD: a token wants both, client id and client secret"
        url = _split(settings.kafka_token_url)
        if url is None or url.scheme not in ("https", "http") or not url.hostname or url.username:
            yield "ISOTHERM_KAFKA_TOKEN_URL is no URL like https://login.example.com/oauth2/token"
        elif url.scheme == "http" and url.hostname not in HERE:
            yield "ISOTHERM_KAFKA_TOKEN_URL: http:// would show the network the client secret; write https://"


def _redis_problems(settings: Settings) -> Iterator[str]:
    url = _split(settings.redis)
    if url is None or url.scheme not in ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix"):
        yield (
            "ISOTHERM_REDIS is no URL like redis://host:6379/0, rediss://user@host:6380/0, "
            "redis+cluster://host:6379 or unix:///path; "
            "in a password, characters such as / # ? @ are written %2F %23 %3F %40"
        )
        return
    if any(name.startswith("ssl_") for name in parse_qs(url.query)):
        yield "ISOTHERM_REDIS: TLS is not set in the URL; ISOTHERM_REDIS_CA, …_CERT and …_KEY are for that"
    if settings.redis_cluster and (not url.hostname or url.path.strip("/") not in ("", "0")):
        yield "ISOTHERM_REDIS: a cluster is named by one of its nodes, and has no database but 0"
    if url.password and settings.redis_password.get_secret_value():
        yield "ISOTHERM_REDIS_PASSWORD: the URL in ISOTHERM_REDIS holds a password too; keep one of them"
    files = (settings.redis_ca, settings.redis_cert, settings.redis_key)
    tls = url.scheme.startswith("rediss")
    yield from _tls_problems("ISOTHERM_REDIS", f"a URL with {url.scheme}://", tls, files)


def _tls_problems(named: str, without: str, tls: bool, files: tuple[str, str, str]) -> Iterator[str]:
    ca, cert, key = files
    if key and not cert:
        yield f"{named}_KEY: there is no {named}_CERT that it belongs to"
    elif not tls:
        told = dict(zip(("CA", "CERT", "KEY"), files, strict=True))
        if unused := [f"{named}_{name}" for name, value in told.items() if value]:
            yield f"{', '.join(unused)}: nothing is encrypted with {without}"
    else:
        try:
            client_context(named, ca, cert, key)
        except ValueError as error:
            yield str(error)


def _url_problems(settings: Settings) -> Iterator[str]:
    if alert := settings.alert_url.get_secret_value():
        url = _split(alert)
        if url is None or url.scheme not in ("http", "https") or not url.hostname:
            yield "ISOTHERM_ALERT_URL is no URL like https://hooks.slack.com/services/…"


def _split(url: str) -> Any:
    """Its parts; None when it is none. What Python says of one may hold a part of the password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts
