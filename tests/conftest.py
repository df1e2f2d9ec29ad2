"""A broker and a Redis for every test that asks: embedded, or those named in the environment.

`ISOTHERM_TEST_KAFKA=host:port` and `ISOTHERM_TEST_REDIS=redis://…` name others (that Redis is emptied!). The
servers live as long as the session. A test that uses one carries its mark, `kafka` or `redis`, by itself.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

import hypothesis
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from redis.asyncio import Redis

from streams.embedded import Broker, NotInstalled, Startable, Valkey
from streams.settings import Settings

S = TypeVar("S", bound=Startable)

# A slow machine is no bug.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "redis: needs a Redis; also run against redis-server by make test-kafka")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's background jobs are born ignoring it, and so would be what we start and stop by it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "kafka" in fixtures:
            item.add_marker("kafka")
        if "redis_url" in fixtures:
            item.add_marker("redis")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bootstrap address. Shared by all: name topics and groups with `topic_prefix`."""
    if named := os.environ.get("ISOTHERM_TEST_KAFKA"):
        yield named
        return
    with running(Broker(tmp_path_factory.mktemp("kafka"))) as broker:
        yield broker.address


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis URL. Shared by all: take `redis` to have it empty."""
    if named := os.environ.get("ISOTHERM_TEST_REDIS"):
        yield named
        return
    with running(Valkey(tmp_path_factory.mktemp("redis"))) as valkey:
        yield valkey.url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client that returns bytes, on an empty Redis."""
    async with Redis.from_url(redis_url, decode_responses=False) as client:
        await client.flushall()
        yield client


@pytest.fixture
def topic_prefix() -> Iterator[str]:
    """Begins names of topics, groups and transactions that no other test has, nor an earlier run."""
    prefix = f"t{secrets.token_hex(5)}."
    yield prefix
    if named := os.environ.get("ISOTHERM_TEST_KAFKA"):
        delete_topics(named, prefix)


def delete_topics(address: str, prefix: str) -> None:
    """A broker that keeps thousands of them becomes slow; what it says to that is none of a test's business."""
    client = AdminClient({"bootstrap.servers": address, "log_level": 0})
    with suppress(KafkaException):
        if names := [name for name in client.list_topics(timeout=10).topics if name.startswith(prefix)]:
            wait(client.delete_topics(names).values(), timeout=10)


@pytest.fixture
def settings_of(kafka: str, redis_url: str, topic_prefix: str) -> Callable[..., Settings]:
    """Makes the settings of an installation of a test's own, on the servers of the run, as these want them."""
    embedded = not os.environ.get("ISOTHERM_TEST_KAFKA")
    return partial(
        Settings,
        kafka=kafka,
        redis=redis_url,
        topic_prefix=topic_prefix,
        namespace=topic_prefix.rstrip("."),
        idempotence=not embedded,
        fetch_max_wait_ms=5 if embedded else 20,
        session_timeout_ms=1000 if embedded else 6000,
    )


@contextmanager
def running(server: S) -> Iterator[S]:
    """The server, started; where its binary is missing, CI fails and a laptop skips."""
    try:
        server.start()
    except NotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.stop()
