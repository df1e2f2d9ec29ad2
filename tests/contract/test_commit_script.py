"""The one write, at each place at which it could fail: before it equals after."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError

from rules.fold import Partition
from rules.state import AccountState, Standing
from streams.store.base import Commit, Outbound, Refused
from streams.store.redis import RedisStore

CHANGE = Outbound("segment.changes", "acme", b"{}")


@pytest.fixture
def store(redis: Any) -> RedisStore:
    return RedisStore(redis, 1)


def full(token: str, at: int = 0) -> Commit:
    """A commit that writes something everywhere."""
    hot = AccountState(born=0, standings={"engagement": Standing(("hot",), 5, 900)}, wake=900)
    return Commit(
        token,
        at,
        f"batch-{at}",
        Partition(0, offset=at + 1, log_time=7),
        {"acme": hot, "bolt": hot, "gone": None},
        {"acme": 900, "bolt": 1 << 53},
        {("engagement", "hot"): ["acme"]},
        {("engagement", "cold"): ["bolt"]},
        (CHANGE,),
        {"rules.yaml": "a"},
        {20_000: {"engagement/hot/entered": 1}},
        [19_000],
    )


async def everything(redis: Any) -> dict[bytes, bytes]:
    keys = sorted([key async for key in redis.scan_iter("*")])
    return {key: await redis.dump(key) for key in keys}


async def run(store: RedisStore, keys: list[str], arguments: list[Any]) -> Any:
    return await store._commit(keys=keys, args=arguments)


async def test_each_argument_that_is_missing_or_wrong_is_refused_before_the_first_write(
    store: RedisStore, redis: Any
) -> None:
    acquired = await store.acquire(0)
    await store.commit(full(acquired.token))
    keys, arguments = store._written(full(acquired.token, 1))
    before, taken = await everything(redis), 0
    for i in range(len(arguments)):
        for wrong in ([*arguments[:i], *arguments[i + 1 :]], [*arguments[:i], "x", *arguments[i + 1 :]]):
            try:
                status, _ = await run(store, keys, wrong)
            except ResponseError:
                assert await everything(redis) == before, f"argument {i + 1}"
                continue
            if status in (b"FENCED", b"MOVED"):
                assert await everything(redis) == before, f"argument {i + 1}"
                continue
            # Other text where any text can stand is another commit, written as such.
            assert status == b"OK"
            assert len(wrong) == len(arguments), f"argument {i + 1} is missing, and nobody noticed"
            taken += 1
            await redis.flushall()
            for key, dumped in before.items():
                await redis.restore(key, 0, dumped)
    # The batch, the partition, files, messages; names, of which there are 8, and 2 states.
    assert taken == 14, "only what no script can judge"


async def test_each_key_of_another_type_is_refused_before_the_first_write(store: RedisStore, redis: Any) -> None:
    acquired = await store.acquire(0)
    keys, arguments = store._written(full(acquired.token))
    assert len(keys) == 9
    for i, key in enumerate(keys[1:], 1):
        before = await redis.dump(key)
        await redis.delete(key)
        await redis.lpush(key, "x")
        present = await everything(redis)
        with pytest.raises(ResponseError, match="is a list"):
            await run(store, keys, arguments)
        assert await everything(redis) == present, f"key {i + 1}"
        await redis.delete(key)
        if before:
            await redis.restore(key, 0, before)
    assert (await run(store, keys, arguments))[0] == b"OK"


async def test_an_outbox_that_is_ahead_refuses_the_whole(store: RedisStore, redis: Any) -> None:
    """Its entries grow with the log: one from farther on says that this is not the Redis we think it is."""
    acquired = await store.acquire(0)
    keys, arguments = store._written(full(acquired.token))
    await redis.xadd(keys[3], {"m": b""}, id="7-0")
    before = await everything(redis)
    with pytest.raises(ResponseError, match="XADD"):
        await run(store, keys, arguments)
    assert await everything(redis) == before


async def test_a_full_redis_refuses_the_whole_and_takes_it_when_there_is_room(
    store: RedisStore, redis: Any
) -> None:
    acquired = await store.acquire(0)
    await store.commit(full(acquired.token))
    before = await everything(redis)
    await redis.config_set("maxmemory-policy", "noeviction")
    await redis.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(ResponseError, match=r"(?i)oom|maxmemory"):
            await store.commit(full(acquired.token, 1))
        assert await everything(redis) == before
    finally:
        await redis.config_set("maxmemory", "0")
    done = await store.commit(full(acquired.token, 1))
    assert not isinstance(done, Refused)
    assert done.repeated is False
