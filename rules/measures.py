"""Measures: numbers folded from activities, kept only as far as they can still decide something.

A **ring** keeps the newest (instant, log offset) pairs of one activity, oldest first, in a byte string of
eleven bytes a pair behind a six-byte **floor**: the newest instant of which something may be missing
(dropped because the ring was full, because it left the longest window, or because it happened before the
rule that asks existed). What lies above the floor is complete. So for any window `(now - W, now]`:

    k-th newest pair inside the window      the count is at least k, until that pair is W old
    otherwise, floor inside the window      nobody knows, until the floor is W old
    otherwise                               the count is below k, until something happens

A **score** keeps (S, t, floor): S is the decayed sum as of t, the newest contribution's instant. S at a
later instant is S · 2^(-(now - t)/H), so `score >= θ` ends at the first millisecond after t + H · log2(S/θ).
The comparison is made on that instant and never on a recomputed float: waking and deciding cannot differ.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple, TypeAlias

from rules.state import NEVER

Verdict: TypeAlias = bool | None
Decision: TypeAlias = tuple[Verdict, int]  # what holds now, and the instant until which it surely does

INSTANT = 6
PAIR = 11  # an instant and five bytes of log offset
KEPT_AT_LEAST = 32
_score = struct.Struct(">dQQ")


class Pair(NamedTuple):
    at: int
    offset: int


def empty_ring(floor: int = 0) -> bytes:
    return floor.to_bytes(INSTANT, "big")


def ring_add(ring: bytes, at: int, offset: int, keep: int, horizon: int) -> bytes:
    """`ring` with one more pair; pairs at or before `horizon` and all but the newest `keep` are dropped."""
    pair = at.to_bytes(INSTANT, "big") + offset.to_bytes(PAIR - INSTANT, "big")
    end = len(ring)
    while end > INSTANT and pair < ring[end - PAIR : end]:
        end -= PAIR
    ring = ring + pair if end == len(ring) else ring[:end] + pair + ring[end:]
    drop = max(INSTANT, len(ring) - keep * PAIR)
    lowest = horizon.to_bytes(INSTANT, "big") if horizon > 0 else b"\0"
    while drop < len(ring) and ring[drop : drop + INSTANT] <= lowest:
        drop += PAIR
    if drop == INSTANT:
        return ring
    dropped = ring[drop - PAIR : drop - PAIR + INSTANT]
    return max(ring[:INSTANT], dropped) + ring[drop:]


def ring_decide(ring: bytes, k: int, window: int, now: int) -> Decision:
    """Is the count in `(now - window, now]` at least k?"""
    start = len(ring) - k * PAIR
    if start >= INSTANT:
        leaves = int.from_bytes(ring[start : start + INSTANT], "big") + window
        if leaves > now:
            return True, leaves
    filled = int.from_bytes(ring[:INSTANT], "big") + window
    return (None, filled) if filled > now and ring[:INSTANT] != b"\0\0\0\0\0\0" else (False, NEVER)


def ring_pairs(ring: bytes, window: int, now: int) -> tuple[list[Pair], bool]:
    """The pairs inside the window, newest first, and whether they are all there were."""
    pairs = []
    for start in range(len(ring) - PAIR, INSTANT - 1, -PAIR):
        at = int.from_bytes(ring[start : start + INSTANT], "big")
        if at <= now - window:
            break
        pairs.append(Pair(at, int.from_bytes(ring[start + INSTANT : start + PAIR], "big")))
    floor = int.from_bytes(ring[:INSTANT], "big")
    return pairs, not floor or floor <= now - window


def empty_score(floor: int = 0) -> bytes:
    return _score.pack(0.0, 0, floor)


def score_add(score: bytes, at: int, weight: float, half_life: int) -> bytes:
    total, newest, floor = _score.unpack(score)
    if not newest:
        return _score.pack(weight, at, floor)
    if at >= newest:
        return _score.pack(total * 2.0 ** ((newest - at) / half_life) + weight, at, floor)
    return _score.pack(total + weight * 2.0 ** ((at - newest) / half_life), newest, floor)


def score_decide(score: bytes, threshold: float, half_life: int, now: int) -> Decision:
    """Is the decayed score at least `threshold`? Contributions before the floor can only add to it."""
    total, newest, floor = _score.unpack(score)
    if total >= threshold:
        falls = newest + int(half_life * math.log2(total / threshold)) + 1
        if falls > now:
            return True, falls
    return (None, NEVER) if floor else (False, NEVER)


def score_value(score: bytes, half_life: int, now: int) -> float:
    """For people: rounded down to hundredths, so that it never reads as a threshold it is below."""
    total, newest, _ = _score.unpack(score)
    value: float = total * 2.0 ** (min(0, newest - now) / half_life)
    return math.floor(value * 100) / 100
