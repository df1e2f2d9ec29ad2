"""What rules may name: facts, activities, scores, vocabularies, and where each was declared.

Every document is declared first, so that the order of files does not matter; then what the declarations name
themselves is checked; only then are conditions compiled, which ask here for what they name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from rules import calendars, mistakes, model, operators, sources
from rules.comparing import Facts, Reader
from rules.errors import MOST, Problem, RulesetError, did_you_mean, enough
from rules.facts import FactRule
from rules.ruleset import ANY_ACTIVITY
from rules.state import NEVER, Fact
from rules.vocabulary import Meanings, spelling
from rules.yamlfile import Document, Path

MOST_DIMENSIONS = 300
DEEPEST = 8  # names that stand for names that stand for names

_Model = TypeVar("_Model", bound=BaseModel)
Filters: TypeAlias = list[tuple[str, model.Comparison]]  # all must hold; a property may be asked about twice


Section: TypeAlias = Literal["facts", "contact_facts"]


@dataclass(frozen=True, slots=True)
class Place:
    """A value in a document: where to say that something is wrong with it."""

    document: Document
    problems: list[Problem]
    path: Path = ()

    def at(self, *steps: str | int) -> Place:
        return Place(self.document, self.problems, (*self.path, *steps))

    def problem(self, message: str, hint: str = "") -> None:
        self.problems.append(self.document.problem(self.path, message, hint))
        if len(self.problems) >= MOST:
            raise enough(self.problems, self.problems[-1])

    def unknown(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.problem(f"unknown {kind} '{name}'", did_you_mean(name, known))

    def __str__(self) -> str:
        return f"{self.document.file}:{self.document.line(self.path)}"


@dataclass(slots=True)
class Names:
    problems: list[Problem]
    dimensions: dict[str, tuple[Place, model.Dimension]] = field(default_factory=dict)
    broken: list[Place] = field(default_factory=list)  # dimensions that cannot be read as a whole
    facts: dict[str, model.FactDeclaration] = field(default_factory=dict)
    contact_facts: dict[str, model.FactDeclaration] = field(default_factory=dict)
    activities: dict[str, model.ActivityDeclaration] = field(default_factory=dict)
    scores: dict[str, model.ScoreDeclaration] = field(default_factory=dict)
    vocabularies: dict[str, Meanings] = field(default_factory=dict)
    terms: dict[str, list[str]] = field(default_factory=dict)  # of each vocabulary, in order
    bands: dict[str, model.Bands] = field(default_factory=dict)
    sources_file: tuple[Place, sources.SourcesFile | None] | None = None  # no file: it cannot be read
    read_with: dict[str, str] = field(default_factory=dict)  # vocabulary -> the one that reads for it
    checks: list[Callable[[], None]] = field(default_factory=list)  # of declarations, once all are known

    # -- declaring ----------------------------------------------------------------------------------------

    def declare(self, document: Document) -> None:
        data, place = document.data, Place(document, self.problems)
        if not isinstance(data, dict):
            place.problem("a document is a mapping", "begin it with `dimension:` or `facts:`")
        elif "dimension" in data:
            self._declare_dimension(place)
        elif "vocabulary" in data:
            self._declare_vocabulary(place)
        elif "bands" in data:
            self._declare_bands(place)
        elif sources.KEYS & data.keys():
            self._declare_sources(place)
        elif declared := self._parse(place, model.Declarations):
            self._declare_names(place, declared)

    def _declare_dimension(self, place: Place) -> None:
        dimension = self._parse(place, model.Dimension)
        if dimension is None:
            self.broken.append(place)
            return
        if len(self.dimensions) >= MOST_DIMENSIONS:
            place.problem(f"there are more than {MOST_DIMENSIONS} dimensions")
            raise RulesetError(self.problems)
        if dimension.dimension in self.dimensions:
            hint = f"first in {self.dimensions[dimension.dimension][0].at('dimension')}"
            place.at("dimension").problem(f"dimension '{dimension.dimension}' is defined twice", hint)
        self.dimensions[dimension.dimension] = (place, dimension)

    def _declare_vocabulary(self, place: Place) -> None:
        vocabulary = self._parse(place, model.Vocabulary)
        if vocabulary is None:
            return
        name, spelled = vocabulary.vocabulary, self._spelled(place, vocabulary)
        if name in self.vocabularies:
            place.at("vocabulary").problem(f"vocabulary '{name}' is defined twice")
        meanings = Meanings(spelled, vocabulary.match, vocabulary.fuzzy)
        self.vocabularies[name] = meanings
        self.terms[name] = list(vocabulary.terms)
        if vocabulary.of is not None:
            self.read_with[name] = vocabulary.of
            self.checks.append(lambda: self._check_of(place, vocabulary, meanings))

    def _spelled(self, place: Place, vocabulary: model.Vocabulary) -> dict[str, str]:
        # A term spells itself, except where what is spelled are parts of a text: `end_user` is no title.
        itself = vocabulary.match == "exact"
        spelled: dict[str, str] = {}
        for term, spellings in vocabulary.terms.items():
            for each in (term, *spellings) if itself else spellings:
                plain = spelling(each)
                if not plain:
                    place.at("terms", term).problem(f"'{each}' has no letter or digit")
                elif spelled.setdefault(plain, term) != term:
                    place.at("terms", term).problem(f"'{each}' already means '{spelled[plain]}'")
        return spelled

    def _check_of(self, place: Place, vocabulary: model.Vocabulary, meanings: Meanings) -> None:
        inner = vocabulary.of
        if inner not in self.vocabularies:
            place.at("of").unknown("vocabulary", str(inner), self.vocabularies)
        elif not self._stands_in(place.at("of"), vocabulary.vocabulary, self.read_with.get, "vocabulary "):
            meanings.of = self.vocabularies[inner]

    def _stands_in(self, place: Place, name: str, of: Callable[[str], str | None], kind: str = "") -> bool:
        """Whether what `name` stands for is itself or too far away; says so."""
        behind = of(name)
        for _ in range(DEEPEST):
            if behind is None:
                return False
            if behind == name:
                place.problem(f"{kind}'{name}' stands for itself")
                return True
            behind = of(behind)
        place.problem(f"{kind}'{name}' stands for another that stands for another, more than {DEEPEST} deep")
        return True

    def _declare_bands(self, place: Place) -> None:
        bands = self._parse(place, model.Bands)
        if bands is None:
            return
        if bands.bands in self.bands:
            place.at("bands").problem(f"bands '{bands.bands}' are defined twice")
        self.bands[bands.bands] = bands

    def _declare_sources(self, place: Place) -> None:
        written = self._parse(place, sources.SourcesFile)
        if self.sources_file is not None:
            place.problem("sources are described twice", f"first in {self.sources_file[0]}")
            return
        self.sources_file = place, written
        if written is not None:
            known = sources.Known(self.facts, self.contact_facts, self.activities)
            self.checks.append(lambda: sources.check(place, written, known))

    def _declare_names(self, place: Place, declared: model.Declarations) -> None:
        for section in ("facts", "contact_facts", "activities", "scores"):
            known, new = getattr(self, section), getattr(declared, section)
            for name in new:
                if name in known or (section == "activities" and name == ANY_ACTIVITY):
                    place.at(section, name).problem(f"'{name}' is already declared")
            known.update(new)
        self.checks.append(lambda: self._check_declared(place, declared))

    def _check_declared(self, place: Place, declared: model.Declarations) -> None:
        for name, fact in declared.facts.items():
            self._check_fact(place.at("facts", name), name, fact, self.facts)
        for name, fact in declared.contact_facts.items():
            self._check_fact(place.at("contact_facts", name), name, fact, self.contact_facts)
        for name, activity in declared.activities.items():
            if activity.outbound and activity.of:
                place.at("activities", name, "outbound").problem(
                    "an activity is outbound or not as a whole", f"say it of '{activity.of}'"
                )
            if activity.of:
                self.activity(place.at("activities", name, "of"), activity.of)
                self._stands_in(place.at("activities", name, "of"), name, self._of)
            self.check_filters(place.at("activities", name, "where"), activity.where)
        for name, score in declared.scores.items():
            for i, signal in enumerate(score.signals):
                where = place.at("scores", name, "signals", i)
                self.activity(where.at("activity"), signal.activity)
                self.check_filters(where.at("where"), signal.where)

    def _check_fact(
        self, place: Place, name: str, fact: model.FactDeclaration, known: dict[str, model.FactDeclaration]
    ) -> None:
        if fact.vocabulary and fact.vocabulary not in self.vocabularies:
            place.at("vocabulary").unknown("vocabulary", fact.vocabulary, self.vocabularies)
        if fact.vocabulary and fact.type != "text":
            place.at("vocabulary").problem(f"only text has a vocabulary, and {name} is a {fact.type}")
        if fact.also and not fact.vocabulary:
            place.at("also").problem("`also:` needs a vocabulary to read the other facts with")
        if fact.timezone != "UTC" and fact.type != "date":
            place.at("timezone").problem(f"only a date has a time zone, and {name} is a {fact.type}")
        if sources.RANKED in fact.sources and not self.ranks and not self._is_unreadable:
            hint = "a document with `ranks:` names the sources, the highest first"
            place.at("sources").problem("nobody has said how sources are ranked", hint)
        for i, other in enumerate(fact.also):
            if other not in known or other == name:
                place.at("also", i).unknown("fact", other, [each for each in known if each != name])

    def _parse(self, place: Place, kind: type[_Model]) -> _Model | None:
        try:
            return kind.model_validate(place.document.data)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
            self.problems += [mistakes.explain(place.document, each) for each in errors[:MOST]]
            if len(self.problems) >= MOST:
                raise enough(self.problems, self.problems[-1]) from None
            return None

    def check(self) -> None:
        """What the declarations name themselves; called once, when everything has been declared."""
        for check in self.checks:
            check()

    # -- looking up ---------------------------------------------------------------------------------------

    def fact(self, place: Place, name: str) -> model.FactDeclaration | None:
        if name not in self.facts:
            place.unknown("fact", name, self.facts)
        return self.facts.get(name)

    def check_operands(
        self,
        place: Place,
        name: str,
        declared: model.FactDeclaration,
        given: dict[str, Any],
        fold: bool = False,
    ) -> None:
        for op in operators.PRESENCE:
            if op in given and len(given) > 1:
                place.at(op).problem(f"'{op}' stands alone: no value can be missing and compared", "split it")
        if fold and not operators.FOLDS & given.keys():
            place.at("fold").problem("there is no text to compare without its case")
        for op, operand in given.items():
            if declared.type not in operators.TABLE[op].types:
                place.at(op).problem(
                    f"'{op}' does not work on {name}, which is a {declared.type}", _works(declared)
                )
            elif declared.type == "date":
                self._check_dates(place.at(op), op, operand, declared)
            elif operators.TABLE[op].takes != "yes" and declared.type != "list":
                self._check_values(place.at(op), name, op, operand, declared)

    def _check_dates(self, place: Place, op: str, operand: Any, declared: model.FactDeclaration) -> None:
        if operators.TABLE[op].takes in ("duration", "yes"):
            return
        intervals = []
        for each in operand if isinstance(operand, list) else [operand]:
            try:
                intervals.append(calendars.interval(str(each), declared.timezone))
            except ValueError as error:
                place.problem(str(error))
        if len(intervals) == 2 and intervals[0].start >= intervals[1].end:
            place.problem("nothing lies between them", "write the earlier date first")

    def _check_values(
        self, place: Place, name: str, op: str, operand: Any, declared: model.FactDeclaration
    ) -> None:
        for each in operand if isinstance(operand, list) else [operand]:
            if operators.type_of(each) != declared.type:
                place.problem(f"{name} is a {declared.type}, and {each!r} is a {operators.type_of(each)}")
            elif declared.vocabulary in self.terms and op in {"is", "is_not", "in", "not_in"}:
                terms = self.terms[declared.vocabulary]
                if each not in terms:
                    place.unknown(f"term of vocabulary '{declared.vocabulary}'", str(each), terms)
        if op == "between" and all(type(each) in (int, float) for each in operand) and operand[0] > operand[1]:
            place.problem("nothing lies between them", "write the smaller number first")

    # -- reading ------------------------------------------------------------------------------------------

    def reader(self, name: str, section: Section = "facts") -> Reader:
        """How rules see the fact: its term where it has a vocabulary, its UTC milliseconds where it is a date."""
        declared: model.FactDeclaration | None = getattr(self, section).get(name)
        reads = frozenset({f"fact:{name}"})
        if declared is None:
            return Reader(name, lambda facts: None, lambda facts: None, reads)
        if declared.type == "date":
            return Reader(name, _dates(name, declared.timezone), _reported(name), reads)
        if declared.vocabulary is None or declared.vocabulary not in self.vocabularies:
            return Reader(name, _plain(name), _reported(name), reads)
        meanings = self.vocabularies[declared.vocabulary]
        others = [(other, self._meanings(other, section)) for other in declared.also]
        term, behind = _terms(name, meanings, others)
        return Reader(name, term, behind, reads | {f"fact:{other}" for other in declared.also})

    def _meanings(self, name: str, section: Section) -> Meanings | None:
        declared: model.FactDeclaration | None = getattr(self, section).get(name)
        return self.vocabularies.get(declared.vocabulary or "") if declared is not None else None

    def fact_rules(self, section: Section) -> dict[str, FactRule]:
        """How reports of each declared fact are taken in."""
        declared: dict[str, model.FactDeclaration] = getattr(self, section)
        file = self._sources
        intervals = {} if file is None else {sources.HUMAN: file.human.wins_for}
        return {
            name: FactRule(
                fact.type,
                {source: rank for rank, source in enumerate(sources.order(fact.sources, self.ranks))},
                NEVER if fact.refresh is None else fact.refresh,
                self.vocabularies.get(fact.vocabulary or ""),
                fact.timezone,
                intervals,
            )
            for name, fact in declared.items()
        }

    @property
    def ranks(self) -> list[str]:
        return [] if self._sources is None else self._sources.ranks

    @property
    def _sources(self) -> sources.SourcesFile | None:
        return None if self.sources_file is None else self.sources_file[1]

    @property
    def _is_unreadable(self) -> bool:
        return self.sources_file is not None and self.sources_file[1] is None

    def segments_of(self, spec: model.Dimension) -> list[str]:
        """The names of a dimension's segments, in order."""
        if spec.by_fact is not None:
            declared = self.facts.get(spec.by_fact)
            return self.terms.get(declared.vocabulary or "", []) if declared else []
        if spec.by_bands is not None:
            bands = self.bands.get(spec.by_bands.bands)
            return list(bands.profiles.get(spec.by_bands.profile, ())) if bands else []
        return [each.segment for each in spec.segments or []]

    def activity(self, place: Place, name: str) -> model.ActivityDeclaration | None:
        if name == ANY_ACTIVITY:
            return model.ActivityDeclaration.model_validate({"label": "activities of any kind"})
        if name not in self.activities:
            place.unknown("activity", name, [*self.activities, ANY_ACTIVITY])
        return self.activities.get(name)

    def resolve(self, name: str, where: model.Where) -> tuple[str, Filters]:
        """The activity that `name` stands for, with all the filters on the way."""
        filters = list(where.items())
        for _ in range(DEEPEST):
            declared = self.activities.get(name)
            if declared is None or declared.of is None:
                break
            filters += declared.where.items()
            name = declared.of
        return name, filters

    def _of(self, activity: str) -> str | None:
        declared = self.activities.get(activity)
        return None if declared is None else declared.of

    def check_filters(self, place: Place, where: model.Where) -> None:
        for prop, comparison in where.items():
            given = comparison.given()
            if not given:
                place.at(prop).problem("a comparison is missing")
            for op in given:
                if operators.TABLE[op].types == operators.DATE:
                    place.at(prop, op).problem(f"'{op}' is for facts: a property of an activity is no date")
            if "between" in given and {type(each) for each in given["between"]} - {int, float}:
                place.at(prop, "between").problem("the property of an activity lies between two numbers")


def _works(declared: model.FactDeclaration) -> str:
    return (
        f"on a {declared.type}: {', '.join(op for op, o in operators.TABLE.items() if declared.type in o.types)}"
    )


def _reported(name: str) -> Callable[[Facts], tuple[str, Fact] | None]:
    def behind(facts: Facts) -> tuple[str, Fact] | None:
        known = facts.get(name)
        return None if known is None else (name, known)

    return behind


def _plain(name: str) -> Callable[[Facts], Any]:
    def value(facts: Facts) -> Any:
        known = facts.get(name)
        return None if known is None else known.value

    return value


def _dates(name: str, zone: str) -> Callable[[Facts], int | None]:
    def value(facts: Facts) -> int | None:
        known = facts.get(name)
        if known is None or not isinstance(known.value, str):
            return None
        try:
            return calendars.interval(known.value, zone).start
        except ValueError:
            return None  # kept before the fact was declared to be a date

    return value


def _terms(
    name: str, meanings: Meanings, others: list[tuple[str, Meanings | None]]
) -> tuple[Callable[[Facts], str | None], Callable[[Facts], tuple[str, Fact] | None]]:
    """The term of a fact, or of the first other fact that the vocabulary understands, and the fact behind it."""
    term_of = meanings.term

    def found(facts: Facts) -> tuple[str, str, Fact] | None:
        known = facts.get(name)
        if known is not None:
            term = term_of(known.value) or (known.match[0] if known.match is not None else None)
            if term is not None:
                return term, name, known
        for other, own in others:
            known = facts.get(other)
            if known is None:
                continue
            term = term_of(known.value)
            if term is None and own is not None:
                inner = own.term(known.value) or (known.match[0] if known.match is not None else None)
                term = term_of(inner)
            if term is not None:
                return term, other, known
        return None

    def value(facts: Facts) -> str | None:
        there = found(facts)
        return None if there is None else there[0]

    def behind(facts: Facts) -> tuple[str, Fact] | None:
        there = found(facts)
        if there is not None:
            return there[1], there[2]
        known = facts.get(name)
        return None if known is None else (name, known)

    return value, behind
