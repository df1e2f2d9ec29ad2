"""Why a request is not accepted, told so that its sender can mend it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RETRY_AFTER_S = 1


class Refused(Exception):
    """An answer other than 2xx. `error` is a word for programs and never renamed; the rest is for people."""

    def __init__(
        self,
        status: int,
        error: str,
        detail: str,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, error)
        self.status = status
        self.headers = dict(headers or {})
        self.body = {"error": error, "detail": detail, "hint": hint, **(more or {})}


def unauthorized(error: str, detail: str, hint: str, challenge: str = 'Basic realm="isotherm"') -> Refused:
    return Refused(401, error, detail, hint, {"WWW-Authenticate": challenge})


def too_large(what: str, limit: int, hint: str, **place: int) -> Refused:
    return Refused(413, "too_large", f"{what} is larger than {limit:,} bytes", hint, more=place)


def busy() -> Refused:
    hint = "send the same again after a moment, then more slowly"
    return _later(429, "busy", "more is waiting for Kafka than the collector may hold", hint)


def away(why: str) -> Refused:
    hint = "send the same again; what has an id counts once"
    return _later(503, "kafka_away", f"Kafka did not acknowledge: {why}", hint)


def _later(status: int, error: str, detail: str, hint: str) -> Refused:
    return Refused(status, error, detail, hint, {"Retry-After": str(RETRY_AFTER_S)})
