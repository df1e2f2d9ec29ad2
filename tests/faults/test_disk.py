"""Fault 20: Redis, or a broker, has no room left on its disk."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import running
from tests.faults.conftest import Rows
from tests.faults.servers import Cluster, RedisPair
from tests.faults.world import World, traffic

ROOM_MB, BROKER_ROOM_MB = 64, 128


def mount(directory: Path, size_mb: int) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(directory)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")


@pytest.fixture
def redis_pair(tmp_path: Path) -> Iterator[RedisPair]:
    """On a small file system of its own."""
    small = tmp_path / "small"
    small.mkdir()
    mount(small, ROOM_MB)
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


def copy(source: Path, to: Path) -> None:
    """With its holes: a broker that was killed leaves indexes of 10 MB in which there is nothing."""
    to.mkdir(exist_ok=True)
    subprocess.run(["cp", "--archive", "--sparse=always", f"{source}/.", str(to)], check=True)


@pytest.fixture
def crowded(cluster: Cluster) -> Iterator[Path]:
    """The third broker on a small file system of its own, with what it has on its disk."""
    node = cluster.nodes[2]
    aside = node.directory.with_name("aside")
    node.stop()
    copy(node.data, aside)
    used = sum(each.stat().st_blocks * 512 for each in node.data.rglob("*")) >> 20
    try:
        mount(node.data, used + BROKER_ROOM_MB)
        copy(aside, node.data)
        cluster.revive()
        yield node.data
        cluster.revive()
        node.stop()
        shutil.rmtree(aside)
        copy(node.data, aside)
    finally:
        node.kill()
        subprocess.run(["umount", "--lazy", str(node.data)], check=False)
        copy(aside, node.data)
        shutil.rmtree(aside)
        cluster.revive()


@pytest.mark.parametrize("number", [20])
async def test_the_disk_of_a_broker_is_full(
    world: World, crowded: Path, rows: Rows, outage_s: float, number: int
) -> None:
    """It ends by itself, as brokers do; two of three are enough, and it comes back when there is room."""
    world.worker()
    await world.ready()
    broker, filler = world.cluster.nodes[2], crowded / "filler"
    async with traffic(world, seed=20):
        await world.more(200)
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

        async def has_ended() -> bool:
            return broker._exited()

        await world.until("a broker without room ends", has_ended)
        await asyncio.sleep(outage_s / 2)
        await world.more(200)
        filler.unlink()
        await asyncio.to_thread(world.cluster.revive)
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, "a broker's disk full", report))
    assert not report.broken, str(report)
