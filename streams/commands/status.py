"""`isotherm status`: one screen for whoever is called at night."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from streams.terminal import NO, Json, out, print_json, read_or_exit, read_settings, run, sources_or_exit


def status(*, all: Annotated[bool, Parameter(negative="")] = False, json_: Json = False) -> None:
    """Tell what is stuck and where to begin, and how partitions, sources, endpoints and dead letters stand.

    From Redis and Kafka: no worker is asked. ALL lists every partition, also those that are well. Exit code 0:
    nothing is stuck; 1: something is, and the first lines say what; 3: Kafka or Redis cannot be reached.

    Example: isotherm status --json | jq -r .problems[]
    """
    from streams.delivery.endpoints import read
    from streams.observing.standing import standing
    from streams.observing.standing_shown import screen

    settings = read_settings()
    kinds = {each.name: each.kind for each in read_or_exit(read, settings.webhooks)}
    found = run(standing(settings, kinds, sources_or_exit(settings.sources).topics))
    if json_:
        print_json(found.plain())
    else:
        out.print(screen(found, whole=all))
    sys.exit(NO if found.problems() else 0)
