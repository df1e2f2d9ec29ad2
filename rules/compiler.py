"""Rule files to a ruleset: read, check everything, report every mistake at once, compile once.

files ──► documents ──► models ──► declarations ──► conditions ──► Ruleset
          (yamlfile)    (model)    what rules may    (closures)    with its index
                                   name
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from rules import comparing, conditions, membership, model, ruleset, yamlfile
from rules.conditions import Condition
from rules.errors import Problem, RulesetError
from rules.growing import identity, matcher
from rules.names import Names, Place
from rules.ruleset import ANY_ACTIVITY, Dimension, Feed, Ruleset
from rules.state import NEVER, UNCLASSIFIED
from rules.translating import Translator
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
    compiled = _Compiler(names, Translator(names)).compile()
    if problems:
        raise RulesetError(problems)
    return compiled(ruleset_hash(files), dict(files))


def ruleset_hash(files: Mapping[str, str]) -> str:
    text = json.dumps(sorted(files.items()), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(slots=True)
class _Compiler:
    names: Names
    translator: Translator

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
            {id: measure.kept() for id, measure in self.translator.measures.items()},
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
        for id, measure in self.translator.measures.items():
            for activity, feed in measure.feeds_with(id, readers):
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
                outcomes.setdefault(activity, []).append((matcher(filters), outcome))
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
                self.translator.condition(place.at("segments", i, "when"), segment.when)

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
            when = (
                conditions.always() if each.when is None else self.translator.condition(here.at("when"), each.when)
            )
            stay = None if each.stay is None else self.translator.condition(here.at("stay"), each.stay)
            id = "" if each.when is None else identity(each.when.model_dump(mode="json"))
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
            _segment(spec, term, comparing.compare_fact(reader, {"is": term}), described.get(term))
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
            segments.append(_segment(spec, name, comparing.compare_fact(reader, within), described.get(name)))
        return _assemble(spec, tuple(segments))


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
