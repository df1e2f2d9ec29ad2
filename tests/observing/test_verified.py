"""What `isotherm verify` found is left for whoever watches; who may not write is told so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streams import keys
from streams.observing.verified import Verified, last_verified, leave
from streams.settings import Settings
from streams.store.redis import connect
from tests.security.conftest import READER, Guarded, authority, guarded

__all__ = ["authority", "guarded"]
FOUND = {"compared": 25, "left_out": 3, "over": 2, "under": 1, "answers": 3, "wakes": 0, "sets": 4}


@pytest.fixture
def settings(settings_of: Callable[..., Settings]) -> Settings:
    return settings_of()


@pytest.mark.redis
async def test_what_was_found_is_there_until_the_next_time(settings: Settings, redis: Any) -> None:
    assert await last_verified(redis, settings.namespace) is None
    assert await leave(settings, FOUND) == ""
    first = await last_verified(redis, settings.namespace)
    assert first is not None
    assert first == Verified(first.at, 25, 2, 1, 3, 0, 4)
    seconds, _ = await redis.time()
    assert 0 <= seconds - first.at // 1000 <= 60
    assert await leave(settings, dict.fromkeys(FOUND, 0) | {"compared": 7}) == ""
    then = await last_verified(redis, settings.namespace)
    assert then is not None
    assert then == Verified(then.at, 7, 0, 0, 0, 0, 0)
    assert then.at >= first.at


@pytest.mark.redis
@pytest.mark.parametrize("left", [{"at": "5"}, {"at": "soon", **FOUND}, {b"\xff": b"\xff"}])
async def test_what_cannot_be_read_is_as_if_it_were_not_there(
    settings: Settings, redis: Any, left: dict[Any, Any]
) -> None:
    await redis.hset(keys.verified(settings.namespace), mapping=left)
    assert await last_verified(redis, settings.namespace) is None


@pytest.mark.redis
async def test_a_reader_may_not_leave_it_and_is_told_so(guarded: Guarded) -> None:
    settings = Settings(**guarded.given(READER))
    why = await leave(settings, FOUND)
    assert "permission" in why.lower()
    redis = connect(settings)
    assert await last_verified(redis, settings.namespace) is None, "it may look"
    await redis.aclose()


async def test_an_absent_redis_is_a_sentence() -> None:
    assert "connect" in (await leave(Settings(redis="redis://127.0.0.1:1/0"), FOUND)).lower()
