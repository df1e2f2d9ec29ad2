"""The file with endpoints: what it may say, and every mistake at once with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rules.errors import RulesetError
from streams.delivery.endpoints import Known, parse, read
from streams.news import Filter
from streams.sinks.hubspot import HubspotSink
from streams.sinks.webhook import WebhookSink

FULL = """\
allow: [10.0.0.0/8, "fd00::/8"]
endpoints:
  - name: journeys
    to: {url: "https://hooks.example.com/isotherm", secrets: ["file:/run/secrets/old", "env:NEW_SECRET"]}
    types: [segment.moved]
    dimensions: [engagement]
    segments: [engagement/hot]
    owners: [sales]
    facts: {country: [DE, AT], employees: 250}
  - name: inside
    to:
      url_file: /run/secrets/url
      secrets: ["env:SECRET"]
      rate: {requests: 10, per: 1s}
    origins: [live, backfill]
    start: beginning
"""
KNOWN = Known({"engagement": ["hot", "warm"], "size": ["large"]}, ["country", "employees"])


def test_what_an_endpoint_says_is_what_is_delivered() -> None:
    journeys, inside = parse("webhooks.yaml", FULL, KNOWN)
    assert (journeys.name, journeys.kind, journeys.start) == ("journeys", "webhook", "now")
    assert journeys.filter == Filter(
        ("segment.moved",), ("engagement",), ("engagement/hot",), ("sales",), ("live",)
    )
    assert journeys.facts == {"country": ("DE", "AT"), "employees": (250,)}
    assert journeys.allowed.takes("10.1.1.1", encrypted=False)
    assert isinstance(inside.sink, WebhookSink)
    assert inside.sink.rate is not None
    assert (inside.filter.origins, inside.start) == (("live", "backfill"), "beginning")


def test_endpoints_of_other_kinds_stand_beside_them() -> None:
    (crm,) = parse("f", "endpoints: [{name: crm, kind: hubspot, to: {token: 'env:T', properties: {size: seg}}}]")
    assert isinstance(crm.sink, HubspotSink)


MISTAKES = """\
allow: [10.0.0.0/33]
endpoints:
  - name: Journeys
    kind: webook
    to: {url: "https://hooks.example.com/x", secrets: ["env:A"]}
  - name: two
    to: {url: "ftp://hooks.example.com", secrets: ["whsec_plain"], secret: x}
    segments: [hot]
    origins: []
    dimension: [engagement]
"""


def problems(text: str, known: Known | None = None) -> list[str]:
    with pytest.raises(RulesetError) as caught:
        parse("webhooks.yaml", text, known)
    return [str(each) for each in caught.value.problems]


def test_all_mistakes_are_told_at_once_each_at_its_line() -> None:
    told = problems(MISTAKES)
    assert [each.split(":")[1] for each in told] == ["1", "3", "4", "7", "7", "7", "8", "9", "10"]
    text = "\n".join(told)
    assert "10.0.0.0/33" in text
    assert "unknown key 'dimension' (did you mean 'dimensions'?)" in text
    assert "unknown key 'secret' (did you mean 'secrets'?)" in text
    assert "a secret is not written here: say env:NAME or file:/path" in text
    assert "whsec_plain" not in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("endpoints: [{name: a, to: {secrets: ['env:A']}}]", "one of `url` and `url_file` says where to"),
        ("endpoints: [{name: a, to: {url: 'https://x.example', secrets: []}}]", "secrets"),
        (
            "endpoints: [{name: a, to: {url: 'https://x.example', secrets: ['env:A', 'env:B', 'env:C']}}]",
            "secrets",
        ),
        (
            "endpoints: [{name: a, to: {url: 'http://x.example', secrets: ['env:A']}}]",
            "http:// is for networks that `allow:` names (write https://)",
        ),
        (
            "endpoints: [{name: a, to: {url: 'https://u:p@x.example', secrets: ['env:A']}}]",
            "no URL like https://hooks.example.com/isotherm",
        ),
        ("[]", "endpoints are described in one mapping"),
        ("endpoints: []\n---\nendpoints: []", "endpoints are described in one mapping"),
        ("allow: []", "'endpoints' is missing"),
    ],
)
def test_a_mistake_is_named(text: str, told: str) -> None:
    assert told in "\n".join(problems(text))


def test_two_of_one_name_are_refused() -> None:
    one = "{name: a, to: {url: 'https://x.example', secrets: ['env:A']}}"
    assert problems(f"endpoints:\n  - {one}\n  - {one}\n") == ["webhooks.yaml:3: two endpoints are named 'a'"]


def test_names_that_no_rule_has_are_told_with_what_was_meant() -> None:
    text = FULL.replace("[engagement]", "[engagemnt]").replace("/hot", "/hott").replace("country", "contry")
    assert problems(text, KNOWN) == [
        "webhooks.yaml:6: unknown dimension 'engagemnt' (did you mean 'engagement'?)",
        "webhooks.yaml:7: unknown segment 'engagement/hott' (did you mean 'engagement/hot'?)",
        "webhooks.yaml:9: unknown fact 'contry' (did you mean 'country'?)",
    ]


def test_no_file_has_no_endpoints_and_one_that_is_missing_is_told(tmp_path: Path) -> None:
    assert read("") == []
    with pytest.raises(RulesetError, match="cannot be read"):
        read(tmp_path / "none.yaml")


def test_the_url_is_not_shown() -> None:
    (endpoint, _) = parse("f", FULL)
    assert "hooks.example.com" not in repr(endpoint.sink)
