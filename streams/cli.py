"""The command line. Exit codes: 0 done; 1 the answer is no (problems found, account not known);
2 the command was used wrongly; 3 Kafka or Redis cannot be reached."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from cyclopts import App, Parameter
from rich.console import Console

import rules
from rules.compiler import load
from rules.errors import RulesetError

T = TypeVar("T")
SHIPPED = Path(rules.__file__).parent / "segments"
NO, AWAY = 1, 3

app = App(
    name="isotherm",
    help="An event-driven, streaming segmenter for B2B accounts.",
    version_flags=["--version"],
)
# Piped output is for grep and files: no wrapping at the 80 columns that a pipe does not have.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False, soft_wrap=True)
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON for programs.")]


def main() -> None:
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.command
def check(directory: Path = SHIPPED, *, json_: Json = False) -> None:
    """Validate rule files: every mistake at once, each with file, line and a hint.

    Example: isotherm check rules/segments
    """
    try:
        ruleset = load(directory)
    except RulesetError as error:
        if json_:
            print_json([_problem(each) for each in error.problems])
        else:
            for each in error.problems:
                err.print(str(each), markup=False)
            err.print(f"{len(error.problems)} problem(s), nothing would be deployed")
        sys.exit(NO)
    if json_:
        print_json({"ruleset": ruleset.hash, "dimensions": [each.name for each in ruleset.dimensions]})
        return
    names = ", ".join(each.name for each in ruleset.dimensions)
    out.print(f"ruleset {ruleset.hash}: {len(ruleset.dimensions)} dimensions ({names}), no problems")


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

    async def create() -> list[str]:
        made = await names.create(settings.kafka, settings.topics, settings.partitions, settings.replication)
        await names.check(settings.kafka, settings.topics, settings.partitions)
        return made

    created = run(create())
    if json_:
        print_json({"created": created})
    else:
        out.print(f"created {', '.join(created)}" if created else "all topics are there")


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
def explain(account: str, *, json_: Json = False) -> None:
    """Tell each segment an account is in: why, since when, and until when if nothing happens.

    ACCOUNT is an account's id or its web domain.

    Example: isotherm explain blueharbor.example
    """
    from streams.inspect import explain_account
    from streams.show import explanation_tree

    told = run(explain_account(account, read_settings()))
    if told is None:
        fail(f"account {account} is not known", NO)
    if json_:
        print_json(told)
    else:
        out.print(explanation_tree(told))


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
def demo(*, seconds: int = 0, companies: int = 500, rate: float = 20.0) -> None:
    """Watch fictional accounts turn hot and cool down: broker, Valkey, worker and traffic on this machine.

    Stops after SECONDS if that is given, else on Ctrl-C.

    Example: isotherm demo --seconds 30
    """
    from streams.demo.run import run_demo

    sys.exit(run_demo(seconds=seconds, companies=companies, rate=rate))


# -- what commands share ------------------------------------------------------------------------------------


def run(work: Awaitable[T]) -> T:
    """Runs `work`; what is the user's to mend ends with a sentence and an exit code."""
    from aiokafka.errors import KafkaError
    from redis.exceptions import RedisError

    from streams.topics import TopicsError

    async def main_() -> T:
        return await work

    try:
        return asyncio.run(main_())
    except TopicsError as error:
        fail(str(error), NO)
    except RedisError as error:
        fail(f"cannot reach Redis (ISOTHERM_REDIS): {error}", AWAY)
    except (KafkaError, OSError) as error:
        fail(f"cannot reach Kafka (ISOTHERM_KAFKA): {error}", AWAY)


def read_settings(**given: Any) -> Any:
    from pydantic import ValidationError

    from streams.settings import Settings

    try:
        return Settings(**given)
    except ValidationError as error:
        for each in error.errors():
            err.print(f"ISOTHERM_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}", markup=False)
        sys.exit(2)


def load_or_exit(directory: Path) -> Any:
    try:
        return load(directory)
    except RulesetError as error:
        for each in error.problems:
            err.print(str(each), markup=False)
        fail(f"{len(error.problems)} problem(s); nothing was done", NO)


def instant_or_exit(text: str) -> int:
    from streams.adapters.times import instant_or_none

    found = instant_or_none(text)
    if found is None:
        fail(f"{text!r} is no instant; write one like 2026-04-01T00:00:00Z", 2)
    return found


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def fail(message: str, code: int) -> NoReturn:
    err.print(message, markup=False)
    sys.exit(code)


def _problem(problem: Any) -> dict[str, Any]:
    return {"file": problem.file, "line": problem.line, "message": problem.message, "hint": problem.hint}


if __name__ == "__main__":
    main()
