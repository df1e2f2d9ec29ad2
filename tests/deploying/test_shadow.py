"""Other rules run beside those in force, say what would differ, and are put in force by one record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from streams.producer import partition_of
from streams.settings import Settings
from tests.deploying.test_deployments import LOOSER, RULES, deployed, done, facts, in_force, rules, told
from tests.live.conftest import PARTITIONS, Changes, Worker, isotherm

pytestmark = pytest.mark.kafka
ACCOUNTS = [
    next(name for n in range(99) if partition_of(name := f"salesforce:{n}", PARTITIONS) == number)
    for number in range(PARTITIONS)
]


async def test_rules_in_the_shadow_say_what_differs_and_come_into_force(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes, tmp_path: Path
) -> None:
    nothing = isotherm(settings, "shadow", "status")
    assert (nothing.returncode, "there is no shadow" in nothing.stderr) == (1, True), nothing.stderr
    await told(settings, in_force(deployed(settings, "deploy", rules(tmp_path, RULES))))
    for account, employees in zip(ACCOUNTS, (200, 900), strict=True):
        await facts(producer, settings, account, employees, 1_772_409_600_000)
    await changes.until(lambda event: {each["subject"] for each in changes.seen} == set(ACCOUNTS))

    done(settings, "shadow", "run", rules(tmp_path, LOOSER), "--once")
    found = json.loads(done(settings, "shadow", "status", "--json"))
    assert found["segments"] == {
        "size/big": {"in_force": 1, "shadow": 2, "only_in_force": 0, "only_shadow": 1},
        "size/small": {"in_force": 1, "shadow": 0, "only_in_force": 1, "only_shadow": 0},
    }
    assert (found["behind"], found["differing"], [each["differing"] for each in found["history"]]) == (0, 2, [2])
    assert "size/big" in done(settings, "shadow", "status")
    assert not any(event["type"] == "segment.moved" for event in changes.seen), "nothing went out"

    other = isotherm(settings, "shadow", "run", rules(tmp_path, RULES.replace("500", "9000")), "--once")
    assert (other.returncode, "the shadow has other rules" in other.stderr) == (1, True), other.stderr
    await facts(producer, settings, ACCOUNTS[1], 50, 1_772_409_700_000)
    await changes.until(lambda event: event["type"] == "segment.moved")
    done(settings, "shadow", "run", rules(tmp_path, LOOSER), "--once")  # goes on where it stood
    found = json.loads(done(settings, "shadow", "status", "--json"))
    assert (found["segments"]["size/small"]["shadow"], len(found["history"])) == (1, 2)

    promoted = json.loads(done(settings, "shadow", "promote", "--by", "ann", "--json"))["deployment"]
    history = await told(settings, in_force(promoted))
    assert (history["deployments"][0]["by"], history["deployments"][0]["changes"]) == (
        "ann",
        ["size/big: at_least 500 → 100"],
    )
    await changes.until(lambda event: event["data"].get("to") == "big" and event["type"] == "segment.moved")
    found = json.loads(done(settings, "shadow", "status", "--json"))
    assert found["differing"] == 0
    assert "the shadow is gone" in done(settings, "shadow", "drop")
    assert "there was no shadow" in done(settings, "shadow", "drop")
    assert worker.stop() == 0
