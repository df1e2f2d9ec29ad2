"""From a raw message to the change that it made there is one trace, in headers and in spans."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rules.compiler import load
from rules.records import RulesetRecord, encode_record
from streams import topics
from streams.commands import SHIPPED
from streams.identity import Resolver
from streams.pipeline import Owned, fold_batch
from streams.producer import partition_of
from streams.routing import route, take_apart
from streams.settings import Settings
from streams.store.memory import MemoryStore
from streams.topics import ACCOUNT_LOG, CHANGES
from streams.traces import Traces, carrier, is_sampled
from tests.live.conftest import isotherm, working
from tests.live.test_end_to_end import page
from tests.observing.conftest import PARTITIONS, TIMEOUT_S

NOW = 1_767_225_600_000
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
UNKEPT = f"00-{TRACE}-{SPAN}-00".encode()
BROKEN = [
    *(b"", b"-", b"00", b"00--", b"00-nonsense-more-01", b"\xff\xfe"),
    *(PARENT.encode() + b"x" * 600, b"ff" + PARENT[2:].encode()),
]


@dataclass(frozen=True)
class Message:
    offset: int
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int = 0


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def traces(spans: InMemorySpanExporter, share: float) -> Traces:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Traces(provider, share)


async def through(made: Traces, *headers: tuple[tuple[str, bytes], ...]) -> list[Any]:
    """Raw messages with these headers, through router and fold: what goes out to `segment.changes`."""
    raw = [Message(n, page(n, NOW - n), each) for n, each in enumerate(headers)]
    seen = take_apart("web.activity", raw, NOW)
    routing = made.routing("web.activity", 0, seen)
    routed = route("web.activity", seen, {}, Resolver(b"a secret of the tests"), NOW, routing.headers)
    routing.end()
    rules = RulesetRecord(received=NOW, hash="", files=dict(load(SHIPPED).files))
    account = [each for each in routed.outbound if each.topic == ACCOUNT_LOG and each.key == "group:acme"]
    log = [Message(0, encode_record(rules))]
    log += [Message(n, each.value or b"", each.headers) for n, each in enumerate(account, 1)]
    store = MemoryStore()
    owned = Owned.from_store(await store.acquire(0), 1)
    await fold_batch(log, owned, store, traces=made)
    return [each for entry in await store.outbox(0, 100) for each in entry.messages if each.topic == CHANGES]


def ids(span: Any) -> tuple[str, str, str]:
    parent = f"{span.parent.span_id:016x}" if span.parent else ""
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", parent


async def test_a_change_continues_the_trace_of_its_message(spans: InMemorySpanExporter) -> None:
    told = await through(traces(spans, 0), (("traceparent", PARENT.encode()), ("tracestate", b"vendor=1")))
    routed, *rest = spans.get_finished_spans()
    folded = [each for each in rest if each.name == "fold account.log"]
    changes = [each for each in rest if each not in folded]
    assert routed.name == "route web.activity"
    assert ids(routed)[::2] == (TRACE, SPAN)
    assert {ids(each)[::2] for each in folded} == {(TRACE, ids(routed)[1])}
    assert {ids(each)[2] for each in changes} <= {ids(each)[1] for each in folded}
    carried = [dict(each.headers) for each in told if each.headers]
    assert carried
    assert [each["traceparent"].decode().split("-")[1:3] for each in carried] == [
        [*ids(each)[:2]] for each in changes
    ]
    assert {each["tracestate"] for each in carried} == {b"vendor=1"}
    assert changes[0].attributes["isotherm.account"] == "group:acme"


async def test_a_share_of_messages_begins_a_trace(spans: InMemorySpanExporter) -> None:
    await through(traces(spans, 1), ())
    routed, *rest = spans.get_finished_spans()
    assert routed.parent is None
    assert {ids(each)[0] for each in rest} == {ids(routed)[0]}


@pytest.mark.parametrize(
    ("headers", "share"),
    [
        ((), 0.0),
        ((("traceparent", UNKEPT),), 1.0),
        ((("traceparent", PARENT.encode()),), 0.0),
    ],
    ids=["nobody asked", "its sender does not keep it", "sampled"],
)
async def test_traces_change_no_byte_of_what_is_told(
    spans: InMemorySpanExporter, headers: tuple[tuple[str, bytes], ...], share: float
) -> None:
    plain = await through(traces(InMemorySpanExporter(), 0), ())
    told = await through(traces(spans, share), headers)
    assert [(each.key, each.value) for each in told] == [(each.key, each.value) for each in plain]
    is_traced = bool(headers) and headers[0][1].endswith(b"1")
    assert bool(spans.get_finished_spans()) == any(each.headers for each in told) == is_traced


@pytest.mark.parametrize("text", BROKEN)
async def test_what_is_no_trace_header_is_none(spans: InMemorySpanExporter, text: bytes) -> None:
    assert not is_sampled(carrier((("traceparent", text),)))
    assert await through(traces(spans, 0), (("traceparent", text),))
    assert spans.get_finished_spans() == ()


# -- over the wire -------------------------------------------------------------------------------------------


@dataclass
class Collector:
    """What receives OTLP over HTTP."""

    url: str = ""
    spans: dict[str, Any] = field(default_factory=dict)  # by id
    services: set[str] = field(default_factory=set)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {one.key: one.value.string_value for one in each.resource.attributes}
            self.services.add(named["service.name"])
            self.spans |= {span.span_id.hex(): span for scope in each.scope_spans for span in scope.spans}
        self.arrived.set()
        return web.Response(content_type="application/x-protobuf")

    async def has(self, id: str) -> Any:
        async with asyncio.timeout(TIMEOUT_S):
            while id not in self.spans:
                await self.arrived.wait()
                self.arrived.clear()
        return self.spans[id]


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    made, application = Collector(), web.Application()
    application.router.add_post("/v1/traces", made.take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def traced_change(settings: Settings) -> str:
    """The `traceparent` of the first change that has one."""
    place = TopicPartition(settings.topics(CHANGES), partition_of("group:acme", PARTITIONS))
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka, auto_offset_reset="earliest") as consumer:
        consumer.assign([place])
        async with asyncio.timeout(TIMEOUT_S):
            async for message in consumer:
                if found := dict(message.headers).get("traceparent"):
                    return str(found.decode())
    raise AssertionError


@pytest.mark.kafka
async def test_a_collector_gets_spans_that_are_linked(
    settings: Settings,
    there: None,
    producer: AIOKafkaProducer,
    collector: Collector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    settings = settings.model_copy(update={"traces": 0.000001})
    with working(settings, tmp_path / "log") as worker:
        assert isotherm(settings, "deploy").returncode == 0
        raw = page(1, int(time.time() * 1000))
        headers = [("traceparent", PARENT.encode())]
        await producer.send_and_wait(settings.topics(topics.WEB_ACTIVITY), raw, headers=headers)
        _, trace, id, _ = (await traced_change(settings)).split("-")
        assert trace == TRACE
        change = await collector.has(id)
        fold = await collector.has(change.parent_span_id.hex())
        routed = await collector.has(fold.parent_span_id.hex())
        assert [each.name for each in (routed, fold)] == ["route web.activity", "fold account.log"]
        assert routed.parent_span_id.hex() == SPAN
        assert {each.trace_id.hex() for each in (change, fold, routed)} == {TRACE}
        assert collector.services == {"isotherm"}
        assert worker.stop() == 0


@pytest.mark.kafka
async def test_a_collector_that_is_away_stops_nothing(
    settings: Settings, there: None, producer: AIOKafkaProducer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=canary9d1e7c04")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    settings = settings.model_copy(update={"traces": 1.0})
    with working(settings, tmp_path / "log") as worker:
        assert isotherm(settings, "deploy").returncode == 0
        await producer.send_and_wait(settings.topics(topics.WEB_ACTIVITY), page(1, int(time.time() * 1000)))
        assert await traced_change(settings)
        assert worker.stop() == 0
    assert "canary9d1e7c04" not in worker.log.read_text()
