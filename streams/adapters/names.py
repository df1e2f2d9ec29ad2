"""Their names and values, made fit for the log: one spelling, and nothing about private people.

Names become snake_case, so that `createdAt`, `Created At` and `created_at` are one. What is named
like an e-mail address, a phone number or a person's name is left out, whatever it holds; an e-mail
address inside another text is blotted out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from rules import personal
from rules.personal import is_personal
from streams.adapters.base import Reason
from streams.adapters.wire import MAX_KEY, Refusal

__all__ = ["blot", "fit", "is_personal", "scrub", "snake"]


def snake(text: str) -> str:
    """`Demo Requested`, `demoRequested` and `demo-requested` are `demo_requested`; "" if nothing is left."""
    if len(text) > MAX_KEY:
        raise Refusal(Reason.BAD_NAME, f"a name has {len(text):,} characters, more than {MAX_KEY}")
    return personal.snake(blot(text))


def scrub(raw: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` under our names and without what may not enter the log, at every depth."""
    clean: dict[str, Any] = {}
    for key, value in raw.items():
        name, personal = _named(key)
        # A yes or no tells nothing: `opted_out_of_email: true` stays.
        if name and (not personal or type(value) is bool):
            change = _CHANGES.get(type(value))
            clean[name] = value if change is None else change(value)
    return clean


@lru_cache(maxsize=8192)
def _named(key: str) -> tuple[str, bool]:
    """Our name for it, and whether it is a private person's: events have few names, and come in millions."""
    name = snake(key)
    return name, is_personal(name)


def fit(value: Any) -> Any:
    """A JSON value as it may enter the log."""
    change = _CHANGES.get(type(value))
    return value if change is None else change(value)


# Also as it stands in the query of a URL. A match begins only where a run of letters begins, and
# gives nothing back: linear however long the text.
_EMAIL = re.compile(
    r"""(?<![^\s@/?&=<>"'(),;:])(?:[^\s@/?&=<>"'(),;:%]|%(?!40))++(?:@|%40)[\w-]++(?:\.[\w-]++)+"""
)


def blot(text: str) -> str:
    """`text` with every e-mail address in it replaced."""
    return _EMAIL.sub("(email)", text) if "@" in text or "%40" in text else text


def _bounded(number: int) -> int:
    if -(2**63) <= number < 2**63:
        return number
    raise Refusal(Reason.HUGE_NUMBER, "an integer needs more than 64 bits")


def _each(values: list[Any]) -> list[Any]:
    return [fit(value) for value in values]


_CHANGES: dict[type, Callable[[Any], Any]] = {str: blot, int: _bounded, list: _each, dict: scrub}
