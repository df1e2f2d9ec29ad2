"""Rules: validated, tried on virtual time, folded over a file, put in force."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rules.compiler import TEST_SUFFIX, load
from rules.errors import Problem, RulesetError
from streams.commands import SHIPPED
from streams.terminal import (
    NO,
    Json,
    err,
    fail,
    instant_or_exit,
    load_or_exit,
    out,
    print_json,
    shown,
)


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


def warnings_about(ruleset: Any) -> list[Problem]:
    from rules.lint import lint
    from streams.adapters import SYSTEMS
    from streams.adapters.names import is_personal, snake

    def dropped(section: str, name: str) -> bool:
        """Whether the adapters leave such a fact out, whoever reports it."""
        return is_personal(name) or snake(name) != name or (section == "contact_facts" and name == "name")

    return lint(ruleset.files, SYSTEMS, dropped)


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
