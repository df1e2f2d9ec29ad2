"""What runs: topics, workers, the collector, the demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from streams.terminal import (
    NO,
    Json,
    fail,
    out,
    print_json,
    read_settings,
    run,
    sources_or_exit,
)


def topics(*, json_: Json = False) -> None:
    """Create the topics that are missing, then check that all are as they must be.

    Example: ISOTHERM_KAFKA=localhost:9092 ISOTHERM_PARTITIONS=64 isotherm topics
    """
    from streams import topics as names

    settings = read_settings()

    read = sources_or_exit(settings.sources).topics

    async def create() -> list[str]:
        made = await names.create(settings, read)
        await names.check(settings, read)
        return made

    created = run(create())
    if json_:
        print_json({"created": created})
    else:
        out.print(f"created {', '.join(created)}" if created else "all topics are there")


def worker(*, role: Literal["router", "fold", "deliver", "all"] | None = None, log_level: str = "INFO") -> None:
    """Run a worker: one process a core; add workers and the partitions spread over them.

    Example: isotherm worker --role fold
    """
    from streams.preflight import SettingsError
    from streams.run import work
    from streams.topics import TopicsError

    try:
        work(read_settings(role=role) if role else read_settings(), log_level)
    except (SettingsError, TopicsError) as error:
        fail(str(error), NO)


def collect(*, host: str | None = None, port: int | None = None, log_level: str = "INFO") -> None:
    """Take Segment calls, HubSpot's webhooks and canonical records over HTTP and write them to Kafka.

    HOST and PORT come before ISOTHERM_COLLECTOR_HOST and ISOTHERM_COLLECTOR_PORT. On SIGTERM the requests in
    flight are answered first.

    Example: ISOTHERM_WRITE_KEYS=website:a-key-of-your-own isotherm collect --port 8088
    """
    from streams.collector.run import collect as take_in
    from streams.preflight import SettingsError

    given = {"collector_host": host, "collector_port": port}
    settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    try:
        take_in(settings, log_level)
    except SettingsError as error:
        fail(str(error), NO)


def demo(*, seconds: int = 0, companies: int = 500, rate: float = 20.0, sources: Path | None = None) -> None:
    """Watch fictional accounts turn hot and cool down: broker, Valkey, worker and traffic on this machine.

    Stops after SECONDS if that is given, else on Ctrl-C. SOURCES is a sources file of your own for its router.

    Example: isotherm demo --seconds 30
    """
    from streams.demo.run import run_demo

    read = ""
    if sources:
        sources_or_exit(sources)
        read = str(sources.resolve())
    sys.exit(run_demo(seconds=seconds, companies=companies, rate=rate, sources=read))
