"""What stands in the topics before a measured run begins.

    ladder    `events.generate` as it is, for the peers and the ceiling; for us a ruleset record goes before it
    shipped   the same events under the shipped rules, with the CRM's view of each account, and an hourly tick
    messages  web activity as a browser's library sends it, some 500 bytes each: the router's input

Partition by partition the records are in the order in which they were made; a ruleset and a tick go to each.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from events import ACCOUNTS, START, create_topic, generate

from rules.changes import iso
from rules.compiler import load
from rules.records import Contact, Facts, Record, RulesetRecord, Tick, encode_record

HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parents[1] / "rules" / "segments"
LADDER = HERE / "one_ladder"

HOUR = 3_600_000
CRM = "salesforce"
CONTACTS = 3  # per account in the CRM
INDUSTRIES = ["Banking", "Computer Software", "Machinery", "Hospital & Health Care", "Retail", "Utilities", None]
COUNTRIES = ["DE", "US", "GB", "FR", "SE", "JP", "BR"]
TITLES = ["Head of Operations", "VP Sales", "Engineer", "Chief Financial Officer", "Buyer"]


def in_force(directory: Path, now: int = START) -> list[Record]:
    """The first two records of every partition. The tick ends the sweep of a log without accounts at once."""
    ruleset = load(directory)
    return [RulesetRecord(received=now, hash=ruleset.hash, files=ruleset.files), Tick(received=now)]


def ladder(count: int) -> Iterator[Record]:
    yield from in_force(LADDER)
    yield from generate(count)


def shipped(count: int) -> Iterator[Record]:
    """`count` records besides ruleset and ticks. What the CRM has of an account comes before its first event."""
    yield from in_force(SHIPPED)
    rng = random.Random(2)
    known: set[str] = set()
    number, following = 0, START + HOUR
    for event in generate(count):
        while event.received >= following:
            yield Tick(received=following)
            following += HOUR
        if event.account not in known:
            known.add(event.account)
            for record in _in_crm(rng, event.account, event.received, len(known)):
                yield record
                number += 1
        if number >= count:
            return
        yield event
        number += 1


def _in_crm(rng: random.Random, account: str, now: int, serial: int) -> Iterator[Facts | Contact]:
    made = now - rng.randrange(400 * 24 * HOUR)
    facts = Facts(
        account=account, at=made, received=now, id=f"crm-{serial}", source=CRM, via=("crm.updates/0", serial, 0)
    )
    facts.set = {
        "name": f"Company {account[-5:]} Ltd",
        "website": f"company-{account[-5:]}.example",
        "employees": int(rng.lognormvariate(5, 1.6)) + 1,
        "annual_revenue": int(rng.lognormvariate(17, 1.8)),
        "country": rng.choice(COUNTRIES),
        "owner": "0055f000005mc66AAA",
    }
    if industry := rng.choice(INDUSTRIES):
        facts.set["industry"] = industry
    yield facts
    for index in range(1, CONTACTS + 1):
        person = f"{rng.getrandbits(72):018x}"
        contact = Contact(
            account=account, person=person, at=made, received=now, source=CRM, via=("crm.updates/0", serial, index)
        )
        contact.id = f"crm-{serial}-{index}"
        contact.set = {"status": "bounced" if rng.random() < 0.05 else "active", "title": rng.choice(TITLES)}
        yield contact


# -- web activity

USERS = 20_000
_json = msgspec.json.Encoder().encode


def messages(count: int, now: int) -> Iterator[Pair]:
    """(key, value) of `count` calls that arrived in the last minute before `now`.

    Each user signs in once with an address at work. Every second later call names its group; the others are
    found by what signing in taught.
    """
    signed_in = min(USERS, count // 10)
    for number in range(signed_in):
        at = now - 61_000
        body = {
            "type": "identify",
            "traits": {"email": f"u{number}@company-{number % ACCOUNTS}.com", "title": "Buyer"},
        }
        yield f"u-{number}", _call(number, number, at, body)
    left = count - signed_in
    for number, event in enumerate(generate(left, seed=3)):
        user = int(event.account[-5:]) + ACCOUNTS * (number // 7 % 2)
        if user >= signed_in:
            user %= signed_in
        at = now - 60_000 + 60_000 * number // left
        yield f"u-{user}", _call(signed_in + number, user, at, _body(event.name, event.props))


def _body(name: str, props: dict[str, object]) -> dict[str, object]:
    properties = {"path": props["path"], "title": props["title"], "referrer": props["referrer"], "ms": props["ms"]}
    if name == "page_viewed":
        return {"type": "page", "name": props["title"], "properties": properties}
    return {"type": "track", "event": name.replace("_", " ").title(), "properties": properties}


def _call(number: int, user: int, at: int, body: dict[str, object]) -> bytes:
    context: dict[str, object] = {"library": {"name": "analytics.js", "version": "2.11.1"}, "locale": "en-US"}
    if number % 2:
        context["groupId"] = f"g-{user % ACCOUNTS}"
    call = {
        "anonymousId": f"{user * 2654435761 % 2**48:012x}-4c1e-8f7a",
        "context": context,
        "messageId": f"ajs-next-{number:016x}",
        "receivedAt": iso(at + 40),
        "timestamp": iso(at),
        "userId": f"u-{user}",
        **body,
    }
    return _json(call)


# -- into the topics


Pair: TypeAlias = tuple[str | None, bytes]  # key and value; without a key it goes to every partition


def pairs(records: Iterable[Record]) -> Iterator[Pair]:
    for record in records:
        yield None if isinstance(record, Tick | RulesetRecord) else record.account, encode_record(record)


async def write(kafka: str, topic: str, partitions: int, pairs: Iterable[Pair], also: str | None = None) -> None:
    """Writes (key, value) where Kafka's own partitioner would; without a key, to every partition.

    `also` gets the same, without those for every partition. Returns when the broker has acknowledged all.
    """
    for name in filter(None, (topic, also)):
        await create_topic(kafka, name, partitions)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_batch_size=256 * 1024, linger_ms=5)
    await producer.start()
    try:
        places = [(name, number) for name in (topic, also) if name for number in range(partitions)]
        batches = {place: producer.create_batch() for place in places}

        async def put(place: tuple[str, int], key: bytes | None, value: bytes) -> None:
            if batches[place].append(key=key, value=value, timestamp=None) is None:
                await producer.send_batch(batches[place], place[0], partition=place[1])
                batches[place] = producer.create_batch()
                batches[place].append(key=key, value=value, timestamp=None)

        for key, value in pairs:
            if key is None:
                for number in range(partitions):
                    await put((topic, number), None, value)
                continue
            raw = key.encode()
            home = (murmur2(raw) & 0x7FFFFFFF) % partitions
            await put((topic, home), raw, value)
            if also:
                await put((also, home), raw, value)
        for place, batch in batches.items():
            if batch.record_count():
                await producer.send_batch(batch, place[0], partition=place[1])
        await producer.flush()
    finally:
        await producer.stop()
