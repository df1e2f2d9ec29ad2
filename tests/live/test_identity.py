"""Whom a message is about, through real servers: a visitor who becomes known, a person who is forgotten."""

from __future__ import annotations

import json
import time
from typing import Any

from aiokafka import AIOKafkaProducer

from rules.changes import iso
from rules.records import Merge, Transfer, decode_record
from streams import topics
from streams.playback import up_to_its_end
from streams.settings import Settings
from streams.store.base import unpack_state
from tests.live.conftest import Changes, Worker, isotherm
from tests.live.test_end_to_end import moved

EMAIL, NAME, PHONE, USER, DEVICE = (
    "canary@blueharbor.example",
    "Cana Rye",
    "+49 30 9988776",
    "canary-7",
    "device-cnry",
)


def now() -> int:
    return int(time.time() * 1000)


def call(type: str, n: int, **said: Any) -> bytes:
    return json.dumps({"type": type, "messageId": f"m-{n}", "timestamp": iso(now()), **said}).encode()


def pricing(n: int, **who: Any) -> bytes:
    return call("page", n, properties={"path": "/pricing"}, **who)


async def everything(settings: Settings, role: str) -> list[Any]:
    """All that is in a topic now, partition by partition."""
    return [message async for message in up_to_its_end(settings, role)]


async def test_what_a_visitor_did_counts_once_she_is_known(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes
) -> None:
    assert isotherm(settings, "deploy").returncode == 0
    web, crm = settings.topics(topics.WEB_ACTIVITY), settings.topics(topics.CRM_UPDATES)
    account = {
        "kind": "facts",
        "at": now(),
        "crm": "salesforce:1",
        "domain": "blueharbor.example",
        "set": {"a": 1},
    }
    await producer.send_and_wait(crm, json.dumps(account).encode())
    await changes.until(lambda event: event["subject"] == "salesforce:1")
    for n in range(3):
        await producer.send_and_wait(web, pricing(n, anonymousId=DEVICE), key=b"d")
    known = call("identify", 9, anonymousId=DEVICE, userId=USER, traits={"email": EMAIL})
    await producer.send_and_wait(web, known, key=b"d")

    hot = await changes.until(
        lambda event: event["data"].get("dimension") == "engagement" and event["data"]["to"] == "hot"
    )
    assert (hot["subject"], hot["data"]["cause"]) == ("salesforce:1", "identity")
    assert hot["data"]["reason"]["text"].startswith("3 pricing page views in 7 days")
    assert not any(event["subject"].startswith("visitor:") for event in changes.seen)
    records = [decode_record(message.value) for message in await everything(settings, topics.ACCOUNT_LOG)]
    assert sum(isinstance(record, Transfer) for record in records) >= 1
    assert worker.stop() == 0


async def test_a_company_known_by_its_domain_becomes_the_account_of_the_crm(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes
) -> None:
    assert isotherm(settings, "deploy").returncode == 0
    web, crm = settings.topics(topics.WEB_ACTIVITY), settings.topics(topics.CRM_UPDATES)
    for n in range(3):
        await producer.send_and_wait(web, pricing(n, userId=USER, context={"traits": {"email": EMAIL}}), key=b"u")
    first = await changes.until(lambda event: event["subject"] == "domain:blueharbor.example")
    assert first["data"]["provisional"] is True
    account = {"kind": "facts", "at": now(), "crm": "salesforce:1", "domain": "www.blueharbor.example"}
    await producer.send_and_wait(crm, json.dumps(account | {"set": {"employees": 50}}).encode())

    last = await changes.until(lambda event: event["data"].get("merged_into"))
    assert (last["subject"], last["data"]["merged_into"]) == ("domain:blueharbor.example", "salesforce:1")
    assert last["data"]["memberships"] == {}

    def is_hot(event: dict[str, Any]) -> bool:
        data = event["data"]
        state = data.get("memberships", {}).get("engagement", {}).get("answer") == "hot"
        return event["subject"] == "salesforce:1" and (
            state or moved("cold", "hot")(event) or data.get("to") == "hot"
        )

    await changes.until(is_hot)
    told = json.loads(isotherm(settings, "explain", "blueharbor.example", "engagement", "--json").stdout)
    assert (told["account"], told["dimensions"]["engagement"]["segment"]) == ("salesforce:1", "hot")
    assert json.loads(isotherm(settings, "explain", "domain:blueharbor.example", "--json").stdout)["account"] == (
        "salesforce:1"
    )
    gone = {message.key: message.value for message in await everything(settings, topics.MEMBERSHIPS)}
    assert gone[b"domain:blueharbor.example"] is None
    assert gone[b"salesforce:1"] is not None
    assert worker.stop() == 0


async def test_nothing_is_left_of_a_person_who_asks_to_be_forgotten(
    settings: Settings, worker: Worker, producer: AIOKafkaProducer, changes: Changes, redis: Any
) -> None:
    assert isotherm(settings, "deploy").returncode == 0
    web, crm = settings.topics(topics.WEB_ACTIVITY), settings.topics(topics.CRM_UPDATES)
    traits = {"email": EMAIL, "name": NAME, "phone": PHONE, "title": "Chief Canary Officer"}
    await producer.send_and_wait(web, pricing(1, anonymousId=DEVICE), key=b"d")
    await producer.send_and_wait(
        web, call("identify", 2, anonymousId=DEVICE, userId=USER, traits=traits), key=b"d"
    )
    contact = {"kind": "contact", "at": now(), "contact": "salesforce:003c", "crm": "salesforce:1", "email": EMAIL}
    await producer.send_and_wait(crm, json.dumps(contact | {"set": {"title": "CCO"}}).encode(), key=b"c")
    await producer.send_and_wait(web, call("nonsense", 3, userId=USER, traits=traits), key=b"d")  # a dead letter
    await producer.send_and_wait(web, pricing(4, userId="someone-else", context={"groupId": "g"}), key=b"d")
    await changes.until(lambda event: event["subject"] == "group:g")
    await changes.until(lambda event: event["subject"] == "salesforce:1")

    secrets = [text.encode() for text in (EMAIL, NAME, PHONE, USER, DEVICE)]
    records = [message.value for message in await everything(settings, topics.ACCOUNT_LOG)]
    assert not [each for each in records if any(secret in each for secret in secrets)]
    merges = [each for each in map(decode_record, records) if isinstance(each, Merge)]
    hashes = {person for each in merges if each.person for person in each.person}
    assert hashes

    done = isotherm(settings, "erase", "--email", EMAIL, "--user", USER, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["done"] is True
    assert told["letters"] == 1
    assert hashes & set(told["persons"])

    traces = [*secrets, *(person.encode() for person in [*told["persons"], *hashes])]
    stored = await contents(redis, settings.namespace)
    # A partition keeps the hashes for a week, against what may still be on its way.
    assert not [
        (key, trace)
        for key, blob in stored.items()
        for trace in (secrets if ":meta" in key else traces)
        if trace in blob
    ]
    for role in (topics.LINKS, topics.MEMBERSHIPS, topics.DEAD_LETTERS):
        last = {message.key: message.value for message in await everything(settings, role)}
        assert not [(key, each) for key, each in last.items() for trace in traces if each and trace in each]
    assert worker.stop() == 0


async def contents(redis: Any, namespace: str) -> dict[str, bytes]:
    """Every key of a namespace, with all that it holds in one piece; states unpacked."""
    found: dict[str, bytes] = {}
    async for key in redis.scan_iter(f"{namespace}:*"):
        name = key.decode()
        kind = await redis.type(key)
        if kind == b"hash":
            pairs = await redis.hgetall(key)
            blobs = [str(unpack_state(v)).encode() if name.endswith(":accounts") else v for v in pairs.values()]
            found[name] = b" ".join([*pairs.keys(), *blobs])
        elif kind == b"string":
            found[name] = await redis.get(key)
        elif kind == b"zset":
            found[name] = b" ".join(await redis.zrange(key, 0, -1))
        elif kind == b"set":
            found[name] = b" ".join(await redis.smembers(key))
        else:
            found[name] = str(await redis.xrange(key)).encode()
    return found
