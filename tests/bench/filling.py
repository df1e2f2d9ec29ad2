"""How late changes are while a backfill runs beside the worker, against how late they are without one.

The same worker, the same 300 events a second. While the second half is measured, `isotherm deploy --backfill`
runs again and again, each time with one more dimension of which every measure is new: the log is read from its
beginning, every account is filled, every account is swept.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import live
from reporting import Table, quantile
from workload import SHIPPED

RATE = 300  # events a second: there is room beside the worker on two cores
GOAL = 2.0  # times the p99 without a backfill
ONE_MORE = """
dimension: filled_{n}
on_unknown: stop
segments:
  - {{segment: often, when: {{count: page_viewed, at_least: 5, within: {days}d}}}}
  - {{segment: seldom, otherwise: true}}
"""


@dataclass(slots=True)
class Found:
    """Latencies without and with; how often the whole was filled meanwhile."""

    without: live.Latency
    beside: live.Latency
    filled: int


async def measure(installation: live.Installation, seconds: float) -> Found:
    await installation.start()
    without = await live.changes(installation, "no backfill", seconds, RATE)
    async with _filling(installation) as filled:
        beside = await live.changes(installation, "beside a backfill", seconds, RATE)
    return Found(without, beside, len(filled))


@asynccontextmanager
async def _filling(installation: live.Installation) -> AsyncIterator[list[int]]:
    """Backfills one after the other; which of them are done."""
    done: list[int] = []
    running = asyncio.create_task(_fill_again(installation, done))
    try:
        yield done
    finally:
        if running.done():
            running.result()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _fill_again(installation: live.Installation, done: list[int]) -> None:
    rules = installation.directory / "rules"
    shutil.copytree(SHIPPED, rules)
    for n in range(1_000):
        (rules / f"filled_{n}.yaml").write_text(ONE_MORE.format(n=n, days=20 + n))
        await _deploy(rules, installation)
        done.append(n)


async def _deploy(rules: Path, installation: live.Installation) -> None:
    command = [sys.executable, "-m", "streams.cli", "deploy", str(rules), "--backfill", "all", "--quiet"]
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | installation.environment,
        cwd=installation.directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"the backfill ended with status {process.returncode}:\n{said.decode()[-2000:]}")


def table(name: str, found: Found) -> Table:
    made = Table(f"How late, while a backfill runs ({name})", ["", "p50 ms", "p99 ms", "worst ms", "measured"])
    for each in (found.without, found.beside):
        p50, p99 = quantile(each.ms, 0.5), quantile(each.ms, 0.99)
        made.rows.append([each.name, f"{p50:.1f}", f"{p99:.1f}", f"{max(each.ms):.1f}", f"{len(each.ms):,}"])
    times = quantile(found.beside.ms, 0.99) / quantile(found.without.ms, 0.99)
    made.notes = [
        f"p99 is {times:.2f} times as high; the goal is {GOAL:.0f} times at most",
        f"{found.filled} backfills of the whole log were finished meanwhile, another went on",
    ]
    return made
