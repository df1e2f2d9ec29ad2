"""What the sinks for CRMs share: which of their fields hold what, and which of their records an account is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from rules.model import Model, Name, Term
from streams.sinks.base import Delivered, Delivery, GiveUp, Outcome, Reason
from streams.sinks.standing import FIELDS, is_deleted, is_merged, newest, shortened, standings
from streams.sinks.standing import Field as Told

Fields = Mapping[str, Mapping[Told, str]]  # dimension -> what is told -> the CRM's name of the field


class FieldsTo(Model):
    """Of one dimension: the field for each thing told."""

    segment: Term | None = None
    reason: Term | None = None
    since: Term | None = None
    stays_until: Term | None = None

    @model_validator(mode="after")
    def _says_something(self) -> FieldsTo:
        if not self.fields():
            raise ValueError(f"name the field of one of: {', '.join(FIELDS)}")
        return self

    def fields(self) -> dict[Told, str]:
        return {told: name for told in FIELDS if (name := getattr(self, told)) is not None}


def _short_form(value: Any) -> Any:
    return {"segment": value} if isinstance(value, str) else value


Properties = Annotated[
    dict[Name, Annotated[FieldsTo, BeforeValidator(_short_form, json_schema_input_type=str | FieldsTo)]],
    Field(min_length=1, max_length=200),
]


def compiled(properties: Mapping[str, FieldsTo]) -> Fields:
    return {dimension: each.fields() for dimension, each in properties.items()}


def twice(properties: Mapping[str, FieldsTo]) -> str | None:
    """A field that two things are told in: the one would overwrite the other."""
    seen: set[str] = set()
    for each in properties.values():
        for name in each.fields().values():
            if name in seen:
                return name
            seen.add(name)
    return None


def nothing_to_write(delivery: Delivery, fields: Fields) -> GiveUp | None:
    """Of an account that was merged nothing is written: its old id leads to the record that stays, in the CRM that
    merged it, and what the other account wrote there would be cleared."""
    if is_merged(delivery.event):
        return GiveUp(Reason.MERGED)
    told = standings(delivery.event, fields.keys())
    if any(told[dimension].keys() & fields[dimension].keys() for dimension in told):
        return None
    return GiveUp(Reason.NOTHING_TO_WRITE)


def values(
    deliveries: Sequence[Delivery], fields: Fields, longest: int, nothing: str | None
) -> dict[str, dict[str, str | None]]:
    """By account, its fields' values. `nothing` is how the CRM clears a field."""
    return {
        account: {
            name: _text(standing[told], told, longest, nothing)
            for dimension, standing in found.items()
            for told, name in fields[dimension].items()
            if told in standing
        }
        for account, found in newest(deliveries, fields.keys()).items()
    }


def _text(value: Any, told: Told, longest: int, nothing: str | None) -> str | None:
    """Both CRMs write several choices with `;` between them."""
    if not value:
        return nothing
    text = ";".join(value) if isinstance(value, list) else str(value)
    return shortened(text, longest) if told == "reason" else text


def accounts_of(deliveries: Sequence[Delivery]) -> list[str]:
    """Each once, in the order in which a request names them."""
    return list(dict.fromkeys(each.account for each in deliveries))


def clears(delivery: Delivery, outcome: Outcome) -> Outcome:
    """Of an account that was deleted nothing is left to clear where its record is gone too."""
    gone = isinstance(outcome, GiveUp) and outcome.reason == Reason.NOT_FOUND
    return Delivered() if gone and is_deleted(delivery.event) else outcome


def system_and_id(account: str) -> tuple[str, str]:
    """`hubspot:123` is 123 of HubSpot's; `domain:acme.example` the company of that domain."""
    system, _, id = account.partition(":")
    return system, id
