"""Compare what a peer published with what the reference makes of the same events.

    python tests/bench/peers/check.py --kafka HOST:PORT --output TOPIC --events N

Equal means: as many changes, and for each account the same ones in the same order. (Accounts in
different partitions have no order among each other.) With more than one partition the first N events
are not the same for everybody: check such a run with N at the whole topic. Exits with 1 if not equal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests/bench

from aiokafka import AIOKafkaConsumer, TopicPartition
from events import generate, reference
from job import partitions_of

Moves = dict[str, list[tuple[str, str, int]]]


def by_account(changes: Iterable[dict[str, Any]]) -> Moves:
    moves: Moves = defaultdict(list)
    for change in changes:
        moves[change["account"]].append((change["from"], change["to"], change["at"]))
    return moves


async def published(kafka: str, topic: str) -> list[dict[str, Any]]:
    """All that stands in the topic at this moment."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(partitions_of(kafka, topic))]
        ends = await consumer.end_offsets(places)
        left = {place for place in places if ends[place]}
        consumer.assign(list(left))
        changes: list[dict[str, Any]] = []
        while left:
            for place, records in (await consumer.getmany(timeout_ms=1_000)).items():
                changes.extend(json.loads(record.value) for record in records)
                if records[-1].offset + 1 >= ends[place]:
                    left.discard(place)
        return changes
    finally:
        await consumer.stop()


def difference(expected: Moves, actual: Moves) -> str | None:
    for account in sorted(expected.keys() | actual.keys()):
        wanted, got = expected.get(account, []), actual.get(account, [])
        if wanted != got:
            place = next((n for n, (a, b) in enumerate(zip(wanted, got, strict=False)) if a != b), None)
            place = min(len(wanted), len(got)) if place is None else place
            return f"{account}, change {place}: expected {wanted[place:][:1]}, published {got[place:][:1]}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kafka", required=True, help="HOST:PORT")
    parser.add_argument("--output", required=True, help="the peer's output topic")
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    expected = reference(generate(chosen.events, chosen.seed))
    actual = asyncio.run(published(chosen.kafka, chosen.output))
    problem = difference(by_account(expected), by_account(actual))
    line = {"output": chosen.output, "changes": len(actual), "expected": len(expected), "equal": problem is None}
    print(json.dumps(line | ({"first": problem} if problem else {})))
    return 0 if problem is None else 1


if __name__ == "__main__":
    sys.exit(main())
