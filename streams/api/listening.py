"""One listener's stream: what it missed, then what comes, and signs of life in between.

What was missed is told from what the hub remembers; where that does not reach back so far, from a reader of one's
own, until it does. Joining the hub takes place in the very step in which nothing is missing any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import structlog
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.types import Receive, Scope, Send

from streams.api.hub import CLOSING, LOST, Hub, Listener, farewell, frame, note
from streams.api.places import PlaceError, offsets_of, place
from streams.api.problems import Refused, not_now
from streams.outage import AWAY
from streams.subscribe import Filter, MissedError, Subscription, subscribe

log = structlog.get_logger()
RETRY_MS = 2_000  # after which a listener that was cut off comes back
AHEAD_S = 5.0  # another process may have told more than we have read
TURN_S = 20.0  # for a reader of one's own to be free
AT_ONCE = 256 * 1024  # bytes of what was missed, in one piece
TOKEN_GONE = "token_gone"  # noqa: S105 - a reason
_ANEW = "listen without it, and read where all stand first"


@dataclass(slots=True)
class Listening:
    """Begun before the answer is, so that what cannot be is a proper refusal; then `pieces` is the answer's body.
    Whoever began it ends it."""

    hub: Hub
    filter: Filter
    is_welcome: Callable[[], bool]
    _offsets: list[int] | None = None  # where it goes on; None: now
    _own: Subscription | None = None
    _held: AsyncExitStack = field(default_factory=AsyncExitStack)
    _listener: Listener | None = None
    _is_counted: bool = False

    async def begin(self, last_id: str) -> None:
        """Raises Refused."""
        hub = self.hub
        if not hub.is_reading:
            raise not_now("not_reading", "the changes are not being read yet")
        if hub.listeners >= hub.pace.listeners:
            raise not_now("too_many_listeners", f"{hub.listeners} listen already")
        hub.listeners += 1
        self._is_counted = True
        if not last_id:
            return
        try:
            self._offsets = offsets_of(last_id, hub.partitions)
        except PlaceError as error:
            raise Refused(400, "unknown_id", f"Last-Event-ID: {error}", _ANEW) from None
        if not await hub.comes_to(self._offsets, AHEAD_S):
            raise Refused(410, "id_ahead", "Last-Event-ID lies behind all that there is", _ANEW)
        if not hub.remembers(self._offsets):
            await self._read_alone(self._offsets)

    async def end(self) -> None:
        if self._listener is not None:
            self.hub.leave(self._listener)
        if self._is_counted:
            self._is_counted = False
            self.hub.listeners -= 1
        await self._stop_reading_alone()

    async def pieces(self) -> AsyncIterator[bytes]:
        yield ServerSentEvent(comment="isotherm", retry=RETRY_MS, sep="\n").encode()
        try:
            async for piece in self._missed():
                yield piece
        except (MissedError, Refused):
            yield farewell(LOST)
            return
        async for piece in self._coming():
            yield piece

    # -- what was missed -------------------------------------------------------------------------------------

    async def _missed(self) -> AsyncIterator[bytes]:
        """Ends when we have joined the hub. Raises MissedError, or Refused, when something is lost for good."""
        hub, offsets = self.hub, self._offsets
        if offsets is None:
            self._listener = hub.join(self.filter)
            return
        while not hub.closed:
            if not await hub.comes_to(offsets, AHEAD_S):  # a reader of one's own may be faster
                continue
            missed = hub.missed(self.filter, offsets, AT_ONCE)
            if missed is None:
                async for piece in self._from_kafka(offsets):
                    yield piece
            elif missed.is_all:
                self._listener = hub.join(self.filter, missed.frames)
                await self._stop_reading_alone()
                return
            else:
                yield b"".join(missed.frames)

    async def _from_kafka(self, offsets: list[int]) -> AsyncIterator[bytes]:
        own = self._own or await self._read_alone(offsets)  # none yet: so slow that the hub has forgotten
        frames, size = list[bytes](), 0
        for each in await own.batch(within_s=1.0):
            if each.event is None:
                continue
            offsets[each.partition] = each.offset + 1
            frames.append(frame(each.event, each.raw, place(offsets)))
            size += len(frames[-1])
            if size >= AT_ONCE:
                yield b"".join(frames)
                frames, size = [], 0
        for number, offset in own.positions.items():
            offsets[number] = offset
        yield b"".join([*frames, note(place(offsets))])

    async def _read_alone(self, offsets: Sequence[int]) -> Subscription:
        """Reads on from there, and only so many listeners do at a time. Raises Refused."""
        try:
            async with asyncio.timeout(TURN_S):
                await self._held.enter_async_context(self.hub.catching_up)
            own = subscribe(self.hub.settings, dict(enumerate(offsets)), self.filter)
            self._own = await self._held.enter_async_context(own)
            return self._own
        except MissedError as error:
            raise Refused(410, "id_too_old", f"what comes after Last-Event-ID is gone: {error}", _ANEW) from None
        except TimeoutError:
            raise not_now("busy", "others are catching up") from None
        except AWAY as error:
            raise not_now("kafka_away", f"Kafka does not answer: {type(error).__name__}") from None

    async def _stop_reading_alone(self) -> None:
        self._own = None
        await self._held.aclose()

    # -- what comes ------------------------------------------------------------------------------------------

    async def _coming(self) -> AsyncIterator[bytes]:
        hub, listener, clock = self.hub, self._listener, asyncio.get_running_loop().time
        if listener is None:
            yield farewell(CLOSING)
            return
        asked = clock()
        while True:
            chunk = await listener.next(hub.pace.heartbeat_s)
            if chunk:
                yield chunk
            elif listener.ended:
                yield farewell(listener.ended)
                return
            else:
                yield note(hub.place)
            if clock() - asked >= hub.pace.heartbeat_s:
                asked = clock()
                if not self.is_welcome():
                    yield farewell(TOKEN_GONE)
                    return


class Stream(EventSourceResponse):
    """The answer; however it ends, its listening ends too."""

    def __init__(self, listening: Listening) -> None:
        pace = listening.hub.pace
        super().__init__(listening.pieces(), ping=0, send_timeout=pace.send_s, sep="\n")
        self._listening = listening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("listener cut off", why="it takes nothing")
        finally:
            await self._listening.end()
