"""The shape of rule files: what pydantic checks before anything is compiled.

A file is a stream of YAML documents. A document that begins with `dimension:` is a ladder or a set, one that
begins with `vocabulary:` maps spellings to terms, any other declares facts, activities and scores.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from rules import durations

Duration = Annotated[int, BeforeValidator(durations.parse)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Scalar: TypeAlias = bool | int | float | str


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Comparison(Model):
    """Comparisons of one value; several in one place must all hold. `operators.TABLE` says what each does."""

    is_: Scalar | None = Field(None, alias="is")
    is_not: Scalar | None = None
    in_: list[Scalar] | None = Field(None, alias="in", min_length=1)
    not_in: list[Scalar] | None = Field(None, min_length=1)
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    starts: str | None = None
    ends: str | None = None
    contains: str | None = None
    exists: Literal[True] | None = None
    missing: Literal[True] | None = None

    def given(self) -> dict[str, Any]:
        """The operators written in the file, in the order of the table."""
        return {
            (field.alias or name): getattr(self, name)
            for name, field in Comparison.model_fields.items()
            if getattr(self, name) is not None
        }


def _as_comparison(value: object) -> object:
    """`path: /pricing` is short for `path: {is: /pricing}`."""
    return {"is": value} if isinstance(value, bool | int | float | str) else value


Where: TypeAlias = dict[str, Annotated[Comparison, BeforeValidator(_as_comparison)]]


class FactCondition(Comparison):
    """A comparison on a fact of the account."""

    fact: Name
    or_missing: bool = False


class CountCondition(Model):
    """How often an activity happened in a rolling window."""

    count: Name
    where: Where = {}
    within: Duration
    at_least: Annotated[int, Field(ge=1, le=1000)] | None = None
    at_most: Annotated[int, Field(ge=0, le=1000)] | None = None
    below: Annotated[int, Field(ge=1, le=1000)] | None = None

    @model_validator(mode="after")
    def _bounded(self) -> CountCondition:
        if self.at_least is None and self.at_most is None and self.below is None:
            raise ValueError("say how many: at_least, at_most or below")
        return self


class SeenCondition(Model):
    """The activity happened at least once in the window."""

    seen: Name
    where: Where = {}
    within: Duration


class QuietCondition(Model):
    """The activity did not happen for this long."""

    quiet: Name
    where: Where = {}
    for_: Duration = Field(alias="for")


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
    """All, any or none of the known contacts match. Over no contacts it is unknown."""

    contacts: Literal["all", "any", "none"]
    where: Annotated[Where, Field(min_length=1)]


class AllCondition(Model):
    all: Annotated[list[Condition], Field(min_length=1)]


class AnyCondition(Model):
    any: Annotated[list[Condition], Field(min_length=1)]


class NotCondition(Model):
    not_: Condition = Field(alias="not")


CONDITION_KEYS = ("fact", "count", "seen", "quiet", "score", "contacts", "all", "any", "not")


def _which(value: Any) -> str | None:
    """A condition is told by the one key it must have: a typo then costs one error line, not one per kind."""
    if isinstance(value, BaseModel):
        return next((k for k in CONDITION_KEYS if k.rstrip("_") in type(value).__name__.lower()), None)
    keys = [key for key in CONDITION_KEYS if isinstance(value, dict) and key in value]
    return keys[0] if len(keys) == 1 else None


Condition = Annotated[
    Annotated[FactCondition, Tag("fact")]
    | Annotated[CountCondition, Tag("count")]
    | Annotated[SeenCondition, Tag("seen")]
    | Annotated[QuietCondition, Tag("quiet")]
    | Annotated[ScoreCondition, Tag("score")]
    | Annotated[ContactsCondition, Tag("contacts")]
    | Annotated[AllCondition, Tag("all")]
    | Annotated[AnyCondition, Tag("any")]
    | Annotated[NotCondition, Tag("not")],
    Discriminator(_which),
]


class Segment(Model):
    """One answer of a dimension: its rule, its owner, its action."""

    segment: Name
    when: Condition | None = None
    otherwise: Literal[True] | None = None
    description: str = ""
    owner: str = ""
    action: str = ""

    @model_validator(mode="after")
    def _one_rule(self) -> Segment:
        if (self.when is None) == (self.otherwise is None):
            raise ValueError("give a segment either `when:` or `otherwise: true`")
        if self.segment == "unclassified":
            raise ValueError("'unclassified' is the name of not knowing; choose another")
        return self


class Dimension(Model):
    """A ladder (exactly one segment, the first that matches) or a set (any number)."""

    dimension: Name
    kind: Literal["ladder", "set"] = "ladder"
    on_unknown: Literal["stop", "skip"] = "stop"
    description: str = ""
    owner: str = ""
    segments: Annotated[list[Segment], Field(min_length=1)] | None = None
    by_fact: Name | None = None

    @model_validator(mode="after")
    def _shape(self) -> Dimension:
        if (self.segments is None) == (self.by_fact is None):
            raise ValueError("give a dimension either `segments:` or `by_fact:`")
        return self


class FactDeclaration(Model):
    type: Literal["text", "number", "boolean", "list"]
    vocabulary: Name | None = None
    unit: str = ""
    description: str = ""


class ActivityDeclaration(Model):
    """An activity that rules may name; with `of`, a name for some of another activity."""

    label: str = ""
    of: Name | None = None
    where: Where = {}


class Signal(Model):
    activity: Name
    weight: Annotated[float, Field(gt=0, le=1e6)]
    where: Where = {}


class ScoreDeclaration(Model):
    half_life: Duration
    signals: Annotated[list[Signal], Field(min_length=1)]
    label: str = ""


class Declarations(Model):
    facts: dict[Name, FactDeclaration] = {}
    contact_facts: dict[Name, FactDeclaration] = {}
    activities: dict[Name, ActivityDeclaration] = {}
    scores: dict[Name, ScoreDeclaration] = {}


class Vocabulary(Model):
    """Terms, each with the spellings that mean it. A term is a spelling of itself."""

    vocabulary: Name
    terms: Annotated[dict[str, list[str]], Field(min_length=1)]


for _model in (AllCondition, AnyCondition, NotCondition, Segment, Dimension):
    _model.model_rebuild()
