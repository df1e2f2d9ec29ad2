"""A fold that stands still while its log goes on, and nobody knows why, ends its worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition

from rules.fold import Partition
from rules.ruleset import InForce
from streams import outage
from streams.fold import Fold, Held
from streams.pipeline import Owned
from streams.settings import Settings
from streams.stalling import STALLED_S, StalledError


class Broker:
    """A consumer that knows where the log ends."""

    def __init__(self) -> None:
        self.end = 100

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.end)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def fold(broker: Broker) -> Fold:
    nobody: Any = None
    made = Fold(Settings(partitions=2), nobody, nobody, nobody, nobody)
    made._consumer = broker
    made._held = {1: Held(Owned("token", Partition(1, offset=90), InForce(), 2))}
    return made


@pytest.fixture
def waiting() -> Iterator[None]:
    outage.waiting["commit"] += 1
    yield
    outage.waiting["commit"] -= 1


async def test_a_fold_that_stands_still_is_noticed(fold: Fold, broker: Broker) -> None:
    await fold.watch(0)
    broker.end = 101
    await fold.watch(STALLED_S)
    with pytest.raises(StalledError, match=r"account\.log/1 goes on to 101; its fold stands at 90 for 61 s"):
        await fold.watch(STALLED_S + 1)


async def test_a_log_that_does_not_go_on_is_none_of_its_faults(fold: Fold) -> None:
    await fold.watch(0)
    await fold.watch(10 * STALLED_S)
    assert fold._stalling.standing[1].since == 0


async def test_every_step_begins_it_anew(fold: Fold, broker: Broker) -> None:
    for n in range(5):
        broker.end += 50
        await fold.watch(n * STALLED_S)
        held = fold._held[1]
        partition = msgspec.structs.replace(held.owned.partition, offset=91 + n)
        fold._held[1] = Held(Owned("token", partition, InForce(), 2))
    await fold.watch(5 * STALLED_S)
    assert fold._stalling.standing[1].offset == 95


async def test_an_outage_is_known(fold: Fold, broker: Broker, waiting: None) -> None:
    await fold.watch(0)
    broker.end = 101
    await fold.watch(10 * STALLED_S)
    assert fold._stalling.standing[1].since == 10 * STALLED_S


async def test_a_partition_that_went_elsewhere_is_forgotten(fold: Fold, broker: Broker) -> None:
    await fold.watch(0)
    del fold._held[1]
    broker.end = 101
    await fold.watch(10 * STALLED_S)
    assert fold._stalling.standing == {}
