"""`isotherm shadow`: other rules beside those in force, and what would differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App

from streams.commands.deployments import Quiet
from streams.terminal import NO, Json, err, fail, load_or_exit, out, print_json, read_settings, run

app = App(name="shadow", help="Run other rules beside those in force, see what differs, and put them in force.")


@app.command(name="run")
def run_(directory: Path, *, once: bool = False) -> None:
    """Fold the account log under the rules in DIRECTORY, beside those in force, and go on as it grows.

    Nothing goes out. It needs room in Redis for every account once more. Ended, the same command goes on; with
    ONCE it ends when it has caught up. `isotherm shadow status` shows what differs.

    Example: isotherm shadow run rules/segments
    """
    from streams.commands.plan import bar
    from streams.refolding import LogProblem
    from streams.shadowing import ShadowProblem
    from streams.shadowing import run as fold

    ruleset = load_or_exit(directory)
    settings = read_settings()
    err.print(f"ruleset {ruleset.hash} in the shadow; isotherm shadow status says what differs", markup=False)
    try:
        with bar("folding the log", quiet=False) as progress:
            run(fold(settings, ruleset, progress, once))
    except (ShadowProblem, LogProblem) as error:
        fail(str(error), NO)


@app.command
def status(*, json_: Json = False) -> None:
    """Show how the rules in the shadow differ from those in force, now and over time.

    Example: isotherm shadow status --json
    """
    from streams.shadowing import compare

    ruleset, now, before = _asked(compare(read_settings()))
    if json_:
        history = [{"at": each.plain()["at"], "differing": each.differing} for each in before]
        print_json({"ruleset": ruleset.hash, **now.plain(), "differing": now.differing, "history": history})
        return
    _show(ruleset.hash, now, before)


@app.command
def promote(
    *, message: str = "", quiet: Quiet = False, by: str = "", backfill: str = "", json_: Json = False
) -> None:
    """Put the rules of the shadow in force: one record into every partition of the log, as `isotherm deploy` does.

    With BACKFILL what they count for the first time gets its past. `isotherm shadow drop` then removes the shadow.

    Example: isotherm shadow promote --message "two weeks beside the old ones" --backfill all
    """
    from streams.commands.deployments import fill, length
    from streams.deploy import DeployProblem, How
    from streams.shadowing import promote as put

    wanted = length(backfill)
    try:
        record = _asked(put(read_settings(), How(message, by, quiet, wanted)))
    except DeployProblem as error:
        fail(str(error), NO)
    if json_:
        print_json({"deployment": record.deployment, "ruleset": record.hash, "by": record.author})
    else:
        out.print(f"deployment {record.deployment}; how far it is: isotherm deployments", markup=False)
    if wanted is not None:
        fill(json_, (record.deployment, record.received))


@app.command
def drop() -> None:
    """Remove the shadow. The rules in force, and what they say, are not touched.

    Example: isotherm shadow drop
    """
    from streams.shadowing import drop as remove

    removed = _asked(remove(read_settings()))
    out.print("the shadow is gone" if removed else "there was no shadow")


def _asked(work: Any) -> Any:
    from streams.shadowing import ShadowProblem

    try:
        return run(work)
    except ShadowProblem as error:
        fail(str(error), NO)


def _show(hash: str, now: Any, before: list[Any]) -> None:
    from rich.table import Table

    from streams.shadowing import moved
    from streams.show import short

    behind = f", {now.behind:,} records behind" if now.behind else ""
    at = f" at {short(now.plain()['at'])} UTC" if now.at else ""
    out.print(f"ruleset {hash} in the shadow{at}{behind}", markup=False)
    if not now.differing:
        out.print("no account stands elsewhere")
    else:
        table = Table("segment", "in force", "shadow", "only in force", "only shadow", box=None)
        for place, numbers in moved(now).items():
            table.add_row(place, *(f"{each:,}" for each in numbers))
        out.print(table)
    for each in before[:: max(1, len(before) // 10)][:10]:
        out.print(f"    {short(each.plain()['at'])} UTC: {each.differing:,} differing", markup=False)
