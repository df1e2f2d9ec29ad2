"""A worker's metrics, read from what its services keep anyway, when somebody asks.

Nothing on the way of the data is told of a scrape. What only Redis knows is asked for in one go, within a moment;
when it is away, those metrics are missing and the others are there.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from rules.work import Outcome
from streams import keys, outage
from streams.alerting.service import Alerting
from streams.clock import ClockSteppedError, RedisClock
from streams.delivery.service import Deliverer
from streams.fold import Fold
from streams.keys import PartitionKeys
from streams.metrics import Names, Sample
from streams.outage import AWAY
from streams.pipeline import Owned
from streams.publisher import Publisher
from streams.router import Router
from streams.settings import Settings

ASKED_WITHIN_S = 2.0
# What the fold counts besides records, by the name of its own metric.
APART = {"refused": "isotherm_values_refused_total", "early": "isotherm_records_early_total"}
NO_RECORDS = ("quarantined", "gone back", "not_a_record", *APART)
ROUTED = ("routed", "rejected", "unattributed", "conflict", "erased")


@dataclass(slots=True)
class Watched:
    """The services of a worker, as far as its role has them."""

    settings: Settings
    redis: Any
    clock: RedisClock
    fold: Fold | None = None
    publisher: Publisher | None = None
    router: Router | None = None
    deliverers: list[Deliverer] = field(default_factory=list)
    alerting: Alerting | None = None
    is_started: bool = False


@dataclass(slots=True)
class Scrape:
    """What a scrape remembers of the ones before."""

    watched: Watched
    names: Names = field(default_factory=Names)
    caught_up: dict[int, float] = field(default_factory=dict)  # partition -> when nothing was left to fold, ms

    async def samples(self) -> list[Sample]:
        found = [*about(self.watched.settings.role), *self._process()]
        try:
            async with asyncio.timeout(ASKED_WITHIN_S):
                found += [*await self._asked(), Sample("isotherm_unanswered", (), 0)]
        except AWAY:
            found.append(Sample("isotherm_unanswered", (), 1))
        return [*found, *self._router(), *self._fold(), *self._delivery()]

    def histograms(self) -> Iterator[Any]:
        watched = self.watched
        keepers = (watched.router, watched.fold, *watched.deliverers)
        samples = defaultdict[str, list[Any]](list)  # of all endpoints together
        made = {each.name: each for keeper in keepers if keeper is not None for each in keeper.seconds.collect()}
        for keeper in keepers:
            for each in keeper.seconds.collect() if keeper is not None else ():
                samples[each.name] += [one for one in each.samples if not one.name.endswith("_created")]
        for name, each in made.items():
            each.samples = samples[name]
            yield each

    # -- every worker ----------------------------------------------------------------------------------------

    def _process(self) -> Iterator[Sample]:
        yield from clock_offset(self.watched.clock)
        yield Sample("isotherm_waiting", (), outage.waiting.total())

    def _now(self) -> float:
        """UTC ms, if need be by this machine's clock."""
        with suppress(ClockSteppedError):
            if self.watched.clock.is_set:
                return self.watched.clock.now()
        return time.time() * 1000

    async def _asked(self) -> list[Sample]:
        """What is in Redis only."""
        watched, found = self.watched, list[Sample]()
        owned = sorted(watched.fold.owned()) if watched.fold is not None else []
        settings = watched.settings
        async with watched.redis.pipeline(transaction=False) as pipe:
            pipe.time()  # something, where nothing is owned
            for number in owned:
                pipe.hlen(PartitionKeys.of(number, settings.partitions, settings.namespace).accounts)
            _, *sizes = await pipe.execute()
        found += [Sample("isotherm_accounts", (str(p),), size) for p, size in zip(owned, sizes, strict=True)]
        if watched.alerting is not None:
            waiting = await alerts_waiting(watched.redis, settings.namespace, self._now())
            channels = dict.fromkeys(watched.alerting.channels, 0) | waiting
            found += [Sample("isotherm_alerts_waiting", (each,), count) for each, count in channels.items()]
        return found

    # -- router ----------------------------------------------------------------------------------------------

    def _router(self) -> Iterator[Sample]:
        if (router := self.watched.router) is None:
            return
        for tp, offset in router.positions().items():
            place = self._source(tp)
            yield Sample("isotherm_source_offset", place, offset)
            yield Sample("isotherm_source_lag_messages", place, max(0, router.end(tp) - offset))
            yield Sample("isotherm_source_paused", place, tp in router.paused())
        for tp in {*router.positions(), *router.stopped_partitions}:
            yield Sample("isotherm_source_stopped", self._source(tp), tp in router.stopped_partitions)
        counts = router.counts
        for (what, reason), count in counts.items():
            if what in ROUTED:
                yield Sample("isotherm_source_messages_total", (what, str(reason)), count)
            if what == "rejected":
                yield Sample("isotherm_dead_letters_total", ("router", str(reason)), count)
        yield Sample("isotherm_route_retries_total", (), counts["routed again", ""])
        made_anew = sum(count for (what, _), count in counts.items() if what == "made anew")
        yield Sample("isotherm_source_made_anew_total", (), made_anew)
        yield Sample("isotherm_gone_back_total", ("router",), counts["gone back", ""])

    def _source(self, tp: Any) -> tuple[str, str]:
        return self.watched.settings.topics.role(tp.topic), str(tp.partition)

    # -- fold ------------------------------------------------------------------------------------------------

    def _fold(self) -> Iterator[Sample]:
        fold, publisher, now = self.watched.fold, self.watched.publisher, self._now()
        if fold is None or publisher is None:
            return
        for number, owned in fold.owned().items():
            yield from self._partition(number, owned, fold.end(number), publisher.waiting(number), now)
        for number, by in fold.stopped_by.items():
            yield Sample("isotherm_partition_stopped", (str(number), by), 1)
        yield Sample("isotherm_partitions", (), self.watched.settings.partitions)
        yield Sample("isotherm_published_total", (), publisher.published)
        yield from self._counted(fold)

    def _partition(self, number: int, owned: Owned, end: int, waiting: int, now: float) -> Iterator[Sample]:
        partition, its = owned.partition, (str(number),)
        lag = max(0, end - partition.offset)
        if not lag:
            self.caught_up[number] = now
        since = max(partition.log_time, self.caught_up.get(number, 0))
        yield Sample("isotherm_partition_offset", its, partition.offset)
        yield Sample("isotherm_lag_records", its, lag)
        yield Sample("isotherm_lag_seconds", its, max(0.0, now - since) / 1000 if lag else 0)
        yield Sample("isotherm_log_time_seconds", its, partition.log_time / 1000)
        yield Sample("isotherm_outbox_messages", its, waiting)
        yield Sample("isotherm_wake_overdue_seconds", its, max(0.0, now - owned.next_wake) / 1000)
        yield Sample("isotherm_epoch", its, partition.epoch)
        yield Sample("isotherm_refolding", its, partition.refolding is not None)
        yield Sample("isotherm_ruleset_info", (*its, partition.ruleset[:12]), 1)
        yield Sample("isotherm_sweeping", its, partition.sweep is not None)
        yield Sample("isotherm_swept_accounts", its, partition.swept)

    def _counted(self, fold: Fold) -> Iterator[Sample]:
        counts, changes = counted(fold), Counter(fold.changes)
        for owned in fold.owned().values():
            changes.update(owned.changes)
        records, apart = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for (what, source), count in counts.items():
            if what in APART:
                apart[APART[what], self.names.of(source)] += count
            elif what not in NO_RECORDS:
                records[str(what), self.names.of(source)] += count
        yield from (Sample("isotherm_records_total", place, count) for place, count in records.items())
        yield from (Sample(name, (source,), count) for (name, source), count in apart.items())
        for (dimension, segment, cause), count in changes.items():
            yield Sample("isotherm_changes_total", (dimension, segment, str(cause)), count)
        parked = sum(count for (what, _), count in counts.items() if what == Outcome.PARKED)
        yield Sample("isotherm_dead_letters_total", ("fold", "quarantined"), parked)
        yield Sample("isotherm_dead_letters_total", ("fold", "not_a_record"), counts["not_a_record", ""])
        yield Sample("isotherm_accounts_quarantined_total", (), counts["quarantined", ""])
        yield Sample("isotherm_gone_back_total", ("fold",), counts["gone back", ""])

    # -- deliveries and alerts -------------------------------------------------------------------------------

    def _delivery(self) -> Iterator[Sample]:
        for each in self.watched.deliverers:
            its, health = (each.endpoint.name,), each.health
            for outcome in ("delivered", "given_up", "superseded", "retried"):
                yield Sample("isotherm_deliveries_total", (*its, outcome), each.counts[outcome])
            failing = max(0.0, self._now() - health.since) / 1000 if health.since else 0
            yield Sample("isotherm_deliveries_waiting", its, each.waiting)
            yield Sample("isotherm_endpoint_failing_seconds", its, failing)
            yield Sample("isotherm_endpoint_disabled", its, health.disabled)
        if (alerting := self.watched.alerting) is not None:
            yield Sample("isotherm_alerts_sent_total", (), alerting.teller.sent)
            yield Sample("isotherm_alerts_given_up_total", (), alerting.teller.given_up)


def counted(fold: Fold) -> Counter[tuple[str, str]]:
    """Of all partitions, those that went elsewhere included."""
    counts = Counter(fold.counts)
    for owned in fold.owned().values():
        counts.update(owned.counts)
    return counts


def folded_records(fold: Fold) -> int:
    return sum(count for (what, _), count in counted(fold).items() if what not in NO_RECORDS)


def about(role: str) -> Iterator[Sample]:
    yield Sample("isotherm_build_info", (version("isotherm"), platform.python_version(), role), 1)


def clock_offset(clock: RedisClock) -> Iterator[Sample]:
    """Nothing before Redis has been asked for the first time."""
    if not clock.is_set:
        return
    try:
        yield Sample("isotherm_clock_offset_seconds", (), clock.now() / 1000 - time.time())
        yield Sample("isotherm_clock_stepped", (), 0)
    except ClockSteppedError:
        yield Sample("isotherm_clock_stepped", (), 1)


async def alerts_waiting(redis: Any, namespace: str, now: float) -> Counter[str]:
    """Accounts of which somebody is to be told by now, by channel. Who that is, is nobody's business here."""
    names = [each.decode() for each in await redis.smembers(keys.alerts("queues", namespace))]
    if not names:
        return Counter()
    async with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.zcount(keys.alerts(f"queue:{name}", namespace), "-inf", now)
        counts: Iterable[int] = await pipe.execute()
    waiting = Counter[str]()
    for name, count in zip(names, counts, strict=True):
        waiting[name.partition("/")[0]] += count
    return waiting
