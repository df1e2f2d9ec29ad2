"""Tests of rules, run on virtual time: what `isotherm test` does.

Each test is one account. Its steps become records that go through `Replay`, the same fold as live ones, so that
whatever falls due between two steps is decided at its own instant, and what a step expects is what holds then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, assert_never

from rules import reasons
from rules.changes import iso
from rules.conditions import Told
from rules.errors import Problem
from rules.fold import Outgoing
from rules.rehearsal_model import since
from rules.rehearsal_reading import ACCOUNT, read
from rules.rehearsal_script import Expectation, Holds, Move, Says, Script, Stays, segments
from rules.replay import Replay
from rules.ruleset import Dimension, Ruleset
from rules.state import NEVER, NOWHERE, UNCLASSIFIED, AccountState, Answer, standing_in
from rules.work import Change, Kind

_MARKS = {"true": "✓", "false": "✗", "unknown": "?"}
_WIDTH = 10


@dataclass(frozen=True, slots=True)
class Failure:
    """One expectation that did not hold: where it is written, what came instead, and why."""

    file: str
    line: int
    test: str
    dimension: str
    expected: tuple[str, ...]
    got: tuple[str, ...]
    why: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [*_column("expected", self.expected), *_column("got", self.got), *_column("why", self.why)]
        return "\n".join([f"{self.file}:{self.line}: {self.test}", *rows])


@dataclass(frozen=True, slots=True)
class Result:
    """A test that was run."""

    file: str
    line: int
    test: str
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All tests that could be run, and what is wrong with those that could not."""

    results: tuple[Result, ...]
    problems: tuple[Problem, ...]

    @property
    def failed(self) -> int:
        return sum(1 for result in self.results if result.failures)

    @property
    def passed(self) -> bool:
        return not self.failed and not self.problems

    def __str__(self) -> str:
        """`12 tests in 3 files, 1 failed`."""
        files = len({result.file for result in self.results})
        parts = [f"{_many(len(self.results), 'test')} in {_many(files, 'file')}"]
        parts.append(
            f"{self.failed} failed" if self.failed else "all passed" if self.results else "nothing to run"
        )
        if self.problems:
            parts.append(_many(len(self.problems), "problem"))
        return ", ".join(parts)

    def plain(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "passed": self.passed,
            "summary": str(self),
            "problems": [asdict(problem) for problem in self.problems],
            "tests": [asdict(result) | {"passed": not result.failures} for result in self.results],
        }


def rehearse(ruleset: Ruleset, files: Mapping[str, str], only: str = "") -> Report:
    """Runs the tests in `files` (path → YAML text) whose name contains `only`, whatever the case."""
    scripts, problems = read(ruleset, files)
    chosen = [script for script in scripts if only.casefold() in script.name.casefold()]
    results = [Result(each.file, each.line, each.name, tuple(perform(each, ruleset))) for each in chosen]
    return Report(tuple(results), tuple(problems))


def perform(script: Script, ruleset: Ruleset) -> Iterator[Failure]:
    """What one test finds wrong with the rules, in the order of its timeline."""
    replay, told = Replay(ruleset), list[Outgoing]()
    for beat in script.beats:
        for record in beat.records:
            told += replay.feed(record)
        told += replay.advance(beat.at)
        scene = _Scene(ruleset, script, replay.states.get(ACCOUNT), beat.at)
        for expectation in beat.expectations:
            if not scene.meets(expectation):
                yield scene.failure(expectation)
    told += replay.advance(script.end)
    changes = [each.change for each in told if each.change.kind is not Kind.STATE]
    yield from _compare(script, changes)


@dataclass(frozen=True, slots=True)
class _Scene:
    """The account at one instant of a test; None before anything is known of it."""

    ruleset: Ruleset
    script: Script
    state: AccountState | None
    now: int

    def meets(self, expectation: Expectation) -> bool:
        dimension = expectation.dimension
        match expectation:
            case Holds():
                return expectation.members.match(self._answer(dimension))
            case Stays():
                return self._is_placed() and self._stays_until(dimension) in expectation.until
            case Says():
                return any(expectation.text in said for said in self._says(dimension))
            case _:
                assert_never(expectation)

    def failure(self, expectation: Expectation) -> Failure:
        dimension, script = expectation.dimension, self.script
        expected = f"{dimension.name} {self._wanted(expectation)}"
        at = f"at {self._since(self.now)}, {iso(self.now)}"
        return Failure(
            script.file,
            expectation.line,
            script.name,
            dimension.name,
            (expected, at),
            (f"{dimension.name} {self._standing(dimension)}",),
            tuple(self._why(expectation)),
        )

    # -- the account --------------------------------------------------------------------------------------

    def _is_placed(self) -> bool:
        return self.state is not None and not self.state.deleted and bool(self.state.ruleset)

    def _answer(self, dimension: Dimension) -> Answer:
        return standing_in(self.state, dimension.name).answer if self.state is not None else ()

    def _stays_until(self, dimension: Dimension) -> int:
        return NEVER if self.state is None else self.ruleset.stays_until(dimension, self.state)

    def _reasons(self, dimension: Dimension, names: Iterable[str]) -> Iterator[Told]:
        if self.state is not None and self._is_placed():
            for name in names:
                yield reasons.explain(dimension, self.state, (), name, self.now)["because"]

    def _says(self, dimension: Dimension) -> list[str]:
        """For each segment it holds, all that decided."""
        told = self._reasons(dimension, self._answer(dimension) or ("",))
        return ["; ".join(reasons.headline(each)) for each in told]

    # -- in words -----------------------------------------------------------------------------------------

    def _since(self, instant: int) -> str:
        return since(self.script.start, instant)

    def _wanted(self, expectation: Expectation) -> str:
        match expectation:
            case Holds():
                return str(expectation.members)
            case Stays() if expectation.until.earliest >= NEVER:
                return "stays as it is unless something happens"
            case Stays():
                return f"stays as it is until {expectation.until.told(self.script.start)}"
            case Says():
                return f"because of {expectation.text!r}"
            case _:
                assert_never(expectation)

    def _standing(self, dimension: Dimension) -> str:
        if self.state is None:
            return "no segment: nothing is known of the account yet"
        if not self._is_placed():
            return "no segment: the account is deleted" if self.state.deleted else "no segment: never decided"
        held = segments(self._answer(dimension))
        standing, until = standing_in(self.state, dimension.name), self._stays_until(dimension)
        entered = "" if standing is NOWHERE else f" since {self._since(standing.since)}"
        rest = "unless something happens" if until >= NEVER else f"until {self._since(until)}"
        return f"{held}{entered}, {rest}"

    def _why(self, expectation: Expectation) -> Iterator[str]:
        """Why it is what it is, and why it is not what was expected."""
        dimension = expectation.dimension
        for name, said in zip(self._answer(dimension) or ("no segment",), self._says(dimension), strict=False):
            yield f"{name}: {said}"
        if isinstance(expectation, Holds):
            for name in sorted(expectation.members.has - {*self._answer(dimension), UNCLASSIFIED}):
                for told in self._reasons(dimension, [name]):
                    yield f"not {name}:"
                    yield from _tree(told, "  ")


def _tree(told: Told, indent: str) -> Iterator[str]:
    yield f"{indent}{_MARKS[told['verdict']]} {told['says']}"
    for part in told.get("parts", ()):
        yield from _tree(part, indent + "  ")


# -- changes ------------------------------------------------------------------------------------------------


def _compare(script: Script, changes: list[Change]) -> Iterator[Failure]:
    """One failure for each dimension whose changes are not exactly the ones that the test lists."""
    if script.moves is None:
        return
    named = [move.dimension for move in script.moves]
    for dimension in dict.fromkeys(named or [change.dimension for change in changes]):
        moves = [move for move in script.moves if move.dimension == dimension]
        came = [change for change in changes if change.dimension == dimension]
        yield from _compare_in(script, dimension, sorted(moves, key=lambda move: move.when.earliest), came)


def _compare_in(script: Script, dimension: str, moves: list[Move], came: list[Change]) -> Iterator[Failure]:
    surplus, missing = list(came), list[Move]()
    for move in moves:
        found = next((change for change in surplus if _is(move, change)), None)
        if found is None:
            missing.append(move)
        else:
            surplus.remove(found)
    if missing or surplus:
        yield Failure(
            script.file,
            missing[0].line if missing else script.moves_line,
            script.name,
            dimension,
            tuple(_marked(_wanted(script, move), move in missing) for move in moves) or ("no change",),
            tuple(_marked(_came(script, change), change in surplus) for change in came) or ("no change",),
        )


def _is(move: Move, change: Change) -> bool:
    return (
        change.effective in move.when
        and change.kind is move.kind
        and change.segment == move.segment
        and move.before in (None, _one(change.before))
        and move.because in _said(change)
    )


def _said(change: Change) -> str:
    reason: Any = change.reason
    return "; ".join(reasons.headline(reason.get("left", reason["because"])))


def _one(answer: Answer) -> str:
    return answer[0] if answer else ""


def _marked(text: str, wrong: bool) -> str:
    return f"{'✗' if wrong else '✓'} {text}"


def _wanted(script: Script, move: Move) -> str:
    when = move.when.told(script.start)
    because = f" because of {move.because!r}" if move.because else ""
    if move.kind is not Kind.MOVED:
        return f"{when}: {move.dimension} {_verb(move.kind)} {move.segment}{because}"
    before = "" if move.before is None else f"{move.before or 'no segment'} "
    return f"{when}: {move.dimension} {before}→ {move.segment or 'no segment'}{because}"


def _came(script: Script, change: Change) -> str:
    when = since(script.start, change.effective)
    if change.kind is not Kind.MOVED:
        return f"{when}: {change.dimension} {_verb(change.kind)} {change.segment}: {_said(change)}"
    before, after = segments(change.before), segments(change.after)
    return f"{when}: {change.dimension} {before} → {after}: {_said(change)}"


def _verb(kind: Kind) -> str:
    return kind.rpartition(".")[2]


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _column(head: str, rows: tuple[str, ...]) -> list[str]:
    return [f"    {head if i == 0 else '':<{_WIDTH}}{row}" for i, row in enumerate(rows)]
