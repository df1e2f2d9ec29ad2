"""Whatever happens in whatever order, the queue does what the plainest program would.

The model keeps one list and looks through all of it every time. Beside it stand the promises: nothing is lost, one
of an account at a time, in order, unless something newer made it pointless.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.delivery.policy import Policy, ProbePolicy, RetryPolicy
from streams.delivery.queue import EVERYTHING, Attempt, Change, Finished, Queue, Stored
from streams.sinks.base import Delivered, GiveUp, Outcome, Retry

POLICY = Policy(RetryPolicy(waits=(5, 50, 200)), ProbePolicy(failing_after=3, waits=(7, 30)), window=4, stored=6)
DIMENSIONS = ("engagement", "size", EVERYTHING)


@dataclass
class Item:
    offset: int
    account: int
    dimension: str
    due: int
    tried: int = 0
    flies: bool = False
    stored: bool = False
    alone: bool = False
    arrived: int = 0


def newer(one: Item, other: Item) -> bool:
    """Whether the one makes the other pointless."""
    return one.offset > other.offset and one.dimension in (EVERYTHING, other.dimension)


@dataclass
class Model:
    items: list[Item] = field(default_factory=list)
    out: dict[int, str] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    probes: int | None = None
    probe: int = -1
    gate: int = 0
    arrived: int = 0

    def of(self, account: int) -> list[Item]:
        return [each for each in self.items if each.account == account]

    def finish(self, item: Item, how: str) -> None:
        self.items.remove(item)
        self.out[item.offset] = how

    def take(self, offset: int, account: int, dimension: str, now: int) -> None:
        self.arrived += 1
        item = Item(offset, account, dimension, now, arrived=self.arrived)
        self.items.append(item)
        if any(each.stored for each in self.of(account)):
            self.squash(account)

    def squash(self, account: int) -> None:
        for each in self.of(account):
            if not each.flies:
                if any(newer(other, each) for other in self.of(account)):
                    self.finish(each, "superseded")
                else:
                    each.stored = True

    def due(self, now: int, batch: int) -> list[Item]:
        flying = sum(each.flies for each in self.items)
        if now < self.gate or flying >= (POLICY.window if self.probes is None else 1):
            return []
        firsts = {each.account: each for each in reversed(self.items)}.values()
        ready = [each for each in firsts if each.due <= now and not each.flies]
        if self.probes is not None:
            chosen = sorted(ready, key=lambda each: (each.tried, each.due, each.arrived))[:1]
            self.probe = chosen[0].offset if chosen else self.probe
        else:
            ready.sort(key=lambda each: (each.due, each.arrived))
            until = next((n for n, each in enumerate(ready) if each.alone), batch)
            chosen = ready[:1] if ready and ready[0].alone else ready[: min(batch, until)]
        for each in chosen:
            each.flies = True
        return chosen

    def answered(self, item: Item, outcome: Outcome, now: int) -> None:
        item.flies = False
        match outcome:
            case Delivered():
                self.gate = self.gate if self.probes is None else 0
                self.failed, self.probes = set(), None
                self.finish(item, "delivered")
            case GiveUp():
                self.finish(item, "given_up")
            case Retry(after_s=after, whole=whole, alone=alone):
                self.fail(item, after, whole, now)
                if any(newer(other, item) for other in self.of(item.account)):
                    self.finish(item, "superseded")
                    return
                if not whole and item.tried == len(POLICY.retry.waits):
                    self.finish(item, "given_up")
                    return
                if whole:
                    item.due = self.gate
                else:
                    item.tried += 1
                    item.due = now + max(POLICY.retry.waits[item.tried - 1], int((after or 0) * 1000))
                item.alone, item.stored = alone, True
                self.squash(item.account)

    def fail(self, item: Item, after: float | None, whole: bool, now: int) -> None:
        waits = POLICY.probe.waits
        if whole and after is not None:
            self.gate = max(self.gate, now + int(after * 1000))
        elif self.probes is None:
            self.failed.add(item.offset)
            if whole or len(self.failed) >= POLICY.probe.failing_after:
                self.probes, self.gate = 0, max(self.gate, now + waits[0])
        elif item.offset == self.probe:
            self.probes += 1
            self.gate = max(self.gate, now + waits[min(self.probes, len(waits) - 1)])


DOWN = Retry("down")
OUTCOMES: list[Outcome] = [
    Delivered(), Delivered(), Delivered(), Retry("down"), Retry("down"), Retry("down"), GiveUp("invalid"),
    Retry("busy", 0.02, whole=True), Retry("locked", 0.1), Retry("secret", whole=True),
    Retry("batch", 0.0, alone=True),
]  # fmt: skip
MOSTLY_DOWN = [DOWN if isinstance(each, Delivered) and n else each for n, each in enumerate(OUTCOMES)]
STEPS = st.one_of(
    st.tuples(st.just("read"), st.integers(0, 7), st.sampled_from(DIMENSIONS)),
    st.tuples(st.just("read"), st.integers(0, 7), st.sampled_from(DIMENSIONS)),
    st.tuples(st.just("send"), st.integers(1, 3)),
    st.tuples(st.just("send"), st.integers(1, 3)),
    st.tuples(st.just("answer"), st.integers(0, 9), st.integers(0, len(OUTCOMES) - 1)),
    st.tuples(st.just("answer"), st.integers(0, 9), st.integers(0, len(OUTCOMES) - 1)),
    st.tuples(st.just("wait"), st.integers(0, 120)),
    st.tuples(st.just("next")),
)


@settings(max_examples=200)
@given(st.lists(STEPS, min_size=30, max_size=150), st.sampled_from((OUTCOMES, MOSTLY_DOWN)))
def test_the_queue_does_what_the_plainest_program_would(
    steps: list[tuple[Any, ...]], outcomes: list[Outcome]
) -> None:
    queue, model, now, offset = Queue(POLICY), Model(), 1, 0
    flying: dict[int, Any] = {}
    out: dict[int, str] = {}
    started: dict[int, list[int]] = {}

    def note(done: list[Any]) -> None:
        for each in done:
            if isinstance(each, Finished):
                assert each.waiting.change.offset not in out  # once
                out[each.waiting.change.offset] = str(each.how)
            assert not isinstance(each, Stored) or each.waiting.stored

    for name, *told in steps:
        match name:
            case "read":
                account, dimension = told
                offset += 1
                change = Change(f"{offset}", f"{account}", dimension, (0, offset, 0), 0, offset, b"")
                note(queue.take(change, now))
                model.take(offset, account, dimension, now)
            case "send":
                sent = queue.due(now, told[0])
                assert [each.change.offset for each in sent] == [e.offset for e in model.due(now, told[0])]
                for each in sent:
                    flying[each.change.offset] = each
                    started.setdefault(int(each.change.account), []).append(each.change.offset)
            case "answer" if flying:
                place, outcome = told[0], outcomes[told[1]]
                which = sorted(flying)[place % len(flying)]
                item = next(each for each in model.items if each.offset == which)
                note(queue.answered(flying.pop(which), outcome, Attempt(now, 0, 200)))
                model.answered(item, outcome, now)
            case "wait":
                now += told[0]
            case "next":
                now = max(now, queue.wakes() or 0)
        assert out == model.out
        assert queue.stored == sum(each.stored for each in model.items)
        assert len(queue) == len(model.items)
        assert queue.health.fails == (model.probes is not None)
        # Promises, whatever the model says.
        accounts = [each.change.account for each in flying.values()]
        assert len(accounts) == len(set(accounts))
        assert len(out) + len(queue) == offset
    for offsets in started.values():
        assert offsets == sorted(offsets)
