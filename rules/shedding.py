"""What an account may keep of facts that no rule reads: so many bytes, and then the oldest goes first.

Facts that rules declare are never dropped, so nothing is decided otherwise because there was too much of others.
"""

from __future__ import annotations

from collections.abc import Mapping

from rules.records import FactValue
from rules.ruleset import Ruleset
from rules.state import GONE, HERE, AccountState, Fact

UNREAD_BYTES = 32 * 1024  # of an account and its contacts together
FACT_BYTES = 16  # what a fact takes, about, beside its name and its value
OURS = {GONE, HERE}  # what is noted among a contact's facts and is none


def shed(state: AccountState, ruleset: Ruleset, log_time: int) -> None:
    """Drops what is too much, and notes when. Facts and contacts are replaced, not changed."""
    left = sum(_bytes(name, fact) for _, name, fact in _unread(state, ruleset)) - UNREAD_BYTES
    if left <= 0:
        return
    state.facts, state.contacts, state.degraded = dict(state.facts), dict(state.contacts), log_time
    for person, name, fact in sorted(_unread(state, ruleset), key=lambda each: (each[2].at, each[0], each[1])):
        if left <= 0:
            break
        left -= _bytes(name, fact)
        if person:
            state.contacts[person] = _without(state.contacts[person], name)
        else:
            del state.facts[name]


def _unread(state: AccountState, ruleset: Ruleset) -> list[tuple[str, str, Fact]]:
    """Whose they are ("": the account's), names, and facts."""
    found = [("", name, fact) for name, fact in state.facts.items() if name not in ruleset.facts]
    read = ruleset.contact_facts.keys() | OURS
    for person, facts in state.contacts.items():
        if not facts.keys() <= read:
            found += [(person, name, fact) for name, fact in facts.items() if name not in read]
    return found


def _without(facts: Mapping[str, Fact], name: str) -> dict[str, Fact]:
    """A contact without that fact; that it was there when the fact was reported stays known."""
    left, gone = {each: fact for each, fact in facts.items() if each != name}, facts[name]
    here = left.get(HERE)
    if here is None or here.at < gone.at:
        left[HERE] = Fact(True, gone.at, gone.source)
    return left


def _bytes(name: str, fact: Fact) -> int:
    values = (fact.value, *(each.value for each in fact.others))
    return FACT_BYTES + _length(name) + sum(map(_length, values))


def _length(value: FactValue) -> int:
    match value:
        case str():
            return len(value.encode())
        case list():
            return sum(map(_length, value))
    return 8
