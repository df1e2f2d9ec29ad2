"""Where an account stands and why, from its state alone: what `isotherm explain` and the pages show."""

from __future__ import annotations

from typing import Any

from rules.changes import instant_or_none, iso, readable, since
from rules.facts import UNDECLARED, FactRule, conflicting
from rules.reasons import IN_QUARANTINE, display_name, explain
from rules.records import is_provisional
from rules.ruleset import Dimension, Ruleset
from rules.state import GONE, NEVER, AccountState, Fact, Forced, standing_in


def explanation(account: str, state: AccountState, ruleset: Ruleset, now: int) -> dict[str, Any]:
    """Facts, contacts, and for each dimension the answer, since when, until when, and why, as of `now`.

    `also` are accounts that were merged into this one, `read_again` the sources that could not say what changed.
    `degraded`: when the oldest of what no rule reads was last dropped, because it was too much.
    """
    return {
        "account": account,
        "name": display_name(state),
        "provisional": is_provisional(account),
        "deleted": state.deleted,
        "quarantined": state.quarantined >= 0,
        "degraded": iso(state.degraded) if state.degraded else None,
        "as_of": iso(now),
        "ruleset": ruleset.hash,
        "dimensions": {
            dimension.name: _dimension(ruleset, dimension, state, now)
            for dimension in (ruleset.dimensions if state.ruleset and not state.deleted else ())
        },
        "facts": {
            name: _fact(fact, ruleset.facts.get(name, UNDECLARED), now)
            for name, fact in sorted(state.facts.items())
        },
        "also": list(state.also),
        "read_again": {source: iso(since) for source, since in sorted(state.stale.items())},
        "contacts": sum(1 for contact in state.contacts.values() if GONE not in contact),
    }


def _fact(fact: Fact, rule: FactRule, now: int) -> dict[str, Any]:
    """The value that counts, whether it is older than it should be, and what sources of other rank say instead."""
    told: dict[str, Any] = {"value": fact.value, "at": iso(fact.at), "source": fact.source}
    if rule.refresh < NEVER and now - fact.at > rule.refresh:
        told["stale"] = True
    if conflicting(fact, rule):
        told["others"] = [{"value": each.value, "at": iso(each.at), "source": each.source} for each in fact.others]
    return told


def _dimension(ruleset: Ruleset, dimension: Dimension, state: AccountState, now: int) -> dict[str, Any]:
    standing = standing_in(state, dimension.name)
    answer = standing.answer
    told: dict[str, Any] = {
        "segment": list(answer) if dimension.kind == "set" else next(iter(answer), None),
        "since": since(standing),
    }
    if state.quarantined >= 0:  # to ask may raise what it was put there for
        return told | {"stays_until": None, "reason": {"text": IN_QUARANTINE["says"], "because": IN_QUARANTINE}}
    told |= {
        "stays_until": instant_or_none(ruleset.stays_until(dimension, state)),
    }
    if overridden := state.overrides.get(dimension.name):
        told["overrides"] = [_override(each) for each in overridden.forced]
        ruled = overridden.ruled.answer if overridden.ruled is not None else ()
        told["rules_say"] = list(ruled) if dimension.kind == "set" else next(iter(ruled), None)
    reasons = [explain(dimension, state, (), name, now) for name in answer or ("",)]
    told["reason"] = readable(reasons[0] if len(reasons) == 1 else dict(zip(answer, reasons, strict=True)))
    segment = dimension.segment(answer[0]) if answer else None
    if segment is not None and dimension.kind == "ladder":
        told |= {"owner": segment.owner, "action": segment.action}
        if segment.messaging:
            told["messaging"] = segment.messaging
    return told


def _override(forced: Forced) -> dict[str, Any]:
    """`is` says whether the account is in the segment or, in a set, was put out of it."""
    return {
        "segment": forced.segment,
        "is": "out" if forced.out else "in",
        "by": forced.by,
        "why": forced.why,
        "since": iso(forced.since),
        "until": iso(forced.until),
    }
