"""What a commit may wait for before it is published: the disk of its server, or a replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.embedded import Valkey, free_port
from streams.store import redis as store_module
from streams.store.redis import RedisStore
from tests.conftest import running


@pytest.fixture
async def replica(redis: Any, redis_url: str, tmp_path: Path) -> AsyncIterator[Any]:
    """A second server that follows the first, which listens on TCP for as long."""
    if (await redis.info("server")).get("server_name") != "valkey":
        pytest.skip("the replica is a Valkey, which follows a Valkey only")
    port = int((await redis.config_get("port"))["port"])
    if not port:
        await redis.config_set("port", str(port := free_port()))
    await redis.config_set("repl-diskless-sync-delay", "0")
    with running(Valkey(tmp_path / "replica")) as server:
        async with Redis.from_url(server.url) as following:
            await following.execute_command("REPLICAOF", "127.0.0.1", port)
            while (await following.info("replication"))["master_link_status"] != "up":
                await asyncio.sleep(0.02)
            yield following
            await following.execute_command("REPLICAOF", "NO", "ONE")


async def test_without_a_barrier_nothing_is_waited_for(redis: Any) -> None:
    await RedisStore(redis, 1).safe(0)
    assert await redis.keys("*") == []


async def test_no_replica_is_an_outage_that_is_waited_out(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BARRIER_MS", 20)
    with pytest.raises(RedisError, match="no replica has what was committed"):
        await RedisStore(redis, 1, barrier="replica").safe(0)


async def test_a_replica_has_it_first(redis: Any, replica: Any) -> None:
    await redis.set("committed", "before")
    await RedisStore(redis, 1, barrier="replica").safe(0)
    assert await replica.get("committed") == b"before"


async def test_the_disk_has_it_first(redis: Any) -> None:
    if tuple(int(part) for part in (await redis.info("server"))["redis_version"].split(".")[:2]) < (7, 2):
        pytest.skip("this Redis is older than 7.2 and has no WAITAOF")
    await redis.config_set("appendonly", "yes")
    await RedisStore(redis, 1, barrier="disk").safe(0)
    info = await redis.info("persistence")
    assert info["aof_last_write_status"] == "ok"
