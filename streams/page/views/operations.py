"""What the page Operations shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rules.changes import iso
from streams.letters import REPLAY_OF, Letter, pretty, safe
from streams.observing.standing import Standing
from streams.observing.standing_shown import VERIFIED

PARTITIONS, SOURCES, PROBLEMS, KINDS, NEWEST, HEADERS = 128, 64, 20, 40, 25, 20
BYTES, TEXT, DETAIL = 16 * 1024, 20_000, 300
WELL = ("well",)
NOTED = ("folding again", "sweeping", "behind")  # it mends itself


@dataclass(frozen=True, slots=True)
class Unread:
    """What stands in for what cannot be read."""

    why: str


def mood(state: str) -> str:
    """How a state of a partition or an endpoint looks: good, note or bad."""
    if state in WELL:
        return "good"
    return "note" if state.startswith(NOTED) else "bad"


def overview(found: Standing | Unread | None) -> dict[str, Any]:
    """Of `isotherm status`, with the worst first where not all of it fits."""
    told = found.plain() if isinstance(found, Standing) else None
    return {"standing": told and _bounded(told), "unread": found.why if isinstance(found, Unread) else ""}


def _bounded(told: Mapping[str, Any]) -> dict[str, Any]:
    every, sources = told["partitions"], told["sources"]
    worst = sorted(every, key=lambda each: each["state"] in WELL)[:PARTITIONS]
    moved = sorted(sources, key=lambda each: (not each["paused"], not each["lag"]))[:SOURCES]
    return {
        "as_of": told["as_of"],
        "problems": [safe(each, keep="") for each in told["problems"][:PROBLEMS]],
        "more_problems": len(told["problems"][PROBLEMS:]),
        "workers": told["workers"][:PARTITIONS],
        "partitions": [each | {"mood": mood(each["state"])} for each in sorted(worst, key=_number)],
        "more_partitions": len(every) - len(worst),
        "rulesets": len({each["ruleset"] for each in every}),
        "lag": sum(each["lag"] for each in every),
        "seconds": max((each["lag_seconds"] for each in every), default=0),
        "overdue": max((each["wake_overdue_seconds"] for each in every), default=0),
        "outbox": sum(each["outbox"] for each in every),
        "sources": moved,
        "more_sources": len(sources) - len(moved),
        "unrouted": sum(each["lag"] for each in sources),
        "endpoints": [each | {"mood": mood(each["state"])} for each in told["endpoints"]],
        "alerts": sorted(told["alerts_waiting"].items()),
        "verified": told["verified"] and told["verified"] | {"found": _found(told["verified"])},
    }


def _found(verified: Mapping[str, Any]) -> list[str]:
    return [f"{verified[kind]:,} {says}" for kind, says in VERIFIED.items() if verified[kind]]


def _number(partition: Mapping[str, Any]) -> int:
    number: int = partition["partition"]
    return number


@dataclass(frozen=True, slots=True)
class Row:
    """A letter in a list."""

    key: str
    stage: str
    reason: str
    when: str
    size: int
    detail: str


def letters(found: Sequence[Letter] | Unread | None, most: int) -> dict[str, Any]:
    """How many of each stage and reason are open, and the newest. None: they are still being read."""
    if found is None or isinstance(found, Unread):
        return {"letters": None, "letters_unread": found.why if found else ""}
    counted = Counter((each.said("stage"), each.said("reason")) for each in found).most_common(KINDS)
    kinds = [(_short(stage), _short(reason), n) for (stage, reason), n in counted]
    newest = [_row(each) for each in reversed(found[-NEWEST:])]
    told = {"open": len(found), "at_least": len(found) >= most, "kinds": kinds, "newest": newest}
    return {"letters": told, "letters_unread": ""}


def _row(each: Letter) -> Row:
    stage, reason, detail = (_short(each.said(name)) for name in ("stage", "reason", "detail"))
    return Row(each.key, stage, reason, iso(each.when), each.size, detail)


def _short(text: str) -> str:
    return safe(text if len(text) <= DETAIL else f"{text[:DETAIL]} …", keep="")


def letter(its: Letter, value: bytes) -> dict[str, Any]:
    """What is in a letter, as far as BYTES of it."""
    headers = [
        (_short(name), _short(said[:BYTES].decode(errors="backslashreplace"))) for name, said in its.own_headers
    ]
    return {
        "letter": _row(its), "place": _short(its.place), "unreplayable": its.unreplayable,
        "headers": headers[:HEADERS], "more_headers": len(headers[HEADERS:]), "bytes": len(value),
        "shown": min(len(value), BYTES), "text": pretty(value[:BYTES])[:TEXT],
    }  # fmt: skip


def is_open(key: str, found: Sequence[Letter] | Unread | None) -> bool:
    """Whether such a letter is listed. A Kafka that lost its newest messages writes a position twice."""
    return isinstance(found, list) and any(each.key == key for each in found)


def refused_again(sent: Letter, found: Sequence[Letter] | Unread | None) -> list[Row]:
    """The open letters that the same message has become since. They keep the name of its first place."""
    if not isinstance(found, list):
        return []
    return [_row(each) for each in found if REPLAY_OF in dict(each.own_headers) and _first(each) == _first(sent)]


def _first(its: Letter) -> str:
    return dict(its.own_headers).get(REPLAY_OF, b"").decode(errors="replace") or its.place
