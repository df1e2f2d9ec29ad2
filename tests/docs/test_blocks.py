"""Every block that somebody would type is typed, into a shell beside an installation that runs."""

from __future__ import annotations

import ast
import gzip
import json
import re
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import certifi
import pytest
import yaml

from streams.embedded import free_port
from streams.show import rebuilt_tables, verdict_tables
from streams.terminal import out
from tests.docs.installation import GOES_ON, Installation
from tests.docs.pages import BLOCKS, NOT_RUN, ROOT, TESTED, TO_RUN, TRANSCRIPTS, Block, Line, lines_about
from tests.docs.test_quick_start import undated
from tests.planning.test_history import DAY, MON, ListLog, LogProblem, one, rules, visit

ENDLESS = re.compile(r"^(?:\w+=\S+ )*isotherm (worker|serve|collect)(?: --role \w+)? *(?:#.*)?$")


def block(page: str, begins: str) -> str:
    (found,) = [each.text for each in BLOCKS if (each.page, each.text[: len(begins)]) == (page, begins)]
    return found


# -- nothing is left out -------------------------------------------------------------------------------------


@pytest.mark.parametrize("each", BLOCKS, ids=str)
def test_every_block_is_run_or_it_is_said_why_not(each: Block) -> None:
    wanted = 0 if each in TO_RUN else 1
    assert len(lines_about(each)) == wanted, "it wants a line in tests/docs/pages.py, and one only"


@pytest.mark.parametrize("line", [*TESTED, *NOT_RUN], ids=str)
def test_no_line_is_about_a_block_that_is_gone(line: Line) -> None:
    assert any(line in lines_about(each) for each in BLOCKS)


@pytest.mark.parametrize("line", TESTED, ids=str)
def test_the_test_that_is_named_reads_the_page(line: Line) -> None:
    assert Path(line.page).name in (ROOT / line.why).read_text()


# -- what is typed -------------------------------------------------------------------------------------------


def with_alert_rules(installation: Installation) -> None:
    (installation.home / "alerts.yaml").write_text(block("docs/alerts.md", "channels:\n  queue"))


def with_files_to_import(installation: Installation) -> None:
    home = installation.home
    (home / "accounts.yaml").write_text(block("docs/operations.md", "kind: contact"))
    rows = (
        "E-mail,Account ID,Last modified,Job title\nann@acme.example,0015f00002JUZPDAA5,2026-03-02T09:15:00Z,CFO\n"
    )
    (home / "accounts.csv").write_text(rows)
    call = {"type": "track", "userId": "u-1", "event": "Demo Requested", "timestamp": "2026-03-02T09:15:00Z"}
    with gzip.open(home / "calls.jsonl.gz", "wt") as file:
        file.write(json.dumps(call) + "\n")


def with_a_dead_letter(installation: Installation) -> None:
    installation.does("echo '{}' | isotherm send crm.updates - --format canonical")
    installation.says("isotherm dead-letters list --source crm.updates", "crm.updates/")


def with_a_paused_source(installation: Installation) -> None:
    installation.sends_rubbish(100)
    installation.waits_for("source paused")


BEFORE: dict[tuple[str, str], Callable[[Installation], None]] = {
    ("docs/alerts.md", "source .isotherm/demo/env"): with_alert_rules,
    ("docs/operations.md", "isotherm import"): with_files_to_import,
    ("docs/operations.md", "isotherm dead-letters list --since"): with_a_dead_letter,
    ("docs/operations.md", "isotherm dead-letters list --source"): with_a_paused_source,
}
SAYS_NO = {
    ("docs/troubleshooting.md", "isotherm resume account.log/3"): "nothing is missing in account.log/3",
    ("docs/operations.md", "isotherm unmerge"): "was never merged",
}
"""What ends with 1 where all is well, and says why. tests/faults/test_log.py and tests/live/test_unmerge.py have
what it is for."""


def of(table: dict[tuple[str, str], Any], each: Block) -> Any:
    return next(
        (said for (page, begins), said in table.items() if page == each.page and each.text.startswith(begins)),
        None,
    )


ONCE = {each.text: each for each in reversed(TO_RUN) if each not in TRANSCRIPTS}  # what two pages say alike
TYPED = sorted(ONCE.values(), key=lambda each: ("isotherm resume" in each.text, TO_RUN.index(each)))


@pytest.mark.parametrize("each", TYPED, ids=str)
def test_a_block_runs(installation: Installation, each: Block) -> None:
    if before := of(BEFORE, each):
        before(installation)
    if missing := [tool for tool in ("jq", "openssl") if tool in each.text and shutil.which(tool) is None]:
        pytest.skip(f"no {missing[0]} here")
    text = as_here(installation, each.text)
    if endless := [line for line in text.splitlines() if ENDLESS.match(line)]:
        goes_on(installation, text, endless)
        return
    done = installation.runs(text)
    said, refused = done.stdout + done.stderr, of(SAYS_NO, each)
    assert (done.returncode, "Traceback" in said) == (1 if refused else 0, False), said
    assert (refused or "") in said


def goes_on(installation: Installation, text: str, endless: list[str]) -> None:
    """Each in a shell of its own, behind what stands before the first of them."""
    before = text.partition(endless[0])[0]
    assert text.splitlines()[-len(endless) :] == endless
    with ExitStack() as stack:
        for line in endless:
            command = ENDLESS.match(line)
            assert command
            stack.enter_context(installation.begins(before + line, until=GOES_ON[command[1]]))


def as_here(installation: Installation, text: str) -> str:
    """The block, with what is left open or stands for something of one's own filled in."""
    text = re.sub(r" ISOTHERM_\w+=…(?=\s)", "", text)  # the installation has them in its environment
    text = text.replace(":…", ":a-key-of-our-own").replace("/run/secrets", str(installation.home / "secrets"))
    if "0.0.4.0" in text:
        delivered = json.loads(installation.says("isotherm deliveries list --json", '"id"'))
        text = text.replace("0.0.4.0", delivered["deliveries"][0]["id"])
    if "crm.updates/3/1042" in text:
        letters = json.loads(installation.does("isotherm dead-letters list --json"))
        text = text.replace("crm.updates/3/1042", letters["letters"][0]["key"])
    return text


@pytest.mark.parametrize("begins", ["make demo", "make check"])
def test_what_make_is_asked_for_there_is(installation: Installation, begins: str) -> None:
    """They take minutes: these very tests, for one. tests/demo runs the demo."""
    asked = re.sub(r"^make ", f"make -n -C {ROOT} ", block("README.md", begins), flags=re.MULTILINE)
    assert "isotherm demo" in (said := installation.does(asked)) or "pytest" in said


# -- what goes on until it is told to end --------------------------------------------------------------------


def test_a_made_up_alert_arrives_as_the_page_shows(installation: Installation) -> None:
    port = str(free_port())
    listen, attempt = (
        block("docs/alerts.md", "isotherm alerts listen"),
        block("docs/alerts.md", "export ISOTHERM_A"),
    )
    with installation.begins(f"{listen.strip()} --port {port}", until="listening at") as listening:
        assert "it arrived" in installation.does(attempt.replace("8099", port))
        assert undated(listening.reads("Blue Harbor")) == undated(block("docs/alerts.md", "Blue Harbor (made up)"))


def test_the_api_answers_as_the_page_shows(installation: Installation) -> None:
    served, refused = block("docs/api.md", '{"data"'), block("docs/api.md", '{"type"')
    (installation.home / "tokens.yaml").unlink(missing_ok=True)
    with installation.begins(block("docs/api.md", "isotherm serve"), until="the token, which") as serving:
        token = serving.said.rpartition(" ")[2].strip()
        serving.reads(GOES_ON["serve"])
        ask = f'curl -sS -H "Authorization: Bearer {token}" http://127.0.0.1:{installation.settings.api_port}/v1/segments'
        counts = json.loads(installation.does(ask))["data"]
        assert set(json.loads(served)["data"]["engagement"]) == set(counts["engagement"])
        assert json.loads(installation.does(f"{ask}/engagement/hott/accounts")) == json.loads(refused)


def test_the_worker_answers_what_probes_ask(installation: Installation) -> None:
    port = str(free_port())
    start = block("docs/metrics.md", "export ISOTHERM_METRICS_PORT").replace("9464", port)
    probes = yaml.safe_load(block("docs/metrics.md", "startupProbe"))
    with installation.begins(start, until=GOES_ON["worker"]):
        for probe in probes.values():
            assert str(probe["httpGet"]["port"]) in block("docs/metrics.md", "export ISOTHERM_METRICS_PORT")
            path = probe["httpGet"]["path"]
            installation.does(f"until curl -sf http://127.0.0.1:{port}{path}; do :; done")
        assert "isotherm_" in installation.does(f"curl -sSf http://127.0.0.1:{port}/metrics")


def test_prometheus_is_told_where_to_look() -> None:
    told = yaml.safe_load(block("docs/metrics.md", "scrape_configs"))
    (worker, api), (rules,) = told["scrape_configs"], told["rule_files"]
    assert (ROOT / "docs" / "observability" / rules).exists()
    assert "127.0.0.1:9464" in worker["static_configs"][0]["targets"]
    assert api["static_configs"][0]["targets"] == ["127.0.0.1:8089"]
    assert set(api) == {"job_name", "authorization", "static_configs"}


# -- what is shown or kept -----------------------------------------------------------------------------------


def test_the_settings_of_an_encrypted_installation_go_together(installation: Installation) -> None:
    export, secrets = (
        block("docs/operations.md", "export ISOTHERM_KAFKA=kafka.example.com"),
        installation.home / "secrets",
    )
    for name in ("kafka", "redis"):
        (secrets / name).write_text("a password")
    export = as_here(installation, export).replace("/etc/isotherm/ca.pem", certifi.where())
    shown = installation.does(
        export, "python -c 'from streams.settings import Settings; print(Settings().kafka_security)'"
    )
    assert shown == "SASL_SSL\n"


def test_the_journey_on_the_page_is_begun_by_the_recipe() -> None:
    recipe = ast.parse((ROOT / "docs" / "recipes" / "temporal_bridge.py").read_text())
    calls = {ast.unparse(each) for each in ast.walk(recipe) if isinstance(each, ast.Await)}
    shown = ast.parse(block("docs/recipes.md", "await client"), mode="single", feature_version=(3, 11))
    assert ast.unparse(shown).replace("'journeys'", "TASK_QUEUE") in calls


def printed(tables: Any) -> str:
    with out.capture() as captured:
        for each in tables:
            out.print(each)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def test_a_log_that_was_shortened_says_so_as_on_the_page() -> None:
    records = [rules(MON), visit("a", MON), visit("a", MON + DAY), visit("b", MON + 2 * DAY)]
    log = ListLog(records, gone=3, snapshot=ListLog(records).until(3))
    with pytest.raises(LogProblem) as problem:
        one(log, "a", MON + DAY - 1)
    assert f"{problem.value}\n" == block("docs/changing-rules.md", "account.log/0 has been shortened")


def test_a_verification_that_finds_something_is_shown_so() -> None:
    told = {
        "compared": 25, "left_out": 0, "equal": False, "over": 2, "under": 2, "answers": 3, "wakes": 0, "sets": 4,
        "over_inclusion": {"engagement/hot": 1, "size/small": 1}, "under_inclusion": {"size/enterprise": 2},
        "examples": [],
    }  # fmt: skip
    assert printed(verdict_tables(told)).startswith(block("docs/operations.md", "25 accounts compared"))


def test_a_rebuild_that_changes_something_is_shown_so() -> None:
    told = {
        "segments": {"engagement/hot": {"entered": 0, "left": 1}, "size/enterprise": {"entered": 2, "left": 0}},
        "partitions": [0, 1], "accounts": 24, "seconds": 1.5, "told": 3, "still_ms": 12,
    }  # fmt: skip
    shown = printed(rebuilt_tables(told)).replace("1.5 s", "… s").replace("12 ms", "… ms")
    assert shown == block("docs/operations.md", "What differed")
