"""The least that any program with this data path must do: no rules, no changes, nothing to decide.

Each batch is fetched with our consumer, decoded from JSON into the small typed view that the peers use, its
accounts are loaded with one HMGET and written back with our guarded commit: states, position, one script. A state
is 96 bytes, about what the one-ladder job keeps. What is left between this and the production path is what
segmenting itself costs: rules, wakes, duplicates, reasons, memberships, outbox and publishing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import uvloop
from aiokafka import TopicPartition

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from job import decode

from rules.fold import Partition
from streams.consuming import consumer, fetch
from streams.keys import PartitionKeys
from streams.settings import Settings
from streams.store.base import new_token, pack_partition
from streams.store.redis import _COMMIT, connect

STATE = b"\x01" * 96


class Ceiling:
    def __init__(self, settings: Settings, topic: str) -> None:
        self.redis: Any = connect(settings)
        self.script = self.redis.register_script(_COMMIT)
        self.keys = PartitionKeys.of(0, 1, settings.namespace)
        self.token, self.offset = new_token(), 0
        self.settings, self.topic = settings, topic

    async def fold(self, messages: list[Any]) -> None:
        accounts = list({decode(message.value).account for message in messages})
        await self.redis.hmget(self.keys.accounts, accounts)
        end = messages[-1].offset + 1
        batch = f"{self.offset}-{end}-{self.token}"
        arguments: list[Any] = [self.token, self.offset, batch, end, pack_partition(Partition(0, end)), b"", b""]
        arguments += [len(accounts), 0, 0]
        for account in accounts:
            arguments += (account, STATE)
        keys = [self.keys.meta, self.keys.accounts, self.keys.wakes, self.keys.outbox, self.keys.ruleset]
        status, _ = await self.script(keys=keys, args=arguments)
        if status != b"OK":
            raise RuntimeError(f"commit refused: {status}")
        self.offset = end


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    settings = Settings(kafka=arguments.kafka, redis=arguments.redis, namespace=arguments.namespace)
    ceiling = Ceiling(settings, arguments.topic)
    await ceiling.redis.hset(ceiling.keys.meta, "token", ceiling.token)
    kafka = consumer(settings, f"ceiling.{ceiling.token}")
    await kafka.start()
    place = TopicPartition(arguments.topic, 0)
    kafka.assign([place])
    kafka.seek(place, 0)
    begun = cpu = 0.0
    first = 0
    while ceiling.offset < arguments.events:
        for messages in (await fetch(kafka, settings)).values():
            for start in range(0, len(messages), settings.batch):
                await ceiling.fold(messages[start : start + settings.batch])
        if not begun and ceiling.offset:
            begun, cpu, first = time.perf_counter(), cpu_seconds(), ceiling.offset
    seconds, used = time.perf_counter() - begun, cpu_seconds() - cpu
    await kafka.stop()
    await ceiling.redis.aclose()
    events = ceiling.offset - first
    return {"name": "ceiling", "events": events, "seconds": round(seconds, 3), "cpu_seconds": round(used, 3)}


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kafka", required=True, help="HOST:PORT")
    parser.add_argument("--redis", required=True, help="URL")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--events", type=int, required=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(parser.parse_args()))), flush=True)


if __name__ == "__main__":
    main()
