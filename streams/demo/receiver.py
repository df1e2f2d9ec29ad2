"""Where the demo's alerts arrive: a webhook on this machine that takes what Slack would take."""

from __future__ import annotations

import html
import json
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from streams.demo.ledger import Alert


class Receiver:
    """An HTTP server on the loopback; each alert's text is handed on once, as it was delivered.

    Without a PORT and a PATH it is on a free one, where nobody finds it by chance.
    """

    def __init__(self, arrived: Callable[[Alert], None], port: int = 0, path: str = "") -> None:
        self._arrived = arrived
        self._path = path or f"/services/{secrets.token_urlsafe(12)}"
        self._seen: set[str] = set()
        self._port = port
        app = web.Application()
        app.router.add_post(self._path, self._take)
        self._runner = web.AppRunner(app, access_log=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{self._path}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        try:
            text = str((await request.json())["text"])
        except (json.JSONDecodeError, KeyError, TypeError):
            return web.Response(status=400, text="invalid_payload")
        key = request.headers.get("Idempotency-Key", "")
        if not key or key not in self._seen:
            self._seen.add(key)
            self._arrived(Alert(html.unescape(text), key.partition("/")[0]))
        return web.Response(text="ok")
