"""Who may do what: named tokens, each with a role, and what each role may do. Whatever is not allowed is refused.

The file of tokens holds their SHA-256, which is worth nothing to who reads it: a token is 32 random bytes. It is
read again when it changes, so that a token which is taken out is of no use a moment later.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from rules import yamlfile
from rules.errors import Problem, RulesetError, did_you_mean
from rules.yamlfile import Document
from streams.api.problems import Refused
from streams.preflight import SettingsError

log = structlog.get_logger()
LONGEST = 200  # characters of a token that are looked at
KEYS = ("name", "sha256", "role")


class Right(StrEnum):
    READ = "read"  # where accounts stand, who is in a segment, what changes
    OPERATE = "operate"  # how the system is doing, what is in dead letters
    ADMINISTER = "administer"


ROLES: dict[str, frozenset[Right]] = {
    "reader": frozenset({Right.READ}),
    "operator": frozenset({Right.READ, Right.OPERATE}),
    "admin": frozenset({Right.READ, Right.OPERATE, Right.ADMINISTER}),
}


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody with a token."""

    name: str
    role: str

    def may(self, right: Right) -> bool:
        return right in ROLES[self.role]


@dataclass(frozen=True, slots=True)
class Token:
    holder: Holder
    digest: bytes


class Tokens:
    """The tokens of a file, as it stands now."""

    def __init__(self, path: str) -> None:
        """Raises SettingsError with every problem of the file."""
        self._path = Path(path)
        self._changed = self._stamp()
        self._tokens = read_tokens(self._path)

    def holder(self, token: str) -> Holder | None:
        """Whose it is. All are compared, whichever it is, and digests have one length: the time tells nothing."""
        self._keep_up()
        digest, found = sha256(token[:LONGEST].encode(errors="replace")).digest(), None
        for each in self._tokens:
            if hmac.compare_digest(digest, each.digest):
                found = each.holder
        return found

    def holders(self) -> list[Holder]:
        self._keep_up()
        return [each.holder for each in self._tokens]

    def knows(self, holder: Holder) -> bool:
        """Whether whoever showed a token a while ago would still be let in."""
        self._keep_up()
        return any(each.holder == holder for each in self._tokens)

    def _keep_up(self) -> None:
        if (changed := self._stamp()) == self._changed:
            return
        self._changed = changed
        try:
            self._tokens = read_tokens(self._path)
        except SettingsError as error:
            log.error("tokens not read again: those from before are in force", why=str(error))

    def _stamp(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0)
        return found.st_mtime_ns, found.st_size


def read_tokens(path: Path) -> list[Token]:
    """Raises SettingsError, which says in which line what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"ISOTHERM_API_TOKENS: cannot read {path}: {type(error).__name__}") from None
    problems: list[Problem] = []
    try:
        tokens = [each for document in yamlfile.read(str(path), text) for each in _tokens(document, problems)]
    except RulesetError as error:
        problems += error.problems
    if problems:
        raise SettingsError("\n".join(map(str, sorted(problems))))
    if not tokens:
        raise SettingsError(f"{path} holds no token: isotherm serve --admit NAME --role reader makes one")
    return tokens


def _tokens(document: Document, problems: list[Problem]) -> Iterator[Token]:
    def problem(path: tuple[str | int, ...], message: str, hint: str = "") -> None:
        problems.append(document.problem(path, message, hint))

    if not isinstance(document.data, list):
        problem((), "this is no list of tokens", "begin each with `- name: …`")
        return
    seen: set[str] = set()
    for i, each in enumerate(document.data):
        if not isinstance(each, dict):
            problem((i,), "this is no token", f"it has {', '.join(KEYS)}")
            continue
        for key in each.keys() - set(KEYS):
            problem((i, key), f"unknown key '{key}'", did_you_mean(key, KEYS))
        name, digest, role = (each.get(key) for key in KEYS)
        if not isinstance(name, str) or not name:
            problem((i,), "'name' is missing")
        elif name in seen:
            problem((i, "name"), f"two tokens are named '{name}'")
        if not isinstance(role, str) or role not in ROLES:
            problem((i, "role"), f"'role' is one of {', '.join(ROLES)}", did_you_mean(str(role), ROLES))
        if not isinstance(digest, str) or not _is_digest(digest):
            problem((i, "sha256"), "'sha256' is 64 hexadecimal digits", "isotherm serve --admit prints them")
        elif isinstance(name, str) and isinstance(role, str):
            seen.add(name)
            yield Token(Holder(name, role), bytes.fromhex(digest))


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(each in "0123456789abcdef" for each in text.lower())


def new_token() -> tuple[str, str]:
    """A token, and its SHA-256 as it stands in the file."""
    token = f"isotherm_{secrets.token_urlsafe(32)}"
    return token, sha256(token.encode()).hexdigest()


# -- at the door --------------------------------------------------------------------------------------------


class Door:
    """Nothing behind it is reached without a token that is known, not even to be told that it is not there.

    `signed_in` knows those who showed theirs before and have a cookie since.
    """

    def __init__(
        self, app: ASGIApp, tokens: Tokens, signed_in: Callable[[Request], Holder | None] = lambda request: None
    ) -> None:
        self._app, self._tokens, self._signed_in = app, tokens, signed_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: Callable[[Scope, Receive, Send], Awaitable[None]] = self._app
        if scope["type"] == "http":
            try:
                scope.setdefault("state", {})["holder"] = self._let_in(Request(scope))
            except Refused as error:
                answer = error.response()
        elif scope["type"] != "lifespan":
            raise RuntimeError(f"nobody asked for {scope['type']}")
        await answer(scope, receive, send)

    def _let_in(self, request: Request) -> Holder:
        if "authorization" not in request.headers and (holder := self._signed_in(request)) is not None:
            return holder
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("no_token", "the request holds no token", 'Bearer realm="isotherm"')
        if (holder := self._tokens.holder(token.strip())) is None:
            challenge = 'Bearer realm="isotherm", error="invalid_token"'
            raise _unauthorized("unknown_token", "this token is not known here", challenge)
        return holder


def _unauthorized(name: str, detail: str, challenge: str) -> Refused:
    hint = "send the header `Authorization: Bearer TOKEN`"
    return Refused(401, name, detail, hint, {"WWW-Authenticate": challenge})


@dataclass(frozen=True, slots=True)
class May:
    """What an endpoint depends on: that the token's role has this right."""

    right: Right

    def __call__(self, request: Request) -> Holder:
        holder: Holder = request.state.holder
        if not holder.may(self.right):
            roles = [role for role, rights in ROLES.items() if self.right in rights]
            detail = f"the role {holder.role} may not {self.right} here"
            raise Refused(403, "role_too_small", detail, f"ask with a token of {' or '.join(roles)}")
        return holder


def require_rights(routes: Any) -> None:
    """Raises RuntimeError for an endpoint that anybody with a token could reach."""
    for route in routes:
        dependencies = getattr(getattr(route, "dependant", None), "dependencies", [])
        if not any(isinstance(each.call, May) for each in dependencies):
            raise RuntimeError(f"{route.path} does not say who may ask it")
