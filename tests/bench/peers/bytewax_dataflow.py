"""Bytewax: a dataflow of a Kafka source, a `stateful_flat_map` and a Kafka sink.

State is held in memory by the operator and, as its manual asks for anything that must survive,
snapshotted into a recovery store (SQLite, one partition) at the end of each epoch. Epochs last ten
seconds, the default, so a crash replays up to ten seconds; the source's offsets are in the snapshots.

Settings in its favour: decoding in the batch operator `flat_map_batch`, source batches of 10,000
rather than 1,000, one worker. The Kafka sink flushes after each batch, which is the library's own
choice and cannot be switched off; a larger source batch makes it rarer.

The source ends after `--events`, or at the end of the topic if that comes first.
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.inputs import StatefulSourcePartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main
from job import Event, State, Stopwatch, decode, options, step, unseen

chosen = options(__doc__)
watch = Stopwatch("bytewax")
Message = KafkaSourceMessage[bytes, bytes]


class FirstEvents(KafkaSource):
    """The Kafka source, which ends once all its partitions together have given `--events`."""

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> StatefulSourcePartition:
        return _Counted(super().build_part(step_id, for_part, resume_state))


class _Counted(StatefulSourcePartition):
    given = 0  # by all partitions

    def __init__(self, inner: StatefulSourcePartition) -> None:
        self.inner = inner

    def next_batch(self) -> list[Message]:
        if _Counted.given == chosen.events:
            raise StopIteration
        batch = self.inner.next_batch()[: chosen.events - _Counted.given]
        _Counted.given += len(batch)
        return batch

    def snapshot(self) -> int | None:
        return self.inner.snapshot()

    def close(self) -> None:
        self.inner.close()


def keyed(batch: list[Message]) -> list[tuple[str, Event]]:
    for _ in batch:
        watch.event()
    events = [decode(message.value) for message in batch]
    return [(event.account, event) for event in events]


def segment(state: State | None, event: Event) -> tuple[State, list[bytes]]:
    state = state or unseen()
    _, change = step(state, event)
    if change is None:
        return state, []
    watch.changes += 1
    return state, [change]


def message(keyed_change: tuple[str, bytes]) -> KafkaSinkMessage[Any, Any]:
    account, change = keyed_change
    return KafkaSinkMessage(account.encode(), change)


flow = Dataflow("peer")
source = FirstEvents([chosen.kafka], [chosen.topic], tail=False, batch_size=10_000)
events = op.flat_map_batch("decode", op.input("log", flow, source), keyed)
changes = op.map("message", op.stateful_flat_map("segment", events, segment), message)
op.output("changes", changes, KafkaSink([chosen.kafka], chosen.output))

with tempfile.TemporaryDirectory() as directory:
    init_db_dir(Path(directory), 1)
    run_main(flow, epoch_interval=timedelta(seconds=10), recovery_config=RecoveryConfig(directory))
    watch.report()
