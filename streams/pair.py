"""A broker and a Valkey with nothing in them, to try things out on one machine: `python -m streams.pair`.

They run until Ctrl-C under `.isotherm/pair` of the current directory; a shell that sources `.isotherm/pair/env`
reaches them. The broker keeps everything in memory: whatever is tried is gone afterwards.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from streams.demo.run import settings_for
from streams.demo.worker import write_environment
from streams.embedded import Embedded, EmbeddedError

HOME = Path(".isotherm/pair")
ENDS = (signal.SIGINT, signal.SIGTERM)


def run() -> int:
    """Starts the pair, says how to reach it, and stops it when told to; gives the exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    environment = HOME / "env"
    try:
        with Embedded(HOME) as pair:
            write_environment(environment, settings_for(pair, "", ""))
            try:
                print(f"a broker and a Valkey run until Ctrl-C; in other shells: source {environment}", flush=True)
                signal.sigwait(ENDS)
            finally:
                environment.unlink(missing_ok=True)
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run())
