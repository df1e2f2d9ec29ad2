"""Two ways of watching the demo: a screen on a terminal, plain lines everywhere else."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from streams.demo.ledger import Alert, Change, Ledger
from streams.demo.screen import frame, title_line
from streams.demo.summary import standing
from streams.demo.traffic import Clock
from streams.show import COLOURS, short

REFRESHES_PER_S = 4
SUMMARY_EVERY_S = 5.0


class View(Protocol):
    def step(self, words: str) -> None:
        """Says what is being waited for while the demo starts."""

    def loading(self, share: float) -> None:
        """Says how much of the past was played, 0 to 1."""

    async def watch(self, began: float, until: float | None, hint: str, page: str) -> None:
        """Shows what happens, for ever. Traffic began and ends at these instants of the loop; None: no end. `page`
        says where the page is."""

    def close(self) -> None:
        """Gives the terminal back."""


def view_for(console: Console, about: str, ledger: Ledger, clock: Clock) -> View:
    if sys.stdout.isatty() and not console.is_dumb_terminal:
        return Screen(console, about, ledger, clock)
    return Lines(console, about, ledger)


class Screen:
    """A progress display while the demo starts, then the whole terminal."""

    def __init__(self, console: Console, about: str, ledger: Ledger, clock: Clock) -> None:
        self._console, self._about = console, about
        self._ledger, self._clock = ledger, clock
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), console=console, transient=True
        )
        self._task = self._progress.add_task("starting", total=None)
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def step(self, words: str) -> None:
        self._progress.start()
        self._progress.update(self._task, description=words, total=None)

    def loading(self, share: float) -> None:
        self._progress.update(self._task, total=1.0, completed=share)

    async def watch(self, began: float, until: float | None, hint: str, page: str) -> None:
        self._progress.stop()
        self._live.start()
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            width, height = self._console.size
            title = title_line(self._about, now - began, None if until is None else until - now, width)
            drawn = frame(self._ledger, title, hint, page, self._clock(), width, height)
            # Drawing takes longer than anything else here; what is measured meanwhile must not wait for it.
            await asyncio.to_thread(self._live.update, drawn, refresh=True)
            await asyncio.sleep(1 / REFRESHES_PER_S)

    def close(self) -> None:
        self._progress.stop()
        self._live.stop()


class Lines:
    """A line for each step, move of engagement and alert, and where the accounts stand every few seconds."""

    def __init__(self, console: Console, about: str, ledger: Ledger) -> None:
        self._console, self._about, self._ledger = console, about, ledger

    def step(self, words: str) -> None:
        self._print(words)

    def loading(self, share: float) -> None:
        return

    async def watch(self, began: float, until: float | None, hint: str, page: str) -> None:
        self._print(f"loaded: {self._where()}")
        self._print(hint)
        self._print(page)
        self._ledger.on_news = self._tell
        while True:
            await asyncio.sleep(SUMMARY_EVERY_S)
            ledger = self._ledger
            figures = f"{ledger.messages:,} messages in, {ledger.changes:,} changes out, {ledger.alerts} alerts"
            self._print(f"{self._where()}; {figures}")
            if ledger.warning:
                self._print(ledger.warning)

    def close(self) -> None:
        self._ledger.on_news = lambda news: None

    def _where(self) -> str:
        return f"engagement {standing(self._ledger.counts.get('engagement', {}), list(COLOURS))}"

    def _tell(self, news: Change | Alert) -> None:
        if isinstance(news, Alert):
            self._print(f"alert: {news.text}")
        elif news.is_engagement:
            self._print(_moved(news))

    def _print(self, words: str) -> None:
        self._console.print(f"{datetime.now(UTC):%H:%M:%S} {words}", markup=False, highlight=False, soft_wrap=True)


def _moved(change: Change) -> str:
    data = change.data
    cause = f"by time alone, read {change.after_effective} ms later" if data["cause"] == "time" else data["cause"]
    until = f"; until {short(data['stays_until'])}" if data["stays_until"] else ""
    return f"{change.who}: {data['from']} → {data['to']} ({cause}): {change.why}{until}"
