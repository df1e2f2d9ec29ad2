"""The page, put beside the HTTP API: the same application, the same port, the same rights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from streams.api.app import create_app, wants
from streams.api.hub import Pace
from streams.api.rights import Tokens, require_rights
from streams.page.board import Board
from streams.page.desk import Desk
from streams.page.looks import Looks
from streams.page.operations import Operations
from streams.page.rendering import Pages
from streams.page.routes import Page
from streams.page.sessions import Sessions
from streams.page.shadow import Shadows
from streams.page.signing_in import SigningIn
from streams.page.sizes import Counts, Sizes
from streams.page.survey import Known, Surveys
from streams.page.timeline import Timeline
from streams.remembering import Remembered
from streams.settings import Settings
from streams.store.redis import connect

Work = Callable[[], Coroutine[Any, Any, None]]
ENDED_WITHIN_S = 5.0


def create(settings: Settings, tokens: Tokens, sessions: Sessions, pace: Pace | None = None) -> FastAPI:
    """The API and the page. `sessions` are of this process."""
    app = create_app(settings, tokens, pace, sessions.holder)
    pages = Pages()
    redis, api = connect(settings), app.state.api
    board = Board(api, settings)
    sizes = Sizes(api.reader, api.clock, Remembered(redis, "sizes", settings.namespace, Counts))
    looks, shadows = Looks(api, sizes), Shadows(redis, settings)
    surveys = Surveys(api, settings.partitions, Remembered(redis, "quality", settings.namespace, Known))
    page = Page(api, pages, board, Timeline(settings), looks, surveys, shadows)
    for path, endpoint, right in page.routes():
        app.add_api_route(
            path, endpoint, dependencies=wants(right), include_in_schema=False, response_class=Response
        )
    desk = Desk(settings, app.state.api.clock)
    for path, endpoint, right, method in Operations(pages, desk).routes():
        app.add_api_route(
            path,
            endpoint,
            methods=[method],
            dependencies=wants(right),
            include_in_schema=False,
            response_class=Response,
        )
    require_rights(app.routes)
    _tell_people(app, pages)
    app.add_middleware(SigningIn, sessions=sessions, pages=pages)
    ends = (board.end, looks.end, surveys.newest.end, shadows.newest.end, desk.end, redis.aclose)
    _live_with(app, (sizes.run, surveys.run), ends)
    return app


def _live_with(app: FastAPI, runs: Iterable[Work], ends: Iterable[Work]) -> None:
    """Samples are taken while the application runs; what is being read when it ends is given up."""
    lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def with_page(app: FastAPI) -> AsyncIterator[Any]:
        async with lifespan(app) as state:
            running = [asyncio.create_task(run()) for run in runs]
            try:
                yield state
            finally:
                for each in running:
                    each.cancel()
                with suppress(TimeoutError):
                    async with asyncio.timeout(ENDED_WITHIN_S):
                        await asyncio.gather(*running, return_exceptions=True)
                        for end in ends:
                            await end()

    app.router.lifespan_context = with_page


def _tell_people(app: FastAPI, pages: Pages) -> None:
    """A browser that asks for a page gets a problem as a page; everybody else as the API tells it."""

    def in_a_page(handler: Any) -> Any:
        async def told(request: Request, error: Exception) -> Response:
            answer: Response = await handler(request, error)
            if request.url.path.startswith("/v1/") or "text/html" not in request.headers.get("accept", ""):
                return answer
            problem = msgspec.json.decode(bytes(answer.body))
            title = str(problem["title"]).capitalize()
            shown = {"title": title, "detail": problem.get("detail", ""), "hint": problem.get("hint", "")}
            who = getattr(request.state, "holder", None)
            return pages.render("problem.html", shown | {"who": who}, answer.status_code)

        return told

    for kind, handler in list(app.exception_handlers.items()):
        if isinstance(kind, type) and handler.__module__.startswith("streams."):
            app.add_exception_handler(kind, in_a_page(handler))
