"""What is kept for a moment: who was told of a change never sees what was before it."""

from __future__ import annotations

import asyncio

import pytest

from streams.page.keeping import Kept


class Source:
    def __init__(self) -> None:
        self.value, self.made = 0, 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def make(self) -> int:
        self.made += 1
        value = self.value
        await self.go_on.wait()
        return value


async def test_what_was_begun_before_the_change_is_not_enough() -> None:
    source = Source()
    kept = Kept(source.make, age_s=0.01, share=1.0)
    source.go_on.clear()
    early = asyncio.create_task(kept.must())
    while not source.made:
        await asyncio.sleep(0)
    source.value = 7
    told = asyncio.create_task(kept.fresh())
    await asyncio.sleep(0)
    source.go_on.set()
    assert (await early, await told) == (0, 7)


async def test_many_who_ask_at_once_share_one_reading() -> None:
    source = Source()
    kept = Kept(source.make, age_s=60.0)
    assert await asyncio.gather(*(kept.must() for _ in range(20))) == [0] * 20
    assert source.made == 1


async def test_who_has_no_patience_gets_what_there_is() -> None:
    source = Source()
    kept = Kept(source.make, age_s=0.0)
    source.go_on.clear()
    assert await kept.get(patience_s=0.0) is None
    source.go_on.set()
    assert await kept.must() == 0
    await kept.end()


async def test_what_cannot_be_made_is_raised_and_tried_again() -> None:
    fails = True

    async def make() -> str:
        if fails:
            raise OSError
        return "made"

    kept = Kept(make, age_s=0.0)
    with pytest.raises(OSError):
        await kept.must()
    fails = False
    assert await kept.fresh() == "made"


async def test_who_changed_it_need_not_wait_for_the_next_turn() -> None:
    source = Source()
    kept = Kept(source.make, age_s=3_600)
    assert await kept.must() == 0
    source.value = 7
    assert await kept.must() == 0
    assert await kept.anew() == 7
    assert (await kept.must(), source.made) == (7, 2)
