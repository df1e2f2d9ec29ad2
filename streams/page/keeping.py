"""What many ask for at once is read once and kept for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """What `make` gave last. It is made anew when it is older than `age_s` as somebody asks, and never more often
    than that it takes `share` of the time; whoever has no patience gets what there is."""

    def __init__(self, make: Callable[[], Awaitable[T]], age_s: float, share: float = 0.2) -> None:
        self._make, self._age_s, self._share = make, age_s, share
        self._task: asyncio.Task[None] | None = None
        self._value: T | None = None
        self._began = self._due = 0.0

    async def get(self, patience_s: float | None = None) -> T | None:
        """None: it was never made in time. Raises what making it raised, to those who waited for it."""
        if self._task is None and time.monotonic() >= self._due:
            self._task = asyncio.create_task(self._made())
        if (task := self._task) is not None:
            done, _ = await asyncio.wait({task}, timeout=patience_s)
            if task in done:
                task.result()
        return self._value

    async def must(self) -> T:
        """The same, however long it takes."""
        value = await self.get()
        assert value is not None, "it was made or has raised"  # noqa: S101
        return value

    async def fresh(self) -> T:
        """What is made after this was asked for: who was told of a change sees it."""
        asked = time.monotonic()
        while self._began < asked:
            if self._task is None and (early := self._due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            await self.get()
        return await self.must()

    async def anew(self) -> T:
        """The same, out of turn: for whoever has just changed it."""
        asked = time.monotonic()
        while self._began < asked:
            if self._task is None:
                self._due = 0.0
            await self.get()
        return await self.must()

    @property
    def is_being_made(self) -> bool:
        return self._task is not None

    async def _made(self) -> None:
        began = time.monotonic()
        try:
            self._value = await self._make()
            self._began = began
        finally:
            self._task = None
            took = time.monotonic() - began
            self._due = time.monotonic() + max(self._age_s, took / self._share)

    async def end(self) -> None:
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
