"""Everything that touches the world: Kafka, Redis, HTTP, the terminal. It imports `rules`, never the other way."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`streams.app` is the Faust application, built from the environment when it is asked for: importing
    this package reads no setting and opens nothing. `faust -A streams worker` asks for it."""
    if name != "app":
        raise AttributeError(name)
    from streams import logs
    from streams.application import build
    from streams.settings import Settings

    settings = Settings()
    logs.set_up(form=settings.log)
    globals()["app"] = built = build(settings)
    return built
