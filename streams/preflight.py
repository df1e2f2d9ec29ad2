"""What must be true before a worker runs. Everything that is not ends with a sentence on what to do."""

from __future__ import annotations

from collections.abc import Callable, Collection
from ssl import SSLCertVerificationError
from typing import Any

import structlog
from redis.exceptions import AuthenticationError, MovedError, NoPermissionError, RedisError

from rules.errors import RulesetError
from streams import connecting, keys, sources, topics, traces
from streams.alerting.service import rules_of
from streams.delivery import endpoints
from streams.outage import wait_out
from streams.settings import Settings
from streams.store.redis import connect

log = structlog.get_logger()


class SettingsError(Exception):
    """A setting that makes no sense here. The message says what to do."""


async def preflight(settings: Settings, stopped: Callable[[], bool] = lambda: False) -> None:
    """Waits for Redis and Kafka, then raises SettingsError or TopicsError if they are not as they must be."""
    if not settings.person_key.get_secret_value() and settings.role in ("router", "all"):
        raise SettingsError("set ISOTHERM_PERSON_KEY to a secret of your own: it keys the hashes of persons")
    read = _check_sources(settings) if settings.role in ("router", "all") else ()
    _check_endpoints(settings)
    if settings.traces and not traces.is_installed():
        raise SettingsError("ISOTHERM_TRACES wants OpenTelemetry: pip install 'isotherm[tracing]', or set it to 0")
    if settings.role in ("deliver", "all"):
        _check_alerts(settings)
    redis = connect(settings)
    try:
        await wait_out("Redis", lambda: _check_redis(redis, settings), stopped)
    finally:
        await redis.aclose()
    await wait_out("Kafka", lambda: _check_kafka(settings, read), stopped)


def say_what_is_in_the_clear(settings: Settings) -> None:
    for each in settings.in_the_clear():
        log.warning("in the clear", why=each)


def _check_sources(settings: Settings) -> Collection[str]:
    """The topics that the router reads."""
    try:
        return sources.read(settings.sources).topics
    except RulesetError as error:
        raise SettingsError(f"{error}\n{len(error.problems)} problem(s) in ISOTHERM_SOURCES") from None


def _check_endpoints(settings: Settings) -> None:
    try:
        endpoints.read(settings.webhooks)
    except RulesetError as error:
        raise SettingsError(f"{error}\n{len(error.problems)} problem(s) in ISOTHERM_WEBHOOKS") from None


def _check_alerts(settings: Settings) -> None:
    try:
        rules_of(settings)
    except RulesetError as error:
        raise SettingsError(f"{error}\n{len(error.problems)} problem(s) in ISOTHERM_ALERTS") from None


async def _check_kafka(settings: Settings, read: Collection[str]) -> None:
    if refused := await connecting.refusal(settings):
        raise SettingsError(f"Kafka at {refused}")
    await topics.check(settings, read)


async def _check_redis(redis: Any, settings: Settings) -> None:
    try:
        await _check_partitions(redis, settings)
    except MovedError:
        raise SettingsError(
            "ISOTHERM_REDIS names a node of a cluster: write redis+cluster:// instead of redis://"
        ) from None
    except RedisError as error:
        for each in (error, error.__cause__, error.__context__):  # redis-py wraps what ends a connection's start
            if isinstance(each, AuthenticationError | NoPermissionError):
                raise SettingsError(
                    f"Redis refuses us (ISOTHERM_REDIS, ISOTHERM_REDIS_PASSWORD): {error}"
                ) from None
            if isinstance(each, SSLCertVerificationError):
                raise SettingsError(f"Redis is not trusted (ISOTHERM_REDIS, ISOTHERM_REDIS_CA): {error}") from None
        raise


async def _check_partitions(redis: Any, settings: Settings) -> None:
    """State is kept by partition: with another number of them every account would be looked for elsewhere."""
    key, ours = keys.partitions(settings.namespace), settings.partitions
    await redis.set(key, ours, nx=True)
    held = int(await redis.get(key))
    if held != ours:
        raise SettingsError(
            f"Redis holds {held} partitions, ISOTHERM_PARTITIONS says {ours}: set it to {held}, "
            "or give a new installation a namespace of its own (ISOTHERM_NAMESPACE)"
        )
