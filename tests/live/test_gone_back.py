"""Redis loses what it was told, a little or all of it, while a worker runs: subscribers end with what is true."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from rules.records import Activity, decode_record
from streams import topics
from streams.embedded import Valkey
from streams.playback import up_to_its_end
from streams.settings import Settings
from tests.live.conftest import TIMEOUT_S, Changes, Worker, isotherm
from tests.live.test_end_to_end import moved, page
from tests.live.test_identity import DEVICE, EMAIL, USER, call, pricing
from tests.live.test_outages import said


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    return valkey.url


async def test_redis_is_emptied(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes, redis: Redis
) -> None:
    """Everything is folded once more from the log; nothing is told twice, then all tell where they stand."""
    isotherm(settings, "deploy")
    web, now = settings.topics(topics.WEB_ACTIVITY), int(time.time() * 1000)
    for n in range(3):
        await producer.send_and_wait(web, page(n, now + n), key=b"u")
    hot = await changes.until(moved("warm", "hot"))
    before = [event["id"] for event in changes.seen]

    await redis.flushall()
    facts = {"kind": "facts", "at": now, "crm": "salesforce:2", "set": {"employees": 40}}
    await producer.send_and_wait(settings.topics(topics.CRM_UPDATES), json.dumps(facts).encode())

    told = await changes.until(lambda event: event["data"]["cause"] == "rebuild")
    assert (told["subject"], told["data"]["origin"]) == (hot["subject"], "rebuild")
    assert told["data"]["memberships"]["engagement"]["answer"] == "hot"
    assert told["data"]["position"]["epoch"] == hot["data"]["position"]["epoch"] + 1
    assert await said(worker, "Redis has gone back")
    await changes.until(lambda event: event["subject"] == "salesforce:2")
    assert changes.contradictions() == []
    ids = [event["id"] for event in await everything(settings)]
    assert len(ids) == len(set(ids))
    assert set(before) <= set(ids)


Harm = Callable[[Valkey, Path], None]


def emptied(valkey: Valkey, kept: Path) -> None:
    shutil.rmtree(valkey.data)


def as_it_was(valkey: Valkey, kept: Path) -> None:
    """What was appended to the file up to some moment is what Redis knew then."""
    shutil.rmtree(valkey.data)
    shutil.copytree(kept, valkey.data)


@pytest.mark.parametrize("harm", [emptied, as_it_was])
async def test_who_a_visitor_is_is_known_still(
    settings: Settings,
    worker: Worker,
    producer: AIOKafkaProducer,
    changes: Changes,
    valkey: Valkey,
    tmp_path: Path,
    harm: Harm,
) -> None:
    """She became known just before Redis loses it. What she did counts once; what she does goes to her account."""
    assert isotherm(settings, "deploy").returncode == 0
    web, crm = settings.topics(topics.WEB_ACTIVITY), settings.topics(topics.CRM_UPDATES)
    account = {"kind": "facts", "crm": "salesforce:1", "domain": "blueharbor.example", "set": {"employees": 40}}
    await producer.send_and_wait(crm, json.dumps(account | {"at": int(time.time() * 1000)}).encode())
    await changes.until(lambda event: event["subject"] == "salesforce:1")
    await producer.send_and_wait(web, pricing(0, anonymousId=DEVICE), key=b"d")
    await activities(settings, 1)
    kept = tmp_path / "kept"
    shutil.copytree(valkey.data, kept)
    known = call("identify", 9, anonymousId=DEVICE, userId=USER, traits={"email": EMAIL})
    await producer.send_and_wait(web, known, key=b"d")
    await producer.send_and_wait(web, pricing(1, anonymousId=DEVICE), key=b"d")
    before = await activities(settings, 2)
    assert before[0].account.startswith("visitor:")
    assert before[1].account == "salesforce:1"

    valkey.kill()
    harm(valkey, kept)
    valkey.start()
    await producer.send_and_wait(web, pricing(2, anonymousId=DEVICE), key=b"d")
    hot = await changes.until(moved("warm", "hot"))
    assert hot["subject"] == "salesforce:1"
    found = await activities(settings, 3)
    assert found[:2] == before
    assert found[2].account == "salesforce:1"
    assert Counter(each.id for each in found) == {"m-0": 1, "m-1": 1, "m-2": 1}
    gone = [line for line in await said(worker, "Redis has gone back") if "to" in line and "partition" not in line]
    assert gone, "the router says so too"
    assert await said(worker, "identity links restored")
    assert changes.contradictions() == []


async def activities(settings: Settings, at_least: int) -> list[Activity]:
    """Those in the log, in the order in which they came in, once there are so many."""

    async def look() -> list[Activity]:
        found: list[Activity] = []
        while len(found) < at_least:
            records = [decode_record(each.value) async for each in up_to_its_end(settings, topics.ACCOUNT_LOG)]
            found = [record for record in records if isinstance(record, Activity)]
        return sorted(found, key=lambda record: (record.via or ("", 0, 0))[1])

    return await asyncio.wait_for(look(), TIMEOUT_S)


async def everything(settings: Settings) -> list[dict[str, Any]]:
    return [json.loads(message.value) async for message in up_to_its_end(settings, topics.CHANGES)]
