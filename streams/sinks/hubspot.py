"""Company properties in HubSpot: where an account stands, in fields that sales sees and lists can use.

One request updates up to a hundred companies. Of several changes of one account in it the last is written, since a
company may stand in a request only once.

The answer names what was updated, and often not what was not: an input without a result, and no error for it, is a
company that does not exist. A single bad value makes HubSpot refuse all hundred, so each then goes alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Annotated, Any, Self

import msgspec
from pydantic import Field, model_validator

from rules.model import Model, Name, Term
from streams.sinks.answers import PAUSE_S, by_status, parsed, retry_after, word
from streams.sinks.base import Delivered, Delivery, GiveUp, Outcome, Rate, Reason, Request, Retry
from streams.sinks.record import (
    Fields,
    Properties,
    accounts_of,
    clears,
    compiled,
    nothing_to_write,
    system_and_id,
    twice,
    values,
)
from streams.sinks.secret import Held, Secret
from streams.sinks.told import RateTo, Url

BATCH = 100
PATH = "/crm/v3/objects/companies/batch/update"
RATE = Rate(90, 10.0)  # of the 100 in ten seconds that the smallest account has; others of its apps ask too
LONG_PAUSE_S = 3600.0  # the daily limit ends at midnight, in a time zone that we do not know
MIGRATING = 477  # the account is moved to another place of theirs
REASON_LONGEST = 1000
CLEARED = ""

_encode = msgspec.json.Encoder().encode
_GONE = frozenset({"OBJECT_NOT_FOUND", "NOT_FOUND"})
_LATER = frozenset({"RATE_LIMITS", "RATE_LIMIT", "INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "CONFLICT"})


class HubspotTo(Model):
    """`to:` of an endpoint of kind `hubspot`."""

    token: Secret
    properties: Properties
    ids: dict[Name, Term] = Field(default_factory=dict)
    reason_longest: Annotated[int, Field(ge=20, le=65_000)] = REASON_LONGEST
    rate: RateTo | None = None
    url: Url = "https://api.hubapi.com"

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if name := twice(self.properties):
            raise ValueError(f"two things are told in the property '{name}'")
        if "hubspot" in self.ids:
            raise ValueError("ids: companies of HubSpot are known by their own ids")
        return self

    def sink(self) -> HubspotSink:
        rate = self.rate.rate() if self.rate else RATE
        url = self.url.rstrip("/") + PATH
        return HubspotSink(url, self.token, compiled(self.properties), self.ids, self.reason_longest, rate)


@dataclass(frozen=True, slots=True)
class HubspotSink:
    url: str
    token: Held
    fields: Fields
    ids: Mapping[str, str]  # system of an account's id -> the unique property that holds it
    reason_longest: int = REASON_LONGEST
    rate: Rate | None = RATE
    batch: int = BATCH

    def refuses(self, delivery: Delivery) -> GiveUp | None:
        if self._key(delivery.account) is None:
            return GiveUp(Reason.NO_RECORD)
        return nothing_to_write(delivery, self.fields)

    def request(self, deliveries: Sequence[Delivery]) -> Request:
        written = values(deliveries, self.fields, self.reason_longest, CLEARED)
        inputs = [
            self._input(account, trace, written[account])
            for trace, account in zip(_traces(), accounts_of(deliveries), strict=False)
        ]
        headers = {"Authorization": f"Bearer {self.token.read()}", "Content-Type": "application/json"}
        return Request("POST", self.url, headers, _encode({"inputs": inputs}))

    def outcomes(
        self, deliveries: Sequence[Delivery], status: int, headers: Mapping[str, str], body: bytes
    ) -> list[Outcome]:
        answer = parsed(body)
        accounts = accounts_of(deliveries)
        if status in (200, 207) and isinstance(answer, dict) and isinstance(answer.get("results"), list):
            found = self._of_each(accounts, answer)
        else:
            found = dict.fromkeys(accounts, _of_all(status, headers, answer, several=len(accounts) > 1))
        return [clears(each, found[each.account]) for each in deliveries]

    # -- inputs and results -----------------------------------------------------------------------------------

    def _key(self, account: str) -> tuple[str, str] | None:
        """The company's id, and the property in which that stands; "": its own."""
        system, id = system_and_id(account)
        if system == "hubspot":
            return id, ""
        return (id, self.ids[system]) if system in self.ids else None

    def _input(self, account: str, trace: str, properties: Mapping[str, str | None]) -> dict[str, Any]:
        id, property = self._key(account) or ("", "")
        found = {"id": id, "objectWriteTraceId": trace, "properties": properties}
        return found | {"idProperty": property} if property else found

    def _of_each(self, accounts: Sequence[str], answer: dict[str, Any]) -> dict[str, Outcome]:
        results = [each for each in answer["results"] if isinstance(each, dict)]
        errors = [each for each in _list(answer.get("errors")) if isinstance(each, dict)]
        if len(results) == len(accounts) and not errors:
            return dict.fromkeys(accounts, Delivered())
        names = {account: self._names(account, trace) for trace, account in zip(_traces(), accounts, strict=False)}
        known: dict[str, Outcome] = {name: Delivered() for each in results for name in _names_of(each)}
        known |= _named(errors)
        unnamed = _of_unnamed(results, names, several=len(accounts) > 1)
        return {
            account: next((known[name] for name in names[account] if name in known), unnamed)
            for account in accounts
        }

    def _names(self, account: str, trace: str) -> tuple[str, ...]:
        """By which an answer may name the account."""
        id, _ = self._key(account) or ("", "")
        return (trace, id)


def _of_unnamed(results: Sequence[dict[str, Any]], names: Mapping[str, Sequence[str]], several: bool) -> Outcome:
    """Of what neither a result nor an error names. A company that was merged answers under its new id, one that
    was found by another property under its own: as long as there is such a result, it may be this account's."""
    ours = set(chain.from_iterable(names.values()))
    if several and any(ours.isdisjoint(_names_of(each)) for each in results):
        return Retry(Reason.NOT_CONFIRMED, 0.0, alone=True)
    return GiveUp(Reason.NOT_FOUND)


def _names_of(result: dict[str, Any]) -> set[str]:
    return {str(result[key]) for key in ("objectWriteTraceId", "id") if key in result}


def _traces() -> Iterator[str]:
    """What an input is called in the answer, beside its id."""
    return (f"isotherm-{number}" for number in count())


def _named(errors: Sequence[dict[str, Any]]) -> dict[str, Outcome]:
    """By the id, or the trace id, that an error names in its context."""
    found: dict[str, Outcome] = {}
    for error in errors:
        context = error.get("context")
        ids = [id for each in context.values() for id in _list(each)] if isinstance(context, dict) else []
        for id in ids:
            found[str(id)] = _of_error(word(error, "category"))
    return found


def _of_error(category: str) -> Outcome:
    if category in _GONE:
        return GiveUp(Reason.NOT_FOUND, category)
    return Retry(Reason.UNAVAILABLE, detail=category) if category in _LATER else GiveUp(Reason.INVALID, category)


def _of_all(status: int, headers: Mapping[str, str], answer: Any, several: bool) -> Outcome:
    policy = word(answer, "policyName")
    if status == 429 and policy == "DAILY":
        after = retry_after(headers)
        return Retry(Reason.DAILY_LIMIT, LONG_PAUSE_S if after is None else after, whole=True, detail=policy)
    if 200 <= status < 300:
        return Retry(Reason.NOT_CONFIRMED, PAUSE_S, alone=several)  # what does not tell of each, tells of one
    if status == MIGRATING:
        return Retry(Reason.UNAVAILABLE, retry_after(headers) or LONG_PAUSE_S, whole=True, detail=str(status))
    if status == 404 and not several:
        return GiveUp(Reason.NOT_FOUND, word(answer, "category"))
    return by_status(status, headers, several, policy or word(answer, "category"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
