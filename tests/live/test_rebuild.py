"""Redis was damaged by hand: `isotherm verify` says how, `isotherm rebuild` mends it, while a worker goes on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from streams import topics
from streams.keys import PartitionKeys, rebuilt
from streams.pipeline import Owned
from streams.producer import partition_of
from streams.refolding import Recollection, opened, refold
from streams.settings import Settings
from streams.store.base import pack_state, unpack_partition, unpack_state
from streams.verifying import stands
from tests.live.conftest import PARTITIONS, TIMEOUT_S, Changes, Worker, environment, isotherm
from tests.live.test_identity import everything
from tests.live.test_unmerge import Said

HERE, THERE = (
    [each for each in (f"salesforce:{n}" for n in range(24)) if partition_of(each, PARTITIONS) == number]
    for number in range(PARTITIONS)
)
ACCOUNTS = [*HERE, *THERE]
GHOST = next(each for each in (f"salesforce:g{n}" for n in range(99)) if partition_of(each, PARTITIONS) == 0)
BUSY = {"salesforce:other", "salesforce:another"}


class Kept:
    """What Redis holds, to be looked at and to be damaged."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self.redis, self.settings = redis, settings

    def keys(self, account: str) -> PartitionKeys:
        return PartitionKeys.of(partition_of(account, PARTITIONS), PARTITIONS, self.settings.namespace)

    async def partition(self, number: int, namespace: str | None = None) -> Any:
        keys = PartitionKeys.of(number, PARTITIONS, namespace or self.settings.namespace)
        blob = await self.redis.hget(keys.meta, "partition")
        assert blob is None or isinstance(blob, bytes)
        return unpack_partition(blob) if blob else None

    async def damage(self) -> None:
        """One is taken for a smaller one, in state and set; one is missing in a set, one too many in another; one
        is lost, one is there that nobody ever said anything of, and one is also in a partition that is not its."""
        keys, account = self.keys(HERE[0]), HERE[0]
        blob = await self.redis.hget(keys.accounts, account)
        assert isinstance(blob, bytes)
        state = unpack_state(blob)
        (was,) = state.standings["size"].answer
        state.standings["size"] = type(state.standings["size"])(("small",), state.standings["size"].since)
        await self.redis.hset(keys.accounts, account, pack_state(state))
        await self.redis.smove(keys.members("size", was), keys.members("size", "small"), account)
        for account_too_many in (GHOST, THERE[2]):
            await self.redis.hset(keys.accounts, account_too_many, pack_state(state))
        assert await self.redis.srem(self.keys(HERE[1]).members("size", was), HERE[1]) == 1
        assert await self.redis.sadd(self.keys(THERE[0]).members("engagement", "hot"), THERE[0]) == 1
        assert await self.redis.hdel(self.keys(THERE[1]).accounts, THERE[1]) == 1

    async def until(self, is_so: Any) -> None:
        async def look() -> None:
            while not await is_so():
                await asyncio.sleep(0.01)

        await asyncio.wait_for(look(), TIMEOUT_S)


@pytest.fixture
def said(settings: Settings, producer: AIOKafkaProducer) -> Said:
    return Said(settings, producer)


@pytest.fixture
def kept(redis: Redis, settings: Settings) -> Kept:
    return Kept(redis, settings)


@asynccontextmanager
async def traffic(said: Said) -> AsyncIterator[None]:
    """Two accounts are busy, no more than a slow machine can follow."""

    async def goes_on() -> None:
        while True:
            for account in BUSY:
                await said.visits(account)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(goes_on())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def verified(settings: Settings, *arguments: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Exit code, what was found, and the line for whoever watches."""
    done = isotherm(settings, "verify", "--json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), json.loads(done.stderr.splitlines()[-1])


async def test_a_damaged_redis_is_rebuilt_while_a_worker_goes_on(
    settings: Settings, worker: Worker, said: Said, changes: Changes, kept: Kept, tmp_path: Path
) -> None:
    assert isotherm(settings, "deploy").returncode == 0
    for account in ACCOUNTS:
        await said.facts(account, employees=5000)
    await said.visits(THERE[-1])
    await changes.until(lambda event: {each["subject"] for each in changes.seen} >= set(ACCOUNTS))
    code, whole, _ = verified(settings, "--all")
    assert (code, whole["equal"]) == (0, True), whole

    await kept.damage()
    code, found, line = verified(settings, "--all")
    assert (code, found["equal"]) == (1, False)
    assert found["over_inclusion"] == {"engagement/hot": 1, "size/small": 1}
    assert found["under_inclusion"] == {"size/enterprise": 2}
    wrong = {each["account"] for each in found["examples"] if each["kind"] == "answers"}
    assert wrong == {HERE[0], THERE[1], GHOST, THERE[2]}
    assert (line["event"], line["over"], line["under"], line["compared"]) == ("verified", 2, 2, found["compared"])
    code, one, _ = verified(settings, "--account", HERE[2], "--account", HERE[3])
    assert (code, one["equal"], one["compared"]) == (0, True, 2)

    slowly = settings.model_copy(update={"batch": 2})
    async with traffic(said):
        await killed_in_between(slowly, kept)
        assert not verified(settings, "--all")[1]["equal"]
        done = await asyncio.to_thread(isotherm, settings, "rebuild", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["partitions"], told["told"]) == ([0, 1], 3)
    assert told["segments"]["size/enterprise"] == {"entered": 2, "left": 0}
    assert told["segments"]["engagement/hot"] == {"entered": 0, "left": 1}

    await kept.until(lambda: epochs_are_over(kept))
    snapshot = isotherm(settings, "snapshot", "--json")
    assert snapshot.returncode == 0, snapshot.stderr
    assert json.loads(snapshot.stdout)["accounts"] == len([*ACCOUNTS, *BUSY])
    await comes_back(settings, tmp_path / "snapshots.gz")
    for how in ((), ("--whole",)):
        code, after, _ = verified(settings, "--all", *how)
        assert (code, after["equal"], after["compared"]) == (0, True, len([*ACCOUNTS, *BUSY])), after
    events = [json.loads(each.value) for each in await everything(settings, topics.CHANGES)]
    again = {event["subject"] for event in events if event["data"]["cause"] == "rebuild"}
    differed = {HERE[0], THERE[1], GHOST}
    assert differed <= again <= differed | BUSY
    heard = subscribed(events)
    assert GHOST not in heard
    assert heard == await oracle(settings, kept)
    assert changes.contradictions() == []
    assert worker.stop() == 0


async def comes_back(settings: Settings, file: Path) -> None:
    """What is exported here is the snapshot of another installation that imports it."""
    other = Settings(**settings.model_dump() | {"topic_prefix": f"other-{settings.topic_prefix}"})
    await topics.create(other)
    for whose, option in ((settings, "--export"), (other, "--import")):
        done = isotherm(whose, "snapshot", option, file)
        assert done.returncode == 0, done.stderr
        assert f"{PARTITIONS} partitions with" in done.stdout
    async with opened(settings) as log, opened(other) as copy:
        for number in range(PARTITIONS):
            made = await log.snapshot(number)
            assert made is not None
            assert made == await copy.snapshot(number)


async def killed_in_between(settings: Settings, kept: Kept) -> None:
    """Ends a rebuild when it has folded something and is not done."""
    process = subprocess.Popen(
        [sys.executable, "-m", "streams.cli", "rebuild"], env=environment(settings), stderr=subprocess.PIPE
    )
    into = rebuilt(settings.namespace)

    async def has_begun() -> bool:
        assert process.poll() is None, process.communicate()
        return await kept.partition(0, into) is not None

    await kept.until(has_begun)
    process.kill()
    process.communicate()
    assert await kept.partition(0, into) is not None
    assert (await kept.partition(0)).refolding is None


async def epochs_are_over(kept: Kept) -> bool:
    held = [await kept.partition(number) for number in range(PARTITIONS)]
    return all(each.epoch >= 1 and each.refolding is None and each.sweep is None for each in held)


def subscribed(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Who keeps the highest (epoch, offset, n) of each account and dimension."""
    held: dict[tuple[str, str], tuple[Any, Any]] = {}
    for event in events:
        data = event["data"]
        at = tuple(data["position"][each] for each in ("epoch", "offset", "n"))
        if event["type"] == "account.state":
            answers = {name: each["answer"] for name, each in data["memberships"].items()}
            mine = {name for who, name in held if who == event["subject"]}
            answers |= dict.fromkeys(mine - answers.keys())
        else:
            answers = {data["dimension"]: data["to"] if "to" in data else data["members"]}
        for name, answer in answers.items():
            if held.get((event["subject"], name), ((),))[0] < at:
                held[event["subject"], name] = at, answer
    found: dict[str, dict[str, Any]] = {}
    for (account, name), (_, answer) in held.items():
        if answer:
            found.setdefault(account, {})[name] = [answer] if isinstance(answer, str) else answer
    return found


async def oracle(settings: Settings, kept: Kept) -> dict[str, dict[str, Any]]:
    """Where the accounts stand by the log alone."""
    found: dict[str, dict[str, Any]] = {}
    async with opened(settings) as log:
        for number in range(PARTITIONS):
            store, upto = Recollection(), (await kept.partition(number)).offset
            await refold(
                log, Owned.from_store(await store.acquire(number), PARTITIONS), store, upto, lambda n: None
            )
            for account, state in (await store.load(number, store.packed(number))).items():
                if (answers := stands(state)) and not isinstance(answers, str):
                    found[account] = {name: [*answer] for name, answer in answers.items()}
    return found


async def test_what_is_folded_beside_can_be_abandoned(
    settings: Settings, worker: Worker, said: Said, changes: Changes, kept: Kept, redis: Redis
) -> None:
    assert isotherm(settings, "deploy").returncode == 0
    for account in ACCOUNTS:
        await said.facts(account, employees=50)
    await changes.until(lambda event: event["subject"] == ACCOUNTS[-1])
    await killed_in_between(settings.model_copy(update={"batch": 2}), kept)
    into = rebuilt(settings.namespace)
    done = isotherm(settings, "rebuild", "--abandon")
    assert done.returncode == 0, done.stderr
    assert f"keys of {into} removed" in done.stdout
    assert await redis.keys(f"{into}:*") == []
    assert verified(settings, "--all")[0] == 0
    refused = isotherm(settings, "rebuild", "--into", settings.namespace)
    assert (refused.returncode, "is live" in refused.stderr) == (2, True)
    assert isotherm(settings, "rebuild", "--partition", "7").returncode == 2
    assert worker.stop() == 0
