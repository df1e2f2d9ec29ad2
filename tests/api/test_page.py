"""The page of the API says what is so: each of its commands is run, and each path, role and word of it exists."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from streams.api import hub, listening, members, problems
from streams.api.hub import Pace
from streams.api.rights import ROLES
from streams.subscribe import RECALLED
from tests.api.conftest import TIMEOUT_S, Asked
from tests.subscribing.world import World

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text()
CURLS = re.findall(r"^curl .*$", PAGE, re.MULTILINE)


async def run(command: str, api: Asked, id: str, seconds: int) -> str:
    """What the command prints, given so long; curl goes on listening for ever."""
    known = "salesforce:1"
    given = {"TOKEN": api.tokens["reader"], "OPERATOR": api.tokens["operator"], "API": api.url, "ID": id}
    command = command.replace("salesforce:0015f00002JUZPDAA5", known).replace("curl ", f"curl -sS -m {seconds} ")
    process = await asyncio.create_subprocess_shell(
        command, env=os.environ | given, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    assert process.returncode in (0, 28), err.decode()
    return out.decode()


async def test_each_command_of_the_page_is_answered(world: World, api: Asked) -> None:
    await world.goes_on(60)
    async with api.listens() as stream:
        await world.publish()
        await stream.hears(1)
    asked = set()
    for command in CURLS:
        is_stream = "/v1/changes" in command
        told = await run(command, api, stream.id, 2 if is_stream else TIMEOUT_S)
        if is_stream:
            assert "\nid: " in told
        elif "/metrics" in command:
            assert "isotherm_api_reading 1.0" in told
        else:
            assert json.loads(told).keys() & {"data", "openapi"}, told
        asked.add(re.sub(r"\?.*", "", command.partition("$API")[2].strip('"')))
    for route in api.app.routes:
        assert any(route.path_regex.match(path) for path in asked), f"no curl for {route.path}"
        assert f"`{route.path_format}`" in PAGE


@pytest.mark.parametrize("role", ROLES)
def test_every_role_is_on_the_page(role: str) -> None:
    assert f"| `{role}` |" in PAGE


def test_every_problem_is_on_the_page() -> None:
    sources = [path.read_text() for path in (ROOT / "streams" / "api").glob("*.py")]
    named = {
        name
        for text in sources
        for name in re.findall(r'(?:Refused\(\s*\d+, |not_now\(|_unauthorized\()"(\w+)"', text)
    } | set(problems._NAMES.values())
    assert len(named) > 15
    assert [name for name in sorted(named) if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize("reason", [hub.CLOSING, hub.SLOW, hub.LOST, listening.TOKEN_GONE])
def test_every_reason_for_an_end_is_on_the_page(reason: str) -> None:
    assert f"| `{reason}` |" in PAGE


@pytest.mark.parametrize(
    "said",
    [
        f"within {RECALLED} messages",
        f"every {Pace().heartbeat_s:.0f} s while",
        f"the newest {Pace().recent:,} changes ({Pace().recent_bytes >> 20} MB)",
        f"more than {Pace().waiting_bytes >> 20} MB were waiting",
        f"At most {Pace().listeners:,} may listen",
        f"more than {members.SORTED_AT_MOST:,} accounts",
    ],
)
def test_the_numbers_are_those_of_the_code(said: str) -> None:
    assert said in PAGE
