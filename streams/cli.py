"""The command line. Exit codes: 0 done; 1 the answer is no (problems found, account not known);
2 the command was used wrongly; 3 Kafka or Redis cannot be reached."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from cyclopts import App

from streams.commands import authoring, data, letters, looking, running, upkeep

app = App(
    name="isotherm",
    help="An event-driven, streaming segmenter for B2B accounts.",
    version_flags=["--version"],
)
NAMED: dict[str, Callable[..., Any]] = {"test": authoring.rehearse, "import": data.import_}
PLAIN: tuple[Callable[..., Any], ...] = (
    *(authoring.check, authoring.replay, authoring.deploy),
    *(data.decode, data.send),
    *(running.topics, running.worker, running.collect, running.demo),
    *(looking.explain, looking.report, looking.tail),
    *(upkeep.verify, upkeep.rebuild, upkeep.snapshot, upkeep.resume, upkeep.release),
    *(upkeep.erase, upkeep.unmerge),
)
GROUPS = (letters.app,)

for name, command in NAMED.items():
    app.command(command, name=name)
for command in PLAIN:
    app.command(command)
for group in GROUPS:
    app.command(group)


def main() -> None:
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
