"""Measures: numbers folded from activities, kept only as far as they can still decide something.

A **ring** keeps the newest entries of one activity, oldest first, in a byte string behind a six-byte **floor**:
the newest instant of which something may be missing (dropped because the ring was full, because it left the
longest window, or because it happened before the rule that asks existed). What lies above the floor is
complete. An entry is an instant and a log offset, eleven bytes; a **tagged** ring adds eight more: who did it,
or an amount. Numbers are written from their greatest byte on, so entries as bytes are in the order of time.
For any window, which is told by when an instant leaves it:

    k-th newest entry inside the window     the count is at least k, until that entry leaves
    otherwise, floor inside the window      nobody knows, until the floor leaves
    otherwise                               the count is below k, until something happens

A ring of **people** keeps one entry for each person, the last; a ring of **amounts** values to six decimals
as whole numbers, so that a sum is the same in any order. A **first** keeps the earliest entry alone.

A **sequence** keeps a ring for each step and a ring of completions: the last steps that end a chain. A chain,
once there, stays: so what leaves the rings of the steps takes nothing away, and what may have been missed
(a late step whose predecessors are gone) raises the floor of the completions.

A **score** keeps a floor and parts (S, t): S is the decayed sum as of t, the newest contribution's instant.
S at a later instant is S · 2^(-(now - t)/H); a part with a cap counts at most so much. Parts only fall, so the
score crosses a threshold once: for one part after t + H · log2(S/θ), for several where halving the span between
"surely above" and "surely below" ends. The verdict compares instants and never a recomputed float: waking and
deciding cannot differ.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from rules.filling import Filled
from rules.state import NEVER

Verdict: TypeAlias = bool | None
Decision: TypeAlias = tuple[Verdict, int]  # what holds now, and the instant until which it surely does
Leaves: TypeAlias = Callable[[int], int]  # when what happened at an instant leaves the window

INSTANT = 6
PAIR = 11  # an instant and five bytes of log offset
TAG = 8
TAGGED = PAIR + TAG
KEPT_AT_LEAST = 32
TAGGED_KEPT = 256
DECIMALS = 1_000_000
MOST = (1 << 63) // DECIMALS  # an amount has eight bytes
FALSE: Decision = (False, NEVER)
_head = struct.Struct(">Q")
_part = struct.Struct(">dQ")


class Pair(NamedTuple):
    at: int
    offset: int


class Tagged(NamedTuple):
    at: int
    offset: int
    tag: bytes


def _instant(ring: bytes, start: int) -> int:
    return int.from_bytes(ring[start : start + INSTANT])


# -- rings --------------------------------------------------------------------------------------------------


def empty_ring(floor: int = 0) -> bytes:
    return floor.to_bytes(INSTANT)


def floor_of(ring: bytes) -> int:
    """The newest instant of which something may be missing; 0 for a complete ring."""
    return _instant(ring, 0)


def raised(ring: bytes, floor: int) -> bytes:
    return max(ring[:INSTANT], floor.to_bytes(INSTANT)) + ring[INSTANT:]


def pair(at: int, offset: int) -> bytes:
    return at.to_bytes(INSTANT) + offset.to_bytes(PAIR - INSTANT)


def ring_add(ring: bytes, at: int, offset: int, keep: int, horizon: int) -> bytes:
    """`ring` with one more pair; pairs at or before `horizon` and all but the newest `keep` are dropped."""
    return _add(ring, pair(at, offset), PAIR, keep, horizon)


def _add(ring: bytes, entry: bytes, size: int, keep: int, horizon: int) -> bytes:
    end = len(ring)
    while end > INSTANT and entry < ring[end - size : end]:
        end -= size
    ring = ring + entry if end == len(ring) else ring[:end] + entry + ring[end:]
    drop = max(INSTANT, len(ring) - keep * size)
    lowest = horizon.to_bytes(INSTANT) if horizon > 0 else b"\0"
    while drop < len(ring) and ring[drop : drop + INSTANT] <= lowest:
        drop += size
    if drop == INSTANT:
        return ring
    dropped = ring[drop - size : drop - size + INSTANT]
    return max(ring[:INSTANT], dropped) + ring[drop:]


def ring_decide(ring: bytes, k: int, window: int, now: int) -> Decision:
    """Is the count in `(now - window, now]` at least k?"""
    start = len(ring) - k * PAIR
    if start >= INSTANT:
        leaves = int.from_bytes(ring[start : start + INSTANT]) + window
        if leaves > now:
            return True, leaves
    filled = int.from_bytes(ring[:INSTANT]) + window
    return (None, filled) if filled > now and ring[:INSTANT] != b"\0\0\0\0\0\0" else FALSE


def ring_decide_leaving(ring: bytes, k: int, leaves: Leaves, now: int, size: int = PAIR) -> Decision:
    """The same for a window of another kind, or a ring of other entries."""
    start = len(ring) - k * size
    if start >= INSTANT and (until := leaves(_instant(ring, start))) > now:
        return True, until
    return _unknown_below(ring, leaves, now) or FALSE


def _unknown_below(ring: bytes, leaves: Leaves, now: int) -> Decision | None:
    """Unknown for as long as the floor lies inside the window; None when nothing is missing from it."""
    floor = floor_of(ring)
    if floor and (until := leaves(floor)) > now:
        return None, until
    return None


def ring_pairs(ring: bytes, leaves: Leaves, now: int) -> tuple[list[Pair], bool]:
    """The pairs inside the window, newest first, and whether they are all there were."""
    pairs = []
    for start in reversed(range(INSTANT, len(ring), PAIR)):
        at = _instant(ring, start)
        if leaves(at) <= now:
            break
        pairs.append(Pair(at, int.from_bytes(ring[start + INSTANT : start + PAIR])))
    return pairs, _unknown_below(ring, leaves, now) is None


def tagged_entries(ring: bytes, leaves: Leaves, now: int) -> tuple[list[Tagged], bool]:
    """The entries of a tagged ring inside the window, newest first, and whether they are all there were."""
    entries = []
    for start in reversed(range(INSTANT, len(ring), TAGGED)):
        at = _instant(ring, start)
        if leaves(at) <= now:
            break
        offset = int.from_bytes(ring[start + INSTANT : start + PAIR])
        entries.append(Tagged(at, offset, ring[start + PAIR : start + TAGGED]))
    return entries, _unknown_below(ring, leaves, now) is None


# -- people -------------------------------------------------------------------------------------------------


@lru_cache(65536)
def person_tag(person: str) -> bytes:
    return blake2b(person.encode(), digest_size=TAG).digest()


def people_add(ring: bytes, person: str, at: int, offset: int, keep: int, horizon: int) -> bytes:
    """`ring` with the person's last time; an earlier one is forgotten."""
    return _last_add(ring, person_tag(person), at, offset, keep, horizon)


def _last_add(ring: bytes, tag: bytes, at: int, offset: int, keep: int, horizon: int) -> bytes:
    for start in range(INSTANT, len(ring), TAGGED):
        if ring[start + PAIR : start + TAGGED] == tag:
            if ring[start : start + PAIR] > pair(at, offset):
                return ring
            ring = ring[:start] + ring[start + TAGGED :]
            break
    return _add(ring, pair(at, offset) + tag, TAGGED, keep, horizon)


def is_in_already(ring: bytes, person: str, since: int) -> bool:
    """Whether the person's last time is later than `since`: coming again adds nobody to a window from there."""
    tag = person_tag(person)
    for start in reversed(range(INSTANT, len(ring), TAGGED)):
        if _instant(ring, start) <= since:
            return False
        if ring[start + PAIR : start + TAGGED] == tag:
            return True
    return False


def people_decide(
    ring: bytes, k: int, leaves: Leaves, now: int, who: Callable[[bytes], Decision] | None = None
) -> Decision:
    """Are there at least k people in the window, of those that `who` lets in?"""
    if who is None:
        return ring_decide_leaving(ring, k, leaves, now, TAGGED)
    sure, possible, until, runs_out = 0, 0, NEVER, NEVER
    for start in reversed(range(INSTANT, len(ring), TAGGED)):
        gone = leaves(_instant(ring, start))
        if gone <= now:
            break
        verdict, holds = who(ring[start + PAIR : start + TAGGED])
        until = min(until, holds)
        if verdict is False:
            continue
        possible += 1
        if possible == k:
            runs_out = gone  # fewer than k may match from then on
        if verdict is True:
            sure += 1
            if sure == k:
                return True, min(until, gone)
    if (unknown := _unknown_below(ring, leaves, now)) is not None:
        return None, min(until, unknown[1])
    return (None, min(until, runs_out)) if possible >= k else (False, until)


# -- amounts ------------------------------------------------------------------------------------------------


def in_millionths(value: float) -> int:
    """An amount as it is kept. Raises ValueError for one that is too large, or no number."""
    if not math.isfinite(value) or abs(value) >= MOST:
        raise ValueError(f"{value!r} is too large to be kept")
    return round(value * DECIMALS)


def amounts_add(ring: bytes, value: int, at: int, offset: int, keep: int, horizon: int) -> bytes:
    return _add(ring, pair(at, offset) + value.to_bytes(TAG, signed=True), TAGGED, keep, horizon)


class Aggregate(NamedTuple):
    """What a window's amounts come to, in millionths."""

    number: int = 0
    total: int = 0
    least: int = 0
    greatest: int = 0

    def with_(self, value: int) -> Aggregate:
        if not self.number:
            return Aggregate(1, value, value, value)
        return Aggregate(self.number + 1, self.total + value, min(self.least, value), max(self.greatest, value))


def aggregates(entries: Iterable[Tagged]) -> list[Aggregate]:
    """The aggregate of no entry, of the newest, of the newest two and so on; entries come newest first."""
    found = [Aggregate()]
    for entry in entries:
        found.append(found[-1].with_(int.from_bytes(entry.tag, signed=True)))
    return found


def amounts_decide(
    ring: bytes, holds: Callable[[Aggregate], Verdict], certain: Verdict, leaves: Leaves, now: int
) -> Decision:
    """The verdict of what is in the window, until the first departure that turns it.

    `certain` is the verdict that no missing amount could turn: a greatest value is at least 5 once one is.
    """
    entries, complete = tagged_entries(ring, leaves, now)
    found = aggregates(entries)
    verdict = holds(found[-1])
    until = NEVER
    for left, entry in enumerate(reversed(entries), 1):
        gone = leaves(entry.at)
        newer = len(entries) - left
        if newer and leaves(entries[newer - 1].at) == gone:
            continue  # they leave together
        if holds(found[newer]) is not verdict:
            until = gone
            break
    if complete:
        return verdict, until
    filled = leaves(floor_of(ring))
    if verdict is None or verdict is not certain:
        return None, filled
    return verdict, until


# -- firsts -------------------------------------------------------------------------------------------------


def first_add(first: bytes, at: int, offset: int) -> bytes:
    known, new = first[INSTANT:], pair(at, offset)
    return first[:INSTANT] + (min(known, new) if known else new)


def first_decide(first: bytes, age: int, now: int) -> Decision:
    """Is the first time at least `age` ago? False when it never happened."""
    floor = floor_of(first)
    if len(first) == INSTANT:
        return (None, NEVER) if floor else FALSE
    then = _instant(first, INSTANT) + age
    if then <= now:
        return True, NEVER  # an earlier one that is missing would be older still
    return (None if floor else False), then


# -- joining: two accounts turn out to be one ----------------------------------------------------------------
#
# What comes from the other account gets the log offset of the record that brought it: its own is one of another
# partition. Where it is one of this partition (None), it stays. `twice` says that some events came to both
# accounts; entries of one instant are then taken for one.


def ring_join(
    mine: bytes, theirs: bytes, offset: int | None, keep: int, horizon: int, twice: bool, size: int = PAIR
) -> bytes:
    """Both rings' entries, the newest `keep` of them; missing is what was missing from either."""
    known = {_event(mine, start, size) for start in range(INSTANT, len(mine), size)} if twice else ()
    joined = raised(mine, floor_of(theirs))
    for start in range(INSTANT, len(theirs), size):
        if not known or _event(theirs, start, size) not in known:
            joined = _add(joined, _brought(theirs, start, size, offset), size, keep, horizon)
    return joined


def _brought(ring: bytes, start: int, size: int, offset: int | None) -> bytes:
    """An entry with the log offset of what brings it, if that is another one."""
    if offset is None:
        return ring[start : start + size]
    return pair(_instant(ring, start), offset) + ring[start + PAIR : start + size]


def _event(ring: bytes, start: int, size: int) -> bytes:
    """An entry without its log offset: what is the same wherever the event came to."""
    return ring[start : start + INSTANT] + ring[start + PAIR : start + size]


def people_join(mine: bytes, theirs: bytes, offset: int | None, keep: int, horizon: int) -> bytes:
    """Each person's last time at either."""
    joined = raised(mine, floor_of(theirs))
    for start in range(INSTANT, len(theirs), TAGGED):
        tag, entry = theirs[start + PAIR : start + TAGGED], _brought(theirs, start, TAGGED, offset)
        brought = int.from_bytes(entry[INSTANT:PAIR])
        joined = _last_add(joined, tag, _instant(theirs, start), brought, keep, horizon)
    return joined


def person_renamed(ring: bytes, person: str, same_as: str | None) -> bytes:
    """`ring` where what one person did is the other's; None forgets it."""
    tag, other = person_tag(person), None if same_as is None else person_tag(same_as)
    for start in range(INSTANT, len(ring), TAGGED):
        if ring[start + PAIR : start + TAGGED] == tag:
            at, offset = _instant(ring, start), int.from_bytes(ring[start + INSTANT : start + PAIR])
            rest = ring[:start] + ring[start + TAGGED :]
            return rest if other is None else _last_add(rest, other, at, offset, len(ring), 0)  # drops nobody
    return ring


def first_join(mine: bytes, theirs: bytes, offset: int | None) -> bytes:
    joined = raised(mine, floor_of(theirs))
    if len(theirs) == INSTANT:
        return joined
    brought = _brought(theirs, INSTANT, PAIR, offset)
    return first_add(joined, _instant(brought, 0), int.from_bytes(brought[INSTANT:]))


def sequence_join(mine: bytes, theirs: bytes, offset: int | None, span: int, keep: int, twice: bool) -> bytes:
    """Both sequences' steps as if at one account: a chain may begin at one and end at the other."""
    ours, others = _unpack_rings(mine), _unpack_rings(theirs)
    room = len(mine) + len(theirs)  # nothing is dropped before it is known which chains there are
    done, *rings = [ring_join(a, b, offset, room, 0, twice) for a, b in zip(ours, others, strict=True)]
    *before, last = rings
    missing, known, own = max(map(floor_of, before), default=0), {*_pairs(done)}, {*_pairs(ours[-1])}
    for end in _pairs(last):
        ended = _instant(end, 0)
        earliest = max(ended - span, 1)
        if end in known:
            continue
        if _chain(before, end, ended - span):
            done = _add(done, end, PAIR, room, 0)
        elif missing >= earliest and _has_part((others if end in own else ours)[1:-1], earliest, ended):
            done = raised(done, ended)
    for here, there in ((ours, others), (others, ours)):
        done = raised(done, _missed(floor_of(here[-1]), there[1:-1], span))
    return _pack_rings([_newest(ring, keep) for ring in (done, *rings)])


def _has_part(before: Sequence[bytes], earliest: int, latest: int) -> bool:
    """Whether one of these steps happened between the two instants, or may have."""
    return any(
        floor_of(ring) >= earliest or any(earliest <= _instant(each, 0) <= latest for each in _pairs(ring))
        for ring in before
    )


def _missed(dropped: int, before: Sequence[bytes], span: int) -> int:
    """The latest instant at which a last step, of which those up to `dropped` are gone, may have ended a chain
    with one of the other account's steps `before` it."""
    there = [at for ring in before for each in _pairs(ring) if (at := _instant(each, 0)) <= dropped]
    parts = [*there, *(floor for ring in before if (floor := floor_of(ring)))]
    return max((min(dropped, part + span) for part in parts), default=0)


def score_join(mine: bytes, theirs: bytes, half_lives: Sequence[int]) -> bytes:
    joined = max(mine[: _head.size], theirs[: _head.size]) + mine[_head.size :]
    for part, half_life in enumerate(half_lives):
        total, newest = _part.unpack_from(theirs, _head.size + part * _part.size)
        if newest:
            joined = score_add(joined, newest, total, half_life, part)
    return joined


# -- filling: what happened before a switch comes later (see `filling`) ---------------------------------------
#
# A floor says no more than that something may be missing, and one that a gap raised hides lower ones. So where the
# gap closes it is made as high again as what may have been dropped meanwhile could have made it: to the oldest
# entry of a ring that is full, and to what is older than any window. Neither changes what a condition says.


def since(ring: bytes, offset: int, floor: int, size: int = PAIR) -> bytes:
    """What came at this log offset or later."""
    kept = [
        ring[start : start + size]
        for start in range(INSTANT, len(ring), size)
        if int.from_bytes(ring[start + INSTANT : start + PAIR]) >= offset
    ]
    return raised(b"".join([ring[:INSTANT], *kept]), floor)


def sequence_since(sequence: bytes, offset: int, floor: int) -> bytes:
    return _pack_rings([since(ring, offset, floor) for ring in _unpack_rings(sequence)])


def _to_be_filled(ring: bytes, how: Filled, keep: int, horizon: int, size: int) -> bytes:
    """`ring` as what is behind the switch is put into it."""
    floor = max(how.floor(floor_of(ring)), horizon)
    if len(ring) >= INSTANT + keep * size:
        floor = max(floor, _instant(ring, INSTANT))
    left = ring if how.before is None else since(ring, how.before, 0, size)
    return floor.to_bytes(INSTANT) + left[INSTANT:]


def ring_fill(mine: bytes, theirs: bytes, how: Filled, keep: int, longest: int, size: int = PAIR) -> bytes:
    horizon, offset = max(how.log_time - longest, 0), None if how.before is not None else how.offset
    return ring_join(_to_be_filled(mine, how, keep, horizon, size), theirs, offset, keep, horizon, False, size)


def people_fill(mine: bytes, theirs: bytes, how: Filled, keep: int, longest: int) -> bytes:
    horizon, offset = max(how.log_time - longest, 0), None if how.before is not None else how.offset
    return people_join(_to_be_filled(mine, how, keep, horizon, TAGGED), theirs, offset, keep, horizon)


def first_fill(first: bytes, theirs: bytes, how: Filled) -> bytes:
    mine = how.floor(floor_of(first)).to_bytes(INSTANT) + first[INSTANT:]
    return first_join(mine, theirs, None if how.before is not None else how.offset)


def score_fill(score: bytes, theirs: bytes, how: Filled, half_lives: Sequence[int]) -> bytes:
    floor = how.floor(_head.unpack_from(score)[0])
    return score_join(_head.pack(floor) + score[_head.size :], theirs, half_lives)


def sequence_fill(mine: bytes, theirs: bytes, how: Filled, span: int, keep: int, window: int) -> bytes:
    """Its completions are found once more, so their floor says only what a full ring may have dropped."""
    done, *rings = _unpack_rings(mine)
    is_full = any(len(ring) >= INSTANT + keep * PAIR for ring in rings)
    horizon, offset = max(how.log_time - window, 0), None if how.before is not None else how.offset
    known = done if how.before is None else since(done, how.before, 0)
    floor = max(how.left, floor_of(done) if is_full else 0, horizon)
    ready = [_to_be_filled(ring, how, keep, max(horizon - span, 0), PAIR) for ring in rings]
    packed = _pack_rings([floor.to_bytes(INSTANT) + known[INSTANT:], *ready])
    return sequence_join(packed, theirs, offset, span, keep, False)


# -- sequences ----------------------------------------------------------------------------------------------


def empty_sequence(steps: int, floor: int = 0) -> bytes:
    return _pack_rings([empty_ring(floor)] * (steps + 1))


def _pack_rings(rings: Sequence[bytes]) -> bytes:
    return b"".join(len(ring).to_bytes(2) + ring for ring in rings)


def _unpack_rings(sequence: bytes) -> list[bytes]:
    rings, start = [], 0
    while start < len(sequence):
        end = start + 2 + int.from_bytes(sequence[start : start + 2])
        rings.append(sequence[start + 2 : end])
        start = end
    return rings


def completions(sequence: bytes) -> bytes:
    """The ring of the last steps that end a chain."""
    length = int.from_bytes(sequence[:2])
    return sequence[2 : 2 + length]


def sequence_add(
    sequence: bytes, step: int, at: int, offset: int, span: int, keep: int, window: int, log_time: int
) -> bytes:
    """`sequence` with one more activity that is its step number `step`, counted from 0."""
    done, *rings = _unpack_rings(sequence)
    # For now it stays even if it is the oldest of too many: it may be what a chain lacks.
    rings[step] = ring_add(rings[step], at, offset, keep + 1, log_time - window - span)
    *before, last = rings
    if step == len(before):
        ends, floors = [pair(at, offset)], before
    else:
        if floor_of(last) > at:
            done = raised(done, min(floor_of(last), at + span))  # it may have been the missing part of a chain
        ends = [end for end in _pairs(last) if at <= _instant(end, 0) <= at + span]
        floors = before[:step] + before[step + 1 :]
    missing = max(map(floor_of, floors), default=0)
    for end in ends:
        ended = _instant(end, 0)
        if end in _pairs(done):
            continue
        if _chain(before, end, ended - span):
            done = _add(done, end, PAIR, keep, log_time - window)
        elif missing >= max(ended - span, 1):  # 0: nothing is missing
            done = raised(done, ended)
    rings[step] = _newest(rings[step], keep)
    return _pack_rings([done, *rings])


def _newest(ring: bytes, keep: int) -> bytes:
    drop = len(ring) - keep * PAIR
    return ring if drop <= INSTANT else raised(ring[:INSTANT] + ring[drop:], _instant(ring, drop - PAIR))


def _chain(rings: Sequence[bytes], end: bytes, earliest: int) -> bool:
    """Whether the newest possible predecessors of `end`, ring by ring, begin no earlier than `earliest`."""
    for ring in reversed(rings):
        start = len(ring) - PAIR
        while start >= INSTANT and ring[start : start + PAIR] >= end:
            start -= PAIR
        if start < INSTANT:
            return False
        end = ring[start : start + PAIR]
    return _instant(end, 0) >= earliest


def _pairs(ring: bytes) -> list[bytes]:
    return [ring[start : start + PAIR] for start in range(INSTANT, len(ring), PAIR)]


# -- scores -------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """How one part of a score decays, and how much of it counts at most."""

    half_life: int
    cap: float = math.inf


def empty_score(parts: int = 1, floor: int = 0) -> bytes:
    return _head.pack(floor) + _part.pack(0.0, 0) * parts


def score_add(score: bytes, at: int, weight: float, half_life: int, part: int = 0) -> bytes:
    start = _head.size + part * _part.size
    total, newest = _part.unpack_from(score, start)
    if not newest:
        total, newest = weight, at
    elif at >= newest:
        total, newest = total * 2.0 ** ((newest - at) / half_life) + weight, at
    else:
        total += weight * 2.0 ** ((at - newest) / half_life)
    return score[:start] + _part.pack(total, newest) + score[start + _part.size :]


def score_decide(
    score: bytes, threshold: float, parts: Sequence[Part], now: int, signed: bool = False
) -> Decision:
    """Is the decayed score at least `threshold`? What lies before the floor can only add, unless `signed`."""
    floor = _head.unpack_from(score)[0]
    if floor and signed:
        return None, NEVER
    falls = _falls(score, threshold, parts)
    if falls > now:
        return True, falls
    return (None, NEVER) if floor else FALSE


def _falls(score: bytes, threshold: float, parts: Sequence[Part]) -> int:
    """The first millisecond at which the score is below the threshold; 0 if it never was above."""
    if len(parts) == 1 and parts[0].cap >= threshold:
        total, newest = _part.unpack_from(score, _head.size)
        if total < threshold:
            return 0
        lasts: float = parts[0].half_life * math.log2(total / threshold)
        return int(newest + int(lasts) + 1)
    found = _found(score, parts)
    above = max(newest for _, newest, _ in found)
    if _total(found, above) < threshold:
        return 0
    share = threshold / (2 * len(parts))
    below = max(newest + int(part.half_life * math.log2(max(1.0, s / share))) for s, newest, part in found)
    return bisect_left(range(below), True, above, key=lambda at: _total(found, at) < threshold)


def _found(score: bytes, parts: Sequence[Part]) -> list[tuple[float, int, Part]]:
    """Each part's sum and the instant at which it was so much."""
    return [(*_part.unpack_from(score, _head.size + i * _part.size), part) for i, part in enumerate(parts)]


def _total(found: Sequence[tuple[float, int, Part]], now: int) -> float:
    return math.fsum(
        min(part.cap, total * 2.0 ** ((newest - now) / part.half_life)) for total, newest, part in found
    )


def score_value(score: bytes, parts: Sequence[Part], now: int) -> float:
    """For people: rounded down to hundredths, so that it never reads as a threshold it is below."""
    found = _found(score, parts)
    return math.floor(_total(found, max(now, *(newest for _, newest, _ in found))) * 100) / 100


def score_newest(score: bytes) -> int:
    """When the newest contribution happened; 0 if there is none."""
    starts = range(_head.size, len(score), _part.size)
    return max(int(_part.unpack_from(score, start)[1]) for start in starts)
