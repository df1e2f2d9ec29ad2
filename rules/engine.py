"""state' = step(state, record): the one function that live, replay, plan, explain and tests all call.

A step does, in this order:

1. if the ruleset changed since the account was last evaluated, evaluate it anew as of the switch;
2. fire the account's wakes up to log_time, each at its own instant;
3. apply the record: facts by who is later, activities into the measures they feed;
4. evaluate the dimensions that read what changed, as of log_time.

It takes no clock and keeps nothing: the state given is not touched, and the same input gives the same output.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import assert_never

import msgspec

from rules.conditions import CONTACTS, Told
from rules.records import AccountRecord, Activity, Contact, Delete, Facts, FactValue, Origin, Restore
from rules.ruleset import Dimension, InForce, Ruleset, coerce
from rules.state import (
    NEVER,
    SEEN_BYTES,
    SEEN_KEPT,
    AccountState,
    Answer,
    Fact,
    Standing,
    copy,
)

FACTS_KEPT = 200  # facts of one account, and contacts of one account: what comes beyond is refused and counted
CONTACTS_KEPT = 500


class Cause(StrEnum):
    """Why an answer changed."""

    DATA = "data"
    TIME = "time"
    RULES = "rules"


class Outcome(StrEnum):
    """What became of a record: every one that is read is counted under exactly one of these."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    LATE = "late"  # outside every window that asks for it


APPLIED = Outcome.APPLIED  # a plain global: looking a member up in its class costs more than using it


class Kind(StrEnum):
    MOVED = "segment.moved"
    ENTERED = "segment.entered"
    LEFT = "segment.left"
    STATE = "account.state"


# Structs, not dataclasses: a step is made for every record, and a frozen dataclass costs a microsecond.
class Change(msgspec.Struct, frozen=True, gc=False):
    """An account moved within a dimension; for `account.state`, where it stands in all of them."""

    kind: Kind
    account: str
    dimension: str
    before: Answer
    after: Answer
    segment: str  # a set: which segment was entered or left; a ladder: where it is now
    effective: int
    decided: int
    cause: Cause
    origin: Origin
    stays_until: int
    reason: Told
    name: str = ""
    owner: str = ""
    action: str = ""
    provisional: bool = False
    deleted: bool = False
    memberships: dict[str, Standing] = {}


class Step(msgspec.Struct, frozen=True, gc=False):
    state: AccountState
    changes: tuple[Change, ...] = ()
    outcome: Outcome = APPLIED
    refused: tuple[str, ...] = ()  # facts whose value could not be what they are declared to be
    early: int = 0  # ms by which the record's `at` lay in the future


class _Work(msgspec.Struct, gc=False):
    """A step under way."""

    state: AccountState
    rules: InForce
    log_time: int
    account: str
    origin: Origin = "live"
    changes: list[Change] = []
    refused: list[str] = []
    early: int = 0

    def done(self, outcome: Outcome = APPLIED) -> Step:
        return Step(self.state, tuple(self.changes), outcome, tuple(self.refused), self.early)


def step(state: AccountState | None, record: AccountRecord, log_time: int, rules: InForce) -> Step:
    """The account after `record`, and the changes this made, in order."""
    state = AccountState(born=record.offset) if state is None else copy(state)
    work = _Work(state, rules, log_time, record.account, record.origin)
    _catch_up(work, log_time)
    if record.id and not _is_new(state, record.id):
        return work.done(Outcome.DUPLICATE)
    touched = _apply(work, record)
    if touched is None:
        return work.done(Outcome.LATE)
    if state.ruleset != rules.ruleset.hash:
        _first_look(work)
    elif touched and not state.deleted:
        _evaluate(work, touched, log_time, Cause.DATA)
    return work.done()


def let_time_pass(account: str, state: AccountState, until: int, log_time: int, rules: InForce) -> Step:
    """The account after its wakes up to `until` have fired, decided at `log_time`: what a tick does to it."""
    work = _Work(copy(state), rules, log_time, account)
    _catch_up(work, until)
    if work.state.ruleset != rules.ruleset.hash:
        _first_look(work)
    return work.done()


# -- time and rules -----------------------------------------------------------------------------------------


def _catch_up(work: _Work, until: int) -> None:
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


def _switch(work: _Work) -> None:
    """The ruleset changed: dimensions it no longer has are left, all others are asked again."""
    state, rules = work.state, work.rules
    state.ruleset = rules.ruleset.hash
    for name in [name for name in state.standings if rules.ruleset.dimension(name) is None]:
        gone = state.standings[name]
        state.standings = {key: each for key, each in state.standings.items() if key != name}
        if gone.answer and not state.deleted:
            _announce_removed(work, name, gone.answer)
    if not state.deleted:
        _evaluate(work, tuple(range(len(rules.ruleset.dimensions))), rules.at, Cause.RULES)


def _adopt(work: _Work) -> None:
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


def _first_look(work: _Work) -> None:
    """An account's first evaluation is told as one `account.state`, not as a change per dimension."""
    state, ruleset = work.state, work.rules.ruleset
    if not ruleset.dimensions:
        return
    state.ruleset = ruleset.hash
    if state.deleted:
        return
    cause = Cause.DATA if state.born > work.rules.offset else Cause.RULES
    for dimension in ruleset.dimensions:
        answer, wake = dimension.decide(state, work.log_time)
        state.standings = {**state.standings, dimension.name: Standing(answer, work.log_time, wake)}
    _set_wake(state)
    work.changes.append(_state_change(work, work.log_time, cause))


# -- evaluating ---------------------------------------------------------------------------------------------


def _evaluate(work: _Work, dimensions: tuple[int, ...], now: int, cause: Cause) -> None:
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
        _announce(work, dimension, was, now, cause)


def _set_wake(state: AccountState) -> None:
    wake = NEVER
    for standing in state.standings.values():
        if standing.wake < wake:
            wake = standing.wake
    state.wake = wake


def _announce(work: _Work, dimension: Dimension, before: Answer, now: int, cause: Cause) -> None:
    state = work.state
    standing = state.standings[dimension.name]
    after = standing.answer
    until = dimension.stays_until(after, state, standing.wake)
    if dimension.kind == "ladder":
        kinds = [(Kind.MOVED, after[0] if after else "")]
    else:
        kinds = [(Kind.LEFT, each) for each in before if each not in after]
        kinds += [(Kind.ENTERED, each) for each in after if each not in before]
    for kind, name in kinds:
        segment = dimension.segment(name)
        work.changes.append(
            Change(
                kind,
                work.account,
                dimension.name,
                before,
                after,
                name,
                now,
                work.log_time,
                cause,
                work.origin,
                until,
                explain(dimension, state, before, name, now),
                display_name(state),
                segment.owner if segment else "",
                segment.action if segment else "",
                is_provisional(work.account),
            )
        )


def _announce_removed(work: _Work, dimension: str, before: Answer) -> None:
    reason: Told = {"says": f"dimension '{dimension}' is not in the ruleset any more", "verdict": "false"}
    work.changes.append(
        Change(
            Kind.MOVED,
            work.account,
            dimension,
            before,
            (),
            "",
            work.rules.at,
            work.log_time,
            Cause.RULES,
            work.origin,
            NEVER,
            reason,
            display_name(work.state),
            provisional=is_provisional(work.account),
        )
    )


def _state_change(work: _Work, now: int, cause: Cause) -> Change:
    state, ruleset = work.state, work.rules.ruleset
    told: Told = {}
    for dimension in ruleset.dimensions:
        answer = state.standings[dimension.name].answer if dimension.name in state.standings else ()
        if answer:
            told[dimension.name] = explain(dimension, state, (), answer[0], now)
    return Change(
        Kind.STATE,
        work.account,
        "",
        (),
        (),
        "",
        now,
        work.log_time,
        cause,
        work.origin,
        state.wake,
        told,
        display_name(state),
        provisional=is_provisional(work.account),
        deleted=state.deleted,
        memberships=state.standings,
    )


def explain(dimension: Dimension, state: AccountState, before: Answer, segment: str, now: int) -> Told:
    """Why: the tree of the segment it is about, of the one it left, and what could not be decided on the way."""
    told: Told = (
        dimension.tell(segment, state, now) if segment else {"says": "no segment matches", "verdict": "true"}
    )
    reason: Told = {"text": "", "because": told}
    if dimension.kind == "ladder" and before and before[0] != segment and dimension.segment(before[0]):
        left = dimension.tell(before[0], state, now)
        if left["verdict"] != "true":
            reason["left"] = {"segment": before[0]} | left
    reason["text"] = "; ".join(headline(reason.get("left", told))[:3])
    if dimension.skips_unknown and (unknown := dimension.unknown(state, now)):
        reason["unknown"] = [name for name, _ in unknown]
    return reason


def headline(told: Told) -> list[str]:
    """The leaves of a tree that made its verdict, in words, the first first."""
    parts = told.get("parts")
    if not parts:
        return [told["says"]]
    if told["says"] == "not":
        return headline(parts[0])
    deciding = [part for part in parts if part["verdict"] == told["verdict"]]
    return [words for part in deciding or parts for words in headline(part)]


def display_name(state: AccountState) -> str:
    name = state.facts.get("name")
    return str(name.value) if name is not None and name.value is not None else ""


def is_provisional(account: str) -> bool:
    """Known by a domain or a group only; a link that is learnt later merges it into its account."""
    return account.startswith(("domain:", "group:", "visitor:"))


# -- applying -----------------------------------------------------------------------------------------------


def _is_new(state: AccountState, id: str) -> bool:
    mark = hashlib.blake2b(id.encode(), digest_size=SEEN_BYTES).digest()
    seen = state.seen
    found = seen.find(mark)
    while found >= 0 and found % SEEN_BYTES:
        found = seen.find(mark, found + 1)
    if found >= 0:
        return False
    state.seen = (seen + mark)[-SEEN_KEPT * SEEN_BYTES :]
    return True


def _apply(work: _Work, record: AccountRecord) -> tuple[int, ...] | None:
    """Folds the record in; the dimensions it touches, or None for what is outside every window."""
    match record:
        case Activity():
            return _apply_activity(work, record)
        case Facts():
            return _apply_facts(work, record)
        case Contact():
            return _apply_contact(work, record)
        case Delete():
            return _delete(work)
        case Restore():
            return _restore(work)
        case _:
            assert_never(record)


def _apply_activity(work: _Work, record: Activity) -> tuple[int, ...] | None:
    state, log_time = work.state, work.log_time
    at = record.at
    if at > log_time:
        work.early, at = at - log_time, log_time
    state.measures = values = dict(state.measures)
    touched: set[int] = set()
    fed = late = False
    for feed in work.rules.ruleset.feeds_of(record.name):
        if feed.matches is not None and not feed.matches(record.props):
            continue
        values[feed.measure] = feed.add(values.get(feed.measure, feed.empty), at, record.offset, log_time)
        if log_time - at >= feed.longest:
            late = True
        else:
            fed = True
            touched.update(feed.dimensions)
    return None if late and not fed and state.ruleset else tuple(sorted(touched))


def _apply_facts(work: _Work, record: Facts) -> tuple[int, ...]:
    ruleset = work.rules.ruleset
    current = dict(work.state.facts)
    changed = _merge(work, current, record, ruleset.fact_types)
    work.state.facts = current
    return _dimensions(ruleset, [f"fact:{name}" for name in changed])


def _apply_contact(work: _Work, record: Contact) -> tuple[int, ...]:
    ruleset, contacts = work.rules.ruleset, work.state.contacts
    if record.person not in contacts and len(contacts) >= CONTACTS_KEPT:
        work.refused.append("contacts")
        return ()
    current = dict(contacts.get(record.person, {}))
    changed = _merge(work, current, record, ruleset.contact_types)
    at = min(record.at, work.log_time)
    if record.gone:
        if all(fact.at <= at for fact in current.values()):
            current["gone"] = Fact(True, at, record.source)
    elif "gone" in current and current["gone"].at < at:
        del current["gone"]
    if current == contacts.get(record.person) and not changed:
        return ()
    work.state.contacts = {**contacts, record.person: current}
    return _dimensions(ruleset, [CONTACTS])


def _merge(work: _Work, current: dict[str, Fact], record: Facts | Contact, types: dict[str, str]) -> list[str]:
    """Lays the record's values over `current`; the names whose value is another one now. The later `at` wins."""
    at = min(record.at, work.log_time)
    changed = []
    reported: list[tuple[str, FactValue]] = [*record.set.items(), *((name, None) for name in record.clear)]
    for name, raw in reported:
        known = current.get(name)
        if known is not None and known.at > at:
            continue
        if known is None and len(current) >= FACTS_KEPT:
            work.refused.append(name)
            continue
        try:
            value = coerce(types.get(name, "any"), raw)
        except ValueError:
            work.refused.append(name)
            continue
        current[name] = Fact(value, at, record.source)
        if (known.value if known is not None else None) != value:
            changed.append(name)
    return changed


def _dimensions(ruleset: Ruleset, keys: list[str]) -> tuple[int, ...]:
    touched: set[int] = set()
    for key in keys:
        touched.update(ruleset.readers.get(key, ()))
    return tuple(sorted(touched))


def _delete(work: _Work) -> tuple[int, ...]:
    state = work.state
    if state.deleted:
        return ()
    state.deleted, state.standings, state.wake = True, {}, NEVER
    if state.ruleset:
        work.changes.append(_state_change(work, work.log_time, Cause.DATA))
    return ()


def _restore(work: _Work) -> tuple[int, ...]:
    if work.state.deleted:
        work.state.deleted = False
        work.state.ruleset = ""  # evaluated as if seen for the first time
    return ()
