"""Messages from a file onto a source topic: unchanged, in order, and to no other topic."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import topics
from streams.settings import Settings
from tests.live.conftest import TIMEOUT_S, environment, isotherm


@pytest.fixture
def settings(kafka: str, topic_prefix: str) -> Settings:
    embedded = not os.environ.get("ISOTHERM_TEST_KAFKA")
    return Settings(kafka=kafka, partitions=2, topic_prefix=topic_prefix, idempotence=not embedded)


@pytest.fixture
def created(settings: Settings) -> Settings:
    done = isotherm(settings, "topics")
    assert done.returncode == 0, done.stderr
    return settings


async def arrived(settings: Settings, topic: str, count: int) -> dict[int, list[tuple[bytes, dict[str, bytes]]]]:
    """Value and headers of the first `count` messages, by partition."""
    found: dict[int, list[tuple[bytes, dict[str, bytes]]]] = {}
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(settings.topics(topic), each) for each in range(topics.SOURCE_PARTITIONS)])
        for _ in range(count):
            message = await asyncio.wait_for(consumer.getone(), TIMEOUT_S)
            found.setdefault(message.partition, []).append((message.value, dict(message.headers)))
    return found


async def test_lines_arrive_unchanged_and_in_order_in_one_partition(created: Settings, tmp_path: Path) -> None:
    lines = [b'{"a": 1}', b"not json \xff", *(b"%d" % n for n in range(1_500))]
    file = tmp_path / "messages.jsonl"
    file.write_bytes(b"\r\n\n".join(lines))
    done = isotherm(created, "send", "crm.updates", file, "--format", "hubspot", "--json")
    assert json.loads(done.stdout) == {"topic": "crm.updates", "sent": len(lines)}
    (kept,) = (await arrived(created, "crm.updates", len(lines))).values()
    assert kept == [(line, {"format": b"hubspot"}) for line in lines]


async def test_standard_input_goes_behind_what_was_sent_before(created: Settings, tmp_path: Path) -> None:
    (tmp_path / "first").write_text("first")
    assert (
        isotherm(created, "send", "web.activity", tmp_path / "first").stdout == "1 message sent to web.activity\n"
    )
    subprocess.run(
        [sys.executable, "-m", "streams.cli", "send", "web.activity", "-"],
        input=b"second\n",
        env=environment(created),
        timeout=TIMEOUT_S,
        check=True,
    )
    (kept,) = (await arrived(created, "web.activity", 2)).values()
    assert kept == [(b"first", {}), (b"second", {})]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("account.log", "FILE"), "the router does not read 'account.log'"),
        (("web.activty", "FILE"), "it reads crm.updates, web.activity"),
        (("web.activity", "FILE", "--format", "segmnt"), "did you mean 'segment'?"),
        (("web.activity", "/nowhere"), "cannot read /nowhere"),
        (("web.activity",), "which file?"),
    ],
)
def test_a_wrong_use_ends_with_2_and_a_sentence(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("{}")
    given = [tmp_path / each if each == "FILE" else each for each in arguments]
    done = isotherm(Settings(kafka="127.0.0.1:1"), "send", *given)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_topics_end_with_1_and_an_absent_broker_with_3(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    missing = isotherm(settings, "send", "web.activity", tmp_path / "file")
    assert (missing.returncode, "isotherm topics" in missing.stderr) == (1, True)
    away = isotherm(Settings(kafka="127.0.0.1:1"), "send", "web.activity", tmp_path / "file")
    assert (away.returncode, "ISOTHERM_KAFKA" in away.stderr) == (3, True)
