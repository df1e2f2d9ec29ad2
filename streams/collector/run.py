"""Running the collector: an HTTP server until it is told to stop, then the requests in flight to their end."""

from __future__ import annotations

import asyncio
import logging.config
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
import uvicorn

from streams import logs
from streams.collector.app import Collector, build
from streams.collector.body import Budget
from streams.collector.hubspot import Signature
from streams.collector.keys import read_keys
from streams.collector.limits import Limits
from streams.collector.sending import Sender
from streams.preflight import SettingsError
from streams.run import collect_seldom, say_what_is_in_the_clear
from streams.settings import Settings

log = structlog.get_logger()
FINISH_S = 30  # for requests in flight when told to stop
KEEP_ALIVE_S = 75  # longer than a proxy keeps its connections: it must be the one that closes them
BACKLOG = 2048


def collect(settings: Settings, log_level: str = "INFO") -> None:
    """Runs until SIGTERM or Ctrl-C. Raises SettingsError, before anything runs, for what its user must mend."""
    logs.set_up(log_level)
    logging.config.dictConfig(logs.CONFIG)
    say_what_is_in_the_clear(settings)
    collector = made(settings)
    with listening(settings.collector_host, settings.collector_port) as listener:
        factory = None
        if sys.platform != "win32":
            import uvloop

            factory = uvloop.new_event_loop
        collect_seldom()
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_until_told(collector, listener))


def made(settings: Settings, limits: Limits | None = None) -> Collector:
    """The collector that `settings` describe."""
    call_keys, record_keys = settings.write_keys.get_secret_value(), settings.record_keys.get_secret_value()
    secret = settings.hubspot_client_secret.get_secret_value()
    if not (call_keys or record_keys or secret):
        raise SettingsError(
            "nobody could send anything: set ISOTHERM_WRITE_KEYS, ISOTHERM_RECORD_KEYS or "
            "ISOTHERM_HUBSPOT_CLIENT_SECRET"
        )
    limits = limits or Limits()
    return Collector(
        sender=Sender(settings, limits.deliver_s, _now),
        clock=_now,
        call_keys=read_keys("ISOTHERM_WRITE_KEYS", call_keys),
        record_keys=read_keys("ISOTHERM_RECORD_KEYS", record_keys),
        hubspot=Signature(secret.encode(), settings.collector_url.rstrip("/")) if secret else None,
        limits=limits,
        budget=Budget(limits.held),
        origins=tuple(filter(None, map(str.strip, settings.collector_origins.split(",")))),
    )


def listening(host: str, port: int) -> socket.socket:
    """The listening socket; port 0 is any that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    # Inherited by what is accepted: without it an answer waits 40 ms, unless uvloop sets it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def serve(collector: Collector, listener: socket.socket, stop: asyncio.Event) -> None:
    """Answers requests until `stop` is set, and those that have begun to their end. A sender's bug goes up."""
    server = _Server(
        uvicorn.Config(
            build(collector),
            loop="none",
            http="httptools",
            lifespan="off",
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
    sending = asyncio.create_task(collector.sender.run())
    serving = asyncio.create_task(server.serve([listener]))
    told = asyncio.create_task(stop.wait())
    log.info("collecting", at="{}:{}".format(*listener.getsockname()[:2]))
    await asyncio.wait({sending, serving, told}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving
    told.cancel()
    sending.cancel()
    with suppress(asyncio.CancelledError):
        await sending
    log.info("stopped collecting")


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for `_until_told`: uvicorn would raise them once more at the end, and we exit with 0."""
        yield


async def _until_told(collector: Collector, listener: socket.socket) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(collector, listener, stop)


def _now() -> int:
    return time.time_ns() // 1_000_000
