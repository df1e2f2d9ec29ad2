"""The rows of a file, CSV or JSON lines, packed with gzip or not; and the file of those that are refused.

Every row knows where it ends, in bytes of the unpacked file, so that reading can go on behind any of them. Memory
is bounded by the row: 1 MB of a line, or of a cell, is read at most.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from streams.adapters.base import Rejected
from streams.adapters.wire import MAX_BYTES

_BOM, _GZIP, _UTF16 = b"\xef\xbb\xbf", b"\x1f\x8b", (b"\xff\xfe", b"\xfe\xff")


class ImportProblem(Exception):
    """The user's to mend; the message says how."""


@contextmanager
def usable(path: Path) -> Iterator[None]:
    """What goes wrong with the file itself, said with its name."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImportProblem(f"cannot use {path}: {why}") from None


@dataclass(frozen=True, slots=True)
class Row:
    """`number` counts from 1 without header and empty rows; `line` is where it begins, `end` the bytes (unpacked)
    up to and with it. `cells` are those of CSV, None if they cannot be told apart."""

    number: int
    line: int
    end: int
    raw: bytes
    cells: list[str] | None = None
    wrong: Rejected | None = None


class Lines:
    """The lines of a file, unpacked, and where we stand in it. At most 1 MB of a line at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with usable(path):
            self._raw = path.open("rb")
            begin = self._raw.peek(2)[:2]
            self.size = path.stat().st_size
        self._file: Any = gzip.GzipFile(fileobj=self._raw) if begin == _GZIP else self._raw
        self.at = self.line = 0
        if self.next().startswith(_UTF16):
            raise ImportProblem(f"{path} is UTF-16; save it as UTF-8")
        self.seek(0, 0)

    def next(self) -> bytes:
        """Up to and with the line's end; b"" at the end of the file."""
        with usable(self._path):
            line: bytes = self._file.readline(MAX_BYTES + 1)
        begins, self.at = self.at == 0, self.at + len(line)
        self.line += line.endswith(b"\n")
        return line.removeprefix(_BOM) if begins else line

    def seek(self, at: int, line: int) -> None:
        with usable(self._path):
            self._file.seek(at)
        self.at, self.line = at, line

    @property
    def read(self) -> int:
        """Bytes of the file as it is on disk."""
        return self._raw.tell()

    def close(self) -> None:
        self._raw.close()


def json_rows(lines: Lines, number: int) -> Iterator[Row]:
    while line := lines.next():
        begun = lines.line if line.endswith(b"\n") else lines.line + 1
        if wrong := _too_long(line):
            while line and not line.endswith(b"\n"):
                line = lines.next()
            line = b""
        if wrong or line.strip():
            number += 1
            yield Row(number, begun, lines.at, line.strip(), wrong=wrong)


def _too_long(line: bytes) -> Rejected | None:
    if len(line.rstrip(b"\r\n")) <= MAX_BYTES:
        return None
    return Rejected("too_large", f"more than {MAX_BYTES:,} bytes")


def csv_rows(lines: Lines, number: int, delimiter: str, width: int = 0) -> Iterator[Row]:
    """`width` is the number of cells a row must have, 0 for any."""
    csv.field_size_limit(MAX_BYTES)
    taken: list[bytes] = []

    def texts() -> Iterator[str]:
        while line := lines.next():
            taken.append(line)
            yield line.decode("utf-8", "surrogateescape")

    reader = csv.reader(texts(), delimiter=delimiter, strict=True)
    while True:
        taken.clear()
        begun, cells, wrong = lines.line + 1, list[str](), None
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            wrong = Rejected("broken_csv", str(error))
        raw = b"".join(taken)
        if wrong is None and not any(map(str.strip, cells)) and len(cells) != 1:
            continue  # an empty row, as spreadsheets leave them at the end
        number += 1
        wrong = wrong or _not_text(raw) or _wrong_width(cells, width)
        yield Row(number, begun, lines.at, raw, cells or None, wrong)


def _not_text(raw: bytes) -> Rejected | None:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return Rejected("bad_utf8", f"{error.reason} at byte {error.start}: save the file as UTF-8")
    return None


def _wrong_width(cells: list[str], width: int) -> Rejected | None:
    if not width or len(cells) == width:
        return None
    return Rejected("wrong_width", f"{len(cells)} cells, the header has {width}")


@dataclass(frozen=True, slots=True)
class Columnar:
    """How a CSV file is read. `begin` is where its rows do: bytes, lines."""

    delimiter: str
    header: list[str]
    begin: tuple[int, int]


def columnar(lines: Lines) -> Columnar:
    """Read from the header: its delimiter is the one that makes the most columns of it."""
    found = Columnar(",", [], (0, 0))
    for delimiter in ",;\t|":
        lines.seek(0, 0)
        first = next(csv_rows(lines, 0, delimiter), None)
        if first and first.cells and not first.wrong and len(first.cells) > len(found.header):
            found = Columnar(delimiter, [cell.strip() for cell in first.cells], (lines.at, lines.line))
    if not any(found.header):
        raise ImportProblem("there is no header row: its cells name the columns, in UTF-8")
    return found


# -- rows that are refused -----------------------------------------------------------------------------------

Refused: TypeAlias = tuple[Row, Rejected]


def write_refused(path: Path, refused: list[Refused], begin: int, columns: Columnar | None) -> int:
    """Appends after `begin` bytes, dropping what an interrupted run wrote beyond; gives the size then.

    Nothing refused from the beginning on: a file that an earlier import left goes.
    """
    with usable(path):
        if not refused and not begin:
            path.unlink(missing_ok=True)
            return 0
        text = _as_csv(refused, columns, not begin) if columns else b"".join(map(_as_json, refused))
        with path.open("r+b" if begin and path.exists() else "wb") as file:
            file.truncate(min(begin, path.stat().st_size))
            file.seek(0, os.SEEK_END)
            file.write(text)
            return file.tell()


def _as_csv(refused: Iterable[Refused], columns: Columnar, headed: bool) -> bytes:
    """Ours come first: a refused row may have more cells than the header. What is no row is one cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=columns.delimiter)
    if headed:
        writer.writerow(["line", "reason", "detail", *columns.header])
    for row, why in refused:
        cells = row.cells or [row.raw.decode("utf-8", "surrogateescape")]
        writer.writerow([row.line, why.reason, why.detail, *cells])
    return text.getvalue().encode("utf-8", "surrogateescape")


def _as_json(refused: Refused) -> bytes:
    row, why = refused
    told: dict[str, Any] = {"line": row.line, "reason": why.reason, "detail": why.detail}
    try:
        msgspec.json.decode(row.raw)
        told["row"] = msgspec.Raw(row.raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        told["row"] = row.raw.decode(errors="backslashreplace")
    return msgspec.json.encode(told) + b"\n"
