"""Faults 18, 21 and 23: what comes in is doubled, late, out of order, poisonous, or all about one account."""

from __future__ import annotations

import gzip
import json
import random
import statistics
import time
from collections.abc import Iterable

import pytest

from rules.facts import TEXT_KEPT
from rules.shedding import UNREAD_BYTES
from rules.state import unpack
from streams.topics import ACCOUNT_LOG, CHANGES, CRM_UPDATES, WEB_ACTIVITY
from tests.faults.conftest import Rows
from tests.faults.oracle import _received
from tests.faults.traffic import FORMAT, messages
from tests.faults.world import World, traffic

WHALE = "acct-whale"
ROOM = UNREAD_BYTES // TEXT_KEPT  # so many long texts are more than an account keeps of what no rule reads


@pytest.mark.parametrize(
    ("number", "where", "given"),
    [
        (18, "duplicates, p = 0.3", {"duplicates": 0.3, "late": 0.0}),
        (18, "out of order within the windows", {"late": 0.3, "late_ms": 8_000}),
        (18, "later than any window", {"late": 0.3, "late_ms": 60_000}),
    ],
)
async def test_doubled_and_late(
    world: World, rows: Rows, number: int, where: str, given: dict[str, float]
) -> None:
    world.worker()
    world.worker()
    await world.ready()
    async with traffic(world, seed=18, **given):
        await world.more(1_500)
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, where, report))
    assert not report.broken, str(report)


def deep(levels: int) -> bytes:
    return b'{"kind": "activity", "account": "a", "at": 1, "name": "visited", "props": ' + b"[" * levels


def poison() -> list[bytes | None]:
    """Each of them is a dead letter. What is larger than 8 MB never gets in: the topic refuses it."""
    at = int(time.time() * 1000)
    usual = {"kind": "activity", "account": "a", "at": at, "name": "visited"}
    return [
        b"\xff\xfe\x80",
        b'{"kind": "activity", "account": "a\xff", "at": 1, "name": "visited"}',
        json.dumps(usual | {"props": {"x": "y" * 6_000_000}}).encode(),
        deep(10_000) + b"]" * 10_000 + b"}",
        b'{"kind": "activity", "account": "a", "at": NaN, "name": "visited"}',
        b'{"kind": "activity", "account": "a", "at": %s, "name": "visited"}' % (b"9" * 5_000),
        None,
        b"",
        gzip.compress(json.dumps(usual | {"props": {"x": "y" * 5_000_000}}).encode()),
        b'{"kind": "activity", "account": "' + b"a" * 5_000 + b'", "at": 1, "name": "visited"}',
        b'{"kind": "explode", "account": "a", "at": 1}',
        b"\x00" * 1_000,
        b"[]",
        b"1e400",
    ]


@pytest.mark.parametrize("number", [21])
async def test_poison(world: World, rows: Rows, number: int) -> None:
    """Amid usual traffic, ten times over; no limit pauses the source."""
    world.worker(poison_limit=False)
    await world.ready()
    async with traffic(world, seed=21) as sends:
        for n in range(10):
            for value in poison():
                if value is not None and len(value) > 1_000_000 and n:
                    continue
                key = "" if n % 2 and value is not None else "poison"  # aiokafka wants one of the two
                await sends.send(WEB_ACTIVITY, key, value, FORMAT)
                world.letters += 1
            await world.more(50)
        await world.healed()
        report = await world.finish()
    rows.add(**world.row(number, "poison", report), letters=world.letters)
    assert sends.refused == 0
    assert not report.broken, str(report)


@pytest.mark.parametrize("number", [23])
async def test_one_account_has_nearly_all_the_traffic(world: World, rows: Rows, number: int) -> None:
    """The others' changes are told as soon as they would be otherwise, though it is as large as one may be."""
    world.worker()
    world.worker()
    await world.ready()
    async with traffic(world, seed=23, rate=60) as sends:
        await world.more(900)
        await world.drained()
        began = int(time.time() * 1000)
        whale = messages(random.Random(23))
        await sends.send(CRM_UPDATES, WHALE, noted(range(ROOM)), FORMAT)
        for n in range(80):
            await sends.send(CRM_UPDATES, WHALE, noted([ROOM + n]), FORMAT)
            for _ in range(54):
                topic, _, message = next(whale)
                # Of more amounts in a window than are kept a sum is not known; the naive oracle keeps them all.
                if topic == WEB_ACTIVITY and message["name"] != "bought":
                    told = message | {"account": WHALE, "domain": None, "at": int(time.time() * 1000)}
                    await sends.send(WEB_ACTIVITY, WHALE, json.dumps(told).encode(), FORMAT)
            await world.more(50)
        await world.healed()
        report = await world.finish()
    calm, crowded = await delays(world, 0, began), await delays(world, began, 1 << 60)
    more = round(crowded / calm, 2)
    assert any(unpack(kept.states[WHALE]).degraded for kept in (await world.found()).kept if WHALE in kept.states)
    rows.add(**world.row(number, "90 % of the traffic to one account", report), p99_ratio=more)
    assert not report.broken, str(report)


def noted(numbers: Iterable[int]) -> bytes:
    """Facts that no rule reads."""
    notes = {f"note{n}": "x" * TEXT_KEPT for n in numbers}
    told = {"kind": "facts", "account": WHALE, "at": int(time.time() * 1000), "set": notes}
    return json.dumps(told).encode()


async def delays(world: World, since: int, before: int) -> float:
    """The 99th percentile, in ms, from the append of a record to the change that it made, of all others."""
    found = await world.found()
    received = {(each.partition, each.offset): _received(each) for each in found.topics[ACCOUNT_LOG]}
    told: list[int] = []
    for each in found.topics[CHANGES]:
        event = json.loads(each.value or b"{}")
        position = event["data"]["position"]
        at = received[position["partition"], position["offset"]]
        if event["subject"] != WHALE and event["data"]["cause"] == "data" and since <= at < before:
            told.append(each.timestamp - at)
    return statistics.quantiles(told, n=100)[98]
