"""How late a change is at those who listen to the HTTP API, and what that costs.

`isotherm serve` is a process of its own, the broker another, and this one produces changes at a steady rate and
holds all the connections. An event's clock starts just before it is sent to Kafka and stops when its frame was
read from the socket. Every listener must get every event; of one in ten every event is timed, of the others the
frames are counted: the client is not to be what is measured.

    python tests/bench/serving.py [--seconds S] [--listeners N] [--rate N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import live
import uvloop
from aiokafka import AIOKafkaProducer
from reporting import Table, quantile
from rich.console import Console

from rules.changes import iso
from streams import topics
from streams.api.rights import new_token
from streams.embedded import Broker, free_port
from streams.settings import Settings

LISTENERS, RATE, GOAL_MS = 500, 200, 300
PARTITIONS = 8
TIMED = 10  # one listener in so many
WARM_S, PATIENCE_S = 2.0, 30.0
FRAME, NUMBER = b"\nevent: segment.moved\n", b'"id":"0.0.'
SERVE = "from streams.api.run import serve; from streams.settings import Settings; serve(Settings(), 'WARNING')"


@dataclass(slots=True)
class Heard:
    """What the listeners got. `late` are milliseconds of the timed ones."""

    listeners: int
    rate: int
    expected: int = 0
    late: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    behind_ms: float = 0.0  # by which the producer was behind its schedule, worst
    seconds: float = 0.0
    cpu: float | None = None  # seconds of the server's, in all

    @property
    def wrong(self) -> str:
        short = [count for count in self.counts if count != self.expected]
        return f"{len(short)} listeners did not get {self.expected:,} events once: {short[:5]}" if short else ""


def measure(directory: Path, seconds: float, listeners: int = LISTENERS, rate: int = RATE) -> Heard:
    token, digest = new_token()
    directory.mkdir(parents=True, exist_ok=True)
    tokens = directory / "tokens.yaml"
    tokens.write_text(f'- {{name: bench, sha256: "{digest}", role: operator}}\n')
    with Broker(directory / "broker") as broker:
        settings = Settings(kafka=broker.address, partitions=PARTITIONS, idempotence=False)
        asyncio.run(topics.create(settings))
        port = free_port()
        given = {"KAFKA": broker.address, "PARTITIONS": PARTITIONS, "API_PORT": port, "API_TOKENS": tokens}
        environment = os.environ | {f"ISOTHERM_{name}": str(value) for name, value in given.items()}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        with (directory / "server.log").open("ab") as log:
            serving = subprocess.Popen([sys.executable, "-c", SERVE], env=environment, stdout=log, stderr=log)
        try:
            return uvloop.run(_heard(settings, port, token, serving.pid, seconds, Heard(listeners, rate)))
        finally:
            serving.terminate()
            serving.wait()


async def _heard(settings: Settings, port: int, token: str, pid: int, seconds: float, heard: Heard) -> Heard:
    sent: dict[int, float] = {}
    heard.expected = int((WARM_S + seconds) * heard.rate)
    heard.counts = [0] * heard.listeners
    listening = await _all_listen(port, token, heard.listeners)
    warm = int(WARM_S * heard.rate)
    tasks = [asyncio.create_task(_listen(reader, n, heard, sent, warm)) for n, (reader, _) in enumerate(listening)]
    before, begun = live.process_cpu(pid), time.monotonic()
    await _produce(settings, heard, sent)
    await asyncio.wait(tasks, timeout=PATIENCE_S)
    after, heard.seconds = live.process_cpu(pid), time.monotonic() - begun
    heard.cpu = None if before is None or after is None else after - before
    for _, writer in listening:
        writer.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    return heard


async def _all_listen(port: int, token: str, listeners: int) -> list[Any]:
    """Connections that have been told where they begin."""

    async def one() -> Any:
        for _ in range(300):
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            except ConnectionError:  # it has only been started
                await asyncio.sleep(0.1)
                continue
            asked = f"GET /v1/changes HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n"
            writer.write(asked.encode())
            if b" 200 " in await reader.readline():
                await reader.readuntil(b"\nid: ")
                return reader, writer
            writer.close()
            await asyncio.sleep(0.1)
        raise RuntimeError("the API does not read the changes")

    return [await one() for _ in range(listeners)]


async def _listen(
    reader: asyncio.StreamReader, number: int, heard: Heard, sent: dict[int, float], warm: int
) -> None:
    is_timed, left = number % TIMED == 0, b""
    while heard.counts[number] < heard.expected:
        chunk = await reader.read(1 << 18)
        if not chunk:
            return
        now, chunk = time.monotonic(), left + chunk
        heard.counts[number] += chunk.count(FRAME)
        if is_timed:
            start = 0
            while (at := chunk.find(NUMBER, start)) >= 0 and (end := chunk.find(b".", at + len(NUMBER))) >= 0:
                event, start = int(chunk[at + len(NUMBER) : end]), end
                if event >= warm:
                    heard.late.append((now - sent[event]) * 1000)
        left = _cut(chunk)


def _cut(chunk: bytes) -> bytes:
    """The beginning of what is looked for, if the chunk ends with it: it is to be found in the next one."""
    for what in (FRAME, NUMBER):
        for size in range(len(what) - 1, 0, -1):
            if chunk.endswith(what[:size]):
                return what[:size]
    return b""


async def _produce(settings: Settings, heard: Heard, sent: dict[int, float]) -> None:
    topic = settings.topics(topics.CHANGES)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, linger_ms=0) as kafka:
        begun = time.monotonic()
        for number in range(heard.expected):
            due = begun + number / heard.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            sent[number] = now = time.monotonic()
            heard.behind_ms = max(heard.behind_ms, (now - due) * 1000)
            account = f"salesforce:{number % 5_000}"
            await kafka.send(topic, change(number, account), key=account.encode(), partition=number % PARTITIONS)


def change(number: int, account: str) -> bytes:
    """As large as one of the shipped rules' with three page views for a reason."""
    at = iso(1_772_442_000_000 + number)
    evidence = [{"at": at, "offset": number + each} for each in range(3)]
    says = {
        "says": "3 pricing page views in 7 days (needs 3)",
        "verdict": "true",
        "value": 3,
        "evidence": evidence,
    }
    data = {
        "account": account, "name": "Acme Industries", "dimension": "engagement", "from": "warm", "to": "hot",
        "effective": at, "decided": at, "cause": "data", "origin": "live", "stays_until": at,
        "reason": {"text": says["says"], "because": {"says": "any", "verdict": "true", "parts": [says]}},
        "owner": "sales", "action": {"play": "call_today"}, "ruleset": "0123456789ab",
        "position": {"partition": 0, "epoch": 0, "offset": number, "n": 0},
    }  # fmt: skip
    event = {
        "specversion": "1.0", "id": f"0.0.{number}.0", "source": "/isotherm/account.log/0",
        "type": "segment.moved", "subject": account, "time": at, "datacontenttype": "application/json",
        "partitionkey": account, "data": data,
    }  # fmt: skip
    return json.dumps(event, separators=(",", ":")).encode()


def table(heard: Heard) -> Table:
    title = f"{heard.listeners} listeners of /v1/changes at {heard.rate} changes/s"
    made = Table(title, ["", "p50 ms", "p99 ms", "worst ms", "events/s sent", "CPU", "CPU s/M", "goal"])
    p99 = quantile(heard.late, 0.99)
    made.rows.append(
        [
            "Kafka → listener",
            f"{quantile(heard.late, 0.5):,.0f}",
            f"{p99:,.0f}",
            f"{max(heard.late):,.0f}",
            f"{sum(heard.counts) / heard.seconds:,.0f}",
            f"{heard.cpu / heard.seconds:.0%} of a core" if heard.cpu is not None else "–",
            f"{heard.cpu / sum(heard.counts) * 1e6:.1f}" if heard.cpu is not None else "–",
            f"p99 < {GOAL_MS} ms" + ("" if p99 < GOAL_MS else ", missed"),
        ]
    )
    made.notes.append(
        f"{len(heard.late):,} events timed; the producer, in the process of the listeners, was behind by "
        f"{heard.behind_ms:,.0f} ms at worst; broker and listeners on the same machine"
    )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--listeners", type=int, default=LISTENERS)
    parser.add_argument("--rate", type=int, default=RATE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="isotherm-bench-") as directory:
        heard = measure(Path(directory), options.seconds, options.listeners, options.rate)
    table(heard).show(Console(width=140))
    sys.exit(heard.wrong)


if __name__ == "__main__":
    main()
