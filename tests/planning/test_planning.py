"""`isotherm plan` and `isotherm members` against a real broker and a real Redis."""

from __future__ import annotations

import asyncio
import csv
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from redis.exceptions import NoPermissionError

from rules.changes import iso
from rules.planning import Alert
from rules.records import Activity, Facts, Tick
from streams.cli import app
from streams.history import HistoryProblem, explain_at, members_at, members_now
from streams.planning import PlanProblem, Request, plan
from streams.reading import Reader
from streams.store.redis import connect
from tests.planning.conftest import Places, System
from tests.planning.world import compile_files

DOCS = Path(__file__).parents[2] / "docs"
CI, PAGE = DOCS / "ci", (DOCS / "changing-rules.md").read_text()
HOUR, DAY = 3_600_000, 86_400_000
MON = 1_772_409_600_000
ACCOUNTS = [f"salesforce:{n}" for n in range(40)]
NAMES = """
facts: {name: {type: text}, employees: {type: number}, arr: {type: number}}
activities: {visited: {}, asked: {}}
"""
ENGAGEMENT = """
dimension: engagement
owner: marketing
segments:
  - {segment: hot, when: {count: visited, at_least: 3, within: 7d}, owner: sales, action: {do: call}}
  - {segment: warm, when: {count: visited, at_least: 1, within: 7d}, keep_for: 2d}
  - {segment: cold, otherwise: true}
"""
SIZE = """
dimension: size
segments:
  - {segment: large, when: {fact: employees, at_least: 1000}}
  - {segment: small, when: {fact: employees, below: 1000}}
"""
CALL = """
dimension: call
kind: set
segments:
  - {segment: today, when: {all: [{segment: engagement/hot}, {segment: size/large}]}}
  - {segment: week, when: {segment: [engagement/hot, engagement/warm]}}
"""
OLD = {"names.yaml": NAMES, "engagement.yaml": ENGAGEMENT, "size.yaml": SIZE, "call.yaml": CALL}
EASIER = OLD | {"engagement.yaml": ENGAGEMENT.replace("at_least: 3", "at_least: 2")}
OTHER = {
    "names.yaml": NAMES,
    "engagement.yaml": ENGAGEMENT.replace("owner: sales", "for: 1h"),
    "value.yaml": """
dimension: value
segments:
  - {segment: high, when: {fact: arr, at_least: 50000}}
  - {segment: curious, when: {count: asked, at_least: 1, within: 30d}}
  - {segment: low, when: {fact: arr, below: 50000}}
""",
}


def write(directory: Path, files: dict[str, str]) -> Path:
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory


async def lives(system: System, files: dict[str, str] = OLD) -> int:
    """Companies of all sizes look around for a week; when it ends."""
    draw = random.Random(7)
    await system.deploy(files, MON)
    now = MON
    for n, account in enumerate(ACCOUNTS):
        facts: dict[str, Any] = {"name": f"Company {n}"}
        if n % 4:
            facts |= {"employees": n * 100, "arr": (40 - n) * 2_000.0}
        await system.hears(Facts(account=account, at=now, received=now, source="crm", set=facts))
    for _ in range(90):
        now += draw.choice([1, HOUR, 2 * HOUR])
        account = draw.choice(ACCOUNTS)
        await system.hears(Activity(account=account, name="visited", at=now, received=now))
    await system.hears(Tick(received=now))
    return now


def moved(before: Places, after: Places) -> Counter[tuple[str, str, str]]:
    """(dimension, from, to): of a set, one for each segment entered or left."""
    found: Counter[tuple[str, str, str]] = Counter()
    for account, now in after.items():
        was = before[account]
        for name in was.keys() | now.keys():
            left, entered = (
                set(was.get(name, ())) - {*now.get(name, ())},
                set(now.get(name, ())) - {*was.get(name, ())},
            )
            if name == "call":
                found.update((name, each, "") for each in left)
                found.update((name, "", each) for each in entered)
            elif left or entered:
                found[name, next(iter(left), ""), next(iter(entered), "")] += 1
    return found


@pytest.mark.parametrize("new", [EASIER, OTHER], ids=["a threshold", "other dimensions"])
async def test_what_is_planned_is_what_is_deployed(system: System, new: dict[str, str]) -> None:
    now = await lives(system)
    before = await system.places()
    made = await plan(system.settings, Request(compile_files(new)))
    assert await system.places() == before
    await system.deploy(new, now)
    after = await system.places()
    assert Counter(made.survey.moves) == moved(before, after)
    assert made.survey.moving == sum(before[account] != after[account] for account in after)
    sizes = Counter((name, each) for of in after.values() for name, answer in of.items() for each in answer)
    assert +made.survey.after == sizes
    again = await plan(system.settings, Request(compile_files(new)))
    assert not again.moves_anybody


async def test_the_plan_on_the_page_is_this_one(system: System, tmp_path: Path) -> None:
    await lives(system)
    shown = re.findall(r"^\$ isotherm plan rules --top 3\n(.*?)^```", PAGE, re.S | re.M)
    done = await system.runs("plan", write(tmp_path / "rules", EASIER), "--top", "3")
    assert [done.stdout] == shown, done.stderr


async def test_a_plan_is_the_same_however_many_processes_make_it(system: System) -> None:
    await lives(system)
    request = Request(compile_files(EASIER), top=5)
    alone = await plan(system.settings, request)
    spread = await plan(system.settings, Request(compile_files(EASIER), top=5, processes=3))
    assert spread.plain() == alone.plain()


async def test_the_accounts_that_matter_most_come_first_with_both_reasons(system: System) -> None:
    await lives(system)
    alert = Alert("hot", frozenset({("engagement", "hot")}), {"size": frozenset({"large"})})
    made = await plan(system.settings, Request(compile_files(EASIER), by="arr", top=3, alerts=(alert,)))
    told = made.plain()
    (first, *_) = told["top"]
    assert len(told["top"]) == 3
    assert [each.rank[0] for each in made.survey.top] == sorted(each.rank[0] for each in made.survey.top)
    engagement, call = first["moves"][0], told["volume"]
    assert (engagement["dimension"], engagement["from"], engagement["to"]) == ("engagement", "warm", "hot")
    assert engagement["because"] == "2 visited in 7 days (needs one)"
    assert engagement["will_be_because"] == "2 visited in 7 days (needs 2)"
    assert call["alerts"].get("hot", 0) == told["dimensions"]["call"]["matrix"].get("", {}).get("today", 0)
    with pytest.raises(PlanProblem, match="did you mean 'arr'"):
        await plan(system.settings, Request(compile_files(EASIER), by="ar"))


async def test_what_is_new_lacks_its_past_and_what_is_not_known_is_told(system: System) -> None:
    await lives(system)
    told = (await plan(system.settings, Request(compile_files(OTHER)))).plain()
    assert [*told["new_measures"].values()] == [["value/curious"]]
    assert told["undecided"]["value/high"]["accounts"] == 10
    assert "arr" in told["undecided"]["value/high"]["because"][0]
    assert told["undecided"]["value/curious"]["accounts"] == 40
    assert told["segments"]["empty"] == ["value/curious", "value/low"]
    assert {name: each["status"] for name, each in told["dimensions"].items()} == {
        "engagement": "edited",
        "value": "new",
        "size": "gone",
        "call": "gone",
    }


async def test_a_sample_is_the_same_for_the_same_seed_and_says_how_it_is_scaled(system: System) -> None:
    await lives(system)
    one, same, other = [
        (await plan(system.settings, Request(compile_files(EASIER), sample=10, seed=seed))).plain()
        for seed in (1, 1, 2)
    ]
    assert one == same
    assert one["sample"]["one_in"] == 4
    assert one["accounts"] == 4 * one["sample"]["looked_at"]
    assert one["top"] != other["top"]


async def test_rules_under_which_nothing_is_different_move_nobody(system: System, tmp_path: Path) -> None:
    await lives(system)
    directory = write(tmp_path / "rules", OLD | {"size.yaml": f"# as before\n{SIZE}"})
    done = await system.runs("plan", directory, "--exit-code")
    assert done.returncode == 0, done.stderr
    assert "none of 40 accounts would move" in done.stdout
    assert "nothing moves in engagement, size, call" in done.stdout


async def test_the_plan_as_a_program_prints_it(system: System, tmp_path: Path) -> None:
    await lives(system)
    directory, rows = write(tmp_path / "rules", EASIER), tmp_path / "moves.csv"
    done = await system.runs(
        "plan", directory, "--json", "--csv", rows, "--alert", "engagement/hot", "--exit-code"
    )
    assert done.returncode == 4, done.stderr
    told = json.loads(done.stdout)
    hot = told["dimensions"]["engagement"]["matrix"]["warm"]["hot"]
    assert hot > 0
    assert told["volume"]["alerts"] == {"engagement/hot": hot}
    with rows.open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == sum(each["moved"] for each in told["dimensions"].values())
    assert sum(row["dimension"] == "engagement" and row["to"] == "hot" for row in listed) == hot
    shown = await system.runs("plan", directory)
    assert shown.returncode == 0
    assert "The accounts that matter most, by arr, then employees" in shown.stdout
    markdown = (await system.runs("plan", directory, "--markdown")).stdout
    assert f"| warm | {hot} |" in markdown
    assert "\x1b" not in markdown


async def test_mistakes_in_rules_are_all_told_and_nothing_is_read(system: System, tmp_path: Path) -> None:
    directory = write(tmp_path / "rules", OLD | {"size.yaml": SIZE.replace("employees", "employes")})
    done = await system.runs("plan", directory)
    assert done.returncode == 1
    assert "size.yaml:4: unknown fact 'employes' (did you mean 'employees'?)" in done.stderr


async def test_a_cell_that_a_spreadsheet_would_compute_is_text(system: System, tmp_path: Path) -> None:
    await lives(system)
    for account in ACCOUNTS:
        name = {"name": "=HYPERLINK(A1)|@here"}
        await system.hears(
            Facts(account=account, at=MON + 9 * DAY, received=MON + 9 * DAY, source="crm", set=name)
        )
    rows = tmp_path / "moves.csv"
    made = await plan(system.settings, Request(compile_files(OTHER), csv=rows))
    assert made.moves_anybody
    with rows.open(newline="") as file:
        assert {row["name"] for row in csv.DictReader(file)} == {"'=HYPERLINK(A1)|@here"}


async def test_the_past_under_both_rulesets_as_the_program_prints_it(system: System, tmp_path: Path) -> None:
    await lives(system)
    directory = write(tmp_path / "rules", EASIER)
    done = await system.runs("plan", directory, "--since", "30d", "--json", "--exit-code")
    assert done.returncode == 4, done.stderr
    told = json.loads(done.stdout)
    hot = [told["alerts"][side]["alerts"] for side in ("from", "to")]
    assert 0 < hot[0] < hot[1]
    assert told["alerts"]["accounts"]["only_from"]["count"] == 0
    assert told["changes"]["size"]["from"] == told["changes"]["size"]["to"] == 40
    shown = await system.runs("plan", directory, "--since", "30d", "--alert", "call/today", "--markdown")
    assert "**Alerts of call/today; an outcome (meeting, opportunity, won) within 15 days**" in shown.stdout
    wrong = await system.runs("plan", directory, "--since", "a month")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "write a duration such as" in wrong.stderr


# -- history --------------------------------------------------------------------------------------------------


async def test_members_of_the_past_are_those_that_there_were(system: System, tmp_path: Path) -> None:
    now = await lives(system)
    then = await system.places()
    hot = sorted(account for account, of in then.items() if of.get("engagement") == ("hot",))
    assert hot
    assert [each.account for each in (await members_now("engagement", "hot", system.settings)).members] == hot
    await system.deploy(OTHER, now + DAY)
    await system.hears(Tick(received=now + 9 * DAY))
    found = await members_at("engagement", "hot", now, system.settings)
    assert [each.account for each in found.members] == hot
    assert (await members_now("engagement", "hot", system.settings)).members == []
    done = await system.runs("members", "engagement/hot", "--at", iso(now), "--json")
    assert [each["account"] for each in json.loads(done.stdout)["members"]] == hot
    gone = await members_at("size", "large", now, system.settings)
    assert [each.account for each in gone.members] == sorted(
        a for a, of in then.items() if of.get("size") == ("large",)
    )
    with pytest.raises(HistoryProblem, match=r"at 2026-03-1\S+: there is no dimension size"):
        await members_at("size", "large", now + 9 * DAY, system.settings)


async def test_an_account_is_explained_as_it_was(system: System) -> None:
    now = await lives(system)
    account = next(a for a, of in (await system.places()).items() if of.get("engagement") == ("hot",))
    told = await explain_at(account, now, system.settings)
    assert told is not None
    assert told["dimensions"]["engagement"]["segment"] == "hot"
    assert told["as_of"] == iso(now)
    before = await explain_at(account, MON, system.settings)
    assert before is not None
    assert before["dimensions"]["engagement"]["segment"] == "cold"
    assert await explain_at(account, MON - 1, system.settings) is None
    assert await explain_at("salesforce:nobody", now, system.settings) is None


async def test_the_future_is_not_history(system: System) -> None:
    await lives(system)
    seconds, _ = await system.redis.time()
    with pytest.raises(HistoryProblem, match="still to come"):
        await explain_at(ACCOUNTS[0], (seconds + 3_600) * 1000, system.settings)


# -- what is read -----------------------------------------------------------------------------------------------


async def test_slices_follow_a_partition_that_switches_while_it_is_read(system: System) -> None:
    now = await lives(system)
    reader, found = Reader(system.redis, system.settings), []
    for number in range(2):
        async for each in reader.slices(number):
            found += list(each.accounts)
            assert each.ruleset.hash == each.partition.ruleset
    assert sorted(set(found)) == sorted(ACCOUNTS)
    await asyncio.gather(system.deploy(EASIER, now))
    async for each in reader.slices(0):
        assert each.ruleset.hash == compile_files(EASIER).hash


# -- who may plan -------------------------------------------------------------------------------------------------


async def test_who_may_only_read_may_plan(system: System, redis_url: str) -> None:
    """The user of docs/changing-rules.md: nothing that a plan asks of Redis writes."""
    await lives(system)
    rights = re.findall(r"^ACL SETUSER planner (.*)$", PAGE, re.M)[0].split()
    await system.redis.execute_command("ACL", "SETUSER", "planner", *rights)
    try:
        scheme, _, rest = redis_url.partition("://")
        planner = system.settings.model_copy(
            update={"redis": f"{scheme}://planner@{rest}", "redis_password": SecretStr("a-password-of-its-own")}
        )
        made = await plan(planner, Request(compile_files(EASIER)))
        assert made.moves_anybody
        async with connect(planner) as client:
            with pytest.raises(NoPermissionError):
                await client.set(f"{planner.namespace}:x", "1")
    finally:
        await system.redis.execute_command("ACL", "DELUSER", "planner")


def test_what_the_examples_for_ci_run_there_is() -> None:
    commands = [
        line
        for path in CI.iterdir()
        for line in re.findall(r"(?:entry|run): (isotherm .*)$", path.read_text(), re.M)
    ]
    assert len(commands) == 5
    for each in commands:
        app.parse_args(each.partition(" > ")[0].split()[1:], exit_on_error=False, print_error=False)
    for path in CI.iterdir():
        assert yaml.safe_load(path.read_text())
