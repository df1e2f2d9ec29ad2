"""Instants as sources write them, to UTC milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from streams.adapters.base import Reason
from streams.adapters.wire import Refusal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
EARLIEST = (datetime(1990, 1, 1, tzinfo=UTC) - _EPOCH) // _MS
LATEST = (datetime(2200, 1, 1, tzinfo=UTC) - _EPOCH) // _MS


def instant(value: object, field: str) -> int:
    """UTC ms of epoch milliseconds or ISO-8601 text with a zone. Finer digits are cut off."""
    if type(value) is str:
        return sane(_from_text(value, field), field)
    if type(value) is int:
        return sane(value, field)
    raise Refusal(Reason.ABSURD_TIME, f"{field} is {type(value).__name__}, not ISO-8601 text or epoch ms")


def sane(ms: int, field: str) -> int:
    if EARLIEST <= ms < LATEST:
        return ms
    hint = " (seconds? milliseconds are meant)" if EARLIEST <= ms * 1000 < LATEST else ""
    raise Refusal(Reason.ABSURD_TIME, f"{field} lies outside 1990 to 2200{hint}")


def _from_text(text: str, field: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(Reason.BAD_TIME, f"{field} is no ISO-8601 instant: {text[:40]!r}") from None
    if moment.tzinfo is None:
        raise Refusal(Reason.NAIVE_TIME, f"{field} names no time zone: {text[:40]!r}")
    return (moment - _EPOCH) // _MS


def instant_or_none(value: object) -> int | None:
    """For a time that only helps: a malformed one counts as absent."""
    try:
        return None if value is None else instant(value, "")
    except Refusal:
        return None
