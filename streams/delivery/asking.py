"""One request and its answer, within a time and a size, whatever is at the other end.

No redirect is followed, no proxy of the environment used, no cookie kept, nothing unpacked. Of the body so much is
read that a sink can say what it means; an endpoint that sends more, for ever, or nothing, ends at a bound.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import aiohttp
from aiohttp.abc import AbstractResolver

from streams.delivery.addresses import Allowed, RefusedAddressError, Resolver, checked_socket
from streams.sinks.base import Request

ANSWER_WITHIN_S = 15.0
READ = 64 * 1024
BODY = 1024 * 1024  # what HubSpot says of a hundred companies is some 150 KB
IDLE_S = 60.0


class Failure(StrEnum):
    """Why there was no answer. What the library says of it may hold the URL, which is a secret."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    UNRESOLVED = "unresolved"
    ADDRESS_REFUSED = "address_refused"
    TLS = "tls"
    BROKEN = "broken"  # it ended in the middle, or was no HTTP
    BAD_URL = "bad_url"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Http:
    """The connections of one endpoint. `resolver` and `tls` are the system's unless they are given."""

    def __init__(
        self,
        allowed: Allowed,
        connections: int,
        within_s: float = ANSWER_WITHIN_S,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | bool = True,
    ) -> None:
        self._allowed, self._connections, self._within_s = allowed, connections, within_s
        self._resolver, self._tls = resolver, tls
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # encrypted -> its connections

    def _session(self, url: str) -> aiohttp.ClientSession:
        encrypted = url[:6].lower() == "https:"
        if encrypted not in self._sessions:
            self._sessions[encrypted] = self._open(encrypted)
        return self._sessions[encrypted]

    def _open(self, encrypted: bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections,
                use_dns_cache=False,
                keepalive_timeout=IDLE_S,
                resolver=Resolver(self._allowed, encrypted, self._resolver),
                socket_factory=checked_socket(self._allowed, encrypted),
                ssl=self._tls,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # ours is around all of it
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent",),
            headers={"Accept-Encoding": "identity", "User-Agent": "Isotherm-Webhooks/1"},
            read_bufsize=READ,
        )

    async def ask(self, request: Request) -> Answer | Failure:
        try:
            async with (
                asyncio.timeout(self._within_s),
                self._session(request.url).request(
                    request.method, request.url, data=request.body, headers=request.headers, allow_redirects=False
                ) as reply,
            ):
                return Answer(reply.status, reply.headers, await _beginning(reply))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return _why(error)

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()


async def _beginning(reply: aiohttp.ClientResponse) -> bytes:
    """The first of the body. When there is more, the connection goes: nobody waits for the rest."""
    read = bytearray()
    while len(read) < BODY:
        part = await reply.content.read(BODY - len(read))
        if not part:
            return bytes(read)
        read += part
    reply.close()
    return bytes(read)


def _why(error: BaseException) -> Failure:
    if _comes_of(error, RefusedAddressError):
        return Failure.ADDRESS_REFUSED
    match error:
        case TimeoutError():
            return Failure.TIMEOUT
        case aiohttp.ClientConnectorDNSError():
            return Failure.UNRESOLVED
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return Failure.TLS
        case aiohttp.ClientConnectorError() | ConnectionRefusedError():
            return Failure.UNREACHABLE
        case aiohttp.InvalidURL() | ValueError():
            return Failure.BAD_URL
    return Failure.BROKEN


def _comes_of(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether it is, or was raised for, such an error: of several addresses aiohttp tells in one."""
    for _ in range(5):
        if error is None or isinstance(error, kind):
            return error is not None
        if isinstance(error, BaseExceptionGroup):
            return any(_comes_of(each, kind) for each in error.exceptions)
        error = getattr(error, "os_error", None) or error.__cause__ or error.__context__
    return False
