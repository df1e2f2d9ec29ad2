"""`isotherm serve` as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import aiohttp
import pytest

from streams.embedded import free_port
from streams.settings import Settings
from tests.api.conftest import TIMEOUT_S, Asked, TokensFile
from tests.live.conftest import environment
from tests.subscribing.world import World

SERVE = "import cyclopts; from streams.commands.serve import serve; cyclopts.App(default_command=serve)()"


async def test_it_ends_with_0_and_tells_who_listens(
    world: World, settings: Settings, file: TokensFile, tmp_path: Path
) -> None:
    port = free_port()
    given = settings.model_copy(update={"api_port": port, "api_tokens": str(file.path)})
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", SERVE], env=environment(given), stdout=log, stderr=log)
    try:
        async with aiohttp.ClientSession() as session:
            api = Asked(None, f"http://127.0.0.1:{port}", session, file.tokens, asyncio.Event())
            await _reading(api)
            async with api.listens() as stream:
                await world.goes_on(20)
                await world.publish()
                await stream.hears(1)
                process.send_signal(signal.SIGTERM)
                assert await stream.closed() == "closing"
            assert await asyncio.to_thread(process.wait, TIMEOUT_S) == 0
    finally:
        process.kill()
        process.wait()
    said = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    assert [each["event"] for each in said if each["level"] in ("warning", "error")] == []
    assert not any(token in (tmp_path / "log").read_text() for token in file.tokens.values())


async def _reading(api: Asked) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                answer: Any = await api.get("/v1/status", "operator")
                if answer.body["data"]["reading"]:
                    return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "ISOTHERM_API_TOKENS"),
        ({"ISOTHERM_API_TOKENS": "/nowhere/tokens.yaml"}, "cannot read /nowhere/tokens.yaml"),
        ({"ISOTHERM_API_HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
    ],
)
def test_what_its_user_must_mend_is_a_sentence(file: TokensFile, given: dict[str, str], told: str) -> None:
    known = {"ISOTHERM_API_TOKENS": str(file.path)} if "ISOTHERM_API_HOST" in given else {}
    done = subprocess.run(
        [sys.executable, "-c", SERVE], env=os.environ | known | given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_listening_for_others_without_tls_is_warned_of(file: TokensFile, tmp_path: Path) -> None:
    given = {"ISOTHERM_API_TOKENS": str(file.path), "ISOTHERM_API_HOST": "0.0.0.0", "ISOTHERM_API_PORT": "0"}
    given |= {"ISOTHERM_KAFKA": "127.0.0.1:1", "ISOTHERM_REDIS": "redis://127.0.0.1:1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE], env=os.environ | given, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines = list(_until(process.stderr, "answering"))
    process.terminate()
    process.stderr.read()
    process.stderr.close()
    assert process.wait(TIMEOUT_S) == 0
    assert any("put a proxy with TLS in front" in line for line in lines)


def _until(lines: IO[str], word: str) -> Iterator[str]:
    for line in lines:
        yield line
        if word in line:
            return
