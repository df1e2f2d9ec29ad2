"""state' = step(state, record): the one function that live, replay, plan, explain and tests all call.

A step does, in this order:

1. if the ruleset changed since the account was last evaluated, evaluate it anew as of the switch;
2. fire the account's wakes up to log_time, each at its own instant;
3. apply the record: facts by who is later, activities into the measures they feed;
4. evaluate the dimensions that read what changed, as of log_time.

It takes no clock and keeps nothing: the state given is not touched, and the same input gives the same output.
"""

from __future__ import annotations

import msgspec

from rules.announcing import announce, announce_removed, announce_state
from rules.applying import apply, is_new
from rules.facts import UNDECLARED, FactRule
from rules.records import AccountRecord, Activity, Restore
from rules.ruleset import InForce
from rules.state import NEVER, AccountState, Fact, copy
from rules.work import Cause, Outcome, Step, Work


def step(state: AccountState | None, record: AccountRecord, log_time: int, rules: InForce) -> Step:
    """The account after `record`, and the changes this made, in order."""
    state = AccountState(born=record.offset) if state is None else copy(state)
    work = Work(state, rules, log_time, record.account, record.origin)
    _catch_up(work, log_time)
    if record.id and not is_new(state, record.id):
        return work.done(Outcome.DUPLICATE)
    if record.__class__ is Activity and record.name in rules.ruleset.outcomes:
        work.held = state.standings
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
        due = tuple(ruleset.index[name] for name, standing in state.standings.items() if standing.wake <= instant)
        _evaluate(work, tuple(sorted(due)), instant, Cause.TIME)


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
    state.facts = _reread(state.facts, rules.ruleset.facts)
    state.contacts = {
        person: _reread(facts, rules.ruleset.contact_facts) for person, facts in state.contacts.items()
    }


def _reread(facts: dict[str, Fact], rules: dict[str, FactRule]) -> dict[str, Fact]:
    """Facts under other vocabularies, which may know a spelling by now, or another that is nearly it."""
    return {name: _matched(fact, rules.get(name, UNDECLARED)) for name, fact in facts.items()}


def _matched(fact: Fact, rule: FactRule) -> Fact:
    match = rule.meanings.nearest(fact.value) if rule.meanings is not None else None
    return fact if match == fact.match else msgspec.structs.replace(fact, match=match)


def _first_look(work: Work, cause: Cause) -> None:
    """An account's first evaluation is told as one `account.state`, not as a change per dimension."""
    state, ruleset = work.state, work.rules.ruleset
    if not ruleset.dimensions:
        return
    state.ruleset = ruleset.hash
    if state.deleted:
        return
    ruleset.settle(state, tuple(range(len(ruleset.dimensions))), work.log_time)
    _set_wake(state)
    announce_state(work, work.log_time, cause)


# -- evaluating ---------------------------------------------------------------------------------------------


def _evaluate(work: Work, dimensions: tuple[int, ...], now: int, cause: Cause) -> None:
    state = work.state
    before = state.standings
    moved = work.rules.ruleset.settle(state, dimensions, now)
    if state.standings is not before:
        _set_wake(state)
    for dimension, was in moved:
        announce(work, dimension, was, now, cause)


def _set_wake(state: AccountState) -> None:
    wake = NEVER
    for standing in state.standings.values():
        if standing.wake < wake:
            wake = standing.wake
    state.wake = wake
