"""Account fields in Salesforce: where an account stands, in fields that sales sees and reports can use.

One request updates up to two hundred accounts by sObject Collections, `allOrNone` false: each has its own result,
in the order of the request. Of several changes of one account in it the last is written.

By an external id Salesforce only offers to update or create. An account that it does not know is not created: one
wants a name, which is never sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import msgspec
from pydantic import Field, model_validator

from rules.model import Model, Name
from streams.sinks.answers import MENDING_S, PAUSE_S, by_status, parsed, retry_after, word
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

BATCH = 200
OBJECT = "Account"
VERSION = "62.0"
LIMIT_PAUSE_S = 900.0  # requests are counted over a rolling day: some come free all the time
REASON_LONGEST = 255  # of a text field; a long text area takes more

# What is said of one record, by `statusCode`: tried again or not. What is not named here is not taken.
_OF_ONE: dict[str, Outcome] = {
    "UNABLE_TO_LOCK_ROW": Retry(Reason.LOCKED, detail="UNABLE_TO_LOCK_ROW"),
    **{
        code: Retry(Reason.UNAVAILABLE, detail=code)
        for code in (
            "SERVER_UNAVAILABLE",
            "REQUEST_RUNNING_TOO_LONG",
            "UNKNOWN_EXCEPTION",
            "QUERY_TIMEOUT",
            "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",  # a trigger of theirs failed, often on a lock
        )
    },
    **{
        code: GiveUp(Reason.NOT_FOUND, code)
        for code in ("ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY", "NOT_FOUND", "MALFORMED_ID")
    },
    "REQUEST_LIMIT_EXCEEDED": Retry(
        Reason.DAILY_LIMIT, LIMIT_PAUSE_S, whole=True, detail="REQUEST_LIMIT_EXCEEDED"
    ),
}
# An external id that leads nowhere: what would be created has no name.
_NOT_CREATED = GiveUp(Reason.NOT_FOUND, "REQUIRED_FIELD_MISSING")

_encode = msgspec.json.Encoder().encode

FieldName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,79}$")]


class ExternalIdTo(Model):
    """The field of an account in Salesforce that holds the id by which another system knows it."""

    field: FieldName
    system: Name


class SalesforceTo(Model):
    """`to:` of an endpoint of kind `salesforce`."""

    url: Url
    token: Secret
    properties: Properties
    external_id: ExternalIdTo | None = None
    version: Annotated[str, Field(pattern=r"^\d{2,3}\.0$")] = VERSION
    reason_longest: Annotated[int, Field(ge=20, le=131_072)] = REASON_LONGEST
    rate: RateTo | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if name := twice(self.properties):
            raise ValueError(f"two things are told in the field '{name}'")
        return self

    def sink(self) -> SalesforceSink:
        path = f"/services/data/v{self.version}/composite/sobjects"
        if self.external_id:
            path += f"/{OBJECT}/{self.external_id.field}"
        return SalesforceSink(
            self.url.rstrip("/") + path,
            self.token,
            compiled(self.properties),
            self.external_id.system if self.external_id else "salesforce",
            self.external_id.field if self.external_id else "id",
            self.reason_longest,
            self.rate.rate() if self.rate else None,
        )


@dataclass(frozen=True, slots=True)
class SalesforceSink:
    url: str
    token: Held
    fields: Fields
    system: str = "salesforce"
    key: str = "id"
    reason_longest: int = REASON_LONGEST
    rate: Rate | None = None
    batch: int = BATCH

    def refuses(self, delivery: Delivery) -> GiveUp | None:
        if system_and_id(delivery.account)[0] != self.system:
            return GiveUp(Reason.NO_RECORD)
        return nothing_to_write(delivery, self.fields)

    def request(self, deliveries: Sequence[Delivery]) -> Request:
        written = values(deliveries, self.fields, self.reason_longest, None)
        records = [
            {"attributes": {"type": OBJECT}, self.key: system_and_id(account)[1], **written[account]}
            for account in accounts_of(deliveries)
        ]
        headers = {"Authorization": f"Bearer {self.token.read()}", "Content-Type": "application/json"}
        return Request("PATCH", self.url, headers, _encode({"allOrNone": False, "records": records}))

    def outcomes(
        self, deliveries: Sequence[Delivery], status: int, headers: Mapping[str, str], body: bytes
    ) -> list[Outcome]:
        answer = parsed(body)
        accounts = accounts_of(deliveries)
        if status == 200 and isinstance(answer, list) and len(answer) == len(accounts):
            found = dict(zip(accounts, map(self._of_one, answer), strict=True))
        else:
            found = dict.fromkeys(accounts, _of_all(status, headers, answer, several=len(accounts) > 1))
        return [clears(each, found[each.account]) for each in deliveries]

    def _of_one(self, result: Any) -> Outcome:
        if isinstance(result, dict) and result.get("success") is True:
            return Delivered()
        errors = result.get("errors") if isinstance(result, dict) else None
        codes = [word(each, "statusCode") for each in errors] if isinstance(errors, list) else []
        if not codes:
            return Retry(Reason.NOT_CONFIRMED)
        if self.key != "id" and "REQUIRED_FIELD_MISSING" in codes:
            return _NOT_CREATED
        known = next((code for code in codes if code in _OF_ONE), None)
        return _OF_ONE[known] if known else GiveUp(Reason.INVALID, codes[0])


def _of_all(status: int, headers: Mapping[str, str], answer: Any, several: bool) -> Outcome:
    """Refused as a whole, `[{"errorCode": …, "message": …}]`."""
    first = answer[0] if isinstance(answer, list) and answer else None
    code = word(first, "errorCode")
    after = retry_after(headers)
    if code == "REQUEST_LIMIT_EXCEEDED":
        pause = LIMIT_PAUSE_S if after is None else after
        return Retry(Reason.DAILY_LIMIT, pause, whole=True, detail=code)
    if status in (404, 410):  # the address, the version or the external id's field: no account is at fault
        return Retry(Reason.WRONG_ADDRESS, MENDING_S, whole=True, detail=code)
    if status == 503:
        return Retry(Reason.UNAVAILABLE, PAUSE_S if after is None else after, whole=True, detail=code)
    if 200 <= status < 300:
        return Retry(Reason.NOT_CONFIRMED, PAUSE_S, alone=several)  # what does not tell of each, tells of one
    return by_status(status, headers, several, code)
