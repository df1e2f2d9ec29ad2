"""Kafka slow or away, the end, the endpoints' own document."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import openapi_spec_validator
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from streams import topics
from streams.answering import listening
from streams.collector.app import build
from streams.collector.calls import read_batch, read_call
from streams.collector.hubspot import read_notifications
from streams.collector.keys import read_keys
from streams.collector.limits import Limits
from streams.collector.openapi import document
from streams.collector.records import read_records
from streams.collector.refused import Refused
from streams.collector.run import made
from streams.embedded import Broker, free_port
from streams.preflight import SettingsError
from streams.settings import Settings
from streams.topics import WEB_ACTIVITY
from tests.collector.conftest import (
    RECORD_KEY,
    SECRET,
    TIMEOUT_S,
    WRITE_KEY,
    Answer,
    Running,
    basic,
    settings_for,
)
from tests.conftest import running

CALL = {"event": "Pricing Viewed", "anonymousId": "v", "properties": {"note": "x" * 2_000}}
PORTAL = {"subscriptionType": "company.creation", "portalId": 1, "objectId": 2, "occurredAt": 1772442000000}
RECORD = {"kind": "facts", "account": "acme", "at": "2026-03-02T09:00:00Z", "set": {"employees": 250}}


class OwnBroker:
    """A broker of the test's own, to be halted or killed."""

    @pytest.fixture
    def broker(self, tmp_path: Path) -> Iterator[Broker]:
        with running(Broker(tmp_path / "broker")) as server:
            yield server

    @pytest.fixture
    def settings(self, broker: Broker, topic_prefix: str) -> Settings:
        return settings_for(broker.address, topic_prefix)


class TestKafkaIsSlow(OwnBroker):
    @pytest.fixture
    def limits(self) -> Limits:
        return replace(Limits(), held=10_000, deliver_s=TIMEOUT_S)

    async def test_more_than_can_be_held_is_told_to_come_later(self, broker: Broker, collector: Running) -> None:
        """Room for four calls, and eight come while the broker is halted; later the others are taken too."""
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            waiting = {asyncio.create_task(collector.post("/v1/track", json=CALL)) for _ in range(8)}
            refused: list[Answer] = []
            while len(refused) < 4:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                refused += [each.result() for each in done]
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        assert {(each.status, each.headers["Retry-After"]) for each in refused} == {(429, "1")}
        assert {each.status for each in await asyncio.gather(*waiting)} == {200}
        again = [await collector.post("/v1/track", json=CALL) for _ in refused]
        assert {each.status for each in again} == {200}
        assert len(await collector.arrived(WEB_ACTIVITY, 8)) == 8


class TestKafkaIsAway(OwnBroker):
    @pytest.fixture
    def limits(self) -> Limits:
        return replace(Limits(), deliver_s=1.0)

    async def test_nothing_is_claimed_until_kafka_is_back(
        self, broker: Broker, collector: Running, settings: Settings
    ) -> None:
        assert (await collector.post("/v1/track", json=CALL)).status == 200
        broker.kill()
        refused = [await collector.post("/v1/track", json=CALL) for _ in range(2)]
        assert {(each.status, each.body["error"]) for each in refused} == {(503, "kafka_away")}
        assert refused[0].headers["Retry-After"] == "1"
        assert (await collector.ask("GET", "/readyz")).status == 503
        assert (await collector.ask("GET", "/healthz")).status == 200
        broker.start()  # it has forgotten everything
        await topics.create(settings)
        await asyncio.wait_for(sent_again(collector, {**CALL, "messageId": "after"}), TIMEOUT_S)
        found = await collector.arrived(WEB_ACTIVITY, 1)
        assert "after" in [json.loads(each.value)["messageId"] for each in found]


async def sent_again(collector: Running, call: dict[str, Any]) -> None:
    """As a library does: the same again until it is accepted.

    The embedded broker refuses once more if the refused call reached it before its topic was created.
    """
    while (answer := await collector.post("/v1/track", json=call)).status == 503:
        await collector.ready()
    assert answer.status == 200


async def test_without_topics_it_says_so_and_waits(starting: Running, settings: Settings) -> None:
    assert (await starting.ask("GET", "/readyz")).status == 503
    assert (await starting.post("/v1/track", json=CALL)).status == 503
    await topics.create(settings)
    await starting.ready()
    assert (await starting.post("/v1/track", json=CALL)).status == 200


# -- as a process


@pytest.fixture
async def process(settings: Settings, tmp_path: Path) -> AsyncIterator[tuple[Running, asyncio.subprocess.Process]]:
    """`isotherm collect`, ready; what it says goes to log.txt."""
    await topics.create(settings)
    port = free_port()
    secrets = {name: getattr(settings, name).get_secret_value() for name in SECRETS}
    told = settings.model_dump() | secrets | {"collector_port": port}
    given = {f"ISOTHERM_{name.upper()}": str(value) for name, value in told.items()}
    with (tmp_path / "log.txt").open("wb") as log:
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streams.cli", "collect"), env=os.environ | given, stdout=log, stderr=log
        )
    async with aiohttp.ClientSession() as session:
        collector = Running(settings, f"http://127.0.0.1:{port}", session)
        try:
            await asyncio.wait_for(answering(collector), TIMEOUT_S)
            await collector.ready()
            yield collector, started
        finally:
            if started.returncode is None:
                started.kill()
            await started.wait()


SECRETS = ("write_keys", "record_keys", "hubspot_client_secret")


async def answering(collector: Running) -> None:
    while True:
        try:
            await collector.ask("GET", "/healthz")
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.05)
        else:
            return


async def test_told_to_stop_it_finishes_what_has_begun(
    process: tuple[Running, asyncio.subprocess.Process],
) -> None:
    collector, started = process
    port = int(collector.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(CALL).encode()
    head = [
        "POST /v1/track HTTP/1.1",
        "Host: here",
        f"Authorization: {basic(WRITE_KEY)['Authorization']}",
        f"Content-Length: {len(body)}",
        "Expect: 100-continue",
    ]
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n")
    assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")  # the request has begun
    started.terminate()
    while not refuses(port):
        await asyncio.sleep(0.02)
    writer.write(body)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    assert await asyncio.wait_for(started.wait(), TIMEOUT_S) == 0
    assert len(await collector.arrived(WEB_ACTIVITY, 1)) == 1


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def test_no_secret_is_in_the_log(
    process: tuple[Running, asyncio.subprocess.Process], tmp_path: Path
) -> None:
    collector, started = process
    for key in (WRITE_KEY, RECORD_KEY, "a-key-that-is-wrong"):
        await collector.post("/v1/track", key, json={**CALL, "writeKey": key})
        await collector.post(f"/v1/events?writeKey={key}", key, json=RECORD)
        await collector.post(f"/v1/{key}", key, data=key)
    await collector.ask("POST", "/v1/hubspot", json=[PORTAL], headers={"X-HubSpot-Signature-v3": SECRET})
    started.terminate()
    await started.wait()
    said = (tmp_path / "log.txt").read_text()
    assert "collecting" in said
    for secret in (WRITE_KEY, RECORD_KEY, SECRET, "a-key-that-is-wrong"):
        assert secret not in said


def test_secrets_are_not_shown_by_what_holds_them(settings: Settings) -> None:
    shown = f"{settings!r} {made(settings)!r}"
    for secret in (WRITE_KEY, RECORD_KEY, SECRET):
        assert secret not in shown


# -- settings


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("just-a-key-without-name", "entry 1 is not name:key"),
        ("a:long-enough-key,b", "entry 2 is not name:key"),
        ("a:long-enough-key,a:another-long-key", "two keys are named 'a'"),
        ("a:short", "the key of 'a' is shorter"),
        ("/no/such/file", "cannot read the file"),
    ],
)
def test_wrong_keys_are_told_without_naming_them(text: str, says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_keys("ISOTHERM_WRITE_KEYS", text)
    assert says in str(raised.value)
    assert "short" not in str(raised.value).replace("shorter", "")
    assert "long" not in str(raised.value)


def test_keys_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("a:long-enough-key\n\nb:another:long-key,c:a-third-long-key\n")
    keys = read_keys("ISOTHERM_WRITE_KEYS", str(path))
    assert [keys.name_of(key) for key in ("another:long-key", "a-third-long-key", "b")] == ["b", "c", None]


def test_a_collector_for_nobody_is_not_started() -> None:
    with pytest.raises(SettingsError, match="ISOTHERM_WRITE_KEYS"):
        made(Settings())


def test_a_taken_port_is_said_in_a_sentence() -> None:
    with listening("127.0.0.1", 0) as taken, pytest.raises(SettingsError, match="cannot listen on"):
        listening("127.0.0.1", taken.getsockname()[1])


# -- any bytes


@given(st.binary(max_size=300) | st.text(alphabet='{}[]":,\\u0dnulkbatch12 \n', max_size=300).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    limits, now = Limits(), 1_772_442_000_000
    for read in (
        lambda: read_call(body, "track", limits).messages("a", now),
        lambda: read_batch(body, limits).messages("a", now),
        lambda: read_batch(b'{"batch": [' + body + b"]}", limits).messages("a", now),
        lambda: read_records(body, False, "a", now, limits),
        lambda: read_records(body, True, "a", now, limits),
        lambda: read_notifications(body)[0],
    ):
        with suppress(Refused):
            for message in read():
                assert message.value
                message.key.encode()


async def test_no_request_however_damaged_is_answered_with_500(collector: Running) -> None:
    rng = random.Random(7)
    good = {
        "/v1/track": json.dumps(CALL | {"userId": "ü\ud83d"}).encode(),
        "/v1/batch": json.dumps({"batch": [{"type": "page", "context": {}}] * 3, "context": {}}).encode(),
        "/v1/events": json.dumps([RECORD, RECORD]).encode(),
        "/v1/hubspot": json.dumps([PORTAL]).encode(),
    }
    types = ["application/json", "text/plain", "application/x-ndjson", "", "a/b;charset", ";;;", "é"]
    for _ in range(400):
        path, body = rng.choice(list(good.items()))
        headers = {
            "Content-Type": rng.choice(types),
            "Content-Encoding": rng.choice(["identity"] * 4 + ["gzip", "é", ""]),
            "Authorization": rng.choice(
                [f"Bearer {WRITE_KEY}", f"Bearer {RECORD_KEY}", "Basic é", "Basic ====", "x"]
            ),
            "X-HubSpot-Signature-v3": rng.choice(["", "é", "AAAA"]),
            "X-HubSpot-Request-Timestamp": rng.choice(["", "²", "-1", "9" * 30, str(int(time.time() * 1000))]),
        }
        answer = await collector.ask("POST", path, data=damaged(body, rng), headers=headers)
        assert answer.status < 500, (path, headers, answer)


def damaged(body: bytes, rng: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(rng.randrange(4)):
        place = rng.randrange(len(changed))
        match rng.randrange(3):
            case 0:
                changed[place] = rng.randrange(256)
            case 1:
                del changed[place : place + rng.randrange(1, 9)]
            case 2:
                changed[place:place] = rng.choice([b'"', b"{", b"[" * 99, b"null", b"\\ud800", b"1e999", b"\x00"])
        if not changed:
            break
    return bytes(changed)


# -- the endpoints' own document


def test_the_document_is_valid_and_lists_every_route(settings: Settings) -> None:
    told: dict[str, Any] = document(Limits())
    openapi_spec_validator.validate(told)
    routes = {route.path: route.methods - {"HEAD", "OPTIONS"} for route in build(made(settings)).routes}  # type: ignore[attr-defined]
    assert routes == {path: {method.upper() for method in each} for path, each in told["paths"].items()}


async def test_the_document_is_served_and_names_each_answer(collector: Running) -> None:
    told = (await collector.ask("GET", "/openapi.json")).body
    assert told == json.loads(json.dumps(document(Limits())))
    assert (await collector.post("/v1/batch", json={})).status == 400
    assert {"200", "400", "401", "413", "415", "429", "503"} <= set(
        told["paths"]["/v1/batch"]["post"]["responses"]
    )


async def test_what_is_not_there_is_told_as_json(collector: Running) -> None:
    unknown = await collector.post("/v1/nothing", json={})
    wrong = await collector.ask("GET", "/v1/batch")
    assert (unknown.status, unknown.body["error"]) == (404, "not_found")
    assert (wrong.status, wrong.body["error"]) == (405, "method_not_allowed")
    assert "POST" in wrong.headers["Allow"]


class TestWithoutHubSpot:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"hubspot_client_secret": SecretStr("")})

    async def test_its_endpoint_says_what_is_missing(self, starting: Running) -> None:
        refused = await starting.post("/v1/hubspot", json=[PORTAL])
        assert (refused.status, refused.body["error"]) == (404, "not_configured")


def test_the_command_explains_itself() -> None:
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "collect", "--help"], capture_output=True, check=False
    )
    assert done.returncode == 0
    assert b"Example" in done.stdout
