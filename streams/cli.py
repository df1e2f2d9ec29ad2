"""The command line. Exit codes: 0 done; 1 the answer is no (problems found, account not known);
2 the command was used wrongly; 3 Kafka or Redis cannot be reached; 4 `plan --exit-code`: somebody would move."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from cyclopts import App

from streams.commands import (
    alerts,
    authoring,
    contract,
    data,
    deliveries,
    deployments,
    history,
    letters,
    looking,
    override,
    plan,
    running,
    serve,
    shadow,
    status,
    upkeep,
)

app = App(
    name="isotherm",
    help="An event-driven, streaming segmenter for B2B accounts.",
    version_flags=["--version"],
)
NAMED: dict[str, Callable[..., Any]] = {"test": authoring.rehearse, "import": data.import_}
PLAIN: tuple[Callable[..., Any], ...] = (
    *(authoring.check, authoring.replay, plan.plan),
    *(deployments.deploy, deployments.backfill, deployments.deployments, deployments.rollback),
    *(data.decode, data.send),
    *(running.topics, running.worker, running.collect, serve.serve, running.demo),
    *(status.status, looking.explain, history.members, looking.report, looking.tail, contract.contract),
    *(upkeep.verify, upkeep.rebuild, upkeep.snapshot, upkeep.resume, upkeep.release),
    *(upkeep.erase, upkeep.unmerge),
)
GROUPS = (letters.app, deliveries.app, alerts.app, override.app, shadow.app)

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
