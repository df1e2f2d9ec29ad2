"""Redis loses what the router wrote last, at any step: each event counts once, where it counted first.

What Redis was is kept at each step that a router passes, and put back at another, while that router goes on or
is gone. Kafka keeps what was committed with offsets, as Apache Kafka does, or offsets only, as the embedded one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from aiokafka import TopicPartition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from router_world import NOW, PARTITIONS, Kill, Listed, Turns, World
from test_router import CRM, VISITS, WEB, WEB1, complete, story, told_as_stored, visit, who

from rules.records import Merge, Same, decode_record
from streams.going_back import Intent, intent_of
from streams.identity import Resolver
from streams.producer import partition_of
from streams.store.base import Outbound
from streams.store.sources import GoneBackError, link_id
from streams.strays import AFTER_ALL, strays
from streams.topics import ACCOUNT_LOG, CRM_UPDATES, LINKS, WEB_ACTIVITY

SOME = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


class Clock:
    """Goes on by a millisecond each time that it is looked at: a batch is known by its instant."""

    def __init__(self) -> None:
        self.at = NOW

    async def keep(self) -> None: ...

    def now(self) -> int:
        self.at += 1
        return self.at


def world_of(redis: Any, name: str, batch: int, forgetful: bool) -> tuple[World, Clock]:
    return World(redis, name, batch, Listed(forgetful)), Clock()


def router_of(world: World, clock: Clock, *given: Any) -> Any:
    router = world.router(*given)
    router._clock = clock  # type: ignore[assignment]
    return router


async def told_once(world: World) -> None:
    counted = world.counted()
    assert set(counted.values()) == {1}, counted
    assert len(counted) == 3 * VISITS
    complete(await world.folded())
    await told_as_stored(world)


class Film:
    """What Redis was at each step; at the n-th of them it is once more what it was at another."""

    def __init__(self, world: World, at: int, back: int, kills: bool) -> None:
        self.world, self.at, self.back, self.kills = world, at, back, kills
        self.shots: list[dict[bytes, bytes]] = []

    async def __call__(self, step: str) -> None:
        self.shots.append(await self.world.snapshot())
        if len(self.shots) - 1 == self.at:
            await self.world.go_back(self.shots[self.back])
            if self.kills:
                raise Kill(step)


@pytest.mark.parametrize("forgetful", [False, True])
@pytest.mark.parametrize("kills", [False, True])
async def test_redis_goes_back_to_any_step_at_any_step(redis: Any, kills: bool, forgetful: bool) -> None:
    world, clock = world_of(redis, "film", 100, forgetful)
    story(world)
    await world.drain(router_of(world, clock, film := Film(world, -1, 0, False)))
    await told_once(world)
    for at in range(len(film.shots)):
        for back in sorted({0, at // 2, at - 3, at - 2, at - 1} & set(range(at))):
            await redis.flushall()
            world, clock = world_of(redis, "film", 100, forgetful)
            story(world)
            router = router_of(world, clock, Film(world, at, back, kills))
            try:
                await world.settled(router)
            except Kill:
                await world.settled(router_of(world, clock))
            await world.drain(router_of(world, clock))  # who went on may have settled what is not
            await told_once(world)


async def arrives(world: World, router: Any, data: st.DataObject) -> None:
    """The broker takes what is sent up to some message of each partition; then the sender is gone."""
    producer = router._producer
    send, after = producer.send, data.draw(st.integers(0, 12), "batches that arrive")

    async def send_some(messages: Sequence[Outbound], at: int, partition: int | None = None) -> list[Any]:
        if producer.sent < after:
            return await send(messages, at)
        groups: defaultdict[tuple[str, int], list[Outbound]] = defaultdict(list)
        for each in messages:
            number = each.partition
            if number is None:
                number = partition_of(each.key, PARTITIONS) if each.topic == ACCOUNT_LOG else 0
            groups[each.topic, number].append(each)
        for group in groups.values():
            await send(group[: data.draw(st.integers(0, len(group)), "arrive")], at)
        raise Kill("sending")

    producer.send = send_some


@SOME
@given(st.data())
async def test_redis_goes_back_again_and_again(redis: Any, data: st.DataObject) -> None:
    """Routers of some partitions each are killed, also in the middle of sending, and learn about the same people
    from batches of any size; in between Redis goes back to what it was some time ago, or is empty."""
    await redis.flushall()
    forgetful = data.draw(st.booleans(), "forgetful")
    world, clock = world_of(redis, "again", data.draw(st.sampled_from([1, 2, 3, 7, 100]), "batch"), forgetful)
    story(world)
    shots: list[dict[bytes, bytes]] = [{}]
    for _ in range(data.draw(st.integers(1, 5), "routers")):
        last = len(shots) + data.draw(st.integers(0, 40), "at")

        async def film(step: str, last: int = last) -> None:
            shots.append(await world.snapshot())
            if len(shots) > last:
                raise Kill(step)

        places = data.draw(st.permutations([WEB, WEB1, CRM]), "places")
        router = router_of(world, clock, film, places[: data.draw(st.integers(1, 3), "of them")])
        if data.draw(st.booleans(), "sends some"):
            await arrives(world, router, data)
        with suppress(Kill):
            await world.settled(router)
        if data.draw(st.booleans(), "goes back"):
            to = data.draw(st.integers(0, len(shots) - 1), "to")
            del shots[to + 1 :]
            await world.go_back(shots[to])
    await world.settled(router_of(world, clock))
    await told_once(world)


@SOME
@given(schedule=st.lists(st.integers(0, 1), max_size=60), at=st.integers(0, 40), forgetful=st.booleans())
async def test_redis_is_emptied_while_two_routers_work(
    redis: Any, schedule: list[int], at: int, forgetful: bool
) -> None:
    """Each has partitions of its own; both notice, and links are restored once."""
    await redis.flushall()
    world, clock = world_of(redis, "two", 3, forgetful)
    story(world)
    turns, steps = Turns(), list[str]()

    def reached(who: int) -> Any:
        park = turns.reached(who)

        async def tell(step: str) -> None:
            steps.append(step)
            if len(steps) == at:
                await redis.flushall()
            await park(step)

        return tell

    routers = [router_of(world, clock, reached(n), each) for n, each in enumerate([[WEB], [WEB1, CRM]])]
    await turns.run([world.settled(router) for router in routers], schedule)
    await told_once(world)


async def test_what_counted_stays_where_it_counted(redis: Any) -> None:
    """A batch was cut off in the middle; what its links lead to has changed meanwhile."""
    world, clock = world_of(redis, "stays", 10, False)
    world.put(WEB_ACTIVITY, 0, *[visit(n, "anonymous") for n in range(4)])
    before = await world.snapshot()
    router = router_of(world, clock, lambda step: asyncio.sleep(0), [WEB])

    async def half(messages: Sequence[Outbound], at: int, partition: int | None = None) -> list[Any]:
        for each in messages[1:3]:
            world.kafka.append(each.topic, partition_of(each.key, PARTITIONS), each.value)
        raise Kill("sending")

    router._producer.send = half
    with pytest.raises(Kill):
        await world.drain(router)
    for n in range(4):
        world.put(WEB_ACTIVITY, 1, {"kind": "contact", **who(n, "user", "anonymous", "email")})
    await world.drain(router_of(world, clock, lambda step: asyncio.sleep(0), [WEB1]))
    await world.go_back(before)
    await world.settled(later := router_of(world, clock))
    assert later.counts["gone back", ""] == 1, "once for both partitions"
    assert set(world.counted().values()) == {1}
    assert {account: each.visits for account, each in (await world.folded()).items()} == {
        f"domain:acme{n}.example": 1 for n in range(4)
    }
    await told_as_stored(world)


async def test_a_company_that_was_met_by_its_domain_is_known_for_it_after_all(redis: Any) -> None:
    """Killed when the records of its first messages were in the log, and what they taught in Redis alone, which
    is emptied: the CRM's record takes the domain as if nobody had had it."""
    world, clock = world_of(redis, "strays", 10, False)
    world.put(WEB_ACTIVITY, 0, *[visit(0, "user", "anonymous", "email") for _ in range(3)])

    async def killed(step: str) -> None:
        if step == "told":
            raise Kill(step)

    with pytest.raises(Kill):
        await world.drain(router_of(world, clock, killed))
    await redis.flushall()
    world.put(CRM_UPDATES, 0, {"kind": "facts", "crm": "salesforce:1", "domain": "acme0.example"})
    router = router_of(world, clock)
    await router._take_over(*world.sources)
    while await world.turn(router, CRM):  # before what is in doubt
        pass
    await world.settled(router)
    folded = await world.folded()
    assert {name: (each.visits, each.people) for name, each in folded.items()} == {"salesforce:1": (3, 1)}


async def test_redis_goes_back_again_before_what_was_in_doubt_is_decided_to_its_end(redis: Any) -> None:
    """It stands where it stood when links had been restored, and Kafka knows of no later offset."""
    world, clock = world_of(redis, "twice", 3, False)
    world.put(WEB_ACTIVITY, 0, *[visit(n, "user", "anonymous", "email") for n in range(3)])

    async def killed(step: str) -> None:
        if step == "told":
            raise Kill(step)

    with pytest.raises(Kill):
        await world.drain(router_of(world, clock, killed))
    await redis.flushall()
    router = router_of(world, clock)
    await router._take_over(WEB)
    in_doubt = await world.snapshot()
    await world.drain(router)
    learnt = await world.links()
    assert learnt
    await world.go_back(in_doubt)
    later = router_of(world, clock)
    await later._take_over(WEB)
    assert later.counts["gone back", ""] == 1
    assert await world.links() == learnt
    await world.settled(later)
    assert set(world.counted().values()) == {1}
    await told_as_stored(world)


async def test_a_link_that_is_told_by_another_before_its_batch_is_lost_with_redis(redis: Any) -> None:
    """The CRM's record takes a domain, and its batch is saved only. A router that had told that domain as its own
    company tells what it is by now, and Redis is emptied: the record finds its link, but nobody has merged."""
    world, clock = world_of(redis, "early", 3, False)
    world.put(WEB_ACTIVITY, 0, *[visit(0, "user", "anonymous", "email") for _ in range(3)])
    world.put(CRM_UPDATES, 0, {"kind": "facts", "crm": "salesforce:1", "domain": "acme0.example"})

    async def killed(step: str) -> None:
        if step == "save":
            raise Kill(step)

    async def crm_comes_between(step: str) -> None:
        if step == "produce" and not world.kafka.committed.keys() & {CRM}:
            with suppress(Kill):
                await world.drain(router_of(world, clock, killed, [CRM]))

    await world.drain(router_of(world, clock, crm_comes_between, [WEB]))
    assert b"salesforce:1|" in world.kafka.compacted(LINKS).values()
    await redis.flushall()
    await world.settled(router_of(world, clock))
    folded = await world.folded()
    assert {name: (each.visits, each.people) for name, each in folded.items()} == {"salesforce:1": (3, 1)}
    await told_as_stored(world)


async def test_a_topic_made_anew_is_the_same_one_after_redis_is_emptied(redis: Any) -> None:
    world, clock = world_of(redis, "anew", 3, False)
    world.put(WEB_ACTIVITY, 0, *[visit(0, "user", "email") for _ in range(5)])
    await world.drain(router_of(world, clock))
    world.kafka.make_anew(WEB_ACTIVITY, 0)
    world.put(WEB_ACTIVITY, 0, *[visit(1, "user", "email") for _ in range(4)])
    await world.settled(router_of(world, clock))
    await redis.flushall()
    world.put(WEB_ACTIVITY, 0, *[visit(1, "user", "email") for _ in range(2)])
    await world.settled(router_of(world, clock))
    folded = await world.folded()
    assert {name: each.visits for name, each in folded.items()} == {
        "domain:acme0.example": 5,
        "domain:acme1.example": 6,
    }


# -- links ----------------------------------------------------------------------------------------------------


async def test_a_link_that_only_redis_still_has_goes(redis: Any) -> None:
    """Somebody was forgotten since the snapshot, and the topic has been compacted: nothing names them any more."""
    world, clock = world_of(redis, "gone", 3, False)
    world.put(WEB_ACTIVITY, 0, visit(0, "user", "email"))
    await world.drain(router_of(world, clock))
    before = await world.snapshot()
    world.put(CRM_UPDATES, 0, {"kind": "facts", "crm": "salesforce:1", "domain": "acme1.example"})
    await world.drain(router_of(world, clock))
    user = next(each.key for each in world.kafka.of(LINKS, 0))
    links = world.kafka.topics[TopicPartition(LINKS, 0)]
    links[:] = [each for each in links if each.key != user]
    await world.go_back(before)
    await world.settled(router_of(world, clock))
    await told_as_stored(world)


async def test_nothing_is_saved_or_settled_while_links_are_restored(redis: Any) -> None:
    world, clock = world_of(redis, "hold", 3, False)
    world.put(WEB_ACTIVITY, 0, visit(0, "user", "email"))
    router = router_of(world, clock)
    await world.drain(router)
    store = world.store
    token = await store.begin_restoring()
    with pytest.raises(GoneBackError):
        await store.begin_restoring()
    with pytest.raises(GoneBackError):
        await store.settle(*WEB, router._reading[WEB].token, {}, 1)
    assert not await store.relink("user:a", "", "x|")
    with pytest.raises(GoneBackError):
        await router._take_over(WEB)
    await store.restore_links(token, [(link_id("user:a"), b"old|"), (link_id("user:b"), b"x|")])
    other = await store.begin_restoring(instead_of=token)
    with pytest.raises(GoneBackError):
        await store.restore_links(token, [(link_id("user:b"), b"y|")])
    await store.restore_links(other, [(link_id("user:a"), b"new|"), (link_id("user:b"), None)])
    await store.end_restoring(other, {})
    assert await store.links(["user:a", "user:b"]) == {"user:a": "new|"}
    await router._take_over(WEB)


async def test_who_stops_restoring_is_followed(redis: Any) -> None:
    world, clock = world_of(redis, "follow", 3, False)
    story(world)
    await world.drain(router_of(world, clock))
    await redis.flushall()
    dying = router_of(world, clock)

    async def half(topic: str = LINKS) -> Any:
        async for each in world.kafka.read(topic):
            yield each
            raise Kill("restoring")

    dying._links_told = half
    with pytest.raises(Kill):
        await world.drain(dying)
    await world.settled(router_of(world, clock))
    await told_once(world)


# -- what links say is one ------------------------------------------------------------------------------------


LINKED = {
    "domain:acme.example": "salesforce:1|",
    "group:acme": "group:acme|",
    "salesforce:1": "salesforce:2|",
    "hubspot:1": "salesforce:1|",
    "user:u": "domain:acme.example|p",
    "anon:a": "visitor:user:u|p",
    "user:v": "visitor:user:v|",
    "email:e": "visitor:user:v|e",
}


def test_whoever_is_looked_at_is_told_as_what_they_are_by_now() -> None:
    told = [
        decode_record(each.value or b"")
        for each in strays([*LINKED, "user:nobody"], LINKED, Resolver(b"secret"), "web.activity/0", 7, NOW)
    ]
    assert [each.via[1:] for each in told if each.via] == [(7, AFTER_ALL + n) for n in range(len(told))]
    merges = {each.account: (each.into, each.by_crm, each.person) for each in told if isinstance(each, Merge)}
    assert merges == {
        "domain:acme.example": ("salesforce:2", False, None),
        "salesforce:1": ("salesforce:2", True, None),
        "hubspot:1": ("salesforce:2", False, None),
        "visitor:user:u": ("salesforce:2", False, ("u", "p")),
        "visitor:anon:a": ("salesforce:2", False, ("a", "p")),
        "visitor:email:e": ("visitor:user:v", False, None),
    }
    same = [(each.account, each.person, each.same_as) for each in told if isinstance(each, Same)]
    assert same == [("salesforce:2", "a", "p"), ("salesforce:2", "u", "p")]


# -- what goes with an offset -----------------------------------------------------------------------------------


def test_an_intent_is_read_as_it_was_packed() -> None:
    intent = Intent(500, 420, 2, {n: 10**12 + n for n in range(64)}, 3)
    assert intent_of(500, intent.packed()) == intent
    assert intent_of(501, intent.packed()) == Intent(501), "of another commit"
    assert intent_of(500, "") == intent_of(500, "by hand") == Intent(500)


def test_an_intent_that_finds_no_room_leaves_out_how_far_the_log_reached() -> None:
    intent = Intent(500, 420, 2, dict.fromkeys(range(1_000), 10**12), 3)
    assert intent_of(500, intent.packed()) == Intent(500, 420, 2, redone=3)
