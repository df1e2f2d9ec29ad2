"""The page of the demo: `isotherm serve` in this process, on loopback, with a link that signs in once."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import TextIO

import structlog

from streams.answering import listening
from streams.api.rights import Tokens, new_token
from streams.api.run import answer
from streams.page.app import create
from streams.page.sessions import Sessions
from streams.preflight import SettingsError
from streams.settings import HERE, Settings

ENDED_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Page:
    """Where the page is, and who may look."""

    address: str
    sessions: Sessions
    tokens: Tokens

    def link(self) -> str:
        """An address that signs in, once. The key stands behind the `#`, which no browser sends along."""
        (token,) = self.tokens.holders()
        return f"{self.address}/sign-in#key={self.sessions.invite(token)}"

    def open(self) -> None:
        """In the browser of whoever sits at this machine; a browser in the terminal would be in the way."""
        if sys.stdout.isatty() and (sys.platform == "darwin" or os.environ.get("DISPLAY")):
            webbrowser.open(self.link())


@asynccontextmanager
async def showing(settings: Settings, home: Path) -> AsyncIterator[Page]:
    """Serves the page until the end. What it has to say goes into a file: the terminal is the demo's."""
    tokens = Tokens(str(_write_tokens(home / "tokens.yaml")))
    sessions = Sessions(tokens)
    listener, stop = _listening(settings.api_port), asyncio.Event()
    with (home / "page.log").open("w") as log, listener:
        handler = _log_into(log)
        serving = asyncio.create_task(answer(create(settings, tokens, sessions), listener, stop))
        try:
            yield Page("http://{}:{}".format(*listener.getsockname()[:2]), sessions, tokens)
        finally:
            stop.set()
            await asyncio.wait({serving}, timeout=ENDED_WITHIN_S)
            structlog.reset_defaults()
            logging.getLogger("uvicorn").removeHandler(handler)
            (home / "tokens.yaml").unlink(missing_ok=True)


def _listening(port: int) -> socket:
    """On the usual port, or any that is free."""
    try:
        return listening(HERE[1], port)
    except SettingsError:
        return listening(HERE[1], 0)


def _write_tokens(path: Path) -> Path:
    """A token that nobody is told: who may look is whoever has the link."""
    _, digest = new_token()
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f'- {{name: "demo", sha256: "{digest}", role: operator}}\n')
    return path


def _log_into(file: TextIO) -> logging.Handler:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file),
    )
    handler = logging.StreamHandler(file)
    logging.getLogger("uvicorn").addHandler(handler)
    return handler
