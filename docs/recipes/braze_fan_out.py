"""From an account to its people in Braze: where their account stands becomes attributes of each of them.

Braze knows persons, Isotherm publishes accounts and holds persons as keyed hashes only. Who works at an account is
therefore asked of you: `contacts` gives the `external_id`s that Braze knows, from your CRM, warehouse or product.

Attributes, and no custom events: Braze counts an event that is sent twice as two, while an attribute that is set
to what it is already changes nothing. A Canvas is entered on the change of the attribute's value.

    BRAZE_URL=https://rest.iad-01.braze.com BRAZE_KEY_FILE=/run/secrets/braze python braze_fan_out.py
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp

from rules.contract import Event
from streams.settings import Settings
from streams.sinks.answers import retry_after
from streams.sinks.base import Rate
from streams.sinks.pacing import Pace
from streams.sinks.standing import is_merged, standings
from streams.subscribe import Filter, subscribe

DIMENSIONS = ("engagement", "size")
ATTRIBUTES = 75  # objects in one request
RATE = Rate(1_000, 3.0)  # of 3,000 in three seconds; everything else of yours asks too
PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
TIMEOUT = aiohttp.ClientTimeout(total=15)

Contacts: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]


async def contacts(account: str) -> Sequence[str]:
    """Yours to write: the `external_id`s of the people at the account."""
    raise NotImplementedError(account)


def attributes(event: Event[Any]) -> dict[str, Any]:
    """Of everybody at the account; `None` takes an attribute away. None of an account that was merged: its people
    are at the one that stays."""
    found: dict[str, Any] = {}
    if is_merged(event):
        return found
    for dimension, standing in standings(event, DIMENSIONS).items():
        found[f"account_{dimension}"] = standing["segment"]
        found[f"account_{dimension}_reason"] = standing["reason"] if standing["segment"] else None
    return found


def bodies(values: dict[str, Any], people: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Requests for all of them. Nobody is created whom Braze does not know."""
    for first in range(0, len(people), ATTRIBUTES):
        yield {
            "attributes": [
                {"external_id": each, "_update_existing_only": True, **values}
                for each in people[first : first + ATTRIBUTES]
            ]
        }


class Braze:
    def __init__(self, session: aiohttp.ClientSession, url: str, key: str) -> None:
        self._session, self._url = session, f"{url}/users/track"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._pace = Pace(RATE)

    async def track(self, body: dict[str, Any]) -> None:
        """Returns when Braze has it. Raises for what it will never take, which somebody has to look at."""
        pause = PAUSE_S
        while (after := await self._asked(body)) is not None:
            await asyncio.sleep(after or pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _asked(self, body: dict[str, Any]) -> float | None:
        """None when it was taken, else after how many seconds to ask again; 0: nobody says."""
        await asyncio.sleep(self._pace.wait_s(time.monotonic()))
        self._pace.asked(time.monotonic())
        try:
            async with self._session.post(self._url, json=body, headers=self._headers) as answer:
                if answer.status == 429 or answer.status >= 500:
                    return retry_after(answer.headers) or 0.0
                answer.raise_for_status()
                return None
        except (aiohttp.ClientConnectionError, TimeoutError):
            return 0.0


async def fan_out(event: Event[Any], people_of: Contacts, braze: Braze) -> None:
    if values := attributes(event):
        for body in bodies(values, await people_of(event.data.account)):
            await braze.track(body)


async def main(key: str) -> None:
    wanted = Filter(dimensions=DIMENSIONS)
    async with (
        aiohttp.ClientSession(timeout=TIMEOUT) as session,
        subscribe(Settings(), "now", wanted, "braze") as subscription,
    ):
        braze = Braze(session, os.environ["BRAZE_URL"].rstrip("/"), key)
        async for received in subscription:
            if received.event is not None:
                await fan_out(received.event, contacts, braze)
            await subscription.settled(received)


if __name__ == "__main__":
    asyncio.run(main(Path(os.environ["BRAZE_KEY_FILE"]).read_text().strip()))
