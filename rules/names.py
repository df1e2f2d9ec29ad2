"""What rules may name: facts, activities, scores, vocabularies, and where each was declared.

Every document is declared first, so that the order of files does not matter; then what the declarations name
themselves is checked; only then are conditions compiled, which ask here for what they name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from rules import mistakes, model, operators
from rules.conditions import Read
from rules.errors import Problem, did_you_mean
from rules.ruleset import ANY_ACTIVITY
from rules.yamlfile import Document, Path

_Model = TypeVar("_Model", bound=BaseModel)
Filters: TypeAlias = list[tuple[str, model.Comparison]]  # all must hold; a property may be asked about twice


def spelling(text: object) -> str:
    """What two spellings of one term have in common: letters and digits, case and punctuation aside."""
    return re.sub(r"[\W_]+", " ", str(text).casefold().replace("&", " and ")).strip()


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
    vocabularies: dict[str, dict[str, str]] = field(default_factory=dict)  # name -> spelling -> term
    terms: dict[str, list[str]] = field(default_factory=dict)
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
        elif declared := self._parse(place, model.Declarations):
            self._declare_names(place, declared)

    def _declare_dimension(self, place: Place) -> None:
        dimension = self._parse(place, model.Dimension)
        if dimension is None:
            self.broken.append(place)
            return
        if dimension.dimension in self.dimensions:
            hint = f"first in {self.dimensions[dimension.dimension][0].at('dimension')}"
            place.at("dimension").problem(f"dimension '{dimension.dimension}' is defined twice", hint)
        self.dimensions[dimension.dimension] = (place, dimension)

    def _declare_vocabulary(self, place: Place) -> None:
        vocabulary = self._parse(place, model.Vocabulary)
        if vocabulary is None:
            return
        meanings: dict[str, str] = {}
        for term, spellings in vocabulary.terms.items():
            for each in (term, *spellings):
                if meanings.setdefault(spelling(each), term) != term:
                    message = f"'{each}' already means '{meanings[spelling(each)]}'"
                    place.at("terms", term).problem(message)
        if vocabulary.vocabulary in self.vocabularies:
            message = f"vocabulary '{vocabulary.vocabulary}' is defined twice"
            place.at("vocabulary").problem(message)
        self.vocabularies[vocabulary.vocabulary] = meanings
        self.terms[vocabulary.vocabulary] = list(vocabulary.terms)

    def _declare_names(self, place: Place, declared: model.Declarations) -> None:
        for section in ("facts", "contact_facts", "activities", "scores"):
            known, new = getattr(self, section), getattr(declared, section)
            for name in new:
                if name in known or (section == "activities" and name == ANY_ACTIVITY):
                    place.at(section, name).problem(f"'{name}' is already declared")
            known.update(new)
        self.checks.append(lambda: self._check_declared(place, declared))

    def _check_declared(self, place: Place, declared: model.Declarations) -> None:
        for section in ("facts", "contact_facts"):
            for name, fact in getattr(declared, section).items():
                if fact.vocabulary and fact.vocabulary not in self.vocabularies:
                    place.at(section, name, "vocabulary").unknown("vocabulary", fact.vocabulary, self.vocabularies)
                if fact.vocabulary and fact.type != "text":
                    place.at(section, name, "vocabulary").problem(
                        f"only text has a vocabulary, and {name} is a {fact.type}"
                    )
        for name, activity in declared.activities.items():
            if activity.of:
                self.activity(place.at("activities", name, "of"), activity.of)
                behind = self.activities.get(self.resolve(name, {})[0])
                if behind is not None and behind.of is not None:
                    place.at("activities", name, "of").problem(f"'{name}' stands for itself")
            self.check_filters(place.at("activities", name, "where"), activity.where)
        for name, score in declared.scores.items():
            for i, signal in enumerate(score.signals):
                where = place.at("scores", name, "signals", i)
                self.activity(where.at("activity"), signal.activity)
                self.check_filters(where.at("where"), signal.where)

    def _parse(self, place: Place, kind: type[_Model]) -> _Model | None:
        try:
            return kind.model_validate(place.document.data)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            self.problems += [mistakes.explain(place.document, each) for each in errors]
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
    ) -> None:
        for op in operators.PRESENCE:
            if op in given and len(given) > 1:
                place.at(op).problem(f"'{op}' stands alone: no value can be missing and compared", "split it")
        for op, operand in given.items():
            if declared.type not in operators.TABLE[op].types:
                place.at(op).problem(f"'{op}' does not work on {name}, which is a {declared.type}")
                continue
            if op in operators.PRESENCE or op == "contains":
                continue
            for each in operand if isinstance(operand, list) else [operand]:
                if operators.type_of(each) != declared.type:
                    message = f"{name} is a {declared.type}, and {each!r} is a {operators.type_of(each)}"
                    place.at(op).problem(message)
                elif declared.vocabulary in self.terms and op in {"is", "is_not", "in", "not_in"}:
                    terms = self.terms[declared.vocabulary]
                    if each not in terms:
                        kind = f"term of vocabulary '{declared.vocabulary}'"
                        place.at(op).unknown(kind, str(each), terms)

    def read(self, fact: str) -> Read:
        declared = self.facts.get(fact)
        normal = self.normaliser(declared) if declared else _as_it_is

        def read(state: Any) -> Any:
            known = state.facts.get(fact)
            return None if known is None or known.value is None else normal(known.value)

        return read

    def normaliser(self, declared: model.FactDeclaration) -> Callable[[Any], Any]:
        if declared.vocabulary is None:
            return _as_it_is
        meanings = self.vocabularies.get(declared.vocabulary, {})
        term_of = lru_cache(4096)(lambda text: meanings.get(spelling(text)))
        # What is no text was kept before the fact was declared to be one.
        return lambda value: term_of(value) if isinstance(value, str) else None

    def activity(self, place: Place, name: str) -> model.ActivityDeclaration | None:
        if name == ANY_ACTIVITY:
            return model.ActivityDeclaration(label="activities of any kind")
        if name not in self.activities:
            place.unknown("activity", name, [*self.activities, ANY_ACTIVITY])
        return self.activities.get(name)

    def resolve(self, name: str, where: model.Where) -> tuple[str, Filters]:
        """The activity that `name` stands for, with all the filters on the way."""
        filters, passed = list(where.items()), set()
        while (declared := self.activities.get(name)) and declared.of and name not in passed:
            passed.add(name)
            filters += declared.where.items()
            name = declared.of
        return name, filters

    def check_filters(self, place: Place, where: model.Where) -> None:
        for prop, comparison in where.items():
            if not comparison.given():
                place.at(prop).problem("a comparison is missing")


def _as_it_is(value: Any) -> Any:
    return value
