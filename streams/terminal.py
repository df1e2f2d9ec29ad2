"""What every command of the line shares: where it prints, how it ends, and whose mistake it was."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from cyclopts import Parameter
from rich.console import Console

from rules.compiler import load
from rules.errors import Problem, RulesetError

T = TypeVar("T")
NO, AWAY = 1, 3  # exit codes: the answer is no; Kafka or Redis is away
PROBLEMS_SHOWN = 100

# Piped output is for grep and files: no wrapping at the 80 columns that a pipe does not have.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False, soft_wrap=True)
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON for programs.")]


def run(work: Awaitable[T]) -> T:
    """Runs `work`; what is the user's to mend ends with a sentence and an exit code."""
    from aiokafka.errors import KafkaError
    from redis.exceptions import MovedError, RedisError

    from streams.connecting import refusal
    from streams.topics import TopicsError

    async def main_() -> T:
        return await work

    try:
        return asyncio.run(main_())
    except TopicsError as error:
        fail(str(error), NO)
    except MovedError:
        fail("ISOTHERM_REDIS names a node of a cluster: write redis+cluster:// instead of redis://", AWAY)
    except RedisError as error:
        fail(f"cannot reach Redis (ISOTHERM_REDIS): {error}", AWAY)
    except (KafkaError, OSError) as error:
        refused = asyncio.run(refusal(read_settings()))
        fail(f"Kafka at {refused}" if refused else f"cannot reach Kafka (ISOTHERM_KAFKA): {error}", AWAY)


def read_settings(**given: Any) -> Any:
    from pydantic import ValidationError

    from streams.settings import Settings

    try:
        return Settings(**given)
    except ValidationError as error:
        for each in error.errors():
            setting = "".join(f"ISOTHERM_{name}: ".upper() for name in each["loc"])  # none: several do not agree
            err.print(setting + each["msg"].removeprefix("Value error, "), markup=False)
        sys.exit(2)


def load_or_exit(directory: Path) -> Any:
    """The ruleset in `directory`."""
    return read_or_exit(load, directory)


def sources_or_exit(path: Path | str) -> Any:
    """The sources that a file describes; of "" the shipped ones."""
    from streams.sources import read

    return read_or_exit(read, path)


def read_or_exit(read: Callable[[Any], T], path: Path | str) -> T:
    """What `read` makes of a file; its problems are told, and end the command."""
    try:
        return read(path)
    except RulesetError as error:
        for each in shown(error.problems):
            err.print(each, markup=False)
        fail(f"{len(error.problems)} problem(s); nothing was done", NO)


def shown(problems: Sequence[Problem]) -> Iterator[str]:
    """A line for each of the first problems, and how many are left."""
    yield from map(str, problems[:PROBLEMS_SHOWN])
    if len(problems) > PROBLEMS_SHOWN:
        yield f"and {len(problems) - PROBLEMS_SHOWN:,} more"


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
