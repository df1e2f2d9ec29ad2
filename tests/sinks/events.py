"""Changes of an account, as they are published, on their way to a destination."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from typing import Any

from rules.contract import read
from streams.sinks.base import Delivery

AT = "2026-03-09T10:00:00.000Z"
UNTIL = "2026-03-16T09:15:00.000Z"
WHY = "3 pricing views in 7 days (at least 3)"


_offsets = count(100)


@dataclass
class Account:
    """Whose changes follow one another, and those of other accounts, in one partition."""

    id: str
    name: str = "Acme"

    def moved(
        self, to: str | None, was: str | None = None, dimension: str = "engagement", **more: Any
    ) -> Delivery:
        told = {"dimension": dimension, "from": was, "to": to}
        return self._delivery("segment.moved", told | {"reason": {"text": WHY}} | more)

    def entered(self, segment: str, members: list[str], dimension: str = "signals", **more: Any) -> Delivery:
        told = {"dimension": dimension, "segment": segment, "members": members}
        return self._delivery("segment.entered", told | {"reason": {"text": WHY}} | more)

    def left(self, segment: str, members: list[str], dimension: str = "signals", **more: Any) -> Delivery:
        told = {"dimension": dimension, "segment": segment, "members": members}
        return self._delivery("segment.left", told | {"reason": {"text": WHY}} | more)

    def state(self, memberships: dict[str, Any], **more: Any) -> Delivery:
        standing = {
            dimension: {
                "answer": answer,
                "since": AT if answer else None,
                "stays_until": UNTIL if answer else None,
            }
            for dimension, answer in memberships.items()
        }
        reason = {dimension: {"text": WHY} for dimension, answer in memberships.items() if answer}
        return self._delivery("account.state", {"memberships": standing, "reason": reason} | more)

    def deleted(self) -> Delivery:
        return self.state({}, deleted=True)

    def merged(self, into: str) -> Delivery:
        return self.state({}, merged_into=into, cause="merge")

    def _delivery(self, type: str, told: dict[str, Any]) -> Delivery:
        offset = next(_offsets)
        id = f"0.0.{offset}.0"
        data = {
            "account": self.id,
            "name": self.name,
            **told,
            "effective": AT,
            "decided": AT,
            "cause": told.get("cause", "data"),
            "origin": told.get("origin", "live"),
            "stays_until": told.get("stays_until", UNTIL),
            "owner": "sales",
            "action": {"do": "call them"},
            "ruleset": "r1",
            "position": {"partition": 0, "epoch": 0, "offset": offset, "n": 0},
        }
        raw = json.dumps(
            {
                "specversion": "1.0",
                "id": id,
                "source": "/isotherm/account.log/0",
                "type": type,
                "subject": self.id,
                "time": AT,
                "datacontenttype": "application/json",
                "partitionkey": self.id,
                "data": data,
            }
        ).encode()
        return Delivery(id, self.id, read(raw), raw)
