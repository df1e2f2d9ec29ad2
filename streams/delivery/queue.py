"""The deliveries of one endpoint: which is sent next, which waits until when, and which no longer matters.

An account's changes go one after the other: the oldest is tried, what comes behind it waits, and nothing else
does. A delivery that fails is tried again by the schedule; from then on, of what waits for that account only the
newest of each dimension is kept (an `account.state` is newer than all before it), and all of it is stored.

    read ──► waits behind its account's older ones ──► is first ──► flies ──► delivered | given up
                                │                         ▲           │
                                └────► superseded ◄───────┴── fails ──┘

When many deliveries in a row fail, it is the endpoint: then one at a time is tried, those least tried first, so
that a delivery which is at fault itself does not keep the endpoint out. Everything else is left where it waits.

Nothing here sends, stores or looks at a clock: what is to be stored comes back as a list of `Done`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from streams.delivery.policy import GivenUp, Policy
from streams.sinks.base import Delivered, GiveUp, Outcome, Retry

EVERYTHING = ""  # the dimension of an account.state


@dataclass(frozen=True, slots=True)
class Change:
    """A change that the endpoint wants, and where it stands in `segment.changes`."""

    id: str
    account: str
    dimension: str
    order: tuple[int, int, int]
    partition: int
    offset: int
    raw: bytes = field(repr=False)
    about: str = ""  # in words

    def supersedes(self, older: Change) -> bool:
        about_it = self.dimension in (EVERYTHING, older.dimension)
        return about_it and self.order > older.order


@dataclass(frozen=True, slots=True)
class Attempt:
    """`status` 0: there was no answer."""

    at: int
    took: int
    status: int
    why: str = ""


@dataclass(slots=True)
class Waiting:
    change: Change
    due: int
    tried: int = 0  # attempts that count for the schedule
    attempts: tuple[Attempt, ...] = ()
    stored: bool = False
    alone: bool = False
    number: int = 0  # in order of arrival


class How(StrEnum):
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Stored:
    """It is to be stored as it is now, in place of what is stored of it."""

    waiting: Waiting


@dataclass(frozen=True, slots=True)
class Finished:
    """It is to be recorded, and not stored any more."""

    waiting: Waiting
    how: How
    reason: str = ""


Done: TypeAlias = Stored | Finished
NO_MORE_ATTEMPTS, NEWER = "no_more_attempts", "newer_change"
ATTEMPTS_SHOWN = 10
STALE_KEPT = 256


@dataclass(slots=True)
class Health:
    """How an endpoint as a whole is. `gate`: nothing is tried before."""

    since: int = 0  # the first failure after the last success; 0: none
    again: bool = False  # a delivery has failed more than once since
    failed: set[str] = field(default_factory=set)  # in a row, at most as many as it takes to fail as a whole
    probes: int | None = None  # that have failed; None: it does not fail as a whole
    gate: int = 0
    disabled: bool = False

    @property
    def fails(self) -> bool:
        return self.probes is not None


class Queue:
    def __init__(self, policy: Policy = Policy()) -> None:  # noqa: B008 - frozen
        self._policy = policy
        self._accounts: dict[str, list[Waiting]] = {}  # the oldest first
        self._known: dict[str, Waiting] = {}  # by id
        self._flying: set[str] = set()
        self._ready: list[tuple[int, int, str]] = []  # a heap of (due, number, id); it may hold what is no more
        self._number = 0
        self._probe = ""
        self.stored = 0
        self.health = Health()

    # -- looking --------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, id: str) -> bool:
        return id in self._known

    @property
    def room(self) -> int:
        """How many more may be read. Of an endpoint that fails, one is kept at hand to try it with."""
        if self.health.disabled or self.stored >= self._policy.stored:
            return 0
        window = 1 if self.health.fails else self._policy.window
        return max(0, window - (len(self._known) - self.stored))

    @property
    def flying(self) -> int:
        return len(self._flying)

    def wakes(self) -> int | None:
        """The instant from which `due` may have something; None: not before something else happens."""
        if self.health.disabled or self._is_full():
            return None
        self._drop_stale()
        return max(self.health.gate, self._ready[0][0]) if self._ready else None

    # -- taking in ------------------------------------------------------------------------------------------

    def take(self, change: Change, now: int) -> list[Done]:
        """A change was read. What is there already, or older than what waits, changes nothing."""
        if change.id in self._known:
            return []
        waiting = self._new(change, now)
        line = self._accounts.setdefault(change.account, [])
        if any(each.change.supersedes(change) for each in line):
            return [Finished(waiting, How.SUPERSEDED, NEWER)]
        line.append(self._know(waiting))
        if not any(each.stored for each in line):
            self._make_ready(line)
            return []
        return self._squash(line)

    def again(self, change: Change, now: int) -> list[Done]:
        """Somebody wants this tried (once more), at once and from the start."""
        waiting = self._known.get(change.id)
        if waiting is None:
            waiting = self._know(self._new(change, now))
            line = self._accounts.setdefault(change.account, [])
            behind = [each for each in line if each.change.id in self._flying or each.change.order < change.order]
            line.insert(len(behind), waiting)
        elif change.id in self._flying:
            return []
        waiting.due, waiting.tried = now, 0
        self._make_ready(self._accounts[change.account])
        return [self._store(waiting)]

    def restore(self, stored: Iterable[Waiting]) -> None:
        """What an earlier owner of a partition had stored."""
        for waiting in sorted(stored, key=lambda each: each.change.order):
            if waiting.change.id in self._known:
                continue
            self._number += 1
            waiting.number, waiting.stored = self._number, True
            self.stored += 1
            line = self._accounts.setdefault(waiting.change.account, [])
            line.append(self._know(waiting))
            self._make_ready(line)

    def lose(self, partition: int) -> None:
        """A partition went elsewhere, or is read again from another place."""
        for waiting in [each for each in self._known.values() if each.change.partition == partition]:
            self._forget(waiting)

    # -- sending --------------------------------------------------------------------------------------------

    def due(self, now: int, batch: int = 1) -> list[Waiting]:
        """What is to be sent now in one request, of different accounts; it flies until it is `answered`."""
        if self.health.disabled or now < self.health.gate or self._is_full():
            return []
        chosen = self._least_tried(now) if self.health.fails else self._oldest(now, batch)
        self._flying.update(each.change.id for each in chosen)
        return chosen

    def _is_full(self) -> bool:
        return len(self._flying) >= (1 if self.health.fails else self._policy.window)

    def _oldest(self, now: int, batch: int) -> list[Waiting]:
        chosen: list[Waiting] = []
        self._drop_stale()
        while self._ready and self._ready[0][0] <= now and len(chosen) < batch:
            waiting = self._known[self._ready[0][2]]
            if waiting.alone and chosen:
                break
            heapq.heappop(self._ready)
            chosen.append(waiting)
            if waiting.alone:
                break
            self._drop_stale({each.change.id for each in chosen})
        return chosen

    def _least_tried(self, now: int) -> list[Waiting]:
        firsts = [line[0] for line in self._accounts.values()]
        due = [each for each in firsts if each.due <= now]
        if not due:
            return []
        probe = min(due, key=_least_tried)
        self._probe = probe.change.id
        return [probe]

    def _drop_stale(self, taken: Iterable[str] = ()) -> None:
        while self._ready and not self._is_ready(*self._ready[0], taken):
            heapq.heappop(self._ready)

    def _is_ready(self, due: int, _number: int, id: str, taken: Iterable[str]) -> bool:
        waiting = self._known.get(id)
        if waiting is None or id in self._flying or id in taken or waiting.due != due:
            return False
        return self._accounts[waiting.change.account][0] is waiting

    # -- answers --------------------------------------------------------------------------------------------

    def answered(self, waiting: Waiting, outcome: Outcome, attempt: Attempt) -> list[Done]:
        """What came of it. Of a partition that went elsewhere meanwhile nothing is to be done here."""
        change, now = waiting.change, attempt.at + attempt.took
        self._flying.discard(change.id)
        if self._known.get(change.id) is not waiting:
            return []
        waiting.attempts = (*waiting.attempts, attempt)[-ATTEMPTS_SHOWN:]
        line = self._accounts[change.account]
        match outcome:
            case Delivered():
                self._succeeded()
                return [self._finish(waiting, How.DELIVERED)]
            case GiveUp(reason):
                return [self._finish(waiting, How.GIVEN_UP, reason)]
            case Retry():
                self._failed(waiting, outcome, now)
        if any(each.change.supersedes(change) for each in line):
            return [self._finish(waiting, How.SUPERSEDED, NEWER)]
        following = self._next(waiting, outcome, now)
        if isinstance(following, GivenUp):
            return [self._finish(waiting, How.GIVEN_UP, NO_MORE_ATTEMPTS)]
        waiting.due, waiting.alone = following, outcome.alone
        self._make_ready(line)
        return [self._store(waiting), *self._squash(line[1:])]

    def _next(self, waiting: Waiting, outcome: Retry, now: int) -> int | GivenUp:
        if outcome.whole:
            return self.health.gate
        waiting.tried += 1
        return self._policy.retry.next(waiting.tried, now, outcome.after_s)

    def _succeeded(self) -> None:
        """A Retry-After that was heard before still holds."""
        health = self.health
        self.health = Health(gate=0 if health.fails else health.gate, disabled=health.disabled)

    def _failed(self, waiting: Waiting, outcome: Retry, now: int) -> None:
        health, probing, id = self.health, self._policy.probe, waiting.change.id
        health.since = health.since or now
        health.again = health.again or len(waiting.attempts) > 1
        if outcome.whole and outcome.after_s is not None:
            health.gate = max(health.gate, now + self._policy.retry.asked(outcome.after_s))
            return
        if health.probes is None:
            health.failed.add(id)
            if len(health.failed) >= probing.failing_after or outcome.whole:
                health.probes, health.gate = 0, max(health.gate, probing.next(0, now))
        elif id == self._probe:
            health.probes += 1
            health.gate = max(health.gate, probing.next(health.probes, now))

    # -- the endpoint as a whole ----------------------------------------------------------------------------

    def failing(self, since: int, now: int) -> None:
        """From an earlier owner it is known that nothing has succeeded `since`: it is tried with one."""
        self.health.since = since
        self.health.probes, self.health.gate = 0, now

    def is_hopeless(self, since: int, now: int) -> bool:
        """Whether it is to be disabled. `since` nothing was delivered by anybody; 0: there was no failure."""
        persists = self.health.fails or self.health.again
        return bool(since and persists and now - since >= self._policy.probe.disabled_after)

    def hurry(self, now: int) -> None:
        """It is well elsewhere, or somebody has mended it: if it fails here, it is tried now with one."""
        if self.health.fails and (firsts := [line[0] for line in self._accounts.values()]):
            self.health.gate = now
            first = min(firsts, key=_least_tried)
            first.due = min(first.due, now)
            self._make_ready(self._accounts[first.change.account])

    def switch(self, disabled: bool) -> None:
        """Disabled, nothing is sent or read. Enabled, it begins as if it had never failed."""
        self.health = Health(disabled=disabled)

    # -- lines ----------------------------------------------------------------------------------------------

    def _new(self, change: Change, now: int) -> Waiting:
        self._number += 1
        return Waiting(change, now, number=self._number)

    def _know(self, waiting: Waiting) -> Waiting:
        self._known[waiting.change.id] = waiting
        return waiting

    def _make_ready(self, line: list[Waiting]) -> None:
        if line and line[0].change.id not in self._flying:
            heapq.heappush(self._ready, _place(line[0]))
        if len(self._ready) > 2 * len(self._known) + STALE_KEPT:
            firsts = (each[0] for each in self._accounts.values())
            self._ready = [_place(each) for each in firsts if each.change.id not in self._flying]
            heapq.heapify(self._ready)

    def _squash(self, line: list[Waiting]) -> list[Done]:
        """Of what waits behind a failure: the newest of each dimension, and all of that stored."""
        done: list[Done] = []
        for waiting in list(line):
            if waiting.change.id in self._flying:
                continue
            if any(each.change.supersedes(waiting.change) for each in line):
                done.append(self._finish(waiting, How.SUPERSEDED, NEWER))
            elif not waiting.stored:
                done.append(self._store(waiting))
        return done

    def _store(self, waiting: Waiting) -> Stored:
        self.stored += not waiting.stored
        waiting.stored = True
        return Stored(waiting)

    def _finish(self, waiting: Waiting, how: How, reason: str = "") -> Finished:
        self._forget(waiting)
        return Finished(waiting, how, reason)

    def _forget(self, waiting: Waiting) -> None:
        account = waiting.change.account
        self.stored -= waiting.stored
        del self._known[waiting.change.id]
        line = self._accounts[account]
        line.remove(waiting)
        self._flying.discard(waiting.change.id)
        if line:
            self._make_ready(line)
        else:
            del self._accounts[account]


def _place(waiting: Waiting) -> tuple[int, int, str]:
    return waiting.due, waiting.number, waiting.change.id


def _least_tried(waiting: Waiting) -> tuple[int, int, int]:
    return waiting.tried, waiting.due, waiting.number
