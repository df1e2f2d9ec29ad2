"""Log lines: JSON for programs, text for people, the same names everywhere, and nothing that must not be seen."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

import rules.fold
from rules.compiler import load
from rules.records import Activity, RulesetRecord, encode_record
from streams import logs
from streams.commands import SHIPPED
from streams.pipeline import Owned, fold_batch
from streams.store.memory import MemoryStore
from tests.security.test_canary import CANARY, CLI, canaries

NOW = 1_767_225_600_000
PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


@dataclass(frozen=True)
class Message:
    offset: int
    value: bytes


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def line(capsys: pytest.CaptureFixture[str], form: str = "auto") -> str:
    logs.set_up("INFO", form)
    structlog.contextvars.bind_contextvars(position="account.log/3/7")
    structlog.get_logger().warning("delivery given up", account="acme\x1b[2J\u202e", why="no answer")
    return capsys.readouterr().err


def test_lines_are_json_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    said = json.loads(line(capsys))
    assert (said["event"], said["level"], said["position"]) == ("delivery given up", "warning", "account.log/3/7")
    assert said["account"] == "acme\x1b[2J\u202e"


def test_lines_for_people_are_text_and_move_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    said = line(capsys, "console")
    assert "delivery given up" in said
    assert "position=account.log/3/7" in said
    assert r"account=acme\x1b[2J\u202e" in said
    assert "\x1b" not in said, "no colours where nobody looks"


@pytest.mark.parametrize(("form", "is_json"), [("auto", False), ("json", True), ("console", False)])
def test_a_terminal_gets_text_unless_told_otherwise(form: str, is_json: bool) -> None:
    """In a pseudo-terminal, as a person has it."""
    controller, terminal = pty.openpty()
    code = (
        f"from streams import logs; logs.set_up(form={form!r}); import structlog; structlog.get_logger().info('x')"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=terminal, check=True, timeout=60)
    os.close(terminal)
    said = os.read(controller, 10_000).decode()
    os.close(controller)
    assert done.returncode == 0
    assert said.startswith('{"') == is_json


def test_a_traceback_for_people_shows_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("INFO", "console")
    secret = CANARY
    try:
        raise ValueError(len(secret))
    except ValueError:
        structlog.get_logger().exception("bug in the fold")
    said = capsys.readouterr().err
    assert "ValueError: 14" in said
    assert CANARY not in said


def test_a_worker_for_people_shows_no_secret() -> None:
    for given, code in (
        ({"partitions": CANARY}, 2),
        ({"kafka_security": "PLAINTEXT"}, 2),
        ({"sources": "/no"}, 1),
    ):
        command = [sys.executable, *CLI, "worker", "--log-level", "DEBUG"]
        done = subprocess.run(
            command, env=canaries(log="console", **given), capture_output=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stderr.decode()
        assert CANARY not in (done.stdout + done.stderr).decode()


async def test_an_account_in_quarantine_is_named_with_its_position(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*_: object) -> None:
        raise ZeroDivisionError("a rule that divides")

    logs.set_up("INFO", "json")
    store = MemoryStore()
    rules_record = RulesetRecord(received=NOW, hash="", files=dict(load(SHIPPED).files))
    visit = Activity(account="acme", name="page_viewed", at=NOW, received=NOW)
    owned = Owned.from_store(await store.acquire(0), 1)
    owned = await fold_batch([Message(0, encode_record(rules_record))], owned, store)
    monkeypatch.setattr(rules.fold, "step", raises)
    await fold_batch([Message(1, encode_record(visit)), Message(2, encode_record(visit))], owned, store)
    said = json.loads(io.StringIO(capsys.readouterr().err).readline())
    assert said["event"] == "account in quarantine"
    assert (said["account"], said["position"]) == ("acme", "account.log/0/1")
    assert "ZeroDivisionError" in said["why"]
    shown = json.loads(re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[0])
    assert (shown.keys(), shown["event"], shown["do"]) == (said.keys(), said["event"], said["do"])
