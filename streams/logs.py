"""One line for each thing worth saying, ours and the libraries'; the same trouble once a minute.

JSON for programs, or for people at a terminal. What a line is about stands in it by the same names everywhere:
`account`, `partition`, and `position`, topic/partition/offset of the batch or record in hand.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

log = structlog.get_logger()
AGAIN_S = 60.0
KINDS = 500  # different troubles remembered at most

# For logging.config: what Faust and aiokafka say goes through `Libraries`, and nowhere else.
CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"json": {"()": "streams.logs.Libraries"}},
    "root": {"handlers": ["json"], "level": "WARNING"},
    # By name too: Faust sets the root to DEBUG for its spinner, and every fetch would make records for nobody.
    "loggers": {name: {"level": "WARNING"} for name in ("aiokafka", "asyncio", "faust", "mode", "redis")},
}


class Libraries(logging.Handler):
    """A library's warning as one of our lines. An absent broker makes ten a second: the rest are counted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        kind, now = f"{record.name} {record.msg}", self._clock()
        said, swallowed = self._said.get(kind, (-AGAIN_S, 0))
        if now - said < AGAIN_S:
            self._said[kind] = said, swallowed + 1
            return
        if len(self._said) >= KINDS:
            self._said.clear()
        self._said[kind] = now, 0
        told = {"library": record.name, "says": record.getMessage()}
        if swallowed:
            told["times_since"] = str(swallowed)
        log.log(record.levelno, "library", exc_info=record.exc_info or None, **told)


def set_up(level: str = "INFO", form: str = "auto") -> None:
    """Lines on standard error, from `level` on; `form` is that of ISOTHERM_LOG."""
    for_people = form == "console" or (form == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(_for_people() if for_people else _for_programs()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _for_programs() -> list[Any]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _for_people() -> list[Any]:
    # The plain traceback: others show the values of variables, and a secret may be among them.
    plain = structlog.dev.plain_traceback
    return [_printable, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


def _printable(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Without what moves a cursor: names in messages are anybody's."""
    return {name: _escaped(value) if isinstance(value, str) else value for name, value in line.items()}


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
