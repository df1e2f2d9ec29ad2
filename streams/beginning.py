"""Where a subscriber begins that wants to know where all stand, and then every change, without gap or overlap.

The messages of a partition are published in the order of the log, in both topics. `segment.memberships` is read to
its end, and the highest position in it is noted, M. All that was decided up to M is in what was read: so changes
up to M are known, and those behind M are news. In `segment.changes` they stand behind the last message at or
below M; what is published again, by a successor of a publisher that died, comes behind that too and is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from rules.contract import Memberships, read_memberships
from streams.news import NOTHING, Order
from streams.playback import up_to_its_end
from streams.settings import Settings
from streams.told import place_of
from streams.topics import CHANGES, MEMBERSHIPS

log = structlog.get_logger()
LOOK_BACK = 64  # messages, at first
FARTHER = 32


@dataclass(slots=True)
class Standing:
    """Where the accounts of a partition stand, by account, as of `highest`."""

    highest: Order = NOTHING
    of: dict[str, tuple[Memberships, bytes, int]] = field(default_factory=dict)  # with message and offset

    def hears(self, message: Any) -> None:
        if message.value is None:
            self.of.pop(message.key.decode(errors="replace"), None)
            return
        try:
            held = read_memberships(message.value)
        except msgspec.MsgspecError as error:
            log.error("not memberships", partition=message.partition, offset=message.offset, why=str(error))
            return
        self.highest = max(self.highest, held.position.order)
        before = self.of.get(held.account)
        if before is None or before[0].position.order <= held.position.order:
            self.of[held.account] = held, message.value, message.offset


async def standing(settings: Settings, partition: int) -> Standing:
    """Raises TopicsError when there is no such topic, KafkaError when the broker is away."""
    found = Standing()
    async for message in up_to_its_end(settings, MEMBERSHIPS, only=partition):
        found.hears(message)
    return found


async def behind(settings: Settings, partition: int, highest: Order, first: int, end: int) -> int:
    """The offset behind the last change at or below `highest` from `first` on; `first` if all are higher.

    `end` is about where the topic ends; we look back from there.
    """
    back, is_known = LOOK_BACK, _is_up_to(highest)
    while True:
        start, found = max(first, end - back), None
        async for message in up_to_its_end(settings, CHANGES, {partition: start}, partition):
            if is_known(message):
                found = int(message.offset) + 1
        if found is not None or start == first:
            return first if found is None else found
        back *= FARTHER


def _is_up_to(highest: Order) -> Callable[[Any], bool]:
    def is_known(message: Any) -> bool:
        place = place_of(message.value)
        return place is not None and (place.epoch, place.offset, place.n) <= highest

    return is_known
