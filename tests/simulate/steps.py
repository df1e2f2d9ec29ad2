"""What a schedule is made of, and how schedules are drawn. Each step prints as it can be written in a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from hypothesis import strategies as st

from rules.records import (
    AccountRecord,
    Activity,
    Contact,
    Delete,
    EndOverride,
    Facts,
    Merge,
    Override,
    Release,
    Restore,
)
from streams.producer import partition_of
from streams.topics import ACCOUNT_LOG
from tests.simulate.rulesets import POISON, RULESETS
from tests.simulate.world import ALL, PARTITIONS, RUN, Fate, Name, Trip, Worker, World

SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000
LASTS = 2 * HOUR  # what somebody says of an account
HOMES = [[name for n in range(40) if partition_of(name := f"a{n}", PARTITIONS) == p][:2] for p in ALL]
MET = next(name for n in range(40) if partition_of(name := f"domain:d{n}", PARTITIONS) == 1)
ACCOUNTS = (*HOMES[0], HOMES[1][0], MET)


class Step:
    """Anything that happens. One that cannot, as schedules are when they have been shrunk, does nothing."""

    async def does(self, world: World) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Put(Step):
    """The source says something of an account, which happened `ago` ms before; `id` is the event's."""

    account: str
    what: str
    ago: int = 0
    id: str = ""
    astray: bool = False

    async def does(self, world: World) -> None:
        now = int(world.now)
        record = self._record({"account": self.account, "at": now - self.ago, "received": now, "id": self.id})
        if self.what == "poisoned":
            world.poisoned.add(self.account)
        world.puts(record, self.astray)

    def _record(self, head: dict[str, Any]) -> AccountRecord:
        what, _, detail = self.what.partition(" ")
        match what:
            case "visited" | "asked":
                return Activity(**head, name=what, person=detail or None)
            case "bought":
                return Activity(**head, name=what, props={"amount": 60})
            case "small" | "large" | "poisoned":
                size = {"small": 9, "large": 500, "poisoned": POISON}[what]
                return Facts(**head, set={"employees": size}, source="crm")
            case "contact":
                return Contact(**head, person="p", set={"status": "ok"}, source="crm")
            case "forced" | "kept-out":
                dimension, _, segment = detail.partition("/")
                said = Override(
                    **head | {"id": ""}, dimension=dimension, segment=segment, until=head["received"] + LASTS
                )
                said.out = what == "kept-out"
                return said
            case "freed":
                return EndOverride(**head | {"id": ""}, dimension=detail)
            case "deleted":
                return Delete(**head)
            case "restored":
                return Restore(**head)
            case _:
                into = HOMES[0][0]
                return Merge(**head, into=into, by_crm=self.account != MET)


@dataclass(frozen=True)
class Again(Step):
    """The last inputs are delivered once more."""

    last: int

    async def does(self, world: World) -> None:
        world.puts_again(self.last)


@dataclass(frozen=True)
class Junk(Step):
    """Bytes in the log that are no record."""

    partition: int

    async def does(self, world: World) -> None:
        world.append(self.partition, b"{no record")


@dataclass(frozen=True)
class Deploy(Step):
    version: str

    async def does(self, world: World) -> None:
        world.deploy(self.version)


@dataclass(frozen=True)
class Mend(Step):
    """Somebody lets an account out of quarantine."""

    account: str

    async def does(self, world: World) -> None:
        record = Release(account=self.account, received=int(world.now))
        world.append(partition_of(self.account, PARTITIONS), record)


@dataclass(frozen=True)
class Wait(Step):
    ms: int

    async def does(self, world: World) -> None:
        world.loop.wait(self.ms / 1000)


@dataclass(frozen=True)
class Jump(Step):
    """The clock of Redis is set."""

    ms: int

    async def does(self, world: World) -> None:
        world.stepped += self.ms
        world.jumped = True
        RUN["clock jumps"] += 1


@dataclass(frozen=True)
class _Work(Step):
    who: Name

    async def does(self, world: World) -> None:
        if (worker := world.worker(self.who)) is not None:
            await self._works(worker)

    async def _works(self, worker: Worker) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Fold(_Work):
    """Fetches up to so many messages of each partition, and folds them."""

    at_most: int = 12
    trip: Trip | None = None

    async def _works(self, worker: Worker) -> None:
        await worker.folds(self.at_most, self.trip)


@dataclass(frozen=True)
class Publish(_Work):
    trip: Trip | None = None

    async def _works(self, worker: Worker) -> None:
        await worker.publishes(self.trip)


@dataclass(frozen=True)
class Append(_Work):
    """Ticks and epochs, where one is due."""

    trip: Trip | None = None

    async def _works(self, worker: Worker) -> None:
        await worker.appends(self.trip)


@dataclass(frozen=True)
class Look(_Work):
    """What a worker does every second: has Redis gone back, has nobody a partition, was a gap accepted?"""

    trip: Trip | None = None

    async def _works(self, worker: Worker) -> None:
        await worker.looks_after(self.trip)


@dataclass(frozen=True)
class Turn(_Work):
    """All four of them."""

    async def _works(self, worker: Worker) -> None:
        await worker.looks_after()
        await worker.folds(12)
        await worker.publishes()
        await worker.appends()


@dataclass(frozen=True)
class GoOn(_Work):
    """What was held goes on."""

    async def _works(self, worker: Worker) -> None:
        await worker.goes_on()


@dataclass(frozen=True)
class Die(_Work):
    async def _works(self, worker: Worker) -> None:
        RUN["dies"] += 1
        await worker.dies()


@dataclass(frozen=True)
class Own(Step):
    """Kafka gives a partition to a worker, which is started if need be. Not `told`: who had it hears it later."""

    who: Name
    partition: int
    told: bool = True
    trip: Trip | None = None

    async def does(self, world: World) -> None:
        await world.assign(self.who, [self.partition], self.told, self.trip)


@dataclass(frozen=True)
class Hear(Step):
    """A worker hears what Kafka gave away meanwhile."""

    who: Name

    async def does(self, world: World) -> None:
        if (worker := world.worker(self.who)) is not None:
            await world.tell(worker)


@dataclass(frozen=True)
class GoBack(Step):
    """Redis has lost its last writes: all of it, or the node that has one partition."""

    writes: int
    partition: int | None = None

    async def does(self, world: World) -> None:
        world.lost_writes = True
        world.store.go_back(self.writes, ALL if self.partition is None else [self.partition])
        RUN["rollbacks"] += 1


@dataclass(frozen=True)
class Empty(Step):
    """Redis has lost everything, or what it had of a partition."""

    partition: int | None = None

    async def does(self, world: World) -> None:
        world.lost_writes = True
        world.store.go_back(1 << 30, ALL if self.partition is None else [self.partition])
        RUN["rollbacks"] += 1


@dataclass(frozen=True)
class Shorten(Step):
    """The log of a partition begins so many messages behind the place to which it was folded."""

    partition: int
    behind: int

    async def does(self, world: World) -> None:
        tp = TopicPartition(ACCOUNT_LOG, self.partition)
        first = world.store._of(self.partition).partition.offset + self.behind
        world.lost_log = True
        world.topics.shorten(tp, first)
        RUN["shortened"] += 1


@dataclass(frozen=True)
class Accept(Step):
    """Somebody says of a partition that has stopped at a gap: go on without."""

    partition: int

    async def does(self, world: World) -> None:
        for worker in world.workers.values():
            if (gap := worker.fold._gaps.get(self.partition)) is not None and not worker.is_dead:
                await world.store.accept_gap(self.partition, *gap)


# -- how they are drawn --------------------------------------------------------------------------------------

CALLS = {
    "fold": "after fetch, after due, before load, after load, before commit, after commit",
    "publish": "after outbox, before send, after send, before trim, after trim",
    "append": "before send, after send",
    "own": "before acquire, after acquire, after outbox, after told, before commit, after commit, before begin",
    "look": "after owners, after accepted, before commit, after commit, after acquire, after told",
}
WHATS = (
    *("visited", "visited p", "visited q", "asked", "asked", "bought", "bought", "large", "small"),
    *("contact", "deleted", "restored", "merged"),
    *("forced engagement/hot", "forced size/small", "forced signs/asked", "kept-out signs/settled"),
    *("freed engagement", "freed signs"),
)
AGO = (0, 0, 0, 1, HOUR, 3 * HOUR, 2 * DAY, -HOUR)
names: st.SearchStrategy[Name] = st.sampled_from(("A", "B"))
partitions = st.sampled_from(ALL)
accounts = st.sampled_from(ACCOUNTS)


def trip(place: str, fate: Fate, nth: int = 0) -> Trip:
    """`after commit`, `held`."""
    when, call = place.split()
    early = when == "before" or (call, fate) == ("fetch", "lost")  # then a consumer stands where it stood
    return Trip(call, "before" if early else "after", fate, nth)


def trips(of: str) -> st.SearchStrategy[Trip | None]:
    places = st.sampled_from(CALLS[of].split(", "))
    some = st.builds(trip, places, st.sampled_from(("held", "lost", "dies")), st.sampled_from((0, 0, 0, 1)))
    return st.one_of(st.none(), some)


puts = st.builds(
    Put,
    accounts,
    st.sampled_from(WHATS),
    st.sampled_from(AGO),
    st.sampled_from(("", "", "", "x", "y")),
    st.sampled_from((False,) * 39 + (True,)),
)
again = st.builds(Again, st.integers(1, 4))
INPUT = [*[puts] * 14, *[again] * 4]
WORK = [
    *[st.builds(Turn, names)] * 3,
    *[st.builds(Fold, names, st.sampled_from((12, 1, 2, 5)), trips("fold"))] * 6,
    *[st.builds(Publish, names, trips("publish"))] * 5,
    *[st.builds(Append, names, trips("append"))] * 2,
    *[st.builds(Look, names, trips("look"))] * 2,
    *[st.builds(Own, names, partitions, st.booleans(), trips("own"))] * 4,
    st.builds(GoOn, names),
    st.builds(Hear, names),
    st.builds(Die, names),
    *[st.builds(Wait, st.sampled_from((SECOND, HOUR, HOUR, 3 * HOUR, DAY)))] * 3,
]
RARE = [
    st.builds(Deploy, st.sampled_from(tuple(RULESETS))),
    st.builds(Junk, partitions),
    st.builds(Put, accounts, st.just("poisoned")),
    st.builds(Mend, accounts),
    st.builds(Jump, st.sampled_from((20 * SECOND, -20 * SECOND, HOUR, -HOUR))),
]
WRITES = st.sampled_from((1, 2, 3, 5, 8, 13))
LOSES = [
    *[st.builds(GoBack, WRITES, st.sampled_from((None, *ALL)))] * 3,
    st.builds(Empty, st.sampled_from((None, *ALL))),
]
GAPS = [*[st.builds(Shorten, partitions, st.integers(1, 3))] * 6, *[st.builds(Accept, partitions)] * 3]
# Nobody is interrupted between sending and trimming, and no outbox comes back: no reason to tell anything twice.
CALM = [
    *INPUT,
    *[st.builds(Turn, names)] * 6,
    *[st.builds(Fold, names, st.sampled_from((12, 1, 2, 5)))] * 3,
    *[st.builds(Publish, names), st.builds(Look, names), st.builds(Append, names), st.builds(Die, names)],
    *[st.builds(Own, names, partitions)] * 3,
    *[st.builds(Empty, st.sampled_from((None, *ALL)))] * 2,
    st.builds(Wait, st.sampled_from((SECOND, HOUR))),
]
MOST = 40


def schedules(*more: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Step]]:
    """Of workers, and of `more`; as often as a kind stands there it is drawn."""
    return schedules_of([*INPUT, *WORK, *RARE, *more])


def schedules_of(kinds: list[st.SearchStrategy[Any]]) -> st.SearchStrategy[list[Step]]:
    """Up to MOST steps."""
    step = st.sampled_from(kinds).flatmap(lambda kind: kind)
    return st.integers(0, MOST).flatmap(lambda n: st.lists(step, min_size=n // 2, max_size=n))
