"""What it takes to know people: Redis' memory for each contact, and the router's rate when a million are known.

The CRM's view of `--contacts` is taught first, two links a contact and two a company, by the router's own guarded
save. Then the router reads a topic that was filled before it started, on servers of its own:

    canonical    activities in our own format that name their account
    Segment      page and track calls of signed-in users with an address at work; of each a user's, a device's, an
                 e-mail's and a company's link is looked up
    Salesforce   change data capture of known contacts and accounts

The ceiling beside them consumes, decodes as JSON and produces as many messages as large, and decides nothing. One
process, one thread; broker and Valkey beside it on the same machine.

    python tests/bench/knowing.py [--contacts N] [--events N] [--profile]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import workload
from redis import Redis
from reporting import Table
from rich.console import Console

from rules.changes import iso
from streams import topics
from streams.embedded import Embedded
from streams.settings import Settings
from streams.store.redis import connect
from streams.store.sources import Batch, SourceStore

HERE = Path(__file__).resolve().parent
CONTACTS, EVENTS = 1_000_000, 200_000
PEOPLE = 3  # contacts of a company
LEARNED = 4_000  # links in one save
BYTES_A_CONTACT = 150
NAMESPACE = "knowing"
KEY = b"bench"  # ours.py's secret
CANONICAL, SEGMENT, SALESFORCE = "canonical", "Segment, looked up", "Salesforce CDC"
GOALS = {CANONICAL: 40_000, SEGMENT: 25_000, SALESFORCE: 15_000}
ROLES = {CANONICAL: topics.WEB_ACTIVITY, SEGMENT: topics.WEB_ACTIVITY, SALESFORCE: topics.CRM_UPDATES}
_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Ran:
    """A run of the router (or of the ceiling) over one topic."""

    name: str
    events: int
    seconds: float
    cpu: float
    redis_cpu: float
    told: dict[str, Any]


# -- who is known


def email(n: int) -> str:
    return f"contact{n}@company{n // PEOPLE}.example"


def company(n: int) -> str:
    return f"salesforce:001{n // PEOPLE:012}AAA"


def _person(kind: str, text: str) -> str:
    """As the resolver hashes it."""
    digest = blake2b(f"{kind}:{text}".encode(), key=KEY, digest_size=9).digest()
    return base64.urlsafe_b64encode(digest).decode()


def links(contacts: int) -> Iterator[tuple[str, str]]:
    for n in range(contacts):
        person = _person("email", email(n))
        link = f"{company(n)}|{person}"
        yield f"contact:salesforce:003{n:012}AAA", link
        yield f"email:{person}", link


def companies(contacts: int) -> Iterator[tuple[str, str]]:
    for n in range(0, contacts, PEOPLE):
        yield f"domain:company{n // PEOPLE}.example", f"{company(n)}|"


async def teach(url: str, pairs: Iterator[tuple[str, str]]) -> None:
    redis = connect(Settings(redis=url), timeout=30)
    store = SourceStore(redis, NAMESPACE)
    held = await store.acquire("taught", 0)
    at, learned = held.next or 0, dict[str, str]()

    async def save() -> None:
        nonlocal at, learned
        status = await store.save("taught", 0, held.token, Batch(at, at + 1, "", [], (), {}, learned))
        if status != "OK":
            raise RuntimeError(f"the links were refused: {status}")
        at, learned = at + 1, {}

    for key, link in pairs:
        learned[key] = link
        if len(learned) == LEARNED:
            await save()
    await save()
    await redis.aclose()


# -- what is sent


def canonical(count: int, contacts: int, now: int) -> Iterator[workload.Pair]:
    rng = random.Random(4)
    for number in range(count):
        n = rng.randrange(contacts)
        said = {
            "kind": "activity", "name": "page_viewed", "at": now - number % 60_000, "id": f"e-{number:012}",
            "account": company(n), "props": {"path": "/pricing", "title": "Pricing", "ms": number % 9_000},
        }  # fmt: skip
        yield company(n), _json(said)


def segment(count: int, contacts: int, now: int) -> Iterator[workload.Pair]:
    """Calls of a tenth as many people as there are calls, each known by address; who signs in first is learned."""
    rng = random.Random(5)
    people = [rng.randrange(contacts) for _ in range(max(1, count // 10))]
    for number in range(count):
        n = people[number % len(people)]
        at = now - 60_000 + 60_000 * number // count
        call = {
            "anonymousId": f"{n * 2654435761 % 2**48:012x}-4c1e-8f7a",
            "context": {
                "library": {"name": "analytics.js", "version": "2.11.1"}, "locale": "en-US",
                "traits": {"email": email(n)},
            },
            "messageId": f"ajs-next-{number:016x}",
            "receivedAt": iso(at + 40),
            "timestamp": iso(at),
            "userId": f"u-{n}",
            "type": "page", "name": "Pricing",
            "properties": {"path": "/pricing", "title": "Pricing", "referrer": "https://a.example/", "ms": number},
        }  # fmt: skip
        yield f"u-{n}", _json(call)


def salesforce(count: int, contacts: int, now: int) -> Iterator[workload.Pair]:
    """Two updates of contacts to one of an account."""
    rng = random.Random(6)
    for number in range(count):
        n, at = rng.randrange(contacts), now - 60_000 + 60_000 * number // count
        entity = "Account" if number % 3 == 2 else "Contact"
        record = f"001{n // PEOPLE:012}AAA" if entity == "Account" else f"003{n:012}AAA"
        changed = (
            {"NumberOfEmployees": number % 5_000, "Industry": "Banking"}
            if entity == "Account"
            else {"Title": f"Head of {number % 50}", "Email": email(n)}
        )
        header = {  # as their documentation shows it
            "entityName": entity, "recordIds": [record], "changeType": "UPDATE",
            "changedFields": [*changed, "LastModifiedDate"], "transactionKey": f"{number:036x}",
            "changeOrigin": "com/salesforce/api/soap/61.0;client=SfdcInternalAPI/",
            "sequenceNumber": 1, "commitTimestamp": at, "commitNumber": number, "commitUser": "0055f000005mc66AAA",
            "nulledFields": [], "diffFields": [],
        }  # fmt: skip
        said = {"ChangeEventHeader": header, **changed, "LastModifiedDate": iso(at)}
        value = {"schema": "IeRuaY6cbI_HsV8Rv1Mc5g", "payload": said, "event": {"replayId": number}}
        yield record, _json(value)


SENT = {CANONICAL: canonical, SEGMENT: segment, SALESFORCE: salesforce}


# -- measuring


def measure(
    directory: Path, contacts: int, events: int, say: Any = print, profile: bool = False
) -> tuple[list[Ran], dict[str, float]]:
    """The runs, and bytes a contact."""
    with Embedded(directory / "knowing") as servers, Redis.from_url(servers.redis, socket_timeout=60) as redis:
        empty = redis.info("memory")["used_memory"]
        begun = time.perf_counter()
        asyncio.run(teach(servers.redis, links(contacts)))
        used = redis.info("memory")["used_memory"] - empty
        memory = {"used": used / contacts, "teaching": contacts / (time.perf_counter() - begun)}
        say(f"{contacts:,} contacts: {memory['used']:.0f} bytes each, taught at {memory['teaching']:,.0f}/s")
        asyncio.run(teach(servers.redis, companies(contacts)))
        runs = []
        for serial, name in enumerate(GOALS):
            prefix = f"k{serial}."
            runs.append(_run(name, prefix, servers, redis, contacts, events, profile))
            rate, cpu = runs[-1].events / runs[-1].seconds, runs[-1].cpu / runs[-1].events * 1e6
            say(f"{name}: {rate:,.0f}/s, {cpu:.1f} CPU s per million")
        runs.append(_ceiling(servers, redis, events))
        return runs, memory


def _run(name: str, prefix: str, servers: Any, redis: Any, contacts: int, events: int, profile: bool) -> Ran:
    names, now = topics.Topics(prefix), int(time.time() * 1000)
    pairs = SENT[name](events, contacts, now)
    asyncio.run(workload.write(servers.kafka, names(ROLES[name]), topics.SOURCE_PARTITIONS, pairs))
    asyncio.run(topics.create(Settings(kafka=servers.kafka, topic_prefix=prefix, partitions=4)))
    command = [sys.executable, str(HERE / "ours.py"), "--role", "router", "--kafka", servers.kafka, "--redis"]
    command += [servers.redis, "--prefix", prefix, "--namespace", NAMESPACE, "--events", str(events)]
    command += ["--partitions", "4", "--name", name]
    if profile:
        command[1:1] = ["-m", "cProfile", "-s", "tottime"]
    before = _cpu(redis)
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=HERE, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{name} ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    if profile:
        print("\n".join(done.stdout.splitlines()[:60]))
    told = json.loads(lines[-1])
    counted = sum(
        count
        for what, count in told["counts"].items()
        if what.startswith(("routed", "unattributed")) and "again" not in what
    )
    if counted != events:
        raise RuntimeError(f"{name}: {counted:,} of {events:,} were routed: {told['counts']}")
    return Ran(name, told["events"], told["seconds"], told["cpu_seconds"], _cpu(redis) - before, told)


CEILING = """
import asyncio, json, resource, sys, time
import msgspec, uvloop
from aiokafka import TopicPartition
from streams.consuming import consumer, fetch
from streams.producer import Producer
from streams.settings import Settings
from streams.store.base import Outbound
async def run(kafka, prefix, events):
    settings = Settings(kafka=kafka, partitions=4, topic_prefix=prefix, idempotence=False)
    reader, producer = consumer(settings, "ceiling"), Producer(settings)
    await producer.start()
    await reader.start()
    places = [TopicPartition(prefix + "web.activity", p) for p in range(4)]
    reader.assign(places)
    for place in places:
        reader.seek(place, 0)
    decode, done, begun = msgspec.json.Decoder().decode, 0, time.perf_counter()
    used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    cpu = used()
    async def copy(messages):
        for start in range(0, len(messages), settings.batch):
            batch = messages[start : start + settings.batch]
            for each in batch:
                decode(each.value)
            await producer.send([Outbound("account.log", each.key.decode(), each.value) for each in batch], 1)
    while done < events:
        batches = await fetch(reader, settings)
        await asyncio.gather(*(copy(each) for each in batches.values()))
        done += sum(map(len, batches.values()))
    print(json.dumps({"events": done, "seconds": time.perf_counter() - begun, "cpu_seconds": used() - cpu}))
    await reader.stop()
    await producer.stop()
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def _ceiling(servers: Any, redis: Any, events: int) -> Ran:
    """Over the Segment calls, whose topics are there."""
    command = [sys.executable, "-c", CEILING, servers.kafka, "k1.", str(events)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=HERE.parents[1], check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    return Ran("the ceiling", told["events"], told["seconds"], told["cpu_seconds"], 0.0, told)


def _cpu(redis: Any) -> float:
    info = redis.info("cpu")
    return float(info["used_cpu_sys"] + info["used_cpu_user"])


def table(runs: list[Ran], memory: dict[str, float], contacts: int) -> Table:
    columns = ["", "events/s", "goal", "CPU s per million", "Redis' CPU s per million"]
    found = Table(f"The router, {contacts:,} contacts known", columns)
    for run in runs:
        found.rows.append(
            [
                run.name,
                f"{run.events / run.seconds:,.0f}",
                f"{GOALS[run.name]:,}" if run.name in GOALS else "–",
                f"{run.cpu / run.events * 1e6:.1f}",
                f"{run.redis_cpu / run.events * 1e6:.1f}" if run.redis_cpu else "–",
            ]
        )
    found.notes.append(
        f"Redis' memory: {memory['used']:.0f} bytes a contact, two links each (goal {BYTES_A_CONTACT})"
    )
    found.notes.append("the ceiling consumes, reads JSON and produces the Segment calls as they are")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--contacts", type=int, default=CONTACTS)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--profile", action="store_true", help="print where the router's time goes")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="isotherm-bench-") as directory:
        runs, memory = measure(Path(directory), options.contacts, options.events, console.print, options.profile)
    table(runs, memory, options.contacts).show(console)


if __name__ == "__main__":
    main()
