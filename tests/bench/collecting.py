"""How many requests and events a second the HTTP collector takes, acknowledged by Kafka.

The collector is `isotherm collect` in a process of its own, the client another, the broker a third: where the
machine has fewer cores they share them, and the collector's CPU a request says more than the rate. Beside them
stands what bounds them: a bare Starlette endpoint that answers without Kafka, asked by the same client, and
produces of 64 messages that the broker acknowledged one after the other. Afterwards as many messages must be
readable as were accepted.

    python tests/bench/collecting.py [--seconds S]
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
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import live
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from reporting import Table
from rich.console import Console

from streams import topics
from streams.embedded import Broker, free_port
from streams.producer import Producer
from streams.settings import Settings
from streams.store.base import Outbound

CONNECTIONS = 128  # each with one request under way
IN_A_BATCH = 100  # calls, as Segment's libraries gather
TOGETHER = 64  # messages in one produce of the broker's ceiling
VARIANTS = 512  # requests made beforehand, each of another visitor
KEY = "key-of-the-bench"
GOALS = {"collector, single calls": ("requests", 2_000), "collector, batches": ("events", 20_000)}
BARE = "bare Starlette, no Kafka"
START_WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Taken:
    """What one server answered with 2xx. `cpu` in seconds of that server; None where it cannot be read."""

    name: str
    requests: int
    events: int
    refused: int
    seconds: float
    cpu: float | None


def measure(directory: Path, seconds: float) -> tuple[list[Taken], float, str]:
    """The runs, the broker's acknowledged produces a second, and what is wrong with the outcome, or ""."""
    with Broker(directory / "broker") as broker:
        settings = Settings(kafka=broker.address, partitions=1, idempotence=False)
        asyncio.run(topics.create(settings))
        port = free_port()
        environment = os.environ | {
            "ISOTHERM_KAFKA": broker.address,
            "ISOTHERM_IDEMPOTENCE": "false",
            "ISOTHERM_COLLECTOR_PORT": str(port),
            "ISOTHERM_WRITE_KEYS": f"bench:{KEY}",
        }
        command = [sys.executable, "-m", "streams.cli", "collect", "--log-level", "warning"]
        with server(command, f"http://127.0.0.1:{port}/readyz", directory, environment) as pid:
            warm(port)
            found = [asked(name, pid, port, kind, seconds) for name, kind in KINDS.items()]
        accepted = sum(each.events for each in found) + WARM
        held = uvloop.run(readable(broker.address, settings.topics(topics.WEB_ACTIVITY), accepted))
        produces = uvloop.run(produces_a_second(settings, min(seconds, 5.0)))
    port = free_port()
    command = [sys.executable, str(Path(__file__)), "--bare", str(port)]
    with server(command, f"http://127.0.0.1:{port}/readyz", directory, dict(os.environ)) as pid:
        found.append(asked(BARE, pid, port, "track", seconds))
    return found, produces, "" if held == accepted else f"{accepted:,} accepted, {held:,} can be read"


KINDS = {"collector, single calls": "track", "collector, batches": "batch"}


@contextmanager
def server(command: list[str], ready: str, directory: Path, environment: dict[str, str]) -> Iterator[int]:
    """Runs it until the end of the block; its process id."""
    with (directory / "server.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=Path(__file__).parent)
    try:
        deadline = time.monotonic() + START_WITHIN
        while not answers(ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((directory / "server.log").read_text()[-2000:])
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def asked(name: str, pid: int, port: int, kind: str, seconds: float) -> Taken:
    """A client in its own process asks for so long."""
    command = [sys.executable, str(Path(__file__)), "--client", f"http://127.0.0.1:{port}/v1/{kind}"]
    before = live.process_cpu(pid)
    done = subprocess.run([*command, "--seconds", str(seconds)], capture_output=True, text=True, check=False)
    after = live.process_cpu(pid)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    told = json.loads(done.stdout)
    events = told["requests"] * (IN_A_BATCH if kind == "batch" else 1)
    cpu = None if before is None or after is None else after - before
    return Taken(name, told["requests"], events, told["refused"], told["seconds"], cpu)


WARM = 200


def warm(port: int) -> None:
    """What is only done once a process is not asked for."""
    told = uvloop.run(client(f"http://127.0.0.1:{port}/v1/track", 0.0, WARM))
    if told["requests"] != WARM:
        raise RuntimeError(f"warming up: {told}")


# -- the client


def request(url: str, number: int) -> bytes:
    """A whole HTTP request, of visitor `number`."""
    parts = urlsplit(url)
    call = {
        "type": "track",
        "event": "Pricing Viewed",
        "anonymousId": f"visitor-{number}",
        "messageId": f"bench-{number}",
        "timestamp": "2026-03-02T09:15:00.000Z",
        "context": {"ip": "203.0.113.7", "page": {"path": "/pricing", "url": "https://acme.example/pricing"}},
        "properties": {"plan": "team", "seats": number, "source": "newsletter", "note": "x" * 120},
    }
    body = json.dumps({"batch": [call] * IN_A_BATCH} if parts.path.endswith("batch") else call).encode()
    basic = base64.b64encode(f"{KEY}:".encode()).decode()
    head = [
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Authorization: Basic {basic}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Asking(asyncio.Protocol):
    """One connection: a request, its answer, the next. An HTTP client would cost more than the server."""

    def __init__(self, run: Client) -> None:
        self.run = run
        self.answer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        if (next_ := self.run.next()) is None:
            self.transport.close()
            self.run.left()
        else:
            self.transport.write(next_)

    def data_received(self, data: bytes) -> None:
        self.answer += data
        head, found, body = self.answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]) if found else 0
        if found and len(body) >= length:
            self.run.count(head[9:12])
            self.answer = b""
            self.ask()


class Client:
    def __init__(self, url: str, seconds: float, most: int) -> None:
        self.requests = [request(url, number) for number in range(VARIANTS)]
        self.until = time.perf_counter() + seconds if seconds else float("inf")
        self.most = most
        self.sent = self.accepted = self.refused = 0
        self.connections = CONNECTIONS
        self.done = asyncio.get_running_loop().create_future()

    def next(self) -> bytes | None:
        if self.sent == self.most or time.perf_counter() > self.until:
            return None
        self.sent += 1
        return self.requests[self.sent % VARIANTS]

    def count(self, status: bytes) -> None:
        if status.startswith(b"2"):
            self.accepted += 1
        else:
            self.refused += 1

    def left(self) -> None:
        self.connections -= 1
        if not self.connections:
            self.done.set_result(None)


async def client(url: str, seconds: float, most: int = 10**9) -> dict[str, float]:
    """Asks for so many seconds (0: `most` times), then waits for the answers that are under way."""
    parts = urlsplit(url)
    run = Client(url, seconds, most)
    begun = time.perf_counter()
    for _ in range(CONNECTIONS):
        await asyncio.get_running_loop().create_connection(lambda: Asking(run), parts.hostname, parts.port)
    await run.done
    return {"requests": run.accepted, "refused": run.refused, "seconds": time.perf_counter() - begun}


# -- what bounds it


def bare(port: int) -> None:
    """The least that a Starlette endpoint must do: read the body, answer 202."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def take(request: Request) -> Response:
        await request.body()
        return Response(b'{"accepted":1}', 202, media_type="application/json")

    async def ready(_: Request) -> Response:
        return Response()

    app = Starlette(routes=[Route("/v1/track", take, methods=["POST"]), Route("/readyz", ready)])
    uvicorn.run(app, port=port, loop="uvloop", lifespan="off", access_log=False, log_level="warning")


async def produces_a_second(settings: Settings, seconds: float) -> float:
    """Produces of TOGETHER messages, each acknowledged before the next is sent."""
    producer = Producer(settings)
    await producer.start()
    try:
        value = request("http://h/v1/track", 1).partition(b"\r\n\r\n")[2]
        messages = [Outbound(topics.WEB_ACTIVITY, f"visitor-{n}", value) for n in range(TOGETHER)]
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            await producer.send(messages, int(time.time() * 1000))
            count += 1
        return count / (time.perf_counter() - begun)
    finally:
        await producer.stop()


async def readable(kafka: str, topic: str, expected: int) -> int:
    """Messages from the beginning, until `expected` were read and nothing more comes.

    Read, because the embedded broker's end offsets lag behind what it has acknowledged and gives to readers.
    """
    places = [TopicPartition(topic, number) for number in range(topics.SOURCE_PARTITIONS)]
    async with AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False) as consumer:
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        count = 0
        while batches := await consumer.getmany(timeout_ms=500 if count >= expected else 10_000):
            count += sum(map(len, batches.values()))
    return count


# -- telling


def table(found: list[Taken], produces: float) -> Table:
    made = Table(
        "The HTTP collector, acknowledged by Kafka",
        ["", "requests/s", "events/s", "requests/s of its CPU", "CPU", "refused", "goal"],
    )
    for each in found:
        made.rows.append(
            [
                each.name,
                f"{each.requests / each.seconds:,.0f}",
                f"{each.events / each.seconds:,.0f}",
                f"{each.requests / each.cpu:,.0f}" if each.cpu else "–",
                f"{each.cpu / each.seconds:.0%} of a core" if each.cpu else "–",
                f"{each.refused:,}",
                _goal(each),
            ]
        )
    made.notes.append(
        f"{CONNECTIONS} connections, {IN_A_BATCH} calls a batch; client and broker on the same machine"
    )
    made.notes.append(
        f"the broker acknowledged {produces:,.0f} produces/s of {TOGETHER} messages, one after the other: "
        f"{produces * TOGETHER:,.0f} events/s"
    )
    return made


def _goal(each: Taken) -> str:
    if each.name not in GOALS:
        return ""
    what, goal = GOALS[each.name]
    rate = (each.requests if what == "requests" else each.events) / each.seconds
    return f"{goal:,} {what}/s" + ("" if rate >= goal else ", missed")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        bare(options.bare)
    elif options.client:
        print(json.dumps(uvloop.run(client(options.client, options.seconds))))
    else:
        with tempfile.TemporaryDirectory(prefix="isotherm-bench-") as directory:
            found, produces, wrong = measure(Path(directory), options.seconds)
        table(found, produces).show(Console(width=140))
        sys.exit(wrong)


if __name__ == "__main__":
    main()
