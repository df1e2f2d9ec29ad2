"""What `isotherm serve` tells of itself: its metrics to operators, whether it is well to anybody.

Probes hold no token, so /healthz and /readyz are answered before the door. They tell nothing that a refused
connection would not tell too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from streams.api.hub import Hub
from streams.clock import RedisClock
from streams.metrics import Sample
from streams.observing.serving import exposition, healthy, readiness
from streams.observing.worker import about, clock_offset
from streams.outage import AWAY
from streams.reading import Reader

READING = "it does not read segment.changes: Kafka is away"


class Probes:
    """/healthz and /readyz, and whatever is behind it. `problems` says why it is not ready."""

    def __init__(self, app: ASGIApp, problems: Callable[[], Sequence[str]]) -> None:
        self._app, self._problems = app, problems

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = self._app
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            match scope["path"]:
                case "/healthz":
                    answer = await healthy(Request(scope))
                case "/readyz":
                    answer = readiness(self._problems())
        await answer(scope, receive, send)


def unready(hub: Hub) -> list[str]:
    return [] if hub.is_reading else [READING]


async def metrics(request: Request, hub: Hub, clock: RedisClock, reader: Reader) -> Response:
    samples = [
        *about("serve"),
        Sample("isotherm_api_listeners", (), hub.listeners),
        Sample("isotherm_api_reading", (), hub.is_reading),
    ]
    try:
        await clock.keep()
        verified = await reader.verified()
    except AWAY:
        return exposition(request, samples)
    return exposition(request, [*samples, *clock_offset(clock), *(verified.samples() if verified else ())])
