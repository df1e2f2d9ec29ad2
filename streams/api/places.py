"""A place in `segment.changes` as one word: the id of an SSE event, and what a listener resumes by.

It says for every partition how far it was read, so whichever process is asked goes on right there. Its bytes are
a version and the offsets one after the other, seven bits to a byte, the lowest first; as base64url.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Sequence

VERSION = b"\x01"
LONGEST = 60_000  # characters: 4,096 partitions of ten bytes
_BITS = 63


class PlaceError(ValueError):
    """It is no place in this topic."""


def varint(number: int) -> bytes:
    found = bytearray()
    while number >= 128:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def packed(varints: Sequence[bytes]) -> str:
    """The place of offsets that are varints already, by partition."""
    return urlsafe_b64encode(VERSION + b"".join(varints)).rstrip(b"=").decode()


def place(offsets: Sequence[int]) -> str:
    return packed([varint(each) for each in offsets])


def offsets_of(word: str, partitions: int) -> list[int]:
    """Raises PlaceError for what `place` did not make of so many partitions."""
    if len(word) > LONGEST:
        raise PlaceError("it is too long")
    try:
        packed = b64decode(word.encode("ascii") + b"=" * (-len(word) % 4), b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise PlaceError("it is not base64url") from None
    if packed[:1] != VERSION:
        raise PlaceError("it is of another version")
    found = _offsets(packed[1:])
    if len(found) != partitions:
        raise PlaceError(f"it names {len(found)} partitions, and there are {partitions}")
    return found


def _offsets(varints: bytes) -> list[int]:
    found, number, shift = list[int](), 0, 0
    for each in varints:
        number |= (each & 127) << shift
        shift += 7
        if each < 128:
            found.append(number)
            number, shift = 0, 0
        elif shift >= _BITS:
            raise PlaceError("an offset is too large")
    if shift:
        raise PlaceError("it ends early")
    return found
