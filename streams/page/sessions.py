"""Who has signed in: a token is shown once; from then on a cookie stands for it that is worth nothing elsewhere.

Sessions are in this process's memory. One ends when it is signed out, after LASTS_S, when its token is taken out
of the file, and with the process. An invitation signs somebody in without a token, once: the demo prints one.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from starlette.requests import Request

from streams.api.rights import LONGEST, Holder, Tokens

LASTS_S = 12 * 3600.0
MOST = 1_000  # sessions at one time; then the oldest ends


def cookie_of(request: Request) -> str:
    """The cookie's name: browsers keep one jar for all ports of a host."""
    port = (request.scope.get("server") or ("", 0))[1]
    return f"isotherm_{port}"


def _digest(secret: str) -> bytes:
    """Secrets are looked up by this, so the time that takes tells nothing of them."""
    return sha256(secret[:LONGEST].encode(errors="replace")).digest()


@dataclass(slots=True)
class Sessions:
    tokens: Tokens
    clock: Callable[[], float] = time.monotonic
    _open: OrderedDict[bytes, tuple[Holder, float]] = field(default_factory=OrderedDict)
    _invited: dict[bytes, Holder] = field(default_factory=dict)

    def invite(self, holder: Holder) -> str:
        """A key that signs `holder` in, once."""
        key = f"once_{secrets.token_urlsafe(24)}"
        self._invited[_digest(key)] = holder
        return key

    def sign_in(self, shown: str) -> str | None:
        """The secret of a new session for a token, or for an invitation; None for neither."""
        holder = self._invited.pop(_digest(shown), None) or self.tokens.holder(shown)
        if holder is None:
            return None
        secret = secrets.token_urlsafe(32)
        self._open[_digest(secret)] = holder, self.clock() + LASTS_S
        if len(self._open) > MOST:
            self._open.popitem(last=False)
        return secret

    def sign_out(self, request: Request) -> None:
        self._open.pop(_digest(request.cookies.get(cookie_of(request), "")), None)

    def holder(self, request: Request) -> Holder | None:
        """Who is signed in, and would still be let in with the token."""
        digest = _digest(request.cookies.get(cookie_of(request), ""))
        holder, ends = self._open.get(digest, (None, 0.0))
        if holder is None:
            return None
        if self.clock() >= ends or not self.tokens.knows(holder):
            del self._open[digest]
            return None
        return holder


def is_from_here(request: Request) -> bool:
    """Whether a request was made by a page of ours. A browser says where from; a form elsewhere cannot lie."""
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site in ("same-origin", "none") and _origin_fits(request)
    return "origin" in request.headers and _origin_fits(request)


def _origin_fits(request: Request) -> bool:
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host", "")
