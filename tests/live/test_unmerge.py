"""Two accounts that the CRM made one by mistake are two again, through real servers, while traffic goes on."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams import topics, unmerging
from streams.producer import partition_of
from streams.settings import Settings
from streams.unmerging import UnmergeProblem
from tests.live.conftest import PARTITIONS, Changes, Worker, isotherm
from tests.live.test_identity import call, everything, now

HERE = next(f"salesforce:{n}" for n in range(100) if partition_of(f"salesforce:{n}", PARTITIONS) == 0)
THERE = next(f"salesforce:{n}" for n in range(100, 200) if partition_of(f"salesforce:{n}", PARTITIONS) == 1)
BESIDE = next(f"salesforce:{n}" for n in range(200, 300) if partition_of(f"salesforce:{n}", PARTITIONS) == 0)


async def unmerge(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(isotherm, settings, "unmerge", *arguments)


class Said:
    """Messages of a CRM and a website."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer) -> None:
        self.web, self.crm = settings.topics(topics.WEB_ACTIVITY), settings.topics(topics.CRM_UPDATES)
        self.producer = producer
        self.n = 0

    async def facts(self, account: str, **set: Any) -> None:
        domain = f"{account.replace(':', '-')}.example"
        await self.tell({"kind": "facts", "crm": account, "domain": domain, "set": set})

    async def visits(self, account: str, count: int = 1) -> None:
        for _ in range(count):
            page = {"name": "page_viewed", "props": {"path": "/pricing"}, "id": f"v{self.n}"}
            await self.tell({"kind": "activity", "crm": account, **page})

    async def in_group(self, group: str) -> None:
        self.n += 1
        page = call("page", self.n, anonymousId="d", context={"groupId": group}, properties={"path": "/pricing"})
        await self.producer.send_and_wait(self.web, page, key=b"g")

    async def merge(self, account: str, *merged: str) -> None:
        await self.tell({"kind": "merge", "crm": account, "merged": [*merged]})

    async def tell(self, message: dict[str, Any]) -> None:
        """All through one partition, so that they are routed in order."""
        self.n += 1
        body = json.dumps({"at": now(), **message}).encode()
        await self.producer.send_and_wait(self.crm, body, key=b"c", headers=[("format", b"canonical")])


@pytest.fixture
def said(settings: Settings, producer: AIOKafkaProducer) -> Said:
    return Said(settings, producer)


def explained(settings: Settings, account: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(isotherm(settings, "explain", account, "--json").stdout)
    return told


def is_in(account: str, segment: str) -> Any:
    def wanted(event: dict[str, Any]) -> bool:
        data = event["data"]
        standing = data.get("memberships", {}).get("engagement", {}).get("answer")
        return event["subject"] == account and segment in (standing, data.get("to"))

    return wanted


@asynccontextmanager
async def traffic(said: Said) -> AsyncIterator[None]:
    async def goes_on() -> None:
        while True:
            await said.visits("salesforce:other")
            await said.visits("salesforce:another")

    task = asyncio.create_task(goes_on())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(("stays", "merged"), [(HERE, THERE), (HERE, BESIDE)], ids=["two partitions", "one"])
async def test_two_accounts_that_were_made_one_are_two_again(
    settings: Settings, worker: Worker, said: Said, changes: Changes, stays: str, merged: str
) -> None:
    assert isotherm(settings, "deploy").returncode == 0
    await said.facts(stays, employees=50)
    await said.facts(merged, employees=5000, industry="banking")
    await said.visits(merged, 2)
    await said.visits(stays)
    await said.merge(stays, merged)
    await changes.until(lambda event: event["subject"] == merged and event["data"].get("merged_into") == stays)
    await changes.until(is_in(stays, "hot"))  # three views, of both together
    await said.facts(merged, technologies=["kafka"])
    await said.visits(merged)  # it is the other's, by the name it comes under
    await changes.until(lambda event: event["subject"] == stays)
    assert explained(settings, merged)["account"] == stays

    async with traffic(said):
        done = await unmerge(settings, merged, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["account"], told["survivor"]) == (merged, stays)
    theirs, mine = explained(settings, merged), explained(settings, stays)
    assert theirs["account"] == merged
    assert theirs["dimensions"]["engagement"]["segment"] == "hot"
    assert theirs["facts"]["employees"]["value"] == 5000
    assert theirs["facts"]["technologies"]["value"] == ["kafka"]
    assert mine["dimensions"]["engagement"]["segment"] != "hot"
    assert mine["facts"]["employees"]["value"] == 50
    assert "industry" not in mine["facts"]
    assert mine["also"] == []

    await said.visits(stays, 2)
    await said.facts(merged, employees=9)
    await changes.until(lambda event: is_in(stays, "hot")(event) and event["data"]["cause"] == "data")
    await changes.until(lambda event: event["subject"] == merged and event["data"].get("dimension") == "size")
    assert explained(settings, merged)["facts"]["employees"]["value"] == 9
    assert explained(settings, stays)["facts"]["employees"]["value"] == 50
    assert changes.contradictions() == []
    members = {message.key: message.value for message in await everything(settings, topics.MEMBERSHIPS)}
    assert members[merged.encode()]

    again = await unmerge(settings, merged)
    assert again.returncode == 1
    assert f"{merged} is an account of its own again, and so is {stays}" in again.stderr
    assert worker.stop() == 0


async def test_what_cannot_be_separated_is_left_alone_and_told_why(
    settings: Settings, worker: Worker, said: Said, changes: Changes
) -> None:
    assert isotherm(settings, "deploy").returncode == 0
    await said.facts(HERE, employees=50)
    await said.facts(THERE, employees=5000)
    await changes.until(lambda event: event["subject"] == THERE)
    never = await unmerge(settings, THERE)
    assert (never.returncode, never.stderr.strip()) == (1, f"{THERE} was never merged into another account")
    unknown = await unmerge(settings, "salesforce:nobody")
    assert (unknown.returncode, unknown.stderr.strip()) == (1, "account salesforce:nobody is not known")
    assert "is a visitor" in (await unmerge(settings, "visitor:anon:x")).stderr

    await said.merge(HERE, THERE)
    await changes.until(lambda event: event["data"].get("merged_into") == HERE)
    await said.facts(BESIDE, employees=1)
    await said.merge(BESIDE, HERE)
    await changes.until(lambda event: event["data"].get("merged_into") == BESIDE)
    chained = await unmerge(settings, THERE)
    assert chained.returncode == 1
    assert f"separate these first, with `isotherm unmerge {HERE}`" in chained.stderr

    assert worker.stop() == 0
    alone = await unmerge(settings, HERE, "--wait", "0.5")
    assert alone.returncode == 1
    assert "do workers run?" in alone.stderr
    worker.start()
    for account in (HERE, THERE):  # the chain, from its end
        done = await unmerge(settings, account)
        assert done.returncode == 0, done.stderr
    sizes = {each: explained(settings, each)["facts"]["employees"]["value"] for each in (HERE, THERE, BESIDE)}
    assert sizes == {HERE: 50, THERE: 5000, BESIDE: 1}
    assert worker.stop() == 0


async def test_it_is_refused_when_the_log_does_not_reach_back(
    settings: Settings, worker: Worker, said: Said, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isotherm(settings, "deploy").returncode == 0
    await said.facts(THERE, employees=5000)
    await said.merge(HERE, THERE)
    await changes.until(lambda event: event["data"].get("merged_into") == HERE)

    async def begins_late(consumer: AIOKafkaConsumer, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: 2 * place.partition for place in places}  # the embedded broker deletes nothing

    monkeypatch.setattr(AIOKafkaConsumer, "beginning_offsets", begins_late)
    with pytest.raises(UnmergeProblem, match=r"account.log/1 begins at offset 2: what came before is gone"):
        await unmerging.unmerge(THERE, settings, 5)
    assert explained(settings, THERE)["account"] == HERE
    assert worker.stop() == 0
