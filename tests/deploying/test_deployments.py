"""Rules are deployed, edited, looked at and put back, through real processes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError

from rules.records import RulesetRecord, encode_record
from streams import keys, topics
from streams.deploy import DeployProblem, _are_all_there
from streams.producer import partition_of
from streams.settings import Settings
from streams.store.redis import connect
from tests.live.conftest import PARTITIONS, TIMEOUT_S, Changes, Worker, isotherm

pytestmark = pytest.mark.kafka
RULES = """
facts:
  employees: {type: number}
---
dimension: size
segments:
  - {segment: big, when: {fact: employees, at_least: 500}}
  - {segment: small, otherwise: true}
"""
LOOSER = RULES.replace("at_least: 500", "at_least: 100")
ACCOUNTS = [
    next(name for n in range(99) if partition_of(name := f"salesforce:{n}", PARTITIONS) == number)
    for number in range(PARTITIONS)
]


def rules(directory: Path, text: str) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "rules.yaml").write_text(text)
    return directory


def done(settings: Settings, *arguments: str | Path) -> str:
    """What a command prints that ends well."""
    ended = isotherm(settings, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def deployed(settings: Settings, *arguments: str | Path) -> str:
    """The id of a deployment."""
    return str(json.loads(done(settings, *arguments, "--json"))["deployment"])


async def told(settings: Settings, wanted: Any) -> dict[str, Any]:
    """What is told of deployments, once it is as wanted."""

    async def look() -> dict[str, Any]:
        while True:
            found: dict[str, Any] = json.loads(await asyncio.to_thread(done, settings, "deployments", "--json"))
            if wanted(found):
                return found

    return await asyncio.wait_for(look(), TIMEOUT_S)


def in_force(id: str) -> Any:
    """Everywhere, and every account was asked."""

    def wanted(found: dict[str, Any]) -> bool:
        for each in found["deployments"]:
            if each["id"] == id:
                return len(each["in_force"]) == PARTITIONS and all(one["done"] for one in each["in_force"])
        return False

    return wanted


async def facts(producer: AIOKafkaProducer, settings: Settings, account: str, employees: int, at: int) -> None:
    said = {"kind": "facts", "crm": account, "at": at, "source": "erp", "set": {"employees": employees}}
    await producer.send_and_wait(settings.topics(topics.CRM_UPDATES), json.dumps(said).encode(), b"k")


def moved(to: str, *accounts: str) -> Any:
    left = set(accounts)

    def wanted(event: dict[str, Any]) -> bool:
        if event["type"] == "segment.moved" and event["data"]["to"] == to:
            left.discard(event["subject"])
        return not left

    return wanted


async def test_rules_are_deployed_edited_quietly_and_put_back(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes, tmp_path: Path
) -> None:
    first = deployed(settings, "deploy", rules(tmp_path, RULES), "--message", "by headcount", "--by", "ann")
    for account in ACCOUNTS:
        await facts(producer, settings, account, 200, 1_772_409_600_000)
    await changes.until(lambda event: {each["subject"] for each in changes.seen} == set(ACCOUNTS))

    second = deployed(settings, "deploy", rules(tmp_path, LOOSER), "--quiet", "--by", "bo")
    await changes.until(moved("big", *ACCOUNTS))
    quiet = [event["data"] for event in changes.seen if event["type"] == "segment.moved"]
    assert {(each["cause"], each["origin"], each["deployment"]) for each in quiet} == {
        ("rules", "backfill", second)
    }

    found = await told(settings, in_force(second))
    newest, oldest = found["deployments"]
    assert (newest["id"], newest["by"], newest["quiet"]) == (second, "bo", True)
    assert newest["changes"] == ["size/big: at_least 500 → 100"]
    assert [each["accounts"] for each in newest["in_force"]] == [1, 1]
    assert (oldest["id"], oldest["by"], oldest["message"]) == (first, "ann", "by headcount")
    assert (oldest["changes"], oldest["in_force"]) == (None, [])
    page = done(settings, "deployments")
    assert "size/big: at_least 500 → 100" in page
    assert f"in force in {PARTITIONS} of {PARTITIONS} partitions, all 2 accounts asked" in page

    third = deployed(settings, "rollback", first[:-2], "--message", "too many")
    await changes.until(moved("small", *ACCOUNTS))
    last = changes.seen[-1]["data"]
    assert (last["cause"], last["origin"], last["deployment"]) == ("rules", "live", third)
    newest = (await told(settings, in_force(third)))["deployments"][0]
    assert (newest["id"], newest["message"]) == (third, f"back to {first}: too many")
    assert newest["changes"] == ["size/big: at_least 100 → 500"]
    assert newest["ruleset"] == oldest["ruleset"]

    fourth = deployed(settings, "rollback")
    assert (await told(settings, in_force(fourth)))["deployments"][0]["ruleset"] == found["deployments"][0][
        "ruleset"
    ]
    assert f"partition {PARTITIONS - 1}: all asked" in done(settings, "deployments", fourth)
    assert worker.stop() == 0


async def test_what_no_worker_has_come_to_is_not_taken_for_the_past(
    settings: Settings, worker: Worker, tmp_path: Path
) -> None:
    """To go back from it would go back too far: two deployments, not one."""
    first = deployed(settings, "deploy", rules(tmp_path, RULES))
    second = deployed(settings, "deploy", rules(tmp_path, LOOSER))
    await told(settings, in_force(second))
    assert worker.stop() == 0
    third = deployed(settings, "deploy", rules(tmp_path, RULES))
    refused = isotherm(settings, "rollback")
    assert (refused.returncode, f"no worker has come to {third} yet" in refused.stderr) == (1, True)
    assert deployed(settings, "rollback", first)


async def test_what_cannot_be_meant_is_refused(settings: Settings, worker: Worker, tmp_path: Path) -> None:
    nothing = isotherm(settings, "rollback")
    assert (nothing.returncode, "no earlier deployment" in nothing.stderr) == (1, True), nothing.stderr
    assert "no rules are in force" in done(settings, "deployments")
    id = deployed(settings, "deploy", rules(tmp_path, RULES))
    again = deployed(settings, "deploy", rules(tmp_path, RULES))
    await told(settings, in_force(again))
    assert "the same rules as before" in done(settings, "deployments", again)
    unknown = isotherm(settings, "rollback", "19990101-000000")
    assert (unknown.returncode, "no deployment '19990101-000000'" in unknown.stderr) == (1, True)
    several = isotherm(settings, "rollback", "20")
    assert (several.returncode, "is how 2 deployments begin" in several.stderr) == (2, True)
    assert id in several.stderr


async def test_one_deploys_at_a_time(settings: Settings, worker: Worker, tmp_path: Path) -> None:
    """Two that met could leave each partition with other rules."""
    redis = connect(settings)
    try:
        await redis.set(keys.deploying(settings.namespace), "somebody", px=60_000)
        refused = isotherm(settings, "deploy", rules(tmp_path, RULES))
        assert (refused.returncode, "somebody else is deploying" in refused.stderr) == (1, True)
        await redis.delete(keys.deploying(settings.namespace))
        deployed(settings, "deploy", rules(tmp_path, RULES))
        assert await redis.exists(keys.deploying(settings.namespace)) == 0
    finally:
        await redis.aclose()


async def test_a_worker_that_cannot_load_the_rules_leaves_the_partition_and_others_go_on(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes, tmp_path: Path
) -> None:
    """As one of an earlier build meets rules with a condition that it does not know."""
    first = deployed(settings, "deploy", rules(tmp_path, RULES))
    await told(settings, in_force(first))
    files = {"rules.yaml": RULES.replace("fact: employees", "telepathy: employees")}
    record = RulesetRecord(received=1, hash="h", files=files, deployment="20990101-000000-aaaa")
    await producer.send_and_wait(settings.topics(topics.ACCOUNT_LOG), encode_record(record), partition=0)
    await facts(producer, settings, ACCOUNTS[1], 200, 1_772_409_600_000)
    await changes.until(lambda event: event["subject"] == ACCOUNTS[1])

    async def says_so() -> None:
        why = "cannot load a ruleset record: rules.yaml:"
        while not any(
            (each["event"], each.get("partition")) == ("partition stopped", 0) and each["why"].startswith(why)
            for each in worker.said()
        ):
            await asyncio.sleep(0.05)

    await asyncio.wait_for(says_so(), TIMEOUT_S)
    newest = json.loads(done(settings, "deployments", "--json"))["deployments"][0]
    assert (newest["id"], len(newest["in_force"])) == (first, PARTITIONS)  # as far as it was folded


def test_when_some_partitions_have_it_and_others_not_it_says_so() -> None:
    _are_all_there([[], [], []])
    away = KafkaTimeoutError("away")
    with pytest.raises(KafkaTimeoutError):
        _are_all_there([away, away])
    with pytest.raises(DeployProblem, match=r"2 of 3 partitions have the new ruleset.*deploy once more"):
        _are_all_there([[], away, []])
