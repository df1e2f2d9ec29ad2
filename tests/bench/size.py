"""What an account costs in Redis under the whole shipped library: after 50 activities, and after 100,000.

A thousand accounts with what a CRM says of them (nine facts, four contacts) and 50 activities each over eight
weeks go through the production path into a real Valkey. What grows with the number of accounts is divided by it:
states, wakes and members of segments, by Redis' own measure. Then one account goes on to 100,000 activities.

    python tests/bench/size.py [--accounts N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import workload
from events import START
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from reporting import Table
from rich.console import Console

from rules.compiler import load
from rules.durations import DAY
from rules.records import Activity, Contact, Facts, Record, RulesetRecord, Tick, encode_record
from streams.embedded import Valkey
from streams.pipeline import Owned, fold_batch
from streams.store.redis import RedisStore

FEW, MANY = 50, 100_000
KEYS = {"states": "*:accounts", "wakes": "*:wakes", "members": "*:in:*"}  # what grows with accounts
GOAL, GOAL_MANY = 3 * 1024, 64 * 1024
BATCH = 2_000
WEIGHTS = {
    "page_viewed": 34,
    "email_opened": 6,
    "email_clicked": 3,
    "product_used": 4,
    "webinar_attended": 1,
    "demo_requested": 1,
}
PATHS = ["/pricing", "/docs/api", "/blog/a", "/security", "/customers/x", "/integrations/crm", "/", "/product"]


@dataclass(frozen=True, slots=True)
class Message:
    offset: int
    value: bytes


def crm(account: str, rng: random.Random) -> Iterator[Record]:
    said: dict[str, Any] = {
        "name": f"Company {account[-6:]}", "industry": rng.choice(workload.INDUSTRIES) or "Other",
        "employees": rng.randrange(5, 5_000), "annual_revenue": rng.randrange(1, 900) * 1_000_000.0,
        "country": rng.choice(workload.COUNTRIES), "ownership": "Private", "website": f"{account}.example",
        "account_type": "Prospect", "owner": "005A000000Qw",
    }  # fmt: skip
    yield Facts(account=account, at=START, received=START, source=workload.CRM, set=said)
    for n in range(4):
        facts = {"title": workload.TITLES[n], "status": "active"}
        person = f"{account[-6:]}{n:06x}{rng.getrandbits(48):012x}"
        yield Contact(account=account, person=person, at=START, received=START, source=workload.CRM, set=facts)


def activities(account: str, people: list[str], count: int, rng: random.Random) -> Iterator[Record]:
    """`count` activities of a few people over eight weeks, in order."""
    names = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)
    for name, at in zip(names, sorted(rng.randrange(56 * DAY) for _ in range(count)), strict=True):
        props = {"path": rng.choice(PATHS)} if name == "page_viewed" else {}
        yield Activity(
            account=account, name=name, at=START + at, received=START + at, source="web.activity",
            id=f"web-{rng.getrandbits(64):016x}", person=rng.choice(people), props=props,
        )  # fmt: skip


def one(number: int) -> tuple[str, list[str], list[Record]]:
    """An account, the people seen there, and its records."""
    rng = random.Random(number)
    account = f"001A{number:014d}"  # as long as a Salesforce id
    records = list(crm(account, rng))
    people = [record.person for record in records if isinstance(record, Contact)] + [
        f"visitor-{number}-{n}" for n in "ab"
    ]
    return account, people, records + list(activities(account, people, FEW, rng))


async def measure(accounts: int = 1_000) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="isotherm-size-") as directory:
        valkey = Valkey(Path(directory))
        valkey.start()
        try:
            return await _measure(valkey.url, accounts)
        finally:
            valkey.stop()


async def _measure(url: str, accounts: int) -> dict[str, float]:
    redis, client = Redis.from_url(url), AsyncRedis.from_url(url)
    store = RedisStore(client, 1)
    owned = Owned.from_store(await store.acquire(0), 1)
    ruleset = load(workload.SHIPPED)
    start: list[Record] = [
        RulesetRecord(received=START, hash=ruleset.hash, files=ruleset.files),
        Tick(received=START),
    ]
    owned = await _fold(start, owned, store)
    drawn = [one(number) for number in range(accounts)]
    log = sorted((record for _, _, records in drawn for record in records), key=lambda record: record.received)
    owned = await _fold(log, owned, store)
    parts = {name: _held(redis, pattern) / accounts for name, pattern in KEYS.items()}
    account, people, _ = drawn[0]
    later = activities(account, people, MANY - FEW, random.Random(1))
    owned = await _fold([_moved(record, 56 * DAY) for record in later], owned, store)
    many = redis.hstrlen(store._keys[0].accounts, account)
    tallies = _held(redis, "*:tally:*")
    await client.aclose()
    own = {"bytes_at_50": sum(parts.values()), **parts}
    return {"accounts": accounts, **own, "state_at_100000": many, "tallies_of_the_partition": tallies}


def _held(redis: Any, pattern: str) -> int:
    """Redis' own measure of all keys of a pattern, each with what it takes to keep it."""
    return sum(redis.memory_usage(key, samples=0) for key in redis.scan_iter(pattern, count=1_000))


def _moved(record: Record, later: int) -> Record:
    assert isinstance(record, Activity)
    record.at, record.received = record.at + later, record.received + later
    return record


async def _fold(records: list[Record], owned: Owned, store: RedisStore) -> Owned:
    for start in range(0, len(records), BATCH):
        first = owned.partition.offset
        messages = [
            Message(first + n, encode_record(each)) for n, each in enumerate(records[start : start + BATCH])
        ]
        owned = await fold_batch(messages, owned, store)
        while entries := await store.outbox(0, 100):
            await store.trim(0, entries[-1].id)
    return owned


def table(found: dict[str, float]) -> Table:
    made = Table("An account in Redis under the whole library", ["", "bytes", "goal"])
    few, many = found["bytes_at_50"], found["state_at_100000"]
    made.rows.append([f"{FEW} activities, everything counted", f"{few:,.0f}", _goal(few, GOAL)])
    made.rows.append([f"{MANY:,} activities, its state", f"{many:,.0f}", _goal(many, GOAL_MANY)])
    made.notes.append(
        f"{found['accounts']:,} accounts of 9 facts, 4 contacts and 6 people seen: "
        + ", ".join(f"{name} {found[name]:,.0f}" for name in KEYS)
        + f"; besides, whatever their number, {found['tallies_of_the_partition'] / 1024:,.0f} KB of tallies"
    )
    return made


def _goal(found: float, goal: float) -> str:
    return f"{goal:,.0f}" + ("" if found <= goal else ", missed")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = asyncio.run(measure(options.accounts))
    if options.json:
        print(json.dumps(found))
    else:
        table(found).show(Console())


if __name__ == "__main__":
    main()
