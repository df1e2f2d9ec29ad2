"""Changes reach real receivers, whatever those do: through a real broker, a real Redis and real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from streams.delivery.policy import DAY, HOUR, MINUTE, SECOND, Policy, ProbePolicy
from streams.delivery.queue import Change, Finished, How, Waiting
from streams.delivery.store import Record
from streams.embedded import Valkey
from streams.sinks.secret import Held
from streams.store.redis import connect
from tests.delivery.conftest import (
    OTHER_SECRET,
    PARTITIONS,
    SECRET,
    START,
    Delivering,
    Receiver,
    VirtualClock,
    down,
    endpoint,
    fine,
    id_of,
    moved,
)

Publish = Callable[..., Awaitable[None]]


async def test_a_change_arrives_as_it_was_published_and_is_signed(
    delivering: Delivering, receiver: Receiver, changes: Publish
) -> None:
    change = moved(1)
    await changes(change)
    await delivering.start(endpoint(receiver))
    (got,) = await receiver.until(1)
    assert got.body == change
    assert got.id == id_of(change)
    assert got.headers["content-type"] == "application/cloudevents+json"
    await delivering.until(lambda: is_recorded(delivering, change))
    record = await delivering.find(id_of(change))
    assert (record.how, record.about) == ("delivered", "engagement: warm → hot")
    assert [status for _, _, status, _ in record.attempts] == [200]


async def is_recorded(delivering: Delivering, change: bytes, name: str = "journeys") -> bool:
    return isinstance(await delivering.find(id_of(change), name), Record)


async def is_waiting(delivering: Delivering, change: bytes, name: str = "journeys") -> bool:
    return isinstance(await delivering.find(id_of(change), name), Waiting)


# -- the schedule -------------------------------------------------------------------------------------------


async def test_the_schedule_is_exact(
    delivering: Delivering, receiver: Receiver, changes: Publish, clock: VirtualClock
) -> None:
    receiver.answers["/journeys"] = down
    change = moved(1)
    await changes(change)
    await delivering.start(endpoint(receiver))
    due = START
    for number, wait in enumerate(Policy().retry.waits, 1):
        await receiver.until(number)
        due += wait
        await clock.sleeps_until(due)
        clock.move_to(due - 1)
        await clock.sleeps_until(due - 1 + SECOND)  # something was due to be looked at, and nothing to be sent
        assert len(receiver.got) == number
        clock.move_to(due)
    await receiver.until(8)
    await delivering.until(lambda: is_recorded(delivering, change))
    record = await delivering.find(id_of(change))
    assert (record.how, record.reason) == ("given_up", "no_more_attempts")
    waits = [5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR]
    assert [at for at, *_ in record.attempts] == [START + sum(waits[:n]) for n in range(8)]
    assert len({(each.id, each.body) for each in receiver.got}) == 1


async def test_a_retry_after_is_honoured(
    delivering: Delivering, receiver: Receiver, changes: Publish, clock: VirtualClock
) -> None:
    async def busy(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503, headers={"Retry-After": "90"})

    receiver.answers["/journeys"] = busy
    await changes(moved(1))
    await delivering.start(endpoint(receiver))
    await receiver.until(1)
    await clock.sleeps_until(START + 90 * SECOND)
    receiver.answers["/journeys"] = fine
    clock.move_to(START + 90 * SECOND)
    await receiver.until(2)


# -- what receivers do --------------------------------------------------------------------------------------


async def redirects(request: web.Request) -> web.StreamResponse:
    return web.Response(status=301, headers={"Location": str(request.url.with_path("/elsewhere"))})


async def hangs(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def drips(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b".")
        await asyncio.sleep(0.05)


async def closes(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def endless_headers(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5_000)))
    await asyncio.Event().wait()
    raise AssertionError


async def long_header(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n")
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize(
    ("answer", "status", "why"),
    [
        (down, 500, "unavailable"),
        (redirects, 301, "redirected"),
        (hangs, 0, "timeout"),
        (drips, 0, "timeout"),
        (closes, 0, "broken"),
        (endless_headers, 0, "broken"),
        (long_header, 0, "broken"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
async def test_what_is_no_2xx_in_time_is_a_failure_and_tried_again(
    delivering: Delivering, receiver: Receiver, changes: Publish, clock: VirtualClock,
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], status: int, why: str,
) -> None:  # fmt: skip
    receiver.answers["/journeys"] = answer
    change = moved(1)
    await changes(change)
    await delivering.start(endpoint(receiver), within_s=5.0)
    await delivering.until(lambda: is_waiting(delivering, change))
    waiting = await delivering.find(id_of(change))
    assert [(each.status, each.why) for each in waiting.attempts] == [(status, why)]
    assert waiting.due == START + 5 * SECOND
    receiver.answers["/journeys"] = fine
    clock.move_to(START + 5 * SECOND)
    await delivering.until(lambda: is_recorded(delivering, change))
    assert {each.path for each in receiver.got} == {"/journeys"}  # nobody was followed anywhere


async def test_of_an_answer_of_a_gigabyte_the_beginning_is_read_and_the_rest_never_sent(
    delivering: Delivering, receiver: Receiver, changes: Publish
) -> None:
    ended, sent = asyncio.Event(), 0

    async def gigabyte(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Length": str(1 << 30)})
        await response.prepare(request)
        try:
            while sent < 1 << 30:
                await response.write(b"x" * (1 << 20))
                sent += 1 << 20
        finally:
            ended.set()
        return response

    receiver.answers["/journeys"] = gigabyte
    change = moved(1)
    await changes(change)
    await delivering.start(endpoint(receiver))
    await delivering.until(lambda: is_recorded(delivering, change))
    async with asyncio.timeout(30):
        await ended.wait()
    assert sent < 1 << 26
    assert (await delivering.find(id_of(change))).how == "delivered"


async def test_an_endpoint_that_hangs_keeps_no_other_waiting(
    delivering: Delivering, receiver: Receiver, changes: Publish
) -> None:
    receiver.answers["/stuck"] = hangs
    await delivering.start(endpoint(receiver, "stuck"))
    await delivering.start(endpoint(receiver, "well"))
    await changes(*(moved(n, f"account-{n}") for n in range(200)))
    await receiver.until(64, "/stuck")
    assert len(await receiver.until(200, "/well")) == 200
    assert len(await receiver.until(64, "/stuck")) == 64  # its window, all of it still under way


# -- order and supersession ---------------------------------------------------------------------------------


async def test_an_accounts_next_change_waits_until_the_one_before_has_arrived(
    delivering: Delivering, receiver: Receiver, changes: Publish
) -> None:
    goes_on = asyncio.Event()
    first, second, other = moved(1), moved(2), moved(3, "globex")

    async def slow(request: web.Request) -> web.StreamResponse:
        if request.headers["webhook-id"] == id_of(first):
            await goes_on.wait()
        return web.Response()

    receiver.answers["/journeys"] = slow
    await changes(first, second, other)
    await delivering.start(endpoint(receiver))
    assert {each.id for each in await receiver.until(2)} == {id_of(first), id_of(other)}
    await delivering.until(lambda: is_recorded(delivering, other))
    assert len(receiver.got) == 2
    goes_on.set()
    assert (await receiver.until(3))[2].id == id_of(second)


async def test_a_failed_delivery_is_superseded_by_the_accounts_newer_change(
    delivering: Delivering, receiver: Receiver, changes: Publish
) -> None:
    receiver.answers["/journeys"] = down
    hot, size, warm = moved(1), moved(2, dimension="size", after="large"), moved(3, after="warm")
    await changes(hot)
    await delivering.start(endpoint(receiver))
    await delivering.until(lambda: is_waiting(delivering, hot))
    receiver.answers["/journeys"] = fine
    await changes(size, warm)
    await delivering.until(lambda: is_recorded(delivering, warm))
    assert (await delivering.find(id_of(hot))).how == "superseded"
    assert [each.id for each in receiver.got] == [id_of(hot), id_of(size), id_of(warm)]


# -- which changes ------------------------------------------------------------------------------------------


async def test_only_live_changes_of_what_is_asked_for_are_delivered(
    delivering: Delivering, receiver: Receiver, changes: Publish
) -> None:
    wanted = moved(4)
    await changes(moved(1, origin="import"), moved(2, dimension="size"), moved(3, owner="marketing"), wanted)
    filter = endpoint(receiver).filter
    only = type(filter)(dimensions=("engagement",), owners=("sales",), origins=filter.origins)
    await delivering.start(endpoint(receiver, filter=only))
    assert [each.id for each in await receiver.until(1)] == [id_of(wanted)]


async def test_two_publishers_of_one_change_are_one_delivery(
    delivering: Delivering, receiver: Receiver, changes: Publish
) -> None:
    await changes(moved(1), moved(1), moved(2))
    await delivering.start(endpoint(receiver))
    assert [each.id for each in await receiver.until(2)] == [id_of(moved(1)), id_of(moved(2))]


# -- secrets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET], ids=["the one before", "the next one"])
async def test_while_a_secret_is_exchanged_either_verifies(
    delivering: Delivering, receiver: Receiver, changes: Publish, secret: str
) -> None:
    receiver.secret = secret
    await changes(moved(1))
    both = Held("env", "TEST_WEBHOOK_SECRET"), Held("env", "TEST_OTHER_SECRET")
    await delivering.start(endpoint(receiver, secrets=both))
    (got,) = await receiver.until(1)
    assert len(got.headers["webhook-signature"].split()) == 2


async def test_a_secret_that_cannot_be_read_sends_nothing_unsigned(
    delivering: Delivering,
    receiver: Receiver,
    changes: Publish,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_WEBHOOK_SECRET", "")
    change = moved(1)
    await changes(change)
    await delivering.start(endpoint(receiver))
    await delivering.until(lambda: is_waiting(delivering, change))
    assert receiver.got == []
    monkeypatch.setenv("TEST_WEBHOOK_SECRET", SECRET)
    clock.move_to(START + 5 * SECOND)
    await receiver.until(1)


# -- an endpoint that is down -------------------------------------------------------------------------------


async def test_while_an_endpoint_fails_one_delivery_probes_it_and_the_rest_waits_in_kafka(
    delivering: Delivering, receiver: Receiver, changes: Publish, clock: VirtualClock
) -> None:
    receiver.answers["/journeys"] = down
    await changes(*(moved(n, f"account-{n}") for n in range(500)))
    made = await delivering.start(endpoint(receiver), Policy(probe=ProbePolicy(failing_after=3)))
    for number, due in enumerate([5 * SECOND, 5 * SECOND + 5 * MINUTE, 5 * SECOND + 35 * MINUTE]):
        await clock.sleeps_until(START + due)
        tried = len(receiver.got)
        assert tried <= 64 + number  # the window was under way when the third had failed
        clock.move_to(START + due)
        await receiver.until(tried + 1)
    assert len(made._at_hand) <= 256
    receiver.answers["/journeys"] = fine
    await clock.sleeps_until(START + 5 * SECOND + 65 * MINUTE)
    clock.move_to(START + 5 * SECOND + 65 * MINUTE)
    await delivering.until(lambda: all_delivered(delivering, 500))


async def all_delivered(delivering: Delivering, count: int, name: str = "journeys") -> bool:
    counts = await delivering.store(name).counts(2)
    return counts["waiting"] == 0 and counts["delivered"] == count


async def test_after_5_days_it_is_disabled_with_an_event_and_enabled_it_goes_on(
    delivering: Delivering, receiver: Receiver, changes: Publish, clock: VirtualClock
) -> None:
    receiver.answers["/journeys"] = down
    first, second = moved(1), moved(2, "globex")
    await changes(first)
    await delivering.start(endpoint(receiver))
    await delivering.until(lambda: is_waiting(delivering, first))
    clock.move_to(START + 5 * SECOND)
    await clock.sleeps_until(START + 5 * SECOND + 5 * MINUTE)
    clock.move_to(START + 5 * DAY)

    async def disabled() -> bool:
        return bool((await delivering.store().status()).disabled)

    await delivering.until(disabled)
    (told,) = map(json.loads, delivering.told)
    assert (told["type"], told["subject"], told["data"]["waiting"]) == ("webhook.disabled", "journeys", 1)
    tried = len(receiver.got)
    await changes(second)
    clock.move_to(START + 6 * DAY)
    await clock.sleeps_until(START + 6 * DAY + SECOND)
    assert len(receiver.got) == tried
    receiver.answers["/journeys"] = fine
    assert await delivering.store().enable()
    clock.move_to(START + 6 * DAY + SECOND)
    await delivering.until(lambda: all_delivered(delivering, 2))


# -- dying --------------------------------------------------------------------------------------------------


async def test_who_dies_before_a_delivery_is_recorded_sends_the_same_again(
    delivering: Delivering, receiver: Receiver, changes: Publish
) -> None:
    change = moved(1)
    await changes(change)

    reached = asyncio.Event()

    def dies(step: str) -> None:
        if step == "sent":
            reached.set()
            raise asyncio.CancelledError

    first = await delivering.start(endpoint(receiver), reached=dies)
    async with asyncio.timeout(30):
        await reached.wait()
    await first.stop()
    assert await delivering.find(id_of(change)) is None
    await delivering.start(endpoint(receiver))
    got = await receiver.until(2)
    assert len({(each.id, each.body) for each in got}) == 1
    await delivering.until(lambda: is_recorded(delivering, change))


async def test_what_waits_for_another_attempt_is_taken_over(
    delivering: Delivering, receiver: Receiver, changes: Publish, clock: VirtualClock
) -> None:
    receiver.answers["/journeys"] = down
    change = moved(1)
    await changes(change)
    first = await delivering.start(endpoint(receiver))
    await delivering.until(lambda: is_waiting(delivering, change))
    await first.stop()
    receiver.answers["/journeys"] = fine
    clock.move_to(START + HOUR)
    await delivering.start(endpoint(receiver))
    await delivering.until(lambda: is_recorded(delivering, change))
    assert [at for at, *_ in (await delivering.find(id_of(change))).attempts] == [START, START + HOUR]


async def test_a_zombie_writes_nothing(delivering: Delivering) -> None:
    store = delivering.store()
    old, _ = await store.acquire(0)
    await store.acquire(0)
    waiting = Waiting(Change("0.0.1.0", "acme", "engagement", (0, 1, 0), 0, 1, moved(1)), START)
    assert not await store.write(0, old, [Finished(waiting, How.DELIVERED)], START)
    assert await store.find(waiting.change.id, PARTITIONS) is None


# -- what somebody wants ------------------------------------------------------------------------------------


async def test_a_partition_is_replayed_from_an_offset(
    delivering: Delivering, receiver: Receiver, changes: Publish, clock: VirtualClock
) -> None:
    sent = [moved(n, "acme") for n in range(5)]
    await changes(*sent)
    await delivering.start(endpoint(receiver))
    await delivering.until(lambda: all_delivered(delivering, 5))
    partition = int(id_of(sent[0]).split(".")[0])
    await delivering.store().ask_again({partition: 2})
    clock.move_to(START + SECOND)
    got = await receiver.until(8)
    assert [each.id for each in got[5:]] == [id_of(each) for each in sent[2:]]


# -- several who deliver, and what is away ------------------------------------------------------------------


async def test_a_second_worker_takes_its_share_and_nothing_is_lost_or_changes_order(
    delivering: Delivering, receiver: Receiver, changes: Publish
) -> None:
    before = [moved(n, f"account-{n % 7}") for n in range(100)]
    after = [moved(n, f"account-{n % 7}") for n in range(100, 200)]
    await changes(*before)
    first = await delivering.start(endpoint(receiver))
    await receiver.until(20)
    second = await delivering.start(endpoint(receiver))
    await changes(*after)

    async def shared() -> bool:
        return bool(first._owned) and bool(second._owned)

    await delivering.until(shared)
    await delivering.until(lambda: all_delivered(delivering, 200))
    await first.stop()
    more = moved(300)
    await changes(more)
    await delivering.until(lambda: is_recorded(delivering, more))
    firsts = list(dict.fromkeys(each.id for each in receiver.got))
    for account in range(7):
        ids = [id_of(each) for each in (*before, *after) if json.loads(each)["subject"] == f"account-{account}"]
        assert [id for id in firsts if id in ids] == ids


async def test_while_redis_is_away_nothing_is_settled_and_afterwards_all_goes_on(
    delivering: Delivering, receiver: Receiver, changes: Publish, valkey: Valkey
) -> None:
    settings = delivering.settings.model_copy(update={"redis": valkey.url})
    redis = connect(settings)
    elsewhere = Delivering(settings, redis, delivering.clock, delivering.stack)
    made = await elsewhere.start(endpoint(receiver))
    await changes(moved(1))
    await elsewhere.until(lambda: is_recorded(elsewhere, moved(1)))
    valkey.stop()
    await changes(*(moved(n, f"account-{n}") for n in range(2, 300)))
    await receiver.until(60)
    assert len(made._undone) <= 64 * 2  # what is sent and cannot be written down is bounded
    valkey.start()
    await elsewhere.until(lambda: all_delivered(elsewhere, 299))
    await made.stop()
    await redis.aclose()
