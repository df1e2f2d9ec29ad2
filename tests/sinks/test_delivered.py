"""From Kafka to the CRM: what the delivering makes of a sink's outcomes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from streams.delivery.endpoints import Endpoint, parse
from streams.delivery.store import Record
from tests.delivery.conftest import (  # noqa: F401 - fixtures
    START,
    Delivering,
    VirtualClock,
    changes,
    clock,
    delivering,
    id_of,
    moved,
    settings,
)
from tests.sinks.conftest import Serve
from tests.sinks.fake_hubspot import HubSpot

WEBHOOKS = """
allow: [127.0.0.0/8]
endpoints:
  - name: journeys
    kind: hubspot
    start: beginning
    to: {token: "file:<secret>", url: <url>, properties: {engagement: heat}}
"""


def _endpoint(url: str, secret: Path) -> Endpoint:
    (endpoint,) = parse("webhooks.yaml", WEBHOOKS.replace("<url>", url).replace("<secret>", str(secret)))
    return endpoint


async def test_a_bad_value_is_given_up_and_nobody_elses_is_lost(
    serve: Serve,
    secret: Path,
    changes: Any,  # noqa: F811
    delivering: Delivering,  # noqa: F811
    clock: VirtualClock,  # noqa: F811
) -> None:
    hubspot = HubSpot({str(n): {} for n in range(20)}, properties={"heat"}, options={"heat": ("hot", "warm", "")})
    endpoint = _endpoint(await serve(hubspot.application()), secret)
    published = [moved(n, f"hubspot:{n}", after="boiling" if n == 7 else "hot") for n in range(20)]
    await changes(*published)
    await delivering.start(endpoint)

    async def all_others_are_hot() -> bool:
        clock.move_to(clock.now() + 1000)  # each tries again five seconds after the refusal
        return all(each == {"heat": "hot"} for n, each in hubspot.companies.items() if n != "7")

    await delivering.until(all_others_are_hot)

    async def it_is_given_up() -> bool:
        record = await delivering.find(id_of(published[7]))
        return isinstance(record, Record) and (record.how, record.reason) == ("given_up", "invalid")

    await delivering.until(it_is_given_up)
    assert hubspot.companies["7"] == {}
    assert any(len(inputs) > 1 for inputs in hubspot.requests)


async def test_a_limit_holds_the_endpoint_back_until_it_passes(
    serve: Serve,
    secret: Path,
    changes: Any,  # noqa: F811
    delivering: Delivering,  # noqa: F811
    clock: VirtualClock,  # noqa: F811
) -> None:
    hubspot = HubSpot({str(n): {} for n in range(3)}, properties={"heat"}, allowed=0, retry_after="30")
    endpoint = _endpoint(await serve(hubspot.application()), secret)
    await changes(*(moved(n, f"hubspot:{n}") for n in range(3)))
    await delivering.start(endpoint)
    await clock.sleeps_until(START + 30_000)
    assert not hubspot.requests
    hubspot.allowed = 100
    clock.move_to(START + 30_000)

    async def all_are_hot() -> bool:
        await asyncio.sleep(0)
        return all(each == {"heat": "hot"} for each in hubspot.companies.values())

    await delivering.until(all_are_hot)
