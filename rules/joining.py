"""Two accounts turn out to be one: what both have, as if everything had happened at the one that stays.

    merge     account A is B       A's fold gives A's state away and leaves a redirect behind
    transfer  what A had           B's fold takes it in; then B is asked anew in every dimension
    same      person P is Q        at one account: what P did, Q did

A provisional account joins by the rules that facts have anyway: who is later, who ranks higher. So it is all one
when a link is learnt. Where the CRM makes one account of two, the facts of the one that stays win and
missing ones are filled; the CRM has asked somebody which to keep.

What somebody said of either account (`overriding`) joins like a fact: by who said it later, or the survivor's.

Windows, people, sums, sequences and scores add up. What an account waits for (`for`, `stay`, `keep_for`) runs on
as it did at the account that stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from rules import filling, overriding
from rules.applying import CONTACTS_KEPT, FACTS_KEPT
from rules.durations import DAY
from rules.facts import UNDECLARED, FactRule, merged
from rules.records import AccountRecord, Activity, Contact, Fill, Restate, Transfer, is_visitor
from rules.ruleset import Ruleset
from rules.shedding import shed
from rules.state import GONE, SEEN_BYTES, SEEN_KEPT, AccountState, Fact, Report, pack, unpack
from rules.work import Work

ALSO_KEPT = 50  # accounts that were merged into one, of which it is noted
KNOWN_KEPT, KNOWN_FOR = 16, 7 * DAY  # people of whom it is noted as whom they were counted, and how long
Brought = TypeVar("Brought", bound=Transfer | Restate | Fill)
Passing = TypeVar("Passing", bound=AccountRecord)


def take_in(work: Work, record: Transfer) -> None:
    """`work`'s account with all that the other one had. Raises ValueError for a state this code cannot read."""
    mine, ruleset = work.state, work.rules.ruleset
    theirs = filling.given(unpack(record.state), record, work.rules)
    twice = _seen_by_both(mine.seen, theirs.seen)
    mine.measures = _measures(mine.measures, theirs, record, work, twice)
    filling.take(mine, theirs)
    mine.facts = _facts(mine.facts, theirs.facts, ruleset.facts, mine_win=record.by_crm)
    mine.contacts = _contacts(mine.contacts, theirs.contacts, ruleset.contact_facts)
    _refuse_too_many(work)
    mine.degraded = max(mine.degraded, theirs.degraded)
    shed(mine, ruleset, work.log_time)
    overriding.join(mine, theirs, ruleset, mine_win=record.by_crm)
    mine.seen = _seen(mine.seen, theirs.seen)
    mine.stale = {**theirs.stale, **mine.stale}
    mine.known = dict([*{**theirs.known, **mine.known}.items()][-KNOWN_KEPT:])
    if not is_visitor(record.merged):
        also = dict.fromkeys((*mine.also, *theirs.also, record.merged))
        also.pop(work.account, None)  # it was merged into one that was merged into it
        mine.also = tuple(also)[-ALSO_KEPT:]


def _refuse_too_many(work: Work) -> None:
    state = work.state
    for name in [*state.facts][FACTS_KEPT:]:
        work.refused.append(name)
        del state.facts[name]
    for person in [*state.contacts][CONTACTS_KEPT:]:
        work.refused.append("contacts")
        del state.contacts[person]


def _measures(
    mine: Mapping[str, bytes], theirs: AccountState, record: Transfer, work: Work, twice: bool
) -> dict[str, bytes]:
    """Of a measure that the other fold did not keep, all is missing up to when it gave the account away."""
    joined = dict(mine)
    rules = work.rules
    same_rules = record.ruleset == rules.ruleset.hash
    rules_before = (record.deployment, record.ruleset) == rules.before
    for id, kept in rules.ruleset.measures.items():
        other = theirs.measures.get(id)
        was_kept = same_rules or (rules_before and rules.introduced[id][0] < rules.offset)
        if other is None and not was_kept:
            other = kept.empty(record.at)
        if other is not None and other != kept.empty(0):
            own = joined.get(id, kept.empty(0))
            joined[id] = kept.join(own, other, record.offset, work.log_time, twice)
    return joined


def _facts(
    mine: dict[str, Fact], theirs: dict[str, Fact], rules: Mapping[str, FactRule], *, mine_win: bool
) -> dict[str, Fact]:
    joined = dict(mine)
    for name, fact in theirs.items():
        known = joined.get(name)
        if mine_win:
            if known is None or known.value is None:
                joined[name] = fact
            continue
        for report in (*fact.others, Report(fact.value, fact.at, fact.source)):
            known = merged(known, report, rules.get(name, UNDECLARED)) or known
        if known is not None:
            joined[name] = known
    return joined


def _contacts(
    mine: dict[str, dict[str, Fact]], theirs: dict[str, dict[str, Fact]], rules: Mapping[str, FactRule]
) -> dict[str, dict[str, Fact]]:
    joined = dict(mine)
    for person, facts in theirs.items():
        joined[person] = _contact(joined[person], facts, rules) if person in joined else facts
    return joined


def _contact(mine: dict[str, Fact], theirs: dict[str, Fact], rules: Mapping[str, FactRule]) -> dict[str, Fact]:
    """One person's facts; who was reported as a contact after having gone has come back."""
    facts = _facts(mine, theirs, rules, mine_win=False)
    if GONE in facts:
        gone = facts[GONE].at
        # Who moved from one to the other has gone at the instant at which they came: they are here.
        if any(_reported(side) >= gone + (GONE in side) for side in (mine, theirs)):
            del facts[GONE]
    return facts


def _reported(facts: dict[str, Fact]) -> int:
    """When somebody was last reported as a contact."""
    reported = (fact for name, fact in facts.items() if name != GONE)
    return max((max(fact.at, *(each.at for each in fact.others), 0) for fact in reported), default=0)


def rename(state: AccountState, person: str, same_as: str, ruleset: Ruleset) -> bool:
    """What `person` did and is at this account is `same_as`; whether there was anything."""
    measures = dict(state.measures)
    for id, kept in ruleset.measures.items():
        if kept.renamed is not None and id in measures:
            measures[id] = kept.renamed(measures[id], person, same_as)
    changed = measures != state.measures
    state.measures = measures
    if person in state.contacts:
        contacts = dict(state.contacts)
        theirs = contacts.pop(person)
        mine = contacts.get(same_as)
        contacts[same_as] = theirs if mine is None else _contact(mine, theirs, ruleset.contact_facts)
        state.contacts, changed = contacts, True
    return changed


def note(state: AccountState, person: str, same_as: str, log_time: int) -> None:
    """What was on its way when it was learnt who somebody is says still the other: it is taken for theirs."""
    known = {was: each for was, each in state.known.items() if was != person} | {person: (same_as, log_time)}
    state.known = dict([*known.items()][-KNOWN_KEPT:])


def forget_old(state: AccountState, log_time: int) -> None:
    if any(at <= log_time - KNOWN_FOR for _, at in state.known.values()):
        state.known = {was: each for was, each in state.known.items() if each[1] > log_time - KNOWN_FOR}


def as_known(record: Passing, state: AccountState, ruleset: Ruleset) -> Passing:
    """The record with people as who they turned out to be."""
    for was, (person, _) in state.known.items():
        if isinstance(record, Transfer | Fill):
            theirs = unpack(record.state)
            if rename(theirs, was, person, ruleset):
                record = msgspec.structs.replace(record, state=pack(theirs))
        elif isinstance(record, Activity | Contact) and record.person == was:
            record = msgspec.structs.replace(record, person=person)
    return record


def forget(state: AccountState, persons: Iterable[str], ruleset: Ruleset) -> bool:
    """Nothing of these people stays at the account; whether there was anything."""
    gone = set(persons)
    measures = dict(state.measures)
    for id, kept in ruleset.measures.items():
        if kept.renamed is not None and id in measures:
            for person in gone:
                measures[id] = kept.renamed(measures[id], person, None)
    contacts = {person: facts for person, facts in state.contacts.items() if person not in gone}
    known = {was: each for was, each in state.known.items() if was not in gone and each[0] not in gone}
    changed = measures != state.measures or len(contacts) < len(state.contacts) or len(known) < len(state.known)
    state.measures, state.contacts, state.known = measures, contacts, known
    return changed


def without(record: Brought, persons: Iterable[str], ruleset: Ruleset) -> Brought:
    """The record with nothing of these people in what it brings."""
    state = unpack(record.state)
    if not forget(state, persons, ruleset):
        return record
    return msgspec.structs.replace(record, state=pack(state))


def _seen_by_both(mine: bytes, theirs: bytes) -> bool:
    return not set(_marks(mine)).isdisjoint(_marks(theirs))


def _seen(mine: bytes, theirs: bytes) -> bytes:
    """The marks of both, those of the account that stays being the newer ones."""
    own = _marks(mine)
    known = set(own)
    return b"".join([*(mark for mark in _marks(theirs) if mark not in known), *own][-SEEN_KEPT:])


def _marks(seen: bytes) -> list[bytes]:
    return [seen[start : start + SEEN_BYTES] for start in range(0, len(seen), SEEN_BYTES)]
