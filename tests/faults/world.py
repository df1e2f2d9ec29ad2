"""An installation under test: topics on the cluster, a Redis pair, workers, traffic; and what it left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cramjam
from aiokafka import AIOKafkaConsumer, TopicPartition
from redis.asyncio import Redis

from rules.compiler import load
from rules.fold import Partition
from rules.state import VERSION
from streams import keys, topics
from streams.deploy import How, put_in_force
from streams.keys import PartitionKeys
from streams.playback import up_to_its_end
from streams.publisher import WAITING_AT_MOST
from streams.settings import Settings
from streams.store.base import pack_partition, unpack_outbox, unpack_partition
from streams.topics import ACCOUNT_LOG, CONFIGS, DEAD_LETTERS, MEMBERSHIPS, SOURCES
from tests.faults.oracle import Found, Kept, Report, Told, check
from tests.faults.servers import Cluster, RedisPair, Worker
from tests.faults.traffic import Traffic

PARTITIONS = 4
WITHIN_S = 90.0  # until a test gives up; the bounds that matter are asserted
DRAINED_WITHIN_S = 30.0
MEMORY_MB = 512.0
ENDS_WITHIN_S = 45.0  # after SIGTERM
LOOK_S = 0.05
RULES = Path(__file__).parent


@dataclass
class World:
    """`settings` are the workers', by way of the proxies; `direct` those of whoever watches."""

    cluster: Cluster
    redis: RedisPair
    settings: Settings
    direct: Settings
    directory: Path
    workers: list[Worker] = field(default_factory=list)
    traffic: Traffic | None = None
    letters: int = 0
    recovery_s: float = 0.0
    peak_mb: float = 0.0
    outbox_most: int = 0

    async def deploy(self, text: str | None = None, backfill: int | None = None) -> None:
        directory = self.directory / "rules"
        directory.mkdir(exist_ok=True)
        (directory / "rules.yaml").write_text(text or (RULES / "rules.yaml").read_text())
        await put_in_force(load(directory), How(backfill=backfill), self.direct_now)

    @property
    def direct_now(self) -> Settings:
        """After a failover Redis is elsewhere."""
        return self.direct.model_copy(update={"redis": self.redis.direct})

    def worker(self, stop_at: str = "", clock: str = "", next_build: bool = False, **settings: Any) -> Worker:
        made = Worker(self.settings.model_copy(update=settings), self.directory / f"worker{len(self.workers)}.log")
        self.workers.append(made.start(stop_at, clock, next_build))
        return made

    # -- waiting --------------------------------------------------------------------------------------------

    async def until(self, what: str, is_so: Callable[[], Awaitable[Any]], within_s: float = WITHIN_S) -> float:
        """Returns when it is, and says how long that took."""
        began = time.monotonic()
        while not await is_so():
            if time.monotonic() - began > within_s:
                raise AssertionError(f"{what}: not within {within_s:g} s\n{await self.places()}\n{self.words()}")
            await asyncio.sleep(LOOK_S)
        return time.monotonic() - began

    async def more(self, count: int) -> None:
        """Returns when so many more messages were acknowledged."""
        assert self.traffic is not None
        wanted, acked = len(self.traffic.acked) + count, self.traffic.acked

        async def are_there() -> bool:
            return len(acked) >= wanted

        await self.until(f"{count} more messages", are_there)

    def said(self, event: str) -> list[dict[str, Any]]:
        """All that workers said of a kind."""
        return [line for each in self.workers for line in each.said(event)]

    async def places(self) -> str:
        """Where everything stands in Redis."""
        async with Redis.from_url(self.redis.direct) as redis:
            told = []
            for each in self._keys():
                held = unpack_partition(await redis.hget(each.meta, "partition") or pack_partition(Partition(-1)))
                outbox = await redis.xrange(each.outbox)
                told.append(f"{held.number}: offset {held.offset}, outbox {[id for id, _ in outbox]}")
            async for key in redis.scan_iter(f"{self.settings.namespace}:*:src:*"):
                told.append(f"{key.decode()}: {await redis.hmget(key, 'next', 'paused', 'incarnation')}")
        return "\n".join(told)

    def words(self) -> str:
        """What the workers said last."""
        return "\n".join(
            f"{each.log.name}{'' if each.runs else ' (gone)'}: {each.log.read_text()[-9000:]}"
            for each in self.workers
        )

    async def owners(self) -> dict[str, bytes]:
        """Each log partition's token."""
        async with Redis.from_url(self.redis.direct) as redis:
            return {p.meta: await redis.hget(p.meta, "token") or b"" for p in self._keys()}

    async def shown(self) -> None:
        """Returns when each broker knows of the topics: the one that made them may be ahead of the others."""
        topics = set(map(self.direct.topics, CONFIGS))

        async def are_shown() -> bool:
            return all([topics <= await node.shows() for node in self.cluster.nodes])

        await self.until("topics that all brokers show", are_shown)

    async def ready(self) -> None:
        """Returns when all workers have started, and each partition has an owner."""

        async def are_ready() -> bool:
            return all((await self.owners()).values()) and all(each.said("started") for each in self.workers)

        await self.until("workers that are ready", are_ready)

    async def drained(self, within_s: float = WITHIN_S) -> float:
        """Returns when all that is in the topics now has been routed, folded and published; how long it took."""
        began = time.monotonic()
        for role in (*SOURCES, ACCOUNT_LOG):
            ends = await self._ends(role)
            reached = self._routed if role in SOURCES else self._folded
            await self.until(f"{role} up to {ends}", lambda ends=ends, reached=reached: reached(ends), within_s)
        folded = await self.offsets()
        await self.until("outboxes emptied", lambda: self._published(folded), within_s)
        return time.monotonic() - began

    async def _ends(self, role: str) -> dict[TopicPartition, int]:
        async with AIOKafkaConsumer(bootstrap_servers=self.direct.kafka) as consumer:
            topic = self.direct.topics(role)
            count = topics.SOURCE_PARTITIONS if role in SOURCES else PARTITIONS
            ends: dict[TopicPartition, int] = await consumer.end_offsets(
                [TopicPartition(topic, p) for p in range(count)]
            )
            return ends

    async def _routed(self, ends: dict[TopicPartition, int]) -> bool:
        async with Redis.from_url(self.redis.direct) as redis:
            for tp, end in ends.items():
                key = keys.source(tp.topic, tp.partition, self.settings.namespace)
                following, batch = await redis.hmget(key, "next", "batch")
                if end and (int(following or 0) < end or batch):
                    return False
        return True

    async def _folded(self, ends: dict[TopicPartition, int]) -> bool:
        async with Redis.from_url(self.redis.direct) as redis:
            for tp, end in ends.items():
                if int(await redis.hget(self._keys()[tp.partition].meta, "offset") or 0) < end:
                    return False
        return True

    async def _published(self, folded: list[int]) -> bool:
        """Each outbox is empty, or holds only what was folded after these offsets."""
        async with Redis.from_url(self.redis.direct) as redis:
            for each, offset in zip(self._keys(), folded, strict=True):
                self.outbox_most = max(self.outbox_most, await redis.xlen(each.outbox))
                first = await redis.xrange(each.outbox, "-", "+", count=1)
                if first and int(first[0][0].split(b"-")[0]) < offset:
                    return False
        return True

    def _keys(self) -> list[PartitionKeys]:
        return [PartitionKeys.of(p, PARTITIONS, self.settings.namespace) for p in range(PARTITIONS)]

    # -- the end --------------------------------------------------------------------------------------------

    async def healed(self) -> float:
        """Called when the fault is over, under traffic: everything that waits is done within 30 s (I6).

        Old words that came late are found a little later, and told anew.
        """
        self.recovery_s = await self.drained()
        ends = await self._ends(MEMBERSHIPS)
        await self.until(f"owners whose words go up to {ends}", lambda: self._spoken(ends))
        return self.recovery_s

    async def _spoken(self, ends: dict[TopicPartition, int]) -> bool:
        """Whether owners know all that stands before these ends to be their own, or told anew."""
        async with Redis.from_url(self.redis.direct) as redis:
            words = {each: await redis.hget(its.meta, "words") for each, its in enumerate(self._keys())}
        return all(int(words[place.partition] or 0) >= end for place, end in ends.items())

    async def finish(self) -> Report:
        """Ends the traffic, drains, stops the workers and compares with the oracles."""
        if self.traffic is not None:
            await self.traffic.stop()
        await self.drained()
        self.peak_mb = max([each.peak_mb() for each in self.workers], default=0.0)
        for each in self.workers:
            if each.runs:
                each.thaw()
                each.terminate()
        for each in self.workers:
            if not await asyncio.to_thread(each.ends, ENDS_WITHIN_S):
                raise AssertionError(f"a worker did not end within {ENDS_WITHIN_S:g} s\n{self.words()}")
        found = await self.found()
        report = await check(found)
        report.expect(
            "I6", self.recovery_s <= DRAINED_WITHIN_S, f"drained {self.recovery_s:.1f} s after the fault was over"
        )
        return report

    async def offsets(self) -> list[int]:
        """How far each partition has been folded."""
        async with Redis.from_url(self.redis.direct) as redis:
            return [int(await redis.hget(each.meta, "offset") or 0) for each in self._keys()]

    async def partitions(self) -> list[Partition]:
        async with Redis.from_url(self.redis.direct) as redis:
            return [unpack_partition(await redis.hget(each.meta, "partition")) for each in self._keys()]

    async def outboxes(self) -> int:
        """Messages that are committed and not yet published."""
        async with Redis.from_url(self.redis.direct) as redis:
            entries = [entry for each in self._keys() for entry in await redis.xrange(each.outbox)]
        return sum(len(unpack_outbox(fields[b"m"])) for _, fields in entries)

    async def routed(self) -> None:
        """Returns when all that is in the source topics now is in the log."""
        for role in SOURCES:
            ends = await self._ends(role)
            await self.until(f"{role} up to {ends}", lambda ends=ends: self._routed(ends))

    def told(self, number: int, where: str, what: str) -> dict[str, object]:
        """The row of a fault after which nothing may go on by itself."""
        empty = {"events": "", "changes": "", "told_again": "", "recovery_s": what, "broken": "not compared"}
        return {"fault": number, "where": where, **empty}

    def row(self, number: int, where: str, report: Report) -> dict[str, object]:
        """What is said of a fault in the table."""
        return {
            "fault": number,
            "where": where,
            "events": report.numbers["inputs"],
            "changes": report.numbers["changes"] - report.numbers["repeated"],
            "told_again": report.numbers["repeated"],
            "recovery_s": round(self.recovery_s, 1),
            "broken": {invariant: len(each) for invariant, each in report.broken.items()},
        }

    async def found(self) -> Found:
        settings = self.direct_now
        read = {role: [told(each) async for each in up_to_its_end(settings, role)] for role in CONFIGS}
        kept = [await self._kept(each) for each in self._keys()]
        caps = {
            "a worker's memory, MB": (self.peak_mb, MEMORY_MB),
            "messages in an outbox": (float(self.outbox_most), float(WAITING_AT_MOST)),
            "dead letters": (float(len(read[DEAD_LETTERS])), float(self.letters * 2)),
        }
        acked = self.traffic.acked if self.traffic is not None else []
        return Found(PARTITIONS, read, kept, acked, caps, self.letters)

    async def _kept(self, its: PartitionKeys) -> Kept:
        async with Redis.from_url(self.redis.direct) as redis:
            held = await redis.hget(its.meta, "partition")
            accounts = await redis.hgetall(its.accounts)
            wakes = await redis.zrange(its.wakes, 0, -1, withscores=True)
            outbox = await redis.xrange(its.outbox)
            members, tallies = {}, {}
            async for key in redis.scan_iter(f"{its.prefix}:in:*"):
                dimension, segment = key.decode().removeprefix(f"{its.prefix}:in:").split("/")
                members[dimension, segment] = {each.decode() for each in await redis.smembers(key)}
            async for key in redis.scan_iter(f"{its.prefix}:tally:*"):
                counts = await redis.hgetall(key)
                tallies[int(key.decode().rpartition(":")[2])] = {k.decode(): int(n) for k, n in counts.items()}
        return Kept(
            unpack_partition(held),
            # A build that keeps them in another version (25) keeps the same in it.
            {
                each.decode(): VERSION + bytes(cramjam.lz4.decompress_block(blob))[1:]
                for each, blob in accounts.items()
            },
            {account.decode(): int(at) for account, at in wakes},
            members,
            tallies,
            [message for _, fields in outbox for message in unpack_outbox(fields[b"m"])],
        )


def told(message: Any) -> Told:
    key = (message.key or b"").decode(errors="replace")
    return Told(
        message.partition, message.offset, key, message.value, message.timestamp, tuple(message.headers or ())
    )


@asynccontextmanager
async def traffic(world: World, **given: Any) -> AsyncIterator[Traffic]:
    """Goes on until `finish`, or until the end."""
    async with Traffic(world.direct, **given) as made:
        world.traffic = made
        yield made
