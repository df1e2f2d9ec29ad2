"""Faults 13 to 16: Redis is killed, goes back in time, is emptied, is full, is busy, or refuses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from pydantic import SecretStr
from redis.exceptions import RedisError

from tests.faults.conftest import Rows
from tests.faults.servers import RedisPair
from tests.faults.world import World, traffic
from tests.live.conftest import Receiver

DOWN_S = 5.0


async def a_worker(world: World) -> None:
    world.worker()
    await world.ready()


@pytest.mark.parametrize(("number", "keeps"), [(13, "aof-always"), (13, "aof-everysec"), (13, "rdb")])
async def test_redis_is_killed_and_comes_back(world: World, rows: Rows, number: int, keeps: str) -> None:
    """With snapshots only it comes back as it was some time ago."""
    await a_worker(world)
    async with traffic(world, seed=13):
        await world.more(300)
        if keeps == "rdb":
            world.redis.primary.ask("SAVE")
            await world.more(300)
        world.redis.primary.kill()
        await asyncio.sleep(DOWN_S)
        world.redis.primary.start()
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, f"Redis killed, {keeps}", report))
    assert not report.broken, str(report)
    assert bool(world.said("Redis has gone back")) is (keeps == "rdb")


@pytest.mark.parametrize("number", [14])
async def test_a_failover_loses_what_was_not_replicated(world: World, rows: Rows, number: int) -> None:
    await a_worker(world)
    async with traffic(world, seed=14):
        await world.more(300)
        world.redis.detach()
        await world.more(300)
        world.redis.promote()
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, "failover without the last writes", report))
    assert not report.broken, str(report)
    assert world.said("Redis has gone back")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    kept, server = Receiver(), web.Application()
    server.router.add_post("/alerts", kept.take)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kept.url = f"http://127.0.0.1:{runner.addresses[0][1]}/alerts"
    yield kept
    await runner.cleanup()


@pytest.mark.parametrize("number", [15])
async def test_redis_is_emptied(world: World, rows: Rows, receiver: Receiver, number: int) -> None:
    world.worker(alert_url=SecretStr(receiver.url))
    await world.ready()
    async with traffic(world, seed=15):
        await world.more(600)
        world.redis.primary.ask("FLUSHALL")
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, "Redis emptied", report), alerts=len(receiver.keys))
    assert not report.broken, str(report)
    assert world.said("Redis has gone back")
    assert receiver.keys
    assert len(receiver.keys) == len(set(receiver.keys)), "an alert was sent twice"


def fill(pair: RedisPair) -> Callable[[], None]:
    pair.primary.ask("CONFIG", "SET", "maxmemory", pair.primary.ask("INFO", "memory")["used_memory"])
    return lambda: pair.primary.ask("CONFIG", "SET", "maxmemory", 0)


def occupy(pair: RedisPair) -> Callable[[], None]:
    """A script that does not end: all others are told BUSY."""
    pair.primary.ask("CONFIG", "SET", "busy-reply-threshold", 100)

    def run() -> None:
        with pytest.raises(RedisError):
            pair.primary.ask("EVAL", "while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()

    def over() -> None:
        pair.primary.ask("SCRIPT", "KILL")
        thread.join()

    return over


def revoke(pair: RedisPair) -> Callable[[], None]:
    pair.primary.ask("ACL", "SETUSER", "default", "-@scripting", "-hset", "-xtrim")
    return lambda: pair.primary.ask("ACL", "SETUSER", "default", "+@all")


@pytest.mark.parametrize(("number", "harm"), [(16, fill), (16, occupy), (16, revoke)])
async def test_redis_refuses(
    world: World, rows: Rows, outage_s: float, number: int, harm: Callable[[RedisPair], Callable[[], None]]
) -> None:
    await a_worker(world)
    async with traffic(world, seed=16):
        await world.more(200)
        over = harm(world.redis)
        await asyncio.sleep(outage_s / 2)
        over()
        await world.healed()
        report = await world.finish()
    where = {fill: "Redis full", occupy: "a script is BUSY", revoke: "ACL revoked"}[harm]
    rows.add(**world.row(number, where, report))
    assert not report.broken, str(report)
