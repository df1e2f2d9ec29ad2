"""What a plan says is what a deployment does: the same changes, reasons included, and the same places."""

from __future__ import annotations

import json
import os
from collections import Counter
from random import Random

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from rules.planning import Asked, Importance, Look, Survey
from rules.records import Activity, Record
from rules.state import AccountState
from rules.work import Cause
from tests.planning.world import Frozen

from generate import fresh, worlds  # isort: skip

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
EXAMPLES = 3_000 if os.environ.get("ISOTHERM_TESTS") == "nightly" else 200
NAMES = "activities: {page: {}, demo: {}}"
FEW = "{dimension: d, kind: set, segments: [{segment: a, when: {never: demo}}, {segment: b, when: {never: demo}}]}"
ONE = "{dimension: d, segments: [{segment: a, when: {never: page}}, {segment: c, otherwise: true}]}"
PAGE = Activity(account="a", name="page", at=1_772_409_600_000, received=1_772_409_600_000)
World = tuple[list[dict[str, str]], list[Record]]


def lived(files: dict[str, str], log: list[Record], place: int) -> Frozen:
    """The log under these rules, which came into force in its midst."""
    frozen, records = Frozen(), fresh(log)
    frozen.feed(records[:place])
    frozen.deploy(files)
    frozen.feed(records[place:])
    return frozen


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 1_000, suppress_health_check=SLOW)
@given(worlds(versions=2), st.integers(0, 10))
def test_what_a_plan_says_is_what_a_deployment_does(world: World, place: int) -> None:
    (old, new), log = world
    agrees(lived(old, log, place), new)


def agrees(frozen: Frozen, new: dict[str, str]) -> None:
    before = dict(frozen.packed)
    looks = {account: each for account, each in frozen.plan(new).items() if isinstance(each, Look)}
    assert frozen.packed == before
    done = [out.change for out in frozen.deploy(new)]
    assert [out for out in frozen.states.values() if out.quarantined >= 0] == []
    by_rules = [change for change in done if change.cause is Cause.RULES]
    predicted = [change for each in looks.values() for change in each.changes]
    assert sorted(map(repr, predicted)) == sorted(map(repr, by_rules))
    for account, each in looks.items():
        assert answers(each.after) == answers(frozen.states[account])


def answers(state: AccountState) -> dict[str, tuple[str, ...]]:
    return {name: standing.answer for name, standing in state.standings.items() if standing.answer}


@settings(max_examples=2 * EXAMPLES, deadline=None, derandomize=EXAMPLES < 1_000, suppress_health_check=SLOW)
@given(worlds(), st.integers(0, 10), st.randoms(use_true_random=False))
def test_what_was_not_edited_is_not_asked_again_and_yet_nothing_is_missed(
    world: World, place: int, chance: Random
) -> None:
    """One dimension says the opposite from now on, if there is one to which others refer; those move with it."""
    (old,), log = world
    editable = [name for name, text in old.items() if '"segments": [' in text and '"dimension"' in text]
    assume(editable)
    referred = [name for name in editable if _is_referred_to(name.removesuffix(".yaml"), old)]
    name = chance.choice(referred or editable)
    agrees(lived(old, log, place), old | {name: _the_opposite(old[name])})


def _is_referred_to(dimension: str, files: dict[str, str]) -> bool:
    return any(f'"{dimension}/' in text or f'"segment": "{dimension}"' in text for text in files.values())


def _the_opposite(text: str) -> str:
    written = json.loads(text)
    for segment in written["segments"]:
        if "when" in segment:
            segment["when"] = {"not": segment["when"]}
    return json.dumps(written)


@settings(max_examples=EXAMPLES // 2, deadline=None, derandomize=EXAMPLES < 1_000, suppress_health_check=SLOW)
@given(worlds(versions=2), st.integers(0, 10))
@example(
    ([{"names.yaml": NAMES, "d.yaml": FEW}, {"names.yaml": NAMES, "d.yaml": ONE}], [PAGE]), 0
)  # a set of which somebody has two becomes a ladder
def test_sizes_before_plus_moves_are_sizes_after_and_both_are_those_of_the_accounts(
    world: World, place: int
) -> None:
    (old, new), log = world
    frozen = lived(old, log, place)
    switch = frozen.switch(new)
    importance = Importance.of(switch.after.ruleset)
    assert isinstance(importance, Importance)
    asked, survey = Asked(importance), Survey()
    for found in frozen.plan(new).values():
        part = Survey()
        part.add(found, switch, asked)
        survey.merge(part, asked.top)
    frozen.deploy(new)
    held = Counter(
        (name, segment)
        for state in frozen.states.values()
        for name, standing in state.standings.items()
        for segment in standing.answer
    )
    assert +survey.after == held
    moved = Counter(survey.before)
    for (dimension, was, goes), count in survey.moves.items():
        if was:
            moved[dimension, was] -= count
        if goes:
            moved[dimension, goes] += count
    assert +moved == held
