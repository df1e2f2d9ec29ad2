"""What is remembered over time outlives the process that took it."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError
from structlog.testing import capture_logs

from streams.remembering import DAY, MONTH, Remembered

HOUR = 3_600_000
NOW = 1_772_409_600_000
PAGE = (Path(__file__).parents[2] / "docs" / "dashboard.md").read_text()


@asynccontextmanager
async def namespace(url: str) -> AsyncIterator[tuple[Redis, str]]:
    """One of the test's own, on the Redis that others use too."""
    async with Redis.from_url(url) as redis:
        yield redis, f"remembering{secrets.token_hex(5)}"


def remembered(redis: Redis, name: str) -> Remembered[int]:
    return Remembered(redis, "sizes", name, int)


async def test_a_day_is_kept_in_fine_steps_and_35_days_in_coarse_ones(redis_url: str) -> None:
    async with namespace(redis_url) as (redis, name):
        first = remembered(redis, name)
        times = [*range(NOW - 40 * 24 * HOUR, NOW - 25 * HOUR, HOUR), *range(NOW - 25 * HOUR, NOW + 1, DAY.step)]
        for at in times:
            await first.keep(at, at % 1000)
        later = remembered(redis, name)
        await later.read()
        for each in (first, later):
            fine, coarse = each.over(DAY), each.over(MONTH)
            assert [at for at, _ in fine] == [at for at in times if at > NOW - 24 * HOUR]
            assert [at for at, _ in coarse] == list(range(NOW - 35 * 24 * HOUR + HOUR, NOW + 1, HOUR))
        assert await redis.zcard(f"{name}:{{sizes}}:day") == DAY.most
        assert await redis.zcard(f"{name}:{{sizes}}:35d") == MONTH.most
        assert await later.forget() == 2
        assert await redis.keys(f"{name}:*") == []


async def test_of_several_processes_one_takes_a_sample_in_a_step(redis_url: str) -> None:
    async with namespace(redis_url) as (redis, name):
        one, other = remembered(redis, name), remembered(redis, name)
        assert [await one.wants(NOW), await other.wants(NOW)] == [True, False]
        await one.keep(NOW, 7)
        assert 0 < await redis.pttl(f"{name}:{{sizes}}:turn") < DAY.step
        await redis.delete(f"{name}:{{sizes}}:turn")  # as time does
        assert [await other.wants(NOW + DAY.step - 1), other.over(DAY)] == [False, [(NOW, 7)]]
        assert [await other.wants(NOW + DAY.step), await one.wants(NOW + DAY.step)] == [True, False]


async def test_a_clock_that_was_put_back_does_not_stop_it(redis_url: str) -> None:
    async with namespace(redis_url) as (redis, name):
        kept = remembered(redis, name)
        await kept.keep(NOW + 24 * HOUR, 1)
        assert await kept.wants(NOW)
        await kept.keep(NOW, 2)
        await (later := remembered(redis, name)).read()
        assert kept.over(DAY) == later.over(DAY) == [(NOW, 2)]


# -- rights --------------------------------------------------------------------------------------------------

READER = "resetchannels %R~{name}:* -@all +@hash +@set +@sortedset +@stream +@string +exists +time +multi +exec"


@asynccontextmanager
async def reader(redis: Redis, url: str, name: str, more: str = "") -> AsyncIterator[Redis]:
    """Who has the rights of a reader, and these."""
    rules = READER.format(name=name).split()
    await redis.execute_command("ACL", "SETUSER", name, "on", ">word", *rules, *([more] if more else []))
    try:
        async with Redis.from_url(url, username=name, password="word") as its:
            yield its
    finally:
        await redis.execute_command("ACL", "DELUSER", name)


async def test_who_may_not_write_goes_on_remembering_and_says_so_once(redis_url: str) -> None:
    async with namespace(redis_url) as (redis, name), reader(redis, redis_url, name) as its:
        await remembered(redis, name).keep(NOW - DAY.step, 1)
        kept = remembered(its, name)
        with capture_logs() as said:
            for n in range(3):
                assert await kept.wants(NOW + n * DAY.step)
                await kept.keep(NOW + n * DAY.step, n)
        assert [each["event"] for each in said] == ["remembered by this process only"]
        assert kept.over(DAY) == [(NOW - DAY.step, 1), *((NOW + n * DAY.step, n) for n in range(3))]
        await (later := remembered(redis, name)).read()
        assert len(later.over(DAY)) == 1


async def test_the_rights_of_the_docs_are_enough_and_no_more(redis_url: str) -> None:
    found = re.search(r"^\(.*\)$", PAGE, re.MULTILINE)
    assert found
    async with namespace(redis_url) as (redis, name):
        more = found[0].replace("isotherm", name)
        async with reader(redis, redis_url, name, more) as its:
            kept = remembered(its, name)
            with capture_logs() as said:
                assert await kept.wants(NOW)
                await kept.keep(NOW, 1)
            assert said == []
            with pytest.raises(NoPermissionError):
                await its.set(f"{name}:partitions", 3)
        await (later := remembered(redis, name)).read()
        assert later.over(DAY) == [(NOW, 1)]
