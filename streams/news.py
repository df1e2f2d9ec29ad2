"""What a subscriber wants of the changes, which of them are news, and which are settled. Pure, and bounded.

A change may be published twice: by a publisher that died before it had noted what it published, and by its
successor. So a partition's messages are in the order of the log, and now and then some of them are told again,
in the same order. Who keeps the highest position of each account knows these again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from msgspec import UNSET

from rules.contract import Answer, Crossed, Event, Memberships, Moved, State

Order: TypeAlias = tuple[int, int, int]  # (epoch, offset, n)
NOTHING: Order = (-1, -1, -1)
ACCOUNTS = 4_096  # of a partition, of which the last position is known


@dataclass(frozen=True, slots=True)
class Filter:
    """What is wanted; of what is left empty, anything. A segment is written `engagement/hot`.

    A move is wanted by the segment that it leaves as well as by the one that it goes to. A full state is wanted
    when one of its memberships is, and also when it may end one: an account that is gone, or a rebuild's
    correction of what was said before.
    """

    types: tuple[str, ...] = ()
    dimensions: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()

    def wants(self, event: Event[Any]) -> bool:
        data = event.data
        return (
            _among(event.type, self.types)
            and _among(data.account, self.accounts)
            and _among(data.owner, self.owners)
            and _among(data.origin, self.origins)
            and self._wants_place(data)
        )

    def wants_memberships(self, held: Memberships) -> bool:
        """By account, dimension and segment: of where an account stands, nobody says who owns it or whence."""
        if not _among(held.account, self.accounts):
            return False
        return self._any_answer(held.memberships)

    def _wants_place(self, data: Moved | Crossed | State) -> bool:
        match data:
            case Moved():
                return self._any_place((data.dimension, each or "") for each in (data.before, data.after))
            case Crossed():
                return self._any_place(iter([(data.dimension, data.segment)]))
            case State():
                ends = data.deleted is not UNSET or data.merged_into is not UNSET or data.origin == "rebuild"
                return ends or self._any_answer({name: each.answer for name, each in data.memberships.items()})

    def _any_answer(self, memberships: Mapping[str, Answer]) -> bool:
        """In a dimension any answer is wanted, also none: it may be that the account was in a segment before."""
        if not self.segments:
            return not self.dimensions or any(name in self.dimensions for name in memberships)
        return self._any_place(_places(memberships))

    def _any_place(self, places: Iterator[tuple[str, str]]) -> bool:
        if not (self.dimensions or self.segments):
            return True
        return any(
            _among(dimension, self.dimensions) and _among(f"{dimension}/{segment}", self.segments)
            for dimension, segment in places
        )


def _among(value: str, wanted: tuple[str, ...]) -> bool:
    return not wanted or value in wanted


def _places(memberships: Mapping[str, Answer]) -> Iterator[tuple[str, str]]:
    for dimension, answer in memberships.items():
        for segment in [answer] if isinstance(answer, str) else answer or ():
            yield dimension, segment


@dataclass(slots=True)
class _Seen:
    """Of one partition: the highest position of each account, for the accounts seen last.

    Of accounts that have been forgotten nothing up to `floor` is news: they were forgotten oldest first.
    """

    most: int
    floor: Order = NOTHING
    accounts: OrderedDict[str, Order] = field(default_factory=OrderedDict)

    def is_news(self, account: str, order: Order) -> bool:
        if order <= max(self.floor, self.accounts.get(account, NOTHING)):
            return False
        self.accounts[account] = order
        self.accounts.move_to_end(account)
        if len(self.accounts) > self.most:
            _, oldest = self.accounts.popitem(last=False)
            self.floor = max(self.floor, oldest)
        return True


class Newest:
    """Drops what is not newer than what was seen of its account, in whichever dimension: an account's changes are
    published in order, so all that is older had been told before that."""

    def __init__(self, accounts: int = ACCOUNTS) -> None:
        """`accounts`: so many of each partition are remembered one by one."""
        self._accounts = accounts
        self._partitions: dict[int, _Seen] = {}

    def is_news(self, event: Event[Any]) -> bool:
        at = event.data.position
        return self._seen(at.partition).is_news(event.data.account, at.order)

    def knows_up_to(self, partition: int, order: Order) -> None:
        """Nothing of the partition up to `order` is news."""
        seen = self._seen(partition)
        seen.floor = max(seen.floor, order)

    def forget(self, partition: int) -> None:
        self._partitions.pop(partition, None)

    def _seen(self, partition: int) -> _Seen:
        seen = self._partitions.get(partition)
        if seen is None:
            seen = self._partitions[partition] = _Seen(self._accounts)
        return seen


class Settling:
    """Up to where a partition is settled, when things are settled in any order.

    Memberships come before changes: while one of them is not settled there is no offset to go on from.
    """

    def __init__(self, start: int) -> None:
        """`start`: the offset of the first change."""
        self.next = start  # behind all that was given out or passed over
        self._waiting: OrderedDict[tuple[bool, int], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def given_memberships(self, offset: int) -> None:
        self._waiting[False, offset] = None

    def given(self, offset: int) -> None:
        self._waiting[True, offset] = None

    def reached(self, offset: int) -> None:
        """The change at `offset` is given out, or nobody wants it."""
        self.next = offset + 1

    def settled(self, is_change: bool, offset: int) -> None:
        """What was settled before, or was given out to an earlier owner of the partition, changes nothing."""
        self._waiting.pop((is_change, offset), None)

    @property
    def following(self) -> int | None:
        """The offset of the first change that is not settled; None while memberships are not."""
        if not self._waiting:
            return self.next
        is_change, offset = next(iter(self._waiting))
        return offset if is_change else None
