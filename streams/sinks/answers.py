"""What an answer's status means, for all destinations alike, before one looks at what only they say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from streams.sinks.base import GiveUp, Outcome, Reason, Retry

LONGEST_WAIT_S = 24 * 3600.0
PAUSE_S = 10.0  # of a whole endpoint, where the destination names no time
MENDING_S = 60.0  # a person has to do something: it is looked at again so often
DETAIL_LONGEST = 60

_RETRIED = {408: Reason.UNAVAILABLE, 409: Reason.LOCKED, 423: Reason.LOCKED, 425: Reason.UNAVAILABLE}
_PAUSED = {401: Reason.UNAUTHORIZED, 403: Reason.FORBIDDEN}
_any = msgspec.json.Decoder().decode


def by_status(status: int, headers: Mapping[str, str], several: bool, detail: str = "") -> Outcome:
    """Of any answer but a 2xx. `several`: the request held more than one record, one of which may be at fault."""
    after = retry_after(headers)
    told = fit(detail) or str(status)
    if status == 429:
        return Retry(Reason.RATE_LIMITED, PAUSE_S if after is None else after, whole=True, detail=told)
    if status in _PAUSED:
        return Retry(_PAUSED[status], MENDING_S if after is None else after, whole=True, detail=told)
    if status in _RETRIED or status >= 500:
        reason = _RETRIED.get(status, Reason.UNAVAILABLE)
        return Retry(reason, after, whole=after is not None, detail=told)
    if status < 400:
        return Retry(Reason.REDIRECTED, detail=told)
    return Retry(Reason.BATCH_REFUSED, 0.0, alone=True, detail=told) if several else GiveUp(Reason.INVALID, told)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, at most a day. A date counts from the answer's own, so that our clock does not matter."""
    text = header(headers, "retry-after")
    if text is None:
        return None
    if text.isascii() and text.strip().isdigit():
        return min(float(text), LONGEST_WAIT_S)
    then, now = _date(text), _date(header(headers, "date"))
    if then is None or now is None:
        return None
    return min(max((then - now).total_seconds(), 0.0), LONGEST_WAIT_S)


def header(headers: Mapping[str, str], name: str) -> str | None:
    return next((value for key, value in headers.items() if key.lower() == name), None)


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo is not None else None


def parsed(body: bytes) -> Any:
    """The body's JSON, or None for what is none."""
    try:
        return _any(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def word(value: Any, *path: str) -> str:
    """The text at a path into JSON that may have any shape; "" where there is none."""
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return fit(value) if isinstance(value, str) else ""


def fit(text: str) -> str:
    return "".join(each for each in text[:DETAIL_LONGEST] if each.isprintable())
