"""Every setting: an environment variable `ISOTHERM_…`, checked once at start."""

from __future__ import annotations

from functools import cached_property

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.topics import Topics


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ISOTHERM_", extra="ignore", frozen=True)

    kafka: str = Field(default="127.0.0.1:9092", description="Kafka bootstrap servers, host:port,host:port")
    redis: str = Field(
        default="redis://127.0.0.1:6379/0", description="Redis or Valkey URL; unix:///path works too"
    )
    partitions: int = Field(
        default=64, ge=1, le=4096, description="partitions of account.log; frozen once created"
    )
    replication: int = Field(
        default=1, ge=1, le=5, description="replicas of the topics that `isotherm topics` creates"
    )
    person_key: SecretStr = Field(
        default=SecretStr(""), description="secret that keys the hashes of persons; the router wants one"
    )
    alert_url: str = Field(
        default="", description="Slack-shaped webhook for accounts that turn hot; empty: no alerts"
    )
    sources: str = Field(
        default="", description="the sources file that the router reads at start; empty: the shipped one"
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
    role: str = Field(default="all", description="router, fold, deliver or all")
    collector_host: str = Field(default="127.0.0.1", description="the address on which the collector listens")
    collector_port: int = Field(default=8088, ge=0, le=65_535, description="its port; 0: any that is free")
    collector_url: str = Field(
        default="", description="the collector's URL as HubSpot sees it; empty: that of the request"
    )
    collector_origins: str = Field(
        default="*", description="web origins whose pages may post calls, https://a,https://b; *: all; empty: none"
    )
    write_keys: SecretStr = Field(
        default=SecretStr(""), description="name:key,name:key for Segment calls, or a file of them: /path"
    )
    record_keys: SecretStr = Field(
        default=SecretStr(""), description="name:key,name:key for canonical records, or a file of them: /path"
    )
    hubspot_client_secret: SecretStr = Field(
        default=SecretStr(""), description="the HubSpot app's client secret, with which it signs"
    )

    @cached_property
    def topics(self) -> Topics:
        return Topics(self.topic_prefix)

    def group(self, name: str) -> str:
        return f"{self.topic_prefix}isotherm.{name}"
