"""Log, store and scheduler in memory, and two workers that run the real `Fold`, `Publisher`, `Producer` and
`last_told` against them, one step of a schedule at a time.

Each call that a worker makes to the store or to Kafka passes a gate, before and after it has its effect. There a
`Trip` may end the process, lose the reply (or the call), or hold the step up while others go on: a worker that
stands still so becomes a zombie when its partitions are given away. Time is virtual.

    schedule ─► World.run ─► each step ─► heal ─► drained ─► tests.faults.oracle

At the end everything is healed and one worker drains the log; what it left is judged by the oracle that judges the
fault tests, and a few more things here: see `judge`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal
from unittest import mock

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from redis.exceptions import ConnectionError as RedisAwayError

from rules import operators
from rules.records import AccountRecord, Record, RulesetRecord, encode_record
from rules.state import pack
from streams import consuming, told
from streams.clock import ClockSteppedError, RedisClock
from streams.fold import Fold
from streams.outage import AWAY
from streams.producer import Producer, partition_of
from streams.publisher import Publisher
from streams.settings import Settings
from streams.store.base import Acquired, Commit, StoppedError, unpack_outbox, unpack_state
from streams.store.memory import MemoryStore
from streams.topics import ACCOUNT_LOG, CHANGES, CONFIGS, DEAD_LETTERS, MEMBERSHIPS, WEB_ACTIVITY
from streams.words import Others, oldest_of
from tests.faults.oracle import Found, Kept, Told
from tests.simulate.kafka import Consumer, KafkaProducer, Reader, Topics
from tests.simulate.rulesets import POISON, RULESETS
from tests.simulate.virtual import VirtualLoop

NOW = 20_000 * 86_400_000
PARTITIONS = 2
ALL = tuple(range(PARTITIONS))
SETTINGS = Settings(partitions=PARTITIONS, batch=3, session_timeout_ms=1_000)
SOURCE = f"{WEB_ACTIVITY}/0"
ROUNDS = 200  # in which whoever is left is done with everything
Name = Literal["A", "B"]
Fate = Literal["dies", "lost", "held"]
TURNS = ("fold", "look", "rebalance")
KAFKA_CALLS = ("fetch", "begin", "end", "send", "told")

RUN: Counter[str] = Counter()  # over all schedules of a session


class Kill(BaseException):
    """The process is gone: nothing in it catches this."""


@dataclass(frozen=True)
class Trip:
    """What happens to a step at one of its calls: the `nth` of that name."""

    call: str
    when: Literal["before", "after"]
    fate: Fate
    nth: int = 0


@dataclass(eq=False)
class Doing:
    """A step of a worker under way."""

    kind: str  # one of a kind at a time
    trip: Trip | None
    turn: bool  # it holds what no other step that takes a turn can do without
    passed: int = 0
    held: asyncio.Event = field(default_factory=asyncio.Event)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Future[Any] | None = None


DOING: ContextVar[Doing] = ContextVar("DOING")


@dataclass(frozen=True, slots=True)
class Written:
    """A partition of the store as of one of its writes."""

    partition: int
    kept: Any
    gaps: tuple[tuple[int, int], ...]


class SimulatedStore(MemoryStore):
    """Remembers what it was after each write, so that it can go back; and which gaps were passed over."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[Written] = []
        self.gaps: dict[int, tuple[tuple[int, int], ...]] = dict.fromkeys(ALL, ())

    async def acquire(self, partition: int) -> Acquired:
        acquired = await super().acquire(partition)
        self._remember(partition)
        return acquired

    async def trim(self, partition: int, id: str, *own: Any) -> None:
        await super().trim(partition, id, *own)
        self._remember(partition)

    def _write(self, kept: Any, commit: Commit) -> None:
        refolding, number = commit.partition.refolding, commit.partition.number
        if (
            refolding is not None
            and refolding.lost
            and refolding.lost[1] == commit.partition.offset > commit.expected
        ):
            self.gaps[number] += (refolding.lost,)
        super()._write(kept, commit)
        self._remember(number)

    def _remember(self, number: int) -> None:
        self.writes.append(Written(number, _copy(self._of(number)), self.gaps[number]))

    def go_back(self, writes: int, partitions: Iterable[int]) -> None:
        """To what the partitions were so many writes ago; beyond all writes they are empty."""
        upto = self.writes[: max(0, len(self.writes) - writes)]
        for number in partitions:
            last = next((each for each in reversed(upto) if each.partition == number), None)
            self._kept.pop(number, None)
            self.gaps[number] = ()
            if last is not None:
                self._kept[number], self.gaps[number] = _copy(last.kept), last.gaps


def _copy(kept: Any) -> Any:
    return replace(
        kept,
        accounts=dict(kept.accounts),
        wakes=dict(kept.wakes),
        members={place: set(members) for place, members in kept.members.items()},
        outbox=dict(kept.outbox),
        files=dict(kept.files),
        tallies={day: Counter(tally) for day, tally in kept.tallies.items()},
    )


class Gated:
    """The store, with a gate before and after each call."""

    def __init__(self, store: SimulatedStore, gate: Callable[[str, str], Awaitable[None]]) -> None:
        self._store, self._gate = store, gate

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*given: Any) -> Any:
            await self._gate(name, "before")
            result = await method(*given)
            await self._gate(name, "after")
            return result

        return call


class Worker:
    """A process, from its start to its end."""

    def __init__(self, name: Name, world: World) -> None:
        self.name, self.is_dead = name, False
        self.doing: list[Doing] = []
        self.unheard = False  # Kafka gave its partitions away, and it has not been told yet
        self._world = world
        store: Any = Gated(world.store, self.gate)
        producer = Producer(SETTINGS)
        producer._kafka = KafkaProducer(world.topics, self.gate)
        self.clock = RedisClock(world, monotonic=world.loop.time)
        self.publisher = Publisher(store, producer, self.clock)
        self.fold = Fold(SETTINGS, store, producer, self.publisher, self.clock)
        self.fold._consumer = self.consumer = Consumer(world.topics, self.gate)
        self.fold._last_told = self._last_told
        self.fold._oldest = self._oldest

    async def _last_told(self, floors: Any) -> Any:
        await self.gate("told", "before")
        found = await told.last_told(SETTINGS, floors)
        await self.gate("told", "after")
        return found

    async def _oldest(self, partition: int, others: Others) -> int | None:
        return oldest_of(self._world.topics.of(TopicPartition(MEMBERSHIPS, partition)), others)

    async def gate(self, call: str, when: str) -> None:
        if self.is_dead:
            raise Kill
        doing = DOING.get()
        trip = doing.trip
        if trip is None or (trip.call, trip.when) != (call, when):
            return
        doing.passed += 1
        if doing.passed - 1 != trip.nth:
            return
        self._world.says(f"      {self.name} {trip.fate} {when} {call}")
        RUN[trip.fate] += 1
        match trip.fate:
            case "dies":
                self.is_dead = True
                raise Kill
            case "lost":
                raise (KafkaConnectionError if call in KAFKA_CALLS else RedisAwayError)(f"{call}: simulated")
            case "held":
                doing.held.set()
                await doing.goes_on.wait()
                if self.is_dead:
                    raise Kill

    async def does(self, kind: str, work: Callable[[], Awaitable[Any]], trip: Trip | None) -> None:
        """A step, up to its end or to where it is held. What stands in its way goes on first."""
        takes_turn = kind in TURNS and (trip is None or trip.call != "fetch")
        await self.goes_on(lambda each: each.kind == kind or (kind in TURNS and each.turn))
        if self.is_dead:
            return
        doing = Doing(kind, trip, takes_turn)
        doing.task = asyncio.ensure_future(self._in(doing, work))
        self.doing.append(doing)
        await self._until_held(doing)

    async def _in(self, doing: Doing, work: Callable[[], Awaitable[Any]]) -> None:
        DOING.set(doing)
        await work()

    async def goes_on(self, which: Callable[[Doing], bool] = lambda doing: True) -> None:
        """What was held goes on to its end, and whatever has the turn that it waits for."""
        going = [each for each in self.doing if which(each)]
        if any(each.kind in TURNS for each in going):
            going += [each for each in self.doing if each.turn and each not in going]
        for doing in going:
            doing.goes_on.set()
        for doing in going:
            await self._until_held(doing, again=True)

    async def _until_held(self, doing: Doing, again: bool = False) -> None:
        assert doing.task is not None
        if again or doing.trip is None or doing.trip.fate != "held":
            await asyncio.wait({doing.task})
        else:
            held = asyncio.ensure_future(doing.held.wait())
            await asyncio.wait({doing.task, held}, return_when=asyncio.FIRST_COMPLETED)
            held.cancel()
        if not doing.task.done() or doing not in self.doing:
            return
        self.doing.remove(doing)
        match doing.task.exception():
            case None:
                pass
            case Kill():
                await self.dies()
            case ClockSteppedError() as error:
                self._world.says(f"      {self.name} ends: {error}")
                RUN["ended by the clock"] += 1
                await self.dies()
            case StoppedError() | KafkaConnectionError() | RedisAwayError() as error:
                # Only what looks around comes so far with these, and it tries again later.
                assert isinstance(error, (StoppedError, *AWAY))
            case error:
                raise error

    async def dies(self) -> None:
        self.is_dead = True
        await self.goes_on()

    # -- what a process does, each a body of one of its loops

    async def folds(self, at_most: int, trip: Trip | None = None) -> None:
        self.consumer.at_most = at_most
        await self.does("fold", self.fold.fold_more, trip)

    async def publishes(self, trip: Trip | None = None) -> None:
        if self.publisher._wanted.is_set():
            await self.does("publish", self.publisher.publish_waiting, trip)

    async def appends(self, trip: Trip | None = None) -> None:
        await self.does("append", self.fold.append_what_is_due, trip)

    async def looks_after(self, trip: Trip | None = None) -> None:
        await self.does("look", self.fold.look_after, trip)

    async def looks_for_others(self) -> None:
        await self.does("look", self.fold.look_for_others, None)

    async def is_assigned(self, partitions: Iterable[int], trip: Trip | None = None) -> None:
        """A rebalance as aiokafka has it: all are revoked, then what is ours now is assigned."""
        revoked = self.consumer.assignment()
        assigned = {TopicPartition(ACCOUNT_LOG, each) for each in partitions}
        self.unheard = False

        async def rebalanced() -> None:
            await self.fold.on_partitions_revoked(revoked)
            self.consumer.assign(sorted(assigned))
            await self.fold.on_partitions_assigned(assigned)

        await self.does("rebalance", rebalanced, trip)


class World:
    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.topics, self.store = Topics(), SimulatedStore()
        self.workers: dict[Name, Worker] = {}
        self.assigned: dict[int, Name] = {}
        self.stepped, self.jumped = 0.0, False  # by how much the time of Redis is off by now, ms
        self.inputs: list[AccountRecord] = []  # by their position in the source
        self.placed: list[tuple[int, int, int]] = []  # input, and partition and offset where it stands
        self.lost_writes = self.lost_log = False
        self.poisoned: set[str] = set()
        self.any_astray = False
        self.said: list[str] = []

    def run(self, schedule: Iterable[Any]) -> Found:
        """What the schedule left behind, when everything had been healed. Raises AssertionError if it never is."""
        fragile = replace(operators.TABLE["above"], test=_raising)
        with (
            mock.patch.object(told, "AIOKafkaConsumer", partial(Reader, self.topics)),
            mock.patch.object(consuming, "AIOKafkaConsumer", partial(Reader, self.topics)),
            mock.patch.dict(operators.TABLE, above=fragile),
        ):
            try:
                return self.loop.run_until_complete(self._run(schedule))
            finally:
                self.loop.run_until_complete(self._end())
                self.loop.close()

    async def _end(self) -> None:
        """What was held when the schedule failed is given up."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    async def _run(self, schedule: Iterable[Any]) -> Found:
        self.deploy("first")
        await self.assign("A", ALL)
        for step in schedule:
            self.says(f"  {step}")
            RUN["steps"] += 1
            await step.does(self)
        await self.heal()
        RUN["schedules"] += 1
        return self.found()

    def says(self, line: str) -> None:
        self.said.append(line)

    # -- the scheduler

    async def time(self) -> tuple[int, int]:
        """As Redis answers to TIME."""
        return divmod(round(self.now * 1000), 1_000_000)

    @property
    def now(self) -> float:
        return NOW + self.loop.time() * 1000 + self.stepped

    def worker(self, name: Name) -> Worker | None:
        """The process of that name, if it is there."""
        worker = self.workers.get(name)
        return None if worker is None or worker.is_dead else worker

    async def assign(
        self, name: Name, partitions: Iterable[int], told: bool = True, trip: Trip | None = None
    ) -> None:
        """Kafka gives partitions to a worker, which starts if need be. `told`: whoever had them hears it."""
        before = [each for each in self.workers.values() if not each.is_dead and each.name != name]
        for number in partitions:
            self.assigned[number] = name
        for other in before:
            has = {tp.partition for tp in other.consumer.assignment()}
            if has & set(partitions):
                other.unheard = True
            if told:
                await self.tell(other)
        worker = self.worker(name)
        if worker is None:
            worker = self.workers[name] = Worker(name, self)
            await worker.clock.sync()
        await worker.is_assigned(self.of(name), trip)

    def of(self, name: Name) -> list[int]:
        return [number for number, owner in sorted(self.assigned.items()) if owner == name]

    async def tell(self, worker: Worker) -> None:
        if worker.unheard:
            await worker.is_assigned(self.of(worker.name))

    # -- what comes in

    def append(self, number: int, record: Record | bytes) -> int:
        value = record if isinstance(record, bytes) else encode_record(record)
        return self.topics.append(TopicPartition(ACCOUNT_LOG, number), value, timestamp=int(self.now))

    def puts(self, record: AccountRecord, astray: bool = False) -> None:
        """A record from the source, with its place there; `astray`: into a partition that is not its own."""
        record.via = (SOURCE, len(self.inputs), 0)
        self.any_astray |= astray
        self.inputs.append(record)
        home = partition_of(record.account, PARTITIONS)
        self._place(len(self.inputs) - 1, 1 - home if astray else home)

    def puts_again(self, last: int) -> None:
        """A router that died before it had settled sends the last ones again."""
        for n in range(max(0, len(self.inputs) - last), len(self.inputs)):
            self._place(n, next(number for each, number, _ in self.placed if each == n))

    def _place(self, n: int, number: int) -> None:
        self.inputs[n].received = int(self.now)
        self.placed.append((n, number, self.append(number, self.inputs[n])))

    def deploy(self, version: str) -> None:
        for number in ALL:
            files = RULESETS[version]
            self.append(number, RulesetRecord(received=int(self.now), hash=version, files=files))

    # -- the end

    async def heal(self) -> None:
        """All that was held goes on, everybody hears what is whose, and one worker works until nothing is left."""
        self.says("  healed")
        for worker in list(self.workers.values()):
            await worker.goes_on()
        for worker in list(self.workers.values()):
            if not worker.is_dead:
                await self.tell(worker)
        for _ in range(ROUNDS):
            last = self.worker("A")
            if last is None or self.of("A") != list(ALL):
                await self.assign("A", ALL)
                continue
            await last.looks_after()
            await last.looks_for_others()
            await last.folds(5)
            await last.publishes()
            await last.appends()
            if last.is_dead:
                continue
            for number, (first, behind) in last.fold._gaps.items():
                there = self.topics.first(TopicPartition(ACCOUNT_LOG, number))
                assert behind <= there, f"stopped at a gap up to {behind}, and the log begins at {there}"
                await self.store.accept_gap(number, first, behind)
            if self._is_drained(last):
                return
            if not last.fold._gaps and last.fold.stopped_partitions:
                raise AssertionError(f"stopped: {last.fold.stopped_partitions}")
            self.loop.wait(0.5)
        raise AssertionError(f"not drained: {self._left(last)}")

    def _is_drained(self, last: Worker) -> bool:
        held = last.fold._held
        return (
            len(held) == PARTITIONS
            and not last.publisher._wanted.is_set()
            and not last.publisher.words.others
            and not last.fold._tells_since
            and all(self._is_done(number, each) for number, each in held.items())
        )

    def _is_done(self, number: int, held: Any) -> bool:
        kept = self.store._of(number)
        return (
            kept.partition.offset == self.topics.end(TopicPartition(ACCOUNT_LOG, number))
            and all(map(self._is_told, kept.outbox.values()))
            and kept.partition.refolding is None
            and kept.partition.sweep is None
            and kept.next_wake() > self.now
            and held.owned.partition == kept.partition
        )

    def _is_told(self, entry: bytes) -> bool:
        """Whether an entry of the outbox is there again, because Redis went back to before it was trimmed."""
        places = [
            TopicPartition(role, number)
            for role in (CHANGES, MEMBERSHIPS, DEAD_LETTERS, ACCOUNT_LOG)
            for number in ALL
        ]
        there = {(tp.topic, each.key, each.value) for tp in places for each in self.topics.of(tp)}
        return self.lost_writes and all((m.topic, m.key, m.value) in there for m in unpack_outbox(entry))

    def _left(self, last: Worker | None) -> str:
        lines = (
            [] if last is None else [f"holds {sorted(last.fold._held)}, stopped {last.fold.stopped_partitions}"]
        )
        for number in ALL:
            kept, end = self.store._of(number), self.topics.end(TopicPartition(ACCOUNT_LOG, number))
            lines.append(f"{number}: {kept.partition} of {end}, outbox {list(kept.outbox)}")
        return "; ".join(lines)

    def found(self) -> Found:
        """For the oracle. What was lost of the log is no record for it; times of publication only mean something
        where the clock was never set."""
        topics: dict[str, list[Told]] = {role: [] for role in CONFIGS}
        for role, messages in topics.items():
            for number, each in self.topics.named(role):
                value = LOST if role == ACCOUNT_LOG and self.is_lost(number, each.offset) else each.value
                timestamp = 0 if self.jumped else each.timestamp
                messages.append(Told(number, each.offset, each.key, value, timestamp, each.headers))
        topics[WEB_ACTIVITY] = [Told(0, n, "", None, 0) for n in range(len(self.inputs))]
        there = {n for n, *place in self.placed if not self.is_lost(*place)}
        acked = [(WEB_ACTIVITY, 0, n) for n in sorted(there)]
        return Found(PARTITIONS, topics, [self._kept(number) for number in ALL], acked)

    def is_lost(self, number: int, offset: int) -> bool:
        """Whether whoever folded the partition had to pass over that message."""
        return any(first <= offset < behind for first, behind in self.store.gaps[number])

    def _kept(self, number: int) -> Kept:
        kept = self.store._of(number)
        return Kept(
            kept.partition,
            {account: pack(unpack_state(blob)) for account, blob in kept.accounts.items()},
            kept.wakes,
            {place: members for place, members in kept.members.items() if members},
            {day: dict(tallies) for day, tallies in kept.tallies.items()},
            [],
        )


LOST = b"lost"


def _raising(value: Any, operand: Any) -> bool:
    if value == POISON:
        raise ArithmeticError("a rule that raises")
    return bool(value > operand)
