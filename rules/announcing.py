"""Changes as a step tells them, each with its reason."""

from __future__ import annotations

from rules.conditions import Told
from rules.reasons import IN_QUARANTINE, display_name, explain
from rules.records import is_provisional
from rules.ruleset import Dimension
from rules.state import NEVER, Answer, standing_in
from rules.work import Cause, Change, Kind, Work


def announce(work: Work, dimension: Dimension, before: Answer, now: int, cause: Cause) -> None:
    state = work.state
    after = standing_in(state, dimension.name).answer
    until = work.rules.ruleset.stays_until(dimension, state)
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
                work.origin_of(cause),
                until,
                explain(dimension, state, before, name, now),
                display_name(state),
                segment.owner if segment else "",
                segment.action if segment else {},
                is_provisional(work.account),
                deployment=_deployment(work, cause),
            )
        )


def _deployment(work: Work, cause: Cause) -> str:
    return work.rules.deployment if cause is Cause.RULES else ""


def announce_removed(work: Work, dimension: str, before: Answer) -> None:
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
            work.origin_of(Cause.RULES),
            NEVER,
            reason,
            display_name(work.state),
            provisional=is_provisional(work.account),
            deployment=_deployment(work, Cause.RULES),
        )
    )


def announce_state(work: Work, now: int, cause: Cause) -> None:
    """Where the account stands in all dimensions, as one change."""
    state, ruleset = work.state, work.rules.ruleset
    told: Told = {}
    for dimension in ruleset.dimensions:
        answer = standing_in(state, dimension.name).answer
        if answer:
            reason = IN_QUARANTINE if state.quarantined >= 0 else explain(dimension, state, (), answer[0], now)
            told[dimension.name] = reason
    change = Change(
        Kind.STATE,
        work.account,
        "",
        (),
        (),
        "",
        now,
        work.log_time,
        cause,
        work.origin_of(cause),
        state.wake,
        told,
        display_name(state),
        provisional=is_provisional(work.account),
        deleted=state.deleted,
        merged_into=state.merged_into,
        memberships=state.standings,
        deployment=_deployment(work, cause),
    )
    work.changes.append(change)
