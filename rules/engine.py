"""state' = step(state, record): the one function that live, replay, plan, explain and tests all call.

A step does, in this order:

1. if the ruleset changed since the account was last evaluated, evaluate it anew as of the switch;
2. fire the account's wakes up to log_time, each at its own instant;
3. apply the record: facts by who is later, activities into the measures they feed;
4. evaluate the dimensions that read what changed, as of log_time.

It takes no clock and keeps nothing: the state given is not touched, and the same input gives the same output.
"""

from __future__ import annotations

from rules.announcing import announce, announce_removed, announce_state
from rules.applying import apply, is_new
from rules.records import AccountRecord, Restore
from rules.ruleset import Dimension, InForce
from rules.state import NEVER, AccountState, Answer, Standing, copy
from rules.work import Cause, Outcome, Step, Work


def step(state: AccountState | None, record: AccountRecord, log_time: int, rules: InForce) -> Step:
    """The account after `record`, and the changes this made, in order."""
    state = AccountState(born=record.offset) if state is None else copy(state)
    work = Work(state, rules, log_time, record.account, record.origin)
    _catch_up(work, log_time)
    if record.id and not is_new(state, record.id):
        return work.done(Outcome.DUPLICATE)
    touched = apply(work, record)
    if touched is None:
        return work.done(Outcome.LATE)
    if state.ruleset != rules.ruleset.hash:
        by_data = state.born > rules.offset or isinstance(record, Restore)
        _first_look(work, Cause.DATA if by_data else Cause.RULES)
    elif touched and not state.deleted:
        _evaluate(work, touched, log_time, Cause.DATA)
    return work.done()


def let_time_pass(account: str, state: AccountState, until: int, log_time: int, rules: InForce) -> Step:
    """The account after its wakes up to `until` have fired, decided at `log_time`: what a tick does to it."""
    work = Work(copy(state), rules, log_time, account)
    _catch_up(work, until)
    if work.state.ruleset != rules.ruleset.hash:
        _first_look(work, Cause.RULES)
    return work.done()


# -- time and rules -----------------------------------------------------------------------------------------


def _catch_up(work: Work, until: int) -> None:
    state, ruleset = work.state, work.rules.ruleset
    if state.ruleset != ruleset.hash:
        _adopt(work)
        if state.ruleset:
            _switch(work)
    while state.wake <= until:
        instant = state.wake
        due = tuple(
            i for i, dimension in enumerate(ruleset.dimensions) if state.standings[dimension.name].wake <= instant
        )
        _evaluate(work, due, instant, Cause.TIME)


def _switch(work: Work) -> None:
    """The ruleset changed: dimensions it no longer has are left, all others are asked again."""
    state, rules = work.state, work.rules
    state.ruleset = rules.ruleset.hash
    for name in [name for name in state.standings if rules.ruleset.dimension(name) is None]:
        gone = state.standings[name]
        state.standings = {key: each for key, each in state.standings.items() if key != name}
        if gone.answer and not state.deleted:
            announce_removed(work, name, gone.answer)
    _set_wake(state)  # a dimension that is gone has nothing to wake for
    if not state.deleted:
        _evaluate(work, tuple(range(len(rules.ruleset.dimensions))), rules.at, Cause.RULES)


def _adopt(work: Work) -> None:
    """Takes on the measures of the ruleset in force, before anything is added to them.

    Those it no longer has go; of new ones, what an older account may have missed is under a floor.
    """
    state, rules = work.state, work.rules
    kept = {id: value for id, value in state.measures.items() if id in rules.ruleset.measures}
    for id, empty in rules.ruleset.measures.items():
        offset, introduced = rules.introduced[id]
        if id not in kept and state.born < offset:
            kept[id] = empty(introduced)
    state.measures = kept


def _first_look(work: Work, cause: Cause) -> None:
    """An account's first evaluation is told as one `account.state`, not as a change per dimension."""
    state, ruleset = work.state, work.rules.ruleset
    if not ruleset.dimensions:
        return
    state.ruleset = ruleset.hash
    if state.deleted:
        return
    for dimension in ruleset.dimensions:
        answer, wake = dimension.decide(state, work.log_time)
        state.standings = {**state.standings, dimension.name: Standing(answer, work.log_time, wake)}
    _set_wake(state)
    announce_state(work, work.log_time, cause)


# -- evaluating ---------------------------------------------------------------------------------------------


def _evaluate(work: Work, dimensions: tuple[int, ...], now: int, cause: Cause) -> None:
    state, ruleset = work.state, work.rules.ruleset
    current = state.standings
    fresh: dict[str, Standing] = {}
    moved: list[tuple[Dimension, Answer]] = []
    for i in dimensions:
        dimension = ruleset.dimensions[i]
        before = current.get(dimension.name)
        answer, wake = dimension.decide(state, now)
        if before is None:
            fresh[dimension.name] = Standing(answer, now, wake)
            if answer:
                moved.append((dimension, ()))
        elif before.answer != answer:
            fresh[dimension.name] = Standing(answer, now, wake)
            moved.append((dimension, before.answer))
        elif before.wake != wake:
            fresh[dimension.name] = Standing(answer, before.since, wake)
    if fresh:
        state.standings = {**current, **fresh}
        _set_wake(state)
    for dimension, was in moved:
        announce(work, dimension, was, now, cause)


def _set_wake(state: AccountState) -> None:
    wake = NEVER
    for standing in state.standings.values():
        if standing.wake < wake:
            wake = standing.wake
    state.wake = wake
