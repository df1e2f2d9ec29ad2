"""Dead letters as whoever is on duty meets them: seen, understood, sent in again, and forgotten."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from rules.changes import iso
from streams import topics
from streams.letters import Letter, forget, letter_lines, open_letters, pretty, replay, safe, with_siblings
from streams.settings import Settings
from streams.topics import CRM_UPDATES, DEAD_LETTERS, WEB_ACTIVITY
from tests.live.conftest import TIMEOUT_S, environment, isotherm

HOUR = 3_600_000
# The topic keeps letters for 14 days: those of a fixed day a broker would delete while a test runs.
MORNING = (int(time.time() * 1000) // HOUR - 24) * HOUR
LATER = iso(MORNING + HOUR)
CALL = b'{"type":"track","userId":"u-1","event":"Demo"}'


@pytest.fixture
def settings(kafka: str, topic_prefix: str) -> Settings:
    embedded = not os.environ.get("ISOTHERM_TEST_KAFKA")
    return Settings(
        kafka=kafka,
        partitions=2,
        topic_prefix=topic_prefix,
        idempotence=not embedded,
        fetch_max_wait_ms=5 if embedded else 20,
    )


@dataclass
class Desk:
    """The topic of dead letters, and whoever puts something on it."""

    settings: Settings
    producer: Any

    async def receives(
        self,
        place: str,
        reason: str = "bad_time",
        value: bytes = CALL,
        *,
        at: int = MORNING,
        key: str | None = None,
        stage: str = "router",
        own: tuple[tuple[str, bytes], ...] = (),
    ) -> str:
        """A letter as router and fold write it; gives its key."""
        told = {"stage": stage, "reason": reason, "detail": f"about {reason}", "source": place}
        headers = [*((name, text.encode()) for name, text in told.items()), *own]
        key = place if key is None else key
        await self.producer.send_and_wait(
            self.settings.topics(DEAD_LETTERS), value, key=key.encode(), headers=headers, timestamp_ms=at
        )
        return key

    async def open(self) -> list[Letter]:
        return await open_letters(self.settings)

    async def keys(self) -> list[str]:
        return [each.key for each in await self.open()]

    async def arrived(self, role: str, partition: int, count: int) -> list[Any]:
        """The first `count` messages of a partition."""
        async with AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka, auto_offset_reset="earliest"
        ) as consumer:
            consumer.assign([TopicPartition(self.settings.topics(role), partition)])
            return [await consumer.getone() for _ in range(count)]


@pytest.fixture
async def desk(settings: Settings) -> AsyncIterator[Desk]:
    await topics.create(settings)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, max_request_size=9_000_000) as producer:
        yield Desk(settings, producer)


# -- looking -------------------------------------------------------------------------------------------------


async def test_a_desk_without_letters_is_empty(desk: Desk) -> None:
    done = isotherm(desk.settings, "dead-letters", "list")
    assert (done.returncode, done.stdout) == (0, "0 open\n")


async def test_open_letters_are_listed_newest_last_with_their_reasons(desk: Desk) -> None:
    await desk.receives("web.activity/1/7", "broken_json", b"{", at=MORNING + HOUR)
    await desk.receives("crm.updates/3/1042", at=MORNING)
    await desk.receives("crm.updates/0/5", at=MORNING + 2 * HOUR)
    told = json.loads(isotherm(desk.settings, "dead-letters", "list", "--json").stdout)
    assert [each["key"] for each in told["letters"]] == [
        "crm.updates/3/1042",
        "web.activity/1/7",
        "crm.updates/0/5",
    ]
    assert told["reasons"] == {"bad_time": 2, "broken_json": 1}
    assert told["letters"][1] == {
        "key": "web.activity/1/7", "stage": "router", "reason": "broken_json", "detail": "about broken_json",
        "source": "web.activity/1/7", "when": LATER, "size": 1,
    }  # fmt: skip
    lines = isotherm(desk.settings, "dead-letters", "list", "--limit", "1").stdout.splitlines()
    assert lines[1].split() == [
        "crm.updates/0/5",
        iso(MORNING + 2 * HOUR),
        "bad_time",
        "46",
        "about",
        "bad_time",
    ]
    assert lines[-1] == "3 open, the newest 1 shown"


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--reason", "bad_time"), 2),
        (("--source", "web.activity"), 1),
        (("--since", LATER), 2),
        (("--since", LATER, "--reason", "bad_time"), 1),
    ],
)
async def test_others_are_left_out(desk: Desk, options: tuple[str, ...], count: int) -> None:
    await desk.receives("web.activity/1/7", "broken_json", at=MORNING + HOUR)
    await desk.receives("crm.updates/3/1042", at=MORNING)
    await desk.receives("crm.updates/0/5", at=MORNING + 2 * HOUR)
    assert json.loads(isotherm(desk.settings, "dead-letters", "list", "--json", *options).stdout)["open"] == count


async def test_a_letter_without_a_key_goes_by_its_own_position(desk: Desk) -> None:
    await desk.receives("crm.updates/3/1042", key="")
    (letter,) = await desk.open()
    assert letter.key == f"dead.letters/{letter.partition}/0"
    assert await replay(desk.settings, [letter]) == 1
    (again,) = await desk.arrived(CRM_UPDATES, 3, 1)
    assert dict(again.headers)["replay-of"] == b"crm.updates/3/1042"
    assert await desk.open() == []


async def test_a_letter_is_shown_with_headers_and_indented_json(desk: Desk) -> None:
    key = await desk.receives("web.activity/1/7", own=(("format", b"segment"), ("source", b"the sender's own")))
    shown = isotherm(desk.settings, "dead-letters", "show", key).stdout
    assert "source: web.activity/1/7\n" in shown
    assert "header format: segment\nheader source: the sender's own\n" in shown
    assert '{\n  "type": "track",\n' in shown
    told = json.loads(isotherm(desk.settings, "dead-letters", "show", key, "--json").stdout)
    assert told["headers"] == {"format": "segment", "source": "the sender's own"}
    assert told["value"] == CALL.decode()


async def test_nothing_in_a_letter_moves_the_cursor(desk: Desk) -> None:
    value = b"\x1b[2J\x07\xff\xe2\x80\xae{\r\n}"
    key = await desk.receives("web.activity/1/7", value=value, own=(("x", b"\x1b]0;title\x07"),))
    shown = isotherm(desk.settings, "dead-letters", "show", key).stdout
    assert r"\x1b[2J\x07\xff\u202e{\r" in shown
    listed = isotherm(desk.settings, "dead-letters", "list").stdout
    assert all(each.isprintable() or each == "\n" for each in shown + listed)


async def test_raw_bytes_go_to_a_file_and_never_to_a_terminal(desk: Desk) -> None:
    key = await desk.receives("web.activity/1/7", value=b"\x1b[2J\xff\r\n")
    command = [sys.executable, "-m", "streams.cli", "dead-letters", "show", key, "--raw"]
    run = {"env": environment(desk.settings), "timeout": TIMEOUT_S, "stderr": subprocess.PIPE}
    assert subprocess.run(command, check=False, stdout=subprocess.PIPE, **run).stdout == b"\x1b[2J\xff\r\n"
    ours, theirs = pty.openpty()
    try:
        refused = subprocess.run(command, check=False, stdout=theirs, **run)
    finally:
        os.close(ours)
        os.close(theirs)
    assert refused.returncode == 2
    assert b"send them to a file" in refused.stderr


@pytest.mark.parametrize(
    "value", [b"[" * 100_000, b"{", b"", b"\xff\xfe", b'"\\ud800"', b"1e999", b'{"a":1,"a":2}']
)
def test_any_value_can_be_shown(value: bytes) -> None:
    assert all(each.isprintable() or each == "\n" for each in pretty(value))


def test_json_is_shown_as_it_was_sent() -> None:
    assert pretty(b'{"a":1.0,"a":12345678901234567890123}') == '{\n  "a": 1.0,\n  "a": 12345678901234567890123\n}'
    assert safe("tab\there", keep="") == r"tab\there"


def test_a_letter_of_a_message_without_headers_has_none_of_its_own() -> None:
    letter = Letter("crm.updates/0/1", 0, 0, MORNING, 0, (("reason", b"null_value"),))
    assert list(letter_lines(letter, b""))[-2:] == ["value, 0 bytes:", ""]


# -- sending in again ----------------------------------------------------------------------------------------


async def test_a_replayed_message_is_what_it_was_and_its_letter_is_settled(desk: Desk) -> None:
    key = await desk.receives("web.activity/3/1042", own=(("format", b"segment"), ("reason", b"the sender's own")))
    kept = await desk.receives("crm.updates/0/5", "missing_key")
    done = isotherm(desk.settings, "dead-letters", "replay", key)
    assert (done.returncode, done.stdout) == (0, "1 dead letter replayed\n")
    (again,) = await desk.arrived(WEB_ACTIVITY, 3, 1)
    assert again.value == CALL
    assert list(again.headers) == [
        ("format", b"segment"), ("reason", b"the sender's own"), ("replay-of", b"web.activity/3/1042"),
    ]  # fmt: skip
    assert await desk.keys() == [kept]
    assert isotherm(desk.settings, "dead-letters", "show", key).returncode == 1


async def test_a_reason_chooses_what_is_replayed_and_a_dry_run_only_counts(desk: Desk) -> None:
    for offset in range(3):
        await desk.receives(f"web.activity/0/{offset}", "unknown_format", b"%d" % offset)
    await desk.receives("web.activity/0/3", "broken_json")
    choice = ("dead-letters", "replay", "--reason", "unknown_format")
    assert isotherm(desk.settings, *choice, "--dry-run").stdout == "3 dead letters would be replayed\n"
    assert len(await desk.open()) == 4
    assert json.loads(isotherm(desk.settings, *choice, "--json").stdout)["replayed"] == 3
    assert {each.value for each in await desk.arrived(WEB_ACTIVITY, 0, 3)} == {b"0", b"1", b"2"}
    assert await desk.keys() == ["web.activity/0/3"]


async def test_a_message_with_two_refused_parts_is_sent_in_once(desk: Desk) -> None:
    await desk.receives("crm.updates/1/9")
    part = await desk.receives("crm.updates/1/9", "bad_value", key="crm.updates/1/9#1")
    assert isotherm(desk.settings, "dead-letters", "replay", part).stdout == "2 dead letters replayed\n"
    await desk.producer.send_and_wait(desk.settings.topics(CRM_UPDATES), b"next", partition=1)
    first, second = await desk.arrived(CRM_UPDATES, 1, 2)
    assert (first.value, second.value) == (CALL, b"next")
    assert dict(first.headers)["replay-of"] == b"crm.updates/1/9"
    assert await desk.open() == []


async def test_a_crash_before_the_letter_is_settled_sends_the_message_again_under_one_name(desk: Desk) -> None:
    await desk.receives("crm.updates/1/9")

    def crash(step: str) -> None:
        if step == "produced":
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await replay(desk.settings, await desk.open(), crash)
    assert await desk.keys() == ["crm.updates/1/9"]
    assert await replay(desk.settings, await desk.open()) == 1
    both = await desk.arrived(CRM_UPDATES, 1, 2)
    assert {dict(each.headers)["replay-of"] for each in both} == {b"crm.updates/1/9"}
    assert await desk.open() == []


async def test_what_is_refused_again_keeps_its_first_name(desk: Desk) -> None:
    await desk.receives("crm.updates/1/12", own=(("replay-of", b"crm.updates/1/9"),))
    await replay(desk.settings, await desk.open())
    (again,) = await desk.arrived(CRM_UPDATES, 1, 1)
    assert again.headers == (("replay-of", b"crm.updates/1/9"),)


async def test_hundreds_of_letters_and_large_ones_are_all_replayed(desk: Desk) -> None:
    waiting = [
        await desk.producer.send(
            desk.settings.topics(DEAD_LETTERS), b"%d" % n, key=b"crm.updates/2/%d" % n,
            headers=[("source", b"crm.updates/2/%d" % n)],
        )
        for n in range(1_200)
    ]  # fmt: skip
    for each in waiting:
        await each
    await desk.receives("crm.updates/2/5000", "too_large", b"x" * 6_000_000)
    assert isotherm(desk.settings, "dead-letters", "replay", "--all").stdout == "1,201 dead letters replayed\n"
    assert len({each.value for each in await desk.arrived(CRM_UPDATES, 2, 1_201)}) == 1_201
    assert await desk.open() == []


async def test_what_stood_in_the_log_itself_is_told_and_left(desk: Desk) -> None:
    stuck = await desk.receives("account.log/1/99", "not_a_record", stage="fold")
    odd = await desk.receives("nowhere/0/1")
    await desk.receives("crm.updates/1/9")
    done = isotherm(desk.settings, "dead-letters", "replay", "--all")
    assert (done.returncode, done.stdout) == (1, "1 dead letter replayed\n")
    assert "account.log/1/99 is not replayed: it stood in account.log, where only the router writes" in done.stderr
    assert "nowhere/0/1 is not replayed: it came from nowhere, which is no source" in done.stderr
    assert sorted(await desk.keys()) == [stuck, odd]


async def test_a_wrong_choice_replays_nothing(desk: Desk) -> None:
    key = await desk.receives("crm.updates/1/9")
    done = isotherm(desk.settings, "dead-letters", "replay")
    assert (done.returncode, "--all" in done.stderr) == (2, True)
    done = isotherm(desk.settings, "dead-letters", "replay", key, "crm.updates/1/10")
    assert (done.returncode, "no open dead letter crm.updates/1/10" in done.stderr) == (1, True)
    assert isotherm(desk.settings, "dead-letters", "list", "--since", "monday").returncode == 2
    assert await desk.keys() == [key]


def test_siblings_are_the_letters_of_the_same_message() -> None:
    one, two, other = (
        Letter(key, 0, n, MORNING, 1, (("source", key.partition("#")[0].encode()),))
        for n, key in enumerate(["crm.updates/1/9", "crm.updates/1/9#1", "crm.updates/1/10"])
    )
    assert with_siblings([two], [one, two, other]) == [one, two]


# -- forgetting ----------------------------------------------------------------------------------------------


async def test_a_person_is_forgotten_in_every_letter_and_nobody_else(desk: Desk) -> None:
    await desk.receives("crm.updates/1/9", value=b'{"email": "anna@acme.example"}')
    await desk.receives("web.activity/1/9", value=b'{"userId": "u-77"')
    await desk.receives("web.activity/1/10", own=(("who", b"anna@acme.example"),))
    kept = await desk.receives("crm.updates/1/10", value=b'{"email": "bert@acme.example"}')
    assert await forget(desk.settings, [b"anna@acme.example", b"u-77", b""]) == 3
    assert await desk.keys() == [kept]
    assert await forget(desk.settings, [b"anna@acme.example", b"u-77"]) == 0
    assert await forget(desk.settings, [b""]) == await forget(desk.settings, []) == 0


# -- a broker that is not ready ------------------------------------------------------------------------------


async def test_a_missing_topic_is_told_and_not_made(settings: Settings) -> None:
    done = isotherm(settings, "dead-letters", "list")
    assert done.returncode == 1
    assert "create the topics with `isotherm topics`" in done.stderr
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        assert settings.topics(DEAD_LETTERS) not in await admin.list_topics()
    finally:
        await admin.close()


@pytest.mark.parametrize("command", ["list", "show", "replay"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "streams.cli", "dead-letters", command, "--help"], capture_output=True, check=False
    )
    assert b"Example" in told.stdout


def test_an_absent_broker_is_said_in_a_sentence() -> None:
    done = isotherm(Settings(kafka="127.0.0.1:1"), "dead-letters", "list")
    assert done.returncode == 3
    assert "cannot reach Kafka" in done.stderr
    assert "Traceback" not in done.stderr
