"""One server, and a cluster of three: a client that needs no more than either gives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from streams.settings import Settings
from streams.store.redis import connect
from tests.cluster.conftest import cluster, nodes

__all__ = ["cluster", "nodes"]


@pytest.fixture(params=["one server", "cluster"])
async def client(request: pytest.FixtureRequest, redis: Any) -> AsyncIterator[Redis]:
    name = "cluster" if request.param == "cluster" else "redis_url"
    found = request.getfixturevalue(name)
    async with connect(Settings(redis=getattr(found, "url", found))) as opened:
        yield opened
