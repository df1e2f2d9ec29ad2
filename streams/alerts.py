"""Sales is told: a Slack-shaped message for each account that turns hot, once per change.

`alert_for` is pure: a change event in, a message or nothing out. `Sender` posts it and remembers in Redis that it
did; a crash between the two posts again, with the same `Idempotency-Key`. Changes older than a day are no news.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import aiohttp
import msgspec
import structlog

from streams import keys

log = structlog.get_logger()
DIMENSION, HOT = "engagement", "hot"
REMEMBERED_S = 30 * 24 * 3600
ATTEMPTS, FIRST_PAUSE_S, TIMEOUT_S = 6, 0.5, 10.0
NEWS_MS = 24 * 3600 * 1000
RETRIED = {408, 425, 429, *range(500, 600)}

_decode = msgspec.json.Decoder().decode


def alert_for(event: dict[str, Any]) -> dict[str, Any] | None:
    """The message for a live move into hot (a first live state that is hot included), else None."""
    data = event.get("data", {})
    if data.get("origin") != "live":
        return None
    if event.get("type") == "segment.moved" and data.get("dimension") == DIMENSION and data.get("to") == HOT:
        return _message(event, data.get("from") or "no segment", data["stays_until"], data["reason"])
    if event.get("type") == "account.state":
        state = data.get("memberships", {}).get(DIMENSION, {})
        if state.get("answer") == HOT:
            return _message(event, "first seen", state.get("stays_until"), data["reason"].get(DIMENSION, {}))
    return None


def _message(event: dict[str, Any], before: str, until: str | None, reason: dict[str, Any]) -> dict[str, Any]:
    data = event["data"]
    who = data.get("name") or data["account"]
    why = reason.get("text", "").partition(";")[0]
    until_words = f"hot until {until[:16].replace('T', ' ')} UTC" if until else "hot until something changes"
    text = f"{who} is hot ({before} → {HOT}): {why}; {until_words}"
    fields = [f"*{who}* turned *{HOT}* (was {before})", f"Why: {why}", f"Stays {until_words}"]
    if do := data.get("action", {}).get("do"):
        fields.append(f"Do: {do}")
    section = {"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(map(_escape, fields))}}
    context = {"type": "context", "elements": [{"type": "mrkdwn", "text": f"`{data['account']}` · {event['id']}"}]}
    return {"text": _escape(text), "blocks": [section, context]}


def _escape(text: str) -> str:
    """Slack reads &, < and > as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Sender:
    """Posts alerts to one URL. `sent` gives how many went out."""

    def __init__(self, url: str, redis: Any, namespace: str, now: Callable[[], int]) -> None:
        self._url, self._redis, self._namespace, self._now = url, redis, namespace, now
        self._session: aiohttp.ClientSession | None = None
        self.sent = 0

    async def consider(self, value: bytes | None) -> None:
        """Alerts if `value` is a change that sales wants to know of. Never raises for what it is given."""
        try:
            event = _decode(value or b"")
            message = alert_for(event) if self._is_news(event) else None
        except (msgspec.MsgspecError, KeyError, AttributeError, TypeError, ValueError) as error:
            log.warning("not a change event", why=str(error))
            return
        if message is not None:
            await self._once(event["id"], message)

    def _is_news(self, event: dict[str, Any]) -> bool:
        """Whoever sets an alert URL a month later does not want a month of alerts."""
        decided = datetime.fromisoformat(event["data"]["decided"])
        return self._now() - decided.timestamp() * 1000 <= NEWS_MS

    async def _once(self, id: str, message: dict[str, Any]) -> None:
        key = keys.alerted(id, self._namespace)
        if await self._redis.exists(key):
            return
        if await self._deliver(id, message):
            await self._redis.set(key, b"1", ex=REMEMBERED_S)
            self.sent += 1

    async def _deliver(self, id: str, message: dict[str, Any]) -> bool:
        pause = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            why = await self._post(id, message)
            if why is None:
                return True
            if attempt == ATTEMPTS or why.startswith("refused"):
                break
            await asyncio.sleep(pause)
            pause *= 2
        log.error("alert given up", change=id, why=why)
        return False

    async def _post(self, id: str, message: dict[str, Any]) -> str | None:
        """None when it arrived, else why not; `refused …` when trying again is of no use."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        headers = {"Idempotency-Key": id}
        try:
            async with self._session.post(
                self._url, json=message, headers=headers, allow_redirects=False
            ) as reply:
                if reply.status < 300:
                    return None
                return f"status {reply.status}" if reply.status in RETRIED else f"refused: status {reply.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__  # what it says may hold the URL, and who has that can post

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
