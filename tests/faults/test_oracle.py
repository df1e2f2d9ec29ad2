"""The oracle sees what it is there to see: a run that came out right, spoiled in one place at a time."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rules import state as states
from rules.records import Activity, Facts, Merge, Record, RulesetRecord, Tick, decode_record, encode_record
from streams.producer import partition_of
from streams.topics import ACCOUNT_LOG, CHANGES, CONFIGS, MEMBERSHIPS, WEB_ACTIVITY
from tests.faults.oracle import Found, Kept, Told, check, folded

START = 1_700_000_000_000
PARTITIONS = 2
RULES = {"rules.yaml": (Path(__file__).parent / "rules.yaml").read_text()}
NAMES = [[f"a{n}" for n in range(99) if partition_of(f"a{n}", PARTITIONS) == p] for p in range(PARTITIONS)]
ONE, OTHER, THIRD = NAMES[0][0], *NAMES[1][:2]


def history() -> list[list[Record]]:
    """Of each partition: an account turns hot and cools, another one is large, and the one becomes the other."""
    place = f"{WEB_ACTIVITY}/0"
    log: list[list[Record]] = [[RulesetRecord(received=START, hash="", files=RULES)] for _ in range(PARTITIONS)]
    for n in range(4):
        at = START + 1_000 * n
        log[0].append(Activity(account=ONE, name="visited", at=at, received=at, person=f"p{n}", via=(place, n, 0)))
    log[0].append(Tick(received=START + 15_000))
    log[1].append(Facts(account=OTHER, at=START, received=START + 5, set={"employees": 900}, via=(place, 4, 0)))
    log[1].append(Activity(account=THIRD, name="asked", at=START + 16_000, received=START + 16_000))
    log[0].append(Merge(account=ONE, into=OTHER, at=START, received=START + 16_000, via=(place, 5, 0)))
    return log


async def right() -> Found:
    log = [[*map(encode_record, each)] for each in history()]
    alone = await folded(of(0, log[0]), 0, PARTITIONS)
    log[1] += [each.value or b"" for each in alone.outgoing if each.topic == ACCOUNT_LOG]
    topics: dict[str, list[Told]] = {role: [] for role in CONFIGS}
    kept: list[Kept] = []
    for number in range(PARTITIONS):
        topics[ACCOUNT_LOG] += of(number, log[number])
        alone = await folded(of(number, log[number]), number, PARTITIONS)
        kept.append(alone.kept)
        for role in (CHANGES, MEMBERSHIPS):
            told = [each for each in alone.outgoing if each.topic == role]
            topics[role] += [Told(number, n, each.key, each.value, START + 60_000) for n, each in enumerate(told)]
    topics[WEB_ACTIVITY] = [Told(0, n, "", b"", START) for n in range(6)]
    return Found(PARTITIONS, topics, kept, [(WEB_ACTIVITY, 0, n) for n in range(6)])


def of(number: int, values: list[bytes]) -> list[Told]:
    return [Told(number, n, "", value, START) for n, value in enumerate(values)]


async def test_a_run_that_is_right() -> None:
    report = await check(await right())
    assert not report.broken, str(report)
    assert (report.numbers["naive"], report.numbers["sent"]) == (1, 1)
    assert report.numbers["changes"] > 8


def moves(found: Found) -> list[int]:
    return [i for i, each in enumerate(found.topics[CHANGES]) if b'"segment.moved"' in (each.value or b"")]


def loses_a_change(found: Found) -> None:
    del found.topics[CHANGES][moves(found)[0]]


def edits_a_change(found: Found) -> None:
    i = moves(found)[0]
    each = found.topics[CHANGES][i]
    event = json.loads(each.value or b"")
    event["data"]["to"] = "cold" if event["data"]["to"] != "cold" else "hot"
    found.topics[CHANGES].append(Told(each.partition, 99, each.key, json.dumps(event).encode(), each.timestamp))


def tells_too_soon(found: Found) -> None:
    i = moves(found)[-1]
    each = found.topics[CHANGES][i]
    found.topics[CHANGES][i] = Told(each.partition, each.offset, each.key, each.value, START - 1)


def spoils_a_state(found: Found) -> None:
    account, blob = next(iter(found.kept[1].states.items()))
    state = states.unpack(blob)
    state.standings = dict(list(state.standings.items())[1:])
    found.kept[1].states[account] = states.pack(state)


def loses_a_wake(found: Found) -> None:
    found.kept[1].wakes.clear()


def adds_a_member(found: Found) -> None:
    found.kept[0].members["engagement", "hot"] = {"nobody"}


def miscounts(found: Found) -> None:
    day = next(iter(found.kept[0].tallies))
    found.kept[0].tallies[day]["engagement/hot/entered"] = 77


def says_something_else(found: Found) -> None:
    each = found.topics[MEMBERSHIPS][-1]
    held = json.loads(each.value or b"")
    held["memberships"]["size"] = "small"
    found.topics[MEMBERSHIPS].append(Told(each.partition, 99, each.key, json.dumps(held).encode(), START))


def exceeds_a_cap(found: Found) -> None:
    found.caps["memory"] = (2.0, 1.0)


def loses_an_input(found: Found) -> None:
    found.acked.append((WEB_ACTIVITY, 0, 6))


def invents_an_input(found: Found) -> None:
    found.topics[WEB_ACTIVITY].pop(0)


def counts_an_input_twice(found: Found) -> None:
    log = found.topics[ACCOUNT_LOG]
    record = decode_record(log[1].value or b"")
    log.append(Told(1, found.kept[1].partition.offset, "", encode_record(record), START))
    found.kept[1].partition = msgspec.structs.replace(
        found.kept[1].partition, offset=found.kept[1].partition.offset + 1
    )


def loses_what_was_sent(found: Found) -> None:
    found.topics[ACCOUNT_LOG] = [
        each for each in found.topics[ACCOUNT_LOG] if b'"transfer"' not in (each.value or b"")
    ]


@pytest.mark.parametrize(
    ("spoil", "breaks"),
    [
        (loses_a_change, {"I1", "I2"}),
        (edits_a_change, {"I1"}),
        (tells_too_soon, {"I5"}),
        (spoils_a_state, {"I3", "I4"}),
        (loses_a_wake, {"I3"}),
        (adds_a_member, {"I3"}),
        (miscounts, {"I3"}),
        (says_something_else, {"I4"}),
        (exceeds_a_cap, {"I7"}),
        (loses_an_input, {"I8"}),
        (invents_an_input, {"I8"}),
        (counts_an_input_twice, {"I8"}),
        (loses_what_was_sent, {"I8"}),
    ],
)
async def test_what_is_wrong_is_seen(spoil: Callable[[Found], None], breaks: set[str]) -> None:
    found = copy.deepcopy(await right())
    spoil(found)
    assert breaks <= (await check(found)).broken.keys()
