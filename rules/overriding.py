"""Overrides: somebody says where an account stands, and that counts until an instant, whatever the rules say.

    ladder   in a segment, in place of what was said before
    set      in a segment, or out of it; each segment by itself

The rules go on underneath as if nothing had been said. What they answer, what the account waits for and what holds
it where it is are kept beside (`ruled`), and are in force again when the override ends: at its instant, when it is
taken back, or with rules that do not have its segment any more. Rules of other dimensions see the answer that
counts. An override is no fact: it outlives a deletion, and goes along when the account is merged into another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from rules.records import EndOverride, Override
from rules.state import NEVER, NOWHERE, AccountState, Answer, Forced, Overridden, Standing

if TYPE_CHECKING:
    from rules.ruleset import Dimension, Ruleset

Overrides = dict[str, Overridden]


def settle(dimension: Dimension, state: AccountState, now: int, before: Standing) -> Standing:
    """Where the account stands in a dimension of which somebody said something; `before` itself when nothing is
    different. What has ended goes from the state."""
    overridden = state.overrides[dimension.name]
    ruled = dimension.standing(state, now, NOWHERE if overridden.ruled is None else overridden.ruled)
    forced = tuple(each for each in overridden.forced if each.until > now and fits(dimension, each))
    if dimension.kind == "ladder":
        forced = forced[-1:]  # it may have been a set
    if not forced:
        state.overrides = {name: each for name, each in state.overrides.items() if name != dimension.name}
        return _standing(ruled.answer, now, before, ruled.wake, ruled.timers)
    left = Overridden(forced, ruled if ruled.answer or ruled.wake < NEVER or ruled.timers else None)
    if left != overridden:
        state.overrides = {**state.overrides, dimension.name: left}
    wake = min(ruled.wake, *(each.until for each in forced))
    return _standing(_answer(dimension, ruled.answer, forced), now, before, wake, {})


def _standing(answer: Answer, now: int, before: Standing, wake: int, timers: dict[str, int]) -> Standing:
    since = before.since if answer == before.answer and before is not NOWHERE else now
    after = Standing(answer, since, wake, timers)
    return before if before == after else after


def _answer(dimension: Dimension, ruled: Answer, forced: tuple[Forced, ...]) -> Answer:
    if dimension.kind == "ladder":
        return (forced[-1].segment,)
    said = {each.segment: not each.out for each in forced}
    return tuple(each.name for each in dimension.segments if said.get(each.name, each.name in ruled))


def fits(dimension: Dimension, said: Forced | Override) -> bool:
    """Whether the dimension has the segment; of a ladder nobody is forced out."""
    return dimension.segment(said.segment) is not None and not (said.out and dimension.kind == "ladder")


def ended(before: Mapping[str, Overridden], after: Mapping[str, Overridden], dimension: str) -> bool:
    """Whether something that was said of the dimension counts no more."""
    known, left = before.get(dimension), after.get(dimension)
    return known is not None and (left is None or left.forced != known.forced)


def say(state: AccountState, dimension: Dimension, record: Override, log_time: int) -> None:
    """Notes what was said; who asks the dimension next finds it in force."""
    said = Forced(record.segment, record.until, log_time, record.why, record.by, record.out)
    known = _known(state, dimension.name)
    others = {} if dimension.kind == "ladder" else {each.segment: each for each in known.forced}
    _note(state, dimension.name, tuple((others | {said.segment: said}).values()), known)


def take_back(state: AccountState, record: EndOverride) -> None:
    if record.dimension not in state.overrides:
        return
    known = state.overrides[record.dimension]
    left = tuple(each for each in known.forced if record.segment and each.segment != record.segment)
    _note(state, record.dimension, left, known)


def join(mine: AccountState, theirs: AccountState, ruleset: Ruleset, *, mine_win: bool) -> None:
    """What was said of either account. Where both have something, that of mine, else what was said later."""
    for name, other in theirs.overrides.items():
        if (dimension := ruleset.dimension(name)) is None:
            continue
        known = _known(mine, name)
        forced = {_subject(dimension, each): each for each in known.forced}
        for each in other.forced:
            own = forced.get(_subject(dimension, each))
            if own is None or (not mine_win and own.since < each.since):
                forced[_subject(dimension, each)] = each
        _note(mine, name, tuple(forced.values()), known)


def _subject(dimension: Dimension, forced: Forced) -> str:
    """Of what there is one override at most."""
    return forced.segment if dimension.kind == "set" else ""


def replace(state: AccountState, told: Mapping[str, Overridden]) -> None:
    """In place of what was said so far; what is not in `told` ends when the dimension is asked."""
    for name in {**state.overrides, **told}:
        _note(state, name, told[name].forced if name in told else (), _known(state, name))


def without_rules(overrides: Overrides) -> Overrides:
    """What was said, without where the rules had the account: it stands nowhere any more."""
    return {name: Overridden(each.forced) for name, each in overrides.items() if each.forced}


def as_ruled(state: AccountState, dimension: str) -> AccountState:
    """The account as the dimension's own rules see it."""
    ruled = state.overrides[dimension].ruled
    standings = {name: each for name, each in state.standings.items() if name != dimension}
    return msgspec.structs.replace(state, standings=standings if ruled is None else standings | {dimension: ruled})


def _known(state: AccountState, dimension: str) -> Overridden:
    return state.overrides.get(dimension) or Overridden((), state.standings.get(dimension))


def _note(state: AccountState, dimension: str, forced: tuple[Forced, ...], known: Overridden) -> None:
    """Nothing that is said of a deleted account needs to end: where it stands is asked of nobody."""
    state.overrides = {**state.overrides, dimension: Overridden(forced, known.ruled)}
    if state.deleted:
        state.overrides = without_rules(state.overrides)
