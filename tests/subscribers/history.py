"""What two partitions tell in the course of a month, as it is published, and how it may reach a subscriber."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rules.compiler import compile_files
from rules.fold import Folded
from rules.records import Epoch, Record, RulesetRecord
from rules.replay import Replay
from rules.state import AccountState, standing_in
from streams.contract_examples import RULES, STORY
from streams.offline import Line, read
from streams.pipeline import published
from streams.topics import CHANGES, MEMBERSHIPS

PARTITIONS = 2
MORE_RULES = (
    RULES.replace("dimension: triggers", "dimension: signals")
    + """\
---
dimension: named
segments:
  - {segment: "yes", when: {not: {fact: name, missing: true}}}
"""
)
BETWEEN = b"""\
{"kind": "activity", "account": "acme", "name": "demo_requested", "at": "2026-04-01T11:00:00Z"}
{"kind": "activity", "account": "hooli", "name": "demo_requested", "at": "2026-04-01T12:00:00Z"}
{"kind": "delete", "account": "hooli", "at": "2026-04-01T13:00:00Z"}
"""
LATER = b"""\
{"kind": "activity", "account": "initech", "name": "pricing_viewed", "at": "2026-04-02T10:00:00Z"}
{"kind": "activity", "account": "initech", "name": "pricing_viewed", "at": "2026-04-02T11:00:00Z"}
{"kind": "activity", "account": "initech", "name": "pricing_viewed", "at": "2026-04-02T12:00:00Z"}
{"kind": "activity", "account": "umbrella", "name": "demo_requested", "at": "2026-04-02T13:00:00Z"}
{"kind": "activity", "account": "umbrella", "name": "pricing_viewed", "at": "2026-04-02T13:00:00Z"}
{"kind": "activity", "account": "umbrella", "name": "pricing_viewed", "at": "2026-04-02T13:00:00Z"}
{"kind": "activity", "account": "umbrella", "name": "pricing_viewed", "at": "2026-04-02T13:00:00Z"}
{"kind": "delete", "account": "umbrella", "at": "2026-04-02T14:00:00Z"}
{"kind": "activity", "account": "acme", "name": "demo_requested", "at": "2026-04-03T10:00:00Z"}
"""
END = b"""\
{"kind": "facts", "account": "the end of changes", "at": "2026-04-04T00:00:00Z", "set": {"name": "The end"}}
{"kind": "facts", "account": "the end of memberships", "at": "2026-04-04T00:00:01Z", "set": {"name": "The end"}}
"""
ENDS = {CHANGES: "the end of changes", MEMBERSHIPS: "the end of memberships"}


@dataclass(frozen=True, slots=True)
class Published:
    topic: str
    partition: int
    key: str
    value: bytes | None
    epoch: int


@dataclass(frozen=True, slots=True)
class History:
    """`told` in the order in which it was decided; `expected` is where each account stands
    in the end; one that is gone is nowhere."""

    told: tuple[Published, ...]
    expected: dict[str, dict[str, object]]


def history(partition: int) -> History:
    """A story, a restatement, other rules that lack a dimension, another story, another restatement, the end."""
    replay = Replay(compile_files({"rules.yaml": RULES}), partition)
    told = [each for record in _records(replay, partition) for each in _published(replay, record)]
    return History(
        tuple(each for each in told if _is_wanted(each)),
        {account: _held(replay, state) for account, state in replay.states.items()},
    )


def _held(replay: Replay, state: AccountState) -> dict[str, object]:
    """As Redis would have it; not as it was told."""
    kinds = {each.name: each.kind for each in replay.rules.ruleset.dimensions}
    answers = {name: standing_in(state, name).answer for name in kinds}
    return {name: list(each) if kinds[name] == "set" else each[0] for name, each in answers.items() if each}


def _records(replay: Replay, partition: int) -> Iterator[Record]:
    yield from _read(STORY, partition)
    yield Epoch(received=replay.partition.log_time, number=1)
    yield from _read(BETWEEN, partition)
    yield RulesetRecord(received=replay.partition.log_time, hash="", files={"rules.yaml": MORE_RULES})
    since = replay.partition.offset
    yield from _read(LATER, partition)
    yield Epoch(received=replay.partition.log_time, number=2, since=since)
    yield from _read(END, partition)


def _read(story: bytes, partition: int) -> Iterator[Record]:
    """The records of a story, each partition with accounts of its own."""
    for record in read(story.splitlines()):
        assert not isinstance(record, Line), record
        if hasattr(record, "account"):
            record.account = named(record.account, partition)
        if hasattr(record, "into"):
            record.into = named(record.into, partition)
        yield record


def named(account: str, partition: int) -> str:
    return f"{account} {partition}"


def _published(replay: Replay, record: Record) -> Iterator[Published]:
    outgoing = list(replay.feed(record))
    for each in published(Folded(replay.partition, replay.rules, outgoing=outgoing)):
        yield Published(each.topic, replay.partition.number, each.key, each.value, outgoing[0].epoch)


def _is_wanted(message: Published) -> bool:
    """Each topic ends with an account that is on no other: who has it, has all of that topic."""
    return not any(message.key.startswith(end) and message.topic != topic for topic, end in ENDS.items())


def held(answers: dict[str, object]) -> dict[str, object]:
    """Nothing, null and an empty list all mean: in no segment."""
    return {dimension: answer for dimension, answer in answers.items() if answer}


def retained(told: Sequence[Published]) -> list[Published]:
    """What is still there when `segment.changes` begins behind the deletion of hooli: a tombstone tells of it."""
    last = max(i for i, each in enumerate(told) if each.key.startswith("hooli"))
    return [each for i, each in enumerate(told) if i > last or each.topic == MEMBERSHIPS]


def delivered(told: Sequence[Published], chance: random.Random) -> list[Published]:
    """As it may arrive: stretches twice; and in each epoch, late, some changes of an earlier one."""
    arriving: list[Published] = []
    for i, message in enumerate(told):
        arriving.append(message)
        if message.key.startswith(tuple(ENDS.values())):
            continue
        if chance.random() < 0.3:
            arriving += told[max(0, i - chance.randrange(6)) : i + 1]
        earlier = [each for each in told[:i] if each.topic == CHANGES and each.epoch < message.epoch]
        if earlier and chance.random() < 0.5:
            arriving += chance.choices(earlier, k=3)
    return arriving
