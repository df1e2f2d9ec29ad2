"""Running the collector: an HTTP server until it is told to stop, then the requests in flight to their end."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from functools import partial

import structlog

from streams.answering import listening, server, set_up, until_told
from streams.collector.app import Collector, build
from streams.collector.body import Budget
from streams.collector.hubspot import Signature
from streams.collector.keys import read_keys
from streams.collector.limits import Limits
from streams.collector.sending import Sender
from streams.preflight import SettingsError
from streams.run import collect_seldom
from streams.settings import Settings

log = structlog.get_logger()
FINISH_S = 30  # for requests in flight when told to stop


def collect(settings: Settings, log_level: str = "INFO") -> None:
    """Runs until SIGTERM or Ctrl-C. Raises SettingsError, before anything runs, for what its user must mend."""
    set_up(settings, log_level)
    collector = made(settings)
    with listening(settings.collector_host, settings.collector_port) as listener:
        collect_seldom()
        until_told(partial(serve, collector, listener))


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


async def serve(collector: Collector, listener: socket.socket, stop: asyncio.Event) -> None:
    """Answers requests until `stop` is set, and those that have begun to their end. A sender's bug goes up."""
    answering = server(build(collector), has_lifespan=False, finish_s=FINISH_S)
    sending = asyncio.create_task(collector.sender.run())
    serving = asyncio.create_task(answering.serve([listener]))
    told = asyncio.create_task(stop.wait())
    log.info("collecting", at="{}:{}".format(*listener.getsockname()[:2]))
    await asyncio.wait({sending, serving, told}, return_when=asyncio.FIRST_COMPLETED)
    answering.should_exit = True
    await serving
    told.cancel()
    sending.cancel()
    with suppress(asyncio.CancelledError):
        await sending
    log.info("stopped collecting")


def _now() -> int:
    return time.time_ns() // 1_000_000
