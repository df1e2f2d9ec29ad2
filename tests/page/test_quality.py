"""The page Data quality."""

from __future__ import annotations

from playwright.async_api import expect

from rules.facts import Fact
from rules.state import AccountState
from streams.page.survey import Survey
from streams.pipeline import compiled
from tests.page.conftest import Looking, assert_is_accessible


async def test_it_says_what_is_known_and_what_gaps_cost(looking: Looking) -> None:
    page = await looking.opens("/quality")
    industry = page.locator("#fact-industry")
    await expect(industry).to_be_visible()
    numbers = await industry.locator("td").all_inner_texts()
    assert int(numbers[0]) > 0
    assert int(numbers[4]) > 0, "Zeppelins are no sector that is understood"
    gaps = page.locator(".gaps li")
    await expect(gaps.filter(has_text="employees").get_by_role("link", name="without size")).to_be_visible()
    await expect(gaps.filter(has_text="industry").get_by_role("link", name="without industry")).to_be_visible()
    await expect(page.locator("#sizes-chart canvas")).to_be_visible()
    await expect(page.locator(".legend")).to_contain_text("industry")
    sources = page.get_by_role("table", name="Facts by source")
    await expect(sources.get_by_role("row", name="employees").filter(has_text="hubspot").first).to_be_visible()
    await gaps.filter(has_text="employees").get_by_role("link", name="without size").click()
    await expect(page.locator("tbody tr").first).to_be_visible()


SET = """
dimension: stack
kind: set
description: What does it run?
segments:
  - segment: clouded
    when: {fact: cloud, is: aws}
  - segment: large
    when: {fact: employees, at_least: 500}
"""
FACTS = "facts: {cloud: {type: text}, employees: {type: number}}"


def test_a_set_that_a_gap_leaves_undecided_counts_too() -> None:
    ruleset = compiled({"stack.yaml": SET, "facts.yaml": FACTS})
    known = {"cloud": Fact("aws", 5), "employees": Fact(900, 5)}
    survey = Survey(at=10)
    survey.take(AccountState(born=0, facts=known), ruleset)
    assert survey.gaps == {}
    survey.take(AccountState(born=0, facts={"cloud": known["cloud"]}), ruleset)
    survey.take(AccountState(born=0), ruleset)
    survey.take(AccountState(born=0, quarantined=3), ruleset)
    assert survey.gaps == {("employees", "stack"): 2, ("cloud", "stack"): 1}


async def test_it_is_accessible(looking: Looking) -> None:
    page = await looking.opens("/quality")
    await expect(page.locator("#fact-industry")).to_be_visible()
    await assert_is_accessible(page, "Data quality")
