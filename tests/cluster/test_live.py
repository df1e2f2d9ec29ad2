"""The whole of it on a cluster: what is folded, told, asked and made anew, and a slot that moves meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr
from redis.crc import key_slot

from streams import topics
from streams.keys import PartitionKeys
from streams.settings import Settings
from tests.cluster.conftest import Nodes
from tests.live.conftest import TIMEOUT_S, Changes, Receiver, Worker, done, receiver, working
from tests.live.test_end_to_end import page

__all__ = ["receiver"]
PARTITIONS = 4


@pytest.fixture
def settings(settings_of: Callable[..., Settings], cluster: Nodes, receiver: Receiver) -> Settings:
    key = SecretStr("a secret of the tests")
    return settings_of(redis=cluster.url, partitions=PARTITIONS, alert_url=receiver.url, person_key=key)


@pytest.fixture
async def worker(settings: Settings, tmp_path: Path) -> AsyncIterator[Worker]:
    await topics.create(settings)
    with working(settings, tmp_path / "worker.log") as made:
        yield made


def state_of(account: str) -> Any:
    return lambda event: event["subject"] == account and event["type"] == "account.state"


def is_hot(event: dict[str, Any]) -> bool:
    return (event["type"], event["data"].get("to")) == ("segment.moved", "hot")


async def test_accounts_are_folded_asked_for_and_rebuilt_while_a_slot_moves(
    settings: Settings, worker: Worker, cluster: Nodes, receiver: Receiver
) -> None:
    web, changes = settings.topics(topics.WEB_ACTIVITY), Changes(settings)
    await done(settings, "deploy")
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        await producer.send_and_wait(web, page(0, int(time.time() * 1000)), key=b"u-1001")
        partition = (await changes.until(state_of("group:acme")))["data"]["position"]["partition"]
        slot = key_slot(PartitionKeys.of(partition, PARTITIONS, settings.namespace).meta.encode())
        home = cluster.of(slot)
        other = next(node for node in cluster if node is not home)
        cluster.move(slot, other)
        for n in range(1, 4):
            await producer.send_and_wait(web, page(n, int(time.time() * 1000)), key=b"u-1001")
        entered = await changes.until(is_hot)
    assert entered["subject"] == "group:acme"
    await asyncio.wait_for(receiver.arrived.wait(), TIMEOUT_S)
    assert len(receiver.messages) == 1

    told = json.loads(await done(settings, "explain", "group:acme", "--json"))
    assert told["dimensions"]["engagement"]["segment"] == "hot"
    assert "group:acme" in await done(settings, "members", "engagement/hot")
    assert json.loads(await done(settings, "report", "--json"))["dimensions"]["engagement"]["size"] == 1
    assert json.loads(await done(settings, "status", "--json"))["problems"] == []
    assert "Redis holds what the log says" in await done(settings, "verify", "--all")
    assert f"{PARTITIONS} partitions" in await done(settings, "rebuild", "--whole")
    assert "known as" in await done(settings, "erase", "--user", "u-1001")
    assert worker.stop() == 0
    assert not changes.contradictions()
    cluster.move(slot, home)
