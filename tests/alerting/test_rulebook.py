"""Alert rules are read as a whole: every mistake at once, with its place and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from rules.errors import RulesetError
from streams.alerting.rulebook import parse, read
from tests.alerting.world import BOT, rules

SEGMENTS = {"engagement": ["hot", "warm"], "fit": ["tier_1", "tier_2"]}


def test_all_mistakes_of_the_shape_are_told_with_their_lines() -> None:
    text = """channels:
  bot: {slack: {token: xoxb-1234-secret}}
  two: {slack: {}, email: {server: a, from: b}}
tell: {otherwise: {channel: bot}}
rules:
  - {rule: hot, whn: engagement/hot}
  - {rule: cold, when: engagement, cool_down: 3}
quiet_hours: {from: 18:00, until: 8}
"""
    with pytest.raises(RulesetError) as told:
        parse("alerts.yaml", text)
    said = str(told.value)
    for each in (
        "alerts.yaml:2: token: a secret is not written here: say env:NAME or file:/path",
        "alerts.yaml:3: from: 'b' is no e-mail address",
        "alerts.yaml:6: unknown key 'whn' (did you mean 'when'?)",
        "alerts.yaml:7: write a dimension and a segment, such as engagement/hot",
        "alerts.yaml:7: cool_down: write a duration",
        "alerts.yaml:8: until: write a time of day such as 18:00",
    ):
        assert each in said
    assert "xoxb" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [{rule: hot, when: engagement/hto}]", "unknown segment 'hto' (did you mean 'hot'?)"),
        (
            "rules: [{rule: hot, when: engagment/hot}]",
            "unknown dimension 'engagment' (did you mean 'engagement'?)",
        ),
        ("rules: [{rule: hot, when: engagement/hot, only_if: {fit: tier_9}}]", "unknown segment 'tier_9'"),
        ("rules: [{rule: a, when: engagement/hot}, {rule: a, when: engagement/hot}]", "rule 'a' is defined twice"),
        (
            "rules: [{rule: a, when: engagement/hot, to: {channel: bt}}]",
            "unknown channel 'bt' (did you mean 'bot'?)",
        ),
        (
            "rules: [{rule: a, when: engagement/hot, to: {channel: bot}}]",
            "'to' is missing (channel 'bot' wants a Slack",
        ),
        ('links: {CRM: "ftp://{a.b}"}', "is no template (write {id}"),
        ('links: {CRM: "ftp://{id}"}', "is no URL (begin it with https://)"),
        ('quiet_hours: {from: "08:00", until: "08:00"}', "nobody would ever be told"),
        ("timezone: Berlin", "'Berlin' is no time zone"),
    ],
)
def test_what_does_not_go_together_is_told(text: str, said: str) -> None:
    base = BOT + (text if "rules:" in text else f"rules: [{{rule: hot, when: engagement/hot}}]\n{text}")
    with pytest.raises(RulesetError) as told:
        parse("alerts.yaml", base, SEGMENTS)
    assert said in str(told.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(RulesetError, match="it cannot be read"):
        read(tmp_path / "none.yaml")


def test_a_link_is_made_of_the_ids_that_there_are_and_of_nothing_else() -> None:
    book = rules(
        'links: {A: "https://a.example/{salesforce}", B: "https://b.example/{hubspot}/{id}", C: "https://c/"}'
    )
    assert dict(book.links_of(["salesforce:00/1?x", "hubspot:7"])) == {
        "A": "https://a.example/00%2F1%3Fx",
        "B": "https://b.example/7/00%2F1%3Fx",
        "C": "https://c/",
    }
    assert list(dict(book.links_of(["group:acme"]))) == ["C"]
