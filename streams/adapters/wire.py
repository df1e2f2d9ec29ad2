"""The door for bytes: size, encoding, depth and JSON are settled here, before a format looks.

Inside an adapter a part that cannot be used raises `Refusal`; `decode` of each adapter turns it
into the `Rejected` that the world sees. It never leaves this package.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import TypeVar

import msgspec

from streams.adapters.base import Reason, Rejected

MAX_BYTES = 1_048_576
MAX_DEPTH = 64
MAX_KEY = 200  # characters of an id or a name
MAX_CLAIM = 2048  # characters of a URL or an e-mail address

T = TypeVar("T")


class Refusal(Exception):
    """This message, or this part of one, cannot be used."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.rejected = Rejected(reason, detail)


def admit(value: bytes | None) -> bytes:
    """The message's bytes, fit for a JSON decoder. Also of what a typed decoder would skip over."""
    if value is None:
        raise Refusal(Reason.NULL_VALUE, "the message has no value (a tombstone?)")
    if len(value) > MAX_BYTES:
        raise Refusal(Reason.TOO_LARGE, f"{len(value):,} bytes, more than {MAX_BYTES:,}")
    if not value.isascii():
        _require_utf8(value)
    # So few brackets cannot nest too deeply: the usual message is not scanned.
    if value.count(b"{") + value.count(b"[") > MAX_DEPTH and nesting(value) > MAX_DEPTH:
        raise Refusal(Reason.TOO_DEEP, f"nested deeper than {MAX_DEPTH}")
    return value


def _require_utf8(value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise Refusal(Reason.BAD_UTF8, f"{error.reason} at byte {error.start}") from None


_BRACKET = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_NOISE = bytes(byte for byte in range(256) if byte not in b'"{}[]')


def nesting(value: bytes) -> int:
    """How deep the JSON text nests. Of broken JSON a number too, which may be too high."""
    plain = value.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _NOISE)
    outside = b"".join(plain.split(b'"')[::2])  # every other piece stands inside a string
    return max(accumulate(map(_BRACKET.__getitem__, outside)), default=0)


# How msgspec begins its messages.
_MEANING = (
    ("Object missing required field", Reason.MISSING_FIELD),
    ("Object contains unknown field", Reason.UNKNOWN_FIELD),
    ("Number out of range", Reason.HUGE_NUMBER),
    ("Integer value out of range", Reason.HUGE_NUMBER),
    ("Invalid value", Reason.UNKNOWN_KIND),
)


def read(decode: Callable[[bytes], T], value: bytes) -> T:
    """`decode(value)`, where what msgspec has to complain about becomes a `Refusal`.

    `value` has been admitted, or is a part of something admitted.
    """
    try:
        return decode(value)
    except msgspec.ValidationError as error:
        raise Refusal(_meaning(str(error)), str(error)) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Refusal(Reason.BROKEN_JSON, str(error)) from None


_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def one_or_many(value: bytes | None) -> list[msgspec.Raw]:
    """The parts of a message that is an array, else the message as its only part."""
    text = admit(value)
    return read(_decode_array, text) if text.lstrip().startswith(b"[") else [msgspec.Raw(text)]


def _meaning(message: str) -> Reason:
    for opening, reason in _MEANING:
        if message.startswith(opening):
            return reason
    return Reason.WRONG_TYPE


# What programs write where they have no id. Taken literally, one "undefined" would join everybody.
_NO_ID = frozenset({"", "null", "undefined", "none", "nan", "nil", "[object object]"})
_LONGEST_NO_ID = max(map(len, _NO_ID))


def key(value: str | int | None, field: str) -> str | None:
    """An id as text; None when there is none, also when it only looks like one."""
    if value is None:
        return None
    text = value.strip() if type(value) is str else str(value)
    if len(text) <= _LONGEST_NO_ID:
        return None if text.lower() in _NO_ID else text
    if len(text) > MAX_KEY:
        raise Refusal(Reason.BAD_KEY, f"{field} has {len(text):,} characters, more than {MAX_KEY}")
    return text


def claim(value: object) -> str | None:
    """A URL or e-mail address a message claims; what is none counts as not claimed."""
    return value if type(value) is str and 0 < len(value) <= MAX_CLAIM else None
