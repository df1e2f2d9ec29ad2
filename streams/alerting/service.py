"""Alerts as a worker runs them: a Faust agent of a group of its own, and the two services behind it.

The agent only hands changes on: it acknowledges one when what follows stands in `alerts.state`. Faust's own
waiting for what is not acknowledged is off (`stream_wait_empty`): on a rebalance the next owner is given it again,
and knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faust
from mode import Service

from streams.alerting import rulebook
from streams.alerting.book import Book
from streams.alerting.channels import Senders
from streams.alerting.knowing import Knowing
from streams.alerting.rulebook import Rulebook
from streams.alerting.settling import Settler
from streams.alerting.telling import Teller
from streams.clock import RedisClock
from streams.producer import Producer
from streams.settings import Settings
from streams.topics import CHANGES


def rules_of(settings: Settings) -> Rulebook | None:
    """The alert rules in force; None when nobody is to be told of anything. Raises RulesetError."""
    wanted = settings.alerts or settings.alert_url.get_secret_value()
    return rulebook.read(settings.alerts) if wanted else None


class Alerting(Service):
    """Started when Redis, Kafka and the clock are there; stopped from the agent on backwards."""

    def __init__(
        self,
        settings: Settings,
        rules: Rulebook,
        redis: Any,
        producer: Producer,
        clock: RedisClock,
        app: Callable[..., faust.App],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channels = tuple(rules.channels)
        book = Book(settings, redis, producer, rules)
        self.settler = Settler(book, Knowing(redis, settings, rules.facts), clock.now)
        senders = Senders(rules, settings.alert_url.get_secret_value())
        self.teller = Teller(book, senders, clock, self.settler.decided)
        self._app = app(f"{settings.topic_prefix}isotherm.alerts", stream_wait_empty=False)
        changes = self._app.topic(settings.topics(CHANGES), value_type=bytes, key_type=bytes)

        @self._app.agent(changes, name="alerts", concurrency=1)
        async def alerts(stream: Any) -> None:
            async for event in stream.noack().events():
                await self.settler.take(event.value, event.ack)

    async def on_start(self) -> None:
        await self.add_runtime_dependency(self.teller)
        await self.add_runtime_dependency(self.settler)
        self._app.finalize()
        await self.add_runtime_dependency(self._app)
