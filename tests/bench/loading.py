"""How long loading rules takes, and how long refusing what somebody may send in their place.

The shipped library is loaded as a worker does when rules come through the log; each case of `tests/rules/hostile`
is refused. CPU time of this process: both are nothing but computing, and the machine may have more to do.

    python tests/bench/loading.py [--runs N] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from reporting import Table, spread
from rich.console import Console

from rules.compiler import compile_files, load
from rules.errors import RulesetError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "rules" / "segments"
sys.path.append(str(ROOT / "tests" / "rules" / "hostile"))

from corpus import REFUSED, Files  # noqa: E402

LOAD_GOAL, REFUSAL_GOAL = 300.0, 50.0  # ms
SLOWEST_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Timed:
    """CPU milliseconds of several runs."""

    name: str
    ms: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.ms)


def measure(runs: int) -> tuple[Timed, list[Timed]]:
    """The library's loading, and each refusal, the slowest first."""
    loading = timed("the shipped library", lambda: load(SHIPPED), runs)
    refusals = [timed(name, lambda files=files: refused(files), runs) for name, (files, _) in REFUSED.items()]
    return loading, sorted(refusals, key=lambda each: -each.median)


def timed(name: str, work: Callable[[], object], runs: int) -> Timed:
    work()  # what is only done once a process is not asked for
    found = []
    for _ in range(runs):
        begun = time.process_time()
        work()
        found.append((time.process_time() - begun) * 1000)
    return Timed(name, tuple(found))


def refused(files: Files) -> None:
    try:
        compile_files(files)
    except RulesetError:
        return
    raise AssertionError("it loaded")


def table(loading: Timed, refusals: list[Timed]) -> Table:
    made = Table("Loading rules", ["CPU ms (min – median – max)", "ms", "goal"])
    made.rows.append([loading.name, spread(loading.ms, 1), _goal(loading.median, LOAD_GOAL)])
    made.rows += [
        [f"refusing {each.name}", spread(each.ms, 1), _goal(each.median, REFUSAL_GOAL)]
        for each in refusals[:SLOWEST_SHOWN]
    ]
    texts = [path.read_text(encoding="utf-8") for path in SHIPPED.rglob("*.yaml")]
    made.notes.append(f"the library: {len(texts)} files, {sum(map(len, texts)) // 1024} KB, its tests included")
    made.notes.append(f"the slowest of {len(refusals)} refusals; the median of all is {middle(refusals):.1f} ms")
    return made


def middle(refusals: list[Timed]) -> float:
    return median(each.median for each in refusals)


def _goal(found: float, goal: float) -> str:
    return f"< {goal:.0f}" + ("" if found < goal else ", missed")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    loading, refusals = measure(options.runs)
    if options.json:
        print(json.dumps({each.name: each.ms for each in (loading, *refusals)}, indent=1))
    else:
        table(loading, refusals).show(Console())


if __name__ == "__main__":
    main()
