"""The command line. Exit codes: 0 done; 1 the answer is no (problems found, account not known);
2 the command was used wrongly; 3 Kafka or Redis cannot be reached."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter, validators
from rich.console import Console

import rules
from rules.compiler import TEST_SUFFIX, load
from rules.errors import Problem, RulesetError
from rules.tally import DAYS_KEPT
from streams.terminal import (
    NO,
    Json,
    err,
    fail,
    instant_or_exit,
    load_or_exit,
    out,
    print_json,
    read_settings,
    run,
    shown,
    sources_or_exit,
)

SHIPPED = Path(rules.__file__).parent / "segments"

app = App(
    name="isotherm",
    help="An event-driven, streaming segmenter for B2B accounts.",
    version_flags=["--version"],
)


def main() -> None:
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.command
def check(directory: Path = SHIPPED, *, strict: bool = False, json_: Json = False) -> None:
    """Validate rule files: every mistake at once, each with file, line and a hint.

    What loads and is probably not meant is a warning: with STRICT the answer is then no.

    Example: isotherm check rules/segments --strict
    """
    try:
        ruleset = load(directory)
    except RulesetError as error:
        if json_:
            print_json([_problem(each) for each in error.problems])
        else:
            for each in shown(error.problems):
                err.print(each, markup=False)
            err.print(f"{len(error.problems)} problem(s), nothing would be deployed")
        sys.exit(NO)
    warnings = warnings_about(ruleset)
    names = [each.name for each in ruleset.dimensions]
    if json_:
        told = [_problem(each) for each in warnings]
        print_json({"ruleset": ruleset.hash, "dimensions": names, "warnings": told})
    else:
        counted = f"{len(names)} dimension{'' if len(names) == 1 else 's'}"
        out.print(f"ruleset {ruleset.hash}: {counted} ({', '.join(names)}), no problems")
        for each in shown(warnings):
            err.print(f"warning: {each}", markup=False)
    sys.exit(NO if strict and warnings else 0)


@app.command(name="test")
def rehearse(target: Path = SHIPPED, *, rules: Path | None = None, only: str = "", json_: Json = False) -> None:
    """Run the tests that stand beside rules (files `*_test.yaml`) on virtual time.

    TARGET is a directory of rules with their tests, or one test file. The rules are those of the directory; for a
    file, of the nearest directory above it whose rules load; or those in RULES. ONLY runs the tests whose name
    contains that text.

    Example: isotherm test rules/segments --only pricing
    """
    from rules.rehearsal import rehearse as run_tests

    files = _test_files(target)
    report = run_tests(load_or_exit(_rules_for(target) if rules is None else rules), files, only)
    if only and not report.results and not report.problems:
        fail(f"no test's name contains {only!r}", 2)
    if json_:
        print_json(report.plain())
    else:
        for problem in shown(report.problems):
            err.print(problem, markup=False)
        for result in report.results:
            for failure in result.failures:
                out.print(f"{failure}\n", markup=False)
        out.print(str(report))
    sys.exit(0 if report.passed else NO)


@app.command
def replay(events: Path, *, rules: Path = SHIPPED, until: str | None = None) -> None:
    """Fold canonical records (JSON lines) without Kafka or Redis; print the changes as JSON lines.

    log_time comes from each record's `received`, else from the highest `at` so far. The output is the
    same, byte for byte, each time.

    Example: isotherm replay events.jsonl --rules rules/segments --until 2026-04-01T00:00:00Z
    """
    from streams import offline

    ruleset = load_or_exit(rules)
    end = instant_or_exit(until) if until else 0
    if not events.is_file():
        fail(f"there is no file {events}", 2)
    bad = 0

    def usable() -> Any:
        nonlocal bad
        with events.open("rb") as lines:
            for each in offline.read(lines):
                if isinstance(each, offline.Line):
                    bad += 1
                    where = f"{events}:{each.number}"
                    err.print(f"{where}: {each.rejected.reason}: {each.rejected.detail}", markup=False)
                else:
                    yield each

    for change in offline.replay(usable(), ruleset, end):
        sys.stdout.buffer.write(change + b"\n")
    sys.stdout.flush()
    if bad:
        fail(f"{bad} line(s) could not be used; the others were", NO)


@app.command
def decode(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)] = "",
    *,
    format: str = "",
    received: str | None = None,
    sources: Path | None = None,
    list_: Annotated[bool, Parameter(name="--list", negative="", help="Name the formats.")] = False,
) -> None:
    """Print what messages of another system say, as canonical records (JSON lines), without Kafka or Redis.

    FILE has a message on each line; - is standard input. A message that cannot be used is a line with its number,
    the reason and the detail. RECEIVED is the time for messages that name none; it is now unless given. Who a
    message is about is printed as the message claims it; in the log there are only hashes of persons. SOURCES is
    the file with field maps and names, else that of ISOTHERM_SOURCES, else the shipped one.

    Example: isotherm decode --format posthog events.jsonl --received 2026-03-02T09:00:00Z
    """
    from streams import decoding

    if list_:
        for name, about in decoding.formats().items():
            out.print(f"{name:12} {about}", markup=False)
        return
    _require_format(format)
    at = instant_or_exit(received) if received else time.time_ns() // 1_000_000
    decode_any = _adapters(sources or read_settings().sources).decode_any
    bad = 0
    with _lines(file) as lines:
        for found in decoding.decode_lines(lines, format, at, decode_any):
            bad += isinstance(found, tuple)
            sys.stdout.buffer.write(json.dumps(decoding.plain(found), ensure_ascii=False).encode() + b"\n")
    sys.stdout.flush()
    if bad:
        fail(f"{bad} message(s) or parts of one could not be used", NO)


@app.command
def deploy(directory: Path = SHIPPED, *, message: str = "", json_: Json = False) -> None:
    """Validate rules and put them in force: one record into every partition of the log.

    Example: isotherm deploy rules/segments --message "hot needs three pricing views"
    """
    from streams.deploy import deploy as put_in_force

    load_or_exit(directory)
    settings = read_settings()
    ruleset = run(put_in_force(directory, message, settings))
    if json_:
        print_json({"ruleset": ruleset.hash, "partitions": settings.partitions})
    else:
        out.print(f"ruleset {ruleset.hash} appended to {settings.partitions} partitions")


@app.command
def topics(*, json_: Json = False) -> None:
    """Create the topics that are missing, then check that all are as they must be.

    Example: ISOTHERM_KAFKA=localhost:9092 ISOTHERM_PARTITIONS=64 isotherm topics
    """
    from streams import topics as names

    settings = read_settings()

    read = sources_or_exit(settings.sources).topics

    async def create() -> list[str]:
        made = await names.create(settings, read)
        await names.check(settings, read)
        return made

    created = run(create())
    if json_:
        print_json({"created": created})
    else:
        out.print(f"created {', '.join(created)}" if created else "all topics are there")


@app.command(name="import")
def import_(
    file: Path,
    *,
    format: str = "canonical",
    map: Path | None = None,
    source: str = "",
    announce: bool = False,
    refused: Path | None = None,
    restart: bool = False,
    dry_run: bool = False,
    json_: Json = False,
) -> None:
    """Send a file into Kafka, row by row: CSV, or messages of a format as JSON lines; gzip is unpacked.

    MAP says in YAML what the columns of CSV mean; without it their names are guessed, and what was guessed is
    told. SOURCE is the system that canonical records and rows come from. Imported rows move segments and alert
    nobody, unless ANNOUNCE is given. Rows that cannot be used go to the file REFUSED. What ended early goes on
    with the same command, or anew with RESTART.

    Example: isotherm import accounts.csv --dry-run
    """
    from streams.importing import Asked, prepare, saved
    from streams.importing import run as run_import
    from streams.importing_rows import ImportProblem

    _require_format(format)
    settings = read_settings()
    decode_any = _adapters(settings.sources).decode_any
    asked = Asked(file, format, map, source, announce, refused, restart, dry_run, decode_any)
    try:
        job = prepare(asked)
        _tell_beginning(job, err if json_ else out)
        with _bytes_bar(file.name, quiet=json_) as told:
            run(run_import(job, None if dry_run else settings, told))
    except RulesetError as error:
        for each in shown(error.problems):
            err.print(each, markup=False)
        fail("nothing was imported", 2)
    except ImportProblem as error:
        fail(str(error), 2)
    except KeyboardInterrupt:
        fail(f"stopped after {saved(file):,} rows; the same command goes on from there", 130)
    if json_:
        print_json(job.plain())
    else:
        for line, why in job.examples:
            err.print(f"{file}:{line}: {why.reason}: {why.detail}", markup=False)
        out.print(job.summary(), markup=False)
    sys.exit(NO if job.progress.refused else 0)


@app.command
def send(
    topic: str,
    file: Annotated[str, Parameter(allow_leading_hyphen=True)] = "",
    *,
    format: str = "",
    json_: Json = False,
) -> None:
    """Send the messages in a file to a topic that the router reads, as the system that writes them would.

    FILE has a message on each line; - is standard input. They are sent unchanged and in order; what cannot be used
    becomes a dead letter. The router reads them in the topic's format, or in FORMAT. TOPIC is crm.updates,
    web.activity or one that stands under `topics:` in the file of ISOTHERM_SOURCES.

    Example: isotherm send web.activity events.jsonl --format posthog
    """
    from streams.sending import send_lines

    if format:
        _require_format(format)
    settings = read_settings()
    read = sources_or_exit(settings.sources).topics
    if topic not in read:
        fail(f"the router does not read {topic!r} by this ISOTHERM_SOURCES; it reads {', '.join(sorted(read))}", 2)
    with _lines(file) as lines:
        sent = run(send_lines(lines, topic, format, settings))
    if json_:
        print_json({"topic": topic, "sent": sent})
    else:
        out.print(f"{sent:,} message{'' if sent == 1 else 's'} sent to {topic}", markup=False)


@app.command
def worker(*, role: Literal["router", "fold", "deliver", "all"] | None = None, log_level: str = "INFO") -> None:
    """Run a worker: one process a core; add workers and the partitions spread over them.

    Example: isotherm worker --role fold
    """
    from streams.preflight import SettingsError
    from streams.run import work
    from streams.topics import TopicsError

    try:
        work(read_settings(role=role) if role else read_settings(), log_level)
    except (SettingsError, TopicsError) as error:
        fail(str(error), NO)


@app.command
def collect(*, host: str | None = None, port: int | None = None, log_level: str = "INFO") -> None:
    """Take Segment calls, HubSpot's webhooks and canonical records over HTTP and write them to Kafka.

    HOST and PORT come before ISOTHERM_COLLECTOR_HOST and ISOTHERM_COLLECTOR_PORT. On SIGTERM the requests in
    flight are answered first.

    Example: ISOTHERM_WRITE_KEYS=website:a-key-of-your-own isotherm collect --port 8088
    """
    from streams.collector.run import collect as take_in
    from streams.preflight import SettingsError

    given = {"collector_host": host, "collector_port": port}
    settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    try:
        take_in(settings, log_level)
    except SettingsError as error:
        fail(str(error), NO)


letters = App(name="dead-letters", help="What could not be used: look at it, and send it in again.")
app.command(letters)


@letters.command(name="list")
def list_letters(
    *, reason: str = "", source: str = "", since: str | None = None, limit: int = 100, json_: Json = False
) -> None:
    """List the open dead letters, newest last, and how many there are of each reason.

    REASON, SOURCE (a topic) and SINCE (an instant) leave others out; LIMIT shows only so many, the newest.

    Example: isotherm dead-letters list --reason bad_time --since 2026-03-02T00:00:00Z
    """
    from streams.letters import letters_table

    found = _open_letters(reason, source, since)
    newest = found[-limit:] if limit > 0 else found
    reasons = dict(Counter(each.said("reason") for each in found).most_common())
    if json_:
        print_json({"open": len(found), "reasons": reasons, "letters": [each.plain() for each in newest]})
        return
    if newest:
        out.print(letters_table(newest))
    for name, count in reasons.items():
        out.print(f"{count:>9,}  {name}", markup=False)
    out.print(f"{len(found):,} open" + (f", the newest {len(newest):,} shown" if len(newest) < len(found) else ""))


@letters.command
def show(key: str, *, raw: bool = False, json_: Json = False) -> None:
    """Show a dead letter: why it is one, its headers and its value. RAW writes the value's bytes and nothing else.

    Example: isotherm dead-letters show crm.updates/3/1042
    """
    from streams.letters import find, letter_lines

    found = run(find(read_settings(), key))
    if found is None:
        fail(f"no open dead letter {key}", NO)
    letter, value = found
    if raw:
        if sys.stdout.isatty():
            fail("raw bytes can do things to a terminal; send them to a file: --raw > letter", 2)
        sys.stdout.buffer.write(value)
    elif json_:
        headers = {name: said.decode(errors="backslashreplace") for name, said in letter.own_headers}
        print_json(letter.plain() | {"headers": headers, "value": value.decode(errors="backslashreplace")})
    else:
        for line in letter_lines(letter, value):
            out.print(line, markup=False)


@letters.command(name="replay")
def replay_letters(
    *keys: str,
    reason: str = "",
    source: str = "",
    since: str | None = None,
    all: bool = False,
    dry_run: bool = False,
    json_: Json = False,
) -> None:
    """Send messages that became dead letters to their topics again, and settle the letters.

    KEYS names the letters, or REASON, SOURCE and SINCE choose them, or ALL means every open one. A message that
    cannot be used this time either is a dead letter again, under its new place.

    Example: isotherm dead-letters replay --reason unknown_format
    """
    from streams.letters import replay as replay_all
    from streams.letters import with_siblings

    if not (keys or reason or source or since or all):
        fail("which letters? Name their keys, or --reason, --source, --since, or --all", 2)
    everyone = _open_letters("", "", None)
    known = {each.key: each for each in everyone}
    if unknown := [key for key in keys if key not in known]:
        fail(f"no open dead letter {', '.join(unknown)}; nothing was replayed", NO)
    wanted = _wanted(reason, source, since)
    chosen = [each for each in everyone if wanted(each) and (not keys or each.key in keys)]
    stuck = [each for each in chosen if each.unreplayable]
    chosen = with_siblings([each for each in chosen if not each.unreplayable], everyone)
    for each in stuck:
        err.print(f"{each.key} is not replayed: {each.unreplayable}", markup=False)
    count = len(chosen) if dry_run else run(replay_all(read_settings(), chosen)) if chosen else 0
    if json_:
        told = {"replayed": count, "keys": [each.key for each in chosen], "not_replayed": [e.key for e in stuck]}
        print_json(told | {"dry_run": dry_run})
    else:
        out.print(f"{count:,} dead letter{'' if count == 1 else 's'} {'would be ' if dry_run else ''}replayed")
    sys.exit(NO if stuck else 0)


@app.command
def explain(account: str, *dimensions: str, json_: Json = False) -> None:
    """Tell each segment an account is in: why, since when, and until when if nothing happens.

    ACCOUNT is an account's id or its web domain; DIMENSIONS leave the others out.

    Example: isotherm explain blueharbor.example engagement intent
    """
    from streams.inspect import explain_account
    from streams.show import explanation_tree

    told = run(explain_account(account, read_settings()))
    if told is None:
        fail(f"account {account} is not known", NO)
    if unknown := [name for name in dimensions if name not in told["dimensions"]]:
        fail(f"no dimension {unknown[0]}; there are {', '.join(told['dimensions'])}", 2)
    if dimensions:
        told["dimensions"] = {name: told["dimensions"][name] for name in dimensions}
    if json_:
        print_json(told)
    else:
        out.print(explanation_tree(told))


@app.command
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


@app.command
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


@app.command
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


@app.command
def verify(
    *,
    account: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    accounts: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 1_000,
    all: Annotated[bool, Parameter(negative="")] = False,
    whole: Annotated[bool, Parameter(negative="")] = False,
    json_: Json = False,
) -> None:
    """Compare what Redis holds with what the log says, while workers go on; nothing is changed.

    ACCOUNT names accounts; without it about as many ACCOUNTS as that are drawn by lot, or ALL are compared. Who is
    in a segment and should not be, and who should be and is not, are told apart. The numbers are also written to
    standard error as one line of JSON, where that is no terminal. WHOLE folds the log from its beginning, though
    there is a snapshot.

    Example: isotherm verify --all --json
    """
    from streams.refolding import LogProblem
    from streams.show import verdict_tables
    from streams.verifying import verify as compare

    settings, began = read_settings(), time.monotonic()
    try:
        with _records_bar(quiet=json_) as told:
            verdict = run(compare(settings, account, 0 if all else accounts, whole, told))
    except LogProblem as error:
        fail(str(error), NO)
    if not sys.stderr.isatty():
        metrics = verdict.metrics() | {"seconds": round(time.monotonic() - began, 3)}
        err.print(json.dumps({"event": "verified", **metrics}), markup=False)
    if json_:
        print_json(verdict.plain())
    else:
        for each in verdict_tables(verdict.plain()):
            out.print(each)
    sys.exit(0 if verdict.is_equal else NO)


@app.command
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


@app.command
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


@app.command
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


@app.command
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


@app.command
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


@app.command
def demo(*, seconds: int = 0, companies: int = 500, rate: float = 20.0, sources: Path | None = None) -> None:
    """Watch fictional accounts turn hot and cool down: broker, Valkey, worker and traffic on this machine.

    Stops after SECONDS if that is given, else on Ctrl-C. SOURCES is a sources file of your own for its router.

    Example: isotherm demo --seconds 30
    """
    from streams.demo.run import run_demo

    read = ""
    if sources:
        sources_or_exit(sources)
        read = str(sources.resolve())
    sys.exit(run_demo(seconds=seconds, companies=companies, rate=rate, sources=read))


# -- what single commands need ------------------------------------------------------------------------------


def warnings_about(ruleset: Any) -> list[Problem]:
    from rules.lint import lint
    from streams.adapters import SYSTEMS
    from streams.adapters.names import is_personal, snake

    def dropped(section: str, name: str) -> bool:
        """Whether the adapters leave such a fact out, whoever reports it."""
        return is_personal(name) or snake(name) != name or (section == "contact_facts" and name == "name")

    return lint(ruleset.files, SYSTEMS, dropped)


def _tell_beginning(job: Any, to: Console) -> None:
    """What was guessed, and that an earlier run goes on."""
    if job.table and job.table.guessed:
        to.print("no --map: what the columns mean was guessed, as in this map")
        to.print("".join(f"  {line}\n" for line in job.table.guessed.as_yaml().splitlines()), markup=False, end="")
    if job.resumed_at:
        to.print(f"going on after row {job.resumed_at:,}, where an earlier run ended", markup=False)


@contextmanager
def _bytes_bar(name: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, transient=True, disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


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


def _wanted(reason: str, source: str, since: str | None) -> Any:
    from streams.letters import Wanted

    return Wanted(reason, source, instant_or_exit(since) if since else 0)


def _open_letters(reason: str, source: str, since: str | None) -> Any:
    from streams.letters import open_letters

    wanted = _wanted(reason, source, since)
    return [each for each in run(open_letters(read_settings())) if wanted(each)]


def _require_format(name: str) -> None:
    from rules.errors import did_you_mean
    from streams.adapters import ADAPTERS

    if not name:
        fail(f"which format? Name it with --format; known: {', '.join(ADAPTERS)}", 2)
    if name not in ADAPTERS:
        fail(f"there is no format {name!r} ({did_you_mean(name, ADAPTERS)})", 2)


def _adapters(sources: Path | str) -> Any:
    """As the sources file wants them; the shipped ones without it."""
    from streams.adapters import Adapters

    return Adapters.of(sources_or_exit(sources))


def _lines(file: str) -> AbstractContextManager[Iterable[bytes]]:
    """The lines of a file, or of standard input if it is called `-`."""
    if file == "-":
        return nullcontext(sys.stdin.buffer)
    if not file:
        fail("which file? - is standard input", 2)
    try:
        return Path(file).open("rb")
    except OSError as error:
        fail(f"cannot read {file}: {error.strerror}", 2)


def _test_files(target: Path) -> dict[str, str]:
    """The text of each test file in `target`, by its path."""
    if not target.exists():
        fail(f"there is no file or directory {target}", 2)
    if target.is_file() and not target.name.endswith(TEST_SUFFIX):
        fail(f"{target} is no test file: their names end in {TEST_SUFFIX}", 2)
    paths = [target] if target.is_file() else sorted(target.rglob(f"*{TEST_SUFFIX}"))
    if not paths:
        fail(f"there are no tests in {target}: they are files whose names end in {TEST_SUFFIX}", 2)
    try:
        return {path.as_posix(): path.read_text(encoding="utf-8") for path in paths}
    except UnicodeDecodeError as error:
        fail(f"a test file is not UTF-8 text: {error.reason}", NO)


def _rules_for(target: Path) -> Path:
    """Where the rules for `target` are: a directory itself; for a file the nearest above it whose rules load."""
    if target.is_dir():
        return target
    first = directory = target.resolve().parent
    while any(directory.glob("*.yaml")):
        try:
            load(directory)
            return directory
        except RulesetError:
            directory = directory.parent
    return first


def _problem(problem: Any) -> dict[str, Any]:
    return {"file": problem.file, "line": problem.line, "message": problem.message, "hint": problem.hint}


if __name__ == "__main__":
    main()
