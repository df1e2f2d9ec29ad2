"""Salesforce's sObject Collections, as far as its documentation says how they answer.

    PATCH …/composite/sobjects: 200 records, `attributes.type`, `id`, results in the order of the request, 200 for
    a request that is well formed and 400 for one that is not
        https://developer.salesforce.com/docs/atlas.en-us.252.0.api_rest.meta/api_rest/resources_composite_sobjects_collections_update.htm
    PATCH …/composite/sobjects/Account/FIELD: by an external id, without `id`; what is not known is created
        https://developer.salesforce.com/docs/atlas.en-us.242.0.api_rest.meta/api_rest/resources_composite_sobjects_collections_upsert.htm
    401 INVALID_SESSION_ID, 403 REQUEST_LIMIT_EXCEEDED, 404, 503; `[{"errorCode", "message"}]`
        https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/errorcodes.htm

What it holds can be looked at: `accounts`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.sinks.conftest import SECRET

BASE = "/services/data/v62.0/composite/sobjects"
RECORDS = 200
TEXT_LONGEST = 255
_ID = re.compile(r"[0-9A-Za-z]{15}([0-9A-Z]{3})?")


@dataclass
class Salesforce:
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    external: dict[str, str] = field(default_factory=dict)  # Isotherm_Id__c -> account
    fields: set[str] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    token: str = SECRET
    allowed: int = 1000
    maintenance: bool = False
    requests: list[list[dict[str, Any]]] = field(default_factory=list)

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_patch(BASE, self.update)
        application.router.add_patch(BASE + "/Account/Isotherm_Id__c", self.update)
        return application

    async def update(self, request: web.Request) -> web.Response:
        if self.maintenance:
            return web.Response(status=503, text="<html>Maintenance</html>")
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _refused(401, "INVALID_SESSION_ID", "Session expired or invalid")
        if self.allowed <= 0:
            return _refused(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
        self.allowed -= 1
        told = await request.json()
        records = told["records"]
        self.requests.append(records)
        if told["allOrNone"] is not False or not 1 <= len(records) <= RECORDS:
            return _refused(400, "INVALID_INPUT", "records: at most 200")
        key = "id" if request.path == BASE else "Isotherm_Id__c"
        if any(each["attributes"] != {"type": "Account"} or key not in each for each in records):
            return _refused(400, "INVALID_FIELD", "Each record has attributes.type and its id")
        assert len({each[key] for each in records}) == len(records), "one account twice in a request"
        return web.json_response([self._one(each, key) for each in records])

    def _one(self, record: dict[str, Any], key: str) -> dict[str, Any]:
        id = record[key] if key == "id" else self.external.get(record[key])
        values = {name: value for name, value in record.items() if name not in ("attributes", key)}
        if id is None:  # it would be created
            return _failed("REQUIRED_FIELD_MISSING", "Required fields are missing: [Name]", ["Name"])
        if not _ID.fullmatch(id):
            return _failed("MALFORMED_ID", f"Account ID: id value of incorrect type: {id}", ["Id"])
        if id in self.deleted:
            return _failed("ENTITY_IS_DELETED", "entity is deleted")
        if id not in self.accounts:
            return _failed("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
        if id in self.locked:
            return _failed("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record")
        if unknown := values.keys() - self.fields:
            return _failed("INVALID_FIELD_FOR_INSERT_UPDATE", f"No such column {unknown}", sorted(unknown))
        if long := [name for name, value in values.items() if len(value or "") > TEXT_LONGEST]:
            return _failed("STRING_TOO_LONG", f"{long[0]}: data value too large", long)
        self.accounts[id] |= values
        return {"id": id, "success": True, "errors": []}


def _failed(code: str, message: str, fields: list[str] | None = None) -> dict[str, Any]:
    return {"success": False, "errors": [{"statusCode": code, "message": message, "fields": fields or []}]}


def _refused(status: int, code: str, message: str) -> web.Response:
    return web.json_response([{"errorCode": code, "message": message}], status=status)
