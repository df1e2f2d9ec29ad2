"""Running a worker process: the Faust application on uvloop, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from typing import NoReturn

import faust
import structlog

from streams import logs
from streams.application import build
from streams.preflight import preflight, say_what_is_in_the_clear
from streams.settings import Settings

log = structlog.get_logger()
THREADS_END_S = 5.0


def work(settings: Settings, log_level: str = "INFO") -> None:
    """Runs until SIGTERM or Ctrl-C. Exits non-zero when a service crashed.

    Raises SettingsError or TopicsError, before anything runs, for what its user must mend.
    """
    logs.set_up(log_level, settings.log)
    say_what_is_in_the_clear(settings)
    asyncio.run(preflight(settings))
    if sys.platform != "win32":
        import uvloop

        asyncio.set_event_loop(uvloop.new_event_loop())
    app = build(settings)
    collect_seldom()
    loop = asyncio.get_event_loop_policy().get_event_loop()
    worker = faust.Worker(app, loop=loop, loglevel="WARN", redirect_stdouts=False, quiet=True)
    worker.spinner = None  # it moves the cursor in log files too, in the middle of lines
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        leave(ended.code)


def leave(status: str | int | None) -> NoReturn:
    """Ends the process, also where a thread of a library does not: Faust reads in a thread of its own, and was
    seen to leave it running, for which Python would wait for ever."""
    for each in threading.enumerate():
        if each is not threading.current_thread() and not each.daemon:
            each.join(THREADS_END_S)
            if each.is_alive():
                log.info("a thread was left", thread=each.name)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status if isinstance(status, int) else int(status is not None))
    sys.exit(status)


def collect_seldom() -> None:
    """Tells the garbage collector that what is here stays, and that what comes mostly goes by itself.

    A batch's records and states hold no cycles, and looking for some among them is no use. `tests/bench/ours.py`
    with and without `--collect` compares.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
