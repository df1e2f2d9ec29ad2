"""Faust with a Table: the way its manual shows it, one event at a time.

State is a Table in memory, the fastest store that Faust has, backed by a changelog topic that a
restart reads back: every write of an account is a message to the changelog.

Settings in its favour: the wheel's compiled streams, uvloop, orjson for the changelog, raw bytes in
and out, producer batches of 128 KB gathered for 20 ms (worth a fifth of the time), neither
leader topic nor web server. Delivery is at least once, its default, and the stream's buffer is left
at 4,096, where a larger one gained nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
import uuid

import faust
import uvloop
from job import Stopwatch, decode, options, partitions_of, step, unseen

chosen = options(__doc__)
watch = Stopwatch("faust-table")
directory = tempfile.TemporaryDirectory(prefix="peer-")
app = faust.App(
    f"peer-faust-table-{uuid.uuid4().hex[:8]}",
    broker=f"kafka://{chosen.kafka}",
    store="memory://",
    datadir=directory.name,
    consumer_auto_offset_reset="earliest",
    producer_linger=0.02,
    producer_max_batch_size=128 * 1024,
    broker_session_timeout=6.0,
    broker_heartbeat_interval=2.0,
    topic_partitions=partitions_of(chosen.kafka, chosen.topic),
    topic_replication_factor=1,
    topic_disable_leader=True,
    web_enabled=False,
)
log = app.topic(chosen.topic, value_type=bytes, value_serializer="raw", key_serializer="raw")
output = app.topic(chosen.output, value_type=bytes, value_serializer="raw", key_serializer="raw")
accounts = app.Table("accounts", key_type=str, value_type=list)
done = asyncio.Event()


@app.agent(log)
async def segment(stream: faust.Stream) -> None:
    async for value in stream:
        if watch.events == chosen.events:
            continue
        count = watch.event()
        event = decode(value)
        state = accounts.get(event.account) or unseen()
        written, change = step(state, event)
        if written:
            accounts[event.account] = state
        if change is not None:
            watch.changes += 1
            await output.send(key=event.account.encode(), value=change)
        if count == chosen.events:
            done.set()


async def main() -> None:
    await app.start()
    await done.wait()
    await app.producer.flush()
    watch.report()
    await app.stop()


if __name__ == "__main__":
    uvloop.run(main())
