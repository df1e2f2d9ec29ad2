"""From `segment.changes` to Airflow's REST API: a run of a DAG for each account that turns hot.

    ISOTHERM_KAFKA=… AIRFLOW_URL=http://airflow:8080 AIRFLOW_TOKEN_FILE=/run/airflow python airflow_bridge.py

A run's id is the change's, so Airflow itself refuses it the second time. The change is settled when Airflow has
answered; killed in between, the bridge asks for the same run again. The DAG has `schedule=None` and finds the
account in its `conf`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import aiohttp

from rules.contract import Event, Moved, State
from streams.settings import Settings
from streams.subscribe import Filter, subscribe

DAG, SEGMENT, DIMENSION, GROUP = "isotherm_hot_account", "hot", "engagement", "airflow"
THERE_ALREADY = 409
PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
TIMEOUT = aiohttp.ClientTimeout(total=15)


def conf_of(event: Event[Any]) -> dict[str, Any] | None:
    """What the run is told; None: no run. A first state counts as a move."""
    data = event.data
    told = {"change": event.id, "account": data.account, "name": data.name, "action": data.action}
    match data:
        case Moved() if data.dimension == DIMENSION and data.after == SEGMENT:
            return told | {"reason": data.reason.get("text"), "stays_until": data.stays_until}
        case State() if (held := data.memberships.get(DIMENSION)) is not None and held.answer == SEGMENT:
            why = data.reason.get(DIMENSION, {}).get("text")
            return told | {"reason": why, "stays_until": held.stays_until}
    return None


async def begin_run(session: aiohttp.ClientSession, url: str, change: str, conf: dict[str, Any]) -> None:
    """Returns when there is such a run. Raises for what Airflow will never take; an outage is waited out."""
    body = {"dag_run_id": f"isotherm.{change}", "logical_date": None, "conf": conf}
    pause = PAUSE_S
    while True:
        try:
            async with session.post(f"{url}/api/v2/dags/{DAG}/dagRuns", json=body) as answer:
                if answer.status == THERE_ALREADY:
                    return
                if answer.status != 429 and answer.status < 500:
                    answer.raise_for_status()
                    return
        except (aiohttp.ClientConnectionError, TimeoutError):
            pass
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


async def bridge(settings: Settings, url: str, token: str) -> None:
    wanted = Filter(segments=(f"{DIMENSION}/{SEGMENT}",), origins=("live",))
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(timeout=TIMEOUT, headers=headers) as session,
        subscribe(settings, "now", wanted, GROUP) as subscription,
    ):
        async for received in subscription:
            if received.event is not None and (conf := conf_of(received.event)):
                await begin_run(session, url, received.event.id, conf)
            await subscription.settled(received)


if __name__ == "__main__":
    token = Path(os.environ["AIRFLOW_TOKEN_FILE"]).read_text().strip()
    asyncio.run(bridge(Settings(), os.environ["AIRFLOW_URL"].rstrip("/"), token))
