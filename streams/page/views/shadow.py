"""What the page about rules in the shadow shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rules.ruleset import Ruleset
from streams.page.views import segments
from streams.shadowing import Compared, moved

ALL = "all segments"


@dataclass(frozen=True, slots=True)
class Row:
    """A segment whose accounts are not the same. `is_here`: the rules in force have it."""

    dimension: str
    segment: str
    in_force: int
    shadow: int
    only_in_force: int
    only_shadow: int
    is_here: bool


def rows(compared: Compared, in_force: Ruleset) -> list[Row]:
    """The greatest difference first."""
    known = {f"{of.name}/{each.name}" for of in in_force.dimensions for each in of.segments}
    found = []
    for name, numbers in moved(compared).items():
        dimension, segment = name.split("/", 1)
        found.append(Row(dimension, segment, *numbers, is_here=name in known))
    return found


def series(samples: Sequence[tuple[int, Compared]], most: int) -> dict[str, Any]:
    """How much differed over time, for a chart: in all, and where it is most now."""
    differing = [
        (at, {ALL: each.differing} | {name: numbers[2] + numbers[3] for name, numbers in each.places.items()})
        for at, each in samples
    ]
    lines = [ALL, *list(moved(samples[-1][1]))[: most - 1]] if samples else []
    return segments.series(differing, lines)
