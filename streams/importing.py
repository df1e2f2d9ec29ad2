"""A file of rows into Kafka, once: CSV and JSON lines, also packed with gzip.

    open ─► rows ─► checked as the router will ─► batch ─► acknowledged ─► state file ─► next batch

The state file beside the input says how far Kafka has acknowledged; a run that ended early is continued from
there. A crash between acknowledgement and state file sends one batch again. So each record has an id made of the
input and the number of its row, and the fold drops what it has seen.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from rules.errors import Problem, RulesetError
from streams import topics
from streams.adapters import decode_any
from streams.adapters.base import Claims, DecodeAny, Observation, Rejected
from streams.adapters.wire import Refusal
from streams.importing_map import Columns, WrittenMap, compile_map, guess, read_map
from streams.importing_rows import (
    Columnar,
    ImportProblem,
    Lines,
    Refused,
    Row,
    columnar,
    csv_rows,
    json_rows,
    usable,
    write_refused,
)
from streams.producer import Producer
from streams.settings import Settings
from streams.store.base import Outbound
from streams.topics import CRM_UPDATES, WEB_ACTIVITY

BATCH, BATCH_BYTES = 2_000, 8 * 1024 * 1024
EDGE = 64 * 1024  # bytes of both ends of the input that are hashed
STATE_SUFFIX = ".isotherm-import"
CANONICAL = "canonical"
# Of every other format a message's first observation decides.
TOPIC_OF = {
    "salesforce": CRM_UPDATES, "hubspot": CRM_UPDATES, "debezium": CRM_UPDATES,
    "segment": WEB_ACTIVITY, "snowplow": WEB_ACTIVITY, "ga4": WEB_ACTIVITY, "posthog": WEB_ACTIVITY,
}  # fmt: skip
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


# -- what is asked -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """The command's options."""

    file: Path
    format: str = CANONICAL
    map: Path | None = None
    source: str = ""
    announce: bool = False
    refused: Path | None = None
    restart: bool = False
    dry_run: bool = False
    decode_any: DecodeAny = decode_any


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file, and what its columns say. `guessed` is the map that nobody wrote."""

    shape: Columnar
    columns: Columns
    guessed: WrittenMap | None


class Progress(msgspec.Struct):
    """The state file: what Kafka has acknowledged. `input` and `options` tell whether it is the same import."""

    input: str
    options: dict[str, str]
    at: int  # of facts that name no instant, UTC ms
    rows: int = 0
    line: int = 0
    bytes: int = 0  # of the unpacked file
    sent: int = 0
    silent: int = 0  # rows that are fine and say nothing to us
    refused: dict[str, int] = {}
    refused_bytes: int = 0  # of the file of refused rows

    @property
    def all_refused(self) -> int:
        return sum(self.refused.values())


@dataclass(slots=True)
class Import:
    """An import that can be run: everything has been looked at that can be wrong before the first row."""

    asked: Asked
    lines: Lines
    table: Table | None
    progress: Progress
    resumed_at: int = 0  # rows that an earlier run has done
    examples: list[tuple[int, Rejected]] = field(default_factory=list)  # the first refused rows of this run: line

    @property
    def state_file(self) -> Path:
        return state_file(self.asked.file)

    @property
    def refused_file(self) -> Path | None:
        """A dry run writes one only if it is named."""
        if self.asked.refused or self.asked.dry_run:
            return self.asked.refused
        return self.asked.file.with_name(
            self.asked.file.name + (".refused.csv" if self.table else ".refused.jsonl")
        )

    def rows(self) -> Iterator[Row]:
        done, shape = self.progress, self.table.shape if self.table else None
        begin = shape.begin if shape else (0, 0)
        self.lines.seek(*((done.bytes, done.line) if done.rows else begin))
        if shape is None:
            return json_rows(self.lines, done.rows)
        return csv_rows(self.lines, done.rows, shape.delimiter, len(shape.header))

    def summary(self) -> str:
        done = self.progress
        verb = "would be imported" if self.asked.dry_run else "imported"
        text = f"{done.sent:,} of {done.rows:,} rows {verb}"
        if done.silent:
            text += f", {done.silent:,} say nothing to us"
        if done.refused:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(done.refused.items()))
            text += f", {done.all_refused:,} refused ({reasons})"
            text += f": they are in {self.refused_file}" if self.refused_file else ""
        return text

    def plain(self) -> dict[str, Any]:
        done = self.progress
        guessed = self.table.guessed if self.table else None
        return {
            "rows": done.rows, "sent": done.sent, "silent": done.silent, "refused": done.refused,
            "refused_file": str(self.refused_file) if done.refused and self.refused_file else None,
            "resumed_at": self.resumed_at, "dry_run": self.asked.dry_run,
            "guessed": guessed.model_dump(exclude_defaults=True) if guessed else None,
        }  # fmt: skip


def state_file(file: Path) -> Path:
    return file.with_name(file.name + STATE_SUFFIX)


def prepare(asked: Asked) -> Import:
    """Looks at file, map and an earlier run's state. Raises ImportProblem, or RulesetError for a map."""
    if asked.refused and asked.refused.resolve() == asked.file.resolve():
        raise ImportProblem("refused rows cannot go into the file that is read: name another with --refused")
    lines = Lines(asked.file)
    try:
        as_table = _is_table(asked, lines)
        earlier = None if asked.restart or asked.dry_run else _earlier(asked.file)
        at = earlier.at if earlier else int(asked.file.stat().st_mtime * 1000)
        table = _table(asked, lines, at) if as_table else None
        fresh = Progress(input=_fingerprint(asked.file), options=_options(asked, table), at=at)
        if earlier:
            _require_same(asked.file, earlier, fresh)
        return Import(asked, lines, table, earlier or fresh, earlier.rows if earlier else 0)
    except BaseException:
        lines.close()
        raise


def _is_table(asked: Asked, lines: Lines) -> bool:
    """By the name's ending, else by the first character."""
    begin = lines.next().lstrip()[:1]
    lines.seek(0, 0)
    suffix = ([""] + [each.lower() for each in asked.file.suffixes if each.lower() != ".gz"])[-1]
    table = suffix in (".csv", ".tsv") or (suffix not in (".jsonl", ".ndjson", ".json") and begin not in b"{[")
    if not table and begin == b"[" and asked.format == CANONICAL:
        raise ImportProblem(f"{asked.file} is one JSON array; a message a line is read: jq -c '.[]' makes them")
    if table and asked.format != CANONICAL:
        raise ImportProblem(f"{asked.file} is CSV, which has no --format; its columns are named in a --map")
    if not table and asked.map:
        raise ImportProblem(f"{asked.file} is JSON lines; a --map is for CSV")
    if asked.source and asked.format != CANONICAL:
        raise ImportProblem(f"the source of {asked.format} messages is {asked.format}; leave --source out")
    return table


def _table(asked: Asked, lines: Lines, at: int) -> Table:
    shape = columnar(lines)
    header = shape.header
    if asked.map:
        with usable(asked.map):
            text = asked.map.read_bytes().decode("utf-8", "surrogateescape")
        return Table(shape, read_map(str(asked.map), text, header, at), None)
    guessed = guess(header)

    def tell(path: tuple[str | int, ...], message: str, hint: str) -> Problem:
        return Problem(str(asked.file), 0, message, hint)

    try:
        return Table(shape, compile_map(guessed, header, at, tell), guessed)
    except RulesetError as error:
        columns = ", ".join(each or '""' for each in header[:20])
        advice = Problem(str(asked.file), 0, f"its columns are {columns}", "say with --map what they mean")
        raise RulesetError([*error.problems, advice]) from None


def _fingerprint(file: Path) -> str:
    with usable(file), file.open("rb") as raw:
        size = raw.seek(0, os.SEEK_END)
        raw.seek(0)
        begin = raw.read(EDGE)
        raw.seek(max(0, size - EDGE))
        return hashlib.sha256(b"%d\n" % size + begin + raw.read(EDGE)).hexdigest()


def _options(asked: Asked, table: Table | None) -> dict[str, str]:
    columns = repr(table.columns) if table else ""
    return {
        "format": asked.format,
        "map": hashlib.sha256(columns.encode("utf-8", "surrogateescape")).hexdigest()[:16] if columns else "",
        "source": asked.source,
        "announce": str(asked.announce),
        "refused": str(asked.refused or ""),
    }


def _earlier(file: Path) -> Progress | None:
    path = state_file(file)
    if not path.exists():
        return None
    with usable(path):
        text = path.read_bytes()
    try:
        return msgspec.json.decode(text, type=Progress)
    except msgspec.MsgspecError:
        raise ImportProblem(f"{path} cannot be understood; begin anew with --restart") from None


def saved(file: Path) -> int:
    """Rows of an import that was interrupted; 0 if there is none."""
    earlier = _earlier(file)
    return earlier.rows if earlier else 0


def _require_same(file: Path, earlier: Progress, now: Progress) -> None:
    how = "--restart begins anew; what is sent again counts once"
    if earlier.input != now.input:
        raise ImportProblem(
            f"{file} has changed since its import was interrupted after {earlier.rows:,} rows. Bring that file "
            f"back to go on, or import this one from its beginning with --restart"
        )
    if changed := [name for name, value in now.options.items() if earlier.options.get(name) != value]:
        raise ImportProblem(
            f"the import of {file} was interrupted after {earlier.rows:,} rows and had another "
            f"{', '.join(changed)}; give the same to go on, or {how}"
        )


# -- running -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Checker:
    """Makes messages of rows, as far as the router would take them."""

    asked: Asked
    columns: Columns | None
    identity: str  # of the input and of what its rows mean
    received: int  # UTC ms, for messages that name no time

    @classmethod
    def of(cls, job: Import, received: int) -> Checker:
        meaning = job.progress.input + "".join(job.progress.options[each] for each in ("format", "map", "source"))
        identity = hashlib.sha256(meaning.encode()).hexdigest()[:16]
        return cls(job.asked, job.table.columns if job.table else None, identity, received)

    def check(self, row: Row) -> Outbound | Rejected | None:
        """The message; or why the row is refused, as a whole; None if it says nothing to us."""
        if row.wrong:
            return row.wrong
        try:
            value = _encode(self.columns.record(row.cells or [])) if self.columns else row.raw
        except Refusal as refusal:
            return refusal.rejected
        said: list[Observation] = []
        for part in self.asked.decode_any(self.asked.format, value, self.received):
            if isinstance(part, Rejected):
                return part
            said.append(part)
        return self._message(row, value, said) if said else None

    def _message(self, row: Row, value: bytes, said: list[Observation]) -> Outbound:
        format, first = self.asked.format, said[0]
        topic = TOPIC_OF.get(format) or (WEB_ACTIVITY if first.kind == "activity" else CRM_UPDATES)
        headers = [("format", format.encode())]
        if format == CANONICAL:
            value = self._canonical(row, value, first)
        else:
            if not self.asked.announce:
                headers.append(("origin", b"import"))
            if not all(each.id for each in said):
                # The router makes ids of it for what has none, as for a dead letter that is sent in again.
                headers.append(("replay-of", self._id(row).encode()))
        return Outbound(topic, spread_by(first.claims), value, tuple(headers))

    def _canonical(self, row: Row, value: bytes, first: Observation) -> bytes:
        fields: dict[str, Any] = dict(_decode_fields(value))
        fields["origin"] = "live" if self.asked.announce else "import"
        if not first.id:
            fields["id"] = self._id(row)
        if self.asked.source and "source" not in fields:
            fields["source"] = self.asked.source
        return _encode(fields)

    def _id(self, row: Row) -> str:
        return f"import/{self.identity}/{row.number}"


def spread_by(claims: Claims) -> str:
    """The Kafka key: rows of one account come in order, as far as a row alone can tell. Never an address."""
    company = claims.account or claims.crm or claims.group or claims.domain
    if company or not claims.email:
        return (company or claims.user or claims.contact or claims.opportunity or claims.person or "").lower()
    return claims.email.rpartition("@")[2].lower()


@dataclass(slots=True)
class Batch:
    rows: int = 0
    messages: list[Outbound] = field(default_factory=list)
    silent: int = 0
    refused: list[Refused] = field(default_factory=list)
    last: Row | None = None
    line: int = 0


def batches(rows: Iterable[Row], checker: Checker, lines: Lines) -> Iterator[Batch]:
    batch, held = Batch(), 0
    for row in rows:
        found = checker.check(row)
        match found:
            case Outbound():
                batch.messages.append(found)
            case Rejected():
                batch.refused.append((row, found))
            case None:
                batch.silent += 1
        batch.rows, batch.last, batch.line = batch.rows + 1, row, lines.line
        held += len(row.raw)
        if batch.rows == BATCH or held > BATCH_BYTES:
            yield batch
            batch, held = Batch(), 0
    if batch.last:
        yield batch


async def run(
    job: Import,
    settings: Settings | None,
    shown: Callable[[int, int], None] = lambda done, of: None,
    reached: Callable[[str], None] = lambda step: None,
) -> None:
    """Runs the import to its end; `job.progress` counts. Without `settings` all is checked and nothing sent.

    `shown` is told how many bytes of how many are read; `reached` of each step of a batch: tests stop there.
    Raises TopicsError, ImportProblem, and KafkaError when the broker is away; what is acknowledged stays so.
    """
    producer = None
    if settings:
        await topics.check(settings)
        producer = Producer(settings)
        await producer.start()
    try:
        for batch in batches(job.rows(), Checker.of(job, _now()), job.lines):
            if producer:
                await producer.send(batch.messages, _now())
                reached("produced")
            _account(job, batch)
            if producer:
                save(job.state_file, job.progress)
                reached("saved")
            shown(job.lines.read, job.lines.size)
        if producer:
            job.state_file.unlink(missing_ok=True)
    finally:
        job.lines.close()
        if producer:
            await producer.stop()


def _account(job: Import, batch: Batch) -> None:
    assert batch.last is not None  # noqa: S101 - a batch has rows
    done, shape = job.progress, job.table.shape if job.table else None
    if job.refused_file and (batch.refused or done.rows == 0):
        done.refused_bytes = write_refused(job.refused_file, batch.refused, done.refused_bytes, shape)
    for row, rejected in batch.refused:
        done.refused[rejected.reason] = done.refused.get(rejected.reason, 0) + 1
        if len(job.examples) < 5:
            job.examples.append((row.line, rejected))
    done.rows, done.line, done.bytes = batch.last.number, batch.line, batch.last.end
    done.sent += len(batch.messages)
    done.silent += batch.silent


def save(path: Path, progress: Progress) -> None:
    """Written beside and renamed: whenever the power goes, there is a whole state file."""
    draft = path.with_name(path.name + ".new")
    with usable(path):
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(progress))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def _now() -> int:
    return time.time_ns() // 1_000_000
