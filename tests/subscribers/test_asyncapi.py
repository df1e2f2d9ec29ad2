"""The AsyncAPI document: written by the model, read by the official parser, its examples real."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rules.schema.contract import schemas
from streams import contract, topics
from streams.commands.contract import contract as command
from tests.subscribers import runtimes

PARSER = Path(__file__).parent / "asyncapi"
WITHIN_S = 120
ERROR = 0
# There is a 3.1; what reads it reads 3.0 too, and not the other way round.
KNOWN = "asyncapi-latest-version"


def parsed(document: Any) -> Any:
    """What the official parser has to say of the document."""
    node = runtimes.node(PARSER)
    done = subprocess.run(
        [node, "check.mjs"],
        cwd=PARSER,
        input=json.dumps(document),
        capture_output=True,
        text=True,
        check=True,
        timeout=WITHIN_S,
    )
    return json.loads(done.stdout)


def test_the_official_parser_has_nothing_to_say_against_it() -> None:
    found = parsed(json.loads(contract.ASYNCAPI.read_text(encoding="utf-8")))
    assert [each for each in found["said"] if each["code"] != KNOWN] == []
    assert {each["address"]: set(each["messages"]) for each in found["channels"]} == {
        topics.CHANGES: schemas().keys() - {"memberships"},
        topics.MEMBERSHIPS: {"memberships", "tombstone"},
    }


def _no_such_channel(document: Any) -> None:
    document["operations"]["publishChanges"]["channel"]["$ref"] = "#/channels/chnages"


def _no_such_action(document: Any) -> None:
    document["operations"]["publishChanges"]["action"] = "tell"


def _no_such_shape(document: Any) -> None:
    del document["components"]["schemas"]["Position"]


@pytest.mark.parametrize("damage", [_no_such_channel, _no_such_action, _no_such_shape])
def test_the_official_parser_speaks_up_against_a_damaged_one(damage: Any) -> None:
    document = contract.asyncapi()
    damage(document)
    assert ERROR in {each["severity"] for each in parsed(document)["said"]}


@pytest.mark.parametrize("message", [*schemas(), "tombstone"])
def test_the_examples_are_as_the_document_says(message: str) -> None:
    document = contract.asyncapi()
    described = document["components"]["messages"][message]
    validator = Draft202012Validator(described["payload"] | {"components": document["components"]})
    assert described["examples"]
    for example in described["examples"]:
        validator.validate(example["payload"])
        assert ("headers" in example) == ("headers" in described)
        if "headers" in example:
            Draft202012Validator(described["headers"] | {"additionalProperties": False}).validate(
                example["headers"]
            )


def test_each_topic_is_described_as_it_is_made() -> None:
    for channel in contract.asyncapi()["channels"].values():
        described = channel["bindings"]["kafka"].get("topicConfiguration", {})
        made = topics.CONFIGS[channel["address"]]
        assert {name: ",".join(value) for name, value in described.items()} == made


def test_the_command_prints_what_is_kept_in_docs(capsys: pytest.CaptureFixture[str]) -> None:
    command()
    assert capsys.readouterr().out == contract.ASYNCAPI.read_text(encoding="utf-8")
    command(schema="segment.left")
    kept = contract.SCHEMAS / contract.contract.VERSION / "segment.left.json"
    assert capsys.readouterr().out == kept.read_text(encoding="utf-8")


def test_a_message_that_there_is_not_is_told_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(schema="segment.moved.json")
    assert stopped.value.code == 2
    assert "segment.moved, segment.entered" in capsys.readouterr().err
