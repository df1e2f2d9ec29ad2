"""A month of web activity for the benches, and what the one-ladder job must make of it.

Every contestant reads the same events from the same topic. They come out of `generate`, which is a
function of the seed alone: visitors of 10,000 accounts browse in sessions of a few pages, some 200
sessions at a time; a few accounts have most of the traffic and many come twice a month. 1 % arrives
minutes or hours late. `received` never falls, so the running maximum of a partition is that of the
whole stream, and `at` is never later than `received`.

The job is one ladder per account. `pricing` is the number of page views under `/pricing` in
`(now - 7d, now]`, of which the newest 32 are kept; `score` is the sum of WEIGHTS, each halved for
every 7 days of age; `now` is `received`.

    hot    pricing >= 3 and score >= 20
    warm   score >= 5
    cold   otherwise, and before the first event

A change `{"account", "from", "to", "at"}` is published when the answer differs from the last one.
Answers are asked for when an event of that account arrives, and only then.

    python tests/bench/events.py --kafka 127.0.0.1:9092 --topic account.log --events 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from bisect import insort
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, TypedDict

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # `rules`, when run as a script

from rules.records import Activity, encode_record

SECOND = 1_000
DAY = 86_400 * SECOND
WEEK = 7 * DAY
START = 1_767_600_000_000  # 2026-01-05T08:00:00Z, a Monday
STEP = 30 * DAY / 1_000_000  # between two events: a million of them last thirty days
ACCOUNTS = 10_000
SESSIONS = 200  # open at a time
SOURCE = "segment"

WEIGHTS = {"page_viewed": 1.0, "webinar_attended": 8.0, "demo_requested": 20.0, "email_clicked": 3.0}
KEPT = 32  # instants of pricing views per account
Change = TypedDict("Change", {"account": str, "from": str, "to": str, "at": int})

# What a visit is made of: activity, path, title, weight. Two thirds of it says nothing about intent.
VISITED = [
    ("scroll_depth", "/blog/streaming-segments", "Streaming segments in practice", 240),
    ("video_progress", "/resources/product-tour", "Product tour, four minutes", 150),
    ("session_ping", "/product/overview", "Overview of the product", 180),
    ("docs_searched", "/docs/getting-started", "Getting started with the API", 70),
    ("page_viewed", "/", "Welcome", 70),
    ("page_viewed", "/product/overview", "Overview of the product", 80),
    ("page_viewed", "/docs/api/accounts", "API reference: accounts", 70),
    ("page_viewed", "/customers/industrial-pumps", "How a pump maker found its buyers", 50),
    ("page_viewed", "/pricing", "Plans and pricing", 35),
    ("page_viewed", "/pricing/enterprise", "Enterprise pricing", 15),
    ("email_clicked", "/newsletter/january", "The January newsletter", 26),
    ("webinar_attended", "/webinars/knowing-when", "Webinar: knowing when to call", 10),
    ("demo_requested", "/demo", "Ask for a demo", 4),
]
REFERRERS = [
    "https://www.google.com/search?q=b2b+account+segmentation",
    "https://www.linkedin.com/feed/update/urn:li:activity:7150021",
    "https://news.ycombinator.com/item?id=38875512",
    "https://mail.google.com/mail/u/0/#inbox",
    "(direct)",
]
AGENTS = ["Chrome/142 Windows 11", "Safari/19 macOS 15", "Firefox/146 Ubuntu", "Edge/142 Windows 11"]


def generate(count: int, seed: int = 1) -> Iterator[Activity]:
    """`count` activities in the order they are received, the same ones for the same seed.

    A shorter stream is the beginning of a longer one.
    """
    rng = random.Random(seed)
    drawn = _accounts(rng)
    visits = _visits(rng)
    sessions = [_session(rng, next(drawn)) for _ in range(SESSIONS)]
    clock = float(START)
    for number in range(count):
        clock += STEP * 2 * rng.random()
        received = int(clock)
        which = int(rng.random() * SESSIONS)
        account, person, about, left = sessions[which]
        sessions[which] = (account, person, about, left - 1) if left > 1 else _session(rng, next(drawn))
        name, path, title = next(visits)
        yield Activity(
            account=account,
            name=name,
            at=max(START, received - _delay(rng)),
            received=received,
            id=f"web-{rng.getrandbits(64):016x}",
            source=SOURCE,
            via=("web.activity/0", number, 0),
            person=person,
            props={"path": path, "title": title, "ms": int(rng.expovariate(1 / 20_000)), **about},
        )


def _accounts(rng: random.Random) -> Iterator[str]:
    """Whose session begins next: the account of rank r about r ** -0.7 as often as the first."""
    names = [f"acct_{number:05d}" for number in range(ACCOUNTS)]
    rng.shuffle(names)
    weights = list(accumulate((rank + 1) ** -0.7 for rank in range(ACCOUNTS)))
    while True:
        yield from rng.choices(names, cum_weights=weights, k=1_000)


def _visits(rng: random.Random) -> Iterator[tuple[str, str, str]]:
    choices = [(name, path, title) for name, path, title, _ in VISITED]
    weights = list(accumulate(weight for *_, weight in VISITED))
    while True:
        yield from rng.choices(choices, cum_weights=weights, k=10_000)


def _session(rng: random.Random, account: str) -> tuple[str, str, dict[str, Any], int]:
    # A stand-in for the keyed hash of a person: one of the account's twelve, the same on every visit.
    person = (int(account[-5:]) * 31 + rng.randrange(12) + 1) * 0x9E3779B97F4A7C15 % 2**64
    about = {
        "referrer": rng.choice(REFERRERS),
        "agent": rng.choice(AGENTS),
        "session": f"{rng.getrandbits(48):012x}",
    }
    return account, f"p_{person:016x}", about, 1 + int(rng.expovariate(1 / 6))


def _delay(rng: random.Random) -> int:
    """Milliseconds between happening and being received: a network's, for one in a hundred a backlog's."""
    if rng.random() < 0.99:
        return 2 + int(rng.random() * 58)
    return int(rng.expovariate(1 / (40 * 60 * SECOND)))


def reference(events: Iterable[Activity]) -> list[Change]:
    """The changes in the order they fall due: the job written for clarity, without any framework.

    The score is kept as it would have been at START (it grows by `weight * 2 ** (age of the stream
    in weeks)`) and the thresholds grow likewise; contestants let the score decay instead. The two
    agree to the last few bits of a float, and an event's few milliseconds of delay are a million
    times more than that.
    """
    segments: dict[str, str] = {}
    scores: dict[str, float] = {}
    pricing: dict[str, list[int]] = {}
    changes: list[Change] = []
    now = START
    for event in events:
        now = max(now, event.received)
        account = event.account
        if weight := WEIGHTS.get(event.name):
            scores[account] = scores.get(account, 0.0) + weight * 2.0 ** ((event.at - START) / WEEK)
        if event.name == "page_viewed" and event.props["path"].startswith("/pricing"):
            seen = pricing.setdefault(account, [])
            insort(seen, event.at)
            del seen[:-KEPT]
        growth = 2.0 ** ((now - START) / WEEK)
        score = scores.get(account, 0.0)
        views = sum(1 for at in pricing.get(account, ()) if now - WEEK < at <= now)
        if views >= 3 and score >= 20 * growth:
            segment = "hot"
        elif score >= 5 * growth:
            segment = "warm"
        else:
            segment = "cold"
        before = segments.get(account, "cold")
        if segment != before:
            changes.append({"account": account, "from": before, "to": segment, "at": now})
            segments[account] = segment
    return changes


async def create_topic(kafka: str, topic: str, partitions: int) -> None:
    """The topic, empty, keeping what is written whatever its timestamps say."""
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic
    from aiokafka.errors import for_code

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        settings = {"retention.ms": "-1"}
        answer = await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=settings)])
        for name, code, *_ in answer.topic_errors:
            if code:
                raise RuntimeError(f"cannot create topic {name}: {for_code(code).__name__}")
    finally:
        await admin.close()


async def load(kafka: str, topic: str, partitions: int, events: Iterable[Activity]) -> int:
    """How many events were written to a topic that is created here, each where its key belongs.

    Returns when the broker has acknowledged all of them.
    """
    from aiokafka import AIOKafkaProducer
    from aiokafka.partitioner import murmur2

    await create_topic(kafka, topic, partitions)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_batch_size=256 * 1024, linger_ms=5)
    await producer.start()
    try:
        batches = [producer.create_batch() for _ in range(partitions)]
        homes: dict[str, int] = {}
        written = 0
        for event in events:
            written += 1
            key = event.account.encode()
            home = homes.get(event.account)
            if home is None:
                home = homes[event.account] = (murmur2(key) & 0x7FFFFFFF) % partitions
            value = encode_record(event)
            if batches[home].append(key=key, value=value, timestamp=event.received) is None:
                await producer.send_batch(batches[home], topic, partition=home)
                batches[home] = producer.create_batch()
                batches[home].append(key=key, value=value, timestamp=event.received)
        for home, batch in enumerate(batches):
            if batch.record_count():
                await producer.send_batch(batch, topic, partition=home)
        await producer.flush()
        return written
    finally:
        await producer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kafka", help="HOST:PORT; without it the events are only described")
    parser.add_argument("--topic", default="account.log")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.kafka:
        events = generate(options.events, options.seed)
        print(asyncio.run(load(options.kafka, options.topic, options.partitions, events)), "events")
        return
    changes = len(reference(generate(options.events, options.seed)))
    size = sum(len(encode_record(event)) for event in generate(min(options.events, 10_000), options.seed))
    print(f"{changes} changes, {changes / options.events:.2%} of {options.events} events")
    print(f"{size / min(options.events, 10_000):.0f} bytes an event")


if __name__ == "__main__":
    main()
