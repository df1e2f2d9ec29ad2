"""Who folds which partition, how fast, and why somebody does not: written into Redis for people, when a partition
changes hands and every few seconds.

Nothing reads it but `isotherm status` and pages: ownership is decided by tokens (see `fold`), not by this.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import msgspec
import structlog
from mode import Service

from streams import keys
from streams.clock import ClockSteppedError, RedisClock
from streams.fold import Fold
from streams.observing.pace import Pace, Pacing, Reading
from streams.outage import AWAY
from streams.settings import Settings

log = structlog.get_logger()
EVERY_S = 5.0
SILENT_MS = 30_000  # who has not signed for so long is taken for dead


class Signature(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of a partition: whose it is, as of `at` (UTC ms). `by` and `why` are given where it stopped. `pace` is the
    owner's, of all its partitions together; those who signed before there was one have none."""

    owner: str
    at: int
    by: str = ""
    why: str = ""
    pace: Pace | None = None

    def is_fresh(self, now: int) -> bool:
        return now - self.at <= SILENT_MS


class Signing(Service):
    def __init__(self, settings: Settings, redis: Any, clock: RedisClock, fold: Fold, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._redis, self._clock, self._fold = redis, clock, fold
        self._key = keys.owners(settings.namespace)
        self._pacing = Pacing()
        self._name = settings.instance or f"{socket.gethostname()}:{os.getpid()}"

    @Service.task
    async def _keep_signing(self) -> None:
        hands = self._fold.changed_hands
        while not self.should_stop:
            hands.clear()
            try:
                await self.sign()
            except (*AWAY, ClockSteppedError) as error:
                log.info("not signed", why=f"{type(error).__name__}: {error}")
            await self.wait_for_stopped(hands.wait(), timeout=EVERY_S)

    async def sign(self) -> None:
        """For what is ours, and for what we have stopped at."""
        fold, now = self._fold, self._clock.now()
        pace = self._pacing.look(Reading.of(fold, asyncio.get_running_loop().time()))
        signed = {number: Signature(self._name, now, pace=pace) for number in fold.owned()}
        for number, why in fold.stopped_partitions.items():
            signed[number] = Signature(self._name, now, str(fold.stopped_by[number]), why, pace)
        if signed:
            packed = {str(number): msgspec.json.encode(each) for number, each in signed.items()}
            await self._redis.hset(self._key, mapping=packed)


async def signatures(redis: Any, namespace: str) -> dict[int, Signature]:
    """The last of each partition; of one that this code cannot read, none."""
    found: dict[int, Signature] = {}
    for number, blob in (await redis.hgetall(keys.owners(namespace))).items():
        try:
            found[int(number)] = msgspec.json.decode(blob, type=Signature)
        except (msgspec.MsgspecError, ValueError):
            continue
    return found
