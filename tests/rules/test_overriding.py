"""Somebody says where an account stands: it counts until its end, and the rules go on underneath."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from story import ACME, DAY, FRI, HOUR, MON, MS, SAT, SUN, THU, TUE, WED, Account, entered, given, left

from rules.changes import cloud_event
from rules.explain import explanation
from rules.records import Activity, EndOverride, Merge, Override, Record, decode_record, encode_record
from rules.state import pack, standing_in, unpack
from rules.work import Cause, Kind

WEEK = 7 * DAY
ENGAGEMENT = """
dimension: engagement
segments:
  - {segment: hot, when: {count: visit, at_least: 3, within: 7d}, owner: sales}
  - {segment: warm, when: {count: visit, at_least: 1, within: 7d}}
  - {segment: cold, otherwise: true}
"""
SIGNS = """
dimension: signs
kind: set
segments:
  - {segment: visits, when: {seen: visit, within: 7d}}
  - {segment: demo, when: {seen: demo, within: 2d}}
  - {segment: big, when: {fact: employees, at_least: 500}}
"""
PLAY = """
dimension: play
segments:
  - {segment: call, when: {segment: engagement/hot}}
  - {segment: wait, otherwise: true}
"""
HELD = """
dimension: engagement
segments:
  - {segment: hot, when: {count: visit, at_least: 2, within: 1d}, stay: {count: visit, at_least: 1, within: 7d}}
  - {segment: cold, otherwise: true}
"""


def moves(account: Account, dimension: str) -> list[tuple[str, str, int, str]]:
    """From, to, when and why."""
    return [("".join(each.before), "".join(each.after), each.at, each.cause) for each in account.moves(dimension)]


# -- a ladder -----------------------------------------------------------------------------------------------


def test_what_somebody_says_counts_from_then_on_until_its_end() -> None:
    account = given(ENGAGEMENT).sees("visit", at=MON).is_said_to_be("engagement/hot", until=THU, at=TUE)
    assert account.segment("engagement") == "hot"
    assert account.stays_until("engagement") == account.wakes_at == THU
    account.until(THU - MS)
    assert moves(account, "engagement") == [("warm", "hot", TUE, "override")]
    account.until(THU)
    assert moves(account, "engagement")[1:] == [("hot", "warm", THU, "override")]
    assert account.state.overrides == {}
    assert account.stays_until("engagement") == MON + WEEK


def test_it_outlasts_what_the_account_does_and_the_end_of_windows() -> None:
    account = given(ENGAGEMENT).sees("visit", at=MON).is_said_to_be("engagement/cold", until=SUN + WEEK, at=TUE)
    account.sees("visit", at=[TUE + HOUR, WED, THU]).until(SUN + WEEK - MS)
    assert moves(account, "engagement") == [("warm", "cold", TUE, "override")]
    account.sees("visit", at=SUN + WEEK - MS).until(SUN + WEEK)
    assert moves(account, "engagement")[1:] == [("cold", "warm", SUN + WEEK, "override")]


def test_ended_while_the_rules_say_the_same_it_goes_without_a_word() -> None:
    account = given(ENGAGEMENT).sees("visit", at=MON).is_said_to_be("engagement/hot", until=THU, at=TUE)
    account.sees("visit", at=[TUE, WED]).until(FRI)
    assert moves(account, "engagement") == [("warm", "hot", TUE, "override")]
    assert standing_in(account.state, "engagement").since == TUE
    assert moves(account.until(MON + WEEK), "engagement")[1:] == [("hot", "warm", MON + WEEK, "time")]


def test_who_is_said_to_be_where_they_are_is_held_there() -> None:
    account = given(ENGAGEMENT).sees("visit", at=MON).is_said_to_be("engagement/warm", until=SUN + WEEK, at=TUE)
    assert account.changes == []
    assert account.until(SUN + WEEK - MS).changes == []
    assert moves(account.until(SUN + WEEK), "engagement") == [("warm", "cold", SUN + WEEK, "override")]


def test_the_last_word_counts() -> None:
    account = given(ENGAGEMENT).sees("visit", at=MON).is_said_to_be("engagement/hot", until=SAT, at=TUE)
    account.is_said_to_be("engagement/cold", until=FRI, at=WED).until(SAT)
    assert moves(account, "engagement") == [
        *(("warm", "hot", TUE, "override"), ("hot", "cold", WED, "override"), ("cold", "warm", FRI, "override"))
    ]


def test_it_can_be_taken_back() -> None:
    account = given(ENGAGEMENT).sees("visit", at=MON).is_said_to_be("engagement/hot", until=SUN, at=TUE)
    account.is_left_to_the_rules("engagement", at=WED)
    assert moves(account, "engagement")[1:] == [("hot", "warm", WED, "override")]
    assert account.wakes_at == MON + WEEK
    assert account.is_left_to_the_rules("engagement", at=THU).until(SUN).changes[2:] == []


def test_said_twice_it_is_said_once() -> None:
    once = given(ENGAGEMENT).sees("visit", at=MON).is_said_to_be("engagement/hot", until=SUN, at=TUE)
    twice = given(ENGAGEMENT).sees("visit", at=MON).is_said_to_be("engagement/hot", until=SUN, at=TUE)
    twice.is_said_to_be("engagement/hot", until=SUN, at=TUE)
    assert twice.changes == once.changes
    assert twice.state.overrides == once.state.overrides


def test_what_holds_an_account_by_the_rules_does_not_know_of_it() -> None:
    """`stay` would hold an account that had been put there."""
    account = given(HELD).sees("visit", at=MON).is_said_to_be("engagement/hot", until=WED, at=TUE).until(WED)
    assert moves(account, "engagement") == [("cold", "hot", TUE, "override"), ("hot", "cold", WED, "override")]
    held = given(HELD).sees("visit", at=[MON, MON]).is_said_to_be("engagement/cold", until=FRI, at=TUE).until(SAT)
    assert moves(held, "engagement")[1:] == [("hot", "cold", TUE, "override"), ("cold", "hot", FRI, "override")]


def test_a_wait_goes_on_underneath() -> None:
    rules = """
    dimension: engagement
    segments:
      - {segment: hot, when: {seen: visit, within: 7d}, for: 3d}
      - {segment: cold, otherwise: true}
    """
    account = given(rules).sees("visit", at=MON).is_said_to_be("engagement/cold", until=SAT, at=TUE).until(SAT)
    assert moves(account, "engagement") == [("cold", "hot", SAT, "override")]


def test_other_dimensions_see_what_counts() -> None:
    account = given(ENGAGEMENT, PLAY).sees("visit", at=MON).is_said_to_be("engagement/hot", until=THU, at=TUE)
    account.until(FRI)
    assert moves(account, "play") == [("wait", "call", TUE, "override"), ("call", "wait", THU, "time")]


# -- a set --------------------------------------------------------------------------------------------------


def test_an_account_is_put_into_one_segment_of_a_set() -> None:
    account = given(SIGNS).sees("visit", at=MON).is_said_to_be("signs/big", until=THU, at=TUE).until(FRI)
    assert account.changes == [
        entered("signs", "big", ("visits", "big"), TUE, "override"),
        left("signs", "big", ("visits",), THU, "override"),
    ]


def test_an_account_is_kept_out_of_one_segment_of_a_set() -> None:
    account = given(SIGNS).sees("visit", at=MON).is_said_to_be("signs/visits", until=THU, at=TUE, out=True)
    account.sees("visit", at=WED).sees("demo", at=WED)
    assert account.segments("signs") == ("demo",)
    account.until(THU)
    assert account.changes == [
        left("signs", "visits", (), TUE, "override"),
        entered("signs", "demo", ("demo",), WED),
        entered("signs", "visits", ("visits", "demo"), THU, "override"),
    ]


def test_each_segment_of_a_set_has_an_override_of_its_own() -> None:
    account = given(SIGNS).sees("visit", at=MON).is_said_to_be("signs/visits", until=SAT, at=TUE, out=True)
    account.is_said_to_be("signs/big", until=THU, at=TUE).is_said_to_be("signs/demo", until=FRI, at=TUE)
    assert account.segments("signs") == ("demo", "big")
    assert account.until(THU).segments("signs") == ("demo",)
    assert account.is_left_to_the_rules("signs/visits").segments("signs") == ("visits", "demo")
    assert account.is_left_to_the_rules("signs").segments("signs") == ("visits",)
    assert account.state.overrides == {}


# -- what it says -------------------------------------------------------------------------------------------


def test_the_change_says_who_and_why_and_what_the_rules_say() -> None:
    account = given(ENGAGEMENT).sees("visit", at=MON).is_said_to_be("engagement/hot", until=THU, at=TUE)
    event = msgspec.json.decode(cloud_event(0, account.replay.rules.ruleset, account.outgoing[-1]))["data"]
    assert (event["cause"], event["origin"], event["owner"]) == ("override", "live", "sales")
    assert event["stays_until"] == "2026-03-05T00:00:00.000Z"
    reason = event["reason"]
    assert reason["text"] == "override by ann: we know them"
    assert reason["override"] == {
        **{"by": "ann", "why": "we know them", "at": "2026-03-03T00:00:00.000Z"},
        "until": "2026-03-05T00:00:00.000Z",
    }
    assert (reason["rules"]["segment"], reason["rules"]["because"]["verdict"]) == ("warm", "true")


def test_explain_shows_it() -> None:
    account = given(ENGAGEMENT, SIGNS).sees("visit", at=MON).is_said_to_be("engagement/hot", until=THU, at=TUE)
    account.is_said_to_be("signs/visits", until=FRI, why="a crawler", by="", at=TUE, out=True)
    told = explanation(ACME, account.state, account.replay.rules.ruleset, account.now)["dimensions"]
    (engagement,), (signs,) = told["engagement"]["overrides"], told["signs"]["overrides"]
    assert engagement == {
        **{"segment": "hot", "is": "in", "by": "ann", "why": "we know them"},
        **{"since": "2026-03-03T00:00:00.000Z", "until": "2026-03-05T00:00:00.000Z"},
    }
    assert (told["engagement"]["segment"], told["engagement"]["rules_say"]) == ("hot", "warm")
    assert (signs["is"], signs["why"], told["signs"]["rules_say"]) == ("out", "a crawler", ["visits"])
    assert told["signs"]["segment"] == []


def test_what_ends_it_tells_why_the_rules_have_the_account_there() -> None:
    account = given(ENGAGEMENT).sees("visit", at=MON).is_said_to_be("engagement/hot", until=THU, at=TUE).until(THU)
    assert account.told[-1].reason["because"]["verdict"] == "true"
    assert "override" not in account.told[-1].reason


# -- through everything -------------------------------------------------------------------------------------


def test_it_survives_other_rules() -> None:
    account = given(ENGAGEMENT).sees("visit", at=MON).is_said_to_be("engagement/cold", until=SAT, at=TUE)
    account.gets_rules(ENGAGEMENT.replace("at_least: 3", "at_least: 1"), at=WED)
    assert moves(account, "engagement")[1:] == []
    assert moves(account.until(SAT), "engagement")[1:] == [("cold", "hot", SAT, "override")]


@pytest.mark.parametrize(
    "rules",
    [
        ENGAGEMENT.replace("- {segment: hot,", "- {segment: boiling,"),
        ENGAGEMENT.replace("engagement", "warmth"),
    ],
    ids=["without the segment", "without the dimension"],
)
def test_rules_that_do_not_have_the_segment_end_it(rules: str) -> None:
    account = given(ENGAGEMENT).sees("visit", at=MON).is_said_to_be("engagement/hot", until=SAT, at=TUE)
    account.gets_rules(rules, at=WED)
    assert {(each.at, each.cause) for each in account.changes[1:]} == {(WED, "rules")}
    assert account.changes[1].before == ("hot",)
    account.gets_rules(ENGAGEMENT, at=THU)
    assert account.segment("engagement") == "warm"
    assert account.state.overrides == {}


def test_where_a_set_becomes_a_ladder_only_what_fits_goes_on() -> None:
    account = given(SIGNS).sees("visit", at=MON).is_said_to_be("signs/visits", until=SAT, at=TUE, out=True)
    account.is_said_to_be("signs/demo", until=SAT, at=TUE).is_said_to_be("signs/big", until=SAT, at=TUE)
    account.gets_rules(SIGNS.replace("kind: set", "on_unknown: skip"), at=WED)
    assert account.segment("signs") == "big"
    assert account.until(SAT).segment("signs") == "visits"


def test_of_what_the_rules_do_not_have_nothing_can_be_said() -> None:
    account = given(ENGAGEMENT, SIGNS).sees("visit", at=MON)
    for place, out in (("engagement/boiling", False), ("warmth/hot", False), ("engagement/hot", True)):
        account.is_said_to_be(place, until=SAT, at=TUE, out=out)
    account.is_left_to_the_rules("warmth", at=TUE)
    assert account.changes == []
    assert account.state.overrides == {}


def test_of_an_account_that_nobody_has_heard_of_nothing_can_be_said() -> None:
    account = given(ENGAGEMENT).is_said_to_be("engagement/hot", until=SAT, at=TUE)
    account.is_left_to_the_rules("engagement", at=TUE)
    assert ACME not in account.replay.states


def test_it_outlives_a_deletion() -> None:
    account = given(ENGAGEMENT).sees("visit", at=MON).is_said_to_be("engagement/hot", until=SUN, at=TUE)
    account.is_deleted(at=WED).until(THU)
    assert account.segment("engagement") == ""
    last = account.is_restored(at=FRI).told[-1]
    assert (last.kind, last.memberships["engagement"].answer) == (Kind.STATE, ("hot",))
    assert moves(account.until(SUN), "engagement")[-1] == ("hot", "warm", SUN, "override")


def test_said_or_taken_back_of_a_deleted_account_it_counts_when_it_comes_back() -> None:
    account = given(ENGAGEMENT, SIGNS).sees("visit", at=MON).is_said_to_be("engagement/hot", until=SUN, at=TUE)
    account.is_deleted(at=WED).is_said_to_be("signs/big", until=SUN).is_left_to_the_rules("engagement", at=THU)
    account.is_restored(at=FRI)
    assert (account.segment("engagement"), account.segments("signs")) == ("warm", ("visits", "big"))


def test_one_that_ended_before_the_account_came_back_counts_no_more() -> None:
    account = given(ENGAGEMENT).sees("visit", at=MON).is_said_to_be("engagement/hot", until=THU, at=TUE)
    account.is_deleted(at=WED).is_restored(at=FRI)
    assert account.segment("engagement") == "warm"
    assert account.state.overrides == {}


OLD, DOMAIN = "acme-old", "domain:acme.com"


def of(other: str, record: Record, **more: Any) -> Record:
    return msgspec.structs.replace(record, account=other, **more)


def said_of(other: str, place: str, until: int, at: int, **more: Any) -> Record:
    dimension, segment = place.split("/")
    return Override(account=other, at=at, received=at, dimension=dimension, segment=segment, until=until, **more)


def both(first: str = "") -> Account:
    """Acme has visits, and the other account too."""
    account = given(ENGAGEMENT, SIGNS).sees("visit", at=MON)
    return account.feed(Activity(account=first or OLD, name="visit", at=MON, received=MON))


def merged(account: Account, other: str, at: int) -> Account:
    return account.feed(Merge(account=other, into=ACME, at=at, received=at, by_crm=other == OLD))


def test_a_merge_brings_along_what_was_said_of_the_other() -> None:
    account = merged(both().feed(said_of(OLD, "engagement/hot", SUN, TUE, by="bo")), OLD, WED)
    assert moves(account, "engagement") == [("warm", "hot", WED, "merge")]
    assert moves(account.until(SUN), "engagement")[1:] == [("hot", "warm", SUN, "override")]


def test_of_what_was_said_of_two_crm_accounts_that_of_the_survivor_counts() -> None:
    account = both().is_said_to_be("engagement/cold", until=SUN, at=TUE)
    account.is_said_to_be("signs/big", until=SUN, at=TUE)
    account.feed(said_of(OLD, "engagement/hot", SUN, WED)).feed(said_of(OLD, "signs/demo", SAT, WED))
    merged(account, OLD, THU)
    assert account.segment("engagement") == "cold"
    assert account.segments("signs") == ("visits", "demo", "big")


def test_of_what_was_said_of_a_provisional_account_too_the_later_counts() -> None:
    later = both(DOMAIN).is_said_to_be("engagement/cold", until=SUN, at=TUE)
    merged(later.feed(said_of(DOMAIN, "engagement/hot", SUN, WED)), DOMAIN, THU)
    assert later.segment("engagement") == "hot"
    sooner = both(DOMAIN).feed(said_of(DOMAIN, "engagement/hot", SUN, TUE))
    merged(sooner.is_said_to_be("engagement/cold", until=SUN, at=WED), DOMAIN, THU)
    assert sooner.segment("engagement") == "cold"


def test_what_is_said_of_an_account_that_is_another_one_is_said_of_that() -> None:
    account = merged(both(), OLD, TUE).feed(said_of(OLD, "engagement/hot", SUN, WED))
    assert moves(account, "engagement")[-1] == ("warm", "hot", WED, "override")
    account.feed(EndOverride(account=OLD, at=THU, received=THU, dimension="engagement"))
    assert moves(account, "engagement")[-1] == ("hot", "warm", THU, "override")


def test_a_state_with_overrides_survives_packing_and_one_without_is_read_as_before() -> None:
    account = given(ENGAGEMENT, SIGNS).sees("visit", at=MON).is_said_to_be("engagement/hot", until=THU, at=TUE)
    account.is_said_to_be("signs/visits", until=FRI, at=TUE, out=True)
    assert unpack(pack(account.state)) == account.state
    fields = msgspec.msgpack.decode(pack(given(ENGAGEMENT).sees("visit", at=MON).state)[1:])
    # The last fields, which states of earlier builds do not have.
    assert [fields.pop() for _ in range(4)] == [0, -1, {}, {}]
    earlier = b"\x03" + msgspec.msgpack.encode(fields)
    assert unpack(earlier) == given(ENGAGEMENT).sees("visit", at=MON).state


def test_the_records_are_written_and_read() -> None:
    for record in (
        said_of(ACME, "signs/big", SUN, TUE, why="they are", by="ann", out=True),
        EndOverride(account=ACME, at=TUE, received=TUE, dimension="signs", segment="big", by="ann"),
    ):
        assert decode_record(encode_record(record)) == record


def test_its_end_and_that_of_a_window_at_one_instant_are_one_move() -> None:
    """Asked one after the other, `play` would have called for an instant."""
    account = given(ENGAGEMENT, PLAY).sees("visit", at=[MON, MON, MON])
    account.is_said_to_be("engagement/cold", until=MON + WEEK, at=TUE)
    account.until(SUN + WEEK)
    assert moves(account, "play") == [("wait", "call", MON, "data"), ("call", "wait", TUE, "override")]
    assert account.told[-1].cause is Cause.OVERRIDE
