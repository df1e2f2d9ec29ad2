"""Putting a ruleset in force: one record appended to every partition of `account.log`.

Each partition switches at that record. Accounts are evaluated by the new rules when they are next touched, and
by a bounded sweep on ticks; workers never read rule files.
"""

from __future__ import annotations

import asyncio
import getpass
from pathlib import Path

from rules.compiler import load
from rules.records import RulesetRecord, encode_record
from rules.ruleset import Ruleset
from streams.clock import RedisClock
from streams.producer import Producer
from streams.settings import Settings
from streams.store.base import Outbound
from streams.store.redis import connect
from streams.topics import ACCOUNT_LOG, check


async def deploy(directory: Path, message: str, settings: Settings) -> Ruleset:
    """Validates the rules in `directory` and appends them to every partition.

    Raises RulesetError before anything is written, TopicsError when the log is not there.
    """
    ruleset = load(directory)
    await check(settings)
    redis = connect(settings)
    clock, producer = RedisClock(redis), Producer(settings)
    try:
        await clock.sync()
        await producer.start()
        now = clock.now()
        record = RulesetRecord(
            received=now, hash=ruleset.hash, files=ruleset.files, message=message, author=getpass.getuser()
        )
        outbound = [Outbound(ACCOUNT_LOG, "", encode_record(record))]
        await asyncio.gather(*(producer.send(outbound, now, p) for p in range(settings.partitions)))
    finally:
        await producer.stop()
        await redis.aclose()
    return ruleset
