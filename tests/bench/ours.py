"""Our production path over loaded topics: the services of a worker, without Faust around them.

    fold    `{prefix}account.log` → Redis → outbox → `segment.changes`: Fold and Publisher
    router  `{prefix}web.activity` → `{prefix}account.log`: Router
    all     both in one process, as a worker runs them

One process, one thread. Runs from the moment it owns its partitions until everything is settled, published and
trimmed, and prints one JSON line. CPU is this process's alone; `positions` is how far each partition was folded.

    python tests/bench/ours.py --role fold --kafka HOST:PORT --redis URL --prefix P --namespace N --events N
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from collections import Counter
from typing import Any

import structlog
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from events import START
from pydantic import SecretStr

from streams import topics
from streams.clock import RedisClock
from streams.fold import Fold
from streams.producer import Producer
from streams.publisher import Publisher
from streams.router import Router
from streams.run import collect_seldom
from streams.settings import Settings
from streams.store.redis import RedisStore, connect
from streams.store.sources import SourceStore

LOOK_S = 0.005


class StoppedClock(RedisClock):
    """The log is of January: its ticks are in it, and none is to be added for today."""

    def now(self) -> int:
        return START


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--role", choices=("fold", "router", "all"), default="fold")
    parser.add_argument("--kafka", required=True, help="HOST:PORT")
    parser.add_argument("--redis", required=True, help="URL")
    parser.add_argument("--prefix", required=True, help="of the topics")
    parser.add_argument("--namespace", required=True, help="of the Redis keys: a new one begins with no state")
    parser.add_argument("--events", type=int, required=True, help="stop after as many records (messages) or more")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--name", default="isotherm")
    parser.add_argument("--collect", action="store_true", help="leave the garbage collector as Python sets it")
    return parser.parse_args()


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def routed(router: Router) -> int:
    """Messages of the sources that were routed and acknowledged; the topic begins at 0."""
    return sum(reading.next for reading in router._reading.values())


def folded(fold: Fold) -> int:
    return sum(fold.positions().values())


async def log_end(settings: Settings) -> int:
    topic = settings.topics(topics.ACCOUNT_LOG)
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka, enable_auto_commit=False) as consumer:
        ends = await consumer.end_offsets([TopicPartition(topic, p) for p in range(settings.partitions)])
    return sum(ends.values())


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    settings = Settings(
        kafka=arguments.kafka,
        redis=arguments.redis,
        partitions=arguments.partitions,
        topic_prefix=arguments.prefix,
        namespace=arguments.namespace,
        idempotence=False,
        session_timeout_ms=6_000,
        person_key=SecretStr("bench"),
    )
    redis, role = connect(settings), arguments.role
    clock = StoppedClock(redis) if role == "fold" else RedisClock(redis)
    await clock.sync()
    producer = Producer(settings)
    await producer.start()
    store = RedisStore(redis, settings.partitions, settings.namespace)
    publisher = Publisher(store, producer, clock)
    fold = Fold(settings, store, producer, publisher, clock)
    router = Router(settings, SourceStore(redis, settings.namespace), producer, clock)
    services: list[Any] = {"fold": [publisher, fold], "router": [router], "all": [publisher, fold, router]}[role]
    for service in services:
        await service.start()

    def done() -> int:
        return folded(fold) if role == "fold" else routed(router)

    while not (fold.positions() if role == "fold" else router._reading):
        await asyncio.sleep(LOOK_S)
    begun, cpu, first = time.perf_counter(), cpu_seconds(), done()
    while done() < arguments.events:
        await asyncio.sleep(LOOK_S)
    if role == "all":
        end = await log_end(settings)
        while folded(fold) < end:
            await asyncio.sleep(LOOK_S)
    if role != "router":
        while any([await store.outbox(p, 1) for p in range(settings.partitions)]):
            await asyncio.sleep(LOOK_S)
    seconds, used, events = time.perf_counter() - begun, cpu_seconds() - cpu, done() - first
    counts: Counter[str] = Counter()
    for held in fold._held.values():
        for (what, _), count in held.owned.counts.items():
            counts[str(what)] += count
    for (what, why), count in router.counts.items():
        counts[f"{what} {why}".strip()] += count
    positions = dict(sorted(fold.positions().items()))
    if fold.stopped_partitions:
        raise SystemExit(f"stopped: {fold.stopped_partitions}")
    for service in reversed(services):
        await service.stop()
    await producer.stop()
    await redis.aclose()
    return {
        "name": arguments.name,
        "events": events,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(used, 3),
        "published": publisher.published,
        "counts": counts,
        "positions": positions,
    }


def main() -> None:
    arguments = parsed()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # only the result is printed
    if not arguments.collect:
        collect_seldom()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(arguments))), flush=True)


if __name__ == "__main__":
    main()
