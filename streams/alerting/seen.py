"""What a change says that alert rules ask about: where an account stands in a dimension now, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rules.contract import Crossed, Event, Moved, State
from rules.reasons import headline
from streams.alerting.state import Order

REASONS = 3
LONGEST = 200  # characters of a reason, a name or a thing to do


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an account stands in one dimension after a change, and why."""

    segments: tuple[str, ...]
    before: str
    until: int = 0  # UTC ms; 0: until something happens
    reasons: tuple[str, ...] = ()
    do: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """One event, as the core wants it. `is_news`: something happened; else it tells how things stand."""

    id: str
    account: str
    name: str
    at: int
    decided: int
    order: Order
    is_news: bool
    standings: Mapping[str, Standing]
    gone: bool = False


def seen(event: Event[Any]) -> Seen:
    data: Moved | Crossed | State = event.data
    return Seen(
        event.id,
        data.account,
        _short(data.name),
        milliseconds(data.effective),
        milliseconds(data.decided),
        data.position.order,
        data.origin == "live",
        dict(_standings(data)),
        isinstance(data, State) and (data.deleted is True or bool(data.merged_into)),
    )


def _standings(data: Moved | Crossed | State) -> Iterator[tuple[str, Standing]]:
    match data:
        case Moved():
            segments = (data.after,) if data.after else ()
            yield data.dimension, _standing(segments, data.before or "no segment", data)
        case Crossed():
            yield data.dimension, _standing(tuple(data.members), f"not {data.segment}", data)
        case State():
            for dimension, held in data.memberships.items():
                answer = (held.answer,) if isinstance(held.answer, str) else tuple(held.answer or ())
                reason = data.reason.get(dimension)
                reasons = _reasons(reason) if isinstance(reason, dict) else ()
                yield dimension, Standing(answer, "first seen", _until(held.stays_until), reasons)


def _standing(segments: tuple[str, ...], before: str, data: Moved | Crossed) -> Standing:
    return Standing(segments, before, _until(data.stays_until), _reasons(data.reason), do_of(data.action))


def _reasons(reason: Mapping[str, Any]) -> tuple[str, ...]:
    """The first of what made it so, in words. A tree of another shape than ours is told by its line."""
    try:
        words = headline(reason["because"])
    except (KeyError, TypeError, IndexError):
        words = str(reason.get("text", "")).split("; ")
    return tuple(_short(each) for each in words[:REASONS] if each)


def do_of(action: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(_short(str(action[each])) for each in ("do", "content", "offer") if action.get(each))


def _until(instant: str | None) -> int:
    return milliseconds(instant) if instant else 0


def _short(text: str) -> str:
    """In one line, and no longer than a message bears."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def milliseconds(instant: str) -> int:
    return round(datetime.fromisoformat(instant).timestamp() * 1000)
