"""The exercise of docs/operations.md: a backup, the loss of all that Redis holds, and everything as it was."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from streams.reading import Reader
from streams.refolding import opened
from streams.settings import Settings
from tests.live.conftest import PARTITIONS, TIMEOUT_S, Changes, Receiver, Worker, done, isotherm
from tests.live.test_unmerge import Said

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text().partition("## Backup and restore")[2]
BACKUP, AFTERWARDS = (
    [shlex.split(line, comments=True)[1:] for line in block.splitlines()]
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE.partition("\n## ")[0], re.DOTALL | re.MULTILINE)
)
COMPANIES = [f"salesforce:{n}" for n in range(12)]


async def typed(settings: Settings, arguments: list[str], directory: Path) -> str:
    """What a line of the page prints, its files in a directory."""
    return await done(settings, *(str(directory / each) if each.endswith(".gz") else each for each in arguments))


async def memberships(redis: Any, settings: Settings) -> dict[str, dict[str, tuple[str, ...]]]:
    reader = Reader(redis, settings)
    return {
        account: {name: standing.answer for name, standing in state.standings.items()}
        for number in range(PARTITIONS)
        async for account, state in reader.states(number)
    }


async def well(settings: Settings) -> None:
    """`isotherm status` names no problem, and nothing is left to be folded."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            told = json.loads((await asyncio.to_thread(isotherm, settings, "status", "--json")).stdout)
            if not told["problems"] and not any(each["lag"] or each["outbox"] for each in told["partitions"]):
                return


@pytest.mark.parametrize("copy", ["nothing", "an older copy"])
async def test_what_redis_has_lost_comes_again(
    settings: Settings,
    worker: Worker,
    producer: AIOKafkaProducer,
    changes: Changes,
    receiver: Receiver,
    redis: Redis,
    tmp_path: Path,
    copy: str,
) -> None:
    said = Said(settings, producer)
    assert isotherm(settings, "deploy").returncode == 0
    for n, account in enumerate(COMPANIES):
        await said.facts(account, employees=50 * 4 ** (n % 6))
    older = {key: await redis.dump(key) for key in await redis.keys("*")} if copy != "nothing" else {}
    for account in COMPANIES[:6]:
        await said.visits(account)
    await well(settings)
    for command in BACKUP:
        await typed(settings, command, tmp_path)
    assert (tmp_path / "isotherm-snapshots.gz").stat().st_size
    before = await memberships(redis, settings)
    alerts, told = len(receiver.messages), await epochs(redis, settings)
    assert {each for account in COMPANIES[:6] for each in before[account]["engagement"]} != {"cold"}

    await redis.flushall()
    for key, value in older.items():
        await redis.restore(key, 0, value)
    await well(settings)

    assert await memberships(redis, settings) == before
    assert len(receiver.messages) == alerts
    assert all(now > was for now, was in zip(await epochs(redis, settings), told, strict=True))
    for command in AFTERWARDS:
        assert "Redis holds what the log says" in await typed(settings, command, tmp_path)
    assert not changes.contradictions()
    assert worker.stop() == 0


async def epochs(redis: Any, settings: Settings) -> list[int]:
    reader = Reader(redis, settings)
    return [(await reader.partition(number)).epoch for number in range(PARTITIONS)]


async def test_a_log_that_nothing_is_read_of_is_closed(settings: Settings) -> None:
    """As `isotherm snapshot` does before anything was folded."""
    async with opened(settings):
        pass
