"""What two rulesets would have told of the same past, for people: in a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from streams.planning_shown import count, markdown_table, plain
from streams.show import short

ALERTS = {
    "alerts": "alerts",
    "accounts": "accounts alerted of",
    "followed_by_outcome": "followed by an outcome",
    "too_early_to_tell": "too early to tell",
    "judged": "judged: their time is over",
    "precision": "precision",
    "outcomes": "outcomes",
    "outcomes_announced": "that an alert came before",
    "coverage": "coverage",
}
SHARES = ("precision", "coverage")


def hindsight_tables(told: dict[str, Any]) -> Iterator[Table | Text]:
    yield Text(_headline(told), style="bold")
    for line in _notes(told):
        yield Text(line, style="dim")
    for title, head, rows in _parts(told):
        table = Table(title=title, title_justify="left", title_style="bold")
        for i, column in enumerate(head):
            table.add_column(column, justify="right" if i else "left")
        for row in rows:
            table.add_row(*row)
        yield table
    for line in _accounts(told):
        yield Text(line)


def hindsight_markdown(told: dict[str, Any]) -> str:
    parts = [f"### {plain(_headline(told))}", *(f"_{plain(line)}_" for line in _notes(told))]
    for title, head, rows in _parts(told):
        table = markdown_table(head, [[plain(cell) for cell in row] for row in rows], {1, 2, 3})
        parts.append(f"**{plain(title)}**\n\n{table}")
    return "\n\n".join([*parts, *map(plain, _accounts(told))]) + "\n"


def _headline(told: dict[str, Any]) -> str:
    before, after = told["ruleset"]["from"] or "no rules", told["ruleset"]["to"]
    return f"{short(told['since'])} to {short(told['until'])} UTC, under {before} and under {after}"


def _notes(told: dict[str, Any]) -> Iterator[str]:
    if told["one_in"] > 1:
        yield f"estimated: one account in {told['one_in']:,} was looked at, and counts are multiplied by that"
    if not told["differs"]:
        yield "no difference"


def _parts(told: dict[str, Any]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    before, after = told["ruleset"]["from"] or "no rules", told["ruleset"]["to"]
    changes = [
        [name, count(each["from"]), count(each["to"]), _difference(each["to"] - each["from"])]
        for name, each in told["changes"].items()
        if each["from"] or each["to"]
    ]
    yield "Changes", ["dimension", before, after, "difference"], changes
    alerts = told["alerts"]
    outcomes = ", ".join(alerts["outcomes"])
    title = f"Alerts of {', '.join(alerts['places'])}; an outcome ({outcomes}) within {told['within_days']:g} days"
    rows = [
        [says, *(_value(what, alerts[side][what]) for side in ("from", "to"))] for what, says in ALERTS.items()
    ]
    yield title, ["", before, after], rows


def _accounts(told: dict[str, Any]) -> Iterator[str]:
    accounts = told["alerts"]["accounts"]
    for side, hash in (("only_from", told["ruleset"]["from"]), ("only_to", told["ruleset"]["to"])):
        if each := accounts[side]:
            such = f": {', '.join(each['examples'])}" if each["examples"] else ""
            yield f"alerted of under {hash or 'no rules'} alone, {each['count']:,}{such}"


def _difference(number: int) -> str:
    return f"{number:+,}" if number else "·"


def _value(what: str, value: float | None) -> str:
    if what not in SHARES:
        return count(int(value or 0))
    return "nobody can say" if value is None else f"{value:.1%}"
