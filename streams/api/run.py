"""Running the HTTP API and its page until told to stop. Whoever listens is told then, and comes back elsewhere."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

import structlog
from fastapi import FastAPI

from streams.answering import listening, server, set_up, until_told
from streams.api.rights import Tokens
from streams.page.app import create
from streams.page.sessions import Sessions
from streams.preflight import SettingsError
from streams.settings import HERE, Settings

log = structlog.get_logger()
FINISH_S = 10  # for requests in flight when told to stop


def serve(settings: Settings, log_level: str = "INFO") -> None:
    """Runs until SIGTERM or Ctrl-C. Raises SettingsError, before anything runs, for what its user must mend."""
    set_up(settings, log_level)
    tokens = tokens_of(settings)
    app = create(settings, tokens, Sessions(tokens))
    with listening(settings.api_host, settings.api_port) as listener:
        if settings.api_host not in HERE:
            why = "tokens can be read on the way: put a proxy with TLS in front, and listen on loopback"
            log.warning("in the clear", why=why, listening=settings.api_host)
        until_told(partial(answer, app, listener))


def tokens_of(settings: Settings) -> Tokens:
    if not settings.api_tokens:
        hint = "isotherm serve --admit NAME --role reader makes one"
        raise SettingsError(f"nobody could ask anything: set ISOTHERM_API_TOKENS to a file of tokens; {hint}")
    return Tokens(settings.api_tokens)


async def answer(app: FastAPI, listener: socket.socket, stop: asyncio.Event) -> None:
    """Answers requests until `stop` is set."""
    answering = server(app, has_lifespan=True, finish_s=FINISH_S)
    serving = asyncio.create_task(answering.serve([listener]))
    told = asyncio.create_task(stop.wait())
    log.info("answering", at="{}:{}".format(*listener.getsockname()[:2]))
    await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
    app.state.hub.close()
    answering.should_exit = True
    await serving
    told.cancel()
    log.info("stopped answering")
