"""Running the HTTP API until it is told to stop. Whoever listens is told then, and comes back elsewhere."""

from __future__ import annotations

import asyncio
import logging.config
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from fastapi import FastAPI

from streams import logs
from streams.api.app import create_app
from streams.api.rights import Tokens
from streams.collector.run import listening
from streams.preflight import SettingsError
from streams.run import say_what_is_in_the_clear
from streams.settings import HERE, Settings

log = structlog.get_logger()
FINISH_S = 10
KEEP_ALIVE_S = 75  # longer than a proxy keeps its connections: it must be the one that closes them
BACKLOG = 2048


def serve(settings: Settings, log_level: str = "INFO") -> None:
    """Runs until SIGTERM or Ctrl-C. Raises SettingsError, before anything runs, for what its user must mend."""
    logs.set_up(log_level)
    logging.config.dictConfig(logs.CONFIG)
    say_what_is_in_the_clear(settings)
    app = create_app(settings, tokens_of(settings))
    with listening(settings.api_host, settings.api_port) as listener:
        if settings.api_host not in HERE:
            why = "tokens can be read on the way: put a proxy with TLS in front, and listen on loopback"
            log.warning("in the clear", why=why, listening=settings.api_host)
        factory = None
        if sys.platform != "win32":
            import uvloop

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_until_told(app, listener))


def tokens_of(settings: Settings) -> Tokens:
    if not settings.api_tokens:
        hint = "isotherm serve --admit NAME --role reader makes one"
        raise SettingsError(f"nobody could ask anything: set ISOTHERM_API_TOKENS to a file of tokens; {hint}")
    return Tokens(settings.api_tokens)


async def answer(app: FastAPI, listener: socket.socket, stop: asyncio.Event) -> None:
    """Answers requests until `stop` is set."""
    server = _Server(
        uvicorn.Config(
            app,
            loop="none",
            http="httptools",
            lifespan="on",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=FINISH_S,
        )
    )
    serving = asyncio.create_task(server.serve([listener]))
    told = asyncio.create_task(stop.wait())
    log.info("answering", at="{}:{}".format(*listener.getsockname()[:2]))
    await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
    app.state.hub.close()
    server.should_exit = True
    await serving
    told.cancel()
    log.info("stopped answering")


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for `_until_told`: uvicorn would raise them once more at the end, and we exit with 0."""
        yield


async def _until_told(app: FastAPI, listener: socket.socket) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await answer(app, listener, stop)
