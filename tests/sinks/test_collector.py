"""What this sink sends, our own collector takes: another Isotherm, or a copy of the calls in Kafka."""

from __future__ import annotations

import json
from pathlib import Path

from streams.adapters.base import Observation
from streams.sinks.base import Delivered
from streams.topics import WEB_ACTIVITY
from tests.collector.conftest import (  # noqa: F401 - fixtures
    WRITE_KEY,
    Running,
    collector,
    limits,
    settings,
    starting,
)
from tests.sinks.conftest import Sender, sink_of
from tests.sinks.events import Account


async def test_calls_arrive_and_are_understood(
    collector: Running,  # noqa: F811
    secret: Path,
    sender: Sender,
) -> None:
    secret.write_text(WRITE_KEY)
    to = "{url: <url>/v1/batch, key: 'file:<secret>'}"
    sink = sink_of("segment", to, url=collector.url, secret=secret)
    acme = Account("hubspot:7")
    changes = [acme.state({"engagement": "warm", "size": "small"}), acme.moved("hot", was="warm")]
    assert await sender.send(sink, *changes) == [Delivered()] * 2
    found = await collector.arrived(WEB_ACTIVITY, 5)
    assert {json.loads(each.value)["messageId"] for each in found} == {
        f"isotherm:{changes[0].id}:group",
        f"isotherm:{changes[0].id}:track:engagement",
        f"isotherm:{changes[0].id}:track:size",
        f"isotherm:{changes[1].id}:group",
        f"isotherm:{changes[1].id}:track:engagement",
    }
    said = [part for each in found for part in each.decoded()]
    assert all(isinstance(part, Observation) for part in said)
    kinds = [(part.kind, part.name, part.claims.group) for part in said if isinstance(part, Observation)]
    assert kinds.count(("activity", "account_segment_changed", "hubspot:7")) == 3
    assert kinds.count(("facts", "", "hubspot:7")) == 2
