"""Tells a page that something changed; the page then reads again what it shows. What changed is not in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.types import Receive, Scope, Send

from streams.api.hub import Hub, Listener
from streams.api.problems import not_now
from streams.subscribe import Filter

APART_S = 0.2  # between two words to one page, however much changes
CHANGED = ServerSentEvent("something changed", event="changed", sep="\n").encode()
ALIVE = ServerSentEvent(comment="alive", sep="\n").encode()


class Live(EventSourceResponse):
    """Until the page is closed, the process ends, or who looks at it is not welcome any more. Raises Refused."""

    def __init__(self, hub: Hub, filter: Filter, is_welcome: Callable[[], bool]) -> None:
        if hub.listeners >= hub.pace.listeners:
            raise not_now("too_many_listeners", f"{hub.listeners} listen already")
        self._hub, self._is_welcome = hub, is_welcome
        self._listener = hub.join(filter)
        hub.listeners += 1
        super().__init__(self._words(self._listener), ping=0, send_timeout=hub.pace.send_s, sep="\n")

    async def _words(self, listener: Listener) -> AsyncIterator[bytes]:
        yield ALIVE
        while self._is_welcome():
            chunk = await listener.next(self._hub.pace.heartbeat_s)
            if listener.ended:
                return
            yield CHANGED if b"data: " in chunk else ALIVE
            await asyncio.sleep(APART_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            return
        finally:
            self._hub.leave(self._listener)
            self._hub.listeners -= 1
