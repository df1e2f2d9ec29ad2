"""The addresses of the page. Each says which right it wants, as those of the API do."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Query, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from rules.advising import advise
from rules.changes import iso
from rules.explain import explanation
from rules.records import is_visitor
from rules.ruleset import Dimension
from rules.scores import scores_of
from rules.state import UNCLASSIFIED
from rules.tally import DAYS_KEPT
from streams.api.app import NAME_LONGEST, PAGE_AT_MOST, Api, Name
from streams.api.members import CURSOR_LONGEST, dimension_of
from streams.api.members import Page as SomeMembers
from streams.api.problems import Refused
from streams.api.rights import Right
from streams.domains import NoCompany, site_domain
from streams.page.board import Board
from streams.page.live import Live
from streams.page.looks import MEMBERS, Looks
from streams.page.rendering import POLLED, Pages, account_path, segment_path
from streams.page.shadow import Shadows
from streams.page.survey import Surveys
from streams.page.timeline import TAIL, Timeline, evidence_of
from streams.page.views import account as account_view
from streams.page.views import now as now_view
from streams.page.views import quality as quality_view
from streams.page.views import segments as segments_view
from streams.page.views import shadow as shadow_view
from streams.reading import Found
from streams.remembering import SPANS
from streams.subscribe import Filter

PAGE, LINES, CLAIMS = MEMBERS, 7, 50
SORTS = {"since": "who came last", "stays_until": "whose time is up first", "account": "id"}
Text = Annotated[str, Query(max_length=NAME_LONGEST)]
Over = Literal["day", "35d"]
Cursor = Annotated[str, Query(max_length=CURSOR_LONGEST)]


@dataclass(frozen=True, slots=True)
class Page:
    """The endpoints, and what they show."""

    api: Api
    pages: Pages
    board: Board
    timeline: Timeline
    looks: Looks
    surveys: Surveys
    shadows: Shadows

    async def now(self, request: Request) -> Response:
        board = await self.board.now.fresh()
        told = {
            "ladder": board.ladder, "columns": board.columns, "hottest": board.hottest, "cooling": board.cooling,
            "news": board.news, "health": board.health, "health_said": now_view.in_words(board.health),
            "is_reading": board.is_reading,
        }  # fmt: skip
        return self._page(request, "now.html", "now", told, live="/live")

    async def account(self, request: Request, account: Name) -> Response:
        """Where an account stands and why, as the API tells it, with its scores as they will decay."""
        found, now = await self._found(account)
        told = explanation(found.account, found.state, found.ruleset, now)
        placed, others = account_view.answers(told, found.ruleset)
        shown = {
            "told": told, "placed": placed, "others": others,
            "curves": account_view.curves(told, found.state, found.ruleset, now),
        }  # fmt: skip
        return self._page(
            request, "account.html", "", shown, live=f"/live?{urlencode({'account': found.account})}"
        )

    async def story(self, request: Request, account: Name) -> Response:
        """What would move it up, and what happened: a part of the page that takes a moment to read."""
        found, now = await self._found(account)
        told = explanation(found.account, found.state, found.ruleset, now)
        advice = await asyncio.to_thread(advise, found.account, found.state, found.ruleset, now)
        story = await self.timeline.of(found.account, evidence_of(told))
        shown = {
            "advice": account_view.advised(advice), "story": story, "looked_at": TAIL, "account": found.account,
            "why_no_advice": account_view.why_no_advice(found.state, found.ruleset),
        }  # fmt: skip
        return self._page(request, "story.html", "", shown)

    async def _found(self, account: str) -> tuple[Found, int]:
        """The account, and the instant as of which it is told. Raises Refused."""
        await self.api.clock.keep()
        found = None if is_visitor(account) else await self.api.reader.account(account)
        if found is None:
            hint = "write its id as the CRM has it, `salesforce:0015f…`, or a web domain that is linked to it"
            raise Refused(404, "unknown_account", f"No account {account[:100]!r} is known.", hint)
        return found, max(found.log_time, min(self.api.clock.now(), found.state.wake - 1))

    async def segments(self, request: Request) -> Response:
        """Every dimension with its largest segments."""
        ruleset, counts = await self.api.reader.ruleset(), await self.looks.counts.must()
        shadow = await self.shadows.newest.get()
        differing = shadow.newest[1].differing if shadow and shadow.newest else 0
        shown = {
            "overviews": segments_view.overviews(ruleset, counts), "has_shadow": shadow is not None,
            "differing": differing,
        }  # fmt: skip
        return self._page(request, "segments.html", "segments", shown, live=POLLED)

    async def shadow(self, request: Request, over: Over = "day") -> Response:
        """Other rules beside those in force: what differs, now and over time."""
        await self.api.clock.keep()
        shadow, now = await self.shadows.newest.get(), self.api.clock.now()
        if shadow is None:
            return self._page(request, "shadow.html", "segments", {"shadow": None}, live=POLLED)
        newest = shadow.newest
        chart = shadow_view.series(shadow.samples[SPANS[over]], LINES)
        shown = {
            "shadow": shadow, "changes": await self.shadows.changes(shadow), "chart": chart,
            "since": iso(shadow.since) if shadow.since else None, "is_idle": shadow.is_idle(now),
            "at": iso(newest[0]) if newest else None,
            "rows": shadow_view.rows(newest[1], shadow.in_force) if newest else [],
            "places": len(newest[1].places) if newest else 0, "switch": _switch(request, over),
        }  # fmt: skip
        return self._page(request, "shadow.html", "segments", shown, live=POLLED)

    async def dimension(
        self,
        request: Request,
        dimension: Name,
        beside: Annotated[Text, Query(alias="with")] = "",
        over: Over = "day",
    ) -> Response:
        """Sizes, moves, outcomes, overlap."""
        ruleset = await self.api.reader.ruleset()
        asked = dimension_of(ruleset, dimension)
        others = [each.name for each in ruleset.dimensions if each.name != asked.name]
        if beside:
            dimension_of(ruleset, beside)
        every = await self.looks.counts.must()
        counts = every.get(asked.name, {})
        tallied = await self.looks.tallied(asked.name)
        found = segments_view.sizes(asked, counts, tallied)
        names = [each.segment for each in found]
        drawn = [each.segment for each in sorted(found, key=lambda each: -each.count)[:LINES]]
        outcome_names, outcomes = segments_view.outcomes(asked.name, names, tallied)
        sizes = self.looks.sizes.of(asked.name, SPANS[over])
        shown = {
            "dimension": asked, "sizes": found, "span": DAYS_KEPT, "kept": DAYS_KEPT, "drawn": drawn,
            "chart": segments_view.series([*sizes, (self.api.clock.now(), counts)], drawn),
            "switch": _switch(request, over),
            "moves": segments_view.movements(asked, tallied),
            "volatility": segments_view.volatility(asked.name, tallied, segments_view.accounts_in(ruleset, every)),
            "outcome_names": outcome_names, "outcomes": outcomes, "others": others, "beside": beside,
            "overlap": await self.looks.overlap(asked.name, beside) if beside else None,
        }  # fmt: skip
        return self._page(
            request, "dimension.html", "segments", shown, live=f"/live?{urlencode({'dimension': asked.name})}"
        )

    async def segment(
        self,
        request: Request,
        dimension: Name,
        segment: Name,
        sort: Text = "since",
        cursor: Cursor = "",
        q: Text = "",
    ) -> Response:
        """What a segment is, and who is in it, a page at a time."""
        await self.api.clock.keep()
        ruleset = await self.api.reader.ruleset()
        asked, whole, following, is_sorted = dimension_of(ruleset, dimension), True, None, True
        if q.strip():
            rows, whole = await self.api.members.search(dimension, segment, q.strip(), PAGE)
        else:
            page, is_sorted = await self._members(dimension, segment, sort, cursor)
            rows = page.accounts
            if page.next and is_sorted:
                following = segment_path(dimension, segment, sort=sort, cursor=page.next)
        scores = {f"score:{name}": f"{each.label}, highest first" for name, each in scores_of(ruleset).items()}
        shown = {
            "dimension": asked, "segment": segment, "known": asked.segment(segment), "rows": rows, "whole": whole,
            "rule": segments_view.definition(ruleset, dimension, segment), "q": q, "sort": sort,
            "sorts": SORTS | scores,
            "next": following, "page_size": PAGE, "is_sorted": is_sorted,
            "count": (await self.api.reader.counts(dimension))[dimension][segment],
            "csv": f"{segment_path(dimension, segment)}/members.csv?{urlencode({'sort': sort})}",
        }  # fmt: skip
        return self._page(request, "segment.html", "segments", shown, live="" if is_sorted else POLLED)

    async def _members(self, dimension: str, segment: str, sort: str, cursor: str) -> tuple[SomeMembers, bool]:
        """Some members, and whether they are sorted as asked: by id, until many are."""
        if cursor:
            return await self.api.members.page(dimension, segment, sort, PAGE, cursor), True
        if (found := await self.looks.members(dimension, segment, sort)) is not None:
            return found, True
        return await self.api.members.page(dimension, segment, "account", PAGE, ""), False

    async def members_csv(self, dimension: Name, segment: Name, sort: Text = "account") -> Response:
        """All accounts of a segment. What is wrong is told before the first line."""
        await self.api.clock.keep()
        first = await self.api.members.page(dimension, segment, sort, PAGE_AT_MOST, "")
        name = f"{dimension}-{segment}.csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(
            self._lines(dimension, segment, sort, first), headers=headers, media_type="text/csv"
        )

    async def _lines(self, dimension: str, segment: str, sort: str, page: SomeMembers) -> AsyncIterator[str]:
        columns = ["account", "name", "since", "stays_until", *(["value"] if sort.startswith("score:") else [])]
        yield "\ufeff" + _csv([columns])  # without it Excel takes names for another alphabet
        while True:
            yield _csv([[segments_view.csv_cell(each.get(name)) for name in columns] for each in page.accounts])
            if page.next is None:
                return
            page = await self.api.members.page(dimension, segment, sort, PAGE_AT_MOST, page.next)

    async def quality(self, request: Request, over: Over = "35d") -> Response:
        """How good the data is, as of the newest survey; the first one after the start takes a moment."""
        survey, ruleset = await self.surveys.newest.get(patience_s=0.5), await self.api.reader.ruleset()
        trend = self.surveys.trend.over(SPANS[over])
        claimed = sorted(survey.claimed_twice.items()) if survey else []
        ladders = {each.name for each in ruleset.dimensions if each.kind == "ladder"}
        gaps = quality_view.gaps(survey.gaps, ladders) if survey else []
        shown = {
            "survey": survey, "at": iso(survey.at) if survey else None, "done": self.surveys.done,
            "of": self.surveys.of, "first": iso(trend[0][0]) if trend else None, "switch": _switch(request, over),
            "facts": quality_view.fact_rows(survey.quality, trend) if survey else [],
            "chart": quality_view.series(trend, gaps, LINES), "gaps": gaps,
            "ladders": ladders,
            "sources": sorted(survey.sources.items()) if survey else [],
            "claims": [(domain.removeprefix("domain:"), *_claims(who)) for domain, who in claimed[:CLAIMS]],
            "claimed": len(claimed),
        }  # fmt: skip
        return self._page(request, "quality.html", "quality", shown, live=POLLED)

    async def find(self, request: Request, q: Text) -> Response:
        """The account with this id or web domain; or else those whose id or name holds the words."""
        text = q.strip()
        for each in (text, site_domain(text)):
            if not isinstance(each, NoCompany) and not is_visitor(each) and await self.api.reader.account(each):
                return RedirectResponse(account_path(each), 303)
        await self.api.clock.keep()
        rows, whole = await self._holding(text)
        if len(rows) == 1 and whole:
            return RedirectResponse(account_path(rows[0]["account"]), 303)
        return self._page(request, "found.html", "", {"q": text, "rows": rows, "whole": whole})

    async def _holding(self, text: str) -> tuple[list[dict[str, Any]], bool]:
        """Accounts on the ladder whose id or name holds `text`, and whether these are all."""
        ladder, rows = now_view.ladder_of(await self.api.reader.ruleset()), list[dict[str, Any]]()
        if ladder is None or not text:
            return rows, True
        whole = True
        for segment in (*_names(ladder.dimension), UNCLASSIFIED):
            found, is_all = await self.api.members.search(ladder.dimension.name, segment, text, PAGE - len(rows))
            rows += (each | {"segment": segment} for each in found)
            if len(rows) >= PAGE:
                return rows, False
            whole = whole and is_all
        return rows, whole

    async def live(self, request: Request, account: Text = "", dimension: Text = "") -> Response:
        """That something changed: at this account, or in this dimension; without either, anywhere."""
        some = Filter(dimensions=(dimension,) if dimension else (), accounts=(account,) if account else ())
        return Live(self.api.hub, some, partial(self.api.tokens.knows, request.state.holder))

    def _page(self, request: Request, template: str, here: str, told: dict[str, Any], live: str = "") -> Response:
        shown = told | {"who": request.state.holder, "here": here, "now": self.api.clock.now()}
        return self.pages.render(template, shown | ({"live": live} if live else {}))

    def routes(self) -> Iterator[tuple[str, Any, Right]]:
        yield "/", self.now, Right.READ
        yield "/live", self.live, Right.READ
        yield "/accounts", self.find, Right.READ
        yield "/accounts/{account:path}", self.account, Right.READ
        yield "/story/{account:path}", self.story, Right.READ
        yield "/quality", self.quality, Right.READ
        yield "/segments", self.segments, Right.READ
        yield "/shadow", self.shadow, Right.READ
        yield "/segments/{dimension}", self.dimension, Right.READ
        yield "/segments/{dimension}/{segment}", self.segment, Right.READ
        yield "/segments/{dimension}/{segment}/members.csv", self.members_csv, Right.READ


def _names(dimension: Dimension) -> list[str]:
    return [each.name for each in dimension.segments]


def _switch(request: Request, over: str) -> list[tuple[str, str, bool]]:
    """How far back a chart may go: words, address, whether it does."""
    asked = dict(request.query_params)
    return [(each.title, f"?{urlencode(asked | {'over': name})}", name == over) for name, each in SPANS.items()]


def _claims(who: str) -> tuple[str, str]:
    """Whose a domain is, and who claims it too."""
    owner, _, other = who.partition("\t")
    return owner, other


def _csv(rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
