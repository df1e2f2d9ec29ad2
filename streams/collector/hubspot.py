"""HubSpot's webhooks: is it HubSpot that asks, and what becomes of the request.

A request becomes one message: an association is told by both of its ends in one array, which the adapter makes
one of, and notifications about companies, contacts and deals depend on each other, so that no key of a single
one would keep their order. The message's key is the portal: all that comes from one portal stands in one
partition, in the order in which it came. HubSpot itself sends far less than a partition takes.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import msgspec

from streams.collector.reading import parse
from streams.collector.refused import Refused, unauthorized
from streams.store.base import Outbound
from streams.topics import CRM_UPDATES

OLDEST_MS = 5 * 60 * 1000
# The characters that HubSpot decodes in the URL before it signs; it leaves all others encoded.
_ENCODED = {f"%{ord(each):02X}": each for each in ":/?@!$'()*,;"}
_ANY_ENCODED = re.compile("|".join(_ENCODED), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Signature:
    """Verifies `X-HubSpot-Signature-v3`. `url` is the collector's as HubSpot sees it, "" if that is as we do."""

    secret: bytes = field(repr=False)
    url: str = ""

    def require(self, method: str, url: str, body: bytes, signature: str, timestamp: str, now: int) -> None:
        """Raises 401 unless the request is HubSpot's and not older than five minutes. `now` is UTC ms."""
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 20):
            raise _unsigned("no_signature", "no X-HubSpot-Request-Timestamp", "only HubSpot can post here")
        signed = f"{method}{decoded(url)}".encode() + body + timestamp.encode()
        expected = base64.b64encode(hmac.digest(self.secret, signed, sha256))
        if not hmac.compare_digest(expected, signature.encode()):
            hint = (
                "compare ISOTHERM_HUBSPOT_CLIENT_SECRET, and ISOTHERM_COLLECTOR_URL with the URL given to HubSpot"
            )
            raise _unsigned("wrong_signature", "X-HubSpot-Signature-v3 does not fit the request", hint)
        if abs(now - int(timestamp)) > OLDEST_MS:
            raise unauthorized(
                "stale_signature", "the request was signed more than 5 minutes ago", "set the clock"
            )


def _unsigned(error: str, detail: str, hint: str) -> Refused:
    return unauthorized(error, detail, hint, "HubSpot-Signature-v3")


def decoded(url: str) -> str:
    return _ANY_ENCODED.sub(lambda found: _ENCODED[found[0].upper()], url)


class _Notification(msgspec.Struct, rename="camel", gc=False):
    portal_id: Any = None


_one = msgspec.json.Decoder(_Notification).decode
_many = msgspec.json.Decoder(list[_Notification]).decode


def read_notifications(body: bytes) -> tuple[list[Outbound], int]:
    """The request as a message, none if it is an empty array; and how many notifications it holds."""
    told = parse(_many, body) if body.lstrip().startswith(b"[") else [parse(_one, body)]
    if not told:
        return [], 0
    portal = told[0].portal_id
    if not isinstance(portal, str | int):
        raise Refused(400, "missing_field", "a notification names its `portalId`", "HubSpot sends it")
    return [Outbound(CRM_UPDATES, f"hubspot:{portal}"[:200], body, (("format", b"hubspot"),))], len(told)
