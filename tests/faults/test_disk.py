"""Fault 20: Redis has no room left for its append-only file."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import running
from tests.faults.conftest import Rows
from tests.faults.servers import RedisPair
from tests.faults.world import World, traffic

ROOM_MB = 64


@pytest.fixture
def redis_pair(tmp_path: Path) -> Iterator[RedisPair]:
    """On a small file system of its own."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM_MB}m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        with running(RedisPair(small)) as pair:
            yield pair
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


@pytest.mark.parametrize("number", [20])
async def test_the_disk_of_redis_is_full(world: World, rows: Rows, outage_s: float, number: int) -> None:
    """It refuses writes, workers wait and say so; when there is room again all goes on."""
    world.worker()
    await world.ready()
    filler = world.redis.primary.directory / "filler"
    async with traffic(world, seed=20):
        await world.more(200)
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

        async def is_said() -> bool:
            return bool(world.said("waiting"))

        await world.until("a worker says that it waits", is_said)
        await asyncio.sleep(outage_s / 2)
        filler.unlink()
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, "AOF's disk full", report))
    assert not report.broken, str(report)
