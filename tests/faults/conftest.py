"""The cluster for all fault tests, and for each of them an installation of its own on it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from streams import topics
from streams.settings import Settings
from tests.conftest import running
from tests.faults.servers import Cluster, RedisPair
from tests.faults.world import PARTITIONS, World
from tests.kafka.broker import JARS, OLDEST_JAVA, java_version

SESSION_MS = 4_000


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks those that break servers; of these ISOTHERM_FAULTS_ONLY, `1,2,14`, names the faults that are run."""
    only = {int(each) for each in os.environ.get("ISOTHERM_FAULTS_ONLY", "").split(",") if each}
    here = Path(__file__).parent
    for item in items:  # of the whole run, not of this directory alone
        if isinstance(item, pytest.Function) and here in item.path.parents and "world" in item.fixturenames:
            if item.get_closest_marker("soak"):
                continue
            item.add_marker("faults")
            number = item.callspec.params["number"] if hasattr(item, "callspec") else 0
            if only and number not in only:
                item.add_marker(pytest.mark.skip(reason="not among the faults that were asked for"))


@pytest.fixture(scope="session")
def outage_s() -> float:
    """How long outages last."""
    return float(os.environ.get("ISOTHERM_FAULTS_OUTAGE_S", "20"))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if java_version() < OLDEST_JAVA or not (JARS / "pom.xml").exists():
        raise RuntimeError("Apache Kafka is not here: run these tests with `make test-faults`, which fetches it")
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def keeps() -> str:
    """What Redis writes to disk; a test may say otherwise."""
    return "aof-everysec"


@pytest.fixture
def redis_pair(tmp_path: Path, keeps: str) -> Iterator[RedisPair]:
    with running(RedisPair(tmp_path / "redis", keeps)) as pair:
        yield pair


@pytest.fixture
def redis_url(redis_pair: RedisPair) -> str:
    return redis_pair.direct


@pytest.fixture
async def world(
    cluster: Cluster, redis_pair: RedisPair, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[World]:
    """Topics, rules in force, no worker yet."""
    cluster.revive()
    settings = Settings(
        kafka=cluster.proxied,
        redis=redis_pair.proxied,
        partitions=PARTITIONS,
        replication=3,
        topic_prefix=topic_prefix,
        namespace=topic_prefix.rstrip("."),
        person_key=SecretStr("a secret of the tests"),
        session_timeout_ms=SESSION_MS,
        batch=200,
    )
    direct = settings.model_copy(update={"kafka": cluster.direct, "redis": redis_pair.direct})
    await topics.create(direct)
    made = World(cluster, redis_pair, settings, direct, tmp_path)
    await made.shown()
    await made.deploy()
    yield made
    for worker in made.workers:
        worker.kill()
    cluster.revive()


class Rows:
    """The table that `docs/reliability.md` quotes: a row for each fault, in the file the environment names."""

    def __init__(self) -> None:
        self.path = Path(os.environ.get("ISOTHERM_FAULTS_ROWS", ".isotherm/faults.json"))

    def add(self, **row: object) -> None:
        rows = json.loads(self.path.read_text()) if self.path.exists() else []
        key = (row["fault"], row["where"])
        rows = [each for each in rows if (each["fault"], each["where"]) != key] + [row]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(sorted(rows, key=lambda each: (each["fault"], each["where"])), indent=1))
        print(" | ".join(f"{name} {value}" for name, value in row.items()))


@pytest.fixture(scope="session")
def rows() -> Rows:
    return Rows()
