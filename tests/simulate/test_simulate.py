"""Whatever happens to workers, Redis, clocks and the log, and in whatever order: what is told is what is true.

Schedules are drawn and shrunk by Hypothesis; one that fails prints as a list that can be pasted below as an
`@example`. `ISOTHERM_SCHEDULES=100000` runs so many, other ones each time (or those of `--hypothesis-seed`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, currently_in_test_context, example, given, note, settings

from tests.faults.oracle import Report
from tests.simulate.judging import judge
from tests.simulate.steps import (
    ACCOUNTS,
    CALM,
    GAPS,
    LOSES,
    Accept,
    Deploy,
    Die,
    Empty,
    Fold,
    GoBack,
    GoOn,
    Hear,
    Look,
    Own,
    Publish,
    Put,
    Shorten,
    Step,
    Turn,
    schedules,
    schedules_of,
    trip,
)
from tests.simulate.virtual import VirtualLoop
from tests.simulate.world import RUN, World

MANY = "ISOTHERM_SCHEDULES"
SCHEDULES = int(os.environ.get(MANY, "2000"))
PHASES = [each for each in Phase if each is not Phase.explain]
if os.environ.get("ISOTHERM_SHRINK") == "0":  # for those who only want to know whether one fails
    PHASES.remove(Phase.shrink)
PROFILE = settings(
    phases=PHASES,
    deadline=None,
    derandomize=MANY not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@pytest.fixture(autouse=True, scope="module")
def quiet(pytestconfig: pytest.Config) -> Iterator[None]:
    """Workers say each time that they die; thousands of lines."""
    before = structlog.get_config()
    structlog.configure(processors=[_drop])
    yield
    structlog.configure(**before)
    if MANY in os.environ:
        told = [f"{RUN[what]:,} {what}" for what in COUNTED]
        print(f"\n{', '.join(told)}; --hypothesis-seed={pytestconfig.getoption('hypothesis_seed')}")


COUNTED = (
    *("schedules", "steps", "dies", "held", "lost", "ended by the clock", "clock jumps", "rollbacks", "shortened"),
    *("changes",),
)


def _drop(*given: Any) -> Any:
    raise structlog.DropEvent


def holds(schedule: list[Step]) -> Report:
    world = World()
    try:
        found = world.run(schedule)
    finally:
        if currently_in_test_context():
            note("\n".join(world.said))
    loop = VirtualLoop()
    try:
        report = loop.run_until_complete(judge(world, found))
    finally:
        loop.close()
    assert not report.broken, str(report)
    return report


A0, A1, MET = ACCOUNTS[0], ACCOUNTS[2], ACCOUNTS[3]


@settings(PROFILE, max_examples=SCHEDULES * 9 // 20)
@given(schedules())
@example(  # a zombie commits and publishes what its successor has
    [
        *(Put(A0, "visited"), Put(MET, "asked"), Put(MET, "merged"), Turn("A"), Put(A0, "visited")),
        *(Fold("A", 12, trip("before commit", "held")), Own("B", 0, told=False), Turn("B"), Turn("B")),
        *(GoOn("A"), Publish("A"), Hear("A")),
    ]
)
@example(  # an old publisher would have the last word in the compacted topic
    [
        *(Turn("A"), Put(A0, "visited"), Fold("A"), Publish("A", trip("after outbox", "held"))),
        *(Own("B", 0, told=False), Put(A0, "visited"), Turn("B"), Publish("B"), GoOn("A")),
    ]
)
@example(  # the same, when it had asked already whether the partition was its own: what is old is mended
    [
        *(Turn("A"), Put(A0, "visited"), Fold("A"), Publish("A", trip("before send", "held"))),
        *(Own("B", 0, told=False), Put(A0, "visited"), Put(A0, "visited"), Turn("B"), Publish("B"), GoOn("A")),
    ]
)
@example(  # what was fetched before a rebalance is in hand after it
    [
        *(Put(A0, "visited"), Put(A0, "visited"), Fold("A", 2, trip("after fetch", "held"))),
        *(Own("A", 0, trip=trip("before acquire", "held")), GoOn("A")),
    ]
)
@example(  # between two batches of one fetch an answer is lost, and what the first had to tell waits
    [
        *(Turn("A"), Turn("A"), Put(A0, "visited"), Put(A0, "visited"), Own("A", 0, told=False)),
        *(Put(A0, "visited"), Fold("A", 12, trip("before load", "lost", 1))),
    ]
)
@example([Put(A1, "merged"), Deploy("breaking"), Put(A1, "poisoned")])  # it is the other on which a rule raises
def test_workers_die_stand_still_and_take_over(schedule: list[Step]) -> None:
    holds(schedule)


@settings(PROFILE, max_examples=SCHEDULES * 7 // 20)
@given(schedules(*LOSES))
@example(  # the token of a zombie is in force again
    [
        *(Put(A0, "visited"), Turn("A"), Put(A0, "visited"), Fold("A", 12, trip("before commit", "held"))),
        *(Own("B", 0, told=False), Turn("B"), Turn("B"), GoBack(4, 0), GoOn("A"), Publish("A"), Turn("B")),
    ]
)
@example(  # what was fetched lies behind the place to which Redis has gone back
    [
        *(Put(A0, "visited"), Turn("A"), Put(A0, "visited"), Turn("A"), Put(A0, "visited")),
        *(Fold("A", 12, trip("after fetch", "held")), Empty(0), Own("A", 0), GoOn("A")),
    ]
)
@example(  # emptied twice: the second time before all was folded once more
    [
        *(Put(A0, "visited"), Put(A0, "visited"), Put(A1, "large"), Turn("A"), Turn("A"), Empty(), Fold("A", 2)),
        *(Look("A"), Fold("A", 1), Empty(0), Die("A"), Own("B", 0), Turn("B"), Put(A0, "asked")),
    ]
)
@example(  # told in one topic and not yet in the other, when the worker dies and Redis forgets that it was to be
    [
        *(Put(A0, "visited"), Fold("A"), Publish("A", trip("before send", "held", 1))),
        *(Own("A", 0, told=False, trip=trip("before acquire", "dies")), Empty()),
    ]
)
@example(
    [Put(A1, "deleted"), Fold("A"), Publish("A", trip("after send", "dies")), GoBack(1)]
)  # and so a tombstone
@example(  # and of an account that is in quarantine by then
    [
        *(Turn("A"), Deploy("breaking"), Put(A0, "visited"), Fold("A"), Publish("A", trip("after send", "dies"))),
        *(Put(A0, "poisoned"), GoBack(2)),
    ]
)
@example(  # and nothing that may raise is asked for it
    [
        *(Put(A1, "poisoned"), Own("B", 1, told=False), Turn("B"), *[Put(A0, "visited")] * 3),
        *(Put(MET, "poisoned"), Put(A0, "visited"), Turn("B"), Deploy("breaking"), GoBack(1)),
    ]
)
@example(  # who took over from itself publishes what it held in its hand
    [Put(A0, "visited"), Fold("A"), Publish("A", trip("after outbox", "held")), Own("A", 0, told=False)]
)
@example(  # what a tick asks of it is asked where it has gone back, and it is as before when that is written down
    [Put(A0, "visited"), Turn("A"), GoBack(3), Fold("A", trip=trip("before load", "held")), GoBack(1)]
)
@example(  # and so what an account is like
    [
        *(Put(A0, "visited"), Turn("A"), Turn("A"), Put(A0, "visited"), GoBack(4)),
        *(Fold("A", trip=trip("after load", "held")), GoBack(0)),
    ]
)
def test_redis_goes_back(schedule: list[Step]) -> None:
    holds(schedule)


@settings(PROFILE, max_examples=SCHEDULES * 3 // 20)
@given(schedules(*GAPS, *LOSES))
@example(  # a gap is accepted, and when it is passed over Redis has gone back to before it
    [
        *(Fold("A"), Put(A0, "visited"), Fold("A"), Put(A0, "visited"), Shorten(0, 1)),
        *(Fold("A"), Accept(0), GoBack(1), Turn("A")),
    ]
)
@example(  # two epochs are not in the log any more, and the next one comes after them all the same
    [
        *(Put(A0, "visited"), Put(A0, "visited"), *[Turn("A")] * 3, Empty(0), *[Turn("A")] * 4, Empty(0)),
        *(*[Turn("A")] * 4, Shorten(0, 0), Deploy("first"), Put(A0, "visited"), Empty(0)),
    ]
)
@example(  # of an account that only the lost records knew, the source says that it is gone
    [Put(A0, "visited"), Turn("A"), Shorten(0, 1), GoBack(3), Put(A0, "deleted")]
)
def test_the_log_is_shortened(schedule: list[Step]) -> None:
    holds(schedule)


@settings(PROFILE, max_examples=SCHEDULES // 20)
@given(schedules_of(CALM))
@example(  # an epoch of before, which is folded once more, ends nothing
    [
        *(Put(A0, "visited"), *[Turn("A")] * 2, Empty(0), *[Turn("A")] * 4, Put(A0, "visited"), *[Turn("A")] * 2),
        *(Empty(0), Die("A"), Own("B", 0), *[Turn("B")] * 4),
    ]
)
def test_an_emptied_redis_tells_nothing_twice(schedule: list[Step]) -> None:
    assert holds(schedule).numbers["repeated"] == 0


def test_an_emptied_redis_takes_no_commit_from_a_zombie() -> None:
    """It would fit where nothing is, and tell once more what its successor has told."""
    report = holds(
        [
            *(Put(A0, "visited"), Fold("A", 12, trip("before commit", "held")), Own("B", 0, told=False)),
            *(Turn("B"), Turn("B"), Empty(0), GoOn("A"), Publish("A"), Turn("A")),
        ]
    )
    assert report.numbers["repeated"] == 0
