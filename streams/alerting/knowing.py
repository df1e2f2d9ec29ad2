"""What is known of an account besides the change: where else it stands, whose it is, who there did something.

Read from what the fold keeps. Of people there are roles and how many, and nobody's name: the log has none.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from rules import measures
from rules.durations import DAY
from rules.facts import UNDECLARED
from rules.growing import identity
from rules.measures import person_tag
from rules.ruleset import ANY_ACTIVITY, Ruleset
from rules.state import GONE, AccountState, Fact
from streams.alerting.seen import do_of
from streams.alerting.stepping import About
from streams.keys import PartitionKeys
from streams.producer import partition_of
from streams.reading import Reader
from streams.settings import Settings
from streams.store.base import unpack_state

WEEK = 7 * DAY
ROLES_SHOWN = 8
IDS_KEPT = 5
FACT_LONGEST = 200
RULES_S = 5.0  # rulesets are large and seldom change


class Knowing:
    """Asks the fold's store. What is not there, or not yet, is unknown."""

    def __init__(self, redis: Any, settings: Settings, facts: Iterable[str]) -> None:
        self._redis, self._settings, self._facts = redis, settings, tuple(facts)
        self._reader = Reader(redis, settings)
        self._rulesets: dict[int, tuple[float, Ruleset]] = {}  # by partition, and when it was read

    async def abouts(self, accounts: Iterable[str], now: int) -> dict[str, About]:
        """What is known of each of them, as of `now`."""
        partitions = {each: partition_of(each, self._settings.partitions) for each in accounts}
        async with self._redis.pipeline(transaction=False) as pipe:
            for account, partition in partitions.items():
                its = PartitionKeys.of(partition, self._settings.partitions, self._settings.namespace)
                pipe.hget(its.accounts, account)
            blobs = await pipe.execute()
        found: dict[str, About] = {}
        for (account, partition), blob in zip(partitions.items(), blobs, strict=True):
            state = unpack_state(blob) if blob else None
            if state is not None and not state.merged_into:
                found[account] = about(state, await self._ruleset(partition), self._facts, now)
        return found

    async def _ruleset(self, partition: int) -> Ruleset:
        """That in force, or a moment ago."""
        read, ruleset = self._rulesets.get(partition, (0.0, None))
        if ruleset is None or time.monotonic() - read > RULES_S:
            ruleset = await self._reader.ruleset(partition)
            self._rulesets[partition] = (time.monotonic(), ruleset)
        return ruleset


def about(state: AccountState, ruleset: Ruleset, facts: Iterable[str], now: int) -> About:
    return About(
        facts=_facts(state, ruleset, facts),
        memberships={name: frozenset(standing.answer) for name, standing in state.standings.items()},
        roles=_roles(state, ruleset, now),
        week=_week(state, now),
        ids=state.also[:IDS_KEPT],
        do={
            (dimension.name, segment): do_of(known.action)
            for dimension in ruleset.dimensions
            if dimension.name in state.standings
            for segment in state.standings[dimension.name].answer
            if (known := dimension.segment(segment)) is not None
        },
    )


def _facts(state: AccountState, ruleset: Ruleset, names: Iterable[str]) -> dict[str, str]:
    """As rules see them: a region that is read from the country is one too."""
    told = {}
    for name in names:
        view, fact = ruleset.views.get(name), state.facts.get(name)
        value = view.value(state.facts) if view is not None else fact.value if fact is not None else None
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            told[name] = str(value)[:FACT_LONGEST]
    return told


def _roles(state: AccountState, ruleset: Ruleset, now: int) -> tuple[tuple[str, int], ...]:
    """Of the people who did something within a week: how many of each role, "" for those not in the CRM.

    None where no rule counts people, and so nobody knows.
    """
    ring = state.measures.get(_measure("people"))
    if ring is None:
        return ()
    entries, _ = measures.tagged_entries(ring, lambda at: at + WEEK, now)
    contacts = {person_tag(person): facts for person, facts in state.contacts.items() if GONE not in facts}
    roles = Counter(_role(contacts[each.tag], ruleset) if each.tag in contacts else "" for each in entries)
    return tuple(sorted(roles.items(), key=lambda each: (each[0] == "", -each[1], each[0]))[:ROLES_SHOWN])


def _role(facts: Mapping[str, Fact], ruleset: Ruleset) -> str:
    """As rules call it; a title that says nothing is not passed on."""
    meanings = ruleset.contact_facts.get("role", UNDECLARED).meanings
    for name in ("role", "title"):
        fact = facts.get(name)
        if fact is not None and isinstance(fact.value, str) and meanings and (term := meanings.term(fact.value)):
            return str(term).replace("_", " ")
    return "role not known"


def _week(state: AccountState, now: int) -> tuple[int, int] | None:
    """Activities within the last seven days, and in the seven before. None where not all of them are kept."""
    ring = state.measures.get(_measure("ring"))
    if ring is None:
        return None
    pairs, complete = measures.ring_pairs(ring, lambda at: at + 2 * WEEK, now)
    if not complete:
        return None
    recent = sum(1 for each in pairs if each.at > now - WEEK)
    return recent, len(pairs) - recent


@lru_cache
def _measure(kind: str) -> str:
    """The measure of that kind of any activity at all, where a rule keeps one (see `rules.growing`)."""
    return identity(kind, ANY_ACTIVITY, [])
