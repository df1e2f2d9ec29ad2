"""Conditions as they stand in a file to conditions as they run, and the measures that they turn out to need."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rules import comparing, conditions, counting, durations, growing, measures, model, operators, ruleset
from rules.comparing import Matches, Reader, Timed, Timeless
from rules.conditions import Condition
from rules.counting import EVER, Window
from rules.growing import Fed, Kind, Measure, identity, matcher, plain
from rules.measures import Part
from rules.names import Names, Place
from rules.state import NEVER


@dataclass(slots=True)
class Translator:
    names: Names
    measures: dict[str, Measure] = field(default_factory=dict)
    translated: dict[str, Condition] = field(default_factory=dict)

    def condition(self, place: Place, spec: Any) -> Condition:
        """The condition, one for all places that ask the same."""
        same = f"{type(spec).__name__} {spec!r}"
        if same not in self.translated:
            before = len(self.names.problems)
            condition = self._translate(place, spec)
            if len(self.names.problems) > before:
                return condition  # so that each place is told what is wrong with it
            self.translated[same] = condition
            if not isinstance(spec, model.LOGIC):
                for id in condition.reads & self.measures.keys():
                    self.measures[id].asked.append(condition.decide)
        return self.translated[same]

    def _translate(self, place: Place, spec: Any) -> Condition:
        match spec:
            case model.AllCondition():
                return conditions.all_of(self._each(place.at("all"), spec.all))
            case model.AnyCondition():
                return conditions.any_of(self._each(place.at("any"), spec.any))
            case model.NotCondition():
                return conditions.negate(self.condition(place.at("not"), spec.not_))
            case model.OfCondition():
                return conditions.some_of(spec.at_least, self._each(place.at("of"), spec.of))
            case model.FactCondition():
                return self._fact_condition(place, spec)
            case model.CountCondition():
                return self._count_condition(place, spec)
            case model.PeopleCondition():
                return self._people_condition(place, spec)
            case model.AmountCondition():
                return self._amount_condition(place, spec)
            case model.SeenCondition():
                window = _window(spec)
                id, label = self._ring(place, spec.seen, "seen", spec.where, 1, window.longest)
                return counting.count_at_least(id, label, 1, window)
            case model.NeverCondition():
                return counting.never(*self._ring(place, spec.never, "never", spec.where, 1, NEVER))
            case model.QuietCondition():
                id, label = self._ring(place, spec.quiet, "quiet", spec.where, 1, spec.for_)
                return counting.quiet(id, label, spec.for_)
            case model.FirstCondition():
                id, label = self._first(place, spec.first, spec.where)
                return counting.first(id, label, spec.within or spec.older_than or 0, spec.within is None)
            case model.LastCondition():
                longest = NEVER if spec.within is None else spec.within
                id, label = self._ring(place, spec.last, "last", spec.where, 1, longest)
                return counting.last(id, label, spec.within or spec.older_than or 0, spec.within is None)
            case model.SequenceCondition():
                return self._sequence_condition(place, spec)
            case model.ScoreCondition():
                return self._score_condition(place, spec)
            case model.ContactsCondition():
                matches, words = self._matching(place.at("where"), spec.where)
                return comparing.contacts(spec.contacts, spec.at_least or 1, matches, words)
            case model.StaleCondition():
                return self._stale_condition(place.at("stale"), spec.stale)
            case model.SegmentCondition():
                return self._segment_condition(place, spec)
            case _:
                raise AssertionError(spec)

    def _each(self, place: Place, specs: Iterable[Any]) -> list[Condition]:
        return [self.condition(place.at(i), spec) for i, spec in enumerate(specs)]

    def _fact_condition(self, place: Place, spec: model.FactCondition) -> Condition:
        declared = self.names.fact(place.at("fact"), spec.fact)
        given = spec.given()
        if not given:
            place.problem("a comparison is missing", f"one of: {', '.join(operators.TABLE)}")
        if declared is None or not self._sound(place, spec.fact, declared, given, spec.fold):
            return conditions.always()
        zone = declared.timezone if declared.type == "date" else None
        return comparing.compare_fact(self.names.reader(spec.fact), given, spec.or_missing, spec.fold, zone)

    def _stale_condition(self, place: Place, name: str) -> Condition:
        declared = self.names.fact(place, name)
        if declared is None:
            return conditions.always()
        if declared.refresh is None:
            place.problem(
                f"'{name}' has no `refresh`, so it is never stale", f"declare one: {name}: {{refresh: 180d}}"
            )
            return conditions.always()
        return comparing.stale(name, declared.refresh)

    def _sound(
        self, place: Place, name: str, declared: model.FactDeclaration, given: dict[str, Any], fold: bool
    ) -> bool:
        before = len(self.names.problems)
        self.names.check_operands(place, name, declared, given, fold)
        return len(self.names.problems) == before

    def _segment_condition(self, place: Place, spec: model.SegmentCondition) -> Condition:
        if spec.missing:
            return self._unclassified(place.at("segment"), spec.segment)
        wanted: dict[str, list[str]] = {}
        for i, each in enumerate(spec.segment):
            at = place.at("segment", i)
            dimension, _, segment = each.partition("/")
            if not segment:
                at.problem(f"'{each}' names no segment", "write dimension/segment, such as engagement/hot")
            elif (referred := self._referred(at, dimension)) is not None:
                names = self.names.segments_of(referred)
                if segment not in names:
                    at.unknown(f"segment of '{dimension}'", segment, names)
                wanted.setdefault(dimension, []).append(segment)
        parts = [conditions.in_segments(dimension, segments) for dimension, segments in wanted.items()]
        return parts[0] if len(parts) == 1 else conditions.any_of(parts)

    def _unclassified(self, place: Place, dimensions: list[str]) -> Condition:
        dimension, *others = dimensions
        if others:
            place.problem("`missing:` asks about one dimension")
        referred = self._referred(place, dimension)
        if referred is not None and (referred.kind == "set" or referred.on_unknown == "skip"):
            kind = "a set" if referred.kind == "set" else "a ladder that skips what is unknown"
            place.problem(f"'{dimension}' is {kind}, so it is never unclassified")
        return conditions.unclassified(dimension)

    def _referred(self, place: Place, dimension: str) -> model.Dimension | None:
        known = self.names.dimensions
        if dimension not in known:
            place.unknown("dimension", dimension, known)
            return None
        return known[dimension][1]

    def _count_condition(self, place: Place, spec: model.CountCondition) -> Condition:
        window, most = _window(spec), _most(spec)
        id, label = self._ring(place, spec.count, "count", spec.where, most, window.longest)
        return _bounded(spec, lambda k: counting.count_at_least(id, label, k, window))

    def _people_condition(self, place: Place, spec: model.PeopleCondition) -> Condition:
        window, most = _window(spec), _most(spec)
        activity, matches, label, named = self._source(place, spec.people, "people", spec.where)
        id = identity("people", activity, named)
        keep = measures.TAGGED_KEPT if spec.who else measures.KEPT_AT_LEAST
        self._measure(
            id,
            measures.empty_ring,
            [(activity, matches, growing.people_add)],
            growing.PEOPLE,
            max(keep, most),
            window.longest,
        )
        measure = self.measures[id]
        measure.of_people, measure.shortest = True, min(measure.shortest, window.rolling)
        who, words = self._matching(place.at("who"), spec.who) if spec.who else (None, "")
        return _bounded(spec, lambda k: counting.people_at_least(id, label, k, window, who, words))

    def _amount_condition(self, place: Place, spec: model.AmountCondition) -> Condition:
        kind = next(kind for kind in model.AMOUNTS if hasattr(spec, kind))
        window = _window(spec)
        activity, matches, label, named = self._source(place, getattr(spec, kind), kind, spec.where)
        id = identity("amounts", activity, named, spec.of)
        grow = growing.amounts_add(spec.of)
        self._measure(
            id,
            measures.empty_ring,
            [(activity, matches, grow)],
            growing.AMOUNTS,
            measures.TAGGED_KEPT,
            window.longest,
        )
        parts = []
        for op, bound in spec.given().items():
            try:
                parts.append(counting.amount(id, kind, f"{spec.of} of {label}", op, bound, window))
            except ValueError as error:
                place.at(op).problem(str(error))
        return parts[0] if len(parts) == 1 else conditions.all_of(parts)

    def _sequence_condition(self, place: Place, spec: model.SequenceCondition) -> Condition:
        window = EVER if spec.within is None else Window.of(spec.within)
        steps = [
            self._source(place.at("sequence", i), step.activity, "activity", step.where)
            for i, step in enumerate(spec.sequence)
        ]
        id = identity("sequence", [[activity, named] for activity, _, _, named in steps], spec.span)
        feeds = [
            (activity, matches, growing.sequence_add(i, spec.span))
            for i, (activity, matches, _, _) in enumerate(steps)
        ]
        empty = partial(measures.empty_sequence, len(steps))
        self._measure(
            id, empty, feeds, growing.sequence(spec.span), measures.KEPT_AT_LEAST, window.longest, spec.span
        )
        label = ", then ".join(counting.labelled(label, 1) for _, _, label, _ in steps)
        return counting.sequence(id, f"{label} within {durations.in_words(spec.span)}", window)

    def _score_condition(self, place: Place, spec: model.ScoreCondition) -> Condition:
        declared = self.names.scores.get(spec.score)
        if declared is None:
            place.at("score").unknown("score", spec.score, self.names.scores)
            return conditions.always()
        id, parts = self._score(declared)
        threshold = spec.at_least or spec.below or 0.0
        label = declared.label or f"{spec.score} score"
        signed = any(signal.weight < 0 for signal in declared.signals)
        part = counting.score_at_least(id, label, threshold, parts, signed)
        return part if spec.at_least is not None else conditions.negate(part)

    def _matching(self, place: Place, where: model.Where) -> tuple[Matches, str]:
        """What a contact's facts must be."""
        checks: list[tuple[Reader, Timeless | Timed]] = []
        words = []
        for name, comparison in where.items():
            given = comparison.given()
            declared = self.names.contact_facts.get(name)
            if declared is None:
                place.at(name).unknown("contact fact", name, self.names.contact_facts)
                continue
            if not given:
                place.at(name).problem("a comparison is missing")
            if self._sound(place.at(name), name, declared, given, comparison.fold):
                zone = declared.timezone if declared.type == "date" else None
                asked = comparing.asking(given, fold=comparison.fold, zone=zone)
                checks.append((self.names.reader(name, "contact_facts"), asked))
            words.append(f"{name} {operators.all_words(given.items())}")
        return comparing.matching(checks), " and ".join(words)

    # -- measures that conditions need --------------------------------------------------------------------

    def _source(
        self, place: Place, name: str, key: str, where: model.Where
    ) -> tuple[str, ruleset.Matches | None, str, list[Any]]:
        """The activity that `name` stands for, what it must be like, its label, and its filters as plain data."""
        declared = self.names.activity(place.at(key), name)
        self.names.check_filters(place.at("where"), where)
        activity, filters = self.names.resolve(name, where)
        label = (declared.label if declared else "") or name.replace("_", " ")
        shown = [f"{prop} {operators.words(op, x)}" for prop, c in where.items() for op, x in c.given().items()]
        return activity, matcher(filters), label + (f" ({', '.join(shown)})" if shown else ""), plain(filters)

    def _measure(
        self,
        id: str,
        empty: Callable[[int], bytes],
        feeds: list[Fed],
        kind: Kind,
        keep: int,
        longest: int,
        span: int = 0,
    ) -> None:
        self.measures.setdefault(id, Measure(empty, feeds, kind, span=span)).widen(keep, longest)

    def _ring(
        self, place: Place, name: str, key: str, where: model.Where, k: int, longest: int
    ) -> tuple[str, str]:
        """The id and label of the ring that counts `name`, made large enough for this condition."""
        activity, matches, label, named = self._source(place, name, key, where)
        id = identity("ring", activity, named)
        keep = k if k == 1 else max(k, measures.KEPT_AT_LEAST)
        self._measure(
            id, measures.empty_ring, [(activity, matches, growing.ring_add)], growing.RING, keep, longest
        )
        return id, label

    def _first(self, place: Place, name: str, where: model.Where) -> tuple[str, str]:
        activity, matches, label, named = self._source(place, name, "first", where)
        id = identity("first", activity, named)
        self._measure(id, measures.empty_ring, [(activity, matches, growing.first_add)], growing.FIRST, 1, NEVER)
        return id, label

    def _score(self, declared: model.ScoreDeclaration) -> tuple[str, list[Part]]:
        """A part for each half-life, and one for each signal with a cap; whatever the order of the file."""
        parts: list[Part] = []
        feeds: list[Fed] = []

        def text(signal: model.Signal) -> str:
            activity, filters = self.names.resolve(signal.activity, signal.where)
            half_life = signal.half_life or declared.half_life
            return json.dumps([activity, plain(filters), signal.weight, half_life, signal.cap])

        signals = sorted(declared.signals, key=text)
        for signal in signals:
            activity, filters = self.names.resolve(signal.activity, signal.where)
            half_life = signal.half_life or declared.half_life
            part = Part(half_life) if signal.cap is None else Part(half_life, float(signal.cap))
            if signal.cap is not None or part not in parts:
                parts.append(part)
            place = len(parts) - 1 if signal.cap is not None else parts.index(part)
            feeds.append((activity, matcher(filters), growing.score_add(signal.weight, half_life, place)))
        id = identity("score", [text(signal) for signal in signals])
        kind = growing.score([part.half_life for part in parts])
        self._measure(id, partial(measures.empty_score, len(parts)), feeds, kind, 1, NEVER)
        return id, parts


def _window(spec: model.Windowed) -> Window:
    if spec.calendar is not None:
        return Window.by_calendar(*spec.calendar, spec.timezone or "UTC")
    return EVER if spec.within is None else Window.of(spec.within)


def _most(spec: model.Many) -> int:
    """The highest number that the condition needs to tell apart."""
    return max(spec.at_least or 0, spec.below or 0, 0 if spec.at_most is None else spec.at_most + 1)


def _bounded(spec: model.Many, at_least: Callable[[int], Condition]) -> Condition:
    parts = [] if spec.at_least is None else [at_least(spec.at_least)]
    limits = [spec.below, None if spec.at_most is None else spec.at_most + 1]
    parts += [conditions.negate(at_least(k)) for k in limits if k is not None]
    return parts[0] if len(parts) == 1 else conditions.all_of(parts)
