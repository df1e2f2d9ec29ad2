"""Canonical records, checked before Kafka has them: all of a request, or none.

Activities go to `web.activity`, all others to `crm.updates`: where such things come from otherwise. The order
between the two is not kept, and that of one topic only among records that name an account in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from streams.adapters import canonical
from streams.adapters.base import Claims, Observation, Rejected
from streams.collector.limits import Limits
from streams.collector.reading import parse
from streams.collector.refused import Refused
from streams.store.base import Outbound
from streams.topics import CRM_UPDATES, WEB_ACTIVITY

SHOWN = 100
_CLAIMS = ("account", "crm", "group", "domain", "opportunity", "contact", "user", "anonymous", "email", "person")
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read_records(body: bytes, lines: bool, sender: str, now: int, limits: Limits) -> list[Outbound]:
    """The messages of all records, in order; raises 400 that tells each record that cannot be used.

    `lines`: one record a line; else one record, or an array of them. `now` is UTC ms.
    """
    headers = (("format", b"canonical"), ("sender", sender.encode()))
    messages: list[Outbound] = []
    refused: list[dict[str, Any]] = []
    for index, record in _parts(body, lines):
        if len(messages) + len(refused) == limits.messages:
            raise Refused(413, "too_many", f"more than {limits.messages:,} records", "send fewer at once")
        found = _checked(record, now, limits)
        if isinstance(found, Rejected):
            refused.append({"index": index, "reason": str(found.reason), "detail": found.detail})
        else:
            topic = WEB_ACTIVITY if found.kind == "activity" else CRM_UPDATES
            messages.append(Outbound(topic, _key(found.claims), record, headers))
    if refused:
        total = len(messages) + len(refused)
        detail = f"{len(refused):,} of {total:,} records cannot be used; none was accepted"
        hint = "mend or leave out those in `refused`, then send all again"
        raise Refused(400, "refused", detail, hint, more={"refused": refused[:SHOWN]})
    return messages


def _parts(body: bytes, lines: bool) -> Iterator[tuple[int, bytes]]:
    """The records with their index: that of the line, where each stands on one; empty lines are none."""
    if lines:
        yield from ((index, line) for index, line in enumerate(body.split(b"\n")) if line.strip())
    elif body.lstrip().startswith(b"["):
        yield from ((index, bytes(part)) for index, part in enumerate(parse(_items, body)))
    else:
        yield 0, body


def _checked(record: bytes, now: int, limits: Limits) -> Observation | Rejected:
    if len(record) > limits.record:
        return Rejected("too_large", f"{len(record):,} bytes, more than {limits.record:,}")
    found = canonical.decode(record, now)
    return next((each for each in found if isinstance(each, Rejected)), found[0])


def _key(claims: Claims) -> str:
    return next((value for name in _CLAIMS if (value := getattr(claims, name))), "")
