"""What is different between two versions of the rules, in words: what `isotherm deployments` tells.

    dimension intent added
    engagement/hot: at_least 3 → 2
    engagement/hot: added seen demo_requested within 14d
    fact employees: refresh 30d → 90d

The files' plain data is compared, not their text: comments, order of keys and which file something stands in are
no difference. Only files that load are given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rules import yamlfile

LONGEST = 80  # of a value in words
PROSE = frozenset({"description", "messaging"})  # for people: that it was edited is enough
_SECTIONS = {"facts": "fact", "contact_facts": "contact fact", "activities": "activity", "scores": "score"}
_NAMED = ("vocabulary", "bands")
Things = dict[str, Any]


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """A line for each difference: dimensions and their segments first, then what they are made of."""
    old, new = _things(before), _things(after)
    return [line for name in {**new, **old} for line in _of_thing(name, old, new)]


def _things(files: Mapping[str, str]) -> Things:
    """Everything that has a name, by its name: `dimension engagement`, `engagement/hot`, `fact employees`."""
    dimensions, others = Things(), Things()
    for file, text in sorted(files.items()):
        for document in yamlfile.read(file, text):
            data = document.data
            if isinstance(data, dict) and "dimension" in data:
                _take_dimension(data, dimensions)
            elif isinstance(data, dict):
                _take_others(data, others)
    return dimensions | others


def _take_dimension(data: Mapping[str, Any], things: Things) -> None:
    name, segments = data["dimension"], data.get("segments") or []
    order = [each["segment"] for each in segments]
    rest = {key: value for key, value in data.items() if key not in ("dimension", "segments")}
    things[f"dimension {name}"] = rest | ({"segments": order} if order else {})
    for each in segments:
        things[f"{name}/{each['segment']}"] = {key: value for key, value in each.items() if key != "segment"}


def _take_others(data: Mapping[str, Any], things: Things) -> None:
    kind = next((key for key in _NAMED if key in data), None)
    if kind is not None:
        things[f"{kind} {data[kind]}"] = {key: value for key, value in data.items() if key != kind}
        return
    for section, named in data.items():
        if section in _SECTIONS and isinstance(named, dict):
            things |= {f"{_SECTIONS[section]} {name}": value or {} for name, value in named.items()}
        else:
            things[section] = named


def _of_thing(name: str, old: Things, new: Things) -> Iterator[str]:
    dimension, is_segment, _ = name.partition("/")
    of_dimension = f"dimension {dimension}"
    if name in old and name in new:
        edits = list(_edits(old[name], new[name], ()))
        yield from (f"{name.removeprefix('dimension ')}: {edit}" for edit in edits)
    elif not is_segment or (of_dimension in old and of_dimension in new):  # else all of them came or went
        yield f"{name} {'added' if name in new else 'removed'}"


def _edits(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[str]:
    """`path`: the key under which it stands, and before it the conditions among which it does."""
    if old == new:
        return
    if path and path[-1] in PROSE:
        yield f"{path[-1]} edited"
    elif path == ("segments",):
        yield from _order(old, new)
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in {**new, **old}:
            if key not in old or key not in new:
                yield _came_or_went(key, old, new, path)
            else:
                yield from _edits(old[key], new[key], (*path[:-1], key))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _of_list(old, new, path)
    else:
        yield " ".join([*path, words(old), "→", words(new)])


def _came_or_went(key: str, old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...]) -> str:
    which, held = ("added", new) if key in new else ("removed", old)
    said = f" {words(held[key])}" if key not in PROSE else ""
    return " ".join([*path[:-1], which, key]) + said


def _order(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    """Segments that came or went are told by themselves."""
    was, now = [each for each in old if each in new], [each for each in new if each in old]
    if was != now:
        yield f"order {', '.join(was)} → {', '.join(now)}"


def _of_list(old: list[Any], new: list[Any], path: tuple[str, ...]) -> Iterator[str]:
    gone, come = [each for each in old if each not in new], [each for each in new if each not in old]
    if not gone and not come:
        yield " ".join([*path, "in another order"])
    elif len(gone) == len(come) and all(_is_like(was, now) for was, now in zip(gone, come, strict=True)):
        for was, now in zip(gone, come, strict=True):
            yield from _edits(was, now, (*path[:-1], _subject(was), ""))
    else:
        yield from (" ".join([*path[:-1], "removed", words(each)]) for each in gone)
        yield from (" ".join([*path[:-1], "added", words(each)]) for each in come)


def _is_like(was: Any, now: Any) -> bool:
    """Whether they are one condition, edited."""
    both = isinstance(was, dict) and isinstance(now, dict)
    return both and list(was)[:1] == list(now)[:1] and _subject(was) == _subject(now)


def _subject(condition: Mapping[str, Any]) -> str:
    """`count pricing_viewed`; of several put together only how."""
    key = next(iter(condition))
    value = condition[key]
    return f"{key} {value}" if isinstance(value, str | int | float) else str(key)


def words(value: Any) -> str:
    """A value as it could stand in a sentence."""
    text = _plain(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _plain(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            parts = (f"{key} {_nested(each)}" for key, each in value.items())
            return " ".join(parts)
        case list():
            return ", ".join(_nested(each) for each in value)
        case _:
            return str(value)


def _nested(value: Any) -> str:
    return f"({_plain(value)})" if isinstance(value, dict | list) and value else _plain(value)
