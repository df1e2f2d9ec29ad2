"""A worker that delivers, and what a person asks and wants of it: each as a process, as they are used."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from rules.changes import iso
from rules.state import AccountState, Fact
from streams import topics
from streams.commands.deliveries import app
from streams.delivery.store import DeliveryStore
from streams.keys import PartitionKeys
from streams.producer import partition_of
from streams.settings import Settings
from streams.store.base import pack_state
from tests.delivery.conftest import PARTITIONS, SECRET, WITHIN_S, Receiver, down, fine, id_of, moved
from tests.live.conftest import Worker, environment, working

ENDPOINTS = """\
allow: [127.0.0.0/8]
endpoints:
  - name: journeys
    to: {{url: "{url}/journeys", secrets: ["env:TEST_WEBHOOK_SECRET"]}}
    start: beginning
  - name: germany
    to: {{url_file: "{file}", secrets: ["env:TEST_WEBHOOK_SECRET"]}}
    facts: {{country: [DE, AT]}}
    start: beginning
"""


@pytest.fixture
def settings(settings: Settings, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("TEST_WEBHOOK_SECRET", SECRET)
    (tmp_path / "url").write_text(f"{receiver.url}/germany\n")
    file = tmp_path / "webhooks.yaml"
    file.write_text(ENDPOINTS.format(url=receiver.url, file=tmp_path / "url"))
    return settings.model_copy(update={"webhooks": str(file)})


@pytest.fixture
async def worker(settings: Settings, tmp_path: Path) -> AsyncIterator[Worker]:
    await topics.create(settings)
    with working(settings, tmp_path / "worker.log") as made:
        yield made


@dataclass
class Commands:
    """`isotherm deliveries …`, in this process: to start another takes longer than all that it does."""

    output: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self.output.readouterr()
        code: Any = 0
        try:
            app(list(map(str, arguments)))
        except SystemExit as ended:
            code = ended.code or 0
        return code, *self.output.readouterr()

    async def asked(self, *arguments: str) -> Any:
        code, out, err = await asyncio.to_thread(self, *arguments, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def deliveries(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Commands:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    return Commands(capsys)


async def until_counted(redis: Any, settings: Settings, name: str, what: str, count: int) -> None:
    store = DeliveryStore(redis, settings.namespace, name)
    async with asyncio.timeout(WITHIN_S):
        while (await store.counts(PARTITIONS))[what] < count:
            await asyncio.sleep(0.02)


async def lives_in(redis: Any, settings: Settings, account: str, country: str) -> None:
    """What the fold would keep of an account in that country."""
    its = PartitionKeys.of(partition_of(account, PARTITIONS), PARTITIONS, settings.namespace)
    await redis.hset(its.accounts, account, pack_state(AccountState(0, facts={"country": Fact(country, 0)})))


Publish = Callable[..., Awaitable[None]]


async def test_a_failed_delivery_is_seen_made_again_and_replayed(
    settings: Settings, worker: Worker, receiver: Receiver, redis: Any, changes: Publish,
    deliveries: Commands,
) -> None:  # fmt: skip
    receiver.answers["/journeys"] = down
    await lives_in(redis, settings, "wien-ag", "AT")
    await lives_in(redis, settings, "acme", "US")
    begun = time.time() * 1000
    acme, wien = moved(1, "acme"), moved(2, "wien-ag")
    await changes(acme, wien)
    await until_counted(redis, settings, "journeys", "waiting", 2)
    await until_counted(redis, settings, "germany", "delivered", 1)
    assert [each.id for each in receiver.got if each.path == "/germany"] == [id_of(wien)]

    (failed, _) = (await deliveries.asked("list", "--endpoint", "journeys"))["deliveries"]
    assert (failed["state"], failed["change"]) == ("waiting", "engagement: warm → hot")
    assert failed["attempts"][0]["status"] == 500
    (there, here) = (await deliveries.asked("endpoints"))["endpoints"]
    assert [(e["endpoint"], e["state"], e["waiting"]) for e in (there, here)] == [
        ("journeys", "failing", 2), ("germany", "well", 0)
    ]  # fmt: skip
    _, shown, _ = await asyncio.to_thread(deliveries, "show", id_of(acme))
    assert "500 after" in shown
    assert "next attempt: 2" in shown
    assert receiver.url not in shown

    receiver.answers["/journeys"] = fine
    assert (await deliveries.asked("retry", id_of(acme), id_of(wien)))["asked"] == 2
    await until_counted(redis, settings, "journeys", "delivered", 2)
    _, table, _ = await asyncio.to_thread(deliveries, "list")
    assert table.count("delivered") == 3

    before = len(receiver.got)
    told = await deliveries.asked("replay", "--endpoint", "journeys", "--since", iso(int(begun) - 60_000))
    assert sorted(told["offsets"].values()) == [0, 0]
    again = (await receiver.until(before + 2))[before:]
    assert {each.body for each in again} == {acme, wien}
    assert worker.stop() == 0


async def test_what_was_delivered_is_sent_again_only_where_it_is_named(
    settings: Settings, worker: Worker, receiver: Receiver, redis: Any, changes: Publish,
    deliveries: Commands,
) -> None:  # fmt: skip
    change = moved(1)
    await changes(change)
    await until_counted(redis, settings, "journeys", "delivered", 1)
    code, _, err = await asyncio.to_thread(deliveries, "retry", id_of(change))
    assert code == 1
    assert "no endpoint has a failed delivery of it" in err
    assert (await deliveries.asked("retry", id_of(change), "--endpoint", "journeys"))["asked"] == 1
    assert len({(each.id, each.body) for each in await receiver.until(2)}) == 1


async def test_who_is_disabled_and_enabled_goes_on_from_where_it_stopped(
    settings: Settings, worker: Worker, receiver: Receiver, redis: Any, changes: Publish,
    deliveries: Commands,
) -> None:  # fmt: skip
    await changes(moved(1))
    await receiver.until(1)
    await DeliveryStore(redis, settings.namespace, "journeys").disable(1, "nothing was delivered since then")
    async with asyncio.timeout(WITHIN_S):
        while "endpoint disabled" not in worker.log.read_text():
            await asyncio.sleep(0.05)
    await changes(moved(2), moved(3))
    (journeys, _) = (await deliveries.asked("endpoints"))["endpoints"]
    assert (journeys["state"], journeys["why"]) == ("disabled", "nothing was delivered since then")
    assert (await deliveries.asked("enable", "journeys"))["was_disabled"]
    assert [each.id for each in await receiver.until(3)] == [id_of(moved(n)) for n in (1, 2, 3)]


# -- mistakes -----------------------------------------------------------------------------------------------


def test_a_file_is_checked_before_it_is_used(settings: Settings, deliveries: Commands, tmp_path: Path) -> None:
    code, out, _ = deliveries("check", settings.webhooks)
    assert (code, out) == (0, "2 endpoints: journeys (webhook), germany (webhook); no problems\n")
    bad = tmp_path / "bad.yaml"
    bad.write_text("endpoints:\n  - name: a\n    to: {url: x, secrets: ['whsec_oops']}\n    segments: [a/b]\n")
    code, out, err = deliveries("check", bad)
    assert code == 1
    assert f"{bad}:3: " in err
    assert "whsec_oops" not in err + out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["enable", "journey"], 2, "did you mean 'journeys'?"),
        (["list", "--endpoint", "nobody"], 2, "there is no endpoint 'nobody'"),
        (["show", "9.9.9.9"], 1, "nothing is known of a delivery of 9.9.9.9"),
        (["retry"], 2, "which deliveries?"),
        (["replay", "--endpoint", "journeys", "--since", "yesterday"], 2, "is no instant"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(deliveries: Commands, arguments: list[str], code: int, told: str) -> None:
    ended, _, err = deliveries(*arguments)
    assert ended == code
    assert told in err
    assert "Traceback" not in err


def test_a_worker_does_not_start_with_a_bad_file(settings: Settings, tmp_path: Path) -> None:
    Path(settings.webhooks).write_text("endpoints: [{name: a}]")
    command = [sys.executable, "-m", "streams.cli", "worker"]
    done = subprocess.run(
        command, env=environment(settings), capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode != 0
    assert "1 problem(s) in ISOTHERM_WEBHOOKS" in done.stderr
    assert "Traceback" not in done.stderr


# -- operators hear of it -----------------------------------------------------------------------------------


async def test_the_event_of_a_disabled_endpoint_is_in_its_topic(settings: Settings, redis: Any) -> None:
    from streams.application import publish_event
    from streams.clock import RedisClock
    from streams.producer import Producer

    await topics.create(settings)
    clock, producer = RedisClock(redis), Producer(settings)
    await clock.sync()
    await producer.start()
    await publish_event(producer, clock, "journeys", b'{"type":"webhook.disabled"}')
    await producer.stop()
    name = settings.topics(topics.DELIVERY_EVENTS)
    async with AIOKafkaConsumer(name, bootstrap_servers=settings.kafka, auto_offset_reset="earliest") as consumer:
        message = await asyncio.wait_for(consumer.getone(), WITHIN_S)
    assert (message.key, message.value) == (b"journeys", b'{"type":"webhook.disabled"}')
