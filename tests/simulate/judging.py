"""Whether what a schedule left behind is right: by the oracle of the fault tests, and exactly."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from rules.fold import ALONE
from rules.records import Release, decode_record
from rules.state import unpack
from rules.work import Outcome
from streams.pipeline import Owned, fold_batch
from streams.producer import STRUCTURED
from streams.store.base import Outbound
from streams.store.memory import MemoryStore
from streams.topics import ACCOUNT_LOG, CHANGES, DEAD_LETTERS, MEMBERSHIPS
from tests.faults.oracle import Found, Report, check
from tests.simulate.world import ALL, LOST, PARTITIONS, RUN, World


async def judge(world: World, found: Found) -> Report:
    """The report of the oracle, as far as it can know, and beside it: all that is published, and nothing else, is
    what one thread publishes that folds the log alone; each record of the log came to one end."""
    letters = {_source(each.headers) for each in found.topics[DEAD_LETTERS]}
    found.letters = len(letters)  # which ones, and why, is compared below
    report = await check(found)
    RUN["changes"] += report.numbers["changes"]
    ends = Counter[str]()
    alone: set[Any] = set()
    for number in ALL:
        outgoing, counts = await folded_alone(found, number)
        alone |= {_plain(each.topic, each) for each in outgoing}
        ends += counts
    if world.lost_log or world.any_astray:
        # When it was decided the log cannot say any more; and time does not pass by what stands in another's
        # partition, though the oracle thinks it does.
        _forgive(report, "I5", lambda line: "the log says" in line)
    if world.lost_log:  # what arrived may be lost by now: see `_same_messages`
        _forgive(report, "I8", lambda line: line.startswith("never arrived"))
    if world.lost_log or world.any_astray:
        _forgive(report, "I3", lambda line: line.startswith("naive "))
    for account in _poisoned(world, found):  # what is parked, and what waits, the naive oracle does not know
        _forgive(report, "I3", lambda line, account=account: line.startswith(f"naive {account}:"))
    if world.lost_log and world.lost_writes:
        # Told, forgotten, and not in the log any more: nobody can say it again, nor of whom it was; and of whom no
        # rules are left nobody says anything.
        for invariant in ("I1", "I2"):
            _forgive(report, invariant, lambda line: "contents" not in line)
        known = {name for kept in found.kept for name, blob in kept.states.items() if unpack(blob).ruleset}
        _forgive(report, "I4", lambda line: not any(f"'{account}'" in line for account in known))
    else:
        _same_messages(report, world, alone)
    _have_positions(report, world)
    records = sum(len(found.log(number)) for number in ALL)
    report.expect("I8", ends.total() == records, f"{records} records came to {ends}")
    return report


def _poisoned(world: World, found: Found) -> set[str]:
    """The accounts on which a rule raised, and those they were merged into: what comes for them goes there."""
    into = {name: unpack(blob).merged_into for kept in found.kept for name, blob in kept.states.items()}
    accounts = set(world.poisoned)
    for account in world.poisoned:
        while account := into.get(account, ""):
            accounts.add(account)
    return accounts


async def folded_alone(found: Found, number: int) -> tuple[list[Outbound], Counter[str]]:
    """What one thread makes of a partition, a record at a time; and how many records came to what end."""
    store, log = MemoryStore(), found.log(number)
    owned = Owned.from_store(await store.acquire(number), PARTITIONS)
    for each in log:
        owned = await fold_batch([each], owned, store)
    outgoing = [each for entry in await store.outbox(number, 1 << 20) for each in entry.messages]
    ends = Counter[str]()
    for (what, _), count in owned.counts.items():
        if what in ENDS:
            ends[what] += count
    ends["letter"] = sum(_source(each.headers, "reason") == "not_a_record" for each in outgoing)
    return outgoing, ends


ENDS = {*map(str, Outcome), "tick", "ruleset", "epoch", "diverted"}


def _forgive(report: Report, invariant: str, which: Any) -> None:
    left = [line for line in report.broken.pop(invariant, []) if not which(line)]
    if left:
        report.broken[invariant] = left


def _same_messages(report: Report, world: World, alone: set[Any]) -> None:
    """To the byte and header, repetitions aside. Of the log, what folds send on, though it may be lost by now."""
    told = {
        _plain(role, each) for role in (CHANGES, MEMBERSHIPS, DEAD_LETTERS) for _, each in world.topics.named(role)
    }
    sent = {_plain(ACCOUNT_LOG, each) for _, each in world.topics.named(ACCOUNT_LOG)}
    alone = {each for each in alone if not (each[0] == DEAD_LETTERS and each[2] == LOST)}
    for each in sorted(alone - told - sent, key=str):
        if world.lost_writes and each[0] == MEMBERSHIPS and _is_superseded(each, told):
            continue  # its sender died between the two topics, and Redis forgot that it was to be sent
        report.expect("I1", False, f"never told: {each!r:.400}")
    for each in sorted(told - alone, key=str):
        report.expect("I1", False, f"told, and not by who folds alone: {each!r:.400}")


def _is_superseded(message: Any, told: set[Any]) -> bool:
    """Whether a newer word on the same account stands in the compacted topic, which keeps only that."""
    return any(_of_whom(other) == _of_whom(message) and _offset(other) > _offset(message) for other in told)


def _of_whom(message: Any) -> tuple[str, bytes]:
    role, key, _, _ = message
    return role, key


def _offset(message: Any) -> int:
    """The place in the log of which a message of the compacted topic tells; a tombstone has it in a header."""
    _, _, value, headers = message
    return int(dict(headers)["offset"] if value is None else msgspec.json.decode(value)["position"]["offset"])


def _have_positions(report: Report, world: World) -> None:
    """I8: whatever is of an account says where it comes from, so that it counts once however often it is sent; but
    for what people do by hand."""
    for number, each in world.topics.named(ACCOUNT_LOG):
        try:
            record = decode_record(each.value or b"")
        except msgspec.DecodeError:
            continue
        placed = isinstance(record, (*ALONE, Release)) or record.via is not None
        report.expect("I8", placed, f"{number}/{each.offset} comes from nowhere: {each.value!r:.200}")


def _plain(role: str, message: Any) -> Any:
    key = "" if role == ACCOUNT_LOG else message.key
    return role, key, message.value, tuple(each for each in message.headers if each != STRUCTURED)


def _source(headers: Any, name: str = "source") -> str:
    return next((value.decode() for each, value in headers if each == name), "")
