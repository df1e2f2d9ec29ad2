"""`isotherm decode`: what adapters make of a file of messages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streams.adapters import ADAPTERS, canonical
from streams.adapters.base import Claims, Observation, Rejected
from streams.adapters.times import instant
from streams.decoding import decode_lines, formats, plain

RECEIVED = instant("2026-03-05T00:00:00Z", "")
SAMPLES = json.loads((Path(__file__).parent / "adapters" / "samples.json").read_text())
RECORDS = {"activity", "facts", "contact", "delete", "restore", "merge", "erase"}
VIEW = {"event": "$pageview", "distinct_id": "u1", "properties": {"$current_url": "https://a.example/pricing"}}


def decode(*arguments: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "streams.cli", "decode", *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)


def printed(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_message_becomes_canonical_records(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(VIEW) + "\r\n\n")
    done = decode("--format", "posthog", path, "--received", "2026-03-05T00:00:00Z")
    assert done.returncode == 0
    assert printed(done) == [
        {
            "kind": "activity", "at": "2026-03-05T00:00:00.000Z", "user": "u1", "name": "page_viewed",
            "props": {"url": "https://a.example/pricing", "path": "/pricing", "search": ""},
            "source": "posthog",
        }
    ]  # fmt: skip


def test_a_refusal_has_its_line_and_the_others_are_printed() -> None:
    lines = b"\n".join([json.dumps(VIEW).encode(), b"", b"{broken", b"\xff", json.dumps(VIEW).encode()])
    done = decode("--format", "posthog", "-", given=lines)
    assert done.returncode == 1
    told = printed(done)
    assert [each.get("rejected") for each in told] == [None, "broken_json", "bad_utf8", None]
    assert [each.get("line") for each in told] == [None, 3, 4, None]
    assert done.stderr == b"2 message(s) or parts of one could not be used\n"


def test_an_empty_file_says_nothing() -> None:
    assert (decode("--format", "ga4", "-").returncode, decode("--format", "ga4", "-").stdout) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--format", "snowplwo", "-"), "there is no format 'snowplwo' (did you mean 'snowplow'?)"),
        (("--format", "posthog", "/nowhere.jsonl"), "cannot read /nowhere.jsonl: No such file or directory"),
        (("--format", "posthog", "/"), "cannot read /: Is a directory"),
        (("--format", "posthog"), "which file? - is standard input"),
        (("-",), "which format? Name it with --format; known: canonical,"),
        (("--format", "ga4", "-", "--received", "now"), "'now' is no instant"),
        (("-", "--fromat", "ga4"), "--format"),
    ],
)
def test_a_wrong_use_ends_with_a_sentence(arguments: tuple[str, ...], says: str) -> None:
    done = decode(*arguments)
    assert done.returncode == 2
    assert says in done.stderr.decode() + done.stdout.decode()
    assert b"Traceback" not in done.stderr


def test_the_formats_are_listed_with_a_line_on_each() -> None:
    done = decode("--list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.decode().splitlines()] == list(ADAPTERS)
    assert all(len(about) > 20 for about in formats().values())


def test_help_has_an_example() -> None:
    assert b"Example: isotherm decode --format" in decode("--help").stdout


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["id"])
def test_what_is_printed_says_the_same_when_it_is_read_again(sample: dict[str, Any]) -> None:
    """All but what has no record in our own format: links, and that something is stale."""
    line = json.dumps(sample["payload"]).encode()
    found = decode_lines([line], sample["format"], RECEIVED)
    told = [each for each in found if isinstance(each, Observation) and each.kind in RECORDS]
    for each in told:
        if each.claims != Claims():
            assert canonical.decode(json.dumps(plain(each)).encode(), 0) == [each]


def test_a_sources_file_says_what_fields_and_events_are_called(tmp_path: Path) -> None:
    sources, events = tmp_path / "sources.yaml", tmp_path / "events.jsonl"
    sources.write_text("names: {posthog: {Report made: report_exported}}\nignore: {all: [ping]}\n")
    named = [{"event": name, "distinct_id": "u1"} for name in ("Report made", "ping", "other")]
    events.write_text("\n".join(map(json.dumps, named)))
    done = decode("--format", "posthog", events, "--sources", sources)
    assert (done.returncode, [each["name"] for each in printed(done)]) == (0, ["report_exported", "other"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nmaes: {}\n", "sources.yaml:1: this describes no sources (it has one or more of: ranks, human,"),
        ("names: {}\nignroe: {}\n", "sources.yaml:2: unknown key 'ignroe' (did you mean 'ignore'?)"),
        ("names: [\n", "sources.yaml:2: not valid YAML"),
        (None, "sources.yaml: it cannot be read: No such file or directory"),
    ],
)
def test_a_bad_sources_file_ends_with_its_problems(tmp_path: Path, text: str | None, says: str) -> None:
    sources = tmp_path / "sources.yaml"
    if text is not None:
        sources.write_text(text)
    done = decode("--format", "posthog", "-", "--sources", sources)
    assert done.returncode == 1
    assert says in done.stderr.decode()
    assert b"1 problem(s); nothing was done" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_line_may_say_many_things() -> None:
    line = json.dumps({"batch": [VIEW, {}, VIEW]}).encode()
    first, refused, _ = decode_lines([line], "posthog", RECEIVED)
    assert isinstance(first, Observation)
    assert isinstance(refused, tuple)
    assert refused[0] == 1
    assert isinstance(refused[1], Rejected)
