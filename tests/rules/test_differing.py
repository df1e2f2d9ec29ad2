"""What is different between two versions of the rules, as people are told."""

from __future__ import annotations

import textwrap

import pytest
from story import SHIPPED

from rules.compiler import load
from rules.differing import LONGEST, differences, words

RULES = """
facts:
  employees: {type: number, refresh: 30d}
activities:
  visit: {}
scores:
  interest: {half_life: 7d, signals: [{activity: visit, weight: 10}]}
---
dimension: engagement
description: How warm?
segments:
  - {segment: hot, when: {count: visit, at_least: 3, within: 7d}, owner: sales}
  - segment: warm
    when:
      any:
        - {count: visit, at_least: 1, within: 7d}
        - {score: interest, at_least: 10}
  - {segment: cold, otherwise: true}
---
dimension: size
segments:
  - {segment: big, when: {fact: employees, at_least: 500}}
---
vocabulary: industry
terms: {retail: [Shops], farming: [Farms]}
"""
ANOTHER = """
dimension: tech
kind: set
segments:
  - {segment: cloud, when: {seen: visit, within: 1d}}
"""
EDITS = {
    "a threshold": ("at_least: 3", "at_least: 2", ["engagement/hot: at_least 3 → 2"]),
    "one of several conditions": (
        "{score: interest, at_least: 10}",
        "{score: interest, at_least: 5}",
        ["engagement/warm: score interest at_least 10 → 5"],
    ),
    "a window is gone": (", within: 7d}, owner", "}, owner", ["engagement/hot: removed within 7d"]),
    "a condition more": (
        "        - {score: interest",
        "        - {seen: visit, within: 14d}\n        - {score: interest",
        ["engagement/warm: added seen visit within 14d"],
    ),
    "a condition less": (
        "        - {count: visit, at_least: 1, within: 7d}\n",
        "",
        ["engagement/warm: removed count visit at_least 1 within 7d"],
    ),
    "another owner": ("owner: sales", "owner: success", ["engagement/hot: owner sales → success"]),
    "prose": ("How warm?", "How engaged?", ["engagement: description edited"]),
    "a segment less": (
        "  - {segment: cold, otherwise: true}\n",
        "",
        ["engagement/cold removed"],
    ),
    "a dimension less": (RULES[RULES.index("dimension: size") : RULES.index("vocabulary")], "", []),
    "a fact": ("refresh: 30d", "refresh: 90d", ["fact employees: refresh 30d → 90d"]),
    "a score": ("weight: 10", "weight: 20", ["score interest: activity visit weight 10 → 20"]),
    "a vocabulary": ("[Farms]", "[Farms, Ranches]", ["vocabulary industry: added Ranches"]),
    "another dimension": ("dimension: size", ANOTHER + "---\ndimension: size", ["dimension tech added"]),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_in_words(edit: str) -> None:
    old, new, said = EDITS[edit]
    if edit == "a dimension less":
        new, said = "", ["dimension size removed"]
        text = RULES.replace(old, "")
    else:
        text = RULES.replace(old, new)
    assert text != RULES
    assert differences({"rules.yaml": RULES}, {"rules.yaml": text}) == said


def test_an_order_that_changed_is_told() -> None:
    hot = "  - {segment: hot, when: {count: visit, at_least: 3, within: 7d}, owner: sales}\n"
    text = RULES.replace(hot, "").replace("  - {segment: cold", hot + "  - {segment: cold")
    assert differences({"a": RULES}, {"a": text}) == ["engagement: order hot, warm, cold → warm, hot, cold"]


def test_where_it_stands_and_how_it_is_written_is_no_difference() -> None:
    documents = [each.strip() for each in RULES.split("---")]
    files = {f"{i}.yaml": f"# {i}\n{each}\n" for i, each in enumerate(documents[::-1])}
    assert differences({"rules.yaml": RULES}, files) == []


def test_the_first_rules_are_all_added() -> None:
    told = differences({}, {"rules.yaml": RULES})
    assert told[:2] == ["dimension engagement added", "dimension size added"]
    assert {"fact employees added", "score interest added", "vocabulary industry added"} <= set(told)
    assert not [line for line in told if "/" in line]


def test_the_shipped_rules_differ_from_none_in_a_line_each() -> None:
    ruleset = load(SHIPPED)
    told = differences({}, ruleset.files)
    assert sum(line.startswith("dimension ") for line in told) == len(ruleset.dimensions)
    assert differences(ruleset.files, ruleset.files) == []


def test_a_long_value_is_cut() -> None:
    assert len(words({"any": [{"fact": "country", "in": ["DE"] * 99}]})) == LONGEST
    assert words([textwrap.dedent("a"), {"b": [1, True, None]}]) == "a, (b (1, true, nothing))"
