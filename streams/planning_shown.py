"""A plan for people: tables in a terminal, and Markdown for a pull request, both of what `--json` prints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from streams.show import segment_text

NOWHERE = "no segment"
UNDECIDED_SHOWN = 12
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~])")


def plan_tables(told: dict[str, Any]) -> Iterator[Table | Text]:
    yield Text(_headline(told), style="bold")
    if sampled := _sampled(told):
        yield Text(sampled, style="yellow")
    for name, dimension in _moving(told):
        yield _matrix(name, dimension)
    if line := _still(told):
        yield Text(line, style="dim")
    if told["top"]:
        yield _examples(told)
    for line in _lines(told):
        yield Text(line)
    if told["undecided"]:
        yield _undecided(told)
    for line in _warnings(told):
        yield Text(line, style="bold red")


def _matrix(name: str, dimension: dict[str, Any]) -> Table:
    matrix = dimension["matrix"]
    columns = _columns(dimension)
    table = Table(title=_title(name, dimension), title_justify="left", title_style="bold")
    table.add_column("from ╲ to")
    for column in (*columns, "before", "after"):
        table.add_column(column or NOWHERE, justify="right")
    for row in _rows(dimension):
        counts = [count(matrix.get(row, {}).get(column, 0)) for column in columns]
        sizes = [f"{dimension[side][row]:,}" if row else "" for side in ("before", "after")]
        table.add_row(segment_text(row or NOWHERE), *counts, *sizes)
    return table


def _examples(told: dict[str, Any]) -> Table:
    title = f"The accounts that matter most, by {told['ranked_by']}"
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("account", "moves", "because now", "because then"):
        table.add_column(column, overflow="fold")
    for each in told["top"]:
        who = Text(each["name"] or each["account"], style="bold")
        for move in each["moves"]:
            moves = Text(f"{move['dimension']} ") + segment_text(move["from"]) + " → " + segment_text(move["to"])
            table.add_row(who, moves, Text(move["because"]), Text(move["will_be_because"]))
            who = Text("")
        table.add_section()
    return table


def _undecided(told: dict[str, Any]) -> Table:
    listed = list(told["undecided"].items())
    more = f", the {UNDECIDED_SHOWN} most of {len(listed)}" if len(listed) > UNDECIDED_SHOWN else ""
    table = Table(title=f"Cannot be decided{more}", title_justify="left", title_style="bold")
    table.add_column("segment")
    table.add_column("accounts", justify="right")
    table.add_column("because", overflow="fold")
    for place, each in listed[:UNDECIDED_SHOWN]:
        table.add_row(place, f"{each['accounts']:,}", Text("; ".join(each["because"])))
    return table


# -- Markdown -----------------------------------------------------------------------------------------------


def plan_markdown(told: dict[str, Any]) -> str:
    """For a pull request: what comes from accounts is escaped, and wakes nobody by an @."""
    parts = [f"### Plan: {_headline(told)}"]
    if sampled := _sampled(told):
        parts.append(f"_{sampled}_")
    parts += [_markdown_matrix(name, dimension) for name, dimension in _moving(told)]
    if line := _still(told):
        parts.append(plain(line))
    parts += [plain(line) for line in _lines(told)]
    if told["undecided"]:
        rows = [
            [plain(place), f"{each['accounts']:,}", plain("; ".join(each["because"]))]
            for place, each in list(told["undecided"].items())[:UNDECIDED_SHOWN]
        ]
        parts.append(_folded("Cannot be decided", markdown_table(["segment", "accounts", "because"], rows, {1})))
    if told["top"]:
        parts.append(_folded(f"The accounts that matter most, by {told['ranked_by']}", _markdown_examples(told)))
    parts += [f"**{plain(line)}**" for line in _warnings(told)]
    return "\n\n".join(parts) + "\n"


def _markdown_matrix(name: str, dimension: dict[str, Any]) -> str:
    columns, matrix = _columns(dimension), dimension["matrix"]
    rows = []
    for row in _rows(dimension):
        counts = [count(matrix.get(row, {}).get(column, 0)) for column in columns]
        sizes = [f"{dimension[side][row]:,}" if row else "" for side in ("before", "after")]
        rows.append([plain(row or NOWHERE), *counts, *sizes])
    head = ["from \\ to", *(plain(column or NOWHERE) for column in columns), "before", "after"]
    return f"**{plain(_title(name, dimension))}**\n\n{markdown_table(head, rows, set(range(1, len(head))))}"


def _markdown_examples(told: dict[str, Any]) -> str:
    rows = [
        [
            plain(each["name"] or each["account"]),
            plain(f"{move['dimension']}: {move['from'] or NOWHERE} → {move['to'] or NOWHERE}"),
            plain(move["because"]),
            plain(move["will_be_because"]),
        ]
        for each in told["top"]
        for move in each["moves"]
    ]
    return markdown_table(["account", "moves", "because now", "because then"], rows, set())


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], right: set[int]) -> str:
    rule = ["---:" if i in right else "---" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{plain(title)}</summary>\n\n{text}\n\n</details>"


def plain(text: str) -> str:
    return _MARKUP.sub(r"\\\1", " ".join(text.split())).replace("@", "@\N{ZERO WIDTH SPACE}")


# -- both ---------------------------------------------------------------------------------------------------


def _headline(told: dict[str, Any]) -> str:
    before = " and ".join(told["ruleset"]["from"]) or "no rules"
    accounts, moving = told["accounts"], told["moving"]
    of = f"of {accounts:,} account{'' if accounts == 1 else 's'} would move"
    return f"{before} → {told['ruleset']['to']}: {f'{moving:,}' if moving else 'none'} {of}"


def _sampled(told: dict[str, Any]) -> str:
    sample = told["sample"]
    if sample["one_in"] == 1:
        return ""
    return (
        f"estimated: one account in {sample['one_in']:,} was looked at ({sample['looked_at']:,} accounts, "
        f"seed {sample['seed']}), and counts are multiplied by {sample['one_in']:,}"
    )


def _moving(told: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, each) for name, each in told["dimensions"].items() if each["moved"])


def _still(told: dict[str, Any]) -> str:
    still = [name for name, each in told["dimensions"].items() if not each["moved"]]
    return f"nothing moves in {', '.join(still)}" if still else ""


def _title(name: str, dimension: dict[str, Any]) -> str:
    status = "" if dimension["status"] == "same" else f" ({dimension['status']})"
    moved = dimension["moved"]
    return f"{name}{status}: {moved:,} move{'' if moved == 1 else 's'}"


def _rows(dimension: dict[str, Any]) -> list[str]:
    """Segments that somebody leaves or comes to, in the order of the dimension, no segment last."""
    matrix = dimension["matrix"]
    named = {*matrix, *(column for to in matrix.values() for column in to)}
    return [*(each for each in dimension["before"] if each in named), *([""] if "" in matrix else [])]


def _columns(dimension: dict[str, Any]) -> list[str]:
    to = {column for row in dimension["matrix"].values() for column in row}
    return [*(each for each in dimension["before"] if each in to), *([""] if "" in to else [])]


def _lines(told: dict[str, Any]) -> Iterator[str]:
    volume = told["volume"]
    if volume["changes"]:
        by = [f"{name} {count:,}" for name, count in volume["by_dimension"].items()]
        if told["first_evaluated"]:
            by.append(f"{told['first_evaluated']:,} accounts evaluated for the first time")
        changes = f"{volume['changes']:,} ({', '.join(by)})"
        yield f"changes to publish, each a call of every webhook that asks: {changes}"
        alerts = [f"{name} {count:,}" for name, count in volume["alerts"].items()]
        yield f"alerts, before cool-downs: {', '.join(alerts) or 'none'}"
    if empty := told["segments"]["empty"]:
        yield f"nobody would be in {', '.join(empty)}"
    if tiny := told["segments"]["tiny"]:
        yield f"fewer than one account in 1,000 would be in {', '.join(tiny)}"
    if fresh := told["new_measures"]:
        asks = sorted({place for places in fresh.values() for place in places})
        new, them = ("measure is", "it") if len(fresh) == 1 else ("measures are", "them")
        ask = "asks" if len(asks) == 1 else "ask"
        yield (
            f"{len(fresh)} {new} new and kept from the switch on: until filled, what {', '.join(asks)} {ask} of "
            f"{them} is unknown"
        )


def _warnings(told: dict[str, Any]) -> Iterator[str]:
    for what, count in told["would_raise"]["accounts"].items():
        examples = ", ".join(told["would_raise"]["examples"])
        yield f"{count:,} accounts would go into quarantine ({what}), such as {examples}"


def count(number: int) -> str:
    return f"{number:,}" if number else "·"
