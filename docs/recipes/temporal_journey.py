"""A journey for each account, as a Temporal workflow: it begins when the account is hot and ends a while after it
is not any more. Its id is `isotherm/ACCOUNT`, so an account is never in two at once.

Changes come as signals, and may come twice. The highest position of the dimension is kept, and whatever is not
above it is dropped. Temporal forgets nothing of a run that is open, and everything of one that is closed; so a run
stays open for longer than a change can come again, which is until the bridge has been restarted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity, workflow

LINGER = timedelta(days=1)
CHANGES_A_RUN = 500  # then the run goes on as a new one, with a short history


@dataclass
class Change:
    """What a journey needs of a change; `order` is its position in the log."""

    id: str
    account: str
    segment: str | None
    reason: str
    order: list[int]


@dataclass
class Known:
    order: list[int]
    segment: str | None = None


@activity.defn
async def call_them(change: Change) -> None:
    """Yours to write. It may run twice for a change: give `change.id` along as the key of idempotency."""
    activity.logger.info("call %s: %s", change.account, change.reason)


@workflow.defn
class AccountJourney:
    @workflow.init
    def __init__(self, known: Known | None = None) -> None:
        self._known = known or Known([-1, -1, -1])
        self._waiting: list[Change] = []
        self._taken = 0

    @workflow.run
    async def run(self, known: Known | None = None) -> str | None:
        while True:
            lingers = None if self._known.segment == "hot" else LINGER
            try:
                await workflow.wait_condition(lambda: bool(self._waiting), timeout=lingers)
            except TimeoutError:
                return self._known.segment
            while self._waiting:
                await self._take(self._waiting.pop(0))
            if self._taken >= CHANGES_A_RUN:
                workflow.continue_as_new(self._known)

    @workflow.signal
    def changed(self, change: Change) -> None:
        self._waiting.append(change)

    @workflow.query
    def segment(self) -> str | None:
        return self._known.segment

    async def _take(self, change: Change) -> None:
        self._taken += 1
        if change.order <= self._known.order:
            return  # it came twice, or after a later one
        turned_hot = change.segment == "hot" and self._known.segment != "hot"
        self._known = Known(change.order, change.segment)
        if turned_hot:
            await workflow.execute_activity(call_them, change, start_to_close_timeout=timedelta(minutes=1))
