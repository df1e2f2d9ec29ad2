"""Whether a worker does what it is there for: its positions move, or nothing is there to fold.

Health is another question: whoever answers at all is alive. A worker that is not ready is not to be killed for it:
an outage ends by itself, and a stopped partition stops again wherever it goes.
"""

from __future__ import annotations

from collections.abc import Iterator

from streams import outage
from streams.clock import ClockSteppedError
from streams.observing.worker import Watched

STANDS_S = 20.0  # a third of what ends the worker (see `stalling`)


def unready(watched: Watched, now: float) -> Iterator[str]:
    """Why it is not ready, a sentence each; `now` as the event loop has it."""
    if not watched.is_started:
        yield "not started yet: it waits for Redis, Kafka or the topics"
    yield from (f"waiting: {what}" for what, count in outage.waiting.items() if count)
    try:
        if watched.clock.is_set:
            watched.clock.now()
    except ClockSteppedError as error:
        yield f"{error}; the worker is to be restarted"
    if (fold := watched.fold) is not None:
        yield from (f"account.log/{p} stopped ({by})" for p, by in sorted(fold.stopped_by.items()))
        for number, each in sorted(fold.standing().items()):
            at = fold.positions().get(number, each.offset)
            if each.end > at == each.offset and now - each.since > STANDS_S:
                yield f"account.log/{number} stands at {at} of {each.end} for {now - each.since:.0f} s"
    if watched.router is not None:
        for tp in sorted(watched.router.stopped_partitions):
            yield f"{watched.settings.topics.role(tp.topic)}/{tp.partition} stopped (bug)"
