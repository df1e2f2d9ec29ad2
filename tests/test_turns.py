"""A sweep takes its turns: one partition at a time, and whoever is waited for goes first."""

from __future__ import annotations

from streams.turns import LONGEST_REST_MS, Turns

NOW = 1_700_000_000_000


def test_partitions_are_swept_one_after_the_other() -> None:
    turns, swept = Turns(), {2: False, 5: False, 7: False}
    chosen = [turns.next(swept, offsets, NOW) for offsets in range(4)]
    assert chosen == [2, 5, 7, 2]


def test_while_a_tick_is_on_its_way_no_other_is_appended() -> None:
    turns = Turns()
    assert turns.next({1: False, 2: False}, 100, NOW) == 1
    assert turns.next({1: True, 2: False}, 100, NOW + 5_000) is None
    assert turns.next({1: False, 2: False}, 101, NOW + 5_001) == 2


def test_what_came_meanwhile_gets_as_much_time_as_the_tick_took() -> None:
    turns = Turns()
    assert turns.next({1: False}, 100, NOW) == 1
    assert turns.next({1: False}, 102, NOW + 80) is None
    assert turns.rests_until == NOW + 160
    assert turns.next({1: False}, 150, NOW + 159) is None
    assert turns.next({1: False}, 150, NOW + 160) == 1


def test_nobody_waits_for_a_rest_where_nothing_came() -> None:
    turns = Turns()
    assert [turns.next({1: False}, 100 + n, NOW + 80 * n) for n in range(3)] == [1, 1, 1]


def test_a_rest_is_short_and_a_clock_that_goes_back_does_not_make_it_long() -> None:
    turns = Turns()
    assert turns.next({1: False}, 100, NOW) == 1
    assert turns.next({1: False}, 200, NOW + 60_000) is None
    assert turns.rests_until == NOW + 60_000 + LONGEST_REST_MS
    assert turns.next({1: False}, 200, NOW) == 1


def test_a_partition_that_went_elsewhere_is_not_waited_for() -> None:
    turns = Turns()
    assert turns.next({1: False, 2: False}, 100, NOW) == 1
    assert turns.next({2: False}, 50, NOW) == 2


def test_where_nothing_is_to_be_swept_it_is_nobodys_turn() -> None:
    assert Turns().next({}, 100, NOW) is None
