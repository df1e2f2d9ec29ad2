"""HubSpot's batch update of companies, as far as its documentation and its users say how it answers.

    POST /crm/v3/objects/companies/batch/update; inputs, idProperty, objectWriteTraceId, the answer's shape
        https://developers.hubspot.com/docs/api-reference/crm-companies-v3/batch/post-crm-v3-objects-companies-batch-update
    100 inputs; an empty string clears a property; one that does not exist is an error
        https://developers.hubspot.com/docs/api-reference/legacy/crm/objects/companies/guide
    the shape of errors, 207, 401, 403, 423, 429, 477, 5xx
        https://developers.hubspot.com/docs/api-reference/error-handling
    429 with `policyName`, X-HubSpot-RateLimit-*
        https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines
    207 with neither result nor error for ids that do not exist: told by users, not by the documentation
        https://eshopman-com.pages.dev/insights/hubspot-development/decoding-hubspots-batch-api-207-status-e-commerce-integrators-pay-attention/
    an idProperty that is not unique is refused
        https://github.com/HubSpot/hubspot-api-nodejs/issues/548
    one record twice in a batch is refused
        https://github.com/segmentio/action-destinations/pull/3969

What it holds can be looked at: `companies`. A limit is of requests, not of time: a test says when it passes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.sinks.conftest import SECRET

PATH = "/crm/v3/objects/companies/batch/update"
INPUTS = 100
ENGAGEMENT = ("hot", "warm", "cold", "")


@dataclass
class HubSpot:
    companies: dict[str, dict[str, str]] = field(default_factory=dict)
    properties: set[str] = field(default_factory=set)
    options: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of an enumeration
    unique: dict[str, str] = field(default_factory=dict)  # value -> company, of `isotherm_key`
    merged: dict[str, str] = field(default_factory=dict)  # an old id -> the company that stayed
    token: str = SECRET
    allowed: int = 1000  # requests until the limit
    policy: str = "TEN_SECONDLY_ROLLING"
    retry_after: str | None = None
    failing: int | None = None  # a status with which it answers everything
    names_errors: bool = False  # a company that does not exist is an error with its id, and not only left out
    requests: list[list[dict[str, Any]]] = field(default_factory=list)

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_post(PATH, self.update)
        return application

    async def update(self, request: web.Request) -> web.Response:
        if self.failing is not None:
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return web.Response(status=self.failing, text="<html>Bad gateway</html>", headers=headers)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _error(401, "INVALID_AUTHENTICATION", "Authentication credentials not found.")
        if self.allowed <= 0:
            return self._limited()
        self.allowed -= 1
        if request.content_type != "application/json":
            return web.Response(status=415)
        inputs = (await request.json())["inputs"]
        self.requests.append(inputs)
        if problem := self._problem(inputs):
            return _error(400, "VALIDATION_ERROR", problem)
        return self._updated(inputs)

    def _problem(self, inputs: list[dict[str, Any]]) -> str | None:
        """Of the whole batch, none of which is written then."""
        if not 1 <= len(inputs) <= INPUTS:
            return f"The maximum number of inputs supported in a batch request is {INPUTS}"
        for each in inputs:
            if each.get("idProperty", "isotherm_key") != "isotherm_key":
                return "Unable to perform update/upsert by non-unique 0-2 property"
            for name, value in each["properties"].items():
                if name not in self.properties:
                    return f'Property "{name}" does not exist'
                if value not in self.options.get(name, (value,)):
                    return f"{value} was not one of the allowed options"
        found = [self._company(each) for each in inputs]
        known = [each for each in found if each is not None]
        return "Duplicate IDs found in batch input" if len(set(known)) < len(known) else None

    def _company(self, each: dict[str, Any]) -> str | None:
        if "idProperty" in each:
            return self.unique.get(each["id"])
        id = self.merged.get(each["id"], each["id"])
        return id if id in self.companies else None

    def _updated(self, inputs: list[dict[str, Any]]) -> web.Response:
        results, errors = [], []
        for each in inputs:
            id = self._company(each)
            if id is None:
                errors.append(each["id"])
                continue
            self.companies[id] |= each["properties"]
            self.companies[id] = {name: value for name, value in self.companies[id].items() if value != ""}
            results.append({"id": id, "properties": self.companies[id], "archived": False})
        answer: dict[str, Any] = {"status": "COMPLETE", "results": results}
        if errors and self.names_errors:
            told = {"status": "error", "category": "OBJECT_NOT_FOUND", "context": {"ids": errors}}
            answer |= {"numErrors": 1, "errors": [told]}
        return web.json_response(answer, status=207 if errors else 200)

    def _limited(self) -> web.Response:
        headers = {"Retry-After": self.retry_after} if self.retry_after else {}
        told = {
            "status": "error",
            "message": f"You have reached your {self.policy.lower()} limit.",
            "errorType": "RATE_LIMIT",
            "policyName": self.policy,
        }
        return web.json_response(told, status=429, headers=headers)


def _error(status: int, category: str, message: str) -> web.Response:
    told = {"status": "error", "message": message, "category": category, "correlationId": "c-1"}
    return web.Response(status=status, text=json.dumps(told), content_type="application/json")
