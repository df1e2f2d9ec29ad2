"""A plan is made, the rules are deployed, and workers do what the plan said."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from rules.compiler import load
from streams.planning import Request, plan
from streams.reading import Reader
from streams.settings import Settings
from tests.live.conftest import PARTITIONS, Changes, Worker, isotherm
from tests.live.test_unmerge import Said

RULES = """
facts: {employees: {type: number}}
activities: {page_viewed: {}}
---
dimension: engagement
segments:
  - {segment: hot, when: {count: page_viewed, at_least: 3, within: 7d}}
  - {segment: cold, otherwise: true}
---
dimension: size
segments:
  - {segment: large, when: {fact: employees, at_least: 1000}}
  - {segment: small, when: {fact: employees, below: 1000}}
---
dimension: call
kind: set
segments:
  - {segment: today, when: {all: [{segment: engagement/hot}, {segment: size/large}]}}
"""
NEW = RULES.replace("at_least: 3", "at_least: 2").replace("1000", "300")
ACCOUNTS = [f"salesforce:{n}" for n in range(12)]


def rules(directory: Path, text: str) -> Path:
    directory.mkdir()
    (directory / "rules.yaml").write_text(text)
    return directory


@pytest.fixture
def said(settings: Settings, producer: AIOKafkaProducer) -> Said:
    return Said(settings, producer)


async def test_workers_do_what_the_plan_said(
    settings: Settings, worker: Worker, said: Said, changes: Changes, redis: Redis, tmp_path: Path
) -> None:
    old, new = rules(tmp_path / "old", RULES), rules(tmp_path / "new", NEW)
    assert (await asyncio.to_thread(isotherm, settings, "deploy", old)).returncode == 0
    for n, account in enumerate(ACCOUNTS):
        await said.facts(account, employees=n * 100)
        await said.visits(account, n % 4)
    await said.facts("salesforce:last", employees=1)
    await changes.until(lambda event: event["subject"] == "salesforce:last")

    made = await plan(settings, Request(load(new)))
    told = made.plain()
    assert made.survey.accounts == len(ACCOUNTS) + 1
    assert told["dimensions"]["engagement"]["matrix"] == {"cold": {"hot": 3}}
    expected = told["volume"]["by_dimension"]

    assert (await asyncio.to_thread(isotherm, settings, "deploy", new)).returncode == 0
    found: Counter[str] = Counter()

    def is_all(event: dict[str, Any]) -> bool:
        if event["data"]["cause"] == "rules":
            found[event["data"]["dimension"]] += 1
        return +found == expected

    await changes.until(is_all)
    reader = Reader(redis, settings)
    after: Counter[tuple[str, str]] = Counter()
    for number in range(PARTITIONS):
        async for _, state in reader.states(number):
            after.update((name, each) for name, standing in state.standings.items() for each in standing.answer)
    assert after == +made.survey.after
