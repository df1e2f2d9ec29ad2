"""What an endpoint wants of the changes it reads, beyond what a subscription's filter can say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET

from rules.contract import ENTERED, Crossed, Event, Moved, State
from streams.delivery.queue import EVERYTHING, Change
from streams.keys import PartitionKeys
from streams.producer import partition_of
from streams.settings import Settings
from streams.store.base import unpack_state
from streams.subscribe import Received


def change_of(event: Event[Any], received: Received) -> Change:
    data = event.data
    dimension = EVERYTHING if isinstance(data, State) else data.dimension
    order, place = data.position.order, received.partition
    return Change(
        event.id, data.account, dimension, order, place, received.offset, received.raw, about(data, event)
    )


def about(data: Moved | Crossed | State, event: Event[Any]) -> str:
    """The change in a few words, for lists."""
    match data:
        case Moved():
            return f"{data.dimension}: {data.before or 'none'} → {data.after or 'none'}"
        case Crossed():
            return f"{data.dimension}: {'entered' if event.type == ENTERED else 'left'} {data.segment}"
        case State():
            if data.deleted is not UNSET:
                return "deleted"
            if data.merged_into is not UNSET:
                return f"merged into {data.merged_into}"
            return f"where it stands in {len(data.memberships)} dimensions"


class Facts:
    """The facts of accounts as the fold has them now: with what is asked for, an account that has them is meant.

    Of an account that is gone nobody can ask any more; whoever may have been told of it hears that.
    """

    def __init__(self, redis: Any, settings: Settings) -> None:
        self._redis, self._settings = redis, settings

    async def wanted(self, events: Sequence[Event[Any]], facts: Mapping[str, tuple[Any, ...]]) -> list[bool]:
        """Raises what an absent Redis raises."""
        if not facts:
            return [True] * len(events)
        known = await self._known({each.data.account for each in events})
        return [_is_gone(each.data) or _has(known[each.data.account], facts) for each in events]

    async def _known(self, accounts: set[str]) -> dict[str, Mapping[str, Any]]:
        names, settings = sorted(accounts), self._settings
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                partition = partition_of(name, settings.partitions)
                pipe.hget(PartitionKeys.of(partition, settings.partitions, settings.namespace).accounts, name)
            blobs = await pipe.execute()
        return {name: _facts(blob) for name, blob in zip(names, blobs, strict=True)}


def _facts(blob: bytes | None) -> Mapping[str, Any]:
    return {} if blob is None else {name: fact.value for name, fact in unpack_state(blob).facts.items()}


def _is_gone(data: Any) -> bool:
    return isinstance(data, State) and (data.deleted is not UNSET or data.merged_into is not UNSET)


def _has(known: Mapping[str, Any], facts: Mapping[str, tuple[Any, ...]]) -> bool:
    return all(any(_same(known.get(name), each) for each in values) for name, values in facts.items())


def _same(value: Any, wanted: Any) -> bool:
    """A list has what it holds. `true` is no 1."""
    if isinstance(value, list | tuple):
        return any(_same(each, wanted) for each in value)
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)
