"""What is wanted, what is news, what is settled: however a history is cut and told again, the end is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.contract import Crossed, Event, Membership, Memberships, Moved, Position, State
from streams.news import Filter, Newest, Settling

NOON = "2026-03-09T12:00:00.000Z"
LADDERS, SETS = ("engagement", "size"), ("signs",)
SHARED: dict[str, Any] = {
    "name": "Acme", "effective": NOON, "decided": NOON, "cause": "data", "origin": "live", "stays_until": None,
    "reason": {}, "owner": "sales", "action": {}, "ruleset": "r",
}  # fmt: skip


def event(type: str, data: Any) -> Event[Any]:
    at = data.position
    id = f"{at.partition}.{at.epoch}.{at.offset}.{at.n}"
    return Event("1.0", id, "/isotherm/account.log/0", type, data.account, NOON, "application/json", "k", data)


def moved(account: str, dimension: str, to: str | None, at: Position, **given: Any) -> Event[Any]:
    told = SHARED | {"before": "cold"} | given
    return event("segment.moved", Moved(account=account, dimension=dimension, after=to, position=at, **told))


def crossed(account: str, dimension: str, members: list[str], at: Position, segment: str = "asked") -> Event[Any]:
    told = Crossed(account=account, dimension=dimension, segment=segment, members=members, position=at, **SHARED)
    return event("segment.entered" if segment in members else "segment.left", told)


def state(account: str, answers: dict[str, Any], at: Position, **given: Any) -> Event[Any]:
    memberships = {name: Membership(each, NOON, None) for name, each in answers.items()}
    told = State(account=account, memberships=memberships, position=at, **(SHARED | given))
    return event("account.state", told)


def applied(events: Sequence[Event[Any]]) -> dict[str, dict[str, Any]]:
    copy: dict[str, dict[str, Any]] = {}
    for each in events:
        match each.data:
            case State() as told:
                copy[told.account] = {name: one.answer for name, one in told.memberships.items()}
            case Moved() as told:
                copy.setdefault(told.account, {})[told.dimension] = told.after
            case Crossed() as told:
                copy.setdefault(told.account, {})[told.dimension] = told.members
    return copy


@st.composite
def histories(draw: st.DrawFn) -> list[Event[Any]]:
    """What two partitions tell, each in the order of its log, offsets and epochs and several changes at one."""
    told: list[Event[Any]] = []
    for partition in range(2):
        epoch, offset, n = 0, 0, 0
        for _ in range(draw(st.integers(0, 14))):
            match draw(st.sampled_from(["offset", "offset", "n", "epoch"])):
                case "offset":
                    offset, n = offset + draw(st.integers(1, 3)), 0
                case "n":
                    n += 1
                case _:
                    epoch, offset, n = epoch + 1, offset + 1, 0
            at = Position(partition, epoch, offset, n)
            account = draw(st.sampled_from("abcde")) + str(partition)
            dimension = draw(st.sampled_from([*LADDERS, *SETS, ""]))
            if dimension in LADDERS:
                told.append(moved(account, dimension, draw(st.sampled_from(["hot", "warm", None])), at))
            elif dimension in SETS:
                told.append(crossed(account, dimension, draw(st.sampled_from([[], ["asked"]])), at))
            else:
                told.append(state(account, draw(st.sampled_from([{}, {"size": "large", "signs": []}])), at))
    return told


@st.composite
def tellings(draw: st.DrawFn) -> tuple[list[Event[Any]], list[Event[Any]]]:
    """A history, and how it is told: each partition in order, at any moment begun again from before."""
    history = draw(histories())
    told: list[Event[Any]] = []
    for partition in range(2):
        events = [each for each in history if each.data.position.partition == partition]
        following = 0
        while following < len(events):
            end = draw(st.integers(following + 1, len(events)))
            told += events[following:end]
            following = end if end == len(events) else draw(st.integers(0, end))
            if end < len(events) and draw(st.booleans()):
                continue
            if end == len(events) and draw(st.booleans()):
                following = draw(st.integers(0, len(events) - 1))
    return history, told


@given(tellings(), st.integers(1, 5))
def test_what_passes_is_told_once_and_ends_where_the_history_ends(
    telling: tuple[list[Event[Any]], list[Event[Any]]], accounts: int
) -> None:
    history, told = telling
    newest = Newest(accounts)
    passed = [each for each in told if newest.is_news(each)]
    assert applied(passed) == applied(history)
    assert sorted(each.id for each in passed) == sorted(each.id for each in history)


@given(tellings(), st.data())
def test_who_begins_anew_from_what_it_had_settled_ends_there_too(
    telling: tuple[list[Event[Any]], list[Event[Any]]], data: st.DataObject
) -> None:
    """It dies where it dies: the next one knows nothing of what was seen, and reads on from before that."""
    history, told = telling
    newest, copy, at = Newest(), list[Event[Any]](), 0
    for _ in range(data.draw(st.integers(0, 3))):
        dies = data.draw(st.integers(at, len(told)))
        copy += [each for each in told[at:dies] if newest.is_news(each)]
        newest, at = Newest(), data.draw(st.integers(0, dies))
    copy += [each for each in told[at:] if newest.is_news(each)]
    assert applied(copy) == applied(history)


def test_a_state_that_is_told_again_between_what_came_before_it_and_after_takes_nothing_back() -> None:
    """It begins anew at the last of three, and then all three are told once more."""
    first, second, third = (Position(0, 0, n, 0) for n in range(3))
    history = [
        moved("a", "size", "small", first),
        state("a", {"size": "large"}, second),
        moved("a", "engagement", "hot", third),
    ]
    newest, anew = Newest(), Newest()
    passed = [each for each in history if newest.is_news(each)]
    passed += [each for each in [history[2], *history] if anew.is_news(each)]
    assert applied(passed) == applied(history) == {"a": {"size": "large", "engagement": "hot"}}


@given(histories())
def test_a_partition_that_is_lost_is_forgotten_and_others_are_not(history: list[Event[Any]]) -> None:
    newest = Newest()
    assert all(newest.is_news(each) for each in history)
    newest.forget(0)
    again = [each for each in history if newest.is_news(each)]
    assert again == [each for each in history if each.data.position.partition == 0]


@given(histories(), st.integers(0, 20))
def test_what_is_known_up_to_a_position_is_no_news(history: list[Event[Any]], offset: int) -> None:
    newest = Newest()
    newest.knows_up_to(0, (0, offset, 9))
    for each in history:
        at = each.data.position
        assert newest.is_news(each) is (at.partition == 1 or at.order > (0, offset, 9))


AT = Position(0, 0, 1, 0)
HOT = Filter(segments=("engagement/hot",))
LARGE = Filter(dimensions=("size",))


@pytest.mark.parametrize(
    ("filter", "told", "is_wanted"),
    [
        (Filter(), moved("a", "size", "large", AT), True),
        (HOT, moved("a", "engagement", "hot", AT), True),
        (HOT, moved("a", "engagement", "warm", AT, before="hot"), True),
        (HOT, moved("a", "engagement", None, AT), False),
        (HOT, moved("a", "size", "hot", AT), False),
        (LARGE, moved("a", "size", None, AT, before=None), True),
        (LARGE, moved("a", "engagement", "hot", AT), False),
        (Filter(segments=("signs/asked",)), crossed("a", "signs", [], AT), True),
        (Filter(segments=("signs/other",)), crossed("a", "signs", ["asked", "other"], AT), False),
        (HOT, state("a", {"engagement": "hot", "size": None}, AT), True),
        (HOT, state("a", {"engagement": "cold"}, AT), False),
        (HOT, state("a", {"engagement": "cold"}, AT, origin="rebuild", cause="rebuild"), True),
        (HOT, state("a", {}, AT, deleted=True), True),
        (HOT, state("a", {}, AT, merged_into="b"), True),
        (LARGE, state("a", {"size": None}, AT), True),
        (LARGE, state("a", {"signs": ["x"]}, AT), False),
        (Filter(segments=("signs/x",)), state("a", {"signs": ["y", "x"]}, AT), True),
        (Filter(types=("account.state",)), moved("a", "size", "large", AT), False),
        (Filter(types=("account.state",)), state("a", {}, AT), True),
        (Filter(owners=("sales",)), moved("a", "size", "large", AT), True),
        (Filter(owners=("care",)), moved("a", "size", "large", AT), False),
        (Filter(origins=("live",)), moved("a", "size", "large", AT, origin="import"), False),
        (Filter(accounts=("b",)), moved("a", "size", "large", AT), False),
        (Filter(accounts=("b",)), state("a", {}, AT, deleted=True), False),
    ],
)
def test_what_is_wanted(filter: Filter, told: Event[Any], is_wanted: bool) -> None:
    assert filter.wants(told) is is_wanted


@pytest.mark.parametrize(
    ("filter", "is_wanted"),
    [
        (Filter(), True),
        (HOT, True),
        (LARGE, True),
        (Filter(segments=("engagement/cold",)), False),
        (Filter(dimensions=("fit",)), False),
        (Filter(segments=("signs/asked",)), True),
        (Filter(accounts=("b",)), False),
        (Filter(owners=("care",), origins=("live",), types=("segment.left",)), True),
    ],
)
def test_which_memberships_are_wanted(filter: Filter, is_wanted: bool) -> None:
    answers: dict[str, Any] = {"engagement": "hot", "size": None, "signs": ["asked"]}
    held = Memberships(account="a", name="A", memberships=answers, effective=NOON, position=AT, ruleset="r")
    assert filter.wants_memberships(held) is is_wanted


@given(st.permutations(range(6)), st.integers(0, 6))
def test_what_is_settled_reaches_up_to_the_first_that_is_not(order: list[int], done: int) -> None:
    settling = Settling(10)
    for offset in range(6):
        settling.given(10 + offset)
        settling.reached(10 + offset)
    for offset in order[:done]:
        settling.settled(True, 10 + offset)
        settling.settled(True, 10 + offset)
    left = sorted(order[done:])
    assert settling.following == 10 + (left[0] if left else 6)
    assert len(settling) == len(left)


def test_there_is_no_offset_to_go_on_from_while_memberships_are_not_settled() -> None:
    settling = Settling(7)
    settling.given_memberships(7)
    settling.given(7)
    settling.reached(7)
    settling.settled(True, 7)
    assert settling.following is None
    settling.settled(False, 7)
    assert settling.following == 8
