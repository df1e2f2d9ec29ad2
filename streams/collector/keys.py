"""Who may send: keys in a header or in the body, compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from streams.collector.refused import unauthorized
from streams.preflight import SettingsError

SHORTEST = 12
_HINT = "send it as the user name of HTTP Basic authentication"


class Keys:
    """Named keys. Only digests are kept, which have one length: comparing them tells nothing of the keys."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._digests = [(name, sha256(key.encode()).digest()) for name, key in keys.items()]

    def name_of(self, key: str) -> str | None:
        """The name under which the key is known. Looks at all of them, whichever it is."""
        digest, found = sha256(key.encode(errors="replace")).digest(), None
        for name, known in self._digests:
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def sender(self, authorization: str | None, in_body: str | None = None) -> str:
        """The name of the key in `Authorization`, Basic or Bearer; without that header, of the one in the body."""
        key = in_body if authorization is None else _presented(authorization)
        if not key:
            raise unauthorized("no_key", "the request holds no key", _HINT)
        if (name := self.name_of(key)) is None:
            raise unauthorized(
                "wrong_key", "this key is not known here", "compare it with the collector's settings"
            )
        return name


def _presented(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip()
        case "basic":
            try:
                return base64.b64decode(value.strip(), validate=True).decode().partition(":")[0]
            except (binascii.Error, UnicodeDecodeError, ValueError):
                raise unauthorized("no_key", "the header Authorization is not readable", _HINT) from None
    raise unauthorized("no_key", "the header Authorization is neither Basic nor Bearer", _HINT)


def read_keys(setting: str, text: str) -> Keys:
    """Keys of `name:key,name:key`, or of a file with such pairs, on lines of their own if you like.

    Raises SettingsError, which names what is wrong and never a key.
    """
    if text.startswith("/"):
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{setting}: cannot read the file: {type(error).__name__}") from None
    keys: dict[str, str] = {}
    pairs = (pair.strip() for line in text.splitlines() for pair in line.split(","))
    for number, pair in enumerate(filter(None, pairs), 1):
        name, colon, key = pair.partition(":")
        if not (colon and name):
            raise SettingsError(f"{setting}: entry {number} is not name:key")
        if name in keys:
            raise SettingsError(f"{setting}: two keys are named {name!r}")
        if len(key) < SHORTEST:
            raise SettingsError(f"{setting}: the key of {name!r} is shorter than {SHORTEST} characters")
        keys[name] = key
    return Keys(keys)
