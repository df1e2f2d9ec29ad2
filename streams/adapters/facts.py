"""Facts as sources call them, under our names and of our types.

A value that cannot be brought to its fact's type is one rejected value: the fact stays as it was,
and the rest of the message counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import msgspec

from rules.records import FactValue
from streams.adapters.base import Reason, Rejected
from streams.adapters.names import fit, is_personal, snake
from streams.adapters.wire import Refusal

# Left: snake_case without underscores. What stands in neither table keeps its own name.
ACCOUNT_NAMES = {
    "accountname": "name", "companyname": "name",
    "employeecount": "employees", "headcount": "employees", "noofemployees": "employees",
    "numberofemployees": "employees", "numemployees": "employees",
    "revenue": "annual_revenue", "yearlyrevenue": "annual_revenue",
    "domain": "website", "homepage": "website", "url": "website", "websiteurl": "website",
    "billingcountry": "country", "countrycode": "country", "billingcity": "city", "state": "region",
}  # fmt: skip
CONTACT_NAMES = {"jobtitle": "title", "position": "title", "jobrole": "role", "senioritylevel": "seniority"}
ADDRESS_PARTS = ("city", "country", "state")

_PLAIN = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,2})?|[+-]?\d{1,3}(,\d{3})+(\.\d+)?")


class FactChanges(msgspec.Struct, gc=False):
    """What a message does to facts."""

    set: dict[str, FactValue] = msgspec.field(default_factory=dict)
    clear: tuple[str, ...] = ()
    rejected: list[Rejected] = msgspec.field(default_factory=list)


class TraitMap(msgspec.Struct, frozen=True, gc=False):
    """Traits that a sources file maps: nothing else says their facts, and they say nothing else."""

    traits: dict[str, tuple[str, ...]]  # fact -> traits in snake_case, the first with a value
    taken: frozenset[str]

    @classmethod
    def of(cls, fields: Mapping[str, tuple[str, ...]]) -> TraitMap | None:
        """None where nothing is mapped."""
        if not fields:
            return None
        traits = {fact: tuple(map(snake, said)) for fact, said in fields.items()}
        return cls(traits, frozenset(trait for said in traits.values() for trait in said))

    def said(self, traits: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        named = {snake(key): value for key, value in traits.items()}
        for fact, fields in self.traits.items():
            spoken = [named[trait] for trait in fields if trait in named]
            if spoken:
                yield fact, next((value for value in spoken if value not in (None, "")), spoken[0])

    def leaves(self, key: str, fact: str) -> bool:
        """Whether a trait that would say `fact` is read as built in."""
        return fact not in self.traits and snake(key) not in self.taken


def account_traits(traits: Mapping[str, Any], mapped: TraitMap | None = None) -> FactChanges:
    """Traits of a company. Null clears; empty text says nothing; nested objects are left out."""
    if mapped is not None:
        named = ((key, _named(key, ACCOUNT_NAMES), value) for key, value in _with_address(traits))
        rest = ((name, value) for key, name, value in named if mapped.leaves(key, name))
        return _changes(chain(mapped.said(traits), rest))
    return _changes((_named(key, ACCOUNT_NAMES), value) for key, value in _with_address(traits))


def contact_traits(traits: Mapping[str, Any], mapped: TraitMap | None = None) -> FactChanges:
    """Traits of a person, the same way, and without the person's name."""
    if mapped is not None:
        rest = {key: value for key, value in traits.items() if mapped.leaves(key, _named(key, CONTACT_NAMES))}
        return _changes(chain(mapped.said(traits), _of_contact(rest)))
    return _changes(_of_contact(traits))


def _of_contact(traits: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    named = ((_named(key, CONTACT_NAMES), value) for key, value in traits.items())
    return ((name, value) for name, value in named if name not in ("name", "address"))


def _with_address(traits: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    address = traits.get("address", {})
    if isinstance(address, dict):
        yield from ((part, address[part]) for part in ADDRESS_PARTS if part in address)
    yield from traits.items()


def _named(key: str, table: Mapping[str, str]) -> str:
    name = snake(key)
    return table.get(name.replace("_", ""), name)


def _changes(reported: Iterator[tuple[str, Any]]) -> FactChanges:
    changes = FactChanges()
    cleared = []
    for name, value in reported:
        if not name or (is_personal(name) and type(value) is not bool):
            continue
        if value is None:
            cleared.append(name)
        else:
            put(changes, name, value)
    changes.clear = tuple(name for name in cleared if name not in changes.set)
    return changes


def put(changes: FactChanges, name: str, value: Any) -> None:
    """Sets the fact, or notes why its value is refused. What is no value at all is passed over."""
    if value == "" or not _is_fact_value(value):
        return
    try:
        changes.set[name] = coerced(name, value)
    except Refusal as refusal:
        changes.rejected.append(refusal.rejected)


def _is_fact_value(value: Any) -> bool:
    if type(value) is list:
        return all(type(item) is str for item in value)
    return type(value) in (str, int, float, bool)


def coerced(name: str, value: Any) -> Any:
    """The value in its fact's type."""
    coerce = _TYPES.get(name)
    return fit(value) if coerce is None else coerce(name, value)


def number(name: str, value: Any) -> float | int:
    """A number from a number or its usual text: `12500`, `12,500.00`, `1.25e7`."""
    if type(value) is str and len(value) <= 40 and _PLAIN.fullmatch(value.strip()):
        plain = float(value.replace(",", ""))
        return int(plain) if plain.is_integer() and abs(plain) < 2**53 else plain
    if type(value) in (int, float):
        found: float | int = fit(value)
        return found
    raise Refusal(Reason.BAD_VALUE, f"{name} is no number: {str(value)[:40]!r}")


def _whole(name: str, value: Any) -> int:
    found = number(name, value)
    if found == int(found) and abs(found) < 2**53:
        return int(found)
    raise Refusal(Reason.BAD_VALUE, f"{name} is no whole number: {str(value)[:40]!r}")


_TYPES: dict[str, Callable[[str, Any], Any]] = {"employees": _whole, "annual_revenue": number}
