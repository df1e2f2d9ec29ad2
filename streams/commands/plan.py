"""`isotherm plan`: who moves if these rules come into force, and what they would have done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, validators

from rules.durations import DAY
from streams.terminal import NO, Json, err, fail, load_or_exit, out, print_json, read_settings, run

ALERT = "engagement/hot"  # whom --since asks about
MOVES = 4  # the exit code that --exit-code asks for
Flag = Annotated[bool, Parameter(negative="")]


def plan(
    directory: Path,
    *,
    since: str = "",
    by: str = "",
    top: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=1_000))] = 10,
    alert: tuple[str, ...] = (),
    within: str = "",
    sample: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0,
    seed: int = 0,
    csv: Path | None = None,
    markdown: Flag = False,
    exit_code: Flag = False,
    processes: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=16))] = 0,
    json_: Json = False,
) -> None:
    """Tell who would move, and why, if the rules in DIRECTORY came into force now. Nothing is changed.

    Every account is asked again as it stands, as a deployment would ask it. BY names the ladder or fact by which
    the TOP accounts are chosen. ALERT names segments of which somebody is told, in place of the alert rules. With
    SAMPLE about so many accounts are looked at, which ones SEED decides, and counts are scaled. CSV is a file for
    every move; MARKDOWN prints the plan for a pull request. With EXIT-CODE the exit code is 4 when somebody would
    move. PROCESSES are as many as there are cores, unless given.

    SINCE, such as 30d, replays the log of that time instead, under the rules in force and under these, and
    compares what was told, and how often moves into ALERT (engagement/hot) were followed by an outcome WITHIN a
    time: 30d, or half of SINCE where that is less.

    Example: isotherm plan rules/segments --markdown
    """
    if csv and since:
        fail("--csv is for a plan, not for --since", 2)
    if json_ and markdown:
        fail("--json or --markdown, not both", 2)
    ruleset, settings = load_or_exit(directory), read_settings()
    if since:
        told = _hindsight(ruleset, settings, since, alert, within, sample, seed, json_ or markdown)
    else:
        told = _plan(ruleset, settings, by, top, alert, sample, seed, csv, processes, json_ or markdown)
    _show(told, since != "", markdown, json_)
    sys.exit(MOVES if exit_code and (told["differs"] if since else told["moving"]) else 0)


def _plan(
    ruleset: Any,
    settings: Any,
    by: str,
    top: int,
    alert: tuple[str, ...],
    sample: int,
    seed: int,
    csv: Path | None,
    processes: int,
    quiet: bool,
) -> dict[str, Any]:
    from streams.planning import PlanProblem, Request, alerts_of
    from streams.planning import plan as make

    try:
        request = Request(ruleset, by, top, alerts_of(settings, ruleset, alert), sample, seed, csv, processes)
        with bar("reading accounts", quiet=quiet) as progress:
            told: dict[str, Any] = run(make(settings, request, progress)).plain()
    except PlanProblem as error:
        fail(str(error), NO)
    return told


def _hindsight(
    ruleset: Any,
    settings: Any,
    since: str,
    alert: tuple[str, ...],
    within: str,
    sample: int,
    seed: int,
    quiet: bool,
) -> dict[str, Any]:
    from streams.hindsight import compare
    from streams.planning import PlanProblem, places_of
    from streams.refolding import LogProblem

    try:
        places, long = frozenset(places_of(ruleset, alert or (ALERT,))), _length(since)
        time = _length(within) if within else min(30 * DAY, long // 2)  # of which alerts are over, and some not
        with bar("folding the log", quiet=quiet) as progress:
            told: dict[str, Any] = run(
                compare(settings, ruleset, long, places, time, sample, seed, progress)
            ).plain()
    except (LogProblem, PlanProblem) as error:
        fail(str(error), NO)
    return told


def _length(text: str) -> int:
    from rules.durations import parse

    try:
        return parse(text)
    except ValueError as error:
        fail(f"{text!r} is no length of time: {error}", 2)


def _show(told: dict[str, Any], is_hindsight: bool, markdown: bool, json_: bool) -> None:
    from streams import hindsight_shown, planning_shown

    if json_:
        print_json(told)
    elif markdown:
        text = hindsight_shown.hindsight_markdown(told) if is_hindsight else planning_shown.plan_markdown(told)
        sys.stdout.write(text)
    else:
        for each in hindsight_shown.hindsight_tables(told) if is_hindsight else planning_shown.plan_tables(told):
            out.print(each)


@contextmanager
def bar(doing: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    from rich.progress import Progress

    with Progress(console=err, transient=True, disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
