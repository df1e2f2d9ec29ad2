"""The router, killed between any two steps, doubled, redelivered and raced: each event counts once.

Schedules by the hundred run over Kafka as lists (`router_world`) and a real Redis; `test_router_kafka` has some on
a real broker. What must come out is a run in which nothing happened: the records that count in each log partition,
byte for byte, or, where the order of source partitions differs, the accounts that the fold makes of them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from aiokafka import TopicPartition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from router_world import (
    PARTITIONS,
    STEPS,
    Kill,
    ListedConsumer,
    Turns,
    World,
    people,
    schedules,
    visits,
)

from rules.records import Erase
from streams.identity import Resolver
from streams.topics import ACCOUNT_LOG, CRM_UPDATES, DEAD_LETTERS, LINKS, WEB_ACTIVITY

WEB, WEB1, CRM = TopicPartition(WEB_ACTIVITY, 0), TopicPartition(WEB_ACTIVITY, 1), TopicPartition(CRM_UPDATES, 0)
COMPANIES = 3
VISITS = 6  # of each company, when all is known
SOME = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def who(n: int, *names: str) -> dict[str, str]:
    said = {"user": f"u{n}", "anonymous": f"a{n}", "email": f"ann@acme{n}.example"}
    return {name: said[name] for name in names}


def visit(n: int, *names: str, **said: Any) -> dict[str, Any]:
    return {"kind": "activity", "name": "visited", **who(n, *names), **said}


def story(world: World) -> World:
    """Of each company a visitor becomes a user with an address, the CRM gets to know the company under two
    records and its contact, and makes one record of the two."""
    for n in range(COMPANIES):
        p = n % 2
        world.put(WEB_ACTIVITY, p, *[visit(n, "anonymous")] * 3)
        world.put(WEB_ACTIVITY, p, {"kind": "contact", **who(n, "user", "anonymous", "email")})
        world.put(WEB_ACTIVITY, p, *[visit(n, "user")] * 2, visit(n, "anonymous"))
        world.put(WEB_ACTIVITY, p, {"kind": "activity", "name": "", "user": "u"})  # a dead letter
        world.put(
            CRM_UPDATES,
            0,
            {"kind": "facts", "crm": f"salesforce:00{n}", "domain": f"acme{n}.example", "set": {"employees": n}},
            {"kind": "contact", "crm": f"salesforce:00{n}", "contact": f"salesforce:c{n}", **who(n, "email")},
            {"kind": "facts", "crm": f"salesforce:09{n}", "set": {"employees": 9}},
            {"kind": "merge", "crm": f"salesforce:09{n}", "merged": [f"salesforce:00{n}"]},
        )
    return world


def complete(folded: dict[str, Any]) -> None:
    """By hand, whatever happened in whatever order: every visit once, at the account that stays, by one."""
    for n in range(COMPANIES):
        assert visits(folded, f"salesforce:09{n}") == VISITS
        assert people(folded, f"salesforce:09{n}") == 1
    assert set(folded) == {f"salesforce:09{n}" for n in range(COMPANIES)}


async def told_as_stored(world: World) -> None:
    """`identity.links`, compacted, is what Redis holds; and nothing waits to be produced again."""
    from streams.store.sources import as_digest

    told = {as_digest(key): value for key, value in world.kafka.compacted(LINKS).items()}
    assert told == await world.links()
    for tp in world.sources:
        assert (await world.store.acquire(tp.topic, tp.partition)).saved == []


async def calm(redis: Any, batch: int = 3) -> World:
    world = story(World(redis, "calm", batch))
    await world.drain(world.router())
    return world


class Wire:
    """Kills at the n-th of the steps that a run passes; counts them."""

    def __init__(self, at: int = -1) -> None:
        self.at = at
        self.passed: list[str] = []

    async def __call__(self, step: str) -> None:
        self.passed.append(step)
        if len(self.passed) - 1 == self.at:
            raise Kill(step)


@pytest.mark.parametrize("batch", [3, 100])
async def test_a_kill_at_any_step_changes_nothing(redis: Any, batch: int) -> None:
    quiet = story(World(redis, "quiet", batch))
    await quiet.drain(quiet.router(counted := Wire()))
    complete(await quiet.folded())
    await told_as_stored(quiet)
    assert set(counted.passed) == set(STEPS)
    expected, letters, stands = quiet.accepted(), quiet.kafka.compacted(DEAD_LETTERS), await quiet.folded()
    for at in range(len(counted.passed)):
        await redis.flushall()
        world = story(World(redis, "kill", batch))
        with pytest.raises(Kill):
            await world.drain(world.router(Wire(at)))
        # Who takes over reads on where the killed one stood; turns go on in the order in which they would have.
        await world.drain(world.router())
        where = f"killed at {at}: {counted.passed[at]}"
        folded = await world.folded()
        assert folded == stands, where
        complete(folded)
        assert world.kafka.compacted(DEAD_LETTERS) == letters, where
        await told_as_stored(world)
        if batch == 100:  # a batch is a partition: the turns are the same ones
            assert sorted(map(len, world.accepted())) == sorted(map(len, expected)), where


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("turn", range(0, 12, 2))
async def test_others_learn_between_a_kill_and_the_takeover(redis: Any, step: str, turn: int) -> None:
    """The killed batch is decided anew, or produced as it was saved, by links that others have changed since."""
    world = story(World(redis, "between", 2))

    async def kill(reached: str, seen: list[str] = []) -> None:  # noqa: B006 - of this test alone
        seen.append(reached)
        if reached == step and seen.count(step) > turn:
            raise Kill(step)

    first = world.router(kill, [WEB])
    try:
        await world.drain(first)
    except Kill:
        await world.drain(world.router(places=[CRM]))
        await world.drain(world.router(places=[WEB]))
    else:
        await world.drain(world.router(places=[CRM]))
    await world.drain(world.router(places=[WEB1]))
    complete(await world.folded())
    await told_as_stored(world)


@SOME
@given(st.data())
async def test_kills_one_after_the_other(redis: Any, data: st.DataObject) -> None:
    await redis.flushall()
    world = story(World(redis, "kills", data.draw(st.sampled_from([1, 2, 3, 7, 100]), "batch")))
    for _ in range(data.draw(st.integers(1, 6), "kills")):
        places = data.draw(st.permutations([WEB, WEB1, CRM]), "places")
        router = world.router(Wire(data.draw(st.integers(0, 25), "at")), places[: data.draw(st.integers(1, 3))])
        try:
            await world.drain(router)
        except Kill:
            continue
    await world.drain(world.router())
    complete(await world.folded())
    await told_as_stored(world)


@SOME
@given(st.data())
async def test_everything_is_delivered_again_now_and_then(redis: Any, data: st.DataObject) -> None:
    """A batch is produced twice, or once more much later, by a router that stood still for long."""
    await redis.flushall()
    world = story(World(redis, "again", data.draw(st.integers(1, 8), "batch")))
    router = world.router()
    send = router._producer.send
    older: list[Any] = []

    async def send_again(messages: Any, at: int, partition: int | None = None) -> list[Any]:
        older.append(list(messages))
        for _ in range(1 + data.draw(st.booleans() if len(older) < 40 else st.just(False))):
            await send(messages, at)
        if len(older) > 1 and data.draw(st.integers(0, 9)) < 3:
            # Of a router that stood still for long: an old batch comes late.
            late = data.draw(st.sampled_from(older[:-1]))
            await send([each for each in late if each.topic == ACCOUNT_LOG], at)
        return []

    router._producer.send = send_again  # type: ignore[method-assign]
    await world.drain(router)
    complete(await world.folded())


@SOME
@given(st.data())
async def test_a_source_that_sends_twice(redis: Any, data: st.DataObject) -> None:
    """The same event in a second message, under the source's own id, while people become known in between."""
    await redis.flushall()
    world = World(redis, "twice", data.draw(st.integers(1, 8), "batch"))
    said: dict[TopicPartition, list[dict[str, Any]]] = {}
    once = story(World(redis, "once"))
    for tp in once.sources:
        for message in once.kafka.of(*tp):
            each = json.loads(message.value or b"") | {"id": f"{tp.topic}-{tp.partition}-{message.offset}"}
            said.setdefault(tp, []).append(each)
    for tp, messages in said.items():
        for n, each in enumerate(messages):
            world.put(*tp, each)
            if n and data.draw(st.integers(0, 9)) < 3:
                world.put(*tp, messages[data.draw(st.integers(0, n))])
    await world.drain(world.router())
    folded = await world.folded()
    for n in range(COMPANIES):
        assert visits(folded, f"salesforce:09{n}") == VISITS


# -- two at once ----------------------------------------------------------------------------------------------


async def fight(world: World, schedule: Iterable[int]) -> World:
    """Two routers each believe that the partition is theirs; who is refused takes it over again."""
    turns = Turns()

    async def work(reached: Callable[[str], Awaitable[None]]) -> None:
        router = world.router(reached, [WEB])
        while True:
            if WEB not in router._reading:
                await reached("take over")
                await router._take_over(WEB)
            if not await world.turn(router, WEB) and WEB in router._reading:
                return

    await turns.run([work(turns.reached(n)) for n in range(2)], schedule)
    return world


ALONE: list[Any] = []  # what becomes of the partition with one router


async def fought(redis: Any, schedule: Iterable[int]) -> None:
    await redis.flushall()
    world = World(redis, "fight", 2)
    for _ in range(2):
        world.put(
            WEB_ACTIVITY, 0, visit(0, "anonymous"), {"kind": "contact", **who(0, "user", "anonymous", "email")}
        )
        world.put(WEB_ACTIVITY, 0, visit(0, "user"))
    alone = World(redis, "alone", 2)
    alone.kafka.topics |= {WEB: world.kafka.of(*WEB)}
    if not ALONE:
        await alone.drain(alone.router())
        ALONE.append((alone.accepted(), await alone.folded()))
    await fight(world, schedule)
    ((accepted, folded),) = ALONE
    assert world.accepted() == accepted
    assert await world.folded() == folded
    await told_as_stored(world)


async def test_two_routers_fight_over_a_partition(redis: Any) -> None:
    for schedule in schedules(7):
        await fought(redis, schedule)


@SOME
@given(schedule=st.lists(st.integers(0, 1), max_size=60))
async def test_two_routers_fight_for_long(redis: Any, schedule: list[int]) -> None:
    await fought(redis, schedule)


@SOME
@given(schedule=st.lists(st.integers(0, 2), max_size=60), batch=st.integers(1, 9))
async def test_routers_of_different_partitions_learn_about_the_same_people(
    redis: Any, schedule: list[int], batch: int
) -> None:
    """Everybody is on both web partitions and in the CRM; what is learned on one changes what the others read."""
    await redis.flushall()
    world = World(redis, "same", batch)
    for n in range(2):
        for p in range(2):
            world.put(WEB_ACTIVITY, p, visit(n, "anonymous"), visit(n, "user"))
            world.put(WEB_ACTIVITY, p, {"kind": "contact", **who(n, "user", "anonymous", "email")})
            world.put(WEB_ACTIVITY, p, visit(n, "user", "anonymous"))
        world.put(
            CRM_UPDATES,
            0,
            {"kind": "contact", "crm": f"salesforce:00{n}", "contact": f"salesforce:c{n}", **who(n, "email")},
            {"kind": "facts", "crm": f"salesforce:00{n}", "domain": f"acme{n}.example", "set": {"employees": n}},
        )
    turns = Turns()
    routers = [world.router(turns.reached(n), [tp]) for n, tp in enumerate([WEB, WEB1, CRM])]
    await turns.run([world.drain(router) for router in routers], schedule)
    folded = await world.folded()
    for n in range(2):
        assert visits(folded, f"salesforce:00{n}") == 6
    await told_as_stored(world)


async def test_a_link_that_changed_meanwhile_is_read_again(redis: Any) -> None:
    world = World(redis, "changed")
    world.put(WEB_ACTIVITY, 0, visit(0, "user", "email"))
    world.put(CRM_UPDATES, 0, {"kind": "facts", "crm": "salesforce:1", "domain": "acme0.example"})

    async def crm_comes_first(step: str) -> None:
        if step == "route" and not world.kafka.of(LINKS, 0):
            await world.drain(world.router(places=[CRM]))

    slow = world.router(crm_comes_first, [WEB])
    await world.drain(slow)
    assert slow.counts["routed again", ""] == 1
    assert set(await world.folded()) == {"salesforce:1"}


async def test_links_that_were_produced_in_another_order_than_saved_end_as_saved(redis: Any) -> None:
    """One router stands still between saving and producing; another changes the same link and is done first."""
    world = World(redis, "order")
    world.put(WEB_ACTIVITY, 0, {"kind": "contact", **who(0, "user", "anonymous", "email")})
    world.put(WEB_ACTIVITY, 1, {"kind": "contact", "group": "bolt", **who(0, "user", "anonymous", "email")})

    async def stand_still(step: str) -> None:
        if step == "save":
            await world.drain(world.router(places=[WEB1]))

    await world.drain(world.router(stand_still, [WEB]))
    await told_as_stored(world)


# -- people who ask to be forgotten ---------------------------------------------------------------------------


def person(world: World, email: str) -> str:
    resolver = Resolver(world.settings.person_key.get_secret_value().encode())
    return (resolver._hash("email", email) or "").partition(":")[2]


def asking(world: World) -> str:
    ann = person(world, "ann@acme0.example")
    world.put(WEB_ACTIVITY, 0, visit(0, "anonymous"), {"kind": "contact", **who(0, "user", "anonymous", "email")})
    world.put(WEB_ACTIVITY, 0, visit(0, "user"), visit(1, "user", "email"))
    world.put(WEB_ACTIVITY, 0, {"kind": "erase", "person": ann}, {"kind": "erase", "person": ann})
    world.put(WEB_ACTIVITY, 0, visit(1, "user", "email"))
    return ann


async def no_trace(world: World, ann: str) -> None:
    await told_as_stored(world)
    for value in [*(await world.links()).values(), *(v or b"" for v in world.kafka.compacted(LINKS).values())]:
        assert ann.encode() not in value
    async for key in world.redis.scan_iter(f"{world.namespace}:{{ids}}:src:*"):
        assert not [each for each in (await world.redis.hgetall(key)).values() if ann.encode() in each]
    folded = await world.folded()
    assert ann not in str(folded)
    assert visits(folded, "domain:acme1.example") == 2
    for p in range(PARTITIONS):
        assert sum(isinstance(record, Erase) for record in world.log(p)) >= 2


@pytest.mark.parametrize("batch", [100])
async def test_whoever_is_forgotten_stays_so_when_the_router_is_killed(redis: Any, batch: int) -> None:
    """Also what the same fetch taught just before; and who comes behind in it is not forgotten with them."""
    quiet = World(redis, "asked", batch)
    ann = asking(quiet)
    await quiet.drain(quiet.router(counted := Wire()))
    await no_trace(quiet, ann)
    for at in range(len(counted.passed)):
        await redis.flushall()
        world = World(redis, "asked", batch)
        asking(world)
        with pytest.raises(Kill):
            await world.drain(world.router(Wire(at)))
        await world.drain(world.router())
        await no_trace(world, ann)


async def test_what_a_message_says_before_it_asks_to_forget_goes_too(redis: Any) -> None:
    world = World(redis, "one")
    ann = person(world, "ann@acme0.example")
    calls = [
        {"type": "identify", "messageId": "1", "userId": "u0", "traits": {"email": "ann@acme0.example"}},
        {"type": "delete", "messageId": "2", "userId": "u0"},
    ]
    world.kafka.append(WEB_ACTIVITY, 0, json.dumps({"batch": calls}).encode())
    await world.drain(world.router())
    left = [*(await world.links()).values(), *(v or b"" for v in world.kafka.compacted(LINKS).values())]
    erased = [record for record in world.log(0) if isinstance(record, Erase)]
    if erased:  # the adapter reads this call as an erasure
        assert not [each for each in left if ann.encode() in each]


async def test_an_old_batch_does_not_come_back_when_a_partition_changes_hands(redis: Any) -> None:
    """It is produced once; after that its links may be others', and its people forgotten."""
    world = World(redis, "old")
    world.put(WEB_ACTIVITY, 0, visit(0, "user", "email"), {"kind": "nonsense", "email": "ann@acme0.example"})
    await world.drain(world.router(places=[WEB]))
    before = (
        len(world.kafka.of(LINKS, 0)),
        len(world.kafka.of(DEAD_LETTERS, 0)),
        len(world.kafka.of(ACCOUNT_LOG, 0)),
    )
    assert before[1] == 1
    await world.drain(world.router(places=[WEB]))
    assert before == (
        len(world.kafka.of(LINKS, 0)), len(world.kafka.of(DEAD_LETTERS, 0)), len(world.kafka.of(ACCOUNT_LOG, 0)),
    )  # fmt: skip
    (key,) = [key async for key in redis.scan_iter("*:src:*")]
    assert b"ann@" not in b"".join((await redis.hgetall(key)).values())


# -- dead letters ---------------------------------------------------------------------------------------------


async def test_a_letter_that_is_replayed_twice_counts_once(redis: Any) -> None:
    """With what was usable of it the first time, and though its sender is known by now."""
    world = World(redis, "letters", 2)
    calls = [
        {"type": "track", "event": "visited", "userId": "u0"},
        {"type": "track", "event": "visited", "userId": "u0"},
        {"type": "nonsense", "userId": "u0"},
    ]
    value = json.dumps({"batch": calls}).encode()
    world.kafka.append(WEB_ACTIVITY, 0, value)
    router = world.router()
    await world.drain(router)
    (letter,) = world.kafka.of(DEAD_LETTERS, 0)
    world.put(WEB_ACTIVITY, 0, {"kind": "contact", **who(0, "user", "email")})
    place = next(said for name, said in letter.headers if name == "source")
    for _ in range(2):
        world.kafka.append(WEB_ACTIVITY, 0, value, headers=(("replay-of", place),))
    await world.drain(router)
    assert visits(await world.folded(), "domain:acme0.example") == 2


# -- topics made anew -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 4, 5, 6, 20])
@pytest.mark.parametrize("running", [True, False])
async def test_a_topic_made_anew_is_read_from_its_beginning(redis: Any, length: int, running: bool) -> None:
    """It may be shorter than the old one was, as long, or longer."""
    world = World(redis, "anew", 3)
    world.put(WEB_ACTIVITY, 0, *[visit(0, "user", "email")] * 5)
    router = world.router()
    await world.drain(router)
    world.kafka.make_anew(WEB_ACTIVITY, 0)
    world.put(WEB_ACTIVITY, 0, *[visit(1, "user", "email", props={"n": n}) for n in range(length)])
    if not running or length >= 5:  # a running router is told by Kafka, which gives out partitions anew
        router = world.router()
        await world.drain(router)
    await router.look_after()
    await world.drain(router)
    folded = await world.folded()
    assert (visits(folded, "domain:acme0.example"), visits(folded, "domain:acme1.example")) == (5, length)
    assert router.counts["made anew", WEB_ACTIVITY] == 1
    world.put(WEB_ACTIVITY, 0, visit(1, "user", "email"))
    again = world.router()
    await world.drain(again)
    assert again.counts["made anew", WEB_ACTIVITY] == 0
    assert visits(await world.folded(), "domain:acme1.example") == length + 1


async def test_a_kill_while_a_topic_is_found_to_be_another(redis: Any) -> None:
    for at in range(12):
        world = World(redis, f"anew{at}", 3)
        world.put(WEB_ACTIVITY, 0, *[visit(0, "user", "email")] * 4)
        await world.drain(world.router())
        for _ in range(2):
            world.kafka.make_anew(WEB_ACTIVITY, 0)
            world.put(WEB_ACTIVITY, 0, *[visit(1, "user", "email", props={"n": n}) for n in range(5)])
            try:
                await world.drain(world.router(Wire(at)))
            except Kill:
                await world.drain(world.router())
            world.kafka.make_anew(WEB_ACTIVITY, 0)
            world.put(WEB_ACTIVITY, 0, *[visit(2, "user", "email", props={"n": n}) for n in range(3)])
            router = world.router()
            await world.drain(router)
            await router.look_after()
            await world.drain(router)
        folded = await world.folded()
        counted = [visits(folded, f"domain:acme{n}.example") for n in range(3)]
        assert counted == [4, 10, 6]


async def test_a_topic_that_was_shortened_up_to_where_we_are_is_the_same_one(redis: Any) -> None:
    world = World(redis, "short", 3)
    world.put(WEB_ACTIVITY, 0, *[visit(0, "user", "email")] * 5)
    await world.drain(world.router())
    for first in (5, 4):
        router = world.router()
        router._consumer.first[WEB] = first
        world.put(WEB_ACTIVITY, 0, visit(0, "user", "email"))
        await world.drain(router)
        assert router.counts["made anew", WEB_ACTIVITY] == router.counts["paused", WEB_ACTIVITY] == 0
    assert visits(await world.folded(), "domain:acme0.example") == 7


async def test_messages_deleted_before_they_were_read_pause_the_partition(redis: Any) -> None:
    world = World(redis, "gap", 3)
    world.put(WEB_ACTIVITY, 0, *[visit(0, "user", "email")] * 2)
    await world.drain(world.router())
    world.put(WEB_ACTIVITY, 0, *[visit(0, "user", "email")] * 6)
    world.put(WEB_ACTIVITY, 1, visit(1, "user", "email"))
    for _ in range(2):
        router = world.router()
        router._consumer.first[WEB] = 5
        await world.drain(router)
        assert await world.store.paused(*WEB) == "messages 2 to 4 were deleted before they were read"
    folded = await world.folded()
    assert (visits(folded, "domain:acme0.example"), visits(folded, "domain:acme1.example")) == (2, 1)
    await world.store.resume(*WEB)
    await router.look_after()
    await world.drain(router)
    assert visits(await world.folded(), "domain:acme0.example") == 5


# -- who has a partition --------------------------------------------------------------------------------------


async def test_what_was_fetched_for_who_had_the_partition_before_is_left(redis: Any) -> None:
    world = World(redis, "stale", 3)
    world.put(WEB_ACTIVITY, 0, *[visit(0, "user", "email")] * 6)
    router = world.router(places=[WEB])
    await router._take_over(WEB)
    before = dict(router._reading)
    fetched = router._consumer.fetch(WEB)
    await router._take_over(WEB)
    await router._route(WEB, fetched[1:], before)
    await world.drain(router)
    assert visits(await world.folded(), "domain:acme0.example") == 6


async def test_a_partition_that_nobody_else_reads_is_taken_back(redis: Any, monkeypatch: Any) -> None:
    """Who fenced us may have been on its way out; Kafka then sees no reason to give out partitions anew."""
    world = World(redis, "back", 3)
    world.put(WEB_ACTIVITY, 0, *[visit(0, "user", "email")] * 3)
    router = world.router(places=[WEB])
    await router._take_over(WEB)
    await world.store.acquire(*WEB)
    await world.drain(router)
    assert WEB not in router._reading
    await router.look_after()
    assert WEB not in router._reading, "at once would be a fight"
    router._lost[WEB] -= 2
    await router.look_after()
    await world.drain(router)
    assert visits(await world.folded(), "domain:acme0.example") == 3


async def test_a_saved_batch_whose_reply_was_lost_is_produced(redis: Any) -> None:
    """Written, and the connection breaks before the answer: it is taken over, and nothing is missing."""
    world = World(redis, "reply", 3)
    world.put(WEB_ACTIVITY, 0, *[visit(0, "user", "email")] * 6)
    router = world.router(places=[WEB])
    save, lost = router._store.save, [True, False, True]

    async def unread(*given: Any) -> str:
        status = await save(*given)
        if lost and lost.pop():
            raise ConnectionError("reset in mid-reply")
        return status

    router._store.save = unread  # type: ignore[method-assign]
    await world.drain(router)
    assert visits(await world.folded(), "domain:acme0.example") == 6


async def test_a_bug_stops_its_partition_and_no_other(redis: Any, monkeypatch: Any) -> None:
    import streams.router as module

    world = World(redis, "bug", 3)
    world.put(WEB_ACTIVITY, 0, visit(0, "user", "email"))
    world.put(WEB_ACTIVITY, 1, visit(1, "user", "email"))
    route = module.route

    def buggy(topic: str, seen: Any, *given: Any) -> Any:
        if seen[0].message.partition == 0:
            raise LookupError("a bug")
        return route(topic, seen, *given)

    monkeypatch.setattr(module, "route", buggy)
    router = world.router()
    await world.drain(router)
    assert router.stopped_partitions == {WEB: "LookupError: a bug"}
    assert set(await world.folded()) == {"domain:acme1.example"}
    monkeypatch.undo()
    await world.drain(world.router())
    assert set(await world.folded()) == {"domain:acme0.example", "domain:acme1.example"}


# -- poison ---------------------------------------------------------------------------------------------------


BAD = {"kind": "activity", "name": ""}


def fetched(world: World, router: Any, at_most: int) -> Any:
    router._consumer = ListedConsumer(world.kafka, world.sources, at_most)
    return router


@pytest.mark.parametrize("at_most", [10, 1_000])
async def test_a_hundred_in_a_row_pause_only_their_partition(redis: Any, at_most: int) -> None:
    """Also when more of it has been fetched already; it goes on exactly behind, in this router or a later one."""
    world = World(redis, "poison", 10)
    world.put(WEB_ACTIVITY, 0, *[visit(0, "user", "email")] * 2, *[BAD] * 150, *[visit(0, "user", "email")] * 3)
    world.put(WEB_ACTIVITY, 1, *[visit(1, "user", "email")] * 5)
    router = fetched(world, world.router(), at_most)
    await world.drain(router)
    letters = len(world.kafka.of(DEAD_LETTERS, 0))
    assert 100 <= letters < 110, "within a batch"
    assert await world.store.paused(*WEB) == f"{letters} messages in a row could not be used"
    assert await world.store.paused(*WEB1) == ""
    folded = await world.folded()
    assert (visits(folded, "domain:acme0.example"), visits(folded, "domain:acme1.example")) == (2, 5)

    router = fetched(world, world.router(), at_most)
    await world.drain(router)
    await router.look_after()
    await world.drain(router)
    assert router._consumer.paused() == {WEB}, "a restart does not let it go on"
    assert len(world.kafka.of(DEAD_LETTERS, 0)) == letters
    assert await world.store.resume(*WEB)
    await router.look_after()
    await world.drain(router)
    assert len(world.kafka.of(DEAD_LETTERS, 0)) == 150
    assert visits(await world.folded(), "domain:acme0.example") == 5
    assert await world.store.paused(*WEB) == ""


async def test_one_in_a_hundred_of_the_last_ten_thousand_pauses(redis: Any) -> None:
    world = World(redis, "percent", 500)
    good = visit(0, "user", "email")
    # 100 bad ones in the first 9,900 are not too many, and have passed by when another 100 come.
    for start in range(0, 19_800, 99):
        world.put(WEB_ACTIVITY, 0, *([BAD] if start < 9_900 else []), *[good] * 98)
    world.put(WEB_ACTIVITY, 0, *[good, BAD] * 100)
    router = fetched(world, world.router(places=[WEB]), 2_000)
    await world.drain(router)
    assert await world.store.paused(*WEB) == ""
    world.put(WEB_ACTIVITY, 0, good, BAD)
    await world.drain(router)
    assert await world.store.paused(*WEB) == "101 of the last 10,000 messages could not be used"


async def test_with_the_limit_off_poison_is_passed_over(redis: Any) -> None:
    world = World(redis, "off", 10, poison_limit=False)
    world.put(WEB_ACTIVITY, 0, *[BAD] * 250, visit(0, "user", "email"))
    await world.drain(world.router())
    assert len(world.kafka.of(DEAD_LETTERS, 0)) == 250
    assert visits(await world.folded(), "domain:acme0.example") == 1


@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_does_not_undo_the_pause(redis: Any, step: str) -> None:
    """Pausing is part of what is saved: who takes over does not begin to count anew behind it."""
    world = World(redis, f"undo-{step}", 50)
    world.put(WEB_ACTIVITY, 0, *[BAD] * 100, *[visit(0, "user", "email")] * 50)
    passed: list[str] = []

    async def kill(reached: str) -> None:
        passed.append(reached)
        if reached == step and passed.count(step) == 2:
            raise Kill(step)

    with pytest.raises(Kill):
        await world.drain(world.router(kill))
    await world.drain(world.router())
    counted = len(world.kafka.of(DEAD_LETTERS, 0)), await world.store.paused(*WEB) != ""
    saved = STEPS.index(step) >= STEPS.index("save")
    assert counted[1] == saved
    assert len(world.kafka.compacted(DEAD_LETTERS)) == 100
