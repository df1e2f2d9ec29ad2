"""The scores of a ruleset by name, as accounts keep them."""

from __future__ import annotations

from rules.compiler import compile_files
from rules.engine import step
from rules.records import Activity
from rules.ruleset import InForce
from rules.scores import scores_of

HOUR = 3_600_000
RULES = """
activities: {asked: {}, visited: {}}
scores:
  interest:
    half_life: 1d
    label: interest in us
    signals: [{activity: asked, weight: 10}, {activity: visited, weight: 1}]
  unread: {half_life: 1d, signals: [{activity: asked, weight: 1}]}
---
dimension: engagement
segments:
  - {segment: hot, when: {score: interest, at_least: 8}}
  - {segment: cool, when: {score: interest, below: 8}}
"""


def test_a_score_that_no_rule_asks_for_is_not_kept_and_not_told() -> None:
    assert list(scores_of(compile_files({"rules.yaml": RULES}))) == ["interest"]


def test_a_score_fades_and_is_what_the_rules_decide_by() -> None:
    ruleset = compile_files({"rules.yaml": RULES})
    rules, now = InForce().switch(ruleset, 0, 0), 1_772_442_000_000
    (score,) = scores_of(ruleset).values()
    state = step(None, Activity(account="a", name="asked", at=now, received=now, offset=1), now, rules).state
    assert state is not None
    assert score.label == "interest in us"
    assert score.value(state, now) == 10.0
    assert score.value(state, now + 24 * HOUR) == 5.0
    dimension = ruleset.dimension("engagement")
    assert dimension is not None
    for later in range(0, 48 * HOUR, HOUR):
        answer, _ = dimension.decide(state, now + later)
        assert (answer == ("hot",)) is (score.value(state, now + later) >= 8)
