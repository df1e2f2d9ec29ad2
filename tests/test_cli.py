"""The offline commands, as a person or a program runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

DAY = 86_400_000
EVENTS = [
    {"kind": "facts", "account": "acme", "at": "2026-03-02T09:00:00Z", "set": {"name": "Acme", "employees": 250}},
    {"kind": "activity", "account": "acme", "name": "page_viewed", "at": "2026-03-02T10:00:00Z"},
    {"kind": "activity", "account": "acme", "name": "page_viewed", "at": "2026-03-03T10:00:00Z"},
    {"kind": "activity", "account": "acme", "name": "page_viewed", "at": "2026-03-04T10:00:00Z"},
]
for each in EVENTS[1:]:
    each["props"] = {"path": "/pricing"}


def isotherm(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "streams.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(map(json.dumps, EVENTS)))
    return path


def test_replay_tells_the_story_and_the_same_each_time(events: Path) -> None:
    first = isotherm("replay", events, "--until", "2026-04-01T00:00:00Z")
    again = isotherm("replay", events, "--until", "2026-04-01T00:00:00Z")
    assert first.returncode == 0
    assert first.stdout == again.stdout
    changes = [json.loads(line) for line in first.stdout.splitlines()]
    engagement = [c for c in changes if c["data"].get("dimension") == "engagement"]
    assert [(c["data"]["to"], c["time"], c["data"]["cause"]) for c in engagement] == [
        ("warm", "2026-03-02T10:00:00.000Z", "data"),
        ("hot", "2026-03-04T10:00:00.000Z", "data"),
        ("warm", "2026-03-09T10:00:00.000Z", "time"),
        ("cold", "2026-03-18T10:00:00.000Z", "time"),
    ]
    hot = engagement[1]["data"]
    assert hot["stays_until"] == "2026-03-09T10:00:00.000Z"
    assert hot["reason"]["text"] == "3 pricing page views in 7 days (needs 3)"


def test_replay_stops_at_the_last_record_without_until(events: Path) -> None:
    changes = [json.loads(line) for line in isotherm("replay", events).stdout.splitlines()]
    assert {change["data"]["cause"] for change in changes} == {"data"}


def test_replay_names_each_bad_line_and_uses_the_others(events: Path) -> None:
    events.write_text("{broken\n" + events.read_text() + '\n{"kind": "facts", "account": "a"}\n')
    done = isotherm("replay", events)
    assert done.returncode == 1
    assert b"events.jsonl:1: broken_json" in done.stderr
    assert b"events.jsonl:6: missing_field" in done.stderr
    assert b"Traceback" not in done.stderr
    about = [json.loads(line)["data"].get("dimension", "all") for line in done.stdout.splitlines()]
    assert sorted(about) == ["all", "engagement", "engagement", "priority"]


def test_check_passes_the_shipped_rules() -> None:
    assert isotherm("check", "--strict").returncode == 0
    told = json.loads(isotherm("check", "--json").stdout)
    assert "engagement" in told["dimensions"]
    assert told["warnings"] == []


def test_check_warns_of_what_loads_and_is_not_meant(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "facts:\n  employees: {type: number, sources: [salesfource]}\n"
        "  phone: {type: text, description: who answers}\n"
        "---\ndimension: size\nsegments:\n  - {segment: small, action: call, when: {fact: employees, above: 1}}\n"
        "  - {segment: big, action: visit, when: {fact: employees, above: 9}}\n"
    )
    done = isotherm("check", tmp_path)
    assert done.returncode == 0
    assert b"1 dimension (size), no problems" in done.stdout
    assert done.stderr.decode().splitlines() == [
        "warning: a.yaml:2: no source is called 'salesfource' (did you mean 'salesforce'?)",
        "warning: a.yaml:3: no source can supply 'phone' "
        "(it is named like something private or is spelt as no source's field can be)",
        "warning: a.yaml:8: 'big' is never reached (whoever it fits is 'small' already)",
    ]
    assert isotherm("check", tmp_path, "--strict").returncode == 1
    told = json.loads(isotherm("check", tmp_path, "--json").stdout)
    assert [each["line"] for each in told["warnings"]] == [2, 3, 8]


def test_check_lists_the_first_hundred_problems(tmp_path: Path) -> None:
    broken = "dimension: d\nsegments:\n" + "".join(f"  - {{segment: s{i}, wen: 1}}\n" for i in range(300))
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(broken)
    done = isotherm("check", tmp_path)
    assert done.returncode == 1
    assert b"a.yaml:3: unknown key 'wen' (did you mean 'when'?)" in done.stderr
    assert len(done.stderr.splitlines()) < 110
    assert b"Traceback" not in done.stderr


def test_test_runs_the_tests_beside_the_rules(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "facts: {employees: {type: number}}\n---\ndimension: size\nsegments:\n"
        "  - {segment: big, action: visit, when: {fact: employees, above: 9}}\n"
    )
    (tmp_path / "a_test.yaml").write_text(
        "test: ten are many\ntimeline:\n  - {facts: {employees: 10}, expect: {size: big}}\n"
    )
    done = isotherm("test", tmp_path)
    assert (done.returncode, done.stdout) == (0, b"1 test in 1 file, all passed\n")


def test_check_names_every_mistake_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "facts:\n  employees: {type: number}\n---\ndimension: size\nsegments:\n"
        "  - {segment: big, when: {fact: employes, at_least: 2}}\n"
        "  - {segment: small, when: {fact: employees, at_least: two}}\n"
    )
    done = isotherm("check", tmp_path)
    assert done.returncode == 1
    assert b"a.yaml:6: unknown fact 'employes' (did you mean 'employees'?)" in done.stderr
    assert b"a.yaml:7" in done.stderr
    told = json.loads(isotherm("check", tmp_path, "--json").stdout)
    assert {(each["file"], each["line"]) for each in told} >= {("a.yaml", 6), ("a.yaml", 7)}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("check", "/nowhere"), 1, b"no such directory"),
        (("replay", "/nowhere.jsonl"), 2, b"no file"),
        (("replay", "/dev/null", "--until", "tomorrow"), 2, b"2026-04-01T00:00:00Z"),
        (("nonsense",), 2, b"nonsense"),
    ],
)
def test_a_wrong_use_ends_with_a_sentence(arguments: tuple[str, ...], code: int, says: bytes) -> None:
    done = isotherm(*arguments)
    assert done.returncode == code
    assert says in done.stderr + done.stdout
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "check",
        "test",
        "replay",
        "decode",
        "deploy",
        "topics",
        "worker",
        "explain",
        "report",
        "tail",
        "demo",
        "import",
        "collect",
        "resume",
        "erase",
    ],
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = isotherm(command, "--help")
    assert done.returncode == 0
    assert b"Example" in done.stdout


def test_an_absent_broker_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOTHERM_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("ISOTHERM_REDIS", "redis://127.0.0.1:1/0")
    for command in (("explain", "acme"), ("topics",)):
        done = isotherm(*command)
        assert done.returncode == 3
        assert b"cannot reach" in done.stderr
        assert b"Traceback" not in done.stderr


def test_a_worker_with_a_bad_sources_file_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text("topics:\n  product.usage: canonic\nnmaes: {}\n")
    monkeypatch.setenv("ISOTHERM_SOURCES", str(path))
    monkeypatch.setenv("ISOTHERM_PERSON_KEY", "a secret")
    done = isotherm("worker", "--role", "router")
    assert done.returncode == 1
    assert f"{path}:3: unknown key 'nmaes' (did you mean 'names'?)" in done.stderr.decode()
    assert b"Traceback" not in done.stderr
