"""What a person writes in `to:`: every mistake is named at its line, and no secret is repeated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from rules.errors import Problem
from rules.yamlfile import read as read_yaml
from streams.sinks.base import SecretUnreadable
from streams.sinks.making import read
from streams.sinks.secret import held
from tests.sinks.conftest import SECRET, sink_of
from tests.sinks.events import Account


def _said(kind: str, text: str, dimensions: Sequence[str] | None = None) -> list[str]:
    (document,) = read_yaml("webhooks.yaml", text)
    made = read(document, ("endpoints", "crm", "to"), kind, document.data["endpoints"]["crm"]["to"], dimensions)
    return [str(each) for each in made] if isinstance(made, list) else []


def test_all_mistakes_are_named_at_their_lines() -> None:
    text = """endpoints:
  crm:
    to:
      token: pat-na1-0000
      properties:
        engagement:
          segmnt: heat
          reason: heat_reason
        size: 5
      rate: {requests: 0, per: soon}
      tokn: x
"""
    assert sorted(_said("hubspot", text)) == [
        "webhooks.yaml:10: per: write a duration such as 90s, 15m, 36h, 7d or 2w",
        "webhooks.yaml:10: requests: should be greater than or equal to 1",
        "webhooks.yaml:11: unknown key 'tokn' (did you mean 'token'?)",
        "webhooks.yaml:4: token: a secret is not written here: say env:NAME or file:/path",
        "webhooks.yaml:7: unknown key 'segmnt' (did you mean 'segment'?)",
        "webhooks.yaml:9: size: has keys of its own below it",
    ]


MISTAKES = [
    ("hubspot", "token: env:T", "webhooks.yaml:3: 'properties' is missing"),
    (
        "hubspot",
        "{token: env:T, properties: {a: x, b: x}}",
        "webhooks.yaml:3: two things are told in the property 'x'",
    ),
    (
        "hubspot",
        "{token: env:T, properties: {a: x}, ids: {hubspot: y}}",
        "webhooks.yaml:3: ids: companies of HubSpot are known by their own ids",
    ),
    (
        "salesforce",
        "{token: env:T, url: example.com, properties: {a: x}}",
        "webhooks.yaml:3: url: no URL like https://api.example.com/v1/batch",
    ),
    (
        "salesforce",
        "{token: env:T, url: https://a.example, properties: {a: x}, external_id: {field: a-b, system: domain}}",
        "webhooks.yaml:3: field: has a character that no such name has",
    ),
    (
        "segment",
        "{key: 'file:key', url: https://a.example}",
        "webhooks.yaml:3: key: the path of a secret begins with /",
    ),
    (
        "segment",
        "{key: env:K, url: https://user:pass@a.example}",
        "webhooks.yaml:3: url: no URL like https://api.example.com/v1/batch",
    ),
    (
        "segment",
        "{key: env:K, url: https://a.example, headers: {Authorization: x}}",
        "webhooks.yaml:3: headers: 'Authorization' is ours to say",
    ),
]


@pytest.mark.parametrize(("kind", "to", "said"), MISTAKES)
def test_a_mistake(kind: str, to: str, said: str) -> None:
    assert said in _said(kind, f"endpoints:\n  crm:\n    to: {to}\n" if "{" in to else _block(to))


def _block(to: str) -> str:
    return f"endpoints:\n  crm:\n    to:\n      {to}\n"


def test_a_dimension_has_to_be_one_of_the_rules() -> None:
    to = "{token: env:T, properties: {engagment: heat, size: x}}"
    assert _said("hubspot", f"endpoints:\n  crm:\n    to: {to}\n", ["engagement", "size"]) == [
        "webhooks.yaml:3: unknown dimension 'engagment' (did you mean 'engagement'?)"
    ]
    to = "{key: env:K, url: https://a.example, dimensions: [size, fit]}"
    assert _said("segment", f"endpoints:\n  crm:\n    to: {to}\n", ["engagement", "size"]) == [
        "webhooks.yaml:3: unknown dimension 'fit' (known: engagement, size)"
    ]


def test_a_secret_is_shown_nowhere(secret: Path) -> None:
    sink = sink_of("segment", "{url: https://a.example/v1/batch, key: 'file:<secret>'}", secret=secret)
    request = sink.request([Account("hubspot:7").moved("hot")])
    assert request.headers["Authorization"].startswith("Basic ")
    assert SECRET not in repr(sink)
    assert repr(request) == "Request(method='POST')"


def test_a_secret_written_in_the_file_is_not_repeated() -> None:
    for said in _said("hubspot", "endpoints: {crm: {to: {token: pat-na1-0000, properties: {a: x}}}}"):
        assert "pat-na1" not in said
    with pytest.raises(ValueError, match="a secret is not written here"):
        held("pat-na1-0000")


@pytest.mark.parametrize("content", [None, "", " \n", "two\nlines", "not ascii: ü"])
def test_a_secret_that_cannot_be_read_is_named_by_its_place(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SecretUnreadable) as raised:
        held(f"file:{file}").read()
    assert str(file) in str(raised.value)
    assert not content or content.strip() == "" or content not in str(raised.value)


def test_a_secret_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_TOKEN", "t")
    assert held("env:CRM_TOKEN").read() == "t"
    monkeypatch.delenv("CRM_TOKEN")
    with pytest.raises(SecretUnreadable, match="env:CRM_TOKEN holds nothing"):
        held("env:CRM_TOKEN").read()


def test_a_problem_is_one_of_a_rule_file() -> None:
    (document,) = read_yaml("webhooks.yaml", "{token: env:T}")
    (problem,) = read(document, (), "hubspot", document.data)  # type: ignore[misc]  # it is refused
    assert isinstance(problem, Problem)
