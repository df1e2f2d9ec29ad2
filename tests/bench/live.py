"""How long it takes, at 1,000 events a second: a worker as its own process, load and reader in this one.

A known share of the events is the first pricing view of a fresh account, which publishes its `account.state`; by
the account the reader knows which event that was. All other events are page views of accounts that are warm
already and change nothing. An event's clock starts just before it is sent and stops when a reader of
`segment.changes` has the change in hand. The *floor* is the same producer, reader, rate and size over one topic:
what the broker itself takes for one of our three hops (web.activity, account.log, segment.changes).

For an exit by time the clock starts at the instant from which the account is no longer warm: 14 days after its
only pricing view, which was received with a time of nearly 14 days ago.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from events import create_topic
from pydantic import SecretStr
from workload import SHIPPED

from rules.changes import iso
from streams import topics
from streams.deploy import deploy
from streams.settings import Settings

RATE = 1_000  # events a second
FRESH = 10  # one in so many events is of a fresh account and makes a change
QUIET = 2_000  # accounts that have the rest of the events
EXITS = 25  # a second
KEPT_FOR = 14 * 86_400_000  # ms: `seen: pricing_viewed, within: 14d` keeps an account warm
PATIENCE_S = 20.0
SETTLING_S = 3.0  # at the rate, before anything is measured
SOURCE_PARTITIONS = topics.SOURCE_PARTITIONS


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of each measured event; `missing` never arrived."""

    name: str
    ms: list[float]
    missing: int
    late_ms: float  # by which the load generator itself was behind its schedule, worst
    worker_cpu: float | None = None  # seconds of the worker's CPU per second


@dataclass(slots=True)
class Installation:
    """Topics, rules and a running worker on servers that somebody else started."""

    settings: Settings
    directory: Path
    process: subprocess.Popen[bytes] | None = None
    serial: Iterator[int] = field(default_factory=lambda: iter(range(10**12)))

    async def start(self) -> None:
        settings = self.settings
        await topics.create(settings)
        await self._deploy()
        with (self.directory / "worker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", "worker", "--log-level", "warning"],
                env=os.environ | self.environment,
                cwd=self.directory,
                stdout=log,
                stderr=log,
            )
        await self._warm()

    async def _deploy(self) -> None:
        """The rules into the log; Apache Kafka shows a topic that it has created a moment later."""
        for _ in range(40):
            try:
                await deploy(SHIPPED, "bench", self.settings)
                return
            except topics.TopicsError as error:
                missing = error
                await asyncio.sleep(0.25)
        raise missing

    @property
    def environment(self) -> dict[str, str]:
        """The settings, as a process is given them."""
        return {
            f"ISOTHERM_{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in self.settings.model_dump().items()
        }

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()
            self.process.wait()

    def cpu(self) -> float | None:
        """Seconds the worker has used so far."""
        return process_cpu(self.process.pid) if self.process is not None else None

    async def _warm(self) -> None:
        """The quiet accounts, each viewed often enough that further page views change nothing."""
        async with (
            Subscriber(self.settings, self.settings.topics(topics.CHANGES)) as reader,
            _producer(self) as kafka,
        ):
            web = self.settings.topics(topics.WEB_ACTIVITY)
            for _ in range(12):
                now = int(time.time() * 1000)
                for account in range(QUIET):
                    await kafka.send(
                        web, page(next(self.serial), now, f"q-{account}", "/docs/api"), key=_key(account)
                    )
            await kafka.flush()
            waiting = {f"group:q-{account}" for account in range(QUIET)}
            deadline = time.monotonic() + 90
            while waiting and time.monotonic() < deadline:
                for value, _, _ in await reader.some(0.2):
                    data = json.loads(value)["data"]
                    if data.get("to") == "warm":
                        waiting.discard(data["account"])
            if waiting:
                said = (self.directory / "worker.log").read_text()[-2000:]
                raise RuntimeError(f"{len(waiting)} accounts never became warm; the worker said:\n{said}")


def page(number: int, at: int, group: str, path: str) -> bytes:
    """A page call as on the wire, some 500 bytes."""
    call = {
        "type": "page",
        "name": "Plans and pricing",
        "userId": f"u-{group}",
        "anonymousId": "507f191e-810c-4c1e-8f7a",
        "messageId": f"ajs-next-{number:016x}",
        "timestamp": iso(at),
        "receivedAt": iso(at),
        "context": {"groupId": group, "library": {"name": "analytics.js", "version": "2.11.1"}, "locale": "en-US"},
        "properties": {
            "path": path,
            "url": f"https://www.example.com{path}",
            "title": "Plans and pricing",
            "ms": 840,
        },
    }
    return json.dumps(call).encode()


def _key(number: int) -> bytes:
    return f"u-{number}".encode()


def _producer(installation: Installation) -> AIOKafkaProducer:
    return AIOKafkaProducer(bootstrap_servers=installation.settings.kafka)


class Subscriber:
    """Reads a topic from its present end; what it gives carries the instants at which it was in hand."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        self._kafka = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka,
            enable_auto_commit=False,
            fetch_max_wait_ms=settings.fetch_max_wait_ms,
        )

    async def __aenter__(self) -> Subscriber:
        await self._kafka.start()
        await self._kafka._client.force_metadata_update()
        numbers = self._kafka.partitions_for_topic(self._topic) or await self._looked_up()
        places = [TopicPartition(self._topic, number) for number in numbers]
        self._kafka.assign(places)
        await self._kafka.seek_to_end(*places)
        for place in places:
            await self._kafka.position(place)
        return self

    async def _looked_up(self) -> set[int]:
        found: set[int] = await self._kafka._client._wait_on_metadata(self._topic)
        return found

    async def __aexit__(self, *_: object) -> None:
        await self._kafka.stop()

    async def some(self, within: float) -> list[tuple[bytes, float, float]]:
        """(value, perf_counter in s, UTC ms), empty after `within` seconds of silence."""
        batches = await self._kafka.getmany(timeout_ms=int(within * 1000))
        now, wall = time.perf_counter(), time.time() * 1000
        return [(record.value, now, wall) for records in batches.values() for record in records]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Our own garbage collection would be measured as latency."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@dataclass(slots=True)
class Schedule:
    """Keeps the rate: event n is due n / rate seconds after the start, whatever happened to the one before."""

    seconds: float
    rate: int = RATE
    late_ms: float = 0.0

    async def run(self, send: Any) -> None:
        begun = time.perf_counter()
        count = int(self.seconds * self.rate)
        number = 0
        while number < count:
            elapsed = time.perf_counter() - begun
            due = min(count, int(elapsed * self.rate) + 1)
            if due > number:
                self.late_ms = max(self.late_ms, (elapsed - number / self.rate) * 1000)
            while number < due:
                await send(number)
                number += 1
            await asyncio.sleep(max(0.0, begun + number / self.rate - time.perf_counter()))


async def floor(settings: Settings, name: str, seconds: float) -> Latency:
    """One hop: produce to readable on one topic, at the same rate and size."""
    topic = settings.topics(f"floor.{time.time_ns()}")
    await create_topic(settings.kafka, topic, SOURCE_PARTITIONS)
    sent: list[float] = []
    got: dict[int, float] = {}
    schedule = Schedule(SETTLING_S + seconds)
    padding = "x" * 480
    with undisturbed():
        async with (
            Subscriber(settings, topic) as reader,
            AIOKafkaProducer(bootstrap_servers=settings.kafka) as kafka,
        ):

            async def send(number: int) -> None:
                sent.append(time.perf_counter())
                await kafka.send(topic, f"{number} {padding}".encode(), key=_key(number))

            async def read() -> None:
                while len(got) < int(schedule.seconds * RATE):
                    for value, at, _ in await reader.some(0.2):
                        got[int(value.split(b" ", 1)[0])] = at

            await _both(schedule.run(send), read())
    measured = range(int(SETTLING_S * RATE), int(schedule.seconds * RATE))
    ms = [(got[n] - sent[n]) * 1000 for n in measured if n in got]
    return Latency(name, ms, len(measured) - len(ms), schedule.late_ms)


async def changes(installation: Installation, name: str, seconds: float, rate: int = RATE) -> Latency:
    """From append on `web.activity` to readable on `segment.changes`."""
    settings, serial = installation.settings, installation.serial
    web = settings.topics(topics.WEB_ACTIVITY)
    sent: dict[str, float] = {}
    got: dict[str, float] = {}
    schedule = Schedule(SETTLING_S + seconds, rate)
    fresh_from = next(serial)
    with undisturbed():
        async with (
            Subscriber(settings, settings.topics(topics.CHANGES)) as reader,
            _producer(installation) as kafka,
        ):

            async def send(number: int) -> None:
                now, serial_ = int(time.time() * 1000), next(serial)
                if number % FRESH:
                    account = serial_ % QUIET
                    await kafka.send(web, page(serial_, now, f"q-{account}", "/docs/api"), key=_key(account))
                    return
                group = f"f-{fresh_from}-{number}"
                value = page(serial_, now, group, "/pricing")
                if number >= SETTLING_S * rate:
                    sent[f"group:{group}"] = time.perf_counter()
                await kafka.send(web, value, key=_key(serial_))

            async def read() -> None:
                expected = int(seconds * rate) // FRESH
                while len(got) < expected:
                    for value, at, _ in await reader.some(0.2):
                        account = json.loads(value)["data"]["account"]
                        if account in sent:
                            got.setdefault(account, at)

            cpu, begun = installation.cpu(), time.perf_counter()
            await _both(schedule.run(send), read())
            used = _share(installation.cpu(), cpu, time.perf_counter() - begun)
    ms = [(got[account] - at) * 1000 for account, at in sent.items() if account in got]
    return Latency(name, ms, len(sent) - len(ms), schedule.late_ms, used)


async def exits(installation: Installation, name: str, seconds: float) -> Latency:
    """From the instant at which an account is warm no more to the change being readable, at the same load."""
    settings, serial = installation.settings, installation.serial
    web = settings.topics(topics.WEB_ACTIVITY)
    count = int(seconds * EXITS)
    expected: dict[str, int] = {}  # account -> the instant, UTC ms
    ms: dict[str, float] = {}
    schedule = Schedule(SETTLING_S + seconds)
    with undisturbed():
        async with (
            Subscriber(settings, settings.topics(topics.CHANGES)) as reader,
            _producer(installation) as kafka,
        ):
            first, batch = int(time.time() * 1000) + int(SETTLING_S * 1000), next(serial)
            for n in range(count):
                group, leaves = f"x-{batch}-{n}", first + n * 1000 // EXITS
                expected[f"group:{group}"] = leaves
                await kafka.send(web, page(next(serial), leaves - KEPT_FOR, group, "/pricing"), key=_key(n))

            async def send(number: int) -> None:
                now, account = int(time.time() * 1000), number % QUIET
                value = page(next(serial), now, f"q-{account}", "/docs/api")
                await kafka.send(web, value, key=_key(account))

            async def read() -> None:
                while len(ms) < count:
                    for value, _, wall in await reader.some(0.2):
                        data = json.loads(value)["data"]
                        leaves = expected.get(data["account"])
                        if leaves is not None and data.get("to") == "cold":
                            if data["cause"] != "time" or instant(data["effective"]) != leaves:
                                raise AssertionError(
                                    f"{data['account']} left at {data['effective']}: {data['cause']}"
                                )
                            ms[data["account"]] = wall - leaves

            await _both(schedule.run(send), read())
    return Latency(name, list(ms.values()), count - len(ms), schedule.late_ms)


def instant(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


async def _both(sending: Any, reading: Any) -> None:
    """The load to its end, then as long as anything may still arrive."""
    reader = asyncio.ensure_future(reading)
    await sending
    with suppress(TimeoutError):
        await asyncio.wait_for(reader, PATIENCE_S)


def _share(after: float | None, before: float | None, seconds: float) -> float | None:
    return None if after is None or before is None else (after - before) / seconds


def process_cpu(pid: int) -> float | None:
    """User and system seconds of a process and of the children it waited for; None where that cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
