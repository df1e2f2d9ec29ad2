"""What `isotherm check` warns of: nothing that is as meant, and what surely is not."""

from __future__ import annotations

import textwrap
from itertools import product

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from story import DAY, HOUR, MON, NAMES, SHIPPED, given

from rules.compiler import compile_files, load
from rules.lint import lint

NAMES = NAMES.replace("  demo: {}\n", "  demo: {}\n  mail: {outbound: true}\n")
QUIET = NAMES.replace("{}", "{outcome: sent}").replace("type: text", "description: x, type: text")


def warnings(text: str, names: str = NAMES, about: str = "rules.yaml") -> list[str]:
    """The warnings about `rules.yaml`, whose first line is line 1; every rung gets an action of its own."""
    files = {"names.yaml": names, "rules.yaml": textwrap.dedent(text).lstrip("\n")}
    compile_files(files)
    return [str(each) for each in lint(files) if each.file == about]


def ladder(*rungs: str, kind: str = "ladder", on_unknown: str = "stop") -> str:
    """Rung number n stands in line 4 + n, counted from 0."""
    lines = [
        f"  - {{segment: s{i}, action: a{i}, {rung if rung.startswith('otherwise') else f'when: {rung}'}}}"
        for i, rung in enumerate(rungs)
    ]
    return "\n".join([f"dimension: d\nkind: {kind}\non_unknown: {on_unknown}\nsegments:", *lines])


def reached(*rungs: str, on_unknown: str = "stop") -> list[str]:
    """The rungs that are said never to be reached."""
    told = warnings(ladder(*rungs, on_unknown=on_unknown))
    assert all("never reached" in each or "never be true" in each for each in told)
    return [each.partition("'")[2].partition("'")[0] for each in told]


def test_the_shipped_library_is_clean() -> None:
    from streams.commands.authoring import warnings_about

    assert list(map(str, warnings_about(load(SHIPPED)))) == []


# -- segments -------------------------------------------------------------------------------------------------


def test_a_ladder_of_more_than_six_rungs() -> None:
    rungs = [f"{{fact: employees, is: {n}}}" for n in range(7)]
    assert warnings(ladder(*rungs)) == [
        "rules.yaml:4: 'd' has 7 rungs (nobody acts on more than 6; merge some)",
    ]
    assert warnings(ladder(*rungs[:6])) == []
    assert warnings(ladder(*rungs, kind="set")) == []
    assert warnings("dimension: d\nby_fact: industry\n") == []


def test_segments_nobody_treats_differently() -> None:
    assert warnings("""
        dimension: d
        segments:
          - {segment: a, when: {fact: employees, above: 5}}
          - {segment: b, action: call, when: {fact: employees, above: 4}}
          - {segment: c, action: {do: call}, when: {fact: employees, above: 3}}
          - {segment: e, action: {do: call, sla: 4h}, when: {fact: employees, above: 2}}
        """) == [
        "rules.yaml:3: segment 'a' has no action (say in `action:` what to do with it)",
        "rules.yaml:5: 'c' and 'b' have the same action "
        "(nobody treats them differently: merge them, or say what differs)",
    ]
    assert (
        warnings("""
        dimension: d
        action: call
        segments: [{segment: a, when: {fact: employees, above: 5}}, {segment: b, otherwise: true}]
        """)
        == []
    )


def test_the_same_rule_twice_in_a_set() -> None:
    assert warnings(ladder("{seen: visit}", "{seen: demo}", "{seen: visit}", kind="set")) == [
        "rules.yaml:7: 's2' and 's0' have the same rule"
    ]


# -- rungs that are never reached -----------------------------------------------------------------------------


def test_it_says_which_rungs_take_them() -> None:
    assert warnings(ladder("{fact: employees, at_least: 200}", "{fact: employees, at_least: 2000}")) == [
        "rules.yaml:6: 's1' is never reached (whoever it fits is 's0' already)"
    ]
    assert warnings(
        ladder(
            "{fact: employees, above: 10}",
            "{fact: employees, at_most: 10}",
            "{fact: country, is: DE}",
            "otherwise: true",
        )
    ) == [
        "rules.yaml:7: 's2' is never reached (whoever it fits is 's0' or 's1' already)",
        "rules.yaml:8: 's3' is never reached (everybody is 's0' or 's1' already)",
    ]


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ("{seen: visit, within: 7d}", "{seen: visit, within: 7d}"),
        ("{count: visit, at_least: 1, within: 30d}", "{count: visit, at_least: 3, within: 7d}"),
        ("{count: page, at_least: 2, within: 7d}", "{count: pricing, at_least: 2, within: 7d}"),
        ("{count: any, at_least: 2, within: 7d}", "{count: page, where: {path: /}, at_least: 2, within: 7d}"),
        ("{seen: visit}", "{count: visit, at_least: 3, calendar: 1mo}"),
        ("{count: visit, at_least: 2, calendar: 3mo}", "{count: visit, at_least: 2, calendar: 1mo}"),
        ("{seen: visit, within: 30d}", "{people: visit, at_least: 2, within: 7d}"),
        ("{people: any, at_least: 2, within: 7d}", "{people: visit, at_least: 3, within: 7d}"),
        ("{people: visit, below: 3, within: 7d}", "{count: visit, below: 2, within: 7d}"),
        ("{count: visit, at_most: 5, within: 7d}", "{count: any, below: 3, within: 30d}"),
        ("{quiet: visit, for: 7d}", "{quiet: any, for: 30d}"),
        ("{quiet: visit, for: 7d}", "{never: visit}"),
        ("{seen: visit, within: 7d}", "{last: visit, within: 2d}"),
        ("{score: interest, at_least: 10}", "{score: interest, at_least: 50}"),
        ("{score: interest, below: 10}", "{score: interest, below: 5}"),
        ("{any: [{seen: demo}, {seen: visit}]}", "{seen: visit, within: 7d}"),
        ("{seen: visit}", "{all: [{fact: country, is: DE}, {seen: visit, within: 7d}]}"),
        ("{all: [{seen: visit}, {seen: page}]}", "{all: [{seen: page, within: 7d}, {seen: visit, within: 7d}]}"),
        ("{seen: any}", "{any: [{seen: visit}, {seen: page}]}"),
        ("{fact: country, in: [DE, AT]}", "{fact: country, is: DE}"),
        ("{fact: country, is_not: DE}", "{fact: country, in: [AT, CH]}"),
        ("{fact: country, exists: true}", "{fact: country, glob: 'D*'}"),
        ("{fact: products, exists: true}", "{fact: products, contains: crm}"),
        ("{fact: renewal, before: 2026-06-01}", "{fact: renewal, is: 2026-03-01}"),
        ("{fact: renewal, newer_than: 90d}", "{fact: renewal, within_last: 30d}"),
        ("{fact: renewal, older_than: 30d}", "{fact: renewal, older_than: 90d}"),
        ("{fact: employees, above: 5, or_missing: true}", "{fact: employees, missing: true}"),
        ("{fact: customer, exists: true}", "{not: {fact: customer, is: true}}"),
        ("{fact: employees, above: 5}", "{all: [{fact: employees, above: 1}, {fact: employees, above: 7}]}"),
    ],
)  # fmt: skip
def test_one_rung_takes_all_of_another(above: str, below: str) -> None:
    assert reached(above, below) == ["s1"]
    assert reached(below, above) == [] or above == below


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ("{count: visit, at_least: 3, within: 7d}", "{count: visit, at_least: 3, within: 30d}"),
        ("{count: visit, at_least: 3, within: 30d}", "{count: visit, at_least: 2, within: 7d}"),
        ("{count: pricing, at_least: 2, within: 7d}", "{count: page, at_least: 2, within: 7d}"),
        ("{people: visit, at_least: 1, within: 7d}", "{count: visit, at_least: 5, within: 7d}"),
        ("{count: visit, below: 2, within: 7d}", "{people: visit, below: 2, within: 7d}"),
        ("{people: visit, who: {status: x}, at_least: 1, within: 7d}", "{people: visit, at_least: 5, within: 7d}"),
        ("{count: visit, at_least: 2, calendar: 1mo}", "{count: visit, at_least: 2, within: 7d}"),
        ("{seen: visit, calendar: 1d, timezone: Asia/Tokyo}", "{seen: visit, calendar: 1d}"),
        ("{quiet: visit, for: 30d}", "{quiet: visit, for: 7d}"),
        ("{seen: any}", "{seen: mail}"),
        ("{quiet: mail, for: 7d}", "{quiet: any, for: 7d}"),
        ("{score: interest, at_least: 10}", "{score: pages, at_least: 50}"),
        ("{fact: country, is: DE}", "{fact: country, glob: 'DE*'}"),
        ("{fact: country, is: de, fold: true}", "{fact: country, is: DE}"),
        ("{fact: country, exists: true}", "{fact: country, is: DE, or_missing: true}"),
        ("{fact: employees, at_least: 5}", "{not: {fact: employees, at_least: 5}}"),
        ("{fact: employees, is: 5}", "{fact: employees, between: [5, 6]}"),
        ("{fact: renewal, within_last: 90d}", "{fact: renewal, newer_than: 90d}"),
        ("{fact: renewal, before: 2026-06-01}", "{fact: renewal, within_last: 1d}"),
        ("{all: [{fact: employees, above: 1}, {fact: country, is: DE}]}", "{fact: employees, above: 5}"),
        ("{of: [{seen: visit}, {seen: page}], at_least: 2}", "{seen: visit}"),
    ],
)  # fmt: skip
def test_what_may_be_reached_is_not_warned_of(above: str, below: str) -> None:
    assert reached(above, below) == []


def test_several_rungs_take_one_together() -> None:
    assert reached(
        "{fact: employees, above: 100}", "{fact: employees, below: 200}", "{fact: employees, is: 150}"
    ) == ["s2"]
    assert reached(
        "{fact: industry, is: retail}", "{fact: industry, is_not: retail}", "{fact: industry, exists: true}"
    ) == ["s2"]
    assert reached("{fact: customer, is: true}", "{fact: customer, is: false}", "otherwise: true") == ["s2"]


def test_who_is_not_known_goes_on_where_the_ladder_skips() -> None:
    rungs = ("{fact: customer, is: true}", "{fact: customer, is: false}", "otherwise: true")
    assert reached(*rungs, on_unknown="skip") == []
    assert reached("{fact: customer, exists: true}", "otherwise: true") == []
    assert reached("{fact: customer, exists: true}", "{fact: customer, missing: true}", "otherwise: true") == [
        "s2"
    ]
    assert reached(
        "{fact: customer, is: true, or_missing: true}",
        "{fact: customer, is: false}",
        "otherwise: true",
        on_unknown="skip",
    ) == ["s2"]


def test_who_must_wait_for_a_rung_is_below_meanwhile() -> None:
    assert (
        warnings("""
        dimension: d
        segments:
          - {segment: a, action: x, for: 7d, when: {fact: employees, above: 5}}
          - {segment: b, action: y, when: {fact: employees, above: 10}}
        """)
        == []
    )


def test_what_can_never_be_true() -> None:
    assert warnings(ladder("{fact: employees, above: 200, below: 100}")) == [
        "rules.yaml:5: 's0' can never be true (no value fits all that it asks)"
    ]
    assert reached("{all: [{fact: country, is: DE}, {fact: country, in: [AT, CH]}]}") == ["s0"]
    assert reached("{all: [{fact: country, missing: true}, {fact: country, is: DE}]}") == ["s0"]
    assert reached("{all: [{fact: country, missing: true}, {fact: employees, is: 1}]}") == []


# Rungs that ask one number: what is said must be so, and what is so must be said.
FORMS = [
    *("at_least: {}", "above: {}", "at_most: {}", "below: {}", "is: {}", "is_not: {}", "in: [{}, 3]"),
    *("not_in: [{}, 3]", "between: [{}, 4]", "at_least: {}, or_missing: true"),
]
NUMBERS = [*(f"{{{{fact: employees, {form}}}}}" for form in FORMS), "{{not: {{fact: employees, at_least: {}}}}}"]
RUNG = st.builds(lambda form, n: form.format(n), st.sampled_from(NUMBERS), st.integers(1, 4)) | st.sampled_from(
    ["{fact: employees, exists: true}", "{fact: employees, missing: true}"]
)
VALUES = [None, *(n / 2 for n in range(11))]


@drawn(
    rungs=st.lists(RUNG, min_size=2, max_size=4), last=st.booleans(), on_unknown=st.sampled_from(["stop", "skip"])
)
def test_rungs_that_ask_one_number(rungs: list[str], last: bool, on_unknown: str) -> None:
    text = ladder(*rungs, *(["otherwise: true"] if last else []), on_unknown=on_unknown)
    said = {line.partition("'")[2].partition("'")[0] for line in warnings(text, QUIET)}
    ruleset = compile_files({"names.yaml": NAMES, "rules.yaml": text})
    dimension = ruleset.dimensions[0]
    held: set[str] = set()
    for value in VALUES:
        account = given(text)
        account.learns(name="Acme", **({} if value is None else {"employees": value}))
        held.update(account.segments("d"))
    assert {segment.name for segment in dimension.segments} - held == said


# Rungs that ask what happened: what is said must be so.
ASKED = [
    "{seen: visit, within: 2d}", "{seen: visit}", "{seen: any, within: 1d}", "{score: interest, at_least: 30}",
    "{count: any, at_least: 2, within: 3d}", "{count: visit, below: 2, within: 2d}", "{quiet: visit, for: 1d}",
    "{quiet: any, for: 3d}", "{never: page}", "{people: any, at_least: 2, within: 2d}",
    "{people: visit, below: 2, within: 2d}", "{last: visit, within: 1d}", "{seen: pricing, within: 3d}",
    "{count: page, at_least: 1, calendar: 2d}", "{score: interest, at_least: 15}",
    "{count: visit, at_least: 2, within: 1d}",
]  # fmt: skip
NAMED = st.sampled_from(["visit", "page", "demo"])
EVENTS = st.tuples(st.integers(0, 5 * 24), NAMED, st.sampled_from(["/", "/pricing"]), st.sampled_from("ab"))


@drawn(rungs=st.lists(st.sampled_from(ASKED), min_size=2, max_size=4), events=st.lists(EVENTS, max_size=8))
def test_a_rung_that_is_said_never_to_be_reached_is_not(
    rungs: list[str], events: list[tuple[int, str, str, str]]
) -> None:
    text = ladder(*rungs)
    said = {line.partition("'")[2].partition("'")[0] for line in warnings(text, QUIET)}
    account, held = given(text), set[str]()
    for hour, name, path, person in sorted(events):
        account.until(MON + hour * HOUR)
        account.sees(name, at=MON + hour * HOUR, props={"path": path}, person=person)
        held.update(account.segments("d"))
    account.until(MON + 10 * DAY)
    held.update(segment for change in account.changes for segment in change.after)
    assert not held & said


# -- names ----------------------------------------------------------------------------------------------------


def test_names_that_nothing_reads() -> None:
    names = """
facts:
  name: {type: text}
  used: {type: text, vocabulary: v, also: [raw]}
  raw: {type: text}
  spare: {type: text}
  kept: {type: text, description: for the report}
contact_facts: {role: {type: text}, age: {type: number}, level: {type: text}}
activities:
  page: {}
  docs: {of: page, where: {path: /docs}}
  prices: {of: page, where: {path: /prices}}
  click: {}
  reply: {outcome: replied}
  step: {}
  call: {}
scores:
  used_score: {half_life: 1d, signals: [{activity: call, weight: 1}]}
  spare_score: {half_life: 1d, signals: [{activity: click, weight: 1}]}
---
vocabulary: v
terms: {a: []}
"""
    rules = """
        dimension: d
        action: act
        segments:
          - segment: s
            stay: {score: used_score, at_least: 1}
            when:
              all:
                - {fact: used, is: a}
                - not: {contacts: any, where: {role: x}}
                - any: [{seen: docs, within: 1d}, {sequence: [step, docs], span: 1d}]
                - {people: page, who: {level: x}, at_least: 1, within: 1d}
        """
    assert warnings(rules, names, "names.yaml") == [
        "names.yaml:6: no rule reads fact 'spare' (remove it, or say in `description:` what it is for)",
        "names.yaml:8: no rule reads contact fact 'age' (remove it, or say in `description:` what it is for)",
        "names.yaml:12: nothing counts activity 'prices' (use it, or remove it)",
        "names.yaml:13: nothing counts activity 'click' (use it, or remove it)",
        "names.yaml:19: no rule asks score 'spare_score' (use it, or remove it)",
    ]
    of_any = rules.replace("seen: docs", "seen: any")
    assert [each.split(": ")[0] for each in warnings(of_any, names, "names.yaml")] == [
        f"names.yaml:{line}" for line in (6, 8, 12, 19)
    ]


def test_facts_that_no_source_supplies() -> None:
    names = (
        "facts:\n  phone: {type: text, description: x}\n"
        "  size: {type: number, description: x, sources: [crm, web.activty]}\n"
        "  phone_known: {type: boolean, description: x}\n"
    )
    files = {"names.yaml": names, "rules.yaml": ladder("{fact: phone, exists: true}")}
    told = lint(files, ["crm", "web.activity"], lambda section, name: name.startswith("phone"))
    assert list(map(str, told)) == [
        "names.yaml:2: no source can supply 'phone' "
        "(it is named like something private or is spelt as no source's field can be)",
        "names.yaml:3: no source is called 'web.activty' (did you mean 'web.activity'?)",
    ]
    assert lint(files) == []


def test_a_warning_is_given_once() -> None:
    """However many ways there are to see it."""
    for rungs in product(["{fact: employees, above: 1}", "{any: [{fact: employees, above: 1}]}"], repeat=2):
        assert reached(*rungs) == ["s1"]
