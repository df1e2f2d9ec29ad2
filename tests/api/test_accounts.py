"""Where accounts stand and who is in a segment, as Redis has it."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from rules.records import Activity, Merge, Restore, Tick
from streams.api.answers import AnAccount, Segments, SomeMembers
from streams.api.app import create_app
from streams.api.rights import Tokens
from streams.inspect import explain_account
from streams.reading import Reader
from streams.settings import Settings
from tests.api.conftest import Asked, Start, TokensFile, running
from tests.subscribing.world import ACCOUNTS, HOUR, World

SORTS = ("account", "since", "stays_until", "score:interest")


@pytest.fixture
async def lived(world: World, api: Asked) -> Asked:
    world.draw = random.Random(5)
    await world.goes_on(80)
    await world.publish()
    return api


async def test_an_account_is_what_explain_says(world: World, settings: Settings, lived: Asked) -> None:
    for account in await world.memberships():
        answer = await lived.get(f"/v1/accounts/{account}")
        told, explained = answer.body["data"], await explain_account(account, settings)
        assert answer.status == 200
        assert explained is not None
        assert told | {"as_of": ""} == explained | {"as_of": ""}
        AnAccount.model_validate(answer.body)
        assert answer.headers["Cache-Control"] == "no-store"


async def test_an_account_that_is_not_known(lived: Asked) -> None:
    for account in ("salesforce:unheard", "a/b", "%00", "a" * 500):
        answer = await lived.get(f"/v1/accounts/{account}")
        assert (answer.status, answer.body["type"]) == (404, "urn:isotherm:problem:unknown_account")
    assert (await lived.get(f"/v1/accounts/{'a' * 513}")).status == 422


async def test_of_a_visitor_nothing_is_told(world: World, lived: Asked) -> None:
    visitor = "visitor:507f191e"
    await world.happens(
        visitor, Activity(account=visitor, name="visited", at=world.now, received=world.now, person="p")
    )
    assert (await lived.get(f"/v1/accounts/{visitor}")).status == 404


async def test_of_an_account_that_was_merged_the_other_is_told(world: World, lived: Asked) -> None:
    mine, theirs = ACCOUNTS[:2]
    await world.happens(theirs, Merge(account=theirs, into=mine, at=world.now, received=world.now, by_crm=True))
    assert (await lived.get(f"/v1/accounts/{theirs}")).body["data"]["account"] == mine


async def test_segments_are_counted(world: World, settings: Settings, lived: Asked) -> None:
    answer = await lived.get("/v1/segments")
    assert answer.body["data"] == await Reader(world.redis, settings).counts()
    assert sum(answer.body["data"]["engagement"].values()) == len(await world.memberships())
    Segments.model_validate(answer.body)


async def pages(api: Asked, place: str, sort: str, limit: int) -> list[dict[str, Any]]:
    found, cursor = [], ""
    while True:
        answer = await api.get(
            f"/v1/segments/{place}/accounts", params={"sort": sort, "limit": limit, "cursor": cursor}
        )
        assert answer.status == 200, answer.body
        SomeMembers.model_validate(answer.body)
        assert len(answer.body["data"]) <= limit
        found += answer.body["data"]
        if (cursor := answer.body["next"]) is None:
            return found


@pytest.mark.parametrize("sort", SORTS)
async def test_every_member_is_on_one_page(world: World, settings: Settings, lived: Asked, sort: str) -> None:
    for place in (await largest(lived), "size/large", "signs/crowded", "engagement/unclassified"):
        dimension, _, segment = place.partition("/")
        members = await Reader(world.redis, settings).members(dimension, segment)
        for limit in (2, 1000):
            found = await pages(lived, place, sort, limit)
            assert sorted(each["account"] for each in found) == members
        for each in found:
            explained = await explain_account(each["account"], settings)
            assert explained is not None
            stands = explained["dimensions"][dimension]
            assert (each["since"], each["stays_until"]) == (stands["since"], stands["stays_until"])


async def largest(api: Asked) -> str:
    """The segment that holds the most."""
    counts = (await api.get("/v1/segments")).body["data"]
    sizes = {f"{name}/{segment}": size for name, each in counts.items() for segment, size in each.items()}
    return max(sizes, key=lambda each: sizes[each])


async def test_the_orders_are_what_they_say(lived: Asked) -> None:
    place = await largest(lived)
    by = {sort: await pages(lived, place, sort, 3) for sort in SORTS}
    assert len(by["account"]) > 3
    assert by["account"] == sorted(by["account"], key=lambda each: str(each["account"]))
    assert [each["since"] for each in by["since"]] == sorted((e["since"] for e in by["since"]), reverse=True)
    ends = [each["stays_until"] or "9999" for each in by["stays_until"]]
    assert ends == sorted(ends)
    values = [each["value"] for each in by["score:interest"]]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0
    assert "value" not in by["account"][0]


async def test_a_score_is_the_one_by_which_the_rules_decide(world: World, lived: Asked) -> None:
    """Whoever is warm is so by a score of 4 or more; whoever is cold has less."""
    for account in ACCOUNTS:
        await world.happens(account, Restore(account=account, at=world.now, received=world.now))
    before, world.now = world.now, int(time.time() * 1000)
    assert world.now - before > 25 * HOUR, "what happened so far counts for less than half by now"
    for account in ACCOUNTS[::2]:
        await world.happens(account, Activity(account=account, name="asked", at=world.now, received=world.now))
    for number in range(2):
        await world.fold(number, Tick(received=world.now + 1))
    warm, cold = [await pages(lived, f"engagement/{each}", "score:interest", 5) for each in ("warm", "cold")]
    asked = {each["account"] for each in warm}
    assert set(ACCOUNTS[::2]) <= asked
    explained = {account: (await lived.get(f"/v1/accounts/{account}")).body["data"] for account in asked}
    for each in warm:
        because = explained[each["account"]]["dimensions"]["engagement"]["reason"]["because"]
        assert because["value"] == pytest.approx(each["value"], abs=0.02)
    assert min(each["value"] for each in warm) > max([0.0, *(each["value"] for each in cold)])


async def test_a_cursor_is_good_at_any_process_and_for_its_own_order(lived: Asked, start: Start) -> None:
    path = f"/v1/segments/{await largest(lived)}/accounts"
    first = (await lived.get(path, params={"sort": "score:interest", "limit": 2})).body
    async with start() as other:
        rest = await other.get(path, params={"sort": "score:interest", "cursor": first["next"]})
    assert rest.body["as_of"] == first["as_of"]
    assert rest.body["data"]
    seen = {each["account"] for each in first["data"]}
    assert not seen & {each["account"] for each in rest.body["data"]}
    refused = await lived.get(path, params={"sort": "since", "cursor": first["next"]})
    assert (refused.status, refused.body["type"]) == (400, "urn:isotherm:problem:unknown_cursor")
    for cursor in ("x", "é", "AAAA", first["next"][:-3]):
        assert (await lived.get(path, params={"cursor": cursor})).status == 400


@pytest.mark.parametrize(
    ("path", "status", "problem", "hint"),
    [
        ("/v1/segments/engagment/hot/accounts", 404, "unknown_dimension", "engagement"),
        ("/v1/segments/engagement/hott/accounts", 404, "unknown_segment", "hot"),
        ("/v1/segments/engagement/hot/accounts?sort=score:intrest", 422, "unknown_sort", "score:interest"),
        ("/v1/segments/engagement/hot/accounts?sort=value", 422, "unknown_sort", ""),
        ("/v1/segments/engagement/hot/accounts?limit=1001", 422, "invalid_parameter", ""),
        ("/v1/segments/engagement/hot/accounts?limit=0", 422, "invalid_parameter", ""),
        ("/v1/segments/engagement/hot/accounts?lmit=5", 422, "invalid_parameter", ""),
    ],
)
async def test_what_is_wrong_is_said(api: Asked, path: str, status: int, problem: str, hint: str) -> None:
    answer = await api.get(path)
    assert (answer.status, answer.body["type"]) == (status, f"urn:isotherm:problem:{problem}")
    assert hint in answer.body.get("hint", "")


async def test_without_redis_and_kafka_it_says_so_and_does_not_end(
    settings: Settings, file: TokensFile, unused_port: int
) -> None:
    away = settings.model_copy(
        update={"redis": f"redis://127.0.0.1:{unused_port}", "kafka": f"127.0.0.1:{unused_port}"}
    )
    async with running(create_app(away, Tokens(str(file.path))), file.tokens) as api:
        for path, problem in (
            ("/v1/segments", "redis_away"),
            ("/v1/accounts/a", "redis_away"),
            ("/v1/segments/engagement/hot/accounts", "redis_away"),
            ("/v1/changes", "not_reading"),
        ):
            answer = await api.get(path)
            assert (answer.status, answer.body["type"]) == (503, f"urn:isotherm:problem:{problem}")
            assert answer.headers["Retry-After"]
        status = await api.get("/v1/status", "operator")
        assert status.body["data"] == {"reading": False, "listeners": 0, "place": ""}


async def test_a_clock_that_stepped_is_said(api: Asked) -> None:
    api.app.state.api.clock._stepped = "by an hour"
    answer = await api.get("/v1/segments/engagement/hot/accounts")
    assert (answer.status, answer.body["type"]) == (503, "urn:isotherm:problem:clock_stepped")
    assert "set the clock" in answer.body["hint"]
