"""Every metric, in one table: the code makes them of it, and docs/metrics.md says the same.

A counter counts since its process began. Labels hold nothing that a message could fill without bound: what names
itself in messages (a source) is told apart up to `NAMES_AT_MOST`, and all others together as `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from prometheus_client import Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

NAMES_AT_MOST = 50
OTHER = "other"
# From one millisecond to half a minute: what takes longer than that is an outage.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """`owner` is the role of a worker that tells it; `worker`: all of them, `serve`: `isotherm serve`."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    unit: str
    labels: tuple[str, ...]
    owner: str
    means: str


# fmt: off
P, S = ("partition",), ("topic", "partition")
TABLE = (
    # every process
    Metric("isotherm_build_info", "gauge", "", ("version", "python", "role"), "worker, serve", "1: what runs"),
    Metric("isotherm_clock_offset_seconds", "gauge", "s", (), "worker, serve",
           "the time of Redis minus that of this machine; records are stamped with the former"),
    Metric("isotherm_clock_stepped", "gauge", "", (), "worker",
           "1: the time of Redis jumped by more than 30 s, and nothing is stamped until the worker is restarted"),
    Metric("isotherm_waiting", "gauge", "", (), "worker",
           "outages of Kafka, Redis or the network that are being waited out now; the log says during what"),
    Metric("isotherm_unanswered", "gauge", "", (), "worker",
           "1: Redis did not answer; `isotherm_accounts` and `isotherm_alerts_waiting` are missing then"),
    # the router
    Metric("isotherm_source_offset", "gauge", "messages", S, "router",
           "offset of the next message to be routed, of the source partitions that this worker reads"),
    Metric("isotherm_source_lag_messages", "gauge", "messages", S, "router",
           "messages in a source partition that have not been routed yet"),
    Metric("isotherm_source_messages_total", "counter", "", ("outcome", "reason"), "router",
           "what became of what is in messages: `routed`; `rejected` (a dead letter); `unattributed` (nobody's, "
           "or kept until it is known whose); `conflict` (a domain claimed twice); `erased`"),
    Metric("isotherm_route_seconds", "histogram", "s", (), "router",
           "a batch of one source partition, from its links to Kafka's acknowledgement"),
    Metric("isotherm_route_retries_total", "counter", "batches", (), "router",
           "batches routed again because a link that they were decided by had changed meanwhile"),
    Metric("isotherm_source_paused", "gauge", "", S, "router",
           "1: too much of it cannot be used, or it was deleted unread; `isotherm resume`, once it is mended"),
    Metric("isotherm_source_stopped", "gauge", "", S, "router", "1: a bug stopped it; the log says which"),
    Metric("isotherm_source_made_anew_total", "counter", "", (), "router",
           "topics deleted and made anew under the same name, by partition; they are read from their beginning"),
    # the fold
    Metric("isotherm_partitions", "gauge", "partitions", (), "fold",
           "of the log (`ISOTHERM_PARTITIONS`), whoever owns them"),
    Metric("isotherm_partition_offset", "gauge", "records", P, "fold",
           "offset of the next record to be folded, of the partitions that this worker owns"),
    Metric("isotherm_lag_records", "gauge", "records", P, "fold", "records in the log not yet folded"),
    Metric("isotherm_lag_seconds", "gauge", "s", P, "fold",
           "for how long it has been behind: 0 where all is folded, never more than since `log_time`"),
    Metric("isotherm_log_time_seconds", "gauge", "s since 1970", P, "fold",
           "how far time has come in the partition; `time()` minus it grows where nothing happens, and is no lag"),
    Metric("isotherm_records_total", "counter", "records", ("outcome", "source"), "fold",
           "records folded: `applied`, `duplicate`, `passed_on`, `late`, `parked`, `overtaken`; and those of no "
           "account: `tick`, `ruleset`, `filled`, `erase`, `epoch`; `diverted`: stood in the wrong partition"),
    Metric("isotherm_values_refused_total", "counter", "values", ("source",), "fold",
           "values of facts that could not be what the fact is declared to be; the fact stayed as it was"),
    Metric("isotherm_records_early_total", "counter", "records", ("source",), "fold",
           "activities said to happen in the future; they count as happening when they came"),
    Metric("isotherm_fold_seconds", "histogram", "s", ("stage",), "fold",
           "a batch of one partition: `load` (decode, and read states), `step`, `commit` (write the changes down, "
           "and Redis' answer); its count of `commit` is that of batches"),
    Metric("isotherm_changes_total", "counter", "changes", ("dimension", "segment", "cause"), "fold",
           "accounts that came to be elsewhere in a dimension; `segment` is where a ladder has them now, or "
           "what was entered or left of a set; an account's first evaluation has neither"),
    Metric("isotherm_accounts", "gauge", "accounts", P, "fold", "accounts, visitors and merged ones included"),
    Metric("isotherm_outbox_messages", "gauge", "messages", P, "fold",
           "committed by this worker, not yet published"),
    Metric("isotherm_published_total", "counter", "messages", (), "fold", "acknowledged by Kafka"),
    Metric("isotherm_wake_overdue_seconds", "gauge", "s", P, "fold",
           "since when the earliest change by time is due that has not been decided; 0: none is"),
    Metric("isotherm_sweeping", "gauge", "", P, "fold",
           "1: after new rules, or an epoch, all accounts are looked at once, 50 a tick"),
    Metric("isotherm_swept_accounts", "gauge", "accounts", P, "fold",
           "accounts that this sweep, or the last one, has come to; of `isotherm_accounts`"),
    Metric("isotherm_epoch", "gauge", "", P, "fold", "the partition's epoch: it grows when all is told anew"),
    Metric("isotherm_refolding", "gauge", "", P, "fold",
           "1: Redis has gone back, and what was told already is folded once more"),
    Metric("isotherm_ruleset_info", "gauge", "", (*P, "ruleset"), "fold",
           "1: the rules in force, by their hash"),
    Metric("isotherm_partition_stopped", "gauge", "", (*P, "reason"), "fold",
           "1: nothing is folded there until somebody mends it: `gap`, `other_log`, `rules`, `other_build`, "
           "`too_many_partitions`, `bug`"),
    Metric("isotherm_gone_back_total", "counter", "", ("role",), "fold, router",
           "how often Redis was found to have lost what was written last; it is made good by itself"),
    Metric("isotherm_accounts_quarantined_total", "counter", "accounts", (), "fold",
           "accounts whose rules raised; they keep their answers until `isotherm release` or new rules"),
    Metric("isotherm_dead_letters_total", "counter", "messages", ("stage", "reason"), "router, fold",
           "what could not be used, with its bytes in `dead.letters`"),
    # delivery and alerts
    Metric("isotherm_deliveries_total", "counter", "", ("endpoint", "outcome"), "deliver",
           "`delivered`, `given_up`, `superseded` by a newer change, and `retried`: an attempt that failed"),
    Metric("isotherm_delivery_seconds", "histogram", "s", ("endpoint",), "deliver",
           "a request to an endpoint, answered or not"),
    Metric("isotherm_deliveries_waiting", "gauge", "changes", ("endpoint",), "deliver",
           "read and not yet delivered, those that wait for another attempt included"),
    Metric("isotherm_endpoint_failing_seconds", "gauge", "s", ("endpoint",), "deliver", "since its first failure"),
    Metric("isotherm_endpoint_disabled", "gauge", "", ("endpoint",), "deliver",
           "1: nothing is sent there until `isotherm deliveries enable`"),
    Metric("isotherm_alerts_sent_total", "counter", "messages", (), "deliver", "messages that arrived"),
    Metric("isotherm_alerts_given_up_total", "counter", "alerts", (), "deliver",
           "alerts of which nobody could be told, or too late"),
    Metric("isotherm_alerts_waiting", "gauge", "accounts", ("channel",), "deliver",
           "due and not yet sent, by all workers together"),
    # isotherm serve
    Metric("isotherm_api_listeners", "gauge", "", (), "serve", "who hears changes as server-sent events now"),
    Metric("isotherm_api_reading", "gauge", "", (), "serve", "1: it reads `segment.changes`; 0: Kafka is away"),
    Metric("isotherm_verified_differences", "gauge", "", ("kind",), "serve",
           "what `isotherm verify` found last: `over`, in a segment's set and should not be; `under`, not in it "
           "and should be; `answers`, `wakes`, `sets`: accounts that stand elsewhere, are due at another instant, "
           "or whose sets do not agree with their states. Missing before the first"),
    Metric("isotherm_verified_accounts", "gauge", "accounts", (), "serve", "that it compared"),
    Metric("isotherm_verified_time_seconds", "gauge", "s since 1970", (), "serve", "when it did"),
)
# fmt: on
BY_NAME: Mapping[str, Metric] = {each.name: each for each in TABLE}


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a gauge or counter; `labels` in the table's order."""

    name: str
    labels: tuple[str, ...]
    value: float


def families(samples: Iterable[Sample]) -> Iterator[Any]:
    """Samples as prometheus_client wants them, in the table's order.

    Raises KeyError for one that is not in the table, ValueError for one whose labels are others.
    """
    made: dict[str, Any] = {}
    for each in samples:
        metric = BY_NAME[each.name]
        if len(each.labels) != len(metric.labels):
            raise ValueError(f"{each.name} has the labels {metric.labels}, not {each.labels}")
        if metric.name not in made:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            made[metric.name] = kind(metric.name, metric.means, labels=metric.labels)
        made[metric.name].add_metric(each.labels, each.value)
    yield from (made[name] for name in BY_NAME if name in made)


def histogram(name: str) -> Histogram:
    """The histogram of that name, in no registry: whoever shows it collects it."""
    metric = BY_NAME[name]
    return Histogram(name, metric.means, metric.labels, buckets=BUCKETS, registry=None)


@dataclass(slots=True)
class Names:
    """The first so many names that come are told apart, the same ones for as long as the process lives."""

    known: set[str] = field(default_factory=set)

    def of(self, name: str) -> str:
        if name not in self.known:
            if len(self.known) >= NAMES_AT_MOST:
                return OTHER
            self.known.add(name)
        return name


def markdown() -> str:
    """The table as it stands in docs/metrics.md."""
    lines = ["| metric | type | unit | labels | role | |", "| --- | --- | --- | --- | --- | --- |"]
    for each in TABLE:
        labels = ", ".join(f"`{label}`" for label in each.labels)
        cells = (f"`{each.name}`", each.kind, each.unit, labels, each.owner, each.means)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
