"""A worker starts while Kafka is not there yet, or not everywhere."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from streams import consuming, outage, topics
from streams.settings import Settings


class Consumer:
    """It reaches the broker at the third attempt; one that did not is stopped."""

    made: list[Consumer]

    def __init__(self) -> None:
        self.stopped = False
        self.made.append(self)

    async def start(self) -> None:
        if len(self.made) < 3:
            raise KafkaConnectionError("Connection closed")

    async def stop(self) -> None:
        self.stopped = True


class Admin:
    """A broker that has not heard yet of the topics that another one has made."""

    asked = 0

    def __init__(self, **given: Any) -> None:
        pass

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def list_topics(self) -> list[str]:
        type(self).asked += 1
        return list(topics.CONFIGS) if self.asked > 2 else []

    async def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        return [{"topic": name, "partitions": [{}, {}]} for name in names]


async def test_a_broker_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "FIRST_S", 0.001)
    monkeypatch.setattr(Consumer, "made", [], raising=False)
    monkeypatch.setattr(consuming, "consumer", lambda settings, group: Consumer())
    found = await consuming.started(Settings(), "fold", lambda: False)
    assert [each.stopped for each in Consumer.made] == [True, True, False]
    assert found is Consumer.made[-1]


async def test_who_is_told_to_stop_meanwhile_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Consumer, "made", [], raising=False)
    monkeypatch.setattr(consuming, "consumer", lambda settings, group: Consumer())
    assert await consuming.started(Settings(), "fold", lambda: True) is None
    assert Consumer.made == []


async def test_a_broker_that_has_not_heard_of_the_topics_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "AIOKafkaAdminClient", Admin)
    monkeypatch.setattr(Admin, "asked", 0)
    await topics.check(Settings(partitions=2))
    assert Admin.asked == 3
