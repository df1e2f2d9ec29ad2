"""The addresses of the page Operations.

How things stand is for everybody who may look. What is in a dead letter is for operators, and so is the detail,
which quotes it: no rule has looked at those bytes, and they may say whom a message is about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from streams.api.app import Name
from streams.api.problems import Refused
from streams.api.rights import Right
from streams.page.desk import MOST, Desk
from streams.page.rendering import POLLED, Pages, letter_path
from streams.page.sessions import is_from_here
from streams.page.views import operations as view

PATIENCE_S = 0.5


@dataclass(frozen=True, slots=True)
class Operations:
    pages: Pages
    desk: Desk

    async def overview(self, request: Request) -> Response:
        """Partitions, sources, dead letters, endpoints, alerts and the clock; as of some seconds ago."""
        standing, letters = await asyncio.gather(
            self.desk.standing.get(PATIENCE_S), self.desk.letters.get(PATIENCE_S)
        )
        return await self._page(
            request, "operations.html", view.overview(standing) | view.letters(letters, MOST), live=POLLED
        )

    async def letter(self, request: Request, letter: Name) -> Response:
        """A dead letter with its bytes; of one that was sent in again from here, what came of it."""
        outcome = self.desk.outcomes.get(letter)
        letters = await self.desk.letters.get(PATIENCE_S) if outcome else None
        if outcome and not view.is_open(letter, letters):
            told = {"outcome": outcome, "again": view.refused_again(outcome.letter, letters)}
            return await self._page(request, "replayed.html", told, live=POLLED)
        if (found := await self.desk.find(letter)) is None:
            raise _not_open(letter)
        # Beside the loop: written out, nested JSON is many times as long.
        return await self._page(request, "letter.html", await asyncio.to_thread(view.letter, *found))

    async def replay(self, request: Request, letter: Name) -> Response:
        """Sends it in again, for a form of this page."""
        if not is_from_here(request):
            hint = "open the letter here and press the button, or use isotherm dead-letters replay"
            raise Refused(403, "from_elsewhere", "This was asked for by another site, so nothing was done.", hint)
        if await self.desk.replay(letter, request.state.holder.name) is None:
            raise _not_open(letter)
        return RedirectResponse(letter_path(letter), 303)

    async def _page(self, request: Request, template: str, told: dict[str, Any], live: str = "") -> Response:
        clock, who = await self.desk.time(), request.state.holder
        shown = told | {
            "who": who, "here": "operations", "now": clock.now, "clock": clock, "may": who.may(Right.OPERATE),
        }  # fmt: skip
        return self.pages.render(template, shown | ({"live": live} if live else {}))

    def routes(self) -> Iterator[tuple[str, Any, Right, str]]:
        yield "/operations", self.overview, Right.READ, "GET"
        yield "/operations/letters/{letter:path}", self.letter, Right.OPERATE, "GET"
        yield "/operations/replay/{letter:path}", self.replay, Right.OPERATE, "POST"


def _not_open(letter: str) -> Refused:
    hint = "It was sent in again, or is older than what Kafka keeps: Operations lists those that are open."
    return Refused(404, "no_such_letter", f"No dead letter {letter[:100]} is open.", hint)
