"""What lies before the door: signing in and out, the static files, and the headers that every answer carries.

Whoever has not signed in and asks with a browser is shown where to. Nothing else is answered here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streams.page.rendering import Pages
from streams.page.sessions import LASTS_S, Sessions, cookie_of, is_from_here

SIGN_IN, SIGN_OUT = "/sign-in", "/sign-out"
FORM_LONGEST = 4_096
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class SigningIn:
    def __init__(self, app: ASGIApp, sessions: Sessions, pages: Pages) -> None:
        self._app, self._sessions, self._pages = app, sessions, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = await self._answer(Request(scope, receive)) or self._app
        await answer(scope, receive, _with_headers(send))

    async def _answer(self, request: Request) -> Response | None:
        path, method = request.url.path, request.method
        if path.startswith(self._pages.static) and method in ("GET", "HEAD"):
            return self._file(path.removeprefix(self._pages.static))
        if path == SIGN_IN and method in ("GET", "HEAD"):
            return self._form(request)
        if path == SIGN_IN and method == "POST":
            return await self._sign_in(request)
        if path == SIGN_OUT and method == "POST":
            return self._sign_out(request)
        if self._is_stranger(request):
            asked = quote(path + (f"?{request.url.query}" if request.url.query else ""))
            return RedirectResponse(f"{SIGN_IN}?next={asked}" if asked != "/" else SIGN_IN, 303)
        return None

    def _is_stranger(self, request: Request) -> bool:
        """A browser that shows a page to somebody who has not signed in."""
        return (
            request.method == "GET"
            and "text/html" in request.headers.get("accept", "")
            and "authorization" not in request.headers
            and self._sessions.holder(request) is None
        )

    def _file(self, name: str) -> Response:
        content = self._pages.files.get(name)
        if content is None:
            return Response("there is no such file", 404, media_type="text/plain")
        headers = {"cache-control": "public, max-age=31536000, immutable"}  # another build has another address
        return Response(content, 200, headers, KINDS.get(Path(name).suffix, "application/octet-stream"))

    def _form(self, request: Request, status: int = 200, problem: str = "", after: str = "") -> Response:
        after = _local(after or request.query_params.get("next", "/"))
        return self._pages.render("sign_in.html", {"problem": problem, "after": after}, status)

    async def _sign_in(self, request: Request) -> Response:
        if not is_from_here(request):
            return self._form(request, 403, "This form was sent from another site. Sign in here instead.")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > FORM_LONGEST:
                return self._form(request, 413, "That is too long for a token.")
        form = parse_qs(body.decode(errors="replace"), max_num_fields=4)
        after = form.get("next", ["/"])[0]
        secret = self._sessions.sign_in(form.get("token", [""])[0].strip())
        if secret is None:
            why = "This token is not known here. A link from the demo works once; start it again for another."
            return self._form(request, 401, why, after)
        answer = RedirectResponse(_local(after), 303)
        answer.set_cookie(cookie_of(request), secret, max_age=int(LASTS_S), **_strictly(request))
        return answer

    def _sign_out(self, request: Request) -> Response:
        if not is_from_here(request):
            return self._form(request, 403, "This was asked for by another site, so nothing was done.")
        self._sessions.sign_out(request)
        answer = RedirectResponse(SIGN_IN, 303)
        answer.delete_cookie(cookie_of(request), **_strictly(request))
        return answer


def _strictly(request: Request) -> dict[str, Any]:
    is_tls = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    return {"path": "/", "httponly": True, "samesite": "strict", "secure": is_tls}


def _local(path: str) -> str:
    """A place of this site, whatever was asked for."""
    is_plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_plain else "/"


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return sent
