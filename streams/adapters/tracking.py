"""What web trackers have in common: pages, instants in UTC, and who is at the other end.

Snowplow, GA4 and PostHog name a page by its address alone; here it gets the props that a Segment
page call has, so that one rule reads them all.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from streams.adapters.names import fit, scrub
from streams.adapters.times import instant
from streams.adapters.wire import claim, key

# By what Snowplow and GA4 call them. Any other event keeps its own name.
VIEWS = {"page_view": "page_viewed", "screen_view": "screen_viewed"}

_UTC_UNSAID = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?")


def page(url: Any, *, path: Any = None, title: Any = None, referrer: Any = None) -> dict[str, Any]:
    """A page as Segment describes it. `search` is "" where the address has no query: rules ask for that."""
    address = _address(url)
    named = {"path": path, "title": title, "referrer": referrer}
    said = {name: text for name, text in named.items() if type(text) is str and (text or name == "referrer")}
    return {name: fit(text) for name, text in (address | said).items()}


def _address(url: Any) -> dict[str, str]:
    if type(url) is not str or not url:
        return {}
    try:
        parts = urlsplit(url)
    except ValueError:
        return {"url": url}
    return {"url": url, "path": parts.path or "/", "search": f"?{parts.query}" if parts.query else ""}


def screen(name: Any) -> dict[str, Any]:
    return {"name": fit(name)} if type(name) is str and name else {}


def own_props(raw: dict[str, Any]) -> dict[str, Any]:
    """What an event says of itself, fit for the log. `name` is left out: of a form, it is the person's."""
    props = scrub(raw)
    props.pop("name", None)
    return props


def utc(value: object, field: str) -> int:
    """Like `instant`; also the databases' `2026-03-02 09:00:00.000000`, which means UTC."""
    if type(value) is str and _UTC_UNSAID.fullmatch(value):
        value = f"{value}Z"
    return instant(value, field)


def name_of(value: Any, field: str) -> str | None:
    """An id that stands in a free mapping: text or a number, else there is none."""
    return key(value, field) if type(value) in (str, int) else None


def email(*candidates: Any) -> str | None:
    """The first that is an e-mail address: some use one as the user's id."""
    return next((claim(each) for each in candidates if type(each) is str and "@" in each), None)
