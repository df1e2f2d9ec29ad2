"""A Slack, a mail server, and alerting on a real broker and a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from rules.durations import SECOND
from streams import topics
from streams.alerting.book import Book
from streams.alerting.channels import Senders
from streams.alerting.knowing import Knowing
from streams.alerting.rulebook import Rulebook
from streams.alerting.seen import Seen
from streams.alerting.settling import Settler
from streams.alerting.telling import Teller
from streams.producer import Producer
from streams.settings import Settings
from tests.alerting.slack import TOKEN, Slack
from tests.alerting.world import MONDAY, moved


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    made = Slack()
    runner = web.AppRunner(made.app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@dataclass
class Postbox:
    """Takes mail; `refused` is what it says to any recipient."""

    port: int = 0
    refused: str = ""
    mails: list[Envelope] = field(default_factory=list)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refused:
            return self.refused
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.mails.append(envelope)
        return "250 OK"


class _Here(Controller):
    """On a port of the system's choosing."""

    def _trigger_server(self) -> None:
        server: Any = self.server
        self.port = server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]  # aiosmtpd has no types


@pytest.fixture
def postbox() -> Iterator[Postbox]:
    box = Postbox()
    controller = _Here(box, hostname="127.0.0.1", port=0)
    controller.start()
    box.port = controller.port
    yield box
    controller.stop()


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SLACK_TOKEN", TOKEN)
    return TOKEN


@dataclass
class Clock:
    at: int = MONDAY

    def now(self) -> int:
        return self.at

    async def keep(self) -> None:
        """Nothing drifts here."""


@dataclass
class Alerting:
    """What a worker runs, a call at a time. A new one on the same servers is who comes after a crash."""

    settings: Settings
    redis: Any
    producer: Producer
    rules: Rulebook
    clock: Clock
    url: str = ""

    def __post_init__(self) -> None:
        self.book = Book(self.settings, self.redis, self.producer, self.rules)
        knowing = Knowing(self.redis, self.settings, self.rules.facts)
        self.settler = Settler(self.book, knowing, self.clock.now)
        self.senders = Senders(self.rules, self.url)
        self.teller = Teller(self.book, self.senders, self.clock, self.settler.decided)

    async def sees(self, *changes: Seen) -> None:
        await self.settler.settle(changes)

    async def heats(self, account: str, n: int, **more: Any) -> None:
        await self.sees(moved(account, "warm", "hot", self.clock.at, n, **more))

    async def cools(self, account: str, n: int) -> None:
        await self.sees(moved(account, "hot", "warm", self.clock.at, n))

    async def tells(self) -> None:
        """Serves every recipient until nothing more is due at this moment."""
        while queues := await self.book.waiting(self.clock.at):
            for queue in queues:
                await self.redis.delete(self.book._key(f"turn:{queue}"))
                await (self.teller.serve(queue) if queue else self.teller.pass_time())

    async def phase(self, account: str) -> str:
        (state,) = (await self.book.states([account])).values()
        return str(state.alerts["hot"].phase)


@dataclass
class Servers:
    settings: Settings
    redis: Any
    producer: Producer
    clock: Clock = field(default_factory=Clock)
    made: list[Alerting] = field(default_factory=list)

    def alerting(self, rules: Rulebook, url: str = "") -> Alerting:
        self.made.append(Alerting(self.settings, self.redis, self.producer, rules, self.clock, url))
        return self.made[-1]

    def wait(self, length: int = SECOND) -> None:
        self.clock.at += length


@pytest.fixture
async def servers(settings_of: Callable[..., Settings], redis: Any) -> AsyncIterator[Servers]:
    settings = settings_of(partitions=2)
    await topics.create(settings)
    producer = Producer(settings)
    await producer.start()
    made = Servers(settings, redis, producer)
    yield made
    for each in made.made:
        await each.senders.close()
    await producer.stop()
