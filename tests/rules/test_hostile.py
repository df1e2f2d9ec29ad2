"""Whatever is sent as rules is refused in a sentence, or loads; `tests/bench/loading.py` says how fast."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from story import NAMES, ruleset

from rules import yamlfile
from rules.compiler import TEST_SUFFIX, compile_files, load
from rules.errors import LONGEST, MOST, Problem, RulesetError, did_you_mean
from rules.rehearsal import rehearse

sys.path.append(str(Path(__file__).parent / "hostile"))

from corpus import LADDER, LOADED, REFUSED, Files


@pytest.mark.parametrize(("files", "says"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_in_a_sentence(files: Files, says: str) -> None:
    with pytest.raises(RulesetError) as caught:
        compile_files(files)
    assert says in str(caught.value)
    assert len(caught.value.problems) <= MOST + 1
    for problem in caught.value.problems:
        assert str(problem).isprintable()
        assert len(str(problem)) < 3 * LONGEST


@pytest.mark.parametrize("files", LOADED.values(), ids=LOADED)
def test_it_is_odd_and_loads(files: Files) -> None:
    assert compile_files(files).dimensions


@pytest.mark.parametrize("files", [files for files, _ in REFUSED.values()], ids=REFUSED)
def test_as_a_test_file_it_is_refused_too(files: Files) -> None:
    """A file of tests is read by the same hands."""
    report = rehearse(ruleset(LADDER), {f"rules{TEST_SUFFIX}": files["rules.yaml"]})
    assert not report.results
    assert len(report.problems) <= 2 * MOST
    assert all(str(problem).isprintable() for problem in report.problems)


# -- reading --------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"dimension: \xff\xfe\n")
    (tmp_path / "b.yaml").write_bytes("dimension: d\n".encode("utf-16"))
    with pytest.raises(RulesetError) as caught:
        load(tmp_path)
    assert [str(problem) for problem in caught.value.problems] == [
        "a.yaml: the file is not UTF-8 text",
        "b.yaml: the file is not UTF-8 text",
    ]


def test_after_a_hundred_problems_reading_stops() -> None:
    text = "dimension: d\nsegments:\n" + "".join(
        f"  - {{segment: s{i}, when: {{seen: vist{i}}}}}\n" for i in range(MOST * 2)
    )
    with pytest.raises(RulesetError) as caught:
        compile_files({"names.yaml": NAMES, "rules.yaml": text})
    told = caught.value.problems
    assert len(told) == MOST + 1
    assert told[0] == Problem("rules.yaml", 3, "unknown activity 'vist0'", "did you mean 'visit'?")
    assert told[-1] == Problem("rules.yaml", 102, "unknown activity 'vist99'", "did you mean 'visit'?")
    assert told[-2] == Problem(
        "rules.yaml", 102, "more than 100 problems: what comes after these was not looked at"
    )


def test_a_syntax_error_does_not_hide_what_was_found_before_it() -> None:
    with pytest.raises(RulesetError) as caught:
        yamlfile.read("a.yaml", "a: 1\na: 2\nb: [\n")
    assert [(problem.line, problem.message[:14]) for problem in caught.value.problems] == [
        (2, "the key 'a' is"),
        (4, "not valid YAML"),
    ]


def test_what_is_quoted_stays_short_and_in_its_line() -> None:
    problem = Problem("a.yaml", 1, f"unknown key '{'x' * 10_000}'", "\x1b[2J\nfake.yaml:1: all is well")
    assert str(problem) == f"a.yaml:1: unknown key '{'x' * 237} … {'x' * 124}' (�[2J�fake.yaml:1: all is well)"


def test_a_suggestion_is_looked_for_among_so_many_only() -> None:
    assert did_you_mean("page_veiws", ["page_views", "pages", "page"]) == "did you mean 'page_views'?"
    assert did_you_mean("x" * 10_000, ["page"]) == "known: page"
    assert did_you_mean("page", [f"page{i}" for i in range(10_000)]).startswith("known: page0, page1, page10,")


# -- data and lines -------------------------------------------------------------------------------------------


def test_each_value_has_its_line() -> None:
    (document,) = yamlfile.read(
        "a.yaml",
        "a: 1\nb:\n  c: [x,\n      y]\n  d:\n    - e: 2\n    -\n      f: |\n        text\n\n"
        "  g: >-\n    long\n    text\n",
    )
    assert document.data == {
        "a": 1,
        "b": {"c": ["x", "y"], "d": [{"e": 2}, {"f": "text\n"}], "g": "long text"},
    }
    lines: dict[tuple[str | int, ...], int] = {
        (): 1,
        ("a",): 1,
        ("b",): 2,
        ("b", "c"): 3,
        ("b", "c", 0): 3,
        ("b", "c", 1): 4,
        ("b", "d"): 5,
        ("b", "d", 0): 6,
        ("b", "d", 0, "e"): 6,
        ("b", "d", 1, "f"): 8,
        ("b", "g"): 11,
        # what is not there has the line of what is around it
        ("b", "c", 7): 4 - 1,
        ("b", "c", "key"): 3,
        ("b", "d", 0, "missing", "further"): 6,
        ("nothing",): 1,
    }
    assert {path: document.line(path) for path in lines} == lines


def test_scalars_are_what_they_look_like() -> None:
    (document,) = yamlfile.read(
        "a.yaml",
        "[1, -2, 1_000, 1.5, -1.5e3, '1', \"true\", true, false, null, ~, yes, NO, 0x1F, 1e3, .5, 12:30,\n"
        " 2026-03-05, 99999999999999999999, 1.0e999, 1., +, -, <<, 1.2.3]",
    )
    assert document.data == [
        *(1, -2, 1000, 1.5, -1500.0, "1", "true", True, False, None, None),
        *(
            "yes",
            "NO",
            "0x1F",
            "1e3",
            ".5",
            "12:30",
            "2026-03-05",
            "9" * 20,
            "1.0e999",
            "1.",
            "+",
            "-",
            "<<",
            "1.2.3",
        ),
    ]


def test_documents_that_are_empty_are_passed_over() -> None:
    documents = yamlfile.read("a.yaml", "---\n---\na: 1\n---\n# nothing\n---\nb: 2\n---\n")
    assert [(each.data, each.line(())) for each in documents] == [({"a": 1}, 3), ({"b": 2}, 7)]
