"""What comes in: other systems' messages, as they would be read, and sent."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from rules.errors import RulesetError
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
    shown,
    sources_or_exit,
)


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
