"""`isotherm status` tells whoever is called at night what is stuck, whether a worker answers or not."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from rich.console import Console

from rules.fold import Partition
from rules.records import RulesetRecord, encode_record
from streams import topics
from streams.observing.pace import Pace
from streams.observing.signing import SILENT_MS, Signature
from streams.observing.standing import LogPartition, SourcePartition, Standing, ranges, still
from streams.observing.standing_shown import duration, screen
from streams.observing.verified import Verified
from streams.settings import Settings
from tests.live.conftest import Changes, isotherm, working
from tests.live.test_end_to_end import page
from tests.observing.conftest import TIMEOUT_S, Watching

NOW = 1_767_225_600_000
MINUTE = 60_000


def told(settings: Settings) -> tuple[int, Any]:
    done = isotherm(settings, "status", "--json")
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


async def until(settings: Settings, code: int, wanted: Callable[[Any], Any] = lambda said: True) -> Any:
    """What it says, once it ends with that code and says what is wanted."""
    said = None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                found, said = await asyncio.to_thread(told, settings)
                if found == code and wanted(said):
                    return said
    except TimeoutError:
        pytest.fail(f"it goes on saying {said}")


@pytest.mark.kafka
async def test_from_well_to_stopped_to_nobody(
    settings: Settings, there: None, watching: Watching, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    code, said = told(settings)
    assert code == 1
    assert said["problems"] == ["nobody folds account.log/0-1: does a worker of the role fold run?"]
    with working(settings, tmp_path / "log") as worker:
        assert isotherm(settings, "deploy").returncode == 0
        web, now = settings.topics(topics.WEB_ACTIVITY), int(time.time() * 1000)
        await producer.send_and_wait(web, page(1, now))
        await producer.send_and_wait(web, b"{broken")
        await watching.until(
            lambda found: found.value("isotherm_dead_letters_total", stage="router", reason="broken_json")
        )
        said = await until(settings, 0)
        assert said["problems"] == []
        assert {each["state"] for each in said["partitions"]} <= {"well", "behind"}
        assert len({each["owner"] for each in said["partitions"]}) == 1
        assert {each["ruleset"] for each in said["partitions"]} != {None}
        assert said["dead_letters"] == [{"stage": "router", "reason": "broken_json", "open": 1}]
        assert {each["lag"] for each in said["sources"]} == {0}

        await until(settings, 0, lambda said: said["workers"][0]["seconds"])
        await producer.send_and_wait(web, page(2, now))
        said = await until(settings, 0, lambda said: said["workers"][0]["batches"])
        (one,) = said["workers"]
        assert one["worker"] == said["partitions"][0]["owner"]
        assert one["partitions"] == [0, 1]
        assert one["records"] >= one["batches"]
        assert 0 < one["commit_p50_ms"] <= one["commit_p99_ms"]

        assert isotherm(settings, "verify", "--account", "group:acme").returncode == 0
        assert (await until(settings, 0))["verified"] is None, "of one account that somebody named"
        assert isotherm(settings, "verify", "--all").returncode == 0
        said = await until(settings, 0)
        assert said["verified"]["accounts"] >= 1
        assert said["verified"]["over"] == said["verified"]["under"] == 0

        bad = RulesetRecord(received=now, hash="bad", files={"bad.yaml": "dimension: d\n"})
        await producer.send_and_wait(settings.topics(topics.ACCOUNT_LOG), encode_record(bad), partition=1)
        said = await until(settings, 1)
        (problem,) = said["problems"]
        assert problem.startswith("account.log/1 stopped: cannot load a ruleset record")
        assert said["partitions"][1]["state"] == "stopped: rules"
        assert said["partitions"][0]["state"] in ("well", "behind")
        shown = isotherm(settings, "status")
        assert shown.returncode == 1
        assert "account.log/1 stopped" in shown.stdout
        assert "dead letters: 1 broken_json (router)" in shown.stdout
        assert "last verified" in shown.stdout
        assert worker.stop() == 0


@pytest.mark.kafka
async def test_who_folds_is_seen_with_its_first_change(
    settings: Settings, there: None, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    with working(settings, tmp_path / "log") as worker:
        assert isotherm(settings, "deploy").returncode == 0
        await producer.send_and_wait(settings.topics(topics.WEB_ACTIVITY), page(1, int(time.time() * 1000)))
        await Changes(settings).until(lambda event: event["type"] == "account.state")
        _, said = told(settings)
        assert None not in {each["owner"] for each in said["partitions"]}
        assert worker.stop() == 0


@pytest.mark.kafka
async def test_without_topics_or_servers_it_says_so(settings: Settings) -> None:
    done = isotherm(settings, "status")
    assert done.returncode == 1
    assert "isotherm topics" in done.stderr
    await topics.create(settings)
    done = isotherm(settings.model_copy(update={"redis": "redis://127.0.0.1:1/0"}), "status")
    assert done.returncode == 3
    assert "cannot reach Redis" in done.stderr
    assert "Traceback" not in done.stderr


# -- what is stuck and what is not ---------------------------------------------------------------------------


def partition(number: int = 0, offset: int = 10, end: int = 10, **given: Any) -> LogPartition:
    signed = given.pop("signed", Signature("here:1", NOW))
    first, its = given.pop("first", 0), given.pop("its", Partition(number, offset=offset, log_time=NOW))
    return LogPartition(its, "token", first, end, signed, **given)


def at(*log: LogPartition, sources: tuple[SourcePartition, ...] = ()) -> Standing:
    return Standing(NOW, log, sources)


WAITS = partition(offset=10, end=30, next_at=NOW - 2 * MINUTE)
DUE = partition(wake=NOW - 3 * MINUTE)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (WAITS, WAITS, "account.log/0 stands at 10: 20 records wait, for 120 s"),
        (WAITS, partition(offset=11, end=30, next_at=NOW - 2 * MINUTE), ""),
        (partition(end=30, next_at=NOW - 10), partition(end=30, next_at=NOW - 10), ""),
        (DUE, DUE, "account.log/0 stands at 10: a change by time is due, for 180 s"),
        (replace(WAITS, signed=None), replace(WAITS, signed=None), ""),
        (replace(WAITS, signed=Signature("here:1", NOW, "bug", "a bug")), WAITS, "20 records"),
    ],
    ids=["stands", "catches up", "is new", "a change is due", "nobody's", "stopped before"],
)
def test_what_does_not_move_is_stuck(before: LogPartition, now: LogPartition, said: str) -> None:
    found = [*still(at(before), at(now))]
    assert len(found) == bool(said)
    assert said in "".join(found)


@pytest.mark.parametrize(
    ("found", "state", "problem"),
    [
        (partition(), "well", ""),
        (WAITS, "behind", ""),
        (partition(offset=10, end=90, first=50), "gap", "offsets 10 to 49 are not in the log any more"),
        (partition(offset=10, end=3), "another log", "ends at 3, and 10 records"),
        (partition(signed=None), "nobody", "nobody folds account.log/0"),
        (partition(signed=Signature("here:1", NOW - SILENT_MS - 1)), "nobody", "nobody folds account.log/0"),
        (partition(signed=Signature("h", NOW, "bug", "KeyError: 'a'")), "stopped: bug", "stopped: KeyError: 'a'"),
        (partition(its=Partition(0, offset=10, sweep="a", swept=40), accounts=1000), "sweeping 40/1,000", ""),
    ],
)
def test_a_partition_has_a_state_and_a_sentence(found: LogPartition, state: str, problem: str) -> None:
    assert found.state(NOW) == state
    assert problem in "".join(at(found).problems())
    assert bool(at(found).problems()) == bool(problem)


def test_a_source_that_nobody_routes_is_stuck_and_a_paused_one_says_why() -> None:
    waits = SourcePartition("crm.updates", 2, 10, 15)
    assert [*still(at(sources=(waits,)), at(sources=(waits,)))] == [
        "nothing is routed from crm.updates/2: does a worker of the role router run?"
    ]
    assert [*still(at(sources=(waits,)), at(sources=(replace(waits, next=11),)))] == []
    paused = replace(waits, paused="100 in a row")
    assert [*still(at(sources=(paused,)), at(sources=(paused,)))] == []
    (problem,) = at(sources=(paused,)).problems()
    assert problem == "crm.updates/2 is paused: 100 in a row; once it is mended: isotherm resume crm.updates/2"


@pytest.mark.parametrize("state", ["failing", "disabled"])
def test_an_endpoint_that_takes_nothing_is_a_problem(state: str) -> None:
    endpoint = {"endpoint": "crm", "state": state, "failing_since": "2026-01-01T00:00:00.000Z"}
    (problem,) = replace(at(), endpoints=[endpoint]).problems()
    assert "crm" in problem
    assert "isotherm deliveries" in problem


def text(found: Standing, **given: bool) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(screen(found, **given))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_workers_are_told_with_what_they_did_lately() -> None:
    pace = Pace(60, 12_345, 67, 4.5, 88.0)
    log = [partition(n, signed=Signature("a:1", NOW - 100 * n, pace=None if n else pace)) for n in range(3)]
    log += [partition(3, signed=Signature("b:2", NOW)), partition(4, signed=Signature("c:3", 0, pace=pace))]
    first, second = at(*log).workers()
    assert first == {
        "worker": "a:1", "partitions": [0, 1, 2], "seconds": 60, "records": 12_345, "batches": 67,
        "commit_p50_ms": 4.5, "commit_p99_ms": 88.0,
    }  # fmt: skip
    assert (second["worker"], second["records"]) == ("b:2", None)
    shown = text(at(*log))
    assert re.search(r"a:1 +3 +12,345 +67 +4.5 ms +88.0 ms +60 s", shown)
    assert not re.search(r"b:2 +1 ", shown), "it has not said"


def test_what_verify_found_is_told() -> None:
    assert "never verified" in text(at(partition()))
    well = Verified(NOW, 1_000, 0, 0, 0, 0, 0)
    assert "1,000 accounts: as the log says" in text(replace(at(), verified=well))
    shown = text(replace(at(), verified=Verified(NOW, 25, 2, 1, 0, 0, 0)))
    assert "2 stand in a segment in which they should not be, 1 are missing from one" in shown


def test_many_partitions_fit_one_screen() -> None:
    log = [partition(number) for number in range(64)]
    log[7] = partition(7, offset=10, end=30, next_at=NOW - 3 * MINUTE)
    short = text(at(*log))
    assert "63 of 64 partitions are well: 0-6,8-63" in short
    assert "3 min" in short
    assert len(short.splitlines()) < 20
    assert len(text(at(*log), whole=True).splitlines()) > 64


def test_nothing_of_others_moves_the_cursor() -> None:
    evil = partition(signed=Signature("\x1b[2J", NOW, "bug", "\x1b]0;owned\x07"))
    assert "\x1b" not in text(at(evil))


def test_ranges_and_durations_are_short() -> None:
    assert [ranges([]), ranges([3]), ranges([5, 1, 2, 3, 7])] == ["", "3", "1-3,5,7"]
    assert [duration(each) for each in (0, 42, 119, 180, 7_300, 172_800)] == [
        "0",
        "42 s",
        "119 s",
        "3 min",
        "2 h",
        "2 d",
    ]
