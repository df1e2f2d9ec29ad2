"""A worker tells how it is doing: every metric of the table, whether it is well, whether it gets on."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from rules.records import RulesetRecord, encode_record
from streams import topics
from streams.embedded import Valkey
from streams.metrics import TABLE
from streams.producer import partition_of
from streams.settings import Settings
from tests.live.conftest import isotherm, working
from tests.live.test_end_to_end import page
from tests.observing.conftest import PARTITIONS, Scraped, Watching

HOUR = 3_600_000
HOT = str(partition_of("group:acme", PARTITIONS))
OTHER = str(1 - int(HOT))


def endpoint(directory: Path, url: str) -> str:
    (directory / "secret").write_text("whsec_" + base64.b64encode(b"a secret of the tests, long enough").decode())
    (directory / "webhooks.yaml").write_text(
        json.dumps(
            {
                "allow": ["127.0.0.0/8"],
                "endpoints": [{"name": "crm", "to": {"url": url, "secrets": [f"file:{directory / 'secret'}"]}}],
            }
        )
    )
    return str(directory / "webhooks.yaml")


async def heats(producer: AIOKafkaProducer, settings: Settings) -> None:
    """Three views of the prices, and one that is said to come in an hour."""
    web, now = settings.topics(topics.WEB_ACTIVITY), int(time.time() * 1000)
    for n in range(3):
        await producer.send_and_wait(web, page(n, now - HOUR + n), partition=0)
    await producer.send_and_wait(web, page(9, now + HOUR), partition=0)


def is_hot(scraped: Scraped) -> bool:
    """The account's four views are folded, and all who are to hear of it have."""
    return bool(
        scraped.value("isotherm_source_messages_total", outcome="routed", reason="") == 4
        and scraped.value("isotherm_records_early_total", source="segment")
        and scraped.value("isotherm_alerts_sent_total")
        and scraped.value("isotherm_deliveries_total", endpoint="crm", outcome="delivered")
    )


@pytest.mark.kafka
async def test_every_metric_of_the_table_is_told(
    settings: Settings,
    there: None,
    watching: Watching,
    producer: AIOKafkaProducer,
    hooks: str,
    tmp_path: Path,
) -> None:
    settings = settings.model_copy(update={"webhooks": endpoint(tmp_path, hooks)})
    web, log = settings.topics(topics.WEB_ACTIVITY), settings.topics(topics.ACCOUNT_LOG)
    with working(settings, tmp_path / "log") as worker:
        assert isotherm(settings, "deploy").returncode == 0
        await heats(producer, settings)
        await watching.until(is_hot)
        assert await watching.answers("/readyz", 200) == "ok\n"
        for _ in range(100):
            await producer.send(web, b"{broken", partition=1)
        await producer.send_and_wait(log, b"no record", partition=int(HOT))
        bad = RulesetRecord(received=int(time.time() * 1000), hash="bad", files={"bad.yaml": "dimension: d\n"})
        await producer.send_and_wait(log, encode_record(bad), partition=int(OTHER))

        def is_broken(scraped: Scraped) -> bool:
            stopped = scraped.value("isotherm_partition_stopped", partition=OTHER, reason="rules")
            letters = scraped.value("isotherm_dead_letters_total", stage="fold", reason="not_a_record")
            paused = scraped.value("isotherm_source_paused", topic=topics.WEB_ACTIVITY, partition="1")
            return stopped == letters == paused == 1

        scraped = await watching.until(is_broken)
        suffixes = {"counter": "", "gauge": "", "histogram": "_count"}
        wanted = {each.name + suffixes[each.kind] for each in TABLE if each.owner != "serve"}
        assert wanted - scraped.names() == set()

        rejected = scraped.value("isotherm_dead_letters_total", stage="router", reason="broken_json")
        assert rejected == 100
        assert scraped.value("isotherm_source_messages_total", outcome="routed", reason="") == 4
        assert scraped.value("isotherm_records_early_total", source="segment") == 1
        assert scraped.value("isotherm_lag_records", partition=HOT) == 0
        assert scraped.value("isotherm_lag_seconds", partition=HOT) == 0
        assert scraped.value("isotherm_lag_records", partition=OTHER) is None, "nobody folds it"
        assert scraped.value("isotherm_outbox_messages", partition=HOT) == 0
        assert scraped.value("isotherm_accounts", partition=HOT)
        commits = scraped.value("isotherm_fold_seconds_count", stage="commit")
        assert commits == scraped.value("isotherm_fold_seconds_count", stage="step")
        assert await watching.answers("/readyz", 503) == f"account.log/{OTHER} stopped (rules)\n"
        assert await watching.get("/healthz") == (200, "ok\n")
        status, _ = await watching.get("/")
        assert status == 404
        assert worker.stop() == 0
        assert "\x1b" not in worker.log.read_text(), "nothing but lines of JSON"
        positions = {each["event"]: each.get("position", "") for each in worker.said()}
        assert positions["partition stopped"].startswith(f"account.log/{OTHER}/")
        assert positions["source paused"].startswith("web.activity/1/")


@pytest.mark.kafka
async def test_an_outage_is_not_ready_and_yet_alive(
    settings: Settings, there: None, watching: Watching, tmp_path: Path, valkey: Valkey
) -> None:
    settings = settings.model_copy(update={"redis": valkey.url, "alert_url": type(settings.alert_url)("")})
    with working(settings, tmp_path / "log") as worker:
        await watching.answers("/readyz", 200)
        await watching.until(lambda found: found.value("isotherm_accounts", partition="0") is not None)
        valkey.stop()
        told = await watching.answers("/readyz", 503)
        assert "waiting: " in told
        assert (await watching.get("/healthz"))[0] == 200
        scraped = await watching.metrics()
        assert scraped.value("isotherm_unanswered") == 1
        assert scraped.value("isotherm_accounts", partition="0") is None
        valkey.start()
        await watching.answers("/readyz", 200)
        scraped = await watching.until(lambda found: found.value("isotherm_accounts", partition="0") is not None)
        assert scraped.value("isotherm_unanswered") == scraped.value("isotherm_waiting") == 0
        assert worker.stop() == 0


@pytest.mark.kafka
async def test_workers_of_one_machine_find_a_port_each(
    settings: Settings, there: None, watching: Watching, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"role": "fold"})
    second = Watching(f"http://127.0.0.1:{settings.metrics_port + 1}", watching.session)
    with working(settings, tmp_path / "first") as one:
        await watching.answers("/readyz", 200)
        with working(settings, tmp_path / "second") as other:
            await second.answers("/readyz", 200)
            both = [await each.metrics() for each in (watching, second)]
            assert f'"at": "127.0.0.1:{settings.metrics_port + 1}"' in other.log.read_text()
            assert all(each.value("isotherm_published_total") is not None for each in both)
            assert other.stop() == 0
        assert one.stop() == 0


def test_a_port_that_nobody_may_have_is_a_sentence(settings_of: Callable[..., Settings], tmp_path: Path) -> None:
    done = isotherm(settings_of(metrics_port=9464, metrics_host="192.0.2.1"), "topics")
    assert done.returncode == 0, done.stderr
    given: Any = {"metrics_port": 9464, "metrics_host": "192.0.2.1", "person_key": "a secret of the tests"}
    done = isotherm(settings_of(**given), "worker")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("cannot listen on 192.0.2.1:9464: ")
    assert "ISOTHERM_METRICS_HOST" in last


@pytest.mark.kafka
async def test_a_stopped_partition_is_told_by_the_worker_that_has_it(
    settings: Settings, there: None, watching: Watching, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"role": "fold"})
    log, second = settings.topics(topics.ACCOUNT_LOG), Watching(watching.url, watching.session)
    second.url = f"http://127.0.0.1:{settings.metrics_port + 1}"
    for partition in range(PARTITIONS):
        bad = RulesetRecord(received=int(time.time() * 1000), hash="bad", files={"bad.yaml": "dimension: d\n"})
        await producer.send_and_wait(log, encode_record(bad), partition=partition)

    def stopped(scraped: Scraped) -> set[str]:
        labels = [dict(labels) for name, labels in scraped.values if name == "isotherm_partition_stopped"]
        return {each["partition"] for each in labels}

    with working(settings, tmp_path / "first"):
        await watching.until(lambda found: stopped(found) == {"0", "1"})
        with working(settings, tmp_path / "second"):
            taken = stopped(await second.until(lambda found: len(stopped(found)) == 1))
            await watching.until(lambda found: stopped(found) == {"0", "1"} - taken)
