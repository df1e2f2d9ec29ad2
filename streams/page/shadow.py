"""What the page reads of a shadow: how its rules differed from those in force whenever they were compared.

Redis is read, and nothing else: whoever runs the shadow has folded and compared.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from rules.differing import differences
from rules.ruleset import Ruleset
from streams.page.keeping import Kept
from streams.reading import Reader
from streams.remembering import MONTH, SPANS, Span
from streams.settings import Settings
from streams.shadowing import COMPARED_EVERY_S, Compared, of, remembered

IDLE_MS = round(3 * COMPARED_EVERY_S * 1000)  # not compared for so long: nobody runs it


@dataclass(frozen=True, slots=True)
class Shadow:
    """Other rules beside those in force. `samples`: when they were compared, UTC ms, and what differed then."""

    in_force: Ruleset
    ruleset: Ruleset
    behind: int
    samples: dict[Span, list[tuple[int, Compared]]]

    @property
    def newest(self) -> tuple[int, Compared] | None:
        return max((each[-1] for each in self.samples.values() if each), default=None, key=lambda each: each[0])

    @property
    def since(self) -> int | None:
        """When they were compared first."""
        return self.samples[MONTH][0][0] if self.samples[MONTH] else None

    def is_idle(self, now: int) -> bool:
        return self.newest is not None and now - self.newest[0] > IDLE_MS


@dataclass(slots=True)
class Shadows:
    redis: Any
    settings: Settings
    newest: Kept[Shadow | None] = field(init=False)  # None: there is none
    _changes: tuple[tuple[str, str], list[str]] = (("", ""), [])

    def __post_init__(self) -> None:
        self.newest = Kept(self._read, age_s=5.0)

    async def _read(self) -> Shadow | None:
        live, other = Reader(self.redis, self.settings), Reader(self.redis, of(self.settings))
        ruleset = await other.ruleset()
        if not ruleset.hash:
            return None
        behind = 0
        for number in range(self.settings.partitions):
            behind += max(0, (await live.partition(number)).offset - (await other.partition(number)).offset)
        kept = remembered(self.redis, self.settings)
        await kept.read()
        return Shadow(await live.ruleset(), ruleset, behind, {each: kept.over(each) for each in SPANS.values()})

    async def changes(self, shadow: Shadow) -> list[str]:
        """What is different in its rules, in words."""
        both = shadow.in_force.hash, shadow.ruleset.hash
        if self._changes[0] != both:
            found = await asyncio.to_thread(differences, shadow.in_force.files, shadow.ruleset.files)
            self._changes = both, found
        return self._changes[1]
