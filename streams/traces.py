"""Traces: from a raw message to the changes that it made, for OpenTelemetry. Off unless ISOTHERM_TRACES says so.

    raw message ──► route crm.updates ──► fold account.log ──► segment.moved engagement/hot ──► subscribers
      traceparent ?      traceparent in the record's headers        traceparent in the change's headers

A trace lives in Kafka headers only (W3C Trace Context): no record, no state and no change is other bytes for it.
A raw message that brings a `traceparent` is traced if that says so; of all others the given share begins a trace
here. What is not sampled costs the look at its headers. Where spans go to is said by OpenTelemetry's own variables
(`OTEL_EXPORTER_OTLP_ENDPOINT` …).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from rules.fold import Folded
    from streams.routing import Seen
    from streams.settings import Settings

Headers: TypeAlias = tuple[tuple[str, bytes], ...]
# What is to be written with what comes of a message: by its offset, and of a change by its number there.
Traced: TypeAlias = Mapping[tuple[int, int], Headers]
UNTRACED: Traced = MappingProxyType({})
SENT = -1  # the number of what is sent on
PARENT, STATE = "traceparent", "tracestate"
_TRACEPARENT = re.compile("(?!ff)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
LONGEST = 512  # bytes of a tracestate that are passed on; W3C asks for as many
SPANS_WAITING = 2_048  # then others are dropped: traces are never waited for
ENDS_WITHIN_MS = 3_000


@dataclass(slots=True)
class Spans:
    """Spans of one batch, and the headers that lead on from them. Ended when it is committed, or never told."""

    headers: dict[tuple[int, int], Headers] = field(default_factory=dict)
    open: list[Any] = field(default_factory=list)

    def end(self) -> None:
        for each in self.open:
            each.end()


@dataclass(slots=True)
class FoldSpans(Spans):
    """Those of a batch of the log, by the offset of their record."""

    traces: Traces | None = None
    of_record: dict[int, Any] = field(default_factory=dict)

    def decided(self, folded: Folded) -> Traced:
        """Headers for what the records have led to: a span for each change, and the records' own for transfers."""
        if self.traces is not None:
            for each in folded.outgoing:
                if (record := self.of_record.get(each.offset)) is not None:
                    self.traces.change(self, record, folded.partition.number, each)
        return self.headers


class Traces:
    """Begins spans and links them. `provider` is OpenTelemetry's; nothing of it is global."""

    def __init__(self, provider: Any, share: float, draw: Callable[[], float] = random.random) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider, self._share, self._draw = provider, share, draw
        self._tracer = provider.get_tracer("isotherm")
        self._kinds, self._propagator = SpanKind, TraceContextTextMapPropagator()

    def routing(self, topic: str, partition: int, seen: Sequence[Seen]) -> Spans:
        """For a batch of a source partition."""
        spans = Spans()
        for each in seen:
            message = each.message
            carried = carrier(message.headers)
            if not is_sampled(carried) and (carried or self._draw() >= self._share):
                continue
            attributes = _place("process", topic, partition, message.offset) | {"isotherm.format": each.format}
            span = self._begin(f"route {topic}", self._kinds.CONSUMER, self._parent(carried), attributes)
            spans.open.append(span)
            spans.headers[message.offset, SENT] = self._headers(span)
        return spans

    def folding(self, partition: int, messages: Iterable[Any]) -> FoldSpans | None:
        """For a batch of the log; None where no record is traced."""
        spans: FoldSpans | None = None
        for message in messages:
            if not message.headers or not is_sampled(carried := carrier(message.headers)):
                continue
            spans = spans or FoldSpans(traces=self)
            attributes = _place("process", "account.log", partition, message.offset)
            span = self._begin("fold account.log", self._kinds.CONSUMER, self._parent(carried), attributes)
            spans.open.append(span)
            spans.of_record[message.offset] = span
            spans.headers[message.offset, SENT] = self._headers(span)
        return spans

    def change(self, spans: FoldSpans, record: Any, partition: int, outgoing: Any) -> None:
        """A change that a traced record led to."""
        from opentelemetry.trace import set_span_in_context

        change = outgoing.change
        name = " ".join(filter(None, (str(change.kind), f"{change.dimension}/{change.segment}".strip("/"))))
        attributes = {
            "messaging.system": "kafka",
            "messaging.destination.name": "segment.changes",
            "messaging.operation.type": "publish",
            "isotherm.account": change.account,
            "isotherm.change": f"{outgoing.epoch}.{partition}.{outgoing.offset}.{outgoing.n}",
            "isotherm.cause": str(change.cause),
        }
        span = self._begin(name, self._kinds.PRODUCER, set_span_in_context(record), attributes)
        spans.open.append(span)
        spans.headers[outgoing.offset, outgoing.n] = self._headers(span)

    def close(self) -> None:
        """Sends what waits, for a moment. It blocks."""
        self._provider.force_flush(ENDS_WITHIN_MS)
        self._provider.shutdown()

    def _begin(self, name: str, kind: Any, parent: Any, attributes: dict[str, Any]) -> Any:
        return self._tracer.start_span(name, parent, kind, attributes)

    def _parent(self, carried: Mapping[str, str]) -> Any:
        from opentelemetry.context import Context

        return self._propagator.extract(dict(carried), Context())

    def _headers(self, span: Any) -> Headers:
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        carried: dict[str, str] = {}
        self._propagator.inject(carried, set_span_in_context(span, Context()))
        return tuple((name, value.encode()) for name, value in carried.items())


def carrier(headers: Any) -> dict[str, str]:
    """A message's trace headers, the first of each name; none where the first is no such text."""
    found: dict[str, str] = {}
    for name, value in headers or ():
        if name in (PARENT, STATE) and name not in found and value and len(value) <= LONGEST:
            found[name] = value.decode("ascii", "replace")
    return found if _TRACEPARENT.fullmatch(found.get(PARENT, "")) else {}


def is_sampled(carried: Mapping[str, str]) -> bool:
    """Whether whoever sent it keeps this trace."""
    return PARENT in carried and bool(int(carried[PARENT][53:55], 16) & 1)


def _place(operation: str, topic: str, partition: int, offset: int) -> dict[str, Any]:
    return {
        "messaging.system": "kafka",
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(partition),
        "messaging.kafka.offset": offset,
    }


def is_installed() -> bool:
    from importlib.util import find_spec

    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def of(settings: Settings) -> Traces | None:
    """None where nobody asked for traces."""
    if not settings.traces:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()  # with what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "isotherm"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), max_queue_size=SPANS_WAITING))
    return Traces(provider, settings.traces)
