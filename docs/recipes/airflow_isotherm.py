"""Which changes Airflow's Kafka trigger is to fire on. This file goes into Airflow's `plugins/`: in its triggerer,
`dags/` is not on Python's path.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

DIMENSION, SEGMENT = "engagement", "hot"
NEWS = timedelta(days=1)  # a group that is new reads all that Kafka keeps


def turned_hot(message: Any) -> dict[str, Any] | None:
    """What the run is told of a change, or None for another message. Runs in the triggerer."""
    event = json.loads(message.value() or "{}")
    data = event.get("data", {})
    if data.get("origin") != "live" or datetime.now(UTC) - datetime.fromisoformat(data["decided"]) > NEWS:
        return None
    reason = data["reason"]
    match event["type"]:
        case "segment.moved" if data["dimension"] == DIMENSION and data["to"] == SEGMENT:
            until = data["stays_until"]
        case "account.state" if data["memberships"].get(DIMENSION, {}).get("answer") == SEGMENT:
            until, reason = data["memberships"][DIMENSION]["stays_until"], reason[DIMENSION]
        case _:
            return None
    return {"id": event["id"], "account": data["account"], "reason": reason["text"], "stays_until": until}
