"""Quix Streams: a stateful `apply` on a dataframe, state in RocksDB.

State is kept the way its manual shows it, `state.get` and `state.set` in the default store: RocksDB
on local disk and a changelog topic behind it, both written at each commit. Until then writes are held
in the transaction's cache, so an account that changes often is written once per commit.

Settings in its favour: raw bytes in and out, one value per account. Kept at the default because
nothing was gained by changing it: a commit every five seconds (or thirty), JSON by orjson for the
state (or msgpack through `get_bytes`), the consumer's queue sizes.
The idempotent producer, on by default, is off: aiokafka's peers have none either, and not every
broker offers it. Delivery is at least once, its default.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

from job import Stopwatch, decode, options, step, unseen
from quixstreams import Application, State

chosen = options(__doc__)
watch = Stopwatch("quix-streams")


def segment(value: bytes, state: State) -> Iterator[bytes]:
    """Expanded: nothing or one change."""
    if watch.events == chosen.events:
        return
    last = watch.event() == chosen.events
    account: list[Any] = state.get("account") or unseen()
    written, change = step(account, decode(value))
    if written:
        state.set("account", account)
    if change is not None:
        watch.changes += 1
        yield change
    if last:
        app.stop()


with tempfile.TemporaryDirectory() as directory:
    app = Application(
        broker_address=chosen.kafka,
        consumer_group=f"peer-quix-{uuid.uuid4().hex[:8]}",
        auto_offset_reset="earliest",
        state_dir=directory,
        producer_extra_config={"enable.idempotence": False, "linger.ms": 20},
        loglevel="WARNING",
    )
    log = app.topic(chosen.topic, key_deserializer="bytes", value_deserializer="bytes")
    output = app.topic(chosen.output, key_serializer="bytes", value_serializer="bytes")
    frame = app.dataframe(log).apply(segment, stateful=True, expand=True).to_topic(output)
    app.run()  # returns after a last commit: state, changelog and changes are flushed
    watch.report()
