"""`isotherm worker` tells sales, and the commands ask it: separate processes, a real broker and a real Redis."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from streams import topics
from streams.settings import Settings
from tests.alerting.slack import Slack
from tests.alerting.world import event_of
from tests.live.conftest import TIMEOUT_S, Worker, environment

RULES = """
channels: {hook: {slack: {}}}
tell: {otherwise: {channel: hook}}
rules: [{rule: hot, when: engagement/hot}]
"""


class Stuck(Slack):
    """A Slack whose webhook takes a message and answers only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.keys: list[str] = []

    async def hook(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers["Idempotency-Key"])
        self.arrived.set()
        await self.answers.wait()
        return await super().hook(request)


@pytest.fixture
async def stuck() -> AsyncIterator[Stuck]:
    made = Stuck()
    runner = web.AppRunner(made.app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    made.answers.set()
    await runner.cleanup()


@pytest.fixture
async def settings(
    kafka: str, redis_url: str, redis: Any, topic_prefix: str, stuck: Stuck, tmp_path: Path
) -> Settings:
    rules = tmp_path / "alerts.yaml"
    rules.write_text(RULES)
    settings = Settings(
        kafka=kafka,
        redis=redis_url,
        partitions=2,
        topic_prefix=topic_prefix,
        namespace=topic_prefix.rstrip("."),
        alert_url=SecretStr(f"{stuck.url}/hook"),
        alerts=str(rules),
        role="deliver",
        idempotence=False,
        fetch_max_wait_ms=5,
        session_timeout_ms=6_000,
    )
    await topics.create(settings)
    return settings


async def alerts(settings: Settings, *arguments: str) -> tuple[int, str]:
    code = "from streams.commands.alerts import app; app()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments, env=environment(settings),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    return process.returncode or 0, said.decode()


async def heats(settings: Settings, account: str, n: int) -> None:
    event = json.dumps(event_of(account, "warm", "hot", int(time.time() * 1000), n)).encode()
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        await producer.send_and_wait(settings.topics(topics.CHANGES), event, key=account.encode(), partition=0)


async def phase(settings: Settings, wanted: str) -> list[dict[str, Any]]:
    """The alerts, once one of them is in that phase."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            _, said = await alerts(settings, "list", "--json")
            found: list[dict[str, Any]] = json.loads(said)
            if any(each["phase"] == wanted for each in found):
                return found


async def test_killed_while_it_sends_it_is_sent_again_under_the_same_key(
    settings: Settings, stuck: Stuck, tmp_path: Path
) -> None:
    worker = Worker(settings, tmp_path / "worker.log")
    worker.start()
    try:
        await heats(settings, "acme", 1)
        await asyncio.wait_for(stuck.arrived.wait(), TIMEOUT_S)
        worker.kill()
        stuck.answers.set()
        worker.start()
        (told,) = await phase(settings, "sent")
        assert (told["account"], told["rule"]) == ("acme", "hot")
        assert len(stuck.keys) >= 2
        assert set(stuck.keys) == {"0.0.1.0/hot"}

        code, _ = await alerts(settings, "ack", "acme", "--by", "ann")
        assert code == 0
        ((acknowledged, by),) = [(e["phase"], e["by"]) for e in await phase(settings, "acknowledged")]
        assert (acknowledged, by) == ("acknowledged", "ann")
        assert (await alerts(settings, "snooze", "acme", "--for", "3d"))[0] == 0
        assert (await alerts(settings, "ack", "nobody"))[0] == 1

        code, said = await alerts(settings, "preview", "--last", "1d", "--json")
        preview = json.loads(said)
        assert code == 0
        assert [(each["kind"], each["accounts"]) for each in preview["messages"]] == [("alert", ["acme"])]
        assert preview["changes"] == 1
        assert worker.stop() == 0
    finally:
        if worker.process is not None and worker.process.poll() is None:
            worker.kill()
