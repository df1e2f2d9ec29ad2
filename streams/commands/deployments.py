"""Rules in force: deploy them, see what was deployed and how far it is, put an earlier version in force again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from streams.commands import SHIPPED
from streams.terminal import NO, Json, err, fail, load_or_exit, out, print_json, read_settings, run, shown

if TYPE_CHECKING:
    from rules.records import RulesetRecord
    from streams.deployments import Deployment, History

LINES_SHOWN = 12  # of what changed with a deployment
WATCH_S = 5.0
NICE = 10
Quiet = Annotated[
    bool,
    Parameter(
        name="--quiet",
        negative="--announce",
        help="What these rules change alerts nobody and starts no journey (origin `backfill`).",
    ),
]


def deploy(
    directory: Path = SHIPPED,
    *,
    message: str = "",
    quiet: Quiet = False,
    by: str = "",
    backfill: str = "",
    json_: Json = False,
) -> None:
    """Validate rules and put them in force: one record into every partition of the log.

    Each partition switches at its record; accounts are asked again when they are next touched, and by a sweep in
    the background. BY is who deploys, else the user of this process. `isotherm deployments` shows how far it is.

    What rules count for the first time, or over a longer time than before, is counted from the switch on, and
    unknown where that is too short to tell. With BACKFILL (`90d`, or `all`) so much of the past is counted too, by
    this process once the rules are in force. Ended early, `isotherm backfill` goes on.

    Example: isotherm deploy rules/segments --message "demos count for 90 days" --backfill 90d
    """
    wanted = length(backfill)
    record, told = _put_in_force(load_or_exit(directory), message, quiet, by, wanted)
    if wanted is None or not json_:
        _tell(told, json_)
    if wanted is not None:
        fill(json_, (record.deployment, record.received), told)


def backfill(*, watch: bool = False, json_: Json = False) -> None:
    """Go on with what `deploy --backfill` began: give measures the past that they lack.

    With WATCH it stays, and does so whenever a deployment asks for it. Any number of times is as good as once.

    Example: isotherm backfill
    """
    while True:
        fill(json_, quietly=watch)
        if not watch:
            return
        time.sleep(WATCH_S)


def fill(
    json_: bool,
    awaited: tuple[str, int] | None = None,
    deployed: Mapping[str, Any] | None = None,
    quietly: bool = False,
) -> None:
    """`quietly`: nothing is said where there is nothing to do. As JSON it is told with what was `deployed`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from streams.backfilling import BackfillProblem
    from streams.backfilling import backfill as give_past
    from streams.refolding import LogProblem

    settings = read_settings()
    with suppress(OSError):
        os.nice(NICE)  # workers on this machine come first
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, transient=True, disable=json_ or not sys.stderr.isatty()) as bar:
        task = bar.add_task("looking", total=None)

        def progress(what: str, done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of or None)

        try:
            told = run(give_past(settings, progress, awaited))
        except (BackfillProblem, LogProblem) as error:
            if json_ and deployed:
                print_json({**deployed, "backfill": None})
            fail(str(error), NO)
    if quietly and not told.deployments:
        return
    if json_:
        print_json({**deployed, "backfill": told.plain()} if deployed else told.plain())
    elif told.deployments:
        out.print(
            f"{told.accounts:,} accounts have the past that {', '.join(told.deployments)} asked for, from "
            f"{told.records:,} records in {told.seconds:.1f} s",
            markup=False,
        )
    else:
        out.print("nothing lacks its past: no deployment in force asked for more than there is", markup=False)


def length(text: str) -> int | None:
    from rules import durations

    if text in ("", "all"):
        return 0 if text else None
    try:
        return durations.parse(text)
    except ValueError as error:
        fail(f"--backfill {text}: {error}; it is a length of time like 90d, or `all`", 2)


def deployments(id: str = "", *, limit: int = 10, json_: Json = False) -> None:
    """List what was deployed, newest first: who, when, what for, what changed, and how far the partitions are.

    ID (or how it begins) shows one deployment, all its changes and each partition in which it is in force.

    Example: isotherm deployments --limit 3
    """
    told = _history()
    if id:
        chosen = _chosen(told, id)
        if json_:
            print_json(chosen.plain())
        else:
            _show(chosen, told, all_of_it=True)
        return
    if json_:
        print_json(told.plain() | {"deployments": [each.plain() for each in told.deployments[: max(limit, 0)]]})
        return
    for each in told.deployments[: max(limit, 0)]:
        _show(each, told)
    if not told.deployments:
        out.print("no rules are in force: nothing was deployed, or no worker has come to it yet")
    if told.lost:
        err.print(f"{told.lost} older one(s) are not in the log any more")


def rollback(id: str = "", *, message: str = "", quiet: Quiet = False, by: str = "", json_: Json = False) -> None:
    """Put the rules of an earlier deployment in force again, as a new deployment.

    Without ID these are the rules before the present ones; where no worker has come to a deployment yet, nothing
    says which these are, and ID must be given. `rollback ID` goes back TO that deployment: afterwards the rules
    are what they were with it. ID may be how it begins. Nothing else is undone: what accounts did since counts by
    these rules.

    Example: isotherm rollback 20260302-0915
    """
    from rules.compiler import compile_files
    from rules.errors import RulesetError

    told = _history()
    chosen = _chosen(told, id) if id else _previous(told)
    try:
        ruleset = compile_files(chosen.files)
    except RulesetError as error:
        for each in shown(error.problems):
            err.print(each, markup=False)
        fail(f"this version of Isotherm cannot load the rules of {chosen.id}; nothing was done", NO)
    said = f"back to {chosen.id}" + (f": {message}" if message else "")
    _, put = _put_in_force(ruleset, said, quiet, by)
    _tell(put, json_)


def _put_in_force(
    ruleset: Any, message: str, quiet: bool, by: str, backfill: int | None = None
) -> tuple[RulesetRecord, dict[str, Any]]:
    """The record, and what is told of it."""
    from streams.deploy import DeployProblem, How, put_in_force

    settings = read_settings()
    try:
        record: RulesetRecord = run(put_in_force(ruleset, How(message, by, quiet, backfill), settings))
    except DeployProblem as error:
        fail(str(error), NO)
    told = {"deployment": record.deployment, "ruleset": ruleset.hash, "partitions": settings.partitions}
    return record, told | {"quiet": quiet, "by": record.author, "message": message}


def _tell(told: dict[str, Any], json_: bool) -> None:
    if json_:
        print_json(told)
        return
    out.print(f"ruleset {told['ruleset']} appended to {told['partitions']} partitions", markup=False)
    out.print(f"deployment {told['deployment']}; how far it is: isotherm deployments", markup=False)


def _history() -> History:
    from streams.deployments import history

    return run(history(read_settings()))


def _chosen(told: History, id: str) -> Deployment:
    from rules.errors import did_you_mean

    found = told.find(id)
    if len(found) > 1:
        fail(f"{id!r} is how {len(found)} deployments begin: {', '.join(each.id for each in found)}", 2)
    if not found:
        known = did_you_mean(id, [each.id for each in told.deployments])
        fail(f"no deployment {id!r}" + (f" ({known})" if known else ""), NO)
    return found[0]


def _previous(told: History) -> Deployment:
    from streams.deployments import unreached

    if waiting := run(unreached(read_settings())):
        fail(
            f"no worker has come to {', '.join(waiting)} yet, so nothing says which rules are the present ones: "
            "name the deployment to go back to (isotherm deployments lists them)",
            NO,
        )
    present = told.in_force
    earlier = told.before(present) if present is not None else None
    if earlier is None:
        fail("there is no earlier deployment in the log to go back to", NO)
    return earlier


# -- for people ---------------------------------------------------------------------------------------------


def _show(each: Deployment, told: History, all_of_it: bool = False) -> None:
    from rules.changes import iso
    from streams.show import short

    marks = ["quiet"] if each.quiet else []
    head = [each.id, f"{short(iso(each.at))} UTC", each.by or "somebody", *marks, each.message]
    out.print("  ".join(filter(None, head)), markup=False, highlight=False)
    for line in _changes(each, sys.maxsize if all_of_it else LINES_SHOWN):
        out.print(f"    {line}", markup=False)
    if each.progress:
        out.print(f"    {_progress(each, told.partitions)}", markup=False)
        if filling := sum(one.is_filling for one in each.progress):
            says = f"its past is being filled in {filling} partition(s); if nobody does: isotherm backfill"
            out.print(f"    {says}", markup=False)
    if all_of_it:
        for one in each.progress:
            state = "all asked" if one.is_swept else f"{one.swept:,} asked"
            out.print(f"    partition {one.partition}: {state} of {one.accounts:,} accounts", markup=False)


def _changes(each: Deployment, most: int) -> list[str]:
    if each.changes is None:
        return [f"ruleset {each.ruleset}"]
    if not each.changes:
        return ["the same rules as before"]
    more = len(each.changes) - most
    return [*each.changes[:most], *([f"and {more} more: isotherm deployments {each.id}"] if more > 0 else [])]


def _progress(each: Deployment, partitions: int) -> str:
    """How far the partitions are in which it is in force."""
    accounts, swept = sum(one.accounts for one in each.progress), sum(one.swept for one in each.progress)
    where = f"in force in {len(each.progress)} of {partitions} partitions"
    if all(one.is_swept for one in each.progress):
        return f"{where}, all {accounts:,} accounts asked"
    return f"{where}, {swept:,} of {accounts:,} accounts asked ({swept / max(accounts, 1):.0%})"
