"""The sources file: what it may say, every mistake of it at its line, and whom it makes facts believe."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from story import NAMES, SHIPPED, given, question

from rules.compiler import compile_files, load
from rules.errors import RulesetError
from rules.facts import FactRule, merged
from rules.names import Names
from rules.ruleset import Ruleset
from rules.sources import FORMATS, OURS, RANKED, Sources, SourcesFile, compiled, order
from rules.state import Fact, Report
from rules.yamlfile import read
from streams import topics
from streams.adapters import ADAPTERS
from streams.sources import read as read_file

DAY = 24 * 3600 * 1000
RULES = "dimension: d\nby_fact: industry\n"


def ruleset(text: str, names: str = NAMES) -> Ruleset:
    return compile_files(
        {"names.yaml": names, "rules.yaml": RULES, "sources.yaml": textwrap.dedent(text).lstrip()}
    )


def mistakes(text: str, names: str = NAMES) -> list[str]:
    with pytest.raises(RulesetError) as caught:
        ruleset(text, names)
    return [str(each) for each in caught.value.problems]


def sources(text: str) -> Sources:
    names = Names([])
    for document in read("sources.yaml", textwrap.dedent(text).lstrip()):
        names.declare(document)
    assert not names.problems
    assert names.sources_file is not None
    return compiled(names.sources_file[1] or SourcesFile())


GOOD = """
ranks: [human, salesforce, hubspot]
human:
  wins_for: 30d
  salesforce: {clients: [SfdcInternalAPI], except_users: [0055f000005mc66AAA]}
  hubspot: {change_sources: [CRM_UI]}
fields:
  salesforce:
    account:
      employees: Staff__c
      country: [Country__c, BillingAddress.CountryCode]
      name: []
    contact: {status: Reachable__c}
tables:
  crm.companies: {object: account, id: ref, fields: {employees: headcount}, ids: {hubspot: hs}, deleted: gone_at}
  deals: {object: opportunity, account: company, fields: {stage: phase}}
names:
  all: {Demo Booked: demo}
  ga4: {generate_lead: demo, demo_booked: visit}
ignore: {all: [heartbeat], segment: [Demo Booked]}
accounts: {lead: [hubspot, salesforce], link_by_domain: false, ids: {hubspot: {salesforce: sf_id}}}
topics: {product.usage: canonical}
"""


def test_a_good_file_is_ready_to_look_up() -> None:
    assert ruleset(GOOD).hash
    found = sources(GOOD)
    assert (found.ranks, found.wins_for) == (("human", "salesforce", "hubspot"), 30 * DAY)
    assert found.fields_of("salesforce", "account") == {
        "employees": ("Staff__c",), "country": ("Country__c", "BillingAddress.CountryCode"), "name": (),
    }  # fmt: skip
    assert found.fields_of("hubspot", "company") == {}
    assert found.tables["crm.companies"].deleted == "gone_at"
    assert (found.lead, found.linked_by_domain) == (("hubspot", "salesforce"), False)
    assert found.ids == {"hubspot": {"salesforce": "sf_id"}}
    assert found.topics == {"crm.updates": "salesforce", "web.activity": "segment", "product.usage": "canonical"}


def test_what_is_said_of_a_system_goes_before_what_is_said_of_all() -> None:
    found = sources(GOOD)
    assert found.names_of("posthog") == {"heartbeat": None, "demo_booked": "demo"}
    assert found.names_of("ga4") == {"heartbeat": None, "demo_booked": "visit", "generate_lead": "demo"}
    assert found.names_of("segment") == {"heartbeat": None, "demo_booked": None}
    assert found.names_of("canonical") == {}, "our own format has our own names"


def test_by_what_a_persons_hand_is_known() -> None:
    found = sources(GOOD)
    assert found.is_human_in_hubspot("CRM_UI")
    assert not found.is_human_in_hubspot("INTEGRATION")
    assert not found.is_human_in_hubspot(None)
    assert found.is_human_in_salesforce("sfdcinternalapi", None)
    assert found.is_human_in_salesforce("sfdcinternalapi", "0055f000005mc77AAA")
    assert not found.is_human_in_salesforce("sfdcinternalapi", "0055f000005mc66")
    assert not found.is_human_in_salesforce("", None)
    nobody = Sources()
    assert not nobody.is_human_in_hubspot("CRM_UI")
    assert not nobody.is_human_in_salesforce("sfdcinternalapi", None)


def test_the_shipped_file_is_part_of_the_ruleset_and_the_routers_default() -> None:
    assert "sources.yaml" in load(SHIPPED).files
    shipped = read_file("")
    assert shipped == read_file(SHIPPED / "sources.yaml")
    assert shipped.topics == {"crm.updates": "salesforce", "web.activity": "segment"}
    assert shipped.is_human_in_hubspot("CRM_UI")
    assert not shipped.is_human_in_salesforce("sfdcinternalapi", None)
    assert all(not shipped.names_of(each) for each in FORMATS), "nothing is renamed: nothing is slower"


def test_what_the_file_may_name_is_what_there_is() -> None:
    assert set(FORMATS) == set(ADAPTERS)
    written = set(topics.CONFIGS) - set(topics.SOURCES)
    assert written <= OURS
    assert not OURS & set(topics.SOURCES)


# -- mistakes -------------------------------------------------------------------------------------------------


def test_every_mistake_is_named_at_once_and_at_its_line() -> None:
    assert mistakes("""
        ranks: [salesforce, hubspot, salesforce]
        fields:
          salesforce:
            account:
              employes: Staff__c
              name:
                - Name
                - Owner_Email__c
            contact:
              status: MobilePhone
        names:
          segmnt: {Demo Booked: demo}
          all:
            Demo Booked: dmo
            "!!": demo
        accounts:
          ids: {zoho: {salesforce: x}}
        topics:
          account.log: canonical
          product.usage: canonic
          bad/name: segment
        """) == [
        "sources.yaml:1: 'salesforce' is named twice",
        "sources.yaml:5: unknown fact 'employes' (did you mean 'employees'?)",
        "sources.yaml:8: 'Owner_Email__c' is about a private person "
        "(no e-mail address, phone number or name of a person enters the log)",
        "sources.yaml:10: 'MobilePhone' is about a private person "
        "(no e-mail address, phone number or name of a person enters the log)",
        "sources.yaml:12: unknown system 'segmnt' (did you mean 'segment'?)",
        "sources.yaml:14: unknown activity 'dmo' (did you mean 'demo'?)",
        "sources.yaml:15: '!!' has no letter or digit",
        "sources.yaml:17: unknown system 'zoho' (known: hubspot, salesforce)",
        "sources.yaml:19: 'account.log' is written by Isotherm itself "
        "(name a topic that only sources write to)",
        "sources.yaml:20: unknown format 'canonic' (did you mean 'canonical'?)",
        "sources.yaml:21: 'bad/name' is no name of a topic (letters, digits, '.', '_' and '-', at most 249)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ranks: human", "1: ranks: should be a valid list"),
        ("ranks: []\nrnks: []", "2: unknown key 'rnks' (did you mean 'ranks'?)"),
        ("ranks: []\nfacts: {}", "2: 'facts' does not belong here"),
        ("human: {wins_for: 90 days}", "1: wins_for: write a duration such as 90s"),
        ("human: {wins_for: 0d}", "1: wins_for: a duration is longer than nothing and at most 20 years"),
        ("fields: {salesforce: {acount: {}}}", "1: unknown key 'acount' (did you mean 'account'?)"),
        ("fields:\n  hubspot:\n    company: {employees: 5}", "3: employees: should be a valid list"),
        ("fields:\n  segment:\n    identify: {status: name}", "3: 'name' is about a private person"),
        ("fields:\n  segment:\n    group: {name: name, employees: phone}", "3: 'phone' is about a private person"),
        ("tables: {t: {object: row}}", "1: object: should be 'account', 'contact', 'opportunity' or 'activity'"),
        ("tables: {t: {object: account, account: x}}", "1: a table of accounts has no `account:`"),
        ("tables: {t: {object: activity, deleted: x}}", "1: a table of activities has no `deleted:`"),
        ("tables: {t: {object: contact, ids: {hubspot: x}}}", "1: a table of contacts has no `ids:`"),
        ("tables: {t: {object: opportunity, email: x}}", "1: a table of opportunities has no `email:`"),
        (
            "tables: {t: {object: activity, fields: {nam: x}}}",
            "1: unknown word of an activity 'nam' (did you mean",
        ),
        ("tables: {t: {object: activity, fields: {props: email}}}", "1: 'email' is about a private person"),
        ("tables: {t: {object: account, fields: {employes: x}}}", "1: unknown fact 'employes'"),
        ("tables: {t: {object: contact, fields: {status: first_name}}}", "1: 'first_name' is about a private"),
        ("names: {ga4: {a b: demo, A-B: visit}}", "1: 'A-B' is 'demo' already"),
        ("names: {ga4: {a: demo}}\nignore: {ga4: [A]}", "1: 'a' is ignored too (say one of the two)"),
        ("ignore: {canonical: [a]}", "1: unknown system 'canonical'"),
        ("topics: {product.usage: 5}", "1: product.usage: should be a valid string"),
        ("ranks: []\n---\nranks: []", "3: sources are described twice (first in sources.yaml:1)"),
    ],
)
def test_a_mistake_has_its_line(text: str, expected: str) -> None:
    (found,) = mistakes(text)
    assert found.startswith(f"sources.yaml:{expected}")


def test_a_personal_fact_is_refused_whatever_says_it() -> None:
    names = NAMES.replace("  name: {type: text}\n", "  name: {type: text}\n  work_email: {type: text}\n")
    (found,) = mistakes("fields: {salesforce: {account: {work_email: Contact__c}}}", names)
    assert "'work_email' is named like something about a private person" in found


def test_the_file_of_a_router_is_checked_against_the_rules_beside_it(tmp_path: Any) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text("fields: {salesforce: {account: {employes: Staff__c}}}\n")
    assert read_file(path).fields_of("salesforce", "account") == {"employes": ("Staff__c",)}
    (tmp_path / "facts.yaml").write_text("facts: {employees: {type: number}}\n")
    (tmp_path / "compose.yaml").write_text("services: {kafka: {}}\n")
    (tmp_path / "broken.yaml").write_text("facts: [\n")
    with pytest.raises(RulesetError) as caught:
        read_file(path)
    assert str(caught.value) == f"{path}:1: unknown fact 'employes' (did you mean 'employees'?)"


# -- whom facts believe ---------------------------------------------------------------------------------------

RANKED_FACT = NAMES.replace(
    "employees: {type: number}", "employees: {type: number, sources: ranked, refresh: 10d}"
)


def rule(text: str, names: str = RANKED_FACT) -> FactRule:
    return ruleset(text, names).facts["employees"]


def test_a_ranked_fact_believes_in_the_order_of_the_file() -> None:
    assert rule("ranks: [human, salesforce, segment]").ranks == {"human": 0, "salesforce": 1, "segment": 2}


def test_a_fact_may_have_an_order_of_its_own_and_a_persons_hand_still_goes_first() -> None:
    own = NAMES.replace("employees: {type: number}", "employees: {type: number, sources: [segment, salesforce]}")
    assert rule("ranks: [human, salesforce, segment]", own).ranks == {"human": 0, "segment": 1, "salesforce": 2}
    below = own.replace("[segment, salesforce]", "[segment, human]")
    assert rule("ranks: [human, salesforce]", below).ranks == {"segment": 0, "human": 1}


def test_ranked_may_stand_among_others() -> None:
    assert order(["clearbit", RANKED], ["human", "salesforce"]) == ["clearbit", "human", "salesforce"]
    assert order([RANKED], ["salesforce", "hubspot"]) == ["human", "salesforce", "hubspot"]
    assert order([], ["human", "salesforce"]) == []


def test_without_sources_the_later_report_wins_a_persons_too() -> None:
    plain = ruleset("ranks: [human, salesforce]").facts["employees"]
    assert plain.ranks == {}
    first = merged(None, Report(5, 1, "human"), plain)
    then = merged(first, Report(6, 2, "segment"), plain)
    assert then is not None
    assert then.value == 6


def test_a_ranked_fact_needs_ranks() -> None:
    assert mistakes("names: {}", RANKED_FACT) == [
        "names.yaml:"
        f"{_line(RANKED_FACT, 'sources: ranked')}: nobody has said how sources are ranked "
        "(a document with `ranks:` names the sources, the highest first)"
    ]
    assert len(mistakes("ranks: human", RANKED_FACT)) == 1, "one mistake is one line"


def _line(text: str, part: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


HUMAN = "ranks: [human, salesforce, segment]\nhuman: {wins_for: 90d}"


@pytest.mark.parametrize(("later", "value"), [(90 * DAY, 500), (90 * DAY + 1, 600)])
def test_a_persons_word_wins_for_exactly_its_time(later: int, value: int) -> None:
    said = [Report(500, 1000, "human"), Report(600, 1000 + later, "salesforce")]
    assert believed(rule(HUMAN), said) == believed(rule(HUMAN), said[::-1]) == value


@pytest.mark.parametrize(("later", "value"), [(10 * DAY, 600), (10 * DAY + 1, 700)])
def test_the_word_of_others_wins_for_the_facts_own_time(later: int, value: int) -> None:
    said = [Report(600, 1000, "salesforce"), Report(700, 1000 + later, "segment")]
    assert believed(rule(HUMAN), said) == value


def test_a_person_edits_again() -> None:
    said = [Report(500, 0, "human"), Report(600, 100 * DAY, "salesforce"), Report(510, 101 * DAY, "human")]
    assert believed(rule(HUMAN), said) == 510


def believed(rule: FactRule, said: list[Report]) -> object:
    known: Fact | None = None
    for report in said:
        known = merged(known, report, rule) or known
    assert known is not None
    return known.value


def test_a_story_of_a_persons_word() -> None:
    texts = question("{fact: employees, at_least: 200}"), HUMAN
    account = given(*texts, names=RANKED_FACT)
    account.learns_from("human", 0, 0, employees=500)
    account.learns_from("salesforce", 89 * DAY, 89 * DAY, employees=5)
    assert account.segment() == "yes"
    account.learns_from("salesforce", 91 * DAY, 91 * DAY, employees=5)
    assert account.segment() == "no"
