"""The HTTP API. Every route says which right it wants; one that does not is a bug that ends the start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import Depends, FastAPI, Header, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from rules.changes import iso
from rules.errors import did_you_mean
from rules.explain import explanation
from rules.records import is_visitor
from rules.state import UNCLASSIFIED
from streams.api import answers, problems
from streams.api.hub import Hub, Pace
from streams.api.listening import Listening, Stream
from streams.api.members import CURSOR_LONGEST, Members
from streams.api.places import LONGEST
from streams.api.problems import Refused, documented
from streams.api.rights import Door, Holder, May, Right, Tokens, require_rights
from streams.clock import ClockSteppedError, RedisClock
from streams.observing.api import Probes, metrics, unready
from streams.reading import Reader
from streams.settings import Settings
from streams.store.redis import RedisStore, connect
from streams.subscribe import Filter

NAME_LONGEST = 512
NAMES_AT_MOST = 50
PAGE = 100
PAGE_AT_MOST = 1_000
VERSION = "1.0.0"
Name = Annotated[str, Path(max_length=NAME_LONGEST)]
Some = Annotated[list[Annotated[str, Field(max_length=NAME_LONGEST)]], Field(max_length=NAMES_AT_MOST)]


class Wanted(BaseModel):
    """Of each parameter one of the given values is wanted; of one that is not given, any."""

    model_config = ConfigDict(extra="forbid")

    type: Some = Field([], examples=[["segment.moved"]])
    dimension: Some = []
    segment: Some = Field([], examples=[["engagement/hot"]])
    owner: Some = []
    origin: Some = []
    account: Some = []

    def filter(self) -> Filter:
        given = (self.type, self.dimension, self.segment, self.owner, self.origin, self.account)
        return Filter(*(tuple(sorted(set(each))) for each in given))


class Turn(BaseModel):
    """Which page, of which order."""

    model_config = ConfigDict(extra="forbid")

    sort: str = Field(
        "account",
        max_length=NAME_LONGEST,
        description="`account`; `since`, the newest first; `stays_until`, the soonest first; `score:NAME`, the "
        "highest first",
    )
    limit: int = Field(PAGE, ge=1, le=PAGE_AT_MOST)
    cursor: str = Field("", max_length=CURSOR_LONGEST, description="`next` of the page before")


@dataclass(frozen=True, slots=True)
class Api:
    """The endpoints, and what they ask."""

    tokens: Tokens
    hub: Hub
    clock: RedisClock
    reader: Reader
    members: Members

    async def account(self, account: Name) -> Response:
        """Where an account stands, since when, until when and why; by its id, or a web domain that is its."""
        await self.clock.keep()
        found = None if is_visitor(account) else await self.reader.account(account)  # nobody is told of a person
        if found is None:
            raise Refused(404, "unknown_account", f"no account {account[:100]!r} is known")
        now = max(found.log_time, min(self.clock.now(), found.state.wake - 1))
        return _json({"data": explanation(found.account, found.state, found.ruleset, now)})

    async def segments(self) -> Response:
        """How many accounts each segment holds."""
        return _json({"data": await self.reader.counts()})

    async def accounts(self, dimension: Name, segment: Name, turn: Annotated[Turn, Query()]) -> Response:
        """The accounts of a segment, a page at a time."""
        await self.clock.keep()
        page = await self.members.page(dimension, segment, turn.sort, turn.limit, turn.cursor)
        return _json({"data": page.accounts, "as_of": iso(page.as_of), "next": page.next})

    async def changes(
        self,
        request: Request,
        wanted: Annotated[Wanted, Query()],
        last_event_id: Annotated[
            str, Header(max_length=LONGEST, description="of the last that was received")
        ] = "",
    ) -> Response:
        """Every change from now on, or since Last-Event-ID, as it was published: a CloudEvent in each `data`.

        What has an `id` and no `data` is no event: it moves the id on. Before the server ends a stream it says
        why, in an event `closed`.
        """
        filter, holder = wanted.filter(), request.state.holder
        await self._require_places(filter)
        listening = Listening(self.hub, filter, partial(self.tokens.knows, holder))
        try:
            await listening.begin(last_event_id)
        except BaseException:
            await listening.end()
            raise
        return Stream(listening)

    async def _require_places(self, wanted: Filter) -> None:
        """What is misspelled would be waited for in vain."""
        if not (wanted.dimensions or wanted.segments):
            return
        dimensions = (await self.reader.ruleset()).dimensions
        places = [f"{each.name}/{name}" for each in dimensions for name in (*_names(each.segments), UNCLASSIFIED)]
        for kind, given, known in (
            ("dimension", wanted.dimensions, _names(dimensions)),
            ("segment", wanted.segments, places),
        ):
            for each in given:
                if each not in known:
                    hint = did_you_mean(each, known)
                    raise Refused(422, f"unknown_{kind}", f"there is no {kind} {each[:100]!r}", hint)

    async def status(self) -> Response:
        """How this process is doing."""
        hub = self.hub
        return _json({"data": {"reading": hub.is_reading, "listeners": hub.listeners, "place": hub.place}})

    async def metrics(self, request: Request) -> Response:
        """Metrics of this process, for Prometheus."""
        return await metrics(request, self.hub, self.clock, self.reader)

    def routes(self) -> Iterator[tuple[str, Any, Right, dict[int | str, dict[str, Any]]]]:
        """Path, endpoint, the right that it wants, what it answers."""
        members = "/v1/segments/{dimension}/{segment}/accounts"
        yield "/v1/accounts/{account:path}", self.account, Right.READ, _ok(answers.AnAccount, 404)
        yield "/v1/segments", self.segments, Right.READ, _ok(answers.Segments)
        yield members, self.accounts, Right.READ, _ok(answers.SomeMembers, 400, 404)
        yield "/v1/changes", self.changes, Right.READ, _STREAM | documented(400, 410)
        yield "/v1/status", self.status, Right.OPERATE, _ok(answers.Status)
        yield "/metrics", self.metrics, Right.OPERATE, _TEXT | documented()


def create_app(
    settings: Settings,
    tokens: Tokens,
    pace: Pace | None = None,
    signed_in: Callable[[Request], Holder | None] = lambda request: None,
) -> FastAPI:
    """The application for these settings, with connections of its own. `app.state.hub` is for whoever ends it:
    its `close` lets those go who listen. The page is put beside it, with what `app.state.api` reads."""
    redis = connect(settings)
    hub, clock, reader = Hub(settings, pace), RedisClock(redis), Reader(redis, settings)
    members = Members(reader, RedisStore(redis, settings.partitions, settings.namespace), settings, clock.now)
    api = Api(tokens, hub, clock, reader, members)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        reading = asyncio.create_task(hub.run())
        yield
        hub.close()
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        await redis.aclose()

    app = FastAPI(
        title="Isotherm", version=VERSION, lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None
    )
    app.add_middleware(Door, tokens=tokens, signed_in=signed_in)
    app.add_middleware(Probes, problems=partial(unready, hub))  # before the door: probes hold no token
    app.state.hub, app.state.api = hub, api
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    for path, endpoint, right, told in api.routes():
        app.add_api_route(path, endpoint, dependencies=wants(right), responses=told, response_class=Response)
    app.add_api_route(
        "/openapi.json", partial(_openapi, app), dependencies=wants(Right.READ), include_in_schema=False
    )
    require_rights(app.routes)
    return app


def wants(right: Right) -> list[Any]:
    """What a route depends on that wants this right."""
    bearer = HTTPBearer(auto_error=False, description="A token, of `isotherm serve --admit`")
    return [Depends(bearer), Depends(May(right))]


async def _openapi(app: FastAPI) -> Response:
    return _json(document(app))


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document."""
    made = app.openapi()
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = problems.Problem.model_json_schema()
    return made


def _names(named: Iterable[Any]) -> list[str]:
    return [each.name for each in named]


def _ok(model: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model}} | documented(*statuses)


_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "The changes", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
_HANDLERS: dict[Any, Any] = {
    Refused: problems.refused,
    HTTPException: problems.not_here,
    RequestValidationError: problems.invalid,
    RedisError: problems.away,
    ClockSteppedError: problems.stepped,
    OSError: problems.away,
    Exception: problems.bug,
}


def _json(value: Any) -> Response:
    return Response(
        msgspec.json.encode(value), media_type="application/json", headers={"Cache-Control": "no-store"}
    )
