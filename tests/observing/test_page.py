"""The page, the dashboard and the alert rules say what is so: every name in them is one of the table."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams import metrics
from streams.cli import app
from streams.fold import StoppedBy
from streams.metrics import BY_NAME, TABLE, Names, Sample, families
from streams.observing.readiness import STANDS_S
from streams.observing.serving import TRIED
from streams.observing.signing import EVERY_S, SILENT_MS
from streams.observing.standing import AGAIN_S, OLD_MS
from streams.observing.standing_shown import LISTED
from streams.observing.worker import ASKED_WITHIN_S
from streams.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "metrics.md").read_text()
ALERTS = DOCS / "observability" / "isotherm-alerts.yml"
RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((DOCS / "observability" / "isotherm-dashboard.json").read_text())


def test_the_page_has_the_table_as_it_is() -> None:
    assert metrics.markdown() in PAGE


def test_the_table_is_in_order() -> None:
    assert len(BY_NAME) == len(TABLE)
    for each in TABLE:
        assert re.fullmatch(r"isotherm_[a-z_]+", each.name)
        assert each.name.endswith("_total") == (each.kind == "counter")
        assert each.name.endswith("_seconds") == each.unit.startswith("s")
        assert each.means
        assert "|" not in each.means


def test_what_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(KeyError):
        list(families([Sample("isotherm_nonsense", (), 1)]))
    with pytest.raises(ValueError):
        list(families([Sample("isotherm_lag_records", ("1", "2"), 1)]))


def test_names_of_messages_cannot_fill_the_labels() -> None:
    names = Names()
    told = [names.of(f"source-{n}") for n in range(1_000)]
    assert len(set(told)) == metrics.NAMES_AT_MOST + 1
    assert [names.of("source-3"), names.of("source-999"), names.of("new")] == ["source-3", "other", "other"]


def test_every_reason_for_which_a_partition_stops_is_on_the_page() -> None:
    assert [each for each in StoppedBy if f"`{each}`" not in BY_NAME["isotherm_partition_stopped"].means] == []


@pytest.mark.parametrize(
    "said",
    [
        f"more than {LISTED} partitions",
        f"signs for its partitions every {EVERY_S:.0f} seconds",
        f"not signed for {SILENT_MS // 1000} seconds",
        f"first port that is free of {TRIED}",
        f"at most {ASKED_WITHIN_S:.0f} seconds",
        f"has stood for {STANDS_S:.0f} seconds",
        f"up to {metrics.NAMES_AT_MOST} names",
    ],
)
def test_the_numbers_are_those_of_the_code(said: str) -> None:
    assert said in PAGE


def test_what_has_waited_for_a_minute_is_looked_at_two_seconds_apart() -> None:
    assert (OLD_MS, AGAIN_S) == (60_000, 2.0)
    assert "waited for more than a minute is looked at twice, two seconds apart" in PAGE


# -- expressions ---------------------------------------------------------------------------------------------

FUNCTIONS = {
    *("sum", "max", "min", "count", "absent", "rate", "increase", "deriv", "abs", "vector", "time"),
    *("histogram_quantile", "label_values"),
}
WORDS = {"by", "and", "or", "bool", "e"}
TOKEN = re.compile(r"\s*([A-Za-z_:][\w:]*|\d+(?:\.\d+)?[smhd]?|\"[^\"]*\"|[!=<>]=|=~|[-+*/<>=(){}\[\],])")
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}


def expressions() -> Iterator[tuple[str, str]]:
    yield from ((each["alert"], each["expr"]) for each in RULES)
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


EXPRESSIONS = list(expressions())


def tokens(expression: str) -> list[str]:
    """Raises AssertionError for what is no token."""
    text, at, found = expression.replace("$__rate_interval", "5m").replace("$job", "isotherm").strip(), 0, []
    while at < len(text):
        match = TOKEN.match(text, at)
        assert match, f"{text[at : at + 20]!r} in {text}"
        found.append(match[1])
        at = match.end()
    return found


def named(expression: str) -> tuple[set[str], set[str]]:
    """The metrics of an expression, and its labels."""
    found, used, labels, opened = tokens(expression), set[str](), set[str](), list[str]()
    for i, each in enumerate(found):
        if each in "({[":
            is_list = each == "(" and found[i - 1] == "by"
            opened.append("labels" if is_list or each == "{" else each)
        elif each in ")}]":
            opened.pop()
        elif re.match(r"[A-Za-z_]", each) and each not in FUNCTIONS | WORDS:
            (labels if opened and opened[-1] == "labels" else used).add(each)
    assert not opened, f"a bracket is left open in {expression}"
    return used, labels


def base(name: str) -> str:
    trimmed = re.sub(r"_(bucket|count|sum)$", "", name)
    return trimmed if trimmed in BY_NAME and BY_NAME[trimmed].kind == "histogram" else name


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
def test_every_metric_and_label_of_an_expression_exists(where: str, expression: str) -> None:
    used, labels = named(expression)
    ours = {base(name) for name in used} - PROCESS
    assert ours <= BY_NAME.keys()
    assert ours or used
    known = {label for name in ours for label in BY_NAME[name].labels} | {"le", "instance", "job"}
    assert labels - known == set()
    for name in used & BY_NAME.keys():
        assert BY_NAME[name].kind != "histogram", f"{name} has no value of its own: _bucket, _count or _sum"
        if BY_NAME[name].kind == "counter":
            assert re.search(rf"(rate|increase)\({name}(\{{[^}}]*\}})?\[", expression), "a counter without a rate"


def test_a_check_that_finds_nothing_is_none() -> None:
    assert named('sum by (partition) (rate(isotherm_nonsense{a="b"}[5m]))') == (
        {"isotherm_nonsense"},
        {"partition", "a"},
    )
    with pytest.raises(AssertionError):
        named("sum(rate(isotherm_lag_records[5m])")
    with pytest.raises(AssertionError):
        tokens("sum(isotherm_lag_records) ; drop")


def test_everything_can_be_seen_on_the_dashboard() -> None:
    shown = {base(name) for _, expression in EXPRESSIONS for name in named(expression)[0]}
    assert {each.name for each in TABLE} - shown == set()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")
def test_promtool_accepts_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", str(ALERTS)], check=True)


# -- the files -----------------------------------------------------------------------------------------------


def test_every_alert_says_what_happened_and_what_to_do() -> None:
    for each in RULES:
        assert each.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert each["labels"]["severity"] in ("page", "ticket")
        assert each["annotations"].keys() == {"summary", "description"}
        _, labels = named(each["expr"])
        told = set(re.findall(r"\$labels\.(\w+)", str(each["annotations"])))
        assert told <= labels | {"instance"}


def test_every_alert_is_on_the_page() -> None:
    table = PAGE.partition("## Alert rules")[2]
    assert re.findall(r"^\| `(\w+)` \| (\w+) \|", table, re.MULTILINE) == [
        (each["alert"], each["labels"]["severity"]) for each in RULES
    ]


def test_panels_have_a_place_and_a_name_each() -> None:
    panels = DASHBOARD["panels"]
    assert len({each["id"] for each in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for each in panels:
        place = each["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, each["title"]
        taken |= cells
        assert each["title"]
        assert each["type"] == "row" or all(each["targets"])


TEXTS = [PAGE, ALERTS.read_text()]


def test_every_command_is_one() -> None:
    commands = {name for each in app for name in [each] if not each.startswith("-")}
    asked = {word for text in TEXTS for word in re.findall(r"\bisotherm ([a-z][a-z-]+)\b(?=[ `\n:.])", text)}
    assert {"status", "worker", "verify"} <= asked
    assert asked - commands - {"for"} == set()


def test_every_variable_is_a_setting() -> None:
    asked = {name for text in TEXTS for name in re.findall(r"ISOTHERM_([A-Z_]+)", text)}
    assert {name.lower() for name in asked} <= Settings.model_fields.keys()
    assert {"METRICS_PORT", "METRICS_HOST", "LOG", "TRACES"} <= asked


@pytest.mark.parametrize("block", re.findall(r"^```(yaml|json)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
def test_blocks_are_well_formed(block: tuple[str, str]) -> None:
    kind, text = block
    assert json.loads(text) if kind == "json" else yaml.safe_load(text)
