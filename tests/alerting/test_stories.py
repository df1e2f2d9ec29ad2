"""What sales hears, when, and never twice: stories on virtual time, and the table behind them."""

from __future__ import annotations

import pytest

from rules.changes import iso
from streams.alerting.rehearsal import Rehearsal
from streams.alerting.state import Phase, pack, unpack
from streams.alerting.stepping import NEXT, About, Happening, Why
from tests.alerting.world import BOT, DAY, HOUR, MINUTE, SECOND, World, moved, restated, rules

ONCE = ["alert CQUEUE: acme"]


def test_an_account_that_turns_hot_is_told_once_and_cooling_edits_the_message() -> None:
    world = World(rules())
    world.heats()
    assert (world.said, world.phase) == (ONCE, "sent")
    world.wait(2 * DAY)
    world.cools()
    assert (world.said, world.phase) == ([*ONCE, "over CQUEUE: acme"], "over")
    assert world.told[1].parcel.edits == world.told[0].parcel.key


def test_flapping_is_one_alert() -> None:
    """Hot, warm, hot, warm, hot within the cool-down: one message, edited to and fro."""
    world = World(rules())
    for _ in range(3):
        world.heats()
        world.wait(MINUTE)
        world.cools()
        world.wait(MINUTE)
    world.heats()
    assert [each for each in world.said if each.startswith("alert")] == ONCE
    assert (world.phase, world.alert().shown) == ("reopened", "hot")
    assert world.rehearsal.untold == {("hot", Why.COOL_DOWN): 3}


def test_after_the_cool_down_it_is_news_again() -> None:
    world = World(rules())
    world.heats()
    world.cools()
    world.wait(DAY)
    world.heats()
    assert [each for each in world.said if each.startswith("alert")] == ONCE * 2
    assert len({each.parcel.key for each in world.told}) == len(world.told)


@pytest.mark.parametrize("origin", ["rebuild", "import", "backfill"])
def test_a_restatement_announces_nothing_and_corrects_what_was_said(origin: str) -> None:
    world = World(rules())
    world.see(restated("other", "hot", world.now, 1, origin=origin))
    assert world.said == []
    world.heats()
    world.see(restated("acme", "hot", world.now, 0, epoch=1, origin=origin))
    assert world.said == ONCE
    world.see(restated("acme", "warm", world.now, 1, epoch=1, origin=origin))
    assert world.said == [*ONCE, "over CQUEUE: acme"]


def test_everything_read_once_more_tells_nothing_once_more() -> None:
    """The group's offsets are lost and Kafka gives all changes again, the old ones after the new."""
    world = World(rules())
    changes = [world.heats(), world.cools(), world.heats()]
    said = list(world.said)
    for change in changes * 2:
        world.see(change)
    assert (world.said, world.phase) == (said, "reopened")


def test_a_first_state_that_is_hot_is_announced_and_the_old_is_no_news() -> None:
    world = World(rules())
    world.see(restated("acme", "hot", world.now, 1))
    world.see(moved("late", "warm", "hot", world.now - DAY - 1, 2))
    assert world.said == ONCE
    assert world.rehearsal.untold == {("hot", Why.OLD): 1}


def test_a_change_of_another_dimension_or_of_another_segment_is_none_of_ours() -> None:
    world = World(rules())
    world.see(moved("acme", "cold", "warm", world.now, 1))
    world.see(moved("acme", "smb", "enterprise", world.now, 2, dimension="size"))
    assert (world.said, world.rehearsal.states) == ([], {})


# -- who -------------------------------------------------------------------------------------------------------

WHO = """
channels:
  bot: {slack: {token: "env:SLACK_TOKEN"}}
tell:
  owners:
    0055f01: {channel: bot, to: UANN, timezone: Europe/Berlin}
  territories: {fact: sales_region, are: {dach: {channel: bot, to: CDACH}}}
  otherwise: {channel: bot, to: CQUEUE}
"""


@pytest.mark.parametrize(
    ("facts", "to"),
    [
        ({"owner": "0055f01", "sales_region": "dach"}, "UANN"),
        ({"owner": "0055f99", "sales_region": "DACH"}, "CDACH"),
        ({"owner": "0055f99"}, "CQUEUE"),
        ({}, "CQUEUE"),
    ],
)
def test_the_owner_is_told_else_the_territory_else_the_queue(facts: dict[str, str], to: str) -> None:
    world = World(rules(base=WHO), about=About(facts))
    world.heats()
    assert world.said == [f"alert {to}: acme"]


@pytest.mark.parametrize(
    ("held", "told"),
    [({"fit": frozenset({"tier_2"})}, True), ({"fit": frozenset({"tier_3"})}, False), ({}, False)],
)
def test_only_accounts_that_fit_are_announced_and_unknown_is_not_fit(
    held: dict[str, frozenset[str]], told: bool
) -> None:
    gated = "rules: [{rule: hot, when: engagement/hot, only_if: {fit: [tier_1, tier_2]}}]"
    world = World(rules(gated), about=About(memberships=held))
    world.heats()
    assert world.said == (ONCE if told else [])
    assert world.rehearsal.untold == ({} if told else {("hot", Why.GATE): 1})


# -- people ----------------------------------------------------------------------------------------------------

ESCALATING = "rules: [{rule: hot, when: engagement/hot, escalate: {after: 4h, to: {channel: bot, to: ULEAD}}}]"


def test_nobody_acknowledges_and_the_lead_is_told_once() -> None:
    world = World(rules(ESCALATING))
    world.heats()
    world.wait(3 * HOUR)
    assert world.said == ONCE
    world.wait(3 * DAY)
    assert world.said == [*ONCE, "escalation ULEAD: acme"]


@pytest.mark.parametrize("what", ["acknowledged", "cools", "snoozed"])
def test_what_somebody_saw_to_or_what_is_over_does_not_escalate(what: str) -> None:
    world = World(rules(ESCALATING))
    world.heats()
    if what == "snoozed":
        world.snoozed(DAY)
    else:
        getattr(world, what)()
    world.wait(12 * HOUR)
    assert not [each for each in world.said if each.startswith("escalation")]


def test_an_acknowledgement_shows_in_the_message() -> None:
    world = World(rules())
    world.heats()
    world.acknowledged("ann")
    assert (world.said, world.phase) == ([*ONCE, "acknowledged CQUEUE: acme"], "acknowledged")
    assert "acknowledged by ann" in world.told[1].parcel.sheet(world.rules).title


def test_a_snooze_ends_with_an_announcement_if_the_account_is_hot_then() -> None:
    world = World(rules())
    world.heats()
    world.snoozed(3 * DAY)
    world.cools()
    world.heats()
    assert world.phase == "snoozed"
    world.wait(3 * DAY)
    assert [each for each in world.said if each.startswith("alert")] == ONCE * 2
    assert world.phase == "sent"


def test_a_snooze_ends_silently_if_the_account_has_cooled() -> None:
    world = World(rules())
    world.heats()
    world.snoozed(3 * DAY)
    world.cools()
    world.wait(4 * DAY)
    assert [each for each in world.said if each.startswith("alert")] == ONCE
    assert world.phase == "over"


# -- quiet hours -----------------------------------------------------------------------------------------------

QUIET = """
timezone: Europe/Berlin
quiet_hours: {from: "18:00", until: "08:00", days_off: [sat, sun]}
"""


def test_the_night_is_told_in_the_morning_together() -> None:
    world = World(rules(QUIET))
    world.at("2026-03-04T17:30:00Z")  # 18:30 in Berlin
    for account in ("a", "b", "c"):
        world.heats(account)
    world.cools("b")
    assert world.said == []
    world.at("2026-03-05T06:59:00Z")
    assert world.said == []
    world.wait(2 * MINUTE)
    assert world.said == ["digest CQUEUE: a, c"]
    assert iso(world.told[0].at) == "2026-03-05T07:00:00.000Z"


@pytest.mark.parametrize(
    ("hot", "told"),
    [
        ("2026-03-06T18:00:00Z", "2026-03-09T07:00:00.000Z"),  # Friday night: Monday, winter time
        ("2026-03-27T18:00:00Z", "2026-03-30T06:00:00.000Z"),  # and across the last Sunday in March: summer time
        ("2026-10-23T18:00:00Z", "2026-10-26T07:00:00.000Z"),  # and back
    ],
)
def test_the_morning_is_that_of_who_is_told_whatever_the_clocks_do(hot: str, told: str) -> None:
    world = World(rules(QUIET))
    world.at(hot)
    world.heats()
    world.wait(4 * DAY)
    assert [iso(each.at) for each in world.told] == [told]


def test_a_rule_may_be_told_at_night() -> None:
    world = World(rules(QUIET + "rules: [{rule: hot, when: engagement/hot, at_night: true}]"))
    world.at("2026-03-04T22:00:00Z")
    world.heats()
    assert world.said == ONCE


# -- bursts ----------------------------------------------------------------------------------------------------


def test_ten_thousand_at_once_are_digests_of_a_bounded_size_and_none_is_lost() -> None:
    world = World(rules("digest: {from: 4, most: 100}\nlimits: {messages: 1000, per: 1h}"))
    accounts = [f"account{n}" for n in range(10_000)]
    rehearsal: Rehearsal = world.rehearsal
    for n, account in enumerate(accounts):
        world.told += rehearsal.change(moved(account, "warm", "hot", world.now, n), world.now)
    world.wait(10 * MINUTE)
    sizes = [len(each.parcel.items) for each in world.told]
    told = [item.account for each in world.told for item in each.parcel.items]
    assert sorted(told) == sorted(accounts)
    assert max(sizes) == 100
    assert len(sizes) <= 102
    gaps = [b.at - a.at for a, b in zip(world.told, world.told[1:], strict=False)]
    assert min(gaps) >= SECOND


def test_above_the_limit_all_wait_and_are_told_together() -> None:
    world = World(rules("limits: {messages: 3, per: 1h}"))
    for account in "abcdef":
        world.heats(account)
        world.wait(MINUTE)
    assert world.said == [f"alert CQUEUE: {account}" for account in "abc"]
    world.wait(HOUR)
    assert world.said[3:] == ["digest CQUEUE: d, e, f"]


# -- keeping ---------------------------------------------------------------------------------------------------


def test_what_is_over_is_forgotten_after_a_month_and_a_deleted_account_at_once() -> None:
    world = World(rules())
    world.heats()
    world.cools()
    world.wait(29 * DAY)
    assert "acme" in world.rehearsal.states
    world.wait(2 * DAY)
    assert world.rehearsal.states == {}
    world.heats("gone")
    world.see(restated("gone", None, world.now, 99, deleted=True))
    world.wait(MINUTE)
    assert world.said[-1] == "over CQUEUE: gone"
    assert world.rehearsal.states == {}


def test_a_state_is_read_back_as_it_was() -> None:
    world = World(rules(ESCALATING), about=About(roles=(("executive", 1),), week=(9, 2), ids=("hubspot:7",)))
    world.heats()
    world.wait(5 * HOUR)
    state = world.rehearsal.states["acme"]
    assert unpack(pack(state)) == state


def test_every_line_of_the_table_leads_somewhere_else_or_renews() -> None:
    assert {phase for phase, _ in NEXT} == set(Phase)
    assert set(NEXT.values()) == set(Phase)
    assert {happening for _, happening in NEXT} == set(Happening)
    assert [each for each, after in NEXT.items() if each[0] is after] == [(Phase.SNOOZED, Happening.SNOOZED)]


def test_two_rules_tell_two_people_of_one_change() -> None:
    ops = "{rule: ops, when: [engagement/hot, engagement/warm], to: {channel: bot, to: COPS}}"
    two = f"rules: [{{rule: hot, when: engagement/hot}}, {ops}]"
    world = World(rules(two, BOT))
    world.heats()
    world.cools()
    assert [each for each in world.said if "COPS" in each] == ["alert COPS: acme"]
    assert [each for each in world.said if "CQUEUE" in each] == [*ONCE, "over CQUEUE: acme"]
