"""From a page view on the wire to sales being told, and back to warm by time alone: through real servers."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat

from rules.changes import iso
from streams import topics
from streams.settings import Settings
from tests.live.conftest import TIMEOUT_S, Changes, Receiver, Worker, isotherm

WEEK = 7 * 86_400_000


def page(n: int, at: int, path: str = "/pricing") -> bytes:
    """A Segment `page` call as it stands on the wire."""
    call = {
        "type": "page",
        "name": "Pricing",
        "userId": "u-1001",
        "anonymousId": "507f191e",
        "messageId": f"ajs-{n}-{at}",
        "timestamp": iso(at),
        "context": {"groupId": "acme"},
        "properties": {"path": path, "url": f"https://www.example.com{path}"},
    }
    return json.dumps(call).encode()


def moved(before: str, after: str) -> Any:
    def wanted(event: dict[str, Any]) -> bool:
        data = event["data"]
        return event["type"] == "segment.moved" and (data["from"], data["to"]) == (before, after)

    return wanted


async def test_three_pricing_views_are_hot_alerted_and_cool_exactly(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes, receiver: Receiver
) -> None:
    receiver.failing = 1  # the first delivery fails and is tried again
    deployed = isotherm(settings, "deploy", "--message", "first rules")
    assert deployed.returncode == 0, deployed.stderr
    web = settings.topics(topics.WEB_ACTIVITY)
    # A warm account first, so that what follows is a move and not a first state.
    await producer.send_and_wait(web, page(0, int(time.time() * 1000) - WEEK - 1), key=b"u-1001")
    await changes.until(lambda event: event["type"] == "account.state")
    oldest = int(time.time() * 1000) - WEEK + 12_000
    for n in range(1, 4):
        await producer.send_and_wait(web, page(n, oldest + n), key=b"u-1001")

    entered = await changes.until(moved("warm", "hot"))
    assert entered["subject"] == "group:acme"
    assert entered["data"]["cause"] == "data"
    assert entered["data"]["reason"]["text"].startswith("3 pricing page views in 7 days")
    assert entered["data"]["stays_until"] == iso(oldest + 1 + WEEK)
    assert entered["data"]["owner"] == "sales"

    await asyncio.wait_for(receiver.arrived.wait(), TIMEOUT_S)
    assert len(receiver.messages) == 1
    assert receiver.keys == [f"{entered['id']}/hot"]
    assert "group:acme is hot (warm → hot): 3 pricing page views" in receiver.messages[0]["text"]

    told = isotherm(settings, "explain", "group:acme", "--json")
    one = isotherm(settings, "explain", "group:acme", "engagement", "--json")
    assert list(json.loads(one.stdout)["dimensions"]) == ["engagement"]
    assert isotherm(settings, "explain", "group:acme", "engagemnt").returncode == 2
    assert json.loads(told.stdout)["dimensions"]["engagement"]["segment"] == "hot"

    left = await changes.until(moved("hot", "warm"))
    assert left["data"]["cause"] == "time"
    assert left["time"] == left["data"]["effective"] == iso(oldest + 1 + WEEK)
    assert left["data"]["decided"] >= left["data"]["effective"]
    assert left["data"]["reason"]["left"]["segment"] == "hot"
    assert worker.stop() == 0


async def test_memberships_topic_has_the_last_word_and_events_are_cloudevents(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes
) -> None:
    isotherm(settings, "deploy")
    await producer.send_and_wait(settings.topics(topics.WEB_ACTIVITY), page(1, int(time.time() * 1000)), key=b"u")
    state = await changes.until(lambda event: event["type"] == "account.state")
    parsed = from_http_event(
        HTTPMessage({"content-type": "application/cloudevents+json"}, json.dumps(state).encode()), JSONFormat()
    )
    assert parsed.get_id() == state["id"]
    assert parsed.get_subject() == "group:acme"
    partition = state["data"]["position"]["partition"]
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(settings.topics(topics.MEMBERSHIPS), partition)])
        message = await asyncio.wait_for(consumer.getone(), TIMEOUT_S)
    assert message.key == b"group:acme"
    held = json.loads(message.value)
    assert held["memberships"]["engagement"] == state["data"]["memberships"]["engagement"]["answer"]
    assert held["position"] == state["data"]["position"]


async def test_bad_input_is_a_dead_letter_and_the_next_record_is_processed(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes
) -> None:
    isotherm(settings, "deploy")
    web = settings.topics(topics.WEB_ACTIVITY)
    now = int(time.time() * 1000)
    poison = {
        b"{broken": "broken_json",
        b"\xff\xfe\x00": "bad_utf8",
        b"[" * 5_000: "too_deep",
        b'{"type": "page", "userId": 7, "timestamp": "9999-01-01T00:00:00Z"}': "absurd_time",
        b'{"type": "nonsense", "userId": "u"}': "unknown_kind",
        b'{"type": "track", "event": "Demo Requested", "timestamp": "2026-03-02T10:00:00Z"}': "missing_key",
        b'{"type": "track", "event": ["x"], "userId": "u"}': "wrong_type",
        b'{"type": "page", "pad": "' + b"x" * 5_000_000 + b'"}': "too_large",
        b"\x00" * 64: "broken_json",
    }
    for value in poison:
        await producer.send_and_wait(web, value, key=b"same")
    await producer.send_and_wait(web, None, key=b"same")
    await producer.send_and_wait(web, b"<xml/>", key=b"same", headers=[("format", b"soap")])
    await producer.send_and_wait(web, page(1, now), key=b"same")
    await changes.until(lambda event: event["subject"] == "group:acme")
    letters = await dead_letters(settings, len(poison) + 2)
    reasons = {value: reason for value, (reason, _) in letters.items()}
    assert reasons == poison | {b"": "null_value", b"<xml/>": "unknown_format"}
    assert all(source.startswith("web.activity/") for _, source in letters.values())


async def dead_letters(settings: Settings, count: int) -> dict[bytes, tuple[str, str]]:
    """By value: reason and coordinates of the first `count` dead letters."""
    found: dict[bytes, tuple[str, str]] = {}
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka, auto_offset_reset="earliest") as consumer:
        topic = settings.topics(topics.DEAD_LETTERS)
        consumer.assign([TopicPartition(topic, p) for p in range(topics.SOURCE_PARTITIONS)])
        for _ in range(count):
            message = await asyncio.wait_for(consumer.getone(), TIMEOUT_S)
            headers = dict(message.headers)
            found[message.value or b""] = (headers["reason"].decode(), headers["source"].decode())
    return found


async def test_a_killed_worker_is_replaced_and_nothing_is_lost(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes
) -> None:
    isotherm(settings, "deploy")
    web = settings.topics(topics.WEB_ACTIVITY)
    now = int(time.time() * 1000)
    for n in range(2):
        await producer.send_and_wait(web, page(n, now + n), key=b"u")
    await changes.until(lambda event: event["type"] == "account.state")
    worker.kill()
    await producer.send_and_wait(web, page(2, now + 2), key=b"u")
    worker.start()
    hot = await changes.until(moved("warm", "hot"))
    assert hot["data"]["reason"]["because"]["parts"][0]["value"] == 3
    assert changes.contradictions() == []


async def test_an_edited_rule_moves_accounts_by_a_sweep(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes, tmp_path: Path
) -> None:
    isotherm(settings, "deploy")
    await producer.send_and_wait(settings.topics(topics.WEB_ACTIVITY), page(1, int(time.time() * 1000)), key=b"u")
    await changes.until(lambda event: event["type"] == "account.state")
    shipped = Path("rules/segments")
    shutil.copytree(shipped, tmp_path, dirs_exist_ok=True)
    engagement = tmp_path / "engagement.yaml"
    edited = engagement.read_text().replace("pricing_viewed, at_least: 3", "pricing_viewed, at_least: 1")
    assert edited != engagement.read_text()
    engagement.write_text(edited)
    assert isotherm(settings, "deploy", tmp_path).returncode == 0
    hot = await changes.until(moved("warm", "hot"))
    assert hot["data"]["cause"] == "rules"


async def test_wrong_rules_are_named_and_nothing_is_deployed(settings: Settings, tmp_path: Path) -> None:
    await topics.create(settings)
    (tmp_path / "bad.yaml").write_text(
        "dimension: d\nsegments:\n  - segment: s\n    when: {fact: employes, at_least: x}\n"
    )
    refused = isotherm(settings, "deploy", tmp_path)
    assert refused.returncode == 1
    assert "bad.yaml:4" in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_missing_topics_are_said_and_not_created(settings: Settings) -> None:
    refused = isotherm(settings, "deploy")
    assert refused.returncode == 1
    assert "isotherm topics" in refused.stderr


async def test_faust_runs_the_same_application(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes
) -> None:
    """`faust -A streams worker` is the same as `isotherm worker`."""
    worker.kill()
    isotherm(settings, "deploy")
    worker.start("-m", "faust", "-A", "streams", "worker", "-l", "warn", "--without-web")
    await producer.send_and_wait(settings.topics(topics.WEB_ACTIVITY), page(1, int(time.time() * 1000)), key=b"u")
    await changes.until(lambda event: event["type"] == "account.state")
    assert worker.stop() == 0
