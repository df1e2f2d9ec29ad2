"""Every secret is a canary, and everything that can fail does: none of them is ever seen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiokafka.errors import AuthenticationFailedError
from aiokafka.protocol.admin import SaslAuthenticateRequest_v1
from pydantic import SecretStr

from streams.alerting.channels import Senders
from streams.connecting import Tokens, kafka_options
from streams.embedded import free_port
from streams.settings import Settings
from streams.sinks.base import Retry
from tests.alerting.world import World, rules
from tests.security.test_settings import SECRETS

CANARY = "canary9d1e7c04"
TIMEOUT_S = 60
# Given for a secret where a bare canary would be refused at once.
SHAPED = {
    "alert_url": f"http://127.0.0.1:1/{CANARY}",
    "write_keys": f"web:{CANARY}",
    "record_keys": f"erp:{CANARY}",
}


def canaries(**given: str) -> dict[str, str]:
    """An environment in which every secret is one, and nothing answers."""
    secrets = {name: SHAPED.get(name, CANARY) for name in SECRETS}
    nowhere = {
        "kafka": "localhost:1",
        "kafka_security": "SASL_PLAINTEXT",
        "kafka_sasl_mechanism": "PLAIN",
        "kafka_user": "worker",
        "redis": "redis://worker@127.0.0.1:1/0",
        "collector_port": str(free_port()),
    }
    named = {f"ISOTHERM_{name.upper()}": value for name, value in (secrets | nowhere | given).items() if value}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ISOTHERM_")}
    return kept | named | {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"}


IN_URL = {"redis": f"redis://worker:{CANARY}@127.0.0.1:1/0", "redis_password": ""}
CLI = ("-m", "streams.cli")
EVENTS = Path(__file__).parents[2] / "docs" / "example.jsonl"

ENDING: list[tuple[tuple[str, ...], dict[str, str], int]] = [
    ((*CLI, "--help"), {}, 0),
    ((*CLI, "worker", "--help"), {}, 0),
    ((*CLI, "explain", "acme"), {}, 3),
    ((*CLI, "explain", "acme"), IN_URL, 3),
    ((*CLI, "report"), IN_URL, 3),
    ((*CLI, "topics"), {}, 3),
    ((*CLI, "tail"), {}, 3),
    ((*CLI, "deploy"), {}, 3),
    ((*CLI, "import", str(EVENTS)), {}, 3),
    ((*CLI, "erase", "--email", "ann@example.com"), {}, 3),
    ((*CLI, "unmerge", "acme"), {}, 3),
    ((*CLI, "resume", "crm.updates/0"), IN_URL, 3),
    ((*CLI, "dead-letters", "list"), {}, 3),
    ((*CLI, "topics"), {"kafka_sasl_mechanism": "SCRAM-SHA-256"}, 3),
    ((*CLI, "topics"), {"kafka_security": "SASL_SSL"}, 3),
    ((*CLI, "topics"), {"kafka_sasl_mechanism": "OAUTHBEARER", "kafka_token_url": "http://localhost:1/token"}, 3),
    ((*CLI, "worker", "--log-level", "DEBUG"), {"partitions": CANARY}, 2),  # told with its name, not as it is
    ((*CLI, "worker", "--log-level", "DEBUG"), {"redis": f"redis://worker:{CANARY}@host:{CANARY}"}, 2),
    ((*CLI, "worker", "--log-level", "DEBUG"), {"kafka_security": "PLAINTEXT"}, 2),
    ((*CLI, "worker", "--log-level", "DEBUG"), {"sources": "/no/such/file"}, 1),
    ((*CLI, "collect", "--log-level", "DEBUG"), {"write_keys": CANARY}, 1),
    (("-m", "faust", "-A", "streams", "worker", "-l", "debug"), {"kafka_security": "PLAINTEXT"}, 1),
    (("-m", "faust", "-A", "streams", "worker", "-l", "debug", "--without-web"), {}, 1),
    (("-c", "from streams.settings import Settings as S; print(S(), repr(S())); raise KeyError(S())"), {}, 1),
]  # fmt: skip


@pytest.mark.parametrize(("command", "given", "code"), ENDING)
async def test_nothing_that_ends_shows_a_secret(
    command: tuple[str, ...], given: dict[str, str], code: int
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env=canaries(**given),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    assert process.returncode == code, told.decode()
    assert told
    assert CANARY not in told.decode()


GOING: list[tuple[tuple[str, ...], dict[str, str]]] = [
    ((*CLI, "worker", "--log-level", "DEBUG"), {}),
    ((*CLI, "worker", "--log-level", "DEBUG"), IN_URL),
    ((*CLI, "collect", "--log-level", "DEBUG"), {}),
]


@pytest.mark.parametrize(("command", "given"), GOING)
async def test_nothing_that_waits_shows_a_secret(command: tuple[str, ...], given: dict[str, str]) -> None:
    """A process that meets nobody at its start waits, and says so."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env=canaries(**given),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    told = b""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while b'"waiting"' not in told:
                line = await process.stdout.readline()
                assert line, told.decode()
                told += line
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            rest, _ = await asyncio.wait_for(process.communicate(), 10)
            told += rest
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    assert CANARY not in told.decode()


def test_the_network_is_told_of_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    from streams import logs
    from streams.run import say_what_is_in_the_clear

    logs.set_up("DEBUG")
    try:
        say_what_is_in_the_clear(Settings(redis=f"redis://worker:{CANARY}@redis.example.com/0"))
    finally:
        structlog.reset_defaults()
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "in the clear"
    assert CANARY not in line


# -- what libraries say --------------------------------------------------------------------------------------


def test_a_debugging_kafka_client_keeps_the_password_to_itself(caplog: pytest.LogCaptureFixture) -> None:
    kafka_options(
        Settings(
            kafka_security="SASL_PLAINTEXT",
            kafka_sasl_mechanism="PLAIN",
            kafka_user="worker",
            kafka_password=SecretStr(CANARY),
        )
    )
    log = logging.getLogger("aiokafka.conn")
    with caplog.at_level(logging.DEBUG, logger="aiokafka.conn"):
        request = SaslAuthenticateRequest_v1(b"\0worker\0" + CANARY.encode())
        assert CANARY in repr(request)
        log.debug("Request to %s:%d %d: %s", "localhost", 1, 2, request)
        log.debug("Request to %s:%d %d: %s", "localhost", 1, 3, "another")
    assert "another" in caplog.text
    assert CANARY not in caplog.text


class Answering:
    """A server that answers every request with some bytes, whatever was asked."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        await writer.drain()
        writer.close()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()


@pytest.mark.parametrize(
    "answer",
    [b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"],
    ids=["nothing", "garbage", "404"],
)
async def test_an_alert_that_fails_shows_no_url(answer: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever has the URL of the webhook can post there."""
    world = World(rules(base="channels: {default: {slack: {}}}\ntell: {otherwise: {channel: default}}\n"))
    world.heats()
    async with Answering(answer) as url:
        senders = Senders(world.rules, f"{url}/services/{CANARY}")
        outcome = await senders.send(world.told[0].parcel)
        await senders.close()
    assert isinstance(outcome, Retry)
    assert CANARY not in f"{outcome}{capsys.readouterr()}"


# -- tokens --------------------------------------------------------------------------------------------------


def oauth(**given: str) -> Settings:
    return Settings(kafka_security="SASL_SSL", kafka_sasl_mechanism="OAUTHBEARER", **given)


async def test_a_token_is_read_from_its_file_each_time(tmp_path: Path) -> None:
    tokens = Tokens(oauth(kafka_token_file=str(tmp_path / "token")))
    with pytest.raises(AuthenticationFailedError, match="FileNotFoundError"):
        await tokens.token()
    for token in ("first", "second"):
        (tmp_path / "token").write_text(f"{token}\n")
        assert await tokens.token() == token
    (tmp_path / "token").write_text("\n")
    with pytest.raises(AuthenticationFailedError, match="is empty"):
        await tokens.token()


async def issuing(seconds: int, seen: list[dict[str, Any]]) -> tuple[web.AppRunner, str]:
    """An endpoint that gives tokens for client id and secret, numbered."""

    async def give(request: web.Request) -> web.Response:
        seen.append(dict(await request.post()) | {"who": request.headers["Authorization"]})
        return web.json_response({"access_token": f"token {len(seen)}", "expires_in": seconds})

    application = web.Application()
    application.router.add_post("/token", give)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/token"


async def test_a_token_is_asked_for_once_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr("streams.connecting.time.monotonic", lambda: now)
    seen: list[dict[str, Any]] = []
    runner, url = await issuing(300, seen)
    client = {"kafka_user": "a worker", "kafka_password": CANARY, "kafka_token_scope": "kafka"}
    tokens = Tokens(oauth(kafka_token_url=url, **client))
    assert [await tokens.token() for _ in range(3)] == ["token 1"] * 3
    assert seen[0]["grant_type"] == "client_credentials"
    assert seen[0]["scope"] == "kafka"
    assert seen[0]["who"] == f"Basic {b64encode(b'a+worker:' + CANARY.encode()).decode()}"
    now += 239
    assert await tokens.token() == "token 1"
    now += 2  # a minute is left of it
    assert await tokens.token() == "token 2"
    await runner.cleanup()


JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "answers 401"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://localhost:1\r\ncontent-length: 0\r\n\r\n", "answers 302"),
        (JSON % (2, b"{}"), "without an access_token"),
        (JSON % (2, b"[]"), "without an access_token"),
        (JSON % (7, b"<html/>"), "JSONDecodeError"),
        (b"", "ServerDisconnectedError"),
    ],
)
async def test_an_endpoint_that_gives_no_token_is_named(answer: bytes, said: str) -> None:
    async with Answering(answer) as url:
        tokens = Tokens(oauth(kafka_token_url=f"{url}/token", kafka_user="worker", kafka_password=CANARY))
        with pytest.raises(AuthenticationFailedError, match=f"ISOTHERM_KAFKA_TOKEN_URL.*{said}") as refused:
            await tokens.token()
    assert CANARY not in str(refused.value)


# -- where processes listen ----------------------------------------------------------------------------------


def listening(pid: int) -> set[str]:
    """The addresses, in Linux' hexadecimal, on which a process waits for TCP connections."""
    sockets = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                found.add(words[1].partition(":")[0])
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("command", "said", "addresses"),
    [
        (("collect",), b'"collecting"', {"0100007F"}),  # 127.0.0.1, the bytes reversed
        (("worker",), b'"waiting"', set()),
    ],
)
async def test_processes_listen_on_loopback_or_not_at_all(
    command: tuple[str, ...], said: bytes, addresses: set[str], tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *CLI,
        *command,
        env=canaries(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while said not in (line := await process.stdout.readline()):
                assert line
        assert listening(process.pid) == addresses
    finally:
        process.kill()
        await process.communicate()
