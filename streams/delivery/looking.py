"""What people ask about deliveries, and what they want done: read from Redis, and left there for who delivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import MsgspecError
from rich.table import Table
from rich.text import Text

from rules.changes import iso
from rules.contract import read
from streams.connecting import kafka_options
from streams.consuming import ANSWER_WITHIN_S, end_offset, first_offset
from streams.delivery.queue import Change, How, Waiting
from streams.delivery.store import ASKED_AT_MOST, DeliveryStore, Record
from streams.delivery.wanting import change_of
from streams.letters import safe
from streams.settings import Settings
from streams.store.redis import connect
from streams.subscribe import Received
from streams.topics import CHANGES

FAILED = (How.GIVEN_UP,)


@asynccontextmanager
async def stores(settings: Settings, names: Sequence[str]) -> AsyncIterator[dict[str, DeliveryStore]]:
    redis = connect(settings)
    try:
        yield {name: DeliveryStore(redis, settings.namespace, name) for name in names}
    finally:
        await redis.aclose()


async def listed(settings: Settings, names: Sequence[str], failed: bool, limit: int) -> list[dict[str, Any]]:
    """What waits for another attempt, the next one first, and then what is done with, the newest first."""
    async with stores(settings, names) as found:
        waiting = [(name, each) for name, s in found.items() for each in await s.waiting(settings.partitions)]
        hows = FAILED if failed else tuple(How)
        records = [(name, each) for name, s in found.items() for each in await s.records(hows, limit)]
    waiting.sort(key=lambda pair: pair[1].due)
    records.sort(key=lambda pair: pair[1].at, reverse=True)
    told = [plain(name, each) for name, each in waiting] + [plain(name, each) for name, each in records]
    return told[:limit]


async def shown(settings: Settings, names: Sequence[str], id: str) -> list[dict[str, Any]]:
    """The delivery of a change to each endpoint that knows of it."""
    async with stores(settings, names) as found:
        known = [(name, await store.find(id, settings.partitions)) for name, store in found.items()]
    return [plain(name, each) for name, each in known if each is not None]


async def standing(settings: Settings, kinds: Mapping[str, str]) -> list[dict[str, Any]]:
    """How each endpoint stands; `kinds` by name."""
    told = []
    async with stores(settings, tuple(kinds)) as found:
        for name, store in found.items():
            status, counts = await store.status(), await store.counts(settings.partitions)
            instants = {
                "failing_since": status.since, "last_success": status.succeeded, "disabled_at": status.disabled,
            }  # fmt: skip
            told.append(
                {"endpoint": name, "kind": kinds[name], "state": status.state}
                | {key: iso(at) if at else None for key, at in instants.items()}
                | {"why": status.why or None, "missed": status.missed or None}
                | {f"{what}": count for what, count in counts.items()}
            )
    return told


async def enable(settings: Settings, name: str) -> bool:
    """Whether it was disabled."""
    async with stores(settings, (name,)) as found:
        return await found[name].enable()


async def retry(settings: Settings, names: Sequence[str], ids: Sequence[str]) -> tuple[int, dict[str, str]]:
    """Asks for these deliveries to be made at once; how many, and of each that cannot be, why.

    What was delivered is sent again only to an endpoint that is named alone.
    """
    problems, asked = dict[str, str](), 0
    async with stores(settings, names) as found:
        for id in ids:
            known = [(store, await store.find(id, settings.partitions)) for store in found.values()]
            wanted = [(store, each) for store, each in known if _may_retry(each, alone=len(names) == 1)]
            if not wanted:
                problems[id] = "no endpoint has a failed delivery of it"
            for store, each in wanted:
                change = await _change(settings, each)
                if change is None:
                    problems[id] = "Kafka does not have the change any more"
                elif (await store.status()).asked >= ASKED_AT_MOST:
                    problems[id] = f"{ASKED_AT_MOST:,} are asked for already: try again when they are made"
                else:
                    await store.ask([change])
                    asked += 1
    return asked, problems


def _may_retry(known: Waiting | Record | None, alone: bool) -> bool:
    match known:
        case Waiting():
            return True
        case Record(how=how):
            return alone or how != How.DELIVERED
    return False


async def _change(settings: Settings, known: Waiting | Record | None) -> Change | None:
    """The change itself; of what is done with only its place is kept."""
    if not isinstance(known, Record):
        return known.change if known is not None else None
    place = TopicPartition(settings.topics(CHANGES), known.partition)
    async with _reading(settings, [place]) as consumer:
        message = await _message(consumer, place, known.offset)
    if message is None or message.offset != known.offset:
        return None
    try:
        event = read(message.value)
    except (MsgspecError, KeyError, TypeError):
        return None
    received = Received(event, None, message.value, known.partition, known.offset)
    return change_of(event, received) if event.id == known.id else None


async def replay(settings: Settings, name: str, since: int) -> dict[int, int]:
    """Asks for all changes published since then to be delivered again; the offsets, by partition."""
    topic = settings.topics(CHANGES)
    places = [TopicPartition(topic, number) for number in range(settings.partitions)]
    async with _reading(settings, places) as consumer:
        offsets = {place.partition: await _offset_at(consumer, settings, place, since) for place in places}
    async with stores(settings, (name,)) as found:
        await found[name].ask_again(offsets)
    return offsets


@asynccontextmanager
async def _reading(settings: Settings, places: list[TopicPartition]) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(
        **kafka_options(settings), enable_auto_commit=False, fetch_max_wait_ms=settings.fetch_max_wait_ms
    )
    await consumer.start()
    try:
        consumer.assign(places)
        yield consumer
    finally:
        await consumer.stop()


async def _offset_at(consumer: Any, settings: Settings, place: TopicPartition, since: int) -> int:
    """The first offset whose message was published at `since` or later. Looked for by halves: the embedded broker
    answers wrongly when asked."""
    low, high = await first_offset(consumer, settings, place), await end_offset(consumer, settings, place)
    while low < high:
        middle = (low + high) // 2
        message = await _message(consumer, place, middle)
        if message is None or message.timestamp >= since:
            high = middle
        else:
            low = int(message.offset) + 1
    return low


async def _message(consumer: Any, place: TopicPartition, offset: int) -> Any:
    """The message at an offset, or the next one; None when there is none."""
    consumer.seek(place, offset)
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await consumer.getone(place)
    except TimeoutError:
        return None


# -- for programs and for people ----------------------------------------------------------------------------


def plain(endpoint: str, known: Waiting | Record) -> dict[str, Any]:
    if isinstance(known, Waiting):
        change, attempts = known.change, [(a.at, a.took, a.status, a.why) for a in known.attempts]
        what = {
            "state": "waiting",
            "reason": attempts[-1][3] if attempts else None,
            "next_attempt": iso(known.due),
        }
        about, id, account = change.about, change.id, change.account
        place = change.partition, change.offset
    else:
        attempts, about, id, account = known.attempts, known.about, known.id, known.account
        what = {"state": known.how, "reason": known.reason or None, "at": iso(known.at)}
        place = known.partition, known.offset
    return {
        "id": id,
        "endpoint": endpoint,
        "account": account,
        "change": about,
        **what,
        "attempts": [
            {"at": iso(at), "ms": took, "status": status or None, "why": why or None}
            for at, took, status, why in attempts
        ],
        "place": f"{CHANGES}/{place[0]}/{place[1]}",
    }


def deliveries_table(told: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("id", "endpoint", "account", "change", "state", "tried", "when", "why", box=None, pad_edge=False)
    for each in told:
        when = each.get("next_attempt") or each.get("at") or ""
        names = (each["id"], each["endpoint"], each["account"], each["change"], each["state"])
        cells = (*names, str(len(each["attempts"])), when, each["reason"] or "")
        table.add_row(*(Text(safe(cell, keep="")) for cell in cells))
    return table


def delivery_lines(each: Mapping[str, Any]) -> Iterator[str]:
    yield safe(f"{each['id']} to {each['endpoint']}: {each['state']}", keep="")
    for name in ("account", "change", "reason", "at", "next_attempt", "place"):
        if each.get(name):
            yield safe(f"  {name.replace('_', ' ')}: {each[name]}", keep="")
    for attempt in each["attempts"]:
        answer = attempt["status"] or "no answer"
        why = f", {attempt['why']}" if attempt["why"] else ""
        yield safe(f"  {attempt['at']}  {answer} after {attempt['ms']} ms{why}", keep="")


def endpoints_table(told: Sequence[Mapping[str, Any]]) -> Table:
    names = ("endpoint", "kind", "state", "waiting", "delivered", "given_up", "superseded", "last_success", "why")
    table = Table(*(name.replace("_", " ") for name in names), box=None, pad_edge=False)
    for each in told:
        table.add_row(*(Text(safe(_cell(each, name), keep="")) for name in names))
    return table


def _cell(each: Mapping[str, Any], name: str) -> str:
    if name == "why":
        since = f"nothing arrives since {each['failing_since']}" if each["state"] == "failing" else ""
        missed = f"never delivered, gone from Kafka: {each['missed']}" if each["missed"] else ""
        return "; ".join(filter(None, (each["why"] or since, missed)))
    return "" if each[name] is None else str(each[name])
