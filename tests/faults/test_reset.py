"""A connection that is reset is an outage, in whatever words the event loop says so: uvloop has a RuntimeError."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import uvloop
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest
from pydantic import SecretStr

from streams.outage import AWAY
from streams.settings import Settings
from streams.store.redis import RedisStore, connect
from tests.conftest import running
from tests.faults.proxy import Proxy
from tests.faults.servers import Valkey

TIMES = 200


def test_a_reset_is_an_outage(tmp_path: Path) -> None:
    """A worker's loop is uvloop, which has an error of its own for writing to what was reset just now."""
    with running(Valkey(tmp_path)) as valkey, Proxy(valkey.address) as proxy:
        redis = connect(Settings(redis=f"redis://{proxy.address}/0", person_key=SecretStr("of the tests")))
        store = RedisStore(redis, 1)

        async def be_reset() -> set[type[BaseException]]:
            await store.acquire(0)
            proxy.cut()
            failed = set()
            for _ in range(TIMES):
                done = await asyncio.gather(*(store.acquire(0) for _ in range(4)), return_exceptions=True)
                failed |= {type(each) for each in done if isinstance(each, BaseException)}
            proxy.heal()
            await store.acquire(0)
            await redis.aclose()
            return failed

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            failed = runner.run(be_reset())
        assert failed
        assert all(issubclass(each, AWAY) for each in failed), failed


def test_aiokafka_is_told_of_a_reset_in_its_own_words(kafka: str) -> None:
    """Its fetcher ends for good of an error that it does not know, and its consumer never reads on."""

    async def write_to_what_was_reset() -> None:
        host, _, port = kafka.rpartition(":")
        for turns in range(5):  # of the loop: aiokafka hears of it after two
            connection = await create_conn(host, int(port))
            connection._writer.transport.abort()
            for _ in range(turns):
                await asyncio.sleep(0)
            with pytest.raises(KafkaConnectionError):
                await connection.send(MetadataRequest(None))
            assert not connection.connected()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(write_to_what_was_reset())
