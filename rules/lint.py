"""What loads and is probably not meant: segments nobody treats differently, rungs nobody reaches, unused names.

A warning is only given where it is surely so (see `implying`), and each has a way to be heeded or answered. It is
asked of rules that have been loaded: nothing is wrong with them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any

from pydantic import BaseModel

from rules import model, yamlfile
from rules.errors import Problem, did_you_mean
from rules.implying import Facts, Values, implies
from rules.names import Names, Place
from rules.ruleset import ANY_ACTIVITY
from rules.sources import HUMAN, RANKED

MOST_RUNGS = 6
SHOWN_AS = "name"  # the fact that changes show the account by

Dropped = Callable[[str, str], bool]  # (`facts` or `contact_facts`, name): whether every source leaves it out


def lint(
    files: Mapping[str, str], sources: Collection[str] = (), dropped: Dropped = lambda section, name: False
) -> list[Problem]:
    """Warnings about the rules in `files` (path → YAML text), which must be those of a ruleset that was loaded.

    `sources` are the names that records may give as their source; without any, none is asked about.
    """
    linter = _Linter.of(files, sources, dropped)
    for place, dimension in linter.names.dimensions.values():
        linter.look_at_segments(place, dimension)
        linter.look_at_rungs(place, dimension)
    for place in linter.declarations:
        linter.look_at_declared(place)
    return sorted(set(linter.names.problems))


@dataclass(slots=True)
class _Linter:
    names: Names
    facts: Facts
    declarations: list[Place]
    used: _Used
    sources: Collection[str]
    dropped: Dropped

    @classmethod
    def of(cls, files: Mapping[str, str], sources: Collection[str], dropped: Dropped) -> _Linter:
        names = Names([])  # its problems, of which there are none, become the warnings
        places = []
        for file, text in sorted(files.items()):
            for document in yamlfile.read(file, text):
                names.declare(document)
                places.append(Place(document, names.problems))
        names.check()
        return cls(names, Facts(names), places, _Used.by(names), sources, dropped)

    # -- segments -----------------------------------------------------------------------------------------

    def look_at_segments(self, place: Place, dimension: model.Dimension) -> None:
        if dimension.is_by_value:
            return
        segments = dimension.segments or []
        if dimension.kind == "ladder" and len(segments) > MOST_RUNGS:
            place.at("segments").problem(
                f"'{dimension.dimension}' has {len(segments)} rungs",
                f"nobody acts on more than {MOST_RUNGS}; merge some",
            )
        acted: dict[tuple[tuple[str, str], ...], str] = {}
        for i, segment in enumerate(segments):
            here, action = place.at("segments", i), tuple(sorted(segment.action.plain().items()))
            if not action and not dimension.action.plain():
                here.problem(f"segment '{segment.segment}' has no action", "say in `action:` what to do with it")
            elif action in acted:
                here.at("action").problem(
                    f"'{segment.segment}' and '{acted[action]}' have the same action",
                    "nobody treats them differently: merge them, or say what differs",
                )
            if action:
                acted.setdefault(action, segment.segment)

    # -- rungs ----------------------------------------------------------------------------------------------

    def look_at_rungs(self, place: Place, dimension: model.Dimension) -> None:
        above: list[model.Segment] = []
        for i, segment in enumerate(dimension.segments or []):
            here = place.at("segments", i)
            if segment.when is not None and self._is_impossible(segment.when):
                here.at("when").problem(f"'{segment.segment}' can never be true", "no value fits all that it asks")
            elif dimension.kind == "set":
                self._say_if_twice(here, segment, above)
            elif reached := self._reached_by(dimension, segment, above):
                words = " or ".join(f"'{each}'" for each in reached)
                here.problem(
                    f"'{segment.segment}' is never reached",
                    f"whoever it fits is {words} already" if segment.when else f"everybody is {words} already",
                )
            above.append(segment)

    def _is_impossible(self, condition: Any) -> bool:
        return any(
            values.there.empty and values.missing is not True for values in self.facts.bounds(condition).values()
        )

    def _say_if_twice(self, here: Place, segment: model.Segment, above: list[model.Segment]) -> None:
        for other in above:
            if segment.when is not None and segment.when == other.when:
                here.at("when").problem(f"'{segment.segment}' and '{other.segment}' have the same rule")
                return

    def _reached_by(
        self, dimension: model.Dimension, segment: model.Segment, above: list[model.Segment]
    ) -> list[str]:
        """The rungs that take everybody whom this one fits; empty when somebody may be left for it."""
        # Who must wait for a rung may be in a lower one meanwhile.
        higher = [each for each in above if each.when is not None and each.for_ is None]
        if segment.when is not None:
            for each in higher:
                if implies(segment.when, each.when, self.names):
                    return [each.segment]
        grants = [(each.segment, self.facts.grants(each.when)) for each in higher]
        bounds = {} if segment.when is None else self.facts.bounds(segment.when)
        for key in sorted({key for _, granted in grants for key in granted}):
            takers = [(name, granted[key]) for name, granted in grants if key in granted]
            if _take_all([values for _, values in takers], bounds.get(key), dimension.on_unknown == "stop"):
                return [name for name, _ in takers]
        return []

    # -- declarations ---------------------------------------------------------------------------------------

    def look_at_declared(self, place: Place) -> None:
        data = place.document.data
        for section in ("facts", "contact_facts"):
            for name in data.get(section) or {}:
                self._look_at_fact(place.at(section, name), section, name)
        for name in data.get("activities") or {}:
            declared = self.names.activities[name]
            # What we do ourselves is declared so that `any` leaves it out: that is a use too.
            counted = self.used.has("activities", name, *([] if declared.of else [ANY_ACTIVITY]))
            if not counted and declared.outcome is None:
                place.at("activities", name).problem(f"nothing counts activity '{name}'", "use it, or remove it")
        for name in data.get("scores") or {}:
            if not self.used.has("scores", name):
                place.at("scores", name).problem(f"no rule asks score '{name}'", "use it, or remove it")

    def _look_at_fact(self, place: Place, section: str, name: str) -> None:
        declared = (self.names.facts if section == "facts" else self.names.contact_facts)[name]
        for i, source in enumerate(declared.sources):
            known = {*self.sources, HUMAN, RANKED, *self.names.ranks}
            if self.sources and source not in known:
                place.at("sources", i).problem(f"no source is called '{source}'", did_you_mean(source, known))
        if declared.type != "boolean" and self.dropped(section, name):
            hint = "it is named like something private or is spelt as no source's field can be"
            place.problem(f"no source can supply '{name}'", hint)
        if not self.used.has(section, name) and not declared.description and name != SHOWN_AS:
            hint = "remove it, or say in `description:` what it is for"
            place.problem(f"no rule reads {'fact' if section == 'facts' else 'contact fact'} '{name}'", hint)


def _take_all(above: list[Values], wanted: Values | None, stops: bool) -> bool:
    """Whether rungs that are true for these values of a fact leave nobody to a rung that asks for `wanted`."""
    taken = reduce(or_, above)
    if wanted is None:
        wanted = Values((taken | ~taken).there, True)  # whatever it is, and also when there is none
    if not taken.covers(wanted):
        return False
    # Nobody knows the value: one of the rungs above is true then, or unknown and the ladder stops at it.
    missing = [each.missing for each in above]
    return wanted.missing is not True or True in missing or (stops and None in missing)


# -- what is used -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Used:
    """Which names something reads, by section."""

    names: dict[str, set[str]] = field(default_factory=dict)

    def has(self, section: str, *names: str) -> bool:
        return not self.names.get(section, set()).isdisjoint(names)

    @classmethod
    def by(cls, names: Names) -> _Used:
        used = cls()
        for _, dimension in names.dimensions.values():
            used._note("facts", dimension.by_fact, dimension.by_bands.fact if dimension.by_bands else None)
            for segment in dimension.segments or []:
                used._read(segment.when)
                used._read(segment.stay)
        for name in sorted(used.names.get("scores", ())):
            used._note("activities", *(signal.activity for signal in names.scores[name].signals))
        for section, declared in (("facts", names.facts), ("contact_facts", names.contact_facts)):
            for name, fact in declared.items():
                if used.has(section, name):
                    used._note(section, *fact.also)
        used._follow(names)
        return used

    def _follow(self, names: Names) -> None:
        """What a name for some of another activity stands for is used with it."""
        todo = list(self.names.get("activities", ()))
        while todo:
            declared = names.activities.get(todo.pop())
            if declared is not None and declared.of and not self.has("activities", declared.of):
                self._note("activities", declared.of)
                todo.append(declared.of)

    def _note(self, section: str, *found: str | None) -> None:
        self.names.setdefault(section, set()).update(name for name in found if name)

    def _read(self, condition: Any) -> None:
        match condition:
            case model.FactCondition():
                self._note("facts", condition.fact)
            case model.StaleCondition():
                self._note("facts", condition.stale)
            case model.ContactsCondition():
                self._note("contact_facts", *condition.where)
            case model.PeopleCondition():
                self._note("activities", condition.people)
                self._note("contact_facts", *condition.who)
            case model.SequenceCondition():
                self._note("activities", *(step.activity for step in condition.sequence))
            case model.ScoreCondition():
                self._note("scores", condition.score)
            case BaseModel():
                for name, value in condition:
                    if name in _ACTIVITIES:
                        self._note("activities", value)
                    for part in value if isinstance(value, list) else [value]:
                        self._read(part)
            case _:
                pass


_ACTIVITIES = frozenset({*model.AMOUNTS, "count", "seen", "never", "quiet", "first", "last"})
