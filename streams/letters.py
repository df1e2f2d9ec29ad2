"""Dead letters: which are open, what is in them, sending them in once more, and forgetting them.

A letter is a message of `dead.letters`: the bytes that could not be used, under the place where they stood
(`crm.updates/3/1042`; `#1`, `#2` … for further refused parts of one message). A message with that key and no value
says that the letter is settled. So the open letters are what is left after reading the topic from its beginning to
where it ends now.

What is kept in memory of a letter is everything but its value, which may be 8 MB: whoever needs values reads the
topic again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from rich.table import Table
from rich.text import Text

from rules.changes import iso
from streams.connecting import kafka_options
from streams.playback import up_to_its_end
from streams.settings import Settings
from streams.topics import DEAD_LETTERS, LARGEST_MESSAGE, SOURCES

OURS = ("stage", "reason", "detail", "source")  # headers of the letter; all others are the message's own
REPLAY_OF = "replay-of"
QUARANTINED = "quarantined"  # a record of the log that was not folded: it is sent into the log again
BATCH, BATCH_BYTES = 500, 8 * 1024 * 1024

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Letter:
    """An open letter without its value. `when` is when it was written, UTC ms; `size` of the value in bytes."""

    key: str
    partition: int
    offset: int
    when: int
    size: int
    headers: Headers

    def said(self, name: str) -> str:
        """A header as text; the first of that name, because a message's own stand after ours."""
        return next((value.decode(errors="replace") for each, value in self.headers if each == name), "")

    @property
    def place(self) -> str:
        """Where the message stood. Letters of one message share it."""
        return self.said("source") or self.key

    @property
    def topic(self) -> str:
        """The role of the topic that the message stood in."""
        return self.place.partition("/")[0]

    @property
    def own_headers(self) -> Headers:
        """Those that the message came with."""
        left, own = set(OURS), []
        for name, value in self.headers:
            if name in left:
                left.remove(name)
            else:
                own.append((name, value))
        return tuple(own)

    @property
    def unreplayable(self) -> str:
        """Why it cannot be sent in again; "" if it can."""
        topic, _, rest = self.place.partition("/")
        partition = rest.partition("/")[0]
        if topic in SOURCES and partition.isdecimal():
            return ""
        if self.said("reason") == QUARANTINED:
            return ""
        if topic == "account.log" or self.said("stage") == "fold":
            return "it stood in account.log, where only the router writes: send in again what it was made from"
        return f"it came from {topic or 'nowhere'}, which is no source ({', '.join(SOURCES)})"

    def plain(self) -> dict[str, Any]:
        """For programs, and for lists."""
        named = {name: self.said(name) for name in OURS}
        return {"key": self.key, **named, "source": self.place, "when": iso(self.when), "size": self.size}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are meant; what is empty leaves nothing out. `since` is UTC ms."""

    reason: str = ""
    source: str = ""
    since: int = 0

    def __call__(self, letter: Letter) -> bool:
        return (
            self.reason in ("", letter.said("reason"))
            and self.source in ("", letter.topic)
            and letter.when >= self.since
        )


async def open_letters(
    settings: Settings, has: Callable[[Any], bool] = lambda message: True, most: int = 0
) -> list[Letter]:
    """The open letters, newest last; `has` sees each as a Kafka message with its value and may leave it out.
    With `most`, the newest so many: no more than twice that are held in memory.

    Raises TopicsError when there is no such topic, KafkaError when the broker is away.
    """
    found: dict[str, Letter] = {}
    async with aclosing(up_to_its_end(settings, DEAD_LETTERS)) as messages:
        async for message in messages:
            key = _key(message)
            found.pop(key, None)
            if message.value is not None and has(message):
                found[key] = _letter(key, message)
            if most and len(found) > 2 * most:
                found = {each.key: each for each in _in_order(found.values())[-most:]}
    return _in_order(found.values())[-most:]


def _in_order(letters: Iterable[Letter]) -> list[Letter]:
    return sorted(letters, key=lambda letter: (letter.when, letter.partition, letter.offset))


async def count_open(settings: Settings, most: int) -> int:
    """How many letters are open, as far as `most`: whoever only counts keeps no more than that in memory."""
    found: set[str] = set()
    async with aclosing(up_to_its_end(settings, DEAD_LETTERS)) as messages:
        async for message in messages:
            if message.value is None:
                found.discard(_key(message))
            elif len(found) < most:
                found.add(_key(message))
    return len(found)


def _letter(key: str, message: Any) -> Letter:
    headers = tuple((name, value or b"") for name, value in message.headers)
    return Letter(key, message.partition, message.offset, message.timestamp, len(message.value), headers)


def _key(message: Any) -> str:
    """Letters of earlier builds have no key; they go by their own position."""
    if message.key:
        return str(message.key.decode(errors="replace"))
    return f"{DEAD_LETTERS}/{message.partition}/{message.offset}"


async def find(settings: Settings, key: str) -> tuple[Letter, bytes] | None:
    """The open letter with this key, and its value."""
    values: dict[int, bytes] = {}

    def has(message: Any) -> bool:
        if _key(message) != key:
            return False
        values[0] = message.value
        return True

    found = await open_letters(settings, has)
    return (found[0], values[0]) if found else None


async def forget(settings: Settings, needles: Sequence[bytes]) -> int:
    """Settles each open letter in whose value, or in whose headers, one of `needles` occurs; gives how many.

    Compaction then removes their bytes from the broker. Empty needles are passed over. To call it again does no
    harm.
    """
    sought = [needle for needle in needles if needle]

    def has(message: Any) -> bool:
        texts = [message.value, *(value or b"" for _, value in message.headers)]
        return any(needle in text for needle in sought for text in texts)

    found = await open_letters(settings, has) if sought else []
    if found:
        async with _producer(settings) as producer:
            await _settle(producer, settings, found)
    return len(found)


async def replay(
    settings: Settings, letters: Iterable[Letter], reached: Callable[[str], None] = lambda step: None
) -> int:
    """Sends the messages of open `letters` to their source topics again, then settles the letters; gives how many.

    A message goes to the partition in which it stood, with its own headers and `replay-of`, of which the router
    makes ids: what is sent twice, because we ended in between, counts once. All of `letters` can be replayed (see
    `unreplayable`), and with a letter come those of the same message. `reached` is told of each step: tests stop
    there.
    """
    groups: dict[str, list[Letter]] = {}
    for letter in letters:
        groups.setdefault(letter.place, []).append(letter)
    heads = {(group[0].partition, group[0].offset): group for group in groups.values()}
    done, batch, held = 0, list[tuple[list[Letter], bytes]](), 0
    async with _producer(settings) as producer, aclosing(up_to_its_end(settings, DEAD_LETTERS)) as messages:
        async for message in messages:
            group = heads.get((message.partition, message.offset))
            if group is None or message.value is None:
                continue
            batch.append((group, message.value))
            held += len(message.value)
            if len(batch) >= BATCH or held >= BATCH_BYTES:
                done += await _replay_batch(producer, settings, batch, reached)
                batch, held = [], 0
        return done + await _replay_batch(producer, settings, batch, reached)


def with_siblings(chosen: Iterable[Letter], everyone: Iterable[Letter]) -> list[Letter]:
    """`chosen` and the open letters of the same messages: a message is sent in again as a whole."""
    places = {letter.place for letter in chosen}
    return [letter for letter in everyone if letter.place in places]


async def _replay_batch(
    producer: Any, settings: Settings, batch: Sequence[tuple[list[Letter], bytes]], reached: Callable[[str], None]
) -> int:
    sent = []
    for (letter, *_), value in batch:
        topic, partition = letter.place.split("/")[:2]
        headers = list(letter.own_headers)
        # What is refused again keeps its first name: both copies of a message sent twice have the same.
        if REPLAY_OF not in dict(headers):
            headers.append((REPLAY_OF, letter.place.encode()))
        name = settings.topics(topic)
        # A tombstone that was refused is a letter without bytes.
        sent.append(await producer.send(name, value or None, partition=int(partition), headers=headers))
    await asyncio.gather(*sent)
    reached("produced")
    letters = [letter for group, _ in batch for letter in group]
    await _settle(producer, settings, letters)
    reached("settled")
    return len(letters)


async def _settle(producer: Any, settings: Settings, letters: Iterable[Letter]) -> None:
    """Into the partition of the letter itself: compaction knows only what stands in one partition."""
    topic = settings.topics(DEAD_LETTERS)
    sent = [
        await producer.send(topic, None, key=letter.key.encode(), partition=letter.partition) for letter in letters
    ]
    await asyncio.gather(*sent)


@asynccontextmanager
async def _producer(settings: Settings) -> AsyncIterator[Any]:
    producer = AIOKafkaProducer(
        **kafka_options(settings),
        acks="all",
        enable_idempotence=settings.idempotence,
        max_request_size=2 * LARGEST_MESSAGE,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


# -- for people ----------------------------------------------------------------------------------------------


def letters_table(letters: Iterable[Letter]) -> Table:
    table = Table("letter", "when", "reason", "bytes", "detail", box=None, pad_edge=False)
    table.columns[3].justify = "right"
    for each in letters:
        cells = (each.key, iso(each.when), each.said("reason"), f"{each.size:,}", each.said("detail")[:200])
        table.add_row(*(Text(safe(cell, keep="")) for cell in cells))
    return table


def letter_lines(letter: Letter, value: bytes) -> Iterator[str]:
    plain = letter.plain()
    for name in ("key", "source", "stage", "reason", "detail", "when"):
        yield safe(f"{name}: {plain[name]}", keep="")
    for name, said in letter.own_headers:
        yield safe(f"header {name}: {said.decode(errors='backslashreplace')}", keep="")
    yield f"value, {letter.size:,} bytes:"
    yield pretty(value)


def safe(text: str, keep: str = "\n") -> str:
    """The text without what moves a cursor or turns the reading direction: such characters are written out."""
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode() for each in text
    )


def pretty(value: bytes) -> str:
    """The value for a terminal: JSON indented, anything else as text; bytes that are no text written out."""
    with suppress(msgspec.MsgspecError, RecursionError, UnicodeError):
        value = msgspec.json.format(value, indent=2)
    return safe(value.decode(errors="backslashreplace"))
