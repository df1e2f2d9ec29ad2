"""Whether a run came out right: the log is folded once more by one thread, and recomputed naively beside it.

`check(found)` compares what the workers left in Redis and published with two oracles: the same `fold`, alone, over
a store in memory; and `tests.rules.naive`, which recomputes memberships from the raw history each time. Every
disagreement is a line under the invariant (I1 to I8 of the fault matrix) that it breaks.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rules import state as states
from rules.changes import iso
from rules.fold import Partition
from rules.records import Erase, Fill, Merge, Record, Release, RulesetRecord, Transfer, decode_record
from rules.state import AccountState
from streams.pipeline import Owned, fold_batch
from streams.producer import partition_of
from streams.store.base import Outbound
from streams.store.memory import MemoryStore
from streams.topics import ACCOUNT_LOG, CHANGES, DEAD_LETTERS, MEMBERSHIPS, SOURCES
from tests.faults.traffic import Place
from tests.rules.naive import FAR, Life, Naive, TooClose

BATCH = 500
LINES = 8  # of each invariant that are worth reading
NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Told:
    """A message as a topic has it. `timestamp` is the time of publication, UTC ms."""

    partition: int
    offset: int
    key: str
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(slots=True)
class Kept:
    """A partition as Redis has it."""

    partition: Partition
    states: dict[str, bytes]  # packed
    wakes: dict[str, int]
    members: dict[tuple[str, str], set[str]]
    tallies: dict[int, dict[str, int]]
    outbox: list[Outbound]


@dataclass(slots=True)
class Found:
    """All that a run left behind, read when its workers had stopped."""

    partitions: int
    topics: dict[str, list[Told]]  # by role; each partition in order
    kept: list[Kept]
    acked: list[Place]
    caps: dict[str, tuple[float, float]] = field(default_factory=dict)  # what: how much, and how much at most
    letters: int = 0  # that are expected

    def log(self, number: int) -> list[Told]:
        """Of a partition, as far as it has been folded."""
        upto = self.kept[number].partition.offset
        return [each for each in self.topics[ACCOUNT_LOG] if each.partition == number and each.offset < upto]


@dataclass(slots=True)
class Report:
    """`broken`: by invariant, what disagrees; empty when all is well."""

    broken: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    numbers: Counter[str] = field(default_factory=Counter)

    def expect(self, invariant: str, holds: bool, line: str) -> None:
        if not holds:
            self.broken[invariant].append(line)

    def same(self, invariant: str, what: str, ours: Mapping[Any, Any], theirs: Mapping[Any, Any]) -> None:
        """`ours` is the oracle's."""
        for key in sorted({*ours, *theirs}, key=str):
            if ours.get(key) != theirs.get(key):
                self.broken[invariant].append(
                    f"{what} {key}: {ours.get(key)!r:.300}, found {theirs.get(key)!r:.300}"
                )

    def __str__(self) -> str:
        lines = [
            f"{invariant}: {len(each)} disagreements\n  " + "\n  ".join(each[:LINES])
            for invariant, each in sorted(self.broken.items())
        ]
        return "\n".join(lines) or "all invariants hold"


async def check(found: Found) -> Report:
    report = Report()
    oracle = [await folded(found.log(number), number, found.partitions) for number in range(found.partitions)]
    changes = published(found)
    _changes(report, oracle, found, changes)
    _linked(report, changes)
    for number, (alone, kept) in enumerate(zip(oracle, found.kept, strict=True)):
        _kept(report, number, alone, kept)
    _naive(report, found)
    _subscriber(report, found, changes)
    _topic_of_memberships(report, found)
    _times(report, found, changes)
    for what, (much, at_most) in found.caps.items():
        report.expect("I7", much <= at_most, f"{what}: {much:g}, at most {at_most:g}")
    _inputs(report, found)
    _once(report, found)
    _sent(report, oracle, found)
    report.numbers["changes"] = len(changes)
    report.numbers["records"] = sum(kept.partition.offset for kept in found.kept)
    report.numbers["inputs"] = len(found.acked)
    return report


# -- one thread ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Alone:
    """What one thread makes of a partition of the log."""

    kept: Kept
    outgoing: list[Outbound]

    @property
    def changes(self) -> dict[str, bytes]:
        return {_id(each.value): each.value for each in self.outgoing if each.topic == CHANGES and each.value}


async def folded(log: list[Told], number: int, partitions: int) -> Alone:
    store, outgoing = MemoryStore(), list[Outbound]()
    owned = Owned.from_store(await store.acquire(number), partitions)
    for start in range(0, len(log), BATCH):
        owned = await fold_batch(log[start : start + BATCH], owned, store)
        for entry in await store.outbox(number, 1 << 20):
            outgoing += entry.messages
            await store.trim(number, entry.id)
    kept = store._of(number)
    held = await store.load(number, kept.accounts)
    return Alone(
        Kept(
            owned.partition,
            {account: states.pack(state) for account, state in held.items()},
            kept.wakes,
            {place: members for place, members in kept.members.items() if members},
            {day: dict(tallies) for day, tallies in kept.tallies.items()},
            [],
        ),
        outgoing,
    )


# -- what was published -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    event: dict[str, Any]
    timestamp: int  # of publication; 0: still in the outbox
    partition: int

    @property
    def order(self) -> tuple[int, int, int]:
        position = self.event["data"]["position"]
        return position["epoch"], position["offset"], position["n"]


def published(found: Found) -> list[tuple[bytes, Change]]:
    """Every change in the order of its arrival, repetitions too; last those that wait in the outbox."""
    told = [(each.value, each.timestamp, each.partition) for each in found.topics[CHANGES] if each.value]
    for number, kept in enumerate(found.kept):
        told += [(each.value, 0, number) for each in kept.outbox if each.topic == CHANGES and each.value]
    return [(value, Change(json.loads(value), timestamp, number)) for value, timestamp, number in told]


def _id(value: bytes | None) -> str:
    return str(json.loads(value or b"{}")["id"])


def _changes(report: Report, oracle: list[Alone], found: Found, changes: list[tuple[bytes, Change]]) -> None:
    """I1: the distinct changes are the oracle's, byte for byte, and no id stands for two contents."""
    contents: dict[str, set[bytes]] = defaultdict(set)
    for value, change in changes:
        contents[change.event["id"]].add(value)
    for id, values in contents.items():
        report.expect(
            "I1", len(values) == 1, f"{id} was told with {len(values)} contents: {sorted(values)[:2]!r:.600}"
        )
    expected = {id: value for alone in oracle for id, value in alone.changes.items()}
    report.same("I1", "change", expected, {id: min(values) for id, values in contents.items()})
    report.numbers["repeated"] = len(changes) - len(contents)


def distinct(changes: list[tuple[bytes, Change]]) -> dict[str, list[Change]]:
    """By account the changes in their own order, each once."""
    by_id = {change.event["id"]: change for _, change in changes}
    found: dict[str, list[Change]] = defaultdict(list)
    for change in sorted(by_id.values(), key=lambda each: each.order):
        found[change.event["subject"]].append(change)
    return found


def _linked(report: Report, changes: list[tuple[bytes, Change]]) -> None:
    """I2: each change of a dimension begins where the one before it ended."""
    for account, story in distinct(changes).items():
        at: dict[str, Any] = {}
        for i, change in enumerate(story):
            event, data = change.event, change.event["data"]
            dimension = data.get("dimension", "")
            if event["type"] == "account.state":
                at = {name: each["answer"] for name, each in data["memberships"].items()}
            elif event["type"] == "segment.moved":
                was = at.get(dimension)
                report.expect(
                    "I2",
                    was == data["from"],
                    f"{event['id']} {account} {dimension}: from {data['from']}, was in {was}",
                )
                at[dimension] = data["to"]
            else:
                _step_of_set(report, event, at, _together(story, i))


def _together(story: list[Change], i: int) -> bool:
    """Whether the next change tells of the same set at the same instant."""
    if i + 1 >= len(story):
        return False
    one, other = story[i].event, story[i + 1].event
    same = ("dimension", "effective", "members", "decided")
    return story[i].order[:2] == story[i + 1].order[:2] and all(
        one["data"].get(each) == other["data"].get(each) for each in same
    )


def _step_of_set(report: Report, event: dict[str, Any], at: dict[str, Any], more: bool) -> None:
    data = event["data"]
    dimension, segment = data["dimension"], data["segment"]
    was = set(at.get(dimension) or [])
    entered = event["type"] == "segment.entered"
    report.expect("I2", (segment in was) is not entered, f"{event['id']}: {event['type']} {segment}, was {was}")
    now = was | {segment} if entered else was - {segment}
    if not more:
        report.expect("I2", now == set(data["members"]), f"{event['id']}: members {data['members']}, not {now}")
    at[dimension] = sorted(now)


# -- what is kept -------------------------------------------------------------------------------------------


def _kept(report: Report, number: int, alone: Alone, kept: Kept) -> None:
    """I3: states, wakes, members, tallies and the position are the oracle's."""
    ours = alone.kept
    where = f"partition {number}:"
    report.expect("I3", ours.partition == kept.partition, f"{where} {ours.partition}, found {kept.partition}")
    theirs = {account: states.pack(states.unpack(blob)) for account, blob in kept.states.items()}
    report.same("I3", f"{where} state of", ours.states, theirs)
    report.same("I3", f"{where} wake of", ours.wakes, kept.wakes)
    report.same("I3", f"{where} members of", ours.members, kept.members)
    report.same("I3", f"{where} tallies of", ours.tallies, kept.tallies)
    report.numbers["accounts"] += len(ours.states)


def _unpacked(kept: Kept) -> dict[str, AccountState]:
    return {account: states.unpack(blob) for account, blob in kept.states.items()}


def _answers(state: AccountState) -> dict[str, Any]:
    return {name: standing.answer for name, standing in state.standings.items() if standing.answer}


# -- naively ------------------------------------------------------------------------------------------------


def _naive(report: Report, found: Found) -> None:
    """I3 again: where each account stands, worked out from the raw history of those that were never merged."""
    for number, kept in enumerate(found.kept):
        records = [(log_time, record) for log_time, record in counted(found.log(number))]
        merged = {each for _, record in records for each in _in_a_merge(record)}
        lives: dict[str, Life] = {}
        rules: Naive | None = None
        close: set[str] = set()
        for log_time, record in records:
            if isinstance(record, RulesetRecord):
                rules = Naive(record.files)
                _each(lives, close, lambda life, r=rules, t=log_time: life.is_judged_by(r, t))
                continue
            account = getattr(record, "account", "")
            # What is filled has happened already: it is in the history from where it stands.
            tells_nothing = rules is None or isinstance(record, Release | Fill)
            if not account or account in merged | close or tells_nothing:
                continue
            if partition_of(account, found.partitions) != number:  # it is sent on to its own
                continue
            life = lives.setdefault(account, Life(rules))
            try:
                life.meets(record, log_time)
            except TooClose:
                close.add(account)
        held = _unpacked(kept)
        for account, life in lives.items():
            if account in close:
                continue
            # What is due at the end of the log fires at the tick that comes next.
            until = min(kept.partition.log_time, kept.wakes.get(account, FAR) - 1)
            try:
                life.pass_time(until)
            except TooClose:
                continue
            state = held.get(account)
            answers = {} if state is None else _answers(state)
            report.expect("I3", answers == life.answers, f"naive {account}: {life.answers}, found {answers}")
            report.numbers["naive"] += 1


def _each(lives: dict[str, Life], close: set[str], does: Any) -> None:
    for account, life in lives.items():
        try:
            does(life)
        except TooClose:
            close.add(account)


def _in_a_merge(record: Record) -> Iterator[str]:
    if isinstance(record, Merge):
        yield from (record.account, record.into)
    if isinstance(record, Transfer):
        yield from (record.account, record.merged)


def counted(log: list[Told]) -> Iterator[tuple[int, Record]]:
    """Each record with its log_time, but for those that came a second time from the same place."""
    log_time, seen = 0, set[tuple[str, int, int]]()
    for each in log:
        try:
            record = decode_record(each.value or b"")
        except msgspec.MsgspecError:
            continue
        record.offset = each.offset
        log_time = max(log_time, record.received)
        if record.via is not None:
            if record.via in seen:
                continue
            seen.add(record.via)
        yield log_time, record


# -- who listens --------------------------------------------------------------------------------------------


def _subscriber(report: Report, found: Found, changes: list[tuple[bytes, Change]]) -> None:
    """I4: who keeps the highest (epoch, offset, n) of each account and dimension holds what Redis holds."""
    newest: dict[tuple[str, str], tuple[tuple[int, int, int], Any]] = {}
    for _, change in changes:  # in the order of arrival
        data, account = change.event["data"], change.event["subject"]
        if change.event["type"] == "account.state":
            said = {name: each["answer"] for name, each in data["memberships"].items()}
            for name in {*said, *(dimension for who, dimension in newest if who == account)}:
                _keep(newest, (account, name), change.order, said.get(name))
        else:
            answer = data["members"] if "members" in data else data["to"]
            _keep(newest, (account, data["dimension"]), change.order, answer)
    theirs = {place: _plain(answer) for place, (_, answer) in newest.items() if _plain(answer)}
    ours = {
        (account, name): _plain(answer)
        for kept in found.kept
        for account, state in _unpacked(kept).items()
        if not state.merged_into
        for name, answer in _answers(state).items()
    }
    report.same("I4", "a subscriber's", ours, theirs)


def _keep(newest: dict[Any, Any], place: tuple[str, str], order: tuple[int, int, int], answer: Any) -> None:
    if place not in newest or newest[place][0] <= order:
        newest[place] = (order, answer)


def _plain(answer: Any) -> tuple[str, ...]:
    if answer is None:
        return ()
    return (answer,) if isinstance(answer, str) else tuple(sorted(answer))


def _topic_of_memberships(report: Report, found: Found) -> None:
    """I4 for the compacted topic: its last word about an account is where it stands."""
    last: dict[str, Any] = {}
    for each in found.topics[MEMBERSHIPS]:
        last[each.key] = json.loads(each.value) if each.value else None
    waiting = {each.key for kept in found.kept for each in kept.outbox if each.topic == MEMBERSHIPS}
    for kept in found.kept:
        for account, state in _unpacked(kept).items():
            if account in waiting or account not in last:
                continue
            said = (last[account] or {}).get("memberships", NOTHING)
            theirs = {name: _plain(answer) for name, answer in said.items() if _plain(answer)}
            ours = {} if state.merged_into else {name: _plain(answer) for name, answer in _answers(state).items()}
            report.expect("I4", ours == theirs, f"segment.memberships {account}: {ours}, found {theirs}")


# -- when ---------------------------------------------------------------------------------------------------


def _times(report: Report, found: Found, changes: list[tuple[bytes, Change]]) -> None:
    """I5: decided when the log had come so far, never before its instant, and told after that."""
    log_times = {}
    for number in range(found.partitions):
        log_time = 0
        for each in found.log(number):
            log_time = max(log_time, _received(each))
            log_times[number, each.offset] = log_time
    for _, change in changes:
        event, data = change.event, change.event["data"]
        id, at = event["id"], data["effective"]
        report.expect("I5", data["decided"] >= at, f"{id}: effective {at}, decided {data['decided']}")
        here = log_times.get((change.partition, change.order[1]))
        if here is not None:
            report.expect(
                "I5", data["decided"] == iso(here), f"{id}: decided {data['decided']}, the log says {iso(here)}"
            )
        if change.timestamp:
            told = iso(change.timestamp)
            report.expect("I5", told >= at, f"{id}: effective {at}, told {told}")


def _received(each: Told) -> int:
    try:
        return decode_record(each.value or b"").received
    except msgspec.MsgspecError:
        return 0


# -- what went in -------------------------------------------------------------------------------------------


def _inputs(report: Report, found: Found) -> None:
    """I8: each acknowledged message is in the log or a dead letter, and nothing there was never sent."""
    vias = set()
    for each in found.topics[ACCOUNT_LOG]:
        try:
            record = decode_record(each.value or b"")
        except msgspec.MsgspecError:
            continue
        if record.via is not None:
            vias.add((record.via[0].split("@")[0], record.via[1]))
    letters = {dict(each.headers).get("source", b"").decode().split("#")[0] for each in found.topics[DEAD_LETTERS]}
    for role, partition, offset in found.acked:
        there = (f"{role}/{partition}", offset) in vias or f"{role}/{partition}/{offset}" in letters
        report.expect(
            "I8", there, f"{role}/{partition}/{offset} was acknowledged, and is neither applied nor a letter"
        )
    sent = {(f"{role}/{each.partition}", each.offset) for role in SOURCES for each in found.topics[role]}
    for place, offset in vias:
        invented = place.split("/")[0] in SOURCES and (place, offset) not in sent
        report.expect("I8", not invented, f"the log has a record of {place}/{offset}, where no message is")
    report.expect("I8", len(letters) == found.letters, f"{len(letters)} dead letters, {found.letters} expected")


def _once(report: Report, found: Found) -> None:
    """I8: no message counts in two partitions of the log, by a naive high-water of the places in each."""
    counts_in: dict[tuple[str, int, int], set[int]] = defaultdict(set)
    for number in range(found.partitions):
        high: dict[str, tuple[int, int]] = {}
        for _, record in counted(found.log(number)):
            if record.via is None or isinstance(record, Erase):
                continue
            place, position = record.via[0], record.via[1:]
            if position > high.get(place, (-1, -1)):
                high[place] = position
                counts_in[record.via].add(number)
    for via, numbers in counts_in.items():
        report.expect("I8", len(numbers) == 1, f"{via} counts in partitions {sorted(numbers)}")


def _sent(report: Report, oracle: list[Alone], found: Found) -> None:
    """I8 for what folds send to each other: each such record is in the log, or waits in the outbox."""
    there = {(each.partition, each.value) for each in found.topics[ACCOUNT_LOG]}
    for kept in found.kept:
        there |= {
            (partition_of(each.key, found.partitions), each.value)
            for each in kept.outbox
            if each.topic == ACCOUNT_LOG
        }
    for alone in oracle:
        for each in alone.outgoing:
            if each.topic == ACCOUNT_LOG:
                home = partition_of(each.key, found.partitions)
                report.expect("I8", (home, each.value) in there, f"never arrived: {each.value!r:.200}")
                report.numbers["sent"] += 1
