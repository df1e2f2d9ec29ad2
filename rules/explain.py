"""Where an account stands and why, from its state alone: what `isotherm explain` and the pages show."""

from __future__ import annotations

from typing import Any

from rules.changes import instant_or_none, iso, readable
from rules.reasons import display_name, explain, is_provisional
from rules.ruleset import Dimension, Ruleset
from rules.state import GONE, AccountState, Standing


def explanation(account: str, state: AccountState, ruleset: Ruleset, now: int) -> dict[str, Any]:
    """Facts, contacts, and for each dimension the answer, since when, until when, and why, as of `now`."""
    return {
        "account": account,
        "name": display_name(state),
        "provisional": is_provisional(account),
        "deleted": state.deleted,
        "as_of": iso(now),
        "ruleset": ruleset.hash,
        "dimensions": {
            dimension.name: _dimension(dimension, state, state.standings[dimension.name], now)
            for dimension in ruleset.dimensions
            if dimension.name in state.standings
        },
        "facts": {
            name: {"value": fact.value, "at": iso(fact.at), "source": fact.source}
            for name, fact in sorted(state.facts.items())
        },
        "contacts": sum(1 for contact in state.contacts.values() if GONE not in contact),
    }


def _dimension(dimension: Dimension, state: AccountState, standing: Standing, now: int) -> dict[str, Any]:
    answer = standing.answer
    told: dict[str, Any] = {
        "segment": list(answer) if dimension.kind == "set" else next(iter(answer), None),
        "since": iso(standing.since),
        "stays_until": instant_or_none(dimension.stays_until(answer, state, standing.wake)),
    }
    reasons = [explain(dimension, state, (), name, now) for name in answer or ("",)]
    told["reason"] = readable(reasons[0] if len(reasons) == 1 else dict(zip(answer, reasons, strict=True)))
    segment = dimension.segment(answer[0]) if answer else None
    if segment is not None and dimension.kind == "ladder":
        told |= {"owner": segment.owner, "action": segment.action}
    return told
