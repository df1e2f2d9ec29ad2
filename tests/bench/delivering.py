"""From a change on `segment.changes` to a webhook received, and what waiting costs while an endpoint is down.

The worker is `isotherm worker --role deliver` in a process of its own, the receiver another, the broker and Valkey
two more: where the machine has fewer cores they share them. The receiver reads the instant at which a change was
given to the broker from the change itself, so broker, reading, signing, sending and receiving are in the number.
Afterwards every change must have arrived at every endpoint.

The second part fills the topic while its only endpoint answers 500, and looks at the worker's memory.

    python tests/bench/delivering.py [--seconds S] [--rate N] [--endpoints N] [--waiting N]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import live
import uvloop
from aiokafka import AIOKafkaProducer
from collecting import answers
from reporting import Table, quantile
from rich.console import Console

from rules.changes import iso
from streams import topics
from streams.embedded import Embedded, free_port
from streams.producer import Producer, partition_of
from streams.settings import Settings
from streams.store.base import Outbound

RATE, ENDPOINTS, GOAL_MS = 200, 10, 500.0
WAITING = 200_000
PARTITIONS = 8
ACCOUNTS = 5_000
WARM_S = 5.0
WITHIN_S = 120.0
SECRET = "whsec_" + base64.b64encode(b"a secret of the bench, long enough").decode()


def change(number: int, at_ns: int) -> tuple[int, str, bytes]:
    """Partition, account and bytes of a change as the publisher writes one, about 1.4 KB."""
    account = f"account-{number * 7919 % ACCOUNTS}"
    partition = partition_of(account, PARTITIONS)
    at = iso(at_ns // 1_000_000)
    leaves = [
        {"says": f"{n} pricing page views in 7 days (needs 3)", "verdict": "true", "value": n, "threshold": 3,
         "evidence": [{"at": at, "id": f"ajs-next-{number:016x}", "position": number}]}
        for n in range(3, 6)
    ]  # fmt: skip
    data = {
        "account": account, "name": str(at_ns), "dimension": "engagement", "from": "warm", "to": "hot",
        "effective": at, "decided": at, "cause": "data", "origin": "live", "stays_until": at,
        "reason": {"text": leaves[0]["says"], "because": {"says": "any", "verdict": "true", "parts": leaves}},
        "owner": "sales", "action": {"do": "call them today", "alert": "#sales"}, "ruleset": "6f2a9c11",
        "position": {"partition": partition, "epoch": 0, "offset": number, "n": 0},
    }  # fmt: skip
    event = {
        "specversion": "1.0", "id": f"{partition}.0.{number}.0", "source": f"/isotherm/account.log/{partition}",
        "type": "segment.moved", "subject": account, "time": at, "datacontenttype": "application/json",
        "partitionkey": account, "data": data,
    }  # fmt: skip
    return partition, account, json.dumps(event, separators=(",", ":")).encode()


# -- the receiver: a process of its own


class Taking(asyncio.Protocol):
    """Answers every POST at once; `GET` tells what came. A framework would cost more than what it measures."""

    def __init__(self, latencies: dict[bytes, list[float]], status: bytes) -> None:
        self.latencies, self.status, self.held = latencies, status, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.held += data
        while True:
            head, found, body = self.held.partition(b"\r\n\r\n")
            if not found:
                return
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(body) < length:
                return
            self.held = body[length:]
            method, path, _ = head.split(b" ", 2)
            if method == b"GET":
                self.tell(path)
            else:
                sent = int(body.partition(b'"name":"')[2].partition(b'"')[0])
                self.latencies.setdefault(path, []).append((time.time_ns() - sent) / 1e6)
                self.transport.write(b"HTTP/1.1 %b X\r\nContent-Length: 0\r\n\r\n" % self.status)

    def tell(self, path: bytes) -> None:
        if path == b"/forget":
            self.latencies.clear()
        told = json.dumps({name.decode(): each for name, each in self.latencies.items()}).encode()
        if path == b"/count":
            told = json.dumps({name.decode(): len(each) for name, each in self.latencies.items()}).encode()
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told)


async def receive(port: int, status: bytes) -> None:
    latencies: dict[bytes, list[float]] = {}
    server = await asyncio.get_running_loop().create_server(lambda: Taking(latencies, status), "127.0.0.1", port)
    await server.serve_forever()


def asked(port: int, path: str) -> Any:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return json.load(answer)


# -- the processes


@contextmanager
def process(command: list[str], directory: Path, name: str, environment: dict[str, str]) -> Iterator[int]:
    with (directory / f"{name}.log").open("ab") as log:
        running = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield running.pid
        if running.poll() is not None:
            raise RuntimeError(f"{name} ended:\n{(directory / f'{name}.log').read_text()[-3000:]}")
    finally:
        running.terminate()
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextmanager
def installation(directory: Path, count: int, status: int) -> Iterator[tuple[Settings, int, int]]:
    """Settings, the receiver's port and the worker's process id."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    webhooks = directory / "webhooks.yaml"
    lines = ["allow: [127.0.0.0/8]", "endpoints:"]
    for number in range(count):
        to = f'{{url: "http://127.0.0.1:{port}/{number}", secrets: ["env:BENCH_SECRET"]}}'
        lines.append(f"  - {{name: e{number}, to: {to}, start: beginning}}")
    webhooks.write_text("\n".join(lines) + "\n")
    with Embedded(directory / "servers") as servers:
        settings = Settings(kafka=servers.kafka, redis=servers.redis, partitions=PARTITIONS, idempotence=False)
        asyncio.run(topics.create(settings))
        environment = os.environ | {
            "ISOTHERM_KAFKA": servers.kafka,
            "ISOTHERM_REDIS": servers.redis,
            "ISOTHERM_PARTITIONS": str(PARTITIONS),
            "ISOTHERM_IDEMPOTENCE": "false",
            "ISOTHERM_WEBHOOKS": str(webhooks),
            "ISOTHERM_SESSION_TIMEOUT_MS": "6000",
            "BENCH_SECRET": SECRET,
        }
        receiver = [sys.executable, str(Path(__file__)), "--receive", str(port), "--status", str(status)]
        worker = [sys.executable, "-m", "streams.cli", "worker", "--role", "deliver", "--log-level", "warning"]
        with process(receiver, directory, "receiver", dict(os.environ)):
            until = time.monotonic() + 30
            while not answers(f"http://127.0.0.1:{port}/count") and time.monotonic() < until:
                time.sleep(0.05)
            with process(worker, directory, "worker", environment) as pid:
                yield settings, port, pid


# -- how late


@dataclass(frozen=True, slots=True)
class Late:
    """Milliseconds from the broker being given a change to an endpoint having it."""

    latencies: list[float]
    rate: float
    endpoints: int
    cpu: float | None  # of the worker, as a share of a core
    missing: int


def how_late(directory: Path, seconds: float, rate: int = RATE, count: int = ENDPOINTS) -> Late:
    with installation(directory, count, 200) as (settings, port, pid):
        warm = int(rate * WARM_S)
        uvloop.run(send_one_by_one(settings, 0, warm, rate))
        until_arrived(port, warm, count)
        asked(port, "/forget")
        number, before, begun = int(rate * seconds), live.process_cpu(pid), time.perf_counter()
        uvloop.run(send_one_by_one(settings, warm, number, rate))
        took, after = time.perf_counter() - begun, live.process_cpu(pid)
        until_arrived(port, number, count)
        told = asked(port, "/all")
    found = [each for latencies in told.values() for each in latencies]
    cpu = None if before is None or after is None else (after - before) / took
    return Late(found, number / took, count, cpu, number * count - len(found))


async def send_one_by_one(settings: Settings, first: int, count: int, rate: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, linger_ms=0) as producer:
        begun, pending = time.perf_counter(), []
        for number in range(count):
            if (ahead := begun + number / rate - time.perf_counter()) > 0:
                await asyncio.sleep(ahead)
            partition, account, value = change(first + number, time.time_ns())
            topic = settings.topics(topics.CHANGES)
            pending.append(await producer.send(topic, value, key=account.encode(), partition=partition))
        await asyncio.gather(*pending)


def until_arrived(port: int, each: int, endpoints: int) -> None:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        counts = asked(port, "/count")
        if len(counts) == endpoints and min(counts.values()) >= each:
            return
        time.sleep(0.2)


# -- how big


@dataclass(frozen=True, slots=True)
class Waiting:
    """Resident memory of the worker in MB, with so many changes waiting in Kafka for an endpoint that is down."""

    changes: int
    before: float
    most: float
    after: float
    requests: int


def how_big(directory: Path, waiting: int = WAITING) -> Waiting:
    with installation(directory, 1, 500) as (settings, port, pid):
        uvloop.run(send_one_by_one(settings, 0, 20, 20))
        deadline = time.monotonic() + WITHIN_S
        while not asked(port, "/count") and time.monotonic() < deadline:
            time.sleep(0.2)
        before = resident_mb(pid)
        uvloop.run(send_all(settings, 20, waiting))
        samples = []
        for _ in range(100):
            samples.append(resident_mb(pid))
            time.sleep(0.2)
        requests = sum(asked(port, "/count").values())
    return Waiting(waiting, before, max(samples), samples[-1], requests)


async def send_all(settings: Settings, first: int, count: int) -> None:
    producer = Producer(settings)
    await producer.start()
    try:
        for start in range(first, first + count, 2_000):
            messages = [
                Outbound(topics.CHANGES, account, value, partition=partition)
                for partition, account, value in (
                    change(number, time.time_ns()) for number in range(start, min(start + 2_000, first + count))
                )
            ]
            await producer.send(messages, int(time.time() * 1000))
    finally:
        await producer.stop()


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# -- telling


def tables(late: Late, waiting: Waiting) -> list[Table]:
    p50, p99 = quantile(late.latencies, 0.5), quantile(late.latencies, 0.99)
    first = Table(
        "A change on segment.changes until a webhook is received",
        ["", "p50 ms", "p99 ms", "changes/s", "requests/s", "worker's CPU", "goal"],
    )
    cpu = f"{late.cpu:.0%} of a core" if late.cpu is not None else "–"
    goal = f"p99 < {GOAL_MS:.0f} ms" + ("" if p99 < GOAL_MS else ", missed")
    requests = f"{late.rate * late.endpoints:,.0f}"
    name = f"{late.endpoints} endpoints"
    first.rows.append([name, f"{p50:.0f}", f"{p99:.0f}", f"{late.rate:,.0f}", requests, cpu, goal])
    first.notes.append("one worker, signed, recorded in Valkey; broker, Valkey and receiver on the same machine")
    second = Table(
        "Memory of the worker while its endpoint is down",
        ["", "MB before", "MB at most", "MB afterwards", "requests made"],
    )
    row = [f"{waiting.before:.0f}", f"{waiting.most:.0f}", f"{waiting.after:.0f}", f"{waiting.requests:,}"]
    second.rows.append([f"{waiting.changes:,} changes waiting in Kafka", *row])
    return [first, second]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=RATE)
    parser.add_argument("--endpoints", type=int, default=ENDPOINTS)
    parser.add_argument("--waiting", type=int, default=WAITING)
    parser.add_argument("--receive", type=int, default=0, help="be the receiver, on this port")
    parser.add_argument("--status", default="200")
    options = parser.parse_args()
    if options.receive:
        uvloop.run(receive(options.receive, options.status.encode()))
        return
    with tempfile.TemporaryDirectory(prefix="isotherm-bench-") as directory:
        late = how_late(Path(directory) / "late", options.seconds, options.rate, options.endpoints)
        waiting = how_big(Path(directory) / "big", options.waiting)
    for table in tables(late, waiting):
        table.show(Console())
    if late.missing:
        raise SystemExit(f"{late.missing:,} deliveries are missing")


if __name__ == "__main__":
    main()
