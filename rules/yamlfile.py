"""YAML as rules need it: small, shallow, without anchors, tags or duplicate keys, and every value with its line.

Anchors and aliases are refused because they can make a small file enormous, tags because a value is what it looks
like, and a key given twice because one of the two would be lost silently. Only plain YAML 1.2-like scalars: `no`,
`on` and `yes` stay text.

One pass over the parser's events builds the data and beside it, in the same shape, the lines. Nothing recurses and
nothing is built before it has been allowed, so that a hostile file costs no more than reading it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from rules.errors import MOST, Problem, RulesetError, enough

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_EVENTS = 15_000  # keys and values; the begin and end of a list, mapping or document are one each

Path: TypeAlias = tuple[str | int, ...]

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9][0-9_]*$")
_FLOAT = re.compile(r"[-+]?[0-9][0-9_]*\.[0-9]+([eE][-+]?[0-9]+)?$")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_NUMERIC = frozenset("0123456789+-")
_TEXT_STYLES = frozenset("'\"|>")


@dataclass(slots=True)
class Lines:
    """The line of a value, and those of its parts: a number where the part has none itself."""

    line: int
    parts: Any  # in the shape of the data: dict[str, Lines | int] or list[Lines | int]


@dataclass(slots=True)
class Document:
    """One YAML document: plain data, and the line of every value by its path."""

    file: str
    data: Any
    lines: Lines | int

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing around it."""
        here = self.lines
        for step in path:
            try:
                here = here.parts[step]  # type: ignore[union-attr]  # a number has none: we are there
            except (AttributeError, KeyError, IndexError, TypeError):
                break
        return here.line if isinstance(here, Lines) else here

    def problem(self, path: Path, message: str, hint: str = "") -> Problem:
        return Problem(self.file, self.line(path), message, hint)


def read(file: str, text: str) -> list[Document]:
    """The documents of a file. Raises RulesetError with the place of what is wrong."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise RulesetError([Problem(file, 0, "the file is not UTF-8 text")]) from None
    if size > MAX_BYTES:
        raise RulesetError([Problem(file, 0, f"the file is larger than {MAX_BYTES // 1024} KB", "split it")])
    reading = _Reading(file)
    try:
        next_event = _BASE(text).get_event
        while (event := next_event()) is not None:
            reading.take(event)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise RulesetError([*reading.problems, Problem(file, line, f"not valid YAML: {error.problem}")]) from None
    except yaml.YAMLError as error:
        problem = Problem(file, 0, f"not valid YAML: {str(error).splitlines()[0]}")
        raise RulesetError([*reading.problems, problem]) from None
    if reading.problems:
        raise RulesetError(reading.problems)
    return reading.documents


class _Key:
    """In place of a mapping's key: the next value is one, or (`LOST`) belongs to a key that is refused."""


_NEXT, _LOST = _Key(), _Key()


@dataclass(slots=True)
class _Open:
    """A mapping or list that has begun. In a list the key is never asked for."""

    data: Any
    lines: Lines
    key: str | _Key
    key_line: int = 0


@dataclass(slots=True)
class _Reading:
    file: str
    documents: list[Document] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    open: list[_Open] = field(default_factory=list)
    events: int = 0

    def take(self, event: Any) -> None:
        self.events += 1
        if self.events > MAX_EVENTS:
            self._refuse(event, f"the file has more than {MAX_EVENTS:,} keys and values", "split it")
        kind = type(event)
        if kind is ScalarEvent:  # most are
            if event.anchor is not None or event.tag is not None:
                self._refuse_tricks(event)
            line = event.start_mark.line + 1
            if self.open and self.open[-1].key is _NEXT:
                self._begin_pair(self.open[-1], event.value, line)
            else:
                self._put(_scalar(event.value, event.style), line, line)
        elif kind is MappingStartEvent:
            self._begin({}, {}, _NEXT, event)
        elif kind is SequenceStartEvent:
            self._begin([], [], "", event)
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            closed = self.open.pop()
            self._put(closed.data, closed.lines, closed.lines.line)
        elif kind is AliasEvent:
            self._refuse(event, "YAML anchors and aliases are not allowed", "write it out")

    # -- refusing -----------------------------------------------------------------------------------------

    def _refuse(self, event: Any, message: str, hint: str = "") -> None:
        line = event.start_mark.line + 1
        raise RulesetError([*self.problems, Problem(self.file, line, message, hint)])

    def _refuse_tricks(self, event: Any) -> None:
        if event.anchor is not None:
            self._refuse(event, "YAML anchors and aliases are not allowed", "write it out")
        self._refuse(event, "YAML tags are not allowed", "a value is what it looks like")

    def _complain(self, line: int, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.file, line, message, hint))
        if len(self.problems) >= MOST:
            raise enough(self.problems, self.problems[-1])

    # -- building -----------------------------------------------------------------------------------------

    def _begin(self, data: Any, parts: Any, key: str | _Key, event: Any) -> None:
        if event.anchor is not None or event.tag is not None:
            self._refuse_tricks(event)
        if len(self.open) == MAX_DEPTH:
            self._refuse(event, f"nested deeper than {MAX_DEPTH} levels")
        self.open.append(_Open(data, Lines(event.start_mark.line + 1, parts), key))

    def _begin_pair(self, inside: _Open, key: str, line: int) -> None:
        inside.key, inside.key_line = key, line
        if not key:
            self._lose(inside, line, "a key must be text")
        elif key == "<<":
            self._lose(inside, line, "YAML merge keys are not allowed", "write it out")
        elif key in inside.data:
            self._lose(inside, line, f"the key '{key}' is given twice")

    def _lose(self, inside: _Open, line: int, message: str, hint: str = "") -> None:
        inside.key = _LOST
        self._complain(line, message, hint)

    def _put(self, value: Any, lines: Lines | int, line: int) -> None:
        """A value is complete: it goes into what it stands in."""
        if not self.open:
            if value is not None:  # else there is nothing between two `---`
                self.documents.append(Document(self.file, value, lines))
            return
        inside = self.open[-1]
        key = inside.key
        if type(inside.data) is list:
            inside.lines.parts.append(lines)
            inside.data.append(value)
        elif key is _NEXT:
            self._lose(inside, line, "a key must be text")
        else:
            inside.key = _NEXT
            if key is _LOST:
                return
            if isinstance(lines, Lines):
                lines.line = inside.key_line
                inside.lines.parts[key] = lines
            else:
                inside.lines.parts[key] = inside.key_line
            inside.data[key] = value


def _scalar(text: str, style: str | None) -> Any:
    if style is not None and style in _TEXT_STYLES:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in _NUMERIC:
        if _INT.match(text) and len(text) < 20:
            return int(text.replace("_", ""))
        if _FLOAT.match(text) and len(text) < 40 and math.isfinite(number := float(text.replace("_", ""))):
            return number
    return text
