"""A request's body, whole and decompressed, or the reason why not. Never more than was allowed is in memory."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request

from streams.collector.refused import Refused, busy, too_large

_GZIP = 16 + zlib.MAX_WBITS
_CHARSETS = ("utf-8", "utf8", "us-ascii")


@dataclass(slots=True)
class Budget:
    """Bytes of all requests that have begun and are not yet answered."""

    limit: int
    held: int = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """What one request takes; all of it is given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.held -= share.taken


@dataclass(slots=True)
class Share:
    budget: Budget
    taken: int = 0

    def take(self, size: int) -> None:
        """Raises 429 when there is no room for that."""
        if self.budget.held + size > self.budget.limit:
            raise busy()
        self.budget.held += size
        self.taken += size


def require_type(request: Request, *accepted: str) -> str:
    """The media type, which is one of `accepted`; the first of them when the request names none."""
    told = request.headers.get("content-type")
    if told is None:
        return accepted[0]
    kind, *parameters = (part.strip().lower() for part in told.split(";"))
    if kind not in accepted:
        raise _unsupported(f"the body is {kind[:60]!r}", f"send {' or '.join(accepted)}")
    for name, _, value in (parameter.partition("=") for parameter in parameters):
        if name.strip() == "charset" and value.strip(' "') not in _CHARSETS:
            raise _unsupported("the body's charset is not UTF-8", "JSON is UTF-8")
    return kind


async def read_body(request: Request, share: Share, limit: int, within_s: float) -> bytes:
    """The body's bytes, decompressed: UTF-8, and at most `limit` of them. Their size is taken from `share`."""
    hint = "send less at once"
    if int(request.headers.get("content-length", 0)) > limit:  # the server has refused what is no number
        raise too_large("the body", limit, hint)
    unpack = _unpacker(request.headers.get("content-encoding", "identity").strip().lower())
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for chunk in request.stream():
                plain = unpack.feed(chunk, limit + 1 - len(body))
                share.take(len(plain))
                body += plain
                if len(body) > limit:
                    raise too_large("the body", limit, hint)
    except TimeoutError:
        raise Refused(408, "too_slow", f"the body did not come within {within_s:g} s") from None
    unpack.finish()
    return _utf8(bytes(body))


def _utf8(body: bytes) -> bytes:
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            detail = f"{error.reason} at byte {error.start}"
            raise Refused(400, "bad_utf8", detail, "JSON is UTF-8") from None
    return body


class _Plain:
    def feed(self, chunk: bytes, most: int) -> bytes:
        """At most `most` bytes more of the body."""
        return chunk[:most]

    def finish(self) -> None:
        """Raises Refused if something is missing at the end."""


class _Gzip(_Plain):
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_GZIP)

    def feed(self, chunk: bytes, most: int) -> bytes:
        """What inflates to more than `most` is cut there, and is too large anyway."""
        try:
            return self._inflate.decompress(chunk, most)
        except zlib.error:
            raise _broken() from None

    def finish(self) -> None:
        if not self._inflate.eof or self._inflate.unused_data:
            raise _broken()


def _unpacker(encoding: str) -> _Plain:
    match encoding:
        case "identity" | "":
            return _Plain()
        case "gzip" | "x-gzip":
            return _Gzip()
    raise _unsupported(f"the body's encoding is {encoding[:40]!r}", "send it plain or with gzip")


def _broken() -> Refused:
    return Refused(400, "broken_gzip", "the body is not one whole gzip stream", "compress the whole body once")


def _unsupported(detail: str, hint: str) -> Refused:
    return Refused(415, "unsupported", detail, hint)
