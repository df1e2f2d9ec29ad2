"""Mending and proving: people forgotten, accounts separated, Redis compared with the log and made anew."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, validators

from streams.terminal import (
    NO,
    Json,
    err,
    fail,
    out,
    print_json,
    read_settings,
    run,
)


def erase(
    *,
    email: str = "",
    user: str = "",
    anonymous: str = "",
    contact: str = "",
    wait: float = 60.0,
    json_: Json = False,
) -> None:
    """Forget a person: in accounts, links and dead letters. Waits up to WAIT seconds until workers have done it.

    Name the person by any of: EMAIL; USER, their id in the product; ANONYMOUS, a device; CONTACT, the record of a
    CRM such as salesforce:0035f00002abcdeAAA. What is known to be the same person goes too. Raw messages in the
    source topics stay until the retention of those topics ends.

    Example: isotherm erase --email ann@example.com
    """
    from rich.progress import Progress

    from streams.adapters.base import Claims
    from streams.erasing import erase as forget

    claims = Claims(email=email or None, user=user or None, anonymous=anonymous or None, contact=contact or None)
    if claims == Claims():
        fail("whom? Name --email, --user, --anonymous or --contact", 2)
    settings = read_settings()
    if not settings.person_key.get_secret_value():
        fail("ISOTHERM_PERSON_KEY is not set: without the router's secret nobody is found", 2)
    with Progress(console=err, transient=True, disable=json_ or not sys.stderr.isatty()) as bar:
        task = bar.add_task("forgetting", total=settings.partitions)
        told = run(forget(claims, settings, wait, lambda done, of: bar.update(task, completed=done)))
    if json_:
        print_json({"persons": told.persons, "letters": told.letters, "done": told.done})
    else:
        out.print(f"known as {len(told.persons)} person(s); {told.letters} dead letter(s) settled")
    if not told.done:
        fail("asked for; not all partitions have done it yet (do workers run?)", NO)


def unmerge(account: str, *, wait: float = 60.0, json_: Json = False) -> None:
    """Make two accounts again of two that were made one: by the CRM, or by a link that was wrong.

    ACCOUNT is the one that was merged into the other. Both are rebuilt from the log, as if they had never been
    one; it is refused when the log does not reach back. Waits up to WAIT seconds for each thing that workers do.
    Ended early, the same command goes on.

    Example: isotherm unmerge salesforce:0015f00002JUZPDAA5
    """
    from rich.progress import Progress

    from streams.unmerging import UnmergeProblem
    from streams.unmerging import unmerge as separate

    settings = read_settings()
    try:
        with Progress(console=err, transient=True, disable=json_ or not sys.stderr.isatty()) as bar:
            task = bar.add_task("reading the log", total=None)
            told = run(
                separate(account, settings, wait, lambda done, of: bar.update(task, completed=done, total=of))
            )
    except UnmergeProblem as error:
        fail(str(error), NO)
    if json_:
        print_json({"account": told.account, "survivor": told.survivor, "names": told.names})
    else:
        out.print(f"{told.account} and {told.survivor} are two accounts again", markup=False)


def verify(
    *,
    account: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    accounts: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 1_000,
    all: Annotated[bool, Parameter(negative="")] = False,
    whole: Annotated[bool, Parameter(negative="")] = False,
    json_: Json = False,
) -> None:
    """Compare what Redis holds with what the log says, while workers go on; no account is changed.

    ACCOUNT names accounts; without it about as many ACCOUNTS as that are drawn by lot, or ALL are compared. Who is
    in a segment and should not be, and who should be and is not, are told apart. The numbers are also written to
    standard error as one line of JSON, where that is no terminal, and left in Redis for others to see (/metrics of
    isotherm serve, isotherm status) unless accounts are named. WHOLE folds the log from its beginning, though
    there is a snapshot.

    Example: isotherm verify --all --json
    """
    from streams.observing.verified import leave
    from streams.refolding import LogProblem
    from streams.show import verdict_tables
    from streams.verifying import verify as compare

    settings, began = read_settings(), time.monotonic()
    try:
        with _records_bar(quiet=json_) as told:
            verdict = run(compare(settings, account, 0 if all else accounts, whole, told))
    except LogProblem as error:
        fail(str(error), NO)
    if not account and (why := run(leave(settings, verdict.metrics()))):
        err.print(f"not left in Redis for others to see: {why}", markup=False)
    if not sys.stderr.isatty():
        metrics = verdict.metrics() | {"seconds": round(time.monotonic() - began, 3)}
        err.print(json.dumps({"event": "verified", **metrics}), markup=False)
    if json_:
        print_json(verdict.plain())
    else:
        for each in verdict_tables(verdict.plain()):
            out.print(each)
    sys.exit(0 if verdict.is_equal else NO)


def rebuild(
    *,
    partition: Annotated[tuple[int, ...], Parameter(negative="")] = (),
    into: str = "",
    whole: Annotated[bool, Parameter(negative="")] = False,
    abandon: Annotated[bool, Parameter(negative="")] = False,
    json_: Json = False,
) -> None:
    """Make what Redis holds anew from the log, while workers go on; accounts that stand elsewhere then are told.

    The log is folded into the namespace INTO beside the live one, which each PARTITION (all, unless named) then
    leaves for the live one's place. Ended early, the same command goes on; ABANDON removes what it had folded.
    WHOLE folds the log from its beginning, though there is a snapshot.

    Example: isotherm rebuild --partition 3 --partition 4
    """
    from streams import keys, renewing
    from streams.refolding import LogProblem
    from streams.show import rebuilt_tables

    settings = read_settings()
    into = into or keys.rebuilt(settings.namespace)
    if into == settings.namespace:
        fail("--into names the namespace that is live; name another one", 2)
    numbers = _partitions(partition, settings)
    if abandon:
        gone = run(renewing.abandon(settings, numbers, into))
        if json_:
            print_json({"removed": gone})
        else:
            out.print(f"{gone:,} keys of {into} removed", markup=False)
        return
    try:
        with _records_bar(quiet=json_) as told:
            done = run(renewing.rebuild(settings, numbers, into, whole, told))
    except (LogProblem, renewing.RebuildProblem) as error:
        fail(str(error), NO)
    if json_:
        print_json(done.plain())
    else:
        for each in rebuilt_tables(done.plain()):
            out.print(each)


def snapshot(
    *,
    partition: Annotated[tuple[int, ...], Parameter(negative="")] = (),
    whole: Annotated[bool, Parameter(negative="")] = False,
    export: Path | None = None,
    import_: Annotated[Path | None, Parameter(name="--import")] = None,
    json_: Json = False,
) -> None:
    """Write down what the log comes to, so that a rebuild or a verification need not begin at its beginning.

    Of each PARTITION (all, unless named) as far as workers have folded it, from the snapshot before on; WHOLE
    folds the log from its beginning. EXPORT is a file into which the newest snapshots are written instead, IMPORT
    one from which they are brought back.

    Example: isotherm snapshot --partition 3
    """
    from streams import snapshots
    from streams.refolding import LogProblem

    if export and import_:
        fail("--export or --import, not both", 2)
    settings = read_settings()
    numbers = _partitions(partition, settings)
    try:
        with _records_bar(quiet=json_) as told:
            if import_:
                made = run(snapshots.bring_in(settings, import_))
            elif export:
                made = run(snapshots.export(settings, numbers, export))
            else:
                made = run(snapshots.take(settings, numbers, whole, told))
    except (LogProblem, snapshots.FileProblem) as error:
        fail(str(error), NO)
    accounts = sum(count for _, count in made.values())
    if json_:
        positions = {str(number): offset for number, (offset, _) in made.items()}
        print_json({"partitions": positions, "accounts": accounts})
    else:
        plural = "" if len(made) == 1 else "s"
        where = export or "account.snapshots"
        out.print(f"{len(made)} partition{plural} with {accounts:,} accounts written to {where}", markup=False)


def resume(source: str, *, accept_gap: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Let a partition go on: a source's that was paused because too much of it could not be used, or one of the
    account log that lacks what was to be read next (ACCEPT_GAP; all its accounts then tell where they stand).

    Example: isotherm resume crm.updates/3

    Example: isotherm resume account.log/3 --accept-gap
    """
    from streams.resuming import pass_gap_over, resume_source
    from streams.topics import ACCOUNT_LOG

    topic, _, partition = source.rpartition("/")
    if not topic or not partition.isdecimal():
        fail(f"{source!r} is no partition; write one like crm.updates/3", 2)
    settings = read_settings()
    if topic == ACCOUNT_LOG:
        if int(partition) >= settings.partitions:
            fail(f"{topic} has {settings.partitions} partitions, 0 to {settings.partitions - 1}", 2)
        gap = run(pass_gap_over(int(partition), settings, accept_gap))
        if gap is None:
            fail(f"nothing is missing in {source}", NO)
        first, behind = gap
        if not accept_gap:
            fail(
                f"offsets {first} to {behind - 1} of {source} are lost; say --accept-gap to go on without them", NO
            )
        out.print(f"{source} goes on at {behind}, without {first} to {behind - 1}")
        return
    if accept_gap:
        fail("--accept-gap is for account.log; what a source lost it lost before we read it", 2)
    if not run(resume_source(topic, int(partition), settings)):
        fail(f"{source} was not paused", NO)
    out.print(f"{source} goes on")


def release(account: str) -> None:
    """End an account's quarantine: whatever raised when it was folded is mended.

    The next ruleset does so by itself. What was parked meanwhile are dead letters; send them in again with
    `isotherm dead-letters replay --reason quarantined`.

    Example: isotherm release salesforce:0015000001
    """
    from streams.resuming import end_quarantine

    found = run(end_quarantine(account, read_settings()))
    if not found:
        fail(f"{account} is not in quarantine", NO)
    out.print(f"{found} is folded again", markup=False)


@contextmanager
def _records_bar(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    from rich.progress import Progress

    with Progress(console=err, transient=True, disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("folding the log", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _partitions(named: Iterable[int], settings: Any) -> list[int]:
    """Those that were named, else all."""
    if unknown := [each for each in named if not 0 <= each < settings.partitions]:
        fail(f"there is no partition {unknown[0]}; they are 0 to {settings.partitions - 1}", 2)
    return sorted(set(named)) or [*range(settings.partitions)]
