"""The screen of `isotherm status`: first what somebody has to look at, then what is behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streams.letters import safe
from streams.observing.standing import Standing, ranges

LISTED = 16  # partitions; of more, those that are well are told in one line
VERIFIED = {
    "over": "stand in a segment in which they should not be",
    "under": "are missing from one",
    "answers": "stand elsewhere than the log says",
    "wakes": "are due at another instant",
    "sets": "have sets that do not agree with their states",
}
COLUMNS = ("partition", "state", "owner", "lag", "behind", "overdue", "outbox", "accounts", "epoch", "rules")


def screen(found: Standing, *, whole: bool = False) -> RenderableType:
    """`whole`: every partition has its row."""
    told = found.plain()
    parts = (_problems(told), _log(told, whole), _workers(told), _sources(told), _endpoints(told), _footer(told))
    return Group(*(each for part in parts for each in part))


def _problems(told: Mapping[str, Any]) -> Iterator[Text]:
    if not told["problems"]:
        yield Text("nothing is stuck", style="green")
    for each in told["problems"]:
        yield Text(safe(f"! {each}", keep=""), style="bold red")


def _log(told: Mapping[str, Any], whole: bool) -> Iterator[RenderableType]:
    every = told["partitions"]
    well = [each for each in every if each["state"] == "well"]
    short = not whole and len(every) > LISTED
    yield Text()
    table = _table(*COLUMNS, right=COLUMNS[3:9])
    for each in every:
        if not (short and each["state"] == "well"):
            table.add_row(*_cells(_row(each)))
    if table.row_count:
        yield table
    if short and well:
        lag, accounts = sum(each["lag"] for each in well), sum(each["accounts"] for each in well)
        yield Text(
            f"{len(well)} of {len(every)} partitions are well: {ranges([each['partition'] for each in well])}; "
            f"lag {lag:,}, {accounts:,} accounts, {len({each['owner'] for each in well})} worker(s)"
        )
    if len(rules := {each["ruleset"] for each in every}) > 1:
        yield Text(f"{len(rules)} rulesets are in force: a deployment goes on, or did not reach all partitions")


def _row(each: Mapping[str, Any]) -> tuple[str, ...]:
    rules = each["ruleset"] or "none"
    return (
        str(each["partition"]), each["state"], each["owner"] or "–", f"{each['lag']:,}",
        duration(each["lag_seconds"]), duration(each["wake_overdue_seconds"]), f"{each['outbox']:,}",
        f"{each['accounts']:,}", str(each["epoch"]),
        f"{rules} ({each['deployment']})" if each["deployment"] else rules,
    )  # fmt: skip


def _workers(told: Mapping[str, Any]) -> Iterator[RenderableType]:
    paced = [each for each in told["workers"] if each["seconds"]]
    if not paced:
        return
    names = ("partitions", "records", "batches", "commit p50", "commit p99")
    table = _table("worker", *names, "within", right=(*names, "within"))
    for each in paced:
        commits = (milliseconds(each[name]) for name in ("commit_p50_ms", "commit_p99_ms"))
        counts = (len(each["partitions"]), each["records"], each["batches"])
        table.add_row(*_cells((each["worker"], *(f"{n:,}" for n in counts), *commits, duration(each["seconds"]))))
    yield Text()
    yield table


def _sources(told: Mapping[str, Any]) -> Iterator[RenderableType]:
    table = _table("source", "lag", "", right=("lag",))
    for each in told["sources"]:
        if each["lag"] or each["paused"]:
            table.add_row(*_cells((each["source"], f"{each['lag']:,}", "paused" if each["paused"] else "")))
    yield Text()
    yield table if table.row_count else Text(f"sources: all of {len(told['sources'])} partitions are routed")


def _endpoints(told: Mapping[str, Any]) -> Iterator[RenderableType]:
    if not told["endpoints"]:
        return
    names = ("endpoint", "state", "waiting", "given_up", "last_success")
    table = _table(*(name.replace("_", " ") for name in names), right=("waiting", "given up"))
    for each in told["endpoints"]:
        table.add_row(*_cells("–" if each[name] is None else str(each[name]) for name in names))
    yield Text()
    yield table


def _footer(told: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield Text()
    letters = told["dead_letters"]
    if letters is None:
        yield Text("dead letters: more than can be counted in a moment; isotherm dead-letters list")
    else:
        kinds = ", ".join(f"{each['open']:,} {each['reason']} ({each['stage']})" for each in letters)
        yield Text(safe(f"dead letters: {kinds or 'none'}", keep=""))
    waiting = ", ".join(f"{count:,} for {channel}" for channel, count in told["alerts_waiting"].items() if count)
    yield Text(safe(f"alerts waiting: {waiting or 'none'}", keep=""))
    yield Text(verified(told["verified"]))
    yield Text(f"as of {told['as_of']}", style="dim")


def _table(*columns: str, right: Iterable[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False)
    for each in columns:
        table.add_column(each, justify="right" if each in right else "left")
    return table


def _cells(texts: Iterable[str]) -> list[Text]:
    return [Text(safe(each, keep="")) for each in texts]


def verified(told: Mapping[str, Any] | None) -> str:
    """What `isotherm verify` found last."""
    if told is None:
        return "never verified: isotherm verify compares Redis with the log"
    found = [f"{told[kind]:,} {says}" for kind, says in VERIFIED.items() if told[kind]]
    return f"last verified {told['at']}, {told['accounts']:,} accounts: {', '.join(found) or 'as the log says'}"


def milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f} ms"


def duration(seconds: int) -> str:
    """Short, for a column: 0, 42 s, 3 min, 5 h, 2 d."""
    if not seconds:
        return "0"
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"
