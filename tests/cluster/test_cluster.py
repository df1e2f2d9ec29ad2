"""What the client for a cluster adds: it finds the node, follows a slot that moved, and sends nothing twice."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection
from redis.crc import key_slot
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import CrossSlotTransactionError, NoPermissionError, RedisError, ResponseError

from rules.fold import Partition
from rules.state import AccountState
from streams.keys import PartitionKeys
from streams.preflight import SettingsError, preflight
from streams.settings import Settings
from streams.store.base import Commit, Committed
from streams.store.cluster import Cluster
from streams.store.redis import RedisStore, connect
from streams.store.sources import Batch, SourceStore
from streams.store.switching import keys_of
from tests.cluster.conftest import Node, Nodes, started, until
from tests.conftest import running
from tests.faults.proxy import Proxy
from tests.security.conftest import WORKER, users

PARTITIONS = 6
KEYS = [PartitionKeys.of(number, PARTITIONS) for number in range(PARTITIONS)]
FIRST = key_slot(KEYS[0].meta.encode())


@pytest.fixture
async def client(cluster: Nodes) -> AsyncIterator[Any]:
    async with connect(Settings(redis=cluster.url)) as opened:
        yield opened


@pytest.fixture
def moved(cluster: Nodes) -> Iterator[tuple[Any, Any]]:
    """The node that has the first partition, and another; the slot is put back afterwards."""
    old = cluster.of(FIRST)
    other = next(node for node in cluster if node is not old)
    yield old, other
    if cluster.of(FIRST) is not old:
        cluster.move(FIRST, old)


def one(acquired: Any, batch: str, **given: Any) -> Commit:
    at = acquired.partition.offset
    return Commit(acquired.token, at, batch, Partition(acquired.partition.number, offset=at + 1), **given)


async def test_partitions_lie_on_all_nodes_and_each_on_one(client: Any, cluster: Nodes) -> None:
    store = RedisStore(client, PARTITIONS)
    for number in range(PARTITIONS):
        done = await store.commit(
            one(await store.acquire(number), "b", states={"acme": AccountState(born=number)})
        )
        assert isinstance(done, Committed)
    assert [node.ask("DBSIZE") for node in cluster] == [4, 4, 4]
    for keys in KEYS:
        assert await keys_of(client, keys) == [keys.accounts, keys.meta]


async def test_a_pipeline_is_cut_by_node_and_its_answers_are_in_order(client: Any) -> None:
    async with client.pipeline(transaction=False) as pipe:
        pipe.time()
        for n, keys in enumerate(KEYS * 2):
            pipe.hset(keys.meta, f"n{n}", n)
            pipe.hlen(keys.meta)
        seconds, *answers = await pipe.execute()
    assert seconds[0] > 0
    assert answers == [1, 1] * PARTITIONS + [1, 2] * PARTITIONS


async def test_one_command_that_fails_is_raised_and_the_others_are_done(client: Any) -> None:
    await client.set(KEYS[0].meta, "no hash")
    async with client.pipeline(transaction=False) as pipe:
        pipe.hlen(KEYS[0].meta)
        pipe.hset(KEYS[5].meta, "a", 1)
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await pipe.execute()
    assert await client.hlen(KEYS[5].meta) == 1


async def test_a_transaction_is_of_one_slot(client: Any) -> None:
    async with client.pipeline(transaction=True) as pipe:
        pipe.hset(KEYS[0].meta, "a", 1)
        pipe.hlen(KEYS[0].meta)
        assert await pipe.execute() == [1, 1]
    async with client.pipeline(transaction=True) as pipe:
        pipe.hset(KEYS[0].meta, "b", 1)
        pipe.hset(KEYS[5].meta, "b", 1)
        with pytest.raises(CrossSlotTransactionError):
            await pipe.execute()
    assert await client.hlen(KEYS[0].meta) == 1


async def test_the_users_of_the_page_want_one_right_more(cluster: Nodes) -> None:
    """What docs/operations.md says of users on a cluster."""
    (line,) = (each for each in users().splitlines() if each.startswith(f"user {WORKER} "))
    _, name, *rights = line.split()
    password = next(each[1:] for each in rights if each.startswith(">"))
    url = cluster.url.replace("://", f"://{WORKER}:{password}@")
    try:
        for node in cluster:
            node.ask("ACL", "SETUSER", name, *rights)
        async with connect(Settings(redis=url)) as client:
            with pytest.raises(NoPermissionError, match="slots"):
                await client.get("isotherm:partitions")
        for node in cluster:
            node.ask("ACL", "SETUSER", name, "+cluster|slots")
        async with connect(Settings(redis=url)) as client:
            store = RedisStore(client, PARTITIONS)
            for number in range(PARTITIONS):
                assert isinstance(await store.commit(one(await store.acquire(number), "b")), Committed)
    finally:
        for node in cluster:
            node.ask("ACL", "DELUSER", name)


async def test_what_names_no_key_of_the_cluster_is_refused(client: Any) -> None:
    with pytest.raises(RedisError, match="names no key"):
        await client.eval("return 1", 0)


async def test_all_links_of_a_person_are_found(client: Any) -> None:
    store = SourceStore(client)
    links = {f"user:{n}": f"salesforce:{n}|person{n % 10:06}" for n in range(100)}
    held = await store.acquire("web.activity", 0)
    batch = Batch(0, 1, "looks/0", [], list(links), dict.fromkeys(links, ""), links)
    assert await store.save("web.activity", 0, held.token, batch) == "OK"
    assert len(await store.holding(["person000003"])) == 10
    assert await store.saved() == {b"isotherm:{ids}:src:web.activity/0": b"1"}


# -- slots that move -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["key by key", "at once"])
async def test_a_slot_that_was_moved_is_found_at_its_new_node(
    client: Any, cluster: Nodes, moved: Any, how: str
) -> None:
    store, (old, other) = RedisStore(client, PARTITIONS), moved
    acquired = await store.acquire(0)
    if how == "key by key":
        cluster.move(FIRST, other)
    elif "migrateslots" in str(old.ask("CLUSTER", "HELP")).lower():
        cluster.move_at_once(FIRST, other)
    else:
        pytest.skip("this server moves slots key by key")
    commit = one(acquired, "b", states={"acme": AccountState(born=7)})
    assert await store.commit(commit) == Committed(next_wake=2**53)
    assert await store.commit(commit) == Committed(next_wake=2**53, repeated=True)
    assert await store.load(0, ["acme"]) == {"acme": AccountState(born=7)}
    assert set(other.ask("CLUSTER", "GETKEYSINSLOT", FIRST, 9)) == {KEYS[0].accounts, KEYS[0].meta}


@pytest.mark.parametrize("transaction", [True, False])
async def test_a_pipeline_follows_a_slot_that_was_moved(
    client: Any, cluster: Nodes, moved: Any, transaction: bool
) -> None:
    await client.hset(KEYS[0].meta, "a", 1)
    cluster.move(FIRST, moved[1])
    async with client.pipeline(transaction=transaction) as pipe:
        pipe.hincrby(KEYS[0].meta, "a", 1)
        pipe.wait(0, 1)
        assert await pipe.execute() == [2, 0]


async def test_a_node_is_not_looked_through_for_a_slot_that_it_lost(
    client: Any, cluster: Nodes, moved: Any
) -> None:
    await client.hset(KEYS[0].meta, "a", 1)
    cluster.move(FIRST, moved[1])
    assert await keys_of(client, KEYS[0]) == [KEYS[0].meta]


async def test_a_cursor_is_not_taken_to_another_node(client: Any, cluster: Nodes, moved: Any) -> None:
    await client.hset(KEYS[0].accounts, mapping={f"account-{n}": "x" * 100 for n in range(5_000)})
    cursor, found = await client.hscan(KEYS[0].accounts, count=100)
    assert cursor
    assert found
    cluster.move(FIRST, moved[1])
    with pytest.raises(NotConnected, match="begin again"):
        await client.hscan(KEYS[0].accounts, cursor, count=100)
    assert len([each async for each in client.hscan_iter(KEYS[0].accounts, count=100)]) >= 5_000


async def test_while_a_slot_is_moved_its_partition_waits_and_nothing_is_half_written(
    client: Any, cluster: Nodes, moved: Any
) -> None:
    store, (old, other) = RedisStore(client, PARTITIONS), moved
    acquired = await store.acquire(0)
    commit = one(acquired, "b", states={"acme": AccountState(born=7)})
    cluster.begin_moving(FIRST, other)
    for _ in range(2):  # the accounts are not there yet, so nobody knows which node has them
        with pytest.raises(NotConnected, match="just now"):
            await store.commit(commit)
    assert await store.owners([0, 5]) == [(acquired.token, 0), ("", 0)]
    cluster.move_keys(FIRST, old, other)
    with pytest.raises(NotConnected, match="just now"):
        await store.owners([0])
    cluster.end_moving(FIRST, old, other)
    assert await store.commit(commit) == Committed(next_wake=2**53)


# -- nodes that go away --------------------------------------------------------------------------------------


async def test_a_node_that_is_away_is_an_outage_and_nobody_elses(client: Any, cluster: Nodes) -> None:
    await client.hset(KEYS[0].meta, "a", 1)
    await client.hset(KEYS[5].meta, "a", 1)
    away = cluster.of(FIRST)
    away.kill()
    async with client.pipeline(transaction=False) as pipe:
        pipe.hlen(KEYS[0].meta)
        pipe.hlen(KEYS[5].meta)
        first, other = await pipe.execute(raise_on_error=False)
    assert isinstance(first, NotConnected)
    assert other == 1
    away.start()
    cluster.agree()
    assert await client.hget(KEYS[0].meta, "a") == b"1"


async def test_a_replica_takes_over(tmp_path: Path) -> None:
    with started(tmp_path / "nodes") as cluster, running(Node(tmp_path / "replica")) as replica:
        primary = cluster.of(FIRST)
        primary.meet(replica)
        until(lambda: primary.id in str(replica.ask("CLUSTER", "NODES")))
        replica.ask("CLUSTER", "REPLICATE", primary.id)
        until(lambda: replica.ask("INFO", "replication").get("master_link_status") == "up")
        async with connect(Settings(redis=cluster.url.replace(primary.address, replica.address))) as client:
            store = RedisStore(client, PARTITIONS, barrier="replica")
            acquired = await store.acquire(0)
            await store.commit(one(acquired, "b", states={"acme": AccountState(born=7)}))
            await store.safe(0)
            primary.kill()
            with pytest.raises(NotConnected):
                await store.load(0, ["acme"])
            until(lambda: "master" in str(replica.ask("ROLE")))
            async with asyncio.timeout(30):
                while True:
                    with suppress(RedisError):
                        assert await store.load(0, ["acme"]) == {"acme": AccountState(born=7)}
                        break
                    await asyncio.sleep(0.05)


async def test_a_lost_reply_is_told_and_nothing_is_sent_again(cluster: Nodes) -> None:
    with Proxy(cluster.of(FIRST).address) as proxy:
        host, _, port = proxy.address.rpartition(":")

        def node(name: str, number: int) -> Redis:
            through = number == cluster.of(FIRST).port
            return connect(Settings(redis=f"redis://{host}:{port if through else number}"))

        async with Cluster(node("127.0.0.1", cluster[0].port), node) as client:
            await client.hset(KEYS[0].meta, "a", 1)
            proxy.reset_in_reply(1)
            with pytest.raises(NotConnected):
                await client.hincrby(KEYS[0].meta, "a", 1)
            assert await client.hget(KEYS[0].meta, "a") == b"2"


def test_the_password_and_tls_are_for_each_node() -> None:
    url = "rediss+cluster://me@redis.example.com:6380"
    client = connect(Settings(redis=url, redis_password=SecretStr("a word")))
    assert isinstance(client, Cluster)
    for node in (client._seed, client._connect("::1", 7001)):
        given = node.connection_pool.connection_kwargs
        assert (given["username"], given["password"], given["ssl_check_hostname"]) == ("me", "a word", True)
        assert given["retry"].get_retries() == 0
        assert issubclass(node.connection_pool.connection_class, SSLConnection)
    assert (given["host"], given["port"]) == ("::1", 7001)


async def test_a_server_that_is_no_cluster_is_told_apart(tmp_path: Path) -> None:
    with running(Node(tmp_path / "alone", enabled="no")) as alone:
        async with connect(Settings(redis=f"redis+cluster://{alone.address}")) as client:
            with pytest.raises(RedisError, match="write redis://"):
                await client.get("a")


async def test_a_node_of_a_cluster_is_told_apart(cluster: Nodes) -> None:
    plain = [f"redis://{node.address}" for node in cluster]
    refused = 0
    for url in plain:
        given = Settings(redis=url, person_key=SecretStr("a secret of the tests"), partitions=PARTITIONS)
        async with connect(given) as client:
            with suppress(ResponseError):
                await client.get("isotherm:partitions")
                continue
        with pytest.raises(SettingsError, match=re.escape("write redis+cluster://")):
            await preflight(given)
        refused += 1
    assert refused == 2
