"""Ids of records as `Claims` name them (the system, a colon, the record's own id), and of events."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from streams.adapters.base import Reason
from streams.adapters.wire import MAX_KEY, Refusal, key

_RECORD_ID = re.compile(r"[0-9A-Za-z]{15}([0-9A-Z]{3})?")
_CHECK = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


@lru_cache(maxsize=65_536)
def record_id(text: str) -> str:
    """`salesforce:` and the 18-character id; a 15-character one, as exports have it, is completed."""
    if not _RECORD_ID.fullmatch(text):
        raise Refusal(Reason.BAD_KEY, f"no Salesforce record id: {text[:40]!r}")
    return "salesforce:" + (text if len(text) == 18 else text + _suffix(text))


def _suffix(text: str) -> str:
    """One character for each five, whose bits say which of them are capitals."""
    fives = (text[start : start + 5] for start in (0, 5, 10))
    return "".join(_CHECK[sum(1 << n for n, char in enumerate(five) if char.isupper())] for five in fives)


def _hubspot_id(text: str) -> str:
    if not (text.isascii() and text.isdigit()):
        raise Refusal(Reason.BAD_KEY, f"no HubSpot record id: {text[:40]!r}")
    return f"hubspot:{text}"


_READERS: dict[str, Callable[[str], str]] = {"salesforce": record_id, "hubspot": _hubspot_id}


def other_id(system: str, value: Any) -> str | None:
    """The id of another system's record, as a field of ours or theirs holds it; None when there is none.

    A number may come as `5543.0`: Salesforce has no whole numbers. Raises Refusal for what can be no id.
    """
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) not in (str, int):
        return None
    text = key(value, f"the id in {system}")
    if text is None:
        return None
    if "@" in text:
        raise Refusal(Reason.BAD_KEY, f"the id in {system} is an e-mail address")
    return _READERS[system](text) if system in _READERS else f"{system}:{text}"


def event_id(text: str) -> str:
    """An event's id, fit for the log: a digest of one that is too long, or in which an e-mail address may stand.

    Blotted out instead, the ids of two people would be one.
    """
    if len(text) <= MAX_KEY and "@" not in text and "%40" not in text:
        return text
    return blake2b(text.encode(errors="replace"), digest_size=16).hexdigest()
