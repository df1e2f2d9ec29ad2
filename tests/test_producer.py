"""A key goes to the partition that Kafka itself would choose, and a refusal is not in the way of what follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiokafka import partitioner
from aiokafka.errors import KafkaError
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from hypothesis import example, given
from hypothesis import strategies as st

from streams import topics
from streams.playback import up_to_its_end
from streams.producer import Producer, murmur2, partition_of
from streams.settings import Settings
from streams.store.base import Outbound

AT = 1_767_225_600_000


@given(st.binary(max_size=80))
@example(b"")
@example(b"salesforce:0015f00002JUZPDAA5")
def test_keys_are_hashed_as_kafka_does(data: bytes) -> None:
    assert murmur2(data) == partitioner.murmur2(data)


def test_a_key_goes_where_kafkas_default_partitioner_sends_it() -> None:
    everywhere = list(range(64))
    default = partitioner.DefaultPartitioner()
    for key in ("acme", "domain:acme.example", "visitor:anon:9tCq", "salesforce:0015f00002JUZPDAA5", "Zürich"):
        assert partition_of(key, 64) == default(key.encode(), everywhere, everywhere)


def words(account: str, length: int) -> Outbound:
    return Outbound(topics.MEMBERSHIPS, account, b"x" * length)


@pytest.mark.kafka
async def test_what_was_refused_is_not_in_the_way_of_what_follows(settings_of: Callable[..., Settings]) -> None:
    """An idempotent producer has numbered the refused batch: the broker waits for that number for ever."""
    settings = settings_of(partitions=1)
    if not settings.idempotence:
        pytest.skip("the embedded broker refuses nothing, and does not know idempotence")
    limit = NewTopic(settings.topics(topics.MEMBERSHIPS), 1, config={"max.message.bytes": "1000"})
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    for created in admin.create_topics([limit]).values():
        created.result(30)
    producer = Producer(settings)
    await producer.start()
    try:
        await producer.send([words("a", 10)], AT, 0)
        with pytest.raises(KafkaError):
            await producer.send([words("b", 5_000)], AT, 0)
        await producer.send([words("c", 10)], AT, 0)
    finally:
        await producer.stop()
    told = [each.key async for each in up_to_its_end(settings, topics.MEMBERSHIPS)]
    assert told == [b"a", b"c"]
