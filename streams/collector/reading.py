"""JSON at the door: what is none becomes an answer that says where."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from streams.collector.refused import Refused

T = TypeVar("T")


def parse(decode: Callable[[bytes], T], text: bytes, **place: int) -> T:
    """`decode(text)`; raises 400 for what is not JSON, or not of the shape that is decoded."""
    try:
        return decode(text)
    except msgspec.ValidationError as error:
        raise Refused(400, "wrong_shape", str(error), "/openapi.json shows the shape", more=place) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Refused(400, "broken_json", str(error), "send JSON, whole and as UTF-8", more=place) from None
    except RecursionError:
        raise Refused(400, "too_deep", "the JSON nests too deeply", "send flat properties", more=place) from None
