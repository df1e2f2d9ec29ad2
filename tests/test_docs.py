"""What exists is documented, and what is documented is so: each example of the rule language is run."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from rules import (
    applying,
    errors,
    facts,
    lint,
    measures,
    model,
    names,
    operators,
    rehearsal_model,
    shedding,
    sources,
    yamlfile,
)
from rules.compiler import compile_files, load
from rules.rehearsal import rehearse
from rules.ruleset import Ruleset
from streams import offline, topics
from streams.adapters import ADAPTERS, Adapters
from streams.adapters import SHIPPED as SHIPPED_ADAPTERS
from streams.adapters.times import instant_or_none
from streams.cli import app
from streams.commands import SHIPPED
from streams.decoding import decode_lines, plain
from streams.settings import Settings
from streams.sources import read as read_sources

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests" / "rules"))

from story import Account, question  # noqa: E402

README = (ROOT / "README.md").read_text()
LANGUAGE = (ROOT / "docs" / "rule-language.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("name", sorted(name for name in app if not name.startswith("-")))
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"`isotherm {name}" in README


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_in_operations(name: str) -> None:
    assert f"`ISOTHERM_{name.upper()}`" in OPERATIONS


@pytest.mark.parametrize("name", sorted(topics.CONFIGS))
def test_every_topic_is_in_operations(name: str) -> None:
    assert f"`{name}`" in OPERATIONS


# -- the rule language: every word of it is named ------------------------------------------------------------


def _keys(*shapes: type[BaseModel]) -> list[str]:
    return sorted({field.alias or name for shape in shapes for name, field in shape.model_fields.items()})


DECLARATIONS = (
    model.Declarations,
    model.FactDeclaration,
    model.ActivityDeclaration,
    model.ScoreDeclaration,
    model.Signal,
    model.Vocabulary,
    model.Bands,
)
DIMENSIONS = (model.Dimension, model.Segment, model.ByBands, model.Action, model.Messaging)
TESTS = (rehearsal_model.WrittenTest, rehearsal_model.WrittenStep, rehearsal_model.WrittenChange)
WORDS = [
    *operators.TABLE,
    *model.CONDITION_KEYS,
    *_keys(*DECLARATIONS, *DIMENSIONS, *TESTS, *model.CONDITIONS.values()),
    *model.OUTCOME_NAMES,
]


@pytest.mark.parametrize("name", sorted(set(WORDS)))
def test_every_word_of_the_language_is_on_its_page(name: str) -> None:
    assert re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", LANGUAGE), "not in code within the text"


@pytest.mark.parametrize(
    "said",
    [
        f"the newest {measures.KEPT_AT_LEAST}, or k if that is more | {measures.PAIR} |",
        f"of the newest {measures.KEPT_AT_LEAST} people, or k; with `who` of {measures.TAGGED_KEPT} "
        f"| {measures.TAGGED} |",
        f"the newest {measures.TAGGED_KEPT} amounts | {measures.TAGGED} |",
        f"the newest {measures.KEPT_AT_LEAST} of each step, and {measures.KEPT_AT_LEAST} last steps",
        f"for each signal with a cap | {len(measures.empty_score(2)) - len(measures.empty_score(1))} |",
        f"{yamlfile.MAX_BYTES // 1024} KB, {yamlfile.MAX_DEPTH} levels deep, {yamlfile.MAX_EVENTS:,} keys",
        f"| {names.MOST_DIMENSIONS} dimensions |",
        f"| {names.DEEPEST} deep |",
        f"| problems told at once | {errors.MOST} |",
        f"more than {['five', 'six', 'seven'][lint.MOST_RUNGS - 5]} segments",
        f"{operators.GLOB_LONGEST} characters and {operators.GLOB_STARS} stars",
        f"| {applying.FACTS_KEPT} and {applying.CONTACTS_KEPT} |",
        f"{facts.TEXT_KEPT} characters; {facts.LIST_KEPT:,} texts",
        f"| {shedding.UNREAD_BYTES // 1024} KB; then the oldest",
    ],
)
def test_the_numbers_are_those_of_the_code(said: str) -> None:
    assert said in LANGUAGE


# -- the rule language: the page is a ruleset with its tests -------------------------------------------------

BLOCKS = re.findall(r"^```yaml\n(.*?)^```", LANGUAGE, re.DOTALL | re.MULTILINE)
RULES = [block for block in BLOCKS if not block.startswith("test:")]
EXAMPLES = [block for block in BLOCKS if block.startswith("test:")]


@cache
def _page() -> Ruleset:
    return compile_files({f"block{i}.yaml": block for i, block in enumerate(RULES)})


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.splitlines()[0].removeprefix("test: "))
def test_every_test_on_the_page_passes(block: str) -> None:
    report = rehearse(_page(), {"page_test.yaml": block})
    told = [*report.problems, *(failure for result in report.results for failure in result.failures)]
    assert report.passed, "\n".join(map(str, told))
    assert report.results


@dataclass(frozen=True)
class Row:
    """A line of a table of comparisons: a condition on one fact, and values for which it is true or false."""

    condition: str
    true: tuple[Any, ...]
    false: tuple[Any, ...]

    @property
    def fact(self) -> str:
        return str(_read(self.condition)["fact"])


MISSING = "missing"


def _read(text: str) -> Any:
    return yamlfile.read("docs/rule-language.md", text)[0].data


def _rows() -> Iterator[Row]:
    for condition, true, false in re.findall(
        r"^\| `(\{fact: .*?\})` \| (.*?) ?\| (.*?) ?\|$", LANGUAGE, re.MULTILINE
    ):
        yield Row(condition, *(tuple(map(_read, re.findall(r"`(.+?)`", cell))) for cell in (true, false)))


ROWS = list(_rows())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.condition)
def test_every_row_of_the_comparisons_is_so(row: Row) -> None:
    assert row.true
    for value in row.true:
        assert _answer(row, value) == "yes", value
    for value in row.false:
        assert _answer(row, value) == "no", value
    if MISSING not in (*row.true, *row.false):
        assert _answer(row, MISSING) == "unclassified"


def _answer(row: Row, value: Any) -> str:
    names = {f"block{i}.yaml": block for i, block in enumerate(RULES) if not block.startswith("dimension:")}
    account = Account(compile_files({**names, "asked.yaml": question(row.condition)}))
    account.learns(name="Acme") if value == MISSING else account.learns(**{row.fact: value})
    return account.segment()


@pytest.mark.parametrize("name", operators.TABLE)
def test_every_operator_has_a_row_that_is_run(name: str) -> None:
    assert [row for row in ROWS if name in _read(row.condition) and row.true and (row.false or name == "in")]


@pytest.mark.parametrize("key", model.CONDITION_KEYS)
def test_every_condition_has_a_test_in_which_it_is_true_and_one_in_which_it_is_not(key: str) -> None:
    """Some test on the page puts an account into a segment with such a condition, and some keeps it out."""
    answers: dict[str, set[str]] = {}
    for dimension, answer in _expected():
        answers.setdefault(dimension, set()).add(answer)
    dimensions = [each for block in RULES for each in _documents(block) if "dimension" in each]
    assert any(
        {segment["segment"]} < answers.get(each["dimension"], set())
        for each in dimensions
        for segment in each.get("segments", [])
        if key in _kinds(segment.get("when"))
    )


def _expected() -> Iterator[tuple[str, str]]:
    """Each (dimension, segment) that a test on the page expects; a set member by member."""
    for test in (test for block in EXAMPLES for test in _documents(block)):
        for expected in (*(step.get("expect", {}) for step in test["timeline"]), *test.get("changes", [])):
            for dimension, answer in expected.items():
                yield from ((dimension, each) for each in (answer if isinstance(answer, list) else [str(answer)]))


def _documents(block: str) -> list[Any]:
    return [document.data for document in yamlfile.read("docs/rule-language.md", block)]


def _kinds(condition: Any) -> Iterator[str]:
    """The kinds of a condition and of all its parts."""
    if isinstance(condition, dict):
        yield from model.kinds_in(condition)
        for part in condition.values():
            yield from _kinds(part)
    elif isinstance(condition, list):
        for part in condition:
            yield from _kinds(part)


# -- the README ----------------------------------------------------------------------------------------------


def test_the_rule_in_the_readme_stands_on_the_library() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    segment = block.replace("\n", "\n    ").strip()
    files = load(SHIPPED).files | {"example.yaml": f"dimension: example\nsegments:\n  - {segment}\n"}
    assert compile_files(files).dimension("example")


def test_the_change_in_the_readme_is_what_replay_prints() -> None:
    shown = json.loads(re.findall(r"```json\n(.*?)```", README, re.DOTALL)[0])
    with (ROOT / "docs" / "example.jsonl").open("rb") as lines:
        records = [each for each in offline.read(lines) if not isinstance(each, offline.Line)]
    until = instant_or_none("2026-04-01T00:00:00Z")
    assert until is not None
    changes = [json.loads(each) for each in offline.replay(records, load(SHIPPED), until)]
    assert _within(shown, next(each for each in changes if each["id"] == shown["id"]))


def _within(shown: object, whole: object) -> bool:
    """Everything shown is there; a shown mapping may leave keys out."""
    if isinstance(shown, dict) and isinstance(whole, dict):
        return all(key in whole and _within(value, whole[key]) for key, value in shown.items())
    return shown == whole


# -- connecting systems: each message on the page becomes what the page says -----------------------------------

SOURCES_PAGE = (ROOT / "docs" / "sources.md").read_text()


@dataclass(frozen=True)
class Worked:
    """A command on the page, with the message and the sources file before it and what is shown to come out."""

    section: str
    format: str
    message: str
    sources: str | None
    shown: str


COMMAND = re.compile(r"isotherm decode --format (\w+) message\.jsonl( --sources sources\.yaml)?\n")


TRIED_LIVE = "Try it\n"  # by tests/live/test_sources_page.py: it wants a broker


def _worked() -> Iterator[Worked]:
    for section in re.split(r"^## ", SOURCES_PAGE, flags=re.MULTILINE)[1:]:
        if section.startswith(TRIED_LIVE):
            continue
        blocks = re.findall(r"^```(\w*)\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        last: dict[str, str] = {}
        for (kind, text), (_, following) in pairwise([*blocks, ("", "")]):
            assert kind in ("json", "yaml", "sh"), "a block that nothing runs"
            if kind == "sh":
                command = COMMAND.fullmatch(text)
                assert command, text
                given = last["yaml"] if command[2] else None
                yield Worked(section.splitlines()[0], command[1], last["json"], given, following)
            last[kind] = text


WORKED = list(_worked())


@pytest.mark.parametrize("example", WORKED, ids=lambda example: f"{example.section}: {example.format}")
def test_a_message_becomes_what_the_page_shows(example: Worked, tmp_path: Path) -> None:
    adapters = SHIPPED_ADAPTERS
    if example.sources is not None:
        (tmp_path / "sources.yaml").write_text(example.sources)
        adapters = Adapters.of(read_sources(tmp_path / "sources.yaml"))
    line = json.dumps(json.loads(example.message)).encode()
    found = [plain(each) for each in decode_lines([line], example.format, 0, adapters.decode_any)]
    assert json.loads(json.dumps(found)) == list(_values(example.shown))


def _values(text: str) -> Iterator[Any]:
    """The JSON values that stand one behind the other in a text, over however many lines."""
    decoder, left = json.JSONDecoder(), text.strip()
    while left:
        value, end = decoder.raw_decode(left)
        yield value
        left = left[end:].strip()


def test_every_format_has_an_example() -> None:
    assert {example.format for example in WORKED} == set(ADAPTERS)


@pytest.mark.parametrize("block", re.findall(r"^```yaml\n(.*?)^```", SOURCES_PAGE, re.DOTALL | re.MULTILINE))
def test_every_sources_file_on_the_page_is_good(block: str) -> None:
    ranks = "" if "ranks:" in block else "ranks: [human, salesforce]\n"
    assert compile_files(load(SHIPPED).files | {"sources.yaml": ranks + block})


FIELDS_OF_OBJECTS = {
    "salesforce": sources.SalesforceFields,
    "hubspot": sources.HubspotFields,
    "segment": sources.SegmentFields,
    "posthog": sources.PosthogFields,
}
KEYS_OF_SOURCES = [
    *sources.SourcesFile.model_fields,
    *(f"human.{name}" for name in sources.Human.model_fields if name == "wins_for"),
    *(f"human.salesforce.{name}" for name in sources.SalesforceHands.model_fields),
    *(f"human.hubspot.{name}" for name in sources.HubspotHands.model_fields),
    *(f"fields.{name}" for name in sources.SystemFields.model_fields),
    *(f"tables.*.{name}" for name in sources.Table.model_fields),
    *(f"accounts.{name}" for name in sources.Accounts.model_fields),
]


@pytest.mark.parametrize("key", KEYS_OF_SOURCES)
def test_every_key_of_the_sources_file_is_in_its_table(key: str) -> None:
    assert f"| `{key}` |" in SOURCES_PAGE


@pytest.mark.parametrize("system", sources.SystemFields.model_fields)
def test_every_object_whose_fields_can_be_mapped_is_named(system: str) -> None:
    (row,) = re.findall(rf"^\| `fields.{system}` \| (.*)$", SOURCES_PAGE, re.MULTILINE)
    assert [name for name in FIELDS_OF_OBJECTS[system].model_fields if f"`{name}`" not in row] == []


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", page.read_text()):
        target = page.parent / link if link else page
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target), f"{link}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """Headings as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_can_be_reached_from_the_readme() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in README
