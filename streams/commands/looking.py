"""What is: an account, all of them, changes as they come."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from rules.tally import DAYS_KEPT
from streams.terminal import (
    NO,
    Json,
    err,
    fail,
    instant_or_exit,
    out,
    print_json,
    read_settings,
    run,
)


def explain(account: str, *dimensions: str, at: str | None = None, json_: Json = False) -> None:
    """Tell each segment an account is in: why, since when, and until when if nothing happens.

    ACCOUNT is an account's id or its web domain; DIMENSIONS leave the others out. AT tells where it stood at an
    instant of the past, from the account log.

    Example: isotherm explain blueharbor.example engagement intent
    """
    from streams.commands.plan import bar
    from streams.history import HistoryProblem, explain_at
    from streams.inspect import explain_account
    from streams.refolding import LogProblem
    from streams.show import explanation_tree

    instant, settings = instant_or_exit(at) if at else 0, read_settings()
    try:
        if at:
            with bar("folding the log", quiet=json_) as progress:
                told = run(explain_at(account, instant, settings, progress))
        else:
            told = run(explain_account(account, settings))
    except (HistoryProblem, LogProblem) as error:
        fail(str(error), NO)
    if told is None:
        fail(f"account {account} is not known" + (f" at {at}" if at else ""), NO)
    if unknown := [name for name in dimensions if name not in told["dimensions"]]:
        fail(f"no dimension {unknown[0]}; there are {', '.join(told['dimensions'])}", 2)
    if dimensions:
        told["dimensions"] = {name: told["dimensions"][name] for name in dimensions}
    if json_:
        print_json(told)
    else:
        out.print(explanation_tree(told))


def report(
    *, days: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=DAYS_KEPT))] = 30, json_: Json = False
) -> None:
    """Tell how good the data is, how much the segments move, and how it went with the accounts in them.

    Outcomes and moves are those of the last DAYS days. An outcome counts for the segments that the account held
    just before it.

    Example: isotherm report --days 7
    """
    from rich.progress import Progress

    from streams.report import report as gather
    from streams.show import report_tables

    settings = read_settings()
    with Progress(console=err, transient=True, disable=json_ or not sys.stderr.isatty()) as bar:
        task = bar.add_task("reading accounts", total=settings.partitions)
        told = run(gather(settings, days, lambda done, of: bar.update(task, completed=done)))
    if json_:
        print_json(told)
    else:
        for table in report_tables(told):
            out.print(table)


def tail(*, json_: Json = False, since: Literal["now", "beginning"] = "now", limit: int = 0) -> None:
    """Follow changes as they are published. Stops after LIMIT changes if that is given, else on Ctrl-C.

    Example: isotherm tail --since beginning --json | jq .data.reason.text
    """
    from streams.inspect import follow_changes
    from streams.show import change_line

    async def show() -> None:
        seen = 0
        async for value in follow_changes(read_settings(), since):
            if json_:
                sys.stdout.buffer.write(value + b"\n")
                sys.stdout.flush()
            else:
                for line in change_line(json.loads(value)):
                    out.print(line)
            seen += 1
            if seen == limit:
                return

    run(show())
