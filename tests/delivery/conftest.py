"""A receiver as customers have one, changes as the publisher writes them, and a clock that the test moves."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer
from standardwebhooks.webhooks import Webhook

from rules.changes import iso
from streams import topics
from streams.delivery.addresses import Allowed
from streams.delivery.asking import Http
from streams.delivery.endpoints import Endpoint
from streams.delivery.policy import Policy
from streams.delivery.service import Deliverer
from streams.delivery.store import DeliveryStore
from streams.embedded import Valkey
from streams.news import Filter
from streams.producer import partition_of
from streams.settings import Settings
from streams.sinks.secret import Held
from streams.sinks.webhook import WebhookSink
from tests.conftest import running

PARTITIONS = 2
WITHIN_S = 60
SECRET = "whsec_" + base64.b64encode(b"a secret of the tests, long enough").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"the next secret of the tests, too").decode()
HERE = Allowed((ip_network("127.0.0.0/8"),))
START = 1_767_225_600_000
LIVE = Filter(origins=("live",))


def moved(n: int, account: str = "acme", dimension: str = "engagement", after: str = "hot", **more: Any) -> bytes:
    """A change of a ladder as it stands in `segment.changes`; `n` is its place in the log."""
    partition = partition_of(account, PARTITIONS)
    data = {
        "account": account, "name": account.title(), "dimension": dimension, "from": "warm", "to": after,
        "effective": iso(START), "decided": iso(START), "cause": "data", "origin": "live", "stays_until": None,
        "reason": {"text": "3 pricing views in 7 days"}, "owner": "sales", "action": {}, "ruleset": "r1",
        "position": {"partition": partition, "epoch": 0, "offset": n, "n": 0},
    }  # fmt: skip
    return event("segment.moved", data | more)


def gone(n: int, account: str = "acme") -> bytes:
    data = json.loads(moved(n, account))["data"]
    for name in ("dimension", "from", "to"):
        del data[name]
    return event("account.state", data | {"deleted": True, "memberships": {}})


def event(type: str, data: dict[str, Any]) -> bytes:
    position = data["position"]
    id = f"{position['partition']}.{position['epoch']}.{position['offset']}.{position['n']}"
    envelope = {
        "specversion": "1.0", "id": id, "source": f"/isotherm/account.log/{position['partition']}", "type": type,
        "subject": data["account"], "time": data["effective"], "datacontenttype": "application/json",
        "partitionkey": data["account"], "data": data,
    }  # fmt: skip
    return json.dumps(envelope, separators=(",", ":")).encode()


def id_of(change: bytes) -> str:
    return str(json.loads(change)["id"])


@dataclass
class Got:
    """A request as it arrived, already verified."""

    path: str
    id: str
    body: bytes
    headers: dict[str, str]

    @property
    def account(self) -> str:
        return str(json.loads(self.body)["data"]["account"])


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def fine(request: web.Request) -> web.StreamResponse:
    return web.Response(text="ok")


async def down(request: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


@dataclass
class Receiver:
    """A real HTTP server; each path answers as the test says, and every signature is verified by the library."""

    url: str = ""
    got: list[Got] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    secret: str = SECRET
    before_answering: Callable[[Got], None] = lambda got: None
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        Webhook(self.secret).verify(body, headers)  # raises: the answer is then a 500
        got = Got(request.path, headers["webhook-id"], body, headers)
        async with self._changed:
            self.got.append(got)
            self._changed.notify_all()
        self.before_answering(got)
        return await self.answers.get(request.path, fine)(request)

    async def until(self, count: int, path: str = "") -> list[Got]:
        """The requests, as soon as there are so many."""

        def found() -> list[Got]:
            return [each for each in self.got if path in ("", each.path)]

        async with asyncio.timeout(WITHIN_S), self._changed:
            await self._changed.wait_for(lambda: len(found()) >= count)
        return found()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    kept = Receiver()
    server = web.Application()
    server.router.add_post("/{path:.*}", kept.take)
    runner = web.AppRunner(server, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    kept.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield kept
    await runner.cleanup()


@pytest.fixture
def settings(settings_of: Callable[..., Settings], redis: Any) -> Settings:
    return settings_of(partitions=PARTITIONS, role="deliver")


@pytest.fixture
async def changes(settings: Settings) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Publishes changes, each into its account's partition."""
    await topics.create(settings)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:

        async def publish(*values: bytes) -> None:
            for value in values:
                account = json.loads(value)["subject"]
                partition = partition_of(account, PARTITIONS)
                topic = settings.topics(topics.CHANGES)
                await producer.send_and_wait(topic, value, key=account.encode(), partition=partition)

        yield publish


class VirtualClock:
    """Time stands still until the test moves it."""

    def __init__(self, now: int = START) -> None:
        self._now = now
        self._sleeping: dict[asyncio.Future[None], int] = {}
        self._someone_slept = asyncio.Condition()

    def now(self) -> int:
        return self._now

    async def keep(self) -> None:
        pass

    async def wait(self, event: asyncio.Event, until: int | None) -> None:
        if event.is_set() or (until is not None and until <= self._now):
            await asyncio.sleep(0)
            return
        asleep = asyncio.get_running_loop().create_future()
        if until is not None:
            self._sleeping[asleep] = until
            async with self._someone_slept:
                self._someone_slept.notify_all()
        woken = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait([asleep, woken], return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            self._sleeping.pop(asleep, None)

    async def sleeps_until(self, instant: int) -> None:
        """Returns when somebody sleeps until exactly then."""
        async with asyncio.timeout(WITHIN_S), self._someone_slept:
            await self._someone_slept.wait_for(lambda: instant in self._sleeping.values())

    def move_to(self, instant: int) -> None:
        self._now = instant
        for asleep, until in list(self._sleeping.items()):
            if until <= instant and not asleep.done():
                asleep.set_result(None)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey of one test's own, to be stopped."""
    with running(Valkey(tmp_path / "valkey")) as server:
        yield server


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def endpoint(receiver: Receiver, name: str = "journeys", **more: Any) -> Endpoint:
    """One that posts to `/NAME` of the receiver, with the secret in the environment."""
    secrets = more.pop("secrets", (Held("env", "TEST_WEBHOOK_SECRET"),))
    sink = WebhookSink(more.pop("url", f"{receiver.url}/{name}"), secrets)
    given = {"filter": LIVE, "start": "beginning", "allowed": HERE} | more
    return Endpoint(name, "webhook", sink, **given)


@dataclass
class Delivering:
    """Starts deliverers, and asks Redis what came of it."""

    settings: Settings
    redis: Any
    clock: VirtualClock
    stack: AsyncExitStack
    told: list[bytes] = field(default_factory=list)

    async def start(
        self, endpoint: Endpoint, policy: Policy | None = None, within_s: float = 15.0, **more: Any
    ) -> Deliverer:
        policy = policy or Policy()
        more.setdefault("http", Http(endpoint.allowed, policy.window, within_s))
        made = Deliverer(self.settings, endpoint, self.redis, self.clock, self._tell, policy, **more)
        await made.start()
        self.stack.push_async_callback(made.stop)
        return made

    async def _tell(self, endpoint: str, event: bytes) -> None:
        self.told.append(event)

    def store(self, name: str = "journeys") -> DeliveryStore:
        return DeliveryStore(self.redis, self.settings.namespace, name)

    async def find(self, id: str, name: str = "journeys") -> Any:
        return await self.store(name).find(id, PARTITIONS)

    async def until(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Returns when it is so; that is written down by the deliverer, which tells nobody when it does."""
        async with asyncio.timeout(WITHIN_S):
            while not await is_so():
                await asyncio.sleep(0.01)


@pytest.fixture
async def delivering(
    settings: Settings, redis: Any, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Delivering]:
    monkeypatch.setenv("TEST_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("TEST_OTHER_SECRET", OTHER_SECRET)
    async with AsyncExitStack() as stack:
        yield Delivering(settings, redis, clock, stack)
