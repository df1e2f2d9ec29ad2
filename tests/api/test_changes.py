"""Listening: everybody hears everything once, who comes back goes on where it was, and nobody holds up others."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.api.hub import Pace
from streams.api.places import PlaceError, offsets_of, place
from streams.settings import Settings
from streams.subscribe import Filter, subscribe
from tests.api.conftest import TIMEOUT_S, Asked, Start, TokensFile, published
from tests.subscribing.world import PARTITIONS, World


def ids(heard: list[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in heard]


async def changed(world: World, records: int = 30) -> None:
    await world.goes_on(records)
    await world.publish()


async def test_everybody_hears_what_is_published(world: World, settings: Settings, api: Asked) -> None:
    before = set(await published(settings))
    async with api.listens() as one, api.listens() as other:
        await changed(world)
        expected = set(await published(settings)) - before
        assert sorted(ids(await one.hears(len(expected)))) == sorted(expected)
        assert sorted(ids(await other.hears(len(expected)))) == sorted(expected)
        assert ids(one.heard) == ids(other.heard)


async def test_an_event_is_what_stands_in_kafka(world: World, settings: Settings, api: Asked) -> None:
    async with api.listens() as stream:
        await changed(world, 10)
        told = await stream.next()
    async with subscribe(settings, "beginning") as subscription:
        raw = {each.event.id: (each.event.type, each.raw) async for each in _first(subscription, told.data["id"])}
    assert (told.event, told.data) == (raw[told.data["id"]][0], json.loads(raw[told.data["id"]][1]))


async def _first(subscription: Any, id: str) -> Any:
    async for received in subscription:
        yield received
        if received.event.id == id:
            return


@pytest.mark.parametrize(
    ("query", "filter"),
    [
        ("?segment=engagement/hot", Filter(segments=("engagement/hot",))),
        ("?dimension=size&dimension=signs", Filter(dimensions=("size", "signs"))),
        ("?type=account.state", Filter(types=("account.state",))),
        ("?owner=sales&origin=live", Filter(owners=("sales",), origins=("live",))),
    ],
)
async def test_who_asks_for_some_hears_those(
    world: World, settings: Settings, api: Asked, query: str, filter: Filter
) -> None:
    async with api.listens(query) as stream, api.listens() as everything:
        await changed(world, 60)
        wanted = await published(settings, filter)
        assert wanted
        assert sorted(ids(await stream.hears(len(wanted)))) == sorted(wanted)
        await everything.hears(len(wanted) + 1)


@pytest.mark.parametrize("recent", [20_000, 7])
@pytest.mark.parametrize("seed", [1, 2])
async def test_who_comes_back_to_any_process_misses_nothing_and_hears_nothing_twice(
    world: World, settings: Settings, start: Start, recent: int, seed: int
) -> None:
    """A process that remembers little makes it read Kafka by itself until the two meet."""
    draw = random.Random(seed)
    world.draw = random.Random(seed)
    pace = Pace(recent=recent, together_s=0.01, heartbeat_s=0.2)
    async with start(pace) as here, start(pace) as there:
        before = set(await published(settings))
        id, heard = "", list[str]()
        async with here.listens() as stream:
            id = stream.id
        for _ in range(5):
            happening = asyncio.create_task(changed(world, 20))
            async with draw.choice([here, there]).listens("", id) as stream:
                await stream.hears(draw.randint(1, 12))
                heard += ids(stream.heard)
                id = stream.id
            await happening
        expected = set(await published(settings)) - before
        async with there.listens("", id) as stream:
            heard += ids(await stream.hears(len(expected) - len(heard)))
    assert sorted(heard) == sorted(expected)


async def test_a_quiet_listener_is_told_how_far_all_is(world: World, start: Start, settings: Settings) -> None:
    """Its filter lets nothing through for hours; when it comes back it does not begin hours ago."""
    async with start(Pace(heartbeat_s=0.05)) as api, api.listens("?account=nobody") as stream:
        async with api.listens() as other:
            await changed(world, 10)
            await other.hears(1)
            id = other.id
        while any(map(int.__lt__, offsets_of(stream.id, PARTITIONS), offsets_of(id, PARTITIONS))):
            assert (await stream.next()).event == ""
        assert stream.heard == []


async def test_who_takes_nothing_is_cut_off_and_the_others_hear_on(
    world: World, settings: Settings, start: Start
) -> None:
    async with start(Pace(waiting_bytes=20_000, together_s=0.001)) as api:
        before = set(await published(settings))
        async with api.listens_slowly() as slow, api.listens() as quick:
            hub, hears = api.app.state.hub, asyncio.create_task(quick.hears(10**9))
            while not any(each.ended for channel in hub._channels.values() for each in channel.listeners):
                await changed(world, 20)
            expected = set(await published(settings)) - before
            async with asyncio.timeout(TIMEOUT_S):
                while len(quick.heard) < len(expected):
                    await asyncio.sleep(0.01)
            hears.cancel()
            await asyncio.gather(hears, return_exceptions=True)
            assert sorted(ids(quick.heard)) == sorted(expected)
            assert await slow.closed() == "too_slow"
            heard, id = ids(slow.heard), slow.id
        assert len(heard) < len(expected)
        async with api.listens("", id) as again:
            heard += ids(await again.hears(len(expected) - len(heard)))
        assert sorted(heard) == sorted(expected)


async def test_who_listens_is_told_that_the_process_ends(world: World, start: Start) -> None:
    async with start() as api, api.listens() as stream:
        api.stop.set()
        assert await stream.closed() == "closing"


async def test_a_token_that_is_taken_away_ends_what_it_began(world: World, start: Start, file: TokensFile) -> None:
    async with start(Pace(heartbeat_s=0.05)) as api, api.listens() as stream:
        file.write("operator")
        assert await stream.closed() == "token_gone"
        assert (await api.get("/v1/segments")).status == 401


async def test_ids_that_cannot_be_resumed_from(world: World, settings: Settings, api: Asked) -> None:
    async def asked(id: str) -> tuple[int, str]:
        answer = api.session.get(
            f"{api.url}/v1/changes",
            headers={"Authorization": f"Bearer {api.tokens['reader']}", "Last-Event-ID": id},
        )
        async with answer as found:
            return found.status, (await found.json())["type"].rpartition(":")[2]

    assert await asked("not an id") == (400, "unknown_id")
    assert await asked(place([1] * (PARTITIONS + 1))) == (400, "unknown_id")
    assert await asked(place([10**9] * PARTITIONS)) == (410, "id_ahead")


async def test_there_is_a_limit_to_who_listens(world: World, start: Start) -> None:
    async with start(Pace(listeners=2)) as api, api.listens(), api.listens():
        refused = await api.get("/v1/changes")
        assert (refused.status, refused.body["type"]) == (503, "urn:isotherm:problem:too_many_listeners")
        assert refused.headers["Retry-After"]
    assert api.app.state.hub.listeners == 0


async def test_what_is_misspelled_is_said(api: Asked) -> None:
    for query, hint in (("?segment=engagement/hott", "engagement/hot"), ("?dimension=sise", "size")):
        refused = await api.get(f"/v1/changes{query}")
        assert refused.status == 422
        assert hint in refused.body["hint"]
    assert "sgement" in (await api.get("/v1/changes?sgement=x")).body["detail"]


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=80))
def test_a_place_says_how_far_each_partition_was_read(offsets: list[int]) -> None:
    assert offsets_of(place(offsets), len(offsets)) == offsets


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda each: place(list(each)) + "AA"), st.integers(1, 4))
def test_what_is_no_place_is_refused_and_nothing_else_happens(word: str, partitions: int) -> None:
    try:
        found = offsets_of(word, partitions)
    except PlaceError:
        return
    assert len(found) == partitions


def test_a_place_is_short() -> None:
    assert len(place([1_000_000] * 64)) < 300
