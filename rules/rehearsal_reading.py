"""Test files to scripts: every name checked, every mistake at its line.

text ──► documents ──► shapes ────────────► scripts ──────────► `rehearsal`
         (yamlfile)    (rehearsal_model)    (rehearsal_script)

What a test names must exist: a typo would let it pass for the wrong reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from pydantic import ValidationError

from rules import mistakes, yamlfile
from rules.errors import MOST, Problem, RulesetError, did_you_mean, enough
from rules.facts import coerce
from rules.names import Names, Place
from rules.records import AccountId, AccountRecord, Activity, Contact, Delete, Facts, Restore
from rules.rehearsal_model import KEYS, Span, When, WrittenChange, WrittenStep, WrittenTest, since
from rules.rehearsal_script import Beat, Expectation, Holds, Members, Move, Says, Script, Stays
from rules.ruleset import Dimension, Ruleset
from rules.state import UNCLASSIFIED
from rules.work import Kind
from rules.yamlfile import Document

ACCOUNT = AccountId("account")
CRM, WEB = "salesforce", "segment"  # where facts and activities come from unless a step says otherwise

# What may stand beside each thing that happens in a step.
BESIDE = {
    "activity": ("props", "person", "times", "every", "happened"),
    "contact": ("facts", "clear", "gone", "source", "happened"),
    "facts": ("clear", "source", "happened"),
    "deleted": (),
    "restored": (),
}
_EXPECTING = ("expect", "stays_until", "because")


def read(ruleset: Ruleset, files: Mapping[str, str]) -> tuple[list[Script], list[Problem]]:
    """The tests in `files` (path → YAML text) that can be run, and every mistake in the others."""
    reader = _Reader({each.name: each for each in ruleset.dimensions}, _declared(ruleset))
    scripts, problems = [], []
    for file, text in sorted(files.items()):
        try:
            documents = yamlfile.read(file, text)
        except RulesetError as error:
            problems += error.problems
            continue
        found: list[Problem] = []
        try:
            for document in documents:
                before = len(found)
                script = reader.script(Place(document, found))
                if script is not None and len(found) == before:
                    scripts.append(script)
        except RulesetError as error:  # so many that reading stopped
            found = error.problems
        problems += found
    return scripts, sorted(set(problems))


def _declared(ruleset: Ruleset) -> Names:
    """What the rules name; they have been loaded, so that nothing is wrong with them."""
    names = Names([])
    for file, text in sorted(ruleset.files.items()):
        for document in yamlfile.read(file, text):
            names.declare(document)
    return names


@dataclass(frozen=True, slots=True)
class _Reader:
    dimensions: dict[str, Dimension]
    names: Names

    def script(self, place: Place) -> Script | None:
        shape = _shape(place)
        if shape is None:
            return None
        beats = tuple(self._beats(place, shape))
        moves = None if shape.changes is None else tuple(self._moves(place, shape.changes, shape.start))
        if moves is None and not any(step.model_fields_set & {*_EXPECTING} for step in shape.timeline):
            place.problem("the test expects nothing", "add `expect:` to a step, or `changes:`")
        line, changes = _line(place.at("test")), _line(place.at("changes"))
        return Script(place.document.file, line, shape.test, shape.start, beats, moves, changes)

    # -- what happens -------------------------------------------------------------------------------------

    def _beats(self, place: Place, shape: WrittenTest) -> Iterator[Beat]:
        now = shape.start
        for i, step in enumerate(shape.timeline):
            here = place.at("timeline", i)
            at = now if step.at is None else step.at.on(shape.start)
            if at < now:
                here.at("at").problem(
                    f"steps are in order, and the timeline is already at {since(shape.start, now)}"
                )
                at = now
            records = self._records(here, step, at, shape.start)
            now = records[-1].received if records else at
            yield Beat(now, records, tuple(self._expectations(here, step, shape.start)))

    def _records(self, place: Place, step: WrittenStep, at: int, start: int) -> tuple[AccountRecord, ...]:
        kind = _kind(place, step)
        happened = at if step.happened is None else step.happened.on(start)
        if happened > at:
            place.at("happened").problem("it cannot have happened after it arrived")
        match kind:
            case "activity":
                self._check_activity(place.at("activity"), step.activity or "")
                return tuple(
                    Activity(
                        account=ACCOUNT,
                        name=step.activity or "",
                        at=happened + i * (step.every or 0),
                        received=at + i * (step.every or 0),
                        person=step.person,
                        props=dict(step.props),
                        source=WEB,
                    )
                    for i in range(step.times)
                )
            case "facts":
                self._check_facts(place, "fact", self.names.facts, step)
                return (
                    Facts(
                        account=ACCOUNT,
                        at=happened,
                        received=at,
                        set=dict(step.facts),
                        clear=list(step.clear),
                        source=step.source or CRM,
                    ),
                )
            case "contact":
                self._check_facts(place, "contact fact", self.names.contact_facts, step)
                return (
                    Contact(
                        account=ACCOUNT,
                        person=step.contact or "",
                        at=happened,
                        received=at,
                        set=dict(step.facts),
                        clear=list(step.clear),
                        gone=step.gone is True,
                        source=step.source or CRM,
                    ),
                )
            case "deleted":
                return (Delete(account=ACCOUNT, at=at, received=at, source=CRM),)
            case "restored":
                return (Restore(account=ACCOUNT, at=at, received=at, source=CRM),)
            case None:
                return ()
            case _:
                raise AssertionError(kind)

    def _check_activity(self, place: Place, name: str) -> None:
        declared = self.names.activities.get(name)
        reported = [each for each, activity in self.names.activities.items() if activity.of is None]
        if declared is None:
            place.unknown("activity", name, reported)
        elif declared.of is not None:
            behind, _ = self.names.resolve(name, {})
            message = f"'{name}' is the rules' name for some of '{behind}', and no source reports it"
            place.problem(message, f"write `activity: {behind}` with the `props` that make it one")

    def _check_facts(self, place: Place, kind: str, known: Mapping[str, Any], step: WrittenStep) -> None:
        for i, name in enumerate(step.clear):
            if name not in known:
                place.at("clear", i).unknown(kind, name, known)
        for name, value in step.facts.items():
            here = place.at("facts", name)
            if name not in known:
                here.unknown(kind, name, known)
            elif value is None:
                here.problem("null says nothing about a fact", f"to empty it, write `clear: [{name}]`")
            elif isinstance(value, dict):
                here.problem(f"{name}: {value!r} is not a {known[name].type}")
            else:
                _check_value(here, name, known[name].type, value)

    # -- what is expected ---------------------------------------------------------------------------------

    def _expectations(self, place: Place, step: WrittenStep, start: int) -> Iterator[Expectation]:
        for name, value in (step.expect or {}).items():
            here = place.at("expect", name)
            if dimension := self._dimension(here, name):
                yield Holds(_line(here), dimension, _members(here, dimension, value))
        for name, when in (step.stays_until or {}).items():
            here = place.at("stays_until", name)
            if dimension := self._dimension(here, name):
                yield Stays(_line(here), dimension, _span(here, when, start))
        for name, text in (step.because or {}).items():
            here = place.at("because", name)
            if dimension := self._dimension(here, name):
                yield Says(_line(here), dimension, text)

    def _moves(self, place: Place, changes: Sequence[WrittenChange], start: int) -> Iterator[Move]:
        for i, change in enumerate(changes):
            here = place.at("changes", i)
            when = _span(here.at("at"), change.at, start)
            moving = change.model_extra or {}
            if not moving:
                here.problem("the change names no dimension", "write one like {at: 2d, engagement: hot}")
            for name, value in moving.items():
                if dimension := self._dimension(here.at(name), name):
                    for kind, segment, before in _moving(here.at(name), dimension, value):
                        yield Move(_line(here), when, name, kind, segment, before, change.because)

    def _dimension(self, place: Place, name: str) -> Dimension | None:
        if name not in self.dimensions:
            place.unknown("dimension", name, self.dimensions)
        return self.dimensions.get(name)


def _shape(place: Place) -> WrittenTest | None:
    if not isinstance(place.document.data, dict):
        place.problem("a test is a mapping", "begin it with `test: what it shows`")
        return None
    try:
        return WrittenTest.model_validate(place.document.data)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        place.problems.extend(_mistake(place.document, each) for each in errors[:MOST])
        if len(place.problems) >= MOST:
            raise enough(place.problems, place.problems[-1]) from None
        return None


def _mistake(document: Document, error: Any) -> Problem:
    if error["type"] != "extra_forbidden":
        return mistakes.explain(document, error)
    path, name = error["loc"], str(error["loc"][-1])
    keys = KEYS.get(str(path[0])) if len(path) > 1 else None
    hint = did_you_mean(name, keys or WrittenTest.model_fields)
    return document.problem(path, f"unknown key '{name}'", hint)


def _line(place: Place) -> int:
    return place.document.line(place.path)


def _kind(place: Place, step: WrittenStep) -> str | None:
    """What happens in the step, None for nothing; says what does not go together."""
    given = step.model_fields_set - {"at", *_EXPECTING}
    kinds = [kind for kind in BESIDE if kind in given]
    if "contact" in kinds and "facts" in kinds:
        kinds.remove("facts")
    kind = kinds[0] if kinds else "facts" if "clear" in given else None
    if len(kinds) > 1:
        place.problem(f"one thing happens in a step, and here are {' and '.join(kinds)}", "write two steps")
        return None
    for key in sorted(given - {kind}):
        homes = " or ".join(f"`{each}`" for each, keys in BESIDE.items() if key in keys)
        if kind is None or key not in BESIDE[kind]:
            place.at(key).problem(f"'{key}' stands beside {homes}")
    if "every" in given and "times" not in given:
        place.at("every").problem("'every' says how far apart, and `times` how often", "add `times: 3`")
    return kind


def _check_value(place: Place, name: str, kind: str, value: Any) -> None:
    try:
        coerce(kind, value)
    except ValueError as error:
        place.problem(f"{name}: {error}")


def _span(place: Place, when: When, start: int) -> Span:
    span = Span(when[0].on(start), when[1].on(start))
    if span.latest < span.earliest:
        place.problem("the later bound comes second")
    return span


def _members(place: Place, dimension: Dimension, value: Any) -> Members:
    match dimension.kind, value:
        case _, None:
            return Members(frozenset())
        case "ladder", str():
            return Members(_named(place, dimension, value))
        case "set", list():
            return Members(_named(place, dimension, value))
        case "set", {**keys} if keys and keys.keys() <= {"has", "lacks"}:
            has, lacks = (_named(place.at(key), dimension, keys.get(key, [])) for key in ("has", "lacks"))
            return Members(has, lacks, exactly=False)
        case "ladder", _:
            place.problem(f"{dimension.name} is a ladder: write one segment, or null for none")
        case "set", _:
            place.problem(f"{dimension.name} is a set: write a list of segments, or {{has: [..], lacks: [..]}}")
        case _:
            assert_never(dimension.kind)
    return Members(frozenset())


def _moving(place: Place, dimension: Dimension, value: Any) -> Iterator[tuple[Kind, str, str | None]]:
    """What a line of `changes` says of one dimension: (kind, segment, before)."""
    match dimension.kind, value:
        case "ladder", None:
            yield Kind.MOVED, "", None
        case "ladder", str():
            _named(place, dimension, value)
            yield Kind.MOVED, value, None
        case "ladder", {"from": str() | None as before, "to": str() | None as to} if len(value) == 2:
            _named(place, dimension, [each for each in (before, to) if each is not None])
            yield Kind.MOVED, to or "", before or ""
        case "set", {**keys} if keys and keys.keys() <= {"entered", "left"}:
            for key, kind in (("left", Kind.LEFT), ("entered", Kind.ENTERED)):
                for name in sorted(_named(place.at(key), dimension, keys.get(key, []))):
                    yield kind, name, None
        case "ladder", _:
            place.problem(
                f"{dimension.name} is a ladder: write where to, or {{from: warm, to: hot}} with its segments"
            )
        case "set", _:
            place.problem(f"{dimension.name} is a set: write {{entered: [..]}}, {{left: [..]}} or both")
        case _:
            assert_never(dimension.kind)


def _named(place: Place, dimension: Dimension, value: Any) -> frozenset[str]:
    """The segments in `value`, a name or a list of names, each of which the dimension must have."""
    known = [segment.name for segment in dimension.segments]
    if dimension.kind == "ladder" and not dimension.skips_unknown:
        known.append(UNCLASSIFIED)
    names = [str(each) for each in (value if isinstance(value, list) else [value])]
    for name in names:
        if name not in known:
            place.unknown(f"segment of {dimension.name}", name, known)
    return frozenset(names)
