"""What the API answers, for the OpenAPI document and whoever generates a client from it."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, Field

Instant: TypeAlias = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Standing(BaseModel):
    """Where an account stands in one dimension. Owner, action and messaging are those of a ladder's segment."""

    segment: str | list[str] | None = Field(description="a ladder: its segment or null; a set: all it is in")
    since: Instant | None
    stays_until: Instant | None = Field(description="when time alone will change it; null: not by time alone")
    reason: dict[str, Any] = Field(description="`text` in a line, `because` as a tree; of a set, by segment")
    owner: str = ""
    action: dict[str, str] = {}
    messaging: dict[str, list[str]] = {}


class Fact(BaseModel):
    value: Any
    at: Instant
    source: str
    stale: bool = False
    others: list[dict[str, Any]] = Field([], description="what sources of another rank say instead")


class Account(BaseModel):
    """An account as it stands: what `isotherm explain --json` prints."""

    account: str
    name: str
    provisional: bool
    deleted: bool
    quarantined: bool
    degraded: Instant | None = Field(
        description="when facts that no rule reads were last dropped: too much of them"
    )
    as_of: Instant
    ruleset: str
    dimensions: dict[str, Standing]
    facts: dict[str, Fact]
    also: list[str] = Field(description="accounts that were merged into this one")
    read_again: dict[str, Instant] = Field(description="sources that could not say what changed, since when")
    contacts: int = Field(description="how many")


class AnAccount(BaseModel):
    data: Account


class Member(BaseModel):
    account: str
    name: str
    since: Instant | None
    stays_until: Instant | None
    value: float | None = Field(None, description="of the score that the page is sorted by")


class SomeMembers(BaseModel):
    data: list[Member]
    as_of: Instant
    next: str | None = Field(description="the cursor of the next page; null: this is the last")


class Segments(BaseModel):
    data: dict[str, dict[str, int]] = Field(
        description="dimension → segment → how many accounts are in it",
        examples=[{"engagement": {"hot": 12, "warm": 80, "cold": 408, "unclassified": 0}}],
    )


class State(BaseModel):
    """How this process is doing."""

    reading: bool = Field(description="whether the changes are being read")
    listeners: int
    place: str = Field(description="how far it has read; an id for Last-Event-ID")


class Status(BaseModel):
    data: State
