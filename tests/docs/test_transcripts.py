"""What pages show after a prompt is what the command says there, but for instants and what is made by chance."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.docs.installation import WITHIN_S, Installation
from tests.docs.pages import TRANSCRIPTS, Block

RULES = {
    "names.yaml": """
facts: {name: {type: text}, employees: {type: number}}
activities: {page_viewed: {label: page view(s)}, webinar_attended: {label: webinar(s) attended}}
""",
    "engagement.yaml": """
dimension: engagement
segments:
  - {segment: hot, when: {count: page_viewed, at_least: 3, within: 7d}}
  - {segment: cold, otherwise: true}
""",
}
TEACHING = """
dimension: teaching
segments:
  - {segment: regular, when: {count: webinar_attended, at_least: 2, within: 90d}}
  - {segment: rare, otherwise: true}
"""
ASKS = re.compile(r"isotherm (deployments|explain|shadow status)\b")


def with_two_views(installation: Installation) -> None:
    """The shipped rules, edited as the page says."""
    path = installation.home / "rules" / "segments" / "engagement.yaml"
    path.write_text(path.read_text().replace("pricing_viewed, at_least: 3", "pricing_viewed, at_least: 2"))


def with_workshops(installation: Installation) -> None:
    """Rules of one's own are in force, and in `rules` are the same with a dimension more."""
    for name, teaching in (("before", {}), ("rules", {"teaching.yaml": TEACHING})):
        (installation.home / "own" / name).mkdir(parents=True, exist_ok=True)
        for file, text in (RULES | teaching).items():
            (installation.home / "own" / name / file).write_text(text)
    installation.does("cd own; isotherm deploy before")
    installation.says("isotherm deployments --limit 1", "in force in 4 of 4 partitions, all")


BEFORE: dict[str, Callable[[Installation], None]] = {
    "$ isotherm deploy rules/segments": with_two_views,
    '$ isotherm deploy rules --message "workshops for regulars" --by ann\n': with_workshops,
    "$ isotherm shadow run": with_workshops,
}


@pytest.mark.parametrize("block", TRANSCRIPTS, ids=str)
def test_a_command_says_what_the_page_shows(installation: Installation, block: Block) -> None:
    for begins, before in BEFORE.items():
        if block.text.startswith(begins):
            before(installation)
    for typed, shown in _typed(block):
        command = _with_ids(installation, typed)
        said, began = _said(installation, command), time.monotonic()
        while said != shown and ASKS.match(command) and time.monotonic() - began < WITHIN_S:
            said = _said(installation, command)  # a worker is about to fold it
        assert said == shown, command


def _typed(block: Block) -> Iterator[tuple[str, str]]:
    """Each command of a block, and what is shown behind it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, _undated(shown)


def _said(installation: Installation, command: str) -> str:
    here = "own" if (installation.home / "own").exists() else "."
    done = installation.runs(f"cd {here}", command)
    print(said := done.stdout + done.stderr)
    return _undated(said)


def _undated(text: str) -> str:
    for pattern, blot in (
        (r"\d{8}-\d{6}-[0-9a-f]{4}", "ID"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "INSTANT"),
        (r"\b[0-9a-f]{12}\b", "HASH"),
        (r"from \d+ records in [\d.]+ s", "from … records in … s"),
    ):
        text = re.sub(pattern, blot, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def _with_ids(installation: Installation, command: str) -> str:
    """The deployment that the page goes back to is the first one."""
    if "rollback" not in command:
        return command
    first = json.loads(installation.does("isotherm deployments --json"))["deployments"][-1]["id"]
    return re.sub(r"\d{8}-\d{6}-[0-9a-f]{4}", first, command)
