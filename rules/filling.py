"""A new measure gets its past: what happened before a ruleset was in force is counted afterwards.

    switch     the ruleset record asks for it: accounts that were there before it have a gap, in these measures
    fill       what an account had of them up to the switch, folded from the log once more: its gap closes
    filled     all accounts of the partition have theirs

What came before the switch is in the fill and what came since in the account, so nothing counts twice. Until the
gap closes the measures' floors say what is missing, and conditions are unknown unless what there is decides them.

A gap is known by the deployment and the account that was there at the switch. An account that is merged into
another one takes its open gap along, and what still comes for it is passed on: so the other one is filled as well.
Of a measure that was kept before, and now must hold more, what is older than the switch comes with the fill; if
the account is given away before that, it goes without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from rules.records import Fill, Transfer
from rules.state import AccountState, unpack

if TYPE_CHECKING:
    from rules.ruleset import InForce, Ruleset
    from rules.work import Work

GAPS_KEPT = 64  # of an account


class Filling(msgspec.Struct, array_like=True, frozen=True):
    """What a deployment asked to be filled in a partition, which switched at `offset`, when log_time was `at`.

    What happened up to `since` (UTC ms; 0: nothing) is left out.
    """

    deployment: str
    offset: int
    at: int
    since: int
    measures: tuple[str, ...]


class Filled(msgspec.Struct, frozen=True, gc=False):
    """How a fill is put into a measure.

    `before`: the log offset of the switch, where the fill is the account's own: what the measure has from before
    is in the fill too. None where it is of an account that was merged into this one; then what it brings gets the
    log offset `offset`. `lifted` is the highest floor that gaps account for, `left` that of those still open.
    """

    before: int | None
    offset: int
    log_time: int
    lifted: int
    left: int

    def floor(self, floor: int) -> int:
        """What stays of a measure's floor."""
        return max(self.left, floor if floor > self.lifted else 0)


def lacking(before: InForce, after: Ruleset, introduced: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    """The measures of `after` that lack some of the past: those that were not kept from the log's first record on,
    and those that now hold more than at first. Of these a score that is not new cannot be filled: it does not say
    what is in it."""
    found = []
    for id, kept in after.measures.items():
        was = before.ruleset.measures.get(id)
        lacks = introduced[id][0] > 0 or id in before.lacking or (was is not None and kept.is_more_than(was))
        if lacks and (was is None or kept.since is not None):
            found.append(id)
    return tuple(found)


def open_gaps(work: Work) -> None:
    """The account was there before a switch that it has not seen yet."""
    state, fillings = work.state, work.rules.fillings
    if state.opened >= fillings[-1].offset:
        return
    for each in fillings:
        if state.opened < each.offset and state.born < each.offset:
            _open(state, {_gap(each.deployment, work.account): each.at})
    state.opened = fillings[-1].offset


def _open(state: AccountState, gaps: Mapping[str, int]) -> None:
    """Of too many, one that never closes stands for the others."""
    state.gaps = {**gaps, **state.gaps}
    if len(state.gaps) > GAPS_KEPT:
        state.gaps = {"": max(state.gaps.values())}


def _gap(deployment: str, account: str) -> str:
    return f"{deployment}/{account}"


def give(account: str, state: AccountState, rules: InForce) -> None:
    """The account is about to be given away: what its own fill will bring does not go along.

    Where nothing came to a measure that is said: a fold that has other rules at that moment would take it for
    missing, and of a score it would be for good.
    """
    state.measures = {id: kept.empty(0) for id, kept in rules.ruleset.measures.items()} | state.measures
    for filling in rules.fillings:
        if _gap(filling.deployment, account) in state.gaps:
            for id in filling.measures:
                kept, known = rules.ruleset.measures.get(id), state.measures.get(id)
                if kept is not None and kept.since is not None and known is not None:
                    state.measures[id] = kept.since(known, filling.offset, filling.at)


def given(theirs: AccountState, record: Transfer, rules: InForce) -> AccountState:
    """What the other account had, as it is to be taken in.

    If it was given away before its partition switched, what it had of the measures to be filled comes with its
    fill. If nobody can say under which rules, what may be missing of it stays so.
    """
    theirs = msgspec.structs.replace(theirs, gaps=_known_here(theirs.gaps, rules))
    known_by = record.deployment, record.ruleset
    # What is passed on may come when all is filled here; its fill comes behind it.
    newest = max((*rules.fillings, *rules.was_filled), key=lambda each: each.offset, default=None)
    if newest is None or known_by == rules.known_by:
        return theirs
    if known_by != rules.before or newest.offset != rules.offset:
        if rules.fillings:
            _open(theirs, {f"/{record.merged}": record.at})
        return theirs
    missing = max(newest.at, record.at)
    _open(theirs, {_gap(newest.deployment, record.merged): missing})
    theirs.measures = dict(theirs.measures)
    for id in newest.measures:
        if (kept := rules.ruleset.measures.get(id)) is not None:
            theirs.measures[id] = kept.empty(missing)
    return theirs


def _known_here(gaps: Mapping[str, int], rules: InForce) -> dict[str, int]:
    """Without those of a deployment that this partition has not come to: its own fill will have what they lack. A
    fill may still be on its way to an account when its partition is filled."""
    known = {each.deployment for each in (*rules.fillings, *rules.was_filled)} | {""}  # "": gaps that never close
    return {gap: at for gap, at in gaps.items() if gap.partition("/")[0] in known}


def take(state: AccountState, theirs: AccountState) -> None:
    """The other account's gaps are open here."""
    if theirs.gaps:
        _open(state, theirs.gaps)


def fill(work: Work, record: Fill) -> tuple[int, ...] | None:
    """Closes the gap; the dimensions to ask again. None when there is none (any more)."""
    state, ruleset = work.state, work.rules.ruleset
    name = _gap(record.deployment, record.of)
    if name not in state.gaps:
        return None
    lifted = max(state.gaps.values())
    state.gaps = {gap: at for gap, at in state.gaps.items() if gap != name}
    own = record.of == record.account
    how = Filled(
        record.before if own else None,
        record.offset,
        work.log_time,
        lifted,
        max(state.gaps.values(), default=0),
    )
    brought, known = unpack(record.state).measures, dict(state.measures)
    for id in record.measures:
        if (kept := ruleset.measures.get(id)) is not None:
            known[id] = kept.fill(known.get(id, kept.empty(0)), brought.get(id, kept.empty(0)), how)
    state.measures = known
    return reading(ruleset, record.measures)


def reading(ruleset: Ruleset, measures: Iterable[str]) -> tuple[int, ...]:
    """The places of the dimensions that read one of these measures."""
    asked = set(measures)
    return tuple(place for place, each in enumerate(ruleset.dimensions) if not asked.isdisjoint(each.reads))
