"""Alerts on virtual time, without Kafka, Redis or anybody who is told: what the preview and the stories run.

The same core as live: changes are stepped, parcels are chosen, claimed and noted as told, each recipient at a pace
of its own. What is sent arrives at once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush, nsmallest

from streams.alerting.parcels import Parcel, entries, items, next_parcel
from streams.alerting.rulebook import Rulebook
from streams.alerting.seen import Seen
from streams.alerting.state import Alerts
from streams.alerting.stepping import About, Changed, Claimed, Happened, Instant, Step, Told, Why, step

LOOKED_AT = 100
NEVER = 1 << 53


@dataclass(frozen=True, slots=True)
class Telling:
    """A message as it would be sent."""

    at: int
    parcel: Parcel


@dataclass
class Rehearsal:
    rules: Rulebook
    about: Callable[[Seen], About] = lambda change: About()
    states: dict[str, Alerts] = field(default_factory=dict)
    untold: Counter[tuple[str, Why]] = field(default_factory=Counter)  # by rule and why
    _queues: defaultdict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    _heaps: defaultdict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    _free: dict[str, int] = field(default_factory=dict)  # from when on a recipient may be told
    _sent: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def change(self, change: Seen, now: int) -> Iterator[Telling]:
        """What is told up to `now`; then the change is decided."""
        yield from self.until(now)
        done = self.happen(change.account, Changed(change, self.about(change), now))
        self.untold.update(done.untold.items())

    def happen(self, account: str, what: Happened) -> Step:
        before = self.states.get(account)
        done = step(before, what, self.rules)
        if done.state is None:
            self.states.pop(account, None)
        else:
            self.states[account] = done.state
        for queue in entries(before, self.rules):
            self._queues[queue].pop(account, None)
        for queue, due in entries(done.state, self.rules).items():
            self._queues[queue][account] = due
            heappush(self._heaps[queue], (due, account))
        return done

    def until(self, now: int) -> Iterator[Telling]:
        """Lets time pass up to `now`, and gives what is told on the way."""
        while (due := self.next_due()) <= now:
            at, queue = due, self._next_queue(due)
            if not queue:
                for account in self._oldest("", at):
                    self.happen(account, Instant(at))
            elif telling := self._tell(queue, at):
                yield telling

    def next_due(self) -> int:
        return min((self._due_of(queue) for queue in self._queues), default=NEVER)

    def _next_queue(self, due: int) -> str:
        return min(queue for queue in self._queues if self._due_of(queue) == due)

    def _due_of(self, queue: str) -> int:
        heap, waiting = self._heaps[queue], self._queues[queue]
        while heap and waiting.get(heap[0][1]) != heap[0][0]:
            heappop(heap)  # it has gone, or is due at another time
        return max(heap[0][0], self._free.get(queue, 0)) if heap else NEVER

    def _oldest(self, queue: str, now: int) -> list[str]:
        ready = ((due, account) for account, due in self._queues[queue].items() if due <= now)
        return [account for _, account in nsmallest(LOOKED_AT, ready)]

    def _tell(self, queue: str, now: int) -> Telling | None:
        recent = self._sent[queue] = [at for at in self._sent[queue] if at > now - self.rules.per]
        states = (self.states[account] for account in self._oldest(queue, now))
        due = items(states, queue, self.rules, now)
        is_full = len(recent) >= self.rules.messages
        parcel = next_parcel(due, self.rules, now, is_full=is_full)
        if parcel is None:
            self._free[queue] = recent[0] + self.rules.per if is_full else now + 1
            return None
        for each in parcel.items:
            rule, part = each.message.rule, each.message.part
            self.happen(each.account, Claimed(rule, part, parcel.key, now))
            self.happen(each.account, Told(rule, part, parcel.key, now, parcel.is_digest, parcel.face))
        if parcel.part != "face":
            recent.append(now)
        channel = self.rules.channels.get(parcel.to.channel)
        self._free[queue] = now + (channel.pace if channel else 0)
        return Telling(now, parcel)
