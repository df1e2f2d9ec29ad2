"""The shape of rule files: what pydantic checks before anything is compiled.

A file is a stream of YAML documents. A document that begins with `dimension:` is a ladder or a set, one that
begins with `vocabulary:` maps spellings to terms, one with `bands:` cuts numbers, any other declares facts,
activities and scores. `schema/rules.json` is generated from here, for editors.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from rules import calendars, durations, operators

_DurationText: TypeAlias = Annotated[str, Field(pattern=r"^\d{1,6}[smhdw]$", examples=["90s", "36h", "7d"])]
_UnitsText: TypeAlias = Annotated[str, Field(pattern=r"^\d{1,4}(d|w|mo|q|y)$", examples=["7d", "1mo", "2q"])]
Duration = Annotated[int, BeforeValidator(durations.parse, json_schema_input_type=_DurationText)]
Units = Annotated[tuple[int, str], BeforeValidator(calendars.parse, json_schema_input_type=_UnitsText)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Scalar: TypeAlias = bool | int | float | str
Term = Annotated[str, Field(min_length=1, max_length=512)]


def _zone(name: object) -> object:
    if isinstance(name, str):
        calendars.zone(name)
    return name


Zone = Annotated[str, BeforeValidator(_zone)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Comparison(Model):
    """Comparisons of one value; several in one place must all hold. `operators.TABLE` says what each does."""

    is_: Scalar | None = Field(None, alias="is")
    is_not: Scalar | None = None
    in_: Annotated[list[Scalar], Field(min_length=1, max_length=1000)] | None = Field(None, alias="in")
    not_in: Annotated[list[Scalar], Field(min_length=1, max_length=1000)] | None = None
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    between: Annotated[list[Scalar], Field(min_length=2, max_length=2)] | None = None
    starts: str | None = None
    ends: str | None = None
    contains: str | None = None
    glob: Annotated[str, Field(min_length=1, max_length=operators.GLOB_LONGEST)] | None = None
    has_any: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = None
    has_all: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = None
    has_none: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = None
    before: str | None = None
    after: str | None = None
    older_than: Duration | None = None
    newer_than: Duration | None = None
    within_last: Duration | None = None
    within_next: Duration | None = None
    exists: Literal[True] | None = None
    missing: Literal[True] | None = None
    fold: bool = Field(False, description="compare text without its case")

    @model_validator(mode="after")
    def _bounded(self) -> Comparison:
        if self.glob is not None and self.glob.count("*") > operators.GLOB_STARS:
            raise ValueError(f"a glob has at most {operators.GLOB_STARS} stars")
        return self

    def given(self) -> dict[str, Any]:
        """The operators written in the file, in the order of the table."""
        values = ((op, getattr(self, _ATTRIBUTE.get(op, op))) for op in operators.TABLE)
        return {op: value for op, value in values if value is not None}


_ATTRIBUTE = {"is": "is_", "in": "in_"}


def _as_comparison(value: object) -> object:
    """`path: /pricing` is short for `path: {is: /pricing}`."""
    return {"is": value} if isinstance(value, bool | int | float | str) else value


_Compared = BeforeValidator(_as_comparison, json_schema_input_type=Comparison | Scalar)
Where: TypeAlias = dict[str, Annotated[Comparison, _Compared]]


class FactCondition(Comparison):
    """A comparison on a fact of the account."""

    fact: Name
    or_missing: bool = False


class Windowed(Model):
    """A rolling window (`within: 7d`), or one that the calendar cuts (`calendar: 1mo`, in a time zone)."""

    within: Duration | None = None
    calendar: Units | None = None
    timezone: Zone | None = None

    @model_validator(mode="after")
    def _one_window(self) -> Windowed:
        if self.within is not None and self.calendar is not None:
            raise ValueError("give a window either as `within:` or as `calendar:`")
        if self.timezone is not None and self.calendar is None:
            raise ValueError("`timezone:` belongs to `calendar:`; a rolling window needs none")
        if self.within is None and self.calendar is None and not self._may_be_ever:
            raise ValueError("say how far back: `within: 7d`, or `calendar: 1mo`")
        return self

    @property
    def _may_be_ever(self) -> bool:
        return False


class Many(Windowed):
    """A whole number against thresholds."""

    at_least: Annotated[int, Field(ge=1, le=1000)] | None = None
    at_most: Annotated[int, Field(ge=0, le=1000)] | None = None
    below: Annotated[int, Field(ge=1, le=1000)] | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Many:
        if self.at_least is None and self.at_most is None and self.below is None:
            raise ValueError("say how many: at_least, at_most or below")
        return self


class CountCondition(Many):
    """How often an activity happened in a window."""

    count: Name
    where: Where = {}


class PeopleCondition(Many):
    """How many different contacts did it in a window; with `who`, only those who match now."""

    people: Name
    where: Where = {}
    who: Where = {}


class AmountCondition(Windowed):
    """The sum, least, greatest or mean of an activity's property in a window."""

    of: Name
    where: Where = {}
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _compared(self) -> AmountCondition:
        if not self.given():
            raise ValueError("compare it: at_least, above, at_most or below")
        return self

    def given(self) -> dict[str, float]:
        """The comparisons written in the file."""
        values = ((op, getattr(self, op)) for op in ("at_least", "above", "at_most", "below"))
        return {op: value for op, value in values if value is not None}


class SumCondition(AmountCondition):
    """The sum of a property in a window; of nothing it is 0."""

    sum: Name


class MinCondition(AmountCondition):
    """The least value of a property in a window; of nothing it is unknown."""

    min: Name


class MaxCondition(AmountCondition):
    """The greatest value of a property in a window; of nothing it is unknown."""

    max: Name


class AvgCondition(AmountCondition):
    """The mean of a property in a window; of nothing it is unknown."""

    avg: Name


class SeenCondition(Windowed):
    """The activity happened at least once in the window; without one, ever."""

    seen: Name
    where: Where = {}

    @property
    def _may_be_ever(self) -> bool:
        return True


class NeverCondition(Model):
    """The activity never happened."""

    never: Name
    where: Where = {}


class QuietCondition(Model):
    """The activity did not happen for this long, or never."""

    quiet: Name
    where: Where = {}
    for_: Duration = Field(alias="for")


class Aged(Model):
    where: Where = {}
    within: Duration | None = None
    older_than: Duration | None = None

    @model_validator(mode="after")
    def _one_age(self) -> Aged:
        if (self.within is None) == (self.older_than is None):
            raise ValueError("give exactly one of: within, older_than")
        return self


class FirstCondition(Aged):
    """The activity's very first time is so old, or so recent. False if it never happened."""

    first: Name


class LastCondition(Aged):
    """The activity's last time is so old, or so recent. False if it never happened."""

    last: Name


class SequenceStep(Model):
    """One step: an activity, or some of it."""

    activity: Name
    where: Where = {}


def _as_step(value: object) -> object:
    return {"activity": value} if isinstance(value, str) else value


class SequenceCondition(Model):
    """One activity after the other, from first to last in at most `span`; the last one lies in the window."""

    sequence: Annotated[
        list[Annotated[SequenceStep, BeforeValidator(_as_step, json_schema_input_type=SequenceStep | Name)]],
        Field(min_length=2, max_length=5),
    ]
    span: Duration
    within: Duration | None = None


class ScoreCondition(Model):
    """A decaying score against a threshold."""

    score: Name
    at_least: Annotated[float, Field(gt=0)] | None = None
    below: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _bounded(self) -> ScoreCondition:
        if (self.at_least is None) == (self.below is None):
            raise ValueError("give exactly one of: at_least, below")
        return self


class ContactsCondition(Model):
    """All, any or none of the known contacts match, or at least so many. Over no contacts it is unknown."""

    contacts: Literal["all", "any", "none"]
    where: Annotated[Where, Field(min_length=1)]
    at_least: Annotated[int, Field(ge=1, le=500)] | None = None

    @model_validator(mode="after")
    def _any_is_counted(self) -> ContactsCondition:
        if self.at_least is not None and self.contacts != "any":
            raise ValueError("`at_least:` goes with `contacts: any`")
        return self


class StaleCondition(Model):
    """What was last reported of the fact is older than its `refresh`. Unknown while it has no value."""

    stale: Name


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class SegmentCondition(Model):
    """The account is in a segment of another dimension, or that dimension is not known (`missing`)."""

    segment: Annotated[
        list[str], Field(min_length=1), BeforeValidator(_as_list, json_schema_input_type=str | list[str])
    ]
    missing: Literal[True] | None = None


class AllCondition(Model):
    """Every part is true; unknown if none is false and any is unknown."""

    all: Annotated[list[Condition], Field(min_length=1)]


class AnyCondition(Model):
    """Some part is true; unknown if none is and any is unknown."""

    any: Annotated[list[Condition], Field(min_length=1)]


class NotCondition(Model):
    """The part is false; not unknown is unknown."""

    not_: Condition = Field(alias="not")


class OfCondition(Model):
    """At least so many of the parts are true."""

    of: Annotated[list[Condition], Field(min_length=2)]
    at_least: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _possible(self) -> OfCondition:
        if self.at_least > len(self.of):
            raise ValueError(f"at_least {self.at_least} of {len(self.of)} can never be")
        return self


AMOUNTS = ("sum", "min", "max", "avg")
LOGIC = (AllCondition, AnyCondition, NotCondition, OfCondition)


def kinds_in(value: object) -> list[str]:
    """The keys of a mapping that tell the kind of a condition: it should have exactly one."""
    keys = [key for key in CONDITION_KEYS if isinstance(value, dict) and key in value]
    return keys[:-1] if keys[-1:] == ["of"] and any(key in AMOUNTS for key in keys) else keys


def which(value: Any) -> str | None:
    """A condition is told by the one key it must have: a typo then costs one error line, not one per kind."""
    if isinstance(value, BaseModel):
        return next((key for key, kind in CONDITIONS.items() if type(value) is kind), None)
    keys = kinds_in(value)
    return keys[0] if len(keys) == 1 else None


Condition = Annotated[
    Annotated[FactCondition, Tag("fact")]
    | Annotated[CountCondition, Tag("count")]
    | Annotated[PeopleCondition, Tag("people")]
    | Annotated[SumCondition, Tag("sum")]
    | Annotated[MinCondition, Tag("min")]
    | Annotated[MaxCondition, Tag("max")]
    | Annotated[AvgCondition, Tag("avg")]
    | Annotated[SeenCondition, Tag("seen")]
    | Annotated[NeverCondition, Tag("never")]
    | Annotated[QuietCondition, Tag("quiet")]
    | Annotated[FirstCondition, Tag("first")]
    | Annotated[LastCondition, Tag("last")]
    | Annotated[SequenceCondition, Tag("sequence")]
    | Annotated[ScoreCondition, Tag("score")]
    | Annotated[ContactsCondition, Tag("contacts")]
    | Annotated[StaleCondition, Tag("stale")]
    | Annotated[SegmentCondition, Tag("segment")]
    | Annotated[AllCondition, Tag("all")]
    | Annotated[AnyCondition, Tag("any")]
    | Annotated[NotCondition, Tag("not")]
    | Annotated[OfCondition, Tag("of")],
    Discriminator(which),
]
# The one key that tells a condition's kind. `of` also names the property of an amount, so it comes last.
CONDITIONS: dict[str, type[Model]] = {
    tag.tag: kind for kind, tag in map(get_args, get_args(get_args(Condition)[0]))
}
CONDITION_KEYS = tuple(CONDITIONS)


class Action(Model):
    """What to do with an account in the segment."""

    do: str = ""
    content: str = ""
    offer: str = ""
    route: str = ""
    cadence: str = ""
    sla: str = ""

    def plain(self) -> dict[str, str]:
        return {name: value for name, value in self if value}


def _as_action(value: object) -> object:
    return {"do": value} if isinstance(value, str) else value


ActionField = Annotated[Action, BeforeValidator(_as_action, json_schema_input_type=str | Action)]


class Messaging(Model):
    """What whoever writes to these accounts should know."""

    challenges: list[str] = []
    triggers: list[str] = []
    decision_criteria: list[str] = []
    formats: list[str] = []
    objections: list[str] = []

    def plain(self) -> dict[str, list[str]]:
        return {name: value for name, value in self if value}


_NO_ACTION, _NO_MESSAGING = Action(), Messaging()  # frozen, so one is enough; pydantic would copy a default


class Segment(Model):
    """One answer of a dimension: its rule, its owner, its action."""

    segment: Name
    when: Condition | None = None
    otherwise: Literal[True] | None = None
    stay: Condition | None = None
    for_: Duration | None = Field(None, alias="for")
    keep_for: Duration | None = None
    description: str = ""
    owner: str = ""
    action: ActionField = Field(default_factory=lambda: _NO_ACTION)
    messaging: Messaging = Field(default_factory=lambda: _NO_MESSAGING)

    @model_validator(mode="after")
    def _sound(self) -> Segment:
        if self.when is not None and self.otherwise is not None:
            raise ValueError("give a segment either `when:` or `otherwise: true`")
        if self.when is None and (self.stay or self.for_ or self.keep_for):
            raise ValueError("`stay`, `for` and `keep_for` need a `when:`")
        if self.segment == "unclassified":
            raise ValueError("'unclassified' is the name of not knowing; choose another")
        return self


class ByBands(Model):
    """A number, the bands that cut it, and which of their profiles."""

    fact: Name
    bands: Name
    profile: Name


class Dimension(Model):
    """A ladder (exactly one segment, the first that matches) or a set (any number)."""

    dimension: Name
    kind: Literal["ladder", "set"] = "ladder"
    on_unknown: Literal["stop", "skip"] = "stop"
    description: str = ""
    owner: str = ""
    action: ActionField = Field(default_factory=lambda: _NO_ACTION)
    segments: Annotated[list[Segment], Field(min_length=1)] | None = None
    by_fact: Name | None = None
    by_bands: ByBands | None = None

    @model_validator(mode="after")
    def _shape(self) -> Dimension:
        if self.by_fact is not None and self.by_bands is not None:
            raise ValueError("give a dimension either `by_fact:` or `by_bands:`")
        if self.by_bands is not None and self.kind == "set":
            raise ValueError("bands make a ladder: a number lies in one band")
        if self.segments is None and not self.is_by_value:
            raise ValueError("give a dimension `segments:`, `by_fact:` or `by_bands:`")
        return self

    @property
    def is_by_value(self) -> bool:
        return self.by_fact is not None or self.by_bands is not None


def _as_sources(value: object) -> object:
    """`sources: ranked` is short for `sources: [ranked]`: the order of the sources file."""
    return [value] if value == "ranked" else value


_Ranked = BeforeValidator(_as_sources, json_schema_input_type=Literal["ranked"] | list[Term])


class FactDeclaration(Model):
    """A fact: its type, how it is read, and who is believed."""

    type: Literal["text", "number", "boolean", "list", "date"]
    vocabulary: Name | None = None
    also: list[Name] = []
    unit: str = ""
    description: str = ""
    refresh: Duration | None = None
    sources: Annotated[list[Term], _Ranked] = []
    timezone: Zone = "UTC"


OUTCOMES = Literal["sent", "opened", "replied", "meeting", "opportunity", "won", "lost", "churned"]
OUTCOME_NAMES: tuple[str, ...] = get_args(OUTCOMES)


class ActivityDeclaration(Model):
    """An activity that rules may name; with `of`, a name for some of another activity."""

    label: str = ""
    of: Name | None = None
    where: Where = {}
    outbound: bool = Field(False, description="we did it, not the account: `any` leaves it out")
    outcome: OUTCOMES | None = None
    revenue: Name | None = None

    @model_validator(mode="after")
    def _revenue_of_outcome(self) -> ActivityDeclaration:
        if self.revenue is not None and self.outcome is None:
            raise ValueError("`revenue:` belongs to an activity with an `outcome:`")
        return self


class Signal(Model):
    """What one activity adds to a score."""

    activity: Name
    weight: Annotated[float, Field(ge=-1e6, le=1e6)]
    where: Where = {}
    half_life: Duration | None = None
    cap: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _worth_something(self) -> Signal:
        if self.weight == 0:
            raise ValueError("a weight of 0 changes nothing")
        return self


class ScoreDeclaration(Model):
    """A sum of weighted activities that fades."""

    half_life: Duration
    signals: Annotated[list[Signal], Field(min_length=1)]
    label: str = ""

    @model_validator(mode="after")
    def _crosses_once(self) -> ScoreDeclaration:
        """Only a score that falls, or rises, for as long as nothing happens has a computable crossing."""
        if any(signal.weight < 0 for signal in self.signals):
            if any(signal.cap is not None for signal in self.signals):
                raise ValueError(f"a negative weight and a cap do not go together: {_WHY_NOT}")
            if any(signal.half_life not in (None, self.half_life) for signal in self.signals):
                raise ValueError(f"a negative weight needs one half-life for all signals: {_WHY_NOT}")
        return self


_WHY_NOT = "the score could rise and fall by itself, and when it crosses a threshold could not be told exactly"


class Declarations(Model):
    """What rules may name."""

    facts: dict[Name, FactDeclaration] = {}
    contact_facts: dict[Name, FactDeclaration] = {}
    activities: dict[Name, ActivityDeclaration] = {}
    scores: dict[Name, ScoreDeclaration] = {}


class Vocabulary(Model):
    """Terms, each with the spellings that mean it. A term is a spelling of itself."""

    vocabulary: Name
    match: Literal["exact", "words", "prefix"] = "exact"
    fuzzy: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    of: Name | None = None
    terms: Annotated[dict[Term, list[Term]], Field(min_length=1)]

    @model_validator(mode="after")
    def _fuzzy_is_exact(self) -> Vocabulary:
        if self.fuzzy is not None and self.match != "exact":
            raise ValueError("`fuzzy:` is for whole spellings, so it goes with `match: exact`")
        return self


class Bands(Model):
    """Cuts of a number, each band named by where it begins; several profiles to choose from."""

    bands: Name
    unit: str = ""
    description: str = ""
    profiles: Annotated[dict[Name, Annotated[dict[Name, float], Field(min_length=1)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _ascending(self) -> Bands:
        for name, cuts in self.profiles.items():
            starts = list(cuts.values())
            if any(after <= before for before, after in pairwise(starts)):
                raise ValueError(f"profile '{name}': each band begins above the one before it")
        return self


for _model in (AllCondition, AnyCondition, NotCondition, OfCondition, Segment, Dimension):
    _model.model_rebuild()
