"""Rule files to a ruleset: read, check everything, report every mistake at once, compile once.

files ──► documents ──► models ──► declarations ──► conditions ──► Ruleset
          (yamlfile)    (model)    what rules may    (closures)    with its index
                                   name
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from rules import conditions, measures, model, operators, ruleset, yamlfile
from rules.conditions import Condition
from rules.errors import Problem, RulesetError, did_you_mean
from rules.ruleset import ANY_ACTIVITY, Dimension, Feed, Matches, Ruleset
from rules.state import NEVER, UNCLASSIFIED
from rules.yamlfile import Document, Path

TEST_SUFFIX = "_test.yaml"
_Model = TypeVar("_Model", bound=BaseModel)
_Filters: TypeAlias = list[tuple[str, model.Comparison]]  # all must hold; a property may be asked about twice
_KEYS = {
    field.alias or name
    for kind in vars(model).values()
    if isinstance(kind, type) and issubclass(kind, BaseModel)
    for name, field in kind.model_fields.items()
}


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
    compiler = _Compiler(problems)
    for document in documents:
        compiler.declare(document)
    if not compiler.dimensions and not problems:
        problems.append(Problem("", 0, "no dimension is defined", "a file with `dimension:` defines one"))
    compiled = compiler.compile()
    if problems:
        raise RulesetError(problems)
    return compiled(ruleset_hash(files), dict(files))


def ruleset_hash(files: Mapping[str, str]) -> str:
    text = json.dumps(sorted(files.items()), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def spelling(text: object) -> str:
    """What two spellings of one term have in common: letters and digits, case and punctuation aside."""
    return re.sub(r"[\W_]+", " ", str(text).casefold().replace("&", " and ")).strip()


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
    """What has been declared so far, and what the conditions turned out to need."""

    problems: list[Problem]
    dimensions: dict[str, tuple[Document, model.Dimension]] = field(default_factory=dict)
    facts: dict[str, model.FactDeclaration] = field(default_factory=dict)
    contact_facts: dict[str, model.FactDeclaration] = field(default_factory=dict)
    activities: dict[str, model.ActivityDeclaration] = field(default_factory=dict)
    scores: dict[str, model.ScoreDeclaration] = field(default_factory=dict)
    vocabularies: dict[str, dict[str, str]] = field(default_factory=dict)  # name -> spelling -> term
    terms: dict[str, list[str]] = field(default_factory=dict)
    rings: dict[str, _Ring] = field(default_factory=dict)
    used_scores: dict[str, _Score] = field(default_factory=dict)
    checks: list[Callable[[], None]] = field(default_factory=list)  # of declarations, once all are known

    # -- declarations -------------------------------------------------------------------------------------

    def declare(self, document: Document) -> None:
        data = document.data
        if not isinstance(data, dict):
            self._problem(document, (), "a document is a mapping", "begin it with `dimension:` or `facts:`")
        elif "dimension" in data:
            self._declare_dimension(document)
        elif "vocabulary" in data:
            self._declare_vocabulary(document)
        elif declared := self._parse(document, model.Declarations):
            self._declare_names(document, declared)

    def _declare_dimension(self, document: Document) -> None:
        dimension = self._parse(document, model.Dimension)
        if dimension is None:
            self.checks.append(lambda: self._check_salvaged(document))
            return
        if dimension.dimension in self.dimensions:
            first = self.dimensions[dimension.dimension][0]
            hint = f"first in {first.file}:{first.line(('dimension',))}"
            self._problem(document, ("dimension",), f"dimension '{dimension.dimension}' is defined twice", hint)
        self.dimensions[dimension.dimension] = (document, dimension)

    def _check_salvaged(self, document: Document) -> None:
        """A dimension that cannot be read as a whole: what its good segments name is checked all the same."""
        segments = document.data.get("segments")
        for i, each in enumerate(segments if isinstance(segments, list) else []):
            try:
                segment = model.Segment.model_validate(each)
            except ValidationError:
                continue  # said already, with the dimension
            if segment.when is not None:
                self._condition(document, ("segments", i, "when"), segment.when)

    def _declare_vocabulary(self, document: Document) -> None:
        vocabulary = self._parse(document, model.Vocabulary)
        if vocabulary is None:
            return
        meanings: dict[str, str] = {}
        for term, spellings in vocabulary.terms.items():
            for each in (term, *spellings):
                if meanings.setdefault(spelling(each), term) != term:
                    message = f"'{each}' already means '{meanings[spelling(each)]}'"
                    self._problem(document, ("terms", term), message)
        if vocabulary.vocabulary in self.vocabularies:
            message = f"vocabulary '{vocabulary.vocabulary}' is defined twice"
            self._problem(document, ("vocabulary",), message)
        self.vocabularies[vocabulary.vocabulary] = meanings
        self.terms[vocabulary.vocabulary] = list(vocabulary.terms)

    def _declare_names(self, document: Document, declared: model.Declarations) -> None:
        for section in ("facts", "contact_facts", "activities", "scores"):
            known, new = getattr(self, section), getattr(declared, section)
            for name in new:
                if name in known or (section == "activities" and name == ANY_ACTIVITY):
                    self._problem(document, (section, name), f"'{name}' is already declared")
            known.update(new)
        self.checks.append(lambda: self._check_declared(document, declared))

    def _check_declared(self, document: Document, declared: model.Declarations) -> None:
        for section in ("facts", "contact_facts"):
            for name, fact in getattr(declared, section).items():
                if fact.vocabulary and fact.vocabulary not in self.vocabularies:
                    path = (section, name, "vocabulary")
                    self._unknown(document, path, "vocabulary", fact.vocabulary, self.vocabularies)
                if fact.vocabulary and fact.type != "text":
                    path = (section, name, "vocabulary")
                    self._problem(document, path, f"only text has a vocabulary, and {name} is a {fact.type}")
        for name, activity in declared.activities.items():
            if activity.of:
                self._activity(document, ("activities", name, "of"), activity.of)
                behind = self.activities.get(self._resolve(name, {})[0])
                if behind is not None and behind.of is not None:
                    self._problem(document, ("activities", name, "of"), f"'{name}' stands for itself")
            self._matcher(document, ("activities", name, "where"), activity.where)
        for name, score in declared.scores.items():
            for i, signal in enumerate(score.signals):
                place: Path = ("scores", name, "signals", i)
                self._activity(document, (*place, "activity"), signal.activity)
                self._matcher(document, (*place, "where"), signal.where)

    # -- compiling ----------------------------------------------------------------------------------------

    def compile(self) -> Callable[[str, dict[str, str]], Ruleset]:
        for check in self.checks:
            check()
        compiled = tuple(self._dimension(document, each) for document, each in self.dimensions.values())
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
            {name: fact.type for name, fact in self.facts.items()},
            {name: fact.type for name, fact in self.contact_facts.items()},
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

    def _dimension(self, document: Document, spec: model.Dimension) -> Dimension:
        if spec.by_fact is not None:
            return self._by_fact(document, spec, spec.by_fact)
        segments, names = [], set()
        for i, each in enumerate(spec.segments or []):
            path: Path = ("segments", i)
            if each.segment in names:
                self._problem(document, (*path, "segment"), f"segment '{each.segment}' is defined twice")
            names.add(each.segment)
            last = i == len(spec.segments or []) - 1
            if each.otherwise and (spec.kind == "set" or not last):
                hint = "it matches everything, so nothing below it is ever reached"
                self._problem(
                    document, (*path, "otherwise"), "`otherwise` belongs to a ladder's last segment", hint
                )
            when = (
                conditions.always() if each.when is None else self._condition(document, (*path, "when"), each.when)
            )
            owner = each.owner or spec.owner
            segments.append(ruleset.Segment(each.segment, when, owner, each.action, each.description))
        return _assemble(spec, tuple(segments))

    def _by_fact(self, document: Document, spec: model.Dimension, fact: str) -> Dimension:
        """A ladder with one segment for every term of the fact's vocabulary."""
        declared = self._fact(document, ("by_fact",), fact)
        if declared is None or declared.vocabulary not in self.terms:
            if declared is not None:
                self._problem(document, ("by_fact",), f"fact '{fact}' has no vocabulary to make segments of")
            return _assemble(spec, ())
        read = self._read(fact)
        terms = self.terms[declared.vocabulary]
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

    def _condition(self, document: Document, path: Path, spec: Any) -> Condition:
        match spec:
            case model.AllCondition():
                return conditions.all_of(self._each(document, (*path, "all"), spec.all))
            case model.AnyCondition():
                return conditions.any_of(self._each(document, (*path, "any"), spec.any))
            case model.NotCondition():
                return conditions.negate(self._condition(document, (*path, "not"), spec.not_))
            case model.FactCondition():
                return self._fact_condition(document, path, spec)
            case model.CountCondition():
                return self._count_condition(document, path, spec)
            case model.SeenCondition():
                id, label = self._ring(document, path, spec.seen, "seen", spec.where, 1, spec.within)
                return conditions.count_at_least(id, label, 1, spec.within)
            case model.QuietCondition():
                id, label = self._ring(document, path, spec.quiet, "quiet", spec.where, 1, spec.for_)
                return conditions.quiet(id, label, spec.for_)
            case model.ScoreCondition():
                return self._score_condition(document, path, spec)
            case model.ContactsCondition():
                return self._contacts_condition(document, path, spec)
            case _:
                raise AssertionError(spec)

    def _each(self, document: Document, path: Path, specs: Iterable[Any]) -> list[Condition]:
        return [self._condition(document, (*path, i), spec) for i, spec in enumerate(specs)]

    def _fact_condition(self, document: Document, path: Path, spec: model.FactCondition) -> Condition:
        declared = self._fact(document, (*path, "fact"), spec.fact)
        given = spec.given()
        if not given:
            self._problem(document, path, "a comparison is missing", f"one of: {', '.join(operators.TABLE)}")
        if declared is not None:
            self._check_operands(document, path, spec.fact, declared, given)
        return conditions.compare_fact(spec.fact, self._read(spec.fact), given, spec.or_missing)

    def _count_condition(self, document: Document, path: Path, spec: model.CountCondition) -> Condition:
        bounds = [spec.at_least, spec.below, None if spec.at_most is None else spec.at_most + 1]
        k = max(bound for bound in bounds if bound is not None)
        id, label = self._ring(document, path, spec.count, "count", spec.where, k, spec.within)
        parts = []
        for bound, negated in zip(bounds, (False, True, True), strict=True):
            if bound is not None:
                part = conditions.count_at_least(id, label, bound, spec.within)
                parts.append(conditions.negate(part) if negated else part)
        return parts[0] if len(parts) == 1 else conditions.all_of(parts)

    def _score_condition(self, document: Document, path: Path, spec: model.ScoreCondition) -> Condition:
        declared = self.scores.get(spec.score)
        if declared is None:
            self._unknown(document, (*path, "score"), "score", spec.score, self.scores)
            return conditions.always()
        id, score = self._score(declared)
        self.used_scores[id] = score
        threshold = spec.at_least or spec.below or 0.0
        label = declared.label or f"{spec.score} score"
        part = conditions.score_at_least(id, label, threshold, score.half_life)
        return part if spec.at_least is not None else conditions.negate(part)

    def _contacts_condition(self, document: Document, path: Path, spec: model.ContactsCondition) -> Condition:
        checks, words = [], []
        for name, comparison in spec.where.items():
            given = comparison.given()
            declared = self.contact_facts.get(name)
            if declared is None:
                self._unknown(document, (*path, "where", name), "contact fact", name, self.contact_facts)
                continue
            if not given:
                self._problem(document, (*path, "where", name), "a comparison is missing")
            self._check_operands(document, (*path, "where", name), name, declared, given)
            checks.append((name, self._normaliser(declared), conditions.comparing(given)))
            words += [f"{name} {operators.words(op, operand)}" for op, operand in given.items()]

        def matches(facts: Mapping[str, Any]) -> bool | None:
            verdicts = [
                check(normal(facts[name].value) if name in facts else None) for name, normal, check in checks
            ]
            return False if False in verdicts else None if None in verdicts else True

        return conditions.contacts(spec.contacts, matches, " and ".join(words))

    # -- what conditions name -----------------------------------------------------------------------------

    def _fact(self, document: Document, path: Path, name: str) -> model.FactDeclaration | None:
        if name not in self.facts:
            self._unknown(document, path, "fact", name, self.facts)
        return self.facts.get(name)

    def _check_operands(
        self,
        document: Document,
        path: Path,
        name: str,
        declared: model.FactDeclaration,
        given: dict[str, Any],
    ) -> None:
        for op, operand in given.items():
            if declared.type not in operators.TABLE[op].types:
                self._problem(document, (*path, op), f"'{op}' does not work on {name}, which is a {declared.type}")
                continue
            if op in operators.PRESENCE or op == "contains":
                continue
            for each in operand if isinstance(operand, list) else [operand]:
                if operators.type_of(each) != declared.type:
                    message = f"{name} is a {declared.type}, and {each!r} is a {operators.type_of(each)}"
                    self._problem(document, (*path, op), message)
                elif declared.vocabulary in self.terms and op in {"is", "is_not", "in", "not_in"}:
                    terms = self.terms[declared.vocabulary]
                    if each not in terms:
                        kind = f"term of vocabulary '{declared.vocabulary}'"
                        self._unknown(document, (*path, op), kind, str(each), terms)

    def _read(self, fact: str) -> conditions.Read:
        declared = self.facts.get(fact)
        normal = self._normaliser(declared) if declared else _as_it_is

        def read(state: Any) -> Any:
            known = state.facts.get(fact)
            return None if known is None or known.value is None else normal(known.value)

        return read

    def _normaliser(self, declared: model.FactDeclaration) -> Callable[[Any], Any]:
        if declared.vocabulary is None:
            return _as_it_is
        meanings = self.vocabularies.get(declared.vocabulary, {})
        term_of = lru_cache(4096)(lambda text: meanings.get(spelling(text)))
        # What is no text was kept before the fact was declared to be one.
        return lambda value: term_of(value) if isinstance(value, str) else None

    def _activity(self, document: Document, path: Path, name: str) -> model.ActivityDeclaration | None:
        if name == ANY_ACTIVITY:
            return model.ActivityDeclaration(label="activities of any kind")
        if name not in self.activities:
            self._unknown(document, path, "activity", name, [*self.activities, ANY_ACTIVITY])
        return self.activities.get(name)

    def _resolve(self, name: str, where: model.Where) -> tuple[str, _Filters]:
        """The activity that `name` stands for, with all the filters on the way."""
        filters, passed = list(where.items()), set()
        while (declared := self.activities.get(name)) and declared.of and name not in passed:
            passed.add(name)
            filters += declared.where.items()
            name = declared.of
        return name, filters

    def _ring(
        self, document: Document, path: Path, name: str, key: str, where: model.Where, k: int, window: int
    ) -> tuple[str, str]:
        """The id and label of the ring that counts `name`, made large enough for this condition."""
        declared = self._activity(document, (*path, key), name)
        self._matcher(document, (*path, "where"), where)
        activity, filters = self._resolve(name, where)
        id = _identity("ring", activity, _plain(filters))
        ring = self.rings.setdefault(id, _Ring(activity, _matcher(filters)))
        ring.keep = max(ring.keep, k if k == 1 else max(k, measures.KEPT_AT_LEAST))
        ring.longest = max(ring.longest, window)
        label = (declared.label if declared else "") or name.replace("_", " ")
        shown = [f"{prop} {operators.words(op, x)}" for prop, c in where.items() for op, x in c.given().items()]
        return id, label + (f" ({', '.join(shown)})" if shown else "")

    def _score(self, declared: model.ScoreDeclaration) -> tuple[str, _Score]:
        resolved = [(*self._resolve(s.activity, s.where), s.weight) for s in declared.signals]
        signals = [(activity, _matcher(where), weight) for activity, where, weight in resolved]
        named = sorted(([activity, _plain(where), weight] for activity, where, weight in resolved), key=json.dumps)
        return _identity("score", declared.half_life, named), _Score(declared.half_life, signals)

    def _matcher(self, document: Document, path: Path, where: model.Where) -> None:
        for prop, comparison in where.items():
            if not comparison.given():
                self._problem(document, (*path, prop), "a comparison is missing")

    # -- problems -----------------------------------------------------------------------------------------

    def _problem(self, document: Document, path: Path, message: str, hint: str = "") -> None:
        self.problems.append(document.problem(path, message, hint))

    def _unknown(self, document: Document, path: Path, kind: str, name: str, known: Iterable[str]) -> None:
        self._problem(document, path, f"unknown {kind} '{name}'", did_you_mean(name, known))

    def _parse(self, document: Document, kind: type[_Model]) -> _Model | None:
        try:
            return kind.model_validate(document.data)
        except ValidationError as error:
            self.problems += [_explain(document, each) for each in error.errors(include_url=False)]
            return None


def _explain(document: Document, error: Any) -> Problem:
    """A pydantic error in our words, at its line. In its place a condition is preceded by its tag: skipped."""
    path: list[str | int] = []
    here: Any = document.data
    tagged = False
    for step in error["loc"]:
        if not tagged and step != error["loc"][-1] and _tag(here) == step:
            tagged = True
        elif (isinstance(here, dict) and step in here) or (isinstance(here, list) and isinstance(step, int)):
            path.append(step)
            here, tagged = here[step], False
    last = error["loc"][-1] if error["loc"] else ""
    name = last if isinstance(last, str) else ""
    match error["type"]:
        case "extra_forbidden" if name in _KEYS:
            return document.problem(tuple(path), f"'{name}' does not belong here")
        case "extra_forbidden":
            return document.problem(tuple(path), f"unknown key '{name}'", did_you_mean(name, _KEYS))
        case "missing":
            return document.problem(tuple(path), f"'{name}' is missing")
        case "union_tag_not_found":
            keys = list(here) if isinstance(here, dict) else []
            kinds = [key for key in keys if key in model.CONDITION_KEYS]
            hint = f"here are {' and '.join(kinds)}" if kinds else ""
            if keys and not kinds:
                hint = did_you_mean(keys[0], model.CONDITION_KEYS)
            choice = ", ".join(model.CONDITION_KEYS)
            return document.problem(tuple(path), f"a condition has exactly one of: {choice}", hint)
        case "too_short":
            return document.problem(tuple(path), f"'{name}' is empty")
        case "string_pattern_mismatch":
            message = f"'{here}' is not a name: small letters, digits and _, beginning with a letter"
            return document.problem(tuple(path), message)
        case _:
            message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
            return document.problem(tuple(path), f"{name}: {message}" if name else message)


def _tag(value: Any) -> str | None:
    keys = [key for key in model.CONDITION_KEYS if isinstance(value, dict) and key in value]
    return keys[0] if len(keys) == 1 else None


def _assemble(spec: model.Dimension, segments: tuple[ruleset.Segment, ...]) -> Dimension:
    skips = spec.on_unknown == "skip"
    decide = ruleset.ladder(segments, skips) if spec.kind == "ladder" else ruleset.members(segments)
    reads = frozenset().union(*(segment.condition.reads for segment in segments))
    return Dimension(spec.dimension, spec.kind, segments, decide, reads, skips)


def _as_it_is(value: Any) -> Any:
    return value


def _plain(filters: _Filters) -> list[Any]:
    plain = [[prop, sorted(map(list, comparison.given().items()))] for prop, comparison in filters]
    return sorted(plain, key=json.dumps)  # operands of several types have no order of their own


def _identity(*parts: Any) -> str:
    """A measure is known by what it folds, not by who asks: thresholds and windows are left out."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def _matcher(filters: _Filters) -> Matches | None:
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
