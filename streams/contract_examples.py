"""Real events for the document of the contract: a small story, folded and published as every other."""

from __future__ import annotations

from functools import cache

from rules.compiler import compile_files
from rules.fold import Folded
from rules.records import Epoch, Record
from rules.replay import Replay
from rules.ruleset import Ruleset
from streams import pipeline
from streams.offline import Line, read
from streams.store.base import Outbound

RULES = """\
facts:
  name: {type: text}
activities:
  pricing_viewed: {label: pricing page views}
  demo_requested: {}
---
dimension: engagement
segments:
  - segment: hot
    when: {count: pricing_viewed, at_least: 3, within: 7d}
    owner: sales
    action: {do: reach out today, sla: 4h}
  - segment: cold
    otherwise: true
---
dimension: triggers
kind: set
segments:
  - segment: demo_requested
    when: {seen: demo_requested, within: 14d}
    owner: sales
"""
STORY = b"""\
{"kind": "facts", "account": "acme", "at": "2026-03-02T09:00:00Z", "source": "crm", "set": {"name": "Acme GmbH"}}
{"kind": "activity", "account": "acme", "name": "pricing_viewed", "at": "2026-03-02T10:00:00Z"}
{"kind": "activity", "account": "acme", "name": "pricing_viewed", "at": "2026-03-03T15:30:00Z"}
{"kind": "activity", "account": "acme", "name": "pricing_viewed", "at": "2026-03-04T08:45:00Z"}
{"kind": "activity", "account": "acme", "name": "demo_requested", "at": "2026-03-04T09:00:00Z"}
{"kind": "activity", "domain": "globex.example", "name": "demo_requested", "at": "2026-03-05T11:00:00Z"}
{"kind": "facts", "crm": "salesforce:001", "domain": "globex.example", "at": "2026-03-06T08:00:00Z", \
"source": "crm", "set": {"name": "Globex"}}
{"kind": "activity", "account": "acme", "name": "pricing_viewed", "at": "2026-03-31T10:00:00Z"}
{"kind": "delete", "account": "acme", "at": "2026-04-01T09:00:00Z"}
{"kind": "restore", "account": "acme", "at": "2026-04-01T10:00:00Z"}
"""


@cache
def published(topic: str) -> tuple[Outbound, ...]:
    """What the story puts on that topic, in order; at its end everything is stated once more."""
    replay = Replay(ruleset())
    told = [out for record in records() for out in replay.feed(record)]
    told += replay.feed(Epoch(received=replay.partition.log_time, number=1))
    folded = Folded(replay.partition, replay.rules, outgoing=told)
    return tuple(each for each in pipeline.published(folded) if each.topic == topic)


def ruleset() -> Ruleset:
    return compile_files({"example.yaml": RULES})


def records() -> list[Record]:
    return [each for each in read(STORY.splitlines()) if not isinstance(each, Line)]
