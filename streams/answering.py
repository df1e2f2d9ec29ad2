"""An HTTP server of ours, until it is told to stop: what the collector and the API have in common."""

from __future__ import annotations

import asyncio
import logging.config
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from streams import logs
from streams.preflight import SettingsError, say_what_is_in_the_clear
from streams.settings import Settings

KEEP_ALIVE_S = 75  # longer than a proxy keeps its connections: it must be the one that closes them
BACKLOG = 2048


class Server(uvicorn.Server):
    """Signals are for `until_told`: uvicorn would raise them once more at the end, and we exit with 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any, *, has_lifespan: bool, finish_s: int) -> Server:
    """For an ASGI application; requests in flight have `finish_s` when it is told to exit."""
    return Server(
        uvicorn.Config(
            app,
            loop="none",
            http="httptools",
            lifespan="on" if has_lifespan else "off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=finish_s,
        )
    )


def set_up(settings: Settings, log_level: str) -> None:
    logs.set_up(log_level, settings.log)
    logging.config.dictConfig(logs.CONFIG)
    say_what_is_in_the_clear(settings)


def listening(host: str, port: int) -> socket.socket:
    """The listening socket; port 0 is any that is free. Raises SettingsError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    # Inherited by what is accepted: without it an answer waits 40 ms, unless uvloop sets it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def until_told(answer: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Runs `answer`, whose event SIGTERM or Ctrl-C sets, to its end."""
    factory = None
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await answer(stop)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run())
