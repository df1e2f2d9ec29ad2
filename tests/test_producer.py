"""The partition of a key is Kafka's own: other producers and the fold agree with the router."""

from __future__ import annotations

from aiokafka import partitioner
from hypothesis import example, given
from hypothesis import strategies as st

from streams.producer import murmur2, partition_of


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
