"""Each consumer in docs/subscribers/, run as its users would: it ends with the memberships that are right."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from hypothesis import given
from hypothesis import strategies as st

from streams.topics import CHANGES, MEMBERSHIPS
from tests.subscribers import runtimes
from tests.subscribers.history import ENDS, PARTITIONS, Published, delivered, held, history, named, retained

ROOT = Path(__file__).parents[2]
CONSUMERS = ROOT / "docs" / "subscribers"
PAGE = (ROOT / "docs" / "subscribing.md").read_text(encoding="utf-8")
NODE, JARS = Path(__file__).parent / "node", ROOT / "tests" / "kafka" / "jars"
WITHIN_S = 120

HISTORIES = [history(partition) for partition in range(PARTITIONS)]
EXPECTED = {account: answers for each in HISTORIES for account, answers in each.expected.items()}
ALL_ENDS = {named(end, partition) for end in ENDS.values() for partition in range(PARTITIONS)}


@pytest.fixture
async def topics(kafka: str, topic_prefix: str) -> str:
    """Both topics with everything in them, twice and late as it may be; their prefix."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(topic_prefix + name, PARTITIONS, 1) for name in (CHANGES, MEMBERSHIPS)]
        )
    finally:
        await admin.close()
    chance = random.Random(6)
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for told in HISTORIES:
            sent = [await _send(producer, topic_prefix, each) for each in delivered(retained(told.told), chance)]
            await asyncio.gather(*sent)
    return topic_prefix


async def _send(producer: AIOKafkaProducer, prefix: str, message: Published) -> Any:
    name = prefix + message.topic
    return await producer.send(name, message.value, message.key.encode(), partition=message.partition)


def python(directory: Path) -> list[str]:
    return [sys.executable, str(CONSUMERS / "subscriber.py")]


def javascript(directory: Path) -> list[str]:
    node = runtimes.node(NODE)
    (directory / "node_modules").symlink_to(NODE / "node_modules")  # packages are looked for beside the file
    return [node, shutil.copy(CONSUMERS / "subscriber.mjs", directory)]


def java(directory: Path) -> list[str]:
    found, jars = runtimes.java(JARS, 17)
    return [found, "-XX:TieredStopAtLevel=1", "-cp", jars, str(CONSUMERS / "Subscriber.java")]


@pytest.mark.parametrize("consumer", [python, javascript, java], ids=lambda each: each.__name__)
async def test_a_consumer_ends_with_the_memberships_that_are_right(
    kafka: str, topics: str, consumer: Any, tmp_path: Path
) -> None:
    printed = await _printed([*consumer(tmp_path), kafka, topics], tmp_path / "stderr")
    assert {account: held(printed.get(account, {})) for account in EXPECTED.keys() | printed.keys()} == EXPECTED


async def _printed(command: list[str], stderr: Path) -> dict[str, Any]:
    """What a consumer says last of each account, once it has come to the end of both topics."""
    with stderr.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=errors)
    assert process.stdout is not None
    printed: dict[str, Any] = {}
    try:
        async with asyncio.timeout(WITHIN_S):
            async for line in process.stdout:
                account, answers = json.loads(line)
                printed[account] = answers
                if printed.keys() >= ALL_ENDS:
                    return printed
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    pytest.fail(f"it did not come to the end: {sorted(printed)} {stderr.read_text()[-2000:]}")


def test_the_history_has_accounts_that_stay_and_accounts_that_go() -> None:
    assert sum(map(bool, EXPECTED.values())) > len(ALL_ENDS)
    assert not all(EXPECTED.values())


@pytest.mark.parametrize("path", sorted(CONSUMERS.glob("*ubscriber.*")), ids=lambda path: path.name)
def test_the_page_shows_what_is_run(path: Path) -> None:
    shown = re.findall(r"^```\w+\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert path.read_text(encoding="utf-8") in shown


# -- the rule itself, with what a broker would never do ----------------------------------------------------------


def _consumer() -> Any:
    """The consumer in Python as a module of its own, which knows nothing yet."""
    spec = importlib.util.spec_from_file_location("subscriber", CONSUMERS / "subscriber.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(st.randoms(use_true_random=False))
def test_changes_may_come_in_any_order(chance: random.Random) -> None:
    told = HISTORIES[0]
    changes = [each for each in told.told if each.topic == CHANGES]
    arriving = [*changes, *chance.choices(changes, k=10)]
    chance.shuffle(arriving)
    module = _consumer()
    for each in arriving:
        module.take(each.key, json.loads(each.value or b"null"))
    expected = {key: answers for key, answers in told.expected.items() if key != named(ENDS[MEMBERSHIPS], 0)}
    assert {account: held(module.memberships(account)) for account in expected} == expected


@given(st.randoms(use_true_random=False))
def test_the_two_topics_may_come_at_any_pace(chance: random.Random) -> None:
    told = HISTORIES[0]
    waiting = [[each for each in retained(told.told) if each.topic == topic] for topic in (CHANGES, MEMBERSHIPS)]
    module = _consumer()
    while left := [each for each in waiting if each]:
        each = chance.choice(left).pop(0)
        module.take(each.key, json.loads(each.value or b"null"))
    assert {account: held(module.memberships(account)) for account in told.expected} == told.expected


def test_a_late_change_does_not_bring_back_an_account_that_was_deleted() -> None:
    umbrella = named("umbrella", 0)
    told = [each for each in HISTORIES[0].told if each.key == umbrella and each.epoch == 1]
    changes = [each for each in told if each.topic == CHANGES]
    (hot, deleted), tombstone = changes[-2:], told[-1]
    module = _consumer()
    for each in (hot, deleted, tombstone, hot):
        module.take(umbrella, json.loads(each.value or b"null"))
    assert module.memberships(umbrella) == {}


def test_what_a_later_version_adds_is_let_pass() -> None:
    change = next(each for each in HISTORIES[0].told if each.topic == CHANGES)
    event = json.loads(change.value or b"null")
    module, later = _consumer(), _consumer()
    module.take(change.key, event)
    later.take(change.key, {**event, "data": {**event["data"], "mood": "good"}})
    later.take(change.key, {**event, "type": "account.renamed", "data": {}})
    assert later.memberships(change.key) == module.memberships(change.key) != {}
