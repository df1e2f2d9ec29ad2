"""Every command that README and docs show exists, with its options; every block of JSON and YAML parses.

Most pages are run as a whole by tests of their own; this one finds what no such test types.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
import yaml

from streams.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
HEREDOC = re.compile(r"<<'?(\w+)'?.*?^\1$", re.DOTALL | re.MULTILINE)
OPERATORS = {"|", "||", "&&", "&", ";", ";;", ">", ">>", "<", "(", ")", "|&"}
SHELLS = ("sh", "bash")


def _blocks(*languages: str) -> list[tuple[Path, str]]:
    """Each block in one of the languages, with its page."""
    return [
        (page, text)
        for page in PAGES
        for language, text in FENCED.findall(page.read_text())
        if language in languages
    ]


def _typed() -> Iterator[tuple[Path, str]]:
    """Each line in which somebody types `isotherm`: in blocks of shell, after a prompt, or indented."""
    for page in PAGES:
        text = page.read_text()
        lines = [
            line
            for language, block in FENCED.findall(text)
            if language in SHELLS
            for line in HEREDOC.sub("", block).replace("\\\n", " ").splitlines()
        ]
        lines += re.findall(r"^\$ (isotherm .*)$", text, re.MULTILINE)
        lines += re.findall(r"^    (isotherm .*)$", FENCED.sub("", text), re.MULTILINE)
        yield from ((page, line) for line in lines if re.search(r"\bisotherm [a-z-]", line))


def _commands(line: str) -> Iterator[list[str]]:
    """The arguments of each `isotherm` in a line of shell; assignments and redirections are left out."""
    words = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    words.whitespace_split, words.commenters = True, "#"
    left = list(words)
    while left:
        part = list(takewhile(lambda word: word not in OPERATORS, left))
        left = left[len(part) + 1 :]
        while part and re.match(r"\w+=|(export|exec|source)$", part[0]):
            part.pop(0)
        if part and part[0] == "isotherm":
            yield [word for word in part[1:] if word != "2"]  # of `2> file`


TYPED = [(page.name, line, arguments) for page, line in _typed() for arguments in _commands(line)]
NAMED = sorted(
    {
        (page.name, each)
        for page in PAGES
        for each in re.findall(r"`isotherm ([a-z][^`\n]*)`", FENCED.sub("", page.read_text()))
    }
)


def test_there_is_something_to_look_at() -> None:
    assert {"README.md", "operations.md", "troubleshooting.md", "quick-start.md"} <= {page for page, *_ in TYPED}
    assert len(NAMED) > 100


@pytest.mark.parametrize(("page", "line", "arguments"), TYPED, ids=lambda each: str(each)[:60])
def test_what_is_typed_would_run(page: str, line: str, arguments: list[str]) -> None:
    command, given, _ = app.parse_args(arguments, print_error=False, exit_on_error=False)
    assert command.__module__.startswith("streams.")
    assert given.signature.parameters.keys() >= given.arguments.keys()


@pytest.mark.parametrize(("page", "said"), NAMED)
def test_what_is_named_exists(page: str, said: str) -> None:
    """In running text arguments are left out or stand for something, so only names are looked at."""
    names, apps, rest = app.parse_commands(said.partition("#")[0].split())
    assert names, "no such command"
    if apps[-1].default_command is None:
        assert rest == [], "no such command in the group"
        return
    known = {name for each in apps[-1].assemble_argument_collection() for name in each.names} | {"--help"}
    assert [each for each in rest if each.startswith("--") and each.partition("=")[0] not in known] == []


@pytest.mark.parametrize(("page", "text"), _blocks("json"), ids=lambda each: getattr(each, "name", ""))
def test_json_is_json(page: Path, text: str) -> None:
    decoder, left = json.JSONDecoder(), text.strip()
    while left:
        _, end = decoder.raw_decode(left)
        left = left[end:].strip()


@pytest.mark.parametrize(("page", "text"), _blocks("yaml"), ids=lambda each: getattr(each, "name", ""))
def test_yaml_is_yaml(page: Path, text: str) -> None:
    assert all(isinstance(each, dict | list) for each in yaml.safe_load_all(text))
