"""Our production path over a loaded log: Fold and Publisher as they run in a worker, without Faust around them.

    python tests/bench/ours.py --kafka HOST:PORT --redis URL --prefix P --events N [--partitions P] [--idempotence]

Reads `{prefix}account.log` from its beginning and prints one JSON line when N records have been folded and every
change is published. Time runs from the first batch; CPU is this process's alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from typing import Any

import uvloop

from streams.application import set_up_logging
from streams.clock import RedisClock
from streams.fold import Fold
from streams.producer import Producer
from streams.publisher import Publisher
from streams.settings import Settings
from streams.store.redis import RedisStore, connect


class StoppedClock(RedisClock):
    """The log is of January: its ticks are in it, and none is to be added for today."""

    def now(self) -> int:
        return 1_767_600_000_000


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    settings = Settings(
        kafka=arguments.kafka,
        redis=arguments.redis,
        partitions=arguments.partitions,
        topic_prefix=arguments.prefix,
        namespace=arguments.prefix.rstrip("."),
        idempotence=arguments.idempotence,
        session_timeout_ms=6000,
    )
    redis = connect(settings.redis)
    clock, producer = StoppedClock(redis), Producer(settings)
    await clock.sync()
    await producer.start()
    store = RedisStore(redis, settings.partitions, settings.namespace)
    publisher = Publisher(store, producer, clock)
    fold = Fold(settings, store, producer, publisher, clock)
    await publisher.start()
    await fold.start()
    begun = cpu = 0.0
    while (done := sum(fold.positions().values())) < arguments.events:
        if not begun and done:
            begun, cpu, first = time.perf_counter(), cpu_seconds(), done
        await asyncio.sleep(0.005)
    while sum([len(await store.outbox(p, 1)) for p in range(settings.partitions)]):
        await asyncio.sleep(0.005)
    seconds, used = time.perf_counter() - begun, cpu_seconds() - cpu
    counts: dict[str, int] = {}
    for held in fold._held.values():
        for (what, _), count in held.owned.counts.items():
            counts[what] = counts.get(what, 0) + count
    await fold.stop()
    await publisher.stop()
    await producer.stop()
    await redis.aclose()
    events = done - first
    return {
        "name": arguments.name,
        "events": events,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(used, 3),
        "published": publisher.published,
        "counts": counts,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--idempotence", action="store_true")
    parser.add_argument("--name", default="isotherm fold")
    parser.add_argument("--profile", default="")
    arguments = parser.parse_args()
    set_up_logging("WARNING")
    import gc, os

    if os.environ.get("GCT"):
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if arguments.profile:
            import cProfile

            profile = cProfile.Profile()
            profile.enable()
        result = runner.run(run(arguments))
        if arguments.profile:
            profile.disable()
            profile.dump_stats(arguments.profile)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
