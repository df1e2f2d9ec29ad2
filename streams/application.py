"""The Faust application: it starts, supervises and stops what runs, by role.

    router   source topics → account.log              a service with its own batch loop
    fold     account.log → Redis → segment.changes    two services: fold and publisher
    deliver  segment.changes → webhook endpoints      a service for each
             segment.changes → alerts                 a Faust agent

Run it with `isotherm worker` or `faust -A streams worker`.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import faust
import structlog
from faust.auth import Credentials, OAuthCredentials, SASLCredentials, SSLCredentials
from mode import Service

from streams import logs, traces
from streams import topics as names
from streams.alerting.service import Alerting, rules_of
from streams.clock import RedisClock
from streams.connecting import kafka_options
from streams.delivery import endpoints
from streams.delivery.service import Deliverer, RedisTime
from streams.fold import Fold
from streams.observing.serving import Answering, listener_of
from streams.observing.signing import Signing
from streams.observing.worker import Watched
from streams.outage import wait_out
from streams.preflight import preflight
from streams.producer import Producer
from streams.publisher import Publisher
from streams.router import Router
from streams.settings import Settings
from streams.store.base import Outbound
from streams.store.redis import RedisStore, connect
from streams.store.sources import SourceStore
from streams.traces import Traces

ROLES = ("router", "fold", "deliver", "all")
log = structlog.get_logger()


@dataclass(slots=True)
class Parts:
    """What the services share, opened before the first of them starts."""

    settings: Settings
    redis: Any
    clock: RedisClock
    producer: Producer
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    listener: socket.socket | None = None  # for metrics
    traces: Traces | None = None

    @classmethod
    def of(cls, settings: Settings) -> Parts:
        """Raises SettingsError when there is no port for metrics."""
        listener, redis = listener_of(settings), connect(settings)
        parts = cls(settings, redis, RedisClock(redis), Producer(settings), listener=listener)
        parts.traces = traces.of(settings)
        return parts


class Isotherm(Service):
    """Router, fold and publisher of one process, in the order in which they depend on each other."""

    def __init__(self, parts: Parts, role: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts, self.role = parts, role
        settings = parts.settings
        store = RedisStore(parts.redis, settings.partitions, settings.namespace, settings.barrier)
        self.publisher = Publisher(store, parts.producer, parts.clock, settings.topics)
        self.fold = Fold(settings, store, parts.producer, self.publisher, parts.clock, parts.traces)
        self.sources = SourceStore(parts.redis, settings.namespace)
        self.alerting: Alerting | None = None
        if role in ("deliver", "all") and (rules := rules_of(settings)) is not None:
            app = partial(_faust, settings)
            self.alerting = Alerting(settings, rules, parts.redis, parts.producer, parts.clock, app)
        self.watched = Watched(settings, parts.redis, parts.clock, alerting=self.alerting)

    async def on_start(self) -> None:
        settings, parts, watched = self.parts.settings, self.parts, self.watched
        if parts.listener is not None:
            await self.add_runtime_dependency(Answering(watched, parts.listener))
        await preflight(settings, lambda: self.should_stop)
        await wait_out("Redis", parts.clock.sync, lambda: self.should_stop)
        await wait_out("Kafka", parts.producer.start, lambda: self.should_stop)
        if self.role in ("fold", "all"):
            await self.add_runtime_dependency(self.publisher)
            await self.add_runtime_dependency(self.fold)
            watched.publisher, watched.fold = self.publisher, self.fold
            await self.add_runtime_dependency(Signing(settings, parts.redis, parts.clock, self.fold))
        if self.role in ("router", "all"):
            watched.router = Router(settings, self.sources, parts.producer, parts.clock, traces=parts.traces)
            await self.add_runtime_dependency(watched.router)
        if self.role in ("deliver", "all"):
            for endpoint in endpoints.read(settings.webhooks):
                told = partial(publish_event, parts.producer, parts.clock)
                deliverer = Deliverer(settings, endpoint, parts.redis, RedisTime(parts.clock), told)
                watched.deliverers.append(deliverer)
                await self.add_runtime_dependency(deliverer)
        if self.alerting is not None:
            await self.add_runtime_dependency(self.alerting)
        watched.is_started = not self.should_stop
        log.info("started", role=self.role, kafka=settings.kafka)

    async def on_shutdown(self) -> None:
        for close in self.parts.closing:
            await close()
        await self.parts.producer.stop()
        await self.parts.redis.aclose()
        if self.parts.traces is not None:
            await asyncio.to_thread(self.parts.traces.close)


async def publish_event(producer: Producer, clock: RedisClock, endpoint: str, event: bytes) -> None:
    """Tells operators of an endpoint. Raises what an absent broker raises."""
    await producer.send([Outbound(names.DELIVERY_EVENTS, endpoint, event)], clock.now())


def build(settings: Settings) -> faust.App:
    """The application for `settings`; one process has one."""
    app = _faust(settings, f"{settings.topic_prefix}isotherm")
    parts = Parts.of(settings)

    @app.service
    class _Isotherm(Isotherm):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(parts, settings.role, **kwargs)

    letters = app.topic(settings.topics(names.DEAD_LETTERS), value_type=bytes, key_type=bytes)

    @app.agent(letters, name="dead_letters", concurrency=1)
    async def dead_letters(stream: Any) -> None:
        """Says what was rejected, a line each; the letters stay in their topic."""
        async for event in stream.events():
            told = {key: _text(value) for key, value in dict(event.headers or {}).items()}
            log.warning("dead letter", **{k: told[k] for k in ("reason", "source", "detail") if k in told})

    return app


def _faust(settings: Settings, id: str, **more: Any) -> faust.App:
    """A Faust application of the consumer group `id`."""
    return faust.App(
        id,
        broker="aiokafka://" + ";".join(settings.kafka.split(",")),
        broker_credentials=credentials(settings),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        topic_create=False,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=settings.session_timeout_ms / 1000,
        broker_heartbeat_interval=settings.session_timeout_ms / 3000,
        broker_commit_interval=1.0,
        value_serializer="raw",
        key_serializer="raw",
        store="memory://",
        datadir=Path(tempfile.gettempdir()) / "isotherm-faust",  # Faust wants one; nothing of ours is in it
        logging_config=logs.CONFIG,
        **more,
    )


def credentials(settings: Settings) -> Credentials | None:
    """For Faust's own clients, what `kafka_options` are for ours."""
    options = kafka_options(settings)
    tls = options.get("ssl_context")
    if "sasl_oauth_token_provider" in options:
        return OAuthCredentials(oauth_cb=options["sasl_oauth_token_provider"], ssl_context=tls)
    if "sasl_mechanism" in options:
        return SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"],
            ssl_context=tls,
        )
    return None if tls is None else SSLCredentials(tls)


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
