"""A ruleset that cannot be loaded names every mistake at once, each with its place and a hint."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from story import NAMES, SHIPPED

from rules import durations, operators
from rules.compiler import compile_files, load, ruleset_hash
from rules.errors import RulesetError
from rules.yamlfile import MAX_BYTES, MAX_DEPTH


def mistakes(text: str, names: str = NAMES, **more: str) -> list[str]:
    """What loading `rules.yaml` complains about; its first line is line 1."""
    files = {"names.yaml": names, "rules.yaml": textwrap.dedent(text).lstrip("\n"), **more}
    with pytest.raises(RulesetError) as caught:
        compile_files({name: each for name, each in files.items() if each})
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


def condition(text: str) -> list[str]:
    """What a ladder with one condition complains about; `when:` is line 4, the condition begins in line 5."""
    block = textwrap.indent(textwrap.dedent(text).strip("\n"), "      ")
    return mistakes(f"dimension: d\nsegments:\n  - segment: s\n    when:\n{block}\n")


def test_every_mistake_is_named_at_once() -> None:
    assert mistakes("""
        dimension: size
        segments:
          - segment: big
            when: {fact: employes, at_least: 200}
          - segment: small
            when: {fact: employees, at_least: few}
          - segment: big
            when:
              any:
                - {seen: vist, within: 7d}
                - {score: intrest, at_least: 3}
        """) == [
        "rules.yaml:4: unknown fact 'employes' (did you mean 'employees'?)",
        "rules.yaml:6: at_least: should be a valid number",
        "rules.yaml:10: unknown activity 'vist' (did you mean 'visit'?)",
        "rules.yaml:11: unknown score 'intrest' (did you mean 'interest'?)",
    ]
    assert mistakes("""
        dimension: size
        segments:
          - segment: big
            when: {fact: employes, at_least: 200}
          - segment: small
            when: {fact: employees, is: few}
          - segment: big
            when:
              any:
                - {seen: vist, within: 7d}
                - {score: intrest, at_least: 3}
        """) == [
        "rules.yaml:4: unknown fact 'employes' (did you mean 'employees'?)",
        "rules.yaml:6: employees is a number, and 'few' is a text",
        "rules.yaml:7: segment 'big' is defined twice",
        "rules.yaml:10: unknown activity 'vist' (did you mean 'visit'?)",
        "rules.yaml:11: unknown score 'intrest' (did you mean 'interest'?)",
    ]


def test_mistakes_of_several_files_come_together() -> None:
    found = mistakes(
        "dimension: one\nby_fact: sector\n",
        **{"second.yaml": "dimension: two\nby_fact: country\n", "third.yaml": "dimension: [\n"},
    )
    assert found == [
        "rules.yaml:2: unknown fact 'sector' "
        "(known: country, customer, employees, industry, name, products, renewal)",
        "second.yaml:2: fact 'country' has no vocabulary to make segments of",
        "third.yaml:2: not valid YAML: did not find expected node content",
    ]


# -- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{fact: industri, is: retail}", "unknown fact 'industri' (did you mean 'industry'?)"),
        ("{count: vists, at_least: 1, within: 7d}", "unknown activity 'vists' (did you mean 'visit'?)"),
        ("{quiet: vists, for: 7d}", "unknown activity 'vists' (did you mean 'visit'?)"),
        ("{score: intrest, below: 1}", "unknown score 'intrest' (did you mean 'interest'?)"),
        ("{contacts: any, where: {state: x}}", "unknown contact fact 'state' (did you mean 'status'?)"),
        (
            "{fact: industry, is: retial}",
            "unknown term of vocabulary 'industry' 'retial' (did you mean 'retail'?)",
        ),
        (
            "{fact: industry, in: [retail, FinTech]}",
            "unknown term of vocabulary 'industry' 'FinTech' (known: financial_services, retail)",
        ),
        (
            "{contacts: any, where: {level: CEO}}",
            "unknown term of vocabulary 'level' 'CEO' (known: chief, clerk, none)",
        ),
    ],
)
def test_an_unknown_name_comes_with_a_suggestion(text: str, expected: str) -> None:
    assert condition(text) == [f"rules.yaml:5: {expected}"]


def test_unknown_names_in_declarations() -> None:
    found = mistakes(
        "dimension: d\nby_fact: industry\n",
        names="""
facts:
  industry: {type: text, vocabulary: industri}
activities:
  visit: {}
  offer: {of: vist}
scores:
  interest:
    half_life: 7d
    signals:
      - {activity: demo, weight: 1}
---
vocabulary: industry
terms: {retail: []}
""",
    )
    assert found == [
        "names.yaml:3: unknown vocabulary 'industri' (did you mean 'industry'?)",
        "names.yaml:6: unknown activity 'vist' (did you mean 'visit'?)",
        "names.yaml:11: unknown activity 'demo' (known: any, offer, visit)",
        "rules.yaml:2: fact 'industry' has no vocabulary to make segments of",
    ]


def test_names_declared_twice() -> None:
    found = mistakes(
        """
        facts: {country: {type: text}}
        activities: {any: {}, visit: {}}
        ---
        vocabulary: level
        terms: {chief: [boss], clerk: [Boss]}
        ---
        dimension: d
        by_fact: industry
        """,
        **{"z.yaml": "dimension: d\nby_fact: industry\n"},
    )
    assert found == [
        "rules.yaml:1: 'country' is already declared",
        "rules.yaml:2: 'any' is already declared",
        "rules.yaml:2: 'visit' is already declared",
        "rules.yaml:4: vocabulary 'level' is defined twice",
        "rules.yaml:5: 'Boss' already means 'chief'",
        "z.yaml:1: dimension 'd' is defined twice (first in rules.yaml:7)",
    ]


def test_an_activity_that_stands_for_itself() -> None:
    """Once it was followed eight times and then taken for what it had come to."""
    found = mistakes(
        "dimension: d\nsegments: [{segment: s, when: {seen: one, within: 7d}}]\n",
        names="activities:\n  one: {of: two}\n  two: {of: one}\n",
    )
    assert found == ["names.yaml:2: 'one' stands for itself", "names.yaml:3: 'two' stands for itself"]


def test_only_text_has_a_vocabulary() -> None:
    """Once a list with a vocabulary loaded, and raised at its first value."""
    names = "facts:\n  tags: {type: list, vocabulary: v}\n---\nvocabulary: v\nterms: {a: []}\n"
    assert mistakes("dimension: d\nby_fact: tags\n", names=names) == [
        "names.yaml:2: only text has a vocabulary, and tags is a list"
    ]


def test_names_are_small_letters() -> None:
    assert mistakes("dimension: Size!\nby_fact: industry\n") == [
        "rules.yaml:1: 'Size!' is not a name: small letters, digits and _, beginning with a letter"
    ]
    assert mistakes("dimension: d\nsegments: [{segment: unclassified, otherwise: true}]\n") == [
        "rules.yaml:2: 'unclassified' is the name of not knowing; choose another"
    ]


# -- types --------------------------------------------------------------------------------------------------


ON_TEXT = "(on a text: is, is_not, in, not_in, starts, ends, contains, glob, exists, missing)"
ON_NUMBER = "(on a number: is, is_not, in, not_in, at_least, above, at_most, below, between, exists, missing)"
ON_LIST = "(on a list: contains, has_any, has_all, has_none, exists, missing)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{fact: employees, is: many}", "employees is a number, and 'many' is a text"),
        ("{fact: employees, in: [1, two]}", "employees is a number, and 'two' is a text"),
        ("{fact: country, at_least: 3}", "'at_least' does not work on country, which is a text " + ON_TEXT),
        ("{fact: country, is: 3}", "country is a text, and 3 is a number"),
        ("{fact: employees, starts: '3'}", "'starts' does not work on employees, which is a number " + ON_NUMBER),
        ("{fact: products, is: crm}", "'is' does not work on products, which is a list " + ON_LIST),
        ("{fact: customer, is: 'true'}", "customer is a boolean, and 'true' is a text"),
        (
            "{contacts: any, where: {status: {above: 3}}}",
            "'above' does not work on status, which is a text " + ON_TEXT,
        ),
        ("{fact: employees}", f"a comparison is missing (one of: {', '.join(operators.TABLE)})"),
        ("{contacts: any, where: {status: {}}}", "a comparison is missing"),
        ("{seen: visit, where: {path: {}}, within: 7d}", "a comparison is missing"),
    ],
)  # fmt: skip
def test_a_comparison_that_cannot_work(text: str, expected: str) -> None:
    (problem,) = condition(text)
    assert problem in (f"rules.yaml:4: {expected}", f"rules.yaml:5: {expected}")


def test_operands_of_several_types_have_an_identity() -> None:
    """Once two signals that differ in the type of an operand could not be put in order, and loading raised."""
    names = """
activities: {page: {}}
scores:
  s:
    half_life: 7d
    signals:
      - {activity: page, weight: 1, where: {x: 1}}
      - {activity: page, weight: 1, where: {x: a}}
      - {activity: page, weight: 1, where: {x: true, path: /}}
"""
    assert compile_files(
        {"n": names, "d": "dimension: d\nsegments: [{segment: s, when: {score: s, at_least: 1}}]\n"}
    )


EXACTLY_ONE = (
    "a condition has exactly one of: fact, count, people, sum, min, max, avg, seen, never, quiet, first, last, "
    "sequence, score, contacts, stale, segment, all, any, not, of"
)

# -- shape --------------------------------------------------------------------------------------------------


def test_a_line_is_that_of_the_value_and_not_of_its_condition() -> None:
    """Once the place of a mistake was lost at the key that tells which condition it is."""
    assert condition("""
        all:
          - fact: employees
            at_least: 1
            at_leest: 2
          - not:
              count: visit
              at_least: 0
              within: 7q
          - any:
              - contacts: most
                where: {status: ok}
        """) == [
        "rules.yaml:8: unknown key 'at_leest' (did you mean 'at_least'?)",
        "rules.yaml:11: at_least: should be greater than or equal to 1",
        "rules.yaml:12: within: write a duration such as 90s, 15m, 36h, 7d or 2w",
        "rules.yaml:14: contacts: should be 'all', 'any' or 'none'",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{cuont: visit, within: 7d}", f"{EXACTLY_ONE} (did you mean 'count'?)"),
        ("{fact: country, seen: visit}", f"{EXACTLY_ONE} (here are fact and seen)"),
        ("{all: []}", "'all' is empty"),
        ("{any: []}", "'any' is empty"),
        ("{count: visit, within: 7d}", "count: say how many: at_least, at_most or below"),
        ("{score: interest, at_least: 1, below: 2}", "score: give exactly one of: at_least, below"),
        ("{count: visit, at_least: 1}", "count: say how far back: `within: 7d`, or `calendar: 1mo`"),
        ("{contacts: any, where: {}}", "'where' is empty"),
        ("{seen: visit, within: 0d}", "within: a duration is longer than nothing and at most 20 years"),
        ("{seen: visit, within: 1000w, at_least: 1}", "'at_least' does not belong here"),
        ("{score: interest, at_least: -1}", "at_least: should be greater than 0"),
        ("{count: visit, at_least: 1001, within: 7d}", "at_least: should be less than or equal to 1000"),
    ],
)  # fmt: skip
def test_a_condition_of_the_wrong_shape(text: str, expected: str) -> None:
    (problem,) = condition(text)
    assert problem in (f"rules.yaml:4: {expected}", f"rules.yaml:5: {expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dimension: d\n", "1: give a dimension `segments:`, `by_fact:` or `by_bands:`"),
        ("dimension: d\nsegments: []\n", "2: 'segments' is empty"),
        ("dimension: d\nsegments:\n  - segment: s\n", "3: give a segment either `when:` or `otherwise: true`"),
        ("dimension: d\nsegmets: []\nby_fact: industry\n", "2: unknown key 'segmets' (did you mean 'segments'?)"),
        ("dimension: d\nkind: staircase\nby_fact: industry\n", "2: kind: should be 'ladder' or 'set'"),
        ("[1, 2]\n", "1: a document is a mapping (begin it with `dimension:` or `facts:`)"),
        ("just text\n", "1: a document is a mapping (begin it with `dimension:` or `facts:`)"),
        ("fact: {x: {type: text}}\n", "1: 'fact' does not belong here"),
    ],
)  # fmt: skip
def test_a_document_of_the_wrong_shape(text: str, expected: str) -> None:
    assert mistakes(text) == [f"rules.yaml:{expected}"]


def test_otherwise_comes_last_and_only_in_ladders() -> None:
    hint = "(it matches everything, so nothing below it is ever reached)"
    text = """
        dimension: d
        kind: {}
        segments:
          - segment: a
            otherwise: true
          - segment: b
            when: {{seen: visit, within: 7d}}
        """
    assert mistakes(text.format("ladder")) == [
        f"rules.yaml:5: `otherwise` belongs to a ladder's last segment {hint}"
    ]
    assert mistakes(text.format("set")) == [f"rules.yaml:5: `otherwise` belongs to a ladder's last segment {hint}"]


@pytest.mark.parametrize("files", [{}, {"a.yaml": ""}, {"a.yaml": "# nothing\n"}, {"names.yaml": NAMES}])
def test_an_empty_ruleset_is_refused(files: dict[str, str]) -> None:
    with pytest.raises(RulesetError, match="no dimension is defined"):
        compile_files(files)


@pytest.mark.parametrize("text", ["7", "7 d", "d", "-1d", "1.5h", "7days", "", "7D", "1234567s"])
def test_a_duration_that_is_none(text: str) -> None:
    assert condition(f"{{seen: visit, within: '{text}'}}") == [
        "rules.yaml:5: within: write a duration such as 90s, 15m, 36h, 7d or 2w"
    ]


def test_durations_in_words() -> None:
    assert [durations.in_words(durations.parse(each)) for each in ("90s", "15m", "36h", "7d", "2w", "24h")] == [
        "90 seconds",
        "15 minutes",
        "36 hours",
        "7 days",
        "14 days",
        "1 day",
    ]


# -- YAML ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dimension: d\nby_fact: industry\ndimension: e\n", ":3: the key 'dimension' is given twice"),
        ("dimension: d\nsegments: &all [1]\n", ":2: YAML anchors and aliases are not allowed (write it out)"),
        ("dimension: d\nby_fact: *all\n", ":2: YAML anchors and aliases are not allowed (write it out)"),
        ("dimension: d\n[1]: 2\n", ":2: a key must be text"),
        ("dimension: d\n  by_fact: x\n", ":2: not valid YAML: mapping values are not allowed in this context"),
        ("a: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH, f":1: nested deeper than {MAX_DEPTH} levels"),
        ("a: " + "[" * 100_000, f":1: nested deeper than {MAX_DEPTH} levels"),
        ("a: b\n#" + "x" * MAX_BYTES, f": the file is larger than {MAX_BYTES // 1024} KB (split it)"),
        ("a: '\x00'\n", ": not valid YAML: unacceptable character #x0000: control characters are not allowed"),
    ],
)  # fmt: skip
def test_yaml_that_is_refused(text: str, expected: str) -> None:
    assert mistakes(text) == [f"rules.yaml{expected}"]


def test_a_size_is_counted_in_bytes() -> None:
    assert mistakes("#" + "é" * (MAX_BYTES // 2) + "\n") == [
        "rules.yaml: the file is larger than 256 KB (split it)"
    ]


def test_words_that_yaml_might_take_for_something_else_stay_text() -> None:
    files = {"n.yaml": "facts: {country: {type: text}}\n"}
    text = "dimension: d\nsegments: [{segment: s, when: {fact: country, in: [NO, on, yes, Off, 1_a, .5, 0x10]}}]\n"
    assert compile_files({**files, "d.yaml": text})
    with pytest.raises(RulesetError, match="True is a boolean"):
        compile_files({**files, "d.yaml": text.replace("NO", "true")})


def test_keys_named_like_text_and_numbers() -> None:
    text = "vocabulary: v\nterms: {a: [], 7: [seven]}\n---\ndimension: d\nby_fact: x\n"
    assert compile_files({"n.yaml": "facts: {x: {type: text, vocabulary: v}}\n", "d.yaml": text}).dimension("d")


# -- files --------------------------------------------------------------------------------------------------


def test_a_directory_is_read_with_its_folders_and_without_the_tests(tmp_path: Path) -> None:
    (tmp_path / "names.yaml").write_text(NAMES, encoding="utf-8")
    (tmp_path / "sales").mkdir()
    (tmp_path / "sales" / "d.yaml").write_text("dimension: d\nby_fact: industry\n", encoding="utf-8")
    (tmp_path / "sales" / "d_test.yaml").write_text("- [not, rules\n", encoding="utf-8")
    assert sorted(load(tmp_path).files) == ["names.yaml", "sales/d.yaml"]


def test_files_that_are_not_utf_8_are_named_together(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_bytes(b"dimension: \xff\n")
    with pytest.raises(RulesetError) as caught:
        load(tmp_path)
    assert [str(each) for each in caught.value.problems] == [
        "a.yaml: the file is not UTF-8 text",
        "b.yaml: the file is not UTF-8 text",
    ]


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RulesetError, match="there is no such directory"):
        load(tmp_path / "nowhere")


def test_a_hash_stands_for_names_and_text() -> None:
    files = {"names.yaml": NAMES, "d.yaml": "dimension: d\nby_fact: industry\n"}
    other = [
        {**files, "d.yaml": files["d.yaml"] + "# a comment\n"},
        {"names.yaml": NAMES, "e.yaml": files["d.yaml"]},
        {**files, "more.yaml": ""},
    ]
    hashes = [ruleset_hash(each) for each in (files, *other)]
    assert len(set(hashes)) == 4
    assert compile_files(files).hash == hashes[0] == compile_files(dict(reversed(files.items()))).hash


def test_the_shipped_rules_load() -> None:
    shipped = load(SHIPPED)
    assert {each.name for each in shipped.dimensions} >= {"engagement", "size", "industry", "revenue", "region"}
    assert compile_files(shipped.files).hash == shipped.hash
