"""What a record adds to an account: facts by who is later, activities into the measures they feed.

Each function folds a record into the state under way and names the dimensions that read what changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TypeAlias, assert_never

from rules import overriding
from rules.announcing import announce_state
from rules.comparing import CONTACTS, report_of
from rules.facts import UNDECLARED, FactRule, coerce, merged
from rules.measures import Decision
from rules.records import (
    Activity,
    Contact,
    Delete,
    EndOverride,
    Facts,
    FactValue,
    Override,
    Restore,
    Stale,
    is_visitor,
)
from rules.ruleset import Feed, Ruleset
from rules.shedding import shed
from rules.state import GONE, HERE, NEVER, SEEN_BYTES, SEEN_KEPT, AccountState, Fact, Report
from rules.work import Cause, Work

FACTS_KEPT = 200  # facts of one account, and contacts of one account: what comes beyond is refused and counted
CONTACTS_KEPT = 500


def is_new(state: AccountState, id: str) -> bool:
    """Whether the account has not seen this event id among its newest; from here on it has."""
    mark = hashlib.blake2b(id.encode(), digest_size=SEEN_BYTES).digest()
    seen = state.seen
    found = seen.find(mark)
    while found >= 0 and found % SEEN_BYTES:
        found = seen.find(mark, found + 1)
    if found >= 0:
        return False
    state.seen = (seen + mark)[-SEEN_KEPT * SEEN_BYTES :]
    return True


Told: TypeAlias = Activity | Facts | Contact | Delete | Restore | Stale | Override | EndOverride


def apply(work: Work, record: Told) -> tuple[int, ...] | None:
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
        case Stale():
            work.state.stale = {**work.state.stale, record.source: min(record.at, work.log_time)}
            return ()
        case Override() | EndOverride():
            return _override(work, record)
        case _:
            assert_never(record)


def _apply_activity(work: Work, record: Activity) -> tuple[int, ...] | None:
    state, log_time = work.state, work.log_time
    at = record.at
    if at > log_time:
        work.early, at = at - log_time, log_time
    state.measures = values = dict(state.measures)
    touched: tuple[int, ...] = ()
    fed = late = False
    for feed in work.rules.ruleset.feeds_of(record.name):
        if feed.matches is not None and not feed.matches(record):
            continue
        known = values.get(feed.measure, feed.empty)
        if feed.renews is not None and feed.renews(known, record, log_time):
            values[feed.measure] = feed.add(known, at, record, log_time)
            fed = True
            continue
        said = [ask(state, log_time) for ask in feed.asked]
        values[feed.measure] = feed.add(known, at, record, log_time)
        if log_time - at >= feed.longest:
            late = True
        else:
            fed = True
            if feed.dimensions != touched and _says_otherwise(feed, said, state, log_time):
                touched = tuple(sorted({*touched, *feed.dimensions})) if touched else feed.dimensions
    return None if late and not fed and state.ruleset else touched


def _says_otherwise(feed: Feed, said: list[Decision], state: AccountState, now: int) -> bool:
    """Whether some condition says something else of the measure than before, or for a shorter time."""
    for ask, (verdict, until) in zip(feed.asked, said, strict=True):
        says, holds = ask(state, now)
        if says is not verdict or holds < until:
            return True
    return False


def _apply_facts(work: Work, record: Facts) -> tuple[int, ...]:
    ruleset = work.rules.ruleset
    current = dict(work.state.facts)
    changed = _merge(work, current, record, ruleset.facts)
    work.state.facts = current
    shed(work.state, ruleset, work.log_time)
    if record.source in work.state.stale and record.origin == "import":
        work.state.stale = {source: at for source, at in work.state.stale.items() if source != record.source}
    return _dimensions(ruleset, changed)


def _apply_contact(work: Work, record: Contact) -> tuple[int, ...]:
    ruleset, contacts = work.rules.ruleset, work.state.contacts
    if record.person not in contacts and len(contacts) >= CONTACTS_KEPT:
        work.refused.append("contacts")
        return ()
    current = dict(contacts.get(record.person, {}))
    changed = _merge(work, current, record, ruleset.contact_facts)
    at = min(record.at, work.log_time)
    if record.gone:
        if all(reported <= at for fact in current.values() for reported in _instants(fact)):
            current[GONE] = Fact(True, at, record.source)
    else:
        if GONE in current and current[GONE].at < at:
            del current[GONE]
        if not record.set and not record.clear and (HERE not in current or current[HERE].at < at):
            current[HERE] = Fact(True, at, record.source)
    if current == contacts.get(record.person) and not changed:
        return ()
    work.state.contacts = {**contacts, record.person: current}
    shed(work.state, ruleset, work.log_time)
    return _dimensions(ruleset, [CONTACTS])


def _instants(fact: Fact) -> Iterator[int]:
    """When it was reported, by each rank that did."""
    yield fact.at
    yield from (each.at for each in fact.others)


def _merge(
    work: Work, current: dict[str, Fact], record: Facts | Contact, rules: Mapping[str, FactRule]
) -> list[str]:
    """Takes the record's values into `current`; what conditions read of it that is another one now."""
    at = min(record.at, work.log_time)
    changed = []
    reported: list[tuple[str, FactValue]] = [*record.set.items(), *((name, None) for name in record.clear)]
    for name, raw in reported:
        known, rule = current.get(name), rules.get(name, UNDECLARED)
        if known is None and len(current) >= FACTS_KEPT:
            work.refused.append(name)
            continue
        try:
            value = coerce(rule.kind, raw, rule.zone)
        except ValueError:
            work.refused.append(name)
            continue
        fact = merged(known, Report(value, at, record.source), rule)
        if fact is None:
            continue
        current[name] = fact
        if (known.value if known is not None else None) != fact.value:
            changed.append(f"fact:{name}")
        if known is None or known.at != fact.at:
            changed.append(report_of(name))
    return changed


def _dimensions(ruleset: Ruleset, keys: list[str]) -> tuple[int, ...]:
    touched: set[int] = set()
    for key in keys:
        touched.update(ruleset.readers.get(key, ()))
    return tuple(sorted(touched))


def _delete(work: Work) -> tuple[int, ...]:
    state = work.state
    if state.deleted:
        return ()
    state.deleted, state.standings, state.wake = True, {}, NEVER
    state.overrides = overriding.without_rules(state.overrides)
    # Of one that was never looked at, too: whoever follows may know it from what the log has lost.
    if work.rules.ruleset.dimensions and not is_visitor(work.account):
        announce_state(work, work.log_time, Cause.DATA)
    return ()


def _restore(work: Work) -> tuple[int, ...]:
    if work.state.deleted:
        work.state.deleted = False
        work.state.ruleset = ""  # evaluated as if seen for the first time
    return ()


def _override(work: Work, record: Override | EndOverride) -> tuple[int, ...]:
    """Of what the rules do not have by now nothing can be said; a visitor stands nowhere."""
    state, ruleset = work.state, work.rules.ruleset
    dimension = ruleset.dimension(record.dimension)
    if is_visitor(work.account):
        return ()
    if dimension is None or (isinstance(record, Override) and not overriding.fits(dimension, record)):
        work.refused.append(f"override of {record.dimension}/{record.segment}")
        return ()
    if isinstance(record, Override):
        overriding.say(state, dimension, record, work.log_time)
    else:
        overriding.take_back(state, record)
    work.cause = Cause.OVERRIDE
    return (ruleset.index[dimension.name],)
