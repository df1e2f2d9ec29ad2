"""What a worker answers over HTTP: /metrics, /healthz, /readyz. Nothing of it changes anything."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import structlog
from mode import Service
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from streams.answering import listening, server
from streams.metrics import Sample, families
from streams.observing.readiness import unready
from streams.observing.worker import Scrape, Watched
from streams.preflight import SettingsError
from streams.settings import HERE, Settings

log = structlog.get_logger()
TRIED = 16  # ports: as many workers of one machine find one each
FINISH_S = 1


class Gathered:
    """Metrics as prometheus_client collects them: gathered before, for that may wait and this may not."""

    def __init__(self, made: Iterable[Any]) -> None:
        self._made = list(made)

    def collect(self) -> Iterator[Any]:
        return iter(self._made)


def exposition(request: Request, samples: Iterable[Sample], histograms: Iterable[Any] = ()) -> Response:
    """In the format that the scraper asks for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Gathered([*families(samples), *histograms]))
    ProcessCollector(registry=registry)
    encode, kind = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), headers={"Content-Type": kind, "Cache-Control": "no-store"})


async def healthy(request: Request) -> Response:
    return PlainTextResponse("ok\n")


def readiness(problems: Sequence[str]) -> Response:
    """200, or 503 and why."""
    text = "".join(f"{each}\n" for each in problems) or "ok\n"
    return PlainTextResponse(text, 503 if problems else 200, {"Cache-Control": "no-store"})


def listener_of(settings: Settings) -> socket.socket | None:
    """The first port that is free, of so many from ISOTHERM_METRICS_PORT on: adding a worker to a machine needs no
    other step. None where nobody asked for metrics. Raises SettingsError."""
    host, first = settings.metrics_host, settings.metrics_port
    if not first:
        return None
    last = min(first + TRIED, 65_536) - 1
    for port in range(first, last + 1):
        try:
            return listening(host, port)
        except SettingsError as error:
            why = str(error)
            if "in use" not in why:
                break
    where = "" if "in use" not in why else f", nor on any other port up to {last}"
    raise SettingsError(f"{why}{where}: set ISOTHERM_METRICS_HOST and ISOTHERM_METRICS_PORT to what is free")


class Answering(Service):
    """Answers from before anything else of the worker starts until all of it has stopped."""

    def __init__(self, watched: Watched, listener: socket.socket, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._watched, self._listener, self._scrape = watched, listener, Scrape(watched)
        routes = [Route("/metrics", self._metrics), Route("/healthz", healthy), Route("/readyz", self._ready)]
        self._server = server(Starlette(routes=routes), has_lifespan=False, finish_s=FINISH_S)
        self._serving: asyncio.Task[None] | None = None

    async def on_start(self) -> None:
        host, port = self._listener.getsockname()[:2]
        log.info("answering /metrics, /healthz, /readyz", at=f"{host}:{port}")
        if self._watched.settings.metrics_host not in HERE:
            why = "whoever reaches it can read how many accounts there are and how they move"
            log.warning("in the clear", why=why, listening=host)
        self._serving = asyncio.create_task(self._server.serve([self._listener]))

    async def on_stop(self) -> None:
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving

    async def _metrics(self, request: Request) -> Response:
        return exposition(request, await self._scrape.samples(), self._scrape.histograms())

    async def _ready(self, request: Request) -> Response:
        return readiness([*unready(self._watched, asyncio.get_running_loop().time())])
