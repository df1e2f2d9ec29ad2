"""How all of it stands, from Redis and Kafka alone: whoever is called at night may find no worker that answers.

What looks as if it stood still is looked at again after a moment: who has a lot to catch up with is not stuck.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from rules.changes import iso
from rules.fold import Partition
from streams.clock import RedisClock
from streams.connecting import kafka_options
from streams.delivery import looking
from streams.keys import PartitionKeys
from streams.letters import open_letters
from streams.observing.signing import Signature, signatures
from streams.observing.verified import Verified, last_verified
from streams.observing.worker import alerts_waiting
from streams.playback import places_of
from streams.settings import Settings
from streams.stalling import STALLED_S
from streams.store.base import unpack_partition
from streams.store.redis import connect
from streams.store.sources import SourceStore
from streams.topics import ACCOUNT_LOG

AGAIN_S = 2.0
OLD_MS = int(STALLED_S * 1000)  # what has waited for longer is looked at twice
LETTERS_WITHIN_S = 10.0
FETCH_MS = 1_000


@dataclass(frozen=True, slots=True)
class LogPartition:
    """A partition of the log. Instants in UTC ms; `next_at` is when the next record to fold was written."""

    partition: Partition
    token: str
    first: int
    end: int
    signed: Signature | None
    next_at: int = 0
    outbox: int = 0
    accounts: int = 0
    wake: int = 0

    @property
    def lag(self) -> int:
        return max(0, self.end - self.partition.offset)

    def state(self, now: int) -> str:
        partition, signed = self.partition, self.signed
        if signed is not None and signed.is_fresh(now) and signed.by:
            return f"stopped: {signed.by}"
        if signed is None or not signed.is_fresh(now):
            return "nobody"
        if self.first > partition.offset or self.is_short:
            return "another log" if self.is_short else "gap"
        if partition.refolding is not None:
            return "folding again"
        if partition.sweep is not None:
            return f"sweeping {min(partition.swept, self.accounts):,}/{self.accounts:,}"
        return "behind" if self.is_old(now) else "well"

    def is_old(self, now: int) -> bool:
        """Something has waited for longer than it does anywhere that is well."""
        return self.behind_ms(now) > OLD_MS or self.overdue_ms(now) > OLD_MS

    def is_doubtful(self, now: int) -> bool:
        """It may look otherwise in a moment."""
        return self.is_old(now) or self.is_short

    @property
    def is_short(self) -> bool:
        """The log seems to end before what was folded. The embedded broker says so, too, of one that does not."""
        return self.end < self.partition.offset

    def behind_ms(self, now: int) -> int:
        return max(0, now - self.next_at) if self.lag and self.next_at else 0

    def overdue_ms(self, now: int) -> int:
        return max(0, now - self.wake) if self.wake else 0

    def plain(self, now: int) -> dict[str, Any]:
        its, signed = self.partition, self.signed
        return {
            "partition": its.number,
            "state": self.state(now),
            "owner": signed.owner if signed else None,
            "signed": iso(signed.at) if signed else None,
            "why": (signed.why or None) if signed else None,
            "offset": its.offset,
            "lag": self.lag,
            "lag_seconds": self.behind_ms(now) // 1000,
            "log_time": iso(its.log_time) if its.log_time else None,
            "wake": iso(self.wake) if self.wake else None,
            "wake_overdue_seconds": self.overdue_ms(now) // 1000,
            "outbox": self.outbox,
            "accounts": self.accounts,
            "epoch": its.epoch,
            "ruleset": its.ruleset[:12] or None,
            "deployment": its.deployment or None,
        }


@dataclass(frozen=True, slots=True)
class SourcePartition:
    topic: str
    number: int
    next: int
    end: int
    paused: str = ""
    token: str = ""

    @property
    def lag(self) -> int:
        return max(0, self.end - self.next)

    def plain(self) -> dict[str, Any]:
        return {
            "source": f"{self.topic}/{self.number}", "offset": self.next, "lag": self.lag,
            "paused": self.paused or None,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Standing:
    """All of it at one moment. `letters` None: they could not be counted within a moment."""

    now: int
    log: Sequence[LogPartition]
    sources: Sequence[SourcePartition]
    letters: Mapping[tuple[str, str], int] | None = None
    endpoints: Sequence[Mapping[str, Any]] = ()
    alerts: Mapping[str, int] = field(default_factory=dict)
    verified: Verified | None = None
    stuck: Sequence[str] = ()  # what did not move between two looks

    def problems(self) -> list[str]:
        """What somebody has to look at, and where to begin."""
        return [*self._of_the_log(), *self.stuck, *self._of_sources(), *self._of_endpoints()]

    def _of_the_log(self) -> Iterator[str]:
        states = {each.partition.number: each.state(self.now) for each in self.log}
        if alone := [number for number, state in states.items() if state == "nobody"]:
            yield f"nobody folds account.log/{ranges(alone)}: does a worker of the role fold run?"
        for each in self.log:
            state, name = states[each.partition.number], f"account.log/{each.partition.number}"
            if state.startswith("stopped") and each.signed is not None:
                yield f"{name} stopped: {each.signed.why}"
            elif state == "gap":
                lost = f"offsets {each.partition.offset} to {each.first - 1} are not in the log any more"
                yield f"{name}: {lost}; see isotherm resume {name} --accept-gap"
            elif state == "another log":
                yield f"{name} ends at {each.end}, and {each.partition.offset} records of it were folded"

    def _of_sources(self) -> Iterator[str]:
        for each in self.sources:
            if each.paused:
                name = f"{each.topic}/{each.number}"
                yield f"{name} is paused: {each.paused}; once it is mended: isotherm resume {name}"

    def _of_endpoints(self) -> Iterator[str]:
        for each in self.endpoints:
            name = each["endpoint"]
            if each["state"] == "disabled":
                yield f"nothing is sent to {name}; once it is mended: isotherm deliveries enable {name}"
            elif each["state"] == "failing":
                since = each["failing_since"]
                yield f"{name} takes nothing since {since}: isotherm deliveries list --endpoint {name}"

    def workers(self) -> Iterator[dict[str, Any]]:
        """Who has signed lately: partitions, and what was folded of them within about the last minute."""
        signed: dict[str, dict[int, Signature]] = {}
        for each in self.log:
            if each.signed is not None and each.signed.is_fresh(self.now):
                signed.setdefault(each.signed.owner, {})[each.partition.number] = each.signed
        for name, its in sorted(signed.items()):
            pace = max(its.values(), key=lambda each: each.at).pace
            yield {
                "worker": name,
                "partitions": sorted(its),
                "seconds": pace and pace.seconds,
                "records": pace and pace.records,
                "batches": pace and pace.batches,
                "commit_p50_ms": pace and pace.p50_ms,
                "commit_p99_ms": pace and pace.p99_ms,
            }

    def plain(self) -> dict[str, Any]:
        letters = self.letters
        return {
            "as_of": iso(self.now),
            "problems": self.problems(),
            "partitions": [each.plain(self.now) for each in self.log],
            "workers": [*self.workers()],
            "sources": [each.plain() for each in self.sources],
            "dead_letters": None if letters is None else [
                {"stage": stage, "reason": reason, "open": count}
                for (stage, reason), count in sorted(letters.items())
            ],
            "endpoints": [dict(each) for each in self.endpoints],
            "alerts_waiting": dict(self.alerts),
            "verified": self.verified and self.verified.plain(),
        }  # fmt: skip


async def standing(
    settings: Settings, kinds: Mapping[str, str], sources: Iterable[str], *, letters: bool = True
) -> Standing:
    """`kinds` of endpoints by their names; `sources` are topics, by role. Without `letters` they are not counted.
    Raises what an absent Redis or broker raises."""
    redis = connect(settings)
    look = _Look(settings, redis, RedisClock(redis), list(sources))
    try:
        await places_of(settings, ACCOUNT_LOG)
        async with AIOKafkaConsumer(**kafka_options(settings), enable_auto_commit=False) as consumer:
            first = await look.at(consumer)
            if any(each.is_doubtful(first.now) for each in first.log) or any(each.lag for each in first.sources):
                await asyncio.sleep(AGAIN_S)
                again = await look.at(consumer)
                first = replace(again, stuck=[*still(first, again)])
        alerts = await alerts_waiting(redis, settings.namespace, first.now)
        verified = await last_verified(redis, settings.namespace)
    finally:
        await redis.aclose()
    endpoints = await looking.standing(settings, kinds) if kinds else []
    counted = await _letters(settings) if letters else None
    return replace(first, alerts=alerts, endpoints=endpoints, letters=counted, verified=verified)


def still(before: Standing, now: Standing) -> Iterator[str]:
    """What has waited for long, and has not moved."""
    for was, each in zip(before.log, now.log, strict=True):
        name, is_read = f"account.log/{each.partition.number}", each.state(now.now) not in ("nobody", "gap")
        moved = each.partition.offset > was.partition.offset
        if each.is_old(now.now) and is_read and not each.state(now.now).startswith("stopped") and not moved:
            what = f"{each.lag:,} records wait" if each.lag else "a change by time is due"
            seconds = max(each.behind_ms(now.now), each.overdue_ms(now.now)) // 1000
            yield f"{name} stands at {each.partition.offset}: {what}, for {seconds:,} s"
    quiet = [
        f"{each.topic}/{each.number}"
        for was, each in zip(before.sources, now.sources, strict=True)
        if was.lag and each.lag and was.next == each.next and not each.paused
    ]
    if quiet:
        yield f"nothing is routed from {', '.join(quiet)}: does a worker of the role router run?"


@dataclass(slots=True)
class _Look:
    settings: Settings
    redis: Any
    clock: RedisClock
    sources: list[str]

    async def at(self, consumer: Any) -> Standing:
        await self.clock.sync()
        sources = [await self._source(consumer, topic) for topic in self.sources]
        return Standing(self.clock.now(), await self._log(consumer), [each for some in sources for each in some])

    async def _log(self, consumer: Any) -> list[LogPartition]:
        settings, numbers = self.settings, range(self.settings.partitions)
        signed = await signatures(self.redis, settings.namespace)
        async with self.redis.pipeline(transaction=False) as pipe:
            for number in numbers:
                its = PartitionKeys.of(number, settings.partitions, settings.namespace)
                pipe.hmget(its.meta, "token", "partition")
                pipe.zrange(its.wakes, 0, 0, withscores=True)
                pipe.xlen(its.outbox)
                pipe.hlen(its.accounts)
            found = await pipe.execute()
        places = [TopicPartition(settings.topics(ACCOUNT_LOG), number) for number in numbers]
        firsts, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        log = []
        for number, place in enumerate(places):
            (token, blob), wakes, outbox, accounts = found[4 * number : 4 * number + 4]
            log.append(
                LogPartition(
                    unpack_partition(blob) if blob else Partition(number),
                    (token or b"").decode(),
                    firsts[place],
                    ends[place],
                    signed.get(number),
                    outbox=outbox,
                    accounts=accounts,
                    wake=int(wakes[0][1]) if wakes else 0,
                )
            )
        return await self._since(consumer, log)

    async def _since(self, consumer: Any, log: list[LogPartition]) -> list[LogPartition]:
        """With when the next record of each that is behind was written. Where the log seems to end before what was
        folded, what comes along with its last message says better where it ends."""
        topic = self.settings.topics(ACCOUNT_LOG)
        asked = {TopicPartition(topic, each.partition.number): each for each in log if each.lag or each.is_short}
        if not asked:
            return log
        consumer.assign(list(asked))
        for place, each in asked.items():
            consumer.seek(place, max(each.first, each.partition.offset - each.is_short))
        written: dict[int, int] = {}
        for _ in asked:
            left = [place for place in asked if place.partition not in written]
            got = await consumer.getmany(*left, timeout_ms=FETCH_MS)
            written |= {place.partition: messages[0].timestamp for place, messages in got.items() if messages}
            if not got or len(written) == len(asked):
                break
        ends = {place.partition: consumer.highwater(place) or 0 for place in asked}
        return [
            replace(each, next_at=written.get(number, 0), end=max(each.end, ends.get(number, 0)))
            for number, each in enumerate(log)
        ]

    async def _source(self, consumer: Any, topic: str) -> list[SourcePartition]:
        name, store = self.settings.topics(topic), SourceStore(self.redis, self.settings.namespace)
        places = sorted(await places_of(self.settings, topic))
        firsts, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        stands = await store.standings([(name, place.partition) for place in places])
        return [
            SourcePartition(
                topic,
                place.partition,
                firsts[place] if each.next is None else each.next,
                ends[place],
                await store.paused(name, place.partition),
                each.token,
            )
            for place, each in zip(places, stands, strict=True)
        ]


async def _letters(settings: Settings) -> Counter[tuple[str, str]] | None:
    """Open letters by stage and reason."""
    try:
        async with asyncio.timeout(LETTERS_WITHIN_S):
            return Counter((each.said("stage"), each.said("reason")) for each in await open_letters(settings))
    except TimeoutError:
        return None


def ranges(numbers: Sequence[int]) -> str:
    """0-3,7 for 0, 1, 2, 3 and 7."""
    runs: list[list[int]] = []
    for each in sorted(numbers):
        if runs and each == runs[-1][-1] + 1:
            runs[-1].append(each)
        else:
            runs.append([each])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
