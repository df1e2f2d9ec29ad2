"""From `segment.changes` to Temporal: a move into hot starts the account's journey, or signals the one that runs;
any other move of that dimension signals the one that runs, if there is one.

    ISOTHERM_KAFKA=… TEMPORAL=localhost:7233 python temporal_bridge.py

A change is settled when Temporal has answered. Killed in between, the bridge sends it again; the journey drops it.
As many bridges as there are partitions may run: those of one group share them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

from temporal_journey import AccountJourney, Change
from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from rules.contract import Event, Moved, State
from streams.settings import Settings
from streams.subscribe import Filter, subscribe

DIMENSION, TASK_QUEUE, GROUP = "engagement", "journeys", "temporal"


def changes(event: Event[Any]) -> Iterator[Change]:
    """What the event says of the dimension. A first state counts as a move."""
    data, position = event.data, list(event.data.position.order)
    match data:
        case Moved() if data.dimension == DIMENSION:
            yield Change(event.id, data.account, data.after, data.reason.get("text", ""), position)
        case State():
            held = data.memberships.get(DIMENSION)
            segment = held.answer if held and isinstance(held.answer, str) else None
            why = data.reason.get(DIMENSION, {}).get("text", "")
            yield Change(event.id, data.account, segment, why, position)


async def tell(client: Client, event: Event[Any]) -> None:
    for change in changes(event):
        if change.segment == "hot" and event.data.origin == "live":
            await client.start_workflow(
                AccountJourney.run,
                id=f"isotherm/{change.account}",
                task_queue=TASK_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,  # hot again: a journey again
                start_signal="changed",
                start_signal_args=[change],
            )
        else:
            await _signal(client, change)


async def _signal(client: Client, change: Change) -> None:
    try:
        await client.get_workflow_handle(f"isotherm/{change.account}").signal(AccountJourney.changed, change)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:  # no journey runs: nothing to tell
            raise


async def bridge(settings: Settings, client: Client) -> None:
    async with subscribe(settings, "now", Filter(dimensions=(DIMENSION,)), GROUP) as subscription:
        async for received in subscription:
            if received.event is not None:
                await tell(client, received.event)
            await subscription.settled(received)


async def main() -> None:
    await bridge(Settings(), await Client.connect(os.environ.get("TEMPORAL", "localhost:7233")))


if __name__ == "__main__":
    asyncio.run(main())
