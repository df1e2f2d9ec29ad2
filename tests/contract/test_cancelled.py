"""Fault 29: calls are cancelled at any await. Nobody gets an answer to what somebody else asked."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from rules.fold import Partition
from rules.state import AccountState
from streams.store.base import Commit, Committed
from streams.store.redis import RedisStore
from streams.store.sources import SourceStore

PARTITIONS, CALLS = 8, 400


async def filled(store: RedisStore) -> list[str]:
    """Each partition holds an account whose birth tells the partition, at an offset that does too; its tokens."""
    tokens = []
    for number in range(PARTITIONS):
        acquired = await store.acquire(number)
        states = {f"acct-{number}": AccountState(born=number)}
        at = Partition(number, offset=100 + number)
        done = await store.commit(Commit(acquired.token, 0, f"batch-{number}", at, states=states))
        assert isinstance(done, Committed)
        tokens.append(acquired.token)
    return tokens


@pytest.mark.parametrize("seed", range(5))
async def test_no_reply_is_mixed_up(client: Any, seed: int) -> None:
    drawn, store, sources = random.Random(seed), RedisStore(client, PARTITIONS), SourceStore(client, "isotherm")
    tokens = await filled(store)
    answered = 0

    async def load(number: int) -> None:
        states = await store.load(number, [f"acct-{number}", "nobody"])
        assert states == {f"acct-{number}": AccountState(born=number)}

    async def owners(number: int) -> None:
        assert await store.owners([number]) == [(tokens[number], 100 + number)]

    async def outbox(number: int) -> None:
        assert await store.outbox(number, 10) == []

    async def repeat(number: int) -> None:
        again = Commit(tokens[number], 0, f"batch-{number}", Partition(number, offset=100 + number))
        done = await store.commit(again)
        assert isinstance(done, Committed)
        assert done.repeated

    async def links(number: int) -> None:
        assert await sources.links([f"domain:nobody-{number}.example"]) == {}

    asked: list[Callable[[int], Coroutine[Any, Any, None]]] = [load, owners, outbox, repeat, links]

    async def disturbed(call: Coroutine[Any, Any, None]) -> None:
        nonlocal answered
        task = asyncio.create_task(call)
        if drawn.random() < 0.5:
            for _ in range(drawn.randrange(12)):  # turns of the loop: before the request, on its way, at the reply
                await asyncio.sleep(0)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
            answered += 1

    for _ in range(CALLS // 20):
        calls = [drawn.choice(asked)(drawn.randrange(PARTITIONS)) for _ in range(20)]
        await asyncio.gather(*map(disturbed, calls))
    assert answered > CALLS // 4
    assert answered < CALLS, "nothing was cancelled in time"
    for number in range(PARTITIONS):
        await load(number)
