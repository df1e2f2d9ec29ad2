"""The recipes: each file compiles, and what needs no foreign library is run."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.sinks.conftest import SECRET, Serve
from tests.sinks.events import WHY, Account

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.py"))
PAGE = (ROOT / "docs" / "recipes.md").read_text()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda each: each.stem)
def test_a_recipe_compiles_and_is_on_the_page(recipe: Path) -> None:
    compile(recipe.read_text(), str(recipe), "exec")
    assert f"`{recipe.name}`" in PAGE


def test_the_page_names_no_file_that_is_not_there() -> None:
    assert set(re.findall(r"`(\w+\.py)`", PAGE)) == {each.name for each in RECIPES}


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "recipes" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.PAUSE_S = 0.0  # type: ignore[attr-defined]  # of those that pause
    return module


# -- Braze ------------------------------------------------------------------------------------------------------


@dataclass
class Braze:
    """`/users/track`, 75 attribute objects: https://www.braze.com/docs/api/endpoints/user_data/post_user_track"""

    people: dict[str, dict[str, Any]]
    busy: int = 0  # so many requests are answered 429
    requests: list[int] = field(default_factory=list)

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/users/track", self.track)
        return application

    async def track(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {SECRET}":
            return web.json_response({"message": "Invalid API Key"}, status=401)
        if self.busy:
            self.busy -= 1
            return web.json_response({"message": "too many"}, status=429, headers={"Retry-After": "0"})
        attributes = (await request.json())["attributes"]
        if len(attributes) > 75:
            return web.json_response({"message": "at most 75"}, status=400)
        self.requests.append(len(attributes))
        for each in attributes:
            if each["_update_existing_only"] is not True or each["external_id"] in self.people:
                self.people.setdefault(each["external_id"], {}).update(each)
        return web.json_response({"message": "success"}, status=201)


async def test_a_change_reaches_everybody_at_the_account_in_braze(serve: Serve) -> None:
    recipe = _module("braze_fan_out")
    known = [f"p{n}" for n in range(160)]
    fake = Braze({each: {} for each in known}, busy=2)

    async def contacts(account: str) -> list[str]:
        assert account == "hubspot:7"
        return [*known, "nobody knows me"]

    acme = Account("hubspot:7")
    async with aiohttp.ClientSession() as session:
        braze = recipe.Braze(session, await serve(fake.application()), SECRET)
        for _ in range(2):
            await recipe.fan_out(acme.moved("hot").event, contacts, braze)
        assert fake.requests == [75, 75, 11] * 2
        assert {each["account_engagement"] for each in fake.people.values()} == {"hot"}
        assert fake.people.keys() == set(known)
        await recipe.fan_out(acme.merged(into="hubspot:8").event, contacts, braze)
        await recipe.fan_out(acme.moved("warm", dimension="value").event, contacts, braze)
        assert len(fake.requests) == 6
        await recipe.fan_out(acme.moved(None, was="hot").event, contacts, braze)
    assert {each["account_engagement_reason"] for each in fake.people.values()} == {None}


# -- Airflow ----------------------------------------------------------------------------------------------------


@dataclass
class Airflow:
    """`POST /api/v2/dags/DAG/dagRuns`: a run's id is unique in its DAG; the second time it is 409."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: int = 0
    failing: int = 0
    taken: asyncio.Event = field(default_factory=asyncio.Event)

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/api/v2/dags/isotherm_hot_account/dagRuns", self.trigger)
        return application

    async def trigger(self, request: web.Request) -> web.Response:
        self.asked += 1
        told = await request.json()
        if told["dag_run_id"] in self.runs:
            return web.json_response({"detail": "already exists"}, status=409)
        self.runs[told["dag_run_id"]] = told["conf"]
        if self.failing:  # it was stored, and the answer was lost
            self.failing -= 1
            return web.Response(status=502)
        return web.json_response({"dag_run_id": told["dag_run_id"]})


async def test_a_hot_account_is_one_run_in_airflow_however_often_it_is_asked_for(serve: Serve) -> None:
    recipe = _module("airflow_bridge")
    fake = Airflow(failing=1)
    url = await serve(fake.application())
    hot = Account("hubspot:7").moved("hot", was="warm")
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            await recipe.begin_run(session, url, hot.id, recipe.conf_of(hot.event))
    assert fake.asked == 3
    (run,) = fake.runs.items()
    assert run[0] == f"isotherm.{hot.id}"
    assert (run[1]["account"], run[1]["reason"]) == ("hubspot:7", WHY)


ACME = Account("hubspot:7")
CHANGES = [
    (ACME.moved("hot", was="warm"), True),
    (ACME.state({"engagement": "hot", "size": None}), True),
    (ACME.moved("warm", was="hot"), False),
    (ACME.moved("hot", dimension="priority"), False),
    (ACME.entered("hot", ["hot"], dimension="engagement"), False),
    (ACME.state({"engagement": None}), False),
    (ACME.deleted(), False),
]


@pytest.mark.parametrize(("change", "fires"), CHANGES)
def test_both_ways_into_airflow_want_the_same_changes(change: Any, fires: bool) -> None:
    now = _now_decided(change.raw)
    assert (_module("airflow_bridge").conf_of(change.event) is not None) == fires
    assert (_module("airflow_isotherm").turned_hot(now) is not None) == fires


def test_the_trigger_fires_on_news_only() -> None:
    turned_hot = _module("airflow_isotherm").turned_hot
    assert turned_hot(Message(ACME.moved("hot").raw)) is None  # of March
    assert turned_hot(_now_decided(ACME.moved("hot", origin="rebuild").raw)) is None
    assert turned_hot(Message(None)) is None


@dataclass
class Message:
    """What confluent-kafka gives."""

    content: bytes | None

    def value(self) -> bytes | None:
        return self.content


def _now_decided(raw: bytes) -> Message:
    event = json.loads(raw)
    event["data"]["decided"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Message(json.dumps(event).encode())
