"""Redis or the broker goes away: the worker waits, says so once, and goes on where it was."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from aiokafka import AIOKafkaProducer

from streams import topics
from streams.embedded import Valkey
from streams.settings import Settings
from tests.live.conftest import TIMEOUT_S, Changes, Worker, isotherm
from tests.live.test_end_to_end import moved, page


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    return valkey.url


async def said(worker: Worker, event: str) -> list[dict[str, str]]:
    """The worker's lines of that kind, once there is one."""

    async def look() -> list[dict[str, str]]:
        while not (found := [line for line in worker.said() if line["event"] == event]):
            await asyncio.sleep(0.05)
        return found

    return await asyncio.wait_for(look(), TIMEOUT_S)


async def test_redis_is_killed_and_comes_back(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes, valkey: Valkey
) -> None:
    isotherm(settings, "deploy")
    web, now = settings.topics(topics.WEB_ACTIVITY), int(time.time() * 1000)
    await producer.send_and_wait(web, page(0, now), key=b"u")
    await changes.until(lambda event: event["type"] == "account.state")
    valkey.kill()
    for n in (1, 2):
        await producer.send_and_wait(web, page(n, now + n), key=b"u")
    await said(worker, "waiting")
    valkey.start()
    hot = await changes.until(moved("warm", "hot"))
    assert hot["data"]["reason"]["because"]["parts"][0]["value"] == 3
    assert worker.process is not None
    assert worker.process.poll() is None
    waits = [line["what"] for line in worker.said() if line["event"] == "waiting"]
    assert len(waits) <= 6, f"an outage is said once by each part that meets it, not {waits}"


@pytest.mark.skipif(
    not os.environ.get("ISOTHERM_TEST_KAFKA_PID"),
    reason="stopping the broker needs Apache Kafka: the embedded broker forgets everything (make test-kafka)",
)
async def test_the_broker_is_frozen_and_comes_back(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes
) -> None:
    """A broker that does not answer for longer than a session: nothing is lost, nothing comes twice."""
    import signal

    broker = int(os.environ["ISOTHERM_TEST_KAFKA_PID"])
    isotherm(settings, "deploy")
    web, now = settings.topics(topics.WEB_ACTIVITY), int(time.time() * 1000)
    await producer.send_and_wait(web, page(0, now), key=b"u")
    await changes.until(lambda event: event["type"] == "account.state")
    os.kill(broker, signal.SIGSTOP)
    await asyncio.sleep(settings.session_timeout_ms / 1000 + 2)
    os.kill(broker, signal.SIGCONT)
    for n in (1, 2):
        await producer.send_and_wait(web, page(n, now + n), key=b"u")
    hot = await changes.until(moved("warm", "hot"))
    assert hot["data"]["reason"]["because"]["parts"][0]["value"] == 3
    assert changes.contradictions() == []
