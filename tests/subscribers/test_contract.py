"""What is published is what the contract says: by its schemas, by its model and by CloudEvents."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft202012Validator, ValidationError
from msgspec import UNSET

from rules import contract
from rules.changes import cloud_event, iso
from rules.compiler import load
from rules.replay import Replay
from rules.schema.contract import MEMBERSHIPS, schemas
from rules.work import Cause, Kind
from streams import contract_examples, offline
from streams.topics import CHANGES
from streams.topics import MEMBERSHIPS as MEMBERSHIPS_TOPIC
from tests.subscribers.history import history

ROOT = Path(__file__).parents[2]
VALIDATORS = {name: Draft202012Validator(schema) for name, schema in schemas().items()}


@cache
def events() -> tuple[bytes, ...]:
    """Real ones of every sort: of the shipped rules, of the examples, of two restatements."""
    with (ROOT / "docs" / "example.jsonl").open("rb") as lines:
        records = [each for each in offline.read(lines) if not isinstance(each, offline.Line)]
    shipped = offline.replay(
        records, load(ROOT / "rules" / "segments"), records[-1].received + 40 * 24 * 3600 * 1000
    )
    told = [each.value for each in history(0).told if each.topic == CHANGES]
    examples = [each.value for each in contract_examples.published(CHANGES)]
    return tuple(each for each in (*shipped, *examples, *told) if each is not None)


def memberships() -> list[bytes]:
    told = [each.value for each in history(0).told if each.topic != CHANGES]
    return [
        each
        for each in (*told, *(each.value for each in contract_examples.published(MEMBERSHIPS_TOPIC)))
        if each is not None
    ]


def test_there_is_an_event_of_every_sort() -> None:
    said = [json.loads(each) for each in events()]
    assert {each["type"] for each in said} == {*map(str, Kind)} == contract.DATA.keys()
    for sort in ("provisional", "deleted", "merged_into"):
        assert any(sort in each["data"] for each in said)
    assert {each["data"]["cause"] for each in said} == {*map(str, Cause)} - {"merge", "override", "backfill"}
    assert {each["data"]["origin"] for each in said} == {"live", "rebuild"}


def test_every_event_is_as_its_schema_says() -> None:
    for value in events():
        event = json.loads(value)
        VALIDATORS[event["type"]].validate(event)


def test_every_message_of_memberships_is_as_its_schema_says() -> None:
    assert memberships()
    for value in memberships():
        VALIDATORS[MEMBERSHIPS].validate(json.loads(value))


@pytest.mark.parametrize("name", contract.DATA)
def test_an_event_that_lacks_something_promised_is_not(name: str) -> None:
    whole = next(event for value in events() if (event := json.loads(value))["type"] == name)
    optional = {"provisional", "deleted", "merged_into"}
    for part in (whole, whole["data"], whole["data"]["position"]):
        for key in part.keys() - optional:
            value = part.pop(key)
            with pytest.raises(ValidationError):
                VALIDATORS[name].validate(whole)
            part[key] = value
    with pytest.raises(ValidationError):
        VALIDATORS[name].validate(whole | {"type": "segment.crossed"})


def test_what_is_read_is_what_was_written() -> None:
    for value in events():
        assert msgspec.json.encode(contract.read(value)) == value
    for value in memberships():
        assert msgspec.json.encode(contract.read_memberships(value)) == value


def test_what_a_later_version_adds_is_let_pass() -> None:
    event = json.loads(events()[1])
    more = {**event, "traceparent": "00-1-1-00", "data": {**event["data"], "mood": "good"}}
    VALIDATORS[event["type"]].validate(more)
    assert contract.read(json.dumps(more).encode()) == contract.read(events()[1])


def test_the_order_of_positions_is_that_in_which_changes_were_told() -> None:
    told = [contract.read(each.value) for each in history(0).told if each.topic == CHANGES and each.value]
    orders = [each.data.position.order for each in told]
    assert orders == sorted(orders)
    assert len({each.id for each in told}) == len(told)


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_is_one_that_the_contract_knows(cause: Cause) -> None:
    ruleset = contract_examples.ruleset()
    replay = Replay(ruleset)
    out = next(replay.feed(contract_examples.records()[0]))
    change = msgspec.structs.replace(out.change, cause=cause)
    told = cloud_event(0, ruleset, msgspec.structs.replace(out, change=change))
    assert contract.read(told).data.cause == cause


def test_every_event_is_a_cloudevent_for_its_own_library() -> None:
    header = {"content-type": b"application/cloudevents+json"}
    for value in events():
        said = json.loads(value)
        event = from_structured_event(KafkaMessage(header, said["subject"].encode(), value), JSONFormat())
        assert event.get_specversion() == "1.0"
        assert (event.get_id(), event.get_type(), event.get_source()) == (said["id"], said["type"], said["source"])
        assert event.get_subject() == said["data"]["account"] == event.get_extension("partitionkey")
        assert iso(int(event.get_time().timestamp() * 1000)) == said["time"]
        assert event.get_data() == said["data"]


# -- what docs/subscribing.md says ----------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "subscribing.md").read_text(encoding="utf-8")


def _words() -> set[str]:
    fields = {
        field.encode_name for data in set(contract.DATA.values()) for field in msgspec.structs.fields(data)
    } - {"account", "name"}
    return fields | contract.DATA.keys() | {*get_args(get_args(contract.Origin)[0])} | {"epoch", "offset", "n"}


@pytest.mark.parametrize("word", sorted(_words()))
def test_every_word_of_the_contract_is_on_the_page(word: str) -> None:
    assert re.search(rf"`{re.escape(word)}(: true)?`", PAGE)


def _changes() -> list[Any]:
    return [contract.read(each.value) for each in history(0).told if each.topic == CHANGES and each.value]


def test_the_first_message_of_an_account_is_a_state() -> None:
    first: dict[str, str] = {}
    for event in _changes():
        first.setdefault(event.subject, event.type)
    assert {*first.values()} == {contract.STATE}


def test_a_dimension_that_the_rules_no_longer_have_moves_to_null() -> None:
    told = [each.data for each in _changes() if each.data.cause == "rules" and each.type == contract.MOVED]
    assert [(each.before, each.after) for each in told if each.dimension == "triggers"] == [
        ("demo_requested", None)
    ]


def test_an_account_that_is_gone_says_so_on_both_topics() -> None:
    gone = [
        each.subject
        for each in _changes()
        if each.type == contract.STATE and (each.data.deleted is True or each.data.merged_into is not UNSET)
    ]
    assert gone
    assert gone == [each.key for each in history(0).told if each.topic == MEMBERSHIPS_TOPIC and each.value is None]


def test_memberships_say_what_a_state_of_their_position_would() -> None:
    told = [contract.read_memberships(value) for value in memberships()]
    states = {(each.subject, each.data.position): each.data for each in _changes() if each.type == contract.STATE}
    same = [(each, state) for each in told if (state := states.get((each.account, each.position)))]
    assert same
    for each, state in same:
        assert each.memberships == {name: one.answer for name, one in state.memberships.items()}
