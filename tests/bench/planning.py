"""How long `isotherm plan` takes: 100,000 accounts under the whole shipped library, in a real Valkey.

A thousand accounts with what a CRM says of them and 50 activities each (see `size`) are folded; their states are
written under a hundred ids each, spread over the partitions as a live log would spread them. Planned are an edit
of one threshold, a new dimension in which everybody gets an answer, and a new name, after which the whole library
is asked again. CPU seconds stand beside the seconds that passed: they tell what it takes where nothing else runs.

    python tests/bench/planning.py [--accounts N] [--partitions N] [--processes N,...] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import workload
from redis import Redis
from reporting import Table
from rich.console import Console
from size import one

from rules.compiler import compile_files, load
from rules.replay import Replay
from rules.ruleset import Ruleset
from streams.embedded import Valkey
from streams.keys import PartitionKeys
from streams.planning import Request, plan
from streams.producer import partition_of
from streams.settings import Settings
from streams.store.base import pack_files, pack_partition, pack_state

DRAWN = 1_000
GOAL_S = 30.0


def edits(ruleset: Ruleset) -> dict[str, Ruleset]:
    """A threshold, a dimension once more under another name, and a name that nobody uses."""
    files = dict(ruleset.files)
    text = files["value.yaml"]
    assert "at_least: 2_000}]" in text
    few = files | {
        "value.yaml": text.replace("{fact: employees, at_least: 2_000}", "{fact: employees, at_least: 1_500}")
    }
    every = files | {
        "priority2.yaml": text[text.index("dimension: priority") :].replace(
            "dimension: priority", "dimension: order"
        )
    }
    name = files | {"names2.yaml": "activities: {newsletter_read: {}}\n"}
    found = {"one threshold": few, "a new dimension": every, "a new name": name}
    return {what: compile_files(each) for what, each in found.items()}


def fill(url: str, settings: Settings, accounts: int) -> Ruleset:
    ruleset = load(workload.SHIPPED)
    drawn = [one(number) for number in range(min(DRAWN, accounts))]
    replay = Replay(ruleset)
    log = sorted((record for _, _, records in drawn for record in records), key=lambda record: record.received)
    for _ in replay.run(log):
        pass
    redis: Redis = Redis.from_url(url)
    packed = [pack_state(state) for state in replay.states.values()]
    by_partition: dict[int, dict[str, bytes]] = {}
    for n in range(accounts):
        account = f"salesforce:001A{n:014d}"
        by_partition.setdefault(partition_of(account, settings.partitions), {})[account] = packed[n % len(packed)]
    for number in range(settings.partitions):
        keys = PartitionKeys.of(number, settings.partitions, settings.namespace)
        held = msgspec.structs.replace(replay.partition, number=number)
        redis.hset(keys.meta, "partition", pack_partition(held))
        redis.set(keys.ruleset, pack_files(ruleset.files))
        mine = list(by_partition.get(number, {}).items())
        for start in range(0, len(mine), 1_000):
            redis.hset(keys.accounts, mapping=dict(mine[start : start + 1_000]))
    return ruleset


async def measure(accounts: int, partitions: int, processes: list[int]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="isotherm-plan-") as directory:
        valkey = Valkey(Path(directory))
        valkey.start()
        try:
            settings = Settings(redis=valkey.url, partitions=partitions)
            ruleset = fill(valkey.url, settings, accounts)
            return [
                await _one(settings, name, new, count)
                for name, new in edits(ruleset).items()
                for count in processes
            ]
        finally:
            valkey.stop()


async def _one(settings: Settings, name: str, new: Ruleset, processes: int) -> dict[str, Any]:
    began, cpu = time.perf_counter(), _cpu()
    made = await plan(settings, Request(new, processes=processes))
    seconds, cpu = time.perf_counter() - began, _cpu() - cpu
    survey = made.survey
    return {
        "edit": name,
        "processes": processes,
        "accounts": survey.accounts,
        "moving": survey.moving,
        "seconds": round(seconds, 2),
        "cpu": round(cpu, 2),
    }


def _cpu() -> float:
    """Of this process and of those it started, as far as they have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def table(found: list[dict[str, Any]]) -> Table:
    made = Table(
        "isotherm plan, the shipped library", ["edit", "processes", "accounts", "moving", "seconds", "CPU s"]
    )
    made.rows = [
        [
            each["edit"],
            str(each["processes"]),
            f"{each['accounts']:,}",
            f"{each['moving']:,}",
            f"{each['seconds']:.1f}",
            f"{each['cpu']:.1f}",
        ]
        for each in found
    ]
    made.notes = [f"the goal is {GOAL_S:.0f} s for 100,000 accounts on two cores"]
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=64)
    parser.add_argument("--processes", default="1,2")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    processes = [int(each) for each in asked.processes.split(",")]
    found = asyncio.run(measure(asked.accounts, asked.partitions, processes))
    if asked.json:
        print(json.dumps(found))
    else:
        table(found).show(Console())


if __name__ == "__main__":
    main()
