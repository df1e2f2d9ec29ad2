"""New measures get their past while a worker runs: through real processes, one of which is killed on the way."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from rules.records import Activity, Fill, RulesetRecord, decode_record, encode_record
from streams import backfilling, topics
from streams.backfilling import AT_ONCE
from streams.clock import RedisClock
from streams.playback import up_to_its_end
from streams.producer import partition_of
from streams.reading import Reader
from streams.settings import Settings
from streams.store.redis import connect
from tests.deploying.test_deployments import deployed, done, in_force, rules, told
from tests.live.conftest import PARTITIONS, TIMEOUT_S, Changes, Worker, environment, isotherm

pytestmark = pytest.mark.kafka
VISITS = """
activities: {visited: {}, asked: {}}
---
dimension: engagement
segments:
  - {segment: hot, when: {count: visited, at_least: 2, within: 7d}}
  - {segment: cold, otherwise: true}
"""
DEMOS = """
dimension: interest
on_unknown: stop
segments:
  - {segment: high, when: {count: asked, at_least: 2, within: 60d}}
  - {segment: low, otherwise: true}
"""
# The command, but it is killed when its first fills are in the log.
DIES = """
import os, signal
from streams import backfilling, cli
async def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
backfilling._Backfill._until = die
cli.main()
"""
ACCOUNTS = [f"salesforce:{n}" for n in range(3 * PARTITIONS * AT_ONCE)]


async def happened(producer: AIOKafkaProducer, settings: Settings, name: str, *accounts: str) -> int:
    """Of each of these accounts, just now; when that is."""
    redis = connect(settings)
    try:
        clock = RedisClock(redis)
        await clock.sync()
        now = clock.now()
    finally:
        await redis.aclose()
    waiting = [
        await producer.send(
            settings.topics(topics.ACCOUNT_LOG),
            encode_record(Activity(account=account, name=name, at=now, received=now, source="web")),
            key=account.encode(),
            partition=partition_of(account, PARTITIONS),
        )
        for account in accounts
    ]
    await asyncio.gather(*waiting)
    return now


async def until(settings: Settings, wanted: Any) -> dict[str, dict[str, int]]:
    """The counts of segments, once they are as wanted."""
    redis = connect(settings)
    try:

        async def look() -> dict[str, dict[str, int]]:
            reader = Reader(redis, settings)
            while not wanted(counts := await reader.counts()):
                await asyncio.sleep(0.05)
            return counts

        return await asyncio.wait_for(look(), TIMEOUT_S)
    finally:
        await redis.aclose()


async def fills(settings: Settings) -> list[Fill]:
    records = [decode_record(each.value) async for each in up_to_its_end(settings, topics.ACCOUNT_LOG)]
    return [each for each in records if isinstance(each, Fill)]


async def test_a_new_measure_gets_its_past_though_who_gives_it_is_killed(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes, tmp_path: Path
) -> None:
    await told(settings, in_force(deployed(settings, "deploy", rules(tmp_path, VISITS))))
    await happened(producer, settings, "asked", *ACCOUNTS, *ACCOUNTS[::2])
    await until(settings, lambda counts: sum(counts["engagement"].values()) == len(ACCOUNTS))

    command = [sys.executable, "-c", DIES, "deploy", str(rules(tmp_path, VISITS + "---" + DEMOS))]
    began = subprocess.Popen([*command, "--quiet", "--backfill", "60d"], env=environment(settings))
    assert await asyncio.to_thread(began.wait, TIMEOUT_S) == -signal.SIGKILL
    assert len(await fills(settings)) == AT_ONCE
    newest = json.loads(done(settings, "deployments", "--json"))["deployments"][0]
    assert all(each["filling"] for each in newest["in_force"])
    assert "its past is being filled" in done(settings, "deployments")
    assert (await until(settings, lambda counts: True))["interest"].get("low", 0) < len(ACCOUNTS) // 2

    await happened(producer, settings, "asked", ACCOUNTS[1])  # live goes on
    ended = json.loads(done(settings, "backfill", "--json"))
    assert (ended["deployments"], ended["accounts"]) == ([newest["id"]], len(ACCOUNTS))
    counts = await until(settings, lambda counts: not counts["interest"]["unclassified"])
    assert counts["interest"] == {
        "high": len(ACCOUNTS) // 2 + 1,
        "low": len(ACCOUNTS) // 2 - 1,
        "unclassified": 0,
    }
    await changes.until(lambda event: _is_filled(event, ACCOUNTS[0]))
    filled = [event["data"] for event in changes.seen if event["data"].get("cause") == "backfill"]
    assert {(each["origin"], each["dimension"]) for each in filled} == {("backfill", "interest")}
    assert not changes.contradictions()
    again = json.loads(done(settings, "backfill", "--json"))
    assert (again["deployments"], again["accounts"]) == ([], 0)
    assert "its past" not in done(settings, "deployments")

    longer = rules(tmp_path, VISITS + "---" + DEMOS.replace("60d", "90d"))
    put = json.loads(done(settings, "deploy", str(longer), "--backfill", "90d", "--json"))
    assert put["backfill"]["deployments"] == [put["deployment"]]
    assert worker.stop() == 0


def _is_filled(event: dict[str, Any], account: str) -> bool:
    return event["subject"] == account and event["data"].get("cause") == "backfill"


async def test_of_a_partition_that_has_stopped_it_says_so_and_waits_no_longer(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    bad = RulesetRecord(received=1, hash="bad", files={"bad.yaml": "dimension: d\n"})
    await producer.send_and_wait(settings.topics(topics.ACCOUNT_LOG), encode_record(bad), partition=1)
    ended = isotherm(settings, "deploy", rules(tmp_path / "rules", VISITS), "--backfill", "all")
    assert (ended.returncode, "account.log/1 stopped: cannot load" in ended.stderr) == (1, True), ended.stderr
    assert "isotherm backfill" in ended.stderr


async def test_when_nobody_folds_it_says_so(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(backfilling, "WORKER_S", 0.0)
    monkeypatch.setattr(backfilling, "PATIENCE_S", 0.0)
    async with connect(settings) as redis:
        patience = backfilling._Patience(settings, redis, RedisClock(redis))
        with pytest.raises(backfilling.BackfillProblem, match=r"nobody folds account\.log/0-1: "):
            await patience.look([0, 1])


async def test_a_length_that_cannot_be_meant_is_refused(settings: Settings, tmp_path: Path) -> None:
    refused = isotherm(settings, "deploy", rules(tmp_path, VISITS), "--backfill", "ninety days")
    assert (refused.returncode, "--backfill ninety days" in refused.stderr) == (2, True), refused.stderr
