"""Rulesets and logs, drawn by hypothesis: every kind of condition, every operator, every way to stay in.

A **world** is a ruleset, or several versions of one, and a log that takes place where its dates and its clock
changes are. Time is coarse (hours), so that windows are met exactly on their edges; now and then it is a
millisecond beside.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st
from story import DAY, HOUR

from rules.records import (
    Activity,
    Contact,
    Delete,
    EndOverride,
    Facts,
    Override,
    Record,
    Restore,
    RulesetRecord,
    Tick,
)

Condition = dict[str, Any]
Kinds = dict[str, Callable[["Pick"], Condition]]
T = TypeVar("T")

ACCOUNTS = ["a", "b"]
FEED = ["a", "a", "b"]
PEOPLE = ["p", "q", "r"]
ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo"]
WINDOWS = ["1h", "2h", "5h", "1d", "7d"]
CALENDARS = ["1d", "1d", "2d", "1w", "2w", "1mo", "3mo", "1q", "2q", "1y"]
ACTIVITIES = ["page", "demo", "pricing", "offer", "any"]
SOURCES = ["crm", "web", "list"]
FOREVER = "9999d"
_WITH_ZONE = ("Europe/Berlin", "America/Sao_Paulo")

NAMES: dict[str, Any] = {
    "facts": {
        "employees": {"type": "number", "sources": ["crm", "web"], "refresh": "5h"},
        "country": {"type": "text"},
        "customer": {"type": "boolean", "sources": ["web"]},
        "about": {"type": "text", "sources": ["list", "crm"], "refresh": "1h"},
        "uses": {"type": "list"},
        "renewal": {"type": "date", "timezone": "America/Sao_Paulo"},
        "founded": {"type": "date", "sources": ["crm"], "refresh": "2h"},
        "industry": {"type": "text", "vocabulary": "industry", "also": ["code", "line"]},
        "line": {"type": "text", "vocabulary": "line"},
        "code": {"type": "text", "vocabulary": "code"},
    },
    "contact_facts": {
        "status": {"type": "text"},
        "title": {"type": "text"},
        "role": {"type": "text", "vocabulary": "role", "also": ["title"]},
        "level": {"type": "number", "sources": ["crm", "web"], "refresh": "2h"},
        "joined": {"type": "date", "timezone": "Europe/Berlin"},
        "tags": {"type": "list"},
    },
    "activities": {
        "page": {},
        "demo": {},
        "pricing": {"of": "page", "where": {"path": {"starts": "/p"}}},
        "offer": {"of": "pricing", "where": {"path": {"ends": "x"}}},
    },
    "scores": {
        "fast": {
            "half_life": "2h",
            "signals": [{"activity": "demo", "weight": 5}, {"activity": "page", "weight": 2}],
        },
        "slow": {
            "half_life": "1d",
            "signals": [
                {"activity": "pricing", "weight": 3},
                {"activity": "any", "weight": 1},
                {"activity": "page", "weight": 0.5, "where": {"seconds": {"above": 5}}},
            ],
        },
        "mixed": {
            "half_life": "2h",
            "signals": [
                {"activity": "page", "weight": 2, "cap": 3},
                {"activity": "demo", "weight": 4, "half_life": "1d"},
                {"activity": "demo", "weight": 4, "half_life": "1h", "cap": 5},
                {"activity": "any", "weight": 1},
            ],
        },
        "capped": {"half_life": "5h", "signals": [{"activity": "any", "weight": 2, "cap": 4}]},
        "sinking": {
            "half_life": "2h",
            "signals": [{"activity": "page", "weight": 3}, {"activity": "demo", "weight": -2}],
        },
    },
}
VOCABULARIES: list[dict[str, Any]] = [
    {
        "vocabulary": "industry",
        "of": "line",
        "terms": {"finance": ["Banking", "Money & More"], "retail": ["shops"]},
    },
    {
        "vocabulary": "line",
        "terms": {"banking": ["Retail Banking", "savings bank"], "shops": ["toys"], "farming": ["farms"]},
    },
    {"vocabulary": "code", "match": "prefix", "terms": {"finance": ["52"], "banking": ["52-21"], "shops": ["44"]}},
    {
        "vocabulary": "role",
        "match": "words",
        "terms": {
            "chief": ["chief", "CEO"],
            "buyer": ["buying", "head of buying"],
            "user": ["end user", "user"],
            "founder": ["CEO & founder"],
        },
    },
]
BANDS = {
    "bands": "headcount",
    "profiles": {"up": {"small": 1, "mid": 200, "large": 2000}, "down": {"small": 0, "mid": 150.5}},
}

# Local midnights, among them one that does not exist and one that follows a repeated hour.
STARTS = [
    datetime(2026, 3, 2, tzinfo=UTC),  # a Monday
    datetime(2026, 3, 28, 20, tzinfo=UTC),  # Berlin goes to summer time, and the quarter ends
    datetime(2025, 10, 25, 19, tzinfo=UTC),  # and back
    datetime(2018, 11, 3, 22, tzinfo=UTC),  # Sao Paulo skips midnight
    datetime(2018, 2, 17, 22, tzinfo=UTC),  # and repeats the hour before it
    datetime(2025, 12, 31, 19, tzinfo=UTC),
]


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def day(start: int, days: int) -> str:
    return datetime.fromtimestamp(start / 1000 + days * 86_400, UTC).strftime("%Y-%m-%d")


def instant(start: int, hours: int) -> str:
    return datetime.fromtimestamp(start / 1000 + hours * 3_600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Pick:
    """Draws for plain functions. Hypothesis only sees whole numbers, which is much faster than strategies."""

    def __init__(self, up_to: Callable[[int], int]) -> None:
        self._up_to = up_to
        self.start = _ms(self.of(STARTS))  # when the world begins, UTC ms

    def of(self, options: Sequence[T]) -> T:
        return options[self._up_to(len(options) - 1)]

    def one_in(self, n: int) -> bool:
        """Rarely true; false is simpler."""
        return self._up_to(n - 1) == n - 1

    def some(self, options: dict[str, Any]) -> dict[str, Any]:
        """Each key with probability a half; a value is made by a function or is one of a list."""
        keys = self._up_to((1 << len(options)) - 1)
        return {
            key: values(self) if callable(values) else self.of(values)
            for i, (key, values) in enumerate(options.items())
            if keys >> i & 1
        }


def drawing(draw: st.DrawFn) -> Pick:
    return Pick(lambda most: draw(_up_to(most)))


@lru_cache(64)
def _up_to(most: int) -> st.SearchStrategy[int]:
    return st.integers(0, most)


# -- comparisons --------------------------------------------------------------------------------------------

PRESENCE = [{"exists": True}, {"missing": True}]
NUMBERS = [
    {"at_least": 200},
    {"at_least": 1, "below": 200},
    {"above": 150},
    {"at_most": 150},
    {"below": 2000},
    {"between": [150, 200]},
    {"is": 200},
    {"is_not": 0},
    {"in": [0, 150]},
    {"not_in": [200, 2000.5]},
    *PRESENCE,
]
COUNTRIES = [
    {"is": "DE"},
    {"is": "de", "fold": True},
    {"is_not": "DE"},
    {"in": ["DE", "AT"]},
    {"in": ["de", "at"], "fold": True},
    {"not_in": ["DE", "FR"]},
    {"starts": "d", "fold": True},
    {"ends": "E"},
    {"contains": "T"},
    {"glob": "?e"},
    *PRESENCE,
]
ABOUT = [
    {"contains": "straße", "fold": True},
    {"glob": "*str*e"},
    {"glob": "BAHN*", "fold": True},
    {"glob": "a?b*c"},
    {"glob": "*b*b*"},
    {"starts": "Bahn", "ends": "e"},
    {"is": "a.b"},
    {"is_not": "A.B", "fold": True},
]
LISTS = [
    {"contains": "x"},
    {"contains": "X", "fold": True},
    {"has_any": ["x", "y"]},
    {"has_all": ["x", "y"]},
    {"has_all": ["X", "y"], "fold": True},
    {"has_none": ["x", "z"]},
    {"has_none": ["Y"], "fold": True},
    *PRESENCE,
]
TERMS = {
    "industry": ["finance", "retail"],
    "line": ["banking", "shops", "farming"],
    "code": ["finance", "banking"],
    "role": ["chief", "buyer", "user", "founder"],
}


def of_terms(name: str) -> list[dict[str, Any]]:
    first, *others = TERMS[name]
    return [{"is": first}, {"is_not": first}, {"in": [first, *others[:1]]}, {"not_in": others}, *PRESENCE]


def of_dates(pick: Pick) -> dict[str, Any]:
    op = pick.of(
        ["older_than", "newer_than", "within_last", "within_next", "before", "after", "is", "between", ""]
    )
    match op:
        case "before" | "after" | "is":
            return {op: a_date(pick)}
        case "between":
            days = pick.of([(-1, 0), (0, 0), (0, 2)])
            hours = pick.of([(-5, 3), (0, 24)])
            ends = pick.of([[day(pick.start, n) for n in days], [instant(pick.start, n) for n in hours]])
            return {op: ends}
        case "":
            return pick.of([*PRESENCE, {"newer_than": "5h", "after": a_date(pick)}])
        case _:
            return {op: pick.of(["1h", "2h", "5h", "1d", "3d"])}


def a_date(pick: Pick) -> str:
    if pick.of([True, False]):
        return instant(pick.start, pick.of([0, 2, 3, 24]))
    return day(pick.start, pick.of([0, 1, -1, 2]))


# -- conditions ---------------------------------------------------------------------------------------------

WHERES: list[Condition] = [
    *[{}] * 8,
    {"path": "/px"},
    {"path": {"ends": "x"}},
    {"path": {"glob": "/?X", "fold": True}},
    {"seconds": {"at_least": 5}, "path": {"exists": True}},
    {"seconds": {"between": [4, 5]}},
    {"seconds": 5},
    {"path": {"missing": True}},
    {"path": {"is_not": "/px"}},
    {"path": {"in": ["/p", "/PX", 5], "fold": True}},
    {"seconds": {"not_in": [4, "5"]}},
    {"tags": {"has_any": ["x"]}},
    {"tags": {"contains": "Y", "fold": True}},
    {"tags": {"has_none": ["x"]}},
]
MANY = [
    *[{"at_least": n} for n in (1, 2, 2, 3, 4)],
    {"at_least": 1, "at_most": 2},
    {"at_least": 2, "below": 4},
    *[{"below": n} for n in (1, 2, 3)],
    *[{"at_most": n} for n in (0, 1, 2)],
]
BOUNDS = [
    *[{op: n} for op in ("at_least", "above", "at_most", "below") for n in (-2.5, 0, 2.5, 3, 4.1, 5, 10)],
    {"above": 2, "at_most": 5},
]
SIMPLY = [
    {"status": {"is": "bounced"}},
    {"status": {"in": ["bounced", "left"]}, "level": {"exists": True}},
    {"status": {"missing": True}},
    {"status": "ok"},
    {"status": {"is_not": "OK", "fold": True}},
    {"title": {"glob": "*user*"}},
    {"level": {"at_least": 3}},
    {"level": {"between": [1, 3]}, "status": "ok"},
    {"tags": {"has_all": ["x"]}},
    *({"role": each} for each in of_terms("role")),
]


def window(pick: Pick) -> dict[str, Any]:
    if pick.of([True, True, False]):
        return {"within": pick.of(WINDOWS)}
    return {"calendar": pick.of(CALENDARS), **pick.of([{}, *({"timezone": zone} for zone in ZONES[1:])])}


def about(pick: Pick, kind: str, *parts: dict[str, Any]) -> Condition:
    """A condition of that kind on some activity, with these parts."""
    where = pick.of(WHERES)
    found: Condition = {kind: pick.of(ACTIVITIES), **({"where": where} if where else {})}
    for part in parts:
        found |= part
    return found


def count(pick: Pick) -> Condition:
    return about(pick, "count", window(pick), pick.of(MANY))


def people(pick: Pick) -> Condition:
    who = {"who": of_contacts(pick)} if pick.of([True, True, False]) else {}
    return about(pick, "people", window(pick), pick.of(MANY), who)


def amount(pick: Pick) -> Condition:
    of = {"of": pick.of(["seconds", "amount"])}
    return about(pick, pick.of(["sum", "sum", "min", "max", "avg"]), of, window(pick), pick.of(BOUNDS))


def seen(pick: Pick) -> Condition:
    return about(pick, "seen", window(pick) if pick.of([True, True, False]) else {})


def quiet(pick: Pick) -> Condition:
    return about(pick, "quiet", {"for": pick.of(WINDOWS)})


def aged(kind: str, pick: Pick) -> Condition:
    return about(pick, kind, {pick.of(["within", "older_than"]): pick.of(WINDOWS[:4])})


def sequence(pick: Pick) -> Condition:
    steps = [about(pick, "activity") for _ in range(pick.of([2, 2, 3]))]
    within = pick.of([{}, *({"within": span} for span in WINDOWS)])
    short = [step["activity"] if len(step) == 1 else step for step in steps]
    return {"sequence": short, "span": pick.of(["1h", "3h", "1d", "7d"]), **within}


def score(pick: Pick) -> Condition:
    name = pick.of(["fast", "slow", "mixed", "mixed", "capped", "sinking"])
    return {"score": name, pick.of(["at_least", "at_least", "below"]): pick.of([0.5, 1, 3, 4, 5, 7.5])}


PLAIN_FACTS: list[Condition] = [
    *({"fact": "employees", **each} for each in NUMBERS),
    *({"fact": "country", **each} for each in COUNTRIES),
    *({"fact": "about", **each} for each in ABOUT),
    *({"fact": "uses", **each} for each in LISTS),
    *({"fact": name, **each} for name in ("industry", "line", "code") for each in of_terms(name)),
    *({"fact": "customer", **each} for each in [{"is": True}, {"is_not": True}, {"in": [False]}, *PRESENCE]),
]


def fact(pick: Pick) -> Condition:
    if pick.of([True, False]):
        found: Condition = pick.of(PLAIN_FACTS)
    else:
        found = {"fact": pick.of(["renewal", "founded"]), **of_dates(pick)}
    presence = "exists" in found or "missing" in found
    return found | {"or_missing": True} if pick.one_in(4) and not presence else found


def of_contacts(pick: Pick) -> dict[str, Any]:
    match pick.of(["simply", "simply", "timed", "both"]):
        case "simply":
            return pick.of(SIMPLY)
        case "timed":
            return {"joined": of_dates(pick)}
        case _:
            return {"joined": of_dates(pick), "status": "ok"}


def contacts(pick: Pick) -> Condition:
    which, more = pick.of([("all", {}), ("any", {}), ("none", {}), ("any", {"at_least": 2})])
    return {"contacts": which, **more, "where": of_contacts(pick)}


LEAVES: Kinds = {
    "fact": fact,
    "count": count,
    "people": people,
    "more people": people,
    "amount": amount,
    "seen": seen,
    "never": lambda pick: about(pick, "never"),
    "quiet": quiet,
    "first": partial(aged, "first"),
    "last": partial(aged, "last"),
    "sequence": sequence,
    "score": score,
    "contacts": contacts,
    "stale": lambda pick: {"stale": pick.of([name for name, each in NAMES["facts"].items() if "refresh" in each])},
}


def reference(known: Sequence[dict[str, Any]], pick: Pick) -> Condition:
    """A condition on where an account stands in dimensions that are there already."""
    single = [f"{each['dimension']}/{segment}" for each in known for segment in _segment_names(each)]
    stopping = [d["dimension"] for d in known if (d["kind"], d["on_unknown"]) == ("ladder", "stop")]
    match pick.of(["one", "some", "missing"]):
        case "some":
            return {"segment": list(dict.fromkeys(pick.of(single) for _ in range(3)))}
        case "missing" if stopping:
            return {"segment": pick.of(stopping), "missing": True}
        case _:
            return {"segment": pick.of(single)}


def _segment_names(dimension: dict[str, Any]) -> list[str]:
    if "by_fact" in dimension:
        return TERMS[dimension["by_fact"]]
    if "by_bands" in dimension:
        return list(BANDS["profiles"][dimension["by_bands"]["profile"]])  # type: ignore[index]
    return [each["segment"] for each in dimension["segments"]]


def condition(pick: Pick, kinds: Kinds, depth: int = 2) -> Condition:
    """A leaf of any kind, or several put together."""
    if depth == 0 or pick.of([True, True, False]):
        return kinds[pick.of(list(kinds))](pick)
    word = pick.of(["all", "any", "not", "of"])
    if word == "not":
        return {"not": condition(pick, kinds, depth - 1)}
    parts = [condition(pick, kinds, depth - 1) for _ in range(pick.of([2, 3]))]
    return {word: parts} if word != "of" else {"of": parts, "at_least": pick.of(range(1, len(parts) + 1))}


# -- dimensions ---------------------------------------------------------------------------------------------

KINDS = ("ladder stop", "ladder skip", "set stop")
DIMENSIONS = ["d0", "d0", "d1", "d1", "d2", "d3"]


def dimension(pick: Pick, name: str, kinds: Kinds, shapes: Sequence[str], dwell: bool) -> dict[str, Any]:
    kind, _, on_unknown = pick.of(shapes).partition(" ")
    head = {"dimension": name, "kind": kind, "on_unknown": on_unknown}
    made_of = pick.of(["segments"] * 8 + ["fact", "bands"])
    if made_of == "fact":
        return head | {"by_fact": pick.of(["industry", "line", "code"])}
    if made_of == "bands" and kind == "ladder":
        bands = {"fact": "employees", "bands": "headcount", "profile": pick.of(["up", "down"])}
        return head | {"by_bands": bands}
    segments: list[dict[str, Any]] = []
    for i in range(pick.of([1, 2, 3])):
        segment = {"segment": f"s{i}", "when": condition(pick, kinds)}
        if dwell and pick.of([False, True]):
            segment |= pick.some({"for": ["1h", "2h", "1d"], "keep_for": ["1h", "3h", "1d"]})
            if pick.of([False, True]):
                segment["stay"] = condition(pick, kinds, 1)
        segments.append(segment)
    if kind == "ladder" and pick.of([False, True]):
        segments.append({"segment": "rest", "otherwise": True})
    return head | {"segments": segments}


def rule_files(
    pick: Pick, shapes: Sequence[str] = KINDS, dwell: bool = True, missing: bool = True
) -> dict[str, str]:
    """JSON is YAML, and it has no anchors. Dimensions are not in the order in which they refer to each other."""
    made: list[dict[str, Any]] = []
    for name in pick.of([["d0"], ["d3", "d1", "d2"], ["d1", "d2", "d0", "d3"], ["d2", "d0", "d1", "d4", "d3"]]):
        refer = partial(reference, list(made))
        kinds = LEAVES | {"segment": refer, "segments": refer} if made else LEAVES
        made.append(dimension(pick, name, kinds, shapes, dwell))
    if not missing:
        made = [_without_missing(each) for each in made]
    return RuleFiles(_NAMED | {f"{each['dimension']}.yaml": json.dumps(each) for each in made})


class RuleFiles(dict[str, str]):
    """Files that show only what is not the same in all: their dimensions."""

    def __repr__(self) -> str:
        return "\n".join(text for name, text in self.items() if name not in _NAMED)


def _without_missing(node: Any) -> Any:
    """Without questions about what is not known: the answer changes as soon as something is."""
    if isinstance(node, dict):
        if "segment" in node and node.get("missing"):
            return {"fact": "country", "missing": True}
        return {key: _without_missing(value) for key, value in node.items()}
    return [_without_missing(each) for each in node] if isinstance(node, list) else node


_NAMED = {
    "names.yaml": json.dumps(NAMES),
    "bands.yaml": json.dumps(BANDS),
    **{f"words_{each['vocabulary']}.yaml": json.dumps(each) for each in VOCABULARIES},
}

# -- logs ---------------------------------------------------------------------------------------------------

# Mostly whole hours; now and then a millisecond beside one.
STEPS = [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 5, 24, 24 * 7]
BESIDE = [0, 0, 0, 0, 0, 0, 1, -1]
# How long before its arrival it happened; below 0: stamped in the future.
AGES = [
    *(0, 0, 0, 0, 0, 0, HOUR, HOUR, 2 * HOUR, 2 * HOUR - 1, 3 * HOUR, 4 * HOUR, 5 * HOUR),
    *(DAY, 30 * HOUR, 33 * DAY, -3 * HOUR),
]
PROPS = {
    "path": ["/p", "/px", "/pX", "/x", "/", 5],
    "seconds": [4, 5, 6, 5.0, "5", True],
    "amount": [0.1, 2.5, 3, -2.5, 4.000001, 1e-6, "3", "x", None],
    "tags": [["x"], ["X", "y"], [], "x"],
}
IDS = [""] * 12 + ["id1", "id2", "id3"]


def any_date(pick: Pick) -> Any:
    match pick.of(["day", "instant", "number", "other"]):
        case "day":
            return day(pick.start, pick.of([0, 1, -1, 2, -2]))
        case "instant":
            return instant(pick.start, pick.of([0, 2, 3, 24, 60, -20]))
        case "number":
            return pick.start + pick.of([0, 3, 30]) * HOUR
        case _:
            return pick.of([None, "soon"])


FACTS = {
    "employees": [150, 0, 200, "200", 2000, 2000.5, "many", None],
    "country": ["DE", "de", "AT", "FR", "", None],
    "customer": [True, False, None],
    "about": ["Bahnstrasse", "BAHNSTRASSE", "Bahnstraße", "a.b", "axb c", "A.B", "abab", 7],
    "uses": [["x"], ["X", "y"], ["x", "y", "z"], [], None],
    "renewal": any_date,
    "founded": any_date,
    "industry": ["BANKING", "money and more", "toys", "farms", "Retail Banking", "what", None],
    "line": ["savings-bank", "Toys", "farms", "what", None],
    "code": ["5212", "52-2199", "52", "4411", "99", None],
}
STATUS = ["ok", "OK", "bounced", "left", None]
CONTACTS = {
    "title": ["End-User, PowerUser", "Head of Buying", "CEO & founder", "chief user", "what", None],
    "role": ["Buying", "none", None],
    "level": [1, 3, 5, None],
    "joined": any_date,
    "tags": [["x"], ["y"], None],
}
RECORDS = ["activity"] * 20 + ["facts"] * 8 + ["contact"] * 7 + ["tick"] * 2 + ["restore"] * 2 + ["delete"]
RECORDS += ["override"] * 3 + ["end override"]
FORCED = ["s0", "s0", "s0", "s1", "s1", "s2", "rest", "banking", "small"]
LASTING = [HOUR, 2 * HOUR, 5 * HOUR, DAY, DAY, 7 * DAY, 40 * DAY, -HOUR]


def record(pick: Pick, before: int) -> Record:
    """A record after `before`, now and then received a little out of order."""
    now = max(before + pick.of(STEPS) * HOUR + pick.of(BESIDE), before) - (HOUR if pick.one_in(9) else 0)
    kind = pick.of(RECORDS)
    if kind == "tick":
        return Tick(received=now)
    head: dict[str, Any] = {
        "account": pick.of(FEED),
        "at": now - pick.of(AGES),
        "received": now,
        "id": pick.of(IDS),
    }
    match kind:
        case "activity":
            name = pick.of(["page", "page", "page", "demo", "demo", "other"])
            return Activity(
                **head, name=name, person=pick.of([None, *PEOPLE]), props=pick.some(PROPS), source="web"
            )
        case "facts":
            clear = pick.of([[], [], [], ["country"], ["employees"], ["about"], ["industry"]])
            return Facts(**head, set=pick.some(FACTS), clear=clear, source=pick.of(SOURCES))
        case "contact":
            gone = pick.of([False, False, False, True])
            said = {"status": pick.of(STATUS), **pick.some(CONTACTS)}
            return Contact(**head, person=pick.of(PEOPLE), set=said, gone=gone, source=pick.of(SOURCES))
        case "override":
            where = {"dimension": pick.of(DIMENSIONS), "segment": pick.of(FORCED)}
            said = Override(**head | {"id": ""}, **where, until=now + pick.of(LASTING), by="ann")
            said.out = pick.of([False, False, True])
            return said
        case "end override":
            segment = pick.of(["", "", "s0", "s1"])
            return EndOverride(**head | {"id": ""}, dimension=pick.of(DIMENSIONS), segment=segment)
        case "delete":
            return Delete(**head, source="crm")
        case _:
            return Restore(**head, source="crm")


def log_of(pick: Pick, most: int) -> list[Record]:
    log: list[Record] = []
    latest = pick.start
    for _ in range(pick.of([3, most // 2, most, most])):
        log.append(record(pick, latest))
        latest = max(latest, log[-1].received)
    return log


@st.composite
def worlds(
    draw: st.DrawFn,
    versions: int = 1,
    most: int = 25,
    shapes: Sequence[str] = KINDS,
    dwell: bool = True,
    missing: bool = True,
) -> tuple[list[dict[str, str]], list[Record]]:
    """Versions of a ruleset, and a log. `missing`: rules may ask whether another answer is unclassified."""
    pick = drawing(draw)
    files = [rule_files(pick, shapes, dwell, missing) for _ in range(versions)]
    return files, log_of(pick, most)


@st.composite
def changing_worlds(draw: st.DrawFn) -> tuple[dict[str, str], list[Record]]:
    """A ruleset, and a log in which it changes once or twice."""
    pick = drawing(draw)
    (first, *others), log = draw(worlds(versions=pick.of([1, 2, 3])))
    for files in others:
        place = pick.of(range(len(log)))
        ruleset = RulesetRecord(received=log[place].received, hash="", files=files)
        log[place:place] = [ruleset, *[Tick(received=log[place].received)] * pick.of([0, 1])]
    return first, log


def fresh(log: Iterable[Record]) -> list[Record]:
    """Copies, with their offsets: whoever reads a record sets its place."""
    return [msgspec.structs.replace(record, offset=i) for i, record in enumerate(log)]


def walk(node: Any, look: Callable[[dict[str, Any]], None]) -> None:
    """Shows every mapping of a file to `look`."""
    if isinstance(node, dict):
        look(node)
        for value in node.values():
            walk(value, look)
    elif isinstance(node, list):
        for value in node:
            walk(value, look)
