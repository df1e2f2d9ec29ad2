"""Every answer that is no success: `application/problem+json` (RFC 9457), told so that the caller can mend it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from redis.exceptions import NoPermissionError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
log = structlog.get_logger()


class Problem(BaseModel):
    """Why a request has no other answer. `type` is for programs and never renamed; the rest is for people."""

    type: str = Field(examples=["urn:isotherm:problem:unknown_account"])
    title: str
    status: int
    detail: str = ""
    hint: str = ""


class Refused(Exception):
    """An answer other than 2xx. `name` ends its type, and with spaces it is its title."""

    def __init__(
        self, status: int, name: str, detail: str = "", hint: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, name)
        self.status, self.name, self.detail, self.hint = status, name, detail, hint
        self.headers = dict(headers or {})

    def response(self) -> Response:
        title = self.name.replace("_", " ")
        told = {"type": f"urn:isotherm:problem:{self.name}", "title": title, "status": self.status}
        told |= {key: text for key, text in (("detail", self.detail), ("hint", self.hint)) if text}
        return Response(msgspec.json.encode(told), self.status, self.headers, media_type=MEDIA_TYPE)


def not_now(name: str, detail: str) -> Refused:
    return Refused(503, name, detail, "ask again in a moment", {"Retry-After": str(RETRY_AFTER_S)})


_NAMES = {404: "not_found", 405: "method_not_allowed"}


async def refused(request: Request, error: Refused) -> Response:
    return error.response()


async def not_here(request: Request, error: HTTPException) -> Response:
    name = _NAMES.get(error.status_code, "refused")
    hint = "/openapi.json lists the endpoints"
    told = Refused(error.status_code, name, f"{request.method} {request.url.path[:200]}", hint, error.headers)
    return told.response()


async def invalid(request: Request, error: RequestValidationError) -> Response:
    """Which parameter, and what is wrong with it; what was given is not repeated."""
    problems = [f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()]
    return Refused(422, "invalid_parameter", "; ".join(problems)[:1000]).response()


async def away(request: Request, error: Exception) -> Response:
    log.warning("cannot answer", path=request.url.path, why=f"{type(error).__name__}: {error}")
    if isinstance(error, NoPermissionError):
        hint = "give the user in ISOTHERM_REDIS the rights of isotherm-serve"
        return Refused(503, "no_right", "Redis refuses to tell", hint).response()
    return not_now("redis_away", "Redis does not answer").response()


async def stepped(request: Request, error: Exception) -> Response:
    log.error("the clock stepped", path=request.url.path, why=str(error))
    hint = "set the clock of the Redis server right, then start the workers and this process again"
    return Refused(503, "clock_stepped", "the time of Redis jumped", hint).response()


async def bug(request: Request, error: Exception) -> Response:
    """The error goes up from here to the server, which logs it."""
    return Refused(500, "bug", "the API made a mistake", "its log says more").response()


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: that these answers are problems."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        each: {"description": _DESCRIPTIONS[each], "content": {MEDIA_TYPE: {"schema": schema}}}
        for each in (401, 403, 422, 503, *statuses)
    }


_DESCRIPTIONS = {
    400: "What was sent cannot be read",
    401: "No token, or none that is known",
    403: "The token's role may not do this",
    404: "There is none of that name",
    410: "What comes after this id is not kept any more",
    422: "A parameter is not as it must be",
    429: "Too many listeners",
    503: "Not at the moment",
}
