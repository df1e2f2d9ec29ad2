"""An event loop whose time passes only when everybody waits for it, and then at once."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class _Selector(selectors.SelectSelector):
    """Nothing ever arrives from outside: to wait is to be there."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits for somebody else")
        self.passed += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._waiting = _Selector()
        super().__init__(self._waiting)

    def time(self) -> float:
        return self._waiting.passed

    def wait(self, seconds: float) -> None:
        """Lets time pass without anybody doing anything."""
        self._waiting.passed += seconds
