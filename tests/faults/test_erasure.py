"""Fault 28: somebody is forgotten, all is folded once more, then an older snapshot of Redis comes back."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cramjam
import pytest
from redis.asyncio import Redis

from streams.playback import up_to_its_end
from streams.store.base import marks_of
from streams.topics import ACCOUNT_LOG, CRM_UPDATES, LINKS, MEMBERSHIPS, SNAPSHOTS, WEB_ACTIVITY
from tests.faults.conftest import Rows
from tests.faults.servers import ROOT
from tests.faults.world import World, traffic
from tests.live.conftest import environment

EMAIL = "canary@acct-1.example"
COMPACTED = (MEMBERSHIPS, LINKS, SNAPSHOTS)


@pytest.fixture
def keeps() -> str:
    return "rdb"


async def isotherm(world: World, *arguments: str) -> dict[str, Any]:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "streams.cli", *arguments, "--json"],
        cwd=ROOT, env=environment(world.direct_now), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


async def in_redis(world: World, marks: list[bytes]) -> list[str]:
    """The keys of Redis in which one of the marks stands.

    But for what each partition knows of itself: it remembers for a week by its hash who is not to come back.
    """
    return [
        key
        for key, value in (await everything(world)).items()
        if not key.endswith(":meta") and any(mark in value for mark in marks)
    ]


async def everything(world: World) -> dict[str, bytes]:
    async with Redis.from_url(world.redis.direct) as redis:
        return {key.decode(): b"\n".join(await values(redis, key)) async for key in redis.scan_iter("*")}


async def values(redis: Redis, key: bytes) -> list[bytes]:
    match await redis.type(key):
        case b"string":
            return [await redis.get(key) or b""]
        case b"hash":
            fields = await redis.hgetall(key)
            return [*fields, *map(plain if key.endswith(b":accounts") else bytes, fields.values())]
        case b"stream":
            return [part for _, fields in await redis.xrange(key) for part in fields.values()]
        case b"set":
            return list(await redis.smembers(key))
        case b"zset":
            return list(await redis.zrange(key, 0, -1))
        case other:
            raise AssertionError(f"{key!r} is a {other!r}: look into it here")


def plain(state: bytes) -> bytes:
    return bytes(cramjam.lz4.decompress_block(state))


async def in_kafka(world: World, role: str, marks: list[bytes]) -> list[int]:
    """Offsets at which the newest message for its key, or any if the topic is not compacted, holds a mark."""
    newest = {}
    async for message in up_to_its_end(world.direct_now, role):
        newest[message.key if role in COMPACTED else message.offset] = message
    return [each.offset for each in newest.values() if any(mark in (each.value or b"") for mark in marks)]


@pytest.mark.parametrize("number", [28])
async def test_who_was_forgotten_stays_forgotten(world: World, rows: Rows, tmp_path: Path, number: int) -> None:
    world.worker()
    await world.ready()
    async with traffic(world, seed=28) as sends:
        at = int(time.time() * 1000)
        contact = {"kind": "contact", "account": "acct-1", "email": EMAIL, "at": at, "set": {"status": "active"}}
        visit = {"kind": "activity", "account": "acct-1", "email": EMAIL, "at": at, "name": "visited"}
        await sends.send(CRM_UPDATES, "acct-1", json.dumps(contact).encode())
        await sends.send(WEB_ACTIVITY, "acct-1", json.dumps(visit).encode())
        await world.more(300)
        await world.drained()
        world.redis.primary.ask("SAVE")
        dump = world.redis.primary.data / "dump.rdb"
        shutil.copy(dump, tmp_path / "older.rdb")
        before = await everything(world)
        told = await isotherm(world, "erase", "--email", EMAIL)
        marks = [EMAIL.encode(), *marks_of(told["persons"])]
        assert any(mark in value for value in before.values() for mark in marks), "the canary never sang"
        assert await in_redis(world, marks) == []
        await isotherm(world, "rebuild")
        await world.drained()
        assert await in_redis(world, marks) == [], "folded once more"
        world.redis.primary.kill()
        shutil.copy(tmp_path / "older.rdb", dump)
        world.redis.primary.start()
        await world.healed()
        assert await in_redis(world, marks) == [], "an older snapshot came back"
        report = await world.finish()
    found = {role: await in_kafka(world, role, marks) for role in COMPACTED}
    found[ACCOUNT_LOG] = await in_kafka(world, ACCOUNT_LOG, [EMAIL.encode()])
    rows.add(**world.row(number, "forgotten, folded again, older snapshot", report))
    assert not any(found.values()), found
    assert not report.broken, str(report)
