"""What the router relies on: a batch is saved whole or not at all, and links are found again, in little room."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from streams import keys
from streams.store.base import Outbound
from streams.store.sources import CONFLICTS_KEPT, Batch, SourceHeld, SourceStore, as_digest, link_digest, link_id
from streams.topics import ACCOUNT_LOG, LINKS

TOPIC = "web.activity"
MANY = 100_000
BYTES_A_LINK = 75  # the goal: 150 for a contact, who has two


@pytest.fixture
def store(redis: Any) -> SourceStore:
    return SourceStore(redis)


def batch(held: SourceHeld, learned: dict[str, str] | None = None, **given: Any) -> Batch:
    """The next after `held`, one message further."""
    at = held.next or 0
    read = given.pop("read", dict.fromkeys(learned or {}, ""))
    out = given.pop("outbound", [Outbound(ACCOUNT_LOG, "acme", b"record %d" % at)])
    return Batch(at, at + 1, f"looks/{at}", out, list(read), read, learned or {}, **given)


async def everything(redis: Any) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    for key in await redis.keys("*"):
        found[key] = await (redis.hgetall if await redis.type(key) == b"hash" else redis.get)(key)
    return found


async def test_a_batch_its_links_and_its_position_are_there_after_it_is_saved(
    store: SourceStore, redis: Any
) -> None:
    first = await store.acquire(TOPIC, 3)
    assert (first.next, first.saved, first.last, first.incarnation, first.paused) == (None, [], "", 0, "")
    learned = {"user:a": "salesforce:1|p", "domain:ä.example": "salesforce:1|"}
    conflicts = {"domain:b": "one\ttwo"}
    assert await store.save(TOPIC, 3, first.token, batch(first, learned, conflicts=conflicts)) == "OK"
    assert await store.links([*learned, "nobody"]) == learned
    assert await store.conflicts() == conflicts
    held = await store.acquire(TOPIC, 3)
    assert (held.next, held.last, held.saved) == (1, "looks/0", [Outbound(ACCOUNT_LOG, "acme", b"record 0")])
    assert held.token != first.token
    assert (await store.acquire(TOPIC, 2)).next is None
    for each in await everything(redis):
        assert b":{ids}:" in each, "one slot, for one script"


@pytest.mark.parametrize("refused", ["FENCED", "MOVED", "CHANGED"])
@pytest.mark.parametrize("how", ["changed", "gone", "new"])
async def test_what_is_refused_writes_nothing(store: SourceStore, redis: Any, refused: str, how: str) -> None:
    first = await store.acquire(TOPIC, 0)
    before = {"user:a": "salesforce:1|p"} if how != "new" else {}
    assert await store.save(TOPIC, 0, first.token, batch(first, before)) == "OK"
    held = await store.acquire(TOPIC, 0)
    reads = {"user:a": before.get("user:a", ""), "user:b": ""}
    late = batch(
        held,
        {"user:c": "salesforce:3|"},
        read=reads | {"user:c": ""},
        conflicts={"domain:c": "one\ttwo"},
        forgotten=[link_digest("user:a")],
        paused="because",
    )
    other = await store.acquire(TOPIC, 1)
    if refused == "FENCED":
        held = await store.acquire(TOPIC, 0), held
        held = held[1]
    elif refused == "MOVED":
        assert await store.save(TOPIC, 0, held.token, batch(held)) == "OK"
    elif how == "gone":
        gone = batch(other, forgotten=[link_digest("user:a")])
        assert await store.save(TOPIC, 1, other.token, gone) == "OK"
    else:
        assert (
            await store.save(TOPIC, 1, other.token, batch(other, {"user:a": "salesforce:2|p"}, read=before))
            == "OK"
        )
    stood = await everything(redis)
    assert await store.save(TOPIC, 0, held.token, late) == refused
    assert await everything(redis) == stood


async def test_what_was_read_may_not_change_places(store: SourceStore) -> None:
    """The sum is over links in their order: two that are exchanged are not what was read."""
    one, two = await store.acquire(TOPIC, 0), await store.acquire(TOPIC, 1)
    assert await store.save(TOPIC, 0, one.token, batch(one, {"user:a": "x|", "user:b": "y|"})) == "OK"
    assert await store.save(TOPIC, 1, two.token, batch(two, read={"user:a": "y|", "user:b": "x|"})) == "CHANGED"
    assert await store.save(TOPIC, 1, two.token, batch(two, read={"user:b": "y|", "user:a": "x|"})) == "OK"


async def test_what_holds_as_of_the_last_change_is_not_looked_at_again(store: SourceStore) -> None:
    """And what was read before a later one is: the batch that changed something else does not matter."""
    one, two = await store.acquire(TOPIC, 0), await store.acquire(TOPIC, 1)
    _, before = await store.read(["user:a"])
    assert await store.save(TOPIC, 0, one.token, batch(one, {"user:b": "x|"}, as_of=before)) == "OK"
    links, since = await store.read(["user:a", "user:b"])
    assert (links, since != before) == ({"user:b": "x|"}, True)
    late = batch(two, {"user:c": "y|"}, read={"user:b": ""}, as_of=before)
    assert await store.save(TOPIC, 1, two.token, late) == "CHANGED"
    fine = batch(two, {"user:c": "y|"}, read={"user:a": "", "user:c": ""}, as_of=before)
    assert await store.save(TOPIC, 1, two.token, fine) == "OK"
    two = await store.acquire(TOPIC, 1)
    nothing = batch(two, read={"user:a": ""}, as_of=(await store.read(["user:a"]))[1])
    assert await store.save(TOPIC, 1, two.token, nothing) == "OK"
    assert (await store.read(["user:a"]))[1] == nothing.as_of, "nobody learned anything"


async def test_a_new_link_takes_the_place_of_the_old_one(store: SourceStore) -> None:
    held = await store.acquire(TOPIC, 0)
    assert await store.save(TOPIC, 0, held.token, batch(held, {"user:a": "x|"})) == "OK"
    held = await store.acquire(TOPIC, 0)
    assert await store.save(TOPIC, 0, held.token, batch(held, {"user:a": "y|"}, read={"user:a": "x|"})) == "OK"
    assert await store.links(["user:a"]) == {"user:a": "y|"}


async def test_conflicts_are_bounded(store: SourceStore) -> None:
    held = await store.acquire(TOPIC, 0)
    many = {f"domain:{n}": "one\ttwo" for n in range(CONFLICTS_KEPT + 50)}
    assert await store.save(TOPIC, 0, held.token, batch(held, conflicts=many)) == "OK"
    held = await store.acquire(TOPIC, 0)
    assert await store.save(TOPIC, 0, held.token, batch(held, conflicts={"domain:more": "one\ttwo"})) == "OK"
    assert len(await store.conflicts()) == CONFLICTS_KEPT


async def test_all_links_of_a_person_are_found(store: SourceStore) -> None:
    links = {f"user:{n}": f"salesforce:{n}|person{n % 10:06}" for n in range(2_000)}
    links |= {"anon:d": "visitor:user:person000003|", "email:e": "salesforce:9|nobody"}
    held = await store.acquire(TOPIC, 0)
    assert await store.save(TOPIC, 0, held.token, batch(held, links)) == "OK"
    wanted = ("person000003", "person000007")
    found = await store.holding(wanted)
    assert sorted(found) == sorted(
        link_digest(key) for key, link in links.items() if any(p in link for p in wanted)
    )
    held = await store.acquire(TOPIC, 0)
    assert await store.save(TOPIC, 0, held.token, batch(held, forgotten=found)) == "OK"
    assert await store.holding(wanted) == {}
    assert len(await store.links(links)) == len(links) - len(found)


async def test_a_saved_batch_goes_once_it_is_produced(store: SourceStore) -> None:
    held = await store.acquire(TOPIC, 0)
    learned = {"user:a": "x|", "user:b": "y|"}
    assert await store.save(TOPIC, 0, held.token, batch(held, learned)) == "OK"
    told = {link_id(key): link.encode() for key, link in learned.items()} | {link_id("user:c"): None}
    assert await store.settle(TOPIC, 0, held.token, told) == {}
    held = await store.acquire(TOPIC, 0)
    assert (held.next, held.saved) == (1, [])


async def test_links_that_changed_since_they_were_saved_are_told_again(store: SourceStore) -> None:
    mine, other = await store.acquire(TOPIC, 0), await store.acquire(TOPIC, 1)
    assert await store.save(TOPIC, 0, mine.token, batch(mine, {"user:a": "x|", "user:b": "x|"})) == "OK"
    later = batch(other, {"user:a": "y|"}, read={"user:a": "x|"}, forgotten=[link_digest("user:b")])
    assert await store.save(TOPIC, 1, other.token, later) == "OK"
    changed = await store.settle(TOPIC, 0, mine.token, {link_id("user:a"): b"x|", link_id("user:b"): b"x|"})
    assert changed == {link_id("user:a"): b"y|", link_id("user:b"): None}
    assert await store.settle(TOPIC, 0, mine.token, changed) == {}
    assert (await store.acquire(TOPIC, 0)).saved == []


async def test_who_lost_the_partition_does_not_settle_it(store: SourceStore) -> None:
    old = await store.acquire(TOPIC, 0)
    assert await store.save(TOPIC, 0, old.token, batch(old)) == "OK"
    await store.acquire(TOPIC, 0)
    assert await store.settle(TOPIC, 0, old.token, {}) == {}
    assert len((await store.acquire(TOPIC, 0)).saved) == 1


def test_a_link_s_key_in_the_topic_leads_back_to_its_digest() -> None:
    for key in ("", "user:a", "domain:ä"):
        assert as_digest(link_id(key)) == link_digest(key)


async def test_beginning_again_forgets_the_position_and_nothing_else(store: SourceStore) -> None:
    held = await store.acquire(TOPIC, 0)
    assert await store.save(TOPIC, 0, held.token, batch(held, {"user:a": "x|"}, paused="because")) == "OK"
    assert await store.begin_again(TOPIC, 0, held.token, 1)
    again = await store.acquire(TOPIC, 0)
    assert (again.next, again.last, again.incarnation, again.saved, again.paused) == (None, "", 1, [], "because")
    assert not await store.begin_again(TOPIC, 0, held.token, 2)
    assert (await store.acquire(TOPIC, 0)).incarnation == 1
    assert await store.links(["user:a"]) == {"user:a": "x|"}


async def test_a_pause_is_saved_with_its_batch_and_survives_a_takeover(store: SourceStore) -> None:
    held = await store.acquire(TOPIC, 0)
    assert await store.save(TOPIC, 0, held.token, batch(held, paused="too much")) == "OK"
    assert await store.paused(TOPIC, 0) == "too much"
    held = await store.acquire(TOPIC, 0)
    assert (held.paused, held.next) == ("too much", 1)
    assert await store.paused(TOPIC, 1) == ""
    assert await store.resume(TOPIC, 0)
    assert not await store.resume(TOPIC, 0)
    assert (await store.acquire(TOPIC, 0)).paused == ""


async def test_a_hundred_thousand_links_are_found_again_in_little_room(store: SourceStore, redis: Any) -> None:
    """Two of each contact, as the CRM's adapter teaches them. Room is what Redis says that it uses."""
    contacts, empty = MANY // 2, (await redis.info("memory"))["used_memory"]
    links: dict[str, str] = {}
    for n in range(contacts):
        link = f"salesforce:001{n // 3:012}AAA|{secrets.token_urlsafe(9)}"
        links[f"contact:salesforce:003{n:012}AAA"] = links[f"email:{link.rpartition('|')[2]}"] = link
    held, names = await store.acquire(TOPIC, 0), list(links)
    for at in range(0, MANY, 4_000):
        learned = {name: links[name] for name in names[at : at + 4_000]}
        saved = Batch(at, at + 4_000, "", [Outbound(LINKS, "k", b"v")], list(learned), {}, learned)
        assert await store.save(TOPIC, 0, held.token, saved) == "OK"
    for at in range(0, MANY, 10_000):
        wanted = names[at : at + 10_000]
        assert await store.links(wanted) == {name: links[name] for name in wanted}
    async with redis.pipeline(transaction=False) as pipe:
        for key in await redis.keys(f"{keys.links()}*"):
            pipe.memory_usage(key, samples=0)
        packed = await pipe.execute()
    used = (await redis.info("memory"))["used_memory"] - empty
    print(f"{sum(packed) / contacts:.0f} bytes a contact by MEMORY USAGE, {used / contacts:.0f} by used_memory")
    # With so few, much of the room is that of 65,536 hashes; a million contacts fill each with 30 links.
    assert (sum(packed) - 80 * len(packed)) / MANY <= BYTES_A_LINK


async def test_an_answer_that_was_on_its_way_while_others_saved_is_no_loss(store: SourceStore) -> None:
    """Two partitions of one router: one reads links, and before it has the answer the other one saves."""
    first, ask = await store.acquire(TOPIC, 0), store._links

    async def held_up(**given: Any) -> Any:
        answer = await ask(**given)
        assert await store.save(TOPIC, 0, first.token, batch(first, {"user:a": "salesforce:1|p"})) == "OK"
        return answer

    store._links = held_up
    assert (await store.read(["user:b"]))[0] == {}
    store._links = ask
    assert (await store.read(["user:a"]))[0] == {"user:a": "salesforce:1|p"}
