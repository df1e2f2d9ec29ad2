"""Somebody says where an account stands, through real processes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams.keys import PartitionKeys
from streams.producer import partition_of
from streams.settings import Settings
from streams.store.base import pack_state, unpack_state
from streams.store.redis import connect
from tests.deploying.test_deployments import ACCOUNTS, deployed, done, facts, rules
from tests.live.conftest import Changes, Worker, isotherm, working

pytestmark = pytest.mark.kafka
RULES = """
facts:
  employees: {type: number}
---
dimension: size
segments:
  - {segment: big, when: {fact: employees, at_least: 500}}
  - {segment: small, otherwise: true}
---
dimension: marks
kind: set
segments:
  - {segment: known, when: {fact: employees, exists: true}}
  - {segment: strategic, when: {fact: employees, at_least: 9000}}
"""
ACCOUNT = ACCOUNTS[0]
WHY = ("--why", "they buy for the group")


def caused_by_override(event: dict[str, Any]) -> bool:
    return bool(event["data"]["cause"] == "override")


@pytest.fixture
async def known(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes, tmp_path: Path
) -> Worker:
    """A worker that knows the account."""
    deployed(settings, "deploy", rules(tmp_path / "rules", RULES))
    await facts(producer, settings, ACCOUNT, 200, 1_772_409_600_000)
    await changes.until(lambda event: event["subject"] == ACCOUNT)
    return worker


async def test_an_override_counts_until_it_is_taken_back(
    settings: Settings, known: Worker, changes: Changes
) -> None:
    said = done(settings, "override", ACCOUNT, "size", "big", "--for", "30d", "--by", "ann", *WHY)
    assert said.startswith(f"{ACCOUNT}: size big until ")
    assert "the rules say small" in said
    event = await changes.until(caused_by_override)
    assert (event["data"]["from"], event["data"]["to"]) == ("small", "big")
    assert event["data"]["reason"]["text"] == "override by ann: they buy for the group"

    told = json.loads(done(settings, "explain", ACCOUNT, "--json"))["dimensions"]["size"]
    assert (told["segment"], told["rules_say"]) == ("big", "small")
    assert (told["overrides"][0]["by"], told["overrides"][0]["why"]) == ("ann", WHY[1])
    assert told["stays_until"] == told["overrides"][0]["until"]
    assert "override: big, by ann: they buy for the group" in done(settings, "explain", ACCOUNT)

    out = json.loads(done(settings, "override", ACCOUNT, "marks", "known", "--out", "--for", "2h", *WHY, "--json"))
    assert (out["stands"], out["rules_say"], out["folded"]) == ([], ["known"], True)

    back = json.loads(done(settings, "override", "clear", ACCOUNT, "size", "--json"))
    assert (back["stands"], back["until"]) == ("small", None)
    again = isotherm(settings, "override", "clear", ACCOUNT, "size")
    assert (again.returncode, "nobody said anything" in again.stderr) == (1, True)
    assert known.stop() == 0


async def test_it_ends_at_its_instant(settings: Settings, known: Worker, changes: Changes) -> None:
    said = json.loads(done(settings, "override", ACCOUNT, "size", "big", "--for", "3s", *WHY, "--json"))
    event = await changes.until(lambda event: caused_by_override(event) and event["data"]["to"] == "small")
    assert event["data"]["effective"] == said["until"]


async def test_rules_that_are_rebuilt_from_the_log_know_it(settings: Settings, known: Worker) -> None:
    done(settings, "override", ACCOUNT, "size", "big", "--for", "30d", *WHY)
    assert "Redis holds what the log says" in done(settings, "verify", "--all")
    assert "rebuilt in" in await asyncio.to_thread(done, settings, "rebuild")
    told = json.loads(done(settings, "explain", ACCOUNT, "--json"))["dimensions"]["size"]
    assert (told["segment"], told["rules_say"]) == ("big", "small")


async def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    settings: Settings, known: Worker
) -> None:
    place = (ACCOUNT, "size", "big")
    for arguments, code, why in [
        ((ACCOUNT, "sise", "big", "--for", "1d", *WHY), 2, "did you mean 'size'?"),
        ((ACCOUNT, "size", "bigg", "--for", "1d", *WHY), 2, "did you mean 'big'?"),
        ((*place, "--out", "--for", "1d", *WHY), 2, "is a ladder"),
        (("salesforce:nobody", "size", "big", "--for", "1d", *WHY), 1, "is not known"),
        ((*place, *WHY), 2, "--until and --for"),
        ((*place, "--for", "1d", "--until", "2031-01-01T00:00:00Z", *WHY), 2, "--until and --for"),
        ((*place, "--until", "2001-01-01T00:00:00Z", *WHY), 2, "is over"),
        ((*place, "--for", "soon", *WHY), 2, "write a duration"),
        ((*place, "--for", "1d", "--why", " "), 2, "why?"),
        ((*place, "--for", "1d", "--why", "ask ann@example.com"), 2, "e-mail address"),
        (("clear", ACCOUNT, "sise"), 2, "did you mean 'size'?"),
    ]:
        ended = isotherm(settings, "override", *arguments)
        assert (ended.returncode, why in ended.stderr) == (code, True), (arguments, ended.stderr)
    told = json.loads(done(settings, "explain", ACCOUNT, "--json"))["dimensions"]["size"]
    assert told["segment"] == "small"
    assert "overrides" not in told


async def test_without_a_worker_it_says_that_nobody_has_done_it(settings: Settings, known: Worker) -> None:
    known.kill()
    ended = isotherm(settings, "override", ACCOUNT, "size", "big", "--for", "1d", "--wait", "0.5", *WHY)
    assert (ended.returncode, "do workers run?" in ended.stderr) == (1, True)


async def test_of_an_account_in_quarantine_it_says_that_nothing_was_done(
    settings: Settings, known: Worker, tmp_path: Path
) -> None:
    assert known.stop() == 0
    keys = PartitionKeys.of(partition_of(ACCOUNT, settings.partitions), settings.partitions, settings.namespace)
    async with connect(settings) as redis:
        state = unpack_state(await redis.hget(keys.accounts, ACCOUNT))
        state.quarantined = 0
        await redis.hset(keys.accounts, ACCOUNT, pack_state(state))
    with working(settings, tmp_path / "again.log") as worker:
        ended = isotherm(settings, "override", ACCOUNT, "size", "big", "--for", "1d", *WHY)
        assert (ended.returncode, f"isotherm release {ACCOUNT}" in ended.stderr) == (1, True), ended.stderr
        assert worker.stop() == 0
