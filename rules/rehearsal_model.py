"""The shape of `*_test.yaml`, tests of rules as people write them: what pydantic checks before names are checked.

A time is written as the time since the start of the test, or as an instant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, PlainValidator

from rules import durations
from rules.model import Duration, Model
from rules.state import NEVER

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_UNITS = durations.UNITS | {"ms": 1}
_PART = re.compile(r"(\d{1,6})(ms|[smhdw])")
_SUM = re.compile(rf"(-?)({_PART.pattern}(?:\s+{_PART.pattern})*)")
_LATEST = 1 << 47

# -- times --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moment:
    """A time as written: milliseconds since the start of the test, or (`fixed`) an instant."""

    ms: int
    fixed: bool = False

    def on(self, start: int) -> int:
        return self.ms if self.fixed else start + self.ms


@dataclass(frozen=True, slots=True)
class Span:
    """From the earliest to the latest instant, both included; mostly they are the same."""

    earliest: int
    latest: int

    def __contains__(self, instant: int) -> bool:
        return self.earliest <= instant <= self.latest

    def told(self, start: int) -> str:
        if self.earliest == self.latest:
            return since(start, self.earliest)
        return f"between {since(start, self.earliest)} and {since(start, self.latest)}"


When: TypeAlias = tuple[Moment, Moment]


def since(start: int, instant: int) -> str:
    """`7d 1h`: an instant as a test would write it."""
    if instant >= NEVER:
        return "never"
    left, parts = abs(instant - start), []
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if instant < start else "") + (" ".join(parts) or "0h")


def _moment(value: object) -> Moment:
    text = value.strip() if isinstance(value, str) else ""
    if value == 0 and type(value) is int:
        return Moment(0)
    if match := _SUM.fullmatch(text):
        length = sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(match[2]))
        if length > durations.LONGEST:
            raise ValueError("a test may take at most 20 years")
        return Moment(-length if match[1] else length)
    return Moment(_instant(text), fixed=True)


def _instant(value: object) -> int:
    example = "an instant such as 2026-03-02T09:00:00Z"
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        parsed = None
    if parsed is None:
        raise ValueError(f"write a time since the start such as 0h, 36h or `7d 1m`, or {example}")
    if parsed.tzinfo is None:
        raise ValueError(f"{value!r} names no time zone; write {example}")
    instant = (parsed - _EPOCH) // _MS
    if not 0 < instant < _LATEST:
        raise ValueError(f"{value!r} is too far away")
    return instant


def _start(value: object) -> int:
    moment = _moment(value)
    if not moment.fixed:
        raise ValueError("a test starts at an instant such as 2026-03-02T09:00:00Z")
    return moment.ms


def _when(value: object) -> When:
    if isinstance(value, dict) and list(value) == ["between"]:
        bounds = value["between"]
        if isinstance(bounds, list) and len(bounds) == 2:
            return _moment(bounds[0]), _moment(bounds[1])
        raise ValueError("write {between: [9d, 10d]}")
    moment = _moment(value)
    return moment, moment


def _until(value: object) -> When:
    never = Moment(NEVER, fixed=True)
    return (never, never) if value == "never" else _when(value)


START = _instant("2026-03-02T09:00:00Z")  # a Monday

# -- the shape of a test file -------------------------------------------------------------------------------


class WrittenStep(Model):
    """What happens at an instant, and what is expected right after it. One thing happens in a step."""

    at: Annotated[Moment, PlainValidator(_moment)] | None = None
    activity: str | None = None
    props: dict[str, Any] = Field(default_factory=dict)
    person: str | None = None
    times: Annotated[int, Field(ge=1, le=1000)] = 1
    every: Duration | None = None
    facts: dict[str, Any] = Field(default_factory=dict)
    clear: list[str] = Field(default_factory=list)
    source: str | None = None
    contact: str | None = None
    gone: Literal[True] | None = None
    happened: Annotated[Moment, PlainValidator(_moment)] | None = None
    deleted: Literal[True] | None = None
    restored: Literal[True] | None = None
    expect: Annotated[dict[str, Any], Field(min_length=1)] | None = None
    stays_until: Annotated[dict[str, Annotated[When, PlainValidator(_until)]], Field(min_length=1)] | None = None
    because: Annotated[dict[str, str], Field(min_length=1)] | None = None


class WrittenChange(Model):
    """One line of `changes`; every other key is a dimension."""

    model_config = ConfigDict(extra="allow")

    at: Annotated[When, PlainValidator(_when)]
    because: str = ""


class WrittenTest(Model):
    test: str
    start: Annotated[int, PlainValidator(_start)] = START
    timeline: Annotated[list[WrittenStep], Field(min_length=1)]
    changes: list[WrittenChange] | None = None


KEYS = {"timeline": set(WrittenStep.model_fields), "changes": set(WrittenChange.model_fields)}
