"""What takes calls of the Segment spec, by whose documentation, and what each of them does with a bad one.

    Segment      https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/
                 Basic with the write key and a colon; 32 KB a call, 500 KB and 2,500 calls a batch, else 400; a
                 call without userId and anonymousId, or a wrong key, is answered 200 and dropped
    RudderStack  https://www.rudderstack.com/docs/api/http-api/
                 the same calls; 401 for a wrong key; 32 KB a call, 4 MB a batch; answers OK
    Customer.io  https://docs.customer.io/integrations/api/cdp/
                 32 KB and 500 KB; with `X-Strict-Mode: 1` 400 and 401, else everything is answered 200
    Dittofeed    https://docs.dittofeed.com/api-reference/endpoints/apps/batch
                 /api/public/apps/batch; the header as the dashboard shows it, Basic and the base64 of id:value
                 (packages/backend-lib/src/auth.ts in dittofeed/dittofeed); messageId in each call; answers 204

All of them drop a `messageId` that they have seen. What was taken can be looked at: `calls`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.sinks.conftest import SECRET

KB = 1000
BASIC = "Basic " + base64.b64encode(f"{SECRET}:".encode()).decode()


@dataclass(frozen=True)
class Vendor:
    name: str
    path: str
    answer: tuple[int, str]
    batch: int = 500 * KB
    needs_message_id: bool = False
    says_unauthorized: bool = True
    says_invalid: bool = True
    authorization: str = BASIC
    to: str = ""  # what its `to:` says beyond URL and key


SEGMENT = Vendor("segment", "/v1/batch", (200, '{"success": true}'), says_unauthorized=False, says_invalid=False)
RUDDERSTACK = Vendor("rudderstack", "/v1/batch", (200, "OK"), batch=4000 * KB)
CUSTOMER_IO = Vendor("customer_io", "/v1/batch", (200, "{}"), to='headers: {X-Strict-Mode: "1"}')
DITTOFEED = Vendor(
    "dittofeed",
    "/api/public/apps/batch",
    (204, ""),
    needs_message_id=True,
    authorization=SECRET,
    to="auth: as_is",
)
VENDORS = (SEGMENT, RUDDERSTACK, CUSTOMER_IO, DITTOFEED)


@dataclass
class Tracking:
    vendor: Vendor
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)  # by messageId
    requests: list[int] = field(default_factory=list)  # bytes
    failing: tuple[int, dict[str, str]] | None = None
    dropped: int = 0

    def application(self) -> web.Application:
        application = web.Application(client_max_size=8000 * KB)
        application.router.add_post(self.vendor.path, self.batch)
        return application

    async def batch(self, request: web.Request) -> web.Response:
        if self.failing is not None:
            status, headers = self.failing
            return web.Response(status=status, headers=headers)
        body = await request.read()
        self.requests.append(len(body))
        strict = self.vendor is not CUSTOMER_IO or request.headers.get("X-Strict-Mode") == "1"
        if request.headers.get("Authorization") != self.vendor.authorization:
            return web.Response(status=401) if self.vendor.says_unauthorized and strict else self._ok()
        calls = json.loads(body)["batch"]
        if len(body) > self.vendor.batch or any(len(json.dumps(each)) > 32 * KB for each in calls):
            return web.Response(status=400, text="too large")
        bad = [each for each in calls if not self._is_good(each)]
        if bad and self.vendor.says_invalid and strict:
            return web.Response(status=400, text="invalid")
        for each in calls[:2500]:
            if each in bad or each["messageId"] in self.calls:
                self.dropped += 1
            else:
                self.calls[each["messageId"]] = each
        return self._ok()

    def _is_good(self, call: dict[str, Any]) -> bool:
        named = {"group": "groupId", "track": "event"}.get(call["type"])
        return bool(named and call.get(named) and (call.get("userId") or call.get("anonymousId")) and (
            call.get("messageId") or not self.vendor.needs_message_id
        ))  # fmt: skip

    def _ok(self) -> web.Response:
        status, text = self.vendor.answer
        return web.Response(status=status, text=text)
