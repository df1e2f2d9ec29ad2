"""A Slack small enough to read: incoming webhooks and two methods of its API, with the limits that it keeps to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

TOKEN = "xoxb-a-token-of-the-tests"
CHANNELS = {"CQUEUE": "CQUEUE", "UANN": "D0ANN"}  # a message to a user goes to a channel of the two


def wrong(message: dict[str, Any]) -> str:
    """What Slack would say of it; empty: it takes it."""
    blocks = message.get("blocks") or []
    if not message.get("text") and not blocks:
        return "no_text"
    if len(blocks) > 50:
        return "invalid_blocks"
    for block in blocks:
        texts = [block["text"]["text"]] if block["type"] == "section" else [e["text"] for e in block["elements"]]
        if len(texts) > 10 or any(not 0 < len(text) <= 3_000 for text in texts):
            return "invalid_blocks"
    return ""


@dataclass
class Slack:
    """`messages` are as they are shown now, by (channel, ts)."""

    url: str = ""
    failing: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # answered first, in order
    hooked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # key and message, at the webhook
    messages: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def hook(self, request: web.Request) -> web.Response:
        if self.failing:
            status, headers = self.failing.pop(0)
            return web.Response(status=status, headers=headers)
        message = await request.json()
        if error := wrong(message):
            return web.Response(status=400, text=error)
        self.hooked.append((request.headers["Idempotency-Key"], message))
        self.arrived.set()
        return web.Response(text="ok")

    async def post(self, request: web.Request) -> web.Response:
        said = await self._called(request, "chat.postMessage")
        if isinstance(said, web.Response):
            return said
        channel = CHANNELS.get(said["channel"])
        if channel is None:
            return web.json_response({"ok": False, "error": "channel_not_found"})
        ts = f"1700000000.{len(self.messages):06}"
        self.messages[channel, ts] = said
        self.arrived.set()
        return web.json_response({"ok": True, "channel": channel, "ts": ts, "message": {}})

    async def update(self, request: web.Request) -> web.Response:
        said = await self._called(request, "chat.update")
        if isinstance(said, web.Response):
            return said
        place = said["channel"], said["ts"]
        if place not in self.messages:
            return web.json_response({"ok": False, "error": "message_not_found"})
        self.messages[place] = said
        return web.json_response({"ok": True, "channel": place[0], "ts": place[1]})

    async def _called(self, request: web.Request, method: str) -> dict[str, Any] | web.Response:
        self.calls.append(method)
        if self.failing:
            status, headers = self.failing.pop(0)
            return web.json_response({"ok": False, "error": "ratelimited"}, status=status, headers=headers)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"ok": False, "error": "invalid_auth"})
        said: dict[str, Any] = await request.json()
        if error := wrong(said):
            return web.json_response({"ok": False, "error": error})
        return said

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/hook", self.hook)
        app.router.add_post("/api/chat.postMessage", self.post)
        app.router.add_post("/api/chat.update", self.update)
        return app
