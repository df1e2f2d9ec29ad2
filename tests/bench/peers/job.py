"""What the peers have in common: the job itself, its options, and the clock that times it.

The job is described in `../events.py`. Here it is as a user of a streaming library would write it:
a small typed view of the record (what it does not name is skipped by the decoder), a state of plain
lists and numbers that every library can store, and a score that decays from the newest contribution.
`received` never falls within the topic, so `now` is the event's own.

Exits by time alone are out of scope: the peers answer when an event arrives and only then, so an
account that falls silent keeps its segment. Faust and Quix Streams have no timer per key; Bytewax's
goes by the machine's clock, which a replay of a month cannot be timed by. Leaving at the instant a
window closes is work that all of them are spared.

Choices that all of them share are made in the peers' favour: an event that changed neither state nor
segment is not written back, and values cross the libraries as bytes for msgspec to decode.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from bisect import insort
from typing import Any

import msgspec

WEEK = 7 * 86_400 * 1_000
WEIGHTS = {"page_viewed": 1.0, "webinar_attended": 8.0, "demo_requested": 20.0, "email_clicked": 3.0}
KEPT = 32


class Props(msgspec.Struct, gc=False):
    path: str = ""


class Event(msgspec.Struct, gc=False):
    account: str
    name: str
    at: int
    received: int
    props: Props


decode = msgspec.json.Decoder(Event).decode
encode = msgspec.json.Encoder().encode

# An account: its segment, the score as of `scored`, and the newest pricing views, oldest first.
State = list[Any]
SEGMENT, SCORE, SCORED, VIEWS = range(4)


def unseen() -> State:
    return ["cold", 0.0, 0, []]


def step(state: State, event: Event) -> tuple[bool, bytes | None]:
    """Whether `state`, which is updated in place, must be written; and the change to publish, if any."""
    written = False
    weight = WEIGHTS.get(event.name)
    if weight is not None:
        written = True
        age = (event.at - state[SCORED]) / WEEK
        if age >= 0:
            state[SCORE] = state[SCORE] * 2.0**-age + weight
            state[SCORED] = event.at
        else:
            state[SCORE] += weight * 2.0**age
        if event.name == "page_viewed" and event.props.path.startswith("/pricing"):
            insort(state[VIEWS], event.at)
            del state[VIEWS][:-KEPT]
    segment = segment_at(state, event.received)
    before = state[SEGMENT]
    if segment == before:
        return written, None
    state[SEGMENT] = segment
    return True, encode({"account": event.account, "from": before, "to": segment, "at": event.received})


def segment_at(state: State, now: int) -> str:
    score = state[SCORE] * 2.0 ** ((state[SCORED] - now) / WEEK)
    if score < 5:
        return "cold"
    views = state[VIEWS]
    if score >= 20 and len(views) >= 3 and views[-3] > now - WEEK:
        return "hot"
    return "warm"


def options(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--kafka", required=True, help="HOST:PORT")
    parser.add_argument("--redis", default="redis://127.0.0.1:6379", help="URL, unix:///path for a socket")
    parser.add_argument("--topic", default="account.log")
    parser.add_argument("--events", type=int, required=True, help="stop after this many, from the beginning")
    parser.add_argument("--output", required=True, help="topic for the changes")
    return parser.parse_args()


class Stopwatch:
    """Runs from the first event to the moment all is written; start-up does not count.

    CPU is that of all threads of this process and of the children it has waited for.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.began = self.cpu = 0.0
        self.changes = self.events = 0

    def event(self) -> int:
        """Count one; how many it makes."""
        if not self.events:
            self.began, self.cpu = time.perf_counter(), _cpu_seconds()
        self.events += 1
        return self.events

    def report(self) -> None:
        line = {
            "name": self.name,
            "events": self.events,
            "seconds": round(time.perf_counter() - self.began, 3),
            "cpu_seconds": round(_cpu_seconds() - self.cpu, 3),
            "changes": self.changes,
        }
        print(json.dumps(line), flush=True)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def partitions_of(kafka: str, topic: str) -> int:
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": kafka})
    return len(admin.list_topics(topic, timeout=30).topics[topic].partitions)
