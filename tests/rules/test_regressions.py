"""Every mistake that generated examples have shown, as the smallest input that showed it."""

from __future__ import annotations

from story import DAY, HOUR, MINUTE, MON, THU, TUE, WED, given, given_when, question

from rules.measures import KEPT_AT_LEAST
from rules.state import GONE
from rules.vocabulary import Meanings


def test_a_term_of_the_other_vocabulary_that_this_one_does_not_know_is_no_term() -> None:
    """It was looked up in the other vocabulary again, and again: RecursionError, and the partition stood still."""
    line = Meanings({"banking": "banking", "farming": "farming", "farms": "farming"})
    industry = Meanings({"finance": "finance", "banking": "finance"}, of=line)
    assert industry.term("Farms") is None
    assert industry.term("farming") is None
    assert industry.term("Banking") == "finance"


def test_a_spelling_of_a_code_with_punctuation_begins_a_code() -> None:
    """The text was compared without its spaces and the spelling with them, so they never met."""
    code = Meanings({"52 21": "banking", "5": "finance"}, match="prefix")
    assert [code.term(text) for text in ("52-2199", "522199", "52 21", "52")] == ["banking"] * 3 + ["finance"]


def test_an_unknown_stay_holds_nobody() -> None:
    """It made the account unclassified, and by the next look, whatever caused it, the account was out."""
    ladder = """
    dimension: answer
    segments:
      - {segment: "yes", when: {seen: visit, within: 1h}, stay: {fact: employees, at_least: 200}}
      - {segment: also, when: {seen: demo, within: 2h}}
    """
    account = given(ladder).sees("visit", at=MON).until(MON + HOUR)
    assert account.segment() == ""
    assert account.learns(country="DE", name="Acme").segment() == ""
    assert given(ladder).learns(employees=300).sees("visit", at=MON).until(MON + DAY).segment() == "yes"


def test_the_order_of_signals_is_no_part_of_a_score() -> None:
    """Their order in the file told which part of the kept bytes was whose, and the measure's id leaves it out."""
    signals = ["{activity: visit, weight: 8, half_life: 1h}", "{activity: demo, weight: 8, half_life: 100h}"]
    asked = question("{score: s, at_least: 4}", "skip")
    account = given(asked, names=_scored(signals)).sees("demo", at=MON)
    account.gets_rules(asked, names=_scored(signals[::-1]), at=MON + 1)
    assert account.until(MON + 5 * HOUR).segment() == "yes"


def _scored(signals: list[str]) -> str:
    return f"""
activities: {{visit: {{}}, demo: {{}}}}
scores: {{s: {{half_life: 1h, signals: [{", ".join(signals)}]}}}}
"""


def test_a_late_first_step_that_is_the_oldest_of_too_many_makes_its_sequence() -> None:
    """It was dropped from the full ring before anybody asked whether it was what the chain lacked."""
    account = given_when("{sequence: [visit, demo], span: 1h}")
    account.sees("demo", at=MON + 10 * MINUTE)
    account.sees("visit", at=[MON + n * MINUTE for n in range(11, 11 + KEPT_AT_LEAST + 1)])
    assert account.segment() == "no"
    account.sees("visit", at=MON + 9 * MINUTE, arriving=MON + DAY)
    assert account.segment() == "yes"


def test_a_late_goodbye_does_not_remove_who_was_there_since() -> None:
    """A contact reported without facts had no instant, so any older `gone` took it away."""
    asked = "{contacts: none, where: {status: bounced}}"
    account = given_when(asked).contact("ann", at=TUE).contact("ann", at=MON, arriving=WED, gone=True)
    assert len(account.state.contacts) == 1
    assert GONE not in account.state.contacts["ann"]
    assert GONE in account.contact("ann", at=THU, gone=True).state.contacts["ann"]


def test_true_is_not_one_among_several() -> None:
    """Python finds 1 in [true, 5]."""
    account = given_when("{seen: visit, where: {x: {in: [true, 5]}}, within: 7d}")
    assert account.sees("visit", at=MON, props={"x": 1}).segment() == "no"
    assert account.sees("visit", at=MON, props={"x": 5}).segment() == "yes"
    assert (
        given_when("{seen: visit, where: {x: {not_in: [1, 7]}}, within: 7d}")
        .sees("visit", props={"x": True})
        .segment()
        == "no"
    )
