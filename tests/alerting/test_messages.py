"""What a message says: snapshots of each kind, and what may not happen to it on the way."""

from __future__ import annotations

import json
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from rules.durations import DAY, HOUR
from streams.alerting import wording
from streams.alerting.channels import Arrived, Mail
from streams.alerting.parcels import Parcel
from streams.alerting.rulebook import Rulebook
from streams.alerting.stepping import About
from streams.sinks.base import GiveUp, Retry
from tests.alerting.conftest import Postbox
from tests.alerting.slack import wrong
from tests.alerting.world import MINUTE, World, rules

SNAPSHOTS = Path(__file__).with_name("snapshots")
BERLIN = """
timezone: Europe/Berlin
links: {CRM: "https://crm.example/{salesforce}", HubSpot: "https://hub.example/{hubspot}"}
digest: {from: 2, most: 100}
rules: [{rule: hot, when: engagement/hot, escalate: {after: 4h, to: {channel: bot, to: ULEAD}}}]
"""
KNOWN = About(roles=(("executive", 1), ("technical", 2), ("", 1)), week=(9, 2))
REASONS = {
    "says": "any",
    "verdict": "true",
    "parts": [
        {"says": "3 pricing page views in 7 days (needs 3)", "verdict": "true"},
        {"says": "demo request, the last in 14 days", "verdict": "true"},
        {"says": "interest 62.5 (needs 50)", "verdict": "true"},
        {"says": "a fourth reason", "verdict": "true"},
        {"says": "no reason at all", "verdict": "false"},
    ],
}


def blue(world: World, **more: Any) -> None:
    world.heats(
        "salesforce:0015f/1",
        name="Blue & Co",
        reason={"text": "", "because": REASONS},
        action={"do": "reach out today", "content": "answer what they looked at", "sla": "4h"},
        **more,
    )


def told(kind: str) -> tuple[Parcel, Rulebook]:
    """The message of that kind that a story ends with."""
    world = World(rules(BERLIN), about=KNOWN)
    if kind == "digest":
        world.rehearsal._free["bot/CQUEUE"] = world.now + HOUR
        blue(world)
        world.heats("acme", name="Acme <b>GmbH</b>")
        world.wait(2 * HOUR)
    else:
        blue(world)
    match kind:
        case "over":
            world.cools("salesforce:0015f/1", name="Blue & Co")
        case "acknowledged":
            world.acknowledged("ann", "salesforce:0015f/1")
        case "snoozed":
            world.snoozed(3 * DAY, "salesforce:0015f/1")
        case "escalation":
            world.wait(5 * HOUR)
    return world.told[-1].parcel, world.rules


KINDS = ["alert", "digest", "over", "acknowledged", "snoozed", "escalation"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["slack.json", "txt", "html", "webhook.json"])
def test_a_message_reads_as_it_did(kind: str, form: str) -> None:
    """A change of wording is a change of these files: remove them and run the test to write them anew."""
    parcel, rules = told(kind)
    sheet = parcel.sheet(rules)
    written = {
        "slack.json": lambda: json.dumps(wording.slack(sheet), indent=1, ensure_ascii=False) + "\n",
        "txt": lambda: wording.text(sheet),
        "html": lambda: wording.html(sheet),
        "webhook.json": lambda: json.dumps(parcel.plain(rules), indent=1, ensure_ascii=False) + "\n",
    }[form]()
    snapshot = SNAPSHOTS / f"{kind}.{form}"
    if not snapshot.exists():
        snapshot.parent.mkdir(exist_ok=True)
        snapshot.write_text(written)
        pytest.fail(f"{snapshot} was not there and has been written: look at it")
    assert written == snapshot.read_text()


def test_it_says_who_why_by_whom_what_to_do_until_when_and_where_to_look() -> None:
    parcel, rules = told("alert")
    message = wording.slack(parcel.sheet(rules))
    everything = json.dumps(message, ensure_ascii=False)
    assert message["text"].startswith("Blue &amp; Co is hot (warm → hot): 3 pricing page views")
    for said in (
        "9 activities in 7 days, 2 in the 7 days before",
        "demo request, the last in 14 days",
        "interest 62.5 (needs 50)",
        "4 people in 7 days: executive, 2 technical, not in the CRM",
        "reach out today",
        "hot until Sat 7 Mar 2026, 11:00 CET",
        "<https://crm.example/0015f%2F1|CRM>",
    ):
        assert said in everything
    assert "a fourth reason" not in everything
    assert "hub.example" not in everything  # there is no such id


@pytest.mark.parametrize("kind", KINDS)
def test_slack_takes_every_kind(kind: str) -> None:
    parcel, rules = told(kind)
    assert wrong(wording.slack(parcel.sheet(rules))) == ""


def test_the_largest_digest_of_the_longest_names_keeps_to_slacks_limits() -> None:
    world = World(rules("digest: {from: 2, most: 100}"))
    world.rehearsal._free["bot/CQUEUE"] = world.now + HOUR
    for n in range(100):
        world.heats(f"account{n}", name=f"{n} " + "<&>" * 500, reason={"text": "&" * 5_000})
    world.wait(2 * HOUR)
    (digest,) = world.told
    message = wording.slack(digest.parcel.sheet(world.rules))
    assert len(digest.parcel.items) == 100
    assert wrong(message) == ""
    assert all(f"• {n} &lt;" in str(message["blocks"]) for n in range(100))


def test_a_name_calls_nobody_and_is_no_markup() -> None:
    world = World(rules())
    world.heats(name='<!channel> <a href="x">&\r\nBcc: all@example.com')
    sheet = world.told[0].parcel.sheet(world.rules)
    assert "<!channel>" not in json.dumps(wording.slack(sheet))
    assert "<a href" not in wording.html(sheet)
    assert "\n" not in sheet.title


# -- mail ------------------------------------------------------------------------------------------------------


def parsed(content: Any) -> Any:
    return message_from_bytes(content, policy=default)


def mailed(postbox: Postbox) -> Rulebook:
    server = f"{{server: 127.0.0.1, port: {postbox.port}, from: isotherm@example.com, starttls: never}}"
    base = (
        f"channels: {{mail: {{email: {server}}}}}\ntell: {{otherwise: {{channel: mail, to: sales@example.com}}}}\n"
    )
    return rules(base=base)


async def test_a_mail_arrives_as_text_and_html_and_the_next_one_follows_it(postbox: Postbox) -> None:
    world = World(mailed(postbox))
    world.heats(name="Blue & Co")
    world.wait(MINUTE)
    world.cools(name="Blue & Co")
    spec: Any = world.rules.channels["mail"].spec
    mail = Mail(spec, world.rules)
    first, over = (each.parcel for each in world.told)
    arrived = await mail.send(first)
    assert isinstance(arrived, Arrived)
    assert isinstance(await mail.send(Parcel(over.key, over.to, "face", over.items, arrived.ref, "over")), Arrived)
    one, two = (parsed(each.content) for each in postbox.mails)
    assert one["Subject"].startswith("Blue & Co is hot (warm → hot)")
    assert one["Auto-Submitted"] == "auto-generated"
    assert [part.get_content_type() for part in one.iter_parts()] == ["text/plain", "text/html"]
    assert two["In-Reply-To"] == one["Message-ID"] == arrived.ref
    assert mail.mail(first)["Message-ID"] == one["Message-ID"]  # sent twice it is the same


@pytest.mark.parametrize(("said", "outcome"), [("450 full", Retry), ("550 nobody", GiveUp)])
async def test_a_mail_server_that_refuses(postbox: Postbox, said: str, outcome: type) -> None:
    postbox.refused = said
    world = World(mailed(postbox))
    world.heats()
    spec: Any = world.rules.channels["mail"].spec
    assert isinstance(await Mail(spec, world.rules).send(world.told[0].parcel), outcome)


async def test_a_mail_server_without_tls_gets_nothing(postbox: Postbox) -> None:
    server = f"{{server: 127.0.0.1, port: {postbox.port}, from: isotherm@example.com}}"
    base = (
        f"channels: {{mail: {{email: {server}}}}}\ntell: {{otherwise: {{channel: mail, to: sales@example.com}}}}\n"
    )
    world = World(rules(base=base))
    world.heats()
    spec: Any = world.rules.channels["mail"].spec
    assert isinstance(await Mail(spec, world.rules).send(world.told[0].parcel), Retry)
    assert postbox.mails == []
