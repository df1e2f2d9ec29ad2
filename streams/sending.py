"""Messages from a file onto a source topic, as the system that writes them would send them.

Nothing is looked at on the way: what cannot be used becomes a dead letter, as it would from any other producer.
Rows that are to be kept are imported instead: `isotherm import` checks them and goes on where it ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice

from streams import topics
from streams.producer import Producer
from streams.settings import Settings
from streams.store.base import Outbound

AT_ONCE = 1_000
KEY = "isotherm send"  # one key, one partition: what was sent first is read first, over several files too


async def send_lines(lines: Iterable[bytes], topic: str, format: str, settings: Settings) -> int:
    """How many messages Kafka has acknowledged: one of each line, in order; empty lines are none.

    `topic` goes without the prefix. `format` is for the header, "" to leave it to the topic. Raises TopicsError,
    and KafkaError when the broker is away; what is acknowledged stays so.
    """
    await topics.check(settings, [topic])
    headers = (("format", format.encode()),) if format else ()
    messages = (Outbound(topic, KEY, line.rstrip(b"\r\n"), headers) for line in lines if line.strip())
    producer, sent = Producer(settings), 0
    await producer.start()
    try:
        while some := list(islice(messages, AT_ONCE)):
            await producer.send(some, time.time_ns() // 1_000_000)
            sent += len(some)
    finally:
        await producer.stop()
    return sent
