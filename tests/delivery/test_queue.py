"""One endpoint's deliveries: which is sent next, which waits until when, which no longer matters."""

from __future__ import annotations

from itertools import pairwise

import pytest

from streams.delivery.policy import DAY, HOUR, MINUTE, SECOND, GivenUp, Policy, RetryPolicy
from streams.delivery.queue import EVERYTHING, Attempt, Change, Done, Finished, How, Queue, Stored, Waiting
from streams.sinks.base import Delivered, GiveUp, Outcome, Retry

DOWN = Retry("unavailable")
POLICY = Policy()


def change(offset: int, account: str = "acme", dimension: str = "engagement") -> Change:
    return Change(f"0.0.{offset}.0", account, dimension, (0, offset, 0), 0, offset, b"{}")


class Endpoint:
    """A queue at a time that the test tells, and a receiver that answers as the test says."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.queue, self.now = Queue(policy), 0
        self.done: list[Done] = []

    def reads(self, *changes: Change) -> Endpoint:
        for each in changes:
            self.done += self.queue.take(each, self.now)
        return self

    def sends(self, batch: int = 1) -> list[int]:
        """The offsets that go out now; they stay under way."""
        self.flying = self.queue.due(self.now, batch)
        return [each.change.offset for each in self.flying]

    def answers(self, outcome: Outcome, waiting: Waiting | None = None) -> Endpoint:
        for each in [waiting] if waiting else self.flying:
            self.done += self.queue.answered(each, outcome, Attempt(self.now, 0, 200))
        return self

    def sends_all(self, outcome: Outcome) -> list[int]:
        sent = []
        while offsets := self.sends():
            sent += offsets
            self.answers(outcome)
        return sent

    def finished(self) -> list[tuple[int, str]]:
        return [(each.waiting.change.offset, str(each.how)) for each in self.done if isinstance(each, Finished)]

    def stored(self) -> list[int]:
        return [each.waiting.change.offset for each in self.done if isinstance(each, Stored)]


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


# -- the schedule -------------------------------------------------------------------------------------------


def test_the_schedule_is_now_5s_5min_30min_2h_5h_10h_10h(endpoint: Endpoint) -> None:
    endpoint.reads(change(1))
    attempts = []
    while (wakes := endpoint.queue.wakes()) is not None:
        endpoint.now = wakes
        assert endpoint.sends() == [1]
        attempts.append(endpoint.now)
        endpoint.answers(DOWN)
    waits = [after - before for before, after in pairwise(attempts)]
    assert waits == [5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR]
    assert endpoint.finished() == [(1, "given_up")]


def test_nothing_is_sent_a_millisecond_early(endpoint: Endpoint) -> None:
    endpoint.reads(change(1)).sends()
    endpoint.answers(DOWN)
    endpoint.now = 5 * SECOND - 1
    assert endpoint.sends() == []
    endpoint.now += 1
    assert endpoint.sends() == [1]


def test_what_the_receiver_asks_for_makes_a_wait_longer_and_never_shorter() -> None:
    policy = RetryPolicy()
    assert policy.next(1, 0, after_s=1) == 5 * SECOND
    assert policy.next(1, 0, after_s=90) == 90 * SECOND
    assert policy.next(1, 0, after_s=-4) == 5 * SECOND
    assert policy.next(1, 0, after_s=1e300) == DAY
    assert policy.next(7, 0) == 10 * HOUR
    assert policy.next(8, 0, after_s=3) == GivenUp()


def test_a_receiver_that_is_asked_too_often_is_left_alone_as_a_whole(endpoint: Endpoint) -> None:
    endpoint.reads(change(1), change(2, "globex")).sends()
    endpoint.answers(Retry("rate_limited", after_s=60, whole=True))
    assert endpoint.sends() == []
    assert endpoint.queue.wakes() == 60 * SECOND
    endpoint.now = 60 * SECOND
    assert endpoint.sends_all(Delivered()) == [2, 1]
    (first,) = [each.waiting for each in endpoint.done if isinstance(each, Stored)]
    assert first.tried == 0  # it was no fault of this delivery


def test_what_can_never_be_delivered_is_given_up_at_once(endpoint: Endpoint) -> None:
    endpoint.reads(change(1), change(2)).sends()
    endpoint.answers(GiveUp("too_large"))
    assert endpoint.finished() == [(1, "given_up")]
    assert endpoint.sends() == [2]


# -- order --------------------------------------------------------------------------------------------------


def test_an_accounts_next_change_waits_for_the_one_before_and_others_do_not(endpoint: Endpoint) -> None:
    endpoint.reads(change(1), change(2), change(3, "globex"))
    assert endpoint.sends() == [1]
    first = endpoint.flying
    assert endpoint.sends() == [3]
    assert endpoint.sends() == []
    endpoint.answers(Delivered(), first[0])
    assert endpoint.sends() == [2]


def test_a_request_for_several_holds_each_account_once(endpoint: Endpoint) -> None:
    endpoint.reads(change(1), change(2), change(3, "globex"), change(4, "initech"))
    assert endpoint.sends(batch=2) == [1, 3]
    assert endpoint.sends(batch=2) == [4]
    endpoint.answers(Delivered())
    assert endpoint.sends(batch=2) == []


def test_who_may_be_at_fault_goes_in_a_request_of_its_own(endpoint: Endpoint) -> None:
    endpoint.reads(change(1), change(2, "globex")).sends(batch=10)
    endpoint.answers(Retry("batch_refused", after_s=0, alone=True))
    endpoint.now = 5 * SECOND
    endpoint.reads(change(3, "initech"))
    assert [endpoint.sends(batch=10), endpoint.sends(batch=10), endpoint.sends(batch=10)] == [[1], [2], [3]]


# -- newer changes ------------------------------------------------------------------------------------------


def test_a_failed_delivery_is_superseded_by_a_newer_change_in_its_dimension(endpoint: Endpoint) -> None:
    endpoint.reads(change(1)).sends()
    endpoint.answers(DOWN)
    endpoint.reads(change(2))
    assert endpoint.finished() == [(1, "superseded")]
    assert endpoint.sends() == [2]  # its schedule begins anew


def test_a_newer_change_in_another_dimension_waits_and_is_stored(endpoint: Endpoint) -> None:
    endpoint.reads(change(1)).sends()
    endpoint.answers(DOWN)
    endpoint.reads(change(2, dimension="size"))
    assert endpoint.finished() == []
    assert endpoint.stored() == [1, 2]
    assert endpoint.sends() == []
    endpoint.now = 5 * SECOND
    assert endpoint.sends_all(Delivered()) == [1, 2]


def test_a_full_state_supersedes_all_that_waits_of_its_account(endpoint: Endpoint) -> None:
    endpoint.reads(change(1), change(2, dimension="size"), change(3, "globex")).sends()
    endpoint.answers(DOWN)
    endpoint.reads(change(4, dimension=EVERYTHING))
    assert endpoint.finished() == [(1, "superseded"), (2, "superseded")]
    assert endpoint.sends_all(Delivered()) == [3, 4]


def test_a_full_state_that_failed_is_not_superseded_by_one_dimension(endpoint: Endpoint) -> None:
    endpoint.reads(change(1, dimension=EVERYTHING)).sends()
    endpoint.answers(DOWN)
    endpoint.reads(change(2))
    endpoint.now = 5 * SECOND
    assert endpoint.sends_all(Delivered()) == [1, 2]


def test_nothing_is_superseded_while_nothing_has_failed(endpoint: Endpoint) -> None:
    endpoint.reads(change(1), change(2), change(3))
    assert endpoint.sends_all(Delivered()) == [1, 2, 3]


def test_of_what_came_while_it_was_under_way_only_the_newest_is_kept_when_it_fails(endpoint: Endpoint) -> None:
    endpoint.reads(change(1)).sends()
    endpoint.reads(change(2), change(3))
    endpoint.answers(DOWN)
    assert endpoint.finished() == [(1, "superseded")]
    assert endpoint.sends_all(Delivered()) == [2, 3]


def test_what_was_read_before_a_crash_does_not_undo_what_is_stored(endpoint: Endpoint) -> None:
    endpoint.queue.restore([Waiting(change(5), due=HOUR, tried=3)])
    endpoint.reads(change(4), change(5))
    assert endpoint.finished() == [(4, "superseded")]
    assert endpoint.queue.wakes() == HOUR


# -- the endpoint as a whole --------------------------------------------------------------------------------


def test_an_endpoint_that_fails_is_tried_with_one_delivery_at_a_time(endpoint: Endpoint) -> None:
    endpoint.reads(*(change(n, f"account-{n}") for n in range(64)))
    assert len(endpoint.sends_all(DOWN)) == POLICY.probe.failing_after  # the others are not even tried
    tries = []
    for _ in range(20):
        endpoint.now = endpoint.queue.wakes() or 0
        assert len(endpoint.sends(batch=10)) == 1
        tries.append(endpoint.now)
        endpoint.answers(DOWN)
    waits = [after - before for before, after in zip([0, *tries], tries, strict=False)]
    assert waits == [5 * SECOND, 5 * MINUTE, *[30 * MINUTE] * 18]


def test_it_is_tried_with_what_was_tried_least_so_that_a_bad_message_keeps_nobody_out(endpoint: Endpoint) -> None:
    poison = [change(n, f"account-{n}") for n in range(10)]
    endpoint.reads(*poison).sends_all(DOWN)
    assert endpoint.queue.health.fails
    assert endpoint.queue.room == 1  # one more is read, to try it with
    endpoint.reads(change(10, "globex"))
    endpoint.now = 5 * SECOND
    assert endpoint.sends() == [10]
    endpoint.answers(Delivered())
    assert not endpoint.queue.health.fails
    assert endpoint.queue.room == POLICY.window
    assert endpoint.sends_all(DOWN) == [*range(10)]


def test_a_delivery_that_fails_alone_again_and_again_stops_nobody(endpoint: Endpoint) -> None:
    endpoint.reads(change(1))
    for n in range(2, 10):
        endpoint.now = endpoint.queue.wakes() or endpoint.now
        endpoint.sends_all(DOWN)
        endpoint.reads(change(n, f"account-{n}"))
        assert endpoint.sends() == [n]
        endpoint.answers(Delivered())
    assert not endpoint.queue.health.fails


def test_when_too_many_wait_nothing_more_is_read() -> None:
    endpoint = Endpoint(Policy(stored=3))
    for n in range(3):
        endpoint.reads(change(n, f"account-{n}"))
        endpoint.sends_all(DOWN)
    assert endpoint.queue.room == 0
    endpoint.now = HOUR
    endpoint.sends()
    endpoint.answers(Delivered())
    assert endpoint.queue.room == POLICY.window


def test_after_5_days_without_a_success_it_is_hopeless(endpoint: Endpoint) -> None:
    endpoint.reads(change(1)).sends_all(DOWN)
    assert not endpoint.queue.is_hopeless(since=1, now=6 * DAY)  # one first attempt says nothing yet
    assert not endpoint.queue.is_hopeless(since=0, now=6 * DAY)
    endpoint.now = 5 * SECOND
    endpoint.sends_all(DOWN)
    assert not endpoint.queue.is_hopeless(since=1, now=5 * DAY)
    assert endpoint.queue.is_hopeless(since=1, now=5 * DAY + 1)
    endpoint.now = HOUR
    endpoint.sends_all(Delivered())
    assert not endpoint.queue.is_hopeless(since=1, now=5 * DAY + 1)


def test_ten_that_fail_once_each_are_enough_to_be_hopeless(endpoint: Endpoint) -> None:
    endpoint.reads(*(change(n, f"account-{n}") for n in range(10))).sends_all(DOWN)
    assert endpoint.queue.is_hopeless(since=1, now=6 * DAY)


def test_what_was_under_way_when_it_began_to_fail_is_no_probe(endpoint: Endpoint) -> None:
    endpoint.reads(*(change(n, f"account-{n}") for n in range(20)))
    flying = [each for _ in range(20) for each in endpoint.queue.due(endpoint.now)]
    for each in flying:
        endpoint.answers(DOWN, each)
    assert endpoint.queue.wakes() == 5 * SECOND


def test_a_success_ends_the_waiting_of_an_endpoint_that_failed_and_not_what_the_receiver_asked_for() -> None:
    failing, busy = Endpoint(), Endpoint()
    failing.reads(*(change(n, f"account-{n}") for n in range(11)))
    flying = [each for _ in range(11) for each in failing.queue.due(0)]
    for each in flying[:10]:
        failing.answers(DOWN, each)
    failing.answers(Delivered(), flying[10])
    failing.reads(change(20, "globex"))
    assert failing.sends() == [20]
    busy.reads(change(1), change(2, "globex"), change(3, "initech"))
    first, second = busy.queue.due(0)[0], busy.queue.due(0)[0]
    busy.answers(Retry("rate_limited", after_s=60, whole=True), first)
    busy.answers(Delivered(), second)
    assert (busy.sends(), busy.queue.wakes()) == ([], 60 * SECOND)


def test_disabled_nothing_is_read_or_sent_and_enabled_all_goes_on(endpoint: Endpoint) -> None:
    endpoint.reads(change(1), change(2, "globex")).sends()
    endpoint.answers(DOWN)
    endpoint.queue.switch(disabled=True)
    endpoint.now = HOUR
    assert (endpoint.sends(), endpoint.queue.room, endpoint.queue.wakes()) == ([], 0, None)
    endpoint.queue.switch(disabled=False)
    assert endpoint.sends_all(Delivered()) == [2, 1]


def test_a_restart_tries_an_endpoint_that_failed_with_one(endpoint: Endpoint) -> None:
    endpoint.queue.restore(Waiting(change(n, f"account-{n}"), due=0, tried=1) for n in range(50))
    endpoint.queue.failing(since=0, now=endpoint.now)
    assert len(endpoint.sends(batch=10)) == 1
    assert endpoint.sends() == []


def test_an_endpoint_that_somebody_has_mended_is_tried_at_once_with_one(endpoint: Endpoint) -> None:
    endpoint.reads(*(change(n, f"account-{n}") for n in range(10))).sends_all(DOWN)
    assert endpoint.sends() == []
    endpoint.queue.hurry(endpoint.now)
    assert endpoint.sends(batch=10) == [0]
    assert endpoint.queue.health.fails


def test_what_is_superseded_all_day_takes_no_room(endpoint: Endpoint) -> None:
    for n in range(3_000):
        endpoint.reads(change(n)).sends()
        endpoint.answers(DOWN)
        endpoint.queue.switch(disabled=False)
    assert len(endpoint.queue) == 1
    assert len(endpoint.queue._ready) < 300


# -- whose partitions, and what somebody wants --------------------------------------------------------------


def test_what_comes_of_a_partition_that_went_elsewhere_is_not_ours_to_say(endpoint: Endpoint) -> None:
    endpoint.reads(change(1)).sends()
    endpoint.queue.lose(0)
    endpoint.answers(DOWN)
    assert (endpoint.done, len(endpoint.queue), endpoint.queue.flying, endpoint.queue.wakes()) == ([], 0, 0, None)


def test_somebody_wants_a_delivery_tried_now(endpoint: Endpoint) -> None:
    endpoint.reads(change(1)).sends()
    endpoint.answers(DOWN)
    endpoint.done += endpoint.queue.again(change(1), endpoint.now)
    assert endpoint.sends_all(Delivered()) == [1]


def test_what_somebody_wants_tried_begins_its_schedule_anew(endpoint: Endpoint) -> None:
    endpoint.reads(change(1))
    for _ in range(4):
        endpoint.now = endpoint.queue.wakes() or 0
        endpoint.sends_all(DOWN)
    endpoint.done += endpoint.queue.again(change(1), endpoint.now)
    endpoint.sends_all(DOWN)
    assert endpoint.queue.wakes() == endpoint.now + 5 * SECOND


def test_what_an_earlier_owner_stored_is_in_the_order_of_the_log(endpoint: Endpoint) -> None:
    stored = [
        Waiting(change(n, dimension=name), due=0) for n, name in ((5, "size"), (3, "industry"), (4, "region"))
    ]
    endpoint.queue.restore(stored)
    assert endpoint.sends_all(Delivered()) == [3, 4, 5]


def test_what_was_given_up_is_made_again_before_what_is_newer(endpoint: Endpoint) -> None:
    endpoint.reads(change(7, dimension="size")).sends()
    endpoint.answers(DOWN)
    endpoint.done += endpoint.queue.again(change(3), endpoint.now)
    assert 3 in endpoint.stored()
    assert endpoint.sends() == [3]
    endpoint.answers(Delivered())
    assert endpoint.sends() == []
    endpoint.now = 5 * SECOND
    assert endpoint.sends() == [7]


def test_the_newest_attempts_are_remembered_and_not_all(endpoint: Endpoint) -> None:
    endpoint.reads(change(1))
    for _ in range(30):
        endpoint.now = endpoint.queue.wakes() or 0
        endpoint.sends()
        endpoint.answers(Retry("rate_limited", after_s=1, whole=True))
    (waiting,) = {id(each.waiting): each.waiting for each in endpoint.done}.values()
    assert len(waiting.attempts) == 10
    assert waiting.attempts[-1].at == endpoint.now


def test_what_is_finished_names_how_and_why(endpoint: Endpoint) -> None:
    endpoint.reads(change(1)).sends_all(Delivered())
    (done,) = endpoint.done
    assert isinstance(done, Finished)
    assert (done.how, done.reason) == (How.DELIVERED, "")
