"""Putting a ruleset in force: one record appended to every partition of `account.log`.

Each partition switches at that record. Accounts are evaluated by the new rules when they are next touched, and
by a bounded sweep on ticks; workers never read rule files. One deploys at a time: two that met could end with
another ruleset in force in each partition.
"""

from __future__ import annotations

import asyncio
import getpass
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rules.compiler import load
from rules.records import RulesetRecord, encode_record
from rules.ruleset import Ruleset
from streams import keys
from streams.clock import RedisClock
from streams.producer import Producer
from streams.settings import Settings
from streams.store.base import Outbound
from streams.store.redis import connect
from streams.topics import ACCOUNT_LOG, check

ONE_AT_A_TIME_MS = 60_000


class DeployProblem(Exception):
    """Nothing was deployed, or not everywhere. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class How:
    """What is said of a deployment. What a `quiet` one changes alerts nobody and starts no journey.

    With `backfill` measures that lack it get their past: so many ms of it, 0 for all; None: they do not.
    """

    message: str = ""
    by: str = ""
    quiet: bool = False
    backfill: int | None = None

    def fill_since(self, now: int) -> int | None:
        return max(now - self.backfill, 1) if self.backfill else self.backfill


def who() -> str:
    """Whoever runs this process, as the operating system calls them; "" when it has no name for them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


async def deploy(directory: Path, message: str, settings: Settings) -> Ruleset:
    """Validates the rules in `directory` and puts them in force.

    Raises RulesetError before anything is written, and what `put_in_force` raises.
    """
    ruleset = load(directory)
    await put_in_force(ruleset, How(message), settings)
    return ruleset


async def put_in_force(ruleset: Ruleset, how: How, settings: Settings) -> RulesetRecord:
    """Appends the ruleset to every partition, and gives the record.

    Raises TopicsError when the log is not there, DeployProblem when somebody else is deploying, or when some
    partitions have the record and others not: deploying once more mends that.
    """
    await check(settings)
    redis = connect(settings)
    clock, producer = RedisClock(redis), Producer(settings)
    try:
        async with _alone(redis, settings):
            await clock.sync()
            await producer.start()
            now = clock.now()
            record = RulesetRecord(
                received=now,
                hash=ruleset.hash,
                files=ruleset.files,
                message=how.message,
                author=how.by or who(),
                deployment=f"{named(now)}-{secrets.token_hex(2)}",
                quiet=how.quiet,
                fill_since=how.fill_since(now),
            )
            outbound = [Outbound(ACCOUNT_LOG, "", encode_record(record))]
            try:
                sending = (producer.send(outbound, now, p) for p in range(settings.partitions))
                answers = await asyncio.gather(*sending, return_exceptions=True)
            finally:
                await producer.stop()  # nothing of it is under way when somebody else may deploy
            _are_all_there(answers)
            return record
    finally:
        await producer.stop()
        await redis.aclose()


def _are_all_there(answers: list[Any]) -> None:
    """Raises what was raised if no partition has the record, DeployProblem if only some have it."""
    errors = [each for each in answers if isinstance(each, BaseException)]
    if not errors:
        return
    if len(errors) == len(answers) or not isinstance(errors[0], Exception):
        raise errors[0]
    raise DeployProblem(
        f"{len(answers) - len(errors)} of {len(answers)} partitions have the new ruleset, the others do not "
        f"({type(errors[0]).__name__}: {errors[0]}): deploy once more, so that all have the same"
    )


def named(at: int) -> str:
    """What a deployment of that instant is called, but for chance: `20260302-091500`."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y%m%d-%H%M%S")


async def _renewing(redis: Any, key: str) -> None:
    """Holds it for as long as it takes: brokers may be slow."""
    while True:
        await asyncio.sleep(ONE_AT_A_TIME_MS / 3000)
        await redis.pexpire(key, ONE_AT_A_TIME_MS)


@asynccontextmanager
async def _alone(redis: Any, settings: Settings) -> AsyncIterator[None]:
    key, token = keys.deploying(settings.namespace), secrets.token_hex(8)
    if not await redis.set(key, token, nx=True, px=ONE_AT_A_TIME_MS):
        raise DeployProblem(
            "somebody else is deploying right now; try again when they are done, or in a minute if they were "
            "interrupted"
        )
    renewing = asyncio.create_task(_renewing(redis, key))
    try:
        yield
    finally:
        renewing.cancel()
        if await redis.get(key) == token.encode():
            await redis.delete(key)
