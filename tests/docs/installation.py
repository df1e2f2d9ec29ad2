"""An installation on this machine as the pages take it for granted, and a shell in it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from streams.commands.alerts import PATH
from streams.demo.run import settings_for
from streams.demo.worker import read_environment, write_environment
from streams.embedded import Embedded, free_port
from streams.settings import Settings
from streams.topics import CRM_UPDATES, WEB_ACTIVITY
from tests.conftest import running

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
WITHIN_S = 120
MOST_S = 600  # a module of tests
KILLED = 128 + signal.SIGKILL  # by `timeout`
BIN = Path(sys.executable).parent
GOES_ON = {
    "worker": '"event": "started"',
    "serve": "answering",
    "collect": "collecting",
}


@dataclass(frozen=True)
class Running:
    """What somebody has started in a shell and looks at."""

    process: subprocess.Popen[str]
    said: str  # at first

    def reads(self, wanted: str) -> str:
        """All that is printed until a line has `wanted` in it; the line is the last."""
        return _read(self.process, wanted)


def _read(process: subprocess.Popen[str], wanted: str) -> str:
    assert process.stdout is not None
    seen = ""
    while wanted not in seen:
        line = process.stdout.readline()
        assert line, f"it ended before it said {wanted!r}:\n{seen}"
        seen += line
    return seen


@dataclass(frozen=True)
class Installation:
    """Somebody with a shell in a directory that has the rules, beside a worker that folds."""

    home: Path
    settings: Settings
    env: dict[str, str]

    def runs(self, *lines: str) -> subprocess.CompletedProcess[str]:
        """A shell that ends at the first line that fails, and at last by itself."""
        command = ["timeout", str(WITHIN_S), "bash", "-eu", "-o", "pipefail", "-c", "\n".join(lines)]
        return subprocess.run(
            command,
            cwd=self.home,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def does(self, *lines: str) -> str:
        done = self.runs(*lines)
        assert done.returncode == 0, f"{done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def says(self, line: str, wanted: str) -> str:
        """The answer to a command, asked again until `wanted` is in it: a worker may be about to fold it."""
        return self.does(
            f"until {line} > answer 2>&1; grep -q {shlex.quote(wanted)} answer; do :; done; cat answer"
        )

    def waits_for(self, event: str, times: int = 1) -> None:
        """Until the worker has said so."""
        self.does(f"grep -m{times} {shlex.quote(event)} < <(tail --pid=$$ -n +1 -f worker.log)")

    def sends_rubbish(self, count: int) -> None:
        """Messages that nobody can use, to one partition of a source, as a field that was renamed would."""
        producer = Producer({"bootstrap.servers": self.settings.kafka})
        for n in range(count):
            producer.produce(CRM_UPDATES, f"rubbish {n}".encode(), partition=3)
        assert producer.flush(WITHIN_S) == 0

    @contextmanager
    def begins(self, *lines: str, until: str, ends: int = WITHIN_S) -> Iterator[Running]:
        """Something that goes on until it is told to end, once it has said `until`. Then it has to end."""
        command = ["timeout", "--kill-after=40", str(ends), "bash", "-eu", "-c", "\n".join(lines)]
        process = subprocess.Popen(
            command,
            cwd=self.home,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                yield Running(process, _read(process, until))
            finally:
                os.killpg(process.pid, signal.SIGTERM)
                process.communicate()
        assert process.returncode != KILLED, "it did not end when it was told to"


@contextmanager
def installed(home: Path, receiver: str) -> Iterator[Installation]:
    """The pair, the shipped rules in force, a worker, and some companies, one of them hot."""
    with ExitStack() as stack:
        pair = stack.enter_context(running(Embedded(home / ".isotherm" / "pair")))
        mine = _set_up(home, settings_for(pair, receiver + PATH, ""), receiver)
        mine.does(
            "isotherm topics",
            'isotherm deploy rules/segments --message "the rules shipped with Isotherm" --by ann',
        )
        stack.enter_context(
            mine.begins("echo begins; isotherm worker 2>> worker.log", until="begins", ends=MOST_S)
        )
        mine.waits_for('"event": "started"')
        for topic, messages in _story():
            (home / "story.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in messages))
            mine.does(f"isotherm send {topic} story.jsonl --format canonical")
        mine.says("isotherm explain blueharbor.example engagement", "engagement: hot")
        mine.says("isotherm explain salesforce:0015f00002JUZPDAA5 size", "size: mid_market")
        mine.says("isotherm explain blue.example engagement", "employees: 300")
        yield mine


def _set_up(home: Path, settings: Settings, receiver: str) -> Installation:
    shutil.copytree(ROOT / "rules" / "segments", home / "rules" / "segments")
    (home / "docs").symlink_to(ROOT / "docs")
    (home / "secrets").mkdir()
    (home / "worker.log").touch()
    to = f'{{url: "{receiver}/changes", secrets: ["env:WEBHOOK_SECRET"]}}'
    (home / "webhooks.yaml").write_text(
        f"allow: [127.0.0.0/8]\nendpoints:\n  - {{name: journeys, to: {to}, start: beginning}}\n"
    )
    given = {f"{name}_port": free_port() for name in ("metrics", "api", "collector")}
    given |= {"partitions": PARTITIONS, "webhooks": "webhooks.yaml"}
    settings = settings.model_copy(update=given)
    environment = home / ".isotherm" / "demo" / "env"
    environment.parent.mkdir()
    write_environment(environment, settings)
    others = {name: value for name, value in os.environ.items() if not name.startswith("ISOTHERM_")}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    secret = "whsec_" + "MDEy" * 8
    return Installation(
        home, settings, others | read_environment(environment) | {"PATH": path, "WEBHOOK_SECRET": secret}
    )


def _story() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Three companies: Blue Harbor looks at the prices, one is in the CRM, one came to two webinars long ago."""
    blue, acme = {"domain": "blueharbor.example"}, {"account": "salesforce:0015f00002JUZPDAA5"}
    past = {"domain": "blue.example"}
    yield (
        CRM_UPDATES,
        [
            {"kind": "facts", "at": _ago(0), "set": {"name": "Blue Harbor"}, **blue},
            {"kind": "facts", "at": _ago(0), "set": {"name": "Acme", "employees": 900}, **acme},
            {
                "kind": "facts",
                "at": _ago(90),
                "set": {"name": "Blue Harbor", "employees": 300},
                "source": "erp",
                **past,
            },
        ],
    )
    looks = {"kind": "activity", "name": "page_viewed", "at": _ago(0), "props": {"path": "/pricing"}, **blue}
    webinar = {"kind": "activity", "name": "webinar_attended", **past}
    yield WEB_ACTIVITY, [looks, looks, looks, webinar | {"at": _ago(80)}, webinar | {"at": _ago(40)}]


def _ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
