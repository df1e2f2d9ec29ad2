"""The router's side of Redis: identity links, and for each source partition where it stands.

What a batch taught, its outcome and the position behind it are written at once, if nothing of what was read has
changed since: so a message's account is decided once, and routers that learn about the same people at the same
time do so as if one after the other. The outcome is saved before it is produced, and goes once the broker has it:
whoever takes the partition over in between produces the saved batch again, byte for byte, and goes on behind it;
the fold drops what it has seen.

Changes of links are numbered, so that whoever has seen a later one than Redis has knows that Redis has gone back
(see going_back), though it still stands where it should for the partition at hand. Then links are restored from
their topic: all go, and come again. As long as that lasts nothing is saved or settled, by anyone; who does it and
stops is followed by another.

A link stands under ten bytes that its key is hashed to: two tell which of the packed hashes, eight the field in
it. All is in one slot of a cluster, for one script writes it.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams import keys
from streams.store.base import Outbound, new_token, pack_outbox, unpack_outbox

_SAVE = Path(__file__).with_name("route.lua").read_text()
_LINKS = Path(__file__).with_name("links.lua").read_text()
_HOLDING = Path(__file__).with_name("holding.lua").read_text()
_SETTLE = Path(__file__).with_name("settle.lua").read_text()
_AGAIN = Path(__file__).with_name("again.lua").read_text()
_RELINK = Path(__file__).with_name("relink.lua").read_text()
_RESTORE = Path(__file__).with_name("restore.lua").read_text()
BUCKETS = 1 << 16
LOOKED_THROUGH = 512  # buckets that one call looks through
CONFLICTS_KEPT = 1_000
REMEMBERED = 256  # changes


class GoneBackError(RedisError):
    """Redis does not hold what it held, or its links are being restored: take the partition over once more."""


@lru_cache(262_144)
def link_digest(key: str) -> bytes:
    """Ten bytes of a digest that scripts can work out too; the keys themselves tell nothing of persons."""
    return sha1(key.encode(), usedforsecurity=False).digest()[:10]


def link_id(key: str) -> str:
    """The link's key in `identity.links`."""
    return as_text(link_digest(key))


def as_text(digest: bytes) -> str:
    return urlsafe_b64encode(digest).decode().rstrip("=")


def as_digest(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number_of(change: bytes) -> int:
    return int(change.partition(b"-")[0] or 0)


class Aftermath(NamedTuple):
    """What is left to be made good of a source partition since Redis lost something.

    `redone` counts the batches that were in doubt and have been routed once more. `wary` is the number of
    messages, from here on, of which links may tell more than the log: they may have been saved, and lost.
    """

    redone: int = 0
    wary: int = 0


NO_LOSS = Aftermath()


@dataclass(frozen=True, slots=True)
class SourceHeld:
    """A source partition as its new owner finds it. `next` None: never read before.

    `last` is what the message before `next` looked like, `incarnation` how often the topic was made anew. `doubt`:
    Redis has gone back, links have been restored, and messages before that are to be compared with the log.
    """

    token: str
    next: int | None
    saved: list[Outbound]
    last: str = ""
    incarnation: int = 0
    paused: str = ""
    doubt: int = 0
    after: Aftermath = NO_LOSS


class Standing(NamedTuple):
    """Where Redis has a source partition. `token` "": nobody took it over, Redis was emptied."""

    token: str
    next: int | None
    incarnation: int
    doubt: int
    redone: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """What is written when a batch has been routed: from `expected` to `following`, and what was learned."""

    expected: int
    following: int
    last: str
    outbound: Sequence[Outbound]
    asked: Collection[str]  # the links that were looked for
    read: Mapping[str, str]  # those that were there
    learned: Mapping[str, str]
    forgotten: Sequence[bytes] = ()  # digests of links that go
    conflicts: Mapping[str, str] | None = None  # domain -> who claims it beside whom
    paused: str = ""  # why nothing is to be read behind this batch until somebody has looked
    as_of: bytes = b"unknown"  # the last change when links were first read: they hold until a later one
    begun: bool = False  # something of the partition has been saved before: where nothing is, Redis has gone back
    after: Aftermath = NO_LOSS  # as it is behind this batch

    def looked_at(self) -> tuple[bytes, str]:
        """The digests of the links that were looked for, and a sum over what they were."""
        asked = list(self.asked)
        what = "\0".join([self.read.get(name, "") for name in asked]).encode()
        return b"".join(map(link_digest, asked)), sha1(what, usedforsecurity=False).hexdigest()


class SourceStore:
    def __init__(self, redis: Redis, namespace: str = keys.NAMESPACE) -> None:
        self._redis: Any = redis
        self._namespace = namespace
        self._save = self._redis.register_script(_SAVE)
        self._links = self._redis.register_script(_LINKS)
        self._holding = self._redis.register_script(_HOLDING)
        self._settle = self._redis.register_script(_SETTLE)
        self._again = self._redis.register_script(_AGAIN)
        # By the change before: what this process changed next. Its partitions need not ask Redis about each other.
        self._changes: dict[bytes, tuple[bytes, frozenset[bytes]]] = {}
        self._seen = 0  # the highest number of a change
        self._relink = self._redis.register_script(_RELINK)
        self._restore = self._redis.register_script(_RESTORE)

    async def acquire(self, topic: str, partition: int) -> SourceHeld:
        """Becomes the owner."""
        return await self._held(topic, partition, new_token())

    async def look(self, topic: str, partition: int) -> SourceHeld:
        """As `acquire`, but everybody stays what they are."""
        return await self._held(topic, partition, "")

    async def _held(self, topic: str, partition: int, token: str) -> SourceHeld:
        key = keys.source(topic, partition, self._namespace)
        async with self._redis.pipeline(transaction=True) as pipe:
            if token:
                pipe.hset(key, "token", token)
            pipe.hmget(key, "next", "batch", "last", "incarnation", "paused", "doubt", "redone", "wary")
            *_, (following, batch, last, incarnation, paused, doubt, redone, wary) = await pipe.execute()
        return SourceHeld(
            token,
            None if following is None else int(following),
            unpack_outbox(batch) if batch else [],
            last.decode() if last else "",
            int(incarnation or 0),
            paused.decode() if paused else "",
            int(doubt or 0),
            Aftermath(int(redone or 0), int(wary or 0)),
        )

    async def standings(self, places: Sequence[tuple[str, int]]) -> list[Standing]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for topic, partition in places:
                key = keys.source(topic, partition, self._namespace)
                pipe.hmget(key, "token", "next", "incarnation", "doubt", "redone")
            found = await pipe.execute()
        return [
            Standing(
                (token or b"").decode(),
                None if next is None else int(next),
                *(int(each or 0) for each in (again, doubt, redone)),
            )
            for token, next, again, doubt, redone in found
        ]

    async def changes(self) -> int:
        """The number of the last change of a link."""
        return number_of(await self._redis.get(keys.changed(self._namespace)) or b"")

    def expect(self, changes: int) -> None:
        """Redis has been found to hold what it should as of that change; it may have gone back since."""
        self._seen = changes

    # -- links that Redis has lost -----------------------------------------------------------------------------

    async def restoring(self) -> tuple[str, int] | None:
        """Who restores links now, and how far that is."""
        token, done = await self._redis.hmget(keys.restoring(self._namespace), "token", "done")
        return (token.decode(), int(done)) if token else None

    async def begin_restoring(self, instead_of: str = "") -> str:
        """Holds everybody up, and gives the token to restore links with. Raises GoneBackError where another than
        `instead_of` is at it."""
        token = new_token()
        await self._restoring("begin", token, instead_of)
        return token

    async def forget_links(self, token: str) -> None:
        for start in range(0, BUCKETS, LOOKED_THROUGH):
            await self._restoring("forget", token, start, start + LOOKED_THROUGH)

    async def restore_links(self, token: str, links: Iterable[tuple[str, bytes | None]]) -> None:
        """`links` by their keys in `identity.links`; later ones replace earlier ones, None takes them away."""
        told: list[str | bytes] = []
        for key, link in links:
            told += (as_digest(key), link or b"")
        await self._restoring("links", token, *told)

    async def end_restoring(
        self, token: str, doubts: Mapping[tuple[str, int], tuple[int, int, int] | None], wary: int = 0
    ) -> None:
        """Lets everybody go on. Each source partition may have lost a batch of `wary` messages that it had saved
        and not told yet. For those that have gone back it is noted up to where they are in doubt, in which
        incarnation, and how many batches were redone; what they had saved goes. What others have read is read
        again."""
        told: list[str | int] = [wary]
        for (topic, partition), noted in doubts.items():
            told += (keys.source(topic, partition, self._namespace), *(noted or ("", "", "")))
        await self._restoring("end", token, f"{max(self._seen, await self.changes()) + 1}-{new_token()}", *told)

    async def _restoring(self, what: str, token: str, *told: Any) -> None:
        ours = [keys.restoring(self._namespace), keys.changed(self._namespace)]
        if not await self._restore(keys=ours, args=[what, token, keys.links(self._namespace), *told]):
            raise GoneBackError("identity links are being restored by somebody else")

    async def begin_again(self, topic: str, partition: int, token: str, incarnation: int) -> bool:
        """The topic is another one of the same name: it is read from its beginning. False: not ours any more."""
        key = keys.source(topic, partition, self._namespace)
        return bool(await self._again(keys=[key], args=[token, incarnation]))

    async def links(self, wanted: Iterable[str]) -> dict[str, str]:
        """The links that are there, in one round trip."""
        found, _ = await self.read(wanted)
        return found

    async def read(self, wanted: Iterable[str]) -> tuple[dict[str, str], bytes]:
        """The links that are there, and as of which change. Raises GoneBackError if a later one has been seen."""
        names = list(wanted)
        if not names:
            return {}, b""
        digests = b"".join(map(link_digest, names))
        change, seen = keys.changed(self._namespace), self._seen  # others may see more while this is on its way
        as_of, *found = await self._links(keys=[change], args=[keys.links(self._namespace), digests])
        if number_of(as_of) < seen:
            raise GoneBackError(f"links are as of change {number_of(as_of)}, and {seen} was seen")
        self._seen = max(self._seen, number_of(as_of))
        return {name: link.decode() for name, link in zip(names, found, strict=True) if link is not None}, as_of

    async def relink(self, name: str, read: str, link: str) -> bool:
        """Writes `link` in place of `read` (empty: there is none); False if it is something else by now. No batch
        that read the old one is saved after that."""
        told: list[Any] = [keys.links(self._namespace), link_digest(name), read, link, new_token()]
        ours = [keys.changed(self._namespace), keys.restoring(self._namespace)]
        return bool(await self._relink(keys=ours, args=told))

    async def saved(self) -> dict[bytes, bytes]:
        """Source partitions with a batch that is decided and perhaps not in the log yet, and where they stand."""
        found: dict[bytes, bytes] = {}
        every = keys.source("*", 0, self._namespace).removesuffix("0") + "*"
        async for key in self._redis.scan_iter(every, count=1000):
            batch, following = await self._redis.hmget(key, "batch", "next")
            if batch:
                found[key] = following
        return found

    async def save(self, topic: str, partition: int, token: str, batch: Batch) -> str:
        """`OK`, or why nothing was written: `FENCED` (somebody else owns it), `MOVED` (it stands elsewhere, nobody
        owns it, links are being restored, or Redis has gone back), `CHANGED` (what was read of the links is not
        true any more)."""
        conflicts = batch.conflicts or {}
        changes = frozenset([*map(link_digest, batch.learned), *batch.forgotten])
        if (as_of := self._later(batch)) is None:
            self._changes.clear()  # Redis may have gone back behind what is remembered: it is asked next time
            return "CHANGED"
        told: list[Any] = [
            token, batch.expected, batch.following, pack_outbox(batch.outbound), batch.last, batch.paused,
            keys.links(self._namespace), keys.conflicts(self._namespace), CONFLICTS_KEPT,
            as_of, b"", b"", new_token(), int(batch.begun), len(conflicts), self._seen, *batch.after,
        ]  # fmt: skip
        for domain, claims in conflicts.items():
            told += (domain, claims)
        for name, link in batch.learned.items():
            told += (link_digest(name), link)
        for digest in batch.forgotten:
            told += (digest, "")
        places = [
            keys.source(topic, partition, self._namespace),
            keys.changed(self._namespace),
            keys.restoring(self._namespace),
        ]
        status, *change = await self._save(keys=places, args=told)
        if status == b"LATER":  # somebody else's: each link is compared
            told[10:12] = batch.looked_at()
            status, *change = await self._save(keys=places, args=told)
        if changes and change:
            self._remember(change[0], change[1], changes)
        return str(status.decode())

    def _later(self, batch: Batch) -> bytes | None:
        """The last of the changes that this process made one after the other since the batch's links were read;
        None if one was of these links."""
        if not batch.asked:
            return b"*"
        as_of, read = batch.as_of, frozenset[bytes]()
        while (later := self._changes.get(as_of)) is not None:
            as_of, changes = later
            read = read or frozenset(map(link_digest, batch.asked))
            if not changes.isdisjoint(read):
                return None
        return as_of

    def _remember(self, before: bytes, after: bytes, changes: frozenset[bytes]) -> None:
        self._changes[before] = after, changes
        self._seen = max(self._seen, number_of(after))
        if len(self._changes) > REMEMBERED:
            del self._changes[next(iter(self._changes))]

    async def settle(
        self, topic: str, partition: int, token: str, links: Mapping[str, bytes | None], following: int = 0
    ) -> dict[str, bytes | None]:
        """The saved batch up to `following` has been produced, with `links` in it (by their keys in
        `identity.links`).

        Gives those that have changed meanwhile, as they are now, to be produced and settled likewise: routers
        that changed the same link may have produced in another order than they saved, and the last message is the
        one that stays. When there is none, the batch goes; it may name people who ask to be forgotten.
        Raises GoneBackError where Redis does not stand there any more: what it says of links is not the latest.
        """
        told: list[Any] = [token, keys.links(self._namespace), following]
        for key, link in links.items():
            told += (as_digest(key), link or b"")
        places = [keys.source(topic, partition, self._namespace), keys.restoring(self._namespace)]
        stands, *found = await self._settle(keys=places, args=told)
        if not stands:
            raise GoneBackError(f"{topic}/{partition} does not stand at {following} any more")
        changed = iter(found)
        return {as_text(digest): link or None for digest, link in zip(changed, changed, strict=True)}

    async def holding(self, persons: Sequence[str]) -> dict[bytes, str]:
        """All links that lead to one of these people, devices included that lead to a user of theirs, by their
        digests. Reads through all links, twice: for erasures."""
        theirs = await self._look_through([len(persons), *persons])
        return theirs | await self._look_through([0, *(digest.hex() for digest in theirs)])

    async def _look_through(self, what: Sequence[Any]) -> dict[bytes, str]:
        found, name = list[bytes](), keys.links(self._namespace)
        for start in range(0, BUCKETS, LOOKED_THROUGH):
            told = [name, start, start + LOOKED_THROUGH, *what]
            found += await self._holding(keys=[keys.changed(self._namespace)], args=told)
        return {digest: link.decode() for digest, link in zip(found[::2], found[1::2], strict=True)}

    async def paused(self, topic: str, partition: int) -> str:
        """Why a source partition is paused; empty when it is not."""
        why = await self._redis.hget(keys.source(topic, partition, self._namespace), "paused")
        return why.decode() if why else ""

    async def resume(self, topic: str, partition: int) -> bool:
        """Lets it go on; whether it was paused."""
        return bool(await self._redis.hdel(keys.source(topic, partition, self._namespace), "paused"))

    async def conflicts(self) -> dict[str, str]:
        """Domains that several accounts claim: who has it, and who claims it too."""
        found = await self._redis.hgetall(keys.conflicts(self._namespace))
        return {domain.decode(): claims.decode() for domain, claims in sorted(found.items())}
