"""Membership of an account in the segments of one dimension, over time.

A rule's verdict is not yet membership. `for` makes an account wait before it enters, `stay` and `keep_for` hold
one that is in; all three only ever delay. For each segment, at an instant:

    the rule is true       in, if the account was in already or the rule has been true for `for`
    it is not              still in, if the account was in and `keep_for` is not over or `stay` is true
    otherwise              out, or unknown where the rule is

An unknown `stay` holds nobody: were the account unclassified then, the next look would find it out, not in.

A ladder gives the first segment that the account is in, so what holds it never stands against a higher rung.
Nothing here counts time by itself: the instants from which time is measured are timers in the standing, and
each instant at which a wait or a hold ends is part of the bound until which the answer surely stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from rules.conditions import Decide
from rules.state import NEVER, NOWHERE, UNCLASSIFIED, AccountState, Answer, Standing

Settle = Callable[[AccountState, int, Standing], Standing]


@dataclass(frozen=True, slots=True)
class Rule:
    """How one segment is entered and left. `id` is another when the rule is edited: a wait then begins anew."""

    segment: str
    id: str
    when: Decide
    stay: Decide | None = None
    wait: int = 0  # `for`, ms
    keep: int = 0  # `keep_for`, ms

    @property
    def dwells(self) -> bool:
        return self.stay is not None or self.wait > 0 or self.keep > 0


class _Settling(msgspec.Struct, gc=False):  # `make mutate` passes over a class that is decorated
    """One evaluation: the timers that go on, and until when its answer surely stays."""

    state: AccountState
    now: int
    before: Standing
    timers: dict[str, int]
    until: int = NEVER

    def decide(self, rule: Rule) -> bool | None:
        """Whether the account is in the rule's segment now; None when that is not known."""
        verdict = self._ask(rule.when)
        was_in = rule.segment in self.before.answer
        if verdict is True:
            return self._waits(rule) or was_in
        if rule.wait:
            verdict = False
        if was_in and self._is_kept(rule):
            return True
        if was_in and rule.stay is not None and self._ask(rule.stay) is True:
            return True
        return verdict

    def _ask(self, decide: Decide) -> bool | None:
        verdict, until = decide(self.state, self.now)
        self.until = min(self.until, until)
        return verdict

    def _waits(self, rule: Rule) -> bool:
        """Whether the rule has been true for long enough."""
        if not rule.wait:
            return True
        since = self._since(_waiting(rule), self.now)
        if self.now >= since + rule.wait:
            return True
        self.until = min(self.until, since + rule.wait)
        return False

    def _is_kept(self, rule: Rule) -> bool:
        if not rule.keep:
            return False
        ends = self.before.timers.get(_entered(rule), self.before.since) + rule.keep
        if self.now >= ends:
            return False
        self.until = min(self.until, ends)
        return True

    def _since(self, timer: str, otherwise: int) -> int:
        """When the timer began: it goes on, or begins."""
        self.timers[timer] = began = self.before.timers.get(timer, otherwise)
        return began

    def settled(self, answer: Answer, rules: Sequence[Rule]) -> Standing:
        before = self.before
        for rule in rules:
            if rule.keep and rule.segment in answer:
                self._since(_entered(rule), before.since if rule.segment in before.answer else self.now)
        since = before.since if before.answer == answer and before is not NOWHERE else self.now
        return Standing(answer, since, self.until, self.timers)


def _waiting(rule: Rule) -> str:
    return f"for {rule.id}"


def _entered(rule: Rule) -> str:
    return f"in {rule.segment}"


def ladder(rules: Sequence[Rule], skips_unknown: bool) -> Settle:
    """The first segment that the account is in. A wait further down goes on meanwhile."""

    def settle(state: AccountState, now: int, before: Standing) -> Standing:
        work = _Settling(state, now, before, {})
        answer: Answer | None = None
        for rule in rules:
            if answer is not None and not rule.wait:
                continue
            verdict = work.decide(rule)
            if answer is None:
                if verdict is True:
                    answer = (rule.segment,)
                elif verdict is None and not skips_unknown:
                    answer = (UNCLASSIFIED,)
        return work.settled(answer or (), rules)

    return settle


def members(rules: Sequence[Rule]) -> Settle:
    """Every segment that the account is in; unknown is not a member."""

    def settle(state: AccountState, now: int, before: Standing) -> Standing:
        work = _Settling(state, now, before, {})
        answer = tuple(rule.segment for rule in rules if work.decide(rule) is True)
        return work.settled(answer, rules)

    return settle


def waiting_since(rule: Rule, standing: Standing) -> int | None:
    """Since when the rule has been true without the account being in yet; None when it is not so."""
    if rule.segment in standing.answer:
        return None
    return standing.timers.get(_waiting(rule))


def kept_until(rule: Rule, standing: Standing) -> int | None:
    """Until when `keep_for` holds the account in the segment; None when it does not."""
    if not rule.keep or rule.segment not in standing.answer:
        return None
    return standing.timers.get(_entered(rule), standing.since) + rule.keep
