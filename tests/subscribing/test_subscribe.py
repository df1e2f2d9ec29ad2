"""A subscriber that is started at any time, killed at any time and started again ends with what Redis holds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from rules.contract import Crossed, Event, Memberships, Moved, State
from streams.producer import partition_of
from streams.settings import Settings
from streams.subscribe import Filter, MissedError, Received, Subscription, subscribe
from streams.topics import CHANGES, TopicsError
from tests.subscribing.world import ACCOUNTS, PARTITIONS, Mirror, World, said

TIMEOUT_S = 60
Start = Literal["now", "beginning", "memberships"]


@dataclass(slots=True)
class Copy:
    """What a subscriber keeps, in a database that outlives it: made of what it was given and nothing else."""

    of: Mirror = field(default_factory=dict)

    def takes(self, received: Received) -> None:
        match received.event, received.memberships:
            case None, Memberships() as held:
                self.of[held.account] = dict(held.memberships)
            case Event(data=State() as state), None:
                self.of[state.account] = {name: each.answer for name, each in state.memberships.items()}
                if state.deleted is True:
                    del self.of[state.account]
            case Event(data=Moved() as moved), None:
                self.of.setdefault(moved.account, {})[moved.dimension] = moved.after
            case Event(data=Crossed() as crossed), None:
                self.of.setdefault(crossed.account, {})[crossed.dimension] = crossed.members
            case _:
                raise AssertionError(received)

    async def empties(self, partitions: Sequence[int]) -> None:
        for account in list(self.of):
            if partition_of(account, PARTITIONS) in partitions:
                del self.of[account]


async def killed(subscription: Subscription) -> None:
    """Gone without a word: nothing more is committed."""
    if subscription._committing is not None:
        subscription._committing.cancel()
        with suppress(asyncio.CancelledError):
            await subscription._committing
    await subscription._kafka.stop()


async def is_at(world: World, copy: Copy, subscription: Subscription, settle: bool = True) -> None:
    """Reads until the copy says what Redis says."""
    expected = await world.memberships()

    async def reads() -> None:
        while said(copy.of) != expected:
            for received in await subscription.batch():
                copy.takes(received)
                if settle:
                    await subscription.settled(received)

    try:
        await asyncio.wait_for(reads(), TIMEOUT_S)
    except TimeoutError:
        assert said(copy.of) == expected
        raise


@pytest.mark.parametrize("start", ["beginning", "memberships"])
@pytest.mark.parametrize("seed", [1, 2])
async def test_started_at_any_time(world: World, settings: Settings, start: Start, seed: int) -> None:
    world.draw = random.Random(seed)
    for _ in range(3):
        await world.goes_on(40)
        copy = Copy()
        async with subscribe(settings, start) as subscription:
            await world.goes_on(20)
            await world.publish()
            await is_at(world, copy, subscription)
            await world.goes_on(20)
            await world.publish()
            await is_at(world, copy, subscription)


async def test_who_starts_now_hears_of_what_changes_from_now_on(world: World, settings: Settings) -> None:
    await world.goes_on(80)
    await world.publish()
    copy = Copy(await world.memberships())
    async with subscribe(settings, "now") as subscription:
        await world.goes_on(80)
        await world.publish()
        await is_at(world, copy, subscription)


@pytest.mark.parametrize("start", ["now", "beginning", "memberships"])
@pytest.mark.parametrize("seed", [3, 4])
async def test_killed_at_any_time(world: World, settings: Settings, start: Start, seed: int) -> None:
    """It settles in any order, and is killed at a moment that is drawn. `now`: of a copy that was right then."""
    draw = world.draw = random.Random(seed)
    await world.goes_on(60)
    await world.publish()
    copy = Copy(await world.memberships() if start == "now" else {})
    group = f"crm.{start}"
    for _ in range(4):
        subscription = subscribe(settings, start, group=group, on_memberships=copy.empties)
        await subscription.__aenter__()
        while start == "now" and len(subscription.positions) < PARTITIONS:  # now is when it gets its partitions
            for received in await subscription.batch(within_s=0.1):
                copy.takes(received)
        await world.goes_on(20)
        await world.publish()
        unsettled: list[Received] = []
        for _ in range(draw.randint(1, 4)):
            for received in (await subscription.batch(within_s=2.0))[: draw.randint(1, 30)]:
                copy.takes(received)
                unsettled.append(received)
            draw.shuffle(unsettled)
            for received in unsettled[: draw.randint(0, len(unsettled))]:
                await subscription.settled(received)
            if draw.random() < 0.5:
                await subscription.commit()
        await killed(subscription)
        await world.goes_on(10)
    await world.publish()
    async with subscribe(settings, start, group=group, on_memberships=copy.empties) as subscription:
        await is_at(world, copy, subscription)


async def test_memberships_and_then_changes_overlap_in_nothing(world: World, settings: Settings) -> None:
    """No change that is in the memberships already is told, although its message stands in the topic."""
    await world.goes_on(60)
    await world.publisher_dies()
    await world.publish()
    given: list[Received] = []
    copy = Copy()
    async with subscribe(settings, "memberships") as subscription:
        while said(copy.of) != await world.memberships():
            given += [received := await anext(subscription)]
            copy.takes(received)
        assert all(each.memberships for each in given)
        await world.goes_on(20)
        await world.publish()
        expected = await world.memberships()
        while said(copy.of) != expected:
            given += [received := await anext(subscription)]
            copy.takes(received)
    ids = [each.event.id for each in given if each.event]
    assert ids
    assert len(ids) == len(set(ids))


async def test_two_of_a_group_share_the_partitions_and_a_third_takes_over(
    world: World, settings: Settings
) -> None:
    copy, lost = Copy(), asyncio.Event()

    async def loses(partitions: Sequence[int]) -> None:
        lost.set()

    async def follows(subscription: Subscription) -> None:
        async for received in subscription:
            copy.takes(received)
            await subscription.settled(received)

    async def joins(on_lost: Any = loses) -> tuple[Subscription, asyncio.Task[None]]:
        made = subscribe(settings, "memberships", group="shared", on_lost=on_lost, on_memberships=copy.empties)
        await made.__aenter__()
        return made, asyncio.create_task(follows(made))

    async def until_right() -> None:
        await world.publish()
        expected = await world.memberships()
        async with asyncio.timeout(TIMEOUT_S):
            while said(copy.of) != expected:
                await asyncio.sleep(0.01)

    await world.goes_on(40)
    first, reading = await joins()
    await until_right()
    second, reading_too = await joins()
    await asyncio.wait_for(lost.wait(), TIMEOUT_S)
    await world.goes_on(40)
    await until_right()
    async with asyncio.timeout(TIMEOUT_S):
        while not (first.positions and second.positions):
            await asyncio.sleep(0.01)
    assert sorted([*first.positions, *second.positions]) == list(range(PARTITIONS))
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await killed(first)
    await world.goes_on(40)
    await until_right()
    reading_too.cancel()
    await asyncio.gather(reading_too, return_exceptions=True)
    await second.__aexit__(None, None, None)


async def test_a_partition_that_stands_still_keeps_no_other_waiting(world: World, settings: Settings) -> None:
    here, there = ([each for each in ACCOUNTS if partition_of(each, PARTITIONS) == p] for p in range(PARTITIONS))
    await world.goes_on(80)
    await world.publish()
    expected = await world.memberships()
    copy = Copy()
    async with subscribe(settings, "beginning") as subscription:
        subscription.pause(0)
        there_only = {account: of for account, of in expected.items() if account in there}
        async with asyncio.timeout(TIMEOUT_S):
            while said(copy.of) != there_only:
                copy.takes(await anext(subscription))
        assert not set(copy.of) & set(here)
        subscription.resume(0)
        await is_at(world, copy, subscription)


async def test_too_much_unsettled_stops_a_partition_until_some_is_settled(
    world: World, settings: Settings
) -> None:
    await world.goes_on(120)
    await world.publish()
    copy, taken = Copy(), list[Received]()
    async with subscribe(settings, "beginning", group="slow", unsettled=5) as subscription:
        expected = await world.memberships()
        async with asyncio.timeout(TIMEOUT_S):
            while said(copy.of) != expected:
                received = await anext(subscription)
                copy.takes(received)
                taken.append(received)
                if len(taken) == 5 * PARTITIONS:
                    for each in taken:
                        await subscription.settled(each)
                    taken.clear()


async def test_a_filter_lets_through_what_it_names_and_nothing_else(world: World, settings: Settings) -> None:
    await world.goes_on(120)
    await world.publish()
    hot, copy, told = Filter(segments=("engagement/hot",)), Copy(), list[Received]()
    expected = await world.memberships()
    async with subscribe(settings, "beginning") as subscription:
        while said(copy.of) != expected:
            told.append(await asyncio.wait_for(anext(subscription), TIMEOUT_S))
            copy.takes(told[-1])
    wanted = {each.event.id for each in told if each.event and hot.wants(each.event)}
    assert 0 < len(wanted) < len(told)
    async with subscribe(settings, "beginning", hot) as subscription:
        received = [await asyncio.wait_for(anext(subscription), TIMEOUT_S) for _ in wanted]
    assert {each.event.id for each in received if each.event} == wanted


async def test_a_topic_that_is_not_there_is_said_and_not_made(settings: Settings) -> None:
    with pytest.raises(TopicsError, match="isotherm topics"):
        await subscribe(settings).__aenter__()
    with pytest.raises(TopicsError, match="isotherm topics"):
        await subscribe(settings).__aenter__()


async def test_what_is_no_change_is_passed_over(world: World, settings: Settings) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as kafka:
        for value in (b"{not a change", b'{"type": "segment.unheard"}', None):
            await kafka.send_and_wait(settings.topics(CHANGES), value, key=b"k", partition=0)
    await world.goes_on(20)
    await world.publish()
    async with subscribe(settings, "beginning") as subscription:
        await is_at(world, Copy(), subscription)


async def test_what_kafka_has_deleted_is_not_passed_over_in_silence(world: World, settings: Settings) -> None:
    if settings.session_timeout_ms == 1000:
        pytest.skip("the embedded broker deletes nothing")
    await world.goes_on(60)
    await world.publish()
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    place = TopicPartition(settings.topics(CHANGES), 0)
    await admin.delete_records({place: RecordsToDelete(before_offset=5)})
    await admin.close()
    with pytest.raises(MissedError, match="no message 2 any more, the first one is 5"):
        await subscribe(settings, {0: 2, 1: 0}).__aenter__()
