"""Rule files to a ruleset: read, check everything, report every mistake at once, compile once.

files ──► documents ──► models ──► declarations ──► conditions ──► Ruleset
          (yamlfile)    (model)    what rules may    (closures)    with its index
                                   name
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from rules import conditions, durations, measures, membership, model, operators, ruleset, yamlfile
from rules.conditions import EVER, Condition, Decide, Matches, Reader, Timed, Timeless, Window
from rules.errors import Problem, RulesetError
from rules.facts import coerce
from rules.measures import Part
from rules.names import Filters, Names, Place
from rules.records import Activity
from rules.ruleset import ANY_ACTIVITY, Dimension, Feed, Ruleset
from rules.state import NEVER, UNCLASSIFIED
from rules.yamlfile import Document

TEST_SUFFIX = "_test.yaml"


def load(directory: FilePath) -> Ruleset:
    """The ruleset in the `.yaml` files of `directory`. Raises RulesetError with every problem found."""
    if not directory.is_dir():
        raise RulesetError([Problem(str(directory), 0, "there is no such directory")])
    files, problems = {}, []
    for path in sorted(directory.rglob("*.yaml")):
        if path.name.endswith(TEST_SUFFIX):
            continue
        name = path.relative_to(directory).as_posix()
        try:
            files[name] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            problems.append(Problem(name, 0, "the file is not UTF-8 text"))
    if problems:
        raise RulesetError(problems)
    return compile_files(files)


def compile_files(files: Mapping[str, str]) -> Ruleset:
    """The ruleset of `files` (path → YAML text). Raises RulesetError with every problem found."""
    problems: list[Problem] = []
    documents: list[Document] = []
    for name, text in sorted(files.items()):
        try:
            documents += yamlfile.read(name, text)
        except RulesetError as error:
            problems += error.problems
    names = Names(problems)
    for document in documents:
        names.declare(document)
    if not names.dimensions and not problems:
        problems.append(Problem("", 0, "no dimension is defined", "a file with `dimension:` defines one"))
    compiled = _Compiler(names).compile()
    if problems:
        raise RulesetError(problems)
    return compiled(ruleset_hash(files), dict(files))


def ruleset_hash(files: Mapping[str, str]) -> str:
    text = json.dumps(sorted(files.items()), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


Add = Callable[[bytes, int, Activity, int], bytes]


@dataclass(slots=True)
class _Measure:
    """A measure that some condition needs, made as large as the most demanding of them asks.

    `add(keep, longest)` gives how it grows, for each activity that feeds it.
    """

    empty: Callable[[int], bytes]
    feeds: list[tuple[str, ruleset.Matches | None, Callable[[int, int], Add]]]
    keep: int = 1
    longest: int = 0
    asked: list[Decide] = field(default_factory=list)
    shortest: int = NEVER  # the shortest window of all
    of_people: bool = False
    span: int = 0  # how much longer than any window an activity can matter: it may begin a sequence

    def widen(self, keep: int, longest: int) -> None:
        self.keep, self.longest = max(self.keep, keep), max(self.longest, longest)

    @property
    def renews(self) -> Callable[[bytes, Activity, int], bool] | None:
        shortest = self.shortest
        if not self.of_people:
            return None
        return lambda ring, activity, log_time: (
            activity.person is not None and measures.is_in_already(ring, activity.person, log_time - shortest)
        )


@dataclass(slots=True)
class _Compiler:
    """Conditions to closures, and the measures that they turned out to need."""

    names: Names
    measures: dict[str, _Measure] = field(default_factory=dict)
    compiled: dict[str, Condition] = field(default_factory=dict)

    def compile(self) -> Callable[[str, dict[str, str]], Ruleset]:
        names = self.names
        names.check()
        for place in names.broken:
            self._salvage(place)
        compiled = self._in_order([self._dimension(place, each) for place, each in names.dimensions.values()])
        readers: dict[str, list[int]] = {}
        for i, dimension in enumerate(compiled):
            for key in dimension.reads:
                readers.setdefault(key, []).append(i)
        frozen = {key: tuple(indexes) for key, indexes in readers.items()}
        return lambda hash, files: Ruleset(
            hash,
            files,
            compiled,
            {id: measure.empty for id, measure in self.measures.items()},
            self._feeds(frozen),
            frozen,
            names.fact_rules("facts"),
            names.fact_rules("contact_facts"),
            {each.name: i for i, each in enumerate(compiled)},
            {name: names.reader(name) for name in names.facts},
            self._outcomes(),
        )

    def _feeds(self, readers: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Feed, ...]]:
        feeds: dict[str, list[Feed]] = {}
        for id, measure in self.measures.items():
            for activity, matches, add in measure.feeds:
                grow = add(measure.keep, measure.longest)
                longest = measure.longest + measure.span
                asked = tuple(measure.asked)
                feed = Feed(
                    id, matches, grow, measure.empty(0), longest, readers.get(id, ()), asked, measure.renews
                )
                feeds.setdefault(activity, []).append(feed)
        of_any = feeds.get(ANY_ACTIVITY, [])
        ours = {name for name, declared in self.names.activities.items() if declared.outbound}
        alone = {ANY_ACTIVITY, *ours}
        return {name: tuple(feeds.get(name, [])) for name in ours} | {
            name: tuple(each if name in alone else each + of_any) for name, each in feeds.items()
        }

    def _outcomes(self) -> dict[str, tuple[tuple[ruleset.Matches | None, ruleset.Outcome], ...]]:
        outcomes: dict[str, list[tuple[ruleset.Matches | None, ruleset.Outcome]]] = {}
        for name, declared in self.names.activities.items():
            if declared.outcome is not None:
                activity, filters = self.names.resolve(name, {})
                outcome = ruleset.Outcome(declared.outcome, declared.revenue or "")
                outcomes.setdefault(activity, []).append((_matcher(filters), outcome))
        return {activity: tuple(each) for activity, each in outcomes.items()}

    def _in_order(self, dimensions: list[Dimension]) -> tuple[Dimension, ...]:
        """Each dimension after those that it refers to, with its neighbours filled in. Names a circle."""
        by_name = {each.name: each for each in dimensions}
        refers = {each.name: sorted(_referred(each) & by_name.keys()) for each in dimensions}
        ordered: list[str] = []

        def visit(name: str, path: tuple[str, ...]) -> None:
            if name in ordered:
                return
            if name in path:
                circle = " → ".join((*path[path.index(name) :], name))
                place, _ = self.names.dimensions[name]
                place.problem(f"dimensions refer to each other in a circle: {circle}")
                return
            for other in refers[name]:
                visit(other, (*path, name))
            if name not in ordered:
                ordered.append(name)

        for each in dimensions:
            visit(each.name, ())
        place = {name: i for i, name in enumerate(ordered)}
        behind: dict[str, set[str]] = {}
        for name in ordered:
            behind[name] = {name}.union(*(behind.get(other, set()) for other in refers[name]))
        return tuple(
            replace(
                by_name[name],
                behind=tuple(sorted(place[other] for other in behind[name])),
                ahead=tuple(sorted(place[other] for other in ordered if name in refers[other])),
            )
            for name in ordered
        )

    def _salvage(self, place: Place) -> None:
        """A dimension that cannot be read as a whole: what its good segments name is checked all the same."""
        segments = place.document.data.get("segments")
        for i, each in enumerate(segments if isinstance(segments, list) else []):
            try:
                segment = model.Segment.model_validate(each)
            except ValidationError:
                continue  # said already, with the dimension
            if segment.when is not None:
                self._condition(place.at("segments", i, "when"), segment.when)

    # -- dimensions ---------------------------------------------------------------------------------------

    def _dimension(self, place: Place, spec: model.Dimension) -> Dimension:
        if spec.by_fact is not None:
            return self._by_fact(place, spec, spec.by_fact)
        if spec.by_bands is not None:
            return self._by_bands(place, spec, spec.by_bands)
        segments = []
        for i, each in self._named_once(place, spec):
            here = place.at("segments", i)
            if each.when is None and each.otherwise is None:
                here.problem("give a segment either `when:` or `otherwise: true`")
            last = i == len(spec.segments or []) - 1
            if each.otherwise and (spec.kind == "set" or not last):
                hint = "it matches everything, so nothing below it is ever reached"
                here.at("otherwise").problem("`otherwise` belongs to a ladder's last segment", hint)
            when = conditions.always() if each.when is None else self._condition(here.at("when"), each.when)
            stay = None if each.stay is None else self._condition(here.at("stay"), each.stay)
            id = "" if each.when is None else _identity(each.when.model_dump(mode="json"))
            rule = membership.Rule(
                each.segment,
                id,
                when.decide,
                None if stay is None else stay.decide,
                each.for_ or 0,
                each.keep_for or 0,
            )
            segments.append(_segment(spec, each.segment, when, each, stay, rule if rule.dwells else None))
        return _assemble(spec, tuple(segments))

    def _named_once(self, place: Place, spec: model.Dimension) -> Iterable[tuple[int, model.Segment]]:
        names: set[str] = set()
        for i, each in enumerate(spec.segments or []):
            if each.segment in names:
                place.at("segments", i, "segment").problem(f"segment '{each.segment}' is defined twice")
            names.add(each.segment)
            yield i, each

    def _described(self, place: Place, spec: model.Dimension, known: Iterable[str]) -> dict[str, model.Segment]:
        """What the file says of the segments that a fact's values make."""
        known = list(known)
        described = {}
        for i, each in self._named_once(place, spec):
            if each.segment not in known:
                place.at("segments", i, "segment").unknown("segment", each.segment, known)
            if each.when is not None or each.otherwise is not None:
                place.at("segments", i).problem(
                    "its rule is the fact's value", "leave out `when:` and `otherwise:`"
                )
            described[each.segment] = each
        return described

    def _by_fact(self, place: Place, spec: model.Dimension, fact: str) -> Dimension:
        """A ladder with one segment for every term of the fact's vocabulary."""
        declared = self.names.fact(place.at("by_fact"), fact)
        if declared is None or declared.vocabulary not in self.names.terms:
            if declared is not None:
                place.at("by_fact").problem(f"fact '{fact}' has no vocabulary to make segments of")
            return _assemble(spec, ())
        reader = self.names.reader(fact)
        terms = self.names.terms[declared.vocabulary]
        described = self._described(place, spec, terms)
        segments = [
            _segment(spec, term, conditions.compare_fact(reader, {"is": term}), described.get(term))
            for term in terms
        ]
        answers: dict[Any, tuple[str, ...]] = {term: (term,) for term in terms}
        unclassified = (UNCLASSIFIED,) if spec.kind == "ladder" and spec.on_unknown == "stop" else ()
        value_of = reader.value
        # One look-up instead of a question for each term; deciding them one by one would say the same.
        return replace(
            _assemble(spec, tuple(segments)),
            decide=lambda state, now: (answers.get(value_of(state.facts), unclassified), NEVER),
        )

    def _by_bands(self, place: Place, spec: model.Dimension, by: model.ByBands) -> Dimension:
        """A ladder with one segment for every band of a number."""
        here = place.at("by_bands")
        declared = self.names.fact(here.at("fact"), by.fact)
        if declared is not None and declared.type != "number":
            here.at("fact").problem(f"bands cut a number, and {by.fact} is a {declared.type}")
        bands = self.names.bands.get(by.bands)
        if bands is None:
            here.at("bands").unknown("bands", by.bands, self.names.bands)
            return _assemble(spec, ())
        if by.profile not in bands.profiles:
            here.at("profile").unknown("profile", by.profile, bands.profiles)
            return _assemble(spec, ())
        cuts = list(bands.profiles[by.profile].items())
        described = self._described(place, spec, [name for name, _ in cuts])
        reader = self.names.reader(by.fact)
        segments = []
        for (name, start), end in zip(cuts, [*(start for _, start in cuts[1:]), None], strict=True):
            within = {"at_least": start} if end is None else {"at_least": start, "below": end}
            segments.append(_segment(spec, name, conditions.compare_fact(reader, within), described.get(name)))
        return _assemble(spec, tuple(segments))

    # -- conditions ---------------------------------------------------------------------------------------

    def _condition(self, place: Place, spec: Any) -> Condition:
        """The condition, one for all places that ask the same."""
        same = f"{type(spec).__name__} {spec!r}"
        if same not in self.compiled:
            before = len(self.names.problems)
            condition = self._compile(place, spec)
            if len(self.names.problems) > before:
                return condition  # so that each place is told what is wrong with it
            self.compiled[same] = condition
            if not isinstance(spec, model.LOGIC):
                for id in condition.reads & self.measures.keys():
                    self.measures[id].asked.append(condition.decide)
        return self.compiled[same]

    def _compile(self, place: Place, spec: Any) -> Condition:
        match spec:
            case model.AllCondition():
                return conditions.all_of(self._each(place.at("all"), spec.all))
            case model.AnyCondition():
                return conditions.any_of(self._each(place.at("any"), spec.any))
            case model.NotCondition():
                return conditions.negate(self._condition(place.at("not"), spec.not_))
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
                return conditions.count_at_least(id, label, 1, window)
            case model.NeverCondition():
                return conditions.never(*self._ring(place, spec.never, "never", spec.where, 1, NEVER))
            case model.QuietCondition():
                id, label = self._ring(place, spec.quiet, "quiet", spec.where, 1, spec.for_)
                return conditions.quiet(id, label, spec.for_)
            case model.FirstCondition():
                id, label = self._first(place, spec.first, spec.where)
                return conditions.first(id, label, spec.within or spec.older_than or 0, spec.within is None)
            case model.LastCondition():
                longest = NEVER if spec.within is None else spec.within
                id, label = self._ring(place, spec.last, "last", spec.where, 1, longest)
                return conditions.last(id, label, spec.within or spec.older_than or 0, spec.within is None)
            case model.SequenceCondition():
                return self._sequence_condition(place, spec)
            case model.ScoreCondition():
                return self._score_condition(place, spec)
            case model.ContactsCondition():
                matches, words = self._matching(place.at("where"), spec.where)
                return conditions.contacts(spec.contacts, spec.at_least or 1, matches, words)
            case model.SegmentCondition():
                return self._segment_condition(place, spec)
            case _:
                raise AssertionError(spec)

    def _each(self, place: Place, specs: Iterable[Any]) -> list[Condition]:
        return [self._condition(place.at(i), spec) for i, spec in enumerate(specs)]

    def _fact_condition(self, place: Place, spec: model.FactCondition) -> Condition:
        declared = self.names.fact(place.at("fact"), spec.fact)
        given = spec.given()
        if not given:
            place.problem("a comparison is missing", f"one of: {', '.join(operators.TABLE)}")
        if declared is None or not self._sound(place, spec.fact, declared, given, spec.fold):
            return conditions.always()
        zone = declared.timezone if declared.type == "date" else None
        return conditions.compare_fact(self.names.reader(spec.fact), given, spec.or_missing, spec.fold, zone)

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
                names = self._segment_names(referred)
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

    def _segment_names(self, spec: model.Dimension) -> list[str]:
        if spec.by_fact is not None:
            declared = self.names.facts.get(spec.by_fact)
            return self.names.terms.get(declared.vocabulary or "", []) if declared else []
        if spec.by_bands is not None:
            bands = self.names.bands.get(spec.by_bands.bands)
            return list(bands.profiles.get(spec.by_bands.profile, ())) if bands else []
        return [each.segment for each in spec.segments or []]

    def _count_condition(self, place: Place, spec: model.CountCondition) -> Condition:
        window, most = _window(spec), _most(spec)
        id, label = self._ring(place, spec.count, "count", spec.where, most, window.longest)
        return _bounded(spec, lambda k: conditions.count_at_least(id, label, k, window))

    def _people_condition(self, place: Place, spec: model.PeopleCondition) -> Condition:
        window, most = _window(spec), _most(spec)
        activity, matches, label, named = self._source(place, spec.people, "people", spec.where)
        id = _identity("people", activity, named)
        keep = measures.TAGGED_KEPT if spec.who else measures.KEPT_AT_LEAST
        self._measure(id, measures.empty_ring, [(activity, matches, _people_add)], max(keep, most), window.longest)
        measure = self.measures[id]
        measure.of_people, measure.shortest = True, min(measure.shortest, window.rolling)
        who, words = self._matching(place.at("who"), spec.who) if spec.who else (None, "")
        return _bounded(spec, lambda k: conditions.people_at_least(id, label, k, window, who, words))

    def _amount_condition(self, place: Place, spec: model.AmountCondition) -> Condition:
        kind = next(kind for kind in model.AMOUNTS if hasattr(spec, kind))
        window = _window(spec)
        activity, matches, label, named = self._source(place, getattr(spec, kind), kind, spec.where)
        id = _identity("amounts", activity, named, spec.of)
        grow = _amounts_add(spec.of)
        self._measure(id, measures.empty_ring, [(activity, matches, grow)], measures.TAGGED_KEPT, window.longest)
        parts = []
        for op, bound in spec.given().items():
            try:
                parts.append(conditions.amount(id, kind, f"{spec.of} of {label}", op, bound, window))
            except ValueError as error:
                place.at(op).problem(str(error))
        return parts[0] if len(parts) == 1 else conditions.all_of(parts)

    def _sequence_condition(self, place: Place, spec: model.SequenceCondition) -> Condition:
        window = EVER if spec.within is None else Window.of(spec.within)
        steps = [
            self._source(place.at("sequence", i), step.activity, "activity", step.where)
            for i, step in enumerate(spec.sequence)
        ]
        id = _identity("sequence", [[activity, named] for activity, _, _, named in steps], spec.span)
        feeds = [
            (activity, matches, _sequence_add(i, spec.span)) for i, (activity, matches, _, _) in enumerate(steps)
        ]
        empty = partial(measures.empty_sequence, len(steps))
        self._measure(id, empty, feeds, measures.KEPT_AT_LEAST, window.longest, spec.span)
        label = ", then ".join(conditions.labelled(label, 1) for _, _, label, _ in steps)
        return conditions.sequence(id, f"{label} within {durations.in_words(spec.span)}", window)

    def _score_condition(self, place: Place, spec: model.ScoreCondition) -> Condition:
        declared = self.names.scores.get(spec.score)
        if declared is None:
            place.at("score").unknown("score", spec.score, self.names.scores)
            return conditions.always()
        id, parts = self._score(declared)
        threshold = spec.at_least or spec.below or 0.0
        label = declared.label or f"{spec.score} score"
        signed = any(signal.weight < 0 for signal in declared.signals)
        part = conditions.score_at_least(id, label, threshold, parts, signed)
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
                asked = conditions.asking(given, fold=comparison.fold, zone=zone)
                checks.append((self.names.reader(name, "contact_facts"), asked))
            words.append(f"{name} {operators.all_words(given.items())}")
        return conditions.matching(checks), " and ".join(words)

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
        return activity, _matcher(filters), label + (f" ({', '.join(shown)})" if shown else ""), _plain(filters)

    def _measure(
        self,
        id: str,
        empty: Callable[[int], bytes],
        feeds: list[tuple[str, ruleset.Matches | None, Callable[[int, int], Add]]],
        keep: int,
        longest: int,
        span: int = 0,
    ) -> None:
        self.measures.setdefault(id, _Measure(empty, feeds, span=span)).widen(keep, longest)

    def _ring(
        self, place: Place, name: str, key: str, where: model.Where, k: int, longest: int
    ) -> tuple[str, str]:
        """The id and label of the ring that counts `name`, made large enough for this condition."""
        activity, matches, label, named = self._source(place, name, key, where)
        id = _identity("ring", activity, named)
        keep = k if k == 1 else max(k, measures.KEPT_AT_LEAST)
        self._measure(id, measures.empty_ring, [(activity, matches, _ring_add)], keep, longest)
        return id, label

    def _first(self, place: Place, name: str, where: model.Where) -> tuple[str, str]:
        activity, matches, label, named = self._source(place, name, "first", where)
        id = _identity("first", activity, named)
        self._measure(id, measures.empty_ring, [(activity, matches, _first_add)], 1, NEVER)
        return id, label

    def _score(self, declared: model.ScoreDeclaration) -> tuple[str, list[Part]]:
        """A part for each half-life, and one for each signal with a cap."""
        parts: list[Part] = []
        feeds: list[tuple[str, ruleset.Matches | None, Callable[[int, int], Add]]] = []
        named = []
        for signal in declared.signals:
            activity, filters = self.names.resolve(signal.activity, signal.where)
            half_life = signal.half_life or declared.half_life
            part = Part(half_life) if signal.cap is None else Part(half_life, float(signal.cap))
            if signal.cap is not None or part not in parts:
                parts.append(part)
            place = len(parts) - 1 if signal.cap is not None else parts.index(part)
            feeds.append((activity, _matcher(filters), _score_add(signal.weight, half_life, place)))
            named.append([activity, _plain(filters), signal.weight, half_life, signal.cap])
        id = _identity("score", sorted(named, key=json.dumps))
        self._measure(id, partial(measures.empty_score, len(parts)), feeds, 1, NEVER)
        return id, parts


def _segment(
    spec: model.Dimension,
    name: str,
    when: Condition,
    said: model.Segment | None,
    stay: Condition | None = None,
    rule: membership.Rule | None = None,
) -> ruleset.Segment:
    """A segment with what the file says of it; owner and action are the dimension's where it has none."""
    if said is None:
        return ruleset.Segment(name, when, spec.owner, spec.action.plain())
    return ruleset.Segment(
        name,
        when,
        said.owner or spec.owner,
        said.action.plain() or spec.action.plain(),
        said.description,
        said.messaging.plain(),
        stay,
        rule,
    )


def _assemble(spec: model.Dimension, segments: tuple[ruleset.Segment, ...]) -> Dimension:
    skips = spec.on_unknown == "skip"
    decide = ruleset.ladder(segments, skips) if spec.kind == "ladder" else ruleset.members(segments)
    reads = frozenset[str]().union(*(segment.condition.reads for segment in segments))
    settle = None
    if any(segment.rule is not None for segment in segments):
        rules = [each.rule or membership.Rule(each.name, "", each.condition.decide) for each in segments]
        settle = membership.ladder(rules, skips) if spec.kind == "ladder" else membership.members(rules)
        reads |= frozenset[str]().union(*(segment.stay.reads for segment in segments if segment.stay is not None))
    return Dimension(
        spec.dimension, spec.kind, segments, decide, reads, skips, settle, description=spec.description
    )


def _referred(dimension: Dimension) -> set[str]:
    prefix = conditions.segment_key("")
    return {key.removeprefix(prefix) for key in dimension.reads if key.startswith(prefix)}


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


def _plain(filters: Filters) -> list[Any]:
    plain = [
        [prop, comparison.fold, sorted(map(list, comparison.given().items()))] for prop, comparison in filters
    ]
    return sorted(plain, key=json.dumps)  # operands of several types have no order of their own


def _identity(*parts: Any) -> str:
    """A measure is known by what it folds, not by who asks: thresholds and windows are left out."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    digest = hashlib.blake2b(text.encode(), digest_size=5).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")  # every account keeps it, for every measure


def _matcher(filters: Filters) -> ruleset.Matches | None:
    checks = [(prop, conditions.comparing(asked.given(), fold=asked.fold)) for prop, asked in filters]
    if not checks:
        return None
    if len(checks) == 1:
        ((prop, check),) = checks
        return lambda activity: check(activity.props.get(prop)) is True
    return lambda activity: all(check(activity.props.get(prop)) is True for prop, check in checks)


# -- how measures grow: `keep` entries at most, none older than `longest` -----------------------------------


def _ring_add(keep: int, longest: int) -> Add:
    return lambda ring, at, activity, log_time: measures.ring_add(
        ring, at, activity.offset, keep, log_time - longest
    )


def _first_add(keep: int, longest: int) -> Add:
    return lambda first, at, activity, log_time: measures.first_add(first, at, activity.offset)


def _people_add(keep: int, longest: int) -> Add:
    def add(ring: bytes, at: int, activity: Activity, log_time: int) -> bytes:
        if activity.person is None:
            return ring
        return measures.people_add(ring, activity.person, at, activity.offset, keep, log_time - longest)

    return add


def _amounts_add(prop: str) -> Callable[[int, int], Add]:
    def sized(keep: int, longest: int) -> Add:
        def add(ring: bytes, at: int, activity: Activity, log_time: int) -> bytes:
            try:
                value = coerce("number", activity.props.get(prop))
                amount = measures.in_millionths(value) if isinstance(value, int | float) else None
            except ValueError:
                amount = None
            if amount is None:
                return ring  # an activity without the amount adds nothing
            return measures.amounts_add(ring, amount, at, activity.offset, keep, log_time - longest)

        return add

    return sized


def _sequence_add(step: int, span: int) -> Callable[[int, int], Add]:
    return lambda keep, longest: (
        lambda known, at, activity, log_time: measures.sequence_add(
            known, step, at, activity.offset, span, keep, longest, log_time
        )
    )


def _score_add(weight: float, half_life: int, part: int) -> Callable[[int, int], Add]:
    return lambda keep, longest: (
        lambda score, at, activity, log_time: measures.score_add(score, at, weight, half_life, part)
    )
