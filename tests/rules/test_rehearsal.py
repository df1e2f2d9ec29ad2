"""`isotherm test`: what a test of rules can say, what a failing one tells, and every mistake in one."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from story import SHIPPED, ruleset

from rules.compiler import TEST_SUFFIX, load
from rules.rehearsal import Failure, Report, rehearse

RULES = """
dimension: interest
on_unknown: skip
segments:
  - segment: hot
    when:
      any:
        - {count: pricing, at_least: 3, within: 7d}
        - {seen: demo, within: 1d}
  - {segment: warm, when: {seen: any, within: 14d}}
  - {segment: cold, otherwise: true}
---
dimension: size
segments:
  - {segment: large, when: {fact: employees, at_least: 200}}
  - {segment: small, when: {fact: employees, at_least: 1}}
---
dimension: sector
by_fact: industry
---
dimension: reachable
on_unknown: skip
segments:
  - {segment: nobody, when: {contacts: all, where: {status: bounced}}}
  - {segment: somebody, when: {contacts: any, where: {status: {is_not: bounced}}}}
---
dimension: signs
kind: set
segments:
  - {segment: asked, when: {seen: demo, within: 1d}}
  - {segment: browsing, when: {seen: page, within: 2d}}
  - {segment: large, when: {fact: employees, at_least: 200}}
"""
LIBRARY = ruleset(RULES)
PRICING = "activity: page, props: {path: /pricing}"


def report(text: str, only: str = "") -> Report:
    """What comes of `it_test.yaml`; its first line is line 1."""
    return rehearse(LIBRARY, {"it_test.yaml": textwrap.dedent(text).lstrip("\n")}, only)


def passes(timeline: str, changes: str = "") -> bool:
    """Whether the one test with these steps is passed, and was run at all."""
    told = report(_test(timeline, changes))
    assert not told.problems, "\n".join(map(str, told.problems))
    assert len(told.results) == 1
    return told.passed


def failure(timeline: str, changes: str = "") -> Failure:
    """The one failure of the one test; `timeline:` is line 2, its first step line 3."""
    told = report(_test(timeline, changes))
    assert not told.problems, "\n".join(map(str, told.problems))
    ((found,),) = (result.failures for result in told.results)
    return found


def mistakes(timeline: str, changes: str = "") -> list[str]:
    """What is wrong with the test itself; `timeline:` is line 2, its first step line 3."""
    told = report(_test(timeline, changes))
    assert not told.passed
    assert not told.results
    return [str(problem) for problem in told.problems]


def _test(timeline: str, changes: str) -> str:
    steps = textwrap.indent(textwrap.dedent(timeline).strip("\n"), "  ")
    text = f"test: it does\ntimeline:\n{steps}\n"
    if changes:
        text += f"changes:\n{textwrap.indent(textwrap.dedent(changes).strip(chr(10)), '  ')}\n"
    return text


# -- the shipped library ------------------------------------------------------------------------------------


def test_every_shipped_test_is_passed() -> None:
    files = {path.name: path.read_text() for path in sorted(SHIPPED.rglob(f"*{TEST_SUFFIX}"))}
    told = rehearse(load(SHIPPED), files)
    failures = [str(each) for result in told.results for each in result.failures]
    assert told.passed, "\n".join([*map(str, told.problems), *failures])
    assert {result.file for result in told.results} == set(files)
    assert len(files) >= 2


# -- what holds at an instant -------------------------------------------------------------------------------


def test_an_answer_is_what_holds_right_after_the_step() -> None:
    assert passes(f"- {{{PRICING}, times: 3, every: 1h, expect: {{interest: hot}}}}")
    assert not passes(f"- {{{PRICING}, times: 3, every: 1h, expect: {{interest: warm}}}}")
    assert not passes(f"- {{{PRICING}, times: 2, every: 1h, expect: {{interest: hot}}}}")


def test_an_expectation_sees_what_takes_effect_at_its_very_instant() -> None:
    visits = f"- {{{PRICING}, times: 3}}\n"
    assert passes(visits + "- {at: 6d 23h 59m 59s 999ms, expect: {interest: hot}}")
    assert passes(visits + "- {at: 7d, expect: {interest: warm}}")
    assert not passes(visits + "- {at: 7d, expect: {interest: hot}}")


def test_steps_at_one_time_are_taken_in_their_order() -> None:
    assert passes("""
        - at: 2d
          facts: {employees: 5}
          expect: {size: small}
        - {facts: {employees: 500}, expect: {size: large}}
        - {expect: {size: large}}
        """)


def test_unclassified_and_no_segment_are_two_answers() -> None:
    assert passes("- {facts: {name: Acme}, expect: {size: unclassified, sector: unclassified, reachable: null}}")
    assert passes("- {facts: {employees: 0}, expect: {size: null}}")
    assert not passes("- {facts: {employees: 0}, expect: {size: unclassified}}")
    assert not passes("- {facts: {name: Acme}, expect: {size: null}}")


def test_an_account_of_which_nothing_is_known_is_in_no_segment() -> None:
    assert passes("- {expect: {interest: null, signs: []}}\n- {at: 1d, facts: {}, expect: {interest: cold}}")
    told = failure("- {expect: {interest: cold}}")
    assert told.got == ("interest no segment: nothing is known of the account yet",)


@pytest.mark.parametrize(
    ("members", "met"),
    [
        ("[asked, browsing]", True),
        ("[browsing, asked]", True),
        ("[asked]", False),
        ("[asked, browsing, large]", False),
        ("[]", False),
        ("null", False),
        ("{has: [asked]}", True),
        ("{has: asked, lacks: large}", True),
        ("{lacks: [browsing]}", False),
        ("{has: [asked, large]}", False),
    ],
)
def test_a_set_is_compared_as_a_whole_or_in_part(members: str, met: bool) -> None:
    steps = (
        f"- {{facts: {{employees: 5}}}}\n- {{activity: demo}}\n- {{activity: page, expect: {{signs: {members}}}}}"
    )
    assert passes(steps) is met


def test_facts_go_by_when_they_were_true_and_can_be_emptied() -> None:
    assert passes("""
        - {at: 3d, facts: {employees: 500, industry: Banking}, expect: {size: large, sector: financial_services}}
        - {at: 4d, facts: {employees: 5}, happened: 1d, expect: {size: large}}
        - {at: 5d, clear: [employees], expect: {size: unclassified}}
        """)


def test_a_late_activity_counts_by_its_own_time() -> None:
    late = f"- {{{PRICING}, times: 2}}\n- {{at: 6d, {PRICING}, happened: %s, %s}}"
    assert passes(late % ("1h", "stays_until: {interest: 7d}"))
    assert passes(late % ("-20h", "stays_until: {interest: 6d 4h}"))
    assert passes(late % ("-8d", "expect: {interest: warm}"))
    assert not passes(late % ("1h", "stays_until: {interest: 7d 1h}"))


def test_contacts_come_change_and_go() -> None:
    assert passes("""
        - {contact: ann, facts: {status: bounced}, expect: {reachable: nobody}}
        - {at: 1h, contact: ben, facts: {status: active}, expect: {reachable: somebody}}
        - {at: 2h, contact: ben, gone: true, expect: {reachable: nobody}}
        - {at: 3h, contact: ann, clear: [status], expect: {reachable: null}}
        """)
    assert not passes("- {contact: ann, facts: {status: active}, expect: {reachable: nobody}}")


def test_a_deleted_account_is_in_no_segment_until_it_is_restored() -> None:
    assert passes(f"""
        - {{{PRICING}, expect: {{interest: warm}}}}
        - {{at: 1h, deleted: true, expect: {{interest: null, signs: null}}}}
        - {{at: 2h, restored: true, expect: {{interest: warm}}}}
        """)
    told = failure("- {activity: demo}\n- {deleted: true, expect: {interest: hot}}")
    assert told.got == ("interest no segment: the account is deleted",)


def test_a_start_may_be_given_and_times_may_be_instants() -> None:
    text = """
        test: it does
        start: 2026-05-01T12:00:00+02:00
        timeline:
          - {at: 2026-05-01T10:00:00Z, activity: demo}
          - {at: 2026-05-02T09:59:59.999Z, expect: {interest: hot}}
          - {at: 1d, expect: {interest: warm}}
        """
    assert report(text).passed
    assert not report(text.replace("at: 1d", "at: 23h 59m 59s 999ms")).passed


# -- how long, and why --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("until", "met"),
    [
        ("7d 1h", True),
        ("1w 60m", True),
        ("2026-03-09T10:00:00Z", True),
        ("7d", False),
        ("{between: [7d, 8d]}", True),
        ("{between: [7d 1h, 7d 1h]}", True),
        ("{between: [7d 61m, 8d]}", False),
        ("never", False),
    ],
)
def test_stays_until_is_when_it_changes_if_nothing_happens(until: str, met: bool) -> None:
    assert passes(f"- {{at: 1h, {PRICING}, times: 3, stays_until: {{interest: {until}}}}}") is met


def test_never_is_not_by_time_alone() -> None:
    assert passes("- {facts: {employees: 5}, stays_until: {size: never}}")
    assert not passes("- {facts: {employees: 5}, stays_until: {size: 20d}}")
    assert not passes("- {stays_until: {size: never}}"), "nothing is known yet that could stay"


def test_because_is_a_part_of_the_reason() -> None:
    visits = f"- {{{PRICING}, times: 3, because: {{interest: %s}}}}"
    assert passes(visits % "3 pricing views")
    assert not passes(visits % "1 demo")
    assert passes("- {facts: {name: Acme}, because: {size: employees}}")
    assert passes("- {activity: demo}\n- {activity: page, because: {signs: page}}")


# -- what changed -------------------------------------------------------------------------------------------

VISITS = f"- {{facts: {{employees: 5}}}}\n- {{at: 1h, {PRICING}, times: 3, every: 1h}}"


@pytest.mark.parametrize(
    ("changes", "met"),
    [
        ("- {at: 1h, interest: warm}\n- {at: 3h, interest: hot}", True),
        ("- {at: 3h, interest: {from: warm, to: hot}}\n- {at: 1h, interest: {from: cold, to: warm}}", True),
        ("- {at: 1h, interest: warm}", False),
        ("- {at: 1h, interest: warm}\n- {at: 2h, interest: hot}", False),
        ("- {at: 1h, interest: warm}\n- {at: 3h, interest: {from: cold, to: hot}}", False),
        ("- {at: 1h, interest: warm}\n- {at: 3h, interest: hot}\n- {at: 7d 1h, interest: warm}", True),
        ("- {at: 1h, interest: warm}\n- {at: {between: [2h, 4h]}, interest: hot, because: 3 pricing views}", True),
        ("- {at: 1h, interest: warm}\n- {at: 3h, interest: hot, because: demo}", False),
        ("- {at: 1h, signs: {entered: browsing}}", True),
        ("- {at: 1h, signs: {entered: [browsing]}}\n- {at: 2d 3h, signs: {left: [browsing]}}", True),
        ("- {at: 1h, signs: {entered: [browsing, large]}}", False),
        ("- {at: 1h, interest: warm, signs: {entered: browsing}}\n- {at: 3h, interest: hot}", True),
        ("- {at: 1h, signs: {left: [browsing]}}", False),
    ],
)
def test_changes_are_exactly_those_of_the_dimensions_named(changes: str, met: bool) -> None:
    assert passes(VISITS, changes) is met


def test_an_empty_list_of_changes_is_no_change_in_any_dimension() -> None:
    first = "- {facts: {employees: 5}}\n- {at: 1d, facts: {employees: 7}}"
    text = f"test: it does\ntimeline:\n{textwrap.indent(first, '  ')}\nchanges: []\n"
    assert report(text).passed
    assert not report(text.replace("employees: 7", "employees: 700")).passed


def test_a_ladder_that_is_left_altogether_moves_to_null() -> None:
    steps = "- {facts: {employees: 5}}\n- {at: 1d, facts: {employees: 0}}\n- {at: 2d, facts: {employees: 5}}"
    assert passes(steps, "- {at: 1d, size: null}\n- {at: 2d, size: {from: null, to: small}}")
    assert not passes(steps, "- {at: 1d, size: null}\n- {at: 2d, size: {from: large, to: small}}")


# -- what a failure tells -----------------------------------------------------------------------------------


def test_a_failure_tells_where_what_and_why() -> None:
    told = failure(f"""
        - {{at: 1h, {PRICING}, times: 2, every: 1h}}
        - at: 1d
          expect: {{interest: hot}}
        """)
    where, *rows = str(told).splitlines()
    assert where == "it_test.yaml:5: it does"
    assert rows[:3] == [
        "    expected  interest hot",
        "              at 1d, 2026-03-03T09:00:00.000Z",
        "    got       interest warm since 1h, until 14d 2h",
    ]
    assert rows[3].startswith("    why       warm: ")
    assert "in 14 days" in rows[3]
    assert rows[4] == "              not hot:"
    assert "                  ✗ 2 pricing views in 7 days (needs 3)" in rows[5:]


def test_changes_that_differ_are_shown_side_by_side() -> None:
    told = failure(VISITS, "- {at: 1h, interest: warm}\n- {at: 2h, interest: {from: warm, to: hot}}")
    assert told.line == 7
    assert told.expected == ("✓ 1h: interest → warm", "✗ 2h: interest warm → hot")
    assert told.got[0].startswith("✓ 1h: interest cold → warm: ")
    assert told.got[1] == "✗ 3h: interest warm → hot: 3 pricing views in 7 days (needs 3)"


def test_a_change_too_many_is_told_at_the_list() -> None:
    told = failure(VISITS, "- {at: 3h, interest: hot}")
    assert (told.line, told.expected[0]) == (5, "✓ 3h: interest → hot")
    assert told.got[0].startswith("✗ 1h: interest cold → warm")


def test_all_failures_of_all_tests_are_told_at_once() -> None:
    told = report("""
        test: one
        timeline:
          - {facts: {employees: 5}, expect: {size: large, interest: hot}, stays_until: {interest: 1d}}
        ---
        test: two
        timeline:
          - {facts: {employees: 5}, expect: {size: small}}
        ---
        test: three
        timeline:
          - {facts: {employees: 5}, because: {size: demo}}
        changes:
          - {at: 1d, size: large}
        """)
    assert [[(each.line, each.dimension) for each in result.failures] for result in told.results] == [
        [(3, "size"), (3, "interest"), (3, "interest")],
        [],
        [(11, "size"), (13, "size")],
    ]
    assert str(told) == "3 tests in 1 file, 2 failed"
    assert not told.passed


def test_each_test_begins_with_an_account_of_its_own() -> None:
    told = report("""
        test: one
        timeline: [{activity: demo, expect: {interest: hot}}]
        ---
        test: two
        timeline: [{facts: {}, expect: {interest: cold}}]
        """)
    assert told.passed
    assert str(told) == "2 tests in 1 file, all passed"


def test_only_runs_the_tests_whose_name_contains_a_text() -> None:
    text = (
        "test: Hot visits\ntimeline: [{expect: {size: null}}]\n---\ntest: b\ntimeline: [{expect: {size: small}}]\n"
    )
    assert [result.test for result in report(text, only="hot").results] == ["Hot visits"]
    assert report(text, only="hot").passed
    assert not report(text).passed


# -- mistakes in a test -------------------------------------------------------------------------------------

EXPECT = "expect: {size: small}"


@pytest.mark.parametrize(
    ("step", "says"),
    [
        # names
        ("{activity: pagee, %s}", "unknown activity 'pagee' (did you mean 'page'?)"),
        (
            "{activity: pricing, %s}",
            "'pricing' is the rules' name for some of 'page', and no source reports it "
            "(write `activity: page` with the `props` that make it one)",
        ),
        ("{activity: any, %s}", "unknown activity 'any' (known: click, demo, page, visit)"),
        ("{facts: {employes: 5}, %s}", "unknown fact 'employes' (did you mean 'employees'?)"),
        ("{facts: {status: x}, %s}", "unknown fact 'status'"),
        ("{clear: [industri], %s}", "unknown fact 'industri' (did you mean 'industry'?)"),
        ("{contact: ann, facts: {statsu: x}, %s}", "unknown contact fact 'statsu' (did you mean 'status'?)"),
        ("{contact: ann, clear: [levle], %s}", "unknown contact fact 'levle' (did you mean 'level'?)"),
        ("{expect: {sise: small}}", "unknown dimension 'sise' (did you mean 'size'?)"),
        ("{stays_until: {sise: 1d}}", "unknown dimension 'sise' (did you mean 'size'?)"),
        ("{because: {sise: x}}", "unknown dimension 'sise' (did you mean 'size'?)"),
        ("{expect: {size: smal}}", "unknown segment of size 'smal' (did you mean 'small'?)"),
        (
            "{expect: {interest: unclassified}}",
            "unknown segment of interest 'unclassified' (known: cold, hot, warm)",
        ),
        ("{expect: {sector: retale}}", "unknown segment of sector 'retale' (did you mean 'retail'?)"),
        ("{expect: {signs: [asked, brosing]}}", "unknown segment of signs 'brosing' (did you mean 'browsing'?)"),
        ("{expect: {signs: {lacks: [lage]}}}", "unknown segment of signs 'lage' (did you mean 'large'?)"),
        # shapes
        ("{actvity: page, %s}", "unknown key 'actvity' (did you mean 'activity'?)"),
        ("{expect: {size: [small]}}", "size is a ladder: write one segment, or null for none"),
        ("{expect: {size: {has: [small]}}}", "size is a ladder: write one segment, or null for none"),
        ("{expect: {signs: asked}}", "signs is a set: write a list of segments, or {has: [..], lacks: [..]}"),
        ("{expect: {signs: {hass: [asked]}}}", "signs is a set: write a list of segments"),
        ("{expect: {}}", "'expect' is empty"),
        ("{facts: {employees: many}, %s}", "employees: 'many' is not a number"),
        ("{facts: {employees: {a: 1}}, %s}", "employees: {'a': 1} is not a number"),
        (
            "{facts: {industry: null}, %s}",
            "null says nothing about a fact (to empty it, write `clear: [industry]`)",
        ),
        ("{deleted: false, %s}", "deleted: should be True"),
        ("{activity: page, times: 0, %s}", "times: should be greater than or equal to 1"),
        # what goes together
        (
            "{activity: page, facts: {employees: 5}, %s}",
            "one thing happens in a step, and here are activity and facts (write two steps)",
        ),
        ("{facts: {employees: 5}, props: {path: /}, %s}", "'props' stands beside `activity`"),
        ("{activity: page, gone: true, %s}", "'gone' stands beside `contact`"),
        ("{times: 3, %s}", "'times' stands beside `activity`"),
        ("{activity: page, source: crm, %s}", "'source' stands beside `contact` or `facts`"),
        ("{activity: page, every: 1h, %s}", "'every' says how far apart, and `times` how often (add `times: 3`)"),
        # times
        ("{at: soon, %s}", "at: write a time since the start such as 0h, 36h or `7d 1m`, or an instant such as"),
        ("{at: 7, %s}", "at: write a time since the start"),
        (
            "{at: 2026-03-05, %s}",
            "at: '2026-03-05' names no time zone; write an instant such as 2026-03-02T09:00:00Z",
        ),
        ("{at: 9999-01-01T00:00:00Z, %s}", "at: '9999-01-01T00:00:00Z' is too far away"),
        ("{at: 9999w, %s}", "at: a test may take at most 20 years"),
        ("{at: -1h, %s}", "steps are in order, and the timeline is already at 0h"),
        ("{at: 1h, activity: page, happened: 2h, %s}", "it cannot have happened after it arrived"),
        ("{activity: page, times: 2, every: soon, %s}", "every: write a duration such as 90s"),
        ("{stays_until: {size: soon}}", "size: write a time since the start"),
        ("{stays_until: {size: {between: [1d]}}}", "size: write {between: [9d, 10d]}"),
        ("{stays_until: {size: {between: [2d, 1d]}}}", "the later bound comes second"),
    ],
)
def test_a_mistake_in_a_step_is_named_at_its_line(step: str, says: str) -> None:
    (told,) = mistakes(f"- {{at: 0, facts: {{}}}}\n- {step % EXPECT if '%s' in step else step}")
    assert told.startswith(f"it_test.yaml:4: {says}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("{at: 1d, sise: small}", "unknown dimension 'sise' (did you mean 'size'?)"),
        ("{at: 1d, size: smal}", "unknown segment of size 'smal' (did you mean 'small'?)"),
        ("{at: 1d, size: {from: lage, to: small}}", "unknown segment of size 'lage' (did you mean 'large'?)"),
        ("{at: 1d, signs: {entered: aksed}}", "unknown segment of signs 'aksed' (did you mean 'asked'?)"),
        ("{at: 1d, size: {entered: small}}", "size is a ladder: write where to, or {from: warm, to: hot}"),
        ("{at: 1d, size: [small]}", "size is a ladder: write where to"),
        ("{at: 1d, signs: asked}", "signs is a set: write {entered: [..]}, {left: [..]} or both"),
        ("{at: 1d}", "the change names no dimension (write one like {at: 2d, engagement: hot})"),
        ("{size: small}", "'at' is missing"),
        ("{at: never, size: small}", "at: write a time since the start"),
    ],
)
def test_a_mistake_in_a_change_is_named_at_its_line(change: str, says: str) -> None:
    (told,) = mistakes("- {facts: {}}", f"- {change}")
    assert told.startswith(f"it_test.yaml:5: {says}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "test: a\ntimeline: [{activity: page}]",
            "it_test.yaml:1: the test expects nothing (add `expect:` to a step",
        ),
        ("test: a\ntimeline: []", "it_test.yaml:2: 'timeline' is empty"),
        ("timeline: [{expect: {size: null}}]", "it_test.yaml:1: 'test' is missing"),
        ("- a\n- b", "it_test.yaml:1: a test is a mapping (begin it with `test: what it shows`)"),
        (
            "test: a\nstart: 1d\ntimeline: [{expect: {size: null}}]",
            "it_test.yaml:2: start: a test starts at an instant",
        ),
        (
            "test: a\ntimelin: []\ntimeline: [{expect: {size: null}}]",
            "it_test.yaml:2: unknown key 'timelin' (did you",
        ),
        ("test: a\ntest: b", "it_test.yaml:2: the key 'test' is given twice"),
        ("test: [", "it_test.yaml:2: not valid YAML"),
    ],
)
def test_a_mistake_in_a_document_is_named_at_its_line(text: str, says: str) -> None:
    told = report(text)
    assert not told.passed
    assert not told.results
    (problem,) = told.problems
    assert str(problem).startswith(says)


def test_steps_are_in_order_after_the_last_repetition() -> None:
    told = mistakes(f"- {{at: 1h, {PRICING}, times: 3, every: 1h}}\n- {{at: 2h, {EXPECT}}}")
    assert told == ["it_test.yaml:4: steps are in order, and the timeline is already at 3h"]


def test_a_test_with_mistakes_is_not_run_and_the_others_are() -> None:
    told = report("""
        test: a
        timeline:
          - {facts: {employes: 5}, expect: {sise: small}}
        ---
        test: b
        timeline: [{facts: {employees: 5}, expect: {size: small}}]
        """)
    assert [problem.line for problem in told.problems] == [3, 3]
    assert [result.test for result in told.results] == ["b"]
    assert str(told) == "1 test in 1 file, all passed, 2 problems"
    assert not told.passed


# -- the command --------------------------------------------------------------------------------------------

GOOD = "test: small ones\ntimeline: [{facts: {employees: 5}, expect: {size: small}}]\n"
BAD = "test: large ones\ntimeline: [{facts: {employees: 5}, expect: {size: large}}]\n"
SIZES = """
facts: {employees: {type: number}}
---
dimension: size
segments:
  - {segment: large, when: {fact: employees, at_least: 200}}
  - {segment: small, otherwise: true}
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "sizes.yaml").write_text(SIZES)
    (tmp_path / "sizes_test.yaml").write_text(GOOD)
    return tmp_path


def isotherm_test(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streams.cli", "test", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, encoding="utf-8")
    assert "Traceback" not in done.stderr
    return done


def test_the_command_passes_what_is_right(library: Path) -> None:
    done = isotherm_test(library)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 test in 1 file, all passed\n", "")


def test_the_command_shows_what_failed_and_says_no(library: Path) -> None:
    path = library / "more_test.yaml"
    path.write_text(BAD)
    done = isotherm_test(library)
    assert done.returncode == 1
    assert f"{path}:2: large ones\n    expected  size large\n" in done.stdout
    assert done.stdout.endswith("\n2 tests in 2 files, 1 failed\n")
    assert isotherm_test(library, "--only", "SMALL").returncode == 0
    assert isotherm_test(library / "sizes_test.yaml").returncode == 0
    assert isotherm_test(path).returncode == 1


def test_the_command_names_mistakes_in_tests_and_in_rules(library: Path) -> None:
    (library / "sizes_test.yaml").write_text(GOOD.replace("size:", "sise:"))
    done = isotherm_test(library)
    assert done.returncode == 1
    assert f"{library}/sizes_test.yaml:2: unknown dimension 'sise' (did you mean 'size'?)" in done.stderr
    (library / "sizes.yaml").write_text(SIZES.replace("fact: employees", "fact: employes"))
    done = isotherm_test(library)
    assert done.returncode == 1
    assert "sizes.yaml:6: unknown fact 'employes'" in done.stderr


def test_the_command_tells_programs(library: Path) -> None:
    (library / "more_test.yaml").write_text(BAD)
    (library / "wrong_test.yaml").write_text("test: c")
    done = isotherm_test(library, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert (told["passed"], told["summary"]) == (False, "2 tests in 2 files, 1 failed, 1 problem")
    assert [(each["test"], each["passed"]) for each in told["tests"]] == [
        ("large ones", False),
        ("small ones", True),
    ]
    (failed,) = told["tests"][0]["failures"]
    assert (failed["line"], failed["expected"][0]) == (2, "size large")
    assert told["problems"][0]["message"] == "'timeline' is missing"


def test_a_test_file_finds_its_rules_above_it(library: Path) -> None:
    deep = library / "plays"
    deep.mkdir()
    (deep / "deep_test.yaml").write_text(GOOD)
    assert isotherm_test(deep / "deep_test.yaml").returncode == 0
    assert isotherm_test(deep, "--rules", library).returncode == 0
    assert isotherm_test(deep).returncode == 1, "the directory itself has no rules"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere",), "there is no file or directory"),
        (("sizes.yaml",), "is no test file: their names end in _test.yaml"),
        (("empty",), "there are no tests in"),
        ((".", "--only", "nonsense"), "no test's name contains 'nonsense'"),
    ],
)
def test_a_wrong_use_of_the_command_ends_with_a_sentence(
    library: Path, arguments: tuple[str, ...], says: str
) -> None:
    (library / "empty").mkdir()
    done = isotherm_test(library / arguments[0], *arguments[1:])
    assert done.returncode == 2
    assert says in done.stderr


def test_the_command_has_help_with_an_example() -> None:
    assert "Example: isotherm test rules/segments" in isotherm_test("--help").stdout
