"""The collector's HTTP endpoints. `ENDPOINTS` names all of them; the OpenAPI document is made of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from streams.collector.body import Budget, Share, read_body, require_type
from streams.collector.calls import PATHS, Calls, read_batch, read_call
from streams.collector.hubspot import Signature, read_notifications
from streams.collector.keys import Keys
from streams.collector.limits import Limits
from streams.collector.openapi import document
from streams.collector.records import read_records
from streams.collector.refused import Refused
from streams.collector.sending import Sender
from streams.store.base import Outbound

JSON, TEXT, LINES = "application/json", "text/plain", "application/x-ndjson"
OVERHEAD = 400  # bytes that a message takes beyond its part of the body, about
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Collector:
    """Everything that a request needs."""

    sender: Sender
    clock: Callable[[], int]  # UTC ms
    call_keys: Keys
    record_keys: Keys
    hubspot: Signature | None
    limits: Limits
    budget: Budget
    origins: tuple[str, ...] = ("*",)  # whose pages may post calls

    async def calls(self, kind: str, request: Request) -> Response:
        """A call, or a batch of them. Answers 200, as Segment does: some of its libraries take nothing else."""
        limits, authorization = self.limits, request.headers.get("authorization")
        named = None if authorization is None else self.call_keys.sender(authorization)
        # Browsers send JSON as plain text: anything else would make them ask for permission first.
        require_type(request, JSON, TEXT)
        batch = kind == "batch"
        with self.budget.share() as share:
            body = await self._body(request, share, limits.batch if batch else limits.call)
            read = read_batch(body, limits) if batch else read_call(body, kind, limits)
            sender = named or self.call_keys.sender(None, read.write_key)
            return await self._accepted_calls(read, sender, share)

    async def _accepted_calls(self, read: Calls, sender: str, share: Share) -> Response:
        await self._deliver(read.messages(sender, self.clock()), share)
        return _json({"success": True, "accepted": len(read.calls)})

    async def records(self, request: Request) -> Response:
        """Canonical records: one, an array, or one a line."""
        sender = self.record_keys.sender(request.headers.get("authorization"))
        lines = require_type(request, JSON, LINES) == LINES
        with self.budget.share() as share:
            body = await self._body(request, share, self.limits.records)
            messages = read_records(body, lines, sender, self.clock(), self.limits)
            await self._deliver(messages, share)
        return _json({"accepted": len(messages)}, 202)

    async def notifications(self, request: Request) -> Response:
        """What HubSpot posts."""
        if self.hubspot is None:
            hint = "set ISOTHERM_HUBSPOT_CLIENT_SECRET and start the collector again"
            raise Refused(404, "not_configured", "this collector knows no HubSpot app", hint)
        require_type(request, JSON)
        with self.budget.share() as share:
            body = await self._body(request, share, self.limits.notifications)
            self._require_signature(self.hubspot, request, body)
            messages, count = read_notifications(body)
            await self._deliver(messages, share)
        return _json({"accepted": count}, 202)

    def _require_signature(self, hubspot: Signature, request: Request, body: bytes) -> None:
        signature = request.headers.get("x-hubspot-signature-v3", "")
        timestamp = request.headers.get("x-hubspot-request-timestamp", "")
        hubspot.require(request.method, _url(hubspot, request), body, signature, timestamp, self.clock())

    async def _body(self, request: Request, share: Share, limit: int) -> bytes:
        return await read_body(request, share, limit, self.limits.read_s)

    async def _deliver(self, messages: list[Outbound], share: Share) -> None:
        share.take(OVERHEAD * len(messages))
        await self.sender.deliver(messages)

    async def alive(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Whether a request would be accepted now."""
        away = self.sender.away
        return _json({"status": "waiting for Kafka", "why": away}, 503) if away else _json({"status": "ok"})

    async def openapi(self, request: Request) -> Response:
        return _json(document(self.limits))


def build(collector: Collector) -> Starlette:
    """The application. Only calls are for browsers."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=collector.origins,
        allow_methods=["POST"],
        allow_headers=["Authorization", "Content-Type", "Content-Encoding"],
        expose_headers=["Retry-After"],
        max_age=3600,
    )
    routes = [
        Route(
            f"/v1/{path}",
            _endpoint(partial(collector.calls, kind)),
            methods=["POST", "OPTIONS"],
            middleware=[cors],
        )
        for kind, letter in PATHS.items()
        for path in (kind, letter)
    ]
    routes += [
        Route("/v1/events", collector.records, methods=["POST"]),
        Route("/v1/hubspot", collector.notifications, methods=["POST"]),
        Route("/healthz", collector.alive),
        Route("/readyz", collector.ready),
        Route("/openapi.json", collector.openapi),
    ]
    handlers: Any = {
        Refused: _refused,
        HTTPException: _not_here,
        ClientDisconnect: _nobody_reads,
        Exception: _bug,
    }
    return Starlette(routes=routes, exception_handlers=handlers)


def _endpoint(accept: Endpoint) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        if request.method == "OPTIONS":  # not a browser's, which the middleware answers
            return Response(status_code=204, headers={"Allow": "POST, OPTIONS"})
        return await accept(request)

    return endpoint


def _url(hubspot: Signature, request: Request) -> str:
    """The URL that HubSpot posted to, as it stood in the request: not decoded, not normalised."""
    path = request.scope.get("raw_path", b"").decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    base = hubspot.url or f"{request.url.scheme}://{request.headers.get('host', '')}"
    return f"{base}{path}?{query}" if query else f"{base}{path}"


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type=JSON)


async def _refused(request: Request, refused: Refused) -> Response:
    return _json(refused.body, refused.status, refused.headers)


async def _not_here(request: Request, error: HTTPException) -> Response:
    name = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    told = {"error": name, "detail": f"{request.method} {request.url.path[:200]}: {error.detail}"}
    return _json(
        told | {"hint": "/openapi.json lists the endpoints"}, error.status_code, dict(error.headers or {})
    )


async def _nobody_reads(request: Request, error: ClientDisconnect) -> Response:
    return _json({"error": "incomplete", "detail": "the body ended early", "hint": ""}, 400)


async def _bug(request: Request, error: Exception) -> Response:
    """The error goes up from here to the server, which logs it."""
    return _json({"error": "bug", "detail": "the collector made a mistake", "hint": "its log says more"}, 500)
