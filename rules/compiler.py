"""Rule files to a ruleset: read, check everything, report every mistake at once, compile once.

files ──► documents ──► models ──► declarations ──► conditions ──► Ruleset
          (yamlfile)    (model)    what rules may    (closures)    with its index
                                   name
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from rules import conditions, measures, model, operators, ruleset, yamlfile
from rules.conditions import Condition
from rules.errors import Problem, RulesetError
from rules.names import Filters, Names, Place
from rules.ruleset import ANY_ACTIVITY, Dimension, Feed, Matches, Ruleset
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


@dataclass(slots=True)
class _Ring:
    activity: str
    matches: Matches | None
    keep: int = 1
    longest: int = 0


@dataclass(slots=True)
class _Score:
    half_life: int
    signals: list[tuple[str, Matches | None, float]]


@dataclass(slots=True)
class _Compiler:
    """Conditions to closures, and the measures that they turned out to need."""

    names: Names
    rings: dict[str, _Ring] = field(default_factory=dict)
    used_scores: dict[str, _Score] = field(default_factory=dict)

    def compile(self) -> Callable[[str, dict[str, str]], Ruleset]:
        names = self.names
        names.check()
        for place in names.broken:
            self._salvage(place)
        compiled = tuple(self._dimension(place, each) for place, each in names.dimensions.values())
        readers: dict[str, list[int]] = {}
        for i, dimension in enumerate(compiled):
            for key in dimension.reads:
                readers.setdefault(key, []).append(i)
        frozen = {key: tuple(indexes) for key, indexes in readers.items()}
        empties: dict[str, Callable[[int], bytes]] = dict.fromkeys(self.rings, measures.empty_ring)
        empties |= dict.fromkeys(self.used_scores, measures.empty_score)
        return lambda hash, files: Ruleset(
            hash,
            files,
            compiled,
            empties,
            self._feeds(frozen),
            frozen,
            {name: fact.type for name, fact in names.facts.items()},
            {name: fact.type for name, fact in names.contact_facts.items()},
            frozenset(each.name for each in compiled if each.kind == "set"),
        )

    def _feeds(self, readers: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Feed, ...]]:
        feeds: dict[str, list[Feed]] = {}
        for id, ring in self.rings.items():
            add = _ring_add(ring.keep, ring.longest)
            feed = Feed(id, ring.matches, add, conditions.NO_RING, ring.longest, readers.get(id, ()))
            feeds.setdefault(ring.activity, []).append(feed)
        for id, score in self.used_scores.items():
            for activity, matches, weight in score.signals:
                add = _score_add(weight, score.half_life)
                feed = Feed(id, matches, add, conditions.NO_SCORE, NEVER, readers.get(id, ()))
                feeds.setdefault(activity, []).append(feed)
        of_any = feeds.get(ANY_ACTIVITY, [])
        return {name: tuple(each if name == ANY_ACTIVITY else each + of_any) for name, each in feeds.items()}

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

    def _dimension(self, place: Place, spec: model.Dimension) -> Dimension:
        if spec.by_fact is not None:
            return self._by_fact(place, spec, spec.by_fact)
        segments, names = [], set()
        for i, each in enumerate(spec.segments or []):
            here = place.at("segments", i)
            if each.segment in names:
                here.at("segment").problem(f"segment '{each.segment}' is defined twice")
            names.add(each.segment)
            last = i == len(spec.segments or []) - 1
            if each.otherwise and (spec.kind == "set" or not last):
                hint = "it matches everything, so nothing below it is ever reached"
                here.at("otherwise").problem("`otherwise` belongs to a ladder's last segment", hint)
            when = conditions.always() if each.when is None else self._condition(here.at("when"), each.when)
            owner = each.owner or spec.owner
            segments.append(ruleset.Segment(each.segment, when, owner, each.action, each.description))
        return _assemble(spec, tuple(segments))

    def _by_fact(self, place: Place, spec: model.Dimension, fact: str) -> Dimension:
        """A ladder with one segment for every term of the fact's vocabulary."""
        declared = self.names.fact(place.at("by_fact"), fact)
        if declared is None or declared.vocabulary not in self.names.terms:
            if declared is not None:
                place.at("by_fact").problem(f"fact '{fact}' has no vocabulary to make segments of")
            return _assemble(spec, ())
        read = self.names.read(fact)
        terms = self.names.terms[declared.vocabulary]
        segments = [
            ruleset.Segment(term, conditions.compare_fact(fact, read, {"is": term}), spec.owner) for term in terms
        ]
        assembled = _assemble(spec, tuple(segments))
        answers: dict[Any, tuple[str, ...]] = {term: (term,) for term in terms}
        unclassified = (UNCLASSIFIED,) if spec.kind == "ladder" and spec.on_unknown == "stop" else ()
        # One look-up instead of a question for each term; deciding them one by one would say the same.
        return Dimension(
            assembled.name,
            assembled.kind,
            assembled.segments,
            lambda state, now: (answers.get(read(state), unclassified), NEVER),
            assembled.reads,
            assembled.skips_unknown,
        )

    def _condition(self, place: Place, spec: Any) -> Condition:
        match spec:
            case model.AllCondition():
                return conditions.all_of(self._each(place.at("all"), spec.all))
            case model.AnyCondition():
                return conditions.any_of(self._each(place.at("any"), spec.any))
            case model.NotCondition():
                return conditions.negate(self._condition(place.at("not"), spec.not_))
            case model.FactCondition():
                return self._fact_condition(place, spec)
            case model.CountCondition():
                return self._count_condition(place, spec)
            case model.SeenCondition():
                id, label = self._ring(place, spec.seen, "seen", spec.where, 1, spec.within)
                return conditions.count_at_least(id, label, 1, spec.within)
            case model.QuietCondition():
                id, label = self._ring(place, spec.quiet, "quiet", spec.where, 1, spec.for_)
                return conditions.quiet(id, label, spec.for_)
            case model.ScoreCondition():
                return self._score_condition(place, spec)
            case model.ContactsCondition():
                return self._contacts_condition(place, spec)
            case _:
                raise AssertionError(spec)

    def _each(self, place: Place, specs: Iterable[Any]) -> list[Condition]:
        return [self._condition(place.at(i), spec) for i, spec in enumerate(specs)]

    def _fact_condition(self, place: Place, spec: model.FactCondition) -> Condition:
        declared = self.names.fact(place.at("fact"), spec.fact)
        given = spec.given()
        if not given:
            place.problem("a comparison is missing", f"one of: {', '.join(operators.TABLE)}")
        if declared is not None:
            self.names.check_operands(place, spec.fact, declared, given)
        return conditions.compare_fact(spec.fact, self.names.read(spec.fact), given, spec.or_missing)

    def _count_condition(self, place: Place, spec: model.CountCondition) -> Condition:
        bounds = [spec.at_least, spec.below, None if spec.at_most is None else spec.at_most + 1]
        k = max(bound for bound in bounds if bound is not None)
        id, label = self._ring(place, spec.count, "count", spec.where, k, spec.within)
        parts = []
        for bound, negated in zip(bounds, (False, True, True), strict=True):
            if bound is not None:
                part = conditions.count_at_least(id, label, bound, spec.within)
                parts.append(conditions.negate(part) if negated else part)
        return parts[0] if len(parts) == 1 else conditions.all_of(parts)

    def _score_condition(self, place: Place, spec: model.ScoreCondition) -> Condition:
        declared = self.names.scores.get(spec.score)
        if declared is None:
            place.at("score").unknown("score", spec.score, self.names.scores)
            return conditions.always()
        id, score = self._score(declared)
        self.used_scores[id] = score
        threshold = spec.at_least or spec.below or 0.0
        label = declared.label or f"{spec.score} score"
        part = conditions.score_at_least(id, label, threshold, score.half_life)
        return part if spec.at_least is not None else conditions.negate(part)

    def _contacts_condition(self, place: Place, spec: model.ContactsCondition) -> Condition:
        checks, words = [], []
        for name, comparison in spec.where.items():
            given = comparison.given()
            declared = self.names.contact_facts.get(name)
            if declared is None:
                place.at("where", name).unknown("contact fact", name, self.names.contact_facts)
                continue
            if not given:
                place.at("where", name).problem("a comparison is missing")
            self.names.check_operands(place.at("where", name), name, declared, given)
            checks.append((name, self.names.normaliser(declared), conditions.comparing(given)))
            words += [f"{name} {operators.words(op, operand)}" for op, operand in given.items()]

        def matches(facts: Mapping[str, Any]) -> bool | None:
            verdicts = [
                check(normal(facts[name].value) if name in facts else None) for name, normal, check in checks
            ]
            return False if False in verdicts else None if None in verdicts else True

        return conditions.contacts(spec.contacts, matches, " and ".join(words))

    # -- measures that conditions need --------------------------------------------------------------------

    def _ring(self, place: Place, name: str, key: str, where: model.Where, k: int, window: int) -> tuple[str, str]:
        """The id and label of the ring that counts `name`, made large enough for this condition."""
        declared = self.names.activity(place.at(key), name)
        self.names.check_filters(place.at("where"), where)
        activity, filters = self.names.resolve(name, where)
        id = _identity("ring", activity, _plain(filters))
        ring = self.rings.setdefault(id, _Ring(activity, _matcher(filters)))
        ring.keep = max(ring.keep, k if k == 1 else max(k, measures.KEPT_AT_LEAST))
        ring.longest = max(ring.longest, window)
        label = (declared.label if declared else "") or name.replace("_", " ")
        shown = [f"{prop} {operators.words(op, x)}" for prop, c in where.items() for op, x in c.given().items()]
        return id, label + (f" ({', '.join(shown)})" if shown else "")

    def _score(self, declared: model.ScoreDeclaration) -> tuple[str, _Score]:
        resolved = [(*self.names.resolve(s.activity, s.where), s.weight) for s in declared.signals]
        signals = [(activity, _matcher(where), weight) for activity, where, weight in resolved]
        named = sorted(([activity, _plain(where), weight] for activity, where, weight in resolved), key=json.dumps)
        return _identity("score", declared.half_life, named), _Score(declared.half_life, signals)


def _assemble(spec: model.Dimension, segments: tuple[ruleset.Segment, ...]) -> Dimension:
    skips = spec.on_unknown == "skip"
    decide = ruleset.ladder(segments, skips) if spec.kind == "ladder" else ruleset.members(segments)
    reads = frozenset().union(*(segment.condition.reads for segment in segments))
    return Dimension(spec.dimension, spec.kind, segments, decide, reads, skips)


def _plain(filters: Filters) -> list[Any]:
    plain = [[prop, sorted(map(list, comparison.given().items()))] for prop, comparison in filters]
    return sorted(plain, key=json.dumps)  # operands of several types have no order of their own


def _identity(*parts: Any) -> str:
    """A measure is known by what it folds, not by who asks: thresholds and windows are left out."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def _matcher(filters: Filters) -> Matches | None:
    checks = [(prop, conditions.comparing(comparison.given())) for prop, comparison in filters]
    if not checks:
        return None
    if len(checks) == 1:
        ((prop, check),) = checks
        return lambda props: check(props.get(prop)) is True
    return lambda props: all(check(props.get(prop)) is True for prop, check in checks)


def _ring_add(keep: int, longest: int) -> Callable[[bytes, int, int, int], bytes]:
    return lambda ring, at, offset, log_time: measures.ring_add(ring, at, offset, keep, log_time - longest)


def _score_add(weight: float, half_life: int) -> Callable[[bytes, int, int, int], bytes]:
    return lambda score, at, offset, log_time: measures.score_add(score, at, weight, half_life)
