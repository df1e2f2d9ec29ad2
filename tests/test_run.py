"""How a worker's process ends."""

from __future__ import annotations

import subprocess
import sys

WITHIN_S = 60
LEFT_BEHIND = """
import threading
from streams import run
run.THREADS_END_S = 0.1
threading.Thread(target=threading.Event().wait, name="a library's").start()
run.leave({status!r})
"""
ALONE = "from streams import run; run.leave({status!r})"


def ended(program: str, status: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", program.format(status=status)],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_thread_that_is_left_running_does_not_keep_the_process() -> None:
    status, said = ended(LEFT_BEHIND, 0)
    assert status == 0
    assert "a thread was left" in said
    assert ended(LEFT_BEHIND, 3)[0] == 3


def test_a_process_ends_with_its_own_status() -> None:
    assert ended(ALONE, 0) == (0, "")
    assert ended(ALONE, 70) == (70, "")
    assert ended(ALONE, None) == (0, "")
