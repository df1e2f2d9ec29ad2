"""Delivering to one endpoint: it reads for itself, sends, and settles what is stored.

    subscription ──► at hand ──► queue ──► request ──► answer ──► Redis ──► settled
         ▲             │ full                                       │
         └── paused ◄──┘              another attempt ◄── stored ◄──┘

A change is settled, so that Kafka does not give it again, once it is delivered, given up or superseded, or stored
for another attempt. Whoever dies before that has it sent again: the same bytes under the same id. Nothing that one
endpoint does, or does not do, is waited for by another: each has its own service, its own group in Kafka and its
own connections.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import msgspec
import structlog
from mode import Service

from rules.changes import iso
from rules.contract import Event, read
from streams.clock import RedisClock
from streams.delivery.asking import Failure, Http
from streams.delivery.endpoints import Endpoint
from streams.delivery.policy import Policy
from streams.delivery.queue import Attempt, Done, Finished, Health, How, Queue, Waiting
from streams.delivery.store import DeliveryStore, Status
from streams.delivery.wanting import Facts, change_of
from streams.metrics import histogram
from streams.outage import wait_out
from streams.settings import Settings
from streams.sinks.base import Delivered, Delivery, Outcome, Reason, Retry, SecretUnreadable
from streams.sinks.pacing import Pace
from streams.subscribe import MissedError, Received, Subscription, subscribe
from streams.topics import CHANGES

log = structlog.get_logger()
AT_HAND = 128  # changes that are read and not yet looked at; then no more are fetched
FETCHED = 25  # a fourth of what one fetch gives at most
LOOK_EVERY_MS = 1_000
LANDING_S = 5.0  # for requests under way, when a partition goes elsewhere
LEAVING_S = 2.0  # for those, when we are told to stop: endpoints stop one after the other
LONGEST_SLEEP_S = 60.0
FETCH_WAIT_MS = 100  # each endpoint asks for itself: to ask more often costs more than to deliver
FETCH_BYTES = 64 * 1024  # of a partition at once: all that is fetched ahead is in memory, an endpoint

Tell = Callable[[str, bytes], Awaitable[None]]


class Clock(Protocol):
    """UTC ms, and waiting for an instant."""

    def now(self) -> int: ...

    async def wait(self, event: asyncio.Event, until: int | None) -> None:
        """Returns when the event is set or the instant has come; perhaps sooner."""

    async def keep(self) -> None:
        """Raises what an absent Redis raises."""


@dataclass(frozen=True, slots=True)
class RedisTime:
    """The time that all who deliver share."""

    clock: RedisClock

    def now(self) -> int:
        return self.clock.now()

    async def wait(self, event: asyncio.Event, until: int | None) -> None:
        left = LONGEST_SLEEP_S if until is None else (until - self.now()) / 1000
        with suppress(TimeoutError):
            async with asyncio.timeout(min(left, LONGEST_SLEEP_S)):
                await event.wait()

    async def keep(self) -> None:
        await self.clock.keep()


@dataclass(frozen=True, slots=True)
class _AtHand:
    event: Event[Any]
    received: Received
    token: str  # of the partition when it was read


class Deliverer(Service):
    """Delivers to one endpoint. `tell` publishes what operators are to hear; `reached` hears of steps: tests stop
    there."""

    def __init__(
        self,
        settings: Settings,
        endpoint: Endpoint,
        redis: Any,
        clock: Clock,
        tell: Tell,
        policy: Policy = Policy(),  # noqa: B008 - frozen
        http: Http | None = None,
        reached: Callable[[str], None] = lambda step: None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint, self._clock, self._tell, self._policy = endpoint, clock, tell, policy
        wait = max(FETCH_WAIT_MS, settings.fetch_max_wait_ms)
        self._settings = settings.model_copy(update={"batch": FETCHED, "fetch_max_wait_ms": wait})
        self._store = DeliveryStore(redis, settings.namespace, endpoint.name)
        self._facts = Facts(redis, settings)
        self._http = http or Http(endpoint.allowed, policy.window)
        self._reached = reached
        self._queue = Queue(policy)
        self._pace = Pace(endpoint.sink.rate)
        self._subscription: Subscription | None = None
        self._owned: dict[int, str] = {}  # partition -> our token
        self._at_hand: deque[_AtHand] = deque()
        self._unsettled: dict[str, Received] = {}  # by change
        self._undone: list[tuple[Done | None, Received | None]] = []  # to be written, then settled
        self._flights: dict[asyncio.Task[None], list[Waiting]] = {}
        self._paused = False
        self._told_since = 0  # of the failure that Redis knows of
        self._going_back: dict[int, int] = {}  # partition -> the offset that it is asked to be read from
        self._gone_back: set[int] = set()  # of those, the ones that were taken over since
        self._changed, self._written, self._stopping = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._writing = asyncio.Lock()
        self._reader: asyncio.Task[Any] | None = None
        self._noted = 0  # when a success was last written down
        self._failed: BaseException | None = None
        self.sent = 0
        self.counts: Counter[str] = Counter()  # by what came of it
        self.seconds = histogram("isotherm_delivery_seconds")

    # -- reading --------------------------------------------------------------------------------------------

    @Service.task
    async def _read(self) -> None:
        endpoint, stopped = self.endpoint, lambda: bool(self.should_stop)
        self._reader = asyncio.current_task()
        async with AsyncExitStack() as stack:

            async def open() -> Subscription:
                subscription = subscribe(
                    self._settings,
                    endpoint.start,
                    endpoint.filter,
                    f"webhook-{endpoint.name}",
                    on_assigned=self._assigned,
                    on_lost=self._lost,
                    fetch_bytes=FETCH_BYTES,
                )
                self._subscription = subscription
                return await stack.enter_async_context(subscription)

            await wait_out("Redis", self._begin, stopped)
            subscription = await wait_out("subscribing", open, stopped)
            while subscription is not None and not self.should_stop:
                try:
                    received = await subscription.batch()
                except MissedError as missed:
                    await self._missed(subscription, missed)
                    continue
                self._reached("read")
                for each in received:
                    if each.event is not None and (token := self._owned.get(each.partition)):
                        self._at_hand.append(_AtHand(each.event, each, token))
                self._slow_down()
                self._changed.set()

    async def _begin(self) -> None:
        """As whoever delivered before left it: what failed is tried with one, not with all that waits."""
        await self._clock.keep()
        status = await self._store.status()
        self._queue.health.disabled = bool(status.disabled)
        if status.since:
            self._told_since = status.since
            self._queue.failing(status.since, self._clock.now())

    async def _missed(self, subscription: Subscription, missed: MissedError) -> None:
        """Nobody can bring back what Kafka has deleted: it is said, it is noted, and it goes on."""
        log.error("changes are gone that were not delivered", endpoint=self.endpoint.name, why=str(missed))
        what = f"partition {missed.partition}: {missed.first} to {missed.behind - 1}"
        await self._wait_out("noting", lambda: self._store.missed(what))
        subscription.read_again(missed.partition, missed.behind)

    def _slow_down(self) -> None:
        """Fetches no more while enough is at hand. It goes on asking, or the group would take us for dead."""
        full = len(self._at_hand) >= (AT_HAND // 2 if self._paused else AT_HAND)
        if self._subscription is None or full == self._paused:
            return
        self._paused = full
        for partition in self._owned:
            self._still(partition)

    def _still(self, partition: int) -> None:
        if self._subscription is not None:
            (self._subscription.pause if self._paused else self._subscription.resume)(partition)

    # -- partitions -----------------------------------------------------------------------------------------

    async def _assigned(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self._forget(partition)
            found = await self._wait_out("taking over", partial(self._store.acquire, partition))
            if found is None:
                return
            self._owned[partition], waiting = found
            self._gone_back.add(partition)
            self._queue.restore(waiting)
            if self._paused:
                self._still(partition)
        self._changed.set()

    async def _lost(self, partitions: Sequence[int]) -> None:
        """What is under way may land and be recorded; then it is for the next owner."""
        gone = set(partitions)
        self._at_hand = deque(each for each in self._at_hand if each.received.partition not in gone)
        if flights := self._flying(gone):
            await asyncio.wait(flights, timeout=min(LANDING_S, self._settings.session_timeout_ms / 2000))
        with suppress(TimeoutError):
            async with asyncio.timeout(LANDING_S):
                await self._write_undone()
        for task in self._flying(gone):
            task.cancel()
        for partition in partitions:
            self._forget(partition)
        self._changed.set()

    def _flying(self, partitions: set[int]) -> list[asyncio.Task[None]]:
        """Requests in which there is nothing but of these partitions."""
        return [
            task
            for task, batch in self._flights.items()
            if all(each.change.partition in partitions for each in batch)
        ]

    def _forget(self, partition: int) -> None:
        """What was read of it is given again, to us or to somebody else."""
        self._owned.pop(partition, None)
        self._queue.lose(partition)
        self._at_hand = deque(each for each in self._at_hand if each.received.partition != partition)
        self._unsettled = {id: each for id, each in self._unsettled.items() if each.partition != partition}

    # -- sending --------------------------------------------------------------------------------------------

    @Service.task
    async def _send(self) -> None:
        while not self.should_stop:
            if self._failed is not None:
                raise self._failed
            self._changed.clear()
            await self._take_in()
            await self._clock.wait(self._changed, self._send_due())

    async def _take_in(self) -> None:
        """As much of what is at hand as there is room for."""
        while self._at_hand and self._room > 0:
            chosen = [self._at_hand.popleft() for _ in range(min(self._room, len(self._at_hand)))]
            for each, is_wanted in zip(chosen, await self._wanted(chosen), strict=False):
                if self._owned.get(each.received.partition) == each.token:
                    self._take(each.event, each.received, is_wanted)
        self._slow_down()

    async def _wanted(self, chosen: Sequence[_AtHand]) -> list[bool]:
        """None of them once we are told to stop."""
        events, facts = [each.event for each in chosen], self.endpoint.facts
        return await self._wait_out("reading facts", lambda: self._facts.wanted(events, facts)) or []

    @property
    def _room(self) -> int:
        return min(self._queue.room, self._policy.window - len(self._undone))

    def _take(self, event: Event[Any], received: Received, is_wanted: bool) -> None:
        if not is_wanted or event.id in self._queue:  # it is stored, and read once more since that was not settled
            self._undone.append((None, received))
            self._written.set()
        else:
            self._unsettled[event.id] = received
            self._finish(self._queue.take(change_of(event, received), self._clock.now()))

    def _send_due(self) -> int | None:
        """Begins what is to be sent; the instant from which there may be more."""
        loop = asyncio.get_running_loop()
        while True:
            now = self._clock.now()
            if (wait := self._pace.wait_s(now / 1000)) > 0:
                return now + round(wait * 1000) + 1
            if not (batch := self._queue.due(now, self.endpoint.sink.batch)):
                return self._queue.wakes()
            self._pace.asked(now / 1000)
            task = loop.create_task(self._fly(batch))
            self._flights[task] = batch
            task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._flights[task]
        if not task.cancelled():
            self._failed = self._failed or task.exception()
        self._changed.set()

    async def _fly(self, batch: list[Waiting]) -> None:
        begun = self._clock.now()
        outcomes, status, why = await self._ask([self._delivery(each) for each in batch])
        attempt = Attempt(begun, max(0, self._clock.now() - begun), status, why)
        self.seconds.labels(self.endpoint.name).observe(attempt.took / 1000)
        self._reached("sent")
        for waiting, outcome in zip(batch, outcomes, strict=True):
            told = replace(attempt, why=why or _why(outcome, status))
            self._finish(self._queue.answered(waiting, outcome, told))
        self.sent += sum(isinstance(each, Delivered) for each in outcomes)
        self.counts["retried"] += sum(isinstance(each, Retry) for each in outcomes)

    def _delivery(self, waiting: Waiting) -> Delivery:
        change, received = waiting.change, self._unsettled.get(waiting.change.id)
        event = received.event if received is not None else None
        return Delivery(change.id, change.account, event or read(change.raw), change.raw, waiting.tried + 1)

    async def _ask(self, deliveries: list[Delivery]) -> tuple[list[Outcome], int, str]:
        """An outcome for each, the status, and why there was no answer."""
        sink = self.endpoint.sink
        refused = {each.id: told for each in deliveries if (told := sink.refuses(each)) is not None}
        asked = [each for each in deliveries if each.id not in refused]
        if not asked:
            return [refused[each.id] for each in deliveries], 0, ""
        try:
            request = sink.request(asked)
        except SecretUnreadable as error:
            log.error("cannot deliver", endpoint=self.endpoint.name, why=str(error))
            retry: Outcome = Retry(Reason.SECRET_UNREADABLE, whole=True)
            return [refused.get(each.id, retry) for each in deliveries], 0, str(Reason.SECRET_UNREADABLE)
        answer = await self._http.ask(request)
        if isinstance(answer, Failure):
            return [refused.get(each.id, Retry(str(answer))) for each in deliveries], 0, str(answer)
        found = sink.outcomes(asked, answer.status, answer.headers, answer.body)
        outcomes = dict(zip((each.id for each in asked), found, strict=True)) | refused
        return [outcomes[each.id] for each in deliveries], answer.status, ""

    # -- recording ------------------------------------------------------------------------------------------

    def _finish(self, done: Iterable[Done]) -> None:
        for each in done:
            id = each.waiting.change.id
            self._undone.append((each, self._unsettled.pop(id, None)))
            if not isinstance(each, Finished):
                continue
            self.counts[each.how] += 1
            if each.how is How.GIVEN_UP:
                change = each.waiting.change
                log.warning(
                    "delivery given up", endpoint=self.endpoint.name, change=id, why=each.reason,
                    account=change.account, position=f"{CHANGES}/{change.partition}/{change.offset}",
                )  # fmt: skip
        if self._undone:
            self._written.set()

    @Service.task
    async def _record(self) -> None:
        while not self.should_stop:
            await self._written.wait()
            self._written.clear()
            await self._write_undone()
            self._changed.set()  # there is room again

    async def _write_undone(self) -> bool:
        """Into Redis first; then it is settled, and Kafka hears of it. False: told to stop, we could not."""
        async with self._writing:
            undone = self._undone[:]
            if not (await self._wait_out("recording deliveries", lambda: self._write(undone))):
                return False
            self._reached("recorded")
            for _, received in undone:
                if received is not None and self._subscription is not None:
                    await self._subscription.settled(received)
            del self._undone[: len(undone)]
            self._reached("settled")
            return True

    async def _write(self, undone: Sequence[tuple[Done | None, Received | None]]) -> bool:
        groups: defaultdict[int, list[Done]] = defaultdict(list)
        for done, _ in undone:
            if done is not None:
                groups[done.waiting.change.partition].append(done)
        now = self._clock.now()
        for partition, each in groups.items():
            if (token := self._owned.get(partition)) is not None:
                await self._store.write(partition, token, each, now)
        await self._note_health(now, any(_is_delivered(done) for done, _ in undone))
        return True

    async def _note_health(self, now: int, delivered: bool) -> None:
        since = self._queue.health.since
        if delivered and (self._told_since or now - self._noted >= LOOK_EVERY_MS):
            await self._store.succeeded(now)
            self._told_since, self._noted = 0, now
        if since and since != self._told_since:
            await self._store.failed(since)
            self._told_since = since

    # -- what others want -----------------------------------------------------------------------------------

    @Service.task
    async def _look(self) -> None:
        while not self.should_stop:
            await self._wait_out("looking", self._look_once)
            await self._clock.wait(self._stopping, self._clock.now() + LOOK_EVERY_MS)

    async def _look_once(self) -> None:
        await self._clock.keep()
        told = self._told_since
        status = await self._store.status()
        self._switch(bool(status.disabled), is_well=bool(told) and not status.since)
        if not status.disabled and self._queue.is_hopeless(status.since, self._clock.now()):
            await self._disable(status)
        if status.asked:
            await self._try_again()
        for partition, offset in status.again.items():
            await self._go_back(partition, offset)

    async def _go_back(self, partition: int, offset: int) -> None:
        """The wish stays until the partition was taken over anew, and Kafka knows from where it is read."""
        if partition not in self._owned or self._subscription is None:
            return
        if self._going_back.get(partition) != offset:
            self._going_back[partition] = offset
            self._gone_back.discard(partition)
            self._subscription.read_again(partition, offset)
        elif partition in self._gone_back and partition in self._subscription.positions:
            await self._subscription.commit()
            await self._store.went_again(partition, offset)
            del self._going_back[partition]

    def _switch(self, disabled: bool, is_well: bool) -> None:
        """`is_well`: what fails here has succeeded elsewhere, or somebody has mended it."""
        if disabled != self._queue.health.disabled:
            log.warning("endpoint disabled" if disabled else "endpoint enabled", endpoint=self.endpoint.name)
            self._queue.switch(disabled)
        elif is_well:
            self._queue.hurry(self._clock.now())
        else:
            return
        self._told_since = 0
        self._changed.set()

    async def _disable(self, status: Status) -> None:
        """It is told before it is done: who dies in between tells it again, under the same id."""
        name, now = self.endpoint.name, self._clock.now()
        why = f"nothing was delivered since {iso(status.since)}"
        log.error("endpoint disabled", endpoint=name, why=why)
        await self._tell(name, _disabled(name, status, now, self._queue.stored))
        await self._store.disable(now, why)
        self._queue.switch(True)

    async def _try_again(self) -> None:
        taken = []
        for each in await self._store.take_asked(self._owned):
            self._finish(self._queue.again(each.change, self._clock.now()))
            taken.append(each.change.id)
        if await self._write_undone():
            await self._store.took(taken)
        self._changed.set()

    # -- what others may ask --------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Changes that were read and are not delivered."""
        return len(self._queue) + len(self._at_hand)

    @property
    def health(self) -> Health:
        return self._queue.health

    # -- ending ---------------------------------------------------------------------------------------------

    async def on_stop(self) -> None:
        for event in (self._changed, self._written, self._stopping):
            event.set()
        if self._flights:
            await asyncio.wait(list(self._flights), timeout=LEAVING_S)
        for task in list(self._flights):
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(LANDING_S):
                await self._write_undone()
        if self._reader is not None:
            self._reader.cancel()  # it waits for what comes next; leaving, it tells Kafka how far all is settled
            await asyncio.wait([self._reader], timeout=LANDING_S)
        await self._http.close()

    async def _wait_out(self, what: str, attempt: Callable[[], Awaitable[Any]]) -> Any:
        """The first attempt is made even when we are told to stop."""
        tried = False

        def stopped() -> bool:
            nonlocal tried
            tried, before = True, tried
            return before and bool(self.should_stop)

        return await wait_out(f"{what} ({self.endpoint.name})", attempt, stopped)


def _why(outcome: Outcome, status: int) -> str:
    if isinstance(outcome, Delivered):
        return ""
    return f"{outcome.reason}: {outcome.detail}" if outcome.detail not in ("", str(status)) else outcome.reason


def _is_delivered(done: Done | None) -> bool:
    return isinstance(done, Finished) and done.how is How.DELIVERED


def _disabled(endpoint: str, status: Status, now: int, waiting: int) -> bytes:
    """The CloudEvent for operators; its id says which failure it is about."""
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": f"{endpoint}.{status.since}",
            "source": f"/isotherm/webhooks/{endpoint}",
            "type": "webhook.disabled",
            "subject": endpoint,
            "time": iso(now),
            "datacontenttype": "application/json",
            "data": {
                "endpoint": endpoint,
                "failing_since": iso(status.since),
                "last_success": iso(status.succeeded) if status.succeeded else None,
                "waiting": waiting,
            },
        }
    )
