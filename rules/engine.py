"""state' = step(state, record): the one function that live, replay, plan, explain and tests all call.

A step does, in this order:

1. if the ruleset changed since the account was last evaluated, evaluate it anew as of the switch;
2. fire the account's wakes up to log_time, each at its own instant;
3. apply the record: facts by who is later, activities into the measures they feed;
4. evaluate the dimensions that read what changed, as of log_time.

Visitors, who are of no account yet, are folded and not evaluated; they are forgotten when nothing has come of them
for a while. An account that was merged into another passes on what still comes for it.

It takes no clock and keeps nothing: the state given is not touched, and the same input gives the same output.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from rules import filling, joining, overriding
from rules.announcing import announce, announce_removed, announce_state
from rules.applying import apply, is_new
from rules.durations import DAY
from rules.facts import UNDECLARED, FactRule
from rules.records import (
    AccountRecord,
    Activity,
    Delete,
    EndOverride,
    Fill,
    Merge,
    Override,
    Release,
    Restate,
    Restore,
    Same,
    Stale,
    Transfer,
    digest_of,
    is_visitor,
)
from rules.ruleset import InForce, Ruleset
from rules.state import NEVER, AccountState, Fact, copy, pack, unpack
from rules.work import Cause, Outcome, Step, Work

VISITORS_KEPT_DAYS = 30
# What says nothing of an account that nobody has heard of.
UNHEARD_OF = (Same, Stale, Release, Override, EndOverride, Fill)
HOPS = 32  # what was passed on so often goes in a circle


def step(state: AccountState | None, record: AccountRecord, log_time: int, rules: InForce) -> Step:
    """The account after `record`, and the changes this made, in order."""
    if isinstance(record, Restate):
        return _restate(state, record, log_time, rules)
    visitor = is_visitor(record.account)
    if state is None and (isinstance(record, UNHEARD_OF) or _into_itself(record)):
        return Step(None)
    if state is None and isinstance(record, Merge):
        return Step(_redirect(AccountState(born=record.offset), record, log_time))
    if state is None or (visitor and state.wake <= log_time):
        state = AccountState(born=record.offset)
    elif state.merged_into:
        # A circle ends at the same account for all that goes round, whatever is on its way.
        if record.hops < HOPS or state.merged_into < record.account:
            return _pass_on(state, joining.as_known(record, state, rules.ruleset), log_time)
        state = AccountState(born=record.offset)  # redirects in a circle: here it ends
    else:
        state = copy(state)
    state.touched = record.offset
    work = Work(state, rules, log_time, record.account, record.origin)
    _catch_up(work, log_time)
    if visitor:
        state.wake = _forgotten_at(log_time)
    if record.id and not is_new(state, record.id):
        return work.done(Outcome.DUPLICATE)
    if state.known:
        joining.forget_old(state, log_time)
        record = joining.as_known(record, state, rules.ruleset)
    if record.__class__ is Activity and record.name in rules.ruleset.outcomes:
        work.held = state.standings
    match record:
        case Merge():
            return _give_away(work, record)
        case Transfer():
            joining.take_in(work, record)
            return _taken_in(work, Cause.MERGE if record.by_crm else Cause.IDENTITY)
        case Same():
            joining.note(state, record.person, record.same_as, log_time)
            if joining.rename(state, record.person, record.same_as, rules.ruleset):
                return _taken_in(work, Cause.IDENTITY)
            return work.done()
        case Release():
            return _taken_in(work, Cause.DATA)
        case Fill():
            return _filled(work, record)
    touched = apply(work, record)
    if touched is None:
        return work.done(Outcome.LATE)
    if visitor:
        return work.done()
    if state.ruleset != rules.ruleset.hash:
        by_data = state.born > rules.offset or isinstance(record, Restore)
        _first_look(work, Cause.DATA if by_data else Cause.RULES)
    elif touched and not state.deleted:
        _evaluate(work, touched, log_time, work.cause)
    return work.done()


def let_time_pass(account: str, state: AccountState, until: int, log_time: int, rules: InForce) -> Step:
    """The account after its wakes up to `until` have fired, decided at `log_time`: what a tick does to it."""
    if is_visitor(account) and state.wake <= until:
        return Step(None)
    if state.merged_into:
        return Step(state)
    work = Work(copy(state), rules, log_time, account)
    _catch_up(work, until)
    if work.state.ruleset != rules.ruleset.hash:
        _first_look(work, Cause.RULES)
    return work.done()


def tell_again(account: str, state: AccountState, log_time: int, rules: InForce) -> Step:
    """Tells where the account stands, though nothing changed: an epoch begins."""
    work = Work(copy(state), rules, log_time, account)
    announce_state(work, log_time, Cause.REBUILD)
    return work.done()


def erase(account: str, state: AccountState, persons: Iterable[str], log_time: int, rules: InForce) -> Step:
    """The account without these people. A visitor who is one of them, or turned out to be, is gone altogether."""
    gone = list(persons)
    if is_visitor(account) and (
        state.wake <= log_time  # overdue: the next tick would have forgotten it
        or any(each in account for each in gone)
        or digest_of(account.removeprefix("visitor:")) in gone
        or not state.contacts.keys().isdisjoint(gone)
        or any(person in gone for person, _ in state.known.values())
    ):
        return Step(None)
    if state.merged_into:
        left = copy(state)
        joining.forget(left, gone, rules.ruleset)
        return Step(left)
    work = Work(copy(state), rules, log_time, account)
    _catch_up(work, log_time)
    if joining.forget(work.state, gone, rules.ruleset):
        return _taken_in(work, Cause.DATA)
    return work.done()


# -- one account of two -------------------------------------------------------------------------------------


def _give_away(work: Work, record: Merge) -> Step:
    """The account is another one: its state goes there, it leaves every segment, and a redirect stays."""
    state, ruleset = work.state, work.rules.ruleset
    if _into_itself(record):
        return work.done()
    if record.person is not None:
        joining.rename(state, *record.person, ruleset)
    told = bool(state.ruleset) and not is_visitor(record.account) and not state.deleted
    state.standings, state.wake, state.overrides = {}, NEVER, overriding.without_rules(state.overrides)
    filling.give(record.account, state, work.rules)
    # Sent even if nothing is kept: under other rules something might have been, and is missing.
    sent = Transfer(
        account=record.into,
        merged=record.account,
        at=work.log_time,
        received=work.log_time,
        ruleset=ruleset.hash,
        state=pack(state),
        by_crm=record.by_crm,
        deployment=work.rules.deployment,
        origin=record.origin,
        hops=record.hops,
    )
    work.sent.append(sent)
    work.state = _redirect(state, record, work.log_time)
    if told:
        announce_state(work, work.log_time, Cause.MERGE if record.by_crm else Cause.IDENTITY)
    return work.done()


def _into_itself(record: AccountRecord) -> bool:
    return isinstance(record, Merge) and record.into == record.account


def _redirect(state: AccountState, record: Merge, log_time: int) -> AccountState:
    """What stays of an account that is another one: who people are, for what is passed on. Of a visitor it is also
    noted who that turned out to be, so that it goes when they ask to be forgotten."""
    left = AccountState(
        born=state.born, merged_into=record.into, touched=record.offset, known=state.known, told=state.told
    )
    if is_visitor(record.account):
        left.wake = _forgotten_at(log_time)
        if record.person is not None:
            joining.note(left, *record.person, log_time)
    return left


def _taken_in(work: Work, cause: Cause) -> Step:
    """After what an account has became something else in many places: all dimensions are asked."""
    state, ruleset = work.state, work.rules.ruleset
    if is_visitor(work.account):
        return work.done()
    if state.ruleset != ruleset.hash:
        _first_look(work, cause)
    elif not state.deleted:
        _evaluate(work, tuple(range(len(ruleset.dimensions))), work.log_time, cause)
    return work.done()


def _filled(work: Work, record: Fill) -> Step:
    """What happened before its rules were in force is counted: dimensions that ask for it are asked again."""
    dimensions = filling.fill(work, record)
    if dimensions is None:
        return work.done(Outcome.DUPLICATE)
    state = work.state
    is_evaluated = state.ruleset == work.rules.ruleset.hash and not is_visitor(work.account)
    if dimensions and is_evaluated and not state.deleted:
        _evaluate(work, dimensions, work.log_time, Cause.BACKFILL)
    return work.done()


def _pass_on(state: AccountState, record: AccountRecord, log_time: int) -> Step:
    """What comes for an account that is another one goes there. That it is no more in its source says nothing of
    the other; and into what it was merged has been decided."""
    state = copy(state)
    state.touched = record.offset
    if isinstance(record, Delete | Restore | Merge | Release):
        return Step(state, outcome=Outcome.DUPLICATE)
    sent = msgspec.structs.replace(
        record,
        account=state.merged_into,
        received=log_time,
        hops=record.hops + 1,
        under=record.under if is_visitor(record.account) else record.account,
        via=None,
        offset=0,
    )
    return Step(state, outcome=Outcome.PASSED_ON, sent=(sent,))


def _restate(state: AccountState | None, record: Restate, log_time: int, rules: InForce) -> Step:
    """Two accounts that were one are separated: this one is what the record says, which was built from the log."""
    if state is not None and state.touched >= record.upto:
        return Step(state, outcome=Outcome.OVERTAKEN)
    told = unpack(record.state)
    state = AccountState(born=told.born) if state is None or state.merged_into else copy(state)
    state.touched = record.offset
    work = Work(state, rules, log_time, record.account, record.origin)
    _catch_up(work, log_time)
    state.born, state.seen, state.also, state.stale = told.born, told.seen, told.also, told.stale
    state.known, state.degraded = told.known, told.degraded
    state.facts = _reread(told.facts, rules.ruleset.facts)
    state.contacts = {each: _reread(facts, rules.ruleset.contact_facts) for each, facts in told.contacts.items()}
    state.measures = _told_measures(told, record.at, rules.ruleset)
    state.gaps, state.opened = {}, max(state.opened, told.opened)  # a fill would be of both accounts
    overriding.replace(state, told.overrides)
    if told.deleted and not state.deleted:
        state.deleted, state.standings, state.wake = True, {}, NEVER
        state.overrides = overriding.without_rules(state.overrides)
        if state.ruleset:
            announce_state(work, log_time, Cause.MERGE)
    elif state.deleted and not told.deleted:
        state.deleted, state.ruleset = False, ""
    return _taken_in(work, Cause.MERGE)


def _told_measures(told: AccountState, at: int, ruleset: Ruleset) -> dict[str, bytes]:
    """Of a measure that another ruleset did not have, all is missing up to when the state was built."""
    measures = {id: kept for id, kept in told.measures.items() if id in ruleset.measures}
    if told.ruleset != ruleset.hash:
        measures |= {id: kept.empty(at) for id, kept in ruleset.measures.items() if id not in measures}
    return measures


def _forgotten_at(log_time: int) -> int:
    """When a visitor goes of whom nothing came since: whole days, so that it is not another instant each time."""
    return (log_time // DAY + VISITORS_KEPT_DAYS + 1) * DAY


# -- time and rules -----------------------------------------------------------------------------------------


def _catch_up(work: Work, until: int) -> None:
    state, ruleset = work.state, work.rules.ruleset
    if work.rules.fillings:
        filling.open_gaps(work)
    if state.ruleset != ruleset.hash:
        _adopt(work)
        if is_visitor(work.account):
            state.ruleset = ruleset.hash
        elif state.ruleset:
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
    for id, each in rules.ruleset.measures.items():
        offset, introduced = rules.introduced[id]
        if id not in kept and state.born < offset:
            kept[id] = each.empty(introduced)
    state.measures = kept
    state.facts = _reread(state.facts, rules.ruleset.facts)
    state.contacts = {
        person: _reread(facts, rules.ruleset.contact_facts) for person, facts in state.contacts.items()
    }
    if state.overrides:
        state.overrides = {name: each for name, each in state.overrides.items() if name in rules.ruleset.index}


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
    before, said = state.standings, state.overrides
    moved = work.rules.ruleset.settle(state, dimensions, now)
    if state.standings is not before:
        _set_wake(state)
    for dimension, was in moved:
        expired = cause is Cause.TIME and said and overriding.ended(said, state.overrides, dimension.name)
        announce(work, dimension, was, now, Cause.OVERRIDE if expired else cause)


def _set_wake(state: AccountState) -> None:
    wake = NEVER
    for standing in state.standings.values():
        if standing.wake < wake:
            wake = standing.wake
    state.wake = wake
